"""Intervals, paired comparisons, correlations: how sure a number is.

Results are small frozen records. ``.ci`` is the interval as a pair, or
None where too few values are there to tell: what ``Run.record`` takes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from lq_utils.intervals import (
    LEVEL,
    RESAMPLES,
    Interval,
    StatsError,
    as_pair,
    as_vector,
    batch_size,
    bootstrap,
    mean_interval,
    wilson,
)
from lq_utils.relations import (
    Correlation,
    Regression,
    correlation,
    partial_correlation,
    pearson,
    regression,
    slope,
    spearman,
)

__all__ = [
    "Correlation",
    "Interval",
    "Paired",
    "Regression",
    "StatsError",
    "bootstrap",
    "correlation",
    "holm",
    "mean_interval",
    "paired",
    "partial_correlation",
    "pearson",
    "regression",
    "slope",
    "spearman",
    "wilson",
]


@dataclass(frozen=True)
class Paired(Interval):
    """Mean of the differences ``a - b`` and its t interval.

    ``p_wilcoxon``: signed-rank test; ``p_permutation``: sign flips of the
    differences, exact for few; both two-sided. ``effect_size``: Cohen's
    d of the differences (mean by standard deviation).

    Introduced in chapter 3.
    """

    p_wilcoxon: float
    p_permutation: float
    effect_size: float

    @property
    def difference(self) -> float:
        """The mean of ``a - b``, which is ``value``."""
        return self.value


def _p_wilcoxon(differences: np.ndarray) -> float:
    if not differences.any():
        return 1.0
    return float(stats.wilcoxon(differences).pvalue)


def _signs(n: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Signs ``[draws, n]``, in parts: all of them, or RESAMPLES random."""
    if 2**n <= RESAMPLES:
        yield 1 - 2 * (np.arange(2**n)[:, None] >> np.arange(n) & 1)
        return
    for start in range(0, RESAMPLES, batch_size(n)):
        rows = min(batch_size(n), RESAMPLES - start)
        bits = np.frombuffer(rng.bytes(rows * -(-n // 8)), dtype=np.uint8)
        # Each row starts at a byte of its own; what is over is cut.
        yield 1.0 - 2 * np.unpackbits(bits.reshape(rows, -1), axis=1)[:, :n]


def _p_sign_flips(differences: np.ndarray, seed: int) -> float:
    """Share of sign patterns with a mean as large; two-sided."""
    moved = differences[differences != 0]
    # Sums of the same terms in another order differ in the last digits.
    bar = abs(moved.sum()) - 1e-9
    rng = np.random.default_rng(seed)
    hits = [np.abs(s @ moved) >= bar for s in _signs(len(moved), rng)]
    found = np.concatenate(hits)
    if len(found) == 2 ** len(moved):
        return float(found.mean())
    return float((found.sum() + 1) / (len(found) + 1))


def _effect_size(differences: np.ndarray) -> float:
    if len(differences) < 2:
        return math.nan
    mean, deviation = differences.mean(), differences.std(ddof=1)
    if deviation <= 1e-12 * abs(mean):  # all the same, up to rounding
        return math.copysign(math.inf, mean) if mean else 0.0
    return float(mean / deviation)


def paired(
    a: ArrayLike, b: ArrayLike, level: float = LEVEL, seed: int = 0
) -> Paired:
    """``a`` against ``b`` ``[n]``, case by case: seeds, subsets, images.

    Raises StatsError for other than two lists of one length.

    Introduced in chapter 3.
    """
    first, second = as_pair(a, b, 1)
    differences = first - second
    mean = mean_interval(differences, level=level)
    # Equal differences of rounded numbers become equal again: ties count.
    largest = np.abs(differences).max() or 1.0
    scaled = np.round(differences / largest, 12)
    return Paired(
        mean.value,
        mean.low,
        mean.high,
        mean.n,
        level,
        _p_wilcoxon(scaled),
        _p_sign_flips(scaled, seed),
        _effect_size(differences),
    )


def holm(p_values: Sequence[float] | np.ndarray) -> np.ndarray:
    """p-values ``[m]`` adjusted for being the best of m tests (float64).

    Rejecting those below alpha keeps the chance of any false rejection
    below alpha, however the tests depend on each other. Holm 1979.

    Raises StatsError for p-values beyond 0 to 1.

    Introduced in chapter 3.
    """
    p = as_vector("p_values", p_values, 1)
    if ((p < 0) | (p > 1)).any():
        raise StatsError(f"p-values lie in 0..1, not {p.tolist()}")
    order = np.argsort(p, kind="stable")
    steps = np.arange(len(p), 0, -1) * p[order]
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return adjusted
