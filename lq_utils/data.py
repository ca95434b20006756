"""Loading image data: the ladder from real CIFAR to made images.

python -m lq_utils data                    # download what is missing
python -m lq_utils data --check            # only look
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from lq_utils import cifar
from lq_utils.download import download_cifar
from lq_utils.folders import FOLDER_PREFIX, read_image_folder
from lq_utils.images import (
    BOOK_TEST,
    BOOK_VALIDATION,
    DataError,
    ImageData,
    Provenance,
    Splits,
)
from lq_utils.paths import data_dir
from lq_utils.splits import (
    book_split,
    count_duplicates,
    fingerprint,
    image_hashes,
    join,
    order_by_hash,
    require_book_split,
    require_selection_part,
    share_split,
    with_split,
)
from lq_utils.synthetic import make_synthetic, synthetic_with_hashes

__all__ = [
    "BOOK_TEST",
    "BOOK_VALIDATION",
    "FOLDER_PREFIX",
    "DataError",
    "ImageData",
    "Provenance",
    "Splits",
    "book_split",
    "count_duplicates",
    "fingerprint",
    "image_hashes",
    "load_dataset",
    "make_synthetic",
    "pool",
    "require_book_split",
    "require_selection_part",
    "resolve_name",
    "share_split",
]

AUTO = {
    "auto": ("cifar100", "synthetic100"),
    "auto10": ("cifar10", "synthetic10"),
}
SPLITS = ("book", "official")
OFFICIAL_VALIDATION = 50  # of 500 training images a class
CIFAR10_VALIDATION = 500  # of 5,000
TEN_TEST = 1000


def resolve_name(name: str) -> str:
    """The data set that ``name`` stands for here and now.

    ``auto`` is CIFAR-100 where it lies in the data folder, else the
    synthetic set of 100 classes; ``auto10`` likewise with 10. Any other
    name is returned as it is. Nothing is downloaded.

    Introduced in chapter 1.
    """
    if name not in AUTO:
        return name
    real, made = AUTO[name]
    return real if cifar.present(real) else made


def _required(name: str) -> cifar.Cifar:
    if not cifar.present(name):
        raise DataError(
            f"no {cifar.LAYOUTS[name].title} in {data_dir()}: get it with "
            f"'python -m lq_utils data --dataset {name}' (or 'make data'), "
            "or point LQ_DATA_DIR at a folder that holds "
            f"{cifar.LAYOUTS[name].folder}"
        )
    return cifar.read_cifar(name)


def _cifar100(split: str) -> Splits:
    real = _required("cifar100")
    if split == "book":
        data, hashes = join(
            (real.train, real.train_hashes), (real.test, real.test_hashes)
        )
        return book_split(with_split(data, "book"), hashes=hashes)
    return _keep_test(real, OFFICIAL_VALIDATION, "official")


def _keep_test(real: cifar.Cifar, validation: int, split: str) -> Splits:
    """The archive's test part, validation split off its training part."""
    drawn = book_split(
        with_split(real.train, split), 0, validation, real.train_hashes
    )
    order = order_by_hash(real.test, real.test_hashes)
    test = with_split(real.test, split).take(order, part="test")
    return Splits(drawn.train, drawn.validation, test)


def _cifar10(split: str) -> Splits:
    # The book keeps CIFAR-10's official test part: both are one split.
    return _keep_test(_required("cifar10"), CIFAR10_VALIDATION, "book")


def _synthetic100(split: str) -> Splits:
    data, hashes = synthetic_with_hashes(100)
    return book_split(with_split(data, "book"), hashes=hashes)


def _synthetic10(split: str) -> Splits:
    data, hashes = synthetic_with_hashes(10)
    data = with_split(data, "book")
    return book_split(data, TEN_TEST, CIFAR10_VALIDATION, hashes)


LOADERS: dict[str, Callable[[str], Splits]] = {
    "cifar10": _cifar10,
    "cifar100": _cifar100,
    "synthetic10": _synthetic10,
    "synthetic100": _synthetic100,
}


def _check_request(name: str, split: str) -> None:
    if name not in LOADERS and not name.startswith(FOLDER_PREFIX):
        known = ", ".join([*AUTO, *LOADERS])
        raise DataError(
            f"no data set {name!r}: use one of {known}, or "
            f"{FOLDER_PREFIX}PATH for a folder of class folders"
        )
    if split not in SPLITS:
        raise DataError(f"no split {split!r}: use 'book' or 'official'")
    if split == "official" and not name.startswith("cifar"):
        raise DataError(f"{name} has no official split: use split='book'")


def load_dataset(
    name: str = "auto",
    split: str = "book",
    *,
    image_size: int = 32,
    verbose: bool = True,
) -> Splits:
    """Training, validation and test part of a data set.

    ``name`` is ``auto``, ``auto10``, ``cifar10``, ``cifar100``,
    ``synthetic10``, ``synthetic100`` or ``imagefolder:PATH`` (a folder of
    class folders; ``image_size`` in pixels is for this one only).
    ``split`` is ``book`` (by content) or, for CIFAR, ``official``: the
    archive's test part, a tenth of its training part for validation.
    With ``verbose`` one line says which data were taken.

    Raises:
        DataError: unknown name or split, absent or damaged data.

    Introduced in chapter 1.
    """
    actual = resolve_name(name)
    _check_request(actual, split)
    if actual.startswith(FOLDER_PREFIX):
        path = actual.removeprefix(FOLDER_PREFIX)
        data = read_image_folder(path, image_size)
        splits = share_split(with_split(data, "70-10-20"))
    else:
        splits = LOADERS[actual](split)
    if verbose:
        _announce(name, actual, splits)
    return splits


def _announce(name: str, actual: str, splits: Splits) -> None:
    if name in AUTO and actual != AUTO[name][0]:
        real = cifar.LAYOUTS[AUTO[name][0]]
        print(
            f"NO REAL DATA: {real.title} is not in {data_dir()}, synthetic "
            "images stand in. 'make data' downloads the real ones."
        )
    sizes = " + ".join(
        f"{len(part):,} {part.part}"
        for part in (splits.train, splits.validation, splits.test)
    )
    print(f"Data: {splits.provenance.stamp()}: {sizes} images")


def pool(name: str = "auto10", *, verbose: bool = True) -> ImageData:
    """All images of a data set together, part ``all``.

    Raises:
        DataError: as ``load_dataset``.

    Introduced in chapter 1.
    """
    splits = load_dataset(name, verbose=verbose)
    parts = (splits.train, splits.validation, splits.test)
    return replace(
        splits.train,
        images=np.concatenate([p.images for p in parts]),
        labels=np.concatenate([p.labels for p in parts]),
        part="all",
        provenance=replace(splits.provenance, split="none"),
    )


def _report(name: str) -> None:
    layout = cifar.LAYOUTS[name]
    base = data_dir() / layout.folder
    if not cifar.present(name):
        print(f"{layout.title}: not in {data_dir()}")
        return
    provenance = cifar.read_cifar(name).train.provenance
    print(
        f"{layout.title}: {provenance.rung} in {base}, complete, "
        f"fingerprint {provenance.fingerprint} ({provenance.note})"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Download the real data sets, or look at what is there.

    Returns the exit status: 1 where something is damaged or unreachable.

    Introduced in chapter 1.
    """
    parser = argparse.ArgumentParser("python -m lq_utils data")
    parser.add_argument(
        "--dataset", choices=[*cifar.LAYOUTS, "all"], default="all"
    )
    parser.add_argument(
        "--check", action="store_true", help="look only, download nothing"
    )
    options = parser.parse_args(argv)
    chosen = [n for n in cifar.LAYOUTS if options.dataset in (n, "all")]
    failed = False
    for name in chosen:
        try:
            if not options.check and not cifar.present(name):
                download_cifar(name, data_dir())
            _report(name)
        except DataError as error:
            print(f"ERROR: {error}")
            failed = True
    return int(failed)


if __name__ == "__main__":
    raise SystemExit(main())
