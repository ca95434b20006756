"""Weights of one or a few bits, made anew in every pass of a training.

Modules for ``torch.nn.utils.parametrize``. Each turns a latent weight in
float32 into levels times a scale, and can say which: its ``grid`` and
``codes`` are what an artifact stores, to the bit.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from lq_utils.grids import alphabet
from lq_utils.low_bit_base import (
    LatentWeight,
    LowBitWeight,
    check_clip,
    nearest_level,
    uniform_alphabet,
    usable,
)
from lq_utils.parametrizations import CompressionError
from lq_utils.stacks import find, latent_weight, layers_of

SCALE_MODES = ("l1", "ls", "absmax")
TERNARY_THRESHOLD = 0.7  # of mean|w|: Li et al. 2016, section 2.3


class LowBit(LowBitWeight):
    """Centred, clipped, rounded to 2^b levels in [-1, 1], times a scale.

    W0 are the weights less their mean (of the layer, or of each output
    channel, as ``granularity`` says), clipped to [-clip, clip]; D are the
    levels nearest to W0 / clip; the result is alpha D.

    Args:
        bits: 1 to 8; levels are -1 and 1, then -1, -1/3, 1/3, 1, ...
        scale_mode: alpha is ``"l1"`` mean|W0|, as the thesis has it (least
            squares for one bit only); ``"ls"`` <D, W0> / <D, D>, least
            squares for the levels taken; ``"absmax"`` max|W0|, and D is
            nearest to W0 / alpha.
        granularity: ``"tensor"`` (one mean and alpha) or ``"channel"``.
        clip: of the weights; more than 0.
        quantizer: a uniform, symmetric alphabet of ``lq_utils.alphabets``.

    The gradient goes straight through to the latent weights, but is 0 for
    those that are clipped; mean and alpha count as constants. Where W0 is
    0 throughout alpha is negligible, as in ``fit_grid``.

    Raises CompressionError for bits, modes, clips or quantizers that do
    not exist, GridError or UnknownName for quantizers.

    Source: QuantNET thesis, section 3.3; Rastegari et al. 2016.
    Introduced in chapter 6.
    """

    def __init__(
        self,
        bits: int,
        scale_mode: str = "l1",
        granularity: str = "tensor",
        clip: float = 1.0,
        quantizer: str = "full-range",
    ) -> None:
        super().__init__(uniform_alphabet(quantizer, bits), granularity)
        if scale_mode not in SCALE_MODES:
            raise CompressionError(
                f"scale_mode={scale_mode!r}: choose one of {SCALE_MODES}; "
                "learned steps are lq_utils.learned_step.LearnedStep"
            )
        self.bits, self.scale_mode = bits, scale_mode
        self.clip = check_clip(clip)

    def rounded(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        centred, top = rows - self.mean(rows), self.alphabet.reach
        inside = centred.abs() <= self.clip
        clipped = centred.clamp(-self.clip, self.clip)
        if self.scale_mode == "absmax":
            scale = usable(self._largest(clipped.abs()) / top)
            return nearest_level(clipped / scale, self.alphabet), scale, inside
        level = nearest_level(clipped * (top / self.clip), self.alphabet)
        if self.scale_mode == "l1":
            return level, usable(self.mean(clipped.abs()) / top), inside
        norm = self.mean(level.square())
        return level, usable(self.mean(level * clipped) / norm), inside

    def _largest(self, rows: Tensor) -> Tensor:
        if self.granularity == "tensor":
            return rows.max().view(1, 1)
        return rows.amax(dim=1, keepdim=True)

    def extra_repr(self) -> str:
        return (
            f"{self.alphabet.name}, {self.bits} bits, {self.scale_mode}, "
            f"{self.granularity}, clip={self.clip}"
        )


class BinaryConnect(LowBitWeight):
    """The signs of the weights, without a scale.

    Deterministic (sign(0) = 1), or ``stochastic`` in training mode: 1 with
    the probability (w + 1) / 2, clipped to [0, 1], drawn anew in every
    pass; in evaluation mode always deterministic. Train with
    :func:`clip_latent`; the gradient goes straight through where |w| <= 1.

    Source: Courbariaux et al. 2015, sections 2.2 to 2.4.
    Introduced in chapter 6.
    """

    def __init__(self, stochastic: bool = False) -> None:
        super().__init__(alphabet("binary", 1), "tensor")
        self.bits, self.stochastic = 1, stochastic

    def rounded(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        level = nearest_level(rows, self.alphabet)
        return level, torch.ones_like(rows[:1, :1]), rows.abs() <= 1

    def forward(self, weight: Tensor) -> Tensor:
        if not (self.stochastic and self.training):
            return super().forward(weight)
        chance = ((weight.detach() + 1) / 2).clamp(0, 1)
        drawn = torch.where(torch.rand_like(chance) < chance, 1.0, -1.0)
        through = (weight - weight.detach()) * (weight.detach().abs() <= 1)
        return drawn + through

    def extra_repr(self) -> str:
        return "stochastic" if self.stochastic else "deterministic"


class Ternary(LowBitWeight):
    """-alpha, 0 or alpha; 0 where |w| <= 0.7 mean|w|.

    Alpha is the mean of the |w| above that threshold; both are one a layer
    or one an output channel, as ``granularity`` says. The gradient goes
    straight through everywhere.

    Source: Li et al. 2016 (ternary weight networks), section 2.
    Introduced in chapter 6.
    """

    def __init__(self, granularity: str = "tensor") -> None:
        super().__init__(alphabet("ternary", 2), granularity)
        self.bits = 2

    def rounded(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        size = rows.abs()
        above = size > TERNARY_THRESHOLD * self.mean(size)
        total = self.mean(torch.where(above, size, 0.0))
        share = self.mean(above.to(rows.dtype))
        level = torch.where(above, rows.sign(), 0.0)
        return level, usable(total / share), torch.ones_like(above)

    def extra_repr(self) -> str:
        return self.granularity


def clip_latent(limit: float = 1.0) -> Callable[[int, nn.Module], None]:
    """What ``fit`` calls before every step to keep latent weights small.

    A function of the step and the network: latent weights of layers with
    weights of few bits are clipped to [-limit, limit], in place. After
    the last step nothing is clipped any more, so that trained weights
    exceed the limit by one step of the optimizer at most.

    Raises CompressionError for a limit that is not positive, and, when
    called, for a network without such layers.

    Source: Courbariaux et al. 2015, section 2.4. Introduced in chapter 6.
    """
    limit = check_clip(limit)

    @torch.no_grad()
    def before_step(step: int, network: nn.Module) -> None:
        layers = layers_of(network).values()
        pairs = [(layer, find(layer, LatentWeight)) for layer in layers]
        if not any(module for _, module in pairs):
            raise CompressionError(
                "no layer has weights of few bits whose latent weights "
                "could be clipped: make it with hybrid_network"
            )
        for layer, module in pairs:
            if module is not None:
                module.clip_(latent_weight(layer), limit)

    return before_step


def low_bit_layers(network: nn.Module) -> dict[str, nn.Module]:
    """Layers whose weights go through a :class:`LowBitWeight`, by name.

    Introduced in chapter 6.
    """
    return {
        name: layer
        for name, layer in layers_of(network).items()
        if low_bit_weight(layer) is not None
    }


def low_bit_weight(layer: nn.Module) -> LowBitWeight | None:
    """The module of few bits that a layer's weight goes through, if any.

    Introduced in chapter 6.
    """
    return find(layer, LowBitWeight)  # type: ignore[type-abstract]
