"""Figures of chapter 7's sizes: bits that a weight takes in a file."""

from __future__ import annotations

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lq_utils.code_sizes import CodeSizeError
from lq_utils.figures import COLORS, INK
from lq_utils.sweep_figures import MARKS, TONES


def _look(i: int) -> dict[str, Any]:
    colour = COLORS[TONES[i % len(TONES)]]
    return {"color": colour, "marker": MARKS[i % len(MARKS)], "ms": 4}


def coders_figure(table: pd.DataFrame, coders: list[str]) -> Figure:
    """Bits a weight in the file, by bits of the grid; a panel a grid.

    ``table`` is one of ``bits_table`` for a single network; dotted: codes
    merely packed; dashed: the entropy. Raises CodeSizeError for no rows.
    Introduced in chapter 7.
    """
    if table.empty:
        raise CodeSizeError("no rows: measure one network at least")
    groups = list(table.groupby("quantizer", sort=False))
    size = (max(4.2, 3.7 * len(groups)), 3.6)
    fig, axes = plt.subplots(
        1, len(groups), figsize=size, sharey=True, squeeze=False
    )
    for ax, (name, own) in zip(axes[0], groups, strict=True):
        own = own.sort_values("bits")
        x = own["bits"]
        ax.plot(x, own["packed"], color=INK, ls=":", label="packed")
        ax.plot(x, own["entropy"], color=INK, ls="--", label="entropy")
        for i, coder in enumerate(coders):
            ax.plot(x, own[coder], label=coder, **_look(i))
        ax.set(title=name, xlabel="bits of the grid", xticks=x, ylim=0)
    axes[0][0].set_ylabel("bits a weight in the file")
    handles, labels = axes[0][0].get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside right center")
    return fig


def poster_figure(table: pd.DataFrame) -> Figure:
    """The poster's bits a weight (hollow), ours (full), the entropy (line).

    ``table`` is one of ``beside_poster``. Raises CodeSizeError for no
    rows. Introduced in chapter 7.
    """
    if table.empty:
        raise CodeSizeError("no network of the poster was measured")
    lines = table["printed"] + ", " + table["quantizer"]
    order = list(dict.fromkeys(lines))
    fig, ax = plt.subplots(figsize=(7, 0.55 * len(order) + 1.3))
    for i, (coder, own) in enumerate(table.groupby("coder", sort=False)):
        y = np.array([order.index(name) for name in lines[own.index]])
        look = _look(i) | {"ls": "", "ms": 6}
        ax.plot(own["ours"], y + 0.12, label=f"{coder}, ours", **look)
        ax.plot(
            own["poster"],
            y - 0.12,
            label=f"{coder}, poster",
            **look | {"mfc": "none"},
        )
        ax.vlines(own["entropy"], y - 0.3, y + 0.3, color=INK, lw=1.2)
    ax.set_yticks(range(len(order)), order)
    ax.invert_yaxis()
    ax.set(xlabel="bits a weight in the file", xlim=0)
    fig.legend(loc="outside upper center", ncols=4)
    return fig
