"""Two-sample statistics between classes: no Gaussian is assumed.

They compare the samples themselves, all pairs of points, one class
against all others at a time.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.spatial.distance import cdist

from lq_utils.gaussian import DistanceError, check_samples

SAMPLES_PER_CLASS = 100  # cap, so that the cost stays quadratic in this
BANDWIDTH_SAMPLES = 2000


def _first_samples(
    features: np.ndarray, labels: np.ndarray, num_classes: int, most: int
) -> list[np.ndarray]:
    features, labels = check_samples(features, labels, num_classes, 2)
    return [features[labels == k][:most] for k in range(num_classes)]


def _pair_sums(
    groups: list[np.ndarray], f: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    """Sum of ``f(Euclidean distance)`` over all pairs of two classes.

    Works one class against all others at a time, so memory stays at one
    class's share of the full distance matrix.
    """
    stacked = np.concatenate(groups)
    starts = np.cumsum([0] + [len(g) for g in groups[:-1]])
    sums = np.empty((len(groups), len(groups)))
    for i, group in enumerate(groups):
        columns = f(cdist(group, stacked)).sum(axis=0)
        sums[i] = np.add.reduceat(columns, starts)
    return (sums + sums.T) / 2


def energy_distance(
    features: np.ndarray,
    labels: np.ndarray,
    num_classes: int,
    most: int = SAMPLES_PER_CLASS,
) -> np.ndarray:
    """Energy distance of the samples, all pairs ``[C, C]``.

    sqrt(2 E|X - Y| - E|X - X'| - E|Y - Y'|) over the first ``most``
    samples of each class; zero only for equal samples, no Gaussian
    assumed. Szekely and Rizzo 2013.

    Introduced in chapter 1.
    """
    groups = _first_samples(features, labels, num_classes, most)
    counts = np.array([len(g) for g in groups])
    means = _pair_sums(groups, lambda d: d) / np.outer(counts, counts)
    own = np.diagonal(means)
    squares = 2 * means - (own[:, None] + own[None])
    np.fill_diagonal(squares, 0.0)
    return np.sqrt(np.maximum(squares, 0.0))


def mmd(
    features: np.ndarray,
    labels: np.ndarray,
    num_classes: int,
    most: int = SAMPLES_PER_CLASS,
) -> np.ndarray:
    """Squared maximum mean discrepancy, unbiased ``[C, C]``.

    RBF kernel exp(-d^2 / (2 s^2)); s is the median distance over a fixed
    sample of all points. Unbiased, so a value may be slightly negative:
    the two classes cannot be told apart. Gretton et al. 2012, eq. 3.

    Raises DistanceError where most samples are the same point.

    Introduced in chapter 1.
    """
    groups = _first_samples(features, labels, num_classes, most)
    counts = np.array([len(g) for g in groups])
    spread = np.concatenate(groups)
    spread = spread[:: -(-len(spread) // BANDWIDTH_SAMPLES)]
    gaps = cdist(spread, spread)[np.triu_indices(len(spread), 1)]
    width = np.median(gaps)
    if not width > 0:
        raise DistanceError("most samples are the same point: no bandwidth")
    sums = _pair_sums(groups, lambda d: np.exp(-0.5 * (d / width) ** 2))
    # A sample's kernel with itself is 1; the unbiased mean leaves it out.
    own = (np.diagonal(sums) - counts) / (counts * (counts - 1))
    squares = (own[:, None] + own[None]) - 2 * sums / np.outer(counts, counts)
    np.fill_diagonal(squares, 0.0)
    return squares
