"""The network as a graph: its layers in the order in which they run."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.experimental.optimization import fuse
from torch.nn import functional as F

LAYER_TYPES = (nn.Conv2d, nn.Linear)


class TraceError(ValueError):
    """The network cannot be followed layer by layer."""


@dataclass(frozen=True)
class LayerInfo:
    """A convolution or linear layer; its weight as a matrix ``[K, N]``.

    ``rows`` K are output channels or neurons, ``columns`` N the inputs of
    one of them (channels of its group times kernel height and width).

    Introduced in chapter 3.
    """

    name: str
    kind: str
    rows: int
    columns: int
    groups: int

    @property
    def weights(self) -> int:
        return self.rows * self.columns


class SelfAttention(nn.Module):
    """``nn.MultiheadAttention`` for self-attention, in plain layers.

    The tracer cannot enter torch's own module, whose projections are not
    called as layers. Same weights, same outputs; no masks, no dropout.

    Source: Vaswani et al. 2017, section 3.2. Introduced in chapter 3.
    """

    def __init__(self, attention: nn.MultiheadAttention) -> None:
        super().__init__()
        width, bias = attention.embed_dim, attention.in_proj_bias is not None
        if attention.in_proj_weight is None or attention.bias_k is not None:
            raise TraceError(
                "only self-attention with one width for query, key and "
                "value, without bias_k, can be followed"
            )
        self.heads = attention.num_heads
        self.batch_first = attention.batch_first
        self.in_proj = nn.Linear(width, 3 * width, bias=bias)
        self.out_proj = nn.Linear(width, width, bias=bias)
        self.to(attention.out_proj.weight)
        with torch.no_grad():
            self.in_proj.weight.copy_(attention.in_proj_weight)
            self.out_proj.weight.copy_(attention.out_proj.weight)
            if bias:
                self.in_proj.bias.copy_(attention.in_proj_bias)
                self.out_proj.bias.copy_(attention.out_proj.bias)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        need_weights: bool = False,
        **others: Any,
    ) -> tuple[Tensor, None]:
        given = [name for name, v in others.items() if v not in (None, False)]
        if query is not key or key is not value or need_weights or given:
            raise TraceError(
                "only plain self-attention can be followed: query, key and "
                f"value the same tensor, need_weights=False, no {given}"
            )
        x = query if self.batch_first else query.transpose(0, 1)
        together = self.in_proj(x).unflatten(-1, (3, self.heads, -1))
        q, k, v = together.permute(2, 0, 3, 1, 4).unbind(0)
        mixed = F.scaled_dot_product_attention(q, k, v)
        y = self.out_proj(mixed.transpose(1, 2).flatten(2))
        return (y if self.batch_first else y.transpose(0, 1)), None


def _open_attention(module: nn.Module) -> None:
    for name, child in module.named_children():
        if isinstance(child, nn.MultiheadAttention):
            setattr(module, name, SelfAttention(child).eval())
        else:
            _open_attention(child)


class _Tracer(fx.Tracer):
    """Remembers which module it was in, so that an error can name it."""

    entered: list[str]

    def call_module(self, m: nn.Module, forward: Any, *rest: Any) -> Any:
        self.entered.append(f"{self.path_of_module(m)} ({type(m).__name__})")
        result = super().call_module(m, forward, *rest)
        self.entered.pop()
        return result


def trace(model: nn.Module) -> fx.GraphModule:
    """A copy of ``model`` in evaluation mode as a graph of its layers.

    A graph that was traced before is copied. ``nn.MultiheadAttention``
    gives way to :class:`SelfAttention`.

    Raises:
        TraceError: its Python code cannot be followed (the message names
            the module), or a layer is called more than once.

    Introduced in chapter 3.
    """
    model = copy.deepcopy(model).eval()
    if isinstance(model, fx.GraphModule):
        return model
    tracer = _Tracer()
    tracer.entered = [type(model).__name__]
    try:
        _open_attention(model)
        graph = tracer.trace(model)
    except TraceError as error:
        raise TraceError(f"{tracer.entered[-1]}: {error}") from error
    except Exception as error:
        raise TraceError(
            f"cannot follow {tracer.entered[-1]}: {error}. Its forward "
            "must not branch on values of tensors; put such code into a "
            "module of torch.nn, or quantize a part of the network"
        ) from error
    traced = fx.GraphModule(model, graph, type(model).__name__)
    _check_called_once(traced)
    return traced


def _layer_nodes(traced: fx.GraphModule) -> list[fx.Node]:
    return [
        node
        for node in traced.graph.nodes
        if node.op == "call_module"
        and isinstance(traced.get_submodule(str(node.target)), LAYER_TYPES)
    ]


def _check_called_once(traced: fx.GraphModule) -> None:
    seen: dict[int, Any] = {}
    for node in _layer_nodes(traced):
        module = traced.get_submodule(str(node.target))
        if id(module) in seen:
            raise TraceError(
                f"layer {node.target} is called more than once (also as "
                f"{seen[id(module)]}): two inputs cannot share one "
                "calibration; give each call a layer of its own"
            )
        seen[id(module)] = node.target


def fold_batch_norm(traced: fx.GraphModule) -> fx.GraphModule:
    """A copy whose batch normalisations are part of the layers before.

    A normalisation that does not directly follow a layer stays.

    Source: Jacob et al. 2018, section 3.2. Introduced in chapter 3.
    """
    folded = fuse(traced, inplace=False, no_trace=True)
    assert isinstance(folded, fx.GraphModule)
    folded.graph.lint()
    folded.eval()
    return folded


def layer_of(traced: nn.Module, name: object) -> nn.Conv2d | nn.Linear:
    """The convolution or linear layer called ``name``.

    Introduced in chapter 3.
    """
    module = traced.get_submodule(str(name))
    assert isinstance(module, LAYER_TYPES)
    return module


def layer_info(name: str, module: nn.Module) -> LayerInfo:
    """Name and sizes of a convolution or linear layer.

    Introduced in chapter 3.
    """
    rows, columns = weight_matrix(module).shape
    convolution = isinstance(module, nn.Conv2d)
    return LayerInfo(
        name,
        "conv" if convolution else "linear",
        rows,
        columns,
        module.groups if isinstance(module, nn.Conv2d) else 1,
    )


def layer_table(model: nn.Module) -> list[LayerInfo]:
    """Every layer that can be quantized, in execution order.

    Raises TraceError as :func:`trace` does.

    Introduced in chapter 3.
    """
    traced = model if isinstance(model, fx.GraphModule) else trace(model)
    return [
        layer_info(str(node.target), layer_of(traced, node.target))
        for node in _layer_nodes(traced)
    ]


def kept_in_float(model: nn.Module) -> dict[str, int]:
    """Parameters that no plan reaches: name to number of values.

    Biases, normalisations, position embeddings, and the weights of
    modules that the tracer cannot enter.

    Introduced in chapter 3.
    """
    traced = model if isinstance(model, fx.GraphModule) else trace(model)
    reached = {f"{info.name}.weight" for info in layer_table(traced)}
    return {
        name: parameter.numel()
        for name, parameter in traced.named_parameters()
        if name not in reached
    }


def weight_matrix(module: nn.Module) -> Tensor:
    """The weight ``[K, N]`` of a convolution or linear layer.

    Introduced in chapter 3.
    """
    weight = module.weight
    assert isinstance(weight, Tensor)
    return weight.detach().flatten(1)


def set_weight_matrix(module: nn.Module, matrix: Tensor) -> None:
    """Replace the weight of a layer by ``matrix [K, N]``.

    Introduced in chapter 3.
    """
    weight = module.weight
    assert isinstance(weight, nn.Parameter)
    with torch.no_grad():
        weight.copy_(matrix.reshape(weight.shape))
