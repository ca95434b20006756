"""One Gaussian a class, and distances between them in closed form.

Everything is float64 and vectorised over all pairs of classes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.spatial.distance import cdist
from sklearn.covariance import ledoit_wolf

SHRINKAGE = 0.01  # r in (1 - r) S + r tr(S)/d I
FLOOR = 1e-3  # smallest eigenvalue allowed, as a share of tr(S)/d
LEDOIT_WOLF = "ledoit-wolf"


class DistanceError(ValueError):
    """A class distance cannot be computed from what was given.

    Introduced in chapter 1.
    """


@dataclass(frozen=True)
class Gaussians:
    """One Gaussian a class: ``means [C, d]``, ``covariances [C, d, d]``.

    ``counts [C]`` are the sample sizes; all numbers are float64.

    Introduced in chapter 1.
    """

    means: np.ndarray
    covariances: np.ndarray
    counts: np.ndarray

    def __post_init__(self) -> None:
        classes, d = self.means.shape
        if self.covariances.shape != (classes, d, d):
            raise DistanceError(
                f"covariances have shape {self.covariances.shape}, but "
                f"means {self.means.shape} need {(classes, d, d)}"
            )

    def __len__(self) -> int:
        return len(self.means)


def check_samples(
    features: np.ndarray, labels: np.ndarray, num_classes: int, least: int
) -> tuple[np.ndarray, np.ndarray]:
    """Float64 features ``[N, d]`` and labels ``[N]``, or DistanceError.

    ``least`` is the smallest number of samples a class must have.

    Introduced in chapter 1.
    """
    features = np.asarray(features, dtype=np.float64)
    labels = np.asarray(labels)
    if features.ndim != 2 or labels.shape != (len(features),):
        raise DistanceError(
            f"features {features.shape} and labels {labels.shape} do not "
            "fit: expected [N, d] and [N]"
        )
    if not np.issubdtype(labels.dtype, np.integer):
        raise DistanceError(
            f"labels are {labels.dtype}, not whole numbers: give the "
            "index of each sample's class, from 0"
        )
    if not np.isfinite(features).all():
        bad = int(np.flatnonzero(~np.isfinite(features).all(axis=1))[0])
        raise DistanceError(
            f"features of sample {bad} are not finite; remove such samples "
            "or look for the overflow that made them"
        )
    if len(labels) and not 0 <= labels.min() <= labels.max() < num_classes:
        raise DistanceError(
            f"labels run from {labels.min()} to {labels.max()}, outside "
            f"0..{num_classes - 1}"
        )
    counts = np.bincount(labels, minlength=num_classes)
    if counts.min(initial=least) < least:
        k = int(counts.argmin())
        raise DistanceError(
            f"class {k} has {counts[k]} sample(s), at least {least} are "
            "needed: raise images_per_class or drop the class"
        )
    return features, labels


def regularise(
    covariance: np.ndarray, shrinkage: float = SHRINKAGE, floor: float = FLOOR
) -> np.ndarray:
    """Shrink ``covariance [d, d]`` to a multiple of I; lift its spectrum.

    ``(1 - r) S + r tr(S)/d I``, then eigenvalues below ``floor tr(S)/d``
    are set to that value, so that its inverse stays bounded.

    Raises DistanceError for a shrinkage or floor beyond 0 to 1.

    Introduced in chapter 1.
    """
    if not 0 <= shrinkage <= 1 or not 0 <= floor <= 1:
        raise DistanceError(
            f"shrinkage={shrinkage} and floor={floor} must lie in 0..1"
        )
    d = len(covariance)
    scale = np.trace(covariance) / d
    shrunk = (1 - shrinkage) * covariance
    shrunk[np.diag_indices(d)] += shrinkage * scale
    values, vectors = np.linalg.eigh(shrunk)
    if values[0] >= floor * scale:
        return shrunk
    lifted = vectors * np.maximum(values, floor * scale) @ vectors.T
    return (lifted + lifted.T) / 2


def gaussians(
    features: np.ndarray,
    labels: np.ndarray,
    num_classes: int,
    shrinkage: float | str = SHRINKAGE,
    floor: float = FLOOR,
) -> Gaussians:
    """Fit one Gaussian to each class.

    ``features [N, d]`` of any float type, ``labels`` int ``[N]``. Unbiased
    covariances (n - 1), then ``regularise``; ``shrinkage="ledoit-wolf"``
    chooses the shrinkage of each class from its own samples (Ledoit and
    Wolf 2004), the better choice where d is not small against n.

    Raises DistanceError for a class with fewer than two samples or with
    no spread at all, and for features that are not finite.

    Introduced in chapter 1.
    """
    features, labels = check_samples(features, labels, num_classes, 2)
    d = features.shape[1]
    if isinstance(shrinkage, str) and shrinkage != LEDOIT_WOLF:
        raise DistanceError(
            f"shrinkage={shrinkage!r}: give a number in 0..1 or "
            f"{LEDOIT_WOLF!r}"
        )
    r = 0.0 if isinstance(shrinkage, str) else shrinkage
    means = np.empty((num_classes, d))
    covariances = np.empty((num_classes, d, d))
    for k in range(num_classes):
        rows = features[labels == k]
        means[k] = rows.mean(axis=0)
        if shrinkage == LEDOIT_WOLF:
            raw = ledoit_wolf(rows)[0] * len(rows) / (len(rows) - 1)
        else:
            raw = np.cov(rows, rowvar=False).reshape(d, d)
        if not np.trace(raw) > 0:
            raise DistanceError(
                f"all samples of class {k} are the same point: it has no "
                "spread; use more or other images"
            )
        covariances[k] = regularise(raw, r, floor)
    counts = np.bincount(labels, minlength=num_classes)
    return Gaussians(means, covariances, counts)


def _inverse_factors(g: Gaussians) -> np.ndarray:
    """Inverse Cholesky factors ``[C, d, d]``: precision = F^T F."""
    try:
        return np.linalg.inv(np.linalg.cholesky(g.covariances))
    except np.linalg.LinAlgError:
        smallest = np.linalg.eigvalsh(g.covariances)[:, 0]
        raise DistanceError(
            f"the covariance of class {int(smallest.argmin())} is not "
            "positive definite: use shrinkage > 0, fewer dimensions or "
            "more samples"
        ) from None


def symmetric_kl(g: Gaussians) -> np.ndarray:
    """Mean of the two Kullback-Leibler divergences, all pairs ``[C, C]``.

    In nats: 1/4 [tr(S2^-1 S1) + tr(S1^-1 S2) - 2 d
    + (m1 - m2)^T (S1^-1 + S2^-1) (m1 - m2)]; the log-determinants cancel.
    Exactly symmetric, exactly 0 on the diagonal, the same after any
    invertible affine map of the features (as long as the regularisation
    did not act). Label-aware report, section 2.2.

    Introduced in chapter 1.
    """
    classes, d = g.means.shape
    factors = _inverse_factors(g)
    precisions = factors.transpose(0, 2, 1) @ factors
    traces = (
        precisions.reshape(classes, -1) @ g.covariances.reshape(classes, -1).T
    )
    # Differences first: expanding the square would cancel for close pairs.
    steps = g.means[None] - g.means[:, None]
    squares = np.square(steps @ factors.transpose(0, 2, 1)).sum(axis=2)
    total = (traces + traces.T) - 2 * d + (squares + squares.T)
    np.fill_diagonal(total, 0.0)
    return np.maximum(total, 0.0) / 4


def mahalanobis(g: Gaussians) -> np.ndarray:
    """Distance of the means under the pooled covariance ``[C, C]``.

    sqrt((m1 - m2)^T S^-1 (m1 - m2)) with S the mean of the class
    covariances weighted by n - 1: the metric of linear discriminant
    analysis. Blind to how the classes' shapes differ.

    Introduced in chapter 1.
    """
    pooled = np.average(g.covariances, axis=0, weights=g.counts - 1)
    single = Gaussians(g.means[:1], pooled[None], g.counts[:1])
    white = g.means @ _inverse_factors(single)[0].T
    return cdist(white, white)


def _by_rows(
    classes: int, row: Callable[[int, np.ndarray], np.ndarray]
) -> np.ndarray:
    """Fill both triangles from ``row(i, indices above i)``."""
    matrix = np.zeros((classes, classes))
    for i in range(classes - 1):
        above = np.arange(i + 1, classes)
        matrix[i, above] = matrix[above, i] = row(i, above)
    return matrix


def bhattacharyya(g: Gaussians) -> np.ndarray:
    """Bhattacharyya distance of the Gaussians, all pairs ``[C, C]``.

    1/8 dm^T S^-1 dm + 1/2 ln(|S| / sqrt(|S1| |S2|)), S = (S1 + S2)/2:
    exp(-distance) bounds the error of telling the two classes apart.

    Introduced in chapter 1.
    """
    _inverse_factors(g)  # positive definite, or a clear error
    logdet = np.linalg.slogdet(g.covariances)[1]

    def row(i: int, above: np.ndarray) -> np.ndarray:
        middle = (g.covariances[i] + g.covariances[above]) / 2
        step = (g.means[above] - g.means[i])[..., None]
        solved = np.linalg.solve(middle, step)
        means = (step * solved).sum(axis=(1, 2)) / 8
        shapes = np.linalg.slogdet(middle)[1] - (logdet[i] + logdet[above]) / 2
        return np.maximum(means + shapes / 2, 0.0)

    return _by_rows(len(g), row)


def bures_wasserstein(g: Gaussians) -> np.ndarray:
    """Squared 2-Wasserstein distance of the Gaussians ``[C, C]``.

    ||dm||^2 + tr(S1 + S2 - 2 (S1^.5 S2 S1^.5)^.5), in squared units of
    the features: finite even for singular covariances, but not invariant
    to the scale of a feature.

    Introduced in chapter 1.
    """
    values, vectors = np.linalg.eigh(g.covariances)
    values = np.sqrt(np.maximum(values, 0.0))[:, None, :]
    roots = vectors * values @ vectors.transpose(0, 2, 1)
    traces = np.trace(g.covariances, axis1=1, axis2=2)

    def row(i: int, above: np.ndarray) -> np.ndarray:
        inner = roots[i] @ g.covariances[above] @ roots[i]
        spectrum = np.linalg.eigvalsh(inner)
        cross = np.sqrt(np.maximum(spectrum, 0.0)).sum(axis=1)
        means = np.square(g.means[above] - g.means[i]).sum(axis=1)
        shapes = traces[i] + traces[above] - 2 * cross
        return np.maximum(means + shapes, 0.0)

    return _by_rows(len(g), row)
