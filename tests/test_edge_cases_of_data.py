"""Edges of distances, subsets, dimensions, codebooks and scores.

As in test_edge_cases: a known result, or a clear error, for everything
that is registered.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from edge_samples import INF, NAN, needed
from task_samples import part

from lq_utils import class_clustering as cc
from lq_utils.bit_allocation import AllocationError, choose
from lq_utils.calibration import (
    calibration_rows,
    calibration_set,
    subset_accuracy,
)
from lq_utils.clustering import CLUSTERINGS, ClusteringError, cluster_weights
from lq_utils.components import component_counts
from lq_utils.dimension import (
    ESTIMATORS,
    DimensionError,
    two_nearest_neighbors,
)
from lq_utils.distances import DISTANCES, DistanceError, class_distances
from lq_utils.distances import confusion_distance as confusion
from lq_utils.distances import weight_cosine as cosine
from lq_utils.images import DataError
from lq_utils.significance import RULES, significant_layers
from lq_utils.stats import StatsError, holm, mean_interval, paired, wilson
from lq_utils.subsets import SUBSET_KINDS, SubsetError, generate

# -- class distances and subsets ---------------------------------------------

SAMPLES = np.random.default_rng(0).normal(size=(12, 3))
SAMPLES[6:] += 5
LABELS = np.repeat([0, 1], 6)


@pytest.mark.parametrize("name", DISTANCES.names())
def test_distances_at_the_edge(name: str) -> None:
    one = class_distances(name, SAMPLES, np.zeros(12, int), 1)
    assert one.tolist() == [[0.0]]
    wide = np.hstack([SAMPLES, np.ones((12, 1))])  # no variance
    assert class_distances(name, wide, LABELS, 2)[0, 1] > 0
    few = np.hstack([SAMPLES, SAMPLES[:, ::-1] ** 2] * 3)  # more than samples
    assert class_distances(name, few, LABELS, 2)[0, 1] > 0
    twice = np.concatenate([SAMPLES[:6], SAMPLES[:6]])
    same = class_distances(name, twice, LABELS, 2)[0, 1]
    assert same == pytest.approx(0, abs=0.3)  # mmd is unbiased: below 0


@pytest.mark.parametrize("name", DISTANCES.names())
def test_distances_of_what_has_none(name: str) -> None:
    single = np.array([0] * 11 + [1])
    broken = SAMPLES.copy()
    broken[7, 1] = NAN
    for features, labels, classes, says in (
        (SAMPLES, single, 2, "class 1 has 1 sample.*raise images_per_class"),
        (SAMPLES, LABELS, 3, "class 2 has 0 sample.*drop the class"),
        (broken, LABELS, 2, "sample 7 are not finite; remove"),
        (SAMPLES, LABELS / 1, 2, "not whole numbers: give"),
        (SAMPLES[:0], LABELS[:0], 2, "has 0 sample"),
        (SAMPLES[0], LABELS, 2, "do not fit: expected"),
    ):
        with pytest.raises(DistanceError, match=says):
            class_distances(name, features, labels, classes)
    try:  # all samples the same point
        flat = class_distances(name, np.ones((12, 3)), LABELS, 2)
    except DistanceError as error:
        assert "the same point" in str(error)
    else:
        assert not flat.any()


def test_distances_of_confusions_and_weights() -> None:
    for wrong in (
        np.full((2, 2), NAN),
        np.ones(3),
        np.ones((2, 3)),
        -np.eye(2),
    ):
        with pytest.raises(DistanceError, match="take what"):
            confusion(wrong)
    for wrong in (np.full((2, 2), INF), np.ones(3)):
        with pytest.raises(DistanceError, match="take the last layer"):
            cosine(wrong)


@pytest.mark.parametrize("kind", SUBSET_KINDS.names())
def test_subsets_at_the_edge(kind: str) -> None:
    options = needed(SUBSET_KINDS.get(kind))
    equal = 1 - np.eye(5)
    assert generate(kind, equal, 5, 0, **options).classes == (0, 1, 2, 3, 4)
    assert generate(kind, equal, 2, 0, **options).distances.tolist() == [1.0]
    for matrix, size, seed, says in (
        (equal, 1, 0, r"size must lie in 2\.\.5"),
        (equal, 2.5, 0, r"size must lie in 2\.\.5"),
        (equal, 6, 0, r"size must lie in 2\.\.5"),
        (equal, 2, -1, "give a whole number from 0"),
        (equal * NAN, 2, 0, "square and finite"),
        (np.zeros((1, 1)), 2, 0, "impossible"),
        (np.triu(equal), 2, 0, "symmetric"),
    ):
        with pytest.raises(SubsetError, match=says):
            generate(kind, matrix, size, seed, **options)


# -- dimensions --------------------------------------------------------------


@pytest.mark.parametrize("name", ESTIMATORS.names())
def test_dimensions_at_the_edge(name: str) -> None:
    line = np.random.default_rng(0).uniform(size=(400, 1))
    found = two_nearest_neighbors(line, name, blocks=None).value
    assert found == pytest.approx(1, abs=0.2)
    wide = np.hstack([line, np.ones((400, 3))])  # no variance
    again = two_nearest_neighbors(wide, name, blocks=None).value
    assert again == pytest.approx(found)
    lattice = np.stack(np.meshgrid(*[np.arange(5.0)] * 2), -1).reshape(-1, 2)
    for points, says in (
        (np.ones((30, 2)), "1 different point.*give more points"),
        (line[:1], "1 different point"),
        (line[:0], "0 different point"),
        (line * NAN, "point 0 holds NaN"),
        (lattice, "continuous values"),
    ):
        with pytest.raises(DimensionError, match=says):
            two_nearest_neighbors(points, name, blocks=None)


def test_components_and_significance_at_the_edge() -> None:
    outputs = np.random.default_rng(0).normal(size=(8, 3, 2, 2))
    dead = np.concatenate([outputs, np.full((8, 5, 2, 2), 7.0)], axis=1)
    assert component_counts(dead) == component_counts(outputs)
    assert component_counts(0 * outputs + 3) == {0.95: 0, 0.99: 0}
    for view in ("channels", "flattened"):
        with pytest.raises(DimensionError, match="at least two images"):
            component_counts(outputs[:1], view=view)
    for rule in RULES.names():
        same = {"input": 4.0, "conv": 4.0, "fc": 4.0}
        assert significant_layers(same, 0.0, rule) == []
        with pytest.raises(DimensionError, match="'fc' is not finite"):
            significant_layers(same | {"fc": NAN}, 0.0, rule)


# -- calibration and accuracy ------------------------------------------------


def test_calibration_of_one_class() -> None:
    data = part("train", 4)
    rows = calibration_rows(data, 3, 0, [2])
    assert data.labels[rows].tolist() == [2, 2, 2]
    assert calibration_set(data, 1, 0).shape == (1, 3, 8, 8)
    # Four images of each class but of the first, which has one.
    single = data.take(np.flatnonzero(np.arange(24) > 2))
    assert 0 in single.labels[calibration_rows(single, 6, 0)]
    with pytest.raises(DataError, match="the smallest has 1"):
        calibration_rows(single, 7, 0)


def test_accuracy_of_one_class() -> None:
    logits = torch.tensor([[3.0, 1.0, 0.0], [0.0, 1.0, 5.0]])
    found = subset_accuracy(logits, np.array([0, 1]), [1])
    assert found == {"all_logits": 0.0, "subset_logits": 1.0, "n": 1}
    for wrong, labels, says in (
        (logits * NAN, [0, 1], "NaN or infinite"),
        (logits, [0, 0], "no image is of the classes"),
        (logits[0], [0, 1], "give one row"),
    ):
        with pytest.raises(DataError, match=says):
            subset_accuracy(wrong, np.array(labels), [1])


# -- bits, codebooks, clusters of classes, statistics ------------------------


def test_allocation_at_the_edge() -> None:
    sizes = np.array([[2, 1, 3], [5, 4, 6]])
    assert choose(np.zeros((2, 3)), sizes, 99).tolist() == [1, 1]
    assert choose(np.ones((1, 1)), np.ones((1, 1), int), 1).tolist() == [0]
    for budget, says in ((NAN, "give a whole number"), (4, "1 more than")):
        with pytest.raises(AllocationError, match=says):
            choose(np.zeros((2, 3)), sizes, budget)
    with pytest.raises(AllocationError, match="NaN or infinity"):
        choose(np.full((2, 3), NAN), sizes, 99)


@pytest.mark.parametrize("name", CLUSTERINGS.names())
def test_codebooks_at_the_edge(name: str) -> None:
    for value in (0.0, 0.75, -3.0):
        weight = torch.full((2, 3), value)
        found = cluster_weights(weight, 4, name)
        assert found.centroids.tolist() == [value]
        assert torch.equal(found.values(), weight)
    assert cluster_weights(torch.zeros(1), 9, name).cost(torch.zeros(1)) == 0
    pinned = cluster_weights(torch.ones(3), 1, name, preserve_zero=True)
    assert pinned.centroids.tolist() == [0.0]
    for weight, count in ((torch.tensor([NAN]), 2), (torch.tensor([INF]), 2)):
        with pytest.raises(ClusteringError, match="train or load"):
            cluster_weights(weight, count, name)
    with pytest.raises(ClusteringError, match="from 1 to"):
        cluster_weights(torch.ones(3), 0, name)


@pytest.mark.parametrize("name", cc.PARTITIONS.names())
def test_clusters_of_classes_at_the_edge(name: str) -> None:
    logits, labels = np.eye(4), np.arange(4)
    equal = 1 - np.eye(4)
    one = cc.Evidence(logits, logits, labels, np.zeros(4, int), equal)
    assert cc.find_partition(name)(one, 1).tolist() == [0, 0, 0, 0]
    broken = cc.Evidence(
        logits * NAN, logits * NAN, labels, np.arange(4) % 3, equal * NAN
    )
    with pytest.raises(cc.ClassClusteringError):
        cc.find_partition(name)(broken, 2)


def test_cutting_at_the_edge() -> None:
    equal = 1 - np.eye(4)
    assert sorted(np.bincount(cc.cut(equal, 3))) == [1, 1, 2]
    assert cc.cut(np.zeros((1, 1)), 1).tolist() == [0]
    for wrong, says in (
        (equal * NAN, "finite"),
        (np.triu(equal), "symmetric"),
        (np.ones((4, 4)), "0 on the diagonal"),
        (np.ones(4), "symmetric"),
    ):
        with pytest.raises(cc.ClassClusteringError, match=says):
            cc.cut(wrong, 2)


def test_statistics_at_the_edge() -> None:
    none = paired([0.5, 0.5, 0.5], [0.5, 0.5, 0.5])
    assert (none.value, none.low, none.high) == (0, 0, 0)
    assert none.p_permutation == 1
    assert mean_interval([2.0, 2.0]).ci == (2.0, 2.0)
    assert mean_interval([2.0]).ci is None
    assert wilson(0, 1).low == 0
    for wrong in (lambda: wilson(0, 0), lambda: mean_interval([NAN]),
                  lambda: holm([]), lambda: paired([1.0], [])):  # fmt: skip
        with pytest.raises(StatsError):
            wrong()
