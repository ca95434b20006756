"""Signs as bits: 64 of them in a word, rows, filters and patches."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from types import ModuleType

import numpy as np
import torch
from torch import Tensor

WORD = 64  # bits


class BinaryError(ValueError):
    """Values cannot be packed, or packed values do not fit together.

    Introduced in chapter 6.
    """


@dataclass(frozen=True, eq=False)
class PackedFilters:
    """Signs of the weight of a convolution, ready to multiply.

    ``words`` uint64 ``[K, words]``: kernel row, kernel column, channel.
    ``taps`` int32 ``[kernel places, K]`` are the sums of the signs at each
    place of the kernel; ``size`` is the kernel's height and width.

    Introduced in chapter 6.
    """

    words: Tensor
    taps: Tensor
    channels: int
    size: tuple[int, int]


@dataclass(frozen=True, eq=False)
class PackedPatches:
    """Signs of the patches that a convolution multiplies.

    ``words`` uint64 ``[N * H' * W', words]`` in the order of
    PackedFilters; ``images`` is N, ``shape`` the height and width of the
    images, ``result`` (H', W') those of the result.

    Introduced in chapter 6.
    """

    words: Tensor
    images: int
    channels: int
    shape: tuple[int, int]
    result: tuple[int, int]
    size: tuple[int, int]
    stride: int
    padding: int

    @property
    def geometry(self) -> tuple[int, int, int, int, int, int]:
        """Sides of the kernel, stride, padding, sides of the images."""
        return (*self.size, self.stride, self.padding, *self.shape)


@cache
def compiled_loops() -> ModuleType:
    """The module of compiled loops.

    Introduced in chapter 6.
    """
    # numba takes a moment to import: only where it is needed.
    from lq_utils import binary_loops

    return binary_loops


def pack_signs(x: Tensor) -> Tensor:
    """Signs of ``x [..., columns]`` as uint64 ``[..., words]``.

    A bit is 1 for values below zero; zero counts as +1. The first column
    is the lowest bit of the first word; the last word is filled up with
    zeros, on both sides of a product alike, so that they add nothing.

    Raises BinaryError for a scalar, complex numbers, or NaN.

    Source: Rastegari et al. 2016, XNOR-Net, section 3.2 (binary dot
    products). Introduced in chapter 6.
    """
    if not x.ndim or x.is_complex():
        raise BinaryError(
            f"a tensor of {x.ndim} axes and {x.dtype} has no signs along "
            "its last axis: give real values with at least one axis"
        )
    values = as_array(x)
    if values.size and np.isnan(values.min()):
        raise BinaryError("NaN has no sign: train or load the network again")
    single = np.packbits(values < 0, axis=-1, bitorder="little")
    size = math.ceil(values.shape[-1] / WORD) * WORD // 8
    if single.shape[-1] != size:
        fill = [(0, 0)] * (x.ndim - 1) + [(0, size - single.shape[-1])]
        single = np.pad(single, fill)
    return torch.from_numpy(single.view("<u8").astype(np.uint64, copy=False))


def as_array(x: Tensor) -> np.ndarray:
    """Values of any tensor as a contiguous array, shared if it can be.

    Introduced in chapter 6.
    """
    # numpy has no bfloat16, numba no float16.
    if x.dtype in (torch.bfloat16, torch.float16):
        x = x.float()
    return np.ascontiguousarray(x.numpy(force=True))


def pack_filters(weight: Tensor) -> PackedFilters:
    """Signs of ``weight [K, C, height, width]`` of a convolution.

    Raises BinaryError for another number of axes, or as ``pack_signs``.
    Introduced in chapter 6.
    """
    if weight.ndim != 4:
        raise BinaryError(
            f"a weight of shape {list(weight.shape)} is not of a "
            "convolution: give [filters, channels, height, width]"
        )
    count, channels, high, wide = weight.shape
    places = weight.detach().permute(0, 2, 3, 1)
    signs = 1 - 2 * (places < 0).to(torch.int32)
    taps = signs.sum(-1, dtype=torch.int32).reshape(count, -1)
    words = pack_signs(places.reshape(count, -1))
    return PackedFilters(words, taps.T.contiguous(), channels, (high, wide))


def pack_patches(
    x: Tensor, size: tuple[int, int], stride: int = 1, padding: int = 0
) -> PackedPatches:
    """Signs of all patches of ``x [N, C, H, W]`` for a kernel of ``size``.

    Each sign is packed once, then words are put together with shifts.
    ``stride`` and ``padding`` are in pixels, alike in both directions.

    Raises BinaryError for another number of axes, a kernel larger than
    the padded image, a stride below 1, negative padding, or NaN.
    Introduced in chapter 6.
    """
    if x.ndim != 4 or not x.shape[1]:
        raise BinaryError(
            f"images of shape {list(x.shape)}: give [images, channels, "
            "height, width]"
        )
    images, channels, height, width = x.shape
    rows, columns = (
        (side + 2 * padding - k) // stride + 1 if stride > 0 else 0
        for side, k in zip((height, width), size, strict=True)
    )
    if min(rows, columns, padding + 1, *size) < 1:
        raise BinaryError(
            f"a kernel of {size[0]}x{size[1]}, stride {stride} and padding "
            f"{padding} do not fit images of {height}x{width}: take a "
            "smaller kernel, a stride from 1 and a padding from 0"
        )
    count = math.ceil(channels * math.prod(size) / WORD)
    patches = PackedPatches(
        torch.zeros(images * rows * columns, count, dtype=torch.uint64),
        images,
        channels,
        (height, width),
        (rows, columns),
        (size[0], size[1]),
        stride,
        padding,
    )
    out = patches.words.numpy().reshape(images, rows, columns, count)
    signs = _packed_channels(x)
    compiled_loops().gather_patches(signs, channels, patches.geometry, out)
    return patches


def _packed_channels(x: Tensor) -> np.ndarray:
    """uint64 ``[N, H, W, words]`` of ``x [N, C, H, W]``."""
    images, channels, height, width = x.shape
    values = as_array(x).reshape(images, channels, -1)
    shape = (images, math.ceil(channels / WORD), height * width)
    packed = np.zeros(shape, dtype=np.uint64)
    if compiled_loops().pack_channels(values, packed):
        raise BinaryError("NaN has no sign: train or load the network again")
    packed = packed.transpose(0, 2, 1)
    return np.ascontiguousarray(packed).reshape(images, height, width, -1)
