"""Calibration sets and subset accuracy against loops by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lq_utils.calibration import (
    calibration_rows,
    calibration_set,
    noise_set,
    subset_accuracy,
)
from lq_utils.images import DataError, ImageData, Provenance


def make_data(per_class: list[int], part: str = "train") -> ImageData:
    labels = np.repeat(np.arange(len(per_class)), per_class)
    labels = np.random.default_rng(0).permutation(labels)
    shape = (len(labels), 2, 2, 3)
    images = np.random.default_rng(1).integers(0, 256, shape, np.uint8)
    names = tuple(f"class {k}" for k in range(len(per_class)))
    groups = np.zeros(len(names), dtype=np.int64)
    source = Provenance("made", "synthetic", "0" * 8, "book")
    return ImageData(images, labels, names, ("all",), groups, part, source)


DATA = make_data([9, 7, 8, 12, 7])


@settings(max_examples=60)
@given(
    classes=st.sets(st.integers(0, 4), min_size=1),
    share=st.floats(0, 1),
    seed=st.integers(0, 100),
)
def test_every_draw_is_even_and_without_repeats(
    classes: set[int], share: float, seed: int
) -> None:
    count = 1 + int(share * (7 * len(classes) - 1))
    rows = calibration_rows(DATA, count, seed, sorted(classes))
    drawn = DATA.labels[rows]
    assert len(rows) == count == len(set(rows.tolist()))
    assert set(drawn.tolist()) <= classes
    counts = [int((drawn == k).sum()) for k in classes]
    assert max(counts) - min(counts) <= 1
    assert np.array_equal(
        rows, calibration_rows(DATA, count, seed, sorted(classes))
    )


def test_a_smaller_set_begins_a_larger_one():
    small, large = (calibration_rows(DATA, n, 3) for n in (11, 30))
    assert np.array_equal(small, large[:11])


def test_seeds_and_order_of_classes():
    first, second = (calibration_rows(DATA, 20, s) for s in (0, 1))
    assert set(first) != set(second)
    turned = calibration_rows(DATA, 9, 0, [3, 1])
    assert np.array_equal(turned, calibration_rows(DATA, 9, 0, [1, 3]))


def test_images_are_those_rows_normalised():
    found = calibration_set(DATA, 6, 2, [0, 4])
    rows = calibration_rows(DATA, 6, 2, [0, 4])
    assert found.shape == (6, 3, 2, 2) and found.dtype == torch.float32
    for image, row in zip(found, rows):
        pixel = DATA.images[row][1, 0, 2]
        assert float(image[2, 1, 0]) == pytest.approx(
            (pixel / 255 - 0.5) / 0.25, abs=1e-6
        )


@pytest.mark.parametrize("part", ["test", "validation", "all"])
def test_only_training_images(part: str):
    with pytest.raises(DataError, match="training part"):
        calibration_set(replace(DATA, part=part), 5, 0)


@pytest.mark.parametrize(
    ("count", "classes", "says"),
    [
        (0, None, "at least one"),
        (36, None, "smallest has 7"),
        (4, [], "one or more"),
        (4, [1, 1], "each once"),
        (4, [5], "not all in 0..4"),
    ],
)
def test_impossible_draws(count: int, classes: list[int] | None, says: str):
    with pytest.raises(DataError, match=says):
        calibration_set(DATA, count, 0, classes)


def test_noise_has_the_channels_moments_and_no_structure():
    scale = torch.tensor([0.5, 1.0, 2.0])[:, None, None]
    smooth = torch.randn(40, 3, 1, 1) * scale + scale
    like = smooth.expand(-1, -1, 32, 32)
    noise = noise_set(200, 4, like)
    assert noise.shape == (200, 3, 32, 32)
    for c in range(3):
        own, real = noise[:, c], like[:, c]
        assert float(own.mean()) == pytest.approx(
            float(real.mean()), abs=0.02 * float(real.std())
        )
        assert float(own.std()) == pytest.approx(float(real.std()), rel=0.02)
    own = noise - noise.mean(dim=(0, 2, 3), keepdim=True)
    product = (own[..., :-1] * own[..., 1:]).mean() / own.square().mean()
    assert abs(float(product)) < 0.02
    assert torch.equal(noise, noise_set(200, 4, like))
    assert not torch.equal(noise, noise_set(200, 5, like))


def test_noise_needs_a_number_and_images():
    with pytest.raises(DataError, match="at least one"):
        noise_set(0, 0, torch.zeros(1, 3, 2, 2))
    with pytest.raises(DataError, match="channels, height, width"):
        noise_set(3, 0, torch.zeros(3, 2))


def test_both_protocols_by_hand():
    logits = torch.tensor(
        [
            [9.0, 1, 2, 0],  # label 1: All 0, Sub (1, 2) takes 2
            [5.0, 4, 3, 0],  # label 1: All 0, Sub takes 1
            [0.0, 1, 2, 0],  # label 2: both right
            [0.0, 1, 2, 9],  # label 3: not of the subset
        ]
    )
    labels = np.array([1, 1, 2, 3])
    found = subset_accuracy(logits, labels, [2, 1])
    assert found == {
        "all_logits": pytest.approx(1 / 3),
        "subset_logits": pytest.approx(2 / 3),
        "n": 3,
    }


@settings(max_examples=50)
@given(seed=st.integers(0, 1000), size=st.integers(1, 6))
def test_protocols_against_a_loop(seed: int, size: int) -> None:
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(30, 6))
    labels = np.concatenate([np.arange(6), rng.integers(0, 6, 24)])
    classes = sorted(rng.choice(6, size, replace=False).tolist())
    hits_all = hits_own = n = 0
    for row, label in zip(logits.tolist(), labels.tolist()):
        if label in classes:
            n += 1
            hits_all += row.index(max(row)) == label
            hits_own += max(classes, key=row.__getitem__) == label
    found = subset_accuracy(torch.from_numpy(logits), labels, classes)
    assert found["n"] == n
    assert found["all_logits"] == pytest.approx(hits_all / n)
    assert found["subset_logits"] == pytest.approx(hits_own / n)
    assert found["subset_logits"] >= found["all_logits"]
    if size == 6:
        assert found["subset_logits"] == found["all_logits"]


@pytest.mark.parametrize(
    ("logits", "classes", "says"),
    [
        (torch.zeros(3, 4), [0], "3, 4.*2 labels"),
        (torch.zeros(2, 4), [3], "no image"),
        (torch.zeros(2, 4), [4], "not all in 0..3"),
        (torch.full((2, 4), torch.nan), [0], "NaN"),
    ],
)
def test_what_accuracy_refuses(
    logits: torch.Tensor, classes: list[int], says: str
):
    with pytest.raises(DataError, match=says):
        subset_accuracy(logits, np.array([0, 1]), classes)
