"""The stack of modules that a layer's weight goes through.

Put on, looked at and taken off again; see ``lq_utils.parametrizations``
for the modules and their order.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from lq_utils.graph import LAYER_TYPES
from lq_utils.parametrizations import (
    Clustered,
    CompressionError,
    FakeQuantize,
    Masked,
)
from lq_utils.registry import did_you_mean

M = TypeVar("M", bound=nn.Module)

ORDER = (Masked, Clustered, FakeQuantize)


def clone(model: M) -> M:
    """A deep copy that shares no class with ``model``.

    PyTorch keeps parametrized weights as properties of a class made for
    the module, which a plain deep copy shares: to remove them from the
    copy would break the original. Introduced in chapter 4.
    """
    twin = copy.deepcopy(model)
    for module in twin.modules():
        kind = type(module)
        if parametrize.is_parametrized(module):
            own = dict(vars(kind))
            module.__class__ = type(kind.__name__, kind.__bases__, own)
    return twin


def layers_of(
    model: nn.Module, skip: Iterable[str] = ()
) -> dict[str, nn.Module]:
    """Convolutions and linear layers but those in ``skip``, by name.

    Raises CompressionError for a name in ``skip`` that is no such layer.
    Introduced in chapter 4.
    """
    found = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, LAYER_TYPES)
    }
    skip = [skip] if isinstance(skip, str) else list(skip)
    for name in skip:
        if name not in found:
            raise CompressionError(
                f"skip names '{name}', which is no convolution or linear "
                f"layer{did_you_mean(name, found)} (layers: "
                f"{', '.join(found)})"
            )
    return {name: m for name, m in found.items() if name not in skip}


def stack_of(layer: nn.Module, tensor: str = "weight") -> list[nn.Module]:
    """The modules that a layer's weight goes through, in their order.

    Introduced in chapter 4.
    """
    if not parametrize.is_parametrized(layer, tensor):
        return []
    stack = layer.parametrizations[tensor]  # type: ignore[index]
    assert isinstance(stack, nn.ModuleList)
    return list(stack)


def find(layer: nn.Module, kind: type[M]) -> M | None:
    """The module of one kind that the weight goes through, if any.

    Introduced in chapter 4.
    """
    return next((m for m in stack_of(layer) if isinstance(m, kind)), None)


def latent_weight(layer: nn.Module) -> Tensor:
    """The weight that is trained, before anything is done to it.

    Introduced in chapter 4.
    """
    if parametrize.is_parametrized(layer, "weight"):
        layer = layer.parametrizations["weight"]  # type: ignore[index,assignment]
        assert isinstance(layer.original, Tensor)
        return layer.original
    assert isinstance(layer.weight, Tensor)
    return layer.weight


def weight_before(layer: nn.Module, kind: type[nn.Module]) -> Tensor:
    """The weight as a module of one kind gets it; without one, as it is.

    Detached, in the weight's shape. Introduced in chapter 4.
    """
    with torch.no_grad():
        weight = latent_weight(layer).detach()
        for module in stack_of(layer):
            if isinstance(module, kind):
                break
            weight = module(weight)
    return weight


def attach(
    name: str, layer: nn.Module, module: nn.Module, tensor: str = "weight"
) -> None:
    """Put ``module`` on top of what a layer's weight goes through.

    Raises CompressionError where this is not in the order mask, cluster,
    fake quantization, or doubles one. Introduced in chapter 4.
    """
    rank = ORDER.index(type(module))
    for other in stack_of(layer, tensor):
        if rank <= ORDER.index(type(other)):
            raise CompressionError(
                f"{name} is {type(other).__name__} already: the order is "
                f"mask, cluster, fake quantize; strip() the network before "
                f"it gets another {type(module).__name__}"
            )
    parametrize.register_parametrization(layer, tensor, module)


def strip(model: M) -> M:
    """A copy with plain weights, whose outputs are the same to the bit.

    Its parameters come in the order of a new network. Quantized
    activations stay. Introduced in chapter 4.
    """
    plain = clone(model)
    for module in plain.modules():
        if parametrize.is_parametrized(module):
            for tensor in list(module.parametrizations):  # type: ignore
                parametrize.remove_parametrizations(module, tensor)
            if isinstance(module, LAYER_TYPES):
                _weight_first(module)
    return plain


def _weight_first(layer: nn.Conv2d | nn.Linear) -> None:
    """Undo that PyTorch puts the weight back behind the bias."""
    bias = layer.bias
    assert bias is None or isinstance(bias, nn.Parameter)
    del layer.bias
    layer.register_parameter("bias", bias)
