"""Alphabets: the levels of a grid before scaling.

"b bits" means 2^b - 1, 2^b or 2^b + 1 levels depending on who says it, so
an alphabet's number of levels is explicit, and never exceeded. Register
your own with ``register_quantizer``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from lq_utils.registry import Registry

MAX_BITS = 32
FLOAT32_LEVELS = 2**22  # of which float32 still resolves the halves
OWN = "codebook"  # the alphabet of a layer's own centroids

QUANTIZERS: Registry[Callable[[int], Alphabet]] = Registry("quantizer")
register_quantizer = QUANTIZERS.register


class GridError(ValueError):
    """No such grid exists, or values do not lie on it."""


@dataclass(frozen=True)
class Alphabet:
    """Levels before scaling, ascending.

    Uniform alphabets hold the integers ``lowest, lowest + step, ...``
    (``count`` of them); the others list their levels in ``codebook``
    (float32 ``[count]``). ``affine`` alphabets are shifted by a zero
    point so that they cover ``min(w, 0) ... max(w, 0)``. ``own`` ones are
    the centroids of one layer, stored with it instead of scales; a plan,
    which knows only how many they are, has their indices 0, 1, ... for
    them.

    Introduced in chapter 3.
    """

    name: str
    count: int
    lowest: float
    step: int = 1
    affine: bool = False
    codebook: tuple[float, ...] | None = None
    own: bool = False

    def __post_init__(self) -> None:
        if self.codebook is None:
            return
        # As float32, so that float64 work rounds to the same levels.
        levels = torch.tensor(self.codebook, dtype=torch.float32)
        ascending = bool((levels.diff() > 0).all())
        finite = bool(torch.isfinite(levels).all())
        if len(levels) != self.count or not (ascending and finite):
            raise GridError(
                f"the codebook of '{self.name}' must hold {self.count} "
                "ascending levels, finite and different in float32"
            )
        object.__setattr__(self, "codebook", tuple(levels.tolist()))

    @property
    def highest(self) -> float:
        if self.codebook is not None:
            return self.codebook[-1]
        return self.lowest + self.step * (self.count - 1)

    @property
    def reach(self) -> float:
        """Magnitude that the scale rule "max" puts at max|w|."""
        if self.affine:
            return float(self.count - 1)
        return min(-self.lowest, self.highest) or self.highest

    @property
    def code_bits(self) -> int:
        """Bits that store one code."""
        return max(1, (self.count - 1).bit_length())

    def levels(self) -> Tensor:
        """All levels, float32 ``[count]``.

        Raises GridError for more than 2^16 of them.
        """
        if self.codebook is not None:
            return torch.tensor(self.codebook, dtype=torch.float32)
        if self.count > 2**16 + 1:
            raise GridError(f"{self.count} levels are too many to list")
        return self.lowest + self.step * torch.arange(
            self.count, dtype=torch.float32
        )

    def nearest(self, x: Tensor) -> Tensor:
        """The nearest level of every element; ties go up."""
        if self.codebook is None:
            offset = self.lowest % self.step
            k = torch.floor((x - offset) / self.step + 0.5)
            return (k * self.step + offset).clamp_(self.lowest, self.highest)
        levels = torch.tensor(self.codebook, dtype=x.dtype, device=x.device)
        middles = (levels[1:] + levels[:-1]) / 2
        return levels[torch.bucketize(x, middles, right=True)]

    def round(self, x: Tensor, scale: Tensor, zero_point: Tensor) -> Tensor:
        """The nearest values ``scale (level - zero_point)``; ties go up.

        In the precision of ``x``, but in float64 between where float32
        could not tell the levels apart.
        """
        work = torch.float64 if self.count > FLOAT32_LEVELS else x.dtype
        scale, zero = scale.to(work), zero_point.to(work)
        level = self.nearest(x.to(work) / scale + zero)
        return ((level - zero) * scale).to(x.dtype)

    def index(self, level: Tensor) -> Tensor:
        """Index (int64) of levels that ``nearest`` gave in float64."""
        if self.codebook is None:
            steps = (level.double() - self.lowest) / self.step
            return steps.round().long()
        levels = torch.tensor(
            self.codebook, dtype=level.dtype, device=level.device
        )
        return torch.searchsorted(levels, level.contiguous())

    def at(self, index: Tensor) -> Tensor:
        """Levels (float64) at these indices (int64)."""
        if self.codebook is None:
            return self.lowest + self.step * index.double()
        levels = torch.tensor(
            self.codebook, dtype=torch.float64, device=index.device
        )
        return levels[index]


def _check_bits(bits: int, least: int) -> None:
    if not least <= bits <= MAX_BITS:
        raise GridError(
            f"{bits} bits: this quantizer takes {least} to {MAX_BITS}"
        )


@register_quantizer("narrow")
def narrow(bits: int) -> Alphabet:
    """2^b - 1 integers, symmetric around zero (Brevitas' default).

    Introduced in chapter 3.
    """
    _check_bits(bits, 2)
    top = 2 ** (bits - 1) - 1
    return Alphabet("narrow", 2 * top + 1, -top)


@register_quantizer("symmetric")
def symmetric(bits: int) -> Alphabet:
    """2^b integers from -2^(b-1) to 2^(b-1) - 1 (GPTQ, BRECQ).

    Introduced in chapter 3.
    """
    _check_bits(bits, 2)
    half = 2 ** (bits - 1)
    return Alphabet("symmetric", 2 * half, -half)


@register_quantizer("mid-tread")
def mid_tread(bits: int) -> Alphabet:
    """2^b + 1 integers, symmetric around zero: the published GPFQ.

    Source: label-aware report; Lybrand and Saab 2021.

    Introduced in chapter 3.
    """
    _check_bits(bits, 1)
    half = 2 ** (bits - 1)
    return Alphabet("mid-tread", 2 * half + 1, -half)


@register_quantizer("asymmetric")
def asymmetric(bits: int) -> Alphabet:
    """2^b integers with a zero point, from min(w, 0) to max(w, 0).

    Source: bit-efficient poster.

    Introduced in chapter 7.
    """
    _check_bits(bits, 1)
    return Alphabet("asymmetric", 2**bits, 0, affine=True)


@register_quantizer("full-range")
def full_range(bits: int) -> Alphabet:
    """2^b odd integers, symmetric, without zero (one bit: the sign).

    Source: QuantNET thesis, section 3.3.

    Introduced in chapter 6.
    """
    _check_bits(bits, 1)
    return Alphabet("full-range", 2**bits, -(2**bits - 1), step=2)


@register_quantizer("power-of-two")
def power_of_two(bits: int) -> Alphabet:
    """Zero and plus or minus 2^0, 2^-1, ...: 2^b - 1 levels.

    Nearest in value, not in exponent. Source: bit-efficient poster.

    Introduced in chapter 7.
    """
    _check_bits(bits, 2)
    if bits > 8:
        raise GridError(
            f"{bits} bits: powers of two below 2^-126 do not exist in "
            "float32; a power-of-two grid takes 2 to 8 bits"
        )
    positive = [2.0**-k for k in range(2 ** (bits - 1) - 1)]
    levels = [-p for p in positive] + [0.0] + positive[::-1]
    return Alphabet("power-of-two", len(levels), -1.0, codebook=tuple(levels))


@register_quantizer("ternary")
def ternary(bits: int) -> Alphabet:
    """{-1, 0, 1}, whatever the number of bits says but two.

    Introduced in chapter 6.
    """
    if bits != 2:
        raise GridError(f"a ternary grid has 2 bits, not {bits}")
    return Alphabet("ternary", 3, -1)


@register_quantizer("binary")
def binary(bits: int) -> Alphabet:
    """{-1, 1}: the sign, with sign(0) = 1.

    Introduced in chapter 6.
    """
    if bits != 1:
        raise GridError(f"a binary grid has 1 bit, not {bits}")
    return Alphabet("binary", 2, -1, step=2)


def _own(count: str, bits: int) -> Alphabet:
    """So many centroids of a layer, whatever they are."""
    if not count.isdecimal() or int(count) == 0:
        raise GridError(
            f"unknown quantizer '{OWN}:{count}': write '{OWN}:16' for a "
            "layer with 16 centroids of its own"
        )
    letters = Alphabet(OWN, int(count), 0, own=True)
    if bits != letters.code_bits:
        raise GridError(
            f"{bits} bits: codes of {count} centroids take {letters.code_bits}"
        )
    return letters


def alphabet(quantizer: str, bits: int) -> Alphabet:
    """The alphabet of a registered quantizer at ``bits`` bits.

    ``"codebook:16"`` is that of a layer with 16 centroids of its own.

    Raises UnknownName for an unknown quantizer, GridError for bits it
    does not take.

    Introduced in chapter 3.
    """
    kind, _, count = str(quantizer).partition(":")
    if kind == OWN and quantizer not in QUANTIZERS:
        return _own(count, bits)
    return QUANTIZERS.get(quantizer)(bits)
