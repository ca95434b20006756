"""GRIDE: intrinsic dimension at growing scale, from farther neighbours.

TwoNN looks at the first two neighbours, where noise may rule. With ranks
n1 and n2 = 2 n1 the same points show the dimension at a larger scale.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.optimize import brentq

from lq_utils.nearest import DimensionError, nearest_distances


def _terms(dimension: float, logs: np.ndarray) -> tuple[float, float]:
    """Sums of x / (1 - e^-dx) and of its -d/dd, over x = ``logs``.

    Ties, x = 0, take the limits 1 / d and 1 / d^2.
    """
    half = dimension * logs / 2
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        first = -logs / np.expm1(-2 * half)
        second = np.square(logs / (2 * np.sinh(half)))
    first = np.where(logs > 0, first, 1 / dimension)
    second = np.where(logs > 0, second, 1 / dimension**2)
    return float(first.sum()), float(second.sum())


def gride_estimate(ratios: np.ndarray, rank_near: int) -> tuple[float, float]:
    """Dimension and its error from ratios of distances, n2 = 2 n1.

    With mu = r_n2 / r_n1 >= 1 the density is d (mu^d - 1)^(n1 - 1) /
    (mu^((2 n1 - 1) d + 1) B(n1, n1)); the likelihood has one maximum.

    Args:
        ratios: mu, float ``[N]``.
        rank_near: n1, from 1. At 1 the dimension is that of the TwoNN
            ``"likelihood"``, (N - 1) / sum log mu.

    Returns:
        Dimension, and 1 / sqrt(Fisher information) as observed at it. The
        dimension is that of maximum likelihood but for a factor N - 1 in
        place of N in its equation, which removes the bias at n1 = 1, as in
        DADApy. The ratios are taken as independent, which those of far
        neighbours are less and less: the error is a lower bound.

    Raises:
        DimensionError: fewer than two ratios, ratios below 1 or not
            finite, or all equal to 1, or a rank below 1.

    Source: Denti, Doimo, Laio and Mira 2022, section 3. Introduced in
    chapter 5.
    """
    ratios = np.asarray(ratios, dtype=np.float64)
    if rank_near != int(rank_near) or rank_near < 1:
        raise DimensionError(f"rank_near={rank_near}: give 1, 2, 3, ...")
    if len(ratios) < 2:
        raise DimensionError("fewer than two ratios: give more points")
    if not (np.isfinite(ratios).all() and (ratios >= 1).all()):
        raise DimensionError(
            "ratios must be finite and at least 1: divide the farther "
            "distance by the nearer one, without duplicates"
        )
    logs = np.log(ratios)
    if not logs.sum() > 0:
        raise DimensionError(
            "near and far neighbour of every point are equally far: the "
            "points lie on a grid; GRIDE needs continuous values"
        )
    n, extra, power = len(logs), rank_near - 1, 2 * rank_near - 1

    def score(d: float) -> float:
        return (n - 1) / d + extra * _terms(d, logs)[0] - power * logs.sum()

    # The score falls from infinity to -n1 sum log mu: one root.
    high = (n - 1) / float(logs.sum())
    while score(high) > 0:
        high *= 2
    low = high
    while score(low) < 0:
        low /= 2
    d = high if low == high else brentq(score, low, high, rtol=1e-12)
    information = n / d**2 + extra * _terms(d, logs)[1]
    return float(d), float(information**-0.5)


def gride_curve(points: np.ndarray, largest_rank: int = 64) -> pd.DataFrame:
    """Intrinsic dimension for neighbours 1 and 2, 2 and 4, 4 and 8 ...

    Args:
        points: ``[N, D]``, any numeric type; exact duplicates are removed.
        largest_rank: a power of two from 2, below N.

    Returns:
        Columns ``rank_near``, ``rank_far``, ``value``, ``error`` (see
        ``gride_estimate``) and ``scale``, the mean distance of the far
        neighbour in units of the points.

    Raises:
        DimensionError: another largest rank, or points that
            ``nearest_distances`` refuses.

    Source: Denti, Doimo, Laio and Mira 2022. Introduced in chapter 5.
    """
    if largest_rank not in [2**k for k in range(1, 31)]:
        raise DimensionError(
            f"largest_rank={largest_rank!r}: give 2, 4, 8, 16, ..."
        )
    distances = nearest_distances(points, int(largest_rank)).distances
    rows = []
    for k in range(int(largest_rank).bit_length() - 1):
        near, far = distances[:, 2**k - 1], distances[:, 2 ** (k + 1) - 1]
        value, error = gride_estimate(far / near, 2**k)
        rows.append((2**k, 2 ** (k + 1), value, error, float(far.mean())))
    columns = ["rank_near", "rank_far", "value", "error", "scale"]
    return pd.DataFrame(rows, columns=columns)
