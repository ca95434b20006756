"""From a trained network to a small file: the stages, and the layers.

Layers, shapes and counts are read from the modules, bits from the plan.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from torch import Tensor, nn

from lq_utils.figures import COLORS, INK
from lq_utils.graph import LAYER_TYPES
from lq_utils.plan_rows import PlanError
from lq_utils.plans import Plan
from lq_utils.registry import did_you_mean

STAGES = (
    "trained\nnetwork",
    "outputs of layers on\nimages of the target",
    "dimensions",
    "significance",
    "plan",
    "training",
    "artifact",
)
SIDE_BY_SIDE = 4  # stages; those after it go back below
BITS = {None: "grey", 1: "sky", 2: "vermilion", 3: "purple", 4: "green"}
MORE = "blue"  # more bits than these
INPUT = "input"  # name of the images in ``dimensions``
TOP = 2.9  # where the layers begin
UNIT = 0.52  # inches
# Heads and places of the columns beside a layer's box: right end, or left.
COLUMNS = {"returns": 3.35, "parameters": 6.05, "precision": 6.3}
MEASURED = {"dimension": 8.75, "change": 9.95}


@dataclass(frozen=True)
class _Layer:
    """A row of the diagram."""

    name: str
    kind: str
    shape: tuple[int, ...]
    parameters: int


def _kind(layer: nn.Module) -> str:
    if isinstance(layer, nn.Conv2d):
        return f"{'×'.join(map(str, layer.kernel_size))} convolution"
    return "fully connected"


def _layers(model: nn.Module, shape: tuple[int, int, int]) -> list[_Layer]:
    """Convolutions and linear layers on the way of a zero image."""
    network = copy.deepcopy(model).cpu().eval()
    found: dict[str, _Layer] = {}

    def note(name: str) -> Any:
        def hook(layer: nn.Module, x: tuple[Tensor, ...], y: Tensor) -> None:
            count = sum(p.numel() for p in layer.parameters())
            row = _Layer(name, _kind(layer), tuple(y.shape[1:]), count)
            found[name] = row

        return hook

    for name, layer in network.named_modules():
        if isinstance(layer, LAYER_TYPES):
            layer.register_forward_hook(note(name))
    with torch.inference_mode():
        network(torch.zeros(1, *shape))
    return list(found.values())


def _colour(bits: int | None) -> str:
    return COLORS[BITS.get(bits, MORE)]


def _word(bits: int | None) -> str:
    if bits is None:
        return "full precision"
    return "1 bit" if bits == 1 else f"{bits} bits"


def _box(
    ax: Axes, x: float, y: float, width: float, height: float, colour: str
) -> None:
    look: dict[str, Any] = {"fc": colour, "ec": colour, "alpha": 0.3, "lw": 0}
    style = "round,pad=0,rounding_size=0.08"
    place = (x, y - height / 2)
    ax.add_patch(FancyBboxPatch(place, width, height, style, **look))


def _arrow(
    ax: Axes, start: tuple[float, float], end: tuple[float, float]
) -> None:
    # Arrows of annotations do not follow the ink of the page.
    look = {"arrowstyle": "-|>", "color": COLORS["grey"], "lw": 1.1}
    look |= {"shrinkA": 1, "shrinkB": 1}
    ax.annotate("", xy=end, xytext=start, arrowprops=look)


def _stages(ax: Axes) -> None:
    """To the right, down, and back to the left."""
    step, width, below = 2.6, 2.1, 1.25
    before: tuple[float, float] | None = None
    for i, text in enumerate(STAGES):
        back = i >= SIDE_BY_SIDE
        column = 2 * SIDE_BY_SIDE - 1 - i if back else i
        x, y = step * column, below if back else 0.0
        _box(ax, x, y, width, 0.8, COLORS["orange"])
        look: dict[str, Any] = {"ha": "center", "va": "center", "color": INK}
        ax.text(x + width / 2, y, text, fontsize=8.5, **look)
        if before and before[1] != y:
            middle = x + width / 2
            _arrow(ax, (middle, before[1] + 0.4), (middle, y - 0.4))
        elif before:
            ends = (before[0], x + width) if back else (before[0] + width, x)
            _arrow(ax, (ends[0], y), (ends[1], y))
        before = (x, y)


def _changes(
    layers: list[_Layer], dimensions: Mapping[str, float]
) -> dict[str, float]:
    """Each layer's dimension less that of the one before it."""
    names = [INPUT, *(layer.name for layer in layers)]
    for name in dimensions:
        if name not in names:
            raise ValueError(
                f"dimensions of '{name}', which is no layer of the network"
                f"{did_you_mean(name, names)}"
            )
    nan = math.nan
    return {
        after: dimensions.get(after, nan) - dimensions.get(before, nan)
        for before, after in pairwise(names)
    }


def _check(plan: Plan, layers: list[_Layer]) -> None:
    # Bits are drawn, not used: no quantizer has to know them.
    names = [layer.name for layer in layers]
    other = set(names) ^ set(plan.names())
    if other:
        raise PlanError(
            f"{', '.join(sorted(other))}: in the plan or in the network, not "
            f"in both; layers of the network: {', '.join(names)}"
        )


def _draw_layer(ax: Axes, layer: _Layer, y: float, bits: int | None) -> None:
    _box(ax, 0, y, 3.1, 0.78, _colour(bits))
    look: dict[str, Any] = {"va": "center", "color": INK}
    ax.text(0.12, y - 0.17, layer.name, weight="bold", fontsize=9, **look)
    ax.text(0.12, y + 0.19, layer.kind, fontsize=8, **look)
    look["fontsize"] = 9
    shape = " × ".join(map(str, layer.shape))
    ax.text(COLUMNS["returns"], y, shape, **look)
    count = f"{layer.parameters:,}"
    ax.text(COLUMNS["parameters"], y, count, ha="right", **look)
    place = COLUMNS["precision"]
    _box(ax, place, y, 0.2, 0.4, _colour(bits))
    ax.text(place + 0.32, y, _word(bits), **look)


def _draw_measured(
    ax: Axes, y: float, dimension: float, change: float, strong: bool
) -> None:
    look: dict[str, Any] = {"va": "center", "ha": "right", "color": INK}
    look |= {"fontsize": 9}
    if not math.isnan(dimension):
        ax.text(MEASURED["dimension"], y, f"{dimension:.1f}", **look)
    if not math.isnan(change):
        weight = "bold" if strong else "normal"
        text = f"{change:+.1f}"
        ax.text(MEASURED["change"], y, text, weight=weight, **look)


def _heads(ax: Axes, names: Mapping[str, float], y: float) -> None:
    for name, x in {"layer": 0.12, **names}.items():
        right = name in ("parameters", *MEASURED)
        look: dict[str, Any] = {"fontsize": 8.5, "style": "italic"}
        side = "right" if right else "left"
        ax.text(x, y, name, ha=side, va="center", color=INK, **look)


def _notes(
    ax: Axes,
    y: float,
    dimensions: Mapping[str, float],
    threshold: float | None,
) -> None:
    look: dict[str, Any] = {"fontsize": 8, "color": INK, "va": "center"}
    if INPUT in dimensions:
        text = f"dimension of the images: {dimensions[INPUT]:.1f}"
        ax.text(0.12, y, text, **look)
    if dimensions and threshold is not None:
        text = f"bold: a change by more than {threshold:g}"
        ax.text(MEASURED["change"], y, text, ha="right", **look)


def flow_figure(
    model: nn.Module,
    plan: Plan,
    dimensions: Mapping[str, float] | None = None,
    threshold: float | None = None,
    shape: tuple[int, int, int] = (3, 32, 32),
) -> Figure:
    """The stages of the method, and what the plan does to each layer.

    Args:
        model: any network of convolutions and linear layers.
        plan: bits of each layer; colours tell them apart, grey is full
            precision.
        dimensions: layer to the intrinsic dimension of its outputs, and
            ``"input"`` to that of the images; layers may be missing. Each
            layer's change is to the layer above it.
        threshold: changes of a larger magnitude are written in bold.
        shape: channels, height, width of an image.

    Raises:
        PlanError: the plan is not one of this network.
        ValueError: dimensions of a layer that the network lacks.

    After figure 3.4 of the QuantNET thesis. Introduced in chapter 6.
    """
    layers = _layers(model, shape)
    _check(plan, layers)
    measured = dimensions or {}
    changes = _changes(layers, measured)
    bottom = TOP + len(layers)
    figsize = (7.4, UNIT * (bottom + 0.7))
    fig, ax = plt.subplots(figsize=figsize)
    ax.set(xlim=(-0.02, 10.02), ylim=(bottom + 0.1, -0.6))
    ax.axis("off")
    _stages(ax)
    _heads(ax, COLUMNS | (MEASURED if measured else {}), TOP - 0.68)
    limit = math.inf if threshold is None else threshold
    for i, layer in enumerate(layers):
        y, change = TOP + i, changes[layer.name]
        _draw_layer(ax, layer, y, plan[layer.name].bits)
        dimension = measured.get(layer.name, math.nan)
        _draw_measured(ax, y, dimension, change, abs(change) > limit)
        if i:
            _arrow(ax, (1.55, y - 0.61), (1.55, y - 0.39))
    _notes(ax, bottom - 0.35, measured, threshold)
    return fig
