"""Grids: nearest levels, counts, codes; against brute force."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import Tensor

from lq_utils.grids import (
    QUANTIZERS,
    Alphabet,
    Grid,
    GridError,
    alphabet,
    register_quantizer,
)
from lq_utils.registry import UnknownName
from lq_utils.scales import fit_grid

SMALL = [
    ("narrow", 2),
    ("narrow", 4),
    ("symmetric", 2),
    ("symmetric", 5),
    ("mid-tread", 1),
    ("mid-tread", 3),
    ("asymmetric", 1),
    ("asymmetric", 4),
    ("full-range", 1),
    ("full-range", 3),
    ("power-of-two", 2),
    ("power-of-two", 4),
    ("ternary", 2),
    ("binary", 1),
]
WIDE = ["narrow", "symmetric", "mid-tread", "asymmetric", "full-range"]

# Zero, and magnitudes over nine decades.
floats32 = st.one_of(
    st.just(0.0),
    st.floats(2.0**-20, 2.0**10, width=32),
    st.floats(-(2.0**10), -(2.0**-20), width=32),
)
matrices = arrays(np.float32, (3, 7), elements=floats32).map(torch.from_numpy)
granularities = st.sampled_from(["tensor", "channel", "group:3"])
small = st.sampled_from(SMALL).map(lambda pair: alphabet(*pair))


def levels_of(grid: Grid, row: int, column: int) -> np.ndarray:
    """All values of one weight's grid: float64, straight from the text."""
    row = min(row, len(grid.scale) - 1)
    group = 0 if grid.scale.shape[1] == 1 else column // grid.group_size
    scale = float(grid.scale[row, group])
    zero = float(grid.zero_point[row, group])
    return (grid.alphabet.levels().double().numpy() - zero) * scale


def test_every_quantizer_is_tested_here() -> None:
    assert {name for name, _ in SMALL} == set(QUANTIZERS)


@pytest.mark.parametrize(
    ("name", "bits", "levels"),
    [
        ("narrow", 2, [-1, 0, 1]),
        ("narrow", 3, [-3, -2, -1, 0, 1, 2, 3]),
        ("symmetric", 2, [-2, -1, 0, 1]),
        ("mid-tread", 1, [-1, 0, 1]),
        ("mid-tread", 2, [-2, -1, 0, 1, 2]),
        ("asymmetric", 2, [0, 1, 2, 3]),
        ("full-range", 1, [-1, 1]),
        ("full-range", 2, [-3, -1, 1, 3]),
        ("power-of-two", 2, [-1, 0, 1]),
        ("power-of-two", 3, [-1, -0.5, -0.25, 0, 0.25, 0.5, 1]),
        ("ternary", 2, [-1, 0, 1]),
        ("binary", 1, [-1, 1]),
    ],
)
def test_levels_are_those_of_the_definition(
    name: str, bits: int, levels: list[float]
) -> None:
    a = alphabet(name, bits)
    assert a.levels().tolist() == levels
    assert a.count == len(levels)
    assert 2 ** (a.code_bits - 1) < max(a.count, 2) <= 2**a.code_bits


@pytest.mark.parametrize("bits", [2, 3, 8, 31, 32])
def test_the_three_readings_of_b_bits(bits: int) -> None:
    counts = [
        alphabet(name, bits).count
        for name in ("narrow", "symmetric", "mid-tread")
    ]
    assert counts == [2**bits - 1, 2**bits, 2**bits + 1]
    assert alphabet("mid-tread", bits).code_bits == bits + 1
    assert alphabet("symmetric", bits).code_bits == bits


@settings(max_examples=50)
@given(small, matrices, granularities)
def test_rounding_gives_the_nearest_level(
    a: Alphabet, weight: Tensor, granularity: str
) -> None:
    grid = fit_grid(weight, a, granularity)
    rounded = grid.round(weight)
    for (row, column), w in np.ndenumerate(weight.numpy()):
        levels = levels_of(grid, row, column)
        got = float(rounded[row, column])
        assert got in levels.astype(np.float32)
        # A few roundings of float32 may decide a near-tie.
        room = 1e-6 * (abs(float(w)) + np.abs(levels).max())
        assert abs(got - w) <= np.abs(levels - float(w)).min() + room


@pytest.mark.parametrize(("name", "bits"), SMALL)
def test_exact_arithmetic_exact_decisions_ties_up(
    name: str, bits: int
) -> None:
    # Multiples of 1/16 with a scale of 2: nothing is rounded on the way.
    weight = torch.arange(-1000, 1000, dtype=torch.float64).view(2, -1) / 16
    a = alphabet(name, bits)
    zero = torch.full((1, 1), 2.0 if a.affine else 0.0)
    grid = Grid(a, torch.full((1, 1), 2.0), zero, 1000)
    levels = levels_of(grid, 0, 0)
    distance = np.abs(weight.numpy()[..., None] - levels)
    # The last of the minima: ties go up.
    best = levels[len(levels) - 1 - distance[..., ::-1].argmin(axis=-1)]
    assert np.array_equal(grid.round(weight).numpy(), best)
    assert np.array_equal(grid.round(weight.float()).numpy(), best)


@settings(max_examples=50)
@given(small, matrices, granularities)
def test_rounding_twice_is_rounding_once(
    a: Alphabet, weight: Tensor, granularity: str
) -> None:
    grid = fit_grid(weight, a, granularity)
    once = grid.round(weight)
    assert torch.equal(grid.round(once), once)


@settings(max_examples=50)
@given(small, matrices, st.floats(1 / 64, 3, width=32))
def test_never_more_values_than_levels(
    a: Alphabet, weight: Tensor, factor: float
) -> None:
    grid = fit_grid(weight, a, "channel").scaled(factor)
    many = torch.cat([weight, weight * 0.37, weight + factor], dim=1)
    for row in grid.round(many):
        assert len(row.unique()) <= a.count


def assert_round_trip(grid: Grid, rounded: Tensor) -> None:
    codes = grid.codes(rounded)
    assert codes.dtype == torch.int64
    assert 0 <= int(codes.min()) <= int(codes.max()) < grid.alphabet.count
    back = grid.values(codes)
    assert back.dtype == torch.float32
    # Bit for bit, the sign of zero included.
    assert torch.equal(back.view(torch.int32), rounded.view(torch.int32))


@settings(max_examples=50)
@given(small, matrices, granularities, st.booleans())
def test_codes_and_values_round_trip(
    a: Alphabet, weight: Tensor, granularity: str, double: bool
) -> None:
    grid = fit_grid(weight, a, granularity)
    work = weight.double() if double else weight
    assert_round_trip(grid, grid.round(work).float())


@settings(max_examples=50)
@given(
    st.sampled_from(WIDE),
    st.sampled_from([16, 22, 23, 24, 25, 31, 32]),
    matrices,
    st.booleans(),
)
def test_many_bits_are_nearly_the_identity_and_round_trip(
    name: str, bits: int, weight: Tensor, double: bool
) -> None:
    grid = fit_grid(weight, alphabet(name, bits), "channel")
    rounded = grid.round(weight.double() if double else weight).float()
    assert_round_trip(grid, rounded)
    reach = weight.abs().amax(dim=1, keepdim=True)
    step = grid.alphabet.step * grid.scale
    # At most one step; float32 itself is good for 2^-24 of the largest.
    room = step + 2.0**-22 * torch.where(weight == 0, step, reach)
    assert ((rounded - weight).abs() <= room).all()


def test_codes_count_from_the_lowest_level() -> None:
    grid = Grid(
        alphabet("symmetric", 3), torch.tensor([[0.5]]), torch.zeros(1, 1), 8
    )
    values = torch.arange(-4.0, 4.0)[None] * 0.5
    assert grid.codes(values).tolist() == [list(range(8))]


def test_codes_where_another_level_lies_nearer_the_value() -> None:
    # Float32 is twice as fine below 1 as above: level n rounds to 1 from
    # further above than level n - 1, which lies below and does not.
    ulp = 2.0**-23
    for k in range(1000):
        scale = float(np.float32(0.85 * ulp * (1 + 2.0**-20 * k)))
        n = math.ceil(1 / scale)
        above, below = n * scale - 1, 1 - (n - 1) * scale
        if 0.3 * ulp < below < above < 0.5 * ulp:
            break
    grid = Grid(
        alphabet("narrow", 32),
        torch.tensor([[scale]]),
        torch.zeros(1, 1),
        1,
    )
    value = grid.values(torch.tensor([[n + 2**31 - 1]]))
    assert value.item() == 1
    assert grid.values(torch.tensor([[n + 2**31 - 2]])).item() < 1
    assert_round_trip(grid, value)


def test_codes_refuse_values_off_the_grid() -> None:
    grid = Grid(
        alphabet("narrow", 3), torch.tensor([[0.5]]), torch.zeros(1, 1), 3
    )
    off = torch.tensor([[0.5, 0.25, 2.0]])
    with pytest.raises(GridError, match="2 values do not lie"):
        grid.codes(off)


@settings(max_examples=50)
@given(small, matrices, st.integers(0, 6), st.integers(1, 7))
def test_columns_alone_round_as_in_the_whole(
    a: Alphabet, weight: Tensor, start: int, width: int
) -> None:
    grid = fit_grid(weight, a, "group:3")
    columns = slice(start, min(start + width, 7))
    part = grid.round(weight[:, columns], columns)
    assert torch.equal(part, grid.round(weight)[:, columns])


@settings(max_examples=50)
@given(small, matrices, st.sampled_from(["tensor", "channel"]))
def test_rows_and_written_out_scales_change_nothing(
    a: Alphabet, weight: Tensor, granularity: str
) -> None:
    grid = fit_grid(weight, a, granularity)
    rounded = grid.round(weight)
    order = torch.tensor([2, 0])
    assert torch.equal(grid.rows(order).round(weight[order]), rounded[order])
    assert torch.equal(grid.per_row(3).round(weight), rounded)


@pytest.mark.parametrize(
    ("name", "bits"),
    [
        ("narrow", 1),
        ("symmetric", 1),
        ("mid-tread", 0),
        ("asymmetric", 33),
        ("full-range", 0),
        ("power-of-two", 1),
        ("power-of-two", 9),
        ("ternary", 3),
        ("binary", 2),
    ],
)
def test_impossible_bits_are_refused(name: str, bits: int) -> None:
    with pytest.raises(GridError, match=rf"\b{bits}\b|1 to 32|2 to 8"):
        alphabet(name, bits)


def test_unknown_quantizer_names_the_nearest() -> None:
    with pytest.raises(UnknownName, match="did you mean 'symmetric'"):
        alphabet("symetric", 4)


def test_a_students_codebook_is_exact_in_every_precision() -> None:
    # 0.1 and 0.7 differ in float32 and float64; the codebook is float32.
    register_quantizer("mine", replace=True)(
        lambda bits: Alphabet("mine", 3, -0.3, codebook=(-0.3, 0.1, 0.7))
    )
    try:
        a = alphabet("mine", 2)
        assert a.levels().tolist() == list(a.codebook or ())
        weight = torch.linspace(-1, 1, 12, dtype=torch.float64).view(3, 4)
        grid = fit_grid(weight, a)
        assert_round_trip(grid, grid.round(weight).float())
    finally:
        del QUANTIZERS._entries["mine"]


@pytest.mark.parametrize("book", [(0.0, 1.0), (1.0, 0.0, 2.0), (0, 1, 1)])
def test_broken_codebooks_are_refused(book: tuple[float, ...]) -> None:
    with pytest.raises(GridError, match="3 ascending levels"):
        Alphabet("broken", 3, 0.0, codebook=book)
