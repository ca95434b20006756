"""Distances between classes, from samples of their features.

The registry ``DISTANCES`` holds functions of one signature,
``f(features [N, d], labels [N], num_classes) -> [C, C]``, so that a
student's distance lands in the same tables as the built-in ones. The
closed forms between Gaussians are in :mod:`lq_utils.gaussian` and can be
imported from here as well, as can the two-sample statistics of
:mod:`lq_utils.twosample`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
from scipy.stats import mannwhitneyu

from lq_utils.gaussian import (
    LEDOIT_WOLF,
    SHRINKAGE,
    DistanceError,
    Gaussians,
    bhattacharyya,
    bures_wasserstein,
    check_samples,
    gaussians,
    mahalanobis,
    symmetric_kl,
)
from lq_utils.registry import Registry
from lq_utils.twosample import energy_distance, mmd

__all__ = [
    "DISTANCES",
    "DistanceError",
    "Gaussians",
    "bhattacharyya",
    "bures_wasserstein",
    "class_distances",
    "closest_pairs",
    "confusion_distance",
    "confusion_probabilities",
    "energy_distance",
    "gaussians",
    "mahalanobis",
    "mmd",
    "pair_values",
    "rank_correlations",
    "register_distance",
    "separation_auc",
    "symmetric_kl",
    "weight_cosine",
]

SampleDistance = Callable[[np.ndarray, np.ndarray, int], np.ndarray]
DISTANCES: Registry[SampleDistance] = Registry("distance")
register_distance = DISTANCES.register


def class_distances(
    name: str, features: np.ndarray, labels: np.ndarray, num_classes: int
) -> np.ndarray:
    """The distance registered as ``name``, checked: float64 ``[C, C]``.

    Raises DistanceError if what it returns is not a finite symmetric
    matrix with a zero diagonal, which every table here relies on.

    Introduced in chapter 1.
    """
    function = DISTANCES.get(name)
    matrix = np.asarray(
        function(features, labels, num_classes), dtype=np.float64
    )
    if matrix.shape != (num_classes, num_classes):
        raise DistanceError(
            f"distance {name!r} returned shape {matrix.shape}, expected "
            f"{(num_classes, num_classes)}"
        )
    if not np.isfinite(matrix).all():
        raise DistanceError(
            f"distance {name!r} returned NaN or infinity: bring the features "
            "to a common scale, or mend the distance"
        )
    if np.diagonal(matrix).any() or not np.array_equal(matrix, matrix.T):
        raise DistanceError(
            f"distance {name!r} is not symmetric with a zero diagonal: "
            "return (D + D.T) / 2 and np.fill_diagonal(D, 0)"
        )
    return matrix


def _of_gaussians(
    name: str, distance: Callable[[Gaussians], np.ndarray]
) -> None:
    """Register ``distance`` on Gaussians fitted to the samples.

    In the plane a covariance has three numbers: fixed shrinkage, as in
    the text. In more dimensions it is estimated after Ledoit and Wolf.
    """

    def on_samples(
        features: np.ndarray, labels: np.ndarray, num_classes: int
    ) -> np.ndarray:
        wide = np.ndim(features) == 2 and np.shape(features)[1] > 2
        shrinkage = LEDOIT_WOLF if wide else SHRINKAGE
        return distance(gaussians(features, labels, num_classes, shrinkage))

    on_samples.__name__ = name
    on_samples.__doc__ = distance.__doc__
    register_distance(name)(on_samples)


_of_gaussians("symmetric_kl", symmetric_kl)
_of_gaussians("bhattacharyya", bhattacharyya)
_of_gaussians("bures_wasserstein", bures_wasserstein)
_of_gaussians("mahalanobis", mahalanobis)


register_distance("energy")(energy_distance)
register_distance("mmd")(mmd)


def confusion_probabilities(
    probabilities: np.ndarray, labels: np.ndarray, num_classes: int
) -> np.ndarray:
    """Mean class probabilities of a classifier a true class ``[C, C]``.

    ``probabilities [N, C]`` rows sum to 1; row i of the result is the
    average over the samples of class i.

    Raises DistanceError where rows are no probabilities.

    Introduced in chapter 1.
    """
    probabilities, labels = check_samples(
        probabilities, labels, num_classes, 1
    )
    if probabilities.shape[1] != num_classes or not np.allclose(
        probabilities.sum(axis=1), 1, atol=1e-4
    ):
        raise DistanceError(
            f"probabilities {probabilities.shape} must have {num_classes} "
            "columns and rows that sum to 1: apply softmax to the logits"
        )
    onehot = np.eye(num_classes)[labels]
    return onehot.T @ probabilities / onehot.sum(axis=0)[:, None]


def confusion_distance(confusion: np.ndarray) -> np.ndarray:
    """1 - (P_ij + P_ji) / 2 with zero diagonal, from ``P [C, C]``.

    ``P`` comes from ``confusion_probabilities``: two classes are close
    when the classifier gives one's probability to the other.

    Raises DistanceError for another shape, or values beyond 0 to 1.

    Introduced in chapter 1.
    """
    confusion = np.asarray(confusion, dtype=np.float64)
    square = confusion.shape == 2 * (len(confusion),) and confusion.size
    # Not "< 0 or > 1": NaN is neither.
    if not square or not (confusion.min() >= 0 and confusion.max() <= 1):
        raise DistanceError(
            "P must be square with entries in 0..1: take what "
            "confusion_probabilities returns"
        )
    distance = 1 - (confusion + confusion.T) / 2
    np.fill_diagonal(distance, 0.0)
    return distance


def weight_cosine(weights: np.ndarray) -> np.ndarray:
    """1 - cosine of a classifier's class vectors ``[C, d]`` -> ``[C, C]``.

    Needs no images at all: only the last layer's weights.

    Raises DistanceError for a class whose weights are all zero, for
    another shape, and for values that are not finite.

    Introduced in chapter 1.
    """
    weights = np.asarray(weights, dtype=np.float64)
    if weights.ndim != 2 or not np.isfinite(weights).all():
        raise DistanceError(
            f"weights {weights.shape} must be finite, one row a class: take "
            "the last layer's weight of a trained network"
        )
    norms = np.linalg.norm(weights, axis=1, keepdims=True)
    if not norms.all():
        raise DistanceError(
            "a class has an all-zero weight vector: leave the class out"
        )
    unit = weights / norms
    distance = 1 - unit @ unit.T
    distance = (distance + distance.T) / 2
    np.fill_diagonal(distance, 0.0)
    return np.maximum(distance, 0.0)


def pair_values(matrix: np.ndarray) -> np.ndarray:
    """The C (C - 1) / 2 distances above the diagonal of ``[C, C]``.

    Introduced in chapter 1.
    """
    return matrix[np.triu_indices(len(matrix), 1)]


def closest_pairs(
    matrix: np.ndarray, names: Sequence[str], k: int, farthest: bool = False
) -> pd.DataFrame:
    """The ``k`` closest (or farthest) pairs, best first.

    Columns ``first``, ``second`` (class names in index order),
    ``distance``, ``rank`` (1 = closest of all pairs).

    Introduced in chapter 1.
    """
    i, j = np.triu_indices(len(matrix), 1)
    order = np.argsort(matrix[i, j], kind="stable")
    ranks = np.arange(1, len(order) + 1)
    chosen = slice(None, -k - 1, -1) if farthest else slice(k)
    order, ranks = order[chosen], ranks[chosen]
    return pd.DataFrame(
        {
            "first": [names[a] for a in i[order]],
            "second": [names[b] for b in j[order]],
            "distance": matrix[i[order], j[order]],
            "rank": ranks,
        }
    )


def rank_correlations(matrices: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """Spearman correlation of the pair distances, method by method.

    ``matrices`` maps a name to ``[C, C]``; all of one size. A matrix whose
    pairs are all equally far apart ranks nothing: its correlations, even
    with itself, are NaN.

    Raises DistanceError for matrices of different sizes.

    Introduced in chapter 1.
    """
    columns = {name: pair_values(m) for name, m in matrices.items()}
    if len({len(c) for c in columns.values()}) != 1:
        raise DistanceError("matrices of different sizes cannot be ranked")
    return pd.DataFrame(columns).corr(method="spearman")


def separation_auc(matrix: np.ndarray, superclass_of: np.ndarray) -> float:
    """How well the distance tells superclasses apart, 0..1.

    The chance that a pair within a superclass is closer than a pair
    across superclasses (ties count half): the Mann-Whitney AUC.

    Raises DistanceError without pairs of both kinds.

    Introduced in chapter 1.
    """
    same = pair_values(np.equal.outer(superclass_of, superclass_of))
    values = pair_values(matrix)
    within, across = values[same], values[~same]
    if not len(within) or not len(across):
        raise DistanceError(
            "separation needs pairs within and across superclasses"
        )
    u = mannwhitneyu(across, within).statistic
    return float(u / (len(within) * len(across)))
