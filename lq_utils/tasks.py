"""Two-class tasks: cat/dog, horse/frog, and turned, mirrored, zoomed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from lq_utils.data import pool
from lq_utils.fingerprints import digest
from lq_utils.images import ImageData, Splits
from lq_utils.splits import fingerprint, image_hashes, share_split, with_split

TURN = 0.2  # largest rotation either way, in turns
ZOOM = 0.2  # largest change of size either way
BATCH = 512


def _grids(count: int, rng: np.random.Generator) -> torch.Tensor:
    """Random affine maps, float32 ``[count, 2, 3]``."""
    angle = 2 * np.pi * rng.uniform(-TURN, TURN, count)
    scale = 1 + rng.uniform(-ZOOM, ZOOM, count)
    mirror = rng.choice([-1.0, 1.0], count)
    maps = np.zeros((count, 2, 3))
    maps[:, 0, 0] = scale * np.cos(angle) * mirror
    maps[:, 0, 1] = -scale * np.sin(angle)
    maps[:, 1, 0] = scale * np.sin(angle) * mirror
    maps[:, 1, 1] = scale * np.cos(angle)
    return torch.from_numpy(maps.astype(np.float32))


def distort(data: ImageData, seed: int = 0) -> ImageData:
    """Every image rotated, perhaps mirrored, and zoomed at random.

    Rotation up to ``TURN`` turns and zoom up to ``ZOOM`` either way, half
    of the images mirrored left to right; bilinear, borders reflected.
    Image ``i`` depends on ``seed``, the part and ``i``. Returns uint8
    images of the same shape.

    Introduced in chapter 4.
    """
    key = [seed, ("train", "validation", "test", "all").index(data.part)]
    rng = np.random.default_rng(key)
    maps = _grids(len(data), rng)
    turned = np.empty_like(data.images)
    for start in range(0, len(data), BATCH):
        rows = slice(start, start + BATCH)
        pixels = torch.from_numpy(np.ascontiguousarray(data.images[rows]))
        images = pixels.permute(0, 3, 1, 2).float()
        grid = torch.nn.functional.affine_grid(
            maps[rows], list(images.shape), align_corners=False
        )
        moved = torch.nn.functional.grid_sample(
            images, grid, padding_mode="reflection", align_corners=False
        )
        whole = moved.round().clamp(0, 255).to(torch.uint8)
        turned[rows] = whole.permute(0, 2, 3, 1).numpy()
    return replace(data, images=turned)


def pair_task(
    first: str | int,
    second: str | int,
    *,
    rotated: bool = False,
    dataset: str = "auto10",
    seed: int = 0,
    verbose: bool = True,
) -> Splits:
    """A two-class task from all images of two classes, split 70-10-20.

    For CIFAR-10 these are 12,000 images: 8,400 to train, 1,200 to
    validate, 2,400 to test, both classes alike, drawn by pixel hash.
    ``rotated`` distorts every image (see ``distort``; ``seed`` is its
    seed): same images, same split.

    Raises:
        DataError: unknown classes, one class twice, or as
            ``load_dataset``.

    Introduced in chapter 4.
    """
    everything = pool(dataset, verbose=False)
    return _pair(everything, first, second, rotated, seed, verbose)


def _pair(
    everything: ImageData,
    first: str | int,
    second: str | int,
    rotated: bool,
    seed: int,
    verbose: bool,
) -> Splits:
    data = everything.pair(first, second)
    hashes = image_hashes(data.images)
    kind = " rotated" if rotated else ""
    provenance = replace(
        data.provenance,
        dataset=f"{data.provenance.dataset} "
        f"{'/'.join(data.class_names)}{kind}",
        fingerprint=fingerprint(hashes, data.labels),
    )
    data = with_split(replace(data, provenance=provenance), "pair 70-10-20")
    splits = share_split(data, hashes=hashes)
    if rotated:
        parts = (splits.train, splits.validation, splits.test)
        splits = Splits(*(distort(part, seed) for part in parts))
    if verbose:
        print(f"Data: {splits.provenance.stamp()}")
    return splits


def thesis_tasks(
    *, dataset: str = "auto10", verbose: bool = True
) -> dict[str, Splits]:
    """Two classes that look alike, two that do not, the first two turned.

    On CIFAR-10 "cat/dog", "horse/frog" and "rotated cat/dog"; other sets
    lend their first two classes, then the third and the last.

    Raises:
        DataError: as ``load_dataset``.

    Source: QuantNET thesis, section 4.1.1. Introduced in chapter 4.
    """
    everything = pool(dataset, verbose=False)
    names = everything.class_names
    close, far = ("cat", "dog"), ("horse", "frog")
    if not {*close, *far} <= set(names):
        close, far = (names[0], names[1]), (names[2], names[-1])
    pairs = ((close, False), (far, False), (close, True))
    return {
        f"{'rotated ' if turned else ''}{'/'.join(pair)}": _pair(
            everything, *pair, turned, 0, verbose
        )
        for pair, turned in pairs
    }


def tasks_key(tasks: Mapping[str, Splits]) -> dict[str, Any]:
    """What a sweep's ``key`` says of ``shared={"splits": tasks}``.

    Fingerprints of the images of each task's three parts.
    Introduced in chapter 4.
    """
    return {
        "splits": {
            name: [digest(x.images) for x in (s.train, s.validation, s.test)]
            for name, s in tasks.items()
        }
    }


def all_classes_task(
    *, dataset: str = "auto10", verbose: bool = True
) -> Splits:
    """All classes of a data set, split 70-10-20 like the pairs.

    For CIFAR-10 these are 42,000, 6,000 and 12,000 images.

    Raises:
        DataError: as ``load_dataset``.

    Introduced in chapter 4.
    """
    everything = pool(dataset, verbose=False)
    splits = share_split(with_split(everything, "70-10-20"))
    if verbose:
        print(f"Data: {splits.provenance.stamp()}")
    return splits


def fewer_images(splits: Splits, train: int, test: int, seed: int) -> Splits:
    """The same task with so many images a class, drawn with ``seed``.

    Of validation images as many are kept as of test images, if there are.
    0 keeps all of a part.

    Raises:
        DataError: more than a class has.

    Introduced in chapter 4.
    """

    def few(part: ImageData, count: int) -> ImageData:
        return part.per_class(count, seed) if count else part

    least = int(np.bincount(splits.validation.labels).min())
    return Splits(
        few(splits.train, train),
        few(splits.validation, min(test, least)),
        few(splits.test, test),
    )
