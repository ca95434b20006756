"""Quantizers put before the layers of a network, by rules a file can hold.

A quantizer of signed levels behind a ReLU would see no sign: with one bit
its output is constant. The ReLU that feeds a layer is therefore replaced
by the quantizer, unless a rule says otherwise.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping
from dataclasses import astuple, dataclass
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional as F

from lq_utils.activation_quantization import RELUS
from lq_utils.graph import LAYER_TYPES
from lq_utils.low_bit_activations import SignedActivation, signed_activations
from lq_utils.parametrizations import CompressionError
from lq_utils.registry import did_you_mean

PLACES = ("relu", "pool", "after relu")

POOLS = (nn.MaxPool2d, nn.AdaptiveMaxPool2d)
POOL_CALLS = (F.max_pool2d, torch.max_pool2d, F.adaptive_max_pool2d)
# Between a ReLU and a layer; what neither mixes values nor adds others.
PASSING = (*POOLS, nn.Dropout, nn.Dropout2d, nn.Flatten, nn.Identity)
PASSING_CALLS = (
    *POOL_CALLS,
    torch.flatten,
    torch.reshape,
    F.dropout,
    "flatten",
    "reshape",
    "view",
    "contiguous",
)
SIGNED = (*LAYER_TYPES, nn.BatchNorm2d, nn.BatchNorm1d, nn.LayerNorm)


@dataclass(frozen=True)
class InputRule:
    """How the input of one layer is quantized, and where.

    ``bits``, ``clip`` and ``scale`` are those of ``SignedActivation``.
    ``place`` is ``"relu"``: instead of the ReLU that feeds the layer;
    ``"pool"``: the same, but behind a max-pooling that follows the ReLU
    (the same outputs, as both are monotonic, but gradients go to the
    largest value of a window, not to the first of equal ones); or ``"after
    relu"``: behind the ReLU, the literal reading of the thesis. Where no
    ReLU feeds the layer all three mean its input.

    Raises CompressionError for a place or values that do not exist.
    Introduced in chapter 6.
    """

    bits: int
    clip: float = 1.0
    scale: bool = False
    place: str = "relu"

    def __post_init__(self) -> None:
        if self.place not in PLACES:
            raise CompressionError(
                f"place={self.place!r}: choose one of {PLACES}"
            )
        self.module("")

    def module(self, layer: str) -> SignedActivation:
        """A new quantizer for the input of ``layer``."""
        made = SignedActivation(self.bits, self.clip, self.scale)
        made.layer, made.place = layer, self.place
        return made


def insert_quantizers(
    graph: fx.GraphModule, rules: Mapping[str, InputRule]
) -> None:
    """Quantize the inputs of these layers, in place.

    Nodes between a ReLU and a layer are copied, so that other readers of
    the ReLU see what they saw. Raises CompressionError for a layer that
    is not in the network, is quantized already, or whose input is known
    to have no sign but comes from no ReLU (an average pooling behind one).

    Source: QuantNET thesis, section 3.3. Introduced in chapter 6.
    """
    nodes = layer_nodes(graph)
    present = input_rules(graph)
    for name in rules:
        if name not in nodes:
            raise CompressionError(
                f"no layer '{name}'{did_you_mean(name, nodes)} (layers: "
                f"{', '.join(nodes)})"
            )
        if name in present:
            raise CompressionError(
                f"the input of {name} is quantized already: start from a "
                "network without quantized activations"
            )
    # In the order of execution, so that the names of nodes depend on it only.
    for name in [name for name in nodes if name in rules]:
        _insert(graph, name, nodes[name], rules[name])
    graph.graph.eliminate_dead_code()
    graph.graph.lint()
    graph.recompile()


def input_rules(network: nn.Module) -> dict[str, InputRule]:
    """The rules that the network's inputs are quantized by, by layer.

    Introduced in chapter 6.
    """
    return {
        m.layer: InputRule(m.bits, m.clip, m.scale, m.place)
        for m in signed_activations(network).values()
        if m.layer
    }


def rules_to_plain(rules: Mapping[str, InputRule]) -> dict[str, list[Any]]:
    """Rules as values that JSON can hold, by layer.

    Introduced in chapter 6.
    """
    return {name: list(astuple(rule)) for name, rule in rules.items()}


def rules_from_plain(records: Mapping[str, list[Any]]) -> dict[str, InputRule]:
    """The inverse of :func:`rules_to_plain`.

    Raises CompressionError for what is no such record or rule.
    Introduced in chapter 6.
    """
    found = {}
    for name, record in records.items():
        kinds = [type(value) for value in record]
        if kinds != [int, float, bool, str]:
            raise CompressionError(
                f"{name}: a rule of inputs is bits, clip, scale, place, not "
                f"{record!r}; store the network again"
            )
        found[name] = InputRule(*record)
    return found


def layer_nodes(graph: fx.GraphModule) -> dict[str, fx.Node]:
    """Calls of convolutions and linear layers, in execution order.

    Introduced in chapter 6.
    """
    return {
        str(node.target): node
        for node in graph.graph.nodes
        if node.op == "call_module"
        and isinstance(graph.get_submodule(str(node.target)), LAYER_TYPES)
    }


def reads_image(graph: fx.GraphModule, layer: str) -> bool:
    """Whether a layer's input is the image itself.

    Introduced in chapter 6.
    """
    source, _ = _path(graph, layer_nodes(graph)[layer])
    return source.op == "placeholder"


def _insert(
    graph: fx.GraphModule, name: str, layer: fx.Node, rule: InputRule
) -> None:
    source, path = _path(graph, layer)
    start, behind = source, 0
    if _is(graph, source, (nn.ReLU, nn.ReLU6), (*RELUS, F.relu6)):
        if rule.place != "after relu":
            (start,) = source.all_input_nodes
        if rule.place == "pool":
            behind = _last_pool(graph, path)
    elif rule.place != "after relu" and not _has_sign(graph, source):
        raise CompressionError(
            f"the input of {name} comes from '{source.name}', behind which "
            "one bit may be constant: leave the layer in full precision, or "
            "take keep_relu=True to quantize there all the same"
        )
    else:
        path = []
    new = f"{name.replace('.', '_')}_input"
    graph.add_submodule(new, rule.module(name))
    value = start
    with graph.graph.inserting_before(layer):
        for index in range(len(path) + 1):
            if index == behind:
                value = graph.graph.call_module(new, (value,))
            if index < len(path):
                value = _copied(graph, path[index], value)
    layer.replace_input_with(layer.all_input_nodes[0], value)


def _copied(graph: fx.GraphModule, node: fx.Node, value: fx.Node) -> fx.Node:
    old = node.all_input_nodes[0]
    return graph.graph.node_copy(
        node, lambda read: value if read is old else read
    )


def _path(
    graph: fx.GraphModule, layer: fx.Node
) -> tuple[fx.Node, list[fx.Node]]:
    """What feeds a layer, and the nodes that its values pass, in order."""
    path: list[fx.Node] = []
    node = layer.all_input_nodes[0]
    while _is(graph, node, PASSING, PASSING_CALLS):
        path.insert(0, node)
        node = node.all_input_nodes[0]
    return node, path


def _last_pool(graph: fx.GraphModule, path: list[fx.Node]) -> int:
    pools = [
        index
        for index, node in enumerate(path)
        if _is(graph, node, POOLS, POOL_CALLS)
    ]
    return pools[-1] + 1 if pools else 0


def _is(
    graph: fx.GraphModule,
    node: fx.Node,
    kinds: tuple[type[nn.Module], ...],
    calls: tuple[Any, ...],
) -> bool:
    if node.op == "call_module":
        return isinstance(graph.get_submodule(str(node.target)), kinds)
    return node.op in ("call_function", "call_method") and (
        node.target in calls
    )


def _has_sign(graph: fx.GraphModule, node: fx.Node) -> bool:
    sums = (operator.add, operator.sub, torch.add)
    return node.op == "placeholder" or _is(graph, node, SIGNED, sums)
