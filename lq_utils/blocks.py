"""Blocks of a network: parts that one tensor enters and one tensor leaves.

Block-wise methods need places where the network can be cut in two. In a
traced graph these are the nodes after which exactly one tensor is alive:
all that follows is computed from it. A residual unit has no such place
inside, because its input waits for the addition.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from torch import fx, nn
from torch.nn.modules import activation, batchnorm, dropout

from lq_utils.graph import LAYER_TYPES, TraceError

# What acts on every value by itself belongs to the layer before it.
POINTWISE_MODULES = (activation, batchnorm, dropout)
POINTWISE_FUNCTIONS = {
    "relu",
    "relu6",
    "leaky_relu",
    "elu",
    "gelu",
    "silu",
    "mish",
    "hardswish",
    "hardtanh",
    "hardsigmoid",
    "sigmoid",
    "tanh",
    "softplus",
    "clamp",
    "dropout",
}


@dataclass(frozen=True)
class Block:
    """Nodes of a graph, run together, with the layers among them.

    ``inputs`` are the nodes outside that it reads (one, where the network
    was cut), ``output`` is the only one of its nodes that others read.

    Introduced in chapter 8.
    """

    name: str
    nodes: tuple[fx.Node, ...]
    inputs: tuple[fx.Node, ...]
    output: fx.Node
    layers: tuple[str, ...]


def residual_blocks(traced: fx.GraphModule) -> list[Block]:
    """The blocks of a network, in execution order; they cover all of it.

    Residual units; encoder sub-blocks (attention, MLP) of a transformer;
    elsewhere single layers. An inverted residual without its shortcut is
    one block too: modules of a class that forms blocks elsewhere stay
    whole. Activations belong to the block before them, poolings to the
    block after.

    Raises:
        TraceError: not one input and one output, or no layer.

    Source: Li et al. 2021 (BRECQ), section 3.2. Introduced in chapter 8.
    """
    parts = _merged(_segments(traced), traced)
    constants = _constants(traced)
    return [_block(part, part[-1], traced, constants) for part in parts]


def layer_blocks(traced: fx.GraphModule) -> list[Block]:
    """Every layer with its activation; all other nodes one by one.

    Source: Nagel et al. 2020 (AdaRound), section 3.3. Introduced in
    chapter 8.
    """
    constants = _constants(traced)
    taken = set(constants)
    blocks = []
    for node in _inner_nodes(traced):
        if node in taken:
            continue
        part = [node]
        while _is_layer(part[0], traced) and len(part[-1].users) == 1:
            following = next(iter(part[-1].users))
            if not _is_pointwise(following, traced):
                break
            part.append(following)
        taken |= set(part)
        blocks.append(_block(part, part[-1], traced, constants))
    return blocks


def extract(traced: fx.GraphModule, block: Block) -> fx.GraphModule:
    """The block as a network of its own; it shares modules with ``traced``.

    Introduced in chapter 8.
    """
    graph = fx.Graph()
    copies = {
        node: graph.placeholder(f"input_{k}")
        for k, node in enumerate(block.inputs)
    }

    def copied(node: fx.Node) -> fx.Node:
        if node not in copies:  # a constant, or a node of the block
            copies[node] = graph.node_copy(node, copied)
        return copies[node]

    for node in block.nodes:
        copied(node)
    graph.output(copied(block.output))
    return fx.GraphModule(traced, graph)


def _inner_nodes(traced: fx.GraphModule) -> list[fx.Node]:
    outside = ("placeholder", "output")
    return [n for n in traced.graph.nodes if n.op not in outside]


def _is_layer(node: fx.Node, traced: fx.GraphModule) -> bool:
    return node.op == "call_module" and isinstance(
        traced.get_submodule(str(node.target)), LAYER_TYPES
    )


def _is_pointwise(node: fx.Node, traced: fx.GraphModule) -> bool:
    if node.op == "call_module":
        module = traced.get_submodule(str(node.target))
        names = [m.__name__ for m in POINTWISE_MODULES]
        attention = isinstance(module, nn.MultiheadAttention)
        known = type(module).__module__ in names and not attention
        return known or isinstance(module, nn.Identity)
    name = getattr(node.target, "__name__", str(node.target))
    called = node.op in ("call_function", "call_method")
    return called and name.rstrip("_") in POINTWISE_FUNCTIONS


def _constants(traced: fx.GraphModule) -> set[fx.Node]:
    """Nodes that do not depend on the images: parameters, and so on."""
    constants: set[fx.Node] = set()
    for node in _inner_nodes(traced):
        fixed = all(n in constants for n in node.all_input_nodes)
        if fixed and not _is_layer(node, traced):
            constants.add(node)
    return constants


def _block(
    part: list[fx.Node],
    output: fx.Node,
    traced: fx.GraphModule,
    constants: set[fx.Node],
) -> Block:
    read = [n for node in part for n in node.all_input_nodes]
    outside = [n for n in read if n not in part and n not in constants]
    layers = tuple(str(n.target) for n in part if _is_layer(n, traced))
    name = _common(layer.split(".") for layer in layers)
    return Block(
        ".".join(name) or (layers or (output.name,))[0],
        tuple(part),
        tuple(dict.fromkeys(outside)),
        output,
        layers,
    )


def _common(paths: Iterable[list[Any]]) -> list[Any]:
    """The longest common beginning."""
    beginning = []
    for parts in zip(*paths, strict=False):
        if any(part != parts[0] for part in parts):
            break
        beginning.append(parts[0])
    return beginning


def _segments(traced: fx.GraphModule) -> list[list[fx.Node]]:
    """The nodes between two neighbouring cuts; constants left out."""
    constants = _constants(traced)
    inputs = [n for n in traced.graph.nodes if n.op == "placeholder"]
    unread = {n: len(n.users) for n in inputs}
    segments: list[list[fx.Node]] = [[]]
    for node in _inner_nodes(traced):
        if node in constants:
            continue
        segments[-1].append(node)
        unread[node] = len(node.users)
        for source in node.all_input_nodes:
            if source in unread:
                unread[source] -= 1
        if [n for n, count in unread.items() if count] == [node]:
            segments.append([])
    rest = segments.pop()
    if len(inputs) != 1 or any(len(node.users) for node in rest):
        raise TraceError(
            "a network that is cut into blocks must have one input and "
            "return one tensor; reconstruct its layers (unit='layer')"
        )
    return segments


Home = list[tuple[str, Any]]


def _home(segment: list[fx.Node]) -> Home:
    """Path and class of the modules whose code holds the whole segment."""
    stacks = []
    for node in segment:
        stack = list(node.meta.get("nn_module_stack", {}).values())
        stacks.append(stack[:-1] if node.op == "call_module" else stack)
    return _common(stacks)


def _merged(
    segments: list[list[fx.Node]], traced: fx.GraphModule
) -> list[list[fx.Node]]:
    return _joined(_whole_modules(segments), traced)


def _whole_modules(segments: list[list[fx.Node]]) -> list[list[fx.Node]]:
    """Segments of one module together, if its class forms blocks.

    A class does where the whole of a branch lies in its code. Modules
    with two branches or more (attention, MLP) stay apart.
    """
    homes = [_home(segment) for segment in segments]
    classes = {
        home[-1][1]
        for segment, home in zip(segments, homes)
        if len(segment) > 1 and home
    }
    groups: list[tuple[str | None, list[list[fx.Node]]]] = []
    for segment, home in zip(segments, homes):
        path = next((p for p, kind in home if kind in classes), None)
        if groups and path is not None and groups[-1][0] == path:
            groups[-1][1].append(segment)
        else:
            groups.append((path, [segment]))
    whole: list[list[fx.Node]] = []
    for _, parts in groups:
        if sum(len(part) > 1 for part in parts) > 1:
            whole += parts
        else:
            whole.append([node for part in parts for node in part])
    return whole


def _joined(
    parts: list[list[fx.Node]], traced: fx.GraphModule
) -> list[list[fx.Node]]:
    """Parts without a layer go to the part before or after them."""
    blocks: list[list[fx.Node]] = []
    waiting: list[fx.Node] = []
    for part in parts:
        if any(_is_layer(node, traced) for node in part):
            blocks.append(waiting + part)
            waiting = []
        elif (
            blocks
            and not waiting
            and all(_is_pointwise(node, traced) for node in part)
        ):
            blocks[-1] += part
        else:
            waiting += part
    if not blocks:
        raise TraceError("the network has no layer that could be quantized")
    blocks[-1] += waiting
    return blocks
