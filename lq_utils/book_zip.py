"""The book in one zip file that is the same, byte for byte, each time."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from lq_utils.paths import atomic_write

# Folders and files of the repository that belong to a release.
PARTS = (
    "_build/html",
    "notebooks",
    "data/published",
    "data/results",
    "data/weights",
    "README.md",
    "CHANGELOG.md",
    "CITATION.cff",
    "LICENSE",
    "LICENSE-PROSE",
    "THIRD_PARTY.md",
    "requirements.lock",
    "requirements.licences.md",
)
RENAMED = {"_build/html": "html"}  # under a name that does not hide it
LEFT_OUT = (".buildinfo", ".ipynb_checkpoints", "__pycache__")
DATE = (1980, 1, 1, 0, 0, 0)  # the first that zip files know
MODE = 0o100644 << 16  # a plain file that all may read
SUMS = "SHA256SUMS"


class ReleaseError(ValueError):
    """A book that cannot be released as it is.

    Introduced on the page "Re-run it".
    """


def release_files(root: Path) -> dict[str, Path]:
    """What a release holds: names in the zip and the files behind them.

    Raises ReleaseError where a part is missing.

    Introduced on the page "Re-run it".
    """
    found: dict[str, Path] = {}
    for part in PARTS:
        path = root / part
        if not path.exists():
            raise ReleaseError(
                f"{path} is not there: build the book first, with "
                "python -m lq_utils book"
            )
        inner = [path] if path.is_file() else sorted(path.rglob("*"))
        for file in inner:
            name = RENAMED.get(part, part)
            if file != path:
                name = f"{name}/{file.relative_to(path).as_posix()}"
            if file.is_file() and not set(file.parts) & set(LEFT_OUT):
                found[name] = file
    return found


def write_zip(files: Mapping[str, Path], path: Path) -> None:
    """Write files into a zip, sorted, without their dates and owners.

    The same contents and names give the same bytes, with the same
    version of zlib.

    Introduced on the page "Re-run it".
    """
    with (
        atomic_write(path) as temporary,
        zipfile.ZipFile(temporary, "w") as archive,
    ):
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, DATE)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = MODE
            entry.create_system = 3  # as on Linux, wherever it is made
            archive.writestr(entry, files[name].read_bytes())


def write_sums(paths: Iterable[Path], folder: Path) -> Path:
    """Write ``SHA256SUMS`` of files, as ``sha256sum --check`` reads it.

    Introduced on the page "Re-run it".
    """
    lines = [
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n"
        for path in sorted(paths)
    ]
    with atomic_write(folder / SUMS) as temporary:
        temporary.write_text("".join(lines), "utf-8")
    return folder / SUMS
