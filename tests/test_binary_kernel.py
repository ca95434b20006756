"""Products of packed signs are those of torch, bit by bit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from lq_utils import binary_kernel as bk

COUNTS = st.integers(1, 9)
COLUMNS = st.sampled_from([1, 63, 64, 65, 128, 300, 767, 769, 900])


def signs(seed: int, *shape: int) -> Tensor:
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.choice([-1.0, 1.0], shape)).float()


@settings(max_examples=40)
@given(COUNTS, st.integers(1, 9), COLUMNS, st.integers(1, 3), COUNTS)
def test_linear_is_the_float_product(
    many: int, rows: int, columns: int, threads: int, seed: int
) -> None:
    x, w = signs(seed, many, columns), signs(seed + 1, rows, columns)
    packed = bk.pack_signs(x), bk.pack_signs(w)
    found = bk.binary_linear(*packed, columns, threads)
    assert found.dtype == torch.int32
    assert torch.equal(found, F.linear(x, w).int())


def test_linear_of_many_tiles_and_of_no_rows() -> None:
    x, w = signs(0, 3, 4096), signs(1, 129, 4096)
    words = bk.pack_signs(x), bk.pack_signs(w)
    assert torch.equal(bk.binary_linear(*words, 4096), F.linear(x, w).int())
    for few, many in ((words[0][:0], words[1]), (words[0], words[1][:0])):
        shape = (len(few), len(many))
        assert bk.binary_linear(few, many, 4096).shape == shape


def test_rows_that_differ_everywhere_and_nowhere() -> None:
    x = signs(0, 1, 200)
    words = bk.pack_signs(torch.cat([x, -x]))
    assert bk.binary_linear(words[:1], words, 200).tolist() == [[200, -200]]


def test_signs_are_bits() -> None:
    x = torch.ones(2, 70)
    x[0, 0] = x[0, 2] = x[1, 63] = x[1, 69] = -1
    words = bk.pack_signs(x).numpy()
    assert words.dtype == np.uint64
    assert words.tolist() == [[5, 0], [2**63, 2**5]]
    # Zeros are +1, the smallest numbers below zero -1.
    tiny = torch.tensor([0.0, -0.0, -5e-324, 5e-324], dtype=torch.float64)
    assert bk.pack_signs(tiny).numpy().tolist() == [4]
    whole = torch.tensor([[-1, 0, 3, -2]])
    for dtype in (torch.int8, torch.int64, torch.float16, torch.bfloat16):
        assert bk.pack_signs(whole.to(dtype)).numpy().tolist() == [[9]]
    assert bk.pack_signs(whole.repeat(5, 1, 1).mT).shape == (5, 4, 1)
    assert bk.pack_signs(torch.empty(3, 0)).shape == (3, 0)


@settings(max_examples=50)
@given(
    channels=st.sampled_from([1, 3, 7, 21, 32, 63, 64, 65, 130]),
    filters=st.integers(1, 5),
    size=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    shape=st.tuples(st.integers(2, 6), st.integers(2, 6)),
    stride=st.integers(1, 3),
    padding=st.integers(1, 3),
    seed=COUNTS,
)
def test_convolution_is_that_with_padding_by_zeros(
    channels: int,
    filters: int,
    size: tuple[int, int],
    shape: tuple[int, int],
    stride: int,
    padding: int,
    seed: int,
) -> None:
    x = signs(seed, 2, channels, *shape)
    w = signs(seed + 1, filters, channels, *size)
    patches = bk.pack_patches(x, size, stride, padding)
    found = bk.binary_convolution(patches, bk.pack_filters(w))
    expected = F.conv2d(x, w, stride=stride, padding=padding)
    assert torch.equal(found, expected.int())


def test_convolution_takes_signs_of_any_values() -> None:
    x = torch.randn(3, 32, 9, 8, generator=torch.Generator().manual_seed(0))
    x[0, :, 0] = 0.0
    w = torch.randn(64, 32, 3, 3, generator=torch.Generator().manual_seed(1))
    patches = bk.pack_patches(x.mT.contiguous().mT, (3, 3))
    found = bk.binary_convolution(patches, bk.pack_filters(w), threads=2)
    plus = [torch.where(t < 0, -1.0, 1.0) for t in (x, w)]
    assert torch.equal(found, F.conv2d(*plus).int())
    assert patches.words.shape == (3 * 7 * 6, 5)
    half = bk.pack_patches(x.half(), (3, 3))
    assert torch.equal(half.words, patches.words)


def test_patches_hold_no_more_bits_than_signs() -> None:
    patches = bk.pack_patches(-torch.ones(1, 21, 3, 3), (3, 3))
    ones = [int(word).bit_count() for word in patches.words[0].numpy()]
    assert ones == [64, 64, 9 * 21 - 128]


def test_refuses_what_does_not_fit() -> None:
    words = bk.pack_signs(torch.ones(2, 100))
    with pytest.raises(bk.BinaryError, match="do not hold 200 columns"):
        bk.binary_linear(words, words, 200)
    with pytest.raises(bk.BinaryError, match="inputs are torch.float32"):
        bk.binary_linear(torch.ones(2, 2), words, 100)
    with pytest.raises(bk.BinaryError, match="0 threads"):
        bk.binary_linear(words, words, 100, threads=0)
    for value in (torch.tensor(1.0), torch.ones(2, dtype=torch.complex64)):
        with pytest.raises(bk.BinaryError, match="give real values"):
            bk.pack_signs(value)
    missing = torch.full((1, 1, 3, 3), torch.nan)
    for pack in (bk.pack_signs, lambda x: bk.pack_patches(x, (1, 1))):
        with pytest.raises(bk.BinaryError, match="NaN has no sign"):
            pack(missing)
    with pytest.raises(bk.BinaryError, match="not of a convolution"):
        bk.pack_filters(torch.ones(2, 3))
    with pytest.raises(bk.BinaryError, match="give .images, channels"):
        bk.pack_patches(torch.ones(2, 3), (1, 1))
    images, filters = torch.ones(1, 3, 4, 4), torch.ones(2, 4, 3, 3)
    for wrong in (((5, 3), 1, 0), ((3, 3), 0, 1), ((3, 3), 1, -1)):
        with pytest.raises(bk.BinaryError, match="take a smaller kernel"):
            bk.pack_patches(images, *wrong)
    patches = bk.pack_patches(images, (3, 3))
    with pytest.raises(bk.BinaryError, match="patches of 3 channels"):
        bk.binary_convolution(patches, bk.pack_filters(filters))
