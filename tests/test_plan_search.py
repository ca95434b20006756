"""Searches for bits: within the budget, counted, and they find things."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lq_utils.bit_allocation import AllocationError, choose
from lq_utils.plan_search import SEARCHES, evolutionary_search, random_search

sizes_and_seed = st.tuples(
    st.integers(1, 5), st.integers(1, 4), st.integers(0, 10_000)
)


@pytest.mark.parametrize("name", list(SEARCHES))
@settings(max_examples=40)
@given(sizes_and_seed)
def test_tries_fit_and_fill_the_budget(
    name: str, shape: tuple[int, int, int]
) -> None:
    layers, columns, seed = shape
    rng = np.random.default_rng(seed)
    sizes = rng.integers(0, 9, size=(layers, columns))
    low, high = sizes.min(axis=1).sum(), sizes.max(axis=1).sum()
    budget = int(rng.integers(low, high + 1))
    calls = []

    def score(choice: np.ndarray) -> float:
        calls.append(choice.copy())
        return float(choice.sum())

    found = SEARCHES[name](score, sizes, budget, 25, seed)
    assert list(found["evaluation"]) == list(range(1, 26))
    assert len(calls) == 25
    assert (found["best"] == found["score"].cummin()).all()
    for choice, called in zip(found["choice"], calls, strict=True):
        assert choice == tuple(called)
        own = sizes[np.arange(layers), list(choice)]
        room = budget - own.sum()
        assert room >= 0
        # No layer could be stored in more, and still fit.
        more = sizes - own[:, None]
        assert not ((more > 0) & (more <= room)).any()


def problem() -> tuple[np.ndarray, np.ndarray, int]:
    rng = np.random.default_rng(3)
    sizes = rng.choice([4, 9, 18], size=(12, 1)) * np.array([2, 3, 4])
    costs = rng.exponential(size=(12, 1)) * np.array([16, 4, 1])
    return costs, sizes, int(sizes[:, 1].sum())


def test_evolution_comes_nearer_to_the_optimum_than_chance() -> None:
    costs, sizes, budget = problem()

    def score(choice: np.ndarray) -> float:
        return float(costs[np.arange(12), choice].sum())

    optimum = score(choose(costs, sizes, budget))
    best = {
        name: [search(score, sizes, budget, 300, s)["best"].iloc[-1]
               for s in range(5)]
        for name, search in SEARCHES.items()
    }  # fmt: skip
    assert min(best["random"] + best["evolution"]) >= optimum - 1e-12
    assert np.mean(best["evolution"]) < np.mean(best["random"])
    assert np.mean(best["evolution"]) < 1.05 * optimum


def test_a_seed_repeats_a_search() -> None:
    costs, sizes, budget = problem()

    def score(choice: np.ndarray) -> float:
        return float(costs[np.arange(12), choice].max())

    first, again, other = (
        evolutionary_search(score, sizes, budget, 60, seed)["choice"].tolist()
        for seed in (1, 1, 2)
    )
    assert first == again != other


def test_impossible_searches_are_refused() -> None:
    sizes = np.array([[4, 5], [6, 7]])
    with pytest.raises(AllocationError, match="take 10, 1 more than"):
        random_search(lambda c: 0.0, sizes, 9, 5)
    with pytest.raises(AllocationError, match="one plan at least"):
        evolutionary_search(lambda c: 0.0, sizes, 11, 0)
