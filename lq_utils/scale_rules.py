"""Scale rules: the range of weights that a grid should cover.

A rule is a function ``f(rows [R, n], fit, **options)`` that returns the
range (low ``[R]``, high ``[R]``) of each row's grid; ``fit`` turns a range
into a grid. Register your own with ``register_scale_rule``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lq_utils.grids import Alphabet, Grid, GridError
from lq_utils.registry import Registry

WIDEST = 4 / 3  # beyond it the top power of two is never used
SMALLEST_NORMAL = 2.0**-126
NEGLIGIBLE = 2.0**-100  # scale of a zero row on a grid without zero

Range = tuple[Tensor, Tensor]

SCALE_RULES: Registry[Callable[..., Range]] = Registry("scale rule")
register_scale_rule = SCALE_RULES.register


@dataclass(frozen=True)
class Fit:
    """What a scale rule may ask: the weight, and the grid of a range.

    ``weight`` is the whole ``[K, N]`` that the rows were taken from.

    Introduced in chapter 3.
    """

    weight: Tensor
    alphabet: Alphabet
    power_of_two: bool

    def grid(self, low: Tensor, high: Tensor) -> Grid:
        """One grid a row that reaches from ``low`` to ``high`` (``[R]``).

        Zero is always covered; symmetric grids reach ``max(-low, high)``
        on both sides.
        """
        low = low.double().clamp(max=0)
        high = high.double().clamp(min=0)
        affine = self.alphabet.affine
        span = high - low if affine else torch.maximum(-low, high)
        scale = span / self.alphabet.reach
        if self.power_of_two:
            scale = nearest_power_of_two(scale)
        scale = self._usable(scale.float())
        zero = torch.zeros_like(scale)
        if affine:
            zero = torch.floor(-low / scale.double() + 0.5)
            zero = zero.clamp(0, self.alphabet.count - 1).float()
        # One scale a row, whatever the number of columns.
        return Grid(self.alphabet, scale[:, None], zero[:, None], 1)

    def _usable(self, scale: Tensor) -> Tensor:
        if not torch.isfinite(scale).all():
            raise GridError("the weights are too large for float32 scales")
        zero = torch.zeros(1, device=scale.device)
        has_zero = self.alphabet.affine or not self.alphabet.nearest(zero)
        flat = scale < SMALLEST_NORMAL
        return scale.masked_fill(flat, 1.0 if has_zero else NEGLIGIBLE)


def nearest_power_of_two(scale: Tensor) -> Tensor:
    """The nearest powers of two, in value; ties go up, zero stays zero.

    The same as 2^floor(log2(4 s / 3)): Zhou et al. 2017 (incremental
    network quantization).

    Introduced in chapter 7.
    """
    mantissa, exponent = torch.frexp(scale)  # mantissa in [0.5, 1)
    exponent = exponent - (mantissa < 0.75).int()
    powers = torch.ldexp(torch.ones_like(scale), exponent)
    return torch.where(scale > 0, powers, scale)


@register_scale_rule("max")
def _max(rows: Tensor, fit: Fit) -> Range:
    """Everything is covered: nothing is clipped."""
    return rows.amin(dim=1), rows.amax(dim=1)


def _quantile(rows: Tensor, percent: float) -> Tensor:
    # torch.quantile refuses more than 2^24 elements.
    values = np.quantile(rows.cpu().numpy(), percent / 100, axis=1)
    return torch.as_tensor(values, device=rows.device)


def _check_percentile(percentile: float) -> None:
    if not 0 < percentile <= 100:
        raise GridError(
            f"percentile={percentile}: give a number above 0, at most 100"
        )


@register_scale_rule("percentile")
def _percentile(rows: Tensor, fit: Fit, percentile: float = 99.9) -> Range:
    """``percentile`` % of the weights of a row are covered.

    Symmetric grids: quantile of |w|; affine grids cut half of the rest
    on each side.
    """
    _check_percentile(percentile)
    if not fit.alphabet.affine:
        radius = _quantile(rows.abs(), percentile)
        return -radius, radius
    tail = (100 - percentile) / 2
    return _quantile(rows, tail), _quantile(rows, 100 - tail)


@register_scale_rule("published")
def _published(
    rows: Tensor, fit: Fit, scalar: float = 1.16, percentile: float = 100.0
) -> Range:
    """One radius a layer: scalar times the mean of the rows' quantiles.

    It clips where a row's largest weight is far above the mean.
    """
    _check_percentile(percentile)
    if not scalar > 0:
        raise GridError(f"scalar={scalar}: give a positive number")
    if len(rows) > 1:
        raise GridError(
            "the scale rule 'published' has one scale a layer: "
            "use it with granularity='tensor'"
        )
    radius = scalar * _quantile(fit.weight.abs(), percentile).mean()
    return -radius[None], radius[None]


@register_scale_rule("mse")
def _mse(
    rows: Tensor,
    fit: Fit,
    exponent: float = 2.0,
    shrinks: int = 96,
    narrowest: float = 0.01,
) -> Range:
    """Least sum of |error|^exponent over shrunken ranges.

    A geometric grid of ``shrinks`` factors from ``narrowest`` to 4/3 of
    the full range, then a finer one around the best; for squared errors
    the least-squares scale of the chosen levels comes last.
    """
    if not (exponent > 0 and shrinks >= 2 and 0 < narrowest < 1):
        raise GridError(
            f"exponent={exponent}, shrinks={shrinks}, narrowest="
            f"{narrowest}: give exponent > 0, shrinks >= 2 and narrowest "
            "between 0 and 1"
        )
    search = _Search(rows, fit, exponent)
    coarse = np.geomspace(narrowest, WIDEST, shrinks)
    for factor in coarse:
        search.try_factor(torch.full_like(search.factor, factor))
    centre = search.factor
    for finer in np.geomspace(coarse[0], coarse[1], 21) / coarse[0]:
        search.try_factor(centre * finer)
        search.try_factor(centre / finer)
    if exponent == 2:
        for _ in range(4):
            search.try_factor(search.least_squares())
    return search.low * search.factor, search.high * search.factor


class _Search:
    """The best factor of every row so far; at the start 1."""

    def __init__(self, rows: Tensor, fit: Fit, exponent: float) -> None:
        self.rows, self.fit, self.exponent = rows, fit, exponent
        low, high = _max(rows, fit)
        self.low, self.high = low.double(), high.double()
        self.factor = torch.ones_like(self.low)
        self.error = self._errors(self.factor)

    def _rounded(self, factor: Tensor) -> Tensor:
        grid = self.fit.grid(self.low * factor, self.high * factor)
        return grid.round(self.rows)

    def _errors(self, factor: Tensor) -> Tensor:
        # Near the optimum errors differ by less than float32 resolves.
        error = self._rounded(factor).double().sub_(self.rows).abs_()
        return error.pow_(self.exponent).sum(dim=1)

    def try_factor(self, factor: Tensor) -> None:
        error = self._errors(factor)
        better = error < self.error
        self.error = torch.where(better, error, self.error)
        self.factor = torch.where(better, factor, self.factor)

    def least_squares(self) -> Tensor:
        """Factor that fits the levels chosen now to the rows best."""
        rounded = self._rounded(self.factor).double()
        norm = rounded.square().sum(dim=1)
        ratio = (rounded * self.rows).sum(dim=1) / norm
        usable = (norm > 0) & (ratio > 0)
        return self.factor * ratio.where(usable, torch.ones_like(ratio))
