"""Pixels of the procedural images, from correctly rounded operations.

Only ``+ - * /``, square root, comparison and floor touch a pixel (the sine
is a polynomial wave), so every machine makes the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

SIZE = 32  # pixels a side
CHUNK = 50  # images drawn from one generator
SHAPES = (
    "disk",
    "ring",
    "square",
    "diamond",
    "triangle",
    "cross",
    "crescent",
    "hourglass",
    "frame",
    "star",
)
SURFACES = ("plain", "striped", "checked", "dotted", "banded")
BACKGROUNDS = ("slope", "waves", "clouds", "blobs")

Array = np.ndarray


@dataclass(frozen=True)
class Recipe:
    """What all images of one class have in common.

    ``shape``, ``surface`` and ``background`` index the names above;
    ``elongation``, ``frequency`` and ``hue_offset`` are levels from -1 to
    1; ``hue`` is the superclass's, in turns.

    Introduced in chapter 1.
    """

    superclass: int
    shape: int
    surface: int
    background: int
    hue: float
    elongation: float
    frequency: float
    hue_offset: float


def _wave(x: Array) -> Array:
    """Smooth wave of period 1 and range 0 to 1, without a library sine."""
    t = np.abs(2 * (x - np.floor(x)) - 1)
    return t * t * (3 - 2 * t)


def _radius(u: Array, v: Array) -> Array:
    return np.sqrt(u * u + v * v)


def _cross(u: Array, v: Array) -> Array:
    a, b = np.abs(u), np.abs(v)
    arm = np.maximum(a - 0.95, b - 0.34)
    return np.minimum(arm, np.maximum(b - 0.95, a - 0.34))


def _crescent(u: Array, v: Array) -> Array:
    return np.maximum(_radius(u, v) - 0.95, 0.75 - _radius(u - 0.45, v))


def _hourglass(u: Array, v: Array) -> Array:
    b = np.abs(v)
    return np.maximum(b - 0.9, np.abs(u) - 0.12 - 0.75 * b)


# Signed depth of a point of the object's own plane: negative inside.
OUTLINES: dict[str, Callable[[Array, Array], Array]] = {
    "disk": lambda u, v: _radius(u, v) - 0.9,
    "ring": lambda u, v: np.abs(_radius(u, v) - 0.68) - 0.25,
    "square": lambda u, v: np.maximum(np.abs(u), np.abs(v)) - 0.8,
    "diamond": lambda u, v: np.abs(u) + np.abs(v) - 1.1,
    "triangle": lambda u, v: (
        np.maximum(0.866 * np.abs(u) + 0.5 * v, -v) - 0.52
    ),
    "cross": _cross,
    "crescent": _crescent,
    "hourglass": _hourglass,
    "frame": lambda u, v: (
        np.abs(np.maximum(np.abs(u), np.abs(v)) - 0.66) - 0.22
    ),
    "star": lambda u, v: np.sqrt(np.abs(u)) + np.sqrt(np.abs(v)) - 1.05,
}


def _surface(kind: str, u: Array, v: Array, frequency: Array) -> Array:
    """Share of the second colour on the object, 0 to 1."""
    if kind == "plain":
        return 0.15 + 0.2 * frequency * (u + v)
    if kind == "striped":
        return _wave(frequency * u)
    if kind == "checked":
        return np.abs(_wave(frequency * u) - _wave(frequency * v))
    if kind == "dotted":
        return _wave(frequency * u) * _wave(frequency * v)
    return _wave(frequency * _radius(u, v))


def _backdrop(kind: str, x: Array, y: Array, draw: Array) -> Array:
    """Share of the second colour in the background, 0 to 1."""
    a, b, p, q = (draw[:, i, None, None] for i in range(4))
    if kind == "slope":
        return 0.5 + 0.4 * ((2 * a - 1) * x + (2 * b - 1) * y)
    if kind == "waves":
        return _wave(1.6 * ((2 * a - 1) * x + y) + p)
    if kind == "clouds":
        low = _wave(0.5 * x + 0.4 * a * y + p)
        return 0.5 * (low + _wave(0.7 * y - 0.5 * b * x + q))
    return _wave(1.2 * x + p) * _wave(1.2 * y + q)


def _colour(hue: Array, value: Array, saturation: Array) -> list[Array]:
    """Red, green, blue of hue in turns, each ``[n, 1, 1]`` float32."""
    channels = []
    for shift in (0.0, 2 / 3, 1 / 3):
        turn = hue + shift
        ramp = np.abs(6 * (turn - np.floor(turn)) - 3) - 1
        pure = np.clip(ramp, 0, 1)
        mixed = value * (1 - saturation * (1 - pure))
        channels.append(mixed.astype(np.float32)[:, None, None])
    return channels


def _between(draw: Array, low: float, high: float) -> Array:
    """Uniform draws ``[n]`` as float32 ``[n, 1, 1]`` in a range."""
    return (low + (high - low) * draw).astype(np.float32)[:, None, None]


def _axes(d: Array, x: Array, y: Array, recipe: Recipe) -> tuple[Array, Array]:
    """Coordinates in the object's plane: moved, tilted, scaled, stretched."""
    tilt = 0.3 * (d[:, 3] - 0.5)
    cosine, sine = 2 * _wave(tilt) - 1, 2 * _wave(tilt - 0.25) - 1
    length = np.sqrt(cosine * cosine + sine * sine)
    c = (cosine / length).astype(np.float32)[:, None, None]
    s = (sine / length).astype(np.float32)[:, None, None]
    left = x - _between(d[:, 0], -0.35, 0.35)
    down = y - _between(d[:, 1], -0.35, 0.35)
    size = _between(d[:, 2], 0.5, 0.8)
    stretch = 1.45 + 0.34 * recipe.elongation
    ratio = _between(d[:, 4], stretch - 0.13, stretch + 0.13)
    return (left * c + down * s) / size * ratio, (down * c - left * s) / size


def render(recipe: Recipe, rng: np.random.Generator) -> np.ndarray:
    """One chunk of images of a class, uint8 ``[CHUNK, 32, 32, 3]``.

    Introduced in chapter 1.
    """
    d = rng.random((CHUNK, 32))
    line = ((2 * np.arange(SIZE) + 1) / SIZE - 1).astype(np.float32)
    x, y = line[None, None, :], line[None, :, None]
    u, v = _axes(d, x, y, recipe)
    depth = OUTLINES[SHAPES[recipe.shape]](u, v)
    inside = np.clip(0.5 - 6 * depth, 0, 1)
    pace = 1.4 + 0.42 * recipe.frequency
    paint = _surface(
        SURFACES[recipe.surface],
        u + _between(d[:, 5], -0.2, 0.2),
        v + _between(d[:, 6], -0.2, 0.2),
        _between(d[:, 7], pace - 0.18, pace + 0.18),
    )
    field = d[:, 8:12].astype(np.float32)
    behind = _backdrop(BACKGROUNDS[recipe.background], x, y, field)
    reach = _radius(
        x - _between(d[:, 12], -1, 1), y - _between(d[:, 13], -1, 1)
    )
    hidden = np.clip(6 * (_between(d[:, 14], 0.1, 0.45) - reach), 0, 1)
    light = _between(d[:, 15], 0.6, 1.1) + (
        _between(d[:, 16], -0.25, 0.25) * x
        + _between(d[:, 17], -0.25, 0.25) * y
    )
    hue = recipe.hue + 0.08 * recipe.hue_offset + 0.12 * (d[:, 18] - 0.5)
    strength = 0.35 + 0.5 * d[:, 19]
    palette = [
        _colour(hue, 0.6 + 0.4 * d[:, 20], strength),
        _colour(hue + 0.35 + 0.3 * d[:, 21], 0.2 + 0.5 * d[:, 22], strength),
        _colour(hue + 0.5 * d[:, 23], 0.2 + 0.6 * d[:, 24], 0.6 * d[:, 25]),
        _colour(d[:, 26], 0.2 + 0.6 * d[:, 27], 0.6 * d[:, 28]),
        _colour(d[:, 29], 0.1 + 0.9 * d[:, 30], d[:, 31]),
    ]
    grain = np.frombuffer(rng.bytes(2 * CHUNK * SIZE * SIZE * 3), np.uint8)
    grain = grain.reshape(2, 3, CHUNK, SIZE, SIZE).astype(np.float32)
    noise = (grain[0] - grain[1]) * np.float32(0.1)
    images = np.empty((CHUNK, SIZE, SIZE, 3), np.uint8)
    for channel, (one, two, near, far, veil) in enumerate(
        zip(*palette, strict=True)
    ):
        ground = near + (far - near) * behind
        thing = one + (two - one) * paint
        pixel = ground + (thing - ground) * inside
        pixel = pixel + (veil - pixel) * hidden
        pixel = 255 * light * pixel + noise[channel]
        images[..., channel] = np.clip(pixel + 0.5, 0, 255)
    return images
