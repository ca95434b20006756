"""What a binary product gains over float32, timed on this machine."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lq_utils.binary_kernel import (
    BinaryError,
    binary_convolution,
    binary_linear,
    pack_filters,
    pack_patches,
    pack_signs,
)

PARTS = ("float", "binary", "packing")
Products = dict[str, Callable[[], Any]]  # part: what is timed


@dataclass(frozen=True)
class LayerShape:
    """What a product depends on but for the number of images.

    ``inputs`` are the inputs of a linear layer, (N,), or the channels,
    height and width that go into a convolution with a kernel of ``size``;
    ``stride`` and ``padding`` in pixels.

    Introduced in chapter 6.
    """

    name: str
    inputs: tuple[int, ...]
    outputs: int
    size: tuple[int, int] = (1, 1)
    stride: int = 1
    padding: int = 0

    @property
    def convolution(self) -> bool:
        return len(self.inputs) == 3


def layer_shapes(
    model: nn.Module, image_shape: tuple[int, int, int] = (3, 32, 32)
) -> dict[str, LayerShape]:
    """Name to shape of all convolutions and linear layers of a network.

    Raises BinaryError for a convolution that ``binary_convolution`` does
    not compute: groups, dilation, or different sides. ``model`` stays as
    it is. Introduced in chapter 6.
    """
    network = copy.deepcopy(model).cpu().eval()
    found: dict[str, LayerShape] = {}

    def note(name: str) -> Any:
        def hook(layer: nn.Module, x: tuple[Tensor, ...]) -> None:
            found[name] = _shape(name, layer, tuple(x[0].shape[1:]))

        return hook

    for name, layer in network.named_modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            layer.register_forward_pre_hook(note(name))
    with torch.inference_mode():
        network(torch.zeros(1, *image_shape))
    return found


def _shape(name: str, layer: nn.Module, inputs: tuple[int, ...]) -> LayerShape:
    if isinstance(layer, nn.Linear):
        return LayerShape(name, inputs, layer.out_features)
    assert isinstance(layer, nn.Conv2d)
    high, wide = layer.kernel_size
    padding: Any = layer.padding
    if padding == "same":
        padding = ((high - 1) / 2, (wide - 1) / 2)
    elif padding == "valid":
        padding = (0, 0)
    plain = layer.groups == 1 and set(layer.dilation) == {1}
    even = len(set(layer.stride)) == len(set(padding)) == 1
    if not (plain and even) or padding[0] % 1:
        raise BinaryError(
            f"layer '{name}' has groups, dilation or different strides or "
            "paddings: leave it out"
        )
    stride, edge = layer.stride[0], int(padding[0])
    return LayerShape(
        name, inputs, layer.out_channels, (high, wide), stride, edge
    )


def time_binary(
    shapes: Iterable[LayerShape],
    batch: int = 1,
    runs: int = 100,
    warm_up: int = 10,
    seed: int = 0,
) -> pd.DataFrame:
    """Milliseconds of one thread for a batch, float32 against signs.

    Args:
        shapes: the layers, such as values of :func:`layer_shapes`.
        batch: number of images.
        runs: of each product; the products take turns, so that a busy
            moment hits all of them.
        warm_up: further runs before the clock starts.
        seed: of the random signs, the same on both sides.

    Returns:
        A row a layer: ``layer``, ``batch``; medians ``float_ms`` (torch's
        product), ``binary_ms`` (of packed inputs), ``packing_ms`` (of the
        inputs; weights are packed once and for all) and the distances of
        their quartiles, ``float_iqr_ms`` and so on; ``ratio`` is float to
        binary, ``ratio_packed`` float to binary and packing together.

    Raises:
        BinaryError: counts below one, or a product that differs.

    Introduced in chapter 6.
    """
    if min(batch, runs) < 1 or warm_up < 0:
        raise BinaryError(
            f"batch {batch}, runs {runs}, warm_up {warm_up}: give positive "
            "numbers (warm_up may be 0)"
        )
    generator = torch.Generator().manual_seed(seed)
    rows = []
    with _one_thread(), torch.inference_mode():
        for shape in shapes:
            products = _products(shape, batch, generator)
            seen = _times(products, runs, warm_up)
            rows.append({"layer": shape.name, "batch": batch, **seen})
    return pd.DataFrame(rows)


@contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _signs(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.randint(0, 2, shape, generator=generator).float() * 2 - 1


def _products(
    shape: LayerShape, batch: int, generator: torch.Generator
) -> Products:
    """What is timed; both sides return the same numbers."""
    x = _signs(generator, batch, *shape.inputs)
    build = _convolution if shape.convolution else _linear
    products = build(shape, x, generator)
    if not torch.equal(products["float"]().int(), products["binary"]()):
        raise BinaryError(
            f"layer '{shape.name}': the binary product differs from torch's; "
            "sums above 2^24 are not exact in float32"
        )
    return products


def _linear(
    shape: LayerShape, x: Tensor, generator: torch.Generator
) -> Products:
    (columns,) = shape.inputs
    w = _signs(generator, shape.outputs, columns)
    inputs, weights = pack_signs(x), pack_signs(w)
    return {
        "float": lambda: F.linear(x, w),
        "binary": lambda: binary_linear(inputs, weights, columns),
        "packing": lambda: pack_signs(x),
    }


def _convolution(
    shape: LayerShape, x: Tensor, generator: torch.Generator
) -> Products:
    w = _signs(generator, shape.outputs, shape.inputs[0], *shape.size)
    way = (shape.stride, shape.padding)
    patches, filters = pack_patches(x, shape.size, *way), pack_filters(w)
    return {
        "float": lambda: F.conv2d(x, w, None, *way),
        "binary": lambda: binary_convolution(patches, filters),
        "packing": lambda: pack_patches(x, shape.size, *way),
    }


def _times(products: Products, runs: int, warm_up: int) -> dict[str, float]:
    times = np.empty((warm_up + runs, len(PARTS)))
    for row in times:
        for i, part in enumerate(PARTS):
            start = time.perf_counter()
            products[part]()
            row[i] = 1e3 * (time.perf_counter() - start)
    low, median, high = np.percentile(times[warm_up:], [25, 50, 75], axis=0)
    seen = {f"{p}_ms": float(median[i]) for i, p in enumerate(PARTS)}
    seen |= {f"{p}_iqr_ms": high[i] - low[i] for i, p in enumerate(PARTS)}
    binary, packing = seen["binary_ms"], seen["packing_ms"]
    seen["ratio"] = seen["float_ms"] / binary
    seen["ratio_packed"] = seen["float_ms"] / (binary + packing)
    return seen
