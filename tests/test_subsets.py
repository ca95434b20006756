"""Subsets of classes against brute force, and what must always hold."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lq_utils.coverage import (
    coverage_targets,
    distance_to_full,
    evenness,
    pooled_moments,
    subset_table,
)
from lq_utils.gaussian import gaussians
from lq_utils.registry import UnknownName
from lq_utils.subsets import (
    SUBSET_KINDS,
    SubsetError,
    generate,
    register_subset,
    subset_distances,
)


def make_matrix(seed: int, classes: int) -> np.ndarray:
    values = np.random.default_rng(seed).lognormal(size=(classes, classes))
    upper = np.triu(values, 1)
    return upper + upper.T


def options_of(kind: str, matrix: np.ndarray) -> dict[str, float]:
    if kind == "equidistant":
        return {"low": 0.0, "high": float(matrix.max())}
    if kind == "target-median":
        return {"target": float(np.median(matrix[matrix > 0]))}
    return {}


@settings(max_examples=40)
@given(
    seed=st.integers(0, 10_000),
    classes=st.integers(2, 14),
    share=st.floats(0, 1),
    kind=st.sampled_from(list(SUBSET_KINDS)),
)
def test_every_kind_keeps_the_contract(
    seed: int, classes: int, share: float, kind: str
) -> None:
    matrix = make_matrix(seed, classes)
    size = 2 + int(share * (classes - 2))
    options = options_of(kind, matrix)
    subset = generate(kind, matrix, size, seed, **options)
    assert len(set(subset.classes)) == size
    assert list(subset.classes) == sorted(subset.classes)
    pairs = [matrix[i, j] for i, j in combinations(subset.classes, 2)]
    assert subset.distances.tolist() == pairs
    assert subset.median == np.median(pairs)
    again = generate(kind, matrix.copy(), size, seed, **options)
    assert again.classes == subset.classes


@pytest.mark.parametrize("kind, best", [("similar", min), ("dissimilar", max)])
def test_greedy_takes_the_best_mean_at_every_step(kind: str, best) -> None:
    matrix = make_matrix(3, 7)
    chosen = [int(np.random.default_rng(5).integers(7))]
    while len(chosen) < 4:
        rest = [k for k in range(7) if k not in chosen]
        chosen.append(
            best(rest, key=lambda k: np.mean([matrix[k, c] for c in chosen]))
        )
    assert set(generate(kind, matrix, 4, 5).classes) == set(chosen)


def test_similar_random_dissimilar_are_ordered() -> None:
    points = np.random.default_rng(0).normal(size=(60, 2))
    matrix = np.linalg.norm(points[:, None] - points[None], axis=2)
    medians = {
        kind: np.median(
            [generate(kind, matrix, 8, s).median for s in range(9)]
        )
        for kind in ("similar", "random", "dissimilar")
    }
    assert medians["similar"] < medians["random"] < medians["dissimilar"]


def test_random_subsets_are_uniform() -> None:
    matrix = make_matrix(0, 7)
    drawn = [generate("random", matrix, 3, s).classes for s in range(1400)]
    counts = np.bincount(np.ravel(drawn), minlength=7)
    # Each class is in 3/7 of them; five standard deviations.
    assert np.abs(counts - 600).max() < 5 * np.sqrt(1400 * 3 / 7 * 4 / 7)
    assert len(set(drawn)) == 35


@pytest.mark.parametrize("seed", range(8))
def test_target_median_reaches_the_best_of_all_subsets(seed: int) -> None:
    matrix = make_matrix(seed, 7)
    target = float(np.random.default_rng(seed).uniform(0, 3))
    medians = [
        np.median(subset_distances(matrix, c))
        for c in combinations(range(7), 3)
    ]
    best = min(abs(m - target) for m in medians)
    found = generate(
        "target-median", matrix, 3, seed, target=target, starts=16
    )
    assert abs(found.median - target) == pytest.approx(best, abs=1e-12)


@pytest.mark.parametrize("seed", range(12))
def test_equidistant_finds_a_subset_exactly_when_there_is_one(
    seed: int,
) -> None:
    matrix = make_matrix(seed, 7)
    low, high = np.quantile(matrix[matrix > 0], [0.15, 0.75])
    possible = [
        c
        for c in combinations(range(7), 3)
        if all(low <= matrix[i, j] <= high for i, j in combinations(c, 2))
    ]
    if possible:
        found = generate("equidistant", matrix, 3, seed, low=low, high=high)
        assert found.classes in possible
        assert low <= found.distances.min() <= found.distances.max() <= high
    else:
        with pytest.raises(SubsetError, match="no 3 classes"):
            generate("equidistant", matrix, 3, seed, low=low, high=high)


def test_impossible_requests_say_what_is_possible() -> None:
    matrix = make_matrix(0, 6)
    with pytest.raises(SubsetError, match="7 out of 6"):
        generate("random", matrix, 7, 0)
    with pytest.raises(SubsetError, match="2..6"):
        generate("random", matrix, 1, 0)
    with pytest.raises(SubsetError, match="empty"):
        generate("equidistant", matrix, 3, 0, low=2.0, high=1.0)
    with pytest.raises(SubsetError, match="widen the range"):
        generate("equidistant", matrix, 3, 0, low=1e6, high=1e7)
    with pytest.raises(SubsetError, match="not a distance"):
        generate("target-median", matrix, 3, 0, target=-1.0)
    with pytest.raises(UnknownName, match="did you mean 'similar'"):
        generate("simlar", matrix, 3, 0)
    for broken in (np.ones((6, 6)), np.arange(36.0).reshape(6, 6)):
        with pytest.raises(SubsetError, match="symmetric"):
            generate("random", broken, 3, 0)
    matrix[0, 1] = matrix[1, 0] = np.nan
    with pytest.raises(SubsetError, match="finite"):
        generate("random", matrix, 3, 0)


def test_a_students_kind_is_checked() -> None:
    register_subset("twice", replace=True)(lambda matrix, size, seed: [1, 1])
    try:
        with pytest.raises(SubsetError, match=r"\[1, 1\], not 2 different"):
            generate("twice", make_matrix(0, 4), 2, 0)
    finally:
        del SUBSET_KINDS._entries["twice"]


def test_coverage_targets_are_even_and_reachable() -> None:
    matrix = make_matrix(1, 30)
    targets = coverage_targets(matrix, 6, 5, seed=0)
    steps = np.diff(np.log(targets))
    assert np.allclose(steps, steps[0])
    found = [
        generate("target-median", matrix, 5, 0, target=t).median
        for t in targets
    ]
    assert np.allclose(found, targets, rtol=0.05)
    brute = [
        np.median(subset_distances(matrix, c))
        for c in combinations(range(10), 3)
    ]
    low, high = coverage_targets(matrix[:10, :10], 2, 3, seed=0)
    assert low == pytest.approx(min(brute))
    assert high == pytest.approx(max(brute))
    with pytest.raises(SubsetError, match="2 or more"):
        coverage_targets(matrix, 1, 5, seed=0)
    with pytest.raises(SubsetError, match="lowest median is 0"):
        coverage_targets(np.zeros((4, 4)), 3, 3, seed=0)


def test_evenness_is_one_for_even_values() -> None:
    assert evenness([1, 10, 100]) == pytest.approx(1)
    assert evenness([1, 2, 100]) == pytest.approx(2 * np.log10(50) / 2)
    with pytest.raises(SubsetError):
        evenness([1, 1, 1])


def test_pooled_moments_are_those_of_the_samples() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(4), 500)
    features = rng.normal(size=(2000, 3)) + 3 * rng.normal(size=(4, 3))[labels]
    g = gaussians(features, labels, 4, 0.0, 0.0)
    mean, covariance = pooled_moments(g, [1, 3])
    own = features[np.isin(labels, [1, 3])]
    assert np.allclose(mean, own.mean(axis=0))
    assert np.allclose(covariance, np.cov(own.T), rtol=0.01, atol=0.02)


def test_distance_to_full_falls_with_more_classes() -> None:
    rng = np.random.default_rng(1)
    labels = np.repeat(np.arange(8), 40)
    features = rng.normal(size=(320, 2)) + 4 * rng.normal(size=(8, 2))[labels]
    g = gaussians(features, labels, 8)
    assert distance_to_full(g, range(8)) == 0
    means = [
        np.mean([distance_to_full(g, c) for c in combinations(range(8), k)])
        for k in (1, 2, 4, 7)
    ]
    assert means == sorted(means, reverse=True)
    with pytest.raises(SubsetError, match="empty"):
        distance_to_full(g, [])


def test_subset_table_has_a_row_a_subset() -> None:
    matrix = make_matrix(0, 5)
    subsets = [generate("random", matrix, 3, s) for s in (0, 1)]
    frame = subset_table(subsets, "abcde")
    assert frame["seed"].tolist() == [0, 1]
    first = subsets[0]
    assert frame["classes"][0] == ", ".join("abcde"[k] for k in first.classes)
    assert frame["median"][0] == first.median
    assert frame["low"][0] == first.distances.min()
