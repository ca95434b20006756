"""Compiled loops of the binary products; called by ``binary_kernel``.

A sign is one bit, 1 for -1. Where two signs differ their product is -1, so
that a sum of products is the number of columns less twice the number of
bits in which the words differ. numba compiles all of this on first use.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit, types
from numba.extending import intrinsic

WORD = 64  # bits
TILE = 2048  # words of weights at a time: 16 KiB, half a first-level cache


def _compiled(loop: Callable[..., Any]) -> Callable[..., Any]:
    compiled: Any
    try:
        compiled = njit(cache=True, nogil=True)(loop)
    except RuntimeError:  # nowhere to keep the compiled code
        compiled = njit(nogil=True)(loop)
    return compiled


@intrinsic
def _popcount(context: Any, word: Any) -> Any:
    """Number of ones of a uint64: LLVM's own operation.

    It becomes the processor's instruction (POPCNT), or many at once with
    byte shuffles where the loop around it is vectorised.
    """

    def generate(_: Any, builder: Any, __: Any, arguments: Any) -> Any:
        return builder.ctpop(arguments[0])

    return types.uint64(types.uint64), generate


popcount: Any = _popcount


@_compiled
def _products_of_tile(
    inputs: np.ndarray, weights: np.ndarray, base: np.ndarray, out: np.ndarray
) -> None:
    """One row of inputs, four rows of weights at a time."""
    rows, words = weights.shape
    fours = rows // 4 * 4
    for k in range(0, fours, 4):
        a = b = c = d = np.uint64(0)
        for i in range(words):
            word = inputs[i]
            a += popcount(word ^ weights[k, i])
            b += popcount(word ^ weights[k + 1, i])
            c += popcount(word ^ weights[k + 2, i])
            d += popcount(word ^ weights[k + 3, i])
        out[k] = base[k] - 2 * np.int64(a)
        out[k + 1] = base[k + 1] - 2 * np.int64(b)
        out[k + 2] = base[k + 2] - 2 * np.int64(c)
        out[k + 3] = base[k + 3] - 2 * np.int64(d)
    for k in range(fours, rows):
        a = np.uint64(0)
        for i in range(words):
            a += popcount(inputs[i] ^ weights[k, i])
        out[k] = base[k] - 2 * np.int64(a)


@_compiled
def products_of_rows(
    inputs: np.ndarray,
    weights: np.ndarray,
    base: np.ndarray,
    first: int,
    out: np.ndarray,
) -> None:
    """``out [N, K]`` from words ``[N, words]`` and ``[K, words]``.

    The numbers of differing bits, doubled, are taken from the rows of
    ``base`` int32 ``[P, K]``, in turn and from row ``first`` on.

    For rows of many words: vectorised along the words. Four rows of
    weights share each word of the inputs; a tile of weights stays in the
    cache for all inputs.

    Introduced in chapter 6.
    """
    many, words = inputs.shape
    step = max(4, TILE // words // 4 * 4)
    for start in range(0, weights.shape[0], step):
        tile = weights[start : start + step]
        for n in range(many):
            begin = base[(first + n) % len(base), start:]
            _products_of_tile(inputs[n], tile, begin, out[n, start:])


@_compiled
def products_of_columns(
    inputs: np.ndarray,
    weights: np.ndarray,
    base: np.ndarray,
    first: int,
    out: np.ndarray,
) -> None:
    """The same with weights as ``[words, K]``, for rows of few words.

    Vectorised along the outputs, whose sums stay in the cache.

    Introduced in chapter 6.
    """
    many, words = inputs.shape
    for n in range(many):
        own = out[n]
        own[:] = base[(first + n) % len(base)]
        for i in range(words):
            word, row = inputs[n, i], weights[i]
            for k in range(len(own)):
                own[k] -= 2 * np.int32(popcount(word ^ row[k]))


@_compiled
def pack_channels(x: np.ndarray, out: np.ndarray) -> bool:
    """Signs of ``x [N, C, P]`` into zeros ``out [N, words, P]``.

    Returns whether ``x`` holds NaN, which has no sign.

    Introduced in chapter 6.
    """
    missing = False
    for n in range(x.shape[0]):
        for c in range(x.shape[1]):
            shift = np.uint64(c % WORD)
            values, words = x[n, c], out[n, c // WORD]
            for p in range(len(values)):
                missing |= values[p] != values[p]
                words[p] |= np.uint64(values[p] < 0) << shift
    return missing


@_compiled
def gather_patches(
    signs: np.ndarray,
    channels: int,
    geometry: tuple[int, int, int, int, int, int],
    out: np.ndarray,
) -> None:
    """Packed patches into zeros ``out [N, H', W', words]``.

    ``signs [N, H, W, words]`` are packed channels; ``geometry`` is kernel
    height and width, stride, padding, image height and width. A patch is
    kernel row, kernel column, channel; what lies outside of the image
    stays 0, that is +1.

    Introduced in chapter 6.
    """
    high, wide, stride, padding, height, width = geometry
    for n in range(out.shape[0]):
        for y in range(out.shape[1]):
            for x in range(out.shape[2]):
                top, left = y * stride - padding, x * stride - padding
                place, filled = 0, 0  # of the words of this patch
                for v in range(top, top + high):
                    for u in range(left, left + wide):
                        inside = 0 <= v < height and 0 <= u < width
                        for i in range(signs.shape[3]):
                            bits = min(WORD, channels - i * WORD)
                            word = np.uint64(0)
                            if inside:
                                word = signs[n, v, u, i]
                            out[n, y, x, place] |= word << np.uint64(filled)
                            filled += bits
                            if filled >= WORD:
                                filled -= WORD
                                place += 1
                                if filled:  # the rest of a split word
                                    rest = word >> np.uint64(bits - filled)
                                    out[n, y, x, place] = rest


@_compiled
def take_outside(
    base: np.ndarray,
    taps: np.ndarray,
    geometry: tuple[int, int, int, int, int, int],
) -> None:
    """Take from ``base [H', W', K]`` what the outside will be counted as.

    Outside of the image all inputs are +1: each tap there will add its
    sum of weights ``taps [T, K]``, where zeros add nothing.

    Introduced in chapter 6.
    """
    high, wide, stride, padding, height, width = geometry
    for y in range(base.shape[0]):
        for x in range(base.shape[1]):
            top, left = y * stride - padding, x * stride - padding
            own, tap = base[y, x], 0
            for v in range(top, top + high):
                for u in range(left, left + wide):
                    if not (0 <= v < height and 0 <= u < width):
                        for k in range(len(own)):
                            own[k] -= taps[tap, k]
                    tap += 1
