"""Reading CIFAR's pickles without running code that hides in them.

A pickle may call any importable function while it is read. This reader
knows five names, and none of them leads to the real function: arrays are
first read as plain values and built afterwards, once their size is checked.
"""

from __future__ import annotations

import io
import pickle
import pickletools
from pathlib import Path
from typing import Any

import numpy as np

from lq_utils.images import DataError

BYTES_LIMIT = 256 * 2**20  # the largest official file has 155 MB
INTEGERS = {"u1", "i8", "i4"}
PUTS = {"PUT", "BINPUT", "LONG_BINPUT"}


class _Name:
    """Stands for a class that is only ever named, never called."""


class _Type:
    """What a pickle says about the element type of an array."""

    def __init__(self, code: object, *flags: object) -> None:
        self.code = _text(code)

    def __setstate__(self, state: object) -> None:
        """Byte order and alignment: a matter of course for these types."""


class _RawArray:
    """Shape, element type and bytes of an array, not yet an array."""

    state: tuple[Any, ...] | None = None

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.state = state

    def build(self) -> np.ndarray:
        """The array, read-only and over the bytes that were read."""
        if self.state is None:
            raise ValueError("an array without content")
        _, shape, kind, by_columns, content = self.state
        if not isinstance(kind, _Type) or kind.code not in INTEGERS:
            raise ValueError("an array of something else than integers")
        if not isinstance(content, bytes):
            raise TypeError("an array whose content is not bytes")
        flat = np.frombuffer(content, np.dtype(kind.code))
        return flat.reshape(shape, order="F" if by_columns else "C")


def _reconstruct(kind: object, shape: object, code: object) -> _RawArray:
    if kind is not _Name or shape != (0,):
        raise pickle.UnpicklingError("an array of an unusual kind")
    return _RawArray()


def _encode(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"text in the encoding {encoding!r}")
    return text.encode("latin1")


ADMITTED: dict[tuple[str, str], Any] = {
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy", "ndarray"): _Name,
    ("numpy", "dtype"): _Type,
    ("_codecs", "encode"): _encode,
}


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return ADMITTED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(
                f"it asks for {module}.{name}, which image data never needs"
            ) from None

    def persistent_load(self, pid: object) -> Any:
        raise pickle.UnpicklingError("it refers to objects outside")


def _check_memo(content: bytes) -> None:
    """Refuse a file that numbers its values in order to fill the memory."""
    for operation, argument, _ in pickletools.genops(content):
        if operation.name in PUTS and int(argument or 0) > len(content):
            raise pickle.UnpicklingError(
                f"it numbers one of its values {argument}"
            )


def _check_count(value: object, most: int) -> None:
    """Refuse lists that hold each other again and again, without end."""
    stack, count = [value], 0
    while stack:
        item = stack.pop()
        if isinstance(item, list):
            count += len(item)
            if count > most:
                raise pickle.UnpicklingError(
                    "its lists stand for more values than it has bytes"
                )
            stack += item


def _text(value: object) -> str:
    """Text of a pickle of Python 2 (bytes) or Python 3 (str)."""
    if isinstance(value, bytes):
        return value.decode("latin1")
    if isinstance(value, str):
        return value
    raise ValueError(f"{type(value).__name__} in place of text")


def _plain(value: object) -> Any:
    """Values as Python 3 would hold them; anything else is refused."""
    if isinstance(value, _RawArray):
        return value.build()
    if isinstance(value, (bytes, str)):
        return _text(value)
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, (bool, int, float)):
        return value
    raise ValueError(f"a value of type {type(value).__name__}")


def read_bytes(path: Path, remedy: str) -> bytes:
    """Content of a file that must not be missing, empty or enormous.

    Raises:
        DataError: with ``remedy``, what the reader of the message can do.

    Introduced in chapter 1.
    """
    try:
        size = path.stat().st_size
        if not 0 < size <= BYTES_LIMIT:
            raise DataError(
                f"{path} has {size:,} bytes; 1 to {BYTES_LIMIT:,} are "
                f"plausible. {remedy}"
            )
        return path.read_bytes()
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise DataError(f"cannot read {path}: {reason}. {remedy}") from None


def read_dictionary(content: bytes, path: Path, remedy: str) -> dict[str, Any]:
    """The dictionary in a pickle of CIFAR, of Python 2 or Python 3.

    Keys and texts become ``str``, arrays NumPy arrays of integers. No code
    of the file is run. ``path`` only names the file in messages.

    Raises:
        DataError: damaged, or asking for more than image data needs.

    Introduced in chapter 1.
    """
    try:
        _check_memo(content)
        value = _Reader(io.BytesIO(content), encoding="bytes").load()
        if not isinstance(value, dict):
            raise TypeError(f"a {type(value).__name__}, not a dictionary")
        _check_count(list(value.values()), len(content))
        return {_text(key): _plain(item) for key, item in value.items()}
    except pickle.UnpicklingError as error:
        raise DataError(f"{path} was refused: {error}. {remedy}") from None
    except Exception as error:  # noqa: BLE001 (damage can raise anything)
        raise DataError(
            f"{path} is damaged ({type(error).__name__}: {error}). {remedy}"
        ) from None
