"""Image data: arrays, class names, where they came from, and splits.

The *book split* of CIFAR-100 is decided by the content of the images, so
that any complete copy of the data, in any order, gives the same split.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

BOOK_TEST = 100  # images a class, CIFAR-100 book split
BOOK_VALIDATION = 50
TITLES = {
    "cifar10": "CIFAR-10",
    "cifar100": "CIFAR-100",
    "synthetic10": "Synthetic-10",
    "synthetic100": "Synthetic-100",
}
PARTS = ("train", "validation", "test")


class DataError(ValueError):
    """Image data is missing, damaged or asked for in an impossible way."""


@dataclass(frozen=True)
class Provenance:
    """Where image data came from; stamped on every page and result.

    ``rung`` is ``official``, ``unofficial copy``, ``synthetic`` or
    ``image folder``; ``fingerprint`` names the whole set the split was
    drawn from, whatever part or classes of it are looked at.

    Introduced in chapter 1.
    """

    dataset: str
    rung: str
    fingerprint: str
    split: str
    note: str = ""

    def stamp(self) -> str:
        """One line that names data set, split, rung and fingerprint."""
        name, _, rest = self.dataset.partition(" ")
        title = " ".join([TITLES.get(name, name), rest]).strip()
        return (
            f"{title}, {self.split} split, {self.rung} "
            f"(fingerprint {self.fingerprint})"
        )


@dataclass(frozen=True)
class ImageData:
    """Images with labels, names and provenance.

    ``images`` is uint8 ``[N, H, W, 3]``, ``labels`` int64 ``[N]``,
    ``superclass_of`` int64 ``[classes]``; ``part`` is ``train``,
    ``validation``, ``test`` or ``all``.

    Raises:
        DataError: shapes, types or labels do not fit together.

    Introduced in chapter 1.
    """

    images: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...]
    superclass_names: tuple[str, ...]
    superclass_of: np.ndarray
    part: str
    provenance: Provenance

    def __post_init__(self) -> None:
        shape, count = self.images.shape, len(self.class_names)
        if self.images.dtype != np.uint8 or shape[-1:] != (3,):
            raise DataError(
                f"images are {self.images.dtype} {list(shape)}, "
                "not uint8 [N, H, W, 3]"
            )
        if len(shape) != 4 or len(self.labels) != shape[0]:
            raise DataError(
                f"{len(self.labels)} labels for images of shape {shape}"
            )
        if len(self.superclass_of) != count:
            raise DataError(
                f"{count} classes, {len(self.superclass_of)} superclass_of"
            )
        if self.part not in (*PARTS, "all"):
            raise DataError(f"part {self.part!r}: use one of {PARTS}")
        if len(self.labels) and not (
            0 <= self.labels.min() and self.labels.max() < count
        ):
            raise DataError(
                f"labels {self.labels.min()} to {self.labels.max()}, but "
                f"{count} class names: labels count from 0"
            )

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def num_classes(self) -> int:
        """Number of class names, with or without images."""
        return len(self.class_names)

    def take(self, indices: np.ndarray, part: str | None = None) -> ImageData:
        """The images at ``indices`` (int ``[n]``), in that order."""
        return replace(
            self,
            images=self.images[indices],
            labels=self.labels[indices],
            part=part or self.part,
        )

    def index_of(self, name: str | int) -> int:
        """Class index of a name (or of an index, which is checked).

        Raises:
            DataError: no such class; the nearest names are suggested.
        """
        if isinstance(name, str):
            if name in self.class_names:
                return self.class_names.index(name)
            close = difflib.get_close_matches(name, self.class_names)
            hint = f"did you mean {', '.join(close)}? " if close else ""
            raise DataError(
                f"{self.provenance.dataset} has no class {name!r}; {hint}"
                "class_names lists them all"
            )
        if not 0 <= name < self.num_classes:
            raise DataError(
                f"class {name} is not in 0..{self.num_classes - 1}"
            )
        return int(name)

    def subset(self, classes: Sequence[str | int]) -> ImageData:
        """Only these classes, relabelled 0, 1, ... in the given order.

        Superclasses without a class left are dropped. Images keep their
        order.

        Raises:
            DataError: unknown class, a class named twice, or none.
        """
        chosen = [self.index_of(name) for name in classes]
        if not chosen or len(set(chosen)) < len(chosen):
            raise DataError(
                f"classes {list(classes)}: name one or more, each once"
            )
        new_label = np.full(self.num_classes, -1)
        new_label[chosen] = np.arange(len(chosen))
        rows = np.flatnonzero(new_label[self.labels] >= 0)
        groups, group_of = np.unique(
            self.superclass_of[chosen], return_inverse=True
        )
        return replace(
            self,
            images=self.images[rows],
            labels=new_label[self.labels[rows]],
            class_names=tuple(self.class_names[k] for k in chosen),
            superclass_names=tuple(self.superclass_names[g] for g in groups),
            superclass_of=group_of.astype(np.int64),
        )

    def pair(self, first: str | int, second: str | int) -> ImageData:
        """The two classes only, relabelled 0 and 1."""
        return self.subset([first, second])

    def per_class(self, n: int, seed: int = 0) -> ImageData:
        """``n`` images of every class, drawn at random, class by class.

        The draw of a class depends on ``seed`` and on the class only; the
        images drawn keep their order, so that all of a class is the same
        for every seed.

        Raises:
            DataError: a class has fewer than ``n`` images.
        """
        rows = []
        for k, name in enumerate(self.class_names):
            members = np.flatnonzero(self.labels == k)
            if not 1 <= n <= len(members):
                raise DataError(
                    f"n={n} images a class: {name} has {len(members)} in "
                    f"the {self.part} part; ask for 1..{len(members)}"
                )
            rng = np.random.default_rng([seed, k])
            drawn = np.sort(rng.permutation(len(members))[:n])
            rows.append(members[drawn])
        return self.take(np.concatenate(rows))


@dataclass(frozen=True)
class Splits:
    """Training, validation and test part of one data set.

    Raises:
        DataError: a part is in the wrong place.

    Introduced in chapter 1.
    """

    train: ImageData
    validation: ImageData
    test: ImageData

    def __post_init__(self) -> None:
        for name in PARTS:
            part = getattr(self, name).part
            if part != name:
                raise DataError(f"{name} was given the {part} part")

    @property
    def provenance(self) -> Provenance:
        """Provenance of the whole set."""
        return self.train.provenance
