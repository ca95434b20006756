"""Packing: codes of b bits each, one after the other, into bytes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

MAX_CODE_BITS = 63  # codes are int64
CHUNK = 2**16  # codes unpacked to single bits at a time; a multiple of 8


class PackingError(ValueError):
    """Codes do not fit into their bits, or bytes do not hold them.

    Introduced in chapter 3.
    """


def packed_size(count: int, bits: int) -> int:
    """Bytes that ``count`` codes of ``bits`` bits take.

    Introduced in chapter 3.
    """
    return math.ceil(count * bits / 8)


def _check_bits(bits: int) -> None:
    if not 1 <= bits <= MAX_CODE_BITS:
        raise PackingError(f"{bits} bits a code: give 1 to {MAX_CODE_BITS}")


def pack(codes: Tensor, bits: int) -> Tensor:
    """Codes (int64, any shape, 0 ... 2^bits - 1) as uint8 ``[bytes]``.

    The highest bit of a code comes first; the last byte is filled up
    with zeros. Raises PackingError for codes that need more bits.

    Introduced in chapter 3.
    """
    _check_bits(bits)
    flat = codes.detach().cpu().reshape(-1).numpy()
    if not np.issubdtype(flat.dtype, np.integer):
        raise PackingError(f"codes must be integers, not {flat.dtype}")
    if flat.size and not 0 <= int(flat.min()) <= int(flat.max()) < 2**bits:
        raise PackingError(
            f"codes from {flat.min()} to {flat.max()} do not fit into "
            f"{bits} bits (0 ... {2**bits - 1})"
        )
    parts = [
        _pack_chunk(flat[start : start + CHUNK], bits)
        for start in range(0, flat.size, CHUNK)
    ]
    return torch.from_numpy(np.concatenate([np.empty(0, np.uint8), *parts]))


def _word(bits: int) -> int:
    """The smallest integer type, in bytes, that holds a code."""
    return next(size for size in (1, 2, 4, 8) if bits <= 8 * size)


def _pack_chunk(codes: np.ndarray, bits: int) -> np.ndarray:
    size = _word(bits)
    single = np.unpackbits(codes.astype(f">u{size}").view(np.uint8))
    return np.packbits(single.reshape(-1, 8 * size)[:, 8 * size - bits :])


def unpack(packed: Tensor, bits: int, shape: Sequence[int]) -> Tensor:
    """The codes (int64, of ``shape``) that :func:`pack` packed.

    Raises PackingError where the number of bytes is not exactly theirs,
    or the bits that fill up the last byte are not zero.

    Introduced in chapter 3.
    """
    _check_bits(bits)
    count = math.prod(shape)
    data = packed.detach().cpu().numpy()
    size = packed_size(count, bits)
    if data.dtype != np.uint8 or data.shape != (size,):
        raise PackingError(
            f"{count} codes of {bits} bits are {size} bytes (uint8), not "
            f"{list(data.shape)} of {data.dtype}"
        )
    if size and data[-1] & ((1 << (8 * size - count * bits)) - 1):
        raise PackingError("the last byte holds bits of no code")
    step = CHUNK * bits // 8
    parts = [
        _unpack_chunk(data[start : start + step], bits)
        for start in range(0, size, step)
    ]
    codes = np.concatenate([np.empty(0, np.int64), *parts])
    return torch.from_numpy(codes[:count]).reshape(tuple(shape))


def _unpack_chunk(packed: np.ndarray, bits: int) -> np.ndarray:
    single, size = np.unpackbits(packed), _word(bits)
    count = single.size // bits  # in the last chunk with filled-up bits
    wide = np.zeros((count, 8 * size), np.uint8)
    wide[:, 8 * size - bits :] = single[: count * bits].reshape(count, bits)
    return np.packbits(wide).view(f">u{size}").astype(np.int64)
