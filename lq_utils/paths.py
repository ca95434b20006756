"""Where things live: data, caches, results; and atomic writes."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
REFERENCE = ROOT / "data" / "results"
PUBLISHED = ROOT / "data" / "published"
WEIGHTS = ROOT / "data" / "weights"
KEEP_CELLS = "LQ_KEEP_CELLS"


def _folder(variable: str, default: Path) -> Path:
    value = os.environ.get(variable)
    return Path(value).expanduser() if value else default


def data_dir() -> Path:
    """Folder of the image data: ``$LQ_DATA_DIR`` or ``data/``.

    Introduced in chapter 1.
    """
    return _folder("LQ_DATA_DIR", ROOT / "data")


def cache_dir() -> Path:
    """Folder of the caches: ``$LQ_CACHE_DIR`` or ``_build/cache/``.

    Introduced in chapter 1.
    """
    return _folder("LQ_CACHE_DIR", ROOT / "_build" / "cache")


def results_dir() -> Path:
    """Folder of run results: ``$LQ_RESULTS_DIR`` or ``_build/results/``.

    Introduced in chapter 1.
    """
    return _folder("LQ_RESULTS_DIR", ROOT / "_build" / "results")


def keeping_cells() -> bool:
    """Whether sweeps also write finished cells into ``data/results/cells``.

    ``python -m lq_utils run --keep-cells`` sets ``$LQ_KEEP_CELLS``.

    Introduced in chapter 3.
    """
    return bool(os.environ.get(KEEP_CELLS))


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path that becomes ``path`` on success.

    The temporary file lies in the same folder, so that the final rename
    is atomic; on any error it is removed and ``path`` stays as it was.

    Introduced in chapter 1.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(
        dir=path.parent, prefix=f".{path.stem}-", suffix=path.suffix
    )
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        # mkstemp makes private files; a result should be readable.
        temporary.chmod(0o644)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
