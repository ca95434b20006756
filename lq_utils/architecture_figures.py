"""What goes into a network and what it is made of, drawn from the objects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor, nn

from lq_utils.figures import COLORS, INK
from lq_utils.images import Splits
from lq_utils.stacks import strip

GAP = 2  # pixels between images
SHAPE = (3, 32, 32)


@dataclass
class _Step:
    """A layer and what follows it, with the shape behind each."""

    name: str
    text: str
    parameters: int
    shape: tuple[int, ...]
    then: list[str] = field(default_factory=list)
    shape_then: tuple[int, ...] = ()


def _description(module: nn.Module) -> str:
    if isinstance(module, nn.Conv2d):
        side = "×".join(map(str, module.kernel_size))
        return f"{side} convolution, {module.out_channels} filters"
    if isinstance(module, nn.Linear):
        units = "unit" if module.out_features == 1 else "units"
        return f"fully connected, {module.out_features} {units}"
    if isinstance(module, nn.MaxPool2d):
        return f"{module.kernel_size}×{module.kernel_size} max pooling"
    if isinstance(module, nn.Dropout):
        return f"dropout {module.p:g}"
    return type(module).__name__


def _steps(model: nn.Module, shape: tuple[int, ...]) -> list[_Step]:
    """Layers with parameters in the order of a zero image's way."""
    network = strip(model).cpu().eval()
    steps = [_Step("input", "image", 0, shape)]

    def note(name: str) -> Any:
        def hook(module: nn.Module, x: tuple[Tensor, ...], y: Tensor) -> None:
            count = sum(p.numel() for p in module.parameters())
            text, found = _description(module), tuple(y.shape[1:])
            if count:
                steps.append(_Step(name, text, count, found))
            else:
                steps[-1].then.append(text)
                steps[-1].shape_then = found

        return hook

    for name, module in network.named_modules():
        if not list(module.children()):
            module.register_forward_hook(note(name))
    with torch.inference_mode():
        network(torch.zeros(1, *shape))
    return steps


def _shape_text(shape: tuple[int, ...]) -> str:
    return " × ".join(map(str, shape))


def _draw_step(ax: Axes, step: _Step, y: float, total: int) -> None:
    colour = "grey" if not step.parameters else "blue"
    if "convolution" in step.text:
        colour = "green"
    box = Rectangle((0, y - 0.32), 4.9, 0.64, fc=COLORS[colour], alpha=0.25)
    ax.add_patch(box)
    high, low = (y - 0.13, y + 0.15) if step.then else (y, y)
    look: dict[str, Any] = {"va": "center", "color": INK}
    ax.text(0.12, high, step.name, weight="bold", fontsize=9.5, **look)
    ax.text(1.2, high, step.text, fontsize=9.5, **look)
    ax.text(5.2, high, _shape_text(step.shape), fontsize=9.5, **look)
    if step.then:
        ax.text(1.2, low, ", ".join(step.then), fontsize=8, **look)
    if step.then and step.shape_then != step.shape:
        ax.text(5.2, low, _shape_text(step.shape_then), fontsize=8, **look)
    if step.parameters:
        share = step.parameters / total
        text = f"{step.parameters:,}"
        ax.text(7.9, y, text, ha="right", fontsize=9.5, **look)
        width = 1.3 * share
        ax.add_patch(Rectangle((8.05, y - 0.2), width, 0.4, fc=COLORS[colour]))
        percent = f"{share:.1%}" if share >= 0.001 else "< 0.1%"
        ax.text(8.12 + width, y, percent, fontsize=8, **look)


def architecture_figure(
    model: nn.Module, shape: tuple[int, int, int] = SHAPE
) -> Figure:
    """The layers of a plain chain, what they return, their parameters.

    All of it is read from the modules, on the way of one zero image of
    ``shape`` (channels, height, width). A box is a layer with parameters
    and what follows it, in small; the bar is its share of all
    parameters. What is no module (a flatten) is not drawn, nor are
    shortcuts.

    Raises ValueError for a network without parameters. After figure 3.1
    of the QuantNET thesis. Introduced in chapter 4.
    """
    steps = _steps(model, shape)
    total = sum(step.parameters for step in steps)
    if not total:
        raise ValueError("the network has no layer with parameters to draw")
    fig, ax = plt.subplots(figsize=(7, 0.55 * len(steps) + 0.5))
    ax.set(xlim=(0, 10), ylim=(len(steps) - 0.5, -0.85))
    ax.axis("off")
    heads = {0.12: "layer", 5.2: "returns", 7.0: f"{total:,} parameters"}
    for x, text in heads.items():
        ax.text(x, -0.6, text, fontsize=9, style="italic", color=INK)
    for y, step in enumerate(steps):
        _draw_step(ax, step, y, total)
        if y:
            # Arrows of annotations do not follow the ink of the page.
            arrow = {"arrowstyle": "-|>", "color": COLORS["grey"], "lw": 1}
            start, end = (0.6, y - 0.7), (0.6, y - 0.3)
            ax.annotate("", xy=end, xytext=start, arrowprops=arrow)
    return fig


def _strip_of(images: np.ndarray) -> np.ndarray:
    """RGBA of uint8 ``[n, H, W, 3]`` side by side, the gaps clear."""
    n, height, width, _ = images.shape
    strip_ = np.zeros((height, n * (width + GAP) - GAP, 4), dtype=np.uint8)
    for i, image in enumerate(images):
        left = i * (width + GAP)
        strip_[:, left : left + width, :3] = image
        strip_[:, left : left + width, 3] = 255
    return strip_


def samples_figure(
    splits: Mapping[str, Splits], count: int = 6, seed: int = 0
) -> Figure:
    """Training images of every class of each task, ``count`` a class.

    ``splits`` maps the name of a task to its data; images are drawn at
    random by ``seed``, the same for tasks of the same images. Two classes
    stand side by side.

    Raises DataError where a class has fewer than ``count`` images, as
    ``ImageData.per_class``. After figure 4.1 of the QuantNET thesis.
    Introduced in chapter 4.
    """
    rows: list[list[tuple[str, np.ndarray]]] = []
    for task, parts in splits.items():
        drawn = parts.train.per_class(count, seed)
        panels = [
            (f"{task}: {name}", drawn.images[drawn.labels == k])
            for k, name in enumerate(drawn.class_names)
        ]
        rows += [panels[i : i + 2] for i in range(0, len(panels), 2)]
    height = 3.3 / count + 0.35
    fig, axes = plt.subplots(
        len(rows), 2, figsize=(7, len(rows) * height), squeeze=False
    )
    for line, panels in zip(axes, rows):
        for ax in line:
            ax.axis("off")
        for ax, (title, images) in zip(line, panels):
            ax.imshow(_strip_of(images))
            ax.set_title(title, fontsize=9.5, weight="normal")
    return fig
