"""Artifacts: a quantized network in one file, as small as it claims.

The file is a safetensors file: bit-packed codes, scales, zero points,
centroids and what stayed in floating point, each of them one flat tensor;
everything else (plan, alphabets, sizes, rules of quantized activations) is
JSON in its header. The architecture is built anew from its name. Nothing in
the file is ever executed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from lq_utils.artifact_parts import ArtifactError, Parts, decode, encode
from lq_utils.cache import canonical_json
from lq_utils.paths import atomic_write
from lq_utils.registry import UnknownName

if TYPE_CHECKING:
    from lq_utils.lockstep import Quantized

__all__ = [
    "ArtifactError",
    "load_quantized",
    "save_quantized",
    "size_report",
]

FORMAT = "lq-quantized"
VERSION = 2
PLAIN = 1  # the version of files without quantized inputs
FIELD = "lq"  # of the safetensors header

# What reading or rebuilding from wrong content can end in.
_DAMAGED = (
    ArithmeticError,
    AttributeError,
    LookupError,
    OSError,
    RuntimeError,
    SafetensorError,
    TypeError,
    ValueError,
)


def save_quantized(
    path: Path | str,
    quantized: Quantized,
    model_name: str,
    num_outputs: int,
) -> int:
    """Write a quantized network as one ``.safetensors`` file.

    ``model_name`` and ``num_outputs`` are those of ``build_model``, which
    must build the network that was quantized. Returns the size on disk
    in bytes. The file is written in one step.

    Raises:
        ArtifactError: weights that are not on their grids, or a network
            that ``build_model`` does not make.
        UnknownName: no model of that name.

    Introduced in chapter 3.
    """
    content = _to_bytes(encode(quantized, model_name, num_outputs))
    with atomic_write(Path(path)) as temporary:
        temporary.write_bytes(content)
    return len(content)


def size_report(
    quantized: Quantized, model_name: str, num_outputs: int
) -> dict[str, int]:
    """What takes how much of the file that ``save_quantized`` writes.

    ``code_bits``, ``scale_bits``, ``zero_point_bits``, ``codebook_bits``
    (centroids of clustered layers) and ``float_bits`` add up to
    ``plan.size_bits(model)``, of a folded network where it was folded;
    ``padding_bits`` fill the last byte of each layer's codes; with
    ``header_bytes`` they make ``file_bytes``.

    Introduced in chapter 3.
    """
    parts = encode(quantized, model_name, num_outputs)
    bits = {name: 8 * t.nbytes for name, t in parts.tensors.items()}
    codes = parts.code_bits
    file_bytes = len(_to_bytes(parts))
    stored = sum(bits.values())
    return {
        "code_bits": codes,
        "padding_bits": bits["codes"] - codes,
        "scale_bits": bits["scales"],
        "zero_point_bits": bits["zero_points"],
        "codebook_bits": bits["codebooks"],
        "float_bits": sum(
            size for name, size in bits.items() if name.startswith("rest.")
        ),
        "header_bytes": file_bytes - stored // 8,
        "file_bytes": file_bytes,
    }


def load_quantized(path: Path | str) -> nn.Module:
    """The network that ``save_quantized`` stored, in evaluation mode.

    Its weights and outputs are those of ``quantized.model``, bit for bit.

    Raises:
        ArtifactError: no such file, a damaged one, one of something else
            or of a newer version, or of a network that cannot be built.

    Introduced in chapter 3.
    """
    tensors, header = _read(Path(path))
    try:
        return decode(tensors, header)
    except UnknownName as error:
        raise ArtifactError(
            f"{path}: {error}. Register the model it was made from, then "
            "load it again"
        ) from error
    except _DAMAGED as error:
        raise ArtifactError(
            f"{path} does not fit the network it names ({error}); store "
            "it again with save_quantized"
        ) from error


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and header of an intact file of this format and version."""
    if not path.is_file():
        raise ArtifactError(
            f"no quantized network at {path}; save_quantized writes one"
        )
    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get(FIELD, "null")
            names = list(file.keys())
            tensors = {name: file.get_tensor(name) for name in names}
        header = json.loads(text)
        known = isinstance(header, dict) and header.get("format") == FORMAT
        checksum = header.pop("sha256", None) if known else None
        intact = known and checksum == _digest(tensors, header)
    except _DAMAGED as error:
        raise ArtifactError(
            f"{path} is damaged or no safetensors file ({error}); copy or "
            "store it again, or give a file of save_quantized"
        ) from error
    if not known:
        raise ArtifactError(
            f"{path} holds no quantized network; save_quantized writes one"
        )
    if header.get("version") not in (PLAIN, VERSION):
        raise ArtifactError(
            f"{path} has format version {header.get('version')}, this "
            f"package reads version {VERSION}: update the package, or "
            "store the network again"
        )
    if not intact:
        raise ArtifactError(
            f"{path} is damaged: its checksum is wrong; copy or store it again"
        )
    return tensors, header


def _to_bytes(parts: Parts) -> bytes:
    # Readers of version 1 would leave the quantized inputs out.
    version = VERSION if "activations" in parts.header else PLAIN
    header = {**parts.header, "format": FORMAT, "version": version}
    header["sha256"] = _digest(parts.tensors, header)
    return save(parts.tensors, {FIELD: canonical_json(header)})


def _digest(tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> str:
    total = hashlib.sha256(canonical_json(dict(header)).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        total.update(f";{name} {tensor.dtype} {tensor.numel()};".encode())
        total.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return total.hexdigest()
