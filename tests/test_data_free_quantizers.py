"""Every quantizer of chapter 7 against its formula, in float64."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import Tensor, nn

from lq_utils.data_free import round_weights
from lq_utils.data_free_study import scheme_plan
from lq_utils.grids import GridError, alphabet
from lq_utils.power_of_two import PowerOfTwo
from lq_utils.scales import fit_grid
from lq_utils.weight_statistics import (
    StatisticsError,
    network_statistics,
    rounding_statistics,
    summarised,
)

# Numbers of few digits: no formula meets a border by its own rounding.
rows = arrays(
    np.float64, (2, 9), elements=st.integers(-999, 999).map(lambda k: k / 64)
)
bits = st.integers(2, 8)


def near_border(steps: np.ndarray) -> bool:
    """Whether some weight lies within rounding of halfway between levels."""
    return bool((np.abs(steps % 1 - 0.5) < 1e-6).any())


def rounded(weight: np.ndarray, name: str, b: int, rule: str = "max"):
    grid = fit_grid(
        torch.from_numpy(weight), alphabet(name, b), "tensor", rule
    )
    return grid.round(torch.from_numpy(weight)).numpy()


def assert_close(found: np.ndarray, wanted: np.ndarray) -> None:
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


@settings(max_examples=80)
@given(rows, bits)
def test_asymmetric(weight: np.ndarray, b: int) -> None:
    low, high = min(weight.min(), 0.0), max(weight.max(), 0.0)
    step = (high - low) / (2**b - 1) or 1.0
    zero = math.floor(-low / step + 0.5)
    if near_border(weight / step + zero) or near_border(
        np.array([-low / step])
    ):
        return
    code = np.clip(np.floor(weight / step + zero + 0.5), 0, 2**b - 1)
    found = rounded(weight, "asymmetric", b)
    assert_close(found, (code - zero) * step)
    assert len(np.unique(found)) <= 2**b
    assert (found[weight == 0] == 0).all()


@settings(max_examples=80)
@given(rows, bits)
def test_symmetric_restricted(weight: np.ndarray, b: int) -> None:
    top = 2 ** (b - 1) - 1
    step = np.abs(weight).max() / top or 1.0
    if near_border(weight / step):
        return
    wanted = step * np.clip(np.floor(weight / step + 0.5), -top, top)
    found = rounded(weight, "narrow", b)
    assert_close(found, wanted)
    assert len(np.unique(found)) <= 2**b - 1
    assert (found[weight == 0] == 0).all()
    # The rule "max" never needs the level that "symmetric" has more.
    assert_close(rounded(weight, "symmetric", b), wanted)


@settings(max_examples=80)
@given(rows, bits)
def test_symmetric_full(weight: np.ndarray, b: int) -> None:
    half = 2 ** (b - 1)
    step = np.abs(weight).max() / ((2**b - 1) / 2) or 1.0
    steps = weight / step
    # The largest weight lies exactly between two levels, by the rule.
    inner = np.abs(steps) < half - 0.6
    if near_border(steps[inner]):
        return
    found = rounded(weight, "symmetric", b, "whole")
    wanted = step * np.clip(np.floor(steps + 0.5), -half, half - 1)
    assert_close(found[inner], wanted[inner])
    assert (np.abs(found - weight) <= 0.5 * step + 1e-5).all()
    assert (found[weight == 0] == 0).all()


def nearest_power(w: float, largest: int, smallest: int) -> float:
    """Borders at 1.5 times a power, and at half of the smallest one."""
    size = abs(w)
    if size < 2.0 ** (smallest - 1):
        return 0.0
    for e in range(smallest, largest):
        if size < 1.5 * 2.0**e:
            return math.copysign(2.0**e, w)
    return math.copysign(2.0**largest, w)


@settings(max_examples=80)
@given(rows, bits)
def test_powers_of_two(weight: np.ndarray, b: int) -> None:
    found = PowerOfTwo(b)(torch.from_numpy(weight).float()).numpy()
    peak = np.abs(weight).max()
    if peak == 0:
        assert (found == 0).all()
        return
    largest = math.floor(math.log2(4 * peak / 3))
    smallest = largest - (2 ** (b - 1) - 2)
    for w, q in zip(weight.flat, found.flat, strict=True):
        wanted = nearest_power(w, largest, smallest)
        borders = abs(w) * 2.0**-smallest
        on_border = borders in (0.5, *(1.5 * 2.0**k for k in range(130)))
        assert q == wanted or on_border
    assert len(np.unique(found)) <= 2**b - 1
    assert (found[weight == 0] == 0).all()


def test_powers_of_two_by_hand() -> None:
    weight = torch.tensor([[1.4, 0.76, 0.74, 0.38, 0.37, 0.13, 0.12, -1.0]])
    found = PowerOfTwo(3)(weight)
    # Levels 1, 1/2, 1/4; borders 3/4, 3/8 and 1/8.
    wanted = [1, 1, 0.5, 0.5, 0.25, 0.25, 0, -1]
    assert found.tolist() == [wanted]
    assert PowerOfTwo(2)(weight).abs().unique().tolist() == [0, 1]


def test_gradients_of_powers_of_two_go_straight_through() -> None:
    weight = torch.tensor([[1.4, -0.3, 0.01]], requires_grad=True)
    PowerOfTwo(3, "channel")(weight).backward(torch.tensor([[1.0, 2.0, 3.0]]))
    assert weight.grad is not None
    assert weight.grad.tolist() == [[1, 2, 3]]


@pytest.mark.parametrize("name", ["asymmetric", "narrow", "power-of-two"])
@pytest.mark.parametrize("value", [0.0, 0.7, -0.7])
def test_constant_weights_stay(name: str, value: float) -> None:
    assert_close(
        rounded(np.full((2, 3), value), name, 3), np.full((2, 3), value)
    )


@pytest.mark.parametrize("b", [1, 9])
def test_bits_that_powers_of_two_do_not_have(b: int) -> None:
    with pytest.raises(GridError):
        PowerOfTwo(b)


# Statistics


def test_statistics_by_hand() -> None:
    before = torch.tensor([[0.0, 1.0, 2.0, 3.0, 4.0], [1.0] * 5])
    after = torch.tensor([[0.0, 0.0, 2.0, 2.0, 4.0], [0.0] * 5])
    found = rounding_statistics(before, after)
    first, second = found.to_dict("records")
    assert (first["q1"], first["median"], first["q3"]) == (1, 2, 3)
    assert (first["q1_after"], first["median_after"]) == (0, 2)
    assert first["range_kept"] == 1 and first["zeros"] == 0.4
    assert first["zeros_before"] == 0.2
    # Means 2 and 1.6; variance 2.
    assert math.isclose(first["mean_shift"], -0.4 / math.sqrt(2))
    assert math.isclose(first["sqnr_db"], 10 * math.log10(30 / 2))
    assert np.isnan(second["range_kept"]) and second["sqnr_db"] == 0
    short = summarised(found)
    assert short["lost"] == 0.5 and math.isclose(short["zeros"], 0.7)


def test_statistics_of_a_tensor_and_of_nothing_changed() -> None:
    weight = torch.randn(
        4, 3, 3, 3, generator=torch.Generator().manual_seed(0)
    )
    (row,) = rounding_statistics(weight, weight, "tensor").to_dict("records")
    assert row["channel"] == -1 and row["weights"] == 108
    assert row["sqnr_db"] == math.inf and row["mean_shift"] == 0
    assert row["median"] == pytest.approx(np.median(weight.numpy()))


def test_noise_of_a_uniform_grid_falls_by_six_decibel_a_bit() -> None:
    weight = torch.rand(1, 20_000, generator=torch.Generator().manual_seed(0))
    found = {}
    for b in (6, 7):
        grid = fit_grid(weight, alphabet("asymmetric", b))
        table = rounding_statistics(weight, grid.round(weight))
        found[b] = table["sqnr_db"].item()
    assert found[7] - found[6] == pytest.approx(20 * math.log10(2), abs=0.2)
    # Uniform on [0, 1]: signal 1/3, noise step^2 / 12.
    assert found[6] == pytest.approx(10 * math.log10(4 * 63**2), abs=0.1)


@pytest.mark.parametrize(
    ("before", "after", "per"),
    [
        (torch.ones(2, 3), torch.ones(3, 2), "channel"),
        (torch.ones(2, 0), torch.ones(2, 0), "channel"),
        (torch.ones(2, 3), torch.ones(2, 3), "row"),
        (torch.full((2, 3), math.nan), torch.ones(2, 3), "tensor"),
    ],
)
def test_weights_that_cannot_be_compared(
    before: Tensor, after: Tensor, per: str
) -> None:
    with pytest.raises(StatisticsError):
        rounding_statistics(before, after, per)


class Folded(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.fc = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.norm(self.conv(x)).mean((2, 3)))


def test_statistics_of_a_network_are_of_its_folded_weights() -> None:
    torch.manual_seed(0)
    network = Folded().eval()
    with torch.no_grad():
        network.norm.weight[1] = 5.0
    plan = scheme_plan(network, 4, "narrow", "channel", "max", full=["fc"])
    found = network_statistics(
        network, round_weights(network, plan), "channel"
    )
    assert found["layer"].tolist() == ["conv"] * 4
    row = network.conv.weight[1].detach() * 5 / math.sqrt(1 + network.norm.eps)
    assert found["high"][1] == pytest.approx(row.max().item(), rel=1e-5)
    none = scheme_plan(network, None, "narrow", "channel", "max")
    with pytest.raises(StatisticsError, match="no layer"):
        network_statistics(network, round_weights(network, none))


def test_per_channel_rows_are_those_of_each_channel() -> None:
    weight = torch.randn(3, 5, generator=torch.Generator().manual_seed(1))
    after = weight.round()
    all_rows = rounding_statistics(weight, after)
    one = rounding_statistics(weight[1:2], after[1:2]).assign(channel=1)
    pd.testing.assert_frame_equal(
        all_rows.iloc[1:2].reset_index(drop=True), one, check_dtype=False
    )
