"""A data set of one's own: a folder with one folder of images a class."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
from PIL import Image

from lq_utils.images import DataError, ImageData, Provenance
from lq_utils.splits import count_duplicates, fingerprint, image_hashes

SUFFIXES = {
    *(".png", ".jpg", ".jpeg", ".bmp", ".gif", ".ppm", ".webp"),
    *(".tif", ".tiff"),
}
SIZES = (8, 512)
FOLDER_PREFIX = "imagefolder:"


def _read_image(path: Path, size: int) -> np.ndarray:
    """One image, centre-cropped to a square: uint8 ``[size, size, 3]``."""
    try:
        with warnings.catch_warnings():
            # A tiny file that unpacks to gigapixels is refused, not warned of.
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as opened:
                image = opened.convert("RGB")
    except Exception as error:  # noqa: BLE001 (decoders raise anything)
        raise DataError(
            f"{path} cannot be read as an image "
            f"({type(error).__name__}: {error}): repair or remove it"
        ) from None
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    square = image.crop((left, top, left + side, top + side))
    return np.asarray(square.resize((size, size), Image.Resampling.BOX))


def class_folders(path: str | Path) -> list[Path]:
    """The folders in ``path``, one a class, sorted by name.

    Raises DataError for no such folder. Introduced in chapter 1.
    """
    base = Path(path).expanduser()
    # An empty path would be the folder that the command runs in.
    if not str(path) or not base.is_dir():
        raise DataError(
            f"no folder {path or '(no name)'}: imagefolder:PATH takes a "
            "folder with one folder of images for each class"
        )
    return sorted(f for f in base.iterdir() if f.is_dir() and f.name[0] != ".")


def _class_files(base: Path, folders: list[Path]) -> dict[str, list[Path]]:
    """Image files of every class folder, names sorted."""
    classes = {
        folder.name: sorted(
            f for f in folder.rglob("*") if f.suffix.lower() in SUFFIXES
        )
        for folder in folders
    }
    if len(classes) < 2:
        raise DataError(
            f"{base} has {len(classes)} class folders; two or more are "
            "needed, each with its images"
        )
    empty = [name for name, files in classes.items() if not files]
    if empty:
        raise DataError(
            f"{base}: no images in {', '.join(empty)}; known file types: "
            f"{' '.join(sorted(SUFFIXES))}"
        )
    return classes


def read_image_folder(path: str | Path, image_size: int = 32) -> ImageData:
    """Images of a folder of class folders, part ``all``.

    Each image is cropped to its central square and resized to
    ``image_size`` pixels a side: uint8 ``[N, size, size, 3]``. Classes are
    in the order of their names; one superclass holds them all.

    Raises:
        DataError: no such folder, fewer than two classes, a class without
            images, an unreadable image, or an impossible size.

    Introduced in chapter 1.
    """
    if not SIZES[0] <= image_size <= SIZES[1]:
        raise DataError(
            f"image_size={image_size}: use {SIZES[0]} to {SIZES[1]} pixels"
        )
    base = Path(path).expanduser()
    classes = _class_files(base, class_folders(path))
    images = np.stack(
        [_read_image(f, image_size) for fs in classes.values() for f in fs]
    )
    counts = [len(files) for files in classes.values()]
    labels = np.repeat(np.arange(len(counts), dtype=np.int64), counts)
    hashes = image_hashes(images)
    provenance = Provenance(
        f"image folder {base.name}",
        "image folder",
        fingerprint(hashes, labels),
        "none",
        f"{len(labels)} images resized to {image_size} pixels; "
        f"{count_duplicates(hashes)} images repeat another one exactly",
    )
    superclass_of = np.zeros(len(classes), dtype=np.int64)
    return ImageData(
        images,
        labels,
        tuple(classes),
        (base.name,),
        superclass_of,
        "all",
        provenance,
    )
