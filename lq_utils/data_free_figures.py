"""Figures of chapter 7: quartiles, accuracy by bits, answers, layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lq_utils.figures import COLORS, INK
from lq_utils.layer_sets import WAYS
from lq_utils.sweep_figures import MARKS, TONES

NAMES = {
    "asymmetric": "asymmetric",
    "narrow": "symmetric",
    "symmetric": "symmetric, one level more",
    "power-of-two": "power of two",
}


def _look(i: int) -> dict[str, Any]:
    colour = COLORS[TONES[i % len(TONES)]]
    return {"color": colour, "marker": MARKS[i % len(MARKS)], "ms": 5}


def _box(row: Mapping[str, Any], suffix: str, label: str) -> dict[str, Any]:
    return {
        "label": label,
        "q1": row["q1" + suffix],
        "med": row["median" + suffix],
        "q3": row["q3" + suffix],
        "whislo": row["low" + suffix],
        "whishi": row["high" + suffix],
        "fliers": [],
    }


def quartile_figure(tables: Mapping[str, pd.DataFrame]) -> Figure:
    """Boxes of some channels, in full precision and by each scheme.

    ``tables`` maps a scheme to rows of ``rounding_statistics``, the same
    channels in each: a panel a channel. Boxes are quartiles, whiskers
    reach to the extremes.

    Source: bit-efficient poster, first figure. Introduced in chapter 7.
    """
    first = next(iter(tables.values()))
    fig, axes = plt.subplots(
        1, len(first), figsize=(8.2, 3.6), sharey=True, squeeze=False
    )
    for i, ax in enumerate(axes[0]):
        boxes = [_box(first.iloc[i], "", "float")]
        for name, table in tables.items():
            boxes.append(_box(table.iloc[i], "_after", name))
        ax.bxp(boxes, widths=0.6)
        ax.set_xticks(
            range(1, len(boxes) + 1), [str(b["label"]) for b in boxes],
            rotation=60, ha="right", fontsize=8,
        )  # fmt: skip
        ax.set_title(f"channel {first['channel'].iloc[i]}")
    axes[0, 0].set_ylabel("weight")
    return fig


def _legend(fig: Figure, ax: Axes, columns: int) -> None:
    handles, labels = ax.get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside upper center", ncols=columns)


def _curve(ax: Axes, own: pd.DataFrame, x: str, i: int, label: str) -> None:
    own = own.sort_values(x)
    ends = np.abs(own[["low", "high"]].T.to_numpy() - own["accuracy"].values)
    ax.errorbar(
        own[x], own["accuracy"], yerr=ends, label=label, capsize=2, lw=1.2,
        elinewidth=0.8, **_look(i),
    )  # fmt: skip


def scheme_figure(
    lost: pd.DataFrame, originals: Mapping[str, float]
) -> Figure:
    """Accuracy by bits: a row of panels a granularity, a panel a network.

    ``lost`` comes from ``bit_limits.drops``, one scale rule; a line a
    quantizer. ``originals`` are accuracies (%) by network, dotted.

    Introduced in chapter 7.
    """
    networks = list(originals)
    kinds = list(dict.fromkeys(lost["granularity"]))
    size = (max(4.4, 3.1 * len(networks)), 2.9 * len(kinds))
    fig, axes = plt.subplots(
        len(kinds), len(networks), figsize=size, sharex=True, squeeze=False
    )
    quantizers = list(dict.fromkeys(lost["quantizer"]))
    for (kind, network), ax in zip(
        [(k, n) for k in kinds for n in networks], axes.flat, strict=True
    ):
        own = lost[(lost["granularity"] == kind)]
        own = own[own["network"] == network]
        for i, name in enumerate(quantizers):
            rows = own[own["quantizer"] == name]
            _curve(ax, rows, "bits", i, NAMES.get(name, name))
        ax.axhline(originals[network], color=INK, ls=":", lw=1)
        ax.set_title(f"{network}, a scale a {kind}", fontsize=8)
        ax.set_ylim(bottom=0)
    for ax in axes[-1]:
        ax.set(xlabel="bits", xticks=sorted(lost["bits"].unique()))
    for ax in axes[:, 0]:
        ax.set_ylabel("accuracy (%)")
    _legend(fig, axes[0, 0], min(4, len(quantizers)))
    return fig


def answers_figure(
    counts: Mapping[str, np.ndarray], names: Sequence[str]
) -> Figure:
    """How often each class is predicted: bars side by side.

    ``counts`` maps a network to int ``[C]``; with more than twenty classes
    these are sorted, and their names left out.

    Introduced in chapter 7.
    """
    fig, ax = plt.subplots(figsize=(8, 3.4))
    places = np.arange(len(names))
    many = len(names) > 20
    for i, (label, values) in enumerate(counts.items()):
        colour = COLORS[TONES[i % len(TONES)]]
        if many:
            ordered = np.sort(values)[::-1]
            ax.step(places, ordered, where="mid", color=colour, label=label)
            continue
        width = 0.8 / len(counts)
        shift = (i - (len(counts) - 1) / 2) * width
        ax.bar(places + shift, values, width, color=colour, label=label)
    if many:
        ax.set_xlabel("classes, most frequent answer first")
    else:
        ax.set_xticks(places, names, rotation=45, ha="right")
    ax.set_ylabel("answers")
    _legend(fig, ax, 4)
    return fig


def sensitivity_figure(table: pd.DataFrame) -> Figure:
    """Drop by the layer's position: alone, from the front, from the back.

    ``table`` are rows of ``layer_sets.joined``; a panel a network
    and number of bits.

    Introduced in chapter 7.
    """
    groups = list(table.groupby(["network", "bits"], sort=False))
    fig, axes = plt.subplots(
        1, len(groups), figsize=(max(4.6, 3.8 * len(groups)), 3.4),
        squeeze=False,
    )  # fmt: skip
    for ax, ((network, bits), own) in zip(axes[0], groups, strict=True):
        for i, way in enumerate(WAYS):
            rows = own[own["way"] == way].sort_values("position")
            ends = rows[["drop_low", "drop_high"]].T.to_numpy()
            look = {"label": way, "capsize": 2, "lw": 1.2, "elinewidth": 0.8}
            ax.errorbar(
                rows["position"], rows["drop"],
                yerr=np.abs(ends - rows["drop"].values), **look, **_look(i),
            )  # fmt: skip
        ax.set(title=f"{network}, {bits} bits", xlabel="layer")
    axes[0, 0].set_ylabel("drop (points)")
    _legend(fig, axes[0, 0], len(WAYS))
    return fig


def cosine_figure(table: pd.DataFrame) -> Figure:
    """Drop of every subset against how far its classes are from orthogonal.

    ``table`` has the columns network, cosine and drop; a mark a subset.

    Introduced in chapter 7.
    """
    fig, ax = plt.subplots(figsize=(6.6, 3.8))
    for i, (name, own) in enumerate(table.groupby("network", sort=False)):
        ax.plot(own["cosine"], own["drop"], ls="", label=name, **_look(i))
    ax.axhline(0, color=INK, lw=0.8, ls=":")
    ax.set(
        xlabel="mean absolute cosine between class means",
        ylabel="drop on the subset (points)",
    )
    _legend(fig, ax, 3)
    return fig
