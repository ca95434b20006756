"""Principal components against scikit-learn and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.decomposition import PCA

from lq_utils import components
from lq_utils.components import component_counts, explained_variance
from lq_utils.nearest import DimensionError


def outputs(seed: int, *shape: int) -> np.ndarray:
    """Correlated outputs with an offset, as of a layer with ReLU."""
    rng = np.random.default_rng(seed)
    mix = rng.normal(size=(shape[1], shape[1]))
    mix *= 0.7 ** np.arange(shape[1])
    raw = np.moveaxis(rng.normal(size=shape), 1, -1) @ mix.T
    return np.maximum(np.moveaxis(raw, -1, 1) + 0.5, 0).astype(np.float32)


def reference(table: np.ndarray) -> np.ndarray:
    fitted = PCA(svd_solver="full").fit(table.astype(np.float64))
    shares = np.cumsum(fitted.explained_variance_ratio_)
    return shares[: min(len(table) - 1, table.shape[1])]


@pytest.mark.parametrize("part", [components.PART, 50])
@pytest.mark.parametrize(
    "shape", [(20, 8, 5, 4), (90, 3, 4, 4), (40, 12), (12, 40), (2, 5)]
)
def test_both_views_are_scikit_learns(
    shape: tuple[int, ...], part: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(components, "PART", part)
    values = outputs(0, *shape)
    rows = np.moveaxis(values, 1, -1).reshape(-1, shape[1])
    tables = {"channels": rows, "flattened": values.reshape(shape[0], -1)}
    for view, table in tables.items():
        ours = explained_variance(values, view)
        assert ours.dtype == np.float64
        np.testing.assert_allclose(ours, reference(table), rtol=1e-10)
        assert ours[-1] == 1


def test_counts_by_hand() -> None:
    # Three channels with variances 8, 1, 1 that do not correlate.
    signs = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]])
    values = signs * np.sqrt([8.0, 1, 1])
    np.testing.assert_allclose(explained_variance(values), [0.8, 0.9, 1])
    found = component_counts(values, (0.5, 0.8, 0.81, 0.9, 0.95))
    assert list(found.values()) == [1, 1, 2, 2, 3]
    assert component_counts(values) == {0.95: 3, 0.99: 3}


def test_channels_bound_the_count_of_one_view_only() -> None:
    values = np.random.default_rng(0).normal(size=(100, 3, 6, 6))
    assert component_counts(values, (0.99,)) == {0.99: 3}
    assert component_counts(values, (0.99,), "flattened")[0.99] > 50


@pytest.mark.parametrize("offset", [0.0, 0.1, 1e4])
@pytest.mark.parametrize("shape", [(30, 5, 4, 4), (30, 5), (4, 50)])
def test_dead_channels_do_not_count(
    offset: float, shape: tuple[int, ...]
) -> None:
    values = np.full(shape, offset, dtype=np.float32)
    assert component_counts(values) == {0.95: 0, 0.99: 0}
    assert component_counts(values, view="flattened") == {0.95: 0, 0.99: 0}
    with pytest.raises(DimensionError, match="do not vary"):
        explained_variance(values)
    values[:, 2] += np.random.default_rng(0).normal(size=values[:, 2].shape)
    assert component_counts(values) == {0.95: 1, 0.99: 1}


@settings(max_examples=30)
@given(
    seed=st.integers(0, 10_000),
    shares=st.lists(st.floats(0.01, 0.999), min_size=2, max_size=5),
    stretch=st.floats(1e-3, 1e3),
    view=st.sampled_from(["channels", "flattened"]),
)
def test_counts_grow_with_the_share_and_know_no_units(
    seed: int, shares: list[float], stretch: float, view: str
) -> None:
    values = outputs(seed, 12, 4, 3, 3).astype(np.float64)
    found = component_counts(values, sorted(shares), view)
    counts = list(found.values())
    assert counts == sorted(counts) and counts[0] >= 1
    shares_held = explained_variance(values, view)
    assert (np.diff(shares_held) >= 0).all()
    for share, count in found.items():
        assert shares_held[count - 1] >= share - 1e-9
        assert count == 1 or shares_held[count - 2] < share
    order = np.random.default_rng(seed).permutation(12)
    moved = stretch * values[order] + 7
    np.testing.assert_allclose(
        explained_variance(moved, view), shares_held, rtol=1e-7
    )


@pytest.mark.parametrize(
    "values, options, message",
    [
        (np.zeros((3, 2, 2)), {}, "N, C, H, W"),
        (np.zeros((1, 4)), {}, "at least two images"),
        (np.zeros((4, 0)), {}, "shape"),
        (np.full((4, 2), np.nan), {}, "NaN"),
        (np.eye(4), {"view": "pixels"}, "'channels' or 'flattened'"),
        (np.eye(4), {"shares": (0.95, 1.0)}, "above 0 and below 1"),
        (np.eye(4), {"shares": (99,)}, "above 0 and below 1"),
    ],
)
def test_what_cannot_be_counted_is_refused(
    values: np.ndarray, options: dict, message: str
) -> None:
    with pytest.raises(DimensionError, match=message):
        component_counts(values, **options)
