"""Confidence intervals: of a share, of a mean, of any statistic."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

RESAMPLES = 9999
LEVEL = 0.95
_ELEMENTS = 2**20  # most random numbers held at a time while resampling


class StatsError(ValueError):
    """The statistic does not exist for these values.

    Introduced in chapter 3.
    """


@dataclass(frozen=True)
class Interval:
    """A value and its confidence interval at ``level``, from ``n`` cases.

    ``low`` and ``high`` are NaN where there are too few cases.

    Introduced in chapter 3.
    """

    value: float
    low: float
    high: float
    n: int
    level: float

    @property
    def ci(self) -> tuple[float, float] | None:
        """(low, high); None where the interval is undefined."""
        known = math.isfinite(self.low) and math.isfinite(self.high)
        return (self.low, self.high) if known else None


def as_vector(name: str, values: ArrayLike, least: int) -> np.ndarray:
    """float64 ``[n]``. Raises StatsError for NaN and too few values.

    Introduced in chapter 3.
    """
    vector = np.asarray(values, dtype=np.float64)
    if vector.ndim != 1 or len(vector) < least:
        raise StatsError(
            f"{name} must be a list of at least {least} numbers, not of "
            f"shape {vector.shape}"
        )
    if not np.isfinite(vector).all():
        raise StatsError(
            f"{name} holds NaN or infinity; leave those cases out, and say "
            "how many they were"
        )
    return vector


def as_pair(
    x: ArrayLike, y: ArrayLike, least: int
) -> tuple[np.ndarray, np.ndarray]:
    """Two float64 ``[n]``. Raises StatsError where they do not fit.

    Introduced in chapter 3.
    """
    first, second = as_vector("x", x, least), as_vector("y", y, least)
    if len(first) != len(second):
        raise StatsError(
            f"{len(first)} and {len(second)} values cannot be paired: give "
            "one of each for every case, in the same order"
        )
    return first, second


def check_level(level: float) -> None:
    """Raises StatsError for a level that is no probability.

    Introduced in chapter 3.
    """
    if not 0 < level < 1:
        raise StatsError(f"level is {level}; it lies between 0 and 1")


def batch_size(n: int) -> int:
    """How many draws of ``n`` values fit into memory at a time.

    Introduced in chapter 3.
    """
    return max(1, _ELEMENTS // n)


def wilson(hits: int, n: int, level: float = LEVEL) -> Interval:
    """Wilson's score interval of a share, such as an accuracy.

    ``hits`` out of ``n`` independent cases; within 0..1, also for none
    or all. Wilson 1927. Raises StatsError for impossible counts.

    Introduced in chapter 3.
    """
    check_level(level)
    if n < 1 or not 0 <= hits <= n or hits != int(hits) or n != int(n):
        raise StatsError(
            f"{hits} hits out of {n} cases: counts are whole, with "
            "0 <= hits <= n and n at least 1"
        )
    found = stats.binomtest(int(hits), int(n)).proportion_ci(
        level, method="wilson"
    )
    return Interval(
        hits / n, float(found.low), float(found.high), int(n), level
    )


def bootstrap(
    statistic: Callable[..., float],
    *samples: ArrayLike,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """BCa bootstrap interval of ``statistic(*samples)``.

    The samples are paired: a case is drawn with its value in each. A
    statistic with an ``axis`` argument is computed for many draws at a
    time. Undefined where the statistic is so for some draw or with one
    case left out: too few cases, or too many equal ones. Efron 1987.
    Below about twenty cases it is too narrow.

    Raises StatsError for samples of different lengths.

    Introduced in chapter 3.
    """
    check_level(level)
    cases = [as_vector("a sample", sample, 1) for sample in samples]
    n = len(cases[0])
    if any(len(sample) != n for sample in cases):
        raise StatsError(
            f"samples of {[len(s) for s in cases]} cases cannot be paired"
        )
    value = float(statistic(*cases))
    if n == 1:
        return Interval(value, math.nan, math.nan, 1, level)
    # Undefined draws show in the result; scipy and numpy need not warn.
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)
        found = stats.bootstrap(
            tuple(cases),
            statistic,
            n_resamples=resamples,
            batch=batch_size(n),
            paired=True,
            confidence_level=level,
            method="BCa",
            rng=np.random.default_rng(seed),
        )
    if np.ptp(found.bootstrap_distribution) == 0:
        return Interval(value, value, value, n, level)
    low, high = found.confidence_interval
    return Interval(value, float(low), float(high), n, level)


def mean_interval(
    values: ArrayLike,
    method: str = "t",
    level: float = LEVEL,
    seed: int = 0,
) -> Interval:
    """Interval of the mean of independent ``values`` ``[n]``.

    ``"t"``: Student's, right for few values such as seeds; ``"bca"``:
    bootstrap, for many and skewed ones. One value: no interval.

    Raises StatsError for no values, NaN, or another method.

    Introduced in chapter 3.
    """
    check_level(level)
    vector = as_vector("values", values, 1)
    if method == "bca":
        return bootstrap(np.mean, vector, level=level, seed=seed)
    if method != "t":
        raise StatsError(f"method is {method!r}; choose 't' or 'bca'")
    n, mean = len(vector), float(vector.mean())
    if n == 1:
        return Interval(mean, math.nan, math.nan, 1, level)
    half = float(stats.sem(vector) * stats.t.ppf((1 + level) / 2, n - 1))
    return Interval(mean, mean - half, mean + half, n, level)
