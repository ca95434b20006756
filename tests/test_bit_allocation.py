"""Allocation of bits: against brute force, another solver, real files."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import Bounds, LinearConstraint, milp

from lq_utils import bit_allocation
from lq_utils.artifact import save_quantized
from lq_utils.bit_allocation import (
    AllocationError,
    allocated_plan,
    choose,
    plan_file_bytes,
    plan_within_file,
    row_bits,
)
from lq_utils.graph import layer_table
from lq_utils.lockstep import quantize
from lq_utils.models import build_model
from lq_utils.plan_rows import LayerPlan
from lq_utils.plans import Plan

MODEL, OUTPUTS = "quantnet", 1
BITS = (1, 2, 4)


def brute_force(
    costs: np.ndarray, sizes: np.ndarray, budget: int
) -> tuple[float, int]:
    """Least cost, and the least size of that cost, of all choices."""
    found = []
    for choice in product(range(costs.shape[1]), repeat=len(costs)):
        size = sum(int(row[k]) for row, k in zip(sizes, choice))
        if size <= budget:
            cost = 0.0
            for row, k in zip(costs, choice):
                cost += row[k]
            found.append((cost, size))
    return min(found)


def totals(
    costs: np.ndarray, sizes: np.ndarray, choice: np.ndarray
) -> tuple[float, int]:
    cost = 0.0
    for row, k in zip(costs, choice):
        cost += row[k]
    return cost, sum(int(row[k]) for row, k in zip(sizes, choice))


@st.composite
def problems(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, int]:
    layers, columns = draw(st.integers(1, 5)), draw(st.integers(1, 4))
    # Few different values: many ties. Costs may be negative.
    values = st.one_of(st.integers(-3, 3), st.floats(-1e6, 1e6))
    cells = layers * columns
    costs = draw(st.lists(values, min_size=cells, max_size=cells))
    sizes = draw(st.lists(st.integers(0, 12), min_size=cells, max_size=cells))
    table = np.array(sizes).reshape(layers, columns)
    low, high = int(table.min(1).sum()), int(table.max(1).sum())
    budget = draw(st.integers(low, high + 2))
    return np.array(costs, float).reshape(layers, columns), table, budget


@settings(max_examples=300)
@given(problems())
def test_choice_is_the_best_of_all(
    problem: tuple[np.ndarray, np.ndarray, int],
) -> None:
    costs, sizes, budget = problem
    chosen = choose(costs, sizes, budget)
    assert chosen.dtype == np.int64 and chosen.shape == (len(costs),)
    assert totals(costs, sizes, chosen) == brute_force(costs, sizes, budget)


@pytest.mark.parametrize("seed", range(3))
def test_a_network_of_real_size_against_integer_programming(
    seed: int,
) -> None:
    rng = np.random.default_rng(seed)
    weights = rng.choice([432, 2304, 4608, 9216, 36864], size=20)
    sizes = weights[:, None] * np.arange(2, 7) + 32 * 64
    costs = rng.exponential(size=(20, 1)) * 4.0 ** -np.arange(5)
    budget = int(3.1 * weights.sum()) + 20 * 32 * 64
    chosen = choose(costs, sizes, budget)
    ones = np.kron(np.eye(20), np.ones(5))
    limits = [
        LinearConstraint(sizes.reshape(1, -1), -np.inf, budget),
        LinearConstraint(ones, 1, 1),
    ]
    other = milp(
        costs.ravel(),
        constraints=limits,
        integrality=np.ones(100),
        bounds=Bounds(0, 1),
        options={"mip_rel_gap": 0},
    )
    cost, size = totals(costs, sizes, chosen)
    assert size <= budget
    assert cost == pytest.approx(other.fun, rel=1e-6)


def test_three_layers_by_hand() -> None:
    # Saved a unit: layer 0 costs 1, layer 1 costs 5, layer 2 costs 2.
    costs = np.array([[1.0, 0], [5.0, 0], [2.0, 0]])
    sizes = np.array([[1, 2], [1, 2], [1, 2]])
    assert choose(costs, sizes, 3).tolist() == [0, 0, 0]
    assert choose(costs, sizes, 4).tolist() == [0, 1, 0]
    assert choose(costs, sizes, 5).tolist() == [0, 1, 1]
    # Equal costs: the smaller size.
    assert choose(costs * 0, sizes, 9).tolist() == [0, 0, 0]
    # The greedy order (saving a cost a unit) fills 3 of 4 units only.
    costs = np.array([[9.0, 0], [8.0, 0], [8.0, 0]])
    sizes = np.array([[0, 3], [0, 2], [0, 2]])
    assert choose(costs, sizes, 4).tolist() == [0, 1, 1]


@pytest.mark.parametrize(
    ("costs", "sizes", "budget", "message"),
    [
        ([[1.0, 2]], [[5, 6]], 3, "take 5, 2 more than the budget of 3"),
        ([[np.nan, 2]], [[5, 6]], 9, "NaN"),
        ([[1.0, 2]], [[5]], 9, "one shape"),
        ([1.0, 2], [5, 6], 9, "one shape"),
        ([[1.0, 2]], [[5, 6.5]], 9, "whole numbers"),
        ([[1.0, 2]], [[5, -6]], 9, "whole numbers"),
    ],
)
def test_what_cannot_be_allocated(
    costs: list, sizes: list, budget: int, message: str
) -> None:
    with pytest.raises(AllocationError, match=message):
        choose(np.array(costs), np.array(sizes), budget)


@pytest.fixture(scope="module")
def network() -> torch.nn.Module:
    return build_model(MODEL, OUTPUTS).eval()


def template(network: torch.nn.Module, **row: object) -> Plan:
    fields: dict = {"quantizer": "asymmetric", "solver": "qronos"}
    return Plan.uniform(network, 3, **fields | row)


@pytest.mark.parametrize("granularity", ["tensor", "channel", "group:10"])
@pytest.mark.parametrize("quantizer", ["asymmetric", "mid-tread"])
def test_bits_of_rows_add_up_to_the_plans_size(
    network: torch.nn.Module, quantizer: str, granularity: str
) -> None:
    row = {"quantizer": quantizer, "granularity": granularity}
    plan = template(network, **row).override("conv2", bits=5)
    plan = plan.override("linear1", bits=None)
    infos = {info.name: info for info in layer_table(network)}
    full = Plan.uniform(network, None).size_bits(network)
    saved = sum(
        row_bits(LayerPlan(one.layer, None), infos[one.layer])
        - row_bits(one, infos[one.layer])
        for one in plan
    )
    assert plan.size_bits(network) == full - saved


def random_costs(plan: Plan, bits: tuple[int, ...], seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    rows = [
        (row.layer, b, rng.exponential() * 4.0**-b)
        for row in plan
        for b in bits
    ]
    return pd.DataFrame(rows, columns=["layer", "bits", "cost"])


@settings(max_examples=8)
@given(st.integers(0, 1000), st.floats(1.05, 4.5))
def test_plans_are_optimal_and_within_the_budget(
    seed: int, mean_bits: float
) -> None:
    network = build_model(MODEL, OUTPUTS)
    plan = template(network).override("output", bits=8)
    costs = random_costs(plan, BITS, seed)
    costs = costs[costs["layer"] != "output"].sample(frac=1, random_state=0)
    least = plan
    for name in plan.names()[:-1]:
        least = least.override(name, bits=BITS[0])
    lowest = least.size_bits(network)
    budget = int(lowest * mean_bits)
    found = allocated_plan(costs, plan, network, budget)
    assert found.size_bits(network) <= budget
    assert found["output"].bits == 8  # no cost: it keeps its row
    assert {r.solver for r in found} == {"qronos"}
    price = costs.set_index(["layer", "bits"])["cost"]
    total = sum(price[r.layer, r.bits] for r in found if r.layer != "output")
    infos = {info.name: info for info in layer_table(network)}
    others = []
    for choice in product(BITS, repeat=len(plan) - 1):
        rows = [
            LayerPlan(r.layer, b, r.quantizer) for r, b in zip(plan, choice)
        ]
        change = sum(
            row_bits(one, infos[one.layer])
            - row_bits(least[one.layer], infos[one.layer])
            for one in rows
        )
        if lowest + change <= budget:
            others.append(sum(price[r.layer, r.bits] for r in rows))
    assert total == pytest.approx(min(others))


def test_a_plans_file_is_measured_without_calibration(
    network: torch.nn.Module, tmp_path: Path
) -> None:
    plan = template(network, polish=2, options=(("damping", 0.02),))
    plan = plan.override("conv2", bits=5).override("linear1", bits=None)
    images = torch.randn(4, 3, 32, 32)
    calibrated = quantize(network, plan, images, bias_correction=True)
    path = tmp_path / "network.safetensors"
    stored = save_quantized(path, calibrated, MODEL, OUTPUTS)
    assert path.stat().st_size == stored
    assert plan_file_bytes(network, plan, MODEL, OUTPUTS) == stored


def test_measured_files_never_exceed_the_budget(
    network: torch.nn.Module,
) -> None:
    plan = template(network)
    costs = random_costs(plan, BITS, 0)
    names = plan.names()
    least = plan
    for name in names:
        least = least.override(name, bits=1)
    lowest = plan_file_bytes(network, least, MODEL, OUTPUTS)
    for extra in (0, 300, 10**7):
        found = plan_within_file(
            costs, plan, network, lowest + extra, MODEL, OUTPUTS
        )
        size = plan_file_bytes(network, found, MODEL, OUTPUTS)
        assert size <= lowest + extra
        if not extra:
            assert found == least
    cheapest = costs.loc[costs.groupby("layer")["cost"].idxmin()]
    wanted = cheapest.set_index("layer")["bits"]
    assert [row.bits for row in found] == wanted[list(names)].tolist()
    with pytest.raises(AllocationError, match="7 more than the budget"):
        plan_within_file(costs, plan, network, lowest - 7, MODEL, OUTPUTS)


def test_no_file_is_measured_twice(
    network: torch.nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = template(network)
    costs = random_costs(plan, BITS, 0)
    least = plan.override("*", bits=BITS[0])
    lowest = plan_file_bytes(network, least, MODEL, OUTPUTS)
    seen: list[Plan] = []

    def measured(*given: Any, **options: Any) -> int:
        seen.append(given[1])
        return plan_file_bytes(*given, **options)

    monkeypatch.setattr(bit_allocation, "plan_file_bytes", measured)
    for budget in range(lowest + 600, lowest + 5000, 1330):
        limit = least.size_bits(network) + 8 * (budget - lowest)
        while True:  # the same, as plainly as possible
            wanted = allocated_plan(costs, plan, network, limit)
            size = plan_file_bytes(network, wanted, MODEL, OUTPUTS)
            if size <= budget:
                break
            limit -= 8 * (size - budget)
        seen.clear()
        found = plan_within_file(costs, plan, network, budget, MODEL, OUTPUTS)
        assert found == wanted
        assert len(seen) == len(set(seen))


def test_costs_must_fit_the_template(network: torch.nn.Module) -> None:
    plan = template(network)
    costs = random_costs(plan, BITS, 0)
    size = plan.size_bits(network)
    with pytest.raises(AllocationError, match="columns layer, bits and cost"):
        allocated_plan(costs.drop(columns="cost"), plan, network, size)
    with pytest.raises(AllocationError, match="one row for each"):
        twice = pd.concat([costs, costs])
        allocated_plan(twice, plan, network, size)
    with pytest.raises(AllocationError, match="every layer at every"):
        allocated_plan(costs.iloc[1:], plan, network, size)
    renamed = costs.replace({"layer": {"conv1": "conv9"}})
    with pytest.raises(AllocationError, match="no row for conv9"):
        allocated_plan(renamed, plan, network, size)
