"""Splits by content, fingerprints, and the guards around test images."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from lq_utils.images import (
    BOOK_TEST,
    BOOK_VALIDATION,
    DataError,
    ImageData,
    Provenance,
    Splits,
)

SHARE_VALIDATION = 0.1  # stratified splits by shares
SHARE_TEST = 0.2


def image_hashes(images: np.ndarray) -> np.ndarray:
    """SHA-256 hex digests of the pixels, one string an image ``[N]``.

    Introduced in chapter 1.
    """
    return np.array(
        [
            hashlib.sha256(np.ascontiguousarray(x).data).hexdigest()
            for x in images
        ]
    )


def fingerprint(hashes: Iterable[str], labels: np.ndarray) -> str:
    """16 hex digits that name the set of images with their labels.

    Independent of the order of the images.

    Introduced in chapter 1.
    """
    lines = sorted(f"{h} {k}" for h, k in zip(hashes, labels, strict=True))
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def count_duplicates(hashes: np.ndarray) -> int:
    """How many images repeat the pixels of an earlier one.

    Introduced in chapter 1.
    """
    return len(hashes) - len(np.unique(hashes))


def with_split(data: ImageData, split: str) -> ImageData:
    """The same images, with the name of the split in the provenance.

    Introduced in chapter 1.
    """
    return replace(data, provenance=replace(data.provenance, split=split))


def join(
    first: tuple[ImageData, np.ndarray], second: tuple[ImageData, np.ndarray]
) -> tuple[ImageData, np.ndarray]:
    """Two parts of one data set, with their hashes, as one.

    Introduced in chapter 1.
    """
    data = replace(
        first[0],
        images=np.concatenate([first[0].images, second[0].images]),
        labels=np.concatenate([first[0].labels, second[0].labels]),
        part="all",
    )
    return data, np.concatenate([first[1], second[1]])


def order_by_hash(data: ImageData, hashes: np.ndarray) -> np.ndarray:
    """Indices that sort images by class, then by pixel hash, int ``[N]``.

    Introduced in chapter 1.
    """
    return np.concatenate(_ranks(data, hashes))


def _ranks(data: ImageData, hashes: np.ndarray | None) -> list[np.ndarray]:
    """Indices of each class's images, ascending by pixel hash."""
    hashes = image_hashes(data.images) if hashes is None else hashes
    ranked = []
    for k in range(data.num_classes):
        members = np.flatnonzero(data.labels == k)
        ranked.append(members[np.argsort(hashes[members], kind="stable")])
    return ranked


def _cut(
    data: ImageData, ranked: list[np.ndarray], cuts: list[tuple[int, int]]
) -> Splits:
    """Test, validation, train of each class: its first t, next v, rest."""
    pairs = list(zip(ranked, cuts, strict=True))
    rows = {
        "test": [r[:t] for r, (t, _) in pairs],
        "validation": [r[t : t + v] for r, (t, v) in pairs],
        "train": [r[t + v :] for r, (t, v) in pairs],
    }
    parts = {
        name: data.take(np.concatenate(members), part=name)
        for name, members in rows.items()
    }
    return Splits(**parts)


def book_split(
    data: ImageData,
    test: int = BOOK_TEST,
    validation: int = BOOK_VALIDATION,
    hashes: np.ndarray | None = None,
) -> Splits:
    """Split by pixel hash within each class: test, validation, train.

    The ``test`` smallest hashes of a class are its test images, the next
    ``validation`` its validation images, the others its training images.
    ``hashes`` saves the time to compute them again.

    Raises:
        DataError: a class has no image left for training.

    Introduced in chapter 1.
    """
    ranked = _ranks(data, hashes)
    for name, members in zip(data.class_names, ranked, strict=True):
        if len(members) <= test + validation:
            raise DataError(
                f"class {name} has {len(members)} images: {test} for test "
                f"and {validation} for validation leave none to train on"
            )
    return _cut(data, ranked, [(test, validation)] * len(ranked))


def share_split(
    data: ImageData,
    validation: float = SHARE_VALIDATION,
    test: float = SHARE_TEST,
    hashes: np.ndarray | None = None,
) -> Splits:
    """Stratified split by shares of each class, by pixel hash.

    Every part gets at least one image of every class.

    Raises:
        DataError: shares that leave nothing to train on, or a class with
            fewer than three images.

    Introduced in chapter 1.
    """
    if not (0 < validation < 1 and 0 < test < 1 - validation):
        raise DataError(
            f"shares {validation} validation and {test} test: both must be "
            "above 0 and leave some for training"
        )
    ranked, cuts = _ranks(data, hashes), []
    for name, members in zip(data.class_names, ranked, strict=True):
        n = len(members)
        if n < 3:
            raise DataError(
                f"class {name} has {n} images; a split into three parts "
                "takes 3 or more: add images or leave the class out"
            )
        least_test = min(max(1, round(test * n)), n - 2)
        rest = n - least_test - 1
        cuts.append((least_test, min(max(1, round(validation * n)), rest)))
    return _cut(data, ranked, cuts)


def require_selection_part(data: ImageData) -> ImageData:
    """Return ``data`` if a choice may be made on it; refuse test images.

    Whatever tunes, selects or stops early calls this on its input.

    Raises:
        DataError: ``data`` is the test part, or all images.

    Introduced in chapter 1.
    """
    if data.part not in ("train", "validation"):
        raise DataError(
            f"a choice must not be made on the {data.part} part: give "
            "splits.validation (or splits.train)"
        )
    return data


def require_book_split(provenance: Provenance) -> None:
    """Refuse CIFAR splits other than the book's.

    Weights of the book were trained on the book split's training images,
    many of which are test images of any other split.

    Raises:
        DataError: ``provenance`` is of another split of CIFAR.

    Introduced in chapter 1.
    """
    if provenance.dataset.startswith("cifar") and provenance.split != "book":
        raise DataError(
            f"the book's weights have seen test images of the split "
            f"{provenance.split!r} of {provenance.dataset}: load the data "
            'with split="book", or train weights on your split'
        )
