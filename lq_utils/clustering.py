"""Clustering: a layer's weights share a few values, its centroids.

On a line k-means needs no luck: dynamic programming on the sorted values
finds the best partition. Register your own method with
``register_clustering``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lq_utils.partitions import best_centroids, best_centroids_with_zero
from lq_utils.registry import Registry

MOST_CLUSTERS = 2**15  # indices are int16 at most
MOST_ROUNDS = 1000  # of Lloyd's algorithm

# f(values [n] ascending and distinct, counts [n], clusters, pinned, seed)
# -> centroids, at most so many; where pinned, 0 is one of them.
Method = Callable[[np.ndarray, np.ndarray, int, bool, int], np.ndarray]

CLUSTERINGS: Registry[Method] = Registry("clustering")
register_clustering = CLUSTERINGS.register


class ClusteringError(ValueError):
    """Weights cannot be clustered as asked for."""


@dataclass(frozen=True, eq=False)
class Clustering:
    """Centroids and the centroid of every weight.

    ``centroids`` is float32 ``[C]``, ascending and distinct; ``indices``
    has the shape of the weights, uint8 for up to 256 centroids, else
    int16.

    Introduced in chapter 4.
    """

    centroids: Tensor
    indices: Tensor

    def values(self) -> Tensor:
        """Every weight's centroid, float32, in the weights' shape."""
        return self.centroids[self.indices.long()]

    def sizes(self) -> Tensor:
        """Number of members of every centroid, int64 ``[C]``."""
        flat = self.indices.flatten().long()
        return torch.bincount(flat, minlength=len(self.centroids))

    def cost(self, weights: Tensor) -> float:
        """Sum of squared distances of ``weights`` to their centroids."""
        gap = weights.detach().double() - self.values()
        return float(gap.square().sum())

    def storage_bits(self) -> int:
        """Bits of the indices at a fixed width, and of the centroids."""
        width = (len(self.centroids) - 1).bit_length()
        return self.indices.numel() * width + 32 * len(self.centroids)


def nearest_centroid(values: Tensor, centroids: Tensor) -> Tensor:
    """Index of the nearest of ascending ``centroids`` (float32 ``[C]``).

    Returns int64 in the shape of ``values``; ties go to the lower
    centroid. Introduced in chapter 4.
    """
    # In float64 the middle of two float32 numbers is none of the two.
    wide = centroids.double()
    middles = (wide[1:] + wide[:-1]) / 2
    return torch.bucketize(values.double().contiguous(), middles)


def cluster_weights(
    weights: Tensor,
    count: int,
    method: str = "exact",
    *,
    preserve_zero: bool = False,
    seed: int = 0,
) -> Clustering:
    """At most ``count`` values for ``weights`` (any shape, taken as float32).

    Args:
        count: number of clusters, 1 to 32,768. Where there are fewer
            distinct weights, these are the centroids.
        method: ``"exact"`` (least sum of squared distances), or Lloyd's
            algorithm from ``"linear"``, ``"density"`` or ``"kmeans++"``
            centroids; or your own.
        preserve_zero: one of the centroids is 0, with or without members.
        seed: of the methods that draw.

    Raises:
        ClusteringError: no weights, NaN or infinite ones, or a count out
            of range.
        UnknownName: no such method.

    Source: TensorFlow Model Optimization Toolkit for the initialisations
    (whose density one is not repeated, see ``"density"``).
    Introduced in chapter 4.
    """
    find = CLUSTERINGS.get(method)
    _check(weights, count)
    flat = weights.detach().float().cpu()
    # Adding 0 turns -0 into 0.
    values, counts = np.unique(flat.numpy().ravel() + 0.0, return_counts=True)
    values = values.astype(np.float64)
    distinct = np.union1d(values, [0.0]) if preserve_zero else values
    found = distinct
    if len(distinct) > count:
        found = find(values, counts, int(count), preserve_zero, seed)
    return _assign(flat, found, preserve_zero)


def _check(weights: Tensor, count: int) -> None:
    if isinstance(count, bool) or count != int(count):
        raise ClusteringError(f"count={count!r}: give a whole number")
    if not 1 <= count <= MOST_CLUSTERS:
        raise ClusteringError(
            f"{count} clusters: give a number from 1 to {MOST_CLUSTERS}"
        )
    if not weights.numel():
        raise ClusteringError("no weights to cluster: the tensor is empty")
    if not torch.isfinite(weights).all():
        raise ClusteringError(
            "the weights hold NaN or infinite values: train or load the "
            "network again"
        )


def _assign(flat: Tensor, found: np.ndarray, pinned: bool) -> Clustering:
    """Every weight to its nearest centroid; those without any go."""
    centroids = torch.from_numpy(np.unique(found.astype(np.float32)))
    indices = nearest_centroid(flat, centroids)
    sizes = torch.bincount(indices.flatten(), minlength=len(centroids))
    used = sizes > 0
    if pinned:
        used |= centroids == 0
    position = used.cumsum(0) - 1
    small = torch.uint8 if int(used.sum()) <= 256 else torch.int16
    return Clustering(centroids[used], position[indices].to(small))


@register_clustering("exact")
def exact(
    values: np.ndarray,
    counts: np.ndarray,
    count: int,
    pinned: bool,
    seed: int,
) -> np.ndarray:
    """The partition with the least sum of squared distances.

    See :mod:`lq_utils.partitions`. Source: Wang and Song 2011
    (Ckmeans.1d.dp); Grønlund et al. 2017. Introduced in chapter 4.
    """
    if pinned:
        return best_centroids_with_zero(values, counts, count)
    return best_centroids(values, counts, count)


def lloyd(
    values: np.ndarray,
    counts: np.ndarray,
    centroids: np.ndarray,
    pinned: bool = False,
) -> np.ndarray:
    """Lloyd's algorithm on ascending ``values [n]`` seen ``counts`` times.

    A centroid without members stays where it is. With ``pinned`` the
    centroid nearest to 0 becomes 0 and stays there. Returns float64,
    ascending. Source: Lloyd 1982. Introduced in chapter 4.
    """
    weight = np.append(0.0, np.cumsum(counts, dtype=np.float64))
    total = np.append(0.0, np.cumsum(counts * values))
    centroids = np.sort(centroids.astype(np.float64))
    fixed = int(np.argmin(np.abs(centroids)))
    for _ in range(MOST_ROUNDS):
        if pinned:
            centroids[fixed] = 0.0
        middles = (centroids[1:] + centroids[:-1]) / 2
        cuts = np.searchsorted(values, middles, side="right")
        cuts = np.concatenate([[0], cuts, [len(values)]])
        mass, moment = np.diff(weight[cuts]), np.diff(total[cuts])
        means = np.divide(moment, mass, where=mass > 0, out=centroids.copy())
        if pinned:
            means[fixed] = 0.0
        if np.array_equal(means, centroids):
            break
        centroids = means
    return centroids


@register_clustering("linear")
def linear(
    values: np.ndarray,
    counts: np.ndarray,
    count: int,
    pinned: bool,
    seed: int,
) -> np.ndarray:
    """Lloyd from equally spaced centroids, least to largest value.

    Introduced in chapter 4.
    """
    spaced = np.linspace(values[0], values[-1], count)
    return lloyd(values, counts, spaced, pinned)


@register_clustering("density")
def density(
    values: np.ndarray,
    counts: np.ndarray,
    count: int,
    pinned: bool,
    seed: int,
) -> np.ndarray:
    """Lloyd from exact quantiles, all different.

    Quantiles that fall on one value give way to quantiles of the other
    values. (The toolkit's own takes the nearest of 30 grid points, so
    that 16 clusters asked for become 11 to 15.) Introduced in chapter 4.
    """
    chosen = np.zeros(len(values), dtype=bool)
    while (missing := count - int(chosen.sum())) > 0:
        rest = np.flatnonzero(~chosen)
        mass = np.cumsum(counts[rest])
        wanted = (np.arange(missing) + 0.5) / missing * mass[-1]
        chosen[rest[np.searchsorted(mass, wanted)]] = True
    return lloyd(values, counts, values[chosen], pinned)


@register_clustering("kmeans++")
def kmeans_plus_plus(
    values: np.ndarray,
    counts: np.ndarray,
    count: int,
    pinned: bool,
    seed: int,
) -> np.ndarray:
    """Lloyd from values drawn with the squared distance to those drawn.

    Source: Arthur and Vassilvitskii 2007. Introduced in chapter 4.
    """
    rng = np.random.default_rng(seed)
    chosen = [0.0] if pinned else [rng.choice(values, p=counts / counts.sum())]
    away = np.square(values - chosen[0])
    while len(chosen) < count:
        odds = np.cumsum(counts * away)
        drawn = np.searchsorted(odds, rng.random() * odds[-1], side="right")
        chosen.append(values[min(drawn, len(values) - 1)])
        away = np.minimum(away, np.square(values - chosen[-1]))
    return lloyd(values, counts, np.array(chosen), pinned)
