"""Activations of one or a few bits, with their sign."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from lq_utils.alphabets import Alphabet
from lq_utils.low_bit_base import check_clip, nearest_level, uniform_alphabet


class _Rounded(torch.autograd.Function):
    """Levels of ``x``; the gradient passes where |x| <= clip.

    By hand, as these maps are the largest of a network, and a dozen plain
    operations would each go through them, forth and back.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, letters: Alphabet, clip: float) -> Tensor:
        ctx.save_for_backward(x.abs() <= clip)
        level = nearest_level(x * (letters.reach / clip), letters)
        return level.mul_(clip / letters.reach)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Any, ...]:
        (inside,) = ctx.saved_tensors
        return gradients[0] * inside, None, None


class SignedActivation(nn.Module):
    """Activations clipped to [-clip, clip] and rounded to 2^b levels.

    The levels are those of weights: -1 and 1 times ``clip`` for one bit
    (the sign, with sign(0) = 1), then -1, -1/3, 1/3, 1, ...; 0 is none of
    them. The gradient goes straight through where |x| <= clip and is 0
    elsewhere. Without ``scale`` nothing is multiplied, as in the thesis;
    with it each image's levels are multiplied by the mean of |x| over the
    image, a constant for gradients: the K of XNOR-Net in its simplest
    form, and an ablation.

    Takes and returns float32 ``[N, ...]``. Raises CompressionError for
    bits other than 1 to 8 or a clip that is not positive.

    Source: QuantNET thesis, section 3.3; Rastegari et al. 2016, section
    3.2. Introduced in chapter 6.
    """

    def __init__(
        self, bits: int, clip: float = 1.0, scale: bool = False
    ) -> None:
        super().__init__()
        self.alphabet = uniform_alphabet("full-range", bits)
        self.bits, self.clip, self.scale = bits, check_clip(clip), bool(scale)
        self.layer = self.place = ""  # whose input it is, and where it acts

    def forward(self, x: Tensor) -> Tensor:
        values: Tensor = _Rounded.apply(x, self.alphabet, self.clip)
        if not self.scale:
            return values
        mean = x.detach().abs().flatten(1).mean(dim=1)
        return values * mean.view(-1, *[1] * (x.ndim - 1))

    def levels(self) -> Tensor:
        """What it returns without ``scale``, float32 ``[2^bits]``."""
        return self.alphabet.levels() * (self.clip / self.alphabet.reach)

    def extra_repr(self) -> str:
        scale = ", scaled" if self.scale else ""
        return f"{self.bits} bits, clip={self.clip}{scale}"


def signed_activations(network: nn.Module) -> dict[str, SignedActivation]:
    """The signed activations of a network by the names of their modules.

    Introduced in chapter 6.
    """
    return {
        name: module
        for name, module in network.named_modules()
        if isinstance(module, SignedActivation)
    }
