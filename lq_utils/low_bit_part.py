"""Part of a layer in few bits: a control of the same size elsewhere.

To binarize a small layer and a large one are not comparable; to binarize
as many weights of the large one are.
"""

from __future__ import annotations

import torch
from torch import Tensor, fx, nn
from torch.nn.utils import parametrize

from lq_utils.graph import trace
from lq_utils.low_bit import LowBit
from lq_utils.low_bit_base import LatentWeight, LowBitWeight
from lq_utils.parametrizations import CompressionError
from lq_utils.stacks import clone, latent_weight, layers_of, stack_of

UNITS = ("weights", "rows")


class LowBitPart(LatentWeight):
    """Few bits where ``mask`` (bool, the weight's shape) is true.

    The chosen weights are one tensor with one mean and one scale for
    ``inner``, the others stay what they are. Not for files: a layer with
    two kinds of weights has no row in a plan.

    Raises CompressionError for a mask of another type or that chooses
    nothing, and where ``inner`` has a scale a channel.
    Introduced in chapter 6.
    """

    mask: Tensor

    def __init__(self, mask: Tensor, inner: LowBitWeight) -> None:
        super().__init__()
        if mask.dtype != torch.bool or not mask.any():
            raise CompressionError(
                "a mask is bool and chooses at least one weight"
            )
        if inner.granularity != "tensor":
            raise CompressionError(
                "part of a layer has one scale: granularity='tensor'"
            )
        self.register_buffer("mask", mask.clone())
        self.inner = inner

    def forward(self, weight: Tensor) -> Tensor:
        if weight.shape != self.mask.shape:
            raise CompressionError(
                f"a mask {list(self.mask.shape)} does not fit to a weight "
                f"{list(weight.shape)}"
            )
        chosen = self.inner(weight[self.mask].view(1, -1))
        return weight.masked_scatter(self.mask, chosen)

    def clip_(self, weight: Tensor, limit: float) -> None:
        """Clip the chosen ones, in place."""
        clipped = weight.clamp(-limit, limit)
        weight.copy_(torch.where(self.mask, clipped, weight))

    def extra_repr(self) -> str:
        return f"{int(self.mask.sum())} of {self.mask.numel()} weights"


def random_part(
    shape: tuple[int, ...], count: int, seed: int, unit: str = "weights"
) -> Tensor:
    """A mask (bool, ``shape``) of ``count`` random weights.

    With ``unit="rows"`` whole output channels are drawn, as many as have
    ``count`` weights or more together.

    Raises CompressionError for a count that the layer does not have.
    Introduced in chapter 6.
    """
    if unit not in UNITS:
        raise CompressionError(f"unit={unit!r}: choose one of {UNITS}")
    mask = torch.zeros(shape, dtype=torch.bool).flatten(1)
    if not 1 <= count <= mask.numel():
        raise CompressionError(
            f"{count} weights of a layer that has {mask.numel()}: choose "
            "another layer, or fewer"
        )
    generator = torch.Generator().manual_seed(seed)
    if unit == "rows":
        order = torch.randperm(mask.shape[0], generator=generator)
        mask[order[: -(-count // mask.shape[1])]] = True
    else:
        order = torch.randperm(mask.numel(), generator=generator)
        mask.view(-1)[order[:count]] = True
    return mask.view(shape)


def size_matched_network(
    network: nn.Module,
    like: str,
    layer: str,
    seed: int,
    *,
    unit: str = "weights",
    bits: int = 1,
    scale_mode: str = "l1",
    clip: float = 1.0,
) -> fx.GraphModule:
    """A copy in which as many weights of ``layer`` have few bits as
    ``like`` has weights.

    The control of a network with ``like`` in few bits and its activations
    in full precision (``hybrid_network(..., activations=False)``): inputs
    cannot be quantized for a part of a layer. Which weights is drawn with
    ``seed``; ``unit`` as in :func:`random_part`.

    Raises CompressionError for an unknown or too small layer, and as
    ``LowBit``; TraceError where the network cannot be followed.
    Introduced in chapter 6.
    """
    graph = trace(clone(network))
    layers = layers_of(graph)
    for name in (like, layer):
        if name not in layers:
            raise CompressionError(
                f"no layer '{name}' (layers: {', '.join(layers)})"
            )
    if stack_of(layers[layer]):
        raise CompressionError(
            f"the weight of {layer} is parametrized already: strip() the "
            "network first"
        )
    weight, count = latent_weight(layers[layer]), layers[like].weight
    assert isinstance(count, Tensor)
    mask = random_part(tuple(weight.shape), count.numel(), seed, unit)
    part = LowBitPart(
        mask.to(weight.device), LowBit(bits, scale_mode, clip=clip)
    )
    parametrize.register_parametrization(layers[layer], "weight", part)
    return graph.train(network.training)
