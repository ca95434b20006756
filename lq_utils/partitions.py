"""The best partition of numbers on a line into clusters.

The clusters of the least sum of squared distances are intervals, so that
dynamic programming over the sorted values finds them. The last interval's
best beginning moves right with the end of the data, which divide and
conquer uses: O(n log n) steps a cluster.

Source: Wang and Song 2011 (Ckmeans.1d.dp); Grønlund et al. 2017.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np


def best_centroids(
    values: np.ndarray, counts: np.ndarray, count: int
) -> np.ndarray:
    """At most ``count`` centroids of least cost, float64.

    ``values [n]`` are ascending and distinct, seen ``counts [n]`` times;
    the cost is the sum of squared distances to the nearest centroid.
    Takes 4 bytes of memory a value and cluster.

    Introduced in chapter 4.
    """
    start = np.full(len(values) + 1, np.inf)
    start[0] = 0.0
    _, splits = _table(values, counts, start, count)
    return _means(values, counts, splits)


def best_centroids_with_zero(
    values: np.ndarray, counts: np.ndarray, count: int
) -> np.ndarray:
    """As :func:`best_centroids`, but one of the centroids is 0.

    Introduced in chapter 4.
    """
    # The interval around 0 divides the problem: what lies left and right
    # of it shares nothing but the number of clusters.
    sides = [
        _beside_zero(sign * values, counts, count - 1) for sign in (-1, 1)
    ]
    (left, left_costs), (right, right_costs) = sides
    used = int(np.argmin(left_costs + right_costs[::-1]))
    return np.concatenate([-left(used), [0.0], right(count - 1 - used)])


def _beside_zero(
    values: np.ndarray, counts: np.ndarray, most: int
) -> tuple[Callable[[int], np.ndarray], np.ndarray]:
    """The positive values, the first of which may belong to 0.

    Returns a function from a number of clusters to their centroids, and
    the costs of 0 ... ``most`` clusters.
    """
    own = np.flatnonzero(values > 0)
    order = own[np.argsort(values[own])]
    values, counts = values[order], counts[order]
    start = np.append(0.0, np.cumsum(counts * values**2))
    costs, splits = _table(values, counts, start, most)
    return lambda used: _means(values, counts, splits[:used]), costs


def _table(
    values: np.ndarray, counts: np.ndarray, start: np.ndarray, most: int
) -> tuple[np.ndarray, np.ndarray]:
    """Least costs of 0 ... ``most`` clusters, ``[most + 1]``, and where the
    last of them begins among the first ``m`` values, ``[most, n + 1]``.

    ``start [n + 1]`` is the cost of the first ``m`` values without any.
    """
    # Centred sums of squares lose nothing when they are subtracted.
    centred = values - values.mean() if len(values) else values
    mass = np.append(0.0, np.cumsum(counts, dtype=np.float64))
    first = np.append(0.0, np.cumsum(counts * centred))
    second = np.append(0.0, np.cumsum(counts * centred**2))
    splits = np.zeros((most, len(start)), dtype=np.int32)
    costs, before = [start[-1]], start
    for row in splits:
        before = _compiled()(before, mass, first, second, row)
        costs.append(before[-1])
    return np.array(costs), splits


@cache
def _compiled() -> Callable[..., np.ndarray]:
    # numba comes with umap-learn; imported only where it is needed.
    from numba import njit

    compiled: Any
    try:
        compiled = njit(cache=True)(_one_cluster_more)
    except RuntimeError:  # nowhere to keep the compiled code
        compiled = njit(_one_cluster_more)
    return compiled


def _one_cluster_more(
    before: np.ndarray,
    mass: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
    splits: np.ndarray,
) -> np.ndarray:
    """Least costs ``[n + 1]`` of the first ``m`` values; fills ``splits``."""
    after = np.empty_like(before)
    # Ranges of m still to do, and of where their last cluster may begin.
    stack = np.zeros((128, 4), dtype=np.int64)
    stack[0, 1] = stack[0, 3] = len(before) - 1
    top = 1
    while top > 0:
        top -= 1
        low, high, least, most = stack[top]
        middle = (low + high) // 2
        best, at = np.inf, least
        for j in range(least, min(most, middle) + 1):
            cost = before[j]
            if j < middle:
                total = first[middle] - first[j]
                weight = mass[middle] - mass[j]
                spread = second[middle] - second[j] - total * total / weight
                cost += max(spread, 0.0)
            if cost < best:
                best, at = cost, j
        after[middle], splits[middle] = best, at
        if low < middle:
            stack[top, 0], stack[top, 1] = low, middle - 1
            stack[top, 2], stack[top, 3] = least, at
            top += 1
        if middle < high:
            stack[top, 0], stack[top, 1] = middle + 1, high
            stack[top, 2], stack[top, 3] = at, most
            top += 1
    return after


def _means(
    values: np.ndarray, counts: np.ndarray, splits: np.ndarray
) -> np.ndarray:
    """Means of the clusters that the rows of ``splits`` lead to."""
    stop = len(values)
    means = []
    for row in splits[::-1]:
        own = slice(row[stop], stop)
        if own.start < stop:
            means.append(np.average(values[own], weights=counts[own]))
        stop = own.start
    return np.array(means)
