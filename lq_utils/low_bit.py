"""Weights of one or a few bits, made anew in every pass of a training.

Modules for ``torch.nn.utils.parametrize``. Each turns a latent weight in
float32 into levels times a scale, and can say which: its ``grid`` and
``codes`` are what an artifact stores, to the bit. A weight of a
convolution or linear layer is taken as a matrix ``[K, N]``, a row an
output channel or neuron.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor, nn

from lq_utils.grids import Alphabet, Grid, alphabet
from lq_utils.parametrizations import CompressionError
from lq_utils.scale_rules import NEGLIGIBLE, SMALLEST_NORMAL
from lq_utils.stacks import latent_weight, layers_of, stack_of

GRANULARITIES = ("tensor", "channel")
SCALE_MODES = ("l1", "ls", "absmax")
MOST_BITS = 8
TERNARY_THRESHOLD = 0.7  # of mean|w|: Li et al. 2016, section 2.3


def nearest_level(x: Tensor, letters: Alphabet) -> Tensor:
    """The nearest level of every element of ``x`` (any shape, any float).

    Ties go up. On odd integers (``letters.step`` 2) this is exact, so that
    one bit is the sign: below 0 -1, else 1.

    Source: QuantNET thesis, section 3.3. Introduced in chapter 6.
    """
    if letters.codebook is None and letters.step == 2:
        odd = 2 * torch.floor(x / 2) + 1
        return odd.clamp_(letters.lowest, letters.highest)
    return letters.nearest(x)


class LowBitWeight(nn.Module, ABC):
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

    A function of the step and the network: latent weights of layers with a
    :class:`LowBitWeight` are clipped to [-limit, limit], in place. After
    the last step nothing is clipped any more, so that trained weights
    exceed the limit by one step of the optimizer at most.

    Raises CompressionError for a limit that is not positive, and, when
    called, for a network without such layers.

    Source: Courbariaux et al. 2015, section 2.4. Introduced in chapter 6.
    """
    limit = check_clip(limit)

    @torch.no_grad()
    def before_step(step: int, network: nn.Module) -> None:
        chosen = low_bit_layers(network).values()
        if not chosen:
            raise CompressionError(
                "no layer has weights of few bits whose latent weights "
                "could be clipped: make it with hybrid_network"
            )
        for layer in chosen:
            latent_weight(layer).clamp_(-limit, limit)

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
    for module in stack_of(layer):
        if isinstance(module, LowBitWeight):
            return module
    return None


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
