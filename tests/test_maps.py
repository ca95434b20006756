"""Figures of the first chapters show what they are given."""

from __future__ import annotations

import json

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from lq_utils import maps
from lq_utils.images import ImageData, Provenance


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def make_data(classes: int = 6, each: int = 4) -> ImageData:
    labels = np.repeat(np.arange(classes), each)
    return ImageData(
        np.zeros((len(labels), 8, 8, 3), np.uint8),
        labels,
        tuple(f"class_{k}" for k in range(classes)),
        ("left_ones", "right_ones"),
        np.arange(classes) % 2,
        "train",
        Provenance("toy", "synthetic", "0" * 16, "synthetic"),
    )


def overlaps(places: np.ndarray, sizes: np.ndarray) -> int:
    gap = np.abs(places[:, None] - places[None])
    reach = (sizes[:, None] + sizes[None]) / 2
    return int(np.triu((gap < 0.9 * reach).all(axis=2), 1).sum())


def test_labels_are_spread_and_stay_near() -> None:
    rng = np.random.default_rng(0)
    centres = rng.uniform(0, 300, (40, 2))
    sizes = np.column_stack([rng.uniform(30, 60, 40), np.full(40, 10.0)])
    places = maps.spread_labels(centres, sizes)
    assert overlaps(places, sizes) <= 0.1 * overlaps(centres, sizes)
    assert np.linalg.norm(places - centres, axis=1).max() < 80
    alone = maps.spread_labels(centres[:1], sizes[:1])
    assert np.allclose(alone, centres[:1])


def test_labels_at_one_place_part() -> None:
    sizes = np.tile([40.0, 10.0], (3, 1))
    places = maps.spread_labels(np.zeros((3, 2)), sizes)
    assert overlaps(places, sizes) == 0


def test_class_map_names_every_class_near_its_mean() -> None:
    data = make_data()
    points = np.random.default_rng(1).normal(size=(len(data), 2))
    fig = maps.class_map(points, data, (6, 6))
    texts = {t.get_text(): t for t in fig.axes[0].texts}
    assert set(texts) == {f"class {k}" for k in range(6)}
    labels = [t.get_text() for t in fig.legends[0].get_texts()]
    assert labels == ["left ones", "right ones"]


def test_matrix_is_sorted_by_superclass_without_its_diagonal() -> None:
    data = make_data()
    matrix = np.add.outer(np.arange(6.0), np.arange(6.0)) + 1
    np.fill_diagonal(matrix, 0)
    fig = maps.matrix_figure(matrix, data, "nats")
    shown = np.asarray(fig.axes[0].images[0].get_array())
    order = [0, 2, 4, 1, 3, 5]
    off = ~np.eye(6, dtype=bool)
    assert np.allclose(shown[off], matrix[np.ix_(order, order)][off])
    assert np.ma.getmaskarray(fig.axes[0].images[0].get_array())[0, 0]


def test_rows_figure_draws_each_run_and_skips_missing_ones() -> None:
    rows = pd.DataFrame(
        {
            "metric": ["auc", "auc", "other"],
            "keys": [json.dumps({"method": m}) for m in "abc"],
            "value": [0.6, 0.8, 0.9],
            "ci_low": [0.5, np.nan, np.nan],
            "ci_high": [0.9, np.nan, np.nan],
        }
    )
    fig = maps.rows_figure(
        {"reference": None, "this run": rows}, "auc", "method", "AUC"
    )
    ax = fig.axes[0]
    assert [t.get_text() for t in ax.get_yticklabels()] == ["a", "b"]
    assert [t.get_text() for t in fig.legends[0].get_texts()] == ["this run"]
    (line,) = (c[0] for c in ax.containers)
    assert line.get_xdata().tolist() == [0.6, 0.8]


def test_subset_figures_are_drawn() -> None:
    kinds = ["similar", "random"] * 10
    values = np.linspace(1, 9, 20)
    pairs = pd.DataFrame({"kind": kinds, "distance": values})
    labels = maps.kinds_figure(pairs, 4.0, "nats").axes[0].get_yticklabels()
    assert [t.get_text() for t in labels] == ["similar", "random"]
    fig = maps.coverage_figure({"one": values, "two": values[:3]}, "nats")
    assert [len(x.get_xdata()) for x in fig.axes[0].lines] == [20, 3]
    both = pairs.assign(other=values)
    ax = maps.axes_figure(both, "distance", "other").axes[0]
    assert ax.get_xscale() == ax.get_yscale() == "log"
    bars = maps.skewness_figure(values, "nats").axes[0].patches
    assert sum(bar.get_height() for bar in bars) == 20
    frame = pd.DataFrame([[1, -0.4], [-0.4, 1]], list("ab"), list("ab"))
    numbers = maps.correlation_figure(frame).axes[0].texts
    assert [t.get_text() for t in numbers] == [
        "1.00",
        "-0.40",
        "-0.40",
        "1.00",
    ]
