"""Intrinsic dimension from the two nearest neighbours of every point.

Around a point of a d-dimensional cloud the ratio mu = r2 / r1 of its two
nearest distances has F(mu) = 1 - mu^-d, whatever the density, as long as it
is constant up to r2. Register your own estimator of d from these distances
with ``register_estimator``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from lq_utils.nearest import (
    DimensionError,
    check_points,
    distinct_rows,
    nearest_distances,
)
from lq_utils.registry import Registry

__all__ = [
    "ESTIMATORS",
    "DimensionError",
    "DimensionEstimate",
    "register_estimator",
    "scaling_curve",
    "two_nearest_neighbors",
]

LEAST_BLOCK = 20  # points; fewer say nothing about a spread

# f(distances float64 [N, 2], share of the largest ratios to discard) -> d
Estimator = Callable[[np.ndarray, float], float]

ESTIMATORS: Registry[Estimator] = Registry("dimension estimator")
register_estimator = ESTIMATORS.register


@dataclass(frozen=True)
class DimensionEstimate:
    """An intrinsic dimension with what is needed to judge it.

    ``value`` is that of all ``points`` (their number after ``removed``
    exact duplicates were left out); ``error`` its standard error from
    disjoint blocks, NaN where none was asked for; ``scale`` the mean
    distance of the second neighbour, in units of the points. ``ties``
    counts points whose two nearest neighbours are exactly as far: in
    continuous data there are none, many mean that the values are discrete
    and the estimate is not to be trusted.

    Introduced in chapter 5.
    """

    value: float
    error: float
    scale: float
    points: int
    removed: int
    ties: int
    method: str


def _by_scikit_dimension(
    distances: np.ndarray, discard: float, method: str
) -> float:
    # Slow to import, and needed by few: imported only here.
    from skdim.id import TwoNN

    if not 0 < discard < 1:
        raise DimensionError(
            f"discard={discard}: give a share above 0 and below 1, as the "
            "largest ratio has no finite place in the fit"
        )
    if int(len(distances) * (1 - discard)) < 2:
        raise DimensionError(
            f"discard={discard} leaves fewer than two of {len(distances)} "
            "points: discard less, or give more points"
        )
    fitted = TwoNN(discard, dist=True, method=method).fit(distances)
    return float(fitted.dimension_)


@register_estimator("regression")
def regression(distances: np.ndarray, discard: float) -> float:
    """Slope of -log(1 - F) over log mu, through the origin.

    ``distances`` float64 ``[N, 2]``; the ``discard`` share of the largest
    ratios, which leave the line first, does not count. Computed by
    scikit-dimension. Source: Facco et al. 2017, methods. Introduced in
    chapter 5.
    """
    return _by_scikit_dimension(distances, discard, "linear")


@register_estimator("likelihood")
def likelihood(distances: np.ndarray, discard: float) -> float:
    """(N - 1) / sum log mu: maximum likelihood without its bias.

    ``distances`` float64 ``[N, 2]``; ``discard`` does not count. Source:
    Denti et al. 2022, section 2. Introduced in chapter 5.
    """
    ratios = np.log(distances[:, 1] / distances[:, 0])
    return float((len(ratios) - 1) / ratios.sum())


@register_estimator("censored")
def censored(distances: np.ndarray, discard: float) -> float:
    """Maximum likelihood that knows of the largest ratios only how many.

    ``distances`` float64 ``[N, 2]``; ``discard`` is the share of ratios
    that is censored. Computed by scikit-dimension (its "mle"). Source:
    scikit-dimension 0.5, TwoNN. Introduced in chapter 5.
    """
    return _by_scikit_dimension(distances, discard, "mle")


def two_nearest_neighbors(
    points: np.ndarray,
    method: str = "regression",
    discard: float = 0.1,
    blocks: int | None = 8,
    seed: int = 0,
) -> DimensionEstimate:
    """Intrinsic dimension of points by TwoNN.

    Too low where the dimension is above about ten: uniform cubes of 5, 10
    and 20 dimensions give 4.7, 8.6 and 15.3 at N = 2,000. Compare only
    estimates from the same number of points, and see ``scaling_curve``.

    Args:
        points: ``[N, D]``, any numeric type; layer outputs flattened.
        method: ``"regression"`` (Facco et al.), ``"likelihood"`` or
            ``"censored"``; or your own.
        discard: share of the largest ratios left out (censored);
            ``"likelihood"`` uses all.
        blocks: number of disjoint blocks for the error, or None for none.
            The error is their standard deviation over sqrt(blocks). Blocks
            have fewer points and hence another small-sample bias; it is
            common to them and enters their spread little.
        seed: of the blocks.

    Raises:
        DimensionError: points that ``nearest_distances`` refuses, fewer
            than 20 points a block, or ratios that are all 1.
        UnknownName: no such method.

    Source: Facco, d'Errico, Rodriguez and Laio 2017. Introduced in
    chapter 5.
    """
    estimate = ESTIMATORS.get(method)
    points = check_points(points)
    kept = distinct_rows(points)
    removed = len(points) - len(kept)
    points = points[kept] if removed else points
    near = nearest_distances(points).distances
    values = []
    for rows in _blocks(len(kept), blocks, seed) if blocks is not None else []:
        part = nearest_distances(points[rows]).distances
        values.append(_estimate(estimate, part, discard))
    return DimensionEstimate(
        _estimate(estimate, near, discard),
        _standard_error(values),
        float(near[:, 1].mean()),
        len(kept),
        removed,
        int((near[:, 0] == near[:, 1]).sum()),
        method,
    )


def _estimate(
    estimate: Estimator, distances: np.ndarray, discard: float
) -> float:
    if (distances[:, 0] == distances[:, 1]).all():
        raise DimensionError(
            "the two nearest neighbours of every point are equally far: the "
            "points lie on a grid or in pairs, TwoNN needs continuous values"
        )
    return float(estimate(distances, discard))


def _blocks(points: int, blocks: int, seed: int) -> list[np.ndarray]:
    """Rows of disjoint random blocks; sizes differ by at most one."""
    if isinstance(blocks, bool) or blocks != int(blocks) or blocks < 2:
        raise DimensionError(
            f"blocks={blocks!r}: give a whole number from 2, or None for no "
            "error"
        )
    if points // blocks < LEAST_BLOCK:
        raise DimensionError(
            f"{points} different points in {blocks} blocks leave fewer than "
            f"{LEAST_BLOCK} each: give more points, fewer blocks, or "
            "blocks=None for no error"
        )
    order = np.random.default_rng(seed).permutation(points)
    return np.array_split(order, blocks)


def _standard_error(values: list[float]) -> float:
    if not values:
        return float("nan")
    return float(np.std(values, ddof=1) / np.sqrt(len(values)))


def scaling_curve(
    points: np.ndarray,
    halvings: int = 4,
    method: str = "regression",
    seed: int = 0,
    discard: float = 0.1,
) -> pd.DataFrame:
    """TwoNN on all points, and on ever smaller disjoint subsets of them.

    A dimension that goes on growing with the number of points is a lower
    bound; one that falls as points become few was noise at small scale.

    Args:
        points: ``[N, D]``, as for ``two_nearest_neighbors``.
        halvings: how often N is halved; 2^k subsets after k halvings.
        method: as for ``two_nearest_neighbors``, as is ``discard``.
        seed: of the order in which points are shared out.

    Returns:
        Columns ``points`` (of the smallest subset), ``subsets``, ``value``
        (their mean dimension), ``error`` (standard error of that mean, NaN
        for a single subset) and ``scale`` (mean distance of the second
        neighbour).

    Raises:
        DimensionError: fewer than 20 points a subset, or points that
            ``nearest_distances`` refuses.

    Source: Facco et al. 2017, scale dependence. Introduced in chapter 5.
    """
    if isinstance(halvings, bool) or halvings != int(halvings) or halvings < 0:
        raise DimensionError(f"halvings={halvings!r}: give 0, 1, 2, ...")
    points = check_points(points)
    points = points[distinct_rows(points)]
    if halvings and len(points) // 2**halvings < LEAST_BLOCK:
        raise DimensionError(
            f"{len(points)} different points halved {halvings} times leave "
            f"fewer than {LEAST_BLOCK}: give more points or fewer halvings"
        )
    order = np.random.default_rng(seed).permutation(len(points))
    rows = []
    for count in (2**k for k in range(halvings + 1)):
        parts = np.array_split(order, count)
        found = [
            two_nearest_neighbors(points[part], method, discard, blocks=None)
            for part in parts
        ]
        values = [each.value for each in found]
        rows.append(
            {
                "points": min(map(len, parts)),
                "subsets": count,
                "value": float(np.mean(values)),
                "error": _standard_error(values if count > 1 else []),
                "scale": float(np.mean([each.scale for each in found])),
            }
        )
    return pd.DataFrame(rows)
