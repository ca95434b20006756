"""Edges of every registered method: a known result, or a clear error.

The loops run over the registries, so that a method of yours is held to
the same.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from edge_samples import INF, NAN, needed
from task_samples import Small, part, small_network
from torch import Tensor

from lq_utils.codebooks import codebook_network
from lq_utils.grams import Statistics, gram_statistics
from lq_utils.grids import QUANTIZERS, Alphabet, GridError, alphabet
from lq_utils.inference import to_input
from lq_utils.lockstep import CalibrationError, quantize
from lq_utils.models import MODELS, register_model
from lq_utils.parametrizations import CompressionError
from lq_utils.plans import Plan
from lq_utils.scales import SCALE_RULES, fit_grid
from lq_utils.solvers import SOLVERS, SolverError

LARGEST_OFF = 2.0**-90  # of a row of zeros on a grid without zero


def letters(name: str) -> Alphabet:
    """The smallest alphabet of a quantizer."""
    for bits in range(1, 9):
        try:
            return alphabet(name, bits)
        except GridError:
            continue
    raise AssertionError(f"{name} takes none of 1 to 8 bits")


@pytest.fixture(scope="module", autouse=True)
def small_model() -> Iterator[None]:
    register_model("small", replace=True)(Small)
    yield
    del MODELS._entries["small"]


# -- grids -------------------------------------------------------------------


@pytest.mark.parametrize("rule", SCALE_RULES.names())
@pytest.mark.parametrize("name", QUANTIZERS.names())
def test_flat_weights(name: str, rule: str) -> None:
    a = letters(name)
    for value in (0.0, 0.75, -0.75, 1e-42, 1e30):
        weight = torch.full((2, 3), value)
        grid = fit_grid(weight, a, "tensor", rule)
        rounded = grid.round(weight)
        assert torch.equal(grid.values(grid.codes(rounded)), rounded)
        if abs(value) < 1e-40:
            assert rounded.abs().max() <= max(LARGEST_OFF, abs(value))
        elif rule in ("max", "percentile", "mse"):
            torch.testing.assert_close(rounded, weight)
    for bad in (NAN, INF):
        with pytest.raises(GridError, match="NaN or infinite .*: train"):
            fit_grid(torch.tensor([[1.0, bad]]), a, "tensor", rule)


# -- solvers -----------------------------------------------------------------


def solve(name: str, weight: Tensor, statistics: Statistics) -> Tensor:
    a = alphabet("mid-tread", 3)
    grid = fit_grid(weight, a, "tensor", "max")
    solver = SOLVERS.get(name)
    found = solver(weight, statistics, grid, **needed(solver))
    assert torch.equal(grid.values(grid.codes(found)), found)
    return found


ON_GRID = torch.tensor([[1.0, -0.5, 0.25, 0.0], [-1.0, 0.75, 0.5, -0.25]])


def inputs(kind: str) -> Tensor:
    """Patches ``[m, 4]``, every column alive."""
    seen = torch.linspace(0.5, 2, 20).reshape(5, 4)
    return {
        "one patch": seen[:1],
        "fewer patches than columns": seen[:3],
        "the same patch again": seen[:1].expand(5, -1),
        "one column for all": seen[:, :1].expand(-1, 4),
        "columns of one value": torch.ones(5, 4),
        "tiny": 1e-12 * seen,
    }[kind]


@pytest.mark.parametrize("kind", [
    "one patch", "fewer patches than columns", "the same patch again",
    "one column for all", "columns of one value", "tiny",
])  # fmt: skip
@pytest.mark.parametrize("name", SOLVERS.names())
def test_what_is_on_the_grid_stays(name: str, kind: str) -> None:
    x = inputs(kind)
    assert torch.equal(solve(name, ON_GRID, gram_statistics(x, x)), ON_GRID)
    flat = torch.full((2, 4), 0.75)
    assert torch.equal(solve(name, flat, gram_statistics(x, x)), flat)
    zero = torch.zeros(2, 4)
    assert torch.equal(solve(name, zero, gram_statistics(x, x)), zero)


@pytest.mark.parametrize("bad", [NAN, INF])
@pytest.mark.parametrize("name", SOLVERS.names())
def test_solvers_never_return_what_is_no_number(name: str, bad: float) -> None:
    x, solver = inputs("one patch"), SOLVERS.get(name)
    grid = fit_grid(ON_GRID, alphabet("mid-tread", 3), "tensor", "max")
    wrong = ON_GRID.clone()
    wrong[0, 1] = bad
    seen = torch.full((1, 4), bad)
    for weight, statistics in (
        (wrong, gram_statistics(x, x)),
        (ON_GRID, gram_statistics(seen, seen)),
        (ON_GRID, gram_statistics(x, seen)),
    ):
        try:
            found = solver(weight, statistics, grid, **needed(solver))
        except SolverError as error:
            assert "train or load the network again" in str(error)
        else:
            # Looks at no inputs: those of the grid stay where they are.
            assert torch.equal(found, ON_GRID)


@pytest.mark.parametrize("name", SOLVERS.names())
def test_a_batch_of_one_image(name: str) -> None:
    network = small_network()
    options = tuple(needed(SOLVERS.get(name)).items())
    row = {"quantizer": "mid-tread", "scale": "max", "options": options}
    plan = Plan.uniform(network, 8, solver=name, **row)
    x = to_input(part("train", 1).images[:1])
    found = quantize(network, plan, x, bias_correction=True)
    # With 257 levels the answers hardly move.
    torch.testing.assert_close(found.model(x), network(x), atol=0.2, rtol=0.1)


def test_networks_that_are_no_numbers() -> None:
    x = to_input(part("train", 1).images[:1])
    network = small_network()
    plan = Plan.uniform(network, 3, scale="max")
    for wrong in ({"batch_size": 0}, {"patch_fraction": 0.0}):
        with pytest.raises(CalibrationError, match="give one image or more"):
            quantize(network, plan, x, **wrong)
    with pytest.raises(CalibrationError, match="check their normalisation"):
        quantize(network, plan, x * NAN)
    network.bn1.bias[0] = NAN
    with pytest.raises(SolverError, match="train or load"):
        quantize(network, plan, x)
    network.bn1.bias[0] = 0
    network.conv2.weight[0, 0, 0, 0] = INF
    with pytest.raises(GridError, match="train or load"):
        quantize(network, plan, x)
    with pytest.raises(CompressionError, match="NaN or infinite"):
        codebook_network(network)
