"""Solvers against plain float64 loops, tiny cases by hand, and bounds."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lq_utils.grams import Statistics, gram_statistics
from lq_utils.grids import Grid, alphabet
from lq_utils.plans import LayerPlan
from lq_utils.solvers import (
    SOLVERS,
    SolverError,
    dead_columns,
    gpfq,
    gpfq_patches,
    gptq,
    output_error,
    polish,
    qronos,
    search_scale,
    solve_layer,
)

ALPHABETS = [
    ("narrow", 3),
    ("symmetric", 4),
    ("mid-tread", 2),
    ("asymmetric", 3),
    ("power-of-two", 4),
    ("full-range", 2),
]
DEAD = 1e-9  # the rule of the library, repeated on purpose


def problem(
    seed: int = 0, k: int = 6, n: int = 150, m: int = 260
) -> tuple[Tensor, Tensor, Tensor]:
    """Weight, quantized and original patches; columns 5 and 77 are dead."""
    rng = np.random.default_rng(seed)
    mix = rng.normal(size=(n, n)) * 0.1
    x = rng.normal(size=(m, n)) @ mix
    drifted = x + 0.05 * rng.normal(size=(m, n))
    drifted[:, [5 % n, 77 % n]] = 0
    x[:, 77 % n] = 0
    weight = rng.normal(size=(k, n))
    return tuple(torch.from_numpy(a) for a in (weight, drifted, x))


def grid_for(weight: Tensor, name: str, bits: int) -> Grid:
    a = alphabet(name, bits)
    span = weight.abs().amax(dim=1, keepdim=True)
    zero = torch.zeros_like(span)
    if a.affine:
        zero, span = zero + (a.count // 2), 2 * span
    return Grid(a, span / a.reach, zero, weight.shape[1])


def nearest(grid: Grid, row: int, column: int, z: float) -> float:
    """Nearest value by trying every level; ties go up."""
    group = column // grid.group_size if grid.scale.shape[1] > 1 else 0
    levels = grid.alphabet.levels().double()
    zero, scale = grid.zero_point[row, group], grid.scale[row, group]
    values = ((levels - zero) * scale).numpy()
    gaps = np.abs(values - z)
    return float(values[np.flatnonzero(gaps <= gaps.min() + 1e-13)[-1]])


def textbook_gpfq(w: Tensor, seen: Tensor, x: Tensor, grid: Grid) -> Tensor:
    """The published loop, one neuron at a time, on stored patches."""
    most = float((seen**2).sum(dim=0).max())
    result = torch.zeros_like(w)
    for k in range(len(w)):
        running = torch.zeros(len(x), dtype=torch.float64)
        for t in range(w.shape[1]):
            running += w[k, t] * x[:, t]
            norm = float(seen[:, t] @ seen[:, t])
            alive = norm > DEAD * most
            z = float(running @ seen[:, t]) / norm if alive else w[k, t]
            result[k, t] = nearest(grid, k, t, float(z))
            running -= result[k, t] * seen[:, t]
    return result


def textbook_gptq(w: Tensor, hessian: Tensor, grid: Grid) -> Tensor:
    """Optimal brain quantization, the inverse Hessian updated by hand."""
    n = len(hessian)
    damped = hessian + 0.01 * hessian.diagonal().mean() * torch.eye(n)
    result = torch.zeros_like(w)
    for k in range(len(w)):
        inverse, rest = torch.linalg.inv(damped), w[k].clone()
        for t in range(n):
            q = nearest(grid, k, t, float(rest[t]))
            step = (rest[t] - q) / inverse[t, t]
            result[k, t] = q
            rest = rest - step * inverse[t]
            inverse = (
                inverse
                - torch.outer(inverse[:, t], inverse[t])
                / inverse[t, t].clone()
            )
            inverse[t, t] = 1.0  # never used again
    return result


@pytest.mark.parametrize(("name", "bits"), ALPHABETS)
def test_gpfq_decides_as_the_textbook_loop(name: str, bits: int) -> None:
    w, seen, x = problem()
    grid = grid_for(w, name, bits)
    expected = textbook_gpfq(w, seen, x, grid)
    statistics = gram_statistics(seen, x)
    torch.testing.assert_close(gpfq(w, statistics, grid), expected)
    torch.testing.assert_close(gpfq_patches(w, seen, x, grid), expected)
    for block in (1, 7, 200):
        got = gpfq_patches(w, seen, x, grid, block)
        torch.testing.assert_close(got, expected)


def test_gptq_decides_as_optimal_brain_quantization() -> None:
    w, seen, x = problem(k=3, n=70, m=200)
    grid = grid_for(w, "symmetric", 3)
    statistics = gram_statistics(seen, x)
    expected = textbook_gptq(w, statistics.hessian[0], grid)
    torch.testing.assert_close(gptq(w, statistics, grid), expected)


def test_gpfq_by_hand() -> None:
    # w = (0.6, 0.6), x_1 = x_2 = 1, levels -1, 0, 1. First 0.6 -> 1 leaves
    # an error of -0.4; then 0.6 - 0.4 = 0.2 -> 0. Rounding gives (1, 1).
    w = torch.tensor([[0.6, 0.6]], dtype=torch.float64)
    x = torch.ones(1, 2, dtype=torch.float64)
    grid = Grid(alphabet("narrow", 2), torch.ones(1, 1), torch.zeros(1, 1), 2)
    statistics = gram_statistics(x, x)
    assert gpfq(w, statistics, grid).tolist() == [[1, 0]]
    assert SOLVERS.get("rtn")(w, statistics, grid).tolist() == [[1, 1]]


def test_gpfq_corrects_the_drift_of_earlier_layers() -> None:
    # The quantized network sees twice the input: half the weight is right.
    w = torch.tensor([[2.0]], dtype=torch.float64)
    x = torch.ones(4, 1, dtype=torch.float64)
    grid = Grid(alphabet("narrow", 3), torch.ones(1, 1), torch.zeros(1, 1), 1)
    statistics = gram_statistics(2 * x, x)
    assert gpfq(w, statistics, grid).item() == 1
    assert qronos(w, statistics, grid).item() == 1
    assert gptq(w, statistics, grid).item() == 2


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("solver", ["gpfq", "gptq", "qronos"])
def test_columns_of_a_permuted_problem(solver: str, descending: bool) -> None:
    """Ordered by norm, the order of the columns given does not matter."""
    w, seen, x = problem(n=40, m=100)
    w, seen, x = (a[:, :38] for a in (w, seen, x))
    grid = grid_for(w, "symmetric", 3)
    order = torch.randperm(38, generator=torch.Generator().manual_seed(0))
    solve = SOLVERS.get(solver)
    plain = solve(w, gram_statistics(seen, x), grid, descending=descending)
    mixed = solve(
        w[:, order],
        gram_statistics(seen[:, order], x[:, order]),
        grid,
        descending=descending,
    )
    assert torch.equal(plain[:, order], mixed) == descending


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("solver", ["gpfq", "gptq", "qronos"])
def test_groups_are_solved_one_by_one(solver: str, descending: bool) -> None:
    # Equal norms: the common order of all groups is then each one's own.
    parts = [problem(seed, k=3, n=30, m=80) for seed in range(2)]
    solve = SOLVERS.get(solver)
    grams = [gram_statistics(seen, x) for _, seen, x in parts]
    for g in grams:
        norms = g.hessian[0].diagonal().clamp(min=1e-30).sqrt()
        g.hessian /= torch.outer(norms, norms)
        g.drift /= torch.outer(norms, norms)
        g.hessian[0].diagonal().round_()
    both = Statistics(
        torch.cat([g.hessian for g in grams]),
        torch.cat([g.drift for g in grams]),
        80,
    )
    w = torch.cat([part[0] for part in parts])
    grid = grid_for(w, "symmetric", 3)
    got = solve(w, both, grid, descending=descending)
    for k, g in enumerate(grams):
        rows = torch.arange(3 * k, 3 * k + 3)
        alone = solve(w[rows], g, grid.rows(rows), descending=descending)
        torch.testing.assert_close(got[rows], alone)


@pytest.mark.parametrize("solver", ["rtn", "gpfq", "gptq", "qronos"])
@pytest.mark.parametrize("n", [20, 300])
def test_dead_columns_are_rounded_not_zeroed(solver: str, n: int) -> None:
    w, seen, x = problem(n=n, m=120)
    seen[:, 3] = x[:, 3] = 0
    grid = grid_for(w, "symmetric", 8)
    statistics = gram_statistics(seen, x)
    q = SOLVERS.get(solver)(w, statistics, grid)
    assert torch.equal(q[:, 3], grid.round(w)[:, 3])
    assert dead_columns(statistics) == len({3, 5 % n, 77 % n})


@pytest.mark.parametrize("solver", ["rtn", "gpfq", "gptq"])
def test_all_inputs_dead(solver: str) -> None:
    w = problem(n=10)[0]
    zero = torch.zeros(1, 10, 10, dtype=torch.float64)
    grid = grid_for(w, "symmetric", 4)
    q = SOLVERS.get(solver)(w, Statistics(zero, zero.clone(), 5), grid)
    assert torch.equal(q, grid.round(w))


@given(
    choice=st.sampled_from(ALPHABETS),
    solver=st.sampled_from(["rtn", "gpfq", "gptq", "qronos"]),
    sweeps=st.integers(0, 2),
    groups=st.sampled_from([1, 4]),
    seed=st.integers(0, 1000),
)
@settings(max_examples=40)
def test_every_result_lies_on_its_grid(
    choice: tuple[str, int], solver: str, sweeps: int, groups: int, seed: int
) -> None:
    w, seen, x = problem(seed, k=4, n=24, m=50)
    w = w.float()
    statistics = gram_statistics(seen.float(), x.float())
    grid = grid_for(w, *choice)
    size = 24 // groups
    factors = 1 + torch.arange(groups) / 10
    grid = Grid(
        grid.alphabet,
        (grid.scale * factors).float(),
        grid.zero_point.expand(-1, groups).float(),
        size,
    )
    q = SOLVERS.get(solver)(w, statistics, grid)
    q = polish(w, q, statistics, grid, sweeps)
    assert torch.equal(grid.values(grid.codes(q)), q)
    for part in q.split(size, dim=1):
        for row in part:
            assert len(row.unique()) <= grid.alphabet.count


def mismatch(w: Tensor, q: Tensor, seen: Tensor, x: Tensor) -> Tensor:
    return (x @ w.T - seen @ q.T).square().sum(dim=0)


def test_output_error_up_to_its_constant() -> None:
    w, seen, x = problem()
    grid = grid_for(w, "narrow", 3)
    statistics = gram_statistics(seen, x)
    constant = mismatch(w, w, seen, x)
    for q in (grid.round(w), gpfq(w, statistics, grid), w):
        error = output_error(w, q, statistics)
        expected = mismatch(w, q, seen, x) - constant
        torch.testing.assert_close(error, expected, atol=1e-8, rtol=1e-8)


@pytest.mark.parametrize(("name", "bits"), ALPHABETS)
@pytest.mark.parametrize("solver", ["rtn", "gpfq", "gptq", "qronos"])
def test_polish_never_hurts(name: str, bits: int, solver: str) -> None:
    w, seen, x = problem(n=60, m=120)
    grid = grid_for(w, name, bits)
    statistics = gram_statistics(seen, x)
    q = SOLVERS.get(solver)(w, statistics, grid)
    before = mismatch(w, q, seen, x)
    for sweeps in (1, 3):
        after = mismatch(w, polish(w, q, statistics, grid, sweeps), seen, x)
        assert (after <= before + 1e-9).all()
        before = after


def test_polish_finds_the_optimum_of_independent_columns() -> None:
    w, _, _ = problem(k=2, n=6)
    statistics = gram_statistics(torch.eye(6).double(), torch.eye(6).double())
    grid = grid_for(w, "narrow", 2)
    start = torch.zeros_like(w)
    q = polish(w, start, statistics, grid, 5)
    assert torch.equal(q, grid.round(w))


def brute_force(w: Tensor, seen: Tensor, x: Tensor, grid: Grid) -> float:
    levels = grid.alphabet.levels().double() * grid.scale[0, 0]
    choices = itertools.product(levels.tolist(), repeat=w.shape[1])
    candidates = torch.tensor(list(choices), dtype=torch.float64)
    return float((x @ w.T - seen @ candidates.T).square().sum(dim=0).min())


def test_solvers_against_the_best_of_all_weights() -> None:
    """Five columns, three levels: 243 weights, all of them tried."""
    gaps = {"rtn": 0.0, "gpfq": 0.0, "gptq": 0.0, "qronos": 0.0}
    for seed in range(12):
        w, _, x = problem(seed, k=1, n=5, m=30)
        grid = grid_for(w, "narrow", 2)
        statistics = gram_statistics(x, x)
        best = brute_force(w, x, x, grid)
        for name in gaps:
            q = SOLVERS.get(name)(w, statistics, grid)
            error = float(mismatch(w, q, x, x))
            assert error >= best - 1e-9
            gaps[name] += error / best
            polished = polish(w, q, statistics, grid, 10)
            assert float(mismatch(w, polished, x, x)) >= best - 1e-9
    assert max(gaps["gpfq"], gaps["gptq"], gaps["qronos"]) < gaps["rtn"]


@pytest.mark.parametrize("solver", ["gpfq", "gptq", "rtn"])
def test_searched_scales_are_the_best_of_the_candidates(solver: str) -> None:
    w, seen, x = problem(n=40, m=100)
    grid = grid_for(w, "narrow", 2)
    statistics = gram_statistics(seen, x)
    solve = SOLVERS.get(solver)
    found, q = search_scale(w, statistics, grid, solve, candidates=7)
    torch.testing.assert_close(solve(w, statistics, found), q)
    factors = torch.logspace(*np.log10([0.3, 1.3]).tolist(), 7)
    factors[(factors - 1).abs().argmin()] = 1
    ridge = 1e-3 * statistics.hessian[0].diagonal().mean()

    def cost(q: Tensor) -> Tensor:
        own = ridge * (w - q).square().sum(dim=1)
        return mismatch(w, q, seen, x) + own

    costs = torch.stack(
        [cost(solve(w, statistics, grid.scaled(f))) for f in factors]
    )
    # The factors are float32.
    torch.testing.assert_close(
        cost(q), costs.min(dim=0).values, rtol=1e-5, atol=0
    )


def test_weights_of_dead_columns_are_not_clipped_for_nothing() -> None:
    w = torch.tensor([[0.1, 0.2, 5.0]], dtype=torch.float64)
    x = torch.tensor([[1.0, 2.0, 0.0]], dtype=torch.float64)
    grid = grid_for(w, "symmetric", 32)
    found, q = search_scale(w, gram_statistics(x, x), grid, gpfq)
    torch.testing.assert_close(q, w, rtol=1e-6, atol=0)
    assert found.scale >= grid.scale


def test_one_scale_a_tensor_stays_one() -> None:
    w, seen, x = problem(n=40, m=100)
    grid = grid_for(w, "narrow", 2)
    one = Grid(grid.alphabet, grid.scale[:1], grid.zero_point[:1], 40)
    found, q = search_scale(w, gram_statistics(seen, x), one, gpfq)
    assert found.scale.shape == (1, 1)
    assert len(q.unique()) <= 3


def test_searched_scales_with_groups() -> None:
    parts = [problem(seed, k=2, n=12, m=40) for seed in range(3)]
    grams = [gram_statistics(seen, x) for _, seen, x in parts]
    both = Statistics(
        torch.cat([g.hessian for g in grams]),
        torch.cat([g.drift for g in grams]),
        40,
    )
    w = torch.cat([part[0] for part in parts])
    grid = grid_for(w, "narrow", 3)
    _, together = search_scale(w, both, grid, gpfq)
    for k, g in enumerate(grams):
        rows = torch.arange(2 * k, 2 * k + 2)
        _, alone = search_scale(w[rows], g, grid.rows(rows), gpfq)
        torch.testing.assert_close(together[rows], alone)


def test_stochastic_rounding_is_right_on_average() -> None:
    w = torch.full((4000, 1), 0.3, dtype=torch.float64)
    one = torch.ones(1, 1, dtype=torch.float64)
    grid = Grid(alphabet("narrow", 3), one, torch.zeros(1, 1), 1)
    solve = SOLVERS.get("gpfq-stochastic")
    statistics = gram_statistics(one, one)
    q = solve(w, statistics, grid, seed=1)
    assert set(q.unique().tolist()) == {0.0, 1.0}
    # Four standard errors of a mean of 4000 draws.
    assert abs(float(q.mean()) - 0.3) < 4 * (0.21 / 4000) ** 0.5
    assert torch.equal(q, solve(w, statistics, grid, seed=1))
    with pytest.raises(SolverError, match="integers"):
        solve(w, statistics, grid_for(w, "power-of-two", 3))


def test_sparse_variants() -> None:
    w, seen, x = problem(n=60, m=120)
    grid = grid_for(w, "mid-tread", 4)
    statistics = gram_statistics(seen, x)
    plain = gpfq(w, statistics, grid)
    for name in ("gpfq-sparse-soft", "gpfq-sparse-hard"):
        solve = SOLVERS.get(name)
        same = solve(w, statistics, grid, threshold=0.0)
        torch.testing.assert_close(same, plain)
        zeros = [
            int((solve(w, statistics, grid, threshold=c) == 0).sum())
            for c in (0.0, 0.5, 1.0)
        ]
        assert zeros == sorted(zeros) and zeros[0] < zeros[-1]


def test_a_weight_that_does_not_fit() -> None:
    w, seen, x = problem(n=20)
    grid = grid_for(w, "narrow", 3)
    statistics = gram_statistics(seen[:, :19], x[:, :19])
    with pytest.raises(SolverError, match="does not fit"):
        gpfq(w, statistics, grid)
    with pytest.raises(SolverError, match="do not fit"):
        gpfq_patches(w, seen[:, :19], x[:, :19], grid)


def test_gptq_without_damping_on_too_few_patches() -> None:
    w, seen, x = problem(n=40, m=10)
    with pytest.raises(SolverError, match="damping"):
        gptq(w, gram_statistics(seen, x), grid_for(w, "narrow", 3), damping=0)


Option = Callable[[], LayerPlan]


@pytest.mark.parametrize(
    "layer",
    [
        LayerPlan("a", 3),
        LayerPlan("a", 3, granularity="tensor", solver="gptq", polish=2),
        LayerPlan("a", 3, granularity="group:20", scale="mse", solver="rtn"),
        LayerPlan("a", 4, quantizer="power-of-two", solver="qronos"),
        LayerPlan(
            "a", 4, solver="gpfq-sparse-soft", options=(("threshold", 0.2),)
        ),
    ],
)
def test_layer_plans_are_carried_out(layer: LayerPlan) -> None:
    w, seen, x = problem(n=60, m=120)
    w = w.float()
    statistics = gram_statistics(seen.float(), x.float())
    grid, q = solve_layer(w, statistics, layer)
    assert torch.equal(grid.values(grid.codes(q)), q)
    assert grid.alphabet == alphabet(layer.quantizer, layer.bits)
