"""What all weights of few bits have in common: levels, a scale, a grid.

A weight of a convolution or linear layer is taken as a matrix ``[K, N]``,
a row an output channel or neuron.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from lq_utils.grids import Alphabet, Grid, alphabet
from lq_utils.parametrizations import CompressionError
from lq_utils.scale_rules import NEGLIGIBLE, SMALLEST_NORMAL

GRANULARITIES = ("tensor", "channel")
MOST_BITS = 8


def nearest_level(x: Tensor, letters: Alphabet) -> Tensor:
    """The nearest level of every element of ``x`` (any shape, any float).

    Ties go up. On odd integers (``letters.step`` 2) this is exact, so that
    one bit is the sign: below 0 -1, else 1.

    Source: QuantNET thesis, section 3.3. Introduced in chapter 6.
    """
    if letters.codebook is None and letters.step == 2:
        odd = (x / 2).floor_().mul_(2).add_(1)
        return odd.clamp_(letters.lowest, letters.highest)
    return letters.nearest(x)


class LatentWeight(nn.Module):
    """What weights go through whose latent values may be clipped.

    Introduced in chapter 6.
    """

    def clip_(self, weight: Tensor, limit: float) -> None:
        """Clip latent weights to [-limit, limit], in place."""
        weight.clamp_(-limit, limit)


class LowBitWeight(LatentWeight, ABC):
    """What all weights of few bits have in common: levels and a scale.

    Source: QuantNET thesis, section 3.3. Introduced in chapter 6.
    """

    def __init__(self, letters: Alphabet, granularity: str) -> None:
        super().__init__()
        if granularity not in GRANULARITIES:
            raise CompressionError(
                f"granularity={granularity!r}: choose 'tensor' or 'channel'"
            )
        self.alphabet, self.granularity = letters, granularity

    @abstractmethod
    def rounded(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Levels, scale and what passes gradients, of ``rows [K, N]``.

        Levels are float32 ``[K, N]``, the scale is ``[1, 1]`` or ``[K,
        1]``, bool ``[K, N]`` says which weights lie in the clip range.
        """

    def grid(self, weight: Tensor) -> Grid:
        """The grid of these weights, one row an output channel."""
        rows = weight.detach().flatten(1)
        scale = self.rounded(rows)[1].detach()
        return Grid(
            self.alphabet, scale, torch.zeros_like(scale), rows.shape[1]
        )

    def codes(self, weight: Tensor) -> Tensor:
        """Index of every weight's level, int64, in the weight's shape."""
        level = self.rounded(weight.detach().flatten(1))[0]
        return self.alphabet.index(level).view(weight.shape)

    def forward(self, weight: Tensor) -> Tensor:
        level, scale, inside = self.rounded(weight.detach().flatten(1))
        through = weight - weight.detach()  # 0, with a gradient
        return (level * scale).view(weight.shape) + through * inside.view(
            weight.shape
        )

    def mean(self, rows: Tensor) -> Tensor:
        """Mean of a layer ``[1, 1]`` or of each channel ``[K, 1]``."""
        if self.granularity == "tensor":
            return rows.mean().view(1, 1)
        return rows.mean(dim=1, keepdim=True)


def usable(scale: Tensor) -> Tensor:
    """``scale``, but 2^-100 where it is 0, negative or subnormal.

    Levels without zero are then negligible, as in ``fit_grid``.

    Introduced in chapter 6.
    """
    return scale.masked_fill(~(scale >= SMALLEST_NORMAL), NEGLIGIBLE)


def uniform_alphabet(quantizer: str, bits: int) -> Alphabet:
    """A uniform, symmetric alphabet of 1 to 8 bits.

    Raises CompressionError for others, GridError or UnknownName for
    those that do not exist. Introduced in chapter 6.
    """
    if type(bits) is not int or not 1 <= bits <= MOST_BITS:
        raise CompressionError(
            f"{bits!r} bits: weights and activations of few bits take 1 to "
            f"{MOST_BITS} of them"
        )
    letters = alphabet(quantizer, bits)
    if letters.affine or letters.own or letters.codebook is not None:
        raise CompressionError(
            f"'{quantizer}' is not uniform and symmetric: choose "
            "'full-range' or 'narrow'"
        )
    return letters


def check_clip(clip: float) -> float:
    """``clip``; raises CompressionError where it is not positive, finite.

    Introduced in chapter 6.
    """
    if not 0 < clip < math.inf:
        raise CompressionError(f"clip={clip}: give a positive number")
    return float(clip)
