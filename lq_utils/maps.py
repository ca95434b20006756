"""Figures of the first two chapters: classes, pairs, subsets.

Each function returns a figure that is ready for ``lq_utils.figures.show``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from lq_utils.figures import COLORS, INK, PALETTE, SEQUENTIAL
from lq_utils.images import ImageData

MARKERS = "os^DvP*X"  # with seven colours: 56 superclasses stay apart
FONT = 6.5  # points
KIND_PALETTE = [COLORS[c] for c in ("sky", "grey", "orange", "vermilion")]


def spread_labels(
    centres: np.ndarray, sizes: np.ndarray, steps: int = 600
) -> np.ndarray:
    """Places for text boxes near ``centres`` that overlap little.

    ``centres`` and ``sizes`` (width, height) are ``[n, 2]`` in one unit;
    boxes that overlap push each other apart, mostly up and down, while
    each is pulled back to its own centre. Returns places ``[n, 2]``.

    Introduced in chapter 1.
    """
    places = np.asarray(centres, dtype=np.float64).copy()
    reach = (sizes[:, None] + sizes[None]) / 2
    index = np.arange(len(places))
    for _ in range(steps):
        gap = places[:, None] - places[None]
        overlap = reach - np.abs(gap)
        hit = (overlap > 0).all(axis=2) & (index[:, None] != index)
        # Equal heights would leave two boxes pushing nowhere.
        sign = np.where(gap[..., 1] == 0, index[:, None] - index, gap[..., 1])
        push = np.where(hit, np.sign(sign) * overlap[..., 1], 0.0)
        places[:, 1] += 0.3 * push.sum(axis=1)
        places += 0.01 * (centres - places)
    return places


def _style(group: int) -> tuple[str, str]:
    colour = PALETTE[group % len(PALETTE)]
    return colour, MARKERS[group // len(PALETTE) % len(MARKERS)]


def class_map(
    points: np.ndarray, data: ImageData, figsize: tuple[float, float]
) -> Figure:
    """Every image as a faint dot, every class by name at its mean.

    ``points [N, 2]`` are the places of the images of ``data``. Colour and
    marker together tell the superclass, so nothing rests on colour alone.

    Introduced in chapter 1.
    """
    fig, ax = plt.subplots(figsize=figsize)
    styles = [_style(int(group)) for group in data.superclass_of]
    dots = np.array([to_rgb(colour) for colour, _ in styles])[data.labels]
    fade = float(np.clip(900 / len(points), 0.05, 0.5))
    ax.scatter(
        points[:, 0], points[:, 1], s=4, c=dots, alpha=fade, linewidths=0
    )
    means = np.zeros((data.num_classes, 2))
    for k, (colour, marker) in enumerate(styles):
        means[k] = x, y = points[data.labels == k].mean(axis=0)
        ax.scatter(x, y, s=26, color=colour, marker=marker, zorder=3)
    ax.margins(0.03)
    ax.set(xticks=[], yticks=[], xlabel="UMAP 1", ylabel="UMAP 2")
    fig.legend(
        handles=_legend(data.superclass_names),
        loc="outside lower center",
        ncols=4,
        fontsize=7.5,
    )
    # Lay the figure out first: the axes' size decides who overlaps.
    fig.draw_without_rendering()
    _write_names(ax, means, data.class_names)
    return fig


def _write_names(ax: Axes, means: np.ndarray, names: Sequence[str]) -> None:
    # Pixels of the figure, so that a text's size is known.
    to_pixels = ax.transData.transform
    unit = FONT * ax.figure.dpi / 72
    sizes = np.array([(0.6 * len(name), 1.3) for name in names]) * unit
    start = to_pixels(means) + (0, unit)
    places = ax.transData.inverted().transform(spread_labels(start, sizes))
    for name, mean, place in zip(names, means, places):
        ax.plot(*zip(mean, place), color=INK, lw=0.4, alpha=0.6)
        text = name.replace("_", " ")
        x, y = place
        ax.text(x, y, text, fontsize=FONT, ha="center", va="center")


def _legend(superclass_names: Sequence[str]) -> list[Line2D]:
    handles = []
    for group, name in enumerate(superclass_names):
        colour, marker = _style(group)
        text = name.replace("_", " ")
        handles.append(
            Line2D([], [], ls="", color=colour, marker=marker, label=text)
        )
    return handles


def matrix_figure(matrix: np.ndarray, data: ImageData, unit: str) -> Figure:
    """Distances ``[C, C]`` as a picture, classes grouped by superclass.

    The colour is logarithmic; the diagonal, which is 0, stays empty.

    Introduced in chapter 1.
    """
    fig, ax = plt.subplots(figsize=(7.4, 5.4))
    order = np.argsort(data.superclass_of, kind="stable")
    shown = matrix[np.ix_(order, order)].copy()
    shown[shown <= 0] = np.nan
    image = ax.imshow(shown, cmap=SEQUENTIAL, norm=LogNorm())
    counts = np.bincount(
        data.superclass_of, minlength=len(data.superclass_names)
    )
    ends = np.cumsum(counts)
    names = [name.replace("_", " ") for name in data.superclass_names]
    ax.set_yticks(ends - counts / 2 - 0.5, names, fontsize=7)
    ax.set_xticks([])
    for end in ends[:-1]:
        ax.axhline(end - 0.5, color=INK, lw=0.3)
        ax.axvline(end - 0.5, color=INK, lw=0.3)
    fig.colorbar(image, label=unit, shrink=0.8)
    return fig


def skewness_figure(values: np.ndarray, unit: str) -> Figure:
    """Histograms of pair distances, on a linear and a logarithmic axis.

    Introduced in chapter 1.
    """
    fig, axes = plt.subplots(1, 2, figsize=(8, 3.3))
    for ax, log in zip(axes, (False, True)):
        sns.histplot(
            x=values, bins=40, log_scale=log, ax=ax, color=COLORS["sky"]
        )
        ax.axvline(np.median(values), color=COLORS["vermilion"])
        ax.axvline(values.mean(), color=INK, ls="--")
        ax.set(xlabel=unit, ylabel="pairs")
    axes[0].legend(axes[0].lines, ["median", "mean"])
    return fig


def correlation_figure(correlations: pd.DataFrame) -> Figure:
    """Rank correlations, method by method, with their numbers.

    Introduced in chapter 1.
    """
    fig, ax = plt.subplots(figsize=(7.2, 5.6))
    sns.heatmap(
        correlations,
        annot=True,
        fmt=".2f",
        vmin=min(0.0, float(correlations.min(axis=None))),
        vmax=1,
        cmap=SEQUENTIAL,
        annot_kws={"fontsize": 8.5},
        ax=ax,
    )
    return fig


def rows_figure(
    runs: Mapping[str, pd.DataFrame | None],
    metric: str,
    key: str,
    unit: str,
    log: bool = False,
) -> Figure:
    """One metric of several runs as dots, a line for each value of ``key``.

    ``runs`` maps a label to result rows, or to None where there are none;
    confidence intervals are drawn where the rows have them.

    Introduced in chapter 1.
    """
    fig, ax = plt.subplots(figsize=(6.8, 3.6))
    lines: list[str] = []
    present = {k: rows for k, rows in runs.items() if rows is not None}
    for i, (label, rows) in enumerate(present.items()):
        own = rows[rows["metric"] == metric].reset_index(drop=True)
        names = [json.loads(keys)[key] for keys in own["keys"]]
        lines += [name for name in names if name not in lines]
        heights = [lines.index(n) + 0.2 * i for n in names]
        ends = np.abs(own[["ci_low", "ci_high"]].T - own["value"])
        ends = np.nan_to_num(ends.to_numpy(dtype=np.float64))
        ax.errorbar(own["value"], heights, xerr=ends, fmt="o", label=label)
    ax.set_yticks(range(len(lines)), lines)
    ax.margins(y=0.1)
    ax.set(xlabel=unit, xscale="log" if log else "linear")
    fig.legend(loc="outside upper right", ncols=len(present))
    return fig


def kinds_figure(pairs: pd.DataFrame, middle: float, unit: str) -> Figure:
    """Distances within subsets (columns ``kind``, ``distance``) by kind.

    ``middle``, the median over all pairs of classes, is a dotted line.

    Introduced in chapter 2.
    """
    fig, ax = plt.subplots(figsize=(7, 3.6))
    sns.boxenplot(
        pairs,
        x="distance",
        y="kind",
        hue="kind",
        legend=False,
        palette=KIND_PALETTE[: pairs["kind"].nunique()],
        ax=ax,
    )
    ax.set(xscale="log", xlabel=unit, ylabel="")
    ax.axvline(middle, color=INK, ls=":")
    return fig


def coverage_figure(designs: Mapping[str, np.ndarray], unit: str) -> Figure:
    """A row of tick marks for each design: which medians it covers.

    Introduced in chapter 2.
    """
    fig, ax = plt.subplots(figsize=(7, 2.4))
    for row, medians in enumerate(designs.values()):
        ax.plot(medians, np.full(len(medians), row), "|", ms=22, mew=2)
    ax.set(xscale="log", xlabel=unit, ylim=(-0.6, len(designs) - 0.4))
    ax.set_yticks(range(len(designs)), list(designs))
    return fig


def axes_figure(table: pd.DataFrame, x: str, y: str) -> Figure:
    """Subsets as marks on two logarithmic axes, a colour for each kind.

    ``table`` has the columns ``x``, ``y`` and ``kind``.

    Introduced in chapter 2.
    """
    fig, ax = plt.subplots(figsize=(6.8, 4.2))
    sns.scatterplot(
        table,
        x=x,
        y=y,
        hue="kind",
        style="kind",
        palette=KIND_PALETTE[: table["kind"].nunique()],
        ax=ax,
    )
    ax.set(xscale="log", yscale="log")
    return fig
