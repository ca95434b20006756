"""Products of points with points, in parts that bound memory and rounding.

|x - y|^2 = |x|^2 + |y|^2 - 2 x.y turns a search for neighbours into matrix
products. Points are centred first, as a common offset would cancel.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy.linalg.blas import sgemm, ssyrk

PART = 1024  # coordinates multiplied at once
STRIP = 64  # rows of a product that stay in a processor's cache


class Cloud:
    """Points ``[N, D]`` with what is needed to multiply them.

    ``norms`` float64 ``[N]`` are squared lengths after centring and
    division by a power of two, ``1 / scale``, that keeps float32 in range.

    Introduced in chapter 5.
    """

    def __init__(self, points: np.ndarray) -> None:
        self.points = points
        largest = max(float(points.max()), -float(points.min()))
        least = -126 if points.dtype == np.float32 else -900
        self.scale = float(np.ldexp(1.0, -max(np.frexp(largest)[1], least)))
        # Any centre will do, as long as it is the same in both precisions.
        mean = points.mean(axis=0, dtype=np.float64) * self.scale
        self.centre = mean.astype(points.dtype)
        self.norms = np.zeros(len(points))
        for part in self.parts(slice(None)):
            self.norms += np.einsum("ij,ij->i", part, part)

    def __len__(self) -> int:
        return len(self.points)

    def parts(
        self, rows: slice | np.ndarray, kind: type[np.floating] = np.float64
    ) -> Iterator[np.ndarray]:
        """Centred and scaled rows, some columns at a time, as ``kind``.

        Every value is rounded once: a difference of float32 points is
        taken in float32 where that is what is wanted.
        """
        work = np.promote_types(kind, self.points.dtype)
        for start in range(0, self.points.shape[1], PART):
            columns = slice(start, start + PART)
            part = self.points[rows, columns].astype(work)
            part *= work.type(self.scale)
            part -= self.centre[columns]
            yield part.astype(kind, copy=False)

    def squares(self, row: int, others: np.ndarray | slice) -> np.ndarray:
        """Squared distances of scaled points, from float64 differences."""
        # To float64 first: numpy is slow at operations that convert.
        gaps = self.points[others].astype(np.float64)
        gaps -= self.points[row]
        gaps *= self.scale
        return np.einsum("ij,ij->i", gaps, gaps)

    def rounding(self, kind: type[np.floating]) -> float:
        """Bound on the relative rounding error of a product x.y.

        At most ``rounding * |x| |y|`` for sums in any order within parts.
        The 8 are for rounding the points, the offset and the result.
        Source: Higham 2002, Accuracy and Stability of Numerical
        Algorithms, section 3.1.
        """
        d = self.points.shape[1]
        terms = min(d, PART) + -(-d // PART) + 8
        unit = terms * float(np.finfo(kind).eps) / 2
        return unit / (1 - unit)

    def float64_products(self, rows: np.ndarray) -> np.ndarray:
        """x.y of ascending ``rows`` with all, float64 ``[rows, N]``."""
        total = np.zeros((len(rows), len(self)))
        whole = len(rows) == len(self)  # numpy then does half of the work
        for part in self.parts(slice(None)):
            total += (part if whole else part[rows]) @ part.T
        return total

    def float32_products(self, rows: slice, columns: slice) -> np.ndarray:
        """-2 x.y of some points with some, float32 ``[rows, columns]``.

        Where both are the same, half of the work is saved.
        """
        same = rows == columns
        shape = (columns.stop - columns.start, rows.stop - rows.start)
        # BLAS counts columns first: what it calls c is our transpose.
        total = np.zeros(shape, dtype=np.float32, order="F")
        right = self.parts(columns, np.float32)
        for left in self.parts(rows, np.float32):
            if same:
                total = ssyrk(-2, left.T, 1, total, 1, 1, overwrite_c=1)
                continue
            b = next(right).T
            total = sgemm(-2, b, left.T, 1, total, 1, overwrite_c=1)
        return _mirror(total.T) if same else total.T


def _mirror(upper: np.ndarray) -> np.ndarray:
    """Fill the lower triangle of a square matrix from the upper, in place."""
    n, step = len(upper), 8 * STRIP
    for start in range(0, n, step):
        rows = slice(start, start + step)
        square = upper[rows, rows]
        upper[rows, rows] = np.triu(square) + np.triu(square, 1).T
        upper[start + step :, rows] = upper[rows, start + step :].T
    return upper


def propose(
    cloud: Cloud, count: int, memory: int
) -> tuple[np.ndarray, np.ndarray]:
    """Likely nearest neighbours of every point, ``count`` of them.

    Returns indices int64 ``[N, count]`` and, float64 ``[N]``, a lower bound
    on the squared distance (of scaled points) to every other point. With
    the product off by at most g |x| |y| <= g (|x|^2 + |y|^2) / 2,

        |x - y|^2 >= (1 - g) (|x|^2 + |y|^2) - 2 x.y,

    which is what candidates are ranked by. ``memory`` is in bytes.
    Introduced in chapter 5.
    """
    n = len(cloud)
    norms = cloud.norms * (1 - cloud.rounding(np.float32))
    offset = norms.astype(np.float32)
    bounds = np.full((n, count), np.inf, dtype=np.float32)
    indices = np.zeros((n, count), dtype=np.int64)
    step = max(STRIP, int(np.sqrt(memory / 4)))
    tiles = [slice(i, min(i + step, n)) for i in range(0, n, step)]
    for i, rows in enumerate(tiles):
        for columns in tiles[i:]:
            tile = cloud.float32_products(rows, columns)
            _offer(bounds, indices, tile, rows, columns, offset)
            if columns != rows:
                _offer(bounds, indices, tile.T, columns, rows, offset)
    # Squares below the range of float32 are lost: far below this.
    return indices, bounds.max(axis=1) + norms - 1e-30


def _offer(
    bounds: np.ndarray,
    indices: np.ndarray,
    tile: np.ndarray,
    rows: slice,
    columns: slice,
    offset: np.ndarray,
) -> None:
    """Keep the best of what ``rows`` had and of ``columns``, in place."""
    count = bounds.shape[1]
    for start in range(rows.start, rows.stop, STRIP):
        strip = slice(start, min(start + STRIP, rows.stop))
        here = np.arange(strip.stop - strip.start)
        scores = tile[start - rows.start :][: len(here)] + offset[columns]
        if rows == columns:  # a point is not its own neighbour
            scores[here, here + start - rows.start] = np.inf
        values, places = [bounds[strip]], [indices[strip]]
        # A few passes over the cached strip are faster than a partition.
        for _ in range(count):
            best = scores.argmin(axis=1)
            values.append(scores[here, best][:, None])
            places.append(best[:, None] + columns.start)
            scores[here, best] = np.inf
        both = np.concatenate(values, axis=1)
        order = np.argsort(both, axis=1, kind="stable")[:, :count]
        bounds[strip] = np.take_along_axis(both, order, 1)
        found = np.concatenate(places, axis=1)
        indices[strip] = np.take_along_axis(found, order, 1)
