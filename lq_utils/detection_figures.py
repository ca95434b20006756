"""Figures of chapter 7's detection: scenes with boxes, drops by part."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lq_utils.detection_scenes import DetectionSet
from lq_utils.detection_tables import precision_table
from lq_utils.figures import COLORS, INK
from lq_utils.sweep_figures import MARKS, TONES
from lq_utils.tiny_detector import Detections

SURE = 0.3  # least score of a box that is drawn


def scenes_figure(
    scenes: DetectionSet, found: dict[str, Sequence[Detections]], count: int
) -> Figure:
    """The first scenes with the boxes that each detector is sure of.

    ``found`` maps a row's name to detections on all scenes; the true
    boxes are dotted. Introduced in chapter 7.
    """
    size = (1.7 * count + 0.6, 1.9 * len(found))
    fig, axes = plt.subplots(len(found), count, figsize=size, squeeze=False)
    for row, (name, own) in zip(axes, found.items(), strict=True):
        for i, ax in enumerate(row):
            ax.imshow(scenes.images[i])
            ax.set(xticks=[], yticks=[])
            for box in scenes.boxes[i]:
                _box(ax, box, INK, ":")
            for box, score, label in zip(*own[i]):
                if score >= SURE:
                    _box(ax, box, COLORS[TONES[label % len(TONES)]], "-")
                    text = scenes.class_names[label]
                    ax.text(*box[:2], text, fontsize=6, va="bottom")
        row[0].set_ylabel(name)
    return fig


def _box(ax: plt.Axes, box: np.ndarray, colour: str, line: str) -> None:
    width, height = box[2:] - box[:2]
    corner = (box[0] - 0.5, box[1] - 0.5)
    ax.add_patch(
        plt.Rectangle(
            corner, width, height, fill=False, ec=colour, ls=line, lw=1.4
        )
    )


def parts_figure(rows: pd.DataFrame, metrics: Sequence[str]) -> Figure:
    """Precision by bits, a line a set-up, a panel a metric, with intervals.

    Dotted: the detector in full precision. Raises DetectionError for
    missing columns. Introduced in chapter 7.
    """
    tables = {m: precision_table(rows, m) for m in metrics}
    bits = sorted(set(rows["bits"]))
    size = (3.6 * len(metrics) + 1.6, 3.8)
    fig, axes = plt.subplots(
        1, len(metrics), figsize=size, sharey=True, squeeze=False
    )
    for ax, (metric, table) in zip(axes[0], tables.items(), strict=True):
        whole = 100 * rows[f"original_{metric}"].iloc[0]
        ax.axhline(whole, color=INK, ls=":", label="full precision")
        for i, (name, own) in enumerate(table.groupby("set_up", sort=False)):
            own = own.sort_values("bits")
            drops = own["drop"].to_numpy()
            # The interval is one of the drop, upside down for the rest.
            low = own["high"].to_numpy() - drops
            high = drops - own["low"].to_numpy()
            ax.errorbar(
                own["bits"] + 0.06 * (i - 2),
                own[metric],
                yerr=np.abs([low, high]),
                label=name,
                color=COLORS[TONES[i % len(TONES)]],
                marker=MARKS[i % len(MARKS)],
                ms=5,
            )
        ax.set(title=metric, xlabel="bits", xticks=bits, ylim=0)
    axes[0][0].set_ylabel("points")
    handles, labels = axes[0][0].get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside right center")
    return fig
