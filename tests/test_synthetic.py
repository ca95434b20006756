"""The made images: the same bytes everywhere, with a true structure."""

from __future__ import annotations

import time

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

from lq_utils import rendering, synthetic
from lq_utils.data import DataError, image_hashes, load_dataset
from lq_utils.synthetic import (
    class_name,
    make_synthetic,
    recipes,
    true_distances,
)


@pytest.mark.parametrize(("num_classes", "supers"), [(100, 20), (10, 5)])
def test_structure(num_classes: int, supers: int) -> None:
    data = make_synthetic(num_classes, per_class=1)
    assert data.images.shape == (num_classes, 32, 32, 3)
    assert data.images.dtype == np.uint8
    assert len(set(data.class_names)) == num_classes
    assert len(set(data.superclass_names)) == supers
    each = num_classes // supers
    assert np.bincount(data.superclass_of).tolist() == [each] * supers
    for k, name in enumerate(data.class_names):
        group = data.superclass_names[data.superclass_of[k]]
        _, surface, shape = name.split("_")
        assert group.startswith(f"{surface}_{shape}")
    assert data.part == "all"
    assert data.provenance.rung == "synthetic"


def test_same_bytes_on_every_machine() -> None:
    # Fixed when the sets were made; another value on another machine means
    # that other images, another split and other weights are compared.
    data = make_synthetic(100, per_class=3)
    assert data.provenance.fingerprint == "46c4350fe2238b9a"
    ten = make_synthetic(10, per_class=3)
    assert ten.provenance.fingerprint == "167f772df698c6a5"


def test_prefix_seed_and_neighbours() -> None:
    few = make_synthetic(10, per_class=2).images.reshape(10, 2, -1)
    more = make_synthetic(10, per_class=60).images.reshape(10, 60, -1)
    np.testing.assert_array_equal(few, more[:, :2])
    other = make_synthetic(10, seed=1, per_class=2).images
    assert (other.ravel() != few.ravel()).mean() > 0.9
    hashes = image_hashes(make_synthetic(10, per_class=60).images)
    assert len(set(hashes)) == 600


def test_pixels_use_no_platform_dependent_function(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("sin", "cos", "exp", "log", "arctan2", "power", "hypot"):
        monkeypatch.setattr(np, name, None)
    rng = np.random.default_rng(0)
    for recipe in recipes(100)[::7]:
        image = rendering.render(recipe, rng)
        assert image.shape == (rendering.CHUNK, 32, 32, 3)


def test_images_are_varied_and_well_exposed() -> None:
    images = make_synthetic(100, per_class=4).images
    assert 60 < images.mean() < 150
    assert images.std() > 35
    saturated = (images == 255).mean() + (images == 0).mean()
    assert saturated < 0.1
    assert images.std(axis=(1, 2, 3)).min() > 5


def test_true_distances_separate_superclasses() -> None:
    for num_classes in (100, 10):
        distances = true_distances(num_classes)
        groups = make_synthetic(num_classes, per_class=1).superclass_of
        upper = np.triu_indices(num_classes, 1)
        same = (groups[:, None] == groups)[upper]
        np.testing.assert_array_equal(distances, distances.T)
        assert (np.diag(distances) == 0).all()
        assert distances[upper][same].min() > 0.1
        assert distances[upper][same].max() < distances[upper][~same].min()


def test_classes_of_a_superclass_differ_in_every_level() -> None:
    for start in range(0, 100, 5):
        five = recipes(100)[start : start + 5]
        for field in ("elongation", "frequency", "hue_offset"):
            assert len({getattr(r, field) for r in five}) == 5
        assert len({r.shape for r in five}) == 1
    assert class_name(recipes(100)[0]) == "stout_plain_disk"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [((20,), "ask for 10 or 100"), ((10, 0, 0), "ask for 1 image")],
)
def test_impossible_requests(arguments: tuple, message: str) -> None:
    with pytest.raises(DataError, match=message):
        make_synthetic(*arguments)


def _symmetric_kl(features: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Closed form for one Gaussian a class, written apart from the book's."""
    classes, width = labels.max() + 1, features.shape[1]
    ridge = 0.01 * features.var(axis=0).mean() * np.eye(width)
    result = np.zeros((classes, classes))
    means = [features[labels == k].mean(0) for k in range(classes)]
    spreads = [np.cov(features[labels == k].T) for k in range(classes)]
    spreads = [s + ridge for s in spreads]
    inverses = [np.linalg.inv(s) for s in spreads]
    for a in range(classes):
        for b in range(a):
            gap = means[a] - means[b]
            both = inverses[a] + inverses[b]
            crossed = np.trace(inverses[a] @ spreads[b])
            crossed += np.trace(inverses[b] @ spreads[a])
            value = 0.25 * (crossed - 2 * width + gap @ both @ gap)
            result[a, b] = result[b, a] = value
    return result


@pytest.mark.slow
def test_superclasses_show_in_the_features_of_a_backbone() -> None:
    """Small version of chapter 1: EfficientNet-Lite0, PCA, Gaussian KL."""
    from sklearn.decomposition import PCA

    from lq_utils.embeddings import embed

    data = make_synthetic(100, per_class=20)
    features = embed(data.images, size=64)
    short = PCA(8, random_state=0).fit_transform(features)
    distances = _symmetric_kl(short, data.labels)
    upper = np.triu_indices(100, 1)
    groups = data.superclass_of
    same = (groups[:, None] == groups)[upper]
    assert roc_auc_score(same, -distances[upper]) >= 0.9
    truth = true_distances(100)[upper]
    assert spearmanr(distances[upper], truth)[0] > 0.2


@pytest.mark.slow
def test_full_set_is_quick_split_and_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    started = time.process_time()
    splits = load_dataset("synthetic100", verbose=False)
    made = time.process_time() - started
    assert made < 40  # processor seconds: 20 s on two cores
    parts = (splits.train, splits.validation, splits.test)
    assert [len(p) for p in parts] == [45_000, 5_000, 10_000]
    assert splits.provenance.fingerprint == "111ef5ab98d6fe6f"
    assert "split" not in splits.provenance.note

    def never(*_: object) -> None:
        raise AssertionError("the kept set was not used")

    monkeypatch.setattr(synthetic, "_draw", never)
    again = load_dataset("synthetic100", verbose=False)
    np.testing.assert_array_equal(again.train.images, splits.train.images)
