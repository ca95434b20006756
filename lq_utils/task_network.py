"""The network of a task: only the classes that will be asked for.

A network that never has to name the other classes needs no output for
them. The rows of its last layer that belong to the task are all that is
kept; every other layer stays as it is.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import fx, nn

from lq_utils.graph import trace
from lq_utils.images import ImageData
from lq_utils.inference import predict

# What may stand between the last layer and the output: it keeps logits.
_PASSING = (nn.Identity, nn.Dropout)


class TaskError(ValueError):
    """A network cannot be cut down to a task, or the task is none.

    Introduced in chapter 9.
    """


@dataclass(frozen=True)
class TaskNetwork:
    """A network and which of its outputs are the classes of a task.

    Output ``outputs[i]`` answers for ``class_names[i]``, class
    ``classes[i]`` of the data. ``total`` is the number of all outputs.

    Introduced in chapter 9.
    """

    network: nn.Module
    classes: tuple[int, ...]
    class_names: tuple[str, ...]
    outputs: tuple[int, ...]
    total: int


def classifier_name(network: nn.Module) -> str:
    """Name of the linear layer whose outputs are the network's.

    Raises:
        TaskError: the network does not end in a linear layer.
        TraceError: it cannot be followed.

    Introduced in chapter 9.
    """
    traced = trace(network)
    end = next(node for node in traced.graph.nodes if node.op == "output")
    node = end.args[0]
    while _passes(traced, node):
        node = node.all_input_nodes[0]
    if not isinstance(node, fx.Node) or node.op != "call_module":
        raise TaskError(_no_classifier(f"what it returns is {node}"))
    name = str(node.target)
    module = traced.get_submodule(name)
    if not isinstance(module, nn.Linear):
        raise TaskError(_no_classifier(f"'{name}' is {type(module).__name__}"))
    return name


def _passes(traced: fx.GraphModule, node: object) -> bool:
    if not isinstance(node, fx.Node) or node.op != "call_module":
        return False
    return isinstance(traced.get_submodule(str(node.target)), _PASSING)


def _no_classifier(detail: str) -> str:
    return (
        f"the network does not end in a linear layer ({detail}): give one "
        "that returns the logits of its last torch.nn.Linear"
    )


def check_classes(classes: Sequence[int], outputs: int) -> tuple[int, ...]:
    """Classes of a task, ints, in the order given.

    Raises TaskError for fewer than two, one twice, or one that is not in
    0 ... ``outputs`` - 1. Introduced in chapter 9.
    """
    chosen = tuple(int(k) for k in classes)
    if len(set(chosen)) < max(2, len(chosen)):
        raise TaskError(f"classes {list(chosen)}: give two or more, each once")
    if not set(chosen) <= set(range(outputs)):
        raise TaskError(
            f"classes {list(chosen)} are not all in 0..{outputs - 1}, the "
            "outputs of the network"
        )
    return chosen


def slice_classifier(network: nn.Module, classes: Sequence[int]) -> nn.Module:
    """A copy whose outputs are those of ``classes``, in that order.

    Maps what ``network`` maps to ``[N, C]`` to ``[N, len(classes)]``; the
    logits are the same numbers. For a network of ``build_model`` it is
    one of ``build_model(name, len(classes))``.

    Raises:
        TaskError: a network that does not end in a linear layer, or
            classes that are not its outputs.
        TraceError: it cannot be followed.

    Source: label-aware report, section 1 (a network for a subset of the
    classes). Introduced in chapter 9.
    """
    name, old = _classifier(network)
    return _cut(network, name, check_classes(classes, old.out_features))


def _classifier(network: nn.Module) -> tuple[str, nn.Linear]:
    name = classifier_name(network)
    found = network.get_submodule(name)
    assert isinstance(found, nn.Linear)
    return name, found


def _cut(network: nn.Module, name: str, rows: tuple[int, ...]) -> nn.Module:
    kept = copy.deepcopy(network).eval()
    old = kept.get_submodule(name)
    assert isinstance(old, nn.Linear)
    kept.set_submodule(name, _rows_of(old, rows))
    return kept.requires_grad_(False)


def _rows_of(old: nn.Linear, rows: tuple[int, ...]) -> nn.Linear:
    fresh = nn.Linear(
        old.in_features,
        len(rows),
        bias=old.bias is not None,
        device=old.weight.device,
        dtype=old.weight.dtype,
    )
    index = torch.tensor(rows, device=old.weight.device)
    with torch.no_grad():
        fresh.weight.copy_(old.weight[index])
        if old.bias is not None:
            fresh.bias.copy_(old.bias[index])
    return fresh


def task_network(
    network: nn.Module,
    classes: Sequence[int],
    class_names: Sequence[str],
    cut: bool = True,
) -> TaskNetwork:
    """The network for some of the classes, with their names.

    ``class_names`` are those of all outputs of ``network``. ``cut``:
    other outputs are removed (a copy); else it stays as it is.

    Raises:
        TaskError: as ``slice_classifier``, or another number of names.
        TraceError: the network cannot be followed.

    Introduced in chapter 9.
    """
    name, found = _classifier(network)
    chosen = check_classes(classes, found.out_features)
    if len(class_names) != found.out_features:
        raise TaskError(
            f"{len(class_names)} class names for {found.out_features} "
            "outputs: give one each, in the order of the outputs"
        )
    names = tuple(class_names[k] for k in chosen)
    if not cut:
        return TaskNetwork(network, chosen, names, chosen, found.out_features)
    kept, own = _cut(network, name, chosen), tuple(range(len(chosen)))
    return TaskNetwork(kept, chosen, names, own, len(chosen))


def task_hits(
    network: nn.Module, data: ImageData, task: TaskNetwork
) -> np.ndarray:
    """Which images of the task are answered right: bool ``[n]``.

    Of ``data`` (all classes) those of the task count, in their order;
    only its outputs compete, the report's "Sub". ``network`` is that of
    the task, or a quantized one. Introduced in chapter 9.
    """
    own = data.subset(list(task.classes))
    logits = predict(network, own)[:, list(task.outputs)]
    return np.asarray(logits.argmax(dim=1).numpy() == own.labels)
