"""Weights of few bits whose step between levels is learned."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lq_utils.low_bit_base import (
    LowBitWeight,
    nearest_level,
    uniform_alphabet,
    usable,
)
from lq_utils.scales import fit_grid


class LearnedStep(LowBitWeight):
    """Centred and rounded to 2^b levels whose distance is trained, too.

    Args:
        weight: of the layer, ``[K, ...]``; the step starts where the
            squared error is least for it.
        bits: 1 to 8.
        granularity: ``"tensor"`` (one mean and step) or ``"channel"``.
        quantizer: a uniform, symmetric alphabet of ``lq_utils.alphabets``.

    The gradient goes straight through to latent weights up to half a step
    beyond the outermost level, and is 0 for those further out. That of
    the step is multiplied by 1 / sqrt(n Qp) where ``n`` weights share it
    and the outermost level is Qp steps away from 0 (half a step for one
    bit). The parameter ``factor`` (``[1, 1]`` or ``[K, 1]``, at first 1)
    is the step over the first one, so that an update of Adam, which knows
    no scale, changes all layers' steps by about the same share.

    Raises as ``LowBit``, and GridError for weights that are not finite.

    Source: Esser et al. 2020, section 2; Bhalgat et al. 2020 for the
    start. Introduced in chapter 6.
    """

    first_scale: Tensor

    def __init__(
        self,
        weight: Tensor,
        bits: int,
        granularity: str = "tensor",
        quantizer: str = "full-range",
    ) -> None:
        super().__init__(uniform_alphabet(quantizer, bits), granularity)
        self.bits = bits
        rows = weight.detach().flatten(1)
        centred = rows - self.mean(rows)
        grid = fit_grid(centred, self.alphabet, granularity, "mse")
        self.register_buffer("first_scale", grid.scale)
        self.factor = nn.Parameter(torch.ones_like(grid.scale))

    def scale(self) -> Tensor:
        """What levels are multiplied by, with its gradient.

        Float32 ``[1, 1]`` or ``[K, 1]``.
        """
        return usable(self.factor.abs() * self.first_scale)

    def rounded(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        scale = self.scale().detach()
        x = (rows - self.mean(rows)) / scale
        edge = self.alphabet.reach + self.alphabet.step / 2
        return nearest_level(x, self.alphabet), scale, x.abs() <= edge

    def forward(self, weight: Tensor) -> Tensor:
        rows = weight.detach().flatten(1)
        level, scale, inside = self.rounded(rows)
        slope = level - (rows - self.mean(rows)) / scale * inside
        steps = self.alphabet.reach / self.alphabet.step
        shared = rows.numel() // scale.numel()
        learned = self.scale()
        # Exactly `scale`, but its gradient is smaller.
        moved = (learned - learned.detach()) * (shared * steps) ** -0.5
        through = (weight - weight.detach()) * inside.view(weight.shape)
        values = level * scale + slope * moved
        return values.view(weight.shape) + through

    def extra_repr(self) -> str:
        return f"{self.alphabet.name}, {self.bits} bits, {self.granularity}"
