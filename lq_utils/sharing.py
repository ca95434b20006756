"""Large inputs handed to many cells and processes through mapped files.

Arrays and tensors are mapped, not copied: all processes read the same
memory pages. Every load gives objects of its own, so what one cell
changes in a model or an array, no other cell ever sees.
"""

from __future__ import annotations

import io
import mmap
import os
import pickle
import platform
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import torch
from torch import Tensor

_ALIGNMENT = 64  # a cache line; vector loads like it
_VALUES, _BUFFERS = "values.pickle", "buffers.bin"


class SharingError(ValueError):
    """A value cannot be handed over.

    Introduced in chapter 3.
    """


class _Pickler(cloudpickle.Pickler):
    """Takes notebook classes by value, and tensors by their buffer."""

    def reducer_override(self, value: Any) -> Any:
        # Only what numpy can hold; bfloat16 and the like go the usual way.
        if type(value) is Tensor and not value.requires_grad:
            try:
                array = value.numpy()
            except (TypeError, RuntimeError):
                return super().reducer_override(value)
            return torch.from_numpy, (np.asarray(array, order="C"),)
        return super().reducer_override(value)


def _dump(values: Mapping[str, Any], folder: Path) -> None:
    buffers: list[pickle.PickleBuffer] = []
    body = io.BytesIO()
    _Pickler(body, protocol=5, buffer_callback=buffers.append).dump(
        dict(values)
    )
    spans = []
    with (folder / _BUFFERS).open("wb") as file:
        file.write(b"\0")  # an empty file cannot be mapped
        for buffer in buffers:
            file.write(b"\0" * (-file.tell() % _ALIGNMENT))
            start = file.tell()
            file.write(buffer.raw())
            spans.append((start, file.tell()))
    stored = pickle.dumps((spans, body.getvalue()))
    (folder / _VALUES).write_bytes(stored)


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True  # somebody else's
    return True


def _remove_leftovers(prefix: str, within: Path) -> None:
    """Folders that killed processes of this machine left behind."""
    if os.name != "posix":
        return  # elsewhere signal 0 would end the process
    for folder in within.iterdir():
        owner = folder.name.removeprefix(prefix).partition("-")[0]
        found = folder.name.startswith(prefix) and owner.isdigit()
        if found and not _runs(int(owner)):
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def shared_folder(
    values: Mapping[str, Any], within: Path | None = None
) -> Iterator[Path]:
    """A temporary folder from which ``load_shared`` reads ``values``.

    It lies ``within`` a folder of the caches, or where temporary files
    do. What killed processes left there is removed first.

    Raises SharingError for values that cannot be pickled, and where the
    folder cannot be made or has no room for them.

    Introduced in chapter 3.
    """
    variable = "TMPDIR" if within is None else "LQ_CACHE_DIR"
    try:
        place = Path(tempfile.gettempdir() if within is None else within)
        made = _temporary_folder(place)
    except OSError as error:
        raise SharingError(
            f"no folder for shared inputs can be made: {error}. Make "
            f"room or make it writable, or point {variable} at another"
        ) from error
    with made as name:
        try:
            _dump(values, Path(name))
        except OSError as error:
            raise SharingError(
                f"cannot write shared inputs to {name}: {error}. Make "
                f"room there, or point {variable} at another folder"
            ) from error
        except (pickle.PicklingError, TypeError, AttributeError) as error:
            raise SharingError(
                f"one of the shared inputs {list(values)} cannot be handed "
                f"to other processes: {error}. Share arrays, tensors and "
                "models, no open files, generators or locks"
            ) from error
        yield Path(name)


def _temporary_folder(place: Path) -> tempfile.TemporaryDirectory[str]:
    """An empty folder in ``place``, named after machine and process."""
    prefix = f"lq-shared-{platform.node()}-"
    place.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(prefix, place)
    return tempfile.TemporaryDirectory(
        prefix=f"{prefix}{os.getpid()}-", dir=place, ignore_cleanup_errors=True
    )


def load_shared(folder: Path) -> dict[str, Any]:
    """The values of ``shared_folder``, as objects of the caller's own.

    Arrays may be written to: the pages written are copied, and the
    files stay as they are.

    Introduced in chapter 3.
    """
    spans, body = pickle.loads((folder / _VALUES).read_bytes())
    with (folder / _BUFFERS).open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    view = memoryview(mapped)
    loaded = pickle.loads(body, buffers=[view[a:b] for a, b in spans])
    assert isinstance(loaded, dict)
    return loaded
