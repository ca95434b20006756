"""Figures of chapter 3: running errors, worst cases, curves of a study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lq_utils.figures import COLORS, INK
from lq_utils.relations import Regression

MARKS = "os^DvP"
TONES = ("blue", "vermilion", "green", "purple", "orange", "sky")


def _tone(i: int) -> dict[str, Any]:
    colour = COLORS[TONES[i % len(TONES)]]
    return {"color": colour, "marker": MARKS[i % len(MARKS)]}


def running_figure(
    errors: Mapping[str, np.ndarray], bound: np.ndarray
) -> Figure:
    """Norm of the running error after each column, and the worst case.

    Introduced in chapter 3.
    """
    fig, ax = plt.subplots(figsize=(7, 3.6))
    for i, (name, values) in enumerate(errors.items()):
        steps = np.arange(1, len(values) + 1)
        colour = _tone(i)["color"]
        ax.plot(steps, values, color=colour, label=name)
    ax.plot(steps, bound, color=INK, ls=":", label="worst case for GPFQ")
    ax.set(xlabel="columns quantized", ylabel="norm of the error", ylim=0)
    ax.legend()
    return fig


def bounds_figure(
    layers: Mapping[str, pd.DataFrame], bound: pd.Series
) -> Figure:
    """Relative errors of all layers (marks) and a worst case (dotted).

    ``layers`` maps a label to tables of ``layer_errors``; ``bound`` has
    one value a layer.

    Introduced in chapter 3.
    """
    fig, ax = plt.subplots(figsize=(7.4, 4))
    places = np.arange(len(bound))
    for i, (name, table) in enumerate(layers.items()):
        ax.plot(places, table["relative_error"], ls="", label=name, **_tone(i))
    ax.plot(places, bound, color=INK, ls=":", label="worst case for GPFQ")
    names = next(iter(layers.values()))["layer"]
    ax.set_xticks(places, names, rotation=90, fontsize=7)
    ax.set(yscale="log", ylabel="relative error of the output")
    ax.legend()
    return fig


def _lines(ax: Axes, table: pd.DataFrame, x: Sequence[int], line: str) -> None:
    width = 0.14
    for i, (name, own) in enumerate(table.groupby(line, sort=False)):
        places = np.array([list(x).index(v) for v in own["bits"]])
        ends = np.abs(own[["low", "high"]].T - own["mean"]).to_numpy()
        ax.errorbar(
            places + width * (i - 2),
            own["mean"],
            yerr=np.nan_to_num(ends),
            ls="",
            label=name,
            **_tone(i),
        )


def bits_figure(
    table: pd.DataFrame, line: str, originals: Mapping[str, float]
) -> Figure:
    """Mean accuracy by bits, one panel a protocol, one mark a ``line``.

    ``table`` is one of ``summary``; ``originals`` maps a protocol to the
    mean accuracy in per cent of the original network.

    Introduced in chapter 3.
    """
    fig, axes = plt.subplots(1, 2, figsize=(8, 3.8), sharey=True)
    bits = sorted(table["bits"].unique())
    for ax, (protocol, value) in zip(axes, originals.items()):
        _lines(ax, table[table["protocol"] == protocol], bits, line)
        ax.axhline(value, color=INK, ls=":", label="original")
        ax.set_xticks(range(len(bits)), bits)
        ax.set(title=protocol, xlabel="bits", xlim=(-0.6, len(bits) - 0.4))
    axes[0].set_ylabel("top-1 accuracy (%)")
    handles, labels = axes[0].get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside right center")
    return fig


def curve_figure(
    table: pd.DataFrame,
    y: str,
    axes: Mapping[str, str],
    fits: Mapping[str, Regression],
) -> Figure:
    """Subsets as marks against each of ``axes``, with fitted lines.

    ``axes`` maps columns to labels and is drawn logarithmically; ``fits``
    holds a regression of ``y`` on the logarithm of a column, where there
    is one. Marks tell the kind of subset.

    Introduced in chapter 3.
    """
    fig, panels = plt.subplots(1, len(axes), figsize=(8, 3.8), sharey=True)
    for ax, (column, label) in zip(np.atleast_1d(panels), axes.items()):
        for i, (kind, own) in enumerate(table.groupby("kind", sort=False)):
            ax.plot(own[column], own[y], ls="", label=kind, **_tone(i))
        if column in fits:
            x = np.geomspace(table[column].min(), table[column].max(), 50)
            line, low, high = fits[column].line(np.log(x))
            ax.plot(x, line, color=INK, lw=1)
            ax.fill_between(x, low, high, color=COLORS["grey"], alpha=0.25)
        ax.set(xscale="log", xlabel=label)
        ticks = np.geomspace(table[column].min(), table[column].max(), 5)
        ax.set_xticks(ticks, [f"{tick:.2g}" for tick in ticks])
        ax.minorticks_off()
    np.atleast_1d(panels)[0].set_ylabel("drop, Sub (points)")
    handles, labels = ax.get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside upper center", ncols=4)
    return fig


def knob_figure(
    table: pd.DataFrame, x: str, line: str, label: str, marked: float | None
) -> Figure:
    """Accuracy under Sub against one setting ``x``, one line each.

    ``table`` is one of ``summary``; ``marked`` a value to point out.

    Introduced in chapter 3.
    """
    fig, ax = plt.subplots(figsize=(6.8, 3.6))
    shown = table[table["protocol"] == "Sub"]
    for i, (name, own) in enumerate(shown.groupby(line, sort=False)):
        own = own.sort_values(x)
        ax.plot(own[x], own["mean"], label=f"{line} {name}", **_tone(i))
        colour = _tone(i)["color"]
        ax.fill_between(
            own[x], own["low"], own["high"], color=colour, alpha=0.15
        )
    if marked is not None:
        ax.axvline(marked, color=INK, ls=":")
    ax.set(xscale="log", xlabel=label, ylabel="top-1 accuracy, Sub (%)")
    ax.set_xticks(sorted(shown[x].unique()), sorted(shown[x].unique()))
    ax.minorticks_off()
    ax.legend()
    return fig
