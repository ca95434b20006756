"""Figures of the compression study: what is drawn is what was given."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from torch import nn

from lq_utils import compression_figures as cf
from lq_utils.compression_tables import ScoreError
from lq_utils.figures import use_style
from lq_utils.images import DataError, ImageData, Provenance, Splits
from lq_utils.label_places import place_labels
from lq_utils.models import build_model
from lq_utils.splits import share_split
from lq_utils.stats import mean_interval, wilson

SEEDS = 3


@pytest.fixture(autouse=True)
def style() -> Iterator[None]:
    with plt.rc_context():
        use_style()
        yield
    plt.close("all")


def drawn(ax: Axes) -> dict[str, list[tuple[float, float]]]:
    """Places of the marks of every labelled line with error bars."""
    return {
        str(c.get_label()): list(zip(*c.lines[0].get_data(), strict=True))
        for c in bars(ax)
    }


def bars(ax: Axes) -> list[Any]:
    return [c for c in ax.containers if isinstance(c, ErrorbarContainer)]


def ends(container: Any) -> np.ndarray:
    """Lower and upper ends of the error bars ``[n, 2]``."""
    segments = container.lines[2][0].get_segments()
    return np.array([segment[:, 1] for segment in segments])


def texts(found: Figure | Axes) -> list[str]:
    return [t.get_text() for t in found.findobj(plt.Text) if t.get_text()]


def titles(fig: Figure) -> list[str]:
    return [ax.get_title("left") for ax in fig.axes]


def legend(fig: Figure) -> list[str]:
    return [t.get_text() for t in fig.legends[0].get_texts()]


def rows(seeds: int = SEEDS, **columns: Any) -> pd.DataFrame:
    """Rows of all combinations of the columns' values, each by seed."""
    names = [*columns, "seed"]
    values = [*columns.values(), range(seeds)]
    frame = pd.MultiIndex.from_product(values, names=names).to_frame(False)
    hits = np.random.default_rng(0).integers(120, 180, len(frame))
    return frame.assign(hits=hits, n=200)


# Layers


def layers(seeds: int = SEEDS) -> pd.DataFrame:
    names = ["conv1", "linear1", "output"]
    return rows(
        seeds, task=["cat/dog", "horse/frog"], layer=names, bits=[1, 8]
    )


def test_layers_are_drawn_as_means_over_seeds() -> None:
    frame = layers()
    fig = cf.layers_figure(frame, {"cat/dog": 78.0})
    assert titles(fig) == ["cat/dog", "horse/frog"]
    ax = fig.axes[1]
    ticks = [t.get_text() for t in ax.get_xticklabels()]
    assert ticks == ["conv1", "linear1", "output"]
    own = frame.query("task == 'horse/frog' and layer == 'linear1'")
    for bits, label in ((1, "1 bit"), (8, "8 bits")):
        shares = own.loc[own["bits"] == bits, "hits"] / 200
        x, y = drawn(ax)[label][1]
        assert abs(x - 1) < 0.4 and y == pytest.approx(100 * shares.mean())
        interval = mean_interval(shares)
        found = next(c for c in bars(ax) if c.get_label() == label)
        assert ends(found)[1] / 100 == pytest.approx(interval.ci)
    dotted = [line.get_label() for line in fig.axes[0].lines]
    assert "whole network" in dotted and "whole network" in legend(fig)
    assert not any(line.get_label() == "whole network" for line in ax.lines)


def test_one_seed_has_bars_over_images() -> None:
    frame = layers(1)
    (first, *_) = bars(cf.layers_figure(frame).axes[0])
    hits = int(frame.query("layer == 'conv1' and bits == 1")["hits"].iloc[0])
    assert ends(first)[0] / 100 == pytest.approx(wilson(hits, 200).ci)


# Pruning


def pruning(seeds: int = SEEDS) -> pd.DataFrame:
    kinds = ["weights", "units"]
    frame = rows(seeds, task=["cat/dog"], kind=kinds, sparsity=[0.0, 0.5])
    units = frame["kind"] == "units"
    frame["removed"] = np.where(units, 1.4 * frame["sparsity"], 0.0)
    small = rows(seeds, task=["cat/dog"], kind=["small dense"], removed=[0.7])
    return pd.concat([frame, small], ignore_index=True)


@pytest.mark.parametrize("seeds", [1, SEEDS])
def test_pruning_against_both_axes(seeds: int) -> None:
    frame = pruning(seeds)
    left, right = cf.pruning_figure(frame).axes
    means = 100 * frame.groupby(["kind", "removed"])["hits"].mean() / 200
    assert [x for x, _ in drawn(left)["units"]] == [0, 50]
    assert drawn(right)["units"] == [
        (0, pytest.approx(means["units", 0])),
        (pytest.approx(70), pytest.approx(means["units", 0.7])),
    ]
    assert [x for x, _ in drawn(right)["weights"]] == [0, 0]
    # A network that was small from the start has no sparsity.
    assert drawn(left)["small dense"] == []
    place = (pytest.approx(70), pytest.approx(means["small dense", 0.7]))
    assert drawn(right)["small dense"] == [place]
    assert left.get_ylim() == right.get_ylim()
    assert left.get_xlabel() == "sparsity (%)"


def test_pruning_has_a_row_of_panels_a_task() -> None:
    frame = pd.concat([pruning(), pruning().assign(task="horse/frog")])
    fig = cf.pruning_figure(frame)
    assert titles(fig) == ["cat/dog", "", "horse/frog", ""]
    assert legend(fig) == ["weights", "units", "small dense"]


# Clusters


@pytest.mark.parametrize("seeds", [1, SEEDS])
def test_clusters_by_training(seeds: int) -> None:
    frame = rows(seeds, task=["cat/dog"], count=[16, 4], trained=[True, False])
    frame["compressed_bytes"] = 1024 * frame["count"] + 512 * frame["seed"]
    fig = cf.clusters_figure(frame)
    left, right = fig.axes
    names = ["trained after clustering", "not trained"]
    assert legend(fig) == names
    means = 100 * frame.groupby(["trained", "count"])["hits"].mean() / 200
    for name, trained in zip(names, (True, False), strict=True):
        assert drawn(left)[name] == [
            (count, pytest.approx(means[trained, count])) for count in (4, 16)
        ]
    for line in right.lines:
        extra = (seeds - 1) / 4
        assert line.get_xdata().tolist() == [4, 16]
        assert line.get_ydata().tolist() == [4 + extra, 16 + extra]
    assert right.get_ylabel() == "compressed file (KiB)"


def test_clusters_without_training() -> None:
    frame = rows(task=["cat/dog"], count=[4, 16], trained=[False])
    fig = cf.clusters_figure(frame.assign(compressed_bytes=1))
    assert legend(fig) == ["not trained"]
    with pytest.raises(ScoreError, match="no column compressed_bytes"):
        cf.clusters_figure(frame)


# Sizes and latencies

# Set-up: accuracy (%), KiB, milliseconds, measured.
SET_UPS = {
    "base": (80, 800, 2.0, True),
    "PTQ int8": (78, 200, 1.0, True),
    "PTQ float16": (81, 400, 0.5, False),
    "clustered": (77, 300, 3.0, True),
    "clustered, PTQ int8": (76, 100, np.nan, False),
    "QAT": (75, 150, 2.5, True),
    "cluster-preserving QAT": (74, 160, 2.6, True),
}


def study(seeds: int = SEEDS) -> pd.DataFrame:
    lines = []
    for name, (share, kib, ms, real) in SET_UPS.items():
        for seed in range(seeds):
            moved = share + seed - (seeds - 1) / 2
            line: dict[str, Any] = {"task": "cat/dog", "seed": seed}
            line |= {"set_up": name, "measured": real, "n": 200}
            line |= {"hits": round(2 * moved), "median_ms": ms}
            lines.append(line | {"compressed_bytes": 1024 * kib})
    return pd.DataFrame(lines)


@pytest.mark.parametrize("seeds", [1, SEEDS])
def test_pareto_marks_and_lines(seeds: int) -> None:
    fig = cf.pareto_figure(study(seeds))
    sizes, times = fig.axes
    places = [tuple(np.ravel(c.lines[0].get_data())) for c in bars(sizes)]
    expected = [(kib, share) for share, kib, _, _ in SET_UPS.values()]
    assert places == [pytest.approx(place) for place in expected]
    (front,) = (line for line in sizes.lines if len(line.get_xdata()) > 1)
    assert front.get_xdata().tolist() == [100, 200, 400]
    assert front.get_ydata() == pytest.approx([76, 78, 81])
    # Without a latency no mark; a simulated one is on no line.
    assert len(bars(times)) == 6
    (front,) = (line for line in times.lines if len(line.get_xdata()) > 1)
    assert front.get_xdata().tolist() == [1.0, 2.0]
    assert times.get_xlabel() == "latency (ms)"


def test_pareto_looks_and_names() -> None:
    fig = cf.pareto_figure(study())
    hollow = [
        c.lines[0].get_markerfacecolor() == "none" for c in bars(fig.axes[0])
    ]
    assert hollow == [not real for *_, real in SET_UPS.values()]
    assert legend(fig)[:4] == [
        "1 base",
        "2 PTQ int8",
        "3 PTQ float16 (simulated)",
        "4 clustered",
    ]
    look = {
        name: (c.lines[0].get_color(), c.lines[0].get_marker())
        for name, c in zip(SET_UPS, bars(fig.axes[0]), strict=True)
    }
    assert look["PTQ int8"] == look["PTQ float16"]
    assert look["clustered"] == look["clustered, PTQ int8"]
    colours, marks = map(set, zip(*look.values(), strict=True))
    assert len(colours) == len(marks) == 5
    for ax, bold in zip(fig.axes, ({"2", "3", "5"}, {"1", "2"}), strict=True):
        assert {
            t.get_text() for t in ax.texts if t.get_weight() == "bold"
        } == (bold)
    numbers = sorted(t.get_text() for t in fig.axes[1].texts)
    assert numbers == ["1", "2", "3", "4", "6", "7"]


def test_pareto_refuses() -> None:
    both = pd.concat([study(), study().assign(task="horse/frog")])
    with pytest.raises(ScoreError, match="rows are of 2 tasks"):
        cf.pareto_figure(both)
    with pytest.raises(ScoreError, match="no column median_ms"):
        cf.pareto_figure(study().drop(columns="median_ms"))


def test_labels_keep_clear_of_each_other_and_of_marks() -> None:
    fig, ax = plt.subplots(figsize=(3.5, 4))
    places = [(1.0, 1.0)] * 6 + [(1.02, 1.01), (0.0, 0.0), (2.0, 2.0)]
    ax.plot(*zip(*places, strict=True), "o", ms=6)
    names = [str(i) for i in range(10, 19)]
    place_labels(ax, places, names, [True] + [False] * 8)
    fig.draw_without_rendering()
    # A leader would be part of an annotation's extent.
    boxes = [super(type(t), t).get_window_extent() for t in ax.texts]
    for i, box in enumerate(boxes):
        assert not box.count_overlaps(boxes[:i])
        assert not box.count_contains(ax.transData.transform(places))
        assert ax.get_window_extent().count_contains(box.get_points()) == 2
    assert [t.get_text() for t in ax.texts] == names
    assert [t.get_weight() for t in ax.texts] == ["bold"] + ["normal"] * 8
    # Far labels have a line to their mark, near ones have not.
    far = [t.arrow_patch is not None for t in ax.texts]
    assert not far[0] and any(far) and not far[-1]


# Architecture and images


def test_architecture_is_read_from_the_modules() -> None:
    fig = cf.architecture_figure(build_model("quantnet", 1))
    found = texts(fig)
    names = ["conv1", "conv2", "linear1", "linear2", "output"]
    assert [t for t in found if t in names] == names
    # By hand, from table 4.1: 3 * 9 * 32 + 32 and so on.
    counts = ["896", "18,496", "524,416", "2,064", "17"]
    assert [t for t in found if t in counts] == counts
    assert "545,889 parameters" in found and "96.1%" in found
    for text in ["3 × 32 × 32", "32 × 32 × 32", "32 × 16 × 16", "64 × 8 × 8"]:
        assert text in found
    assert "ReLU, 2×2 max pooling, dropout 0.1" in found
    assert "fully connected, 1 unit" in found
    width = {p.get_width() for p in fig.axes[0].patches}
    assert 1.3 * 524416 / 545889 in [pytest.approx(w) for w in width]


def test_architecture_of_another_network() -> None:
    network = nn.Sequential(
        nn.AvgPool2d(2), nn.Flatten(), nn.Linear(48, 2), nn.Sigmoid()
    )
    before = [p.clone() for p in network.parameters()]
    found = texts(cf.architecture_figure(network.train(), (3, 8, 8)))
    assert {"3 × 8 × 8", "AvgPool2d, Flatten", "48", "98"} <= set(found)
    assert network.training
    assert not any(m._forward_hooks for m in network.modules())
    for old, new in zip(before, network.parameters(), strict=True):
        assert torch.equal(old, new)
    with pytest.raises(ValueError, match="no layer with parameters"):
        cf.architecture_figure(nn.Sequential(nn.ReLU()))


def pairs(count: int = 20, names: tuple[str, ...] = ("cat", "dog")) -> Splits:
    labels = np.repeat(np.arange(len(names)), count)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (len(labels), 4, 4, 3), dtype=np.uint8)
    # The first channel tells the class, the second one the image.
    images[..., 0] = (100 * labels)[:, None, None]
    images[..., 1] = np.arange(len(labels))[:, None, None]
    data = ImageData(
        images,
        labels,
        names,
        ("all",),
        np.zeros(len(names), dtype=np.int64),
        "all",
        Provenance("made", "synthetic", "0", "shares"),
    )
    return share_split(data)


def test_samples_are_training_images_of_their_class() -> None:
    splits = {"cat/dog": pairs(), "horse/frog": pairs(20, ("horse", "frog"))}
    fig = cf.samples_figure(splits, count=3, seed=1)
    assert titles(fig) == [
        "cat/dog: cat",
        "cat/dog: dog",
        "horse/frog: horse",
        "horse/frog: frog",
    ]
    trained = set(splits["cat/dog"].train.images[:, 0, 0, 1].tolist())
    for ax, label in zip(fig.axes, [0, 1, 0, 1], strict=True):
        strip = np.asarray(ax.images[0].get_array())
        assert strip.shape == (4, 3 * 4 + 2 * 2, 4)
        shown = strip[:, [0, 6, 12]]
        assert (shown[..., 0] == 100 * label).all()
        assert (strip[:, [4, 5, 10, 11], 3] == 0).all()
        which = set(shown[0, :, 1].tolist())
        assert len(which) == 3 and which <= trained


def test_samples_of_three_classes_and_of_too_few_images() -> None:
    three = {"three": pairs(20, ("a", "b", "c"))}
    fig = cf.samples_figure(three, count=2)
    assert titles(fig)[:3] == [f"three: {name}" for name in "abc"]
    assert not fig.axes[3].images
    with pytest.raises(DataError, match="ask for 1.."):
        cf.samples_figure(three, count=50)
