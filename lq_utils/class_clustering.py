"""Clusters of classes: found in confusions, scored against chance.

Classes that a network confuses go into one cluster, and only the cluster
must be right. That accuracy is never below the one on classes, whatever
the clusters are, so every score comes with what chance would give.

Register your own way to cluster with ``register_class_partition``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.cluster.hierarchy import cut_tree, linkage
from scipy.spatial.distance import squareform
from scipy.special import softmax

from lq_utils.distances import confusion_distance, confusion_probabilities
from lq_utils.registry import Registry

RULES = ("argmax", "sum")


class ClassClusteringError(ValueError):
    """Classes that cannot be clustered or scored as asked.

    Introduced in chapter 10.
    """


@dataclass(frozen=True)
class Evidence:
    """What clusters of classes may be found in; no test image is.

    ``quantized`` and ``original`` are logits ``[N, C]`` of the two
    networks on held-out images with ``labels`` int64 ``[N]``,
    ``superclass_of`` int64 ``[C]``, ``distances`` float64 ``[C, C]``
    between classes by features (chapter 1).

    Introduced in chapter 10.
    """

    quantized: np.ndarray
    original: np.ndarray
    labels: np.ndarray
    superclass_of: np.ndarray
    distances: np.ndarray


Partition = Callable[[Evidence, int], np.ndarray]
PARTITIONS: Registry[Partition] = Registry("class partition")
register_class_partition = PARTITIONS.register


def find_partition(name: str) -> Partition:
    """The way to cluster registered as ``name``; raises UnknownName.

    Introduced in chapter 10.
    """
    return PARTITIONS.get(name)


def cut(distances: np.ndarray, count: int) -> np.ndarray:
    """Clusters int64 ``[C]``, 0 ... count - 1, by average linkage.

    ``distances`` are symmetric ``[C, C]`` with a zero diagonal. Merging
    stops at ``count`` clusters, also where many classes are equally far
    apart; clusters are numbered by their first class.

    Raises ClassClusteringError for another count than 1 ... C, or
    distances that are not finite, symmetric and 0 on the diagonal.
    Source: Sokal and Michener 1958. Introduced in chapter 10.
    """
    square = distances.shape == 2 * (len(distances),)
    if not square or not np.array_equal(distances, distances.T):
        raise ClassClusteringError(
            f"distances {distances.shape} must be finite and symmetric: "
            "take what class_distances or confusion_distance returns"
        )
    if not np.isfinite(distances).all() or np.diagonal(distances).any():
        raise ClassClusteringError(
            "distances must be finite, and 0 on the diagonal: take what "
            "class_distances or confusion_distance returns"
        )
    if count != int(count) or not 1 <= count <= len(distances):
        raise ClassClusteringError(
            f"{count} clusters of {len(distances)} classes: ask for 1 to "
            f"{len(distances)}"
        )
    if len(distances) == 1:
        return np.zeros(1, dtype=np.int64)
    tree = linkage(squareform(distances), method="average")
    found = cut_tree(tree, n_clusters=count)[:, 0]
    _, first, place = np.unique(found, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[place].astype(np.int64)


def by_confusion(
    logits: np.ndarray, labels: np.ndarray, count: int
) -> np.ndarray:
    """Clusters int64 ``[C]`` of classes that are taken for each other.

    P: share of each class's images that get each answer; average linkage
    on 1 - (P + P') / 2. ``logits`` ``[N, C]``, ``labels`` ``[N]``.

    Raises ClassClusteringError as :func:`cut`, DistanceError for a class
    without images. Source: bit-efficient poster (which names no
    algorithm). Introduced in chapter 10.
    """
    if not np.isfinite(logits).all():
        raise ClassClusteringError(
            "the logits hold NaN or infinite values: train or load the "
            "network again"
        )
    answers = np.eye(logits.shape[1])[logits.argmax(axis=1)]
    P = confusion_probabilities(answers, labels, logits.shape[1])
    return cut(confusion_distance(P), count)


@register_class_partition("confusion")
def _confusion(evidence: Evidence, count: int) -> np.ndarray:
    """What the quantized network confuses."""
    return by_confusion(evidence.quantized, evidence.labels, count)


@register_class_partition("original's confusion")
def _original(evidence: Evidence, count: int) -> np.ndarray:
    """What the network in full precision confuses."""
    return by_confusion(evidence.original, evidence.labels, count)


@register_class_partition("features")
def _features(evidence: Evidence, count: int) -> np.ndarray:
    """Distances of chapter 1 between the classes."""
    return cut(evidence.distances, count)


@register_class_partition("superclasses")
def _superclasses(evidence: Evidence, count: int) -> np.ndarray:
    """The data set's own groups."""
    groups = len(np.unique(evidence.superclass_of))
    if groups != count:
        raise ClassClusteringError(
            f"the data have {groups} superclasses, not {count}: ask for "
            f"{groups} clusters, or leave the superclasses out"
        )
    return np.asarray(evidence.superclass_of)


def shuffled(clusters: np.ndarray, seed: int) -> np.ndarray:
    """Clusters of the same sizes, of classes drawn at random.

    Introduced in chapter 10.
    """
    return np.random.default_rng(seed).permutation(clusters)


def coarse_answers(
    logits: np.ndarray, clusters: np.ndarray, rule: str = "argmax"
) -> np.ndarray:
    """The cluster int64 ``[N]`` that logits ``[N, C]`` stand for.

    ``"argmax"``: that of the likeliest class; ``"sum"``: the one whose
    classes are likeliest together, by softmax. ``clusters`` ``[C]``.

    Raises ClassClusteringError for another rule, or shapes that do not
    fit. Introduced in chapter 10.
    """
    if logits.ndim != 2 or clusters.shape != logits.shape[1:]:
        raise ClassClusteringError(
            f"logits {logits.shape} and {clusters.shape} clusters: give one "
            "cluster for each column"
        )
    if rule == "argmax":
        return clusters[logits.argmax(axis=1)]
    if rule == "sum":
        member = np.eye(clusters.max() + 1)[clusters]
        together = softmax(logits.astype(np.float64), axis=1) @ member
        return together.argmax(axis=1)
    raise ClassClusteringError(f"rule {rule!r}: choose one of {RULES}")


def chance_level(clusters: np.ndarray, labels: np.ndarray) -> float:
    """Accuracy of always naming the largest cluster (0 to 1).

    ``labels`` ``[N]`` are of classes. Stricter than guessing at random,
    as clusters differ in size. Introduced in chapter 10.
    """
    return float(np.bincount(clusters[labels]).max() / len(labels))


def above_chance(accuracy: float, chance: float) -> float:
    """(accuracy - chance) / (1 - chance): 1 is perfect, 0 knows nothing.

    Raises ClassClusteringError for a chance of 1: one cluster holds
    everything. Introduced in chapter 10.
    """
    if not chance < 1:
        raise ClassClusteringError(
            "one cluster holds every image, so that nothing is asked: take "
            "more clusters"
        )
    return (accuracy - chance) / (1 - chance)


def mutual_information(truth: np.ndarray, answers: np.ndarray) -> float:
    """Bits that answers tell about the truth (int64 ``[N]`` both).

    From the frequencies of pairs, not corrected for few images. Source:
    Shannon 1948. Introduced in chapter 10.
    """
    table = np.zeros((truth.max() + 1, answers.max() + 1))
    np.add.at(table, (truth, answers), 1 / len(truth))
    apart = table.sum(axis=1, keepdims=True) * table.sum(axis=0)
    known = table > 0
    return float((table[known] * np.log2(table[known] / apart[known])).sum())
