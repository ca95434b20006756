"""ONNX files: read with care, written whole, without what is not needed."""

from __future__ import annotations

import contextlib
import gzip
import io
import logging
import lzma
import warnings
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import onnx

from lq_utils.paths import atomic_write

LARGEST = 2**31 - 1  # bytes; protocol buffers cannot hold more
MIB = 2**20


class OnnxError(ValueError):
    """A network cannot be written as ONNX, or a file cannot be used.

    Introduced in chapter 4.
    """


def read_onnx(path: Path | str) -> onnx.ModelProto:
    """The network in an ONNX file, checked, with all weights inside it.

    Raises:
        OnnxError: no such file, a damaged one, one of something else, or
            one whose weights lie in other files.

    Introduced in chapter 4.
    """
    path = Path(path)
    if not path.is_file():
        raise OnnxError(f"no ONNX file at {path}; export_onnx writes one")
    try:
        # Weights in other files are refused below, never read.
        proto = onnx.load(path, load_external_data=False)
        inside = all(
            tensor.data_location != onnx.TensorProto.EXTERNAL
            for tensor in proto.graph.initializer
        )
        if inside:
            onnx.checker.check_model(proto)
    except Exception as error:
        raise OnnxError(
            f"{path} is damaged or no ONNX file "
            f"({type(error).__name__}: {error}); write it again"
        ) from error
    if not inside:
        raise OnnxError(
            f"{path} keeps weights in other files; store it with all of "
            "them inside, as export_onnx does"
        )
    return proto


def write_onnx(proto: onnx.ModelProto, path: Path | str) -> int:
    """Write a network in one step; the size on disk in bytes.

    What the runtime does not need is left out: notes of the exporter
    (``metadata_props``, ``doc_string``) and the shapes of intermediate
    results. ``proto`` loses them as well.

    Raises:
        OnnxError: larger than a single file may be, or the place cannot
            be written to.

    Introduced in chapter 4.
    """
    strip(proto)
    size = proto.ByteSize()
    if size > LARGEST:
        raise OnnxError(
            f"the network takes {size / MIB:.0f} MiB, an ONNX file holds "
            f"at most {LARGEST / MIB:.0f}: take a smaller network"
        )
    try:
        with atomic_write(Path(path)) as temporary:
            temporary.write_bytes(proto.SerializeToString(deterministic=True))
    except OSError as error:
        raise OnnxError(
            f"{path} cannot be written ({error}): give another path"
        ) from error
    return size


def strip(proto: onnx.ModelProto) -> None:
    """Remove notes and intermediate shapes from ``proto``, in place.

    Introduced in chapter 4.
    """
    graph = proto.graph
    parts: Iterable[Any] = chain(
        [proto, graph],
        graph.node,
        graph.initializer,
        graph.input,
        graph.output,
        *(node.attribute for node in graph.node),
    )
    for part in parts:
        part.ClearField("doc_string")
        if hasattr(part, "metadata_props"):
            part.ClearField("metadata_props")
    graph.ClearField("value_info")


def file_sizes(path: Path | str) -> dict[str, int]:
    """Bytes of a file: ``raw``, and as packed by ``gzip`` and ``lzma``.

    Both at their strongest level of compression (9). Raises OnnxError
    where there is no file.

    Introduced in chapter 4.
    """
    content = _content(path)
    return {
        "raw": len(content),
        "gzip": len(gzip.compress(content, 9, mtime=0)),
        "lzma": len(lzma.compress(content, preset=9)),
    }


def _content(path: Path | str) -> bytes:
    path = Path(path)
    if not path.is_file():
        raise OnnxError(f"no file at {path}; make it first")
    return path.read_bytes()


def packed_sizes(path: Path | str) -> dict[str, int]:
    """``bytes`` of a file, and ``compressed_bytes`` of it after gzip -9.

    Raises OnnxError where there is no file. Introduced in chapter 4.
    """
    content = _content(path)
    packed = len(gzip.compress(content, 9, mtime=0))
    return {"bytes": len(content), "compressed_bytes": packed}


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Nothing of what exporter and quantizer print, warn of or log.

    Introduced in chapter 4.
    """
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
