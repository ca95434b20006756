"""Figures of chapter 7's class clustering: drops and confusions by bits."""

from __future__ import annotations

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lq_utils.class_clustering import ClassClusteringError
from lq_utils.clustering_study import CLASSES, RANDOM
from lq_utils.figures import COLORS, FAINT, INK
from lq_utils.sweep_figures import MARKS, TONES


def _look(i: int) -> dict[str, Any]:
    colour = COLORS[TONES[i % len(TONES)]]
    return {"color": colour, "marker": MARKS[i % len(MARKS)], "ms": 5}


def drops_figure(lines: pd.DataFrame, rule: str = "argmax") -> Figure:
    """Points lost by bits, a line a partition, a panel a number of clusters.

    ``lines`` are those of ``by_partition``; the upper row has the drop
    itself, the lower one that above chance. Grey: where random partitions
    of the same sizes lie; dotted: classes. Raises ClassClusteringError
    for no rows. Introduced in chapter 7.
    """
    own = lines[(lines["rule"] == rule) | (lines["partition"] == CLASSES)]
    fine = own[own["partition"] == CLASSES].sort_values("bits")
    coarse = own[own["partition"] != CLASSES]
    if coarse.empty or fine.empty:
        raise ClassClusteringError("no rows of classes and of clusters")
    counts = list(dict.fromkeys(coarse["clusters"]))
    size = (max(4.6, 3 * len(counts) + 1.6), 5.6)
    fig, axes = plt.subplots(
        2, len(counts), figsize=size, sharex=True, sharey="row", squeeze=False
    )
    names = ("drop (points)", "drop above chance (points)")
    for row, column in zip(axes, ("drop", "corrected_drop"), strict=True):
        for ax, count in zip(row, counts, strict=True):
            ax.plot(fine["bits"], fine[column], **_dotted("classes"))
            _partitions(ax, coarse[coarse["clusters"] == count], column)
    for row, name in zip(axes, names, strict=True):
        row[0].set_ylabel(name)
    for ax, count in zip(axes[0], counts, strict=True):
        ax.set_title(f"{count} clusters")
    for ax in axes[1]:
        ax.set(xlabel="bits", xticks=sorted(set(lines["bits"])))
    handles, labels = axes[0][0].get_legend_handles_labels()
    known = dict(zip(labels, handles))
    for ax in axes[0][1:]:
        known |= dict(zip(*ax.get_legend_handles_labels()[::-1]))
    fig.legend(
        list(known.values()),
        list(known),
        loc="outside upper center",
        ncols=3,
    )
    return fig


def _dotted(name: str) -> dict[str, Any]:
    return {"color": INK, "ls": ":", "label": name}


def _partitions(ax: Any, coarse: pd.DataFrame, column: str) -> None:
    prefix = column.removesuffix("drop")
    names = [n for n in dict.fromkeys(coarse["partition"]) if n != RANDOM]
    for i, name in enumerate(names):
        own = coarse[coarse["partition"] == name].sort_values("bits")
        ends = np.abs(
            own[[f"{prefix}low", f"{prefix}high"]].T.to_numpy()
            - own[column].to_numpy()
        )
        ax.errorbar(
            own["bits"], own[column], yerr=ends, label=name, **_look(i)
        )
    chance = coarse[coarse["partition"] == RANDOM].sort_values("bits")
    if len(chance):
        ax.fill_between(
            chance["bits"],
            chance[f"{prefix}low"],
            chance[f"{prefix}high"],
            color=FAINT,
            lw=3,  # a narrow band stays visible
            label="random, same sizes",
        )


def confusion_figure(
    confusion: np.ndarray, clusters: np.ndarray, names: tuple[str, ...]
) -> Figure:
    """Confusions ``[C, C]``, classes sorted by cluster ``[C]``, boxes round.

    Rows are true classes and sum to 1; the diagonal is left out of the
    colours. Names are written for 40 classes or fewer. Introduced in
    chapter 7.
    """
    order = np.argsort(clusters, kind="stable")
    shown = confusion[np.ix_(order, order)].copy()
    np.fill_diagonal(shown, np.nan)
    fig, ax = plt.subplots(figsize=(6.2, 5.2))
    image = ax.imshow(shown, vmin=0, vmax=max(np.nanmax(shown), 1e-9))
    fig.colorbar(image, ax=ax, label="share of the true class")
    start = 0
    for size in np.bincount(clusters):
        corner = (start - 0.5, start - 0.5)
        ax.add_patch(
            plt.Rectangle(corner, size, size, fill=False, ec=INK, lw=1.2)
        )
        start += size
    if len(names) <= 40:
        texts = [names[i] for i in order]
        ax.set_xticks(range(len(texts)), texts, rotation=90)
        ax.set_yticks(range(len(texts)), texts)
    ax.set(xlabel="answer", ylabel="true class")
    return fig
