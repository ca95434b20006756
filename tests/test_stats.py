"""Statistics against closed forms, textbook cases, scipy, simulations."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy import stats

from lq_utils.stats import (
    StatsError,
    bootstrap,
    correlation,
    holm,
    mean_interval,
    paired,
    partial_correlation,
    pearson,
    regression,
    slope,
    spearman,
    wilson,
)

# Student 1908: extra sleep under two drugs, the same ten people.
SLEEP_1 = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]
SLEEP_2 = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]
# Anscombe 1973, the first of the four.
ANSCOMBE_X = [10, 8, 13, 9, 11, 14, 6, 4, 12, 7, 5]
ANSCOMBE_Y = [
    *(8.04, 6.95, 7.58, 8.81, 8.33, 9.96),
    *(7.24, 4.26, 10.84, 4.82, 5.68),
]


def numbers(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def binomial_bounds(runs: int, share: float) -> tuple[float, float]:
    """Where the share seen in ``runs`` lies but for 1 in 10,000 times."""
    low, high = stats.binom.ppf([5e-5, 1 - 5e-5], runs, share) / runs
    return float(low), float(high)


# Shares


@settings(max_examples=100)
@given(
    n=st.integers(1, 20_000),
    share=st.floats(0, 1),
    level=st.floats(0.5, 0.999),
)
def test_wilson_is_where_the_score_test_rejects(
    n: int, share: float, level: float
) -> None:
    hits = round(share * n)
    found = wilson(hits, n, level)
    assert found.value == hits / n and found.n == n
    assert found.ci is not None
    z = stats.norm.isf((1 - level) / 2)
    for p, inside in zip(found.ci, (0 < hits, hits < n), strict=True):
        assert -1e-12 <= p <= 1 + 1e-12
        if inside:  # the two roots of (share - p)^2 = z^2 p (1 - p) / n
            square = (hits / n - p) ** 2
            assert_allclose(square, z**2 * p * (1 - p) / n, rtol=1e-6)


def test_wilson_coverage_is_as_named() -> None:
    n, shares = 50, np.linspace(0.02, 0.98, 97)
    bounds = np.array([wilson(k, n).ci for k in range(n + 1)])
    inside = (bounds[:, :1] <= shares) & (shares <= bounds[:, 1:])
    hits = np.arange(n + 1)[:, None]
    covered = (stats.binom.pmf(hits, n, shares) * inside).sum(axis=0)
    assert 0.945 < covered.mean() < 0.955
    assert covered.min() > 0.9


@pytest.mark.parametrize("hits, n", [(1, 0), (-1, 5), (6, 5), (1.5, 5)])
def test_impossible_counts(hits: Any, n: int) -> None:
    with pytest.raises(StatsError, match="counts are whole"):
        wilson(hits, n)


# Means


def test_mean_by_hand() -> None:
    found = mean_interval([1, 2, 3, 4, 5])
    # Standard error sqrt(2.5 / 5); t with 4 degrees of freedom.
    assert found.value == 3 and found.n == 5
    assert_allclose(found.ci, 3 + np.array([-1, 1]) * 2.776445 * 0.5**0.5)


def test_mean_coverage_is_as_named() -> None:
    runs, level = 800, 0.9
    sample = numbers(0, runs, 5)
    hits = [i.low <= 0 <= i.high for i in _intervals(sample, level)]
    low, high = binomial_bounds(runs, level)
    assert low <= np.mean(hits) <= high


def _intervals(sample: np.ndarray, level: float) -> list[Any]:
    return [mean_interval(row, level=level) for row in sample]


def test_one_value_has_no_interval() -> None:
    for method in ("t", "bca"):
        found = mean_interval([0.3], method)
        assert found.value == 0.3 and found.ci is None and found.n == 1


def test_equal_values() -> None:
    for method in ("t", "bca"):
        assert mean_interval([2.0] * 4, method).ci == (2.0, 2.0)


def textbook_bca(sample: np.ndarray, level: float) -> np.ndarray:
    """Efron and Tibshirani 1993, eq. 14.9 to 14.15, for the mean."""
    n, mean = len(sample), sample.mean()
    rng = np.random.default_rng(99)
    draws = sample[rng.integers(n, size=(20_000, n))].mean(axis=1)
    z0 = stats.norm.ppf((draws < mean).mean())
    left_out = (sample.sum() - sample) / (n - 1)
    gaps = left_out.mean() - left_out
    a = (gaps**3).sum() / (6 * (gaps**2).sum() ** 1.5)
    z = z0 + stats.norm.ppf([(1 - level) / 2, (1 + level) / 2])
    return np.quantile(draws, stats.norm.cdf(z0 + z / (1 - a * z)))


def test_bootstrap_of_the_mean() -> None:
    sample = np.random.default_rng(3).exponential(size=40)
    found = mean_interval(sample, "bca", level=0.9)
    assert found.ci is not None
    expected = textbook_bca(sample, 0.9)
    width = expected[1] - expected[0]
    assert_allclose(found.ci, expected, atol=0.03 * width)
    plain = mean_interval(sample, level=0.9)
    # Skewed to the right, so it reaches farther to the right.
    assert found.high - found.value > plain.high - plain.value
    assert found == mean_interval(sample, "bca", level=0.9)
    assert found != mean_interval(sample, "bca", level=0.9, seed=1)


def test_bootstrap_coverage() -> None:
    runs = 200
    samples = np.random.default_rng(4).exponential(size=(runs, 40))
    found = [bootstrap(np.mean, s, resamples=399, level=0.9) for s in samples]
    covered = np.mean([i.low <= 1 <= i.high for i in found])
    low, high = binomial_bounds(runs, 0.88)  # known to be a bit too narrow
    assert low <= covered <= high


def test_bootstrap_keeps_pairs_together() -> None:
    x = numbers(0, 30)
    y = 2 * x + 1
    found = bootstrap(slope, x, y)
    assert_allclose([found.value, found.low, found.high], 2.0)
    noisy = y + 0.5 * numbers(1, 30)
    both = bootstrap(slope, x, noisy, level=0.9), regression(x, noisy, 0.9)
    wide = both[1].slope.high - both[1].slope.low
    assert_allclose(both[0].ci, both[1].slope.ci, atol=0.3 * wide)


def test_bootstrap_of_too_few_cases_is_undefined() -> None:
    found = bootstrap(slope, [1, 2, 3], [1, 3, 2])
    assert found.value == 0.5 and found.ci is None


# Pairs


def test_paired_on_the_sleep_data() -> None:
    found = paired(SLEEP_1, SLEEP_2)
    # R: t.test(..., paired = TRUE), wilcox.test(..., exact = FALSE)
    assert_allclose(found.difference, -1.58)
    assert_allclose(found.ci, [-2.4598858, -0.7001142], rtol=1e-6)
    assert_allclose(found.effect_size, -4.0621 / math.sqrt(10), rtol=1e-4)
    assert found.n == 10
    gaps = np.round(np.subtract(SLEEP_1, SLEEP_2), 1)
    # Nine people moved, all the same way.
    assert_allclose(found.p_permutation, 2 / 2**9)
    assert_allclose(found.p_wilcoxon, stats.wilcoxon(gaps).pvalue)
    assert 0.003 < found.p_wilcoxon < 0.01
    back = paired(SLEEP_2, SLEEP_1)
    assert_allclose(back.difference, 1.58)
    assert_allclose(back.p_permutation, found.p_permutation)


@pytest.mark.parametrize("n", [1, 2, 5, 8])
def test_sign_flips_by_brute_force(n: int) -> None:
    # Small whole numbers, so that there are ties and zeros.
    gaps = np.random.default_rng(n).integers(-2, 4, size=n)
    sums = [
        abs(np.dot(signs, gaps))
        for signs in itertools.product((-1, 1), repeat=n)
    ]
    expected = np.mean(np.array(sums) >= abs(gaps.sum()))
    # Tenths: sums that are equal are no longer so in binary.
    assert_allclose(paired(gaps / 10, [0.0] * n).p_permutation, expected)


def test_many_pairs() -> None:
    gaps = 0.3 + numbers(0, 40)
    found = paired(gaps, np.zeros(40))
    expected = stats.permutation_test(
        (gaps,), np.mean, permutation_type="samples", n_resamples=9999, rng=1
    ).pvalue
    error = math.sqrt(expected / 9999)
    assert abs(found.p_permutation - expected) < 6 * error
    assert found == paired(gaps, np.zeros(40))
    assert_allclose(found.p_wilcoxon, stats.wilcoxon(gaps).pvalue)


def test_right_and_wrong_answers_of_two_networks() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.random((2, 2000)) < 0.5
    only = (a & ~b).sum(), (b & ~a).sum()
    found = paired(a, b)
    assert_allclose(found.difference, (only[0] - only[1]) / 2000)
    # McNemar's exact test says the same.
    expected = stats.binomtest(int(only[0]), int(sum(only))).pvalue
    assert abs(found.p_permutation - expected) < 0.03


def test_no_effect_is_rarely_found() -> None:
    runs, alpha = 250, 0.1
    p = [paired(row, np.zeros(9)).p_permutation for row in numbers(7, runs, 9)]
    low, high = binomial_bounds(runs, alpha)
    assert low <= np.mean(np.array(p) <= alpha) <= high


def test_nothing_moved_and_all_moved_alike() -> None:
    same = paired([1, 2, 3], [1, 2, 3])
    assert (same.p_wilcoxon, same.p_permutation) == (1, 1)
    assert same.effect_size == 0 and same.ci == (0, 0)
    alike = paired([0.3, 0.4, 0.5], [0.2, 0.3, 0.4])
    assert alike.effect_size == math.inf
    assert_allclose(alike.p_permutation, 2 / 8)
    assert_allclose(alike.p_wilcoxon, 2 / 8)
    one = paired([0.3], [0.2])
    assert one.ci is None and math.isnan(one.effect_size)
    assert one.p_permutation == one.p_wilcoxon == 1


# Many tests


def test_holm_by_hand() -> None:
    adjusted = holm([0.01, 0.04, 0.03, 0.005])
    assert_allclose(adjusted, [0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]).tolist() == [1, 1]


@settings(max_examples=100)
@given(
    p=st.lists(st.floats(0, 1), min_size=1, max_size=12),
    alpha=st.floats(0.001, 0.5),
)
def test_holm_rejects_as_the_procedure_does(
    p: list[float], alpha: float
) -> None:
    rejected = set()
    for step, i in enumerate(sorted(range(len(p)), key=p.__getitem__)):
        if (len(p) - step) * p[i] > alpha:
            break
        rejected.add(i)
    assert set(np.flatnonzero(holm(p) <= alpha)) == rejected


# Relations


@pytest.mark.parametrize("seed", range(3))
def test_pearson_against_scipy(seed: int) -> None:
    x, noise = numbers(seed, 2, 25)
    y = x + seed * noise + 1
    if seed == 0:
        y += 1e-3 * noise
    expected = stats.pearsonr(x, y)
    found = correlation(x, y, "pearson", level=0.9)
    assert_allclose(found.value, expected.statistic)
    assert_allclose(found.p, expected.pvalue, rtol=1e-6, atol=1e-300)
    assert_allclose(found.ci, expected.confidence_interval(0.9))
    assert (found.n, found.kind) == (25, "pearson")


def test_spearman_by_hand() -> None:
    # d = rank differences: 1 - 6 sum d^2 / (n (n^2 - 1)), d^2 sums to 8
    x, y = [1, 2, 3, 4, 5, 6, 7], [20, 10, 40, 30, 50, 80, 70]
    y[4], y[5] = y[5], y[4]
    found = correlation(x, y)
    squares = sum((np.argsort(np.argsort(y)) - np.arange(7)) ** 2)
    r = 1 - 6 * squares / (7 * 48)
    assert_allclose(found.value, r)
    half = stats.norm.ppf(0.975) * math.sqrt((1 + r**2 / 2) / 4)
    assert_allclose(np.arctanh(found.ci), math.atanh(r) + half * np.r_[-1, 1])
    assert_allclose(found.p, stats.spearmanr(x, y).pvalue)


def test_perfect_ranks_of_few_cases_prove_little() -> None:
    found = correlation([1, 2, 3], [1, 8, 9])
    assert_allclose([found.value, found.p], [1, 2 / 6])


@pytest.mark.parametrize("kind", ["pearson", "spearman"])
def test_correlation_coverage(kind: str) -> None:
    runs, rho = 600, 0.6
    truth = rho
    if kind == "spearman":  # of a bivariate normal distribution
        truth = 6 / math.pi * math.asin(rho / 2)
    draws = numbers(11, runs, 2, 30)
    pairs = [(x, rho * x + math.sqrt(1 - rho**2) * e) for x, e in draws]
    found = [correlation(x, y, kind) for x, y in pairs]
    covered = np.mean([c.low <= truth <= c.high for c in found])
    low, high = binomial_bounds(runs, 0.95)
    assert low - 0.01 <= covered <= high


@pytest.mark.parametrize("kind", ["pearson", "spearman"])
def test_partial_correlation_closed_form(kind: str) -> None:
    x, y, z = numbers(2, 3, 40)
    x, y = x + 2 * z, y + 0.5 * x - z
    xy, xz, yz = (
        correlation(a, b, kind).value for a, b in [(x, y), (x, z), (y, z)]
    )
    expected = (xy - xz * yz) / math.sqrt((1 - xz**2) * (1 - yz**2))
    found = partial_correlation(x, y, z, kind)
    assert_allclose(found.value, expected)
    t = expected * math.sqrt(37 / (1 - expected**2))
    assert_allclose(found.p, 2 * stats.t.sf(abs(t), 37))


def test_partial_correlation_given_two() -> None:
    data = numbers(5, 4, 30)
    data[0] += data[2] - data[3]
    data[1] += data[2] + data[3] + 0.3 * data[0]
    found = partial_correlation(data[0], data[1], data[2:].T, "pearson")
    inverse = np.linalg.inv(np.corrcoef(data))
    expected = -inverse[0, 1] / math.sqrt(inverse[0, 0] * inverse[1, 1])
    assert_allclose(found.value, expected)
    half = stats.norm.ppf(0.975) / math.sqrt(30 - 2 - 3)
    centre = math.atanh(expected)
    assert_allclose(np.arctanh(found.ci), centre + half * np.r_[-1, 1])


def test_a_common_cause_is_seen_through() -> None:
    z, e, f = numbers(8, 3, 300)
    x, y = z + 0.3 * e, z + 0.3 * f
    assert correlation(x, y).p < 1e-10
    left = partial_correlation(x, y, z)
    assert left.low < 0 < left.high and left.p > 0.01


def test_regression_on_anscombe() -> None:
    found = regression(ANSCOMBE_X, ANSCOMBE_Y)
    assert_allclose(found.slope.value, 0.50009, atol=1e-5)
    assert_allclose(found.intercept.value, 3.00009, atol=1e-5)
    assert_allclose(found.r_squared, 0.66654, atol=1e-5)
    # Standard errors of any statistics package; t with 9 degrees.
    t = 2.262157
    assert found.slope.ci is not None and found.intercept.ci is not None
    assert_allclose(np.ptp(found.slope.ci), 2 * t * 0.1179055, rtol=1e-5)
    assert_allclose(np.ptp(found.intercept.ci), 2 * t * 1.124747, rtol=1e-5)
    assert_allclose(found.p, 0.0021696, rtol=1e-4)
    fit, low, high = found.line([0.0])
    assert_allclose(fit, found.intercept.value)
    assert_allclose((low[0], high[0]), found.intercept.ci)


def test_band_of_the_line_in_matrix_form() -> None:
    x, noise = numbers(6, 2, 15)
    y, at = 3 * x + noise, np.array([-1.0, 0.2, 4.0])
    fit, low, high = regression(x, y, level=0.9).line(at)
    design, new = (np.column_stack([np.ones_like(a), a]) for a in (x, at))
    inverse = np.linalg.inv(design.T @ design)
    weights = inverse @ design.T @ y
    variance = ((y - design @ weights) ** 2).sum() / 13
    half = stats.t.ppf(0.95, 13) * np.sqrt(
        variance * np.einsum("ki,ij,kj->k", new, inverse, new)
    )
    assert_allclose(fit, new @ weights)
    assert_allclose([low, high], [fit - half, fit + half])


def test_statistics_along_an_axis() -> None:
    x, y = numbers(9, 2, 6, 20)
    for along, one in [
        (pearson, lambda a, b: stats.pearsonr(a, b).statistic),
        (spearman, lambda a, b: stats.spearmanr(a, b).statistic),
        (slope, lambda a, b: stats.linregress(a, b).slope),
    ]:
        expected = [one(a, b) for a, b in zip(x, y, strict=True)]
        assert_allclose(along(x, y), expected)
        assert_allclose(along(x.T, y.T, axis=0), expected)
        assert np.isnan(along(np.ones(4), np.arange(4)))


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: mean_interval([]), "at least 1 numbers"),
        (lambda: mean_interval([1, math.nan]), "NaN or infinity"),
        (lambda: mean_interval([1, 2], "median"), "choose 't' or 'bca'"),
        (lambda: mean_interval([1, 2], level=95), "between 0 and 1"),
        (lambda: paired([1, 2], [1, 2, 3]), "cannot be paired"),
        (lambda: bootstrap(slope, [1, 2], [1]), "cannot be paired"),
        (lambda: holm([0.5, 1.1]), "lie in 0..1"),
        (lambda: correlation([1, 2], [3, 4]), "at least 3"),
        (lambda: correlation([0.1] * 3, [1, 2, 3]), "x does not vary"),
        (lambda: correlation([1, 2, 3], [1, 2, 3], "tau"), "choose one"),
        (
            lambda: partial_correlation([1, 2, 3, 5], [1, 3, 2, 4], [1, 2]),
            "each of the 4 cases",
        ),
        (
            lambda: partial_correlation(
                [1, 2, 3, 5], [1, 3, 2, 4], [3, 5, 7, 11], "pearson"
            ),
            "x does not vary",
        ),
        (lambda: regression([2, 2, 2], [1, 2, 3]), "x does not vary"),
    ],
)
def test_errors_say_what_is_wrong(call: Any, message: str) -> None:
    with pytest.raises(StatsError, match=message):
        call()
