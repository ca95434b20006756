"""Scales: how wide a grid is, from the weights alone."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from lq_utils.grids import Alphabet, Grid, GridError
from lq_utils.scale_rules import (
    SCALE_RULES,
    Fit,
    Range,
    register_scale_rule,
)

__all__ = [
    "OUTPUT_RULE",
    "SCALE_RULES",
    "Fit",
    "fit_grid",
    "option_names",
    "register_scale_rule",
    "scale_shape",
    "split_options",
]

# Chosen by layer output error: needs Gram matrices, so solvers do it.
OUTPUT_RULE = "output"


def scale_shape(rows: int, columns: int, granularity: str) -> tuple[int, int]:
    """Shape of the scales of a weight ``[rows, columns]``.

    ``granularity`` is ``"tensor"`` (1, 1), ``"channel"`` (rows, 1) or
    ``"group:64"``, here one scale a row and 64 columns; the last group
    may be smaller. Raises GridError for anything else.

    Introduced in chapter 3.
    """
    if granularity == "tensor":
        return 1, 1
    if granularity == "channel":
        return rows, 1
    return rows, math.ceil(columns / _group_size(granularity))


def _group_size(granularity: str) -> int:
    kind, _, size = str(granularity).partition(":")
    if kind != "group" or not size.isdecimal() or int(size) == 0:
        raise GridError(
            f"unknown granularity {granularity!r}: write 'tensor', "
            "'channel', or 'group:64' for groups of 64 columns"
        )
    return int(size)


def option_names(function: Callable[..., Any], skip: int) -> list[str]:
    """Names of a function's parameters after the first ``skip``.

    Introduced in chapter 3.
    """
    return list(inspect.signature(function).parameters)[skip:]


def split_options(
    rule: str, options: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The options that a scale rule takes, and all others.

    ``power_of_two`` belongs to every rule that looks at weights alone.
    Raises UnknownName for an unknown rule.

    Introduced in chapter 3.
    """
    if rule == OUTPUT_RULE:
        return {}, dict(options)
    own = {"power_of_two", *option_names(SCALE_RULES.get(rule), 2)}
    mine = {name: v for name, v in options.items() if name in own}
    others = {name: v for name, v in options.items() if name not in own}
    return mine, others


def _find_rule(rule: str) -> Callable[..., Range]:
    if rule == OUTPUT_RULE:
        raise GridError(
            "the scale rule 'output' needs the layer's inputs: fit the "
            "grid by 'max' and hand it to lq_utils.solvers.search_scale"
        )
    return SCALE_RULES.get(rule)


def _check_options(rule: str, options: dict[str, Any]) -> None:
    for name in split_options(rule, options)[1]:
        known = ", ".join(option_names(SCALE_RULES.get(rule), 2))
        raise GridError(
            f"scale rule '{rule}' has no option '{name}'; its options: "
            f"{known or 'none'}"
        )


def _check_weight(weight: Tensor) -> None:
    if weight.ndim != 2 or not weight.numel():
        raise GridError(
            f"a weight matrix must be [K, N], not {list(weight.shape)}: "
            "flatten a convolution's weight with weight.flatten(1)"
        )
    if not torch.isfinite(weight).all():
        raise GridError(
            "the weights hold NaN or infinite values: train or load the "
            "network again"
        )


def _check_fitted(alphabet: Alphabet) -> None:
    if alphabet.own:
        raise GridError(
            f"'{alphabet.name}' stands for the centroids of a layer, which "
            "no scale rule finds: cluster the network, then hand it to "
            "lq_utils.codebooks.codebook_network"
        )


def fit_grid(
    weight: Tensor,
    alphabet: Alphabet,
    granularity: str = "channel",
    rule: str = "max",
    *,
    power_of_two: bool = False,
    **options: Any,
) -> Grid:
    """The grid of ``weight [K, N]`` (float32 or float64) under a rule.

    Args:
        alphabet: the levels before scaling.
        granularity: ``"tensor"``, ``"channel"`` or ``"group:64"``.
        rule: ``"max"`` (cover all), ``"percentile"`` (option
            ``percentile``), ``"mse"`` (options ``exponent``, ``shrinks``,
            ``narrowest``), ``"published"`` (the public GPFQ code's one
            radius a layer; options ``scalar``, ``percentile``), or your
            own.
        power_of_two: allow powers of two as scales only.

    Returns:
        Grid with float32 scales and zero points ``[1, 1]``, ``[K, 1]`` or
        ``[K, G]``. Where all weights of a scale are zero (or so small
        that the scale would be below 2^-126) the scale is 1 and rounding
        gives 0; alphabets without zero (binary, full-range) take the
        scale 2^-100 there, so that the levels they must use are
        negligible.

    Raises:
        GridError: NaN or infinite weights, another number of dimensions,
            an unknown granularity or option, an option out of range, an
            alphabet of a layer's own centroids.
        UnknownName: no such rule.

    Source: the 80-step search of Frantar et al. 2023 (GPTQ) is ``"mse"``
    with ``exponent=2.4``, but for its finer second search.
    Introduced in chapter 3.
    """
    weight = weight.detach()
    _check_weight(weight)
    _check_fitted(alphabet)
    find = _find_rule(rule)
    _check_options(rule, options)
    size = weight.shape[1]
    blocks = [weight]
    if granularity == "tensor":
        blocks = [weight.reshape(1, -1)]
    elif granularity != "channel":
        size = _group_size(granularity)
        blocks = list(weight.split(size, dim=1))
    fit = Fit(weight, alphabet, power_of_two)
    grids = [fit.grid(*find(block, fit, **options)) for block in blocks]
    scale = torch.cat([grid.scale for grid in grids], dim=1)
    zero = torch.cat([grid.zero_point for grid in grids], dim=1)
    return Grid(alphabet, scale, zero, size)
