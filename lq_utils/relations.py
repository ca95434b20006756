"""How two quantities go together: correlations and a fitted line."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from lq_utils.intervals import (
    LEVEL,
    Interval,
    StatsError,
    as_pair,
    check_level,
)

KINDS = ("spearman", "pearson")


@dataclass(frozen=True)
class Correlation(Interval):
    """A correlation coefficient; ``p`` is two-sided, for no correlation.

    Introduced in chapter 3.
    """

    p: float
    kind: str


@dataclass(frozen=True)
class Regression:
    """The least-squares line; ``p`` is two-sided, for a zero slope.

    Introduced in chapter 3.
    """

    slope: Interval
    intercept: Interval
    r_squared: float
    p: float
    n: int
    x_mean: float
    x_spread: float  # sum of squares around the mean
    residual: float  # standard deviation around the line

    def line(self, x: ArrayLike) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Height of the line at ``x`` ``[k]``, and its confidence band.

        The band holds the *mean* of y at each x, not single cases.
        """
        at = np.asarray(x, dtype=np.float64)
        fit = self.intercept.value + self.slope.value * at
        leverage = 1 / self.n + (at - self.x_mean) ** 2 / self.x_spread
        factor = stats.t.ppf((1 + self.slope.level) / 2, self.n - 2)
        half = factor * self.residual * np.sqrt(leverage)
        return fit, fit - half, fit + half


def _centred(values: ArrayLike, axis: int) -> np.ndarray:
    array = np.asarray(values, dtype=np.float64)
    return np.asarray(array - array.mean(axis=axis, keepdims=True))


def slope(x: ArrayLike, y: ArrayLike, axis: int = -1) -> np.ndarray:
    """Slope of the least-squares line along ``axis``, for ``bootstrap``.

    NaN where x does not vary.

    Introduced in chapter 3.
    """
    a, b = _centred(x, axis), _centred(y, axis)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray((a * b).sum(axis) / (a * a).sum(axis))


def pearson(x: ArrayLike, y: ArrayLike, axis: int = -1) -> np.ndarray:
    """Pearson's correlation along ``axis``, for ``bootstrap``.

    NaN where x or y does not vary.

    Introduced in chapter 3.
    """
    a, b = _centred(x, axis), _centred(y, axis)
    with np.errstate(invalid="ignore", divide="ignore"):
        # Scaled first, so that the squares neither vanish nor overflow.
        a = a / np.abs(a).max(axis, keepdims=True)
        b = b / np.abs(b).max(axis, keepdims=True)
        norm = np.sqrt((a * a).sum(axis)) * np.sqrt((b * b).sum(axis))
        return np.clip((a * b).sum(axis) / norm, -1, 1)


def spearman(x: ArrayLike, y: ArrayLike, axis: int = -1) -> np.ndarray:
    """Spearman's rank correlation along ``axis``, for ``bootstrap``.

    NaN where x or y does not vary.

    Introduced in chapter 3.
    """
    ranks = stats.rankdata(x, axis=axis), stats.rankdata(y, axis=axis)
    return pearson(ranks[0], ranks[1], axis)


def _fisher(r: float, kind: str, free: int, level: float) -> list[float]:
    """Interval by Fisher's z; for ranks by Bonett and Wright 2000."""
    if free < 1:
        return [math.nan, math.nan]
    if abs(r) == 1:
        return [r, r]
    variance = (1 + r * r / 2 if kind == "spearman" else 1) / free
    half = float(stats.norm.ppf((1 + level) / 2)) * math.sqrt(variance)
    return [math.tanh(math.atanh(r) - half), math.tanh(math.atanh(r) + half)]


def _p_value(r: float, kind: str, n: int, free: int) -> float:
    t = abs(r) * math.sqrt(free / (1 - r * r)) if abs(r) < 1 else math.inf
    p = float(2 * stats.t.sf(t, free))
    # Of n! orders of the ranks, two are perfect: p cannot be smaller.
    return max(p, 2 / math.factorial(n)) if kind == "spearman" else p


def _residuals(values: np.ndarray, given: np.ndarray) -> np.ndarray:
    design = np.column_stack([np.ones(len(values)), given])
    weights, *_ = np.linalg.lstsq(design, values, rcond=None)
    return np.asarray(values - design @ weights)


def _check_spread(name: str, values: np.ndarray, whole: np.ndarray) -> None:
    # Equal numbers leave rounding errors behind, not zeros.
    if np.ptp(values) <= 1e-12 * np.abs(whole).max():
        raise StatsError(
            f"{name} does not vary (or not beyond what is given), so that "
            "no correlation or line exists"
        )


def correlation(
    x: ArrayLike,
    y: ArrayLike,
    kind: str = "spearman",
    level: float = LEVEL,
) -> Correlation:
    """Correlation of ``x`` and ``y`` ``[n]``: "spearman" or "pearson".

    Intervals by Fisher's z (ranks: Bonett and Wright 2000), undefined
    for three cases; p by Student's t, approximate for ranks.

    Raises StatsError for fewer than three cases, a constant, NaN.

    Introduced in chapter 3.
    """
    nothing = np.empty((len(np.atleast_1d(x)), 0))
    return partial_correlation(x, y, nothing, kind, level)


def partial_correlation(
    x: ArrayLike,
    y: ArrayLike,
    given: ArrayLike,
    kind: str = "spearman",
    level: float = LEVEL,
) -> Correlation:
    """Correlation of ``x`` and ``y`` ``[n]`` left after ``given``.

    ``given`` ``[n]`` or ``[n, k]``: what is regressed out of both
    linearly, for "spearman" in ranks. Interval and p as for
    ``correlation``, with k cases fewer. Fisher 1924.

    Raises StatsError for fewer than 3 + k cases, NaN, and where x or y
    does not vary beyond what is given.

    Introduced in chapter 3.
    """
    check_level(level)
    if kind not in KINDS:
        raise StatsError(f"kind is {kind!r}; choose one of {KINDS}")
    held = np.asarray(given, dtype=np.float64)
    held = held[:, None] if held.ndim == 1 else held
    least = 3 + held.shape[1]
    pair = as_pair(x, y, least)
    n = len(pair[0])
    if held.shape[0] != n or not np.isfinite(held).all():
        raise StatsError(
            f"given has shape {held.shape}; it holds a finite number for "
            f"each of the {n} cases"
        )
    if kind == "spearman":
        pair = stats.rankdata(pair[0]), stats.rankdata(pair[1])
        held = stats.rankdata(held, axis=0) if held.size else held
    left = [_residuals(values, held) for values in pair]
    for name, rest, whole in zip("xy", left, pair, strict=True):
        _check_spread(name, rest, whole)
    r, free = float(pearson(left[0], left[1])), n + 1 - least
    low, high = _fisher(r, kind, free - 1, level)
    return Correlation(
        r, low, high, n, level, _p_value(r, kind, n, free), kind
    )


def regression(x: ArrayLike, y: ArrayLike, level: float = LEVEL) -> Regression:
    """Least-squares line of ``y`` on ``x`` ``[n]``, with t intervals.

    Raises StatsError for fewer than three cases, a constant x, NaN.

    Introduced in chapter 3.
    """
    check_level(level)
    at, values = as_pair(x, y, 3)
    _check_spread("x", at - at.mean(), at)
    n, fit = len(at), stats.linregress(at, values)
    factor = float(stats.t.ppf((1 + level) / 2, n - 2))
    left = values - (fit.intercept + fit.slope * at)

    def interval(value: float, error: float) -> Interval:
        half = factor * float(error)
        return Interval(
            float(value), float(value) - half, float(value) + half, n, level
        )

    return Regression(
        interval(fit.slope, fit.stderr),
        interval(fit.intercept, fit.intercept_stderr),
        float(fit.rvalue) ** 2,
        float(fit.pvalue),
        n,
        float(at.mean()),
        float(((at - at.mean()) ** 2).sum()),
        math.sqrt(float(left @ left) / (n - 2)),
    )
