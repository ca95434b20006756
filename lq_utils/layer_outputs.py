"""Outputs of a network's layers for many images, kept as arrays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lq_utils.images import ImageData
from lq_utils.inference import to_input
from lq_utils.registry import did_you_mean

INPUT = "input"
BATCH = 250


class LayerOutputError(ValueError):
    """Outputs that are asked for do not exist.

    Introduced in chapter 5.
    """


def _keeper(into: list[Tensor], rectified: bool) -> Callable[..., None]:
    def keep(module: nn.Module, inputs: Any, output: Tensor) -> None:
        # A copy: a ReLU in place would change what is kept.
        into.append(output.clamp(min=0) if rectified else output.clone())

    return keep


def _check(model: nn.Module, layers: Sequence[str], images: int) -> None:
    if not images:
        raise LayerOutputError("there are no images: give a few")
    if not layers or len(set(layers)) != len(layers):
        raise LayerOutputError("name layers, each of them once")
    known = [name for name, _ in model.named_modules() if name]
    for name in layers:
        if name not in known:
            raise LayerOutputError(
                f"the network has no layer '{name}'{did_you_mean(name, known)}"
                f" (layers: {', '.join(known)})"
            )


@torch.inference_mode()
def layer_outputs(
    model: nn.Module,
    data: ImageData,
    layers: Sequence[str],
    *,
    rectified: bool = True,
) -> dict[str, np.ndarray]:
    """What the layers return for every image, float32 ``[N, C, H, W]`` or
    ``[N, D]``, by name; ``"input"`` comes first and are the pixels.

    Args:
        model: evaluated as in a test, without dropout; it is not changed.
        data: images; they are not shuffled.
        layers: names of modules, in the order wanted.
        rectified: negative outputs become 0, as the ReLU behind a layer
            has it; false: as the layer returns them.

    Raises LayerOutputError for no images, no layer, an unknown one, or
    one that is not called once.

    Introduced in chapter 5.
    """
    _check(model, layers, len(data))
    kept: dict[str, list[Tensor]] = {name: [] for name in (INPUT, *layers)}
    was_training, modules = model.training, dict(model.named_modules())
    device = next(model.parameters()).device
    model.eval()
    with ExitStack() as stack:
        stack.callback(model.train, was_training)
        for name in layers:
            keep = _keeper(kept[name], rectified)
            handle = modules[name].register_forward_hook(keep)
            stack.callback(handle.remove)
        for start in range(0, len(data), BATCH):
            x = to_input(data.images[start : start + BATCH], device)
            kept[INPUT].append(x)
            model(x)
    for name, parts in kept.items():
        if sum(map(len, parts)) != len(data):
            raise LayerOutputError(f"'{name}' is not called once an image")
    # One layer at a time: its parts and the whole are never all there.
    return {
        name: torch.cat(kept.pop(name)).cpu().contiguous().numpy()
        for name in (INPUT, *layers)
    }
