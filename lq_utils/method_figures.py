"""Figures of the comparison of quantization methods."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

from lq_utils.figures import INK, PALETTE

MARKERS = "osD^vP*X"
TITLES = {"tensor": "one scale a layer", "channel": "one scale a channel"}


def _curve(ax: Axes, own: pd.DataFrame, name: str, i: int) -> None:
    own = own.sort_values("bits")
    ends = np.abs(own[["low", "high"]].T.to_numpy() - own["accuracy"].values)
    ax.errorbar(
        own["seconds"],
        own["accuracy"],
        # An interval that one case cannot have is not drawn.
        yerr=np.nan_to_num(ends),
        marker=MARKERS[i % len(MARKERS)],
        color=PALETTE[i % len(PALETTE)],
        ms=6,
        lw=1.2,
        elinewidth=0.8,
        label=name,
    )
    for row in own.itertuples():
        ax.annotate(
            f"{row.bits}",
            (row.seconds, row.accuracy),
            xytext=(5, -9),
            textcoords="offset points",
            fontsize=8,
        )


def accuracy_time_figure(means: pd.DataFrame, original: float) -> Figure:
    """Accuracy against seconds, a curve a method, a panel a granularity.

    ``means`` has the columns of ``lq_utils.method_tables.accuracies``;
    the numbers beside the marks are bits. ``original`` (points) is a
    dotted line.

    Introduced in chapter 8.
    """
    kinds = list(dict.fromkeys(means["granularity"]))
    fig, axes = plt.subplots(
        1, len(kinds), figsize=(8.2, 4), sharey=True, squeeze=False
    )
    methods = list(dict.fromkeys(means["method"]))
    for ax, kind in zip(axes[0], kinds):
        here = means[means["granularity"] == kind]
        for i, method in enumerate(methods):
            _curve(ax, here[here["method"] == method], method, i)
        ax.axhline(original, color=INK, ls=":", lw=1)
        ax.set(
            xscale="log",
            xlabel="CPU seconds, one thread",
            title=TITLES.get(kind, kind),
        )
        ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        ax.xaxis.set_minor_locator(NullLocator())
        ax.margins(x=0.15)
    axes[0, 0].set_ylabel("accuracy (%)")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside upper center", ncols=len(methods))
    return fig


def rules_figure(means: pd.DataFrame, original: float) -> Figure:
    """Accuracy by scale rule (``scale``), one mark for each method.

    Columns as in ``lq_utils.method_tables.accuracies``. Introduced in
    chapter 8.
    """
    fig, ax = plt.subplots(figsize=(6.8, 3.4))
    rules = list(dict.fromkeys(means["scale"]))
    methods = list(dict.fromkeys(means["method"]))
    for i, method in enumerate(methods):
        own = means[means["method"] == method].set_index("scale")
        own = own.reindex([r for r in rules if r in own.index])
        shift = 0.14 * (i - (len(methods) - 1) / 2)
        place = [rules.index(r) + shift for r in own.index]
        ends = np.abs(
            own[["low", "high"]].T.to_numpy() - own["accuracy"].values
        )
        ax.errorbar(
            own["accuracy"],
            place,
            xerr=np.nan_to_num(ends),
            fmt=MARKERS[i % len(MARKERS)],
            color=PALETTE[i % len(PALETTE)],
            label=method,
        )
    ax.axvline(original, color=INK, ls=":", lw=1)
    ax.set_yticks(range(len(rules)), rules)
    ax.margins(y=0.15)
    ax.set(xlabel="accuracy (%)", ylabel="scale rule")
    fig.legend(loc="outside upper center", ncols=len(methods))
    return fig
