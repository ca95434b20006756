"""Products of signs without multiplications: XOR and population count.

Values that are -1 or +1 take a bit each. 64 products and their sum then
cost one XOR and one count of ones, and the results are exact integers.
"""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from lq_utils.binary_packing import (
    WORD,
    BinaryError,
    PackedFilters,
    PackedPatches,
    as_array,
    compiled_loops,
    pack_filters,
    pack_patches,
    pack_signs,
)

__all__ = [
    "BinaryError",
    "PackedFilters",
    "PackedPatches",
    "binary_convolution",
    "binary_linear",
    "pack_filters",
    "pack_patches",
    "pack_signs",
]

FEW_WORDS = 12  # rows up to here are faster when vectorised over outputs


def binary_linear(
    inputs: Tensor, weights: Tensor, columns: int, threads: int = 1
) -> Tensor:
    """All products of packed inputs with packed rows of weights.

    Args:
        inputs: uint64 ``[N, words]`` of :func:`pack_signs`.
        weights: uint64 ``[K, words]``.
        columns: number of signs a row, before they were packed.
        threads: the inputs are shared out among so many.

    Returns:
        int32 ``[N, K]``, ``columns`` less twice the number of signs that
        differ: exactly the product of the matrices of -1 and +1.

    Raises:
        BinaryError: other types or shapes, or a number of words that is
            not that of ``columns``.

    Source: Rastegari et al. 2016, XNOR-Net, section 3.2. Introduced in
    chapter 6.
    """
    _check(inputs, weights, columns, threads)
    base = np.full((1, len(weights)), columns, dtype=np.int32)
    return _products(inputs, weights, base, threads)


def _products(
    inputs: Tensor, weights: Tensor, base: np.ndarray, threads: int
) -> Tensor:
    """int32 ``[N, K]``: ``base [P, K]``, row by row in turn, less twice the
    number of signs that differ."""
    left, right = as_array(inputs), as_array(weights)
    out = np.empty((len(left), len(right)), dtype=np.int32)
    loop = compiled_loops().products_of_rows
    if left.shape[1] <= FEW_WORDS:
        loop = compiled_loops().products_of_columns
        right = np.ascontiguousarray(right.T)

    def work(start: int, stop: int) -> None:
        part = slice(start, stop)
        loop(left[part], right, base, start, out[part])

    if threads == 1:
        work(0, len(left))
    else:  # the compiled loops run side by side
        ends = [len(left) * i // threads for i in range(threads + 1)]
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(work, ends[:-1], ends[1:]))
    return torch.from_numpy(out)


def _check(
    inputs: Tensor, weights: Tensor, columns: int, threads: int
) -> None:
    for name, packed in (("inputs", inputs), ("weights", weights)):
        if packed.dtype != torch.uint64 or packed.ndim != 2:
            raise BinaryError(
                f"{name} are {packed.dtype} of shape {list(packed.shape)}: "
                "give uint64 [rows, words], packed by pack_signs"
            )
        if columns < 1 or packed.shape[1] != math.ceil(columns / WORD):
            raise BinaryError(
                f"{name} have {packed.shape[1]} words a row, which do not "
                f"hold {columns} columns: pack both sides by pack_signs and "
                "give the number of columns before packing"
            )
    if threads < 1:
        raise BinaryError(f"{threads} threads: give at least 1")


def binary_convolution(
    patches: PackedPatches, filters: PackedFilters, threads: int = 1
) -> Tensor:
    """Convolution of signs, int32 ``[N, K, H', W']``.

    Exactly what a convolution of -1 and +1 with zero padding returns:
    padding is neither sign. It is packed as +1, and what that adds, the
    sum of the weights over it, is taken away beforehand.

    Raises BinaryError where kernels or channels differ. Source: Rastegari
    et al. 2016, XNOR-Net, section 3.2. Introduced in chapter 6.
    """
    if (patches.channels, patches.size) != (filters.channels, filters.size):
        raise BinaryError(
            f"patches of {patches.channels} channels for a kernel of "
            f"{patches.size} do not fit filters of {filters.channels} "
            f"channels and {filters.size}: pack_patches(x, filters.size)"
        )
    columns = filters.channels * math.prod(filters.size)
    _check(patches.words, filters.words, columns, threads)
    shape = (*patches.result, len(filters.words))
    base = np.full(shape, columns, dtype=np.int32)
    if patches.padding:
        taps = as_array(filters.taps)
        compiled_loops().take_outside(base, taps, patches.geometry)
    rows = base.reshape(-1, shape[-1])
    out = _products(patches.words, filters.words, rows, threads)
    return out.reshape(patches.images, *shape).permute(0, 3, 1, 2)
