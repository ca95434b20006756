"""Results of slow steps on disk, found again by what went into them.

A run that was killed goes on where it stopped, because every finished
step is here; a step with any other input has another key.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lq_utils.paths import atomic_write, cache_dir

Arrays = dict[str, np.ndarray]
KEY_FIELD = "__key__"
_RESERVED = (KEY_FIELD, "file", "allow_pickle")  # names savez takes itself
_DAMAGED = (
    OSError,
    ValueError,
    KeyError,
    EOFError,
    zipfile.BadZipFile,
    zlib.error,
)


class CacheError(RuntimeError):
    """The cache folder cannot be used, or the value cannot be stored.

    Introduced in chapter 1.
    """


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    if isinstance(value, Path):
        return str(value)
    raise TypeError(
        f"a key holds plain values only, not {type(value).__name__}; "
        "use a fingerprint of it, or list(...) for a short array"
    )


def canonical_json(value: Any) -> str:
    """JSON text that is the same for the same value, keys sorted.

    Numpy scalars and tuples are written as plain numbers and lists.
    Raises ``TypeError`` for other objects, ``ValueError`` for NaN.

    Introduced in chapter 1.
    """
    return json.dumps(
        value,
        sort_keys=True,
        separators=(",", ":"),
        ensure_ascii=False,
        allow_nan=False,
        default=_plain,
    )


def _sources(code: Sequence[Callable[..., Any]]) -> list[str]:
    try:
        return [inspect.getsource(function) for function in code]
    except (OSError, TypeError) as error:
        raise CacheError(
            f"no source code found for one of {list(code)}; `code` takes "
            "functions written in a file or a notebook cell"
        ) from error


def _key_text(key: Mapping[str, Any], code: Sequence[Any]) -> str:
    return canonical_json({"key": dict(key), "code": _sources(code)})


def _unusable(folder: Path, error: Exception) -> CacheError:
    return CacheError(
        f"cannot write the cache folder {folder}: {error}. Make room or "
        "make it writable, or point LQ_CACHE_DIR at another folder"
    )


def _check_writable(folder: Path) -> None:
    # Asked before the slow step, so that no work is lost for nothing.
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise _unusable(folder, error) from error


def _load(path: Path, text: str) -> Arrays | None:
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        if str(arrays.pop(KEY_FIELD)) != text:
            raise ValueError("it belongs to another key")
    except _DAMAGED as error:
        print(
            f"cache: {path} is damaged ({error}); computing it again",
            file=sys.stderr,
        )
        return None
    return arrays


def _checked(name: str, arrays: Any) -> Arrays:
    if not isinstance(arrays, Mapping):
        raise CacheError(
            f"cache '{name}': compute() must return a dict of arrays, "
            f"not {type(arrays).__name__}"
        )
    checked = {field: np.asarray(a) for field, a in arrays.items()}
    for field, array in checked.items():
        if array.dtype == object or field in _RESERVED:
            raise CacheError(
                f"cache '{name}': '{field}' cannot be stored; return "
                "numbers, strings or arrays of them, and use no name "
                f"of {_RESERVED}"
            )
    return checked


def _store(path: Path, arrays: Arrays, text: str) -> None:
    try:
        with atomic_write(path) as temporary, temporary.open("wb") as file:
            fields: dict[str, Any] = {**arrays, KEY_FIELD: np.array(text)}
            np.savez(file, **fields)
    except OSError as error:
        raise _unusable(path.parent, error) from error


def cached(
    name: str,
    key: Mapping[str, Any],
    compute: Callable[[], Mapping[str, Any]],
    *,
    code: Sequence[Callable[..., Any]] = (),
) -> Arrays:
    """The arrays that ``compute()`` gives, from disk when they are there.

    ``key`` names everything that went in (data fingerprint, parameters,
    versions where they matter); the source text of the functions in
    ``code`` is part of it too. The file is
    ``cache_dir()/name/<sha256>.npz``, written in one step; a damaged
    file is reported and computed again.

    Raises ``CacheError`` where the folder cannot be written, or where
    ``compute()`` returns something else than a dict of plain arrays.

    Introduced in chapter 1.
    """
    text = _key_text(key, code)
    digest = hashlib.sha256(text.encode()).hexdigest()
    path = cache_dir() / name / f"{digest}.npz"
    if path.exists():
        found = _load(path, text)
        if found is not None:
            return found
    _check_writable(path.parent)
    arrays = _checked(name, compute())
    _store(path, arrays, text)
    return arrays
