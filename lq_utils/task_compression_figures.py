"""Figures of label-aware compression: bytes, bits, switches, labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lq_utils.figures import COLORS, INK, SEQUENTIAL
from lq_utils.relations import regression
from lq_utils.sweep_figures import MARKS, TONES

LEAST_FOR_A_LINE = 4  # subsets


def _look(i: int) -> dict[str, Any]:
    colour = COLORS[TONES[i % len(TONES)]]
    return {"color": colour, "marker": MARKS[i % len(MARKS)], "ms": 6}


def _ends(frame: pd.DataFrame, middle: str) -> np.ndarray:
    ends = np.abs(frame[["low", "high"]].T.to_numpy() - frame[middle].values)
    return np.nan_to_num(ends)


def pareto_figure(
    table: pd.DataFrame, variants: Sequence[str], original: float
) -> Figure:
    """Accuracy against bytes of the file, a curve a variant.

    ``table`` comes from ``task_compression_tables.accuracies``;
    ``original`` (points) is a dotted line. Introduced in chapter 9.
    """
    fig, ax = plt.subplots(figsize=(7, 4))
    for i, variant in enumerate(variants):
        own = table[table["variant"] == variant].sort_values("file_bytes")
        ax.errorbar(
            own["file_bytes"] / 1000,
            own["accuracy"],
            yerr=_ends(own, "accuracy"),
            lw=1.2,
            elinewidth=0.8,
            label=variant,
            **_look(i),
        )
    ax.axhline(original, color=INK, ls=":", lw=1, label="original")
    ax.set(xlabel="file (kilobytes)", ylabel="accuracy, Sub (%)")
    fig.legend(loc="outside upper center", ncols=3)
    return fig


def gains_figure(table: pd.DataFrame, label: str) -> Figure:
    """Differences with their intervals, one line each.

    ``table`` has the columns second, difference, low and high (points),
    as from ``ablations``. Introduced in chapter 9.
    """
    own = table.sort_values("difference")
    fig, ax = plt.subplots(figsize=(7, 1.2 + 0.3 * len(own)))
    places = np.arange(len(own))
    ax.errorbar(
        own["difference"],
        places,
        xerr=_ends(own, "difference"),
        ls="",
        **_look(0),
    )
    ax.axvline(0, color=INK, ls=":", lw=1)
    ax.set_yticks(places, own["second"])
    ax.set_xlabel(label)
    return fig


def label_gain_figure(table: pd.DataFrame, kinds: Mapping[str, str]) -> Figure:
    """What knowing the labels brings, against the subset's distance.

    ``table`` comes from ``label_gains``; ``kinds`` maps a subset's key to
    its kind. The line is that of least squares, with its band.
    Introduced in chapter 9.
    """
    fig, ax = plt.subplots(figsize=(6.6, 3.8))
    of = [kinds[name] for name in table["classes"]]
    for i, kind in enumerate(dict.fromkeys(of)):
        own = table[[name == kind for name in of]]
        ax.plot(own["distance"], own["gain"], ls="", label=kind, **_look(i))
    x = table["distance"].to_numpy()
    if len(x) >= LEAST_FOR_A_LINE and np.ptp(x) > 0:
        at = np.linspace(x.min(), x.max(), 50)
        line, low, high = regression(x, table["gain"]).line(at)
        ax.plot(at, line, color=INK, lw=1)
        ax.fill_between(at, low, high, color=COLORS["grey"], alpha=0.25)
    ax.axhline(0, color=INK, ls=":", lw=1)
    ax.set(
        xlabel="median distance of the classes",
        ylabel="aware less blind (points)",
    )
    fig.legend(loc="outside upper center", ncols=4)
    return fig


def bits_figure(
    plans: Mapping[str, Sequence[int]], layers: Sequence[str]
) -> Figure:
    """Bits of every layer (columns) by plan (rows), written out.

    Introduced in chapter 9.
    """
    values = np.array(list(plans.values()))
    fig, ax = plt.subplots(figsize=(8, 1.6 + 0.3 * len(plans)))
    ax.imshow(values, aspect="auto", cmap=SEQUENTIAL, alpha=0.55)
    for (i, j), bits in np.ndenumerate(values):
        ax.text(j, i, str(bits), ha="center", va="center", fontsize=8)
    ax.set_yticks(range(len(plans)), list(plans))
    ax.set_xticks(range(len(layers)), layers, rotation=90, fontsize=7)
    return fig
