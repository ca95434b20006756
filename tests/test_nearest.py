"""Nearest distances against a plain float64 search."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lq_utils import nearest
from lq_utils.nearest import (
    DimensionError,
    check_points,
    distinct_rows,
    nearest_distances,
)
from lq_utils.products import Cloud, propose


def plain(points: np.ndarray, ranks: int) -> np.ndarray:
    """Every difference in float64, one point after the other."""
    points = points.astype(np.float64)
    rows = []
    for i, x in enumerate(points):
        squares = np.square(np.delete(points, i, 0) - x).sum(axis=1)
        rows.append(np.sqrt(np.sort(squares)[:ranks]))
    return np.array(rows)


def gap(points: np.ndarray, ranks: int, **options: int) -> float:
    """Largest relative difference from the plain search."""
    found = nearest_distances(points, ranks, **options)
    assert found.distances.dtype == np.float64
    assert (found.points, found.removed) == (len(points), 0)
    return float(np.abs(found.distances / plain(points, ranks) - 1).max())


def cloud(seed: int, n: int, d: int, kind: type = np.float64) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, d)).astype(kind)


@pytest.fixture
def products(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many rows each search by float64 products had."""
    counts: list[int] = []
    original = nearest._from_products

    def spy(c: Cloud, rows: np.ndarray, ranks: int) -> np.ndarray:
        counts.append(len(rows))
        return original(c, rows, ranks)

    monkeypatch.setattr(nearest, "_from_products", spy)
    return counts


@pytest.mark.parametrize(
    "n, d, ranks",
    [(3, 2, 2), (4, 1, 3), (200, 3, 2), (90, 2500, 2), (150, 40, 8)],
)
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_few_ranks(n: int, d: int, ranks: int, kind: type) -> None:
    assert gap(cloud(0, n, d, kind), ranks) < 1e-12


@pytest.mark.parametrize("ranks", [9, 64, 128, 199])
def test_many_ranks(ranks: int) -> None:
    assert gap(cloud(1, 200, 30, np.float32), ranks) < 1e-9


@pytest.mark.parametrize("memory", [1, 2**16, 2**17])
@pytest.mark.parametrize("ranks", [2, 20])
def test_little_memory_means_tiles_and_the_same_distances(
    memory: int, ranks: int
) -> None:
    points = cloud(2, 330, 20)
    assert gap(points, ranks, memory=memory) < 1e-12
    whole = nearest_distances(points, ranks).distances
    tiled = nearest_distances(points, ranks, memory).distances
    np.testing.assert_allclose(tiled, whole, rtol=1e-12)


def test_most_points_need_the_float32_product_only(
    products: list[int],
) -> None:
    assert gap(cloud(3, 600, 1500, np.float32), 2) < 1e-12
    assert sum(products) < 60


@pytest.mark.parametrize("spread", [1e-3, 1e-7, 1e-11])
def test_far_and_tight_clusters_do_not_cancel(
    spread: float, products: list[int]
) -> None:
    points = cloud(4, 200, 12) * spread
    points[:100] += 1
    assert gap(points, 2) < 1e-12
    # The float32 product tells nothing at the smaller spreads.
    assert spread == 1e-3 or sum(products) == 200


@pytest.mark.parametrize("shift, scale", [(1e6, 1.0), (0, 1e150), (0, 1e-150)])
def test_neither_offset_nor_size_matters(shift: float, scale: float) -> None:
    points = cloud(5, 150, 7) * scale + shift
    assert gap(points, 2) < 1e-12
    assert gap(points, 12) < 1e-9


def test_an_outlier_does_not_blind_the_others(products: list[int]) -> None:
    points = cloud(6, 300, 10)
    points[17] = 1e4
    assert gap(points, 2) < 1e-12
    assert sum(products) < 300


def test_points_that_are_almost_equally_far() -> None:
    # The vertices of a simplex, jittered below what float32 resolves.
    points = np.eye(120) + 1e-9 * cloud(7, 120, 120)
    assert gap(points, 3) < 1e-12


def test_lower_bounds_are_lower_bounds() -> None:
    points = cloud(8, 250, 60, np.float32) + np.float32(3)
    points *= np.float32(1.7)
    c = Cloud(points)
    indices, bounds = propose(c, 4, 2**16)
    every = np.array([c.squares(i, slice(None)) for i in range(len(c))])
    every[np.arange(250)[:, None], indices] = np.inf
    every[np.arange(250), np.arange(250)] = np.inf
    assert (every.min(axis=1) >= bounds).all()
    assert (bounds > 0).all()


@settings(max_examples=25)
@given(
    seed=st.integers(0, 10_000),
    n=st.integers(3, 80),
    d=st.integers(1, 30),
    stretch=st.floats(1e-6, 1e6),
    shift=st.floats(-1e3, 1e3),
    memory=st.sampled_from([1, 2**15, 2**28]),
)
def test_any_cloud(
    seed: int, n: int, d: int, stretch: float, shift: float, memory: int
) -> None:
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(n, d)) * np.geomspace(1, stretch, d) + shift
    assert gap(points, min(2, n - 1), memory=memory) < 1e-9
    assert gap(points, n - 1, memory=memory) < 1e-9


def test_duplicates_are_removed_and_counted() -> None:
    points = cloud(9, 100, 20, np.float32)
    twice = np.concatenate([points, points[:7], points[:3]])
    found = nearest_distances(twice)
    assert (found.points, found.removed) == (100, 10)
    assert np.array_equal(found.distances, nearest_distances(points).distances)


def test_distinct_rows_keep_the_first_place() -> None:
    rows = np.array([[0.0, 1], [2, 1], [-0.0, 1], [2, 1], [0, 3]])
    assert distinct_rows(rows).tolist() == [0, 1, 4]
    # Equal in the columns that are looked at first, but not in all.
    wide = np.zeros((4, 1000), dtype=np.float32)
    wide[1, 5] = wide[3, 5] = 1
    assert distinct_rows(wide).tolist() == [0, 1]


@pytest.mark.parametrize("kind", [np.uint8, np.int64, np.float16, bool])
def test_other_types_are_taken_as_float64(kind: type) -> None:
    values = np.random.default_rng(0).integers(0, 200, size=(60, 30))
    points = (values > 99 if kind is bool else values).astype(kind)
    assert check_points(points).dtype == np.float64
    assert gap(points, 2) < 1e-12


@pytest.mark.parametrize(
    "points, ranks, message",
    [
        (np.zeros(5), 2, "table"),
        (np.zeros((5, 0)), 2, "table"),
        (np.zeros((5, 2, 2)), 2, "flatten"),
        (np.full((5, 2), np.nan), 2, "point 0 holds NaN"),
        (np.array([[0.0], [1], [np.inf]]), 2, "point 2 holds NaN or inf"),
        (np.ones((5, 2)), 2, "1 different point.*4 duplicates.*three"),
        (np.array([[0.0], [1], [1]]), 1, "2 different.*1 duplicates"),
        (cloud(0, 5, 2), 5, "at most 4"),
        (cloud(0, 5, 2), 0, "whole number from 1"),
        (cloud(0, 5, 2), 1.5, "whole number from 1"),
        (np.array([[0.0], [1e-200], [1]]), 2, "too close"),
    ],
)
def test_what_has_no_neighbours_is_refused(
    points: np.ndarray, ranks: int, message: str
) -> None:
    with pytest.raises(DimensionError, match=message):
        nearest_distances(points, ranks)
