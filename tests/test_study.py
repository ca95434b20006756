"""Summaries of a study, the authors' rows beside it, and its figures."""

from __future__ import annotations

from collections.abc import Iterator

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from lq_utils import sweep_figures as sf
from lq_utils.authors_study import (
    authors_correlations,
    authors_means,
    pearson_with_median,
)
from lq_utils.images import Provenance
from lq_utils.published import published_value
from lq_utils.registry import UnknownName
from lq_utils.relations import regression
from lq_utils.results import Run
from lq_utils.stats import wilson
from lq_utils.study import (
    accuracy_interval,
    add_drop,
    images_by_calibration,
    interval_text,
    record_summary,
    relation,
    summary,
)

ROWS = pd.DataFrame(
    [
        ("a", 4, "0 1", 0.50, 0.60, 20),
        ("a", 4, "0 1", 0.54, 0.70, 20),  # a second draw
        ("a", 4, "2 3", 0.40, 0.45, 60),
        ("b", 4, "0 1", 0.80, 0.90, 20),
    ],
    columns=["name", "bits", "subset", "all_logits", "subset_logits", "n"],
)
ORIGINALS = pd.DataFrame(
    {"subset": ["2 3", "0 1"], "all_logits": [0.5, 0.6]}
).assign(subset_logits=[0.75, 0.8])


@pytest.fixture(autouse=True)
def close_figures() -> Iterator[None]:
    yield
    plt.close("all")


def test_drops_are_points_on_the_same_subset():
    found = add_drop(ROWS, ORIGINALS)
    assert found["drop_all"].tolist() == pytest.approx([10, 6, 10, -20])
    assert found["drop_sub"].tolist() == pytest.approx([20, 10, 30, -10])
    assert found["original_sub"].tolist() == [0.8, 0.8, 0.75, 0.8]


def test_summary_averages_draws_and_pools_images():
    table = summary(ROWS, ["name", "bits"])
    assert len(table) == 4
    line = table[(table["name"] == "a") & (table["protocol"] == "Sub")].iloc[0]
    share = (20 * 0.65 + 60 * 0.45) / 80  # 20 and 60 images
    assert line["mean"] == pytest.approx(100 * share)
    assert (line["subsets"], line["images"]) == (2, 80)
    expected = wilson(40, 80)
    assert line["low"] == pytest.approx(100 * expected.low)
    assert line["high"] == pytest.approx(100 * expected.high)
    assert summary(ROWS, ["name"])["name"].tolist() == ["a", "a", "b", "b"]


def test_summary_as_result_rows():
    source = Provenance("made", "synthetic", "0" * 8, "book")
    run = Run("03_gpfq_sweeps", {"profile": "custom", "seed": 0}, source)
    record_summary(run, summary(ROWS, ["name", "bits"]), "accuracy")
    rows = run.rows
    assert len(rows) == 4 and rows["n"].tolist() == [80, 80, 20, 20]
    assert (rows["ci_low"] < rows["value"]).all()
    keys = '{"bits":4,"name":"a","protocol":"Sub","subsets":2}'
    assert rows["keys"][1] == keys


def test_interval_of_an_accuracy():
    row = {"subset_logits": 7 / 9, "n": 9}
    assert accuracy_interval(row, "subset_logits") == wilson(7, 9)


def make_curve(n: int, slope: float, noise: float) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    median = np.geomspace(1, 50, n)
    drop = slope * np.log(median) + noise * rng.normal(size=n)
    original = 0.5 + 0.1 * rng.normal(size=n)
    return pd.DataFrame(
        {
            "bits": 4,
            "median": median,
            "drop_sub": drop,
            "original_sub": original,
            "original_all": original,
            "subset_logits": original - drop / 100,
            "kind": ["similar", "random"] * (n // 2),
        }
    )


def test_relation_finds_a_planted_slope():
    found = relation(make_curve(40, -3.0, 0.5), "median", "drop_sub",
                     "original_sub")  # fmt: skip
    assert found["slope"].low < -3 < found["slope"].high
    assert found["correlation"].value < -0.95
    assert found["bootstrap"].value == found["correlation"].value
    assert found["partial"].high < -0.8
    assert found["note"] == "" and found["subsets"] == 40


def test_partial_removes_what_the_original_explains():
    curve = make_curve(40, 0.0, 0.0)
    curve["original_sub"] = np.log(curve["median"]) / 10
    jitter = np.random.default_rng(1).normal(size=40)
    curve["original_sub"] += 0.02 * jitter
    curve["drop_sub"] = 5 * curve["original_sub"]
    curve["drop_sub"] += 0.05 * np.random.default_rng(2).normal(size=40)
    found = relation(curve, "median", "drop_sub", "original_sub")
    assert found["correlation"].value > 0.9
    assert abs(found["partial"].value) < 0.5


def test_relation_says_what_does_not_exist():
    few = relation(make_curve(2, 1.0, 0.0), "median", "drop_sub",
                   "original_sub")  # fmt: skip
    assert np.isnan(few["slope"].value) and "slope" in few["note"]
    flat = make_curve(10, 0.0, 0.0)
    found = relation(flat, "median", "drop_sub", "original_sub")
    assert "correlation" in found["note"] and "partial" in found["note"]
    assert interval_text(found["partial"]) == "not defined"


def test_intervals_as_text():
    found = relation(make_curve(40, -3.0, 0.5), "median", "drop_sub",
                     "original_sub")["slope"]  # fmt: skip
    text = interval_text(found)
    assert text == f"{found.value:.2f} [{found.low:.2f}, {found.high:.2f}]"


def test_authors_numbers_are_looked_up():
    table = authors_means(4).set_index(["stage", "protocol"])["authors"]
    direct = published_value(
        "label_aware_derived",
        "ResNet-50 log",
        "accuracy",
        bits="4 bit",
        stage="quantized",
        protocol="Sub",
        statistic="mean",
    )
    assert table["quantized", "Sub"] == direct
    assert len(table) == 8 and len(authors_means(2)) == 0
    found = authors_correlations([2, 4, 8])
    assert sorted(set(found["bits"])) == [4, 8] and len(found) == 8
    assert authors_correlations([2]).empty


def test_our_correlations_have_the_authors_names():
    curve = make_curve(12, -2.0, 0.0)
    table = pearson_with_median(curve).set_index("with")["here"]
    assert set(table.index) == set(authors_correlations([4])["with"])
    assert table["accuracy loss, Sub"] == pytest.approx(-1)
    curve["original_all"] = 0.5
    assert "original accuracy, All" not in set(
        pearson_with_median(curve)["with"]
    )


def test_figures_show_what_they_were_given():
    fig = sf.running_figure({"x": np.array([1.0, 2])}, np.array([3.0, 4]))
    lines = fig.axes[0].lines
    assert [list(line.get_ydata()) for line in lines] == [[1, 2], [3, 4]]

    layers = pd.DataFrame({"layer": ["a", "b"], "relative_error": [0.1, 0.2]})
    fig = sf.bounds_figure({"x": layers}, pd.Series([1.0, 2.0]))
    assert [t.get_text() for t in fig.axes[0].get_xticklabels()] == ["a", "b"]

    table = summary(ROWS, ["name", "bits"])
    fig = sf.bits_figure(table, "name", {"All": 60.0, "Sub": 80.0})
    left, right = fig.axes
    assert (left.get_title(), right.get_title()) == ("All", "Sub")
    heights = [c[0].get_ydata()[0] for c in right.containers]
    assert heights == pytest.approx([50.0, 90.0])


def test_curves_show_what_they_were_given():
    curve = make_curve(10, -2.0, 0.3)
    fit = regression(np.log(curve["median"]), curve["drop_sub"])
    fig = sf.curve_figure(
        curve, "drop_sub", {"median": "m", "original_sub": "o"},
        {"median": fit},
    )  # fmt: skip
    assert [len(ax.lines) for ax in fig.axes] == [3, 2]
    assert sum(len(x.get_xdata()) for x in fig.axes[1].lines) == 10

    table = summary(ROWS.assign(name=[1.0, 1.0, 1.0, 2.0]), ["bits", "name"])
    fig = sf.knob_figure(table, "name", "bits", "scalar", 1.16)
    assert list(fig.axes[0].lines[0].get_ydata()) == pytest.approx([50, 90])
    assert fig.axes[0].lines[-1].get_xdata()[0] == 1.16


def test_calibrations_are_known_and_some() -> None:
    found = images_by_calibration(["another", "many"], 64, 256)
    assert found == {"another": 64, "many": 256}
    with pytest.raises(UnknownName, match="did you mean 'noise'"):
        images_by_calibration(["nose"], 64, 256)
    with pytest.raises(UnknownName, match="give one or more of all, "):
        images_by_calibration([], 64, 256)
