"""Scenes of coloured shapes with boxes: something to detect, made in seconds.

The shape is the class; colour, size and place say nothing about it. Boxes
do not overlap.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

SHAPES = ("disc", "rectangle", "triangle", "cross")
SMALLEST, LARGEST = 5.0, 13.0  # half of a side, in pixels
MOST = 4  # objects of a scene
TRIES = 20
NOISE = 12.0  # deviation, of 256 grey levels
CONTRAST = 60.0  # least distance of an object's colour from the ground


class DetectionError(ValueError):
    """Images, boxes or networks that no detection can be done with.

    Introduced in chapter 7.
    """


@dataclass(frozen=True)
class DetectionSet:
    """Images with the boxes and classes of what is on them.

    ``images`` are uint8 ``[H, W, 3]`` each, of any size. For each of them
    ``boxes`` are float64 ``[n, 4]`` (left, top, right, bottom, in pixels;
    n may be 0), ``labels`` int64 ``[n]`` and ``crowd`` bool ``[n]`` (a
    box of many objects, which COCO leaves out of the score).

    Raises DetectionError where they do not fit. Introduced in chapter 7.
    """

    images: Sequence[np.ndarray] | np.ndarray
    boxes: Sequence[np.ndarray]
    labels: Sequence[np.ndarray]
    crowd: Sequence[np.ndarray]
    class_names: tuple[str, ...]

    def __post_init__(self) -> None:
        lengths = {len(self.images), len(self.boxes), len(self.labels)}
        if len(lengths | {len(self.crowd)}) > 1:
            raise DetectionError(f"{lengths} images, boxes and labels")
        for i, (boxes, labels) in enumerate(zip(self.boxes, self.labels)):
            flat = (boxes[:, 2:] <= boxes[:, :2]).any() if len(boxes) else 0
            if boxes.shape != (len(labels), 4) or flat:
                raise DetectionError(
                    f"image {i}: boxes must be [{len(labels)}, 4] for its "
                    "labels, left, top, right, bottom, and not empty"
                )
            if len(labels) and not (
                0 <= labels.min() <= labels.max() < len(self.class_names)
            ):
                raise DetectionError(
                    f"image {i}: labels count from 0 to "
                    f"{len(self.class_names) - 1}"
                )

    def __len__(self) -> int:
        return len(self.images)


def shape_mask(
    shape: str, size: int, centre: tuple[float, float], half: np.ndarray
) -> np.ndarray:
    """Pixels bool ``[size, size]`` of a shape; ``half`` of width, height.

    Raises DetectionError for an unknown shape. Introduced in chapter 7.
    """
    middle = np.arange(size) + 0.5
    u = (middle[None] - centre[0]) / half[0]
    v = (middle[:, None] - centre[1]) / half[1]
    inside = (np.abs(u) <= 1) & (np.abs(v) <= 1)
    if shape == "disc":
        return u**2 + v**2 <= 1
    if shape == "rectangle":
        return inside
    if shape == "triangle":
        return inside & (np.abs(u) <= (v + 1) / 2)
    if shape == "cross":
        return inside & ((np.abs(u) <= 0.35) | (np.abs(v) <= 0.35))
    raise DetectionError(f"no shape {shape!r}: choose one of {SHAPES}")


def box_of(mask: np.ndarray) -> np.ndarray:
    """The smallest box float64 ``[4]`` around a mask ``[H, W]``.

    Introduced in chapter 7.
    """
    x = np.flatnonzero(mask.any(axis=0))
    y = np.flatnonzero(mask.any(axis=1))
    return np.array([x[0], y[0], x[-1] + 1, y[-1] + 1], dtype=np.float64)


def _apart(box: np.ndarray, others: list[np.ndarray]) -> bool:
    return all(
        (box[:2] >= b[2:] + 1).any() or (box[2:] <= b[:2] - 1).any()
        for b in others
    )


def _ground(rng: np.random.Generator, size: int) -> np.ndarray:
    """A colour that changes from one side to the other."""
    ends = rng.uniform(0, 255, (2, 3))
    ends[1] = ends[0] + 0.3 * (ends[1] - ends[0])
    along = np.linspace(0, 1, size)[:, None, None]
    ground = ends[0] + along * (ends[1] - ends[0])
    ground = np.broadcast_to(ground, (size, size, 3)).copy()
    return ground if rng.random() < 0.5 else ground.transpose(1, 0, 2).copy()


def _colour(rng: np.random.Generator, ground: np.ndarray) -> np.ndarray:
    mean = ground.mean(axis=(0, 1))
    while True:
        colour = rng.uniform(0, 255, 3)
        if np.abs(colour - mean).max() >= CONTRAST:
            return colour


def _scene(
    rng: np.random.Generator, size: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    image = _ground(rng, size)
    plain = image.copy()
    boxes: list[np.ndarray] = []
    labels: list[int] = []
    for _ in range(int(rng.integers(1, MOST + 1))):
        for _ in range(TRIES):
            half = rng.uniform(SMALLEST, LARGEST, 2)
            x, y = rng.uniform(half, size - half)
            label = int(rng.integers(len(SHAPES)))
            mask = shape_mask(SHAPES[label], size, (x, y), half)
            box = box_of(mask)
            if _apart(box, boxes):
                image[mask] = _colour(rng, plain)
                boxes.append(box)
                labels.append(label)
                break
    noisy = image + rng.normal(0, NOISE, image.shape)
    pixels = noisy.clip(0, 255).round().astype(np.uint8)
    return pixels, np.array(boxes), np.array(labels, dtype=np.int64)


def generate_scenes(count: int, seed: int, size: int = 64) -> DetectionSet:
    """``count`` scenes of one to four shapes each, ``size`` pixels wide.

    A smaller set is the beginning of a larger one with the same seed.
    Raises DetectionError for no scene, or fewer than 32 pixels.

    Introduced in chapter 7.
    """
    if count < 1 or size < 32:
        raise DetectionError(
            f"{count} scenes of {size} pixels: make at least one, of 32 "
            "pixels or more"
        )
    made = [
        _scene(np.random.default_rng([seed, i]), size) for i in range(count)
    ]
    images, boxes, labels = zip(*made, strict=True)
    crowd = [np.zeros(len(k), dtype=bool) for k in labels]
    return DetectionSet(
        np.stack(images), list(boxes), list(labels), crowd, SHAPES
    )
