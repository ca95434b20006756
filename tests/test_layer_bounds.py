"""Running errors and worst cases against loops and random searches."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from lq_utils.grams import gram_statistics
from lq_utils.graph import weight_matrix
from lq_utils.grids import Grid, GridError, alphabet
from lq_utils.layer_bounds import (
    layer_errors,
    layer_patches,
    row_steps,
    running_error,
    worst_case,
)
from lq_utils.lockstep import quantize
from lq_utils.plans import Plan
from lq_utils.scales import fit_grid
from lq_utils.solvers import gpfq


def draw(seed: int, *shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def wide_grid(weight: torch.Tensor, bits: int, room: float = 6.0) -> Grid:
    """A channel grid so wide that feedback never reaches its end."""
    return fit_grid(weight, alphabet("mid-tread", bits)).scaled(room)


def test_running_error_is_the_error_of_the_first_columns():
    w, q, x, a = draw(0, 3, 5), draw(1, 3, 5), draw(2, 7, 5), draw(3, 7, 5)
    found = running_error(w, q, x, a).numpy()
    W, Q, X, A = (v.numpy() for v in (w, q, x, a))
    for t in range(1, 6):
        away = A[:, :t] @ W[:, :t].T - X[:, :t] @ Q[:, :t].T
        assert found[t - 1] == pytest.approx(np.linalg.norm(away))
    same = running_error(w, q, x)
    assert torch.allclose(same, running_error(w, q, x, x))


def test_worst_case_by_hand():
    # One row, step 0.5; columns of norm 3 and 4; drifts of 0 and 1.
    x = torch.tensor([[3.0, 0.0], [0.0, 4.0]], dtype=torch.float64)
    a = torch.tensor([[3.0, 0.0], [0.0, 5.0]], dtype=torch.float64)
    w = torch.tensor([[0.7, -0.2]], dtype=torch.float64)
    scale = torch.tensor([[0.5]])
    grid = Grid(alphabet("mid-tread", 3), scale, torch.zeros(1, 1), 2)
    assert worst_case(w, grid, x).tolist() == pytest.approx([0.75, 1.25])
    drifted = worst_case(w, grid, x, a).tolist()
    assert drifted == pytest.approx([0.75, 1.25 + 0.2])


@settings(max_examples=60)
@given(
    seed=st.integers(0, 10**6),
    patches=st.integers(1, 12),
    columns=st.integers(1, 9),
    bits=st.integers(4, 7),
    drift=st.sampled_from([0.0, 0.1, 1.0]),
)
def test_gpfq_never_exceeds_the_worst_case(
    seed: int, patches: int, columns: int, bits: int, drift: float
) -> None:
    w, a = draw(seed, 2, columns), draw(seed + 1, patches, columns)
    x = a + drift * draw(seed + 2, patches, columns)
    grid = wide_grid(w, bits, 40.0)
    q = gpfq(w, gram_statistics(x, a), grid)
    reach = grid.alphabet.highest * grid.scale
    if (q.abs() >= reach * (1 - 1e-6)).any():
        return  # something may have been clipped: no promise
    error, bound = running_error(w, q, x, a), worst_case(w, grid, x, a)
    assert (error <= bound * (1 + 1e-9) + 1e-12).all()


def test_the_bound_without_drift_is_reached():
    # Orthogonal columns and weights halfway between levels: equality.
    x = torch.diag(torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64))
    grid = Grid(
        alphabet("mid-tread", 3), torch.ones(1, 1), torch.zeros(1, 1), 3
    )
    w = torch.tensor([[0.5, 1.5, -0.5]], dtype=torch.float64)
    q = gpfq(w, gram_statistics(x, x), grid)
    error, bound = running_error(w, q, x), worst_case(w, grid, x)
    assert torch.allclose(error, bound)


def test_clipping_breaks_the_bound():
    # The assumption is needed: a weight beyond the levels is far off.
    x = torch.ones(1, 1, dtype=torch.float64)
    w = torch.tensor([[9.0]], dtype=torch.float64)
    grid = Grid(
        alphabet("mid-tread", 2), torch.ones(1, 1), torch.zeros(1, 1), 1
    )
    q = gpfq(w, gram_statistics(x, x), grid)
    assert running_error(w, q, x)[-1] > worst_case(w, grid, x)[-1]


def test_steps_of_grids():
    w = draw(0, 3, 4)
    odd = fit_grid(w, alphabet("full-range", 2))
    steps = row_steps(odd, 3)
    levels = odd.alphabet.levels().double()
    assert torch.allclose(steps, odd.scale.double() * levels.diff()[0])
    assert row_steps(fit_grid(w, alphabet("narrow", 3), "tensor"), 3).shape
    for grid in (
        fit_grid(w, alphabet("power-of-two", 3)),
        fit_grid(w, alphabet("narrow", 3), "group:2"),
    ):
        with pytest.raises(GridError, match="evenly spaced"):
            row_steps(grid, 3)


class Small(nn.Module):
    """Strided, grouped and linear layers in a row."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.second = nn.Conv2d(4, 6, 3, groups=2, bias=False)
        self.last = nn.Linear(6 * 2 * 2, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.norm(self.first(x)))
        return self.last(torch.relu(self.second(x)).flatten(1))


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    return Small().eval()


@pytest.mark.parametrize("fold", [False, True])
def test_errors_of_a_network(network: nn.Module, fold: bool):
    images = draw(5, 6, 3, 8, 8).float()
    plan = Plan.uniform(network, 6, quantizer="mid-tread", scale="max")
    quantized = quantize(network, plan, images, fold=fold)
    table = layer_errors(network, quantized, images)
    assert table["layer"].tolist() == ["first", "second", "last"]
    assert table["columns"].tolist() == [27, 18, 24]
    assert table["patches"].tolist() == [6 * 16, 6 * 4, 6]
    assert (table["relative_error"] > 0).all()
    assert (table["relative_error"] <= table["bound"]).all()
    # Calibration measures the same errors on its own way.
    assert table["relative_error"].to_numpy() == pytest.approx(
        quantized.layers["relative_error"].to_numpy(), rel=1e-3
    )


def test_patches_of_a_layer(network: nn.Module):
    images = draw(6, 2, 3, 8, 8).float()
    weight, x = layer_patches(network, "first", images, 1000, 0)
    assert weight.shape == (4, 27) and x.shape == (2 * 16, 27)
    outputs = x @ weight.T + network.first.bias
    direct = network.first(images).permute(0, 2, 3, 1).reshape(-1, 4)
    left, right = (v.sort(dim=0).values for v in (outputs, direct))
    assert torch.allclose(left, right, atol=1e-5)
    half, few = layer_patches(network, "second", images, 3, 0)
    assert half.shape == (3, 18) and few.shape == (3, 18)
    assert torch.equal(half, weight_matrix(network.second)[:3])
