"""From interactive figures to plain lists and texts for the page.

Nothing is computed on the page. All numbers, ticks and words are prepared
here, so that the page shows what the chapter computed and nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.ticker import LogLocator, MaxNLocator

from lq_utils.figures import COLORS
from lq_utils.interactive_pieces import (
    MARKS,
    SHAPES,
    TONES,
    WHEN,
    Axis,
    InteractiveError,
    Layer,
    Points,
    Steps,
    Values,
)

MOST_NAMES = 24
_DIGITS = 5


def steps_data(piece: Steps) -> dict[str, Any]:
    """What the page needs to draw the steps: plain lists and texts.

    Raises InteractiveError for marks that cannot be drawn.

    Introduced in chapter 1.
    """
    count = len(piece.frames)
    if not count or not {"label", "words"} <= set(piece.frames):
        raise InteractiveError(
            "give at least one step, with the columns label and words"
        )
    for layer in piece.layers:
        _check(layer, count, len(piece.panels))
    panels = []
    for k, axes in enumerate(piece.panels):
        own = [layer for layer in piece.layers if layer.panel == k]
        panels.append(_axes(axes, own))
    rows = piece.frames[["label", "words"]].astype(str).to_dict("records")
    layers = [_layer(layer) for layer in piece.layers]
    return {"kind": "steps", "panels": panels, "frames": rows} | {
        "layers": layers
    }


def points_data(piece: Points) -> dict[str, Any]:
    """What the page needs to draw the points: plain lists and texts.

    Raises InteractiveError without points, for a missing column, or
    where ``near`` does not fit the rows.

    Introduced in chapter 1.
    """
    frame = piece.points.reset_index(drop=True)
    missing = {"name", "group", "x", "y", "words"} - set(frame)
    if missing or frame.empty:
        raise InteractiveError(
            f"points need rows of name, group, x, y, words: {len(frame)} "
            f"rows, missing {sorted(missing)}"
        )
    near = list(piece.near) or [[]] * len(frame)
    if len(near) != len(frame) or not set().union(*near) <= set(frame.index):
        raise InteractiveError(
            "near must list, for each point, numbers of other rows"
        )
    layers = []
    for k, (group, own) in enumerate(frame.groupby("group", sort=False)):
        look = (list(COLORS)[k % len(COLORS)], str(group))
        x, y = own["x"].to_numpy(), own["y"].to_numpy()
        layer = Layer("dots", x, y, *look, shape=k % SHAPES)
        _check(layer, 1, 1)
        texts = {c: own[c].astype(str).tolist() for c in ("name", "words")}
        layers.append(
            _layer(layer)
            | {"names": texts["name"], "words": texts["words"]}
            | {"index": own.index.tolist()}
            | {"near": [[int(i) for i in near[j]] for j in own.index]}
        )
    return {
        "kind": "points",
        "panels": [_axes(piece.axes, [_of_points(frame)])],
        "layers": layers,
    }


def _of_points(frame: pd.DataFrame) -> Layer:
    return Layer("dots", frame["x"].to_numpy(), frame["y"].to_numpy())


def _check(layer: Layer, steps: int, panels: int) -> None:
    known = (
        layer.mark in MARKS
        and layer.tone in TONES
        and 0 <= layer.panel < panels
        and 0 <= layer.shape < SHAPES
    )
    if not known:
        raise InteractiveError(
            f"marks are {MARKS}, colours {TONES}, shapes 0 to {SHAPES - 1}, "
            f"panels 0 to {panels - 1}: this layer is {layer.mark!r}, "
            f"{layer.tone!r}, shape {layer.shape}, panel {layer.panel}"
        )
    if len(layer.x) != len(layer.y):
        raise InteractiveError(
            f"{len(layer.x)} places and {len(layer.y)} values: give as many"
        )
    own_step = isinstance(layer.when, int) and 0 <= layer.when < steps
    if not own_step and layer.when not in WHEN:
        raise InteractiveError(
            f"when={layer.when!r}: give one of {WHEN}, or a step from 0 to "
            f"{steps - 1}"
        )
    if layer.when in ("grow", "now") and len(layer.x) != steps:
        raise InteractiveError(
            f"{len(layer.x)} marks for {steps} steps: a layer that grows "
            "has one a step"
        )


def _layer(layer: Layer) -> dict[str, Any]:
    found: dict[str, Any] = {
        "mark": layer.mark,
        "tone": layer.tone,
        "x": compact(layer.x),
        "y": compact(layer.y),
        "when": layer.when,
        "panel": layer.panel,
        "shape": layer.shape,
    }
    if layer.mark == "bars":
        found["width"] = layer.width
    optional = {"name": layer.name, "dash": layer.dash, "faint": layer.faint}
    return found | {key: value for key, value in optional.items() if value}


def compact(values: Iterable[float]) -> list[float | int | None]:
    """Numbers to five digits, whole ones as such, NaN as None.

    Introduced in chapter 1.
    """
    found: list[float | int | None] = []
    for value in values:
        number = float(value)
        if not math.isfinite(number):
            found.append(None)
            continue
        number = float(f"{number:.{_DIGITS}g}")
        found.append(int(number) if number.is_integer() else number)
    return found


def _axes(axes: tuple[Axis, Axis], layers: list[Layer]) -> dict[str, Any]:
    x, y = axes
    widths = [la.width / 2 for la in layers if la.mark == "bars"]
    room = max(widths, default=0.0)
    flat = any(layer.mark == "bars" for layer in layers)
    return {
        "x": _axis(x, [layer.x for layer in layers], room, False),
        "y": _axis(y, [layer.y for layer in layers], 0.0, flat),
    }


def _axis(
    axis: Axis, values: list[Values], room: float, base: bool
) -> dict[str, Any]:
    """Range of all values with some room, and ticks within it."""
    parts = [np.asarray(v, dtype=np.float64).ravel() for v in values]
    every = np.concatenate([*parts, np.zeros(0)])
    every = every[np.isfinite(every)]
    if axis.names:
        every = np.append(every, [-0.5, len(axis.names) - 0.5])
    if not len(every) or (axis.log and every.min() <= 0):
        raise InteractiveError(
            f"axis {axis.label!r}: nothing to draw, or no positive values "
            "on a logarithmic axis"
        )
    low, high = float(every.min()) - room, float(every.max()) + room
    low, high = axis.limits or _with_room(axis, low, high, base)
    ticks = [] if axis.plain else _ticks(axis, low, high)
    return {
        "label": axis.label,
        "range": [float(f"{low:.6g}"), float(f"{high:.6g}")],
        "ticks": ticks,
    } | ({"log": True} if axis.log else {})


def _with_room(
    axis: Axis, low: float, high: float, base: bool
) -> tuple[float, float]:
    """Ends of an axis a little beyond the data, but not beyond zero."""
    if axis.log:
        factor = (high / low) ** 0.05 if high > low else 1.5
        return low / factor, high * factor
    grounded = axis.zero or base
    if grounded:
        low, high = min(low, 0.0), max(high, 0.0)
    pad = 0.05 * (high - low) or 0.5
    return (
        low if grounded and low == 0 else low - pad,
        high if grounded and high == 0 else high + pad,
    )


def _ticks(axis: Axis, low: float, high: float) -> list[list[Any]]:
    if axis.names:
        stride = -(-len(axis.names) // MOST_NAMES)
        return [[i, n] for i, n in enumerate(axis.names)][::stride]
    if axis.log:
        found = LogLocator(subs=(1.0, 2.0, 5.0)).tick_values(low, high)
        if (np.log10(high) - np.log10(low)) > 3:
            found = LogLocator(numticks=8).tick_values(low, high)
    else:
        found = MaxNLocator(6, steps=[1, 2, 5, 10]).tick_values(low, high)
    inside = [float(t) for t in found if low <= t <= high]
    return [[float(f"{t:.6g}"), _short(t)] for t in inside]


def _short(value: float) -> str:
    text = f"{value:,.6g}" if abs(value) < 1e6 else f"{value:.3g}"
    return ("0" if value == 0 else text).replace("-", "−")
