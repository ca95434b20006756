"""Class distances against independent references and their axioms."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from torch.distributions import MultivariateNormal, kl_divergence

from lq_utils import distances as ld
from lq_utils.gaussian import regularise

CLASSES = 5


def make_samples(
    seed: int, dimensions: int, classes: int = CLASSES, each: int = 30
) -> tuple[np.ndarray, np.ndarray]:
    """Gaussian clouds of different shape and place."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(classes), each)
    shapes = rng.normal(size=(classes, dimensions, dimensions))
    shapes += 1.5 * np.eye(dimensions)
    noise = rng.normal(size=(len(labels), dimensions, 1))
    centres = 3 * rng.normal(size=(classes, dimensions))
    return centres[labels] + (shapes[labels] @ noise)[..., 0], labels


def make_gaussians(seed: int, dimensions: int) -> ld.Gaussians:
    return ld.gaussians(*make_samples(seed, dimensions), CLASSES)


def loop_kl(g: ld.Gaussians) -> np.ndarray:
    """The textbook formula with its log-determinants, pair by pair."""
    classes, d = g.means.shape
    out = np.zeros((classes, classes))
    for i in range(classes):
        for j in range(classes):
            inverse = np.linalg.inv(g.covariances[j])
            step = g.means[j] - g.means[i]
            logdets = [np.log(np.linalg.det(g.covariances[k])) for k in (j, i)]
            out[i, j] = 0.5 * (
                np.trace(inverse @ g.covariances[i])
                - d
                + step @ inverse @ step
                + logdets[0]
                - logdets[1]
            )
    return (out + out.T) / 2


def relative(ours: np.ndarray, reference: np.ndarray) -> float:
    off = ~np.eye(len(ours), dtype=bool)
    return float(np.abs(ours / np.where(off, reference, 1) - 1)[off].max())


@pytest.mark.parametrize("dimensions", [1, 2, 7])
def test_symmetric_kl_is_the_double_loop(dimensions: int) -> None:
    g = make_gaussians(0, dimensions)
    assert relative(ld.symmetric_kl(g), loop_kl(g)) < 1e-9


def test_symmetric_kl_is_what_torch_computes() -> None:
    g = make_gaussians(1, 3)
    parts = [
        MultivariateNormal(torch.tensor(m), torch.tensor(s))
        for m, s in zip(g.means, g.covariances)
    ]
    theirs = np.array(
        [
            [
                (kl_divergence(p, q) + kl_divergence(q, p)).item() / 2
                for q in parts
            ]
            for p in parts
        ]
    )
    assert np.allclose(ld.symmetric_kl(g), theirs, rtol=1e-9, atol=1e-9)


def test_symmetric_kl_by_hand() -> None:
    g = ld.Gaussians(
        np.array([[0.0, 0.0], [2.0, 0.0]]),
        np.array([np.eye(2), np.diag([4.0, 1.0])]),
        np.array([9, 9]),
    )
    assert ld.symmetric_kl(g)[0, 1] == pytest.approx((1.25 + 5 - 4 + 5) / 4)


@settings(max_examples=40)
@given(
    seed=st.integers(0, 10_000),
    dimensions=st.integers(1, 4),
    stretch=st.floats(0.01, 100),
    shift=st.floats(-1000, 1000),
)
def test_symmetric_kl_properties(
    seed: int, dimensions: int, stretch: float, shift: float
) -> None:
    features, labels = make_samples(seed, dimensions)
    d = ld.symmetric_kl(ld.gaussians(features, labels, CLASSES))
    assert np.array_equal(d, d.T)
    assert not np.diagonal(d).any()
    assert (d[~np.eye(CLASSES, dtype=bool)] > 0).all()
    # Affine invariance holds for the Gaussians themselves.
    rng = np.random.default_rng(seed)
    turn, _ = np.linalg.qr(rng.normal(size=(dimensions, dimensions)))
    turn = turn * np.geomspace(1, stretch, dimensions)
    pair = [
        ld.symmetric_kl(ld.gaussians(x, labels, CLASSES, 0.0, floor=0.0))
        for x in (features, features @ turn + shift)
    ]
    assert np.allclose(*pair, rtol=1e-6)


def test_close_means_far_from_the_origin_do_not_cancel() -> None:
    features, labels = make_samples(0, 2)
    features = features * 1e-3
    near = ld.symmetric_kl(ld.gaussians(features, labels, CLASSES))
    far = ld.symmetric_kl(ld.gaussians(features + 1e4, labels, CLASSES))
    assert np.allclose(near, far, rtol=1e-5)


def test_bures_wasserstein_is_the_matrix_square_root_formula() -> None:
    g = make_gaussians(2, 4)
    ours = ld.bures_wasserstein(g)
    for i in range(CLASSES):
        root = scipy.linalg.sqrtm(g.covariances[i])
        for j in range(CLASSES):
            inner = scipy.linalg.sqrtm(root @ g.covariances[j] @ root)
            step = g.means[i] - g.means[j]
            reference = step @ step + np.trace(
                g.covariances[i] + g.covariances[j] - 2 * inner.real
            )
            assert ours[i, j] == pytest.approx(reference, abs=1e-6)


def test_bures_wasserstein_takes_singular_covariances() -> None:
    flat = np.diag([1.0, 0.0])
    g = ld.Gaussians(np.zeros((2, 2)), np.array([flat, 4 * flat]), [5, 5])
    assert ld.bures_wasserstein(g)[0, 1] == pytest.approx((2 - 1) ** 2)


def test_bhattacharyya_is_the_integral_in_one_dimension() -> None:
    g = ld.Gaussians(
        np.array([[0.0], [1.5]]), np.array([[[1.0]], [[0.3]]]), [5, 5]
    )
    x = np.linspace(-12, 12, 200_001)
    p, q = (
        scipy.stats.norm.pdf(x, m[0], np.sqrt(s[0, 0]))
        for m, s in zip(g.means, g.covariances)
    )
    reference = -np.log(np.trapezoid(np.sqrt(p * q), x))
    assert ld.bhattacharyya(g)[0, 1] == pytest.approx(reference, rel=1e-8)


def test_mahalanobis_is_that_of_discriminant_analysis() -> None:
    features, labels = make_samples(3, 3)
    g = ld.gaussians(features, labels, CLASSES, shrinkage=0.0, floor=0.0)
    lda = LinearDiscriminantAnalysis(solver="lsqr", store_covariance=True)
    lda.fit(features, labels)
    # scikit-learn divides by N, the pooled estimate here by N - C.
    n = len(labels)
    precision = np.linalg.inv(lda.covariance_ * n / (n - CLASSES))
    step = lda.means_[0] - lda.means_[1]
    ours = ld.mahalanobis(g)
    assert ours[0, 1] == pytest.approx(np.sqrt(step @ precision @ step))


def test_energy_is_scipys_in_one_dimension() -> None:
    features, labels = make_samples(4, 1, each=20)
    ours = ld.energy_distance(features, labels, CLASSES)
    for i in range(CLASSES):
        for j in range(CLASSES):
            x, y = (features[labels == k, 0] for k in (i, j))
            reference = scipy.stats.energy_distance(x, y)
            assert ours[i, j] == pytest.approx(reference, abs=1e-7)


def test_mmd_is_the_textbook_sum() -> None:
    features, labels = make_samples(5, 2, classes=3, each=8)
    gaps = [
        np.linalg.norm(features[i] - features[j])
        for i in range(len(labels))
        for j in range(i)
    ]
    width = np.median(gaps)
    ours = ld.mmd(features, labels, 3)
    x, y = features[labels == 0], features[labels == 1]

    def k(p: np.ndarray, q: np.ndarray) -> float:
        return float(np.exp(-((p - q) @ (p - q)) / (2 * width**2)))

    n = len(x)
    own = sum(
        k(z[i], z[j])
        for z in (x, y)
        for i in range(n)
        for j in range(n)
        if i != j
    ) / (n * (n - 1))
    cross = sum(k(p, q) for p in x for q in y) / n**2
    assert ours[0, 1] == pytest.approx(own - 2 * cross, rel=1e-9)


def test_mmd_is_unbiased() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 20)
    values = [
        ld.mmd(rng.normal(size=(40, 2)), labels, 2)[0, 1] for _ in range(300)
    ]
    assert abs(np.mean(values)) < 4 * np.std(values) / np.sqrt(len(values))
    assert min(values) < 0


@pytest.mark.parametrize("name", list(ld.DISTANCES))
@pytest.mark.parametrize("dimensions", [2, 6])
def test_registered_distances_keep_the_contract(
    name: str, dimensions: int
) -> None:
    features, labels = make_samples(6, dimensions)
    d = ld.class_distances(name, features, labels, CLASSES)
    assert d.dtype == np.float64 and d.shape == (CLASSES, CLASSES)
    order = np.random.default_rng(0).permutation(CLASSES)
    renamed = ld.class_distances(
        name, features, np.argsort(order)[labels], CLASSES
    )
    assert np.allclose(renamed, d[np.ix_(order, order)], rtol=1e-9)


@pytest.mark.parametrize(
    "bad, message",
    [
        (np.ones((3, 3)), "shape"),
        (np.full((5, 5), np.nan), "NaN"),
        (np.arange(25.0).reshape(5, 5), "symmetric"),
        (np.ones((5, 5)), "zero diagonal"),
    ],
)
def test_a_bad_students_distance_is_named(
    bad: np.ndarray, message: str
) -> None:
    ld.register_distance("bad", replace=True)(lambda f, y, c: bad)
    try:
        with pytest.raises(ld.DistanceError, match=message):
            ld.class_distances("bad", *make_samples(0, 2), CLASSES)
    finally:
        del ld.DISTANCES._entries["bad"]


def test_unknown_distance_suggests() -> None:
    with pytest.raises(KeyError, match="did you mean 'bhattacharyya'"):
        ld.class_distances("batacharyya", *make_samples(0, 2), CLASSES)


def test_gaussians_refuse_what_has_no_covariance() -> None:
    features, labels = make_samples(0, 2)
    with pytest.raises(ld.DistanceError, match="class 5 has 0"):
        ld.gaussians(features, labels, CLASSES + 1)
    with pytest.raises(ld.DistanceError, match="class 4 has 1"):
        ld.gaussians(features[:-29], labels[:-29], CLASSES)
    broken = features.copy()
    broken[7, 1] = np.nan
    with pytest.raises(ld.DistanceError, match="sample 7"):
        ld.gaussians(broken, labels, CLASSES)
    with pytest.raises(ld.DistanceError, match="class 0 are the same point"):
        ld.gaussians(features * (labels != 0)[:, None], labels, CLASSES)
    with pytest.raises(ld.DistanceError, match="outside"):
        ld.gaussians(features, labels + 1, CLASSES)
    with pytest.raises(ld.DistanceError, match="do not fit"):
        ld.gaussians(features, labels[:-1], CLASSES)
    with pytest.raises(ld.DistanceError, match="0..1"):
        ld.gaussians(features, labels, CLASSES, shrinkage=1.5)
    with pytest.raises(ld.DistanceError, match="'ledoit-wolf'"):
        ld.gaussians(features, labels, CLASSES, shrinkage="ledoit")


def test_singular_covariances_are_named_not_inverted() -> None:
    flat = np.array([np.eye(2), np.diag([1.0, 0.0])])
    g = ld.Gaussians(np.zeros((2, 2)), flat, np.array([5, 5]))
    with pytest.raises(ld.DistanceError, match="class 1 is not"):
        ld.symmetric_kl(g)
    with pytest.raises(ld.DistanceError, match="class 1 is not"):
        ld.bhattacharyya(g)


def test_gaussians_without_shrinkage_are_numpys() -> None:
    features, labels = make_samples(0, 3)
    g = ld.gaussians(features.astype(np.float32), labels, CLASSES, 0.0, 0.0)
    own = features[labels == 2].astype(np.float32).astype(float)
    assert np.allclose(g.covariances[2], np.cov(own.T), rtol=1e-12)
    assert np.allclose(g.means[2], own.mean(axis=0), rtol=1e-12)
    assert g.counts.tolist() == [30] * CLASSES


@given(
    values=st.lists(st.floats(0, 10), min_size=2, max_size=4),
    shrinkage=st.floats(0, 1),
)
def test_regularise_keeps_the_floor(
    values: list[float], shrinkage: float
) -> None:
    scale = sum(values) / len(values)
    if scale < 1e-6:
        return
    done = regularise(np.diag(values), shrinkage)
    assert np.linalg.eigvalsh(done)[0] >= 1e-3 * scale * (1 - 1e-9)
    if min(values) >= 1e-3 * scale:
        assert np.trace(done) == pytest.approx(sum(values))


def test_many_dimensions_get_ledoit_wolf() -> None:
    features, labels = make_samples(7, 40, each=12)  # fewer than dimensions
    g = ld.gaussians(features, labels, CLASSES, "ledoit-wolf")
    assert np.linalg.cond(g.covariances).max() < 1e4
    ours = ld.class_distances("symmetric_kl", features, labels, CLASSES)
    assert np.array_equal(ours, ld.symmetric_kl(g))


def test_confusion_distance_by_hand() -> None:
    chances = np.array([[0.6, 0.4], [0.8, 0.2], [0.1, 0.9]])
    p = ld.confusion_probabilities(chances, np.array([0, 0, 1]), 2)
    assert np.allclose(p, [[0.7, 0.3], [0.1, 0.9]])
    d = ld.confusion_distance(p)
    assert np.allclose(d, [[0, 0.8], [0.8, 0]])
    with pytest.raises(ld.DistanceError, match="softmax"):
        ld.confusion_probabilities(5 * chances, np.array([0, 0, 1]), 2)
    with pytest.raises(ld.DistanceError, match="square"):
        ld.confusion_distance(5 * p)


def test_weight_cosine_by_hand() -> None:
    d = ld.weight_cosine(np.array([[2.0, 0.0], [0.0, 1.0], [-1.0, 0.0]]))
    assert np.allclose(d, [[0, 1, 2], [1, 0, 1], [2, 1, 0]])
    with pytest.raises(ld.DistanceError, match="all-zero"):
        ld.weight_cosine(np.zeros((2, 3)))


def test_closest_pairs_and_ranks() -> None:
    d = np.array([[0, 3.0, 1], [3, 0, 2], [1, 2, 0]])
    near = ld.closest_pairs(d, ["a", "b", "c"], 2)
    assert near.values.tolist() == [["a", "c", 1.0, 1], ["b", "c", 2.0, 2]]
    far = ld.closest_pairs(d, ["a", "b", "c"], 1, farthest=True)
    assert far.values.tolist() == [["a", "b", 3.0, 3]]


def test_rank_correlations_are_scipys() -> None:
    features, labels = make_samples(8, 4)
    both = {
        name: ld.class_distances(name, features, labels, CLASSES)
        for name in ("energy", "mahalanobis")
    }
    ours = ld.rank_correlations(both).loc["energy", "mahalanobis"]
    theirs = scipy.stats.spearmanr(*map(ld.pair_values, both.values()))
    assert ours == pytest.approx(theirs.statistic)
    with pytest.raises(ld.DistanceError, match="different sizes"):
        ld.rank_correlations({**both, "small": np.zeros((3, 3))})


def test_equal_distances_rank_nothing() -> None:
    equal, other = 1 - np.eye(4), np.arange(16.0).reshape(4, 4)
    table = ld.rank_correlations({"equal": equal, "other": other})
    assert table["equal"].isna().all()
    assert table.loc["other", "other"] == 1


def test_separation_auc_counts_pairs() -> None:
    groups = np.array([0, 0, 1, 1])
    d = np.array(
        [
            [0, 1.0, 2, 3],
            [1, 0, 4, 5],
            [2, 4, 0, 3],
            [3, 5, 3, 0],
        ]
    )
    within, across = [1.0, 3.0], [2.0, 3.0, 4.0, 5.0]
    wins = sum((w < a) + 0.5 * (w == a) for w in within for a in across)
    assert ld.separation_auc(d, groups) == pytest.approx(wins / 8)
    with pytest.raises(ld.DistanceError, match="within and across"):
        ld.separation_auc(d, np.zeros(4, dtype=int))
