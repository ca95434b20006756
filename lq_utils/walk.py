"""The walk of lockstep calibration through the graph of a network."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, fx, nn
from tqdm import tqdm

from lq_utils.activations import Batches, Stream
from lq_utils.grams import GramCollector, Statistics
from lq_utils.graph import (
    layer_of,
    layer_table,
    set_weight_matrix,
    weight_matrix,
)
from lq_utils.grids import Grid, alphabet
from lq_utils.output_gap import OutputGap
from lq_utils.solvers import dead_columns, solve_layer
from lq_utils.wide import cheaper_on_patches, solve_on_patches

if TYPE_CHECKING:
    from lq_utils.plans import Plan

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)


@dataclass
class Options:
    """What a calibration does besides the plan; see :func:`quantize`.

    Introduced in chapter 3.
    """

    bias_correction: bool
    reestimate_batch_norm: bool
    patch_fraction: float
    generator: torch.Generator


@dataclass
class Row:
    """What the walk did to one layer, and how long it took.

    Introduced in chapter 3.
    """

    layer: str
    bits: int
    levels: int
    relative_error: float = 0.0
    dead_columns: int = 0
    forward_s: float = 0.0
    gram_s: float = 0.0
    solve_s: float = 0.0


@dataclass
class Walk:
    """State of one calibration.

    Introduced in chapter 3.
    """

    original: fx.GraphModule
    plan: Plan
    options: Options
    batches: Batches
    progress: bool
    rows: list[Row] = field(default_factory=list)
    grids: dict[str, Grid] = field(default_factory=dict)
    forward_s: float = 0.0

    def __post_init__(self) -> None:
        self.quantized = copy.deepcopy(self.original)
        self.plans = {
            layer.layer: layer
            for layer in self.plan.layers
            if layer.bits is not None
        }

    def run(self, images: tuple[Tensor, ...]) -> None:
        """Walk the graph; results stand in the fields afterwards."""
        streams: dict[fx.Node, Stream] = {}
        users = {n: len(n.users) for n in self.original.graph.nodes}
        total = len(layer_table(self.original))
        with tqdm(total=total, disable=not self.progress) as bar:
            for node in self.original.graph.nodes:
                if node.op == "output":
                    break
                streams[node] = self._step(node, streams, users, images)
                if node.op == "call_module" and node.target in self.plans:
                    bar.update()

    def _step(
        self,
        node: fx.Node,
        streams: dict[fx.Node, Stream],
        users: dict[fx.Node, int],
        images: tuple[Tensor, ...],
    ) -> Stream:
        if node.op == "placeholder":
            return Stream.shared(list(images))
        for source in node.all_input_nodes:
            users[source] -= 1
        last = {n for n in node.all_input_nodes if users[n] == 0}
        if node.op == "call_module" and node.target in self.plans:
            self._quantize_layer(node, streams[node.all_input_nodes[0]])
        elif self._is_batch_norm(node):
            self._reestimate(node, streams[node.all_input_nodes[0]])
        with self._timed_forward():
            stream = self._forward(node, streams, last, len(images))
        for source in last:
            del streams[source]
        if node.op == "call_module" and node.target in self.plans:
            self._finish_layer(node, stream)
        return stream

    @contextmanager
    def _timed_forward(self) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.forward_s += time.perf_counter() - started

    def _forward(
        self,
        node: fx.Node,
        streams: dict[fx.Node, Stream],
        last: set[fx.Node],
        count: int,
    ) -> Stream:
        """Run one node on every batch of both networks.

        Batches whose last reader this node is are given up one by one.
        """
        inputs = {n: streams[n] for n in node.all_input_nodes}
        same = all(s.is_shared for s in inputs.values())
        same = same and node.target not in self.grids
        original = _operation(self.original, node)
        quantized = _operation(self.quantized, node)
        outputs: list[Any] = []
        others: list[Any] = []
        for k in range(count):
            got = {n: s.original[k] for n, s in inputs.items()}
            seen = {n: s.quantized[k] for n, s in inputs.items()}
            for n in last:
                inputs[n].release(k)
            outputs.append(self.batches.keep(original(got)))
            del got
            if not same:
                others.append(self.batches.keep(quantized(seen)))
            del seen
        if same:
            return Stream.shared(outputs)
        return Stream(outputs, others)

    def _quantize_layer(self, node: fx.Node, stream: Stream) -> None:
        name = str(node.target)
        module = layer_of(self.quantized, name)
        layer = self.plans[name]
        a = alphabet(layer.quantizer, layer.bits or 0)
        row = Row(name, layer.bits or 0, a.count)
        whole = self.options.patch_fraction == 1
        if whole and cheaper_on_patches(module, layer, stream.quantized):
            started = time.perf_counter()
            grid, weight, row.dead_columns = solve_on_patches(
                module, layer, stream.quantized, stream.original
            )
        else:
            started = time.perf_counter()
            statistics = self._statistics(module, stream)
            row.gram_s = time.perf_counter() - started
            started = time.perf_counter()
            row.dead_columns = dead_columns(statistics)
            original = weight_matrix(module)
            grid, weight = solve_layer(original, statistics, layer)
        row.solve_s = time.perf_counter() - started
        set_weight_matrix(module, weight)
        self.grids[name] = grid
        self.rows.append(row)

    def _statistics(self, module: nn.Module, stream: Stream) -> Statistics:
        collector = GramCollector(
            module, self.options.patch_fraction, self.options.generator
        )
        for x, analog in zip(stream.quantized, stream.original):
            collector.add(x, analog)
        return collector.statistics()

    def _finish_layer(self, node: fx.Node, stream: Stream) -> None:
        """Measure the layer's output error; correct its bias if asked."""
        gap = OutputGap(
            layer_of(self.original, node.target),
            layer_of(self.quantized, node.target),
        )
        for y, seen in zip(stream.original, stream.quantized):
            gap.add(y, seen)
        row = self.rows[-1]
        row.relative_error = gap.relative_error()
        row.forward_s, self.forward_s = self.forward_s, 0.0
        if self.options.bias_correction:
            added = gap.correct_bias()
            dim = 1 if isinstance(gap.original, nn.Conv2d) else -1
            for seen in stream.quantized:
                seen.movedim(dim, -1).add_(added)

    def _is_batch_norm(self, node: fx.Node) -> bool:
        return (
            self.options.reestimate_batch_norm
            and node.op == "call_module"
            and isinstance(
                self.quantized.get_submodule(str(node.target)), BATCH_NORMS
            )
        )

    def _reestimate(self, node: fx.Node, stream: Stream) -> None:
        """Mean and variance of the quantized network's own activations."""
        if stream.is_shared:
            return
        module = self.quantized.get_submodule(str(node.target))
        assert isinstance(module, BATCH_NORMS)
        batches = stream.quantized
        count = sum(x.numel() for x in batches) // batches[0].shape[1]
        total = sum(_channel_sum(x).double() for x in batches)
        mean = (total / count).to(batches[0])
        square = sum(
            _channel_sum((x.movedim(1, -1) - mean).movedim(-1, 1).square())
            for x in batches
        )
        if module.running_mean is None or module.running_var is None:
            return  # it uses the statistics of every batch anyway
        module.running_mean.copy_(mean)
        module.running_var.copy_(square / max(count - 1, 1))


def _operation(
    traced: fx.GraphModule, node: fx.Node
) -> Callable[[dict[fx.Node, Any]], Any]:
    """The node as a function of the values of its input nodes."""

    def run(values: dict[fx.Node, Any]) -> Any:
        args, kwargs = fx.node.map_arg(
            (node.args, node.kwargs), values.__getitem__
        )
        if node.op == "call_module":
            return traced.get_submodule(str(node.target))(*args, **kwargs)
        if node.op == "call_function":
            assert callable(node.target)
            return node.target(*args, **kwargs)
        if node.op == "call_method":
            return getattr(args[0], str(node.target))(*args[1:], **kwargs)
        value: Any = traced
        for part in str(node.target).split("."):
            value = getattr(value, part)
        return value

    return run


def _channel_sum(x: Tensor) -> Tensor:
    return x.transpose(0, 1).flatten(1).sum(dim=1)
