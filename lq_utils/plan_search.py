"""Bits of layers by trial and error: random and evolutionary search.

What a search needs is a score for any choice of bits, such as the answers
of the network quantized so. The QuantNET thesis names reinforcement
learning as the comparison still to be made; these stand for it. All such
methods pay one evaluated network a try, and are compared by tries.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from lq_utils.bit_allocation import AllocationError

# A choice of each layer, int64 [L], to a number; the lower the better.
Score = Callable[[np.ndarray], float]

COLUMNS = ["evaluation", "score", "best", "choice"]


@dataclass
class _Space:
    """Choices that fit the budget, and what was tried so far."""

    sizes: np.ndarray
    budget: int
    score: Score
    rng: np.random.Generator
    tried: list[tuple[float, np.ndarray]] = field(default_factory=list)

    def random(self) -> np.ndarray:
        """Any choice of each layer, mended to fit and fill the budget."""
        layers, columns = self.sizes.shape
        drawn = self.rng.integers(columns, size=layers)
        return self.mended(np.asarray(drawn))

    def mended(self, choice: np.ndarray) -> np.ndarray:
        """Random layers shrink until all fit, then grow while they do."""
        choice = choice.copy()
        while self._size(choice) > self.budget:
            self._step(choice, self.sizes < self._own(choice)[:, None])
        while True:
            room = self.budget - self._size(choice)
            grown = self.sizes - self._own(choice)[:, None]
            if not ((grown > 0) & (grown <= room)).any():
                return choice
            self._step(choice, (grown > 0) & (grown <= room))

    def _own(self, choice: np.ndarray) -> np.ndarray:
        own: np.ndarray = self.sizes[np.arange(len(choice)), choice]
        return own

    def _size(self, choice: np.ndarray) -> int:
        return int(self._own(choice).sum())

    def _step(self, choice: np.ndarray, allowed: np.ndarray) -> None:
        """Move one layer, drawn at random, to the nearest allowed size."""
        layer = self.rng.choice(np.flatnonzero(allowed.any(axis=1)))
        gap = np.abs(self.sizes[layer] - self.sizes[layer, choice[layer]])
        choice[layer] = np.where(allowed[layer], gap, gap.max() + 1).argmin()

    def evaluate(self, choice: np.ndarray) -> None:
        self.tried.append((float(self.score(choice)), choice))

    def history(self) -> pd.DataFrame:
        scores = np.array([score for score, _ in self.tried])
        choices = [tuple(int(k) for k in choice) for _, choice in self.tried]
        best = np.minimum.accumulate(scores)
        rows = zip(range(1, len(scores) + 1), scores, best, choices)
        return pd.DataFrame(rows, columns=COLUMNS)


def _space(
    sizes: np.ndarray, budget: int, score: Score, evaluations: int, seed: int
) -> _Space:
    sizes = np.asarray(sizes, dtype=np.int64)
    least = int(sizes.min(axis=1).sum())
    if least > budget:
        raise AllocationError(
            f"the smallest choices take {least}, {least - budget} more than "
            f"the budget of {budget}: allow fewer bits, or raise the budget"
        )
    if evaluations < 1:
        raise AllocationError(
            f"{evaluations} evaluations: a search tries one plan at least"
        )
    return _Space(sizes, budget, score, np.random.default_rng(seed))


def random_search(
    score: Score,
    sizes: np.ndarray,
    budget: int,
    evaluations: int,
    seed: int = 0,
) -> pd.DataFrame:
    """Random choices that fill the budget, each of them scored.

    Args:
        score: of a choice, int64 ``[L]`` columns of ``sizes``; lower is
            better. Called ``evaluations`` times.
        sizes: int ``[L, B]``, of each choice of each layer.
        budget: what the sizes chosen may add up to.
        evaluations: how many choices are tried.
        seed: of what is drawn.

    Returns:
        A row a try, in order: ``evaluation`` (from 1), ``score``,
        ``best`` (lowest so far) and ``choice`` (tuple of columns).

    Raises AllocationError where no choice fits, or for no evaluation.
    Introduced in chapter 9.
    """
    space = _space(sizes, budget, score, evaluations, seed)
    for _ in range(evaluations):
        space.evaluate(space.random())
    return space.history()


def evolutionary_search(
    score: Score,
    sizes: np.ndarray,
    budget: int,
    evaluations: int,
    seed: int = 0,
    *,
    population: int = 16,
    rivals: int = 3,
) -> pd.DataFrame:
    """Children of good choices: crossed, changed a little, mended.

    Arguments and result as for :func:`random_search`. The first
    ``population`` choices are random. Later ones take each layer from
    one of two parents, each the best of ``rivals`` drawn from the best
    ``population`` so far; on average one layer is drawn anew.

    Raises AllocationError where no choice fits, or for no evaluation.
    Source: Real et al. 2019, without ageing. Introduced in chapter 9.
    """
    space = _space(sizes, budget, score, evaluations, seed)
    for _ in range(min(population, evaluations)):
        space.evaluate(space.random())
    while len(space.tried) < evaluations:
        first, second = (_parent(space, population, rivals) for _ in "ab")
        space.evaluate(space.mended(_child(space, first, second)))
    return space.history()


def _parent(space: _Space, population: int, rivals: int) -> np.ndarray:
    ranked = sorted(space.tried, key=lambda one: one[0])[:population]
    return ranked[int(space.rng.integers(len(ranked), size=rivals).min())][1]


def _child(space: _Space, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    layers, columns = space.sizes.shape
    child = np.where(space.rng.random(layers) < 0.5, first, second)
    fresh = space.rng.integers(columns, size=layers)
    return np.where(space.rng.random(layers) < 1 / layers, fresh, child)


SEARCHES = {"random": random_search, "evolution": evolutionary_search}
