"""What improves any solver: the search of scales, and a polish."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from lq_utils.feedback import (
    alive_columns,
    check_shapes,
    feedback_sweep,
    join_columns,
    rounding_of,
    split_columns,
)
from lq_utils.grams import Statistics
from lq_utils.grids import Grid

CANDIDATES = 18  # scales tried by `search_scale`
NARROWEST, WIDEST = 0.3, 1.3  # times the scale that just clips nothing
RIDGE = 1e-3  # weight of the weights' own error, times the mean diagonal
CANDIDATE_ELEMENTS = 2**25  # weights of all candidates held at a time


def polish(
    weight: Tensor,
    quantized: Tensor,
    statistics: Statistics,
    grid: Grid,
    sweeps: int,
) -> Tensor:
    """Coordinate descent: each weight its best level, the others fixed.

    Never increases the output error of the layer; stops early when a
    sweep changes nothing.

    Source: Zhang et al. 2024 (COMQ), Behdin et al. 2023 (QuantEase).
    Introduced in chapter 8.
    """
    groups = check_shapes(weight, statistics)
    hessian = statistics.hessian.to(weight.dtype)
    w, q = split_columns(weight, groups), split_columns(quantized, groups)
    diagonal, alive = alive_columns(hessian)
    share = (alive / diagonal).to(weight.dtype)[..., None]
    fixed = w + share * (statistics.drift.to(weight.dtype) @ w)
    feedback = share * hessian.tril(-1)
    above = share * hessian.triu(1)
    rounding = rounding_of(grid, weight.shape[0], groups)
    for _ in range(sweeps):
        target = fixed + above @ (w - q)
        fresh = feedback_sweep(target, w, feedback, rounding)
        if torch.equal(fresh, q):
            break
        q = fresh
    return join_columns(q)


def output_error(
    weight: Tensor, quantized: Tensor, statistics: Statistics
) -> Tensor:
    """Squared output error of every row, ``[K]``, up to a constant.

    ``|X w - X~ q|^2 = e^T H e + 2 e^T D w + |(X - X~) w|^2`` with
    ``e = w - q``; the last term does not depend on ``q`` and is left out.

    Introduced in chapter 3.
    """
    groups = check_shapes(weight, statistics)
    w, q = split_columns(weight, groups), split_columns(quantized, groups)
    e = w - q
    pull = statistics.hessian.to(e.dtype) @ e
    pull += 2 * (statistics.drift.to(e.dtype) @ w)
    return (e * pull).sum(dim=1).flatten()


def search_scale(
    weight: Tensor,
    statistics: Statistics,
    grid: Grid,
    solve: Callable[[Tensor, Statistics, Grid], Tensor],
    candidates: int = CANDIDATES,
) -> tuple[Grid, Tensor]:
    """The scales that leave the least output error, and that solution.

    Every candidate is solved with its feedback, so a solver that needs
    room to correct gets it: one wide sweep over the same Gram matrices.
    A grid with one scale for the whole tensor keeps one. ``solve`` must
    treat every row by itself. A small weight on the error of the weights
    themselves keeps inputs in view that these images hardly use.

    Introduced in chapter 3.
    """
    narrow, wide = math.log10(NARROWEST), math.log10(WIDEST)
    factors = torch.logspace(narrow, wide, candidates)
    # The scale that clips nothing is always among them.
    factors[(factors - 1).abs().argmin()] = 1.0
    single = grid.scale.shape[0] == 1
    least = torch.full((weight.shape[0],), torch.inf).double()
    chosen = torch.ones(weight.shape[0])
    solution = torch.empty_like(weight)
    at_once = max(1, CANDIDATE_ELEMENTS // weight.numel())
    for part in factors.split(at_once):
        solved, errors = _solve_all(weight, statistics, grid, solve, part)
        if single:
            errors = errors.sum(dim=1, keepdim=True).expand_as(errors)
        best = errors.argmin(dim=0)
        rows = torch.arange(len(best))
        better = errors[best, rows] < least
        least = torch.where(better, errors[best, rows], least)
        chosen = torch.where(better, part[best], chosen)
        solution[better] = solved[best, rows][better]
    return grid.scaled(chosen[:1] if single else chosen[:, None]), solution


def _solve_all(
    weight: Tensor,
    statistics: Statistics,
    grid: Grid,
    solve: Callable[[Tensor, Statistics, Grid], Tensor],
    factors: Tensor,
) -> tuple[Tensor, Tensor]:
    """Solutions ``[F, K, N]`` and output errors ``[F, K]`` of all factors."""
    count, rows = len(factors), weight.shape[0]
    groups = statistics.hessian.shape[0]

    def repeat(matrix: Tensor) -> Tensor:
        """Rows of every group once a candidate: [g, F, R] flat."""
        split = matrix.unflatten(0, (groups, 1, -1))
        return split.expand(-1, count, -1, -1).flatten(0, 2)

    def by_factor(flat: Tensor) -> Tensor:
        split = flat.unflatten(0, (groups, count, -1))
        return split.transpose(0, 1).flatten(1, 2)

    wide = grid.per_row(rows)
    by_row = factors[None, :, None].expand(groups, -1, rows // groups)
    many = replace(
        wide,
        scale=repeat(wide.scale) * by_row.reshape(-1, 1),
        zero_point=repeat(wide.zero_point),
    )
    repeated = repeat(weight)
    solved = solve(repeated, statistics, many)
    errors = output_error(repeated, solved, statistics).double()
    # Inputs that hardly occur here may occur elsewhere: no free clipping.
    mean = float(statistics.hessian.diagonal(dim1=1, dim2=2).mean())
    ridge = RIDGE * mean if mean > 0 else 1.0
    errors += ridge * (repeated - solved).square().sum(dim=1)
    return by_factor(solved), by_factor(errors)
