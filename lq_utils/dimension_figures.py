"""Figures of chapter 5: dimensions by layer, by points, by threshold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from lq_utils.figures import COLORS, INK
from lq_utils.sweep_figures import MARKS, TONES

DIMENSION = "intrinsic dimension"
TRUE = "true dimension"
SHARES = (95, 99)  # per cent of the variance


def _look(i: int) -> dict[str, Any]:
    colour = COLORS[TONES[i % len(TONES)]]
    return {"color": colour, "marker": MARKS[i % len(MARKS)], "ms": 5}


def _require(frame: pd.DataFrame, *columns: str) -> None:
    missing = [name for name in columns if name not in frame]
    if missing or frame.empty:
        what = f"no column {', '.join(missing)}" if missing else "no rows"
        raise ValueError(f"{what}: give rows of {', '.join(columns)}")


def _values(column: pd.Series) -> list[Any]:
    """Distinct values in the order of the rows."""
    return list(dict.fromkeys(column))


def _legend(fig: Figure, handles: Mapping[str, Any], columns: int = 4) -> None:
    look: dict[str, Any] = {"loc": "outside upper center", "ncols": columns}
    fig.legend(list(handles.values()), list(handles), **look)


def _panels(names: list[Any], height: float) -> tuple[Figure, list[Axes]]:
    """A panel a name, side by side, with one vertical axis."""
    size = (max(4.2, 3.6 * len(names)), height)
    fig, axes = plt.subplots(
        1, len(names), figsize=size, sharey=True, squeeze=False
    )
    for ax, name in zip(axes[0], names, strict=True):
        ax.set_title(str(name))
    return fig, list(axes[0])


def profile_figure(frame: pd.DataFrame) -> Figure:
    """Dimension of each layer's outputs, a line a network, a panel a task.

    ``frame`` has the columns network, task, layer, value and error (half
    the length of the bar; NaN: none). Layers stand in the order in which
    they first come, ``"input"`` where it is given; lines are broken
    where a layer has no value.

    Raises ValueError for a missing column or no rows. After figures 3.2
    and 3.3 of the QuantNET thesis, there after Ansuini et al. 2019.
    Introduced in chapter 5.
    """
    _require(frame, "network", "task", "layer", "value", "error")
    layers = _values(frame["layer"])
    fig, axes = _panels(_values(frame["task"]), 3.6)
    handles: dict[str, Any] = {}
    for ax, (_, own) in zip(axes, frame.groupby("task", sort=False)):
        for i, name in enumerate(_values(frame["network"])):
            rows = own[own["network"] == name].set_index("layer")
            rows = rows.reindex(layers)
            y, error = rows["value"], np.nan_to_num(rows["error"])
            look = {"capsize": 2, "lw": 1.4, "elinewidth": 0.9} | _look(i)
            x = np.arange(len(layers))
            handles[name] = ax.errorbar(x, y, yerr=error, **look)
        ax.set_xticks(range(len(layers)), layers, rotation=45, ha="right")
        ax.set(xlim=(-0.4, len(layers) - 0.6), ylim=(0, None))
    axes[0].set_ylabel(DIMENSION)
    _legend(fig, handles)
    return fig


def variance_figure(curves: Mapping[str, np.ndarray]) -> Figure:
    """Share of the variance in the first principal components, by layer.

    ``curves`` maps a layer to shares (0 to 1, ascending) of the first 1,
    2, ... components. Dotted lines are at 95 and 99 per cent; a mark
    stands where a layer first reaches them.

    Raises ValueError without curves or for shares that are out of range.
    After figure 4.5 of the QuantNET thesis. Introduced in chapter 5.
    """
    if not curves:
        raise ValueError("no curves: give shares of the variance by layer")
    fig, ax = plt.subplots(figsize=(7, 3.8))
    for i, (name, shares) in enumerate(curves.items()):
        y = _percent(name, shares)
        look = _look(i)
        marks = [int(np.argmax(y >= s)) for s in SHARES if y.max() >= s]
        x = np.arange(1, len(y) + 1)
        ax.plot(x, y, label=name, markevery=marks, lw=1.5, **look)
    for share in SHARES:
        ax.axhline(share, color=INK, ls=":", lw=1)
        place = (1.01, share)
        # Beside the axes: no curve passes there.
        ax.annotate(
            f"{share} %",
            place,
            xycoords=ax.get_yaxis_transform(),
            va="center",
            fontsize=8,
            color=INK,
        )
    ax.set(xscale="log", xlabel="principal components", ylim=(None, 102))
    ax.set_ylabel("variance explained (%)")
    _plain_log(ax)
    ax.legend(loc="lower right", fontsize=9)
    return fig


def _percent(name: str, shares: np.ndarray) -> np.ndarray:
    y = 100 * np.asarray(shares, dtype=np.float64)
    # Sums of rounded shares may end just above one.
    good = y.ndim == 1 and len(y) and (y >= 0).all() and (y < 100.01).all()
    if not good or (np.diff(y) < -1e-6).any():
        raise ValueError(
            f"layer '{name}': give cumulative shares of the variance, "
            "ascending from 0 to 1"
        )
    return np.minimum(y, 100.0)


def _plain_log(ax: Axes) -> None:
    """Numbers on a logarithmic axis without powers of ten."""
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.15g}"))
    ax.xaxis.set_minor_locator(NullLocator())


def scaling_figure(frame: pd.DataFrame, true: float | None = None) -> Figure:
    """Dimension that is found with fewer and with more points.

    ``frame`` has the columns layer (or name), points, value and error
    (half the length of the bar; NaN: none); ``true`` is a known dimension,
    a dotted line. A line that still rises at its right end is a lower
    bound.

    Raises ValueError for a missing column or no rows. Source: Facco et
    al. 2017 (dimension against the size of subsets). Introduced in
    chapter 5.
    """
    line = "layer" if "layer" in frame else "name"
    _require(frame, line, "points", "value", "error")
    fig, ax = plt.subplots(figsize=(7, 3.8))
    for i, name in enumerate(_values(frame[line])):
        own = frame[frame[line] == name].sort_values("points")
        look = {"capsize": 2, "lw": 1.4, "elinewidth": 0.9} | _look(i)
        error = np.nan_to_num(own["error"])
        ax.errorbar(
            own["points"], own["value"], yerr=error, label=name, **look
        )
    if true is not None:
        ax.axhline(true, color=INK, ls=":", label=TRUE)
    ticks = sorted(set(frame["points"]))
    # Halved sizes: each has its tick as long as there is room.
    shown = ticks[:: -(-len(ticks) // 8)]
    ax.set(xscale="log", xlabel="points", ylabel=DIMENSION, ylim=(0, None))
    ax.set_xticks(shown, [f"{int(tick):,}" for tick in shown])
    ax.minorticks_off()
    handles, labels = ax.get_legend_handles_labels()
    # matplotlib lists plain lines before those with bars.
    known = dict(zip(labels, handles, strict=True))
    order = sorted(known, key=lambda label: label == TRUE)
    _legend(fig, {label: known[label] for label in order}, columns=5)
    return fig


def stability_figure(
    frame: pd.DataFrame, threshold: float | None = None
) -> Figure:
    """Share of resamples in which a layer is significant, by threshold.

    ``frame`` has the columns threshold, layer, share (0 to 1) and method;
    a panel a method, a line a layer. ``threshold`` is the one in use, a
    dotted line. A layer near 0 or 100 per cent is decided; what lies
    between depends on the draw of the points.

    Raises ValueError for a missing column or no rows. Introduced in
    chapter 5.
    """
    _require(frame, "threshold", "layer", "share", "method")
    fig, axes = _panels(_values(frame["method"]), 3.6)
    handles: dict[str, Any] = {}
    for ax, (_, rows) in zip(axes, frame.groupby("method", sort=False)):
        for i, name in enumerate(_values(frame["layer"])):
            own = rows[rows["layer"] == name].sort_values("threshold")
            x, y = own["threshold"], 100 * own["share"]
            (handles[name],) = ax.plot(x, y, lw=1.5, **_look(i))
        if threshold is not None:
            look: dict[str, Any] = {"color": INK, "ls": ":", "lw": 1}
            handles["threshold in use"] = ax.axvline(threshold, **look)
        ax.set(xlabel="threshold", ylim=(-4, 104))
    axes[0].set_ylabel("resamples that select (%)")
    _legend(fig, handles)
    return fig
