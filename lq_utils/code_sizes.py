"""How small the codes of a quantized network get: coders and entropy.

A coder is a function from bytes to bytes that some program can undo.
Codes go in one a byte: packed to their bits first, equal codes no longer
look equal, and a coder finds less, unless a byte holds whole codes.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import math
from collections.abc import Callable, Mapping

import numpy as np
import py7zr
import torch
from scipy.special import gammaln
from torch import Tensor

from lq_utils.graph import layer_of, weight_matrix
from lq_utils.grids import Grid
from lq_utils.lockstep import Quantized
from lq_utils.packing import pack, packed_size
from lq_utils.registry import Registry

Coder = Callable[[bytes], bytes]
Layers = Mapping[str, np.ndarray]

CODERS: Registry[Coder] = Registry("coder")
register_coder = CODERS.register

LEVELS = 256  # that a byte can tell apart
CHUNK = 2**22  # weights turned into codes at a time


class CodeSizeError(ValueError):
    """Codes that cannot be stored one a byte, or none at all.

    Introduced in chapter 10.
    """


@register_coder("gzip")
def _gzip(data: bytes) -> bytes:
    """DEFLATE at its highest level; no name, no time."""
    return gzip.compress(data, 9, mtime=0)


@register_coder("bz2")
def _bz2(data: bytes) -> bytes:
    """Burrows-Wheeler, then Huffman."""
    return bz2.compress(data, 9)


@register_coder("xz")
def _xz(data: bytes) -> bytes:
    """LZMA2, which ends in an adaptive range coder."""
    return lzma.compress(data, preset=9 | lzma.PRESET_EXTREME)


@register_coder("7-Zip")
def _seven_zip(data: bytes) -> bytes:
    """A ``.7z`` archive with one member, as py7zr writes it."""
    archive = io.BytesIO()
    with py7zr.SevenZipFile(archive, "w") as file:
        file.writestr(data, "codes")
    return archive.getvalue()


def grid_codes(weight: Tensor, grid: Grid) -> np.ndarray:
    """Codes uint8 ``[K N]``, row by row, of weights ``[K, N]`` on a grid.

    Raises CodeSizeError for more than 256 levels, GridError for weights
    that are not on the grid. Introduced in chapter 10.
    """
    if grid.alphabet.count > LEVELS:
        raise CodeSizeError(
            f"{grid.alphabet.count} levels do not fit into a byte: take 8 "
            "bits or fewer, and no more than 256 levels"
        )
    rows = max(1, CHUNK // weight.shape[1])
    parts = [
        grid.rows(index).codes(weight[index]).to(torch.uint8)
        for index in torch.arange(len(weight)).split(rows)
    ]
    return torch.cat(parts).reshape(-1).numpy()


def network_codes(quantized: Quantized) -> dict[str, np.ndarray]:
    """Codes uint8 ``[K N]`` of every quantized layer, by its name.

    Raises as :func:`grid_codes`. Introduced in chapter 10.
    """
    return {
        name: grid_codes(weight_matrix(layer_of(quantized.model, name)), grid)
        for name, grid in quantized.grids.items()
    }


def entropy(codes: np.ndarray) -> float:
    """Bits a code that its frequencies alone ask for, H(q).

    ``codes`` are integers 0 ... of any shape. Raises CodeSizeError for
    none. Source: Shannon 1948, theorem 9. Introduced in chapter 10.
    """
    share = _counts(codes) / codes.size
    return float(-(share * np.log2(share)).sum()) + 0.0  # no -0


def entropy_bytes(layers: Layers) -> int:
    """Bytes that no coder without memory beats: sum n_l H(q_l).

    Every layer with its own frequencies, which the coder knows for
    nothing. A coder that exploits the order of weights can be below it.
    Introduced in chapter 10.
    """
    bits = sum(codes.size * entropy(codes) for codes in layers.values())
    return math.ceil(bits / 8 - 1e-9)


def order_bits(codes: np.ndarray) -> float:
    """log2 of the number of orders that the codes could have.

    A file that says which of them it was has, for all but one order in
    2^t, at least so many bits less t, whatever the coder: n H(q) less
    about half a log2 n for each level. Introduced in chapter 10.
    """
    counts = _counts(codes)
    nats = gammaln(codes.size + 1) - gammaln(counts + 1).sum()
    return float(nats / math.log(2))


def _counts(codes: np.ndarray) -> np.ndarray:
    if not codes.size:
        raise CodeSizeError("no codes: give at least one quantized layer")
    counts = np.bincount(codes.reshape(-1))
    return counts[counts > 0]


def file_sizes(
    layers: Layers, bits: int, coders: tuple[str, ...]
) -> dict[str, int]:
    """Bytes of all codes in one file, by what is done to them.

    ``"packed"``: ``bits`` a code, no coder; ``"entropy"``: the bound of
    :func:`entropy_bytes`; ``"packed, gzip"``: packed first (which hides
    equal codes from gzip, but not in 2, 4 or 8 bits); and each of ``coders`` after one code a byte.
    Scales, biases and names of layers are not in the file.

    Raises CodeSizeError for no codes, PackingError for codes that need
    more bits, UnknownName for a coder that is not registered.

    Source: bit-efficient poster, table 3. Introduced in chapter 10.
    """
    found = {"entropy": entropy_bytes(layers)}
    together = np.concatenate([c.reshape(-1) for c in layers.values()])
    packed = pack(torch.from_numpy(together), bits).numpy()
    found["packed"] = packed_size(together.size, bits)
    found["packed, gzip"] = len(CODERS.get("gzip")(packed.tobytes()))
    plain = together.astype(np.uint8, copy=False).tobytes()
    return found | {name: len(CODERS.get(name)(plain)) for name in coders}
