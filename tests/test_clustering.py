"""Clustering: against every partition, and what must always hold."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import KMeans

from lq_utils.clustering import (
    CLUSTERINGS,
    ClusteringError,
    cluster_weights,
    lloyd,
    nearest_centroid,
    register_clustering,
)
from lq_utils.registry import UnknownName

LLOYD = ("linear", "density", "kmeans++")
METHODS = ("exact", *LLOYD)

numbers = st.floats(-4, 4, width=32).map(lambda x: round(x, 3))
weights = st.lists(numbers, min_size=1, max_size=8)


def least_cost(x: list[float], count: int, zero: bool) -> float:
    """Over all ways to cut the sorted values, tried one by one.

    With ``zero``, one of the parts has the centroid 0.
    """
    x = sorted(x)
    best = np.inf
    for parts in range(1, count + 1):
        for cuts in combinations(range(len(x) + 1), parts - 1):
            pieces = np.split(np.array(x), cuts)
            free = [p.size * p.var() if p.size else 0.0 for p in pieces]
            if not zero:
                best = min(best, sum(free))
                continue
            for i, piece in enumerate(pieces):
                pinned = sum(free) - free[i] + np.square(piece).sum()
                best = min(best, pinned)
    return best


@settings(max_examples=40)
@given(weights, st.integers(1, 4), st.booleans())
def test_exact_is_the_best_of_all_partitions(x, count, zero):
    w = torch.tensor(x)
    found = cluster_weights(w, count, preserve_zero=zero)
    best = least_cost(w.double().tolist(), count, zero)
    assert found.cost(w) == pytest.approx(best, abs=1e-5, rel=1e-5)


@settings(max_examples=40)
@given(weights, st.integers(1, 5), st.booleans(), st.sampled_from(METHODS))
def test_what_holds_for_every_clustering(x, count, zero, method):
    w = torch.tensor(x)
    found = cluster_weights(w, count, method, preserve_zero=zero, seed=3)
    c = found.centroids
    assert c.dtype == torch.float32 and 1 <= len(c) <= count
    assert (c.diff() > 0).all()
    assert found.indices.shape == w.shape
    assert int(found.sizes().sum()) == len(x)
    # Every weight is with its nearest centroid ...
    gaps = (w[:, None].double() - c.double()).abs()
    own = gaps.gather(1, found.indices.long()[:, None])[:, 0]
    assert torch.equal(own, gaps.amin(dim=1))
    # ... and every centroid is the mean of its members, but for 0.
    for j in range(len(c)):
        members = w[found.indices == j]
        if not (zero and c[j] == 0):
            assert c[j].item() == pytest.approx(members.mean().item(), 1e-5)
    if zero:
        assert (c == 0).sum() == 1
        assert (found.values()[w == 0] == 0).all()


@settings(max_examples=40)
@given(weights, st.integers(1, 4), st.booleans(), st.sampled_from(LLOYD))
def test_exact_costs_at_most_what_lloyd_does(x, count, zero, method):
    w = torch.tensor(x)
    best = cluster_weights(w, count, preserve_zero=zero).cost(w)
    other = cluster_weights(w, count, method, preserve_zero=zero).cost(w)
    assert best <= other + 1e-5


@pytest.mark.parametrize("method", METHODS)
def test_a_layer_gets_as_many_centroids_as_asked_for(method):
    w = torch.randn(64, 27, generator=torch.Generator().manual_seed(0))
    found = cluster_weights(w, 16, method)
    assert len(found.centroids) == 16
    assert found.values().shape == w.shape


def test_lloyd_is_that_of_scikit_learn():
    w = torch.randn(400, generator=torch.Generator().manual_seed(0))
    start = np.linspace(float(w.min()), float(w.max()), 6)[:, None]
    model = KMeans(6, init=start, n_init=1, tol=0, max_iter=1000)
    model.fit(w.numpy()[:, None].astype(np.float64))
    found = cluster_weights(w, 6, "linear")
    theirs = np.sort(model.cluster_centers_[:, 0])
    np.testing.assert_allclose(found.centroids, theirs, atol=1e-6)
    assert cluster_weights(w, 6).cost(w) < found.cost(w)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("zero", [False, True])
def test_few_values_are_their_own_centroids(method, zero):
    w = torch.tensor([[0.5, -1.0], [0.5, 0.5]])
    found = cluster_weights(w, 16, method, preserve_zero=zero)
    assert torch.equal(found.values(), w)
    assert len(found.centroids) == (3 if zero else 2)


def test_three_thousand_zeros_do_not_take_more_than_one_centroid():
    w = torch.zeros(3100)
    w[:100] = torch.linspace(-1, 1, 100)
    for method in METHODS:
        found = cluster_weights(w, 8, method, preserve_zero=True)
        assert len(found.centroids) == 8
        assert (found.values() == 0).sum() >= 3000


def test_equal_weights_count_as_often_as_they_occur():
    # Three at 0 and one at 1: the mean is 1/4, not 1/2.
    found = cluster_weights(torch.tensor([0.0, 1.0, 0.0, 0.0]), 1)
    assert found.centroids.tolist() == [0.25]


def test_large_offsets_do_not_drown_small_distances():
    w = torch.tensor([1000.0, 1000.001, 1000.5, 1000.501, 1001.0])
    found = cluster_weights(w, 3)
    assert found.indices.tolist() == [0, 0, 1, 1, 2]


def test_lloyd_by_hand():
    x, once = np.array([0.0, 1.0, 2.0, 9.0]), np.ones(4)
    # 2 starts with the right centroid and goes to the left one.
    found = lloyd(x, once, np.array([0.0, 3.0]))
    assert found.tolist() == [1.0, 9.0]
    pinned = lloyd(x, once, np.array([0.4, 3.0]), pinned=True)
    assert pinned.tolist() == [0.0, 9.0]


def test_ties_go_to_the_lower_centroid_and_neighbours_stay_apart():
    c = torch.tensor([0.0, 1.0])
    assert nearest_centroid(torch.tensor([0.5]), c).tolist() == [0]
    one = torch.tensor(1.0)
    c = torch.stack([one, torch.nextafter(one, 2 * one)])
    assert nearest_centroid(c, c).tolist() == [0, 1]


def test_types_of_indices_and_storage():
    w = torch.arange(1000.0)
    small, large = cluster_weights(w, 16), cluster_weights(w, 300, "linear")
    assert small.indices.dtype == torch.uint8
    assert large.indices.dtype == torch.int16
    assert torch.equal(large.values()[[0, -1]] > 900, torch.tensor([0, 1]) > 0)
    assert small.storage_bits() == 4 * 1000 + 32 * 16


def test_the_seed_decides_kmeans_plus_plus():
    w = torch.randn(500, generator=torch.Generator().manual_seed(1))
    first, again, other = (
        cluster_weights(w, 12, "kmeans++", seed=s).centroids for s in (0, 0, 1)
    )
    assert torch.equal(first, again) and not torch.equal(first, other)


@pytest.mark.parametrize(
    ("w", "count", "message"),
    [
        (torch.empty(0), 4, "empty"),
        (torch.tensor([1.0, torch.nan]), 4, "NaN"),
        (torch.tensor([1.0, torch.inf]), 4, "infinite"),
        (torch.ones(3), 0, "from 1 to"),
        (torch.ones(3), 2**15 + 1, "from 1 to"),
        (torch.ones(3), 2.5, "whole number"),
        (torch.ones(3), True, "whole number"),
    ],
)
def test_bad_input(w, count, message):
    with pytest.raises(ClusteringError, match=message):
        cluster_weights(w, count)


def test_a_method_of_ones_own():
    @register_clustering("ends", replace=True)
    def ends(values, counts, count, pinned, seed):
        return values[[0, -1]]

    found = cluster_weights(torch.tensor([0.0, 1.0, 3.0]), 2, "ends")
    assert found.values().tolist() == [0.0, 0.0, 3.0]
    CLUSTERINGS._entries.pop("ends")
    with pytest.raises(UnknownName, match="kmeans"):
        cluster_weights(torch.ones(2), 2, "kmean++")
