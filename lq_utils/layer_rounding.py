"""One layer in few bits, all others as they are.

What a layer's weights become at each number of bits, and what the network
then answers. A pass over the images stops at every layer and goes on from
there with each of its quantized weights: nothing before it is run again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, fx, nn

from lq_utils.data_free import NEAREST
from lq_utils.grams import GramCollector, Statistics
from lq_utils.graph import layer_of, set_weight_matrix, weight_matrix
from lq_utils.plan_rows import LayerPlan
from lq_utils.plans import Plan
from lq_utils.scales import OUTPUT_RULE, fit_grid, split_options
from lq_utils.solvers import solve_layer

# What a layer's weight [K, N] becomes, by layer and bits.
Candidates = dict[tuple[str, int], Tensor]

# Squared error of the weights; a search half as fine as the rule's own.
DATA_FREE_RULE, DATA_FREE_OPTIONS = "mse", {"shrinks": 24}


def data_free_row(row: LayerPlan, rule: str = DATA_FREE_RULE) -> LayerPlan:
    """The row without what needs images: rounded to nearest.

    ``rule`` takes the place of the scale rule "output". Options that
    neither rounding nor the rule has are dropped. Introduced in
    chapter 9.
    """
    rule = rule if row.scale == OUTPUT_RULE else row.scale
    options = split_options(rule, dict(row.options))[0]
    return replace(
        row,
        scale=rule,
        solver=NEAREST,
        polish=0,
        options=tuple(options.items()),
    )


def quantized_rows(plan: Plan, bits: Sequence[int]) -> Iterator[LayerPlan]:
    """Rows of the plan's layers at each of ``bits``.

    Layers with blank bits stay in full precision and have none.
    Introduced in chapter 9.
    """
    for row in plan:
        if row.bits is not None:
            yield from (replace(row, bits=b) for b in bits)


def nearest_weights(
    network: nn.Module, plan: Plan, bits: Sequence[int]
) -> Candidates:
    """Weights float32 ``[K, N]`` rounded to nearest, by layer and bits.

    Grids are those of the plan's rows, without images: see
    :func:`data_free_row`. Raises GridError for bits that a quantizer
    does not take. Introduced in chapter 9.
    """
    found: Candidates = {}
    for row in quantized_rows(plan, bits):
        free, letters = data_free_row(row), row.alphabet()
        assert letters is not None and row.bits is not None
        weight = weight_matrix(layer_of(network, row.layer))
        options = dict(free.options)
        if row.scale == OUTPUT_RULE:
            options = DATA_FREE_OPTIONS
        grid = fit_grid(
            weight, letters, free.granularity, free.scale, **options
        )
        found[row.layer, row.bits] = grid.round(weight)
    return found


@torch.no_grad()
def input_statistics(
    network: nn.Module,
    layers: Sequence[str],
    images: Tensor,
    batch_size: int = 64,
) -> dict[str, Statistics]:
    """Gram matrices of what each layer reads, in one pass.

    ``images`` are float32 ``[M, 3, H, W]``; nothing is quantized, so
    there is no drift. Introduced in chapter 9.
    """
    found = {
        name: GramCollector(layer_of(network, name), 1.0, torch.Generator())
        for name in layers
    }

    def collect(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            # A copy: what follows may work in place.
            x = inputs[0].clone()
            found[name].add(x, x)

        return hook

    handles = [
        layer_of(network, name).register_forward_pre_hook(collect(name))
        for name in layers
    ]
    try:
        for batch in images.split(batch_size):
            network(batch)
    finally:
        for handle in handles:
            handle.remove()
    return {name: each.statistics() for name, each in found.items()}


@torch.no_grad()
def solved_weights(
    network: nn.Module,
    plan: Plan,
    bits: Sequence[int],
    statistics: Mapping[str, Statistics],
) -> Candidates:
    """Weights float32 ``[K, N]`` as the plan's own solvers choose them.

    Each layer by itself: its inputs, in ``statistics``, are those of the
    network in full precision. Raises as ``solve_layer``. Introduced in
    chapter 9.
    """
    found: Candidates = {}
    for row in quantized_rows(plan, bits):
        assert row.bits is not None
        weight = weight_matrix(layer_of(network, row.layer))
        solved = solve_layer(weight, statistics[row.layer], row)[1]
        found[row.layer, row.bits] = solved
    return found


@torch.no_grad()
def joint_logits(
    network: nn.Module,
    images: Tensor,
    weights: Mapping[str, Tensor],
    batch_size: int = 64,
) -> Tensor:
    """Logits float32 ``[M, C]`` with several layers replaced at once.

    ``weights`` are ``[K, N]`` by layer; the network's own are put back.
    Introduced in chapter 9.
    """
    modules = {name: layer_of(network, name) for name in weights}
    kept = {name: weight_matrix(m).clone() for name, m in modules.items()}
    try:
        for name, weight in weights.items():
            set_weight_matrix(modules[name], weight)
        parts = [network(batch) for batch in images.split(batch_size)]
    finally:
        for name, weight in kept.items():
            set_weight_matrix(modules[name], weight)
    return torch.cat(parts)


def _clones(values: Mapping[fx.Node, Any]) -> dict[fx.Node, Any]:
    return {
        node: value.clone() if isinstance(value, Tensor) else value
        for node, value in values.items()
    }


class _Stops(fx.Interpreter):
    """Runs a network; at every layer, also the rest with other weights."""

    def __init__(self, network: fx.GraphModule, others: Candidates) -> None:
        super().__init__(network)
        self.others, self.past = others, dict[fx.Node, Any]()
        self.found: Candidates = {}

    def run_node(self, n: fx.Node) -> Any:
        if n.op == "call_module":
            for key, weight in self.others.items():
                if key[0] == n.target:
                    self.found[key] = self._rest(str(n.target), weight)
        self.past[n] = None
        return super().run_node(n)

    def _rest(self, layer: str, weight: Tensor) -> Tensor:
        module = layer_of(self.module, layer)
        original = weight_matrix(module).clone()
        # Values nobody reads any more are None: they are not run again.
        known = self.past | _clones(self.env)
        set_weight_matrix(module, weight)
        try:
            rest = fx.Interpreter(self.module)
            output: Tensor = rest.run(initial_env=known)
        finally:
            set_weight_matrix(module, original)
        return output


@torch.no_grad()
def single_layer_logits(
    network: fx.GraphModule,
    images: Tensor,
    candidates: Candidates,
    batch_size: int = 64,
) -> Candidates:
    """Logits float32 ``[M, C]`` with one layer replaced, by layer and bits.

    ``network`` is traced; its weights are put back. ``images`` are
    float32 ``[M, 3, H, W]``. Introduced in chapter 9.
    """
    parts: dict[tuple[str, int], list[Tensor]] = {k: [] for k in candidates}
    for batch in images.split(batch_size):
        stops = _Stops(network, candidates)
        stops.run(batch)
        for key, logits in stops.found.items():
            parts[key].append(logits)
    return {key: torch.cat(found) for key, found in parts.items()}
