"""CIFAR-10 and CIFAR-100 from their official "python version" folders."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lq_utils.images import DataError, ImageData, Provenance
from lq_utils.layouts import LAYOUTS, Layout, layout_of
from lq_utils.paths import data_dir
from lq_utils.safe_pickle import read_bytes, read_dictionary
from lq_utils.splits import count_duplicates, fingerprint, image_hashes

PIXELS = 3 * 32 * 32
# Not in the archive: the two halves of CIFAR-10 that everyone sees.
VEHICLES = ("airplane", "automobile", "ship", "truck")


@dataclass(frozen=True)
class Cifar:
    """Both parts of the archive, and the pixel hashes of their images.

    ``train`` and ``test`` have the part ``all``: which images are used
    for what is decided by a split, not by the archive.

    Introduced in chapter 1.
    """

    train: ImageData
    test: ImageData
    train_hashes: np.ndarray
    test_hashes: np.ndarray


def _remedy(layout: Layout, folder: Path) -> str:
    return (
        f"Move {folder} away, then get a complete copy with "
        f"'python -m lq_utils data --dataset {layout.name}'"
    )


def present(name: str, folder: Path | None = None) -> bool:
    """Whether the data folder holds anything of this data set.

    Introduced in chapter 1.
    """
    base = (folder or data_dir()) / layout_of(name).folder
    return any((base / file).exists() for file in LAYOUTS[name].files)


def _read_files(layout: Layout, base: Path) -> dict[str, bytes]:
    """Content of all files; names the missing ones."""
    remedy = _remedy(layout, base)
    missing = [f for f in layout.files if not (base / f).is_file()]
    if missing:
        raise DataError(
            f"{base} is incomplete: no {', '.join(missing)}. {remedy}"
        )
    return {f: read_bytes(base / f, remedy) for f in layout.files}


def _rung(layout: Layout, files: dict[str, bytes]) -> str:
    official = all(
        hashlib.md5(files[f], usedforsecurity=False).hexdigest() == md5
        for f, md5 in layout.files.items()
    )
    return "official" if official else "unofficial copy"


def find_rung(name: str, folder: Path | None = None) -> str | None:
    """``official`` or ``unofficial copy`` by checksums; None if absent.

    Nothing is decoded: this is a look at the files only. ``folder`` is
    the data folder (default: the configured one).

    Raises:
        DataError: files are missing, empty or far too large.

    Introduced in chapter 1.
    """
    if not present(name, folder):
        return None
    layout = layout_of(name)
    files = _read_files(layout, (folder or data_dir()) / layout.folder)
    return _rung(layout, files)


class _Checker:
    """Reads one file's dictionary entry by entry, naming what is wrong."""

    def __init__(self, layout: Layout, path: Path, content: bytes) -> None:
        self.remedy, self.path = _remedy(layout, path.parent), path
        self.entries = read_dictionary(content, path, self.remedy)

    def fail(self, what: str) -> DataError:
        """An error that names file and remedy."""
        return DataError(f"{self.path}: {what}. {self.remedy}")

    def get(self, key: str, kind: type) -> Any:
        """Entry ``key``, which must be of type ``kind``."""
        if key not in self.entries:
            known = ", ".join(sorted(self.entries)) or "none"
            raise self.fail(f"no entry {key!r} (entries: {known})")
        value = self.entries[key]
        if not isinstance(value, kind):
            raise self.fail(
                f"{key!r} is {type(value).__name__}, not {kind.__name__}"
            )
        return value

    def texts(self, key: str, count: int | None = None) -> tuple[str, ...]:
        """A list of distinct names."""
        names = self.get(key, list)
        if not all(isinstance(name, str) and name for name in names):
            raise self.fail(f"{key!r} holds something else than names")
        if len(set(names)) != len(names) or count not in (None, len(names)):
            raise self.fail(
                f"{key!r} has {len(set(names))} distinct names of "
                f"{len(names)}, {count} expected"
            )
        return tuple(names)

    def integers(self, key: str, count: int, limit: int) -> np.ndarray:
        """``count`` labels from 0 to ``limit - 1``, int64."""
        values = self.get(key, list)
        if not all(type(value) is int for value in values):
            raise self.fail(f"{key!r} holds something else than integers")
        if len(values) != count:
            raise self.fail(f"{len(values)} {key!r} for {count} images")
        if values and not (min(values) >= 0 and max(values) < limit):
            raise self.fail(
                f"{key!r} go from {min(values)} to {max(values)}, not "
                f"within 0..{limit - 1}"
            )
        return np.array(values, dtype=np.int64)

    def images(self) -> np.ndarray:
        """Images uint8 ``[n, 32, 32, 3]``; the file has channel planes."""
        rows = self.get("data", np.ndarray)
        if rows.dtype != np.uint8 or rows.shape[1:] != (PIXELS,):
            raise self.fail(
                f"'data' is {rows.dtype} {list(rows.shape)}, not uint8 "
                f"[n, {PIXELS}]"
            )
        planes = rows.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
        return np.ascontiguousarray(planes)


def _part(
    layout: Layout, base: Path, files: dict[str, bytes], names: list[str]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Images, labels and coarse labels of some files, joined."""
    images, labels, coarse = [], [], []
    for file in names:
        checker = _Checker(layout, base / file, files[file])
        images.append(checker.images())
        count = len(images[-1])
        labels.append(checker.integers(layout.labels, count, layout.classes))
        if layout.name == "cifar100":
            coarse.append(checker.integers("coarse_labels", count, 20))
        else:
            coarse.append(np.full(count, -1))
    return (
        np.concatenate(images),
        np.concatenate(labels),
        np.concatenate(coarse),
    )


def _check_complete(
    layout: Layout, base: Path, labels: np.ndarray, expected: int
) -> None:
    counts = np.bincount(labels, minlength=layout.classes)
    if (counts != expected // layout.classes).any():
        raise DataError(
            f"{base} is no complete {layout.title}: classes have "
            f"{counts.min()} to {counts.max()} images, not "
            f"{expected // layout.classes}. {_remedy(layout, base)}"
        )


def _superclass_of(
    layout: Layout, base: Path, labels: np.ndarray, coarse: np.ndarray
) -> np.ndarray:
    """Superclass of each class, int64; each class must be in one only."""
    result = np.full(layout.classes, -1)
    result[labels] = coarse
    if (result[labels] != coarse).any():
        raise DataError(
            f"{base}: a class lies in two superclasses. "
            f"{_remedy(layout, base)}"
        )
    return result


def _note(base: Path, rung: str) -> str:
    """The paragraph of a README beside the files that says what differs."""
    if rung == "official":
        return "checksums are those of the original archive"
    for file in sorted(base.glob("README*")):
        text = file.read_text(encoding="utf-8", errors="replace")[:4000]
        blocks = [" ".join(b.split()) for b in text.split("\n\n")]
        texts = [b for b in blocks if b and not b.startswith("#")]
        differing = [b for b in texts if "differ" in b.lower()]
        if texts:
            return f"its README says: {(differing or texts)[0]}"
    return "checksums differ from the original archive's"


def read_cifar(name: str, folder: Path | None = None) -> Cifar:
    """Read ``cifar10`` or ``cifar100``, every entry checked.

    ``folder`` is the data folder that holds ``cifar-10-batches-py`` or
    ``cifar-100-python`` (default: the configured one). CIFAR-10 has no
    superclasses in its archive; its classes are grouped as animals and
    vehicles here.

    Raises:
        DataError: missing, damaged, incomplete or malicious files; the
            message names the file and what to do.

    Source: Krizhevsky, Learning Multiple Layers of Features from Tiny
    Images, 2009.

    Introduced in chapter 1.
    """
    layout = layout_of(name)
    base = (folder or data_dir()) / layout.folder
    files = _read_files(layout, base)
    meta_file = next(iter(layout.meta))
    meta = _Checker(layout, base / meta_file, files[meta_file])
    names = meta.texts(layout.names, layout.classes)
    train = _part(layout, base, files, list(layout.train))
    test = _part(layout, base, files, list(layout.test))
    _check_complete(layout, base, train[1], layout.train_images)
    _check_complete(layout, base, test[1], layout.test_images)
    if name == "cifar100":
        groups = meta.texts("coarse_label_names", 20)
        both = [np.concatenate(pair) for pair in zip(train[1:], test[1:])]
        group_of = _superclass_of(layout, base, *both)
    else:
        groups = ("animal", "vehicle")
        group_of = np.array([int(n in VEHICLES) for n in names])
    hashes = [image_hashes(part[0]) for part in (train, test)]
    pooled = np.concatenate(hashes)
    rung = _rung(layout, files)
    provenance = Provenance(
        name,
        rung,
        fingerprint(pooled, np.concatenate([train[1], test[1]])),
        "none",
        f"{_note(base, rung)}; {count_duplicates(pooled)} images repeat "
        "another one exactly",
    )
    parts = [
        ImageData(images, labels, names, groups, group_of, "all", provenance)
        for images, labels, _ in (train, test)
    ]
    return Cifar(parts[0], parts[1], hashes[0], hashes[1])
