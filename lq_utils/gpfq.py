"""GPFQ: greedy path-following quantization, and its variants."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from lq_utils.feedback import (
    BLOCK,
    DEAD,
    Rounding,
    SolverError,
    alive_columns,
    check_shapes,
    descending_order,
    feedback_sweep,
    join_columns,
    permuted,
    register_solver,
    restored,
    rounding_of,
    split_columns,
)
from lq_utils.grams import Statistics
from lq_utils.grids import Grid

ROWS = 128  # patches whose squares are added up at a time


@register_solver("gpfq")
def gpfq(
    weight: Tensor,
    statistics: Statistics,
    grid: Grid,
    *,
    descending: bool = False,
) -> Tensor:
    """Greedy path-following quantization of a weight ``[K, N]``.

    Column by column, the level that keeps the running output error
    ``sum_s w_s x_s - q_s x~_s`` smallest. ``descending`` sorts the columns
    by the norm of their inputs first.

    Source: Lybrand and Saab 2021, algorithm 1; Zhang, Zhou and Saab 2023.
    Introduced in chapter 3.
    """
    return _gpfq(weight, statistics, grid, descending)


def _gpfq(
    weight: Tensor,
    statistics: Statistics,
    grid: Grid,
    descending: bool = False,
    wrap: Callable[[Rounding], Rounding] | None = None,
) -> Tensor:
    groups = check_shapes(weight, statistics)
    hessian = statistics.hessian.to(weight.dtype)
    drift = statistics.drift.to(weight.dtype)
    w = split_columns(weight, groups)
    order = None
    if descending:
        order = descending_order(hessian)
        hessian, drift = permuted(hessian, order), permuted(drift, order)
        w = w[:, order]
    diagonal, alive = alive_columns(hessian)
    share = (alive / diagonal).to(weight.dtype)[..., None]
    target = w + share * (drift.tril() @ w)
    rounding = rounding_of(grid, weight.shape[0], groups)
    if wrap is not None:
        rounding = wrap(rounding)
    feedback = share * hessian.tril(-1)
    q = feedback_sweep(target, w, feedback, rounding, order)
    return join_columns(restored(q, order))


@register_solver("gpfq-stochastic")
def gpfq_stochastic(
    weight: Tensor, statistics: Statistics, grid: Grid, *, seed: int = 0
) -> Tensor:
    """GPFQ that rounds up or down at random, right on average.

    Uniform grids only. Source: Zhang and Saab 2023, stochastic
    path-following quantization.

    Raises SolverError for an alphabet that is not uniform.

    Introduced in chapter 3.
    """
    a = grid.alphabet
    if a.codebook is not None or a.step != 1:
        raise SolverError(f"stochastic rounding needs integers, not {a.name}")
    groups = check_shapes(weight, statistics)
    wide = grid.per_row(weight.shape[0])
    scale = split_columns(wide.scale, groups).to(weight.dtype)
    zero = split_columns(wide.zero_point, groups).to(weight.dtype)
    generator = torch.Generator().manual_seed(seed)

    def wrap(_: Rounding) -> Rounding:
        def draw(z: Tensor, column: int) -> Tensor:
            group = 0 if scale.shape[1] == 1 else column // grid.group_size
            s, o = scale[:, group], zero[:, group]
            dice = torch.rand(z.shape, generator=generator, dtype=z.dtype)
            level = torch.floor(z / s + o + dice)
            return (level.clamp(a.lowest, a.highest) - o) * s

        return draw

    return _gpfq(weight, statistics, grid, wrap=wrap)


@register_solver("gpfq-sparse-soft")
def gpfq_sparse_soft(
    weight: Tensor, statistics: Statistics, grid: Grid, *, threshold: float
) -> Tensor:
    """GPFQ with soft thresholding: large values shrink, small vanish.

    ``threshold`` is in units of the weight. Source: label-aware report's
    GPFQ code (L1 regularisation); Zhang, Zhou and Saab 2023.
    Introduced in chapter 3.
    """

    def wrap(nearest: Rounding) -> Rounding:
        def shrink(z: Tensor, column: int) -> Tensor:
            small = (z.abs() - threshold).clamp(min=0) * z.sign()
            return nearest(small, column)

        return shrink

    return _gpfq(weight, statistics, grid, wrap=wrap)


@register_solver("gpfq-sparse-hard")
def gpfq_sparse_hard(
    weight: Tensor, statistics: Statistics, grid: Grid, *, threshold: float
) -> Tensor:
    """GPFQ with hard thresholding: values up to ``threshold`` are zero.

    What is kept takes its nearest level on the same grid (the published
    code moves the levels instead). Source: Zhang, Zhou and Saab 2023 (L0
    regularisation). Introduced in chapter 3.
    """

    def wrap(nearest: Rounding) -> Rounding:
        def cut(z: Tensor, column: int) -> Tensor:
            kept = torch.where(z.abs() > threshold, z, 0.0)
            return nearest(kept, column)

        return cut

    return _gpfq(weight, statistics, grid, wrap=wrap)


def gpfq_patches(
    weight: Tensor,
    quantized: Tensor,
    analog: Tensor,
    grid: Grid,
    block: int = 2 * BLOCK,
) -> Tensor:
    """GPFQ from the patches ``[m, N]`` themselves, block by block.

    The same decisions as :func:`gpfq` on their Gram matrices, without an
    ``[N, N]`` matrix: cheaper where N is several times K. No groups.

    Raises SolverError where patches and weight do not fit.

    Source: Lybrand and Saab 2021, algorithm 1. Introduced in chapter 3.
    """
    fits = quantized.shape[1] == weight.shape[1]
    if quantized.shape != analog.shape or not fits:
        raise SolverError(
            f"patches {tuple(quantized.shape)} and {tuple(analog.shape)} do "
            f"not fit to a weight {tuple(weight.shape)}"
        )
    rounding = rounding_of(grid, weight.shape[0], 1)
    # In parts: the squares of all patches would pass the memory twice.
    squares = sum(x.square().sum(0) for x in quantized.split(ROWS))
    assert isinstance(squares, Tensor)
    most = float(squares.max())
    away = weight.new_zeros(len(quantized), weight.shape[0])
    result = []
    for start in range(0, weight.shape[1], block):
        columns = slice(start, start + block)
        w = weight[:, columns].T
        x = quantized[:, columns]
        # Side by side, so that both pass the memory once for each product.
        both = torch.cat([x, analog[:, columns] - x], dim=1)
        x = both[:, : len(w)]
        hessian, drift = (x.T @ both).split(len(w), dim=1)
        alive = hessian.diagonal() > DEAD * most
        share = (alive / torch.where(alive, hessian.diagonal(), 1.0))[:, None]
        pull = x.T @ away + drift.tril() @ w
        names = torch.arange(start, start + len(w))
        q = feedback_sweep(
            (w + share * pull)[None],
            w.contiguous()[None],
            (share * hessian.tril(-1))[None],
            rounding,
            names,
        )[0]
        away.addmm_(both, torch.cat([w - q, w]))
        result.append(q)
    return torch.cat(result).T.contiguous()
