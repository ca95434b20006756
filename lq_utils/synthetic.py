"""Procedural images with a known similarity structure.

Twenty superclasses of five classes. A superclass fixes the shape of an
object, its surface, the kind of background and a hue; a class varies
elongation, surface frequency and hue around them; an image varies place,
size, tilt, colours, light, noise and an occluding object.
"""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from lq_utils import rendering
from lq_utils.cache import cached
from lq_utils.images import DataError, ImageData, Provenance
from lq_utils.rendering import (
    BACKGROUNDS,
    CHUNK,
    SHAPES,
    SIZE,
    SURFACES,
    Recipe,
    render,
)
from lq_utils.splits import fingerprint, image_hashes

TOTAL = 60_000
LEVELS = (-1.0, -0.5, 0.0, 0.5, 1.0)
ELONGATIONS = ("stout", "broad", "even", "long", "slender")
PLURALS = {"cross": "crosses", "hourglass": "hourglasses"}
# Ten-class set: two classes each of these superclasses, so that every
# class has one close relative (as cat has dog).
TEN_SUPERCLASSES = (0, 6, 8, 12, 15)
TEN_MEMBERS = (1, 3)


def class_name(recipe: Recipe) -> str:
    """Readable class name, such as ``slender_striped_star``.

    Introduced in chapter 1.
    """
    word = ELONGATIONS[LEVELS.index(recipe.elongation)]
    return f"{word}_{SURFACES[recipe.surface]}_{SHAPES[recipe.shape]}"


def superclass_name(recipe: Recipe) -> str:
    """Readable superclass name, such as ``striped_stars``.

    Introduced in chapter 1.
    """
    shape = SHAPES[recipe.shape]
    return f"{SURFACES[recipe.surface]}_{PLURALS.get(shape, shape + 's')}"


def _recipe(superclass: int, member: int) -> Recipe:
    """Member 0 to 4 of superclass 0 to 19; no two share a level."""
    return Recipe(
        superclass=superclass,
        shape=superclass % 10,
        surface=(superclass + superclass // 10) % 5,
        background=superclass % 4,
        hue=(7 * superclass % 20) / 20,
        elongation=LEVELS[member],
        frequency=LEVELS[(2 * member + superclass) % 5],
        hue_offset=LEVELS[(3 * member + superclass // 5) % 5],
    )


def recipes(num_classes: int = 100) -> tuple[Recipe, ...]:
    """The recipe of every class of the 10- or 100-class set.

    Raises:
        DataError: another number of classes.

    Introduced in chapter 1.
    """
    if num_classes == 100:
        return tuple(_recipe(s, m) for s in range(20) for m in range(5))
    if num_classes == 10:
        members = [(s, m) for s in TEN_SUPERCLASSES for m in TEN_MEMBERS]
        return tuple(_recipe(s, m) for s, m in members)
    raise DataError(
        f"no synthetic set of {num_classes} classes: ask for 10 or 100"
    )


def true_distances(num_classes: int = 100) -> np.ndarray:
    """Distances between the classes' recipes, float64 ``[C, C]``.

    Euclidean distance between recipe vectors: shape, surface, background
    and hue (as a point on a circle) count once, the class-level settings
    a quarter. It is the truth that a class distance should recover.

    Introduced in chapter 1.
    """
    rows = []
    for r in recipes(num_classes):
        angle = 2 * np.pi * r.hue
        own = 0.25 * np.array([r.elongation, r.frequency, r.hue_offset])
        kinds = [
            np.eye(len(SHAPES))[r.shape],
            np.eye(len(SURFACES))[r.surface],
            np.eye(len(BACKGROUNDS))[r.background],
        ]
        rows.append(np.r_[*kinds, np.cos(angle), np.sin(angle), own])
    vectors = np.array(rows)
    return np.linalg.norm(vectors[:, None] - vectors[None], axis=-1)


def _draw(num_classes: int, seed: int, count: int) -> np.ndarray:
    """``count`` images of each class in turn, uint8 ``[N, 32, 32, 3]``."""
    classes = recipes(num_classes)
    images = np.empty((num_classes, count, SIZE, SIZE, 3), np.uint8)

    def fill(job: tuple[int, int]) -> None:
        k, start = job
        rng = np.random.default_rng([seed, num_classes, k, start // CHUNK])
        made = render(classes[k], rng)
        images[k, start : start + CHUNK] = made[: count - start]

    starts = range(0, count, CHUNK)
    jobs = [(k, start) for k in range(num_classes) for start in starts]
    # Every chunk has its own generator: threads cannot change the bytes.
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        list(pool.map(fill, jobs))
    return images.reshape(-1, SIZE, SIZE, 3)


def _drawn_and_hashed(
    num_classes: int, seed: int, count: int
) -> dict[str, np.ndarray]:
    images = _draw(num_classes, seed, count)
    return {"images": images, "hashes": image_hashes(images)}


def _arrays(num_classes: int, seed: int, count: int) -> dict[str, np.ndarray]:
    """Images and their hashes; the full set is kept on disk."""
    if count * num_classes < TOTAL:
        return _drawn_and_hashed(num_classes, seed, count)
    code = [Path(file).read_bytes() for file in (__file__, rendering.__file__)]
    key = {
        "num_classes": num_classes,
        "seed": seed,
        "count": count,
        "code": hashlib.sha256(b"".join(code)).hexdigest(),
    }
    return cached(
        "synthetic", key, lambda: _drawn_and_hashed(num_classes, seed, count)
    )


def synthetic_with_hashes(
    num_classes: int = 100, seed: int = 0, per_class: int | None = None
) -> tuple[ImageData, np.ndarray]:
    """As ``make_synthetic``, with the pixel hashes of the images ``[N]``.

    Raises DataError for fewer than one image a class.

    Introduced in chapter 1.
    """
    classes = recipes(num_classes)
    count = TOTAL // num_classes if per_class is None else per_class
    if count < 1:
        raise DataError(f"per_class={count}: ask for 1 image or more")
    arrays = _arrays(num_classes, seed, count)
    labels = np.repeat(np.arange(num_classes, dtype=np.int64), count)
    groups = tuple(dict.fromkeys(superclass_name(r) for r in classes))
    provenance = Provenance(
        f"synthetic{num_classes}",
        "synthetic",
        fingerprint(arrays["hashes"], labels),
        "none",
        f"procedural images, seed {seed}",
    )
    data = ImageData(
        arrays["images"],
        labels,
        tuple(class_name(r) for r in classes),
        groups,
        np.array([groups.index(superclass_name(r)) for r in classes]),
        "all",
        provenance,
    )
    return data, arrays["hashes"]


def make_synthetic(
    num_classes: int = 100, seed: int = 0, per_class: int | None = None
) -> ImageData:
    """The synthetic set: 60,000 images, the same bytes on every machine.

    Returns ``images`` uint8 ``[N, 32, 32, 3]`` class by class, part
    ``all``. ``per_class`` images a class (default 60,000 in all); fewer
    images are the first ones of the full set.

    Raises:
        DataError: a number of classes other than 10 or 100, or
            ``per_class`` below 1.

    Introduced in chapter 1.
    """
    return synthetic_with_hashes(num_classes, seed, per_class)[0]
