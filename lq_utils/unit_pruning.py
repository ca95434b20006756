"""Structured pruning: whole neurons and filters, and their real removal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import pandas as pd
import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from lq_utils.graph import LAYER_TYPES, trace
from lq_utils.parametrizations import Masked
from lq_utils.pruning import PruningError, unit_mask
from lq_utils.stacks import M, attach, clone, layers_of, strip

# What maps a channel of zeros to a channel of zeros, channel by channel.
KEEPS_ZEROS = (
    nn.ReLU,
    nn.MaxPool2d,
    nn.AvgPool2d,
    nn.AdaptiveAvgPool2d,
    nn.Dropout,
    nn.Flatten,
    nn.Identity,
)
KEEPS_ZEROS_FUNCTIONS = (torch.flatten, torch.relu, F.relu, F.max_pool2d)

Kept = Mapping[str, Tensor]


def layer_chain(model: nn.Module) -> list[str]:
    """Names of the layers, each of which feeds the next one only.

    Raises PruningError for a network that is no such chain (shortcuts,
    normalisations, grouped convolutions), TraceError for one that cannot
    be followed. Introduced in chapter 4.
    """
    graph = trace(strip(model))
    chain, node = [], _start(graph)
    while node.op != "output":
        if node.op == "call_module":
            module = graph.get_submodule(str(node.target))
            if isinstance(module, LAYER_TYPES):
                chain.append(str(node.target))
            elif not isinstance(module, KEEPS_ZEROS):
                raise _no_chain(node, type(module).__name__)
            if isinstance(module, nn.Conv2d) and module.groups > 1:
                raise _no_chain(node, "a grouped convolution")
        elif node.op != "placeholder" and not (
            node.target in KEEPS_ZEROS_FUNCTIONS
            or node.target in ("flatten", "relu")
        ):
            raise _no_chain(node, str(node.target))
        if len(node.users) != 1:
            raise _no_chain(node, f"{len(node.users)} readers")
        node = next(iter(node.users))
    if len(chain) < 2:
        raise PruningError("units are pruned between layers: give 2 or more")
    return chain


def _start(graph: fx.GraphModule) -> fx.Node:
    inputs = [n for n in graph.graph.nodes if n.op == "placeholder"]
    if len(inputs) != 1:
        raise PruningError(f"the network has {len(inputs)} inputs, not one")
    return inputs[0]


def _no_chain(node: fx.Node, what: str) -> PruningError:
    return PruningError(
        f"{node.name} ({what}): units can be removed only from a plain chain "
        "of layers with ReLU, pooling, dropout and flatten between them"
    )


def kept_units(
    model: nn.Module, sparsity: float, *, skip: Iterable[str] = ()
) -> dict[str, Tensor]:
    """Which units to keep: layer to bool ``[K]``, by their L2 norms.

    Every layer but the last one and those in ``skip`` keeps
    max(round(K (1 - sparsity)), 1) filters or neurons.

    Raises PruningError as :func:`layer_chain` does, CompressionError for
    an unknown name in ``skip``. Source: Li et al. 2017 with the L2 norm.
    Introduced in chapter 4.
    """
    layers = layers_of(model, skip)
    return {
        name: unit_mask(_weight(layers[name]), sparsity)
        for name in layer_chain(model)[:-1]
        if name in layers
    }


def _weight(layer: nn.Module) -> Tensor:
    assert isinstance(layer.weight, Tensor)
    return layer.weight.detach()


def _weight_masks(
    model: nn.Module, kept: Kept
) -> dict[str, tuple[Tensor, Tensor]]:
    """Kept outputs ``[K]`` and kept inputs ``[C]`` of every layer.

    Behind a flatten a channel owns as many inputs as it has pixels.
    """
    chain, layers = layer_chain(model), layers_of(model)
    _check_kept(kept, chain, layers)
    found: dict[str, tuple[Tensor, Tensor]] = {}
    before: Tensor | None = None
    for name in chain:
        weight = _weight(layers[name])
        inputs = torch.ones(weight.shape[1], dtype=torch.bool)
        if before is not None:
            area, rest = divmod(len(inputs), len(before))
            if rest:
                raise PruningError(
                    f"{name} reads {len(inputs)} inputs, no multiple of the "
                    f"{len(before)} units before it"
                )
            inputs = before.repeat_interleave(area)
        units = torch.ones(len(weight), dtype=torch.bool)
        before = kept.get(name, units).cpu()
        found[name] = (before, inputs)
    return found


def _check_kept(
    kept: Kept, chain: list[str], layers: dict[str, nn.Module]
) -> None:
    for name, units in kept.items():
        if name not in chain[:-1]:
            raise PruningError(
                f"'{name}' has no units to prune; layers that have: "
                f"{', '.join(chain[:-1])}"
            )
        wanted = len(_weight(layers[name]))
        if units.dtype != torch.bool or units.shape != (wanted,):
            raise PruningError(
                f"{name}: give bool [{wanted}], not {units.dtype} "
                f"{list(units.shape)}"
            )
        if not units.any():
            raise PruningError(f"{name} must keep at least one unit")


def mask_units(model: M, kept: Kept) -> M:
    """A copy in which the other units are masked, to train on or look at.

    Zero, for good: the unit's weights, its bias, and the weights of the
    next layer that read it. Raises PruningError where ``kept`` does not
    fit to the network. Introduced in chapter 4.
    """
    masked = clone(model)
    layers = layers_of(masked)
    for name, (units, inputs) in _weight_masks(model, kept).items():
        if units.all() and inputs.all():
            continue
        layer = layers[name]
        weight = _weight(layer)
        outer = units[:, None] & inputs
        shape = [*outer.shape, *[1] * (weight.ndim - 2)]
        mask = outer.view(shape).expand_as(weight).to(weight.device)
        attach(name, layer, Masked(mask, fixed=True))
        if layer.bias is not None:
            bias = Masked(units.to(weight.device), fixed=True)
            attach(name, layer, bias, "bias")
    return masked


def remove_units(model: M, kept: Kept) -> M:
    """A smaller network of plain layers, which lacks the other units.

    Its outputs are those of :func:`mask_units` but for the order of
    additions. Clusters and grids of a parametrized network are made plain
    first. Raises PruningError where ``kept`` does not fit.

    Introduced in chapter 4.
    """
    small = strip(mask_units(model, kept))
    layers = layers_of(small)
    for name, (units, inputs) in _weight_masks(small, kept).items():
        _shrink(layers[name], units, inputs)
    return small


def _shrink(layer: nn.Module, units: Tensor, inputs: Tensor) -> None:
    weight = _weight(layer)
    units, inputs = units.to(weight.device), inputs.to(weight.device)
    layer.weight = nn.Parameter(weight[units][:, inputs].clone())
    if isinstance(layer.bias, Tensor):
        layer.bias = nn.Parameter(layer.bias.detach()[units].clone())
    outputs, left = int(units.sum()), int(inputs.sum())
    if isinstance(layer, nn.Conv2d):
        layer.out_channels, layer.in_channels = outputs, left
    elif isinstance(layer, nn.Linear):
        layer.out_features, layer.in_features = outputs, left


def parameters_removed(model: nn.Module, kept: Kept) -> pd.DataFrame:
    """What pruning units saves, a row a layer, and a row "all".

    Columns: layer, units, units_removed, parameters, removed (weights and
    biases that no longer exist, those of the next layer's inputs
    included), share (0 to 1). Quote this share: k % of the neurons are
    more than k % of the parameters between them.

    Introduced in chapter 4.
    """
    rows, layers = [], layers_of(model)
    for name, (units, inputs) in _weight_masks(model, kept).items():
        weight = _weight(layers[name])
        bias = layers[name].bias is not None
        area = weight[0, 0].numel()
        left = int(units.sum()) * (int(inputs.sum()) * area + bias)
        total = weight.numel() + bias * len(units)
        gone = int((~units).sum())
        rows.append([name, len(units), gone, total, total - left])
    columns = ["layer", "units", "units_removed", "parameters", "removed"]
    table = pd.DataFrame(rows, columns=columns)
    table.loc[len(table)] = ["all", *table[columns[1:]].sum()]
    return table.assign(share=table.removed / table.parameters)
