"""Figures of dimensions: what is drawn is what was given."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure

from lq_utils import dimension_figures as df
from lq_utils.figures import use_style

LAYERS = ["input", "conv1", "conv2", "linear1", "linear2", "output"]
TASKS = ["cat/dog", "horse/frog"]


@pytest.fixture(autouse=True)
def style() -> Iterator[None]:
    with plt.rc_context():
        use_style()
        yield
    plt.close("all")


def product(**columns: list[Any]) -> pd.DataFrame:
    index = pd.MultiIndex.from_product(columns.values(), names=list(columns))
    frame = index.to_frame(False)
    rng = np.random.default_rng(0)
    return frame.assign(value=rng.uniform(5, 40, len(frame)), error=1.5)


def profiles() -> pd.DataFrame:
    return product(network=["trained", "untrained"], task=TASKS, layer=LAYERS)


def scaling(line: str = "layer") -> pd.DataFrame:
    sizes = [125, 250, 500, 1000, 2000]
    return product(**{line: LAYERS[1:4]}, points=sizes)


def stability() -> pd.DataFrame:
    frame = product(
        method=["TwoNN", "PCA"],
        layer=LAYERS[2:5],
        threshold=np.linspace(0, 40, 9).tolist(),
    )
    return frame.assign(share=frame.pop("value") / 40)


def curves() -> dict[str, np.ndarray]:
    return {
        name: 1 - 0.8 ** np.arange(1.0, 20 * i)
        for i, name in enumerate(LAYERS[1:], 1)
    }


def bars(ax: Axes) -> list[Any]:
    return [c for c in ax.containers if isinstance(c, ErrorbarContainer)]


def legend(fig: Figure) -> list[str]:
    return [t.get_text() for t in fig.legends[0].get_texts()]


def test_profiles_by_network_and_task() -> None:
    frame = profiles()
    fig = df.profile_figure(frame)
    assert [ax.get_title("left") for ax in fig.axes] == TASKS
    assert legend(fig) == ["trained", "untrained"]
    for ax, task in zip(fig.axes, TASKS, strict=True):
        assert [t.get_text() for t in ax.get_xticklabels()] == LAYERS
        for bar, name in zip(bars(ax), legend(fig), strict=True):
            own = frame.query("task == @task and network == @name")
            y = bar.lines[0].get_ydata()
            assert y.tolist() == own["value"].tolist()
            (segment, *_) = bar.lines[2][0].get_segments()
            assert np.ptp(segment[:, 1]) == pytest.approx(3.0)


def test_profile_without_a_layer_or_an_error() -> None:
    frame = profiles().query("task == 'cat/dog'")
    gone = (frame["network"] == "untrained") & (frame["layer"] == "conv2")
    frame = frame[~gone].assign(error=np.nan)
    (ax,) = df.profile_figure(frame).axes
    values = [bar.lines[0].get_ydata() for bar in bars(ax)]
    assert not pd.isna(values[0]).any()
    assert pd.isna(values[1]).tolist() == [name == "conv2" for name in LAYERS]


def test_variance_marks_where_the_shares_are_reached() -> None:
    fig = df.variance_figure({"conv1": np.array([0.5, 0.96, 0.985, 1 + 1e-9])})
    (ax,) = fig.axes
    curve, low, high = ax.lines
    assert curve.get_markevery() == [1, 3]
    assert curve.get_ydata().tolist() == pytest.approx([50, 96, 98.5, 100])
    assert [line.get_ydata()[0] for line in (low, high)] == [95, 99]
    assert ax.get_xscale() == "log"


def test_scaling_by_points() -> None:
    frame = scaling()
    fig = df.scaling_figure(frame.sample(frac=1, random_state=0), true=10)
    (ax,) = fig.axes
    assert legend(fig) == [*LAYERS[1:4], "true dimension"]
    assert [t.get_text() for t in ax.get_xticklabels()][-1] == "2,000"
    for bar in bars(ax):
        own = frame[frame["layer"] == bar.get_label()]
        assert bar.lines[0].get_xdata().tolist() == own["points"].tolist()
        assert bar.lines[0].get_ydata().tolist() == own["value"].tolist()
    named = df.scaling_figure(scaling("name"))
    assert legend(named) == LAYERS[1:4]


def test_stability_by_threshold() -> None:
    frame = stability()
    fig = df.stability_figure(frame, threshold=20)
    assert [ax.get_title("left") for ax in fig.axes] == ["TwoNN", "PCA"]
    assert legend(fig) == [*LAYERS[2:5], "threshold in use"]
    own = frame.query("method == 'PCA' and layer == 'conv2'")
    line = fig.axes[1].lines[0]
    assert line.get_ydata().tolist() == (100 * own["share"]).tolist()
    assert line.get_xdata().tolist() == own["threshold"].tolist()


@pytest.mark.parametrize(
    "fig",
    [
        lambda: df.profile_figure(profiles()),
        lambda: df.variance_figure(curves()),
        lambda: df.scaling_figure(scaling(), 12),
        lambda: df.stability_figure(stability(), 20),
    ],
)
def test_texts_do_not_overlap(fig: Any) -> None:
    drawn = fig()
    drawn.draw_without_rendering()
    for ax in drawn.axes:
        for axis in (ax.xaxis, ax.yaxis):
            low, high = sorted(axis.get_view_interval())
            labels = [
                label
                for place, label in zip(
                    axis.get_majorticklocs(), axis.get_majorticklabels()
                )
                if low <= place <= high and not label.get_rotation()
            ]
            boxes = [label.get_window_extent() for label in labels]
            for i, box in enumerate(boxes):
                assert not box.count_overlaps(boxes[:i]), labels[i]
    for box in [key.get_window_extent() for key in drawn.legends]:
        inside = [ax.get_tightbbox() for ax in drawn.axes]
        assert not box.count_overlaps(inside)
        assert drawn.bbox.count_contains(box.get_points()) == 2


def test_refuses() -> None:
    with pytest.raises(ValueError, match="no column error: give rows"):
        df.profile_figure(profiles().drop(columns="error"))
    with pytest.raises(ValueError, match="no rows"):
        df.stability_figure(stability().iloc[:0])
    with pytest.raises(ValueError, match="no curves"):
        df.variance_figure({})
    for wrong in ([0.5, 0.4], [0.5, 1.2], [-0.1, 0.5], [], [np.nan]):
        with pytest.raises(ValueError, match="layer 'a': give cumulative"):
            df.variance_figure({"a": np.array(wrong)})
