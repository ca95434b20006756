"""Scale rules: against closed forms and brute force."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import Tensor

from lq_utils.grids import Grid, GridError, alphabet
from lq_utils.registry import UnknownName
from lq_utils.scale_rules import Fit, nearest_power_of_two
from lq_utils.scales import (
    SCALE_RULES,
    fit_grid,
    register_scale_rule,
    scale_shape,
    split_options,
)

QUANTIZERS = [
    ("narrow", 3),
    ("symmetric", 4),
    ("mid-tread", 2),
    ("asymmetric", 3),
    ("full-range", 2),
    ("power-of-two", 3),
    ("ternary", 2),
    ("binary", 1),
]
quantizers = st.sampled_from(QUANTIZERS)
rules = st.sampled_from(["max", "percentile", "mse"])
matrices = arrays(np.float32, (3, 8), elements=st.floats(-4, 4, width=16)).map(
    torch.from_numpy
)


def gaussian(rows: int, columns: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 0.1 * torch.randn(rows, columns, generator=generator)


def squared_error(grid: Grid, weight: Tensor) -> Tensor:
    return (grid.round(weight) - weight).double().square().sum(dim=1)


@settings(max_examples=60)
@given(
    st.sampled_from(["narrow", "symmetric", "mid-tread", "asymmetric"]),
    st.integers(2, 8),
    matrices,
    st.sampled_from(["tensor", "channel", "group:3"]),
)
def test_max_clips_nothing(
    name: str, bits: int, weight: Tensor, granularity: str
) -> None:
    grid = fit_grid(weight, alphabet(name, bits), granularity)
    error = (grid.round(weight) - weight).abs()
    step = grid.scale.expand(3, -1)
    if granularity == "group:3":
        step = step.repeat_interleave(3, dim=1)[:, :8]
    assert (error <= 0.5 * step + 1e-5 * weight.abs().max()).all()


@pytest.mark.parametrize(
    ("name", "bits", "scale", "zero"),
    [
        ("narrow", 3, 6 / 3, 0),
        ("symmetric", 3, 6 / 3, 0),
        ("mid-tread", 3, 6 / 4, 0),
        ("full-range", 2, 6 / 3, 0),
        ("power-of-two", 4, 6, 0),
        ("binary", 1, 6, 0),
        ("asymmetric", 2, 9 / 3, 2),  # -6 ... 3
    ],
)
def test_max_by_hand(name: str, bits: int, scale: float, zero: int) -> None:
    weight = torch.tensor([[3.0, -6.0, 0.5]])
    grid = fit_grid(weight, alphabet(name, bits))
    assert grid.scale.tolist() == [[scale]]
    assert grid.zero_point.tolist() == [[zero]]


def test_affine_range_always_covers_zero() -> None:
    weight = torch.tensor([[2.0, 3.0], [-3.0, -2.0]])
    grid = fit_grid(weight, alphabet("asymmetric", 4))
    assert grid.zero_point.tolist() == [[0], [15]]
    assert torch.equal(grid.round(torch.zeros(2, 2)), torch.zeros(2, 2))


def test_percentile_is_the_quantile() -> None:
    weight = gaussian(4, 101)
    a = alphabet("narrow", 3)
    grid = fit_grid(weight, a, rule="percentile", percentile=90)
    # 101 values: the 90th percentile is the 91st of them.
    expected = weight.abs().sort(dim=1).values[:, 90:91] / 3
    assert torch.allclose(grid.scale, expected, rtol=1e-6)
    whole = fit_grid(weight, a, "tensor", "percentile", percentile=100)
    assert torch.equal(whole.scale, fit_grid(weight, a, "tensor").scale)


def test_affine_percentile_cuts_half_on_each_side() -> None:
    weight = gaussian(1, 201)
    a = alphabet("asymmetric", 8)
    grid = fit_grid(weight, a, rule="percentile", percentile=90)
    ordered = weight[0].sort().values
    low, high = float(ordered[10]), float(ordered[190])
    assert float(grid.scale) == pytest.approx((high - low) / 255)
    assert float(grid.zero_point) == round(-low * 255 / (high - low))


def test_published_radius_is_the_mean_of_the_rows() -> None:
    weight = torch.tensor([[1.0, -2.0], [4.0, 0.5]])
    a = alphabet("mid-tread", 2)
    grid = fit_grid(weight, a, "tensor", "published")
    assert float(grid.scale) == pytest.approx(1.16 * 3 / 2)
    wide = fit_grid(weight, a, "tensor", "published", scalar=2)
    assert float(wide.scale) == pytest.approx(2 * 3 / 2)
    with pytest.raises(GridError, match="granularity='tensor'"):
        fit_grid(weight, a, "channel", "published")


def test_mse_of_signs_is_the_mean_magnitude() -> None:
    # Rastegari et al. 2016: the best scale of sign(w) is mean |w|.
    weight = torch.cat([gaussian(5, 300), 9 * torch.ones(5, 1)], dim=1)
    grid = fit_grid(weight, alphabet("binary", 1), rule="mse")
    expected = weight.abs().mean(dim=1, keepdim=True)
    assert torch.allclose(grid.scale, expected, rtol=1e-5)


@pytest.mark.parametrize("name", ["ternary", "narrow", "power-of-two"])
@pytest.mark.parametrize("seed", range(3))
def test_mse_of_ternary_is_the_best_there_is(name: str, seed: int) -> None:
    # The k largest share one scale, their mean: try every k.
    weight = gaussian(20, 30, seed)
    grid = fit_grid(weight, alphabet(name, 2), rule="mse")
    sums = weight.double().abs().sort(dim=1, descending=True).values
    sums = sums.cumsum(dim=1).square() / torch.arange(1, 31)
    best = weight.double().square().sum(dim=1) - sums.amax(dim=1)
    found = squared_error(grid, weight)
    assert (found >= best * (1 - 1e-6)).all()
    assert (found <= best * 1.02).all()
    assert found.sum() <= best.sum() * 1.002


@pytest.mark.parametrize(("name", "bits"), QUANTIZERS)
@pytest.mark.parametrize("exponent", [2.0, 2.4])
def test_mse_reaches_a_dense_search(
    name: str, bits: int, exponent: float
) -> None:
    weight = gaussian(16, 64)
    a = alphabet(name, bits)
    grid = fit_grid(weight, a, rule="mse", exponent=exponent)

    def error(g: Grid) -> Tensor:
        gap = (g.round(weight) - weight).double().abs()
        return gap.pow(exponent).sum(dim=1)

    start = fit_grid(weight, a)
    dense = torch.stack(
        [error(start.scaled(f)) for f in np.linspace(0.02, 1.4, 1000)]
    )
    found, best = error(grid), dense.amin(dim=0)
    assert (found <= error(start)).all()
    assert found.sum() <= 1.001 * best.sum()
    assert (found <= 1.01 * best).all()


@settings(max_examples=25)
@given(quantizers, matrices, st.sampled_from(["tensor", "channel"]))
def test_mse_is_never_worse_than_max(
    quantizer: tuple[str, int], weight: Tensor, granularity: str
) -> None:
    a = alphabet(*quantizer)
    best = fit_grid(weight, a, granularity, "mse", shrinks=6)
    start = fit_grid(weight, a, granularity)
    if granularity == "tensor":
        # The least total, not the least of every row.
        assert squared_error(best, weight).sum() <= (
            squared_error(start, weight).sum() * (1 + 1e-9)
        )
    else:
        assert (
            squared_error(best, weight)
            <= squared_error(start, weight) * (1 + 1e-9)
        ).all()


@settings(max_examples=40)
@given(quantizers, matrices, rules, st.sampled_from([0.25, 8.0]))
def test_scales_follow_the_weights(
    quantizer: tuple[str, int], weight: Tensor, rule: str, factor: float
) -> None:
    # Zero rows keep their fixed scale, so they are left out.
    weight = weight[weight.abs().amax(dim=1) > 1e-3]
    if not len(weight):
        return
    options: dict[str, Any] = {"shrinks": 8} if rule == "mse" else {}
    a = alphabet(*quantizer)
    grid = fit_grid(weight, a, "channel", rule, **options)
    other = fit_grid(factor * weight, a, "channel", rule, **options)
    flat = grid.scale < 1e-20  # more than half zero: percentile may be 0
    assert torch.equal(factor * grid.scale[~flat], other.scale[~flat])
    assert torch.equal(grid.zero_point[~flat], other.zero_point[~flat])


@given(st.floats(2.0**-60, 2.0**60))
def test_nearest_power_of_two_is_the_formula(scale: float) -> None:
    found = float(nearest_power_of_two(torch.tensor([scale]).double()))
    assert math.log2(found).is_integer()
    below = 2.0 ** math.floor(math.log2(scale))
    gap = min(abs(scale - below), abs(2 * below - scale))
    assert abs(found - scale) == gap
    if scale == 1.5 * below:
        assert found == 2 * below


@pytest.mark.parametrize("rule", ["max", "percentile", "mse"])
@pytest.mark.parametrize(("name", "bits"), QUANTIZERS)
def test_scales_can_be_powers_of_two(name: str, bits: int, rule: str) -> None:
    weight = gaussian(6, 40)
    a = alphabet(name, bits)
    grid = fit_grid(weight, a, rule=rule, power_of_two=True)
    mantissa, _ = torch.frexp(grid.scale)
    assert (mantissa == 0.5).all()


@pytest.mark.parametrize(("name", "bits"), QUANTIZERS)
def test_mse_finds_the_best_power_of_two(name: str, bits: int) -> None:
    weight = gaussian(6, 40)
    a = alphabet(name, bits)
    found = fit_grid(weight, a, rule="mse", power_of_two=True)
    # Every power of two, with the zero point that belongs to it.
    low, high = weight.amin(dim=1), weight.amax(dim=1)
    tried = []
    for exponent in range(-12, 3):
        scale = torch.full((6, 1), 2.0**exponent)
        zero = torch.zeros(6, 1)
        if a.affine:
            shrink = scale[:, 0] * a.reach / (high - low)
            zero = torch.round(-low * shrink / scale[:, 0])[:, None]
        tried.append(squared_error(Grid(a, scale, zero, 40), weight))
    best = torch.stack(tried).amin(dim=0)
    room = 1.05 if a.affine else 1 + 1e-9
    assert (squared_error(found, weight) <= room * best).all()


@settings(max_examples=25)
@given(quantizers, matrices, rules, st.integers(1, 9))
def test_groups_are_fitted_one_by_one(
    quantizer: tuple[str, int], weight: Tensor, rule: str, size: int
) -> None:
    a = alphabet(*quantizer)
    options: dict[str, Any] = {"shrinks": 5} if rule == "mse" else {}
    grid = fit_grid(weight, a, f"group:{size}", rule, **options)
    assert grid.scale.shape == scale_shape(3, 8, f"group:{size}")
    for k, part in enumerate(weight.split(size, dim=1)):
        alone = fit_grid(part, a, "channel", rule, **options)
        assert torch.equal(grid.scale[:, k : k + 1], alone.scale)
        assert torch.equal(grid.zero_point[:, k : k + 1], alone.zero_point)


def test_one_scale_for_the_tensor() -> None:
    weight = gaussian(3, 8)
    for rule in ("max", "percentile", "mse"):
        grid = fit_grid(weight, alphabet("narrow", 3), "tensor", rule)
        flat = fit_grid(
            weight.reshape(1, -1), alphabet("narrow", 3), "channel", rule
        )
        assert torch.equal(grid.scale, flat.scale)
        assert grid.scale.shape == scale_shape(3, 8, "tensor") == (1, 1)


@pytest.mark.parametrize(("name", "bits"), QUANTIZERS)
@pytest.mark.parametrize("rule", ["max", "percentile", "mse"])
@pytest.mark.parametrize("tiny", [0.0, 1e-44])
def test_zero_rows_stay_zero(
    name: str, bits: int, rule: str, tiny: float
) -> None:
    weight = gaussian(3, 8)
    weight[1] = tiny
    a = alphabet(name, bits)
    grid = fit_grid(weight, a, rule=rule)
    rounded = grid.round(weight)
    assert torch.isfinite(rounded).all()
    if name in ("full-range", "binary"):
        assert rounded[1].abs().max() < 1e-29
        assert (rounded[1] != 0).all()
    else:
        assert (rounded[1] == 0).all()
        assert float(grid.scale[1]) == 1
    assert torch.equal(grid.values(grid.codes(rounded)), rounded)
    whole = fit_grid(torch.zeros(2, 2), a, "tensor", rule)
    assert whole.round(torch.zeros(2, 2)).abs().max() < 1e-29


def test_wrong_weights_are_refused() -> None:
    a = alphabet("narrow", 3)
    for wrong in (math.nan, math.inf):
        weight = gaussian(2, 3)
        weight[1, 1] = wrong
        with pytest.raises(GridError, match="NaN or infinite"):
            fit_grid(weight, a)
    with pytest.raises(GridError, match=r"flatten\(1\)"):
        fit_grid(torch.zeros(2, 3, 3, 3), a)
    with pytest.raises(GridError, match="must be"):
        fit_grid(torch.zeros(0, 3), a)
    with pytest.raises(GridError, match="too large"):
        fit_grid(torch.tensor([[3e38, -3e38]]), alphabet("asymmetric", 1))


@pytest.mark.parametrize(
    "granularity", ["row", "group", "group:", "group:0", "group:-4", "Tensor"]
)
def test_unknown_granularity_is_refused(granularity: str) -> None:
    with pytest.raises(GridError, match="'group:64'"):
        fit_grid(torch.ones(2, 2), alphabet("narrow", 3), granularity)


@pytest.mark.parametrize(
    ("rule", "options"),
    [
        ("percentile", {"percentile": 0}),
        ("percentile", {"percentile": 101}),
        ("published", {"scalar": -1.0}),
        ("mse", {"exponent": 0}),
        ("mse", {"shrinks": 1}),
        ("mse", {"narrowest": 1}),
        ("max", {"percentile": 99}),
        ("output", {}),
    ],
)
def test_wrong_options_are_refused(rule: str, options: dict[str, Any]) -> None:
    name = next(iter(options), "search_scale")
    with pytest.raises(GridError, match=name):
        fit_grid(
            torch.ones(1, 2), alphabet("narrow", 3), "tensor", rule, **options
        )


def test_unknown_rule_names_the_nearest() -> None:
    with pytest.raises(UnknownName, match="did you mean 'percentile'"):
        fit_grid(torch.ones(1, 2), alphabet("narrow", 3), rule="percentil")


def test_options_are_split_between_rule_and_solver() -> None:
    options = {"percentile": 99, "damping": 0.1, "power_of_two": True}
    mine, others = split_options("percentile", options)
    assert mine == {"percentile": 99, "power_of_two": True}
    assert others == {"damping": 0.1}
    assert split_options("output", options) == ({}, options)


def test_a_students_rule_joins_in() -> None:
    @register_scale_rule("three-sigma", replace=True)
    def three_sigma(
        rows: Tensor, fit: Fit, times: float = 3.0
    ) -> tuple[Tensor, Tensor]:
        radius = times * rows.std(dim=1)
        return -radius, radius

    try:
        weight = gaussian(2, 50)
        grid = fit_grid(
            weight, alphabet("narrow", 3), rule="three-sigma", times=2.0
        )
        expected = 2 * weight.std(dim=1, keepdim=True) / 3
        assert torch.allclose(grid.scale, expected)
    finally:
        del SCALE_RULES._entries["three-sigma"]
