"""A block in the original and in the quantized network, side by side."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, fx, nn

from lq_utils.adaround import ReconstructionError
from lq_utils.blocks import Block, extract
from lq_utils.grams import GramCollector, Statistics
from lq_utils.graph import layer_of
from lq_utils.output_gap import OutputGap

FORWARD_BATCH = 64  # images that pass a block together


class Values:
    """What one node returned for all images, in batches.

    ``parts`` are the batches, views of ``whole`` (``[images, ...]``);
    ``whole`` is None where the node does not return one row an image.

    Introduced in chapter 3.
    """

    def __init__(self, images: int) -> None:
        self.images = images
        self.parts: list[Any] = []
        self.whole: Tensor | None = None

    @classmethod
    def of(cls, whole: Tensor) -> Values:
        """A tensor cut into batches."""
        values = cls(len(whole))
        values.whole = whole
        values.parts = list(whole.split(FORWARD_BATCH))
        return values

    def append(self, value: Any) -> None:
        """Add the next batch."""
        start = FORWARD_BATCH * len(self.parts)
        size = min(FORWARD_BATCH, self.images - start)
        rows = isinstance(value, Tensor) and value.shape[:1] == (size,)
        if rows and not start:
            self.whole = _room(value, self.images)
        if not rows or self.whole is None:
            self.whole = None
            self.parts.append(value)
            return
        part = self.whole[start : start + size]
        self.parts.append(part.copy_(value))

    def copy(self, k: int) -> Any:
        """Batch ``k``, safe from modules that work in place."""
        value = self.parts[k]
        return value.clone() if isinstance(value, Tensor) else value


def _room(value: Tensor, images: int) -> Tensor:
    """An empty ``[images, ...]`` with the memory format of a batch."""
    layout = torch.contiguous_format
    # Convolutions would have to turn every batch of another format.
    if value.ndim == 4 and value.stride(1) == 1:
        layout = torch.channels_last
    return torch.empty(
        (images, *value.shape[1:]),
        dtype=value.dtype,
        device=value.device,
        memory_format=layout,
    )


def run_batches(network: Callable[..., Any], inputs: list[Values]) -> Values:
    """Outputs of a network for all batches.

    Introduced in chapter 3.
    """
    outputs = Values(inputs[0].images)
    for k in range(len(inputs[0].parts)):
        outputs.append(network(*[value.copy(k) for value in inputs]))
    return outputs


class Pair:
    """A block of two networks, and its layers that are to be quantized.

    Introduced in chapter 3.
    """

    def __init__(
        self,
        block: Block,
        original: fx.GraphModule,
        quantized: fx.GraphModule,
        layers: Iterable[str],
    ) -> None:
        self.name = block.name
        self.layers = tuple(layers)
        self.original = extract(original, block)
        self.quantized = extract(quantized, block)

    def check(self, values: list[Values]) -> None:
        """Raise ReconstructionError for anything but a row an image."""
        if len(values) != 1 or values[0].whole is None:
            raise ReconstructionError(
                f"block '{self.name}' must read and return one tensor "
                "each, with a row an image; keep its layers "
                f"({', '.join(self.layers)}) in full precision (bits=None)"
            )

    def statistics(
        self, analog: Values, source: Values
    ) -> tuple[Values, dict[str, Statistics], dict[str, float]]:
        """Outputs of the original block; statistics of every layer's
        inputs, and the seconds that their Gram matrices took.
        """
        inputs: dict[str, Tensor] = {}
        seconds = dict.fromkeys(self.layers, 0.0)
        collectors = {
            name: GramCollector(
                self.quantized.get_submodule(name), 1.0, torch.Generator()
            )
            for name in self.layers
        }

        def remember(name: str, x: Tensor) -> None:
            inputs[name] = x.clone()

        def collect(name: str, x: Tensor) -> None:
            started = time.perf_counter()
            seen = inputs.pop(name)
            collectors[name].add(x, x if analog is source else seen)
            seconds[name] += time.perf_counter() - started

        target = Values(analog.images)
        with (
            _watching(self.original, self.layers, remember, inputs=True),
            _watching(self.quantized, self.layers, collect, inputs=True),
        ):
            for k in range(len(analog.parts)):
                target.append(self.original(analog.copy(k)))
                self.quantized(source.copy(k))
        found = {name: c.statistics() for name, c in collectors.items()}
        return target, found, seconds

    def output_gaps(
        self, analog: Values, source: Values, layers: Iterable[str]
    ) -> dict[str, OutputGap]:
        """How far the outputs of ``layers`` are from the original ones."""
        layers = tuple(layers)
        outputs: dict[str, Tensor] = {}
        gaps = {
            name: OutputGap(
                layer_of(self.original, name),
                layer_of(self.quantized, name),
            )
            for name in layers
        }

        def remember(name: str, y: Tensor) -> None:
            outputs[name] = y.clone()

        def compare(name: str, y: Tensor) -> None:
            gaps[name].add(outputs.pop(name), y)

        with (
            _watching(self.original, layers, remember, inputs=False),
            _watching(self.quantized, layers, compare, inputs=False),
        ):
            for k in range(len(analog.parts)):
                self.original(analog.copy(k))
                self.quantized(source.copy(k))
        return gaps


@contextmanager
def _watching(
    network: nn.Module,
    layers: Iterable[str],
    see: Callable[[str, Tensor], None],
    *,
    inputs: bool,
) -> Iterator[None]:
    """Call ``see(layer, its input or output)`` in every forward pass."""

    def before(name: str) -> Callable[..., None]:
        return lambda module, args: see(name, args[0])

    def after(name: str) -> Callable[..., None]:
        return lambda module, args, output: see(name, output)

    with ExitStack() as stack:
        for name in layers:
            module = network.get_submodule(name)
            if inputs:
                handle = module.register_forward_pre_hook(before(name))
            else:
                handle = module.register_forward_hook(after(name))
            stack.callback(handle.remove)
        yield
