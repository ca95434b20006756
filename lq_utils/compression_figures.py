"""Figures of chapter 4: layers, pruning, clusters, size against accuracy.

Accuracies are in per cent, means over seeds; error bars as
``compression_scores.mean_scores`` says.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

from lq_utils.architecture_figures import architecture_figure, samples_figure
from lq_utils.compression_scores import (
    BASE,
    ScoreError,
    mean_scores,
    require_columns,
)
from lq_utils.compression_sizes import pareto
from lq_utils.figures import COLORS, INK
from lq_utils.label_places import place_labels
from lq_utils.sweep_figures import MARKS, TONES

__all__ = [
    "architecture_figure",
    "clusters_figure",
    "layers_figure",
    "pareto_figure",
    "pruning_figure",
    "samples_figure",
]

ACCURACY = "test accuracy (%)"
FAMILIES = {
    "base": "grey",
    "after training": "blue",
    "quantization-aware": "vermilion",
    "clustered": "green",
    "cluster-preserving": "purple",
}


def _look(i: int) -> dict[str, Any]:
    colour = COLORS[TONES[i % len(TONES)]]
    return {"color": colour, "marker": MARKS[i % len(MARKS)]}


def _points(ax: Axes, x: Any, own: pd.DataFrame, **look: Any) -> None:
    """Mean accuracies with their intervals, at ``x``."""
    ends = own[["accuracy_low", "accuracy_high"]].T - own["accuracy"]
    style: dict[str, Any] = {"ms": 5, "lw": 1.3, "elinewidth": 0.9}
    style |= {"capsize": 2} | look
    yerr = ends.abs().to_numpy()
    ax.errorbar(np.asarray(x), own["accuracy"].to_numpy(), yerr=yerr, **style)


def _legend(fig: Figure, ax: Axes, columns: int = 4) -> None:
    handles, labels = ax.get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside upper center", ncols=columns)


def _panels(tasks: list[str], height: float = 2.7) -> tuple[Figure, Any]:
    """Two panels a task, one row each, with a row's accuracies alike."""
    rows = len(tasks)
    size = (7, height * rows + 0.5)
    fig, axes = plt.subplots(rows, 2, figsize=size, squeeze=False)
    for ax, task in zip(axes[:, 0], tasks):
        ax.set_title(task)
        ax.set_ylabel(ACCURACY)
    return fig, axes


def layers_figure(
    frame: pd.DataFrame, originals: Mapping[str, float] | None = None
) -> Figure:
    """Accuracy with a single layer quantized, a panel a task.

    ``frame`` has the columns task, seed, layer, bits, hits, n;
    ``originals`` maps a task to the accuracy of the whole network in per
    cent, a dotted line. Bits are told apart by colour and mark.

    Raises ScoreError as ``mean_scores``. After figure 4.2 of the QuantNET
    thesis. Introduced in chapter 4.
    """
    means = mean_scores(frame, ["task", "layer", "bits"])
    tasks = list(dict.fromkeys(means["task"]))
    layers = list(dict.fromkeys(means["layer"]))
    bits = sorted(set(means["bits"]))
    fig, axes = plt.subplots(1, len(tasks), figsize=(7, 3.4), squeeze=False)
    for ax, task in zip(axes[0], tasks):
        for i, count in enumerate(bits):
            own = means[(means["task"] == task) & (means["bits"] == count)]
            shift = 0.6 * (i / max(len(bits) - 1, 1) - 0.5)
            x = [layers.index(name) + shift for name in own["layer"]]
            name = f"{count} bit{'' if count == 1 else 's'}"
            _points(ax, x, own, ls="", label=name, **_look(i))
        if originals and task in originals:
            look = {"color": INK, "ls": ":", "lw": 1}
            ax.axhline(originals[task], label="whole network", **look)
        ax.set_xticks(range(len(layers)), layers, rotation=45, ha="right")
        ax.set(title=task, xlim=(-0.6, len(layers) - 0.4))
    axes[0, 0].set_ylabel(ACCURACY)
    fig.supxlabel("the layer that is quantized", fontsize=10, color=INK)
    _legend(fig, axes[0, 0], columns=6)
    return fig


def pruning_figure(frame: pd.DataFrame) -> Figure:
    """Accuracy against sparsity, and against parameters really removed.

    ``frame`` has the columns task, seed, kind, sparsity and removed (0 to
    1), hits, n; a line a kind, a row of panels a task. A kind without a
    sparsity (NaN, a network that was small from the start) is only on the
    right. Weights set to zero stay in the file: removed is 0 for them.

    Raises ScoreError as ``mean_scores``. After figure 4.3 of the QuantNET
    thesis. Introduced in chapter 4.
    """
    means = mean_scores(frame, ["task", "kind", "sparsity", "removed"])
    kinds = list(dict.fromkeys(means["kind"]))
    tasks = list(dict.fromkeys(means["task"]))
    fig, axes = _panels(tasks)
    for line, task in zip(axes, tasks):
        line[1].sharey(line[0])
        for i, kind in enumerate(kinds):
            own = means[(means["task"] == task) & (means["kind"] == kind)]
            own = own.sort_values(["sparsity", "removed"])
            for ax, column in zip(line, ("sparsity", "removed")):
                shown = own[own[column].notna()]
                x = 100 * shown[column]
                _points(ax, x, shown, label=kind, **_look(i))
    axes[-1, 0].set_xlabel("sparsity (%)")
    axes[-1, 1].set_xlabel("parameters set to zero or removed (%)")
    _legend(fig, axes[0, 1])
    return fig


def clusters_figure(frame: pd.DataFrame) -> Figure:
    """Accuracy, and the compressed file, against the number of clusters.

    ``frame`` has the columns task, seed, count, trained (bool), hits, n,
    compressed_bytes; a row of panels a task.

    Raises ScoreError as ``mean_scores`` or for a missing column. After
    figure 4.4 of the QuantNET thesis. Introduced in chapter 4.
    """
    by = ["task", "count", "trained"]
    require_columns(frame, [*by, "compressed_bytes"])
    sizes = frame.groupby(by)["compressed_bytes"].mean() / 1024
    means = mean_scores(frame, by).join(sizes.rename("kib"), on=by)
    tasks = list(dict.fromkeys(means["task"]))
    fig, axes = _panels(tasks)
    names = {True: "trained after clustering", False: "not trained"}
    for line, task in zip(axes, tasks):
        for i, (trained, name) in enumerate(names.items()):
            own = means[means["task"] == task].sort_values("count")
            own = own[own["trained"] == trained]
            if len(own):
                look = _look(i) | ({} if trained else {"mfc": "none"})
                _points(line[0], own["count"], own, label=name, **look)
                line[1].plot(own["count"], own["kib"], ms=5, lw=1.3, **look)
        line[1].set_ylabel("compressed file (KiB)")
        line[1].set_ylim(0)
        for ax in line:
            ax.set(xscale="log")
            ax.xaxis.set_major_locator(LogLocator(base=2, numticks=20))
            ax.xaxis.set_minor_locator(NullLocator())
            ax.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    for ax in axes[-1]:
        ax.set_xlabel("clusters a layer")
    _legend(fig, axes[0, 0])
    return fig


def family(set_up: str) -> str:
    """Family of a set-up by its name: a key of FAMILIES.

    Introduced in chapter 4.
    """
    if "cluster-preserving" in set_up:
        return "cluster-preserving"
    if set_up.startswith("clustered"):
        return "clustered"
    if set_up == BASE:
        return "base"
    return "quantization-aware" if "QAT" in set_up else "after training"


def _mark(line: Any) -> dict[str, Any]:
    """A set-up's colour and mark; hollow where it is simulated."""
    kind = family(line.set_up)
    colour = COLORS[FAMILIES[kind]]
    fill = colour if line.measured else "none"
    mark = MARKS[list(FAMILIES).index(kind)]
    return {"color": colour, "marker": mark, "mfc": fill, "ls": "", "ms": 6}


def _pareto_panel(ax: Axes, means: pd.DataFrame, cost: str) -> pd.Index:
    """Marks of the set-ups, a line through the best ones; which these are."""
    known = means[means[cost].notna()]
    # Only measured set-ups show what their arithmetic costs.
    candidates = known if cost == "kib" else known[known["measured"]]
    best = pareto(candidates, cost, "accuracy").reindex(known.index)
    front = known[best.eq(True)].sort_values(cost)
    ax.plot(front[cost], front["accuracy"], color=INK, lw=0.9, zorder=1)
    for i, line in enumerate(known.itertuples()):
        one = known.iloc[[i]]
        bars = {"ecolor": (*to_rgb(_mark(line)["color"]), 0.3), "capsize": 0}
        _points(ax, one[cost], one, **_mark(line), **bars)
    if cost == "kib":  # spreads over more than a factor of ten
        ax.set(xscale="log")
        ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        ax.xaxis.set_minor_locator(NullLocator())
    ax.margins(x=0.15)
    return front.index


def _key(means: pd.DataFrame) -> list[Line2D]:
    handles = []
    for line in means.itertuples():
        words = "" if line.measured else " (simulated)"
        label = f"{line.number} {line.set_up}{words}"
        handles.append(Line2D([], [], label=label, **_mark(line)))
    return handles


def pareto_means(rows: pd.DataFrame) -> pd.DataFrame:
    """A line a set-up: accuracy, kib, median_ms, measured, number.

    Raises ScoreError as :func:`pareto_figure`, whose ``rows`` these are.
    Introduced in chapter 4.
    """
    columns = ["task", "set_up", "measured", "compressed_bytes", "median_ms"]
    require_columns(rows, columns)
    tasks = list(dict.fromkeys(rows["task"]))
    if len(tasks) > 1:
        raise ScoreError(
            f"rows are of {len(tasks)} tasks ({', '.join(tasks)}): draw one "
            "figure for each"
        )
    groups = rows.groupby("set_up", sort=False)
    means = mean_scores(rows, ["set_up"])
    means["kib"] = groups["compressed_bytes"].mean().to_numpy() / 1024
    means["median_ms"] = groups["median_ms"].mean().to_numpy()
    means["measured"] = groups["measured"].all().to_numpy(dtype=bool)
    return means.assign(number=range(1, len(means) + 1))


def pareto_figure(rows: pd.DataFrame) -> Figure:
    """Accuracy against the compressed file, and against latency.

    ``rows`` are those of one task, with a column ``median_ms``: the
    milliseconds of one image on one thread, NaN where there is no point
    in measuring. Numbers name the set-ups, in the order of the rows; a
    line joins those that no other beats, and their numbers are bold.
    Hollow marks are simulated: their files count, their latencies do not.

    Raises ScoreError for rows of several tasks, as ``mean_scores``, or
    for a missing column. Introduced in chapter 4.
    """
    means = pareto_means(rows)
    height = 4.4 + 0.17 * -(-len(means) // 2)
    fig, axes = plt.subplots(1, 2, figsize=(7.2, height), sharey=True)
    titles = {"kib": "compressed file (KiB)", "median_ms": "latency (ms)"}
    fronts = []
    for ax, (cost, label) in zip(axes, titles.items()):
        fronts.append(_pareto_panel(ax, means, cost))
        ax.set_xlabel(label)
    axes[0].set_ylabel(ACCURACY)
    line = Line2D([], [], color=INK, lw=0.9, label="no other beats these")
    fig.legend(
        handles=[*_key(means), line],
        loc="outside lower center",
        ncols=2,
        fontsize=8,
    )
    for ax, cost, front in zip(axes, titles, fronts):
        known = means[means[cost].notna()]
        places = list(zip(known[cost], known["accuracy"], strict=True))
        numbers = known["number"].astype(str).tolist()
        place_labels(ax, places, numbers, known.index.isin(front).tolist())
    return fig
