"""What a weight goes through in every forward pass of a training.

Modules for ``torch.nn.utils.parametrize``, stacked in this order: mask,
then cluster, then fake quantization. A mask's zeros fall on a centroid
pinned to 0, and what takes ``C`` values before fake quantization takes at
most ``C`` after it, as equal floats get equal codes. With a scale a
channel this holds for every channel, not for the layer: up to ``C`` values
in each; the layer's bound then holds before fake quantization.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from lq_utils.clustering import nearest_centroid
from lq_utils.grids import Grid, alphabet
from lq_utils.scales import fit_grid

GRADIENTS = ("sum", "mean")
EDGE = 1e-3  # of a step: max|w| itself must not count as clipped


class CompressionError(ValueError):
    """A network cannot be compressed as asked, or breaks a promise."""


class Masked(nn.Module):
    """Zeros where ``mask`` (bool, the weight's shape) is false.

    What is masked keeps its latent value and gets no gradient: it can
    return when the mask is made anew, unless the mask is ``fixed``.

    Introduced in chapter 4.
    """

    mask: Tensor

    def __init__(self, mask: Tensor, fixed: bool = False) -> None:
        super().__init__()
        if mask.dtype != torch.bool:
            raise CompressionError(f"a mask is bool, not {mask.dtype}")
        self.register_buffer("mask", mask.clone())
        self.fixed = fixed

    def forward(self, weight: Tensor) -> Tensor:
        if weight.shape != self.mask.shape:
            raise CompressionError(
                f"a mask {list(self.mask.shape)} does not fit to a weight "
                f"{list(weight.shape)}"
            )
        # Not a product: that would turn -0.1 into -0.
        return torch.where(self.mask, weight, 0.0)

    def extra_repr(self) -> str:
        return f"kept={int(self.mask.sum())} of {self.mask.numel()}"


class _Lookup(torch.autograd.Function):
    """Centroids of the weights; gradients go to both."""

    @staticmethod
    def forward(
        ctx: Any, weight: Tensor, centroids: Tensor, index: Tensor, mean: bool
    ) -> Tensor:
        ctx.save_for_backward(index)
        ctx.count, ctx.mean = len(centroids), mean
        return centroids[index]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Any, ...]:
        (gradient,) = gradients
        (index,) = ctx.saved_tensors
        flat = index.flatten()
        # In float64: a layer has up to half a million members.
        total = torch.bincount(
            flat, weights=gradient.flatten().double(), minlength=ctx.count
        )
        if ctx.mean:
            members = torch.bincount(flat, minlength=ctx.count)
            total = total / members.clamp(min=1)
        return gradient, total.to(gradient.dtype), None, None


class Clustered(nn.Module):
    """Every weight becomes its nearest centroid, found anew each time.

    ``codebook`` (float32 ``[C]``) is trained: a centroid gets the sum or
    the mean of its members' gradients. The latent weights are trained,
    too, with the gradient passed straight through, so that members move
    from one cluster to another. With ``pin_zero`` the centroid that is 0
    stays 0.

    Raises CompressionError for a codebook without values, and where 0 is
    to be pinned and none of them. Source: TensorFlow Model Optimization
    Toolkit, clustering. Introduced in chapter 4.
    """

    pinned: Tensor

    def __init__(
        self,
        codebook: Tensor,
        gradient: str = "sum",
        pin_zero: bool = False,
    ) -> None:
        super().__init__()
        values = torch.unique(codebook.detach().float().cpu() + 0.0)
        if not len(values) or not torch.isfinite(values).all():
            raise CompressionError(
                "a codebook takes finite numbers, 1 or more"
            )
        if gradient not in GRADIENTS:
            raise CompressionError(
                f"gradient={gradient!r}: choose one of {GRADIENTS}"
            )
        pinned = (values == 0) & pin_zero
        if pin_zero and not pinned.any():
            raise CompressionError(
                "pin_zero needs a codebook with 0 in it: cluster with "
                "preserve_zero=True"
            )
        self.gradient = gradient
        self.codebook = nn.Parameter(values.to(codebook.device))
        self.register_buffer("pinned", pinned.to(codebook.device))

    @property
    def count(self) -> int:
        """Number of centroids."""
        return len(self.codebook)

    @property
    def pins_zero(self) -> bool:
        """Whether one of the centroids stays 0."""
        return bool(self.pinned.any())

    def assign(self, weight: Tensor) -> Tensor:
        """Index (int64) into the codebook of every latent weight."""
        centroids, order = self._centroids().detach().sort()
        return order[nearest_centroid(weight.detach(), centroids)]

    def _centroids(self) -> Tensor:
        return self.codebook.masked_fill(self.pinned, 0.0)

    def forward(self, weight: Tensor) -> Tensor:
        index = self.assign(weight)
        mean = self.gradient == "mean"
        return _Lookup.apply(weight, self._centroids(), index, mean)

    def extra_repr(self) -> str:
        zero = ", one pinned to 0" if self.pins_zero else ""
        return f"{self.count} centroids, gradient={self.gradient!r}{zero}"


class FakeQuantize(nn.Module):
    """Weights on a grid that is fitted to them in every pass.

    Args:
        bits: of the alphabet.
        granularity: ``"tensor"`` (one scale) or ``"channel"`` (one an
            output channel or neuron).
        quantizer: a name of ``lq_utils.alphabets``; ``"narrow"`` are the
            integers from -(2^(b-1) - 1) to 2^(b-1) - 1.
        rule: of ``lq_utils.scales``; ``"max"`` takes max|w| and clips
            nothing.

    The gradient goes straight through, but is 0 for weights that the grid
    clips. Raises GridError or UnknownName for a grid that does not exist.

    Source: Jacob et al. 2018; Bengio et al. 2013 for the gradient.
    Introduced in chapter 4.
    """

    def __init__(
        self,
        bits: int,
        granularity: str = "tensor",
        quantizer: str = "narrow",
        rule: str = "max",
    ) -> None:
        super().__init__()
        if granularity not in ("tensor", "channel"):
            raise CompressionError(
                f"granularity={granularity!r}: choose 'tensor' or 'channel'"
            )
        self.bits, self.granularity = bits, granularity
        self.alphabet, self.rule = alphabet(quantizer, bits), rule

    def grid(self, weight: Tensor) -> Grid:
        """The grid of these weights, one row an output channel."""
        rows = weight.detach().flatten(1)
        return fit_grid(rows, self.alphabet, self.granularity, self.rule)

    def codes(self, weight: Tensor) -> Tensor:
        """Index of every weight's level, int64, in the weight's shape."""
        grid, rows = self.grid(weight), weight.detach().flatten(1)
        return grid.codes(grid.round(rows)).view(weight.shape)

    def forward(self, weight: Tensor) -> Tensor:
        grid, rows = self.grid(weight), weight.detach().flatten(1)
        level = rows / grid.scale + grid.zero_point
        low, high = self.alphabet.lowest - EDGE, self.alphabet.highest + EDGE
        inside = ((level >= low) & (level <= high)).view(weight.shape)
        through = (weight - weight.detach()) * inside  # 0, with a gradient
        return grid.round(rows).view(weight.shape) + through

    def extra_repr(self) -> str:
        return f"{self.alphabet.name}, {self.bits} bits, {self.granularity}"
