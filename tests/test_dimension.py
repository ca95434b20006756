"""Intrinsic dimensions against closed forms, peers and known manifolds."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.optimize import minimize_scalar
from scipy.special import beta
from skdim.id import TwoNN

from lq_utils import dimension as ld
from lq_utils.dimension import DimensionError, two_nearest_neighbors
from lq_utils.gride import gride_curve, gride_estimate
from lq_utils.manifolds import MANIFOLDS, gaussian, uniform_cube
from lq_utils.nearest import nearest_distances
from lq_utils.paths import ROOT
from lq_utils.registry import UnknownName

METHODS = ["regression", "likelihood", "censored"]
PEER = pd.read_csv(ROOT / "tests" / "dadapy_values.csv")
CASE = ["kind", "dimension", "points", "ambient", "seed"]
CASES = PEER[CASE].drop_duplicates().values.tolist()


def value(points: np.ndarray, method: str = "regression") -> float:
    return two_nearest_neighbors(points, method, blocks=None).value


@pytest.mark.parametrize("width", [3, 20, 200])
@pytest.mark.parametrize(
    "method, theirs",
    [
        ("regression", TwoNN()),
        ("censored", TwoNN(method="mle")),
        ("likelihood", TwoNN(discard_fraction=0, method="mle")),
    ],
)
def test_scikit_dimension_agrees_on_the_same_points(
    width: int, method: str, theirs: TwoNN
) -> None:
    points = gaussian(3, 500, width, seed=width)
    expected = theirs.fit(points).dimension_
    assert value(points, method) == pytest.approx(expected, rel=1e-6)
    single = points.astype(np.float32)
    assert value(single, method) == pytest.approx(expected, rel=1e-3)


def test_the_three_methods_by_hand() -> None:
    distances = np.array([[1, 2.0], [1, 4], [2, 3], [1, 1.25]])
    logs = np.sort(np.log(distances[:, 1] / distances[:, 0]))
    every = ld.ESTIMATORS
    assert every.get("likelihood")(distances, 0.1) == pytest.approx(
        3 / logs.sum()
    )
    # Three of four stay; the fourth is known to be at least the third.
    assert every.get("censored")(distances, 0.25) == pytest.approx(
        2 / (logs[:3].sum() + logs[2])
    )
    y = -np.log(1 - np.array([1, 2, 3]) / 4)
    assert every.get("regression")(distances, 0.25) == pytest.approx(
        (logs[:3] @ y) / (logs[:3] @ logs[:3])
    )


@pytest.mark.parametrize("method", METHODS)
def test_ratios_of_a_pareto_law_give_its_exponent(method: str) -> None:
    mu = 1 + np.random.default_rng(0).pareto(10.0, size=200_000)
    distances = np.stack([np.ones_like(mu), mu], axis=1)
    found = ld.ESTIMATORS.get(method)(distances, 0.1)
    assert found == pytest.approx(10, rel=0.02)


# Low bias of a finite sample: what is known to come out, not what is true.
KNOWN = [
    (uniform_cube, 2, 1.85, 2.1),
    (uniform_cube, 5, 4.4, 5.0),
    (uniform_cube, 10, 8.1, 9.2),
    (uniform_cube, 20, 14.2, 16.5),
    (gaussian, 2, 1.85, 2.15),
    (gaussian, 5, 4.5, 5.2),
    (gaussian, 10, 8.4, 9.9),
    (gaussian, 20, 15.2, 18.0),
]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("make, dimension, low, high", KNOWN)
def test_known_manifolds_are_found_as_low_as_is_known(
    make, dimension: int, low: float, high: float, method: str
) -> None:
    found = two_nearest_neighbors(make(dimension, 2000, 30, 0), method)
    assert low < found.value < high
    # The error is that of the spread, about d / sqrt(N), not of the bias.
    assert 0.3 < found.error / (found.value / np.sqrt(2000)) < 2.5


@pytest.mark.parametrize("kind, dimension", [("sphere", 2), ("swiss_roll", 2)])
def test_curved_manifolds(kind: str, dimension: int) -> None:
    points = MANIFOLDS.get(kind)(dimension, 3000, 25, 1)
    assert value(points) == pytest.approx(dimension, rel=0.07)


@pytest.mark.parametrize("kind", list(MANIFOLDS))
def test_manifolds_keep_the_contract(kind: str) -> None:
    make = MANIFOLDS.get(kind)
    points = make(4, 50, 9, 3)
    assert points.shape == (50, 9) and points.dtype == np.float64
    assert np.array_equal(points, make(4, 50, 9, 3))
    assert not np.array_equal(points, make(4, 50, 9, 4))
    rank = np.linalg.matrix_rank(points)
    assert rank == 4 + (kind in ("sphere", "swiss_roll"))
    with pytest.raises(DimensionError, match="at least"):
        make(4, 50, 3, 0)
    with pytest.raises(DimensionError, match="from 1"):
        make(0, 50, 3, 0)


def test_a_manifold_is_turned_not_stretched() -> None:
    points = MANIFOLDS.get("sphere")(3, 80, 30, 0)
    assert np.allclose(np.linalg.norm(points, axis=1), 1)


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c[0]}-{c[1]}")
def test_dadapys_stored_values(case: list) -> None:
    points = MANIFOLDS.get(case[0])(*case[1:])
    rows = PEER[(PEER[CASE] == case).all(axis=1)].set_index("method")
    for theirs, ours in (("base", "regression"), ("ml", "likelihood")):
        expected = rows.loc[f"TwoNN {theirs}", "value"]
        assert value(points, ours) == pytest.approx(expected, rel=1e-5)
    curve, stored = gride_curve(points), rows.loc["GRIDE"]
    assert len(curve) == len(stored) == 6
    for column in ("rank_near", "rank_far", "value", "error"):
        np.testing.assert_allclose(curve[column], stored[column], rtol=1e-5)


def test_the_peers_lock_has_hashes_and_no_address() -> None:
    text = (ROOT / "benchmarks/dadapy/requirements.lock").read_text()
    body = [x for x in text.splitlines() if not x.lstrip().startswith("#")]
    entries = re.split(r"\n(?=\S)", "\n".join(body).strip())
    assert all("--hash=sha256:" in entry for entry in entries)
    assert "://" not in text and "\ndadapy==" in text


@settings(max_examples=20)
@given(
    seed=st.integers(0, 10_000),
    stretch=st.floats(1e-6, 1e6),
    shift=st.floats(-100, 100),
    method=st.sampled_from(METHODS),
)
def test_neither_size_nor_place_nor_order_matters(
    seed: int, stretch: float, shift: float, method: str
) -> None:
    points = gaussian(3, 80, 6, seed)
    rng = np.random.default_rng(seed)
    turn, _ = np.linalg.qr(rng.normal(size=(6, 6)))
    moved = stretch * (rng.permutation(points) @ turn + shift)
    before = two_nearest_neighbors(points, method, blocks=None)
    after = two_nearest_neighbors(moved, method, blocks=None)
    assert after.value == pytest.approx(before.value, rel=1e-6)
    assert after.scale == pytest.approx(stretch * before.scale, rel=1e-6)


def test_duplicates_do_not_move_the_dimension() -> None:
    clean = gaussian(5, 2000, 5, seed=0)
    # Five per cent of the points have a twin: 200 distances of 0.
    pairs = np.concatenate([clean[:1900], clean[:100]])
    found = two_nearest_neighbors(pairs)
    assert (found.points, found.removed) == (1900, 100)
    assert found.value == value(clean[:1900])
    assert found.value == pytest.approx(value(clean), rel=0.03)


def test_an_estimate_says_what_it_is_from() -> None:
    points = gaussian(4, 400, 10, seed=2)
    found = two_nearest_neighbors(points, "likelihood")
    assert found.method == "likelihood"
    assert (found.points, found.removed, found.ties) == (400, 0, 0)
    near = nearest_distances(points).distances
    assert found.scale == pytest.approx(near[:, 1].mean())
    again = two_nearest_neighbors(points, "likelihood")
    assert again == found
    other = two_nearest_neighbors(points, "likelihood", seed=1)
    assert other.value == found.value and other.error != found.error
    assert np.isnan(two_nearest_neighbors(points, blocks=None).error)


def test_ties_are_counted() -> None:
    ends = np.array([[-3.0], [-1], [1], [3], [4.5]])
    found = two_nearest_neighbors(ends, "likelihood", blocks=None)
    assert found.ties == 2  # -1 and 1 have neighbours at 2 on both sides
    counts = np.random.default_rng(0).integers(0, 10, size=(600, 3))
    assert two_nearest_neighbors(counts).ties > 100


def test_error_is_the_spread_over_samples() -> None:
    found = [two_nearest_neighbors(gaussian(5, 800, 5, s)) for s in range(12)]
    spread = np.std([each.value for each in found], ddof=1)
    errors = np.mean([each.error for each in found])
    assert 0.5 < errors / spread < 2


@pytest.mark.parametrize(
    "options, message",
    [
        ({"blocks": 1}, "from 2, or None"),
        ({"blocks": 9}, "fewer than 20 each"),
        ({"discard": 0.0}, "above 0 and below 1"),
        ({"discard": 1.0, "method": "censored"}, "above 0 and below 1"),
        ({"discard": 0.995}, "discard less"),
    ],
)
def test_impossible_options_are_refused(options: dict, message: str) -> None:
    with pytest.raises(DimensionError, match=message):
        two_nearest_neighbors(gaussian(2, 160, 3, 0), **options)


def test_points_without_a_dimension_are_refused() -> None:
    grid = np.stack(np.meshgrid(*[np.arange(6)] * 2), -1).reshape(-1, 2)
    for points, message in [
        (grid, "on a grid"),
        (np.ones((50, 4)), "same output for all"),
        (np.full((50, 4), np.nan), "NaN"),
        (np.zeros((0, 4)), "three"),
    ]:
        with pytest.raises(DimensionError, match=message):
            two_nearest_neighbors(points, blocks=None)
    with pytest.raises(UnknownName, match="did you mean 'regression'"):
        two_nearest_neighbors(grid, "regresion")


def test_a_students_estimator_stands_beside_the_others() -> None:
    @ld.register_estimator("median", replace=True)
    def median(distances: np.ndarray, discard: float) -> float:
        mu = distances[:, 1] / distances[:, 0]
        return float(np.log(2) / np.log(np.median(mu)))

    try:
        found = two_nearest_neighbors(gaussian(2, 3000, 3, 0), "median")
        assert found.value == pytest.approx(2, rel=0.1)
    finally:
        del ld.ESTIMATORS._entries["median"]


def test_scaling_curve_halves_and_shows_the_bias() -> None:
    points = uniform_cube(10, 1601, 20, seed=0)
    curve = ld.scaling_curve(points, halvings=3)
    assert curve["points"].tolist() == [1601, 800, 400, 200]
    assert curve["subsets"].tolist() == [1, 2, 4, 8]
    assert curve["value"][0] == value(points)
    assert curve["value"].iloc[-1] < curve["value"][0]
    assert (curve["scale"].diff()[1:] > 0).all()
    assert np.isnan(curve["error"][0]) and (curve["error"][1:] > 0).all()
    parts = np.array_split(np.random.default_rng(0).permutation(1601), 4)
    values = [value(points[part]) for part in parts]
    assert curve["value"][2] == pytest.approx(np.mean(values))
    assert curve["error"][2] == pytest.approx(np.std(values, ddof=1) / 2)
    with pytest.raises(DimensionError, match="fewer halvings"):
        ld.scaling_curve(points, halvings=7)
    with pytest.raises(DimensionError, match="halvings=-1"):
        ld.scaling_curve(points, halvings=-1)


def density(mu: float, d: float, n1: int) -> float:
    """The density of GRIDE with n2 = 2 n1 as Denti et al. print it."""
    top = d * (mu**d - 1) ** (n1 - 1)
    return top / (mu ** ((2 * n1 - 1) * d + 1) * beta(n1, n1))


@pytest.mark.parametrize("n1", [2, 8, 32])
def test_gride_maximises_the_likelihood(n1: int) -> None:
    assert quad(density, 1, 20, (3.0, n1))[0] == pytest.approx(1, abs=1e-3)
    near = nearest_distances(gaussian(4, 3000, 6, n1), 2 * n1).distances
    mu = near[:, -1] / near[:, n1 - 1]

    def loss(d: float) -> float:
        return -np.log(density(mu, d, n1)).sum()

    found, error = gride_estimate(mu, n1)
    best = minimize_scalar(loss, bounds=(1, 9), method="bounded").x
    # One of N terms d^-1 is left out to remove the bias.
    assert found == pytest.approx(best, rel=1 / len(mu))
    step = 1e-3
    second = loss(found + step) - 2 * loss(found) + loss(found - step)
    assert error == pytest.approx((second / step**2) ** -0.5, rel=1e-3)


def test_gride_of_the_first_two_is_the_likelihood_of_twonn() -> None:
    points = gaussian(6, 500, 9, seed=0)
    first = gride_curve(points, 2).iloc[0]
    expected = two_nearest_neighbors(points, "likelihood")
    assert first["value"] == pytest.approx(expected.value, rel=1e-10)
    assert first["scale"] == pytest.approx(expected.scale, rel=1e-10)
    assert first["error"] == pytest.approx(first["value"] / np.sqrt(500))


def test_gride_curve_sees_noise_only_at_small_scale() -> None:
    rng = np.random.default_rng(0)
    plane = uniform_cube(2, 3000, 10, seed=0)
    noisy = plane + 0.004 * rng.normal(size=plane.shape)
    curve = gride_curve(noisy, 128)
    assert curve["rank_far"].tolist() == [2, 4, 8, 16, 32, 64, 128]
    assert curve["value"].iloc[0] > 3
    assert curve["value"].iloc[-1] < 2.3
    assert (curve["scale"].diff()[1:] > 0).all()


def test_gride_takes_ties_and_refuses_what_has_no_maximum() -> None:
    mu = np.array([1.0, 1.0, 1.5, 2.0, 1.2])
    d, error = gride_estimate(mu, 4)
    close, _ = gride_estimate(np.maximum(mu, 1 + 1e-9), 4)
    assert d == pytest.approx(close, rel=1e-6) and error > 0
    for ratios, rank, message in [
        (np.ones(5), 2, "grid"),
        (np.array([0.5, 2]), 1, "at least 1"),
        (np.array([np.inf, 2]), 1, "finite"),
        (mu, 0, "give 1, 2"),
        (mu[:1], 1, "fewer than two"),
    ]:
        with pytest.raises(DimensionError, match=message):
            gride_estimate(ratios, rank)
    with pytest.raises(DimensionError, match="2, 4, 8"):
        gride_curve(gaussian(2, 50, 2, 0), 12)
    with pytest.raises(DimensionError, match="at most 49"):
        gride_curve(gaussian(2, 50, 2, 0), 64)
