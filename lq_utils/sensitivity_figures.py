"""Figures of the study of sensitivities."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from lq_utils.figures import INK, PALETTE, SEQUENTIAL
from lq_utils.sweep_figures import MARKS


def cost_map_figure(
    costs: pd.DataFrame, names: Sequence[str], unit: str
) -> Figure:
    """Costs of layers (rows) for subsets (columns), as colours.

    ``costs`` is a table of ``cost_map``, ``names`` those of its columns,
    ``unit`` what the colours mean. The scale is logarithmic; what is not
    above zero stays empty.

    Introduced in chapter 9.
    """
    values = costs.to_numpy(dtype=float)
    shown = np.where(values > 0, values, np.nan)
    width = 3.4 + 0.42 * shown.shape[1]
    fig, ax = plt.subplots(figsize=(width, 1.6 + 0.2 * len(costs)))
    norm = LogNorm() if np.isfinite(shown).any() else None
    image = ax.imshow(shown, cmap=SEQUENTIAL, norm=norm, aspect="auto")
    ax.set_yticks(range(len(costs)), costs.index, fontsize=7)
    ax.set_xticks(range(len(names)), names, rotation=90, fontsize=8)
    fig.colorbar(image, label=unit)
    return fig


def prediction_figure(table: pd.DataFrame, measures: Sequence[str]) -> Figure:
    """Rank correlations by kind, a mark for each number of bits.

    ``table`` is a ``prediction_table``; one panel a measure. Lines are
    95 per cent intervals over subsets.

    Introduced in chapter 9.
    """
    fig, axes = plt.subplots(
        1, len(measures), figsize=(8, 4), sharey=True, squeeze=False
    )
    kinds = list(table["kind"].unique())
    bits = sorted(table["bits"].unique())
    for ax, measure in zip(axes[0], measures, strict=True):
        own = table[table["measure"] == measure]
        for i, (b, one) in enumerate(own.groupby("bits")):
            places = np.array([kinds.index(k) for k in one["kind"]])
            places = places + 0.16 * (i - (len(bits) - 1) / 2)
            ends = np.abs(one[["low", "high"]].T - one["correlation"])
            ax.errorbar(
                one["correlation"],
                places,
                xerr=np.nan_to_num(ends.to_numpy()),
                ls="",
                marker=MARKS[i % len(MARKS)],
                color=PALETTE[i % len(PALETTE)],
                label=f"{b} bits",
            )
        ax.axvline(0, color=INK, ls=":", lw=1)
        ax.set(title=measure, xlabel="rank correlation", xlim=(-1.05, 1.05))
    axes[0][0].set_yticks(range(len(kinds)), kinds)
    axes[0][0].invert_yaxis()
    handles, labels = axes[0][0].get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside right center")
    return fig


def additivity_figure(rows: pd.DataFrame, names: dict[str, str]) -> Figure:
    """Joint divergence of random plans against the sum of their layers'.

    ``rows`` are of the part "random", ``names`` those of the subsets by
    key. On the dotted line both are equal.

    Introduced in chapter 9.
    """
    fig, ax = plt.subplots(figsize=(5.6, 4.4))
    many = rows["subset"].nunique() > len(PALETTE)
    for i, (key, own) in enumerate(rows.groupby("subset", sort=False)):
        ax.plot(
            own["total"],
            own["joint"],
            ls="",
            marker="o" if many else MARKS[i % len(MARKS)],
            color=PALETTE[0 if many else i],
            alpha=0.6,
            label=None if many else names.get(str(key), str(key)),
        )
    ends = [rows[["total", "joint"]].min().min()]
    ends.append(rows[["total", "joint"]].max().max())
    ax.plot(ends, ends, color=INK, ls=":", lw=1)
    ax.set(xscale="log", yscale="log")
    ax.set(xlabel="sum over layers (nats)", ylabel="all together (nats)")
    if not many:
        ax.legend()
    return fig


def search_figure(curves: pd.DataFrame, tries: int) -> Figure:
    """Best plan so far against networks evaluated, by the exact plan.

    ``curves`` are ``search_curves``; ``tries`` is what the exact plan
    needs (vertical line).

    Introduced in chapter 9.
    """
    fig, ax = plt.subplots(figsize=(6.4, 3.6))
    styles = ("-", "--", "-.")
    for i, (name, own) in enumerate(curves.groupby("search", sort=False)):
        ax.plot(
            own["evaluation"],
            own["ratio"],
            color=PALETTE[i],
            ls=styles[i % len(styles)],
            label=name,
        )
    ax.axhline(1, color=INK, ls=":", lw=1, label="exact, of sums")
    ax.axvline(tries, color=INK, lw=0.6)
    ax.set(yscale="log", xlabel="networks evaluated")
    ax.set_ylabel("divergence, by that of the exact plan")
    ax.legend()
    return fig
