"""Distances to the nearest neighbours, fast and to float64 precision.

Nearest neighbours are found with matrix products, |x - y|^2 = |x|^2 + |y|^2
- 2 x.y, which cancels where two points are close. So the product in float32
only proposes; distances come from differences in float64, and a bound on
the rounding of the product tells whether a point may have been overlooked.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from lq_utils.products import Cloud, propose

FEW_RANKS = 8  # up to here candidates of a float32 product are re-checked
SPARE = 2  # candidates beyond the ranks asked for
KEY_COLUMNS = 16  # looked at before whole points are compared
TOLERANCE = 1e-9  # allowed relative error of a squared distance
MEMORY = 2**28


class DimensionError(ValueError):
    """A dimension cannot be estimated from what was given.

    Introduced in chapter 5.
    """


@dataclass(frozen=True, eq=False)
class Nearest:
    """Distances of every point to its nearest neighbours.

    ``distances`` is float64 ``[points, ranks]``, ascending along a row, in
    the units of the points; ``points`` is the number of different points,
    ``removed`` that of exact duplicates left out. Rows follow the order of
    the points that were kept, each at its first place.

    Introduced in chapter 5.
    """

    distances: np.ndarray
    points: int
    removed: int


def check_points(points: np.ndarray) -> np.ndarray:
    """Points ``[N, D]`` as float32 or float64, or DimensionError.

    Any numeric type is taken; float32 stays, all others become float64.
    Raises DimensionError for another shape and for NaN or infinite values.
    Introduced in chapter 5.
    """
    points = np.asarray(points)
    if points.ndim != 2 or not points.shape[1]:
        raise DimensionError(
            f"points of shape {points.shape}: give a table [points, "
            "coordinates]; flatten images and layer outputs first"
        )
    if points.dtype != np.float32:
        points = points.astype(np.float64, copy=False)
    # A sum is finite only where all its terms are: no mask of all values.
    sums = points.sum(axis=1, dtype=np.float64)
    if not np.isfinite(sums).all():
        bad = int(np.flatnonzero(~np.isfinite(sums))[0])
        raise DimensionError(
            f"point {bad} holds NaN or infinite values: remove such points "
            "or look for the overflow that made them"
        )
    return points


def distinct_rows(points: np.ndarray) -> np.ndarray:
    """Ascending indices of the first of each set of equal rows, int64.

    ``points [N, D]`` of any float type; 0 and -0 are equal. Introduced in
    chapter 5.
    """
    width = min(points.shape[1], KEY_COLUMNS)
    columns = np.linspace(0, points.shape[1] - 1, width).astype(int)
    # Few rows agree in these columns; only those are compared in full.
    _, group, sizes = np.unique(
        points[:, columns] + 0.0,
        axis=0,
        return_inverse=True,
        return_counts=True,
    )
    keep = np.ones(len(points), dtype=bool)
    seen: set[bytes] = set()
    for i in np.flatnonzero(sizes[group.ravel()] > 1):
        digest = hashlib.blake2b((points[i] + 0.0).tobytes()).digest()
        keep[i] = digest not in seen
        seen.add(digest)
    return np.flatnonzero(keep)


def nearest_distances(
    points: np.ndarray, ranks: int = 2, memory: int = MEMORY
) -> Nearest:
    """Distances of every point to its ``ranks`` nearest neighbours.

    Exact duplicates are removed first: a distance of 0 has no logarithm.

    Args:
        points: ``[N, D]``, any numeric type; layer outputs flattened.
        ranks: number of neighbours, 1 to N - 1 after removal.
        memory: bytes for a product of points with points; there are a few
            temporary arrays of about this size.

    Raises:
        DimensionError: NaN or infinite values, fewer than three different
            points, more ranks than neighbours, or distances whose squares
            float64 cannot hold.

    Source: Higham 2002, Accuracy and Stability of Numerical Algorithms,
    section 3.1, for the bound on rounding. Introduced in chapter 5.
    """
    points = check_points(points)
    kept = distinct_rows(points)
    removed = len(points) - len(kept)
    _check_count(len(kept), removed, ranks)
    cloud = Cloud(points[kept] if removed else points)
    distances = np.empty((len(kept), ranks))
    sure = np.zeros(len(kept), dtype=bool)
    if ranks <= FEW_RANKS:
        distances, sure = _from_candidates(cloud, ranks, memory)
    unsure = np.flatnonzero(~sure)
    step = max(1, int(memory) // (8 * len(kept)))
    for start in range(0, len(unsure), step):
        rows = unsure[start : start + step]
        distances[rows] = _from_products(cloud, rows, ranks)
    # Different points whose squares underflow would look like duplicates.
    if not distances.all():
        raise DimensionError(
            "some points are too close for float64 next to the size of "
            "others: remove outliers, or set tiny values to 0"
        )
    return Nearest(distances, len(kept), removed)


def _check_count(points: int, removed: int, ranks: int) -> None:
    if isinstance(ranks, bool) or ranks != int(ranks) or ranks < 1:
        raise DimensionError(f"ranks={ranks!r}: give a whole number from 1")
    if points < 3:
        raise DimensionError(
            f"{points} different point(s) ({removed} duplicates removed), at "
            "least three are needed: give more points, or look why a layer "
            "gives the same output for all"
        )
    if ranks >= points:
        raise DimensionError(
            f"{ranks} neighbours of {points} different points ({removed} "
            f"duplicates removed): ask for at most {points - 1}, or give "
            "more points"
        )


def _from_candidates(
    cloud: Cloud, ranks: int, memory: int
) -> tuple[np.ndarray, np.ndarray]:
    """Distances among candidates, and which rows are surely right."""
    count = min(ranks + SPARE, len(cloud) - 1)
    candidates, bound = propose(cloud, count, memory)
    squares = np.stack([cloud.squares(i, x) for i, x in enumerate(candidates)])
    squares.sort(axis=1)
    if count == len(cloud) - 1:
        bound[:] = np.inf
    sure = squares[:, ranks - 1] <= bound
    return np.sqrt(squares[:, :ranks]) / cloud.scale, sure


def _from_products(cloud: Cloud, rows: np.ndarray, ranks: int) -> np.ndarray:
    """Distances of ``rows`` from products in float64.

    With g the rounding of a product, the square d^2 of a distance from x
    is off by less than g (9 |x|^2 + 6 d^2), as |y|^2 <= 2 (|x|^2 + d^2);
    this grows with d^2 only, so that it holds for the k-th smallest too.
    """
    squares = cloud.float64_products(rows)
    squares *= -2
    squares += cloud.norms[rows][:, None]
    squares += cloud.norms
    squares[np.arange(len(rows)), rows] = np.inf
    squares.partition(ranks - 1, axis=1)
    nearest = np.sort(squares[:, :ranks], axis=1)
    error = 9 * cloud.rounding(np.float64) * cloud.norms[rows]
    distances = np.sqrt(np.maximum(nearest, 0.0)) / cloud.scale
    for i in np.flatnonzero(error > TOLERANCE * nearest[:, 0]):
        distances[i] = _from_differences(cloud, int(rows[i]), ranks)
    return distances


def _from_differences(cloud: Cloud, row: int, ranks: int) -> np.ndarray:
    """Distances of one point from differences to all others."""
    step = max(1, 2**20 // cloud.points.shape[1])
    parts = [slice(i, i + step) for i in range(0, len(cloud), step)]
    squares = np.concatenate([cloud.squares(row, part) for part in parts])
    squares[row] = np.inf
    nearest = np.sort(np.partition(squares, ranks - 1)[:ranks])
    return np.sqrt(nearest) / cloud.scale
