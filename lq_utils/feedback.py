"""The recursion behind every solver, and the registry of solvers.

All of them are one recursion over the columns of a weight ``[K, N]``,

    z_t = T_t + sum_{s<t} M_ts (w_s - q_s),    q_t = nearest level to z_t,

and differ in the target ``T`` and in the strictly lower triangular
feedback ``M``: zero for rounding to nearest, ``H_ts / H_tt`` for GPFQ, a
Cholesky factor's columns for GPTQ. It runs in blocks of columns, so that
matrix products do nearly all of the work.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from lq_utils.alphabets import FLOAT32_LEVELS, Alphabet
from lq_utils.grams import Statistics
from lq_utils.grids import Grid
from lq_utils.registry import Registry

BLOCK = 32
DEAD = 1e-9  # of the largest diagonal entry; such columns are rounded

Solver = Callable[..., Tensor]
Rounding = Callable[[Tensor, int], Tensor]

SOLVERS: Registry[Solver] = Registry("solver")
register_solver = SOLVERS.register


class SolverError(ValueError):
    """Statistics, weight and grid do not fit together.

    Introduced in chapter 3.
    """


# Inside a solver everything is transposed and grouped, [g, N, R] with
# R = K / g: a column of the weight is then contiguous.


def split_columns(matrix: Tensor, groups: int) -> Tensor:
    """A matrix of all groups' columns ``[G N, K]`` as ``[G, K, N]``.

    Introduced in chapter 3.
    """
    return matrix.unflatten(0, (groups, -1)).mT.contiguous()


def join_columns(columns: Tensor) -> Tensor:
    """The inverse of ``split_columns``.

    Introduced in chapter 3.
    """
    return columns.mT.flatten(0, 1).contiguous()


def check_shapes(weight: Tensor, statistics: Statistics) -> int:
    """The number of groups, where a weight fits to its statistics.

    Raises SolverError where it does not, and for values that are not
    finite.

    Introduced in chapter 3.
    """
    groups, n = statistics.hessian.shape[:2]
    if weight.shape[1] != n or weight.shape[0] % groups:
        raise SolverError(
            f"a weight of shape {tuple(weight.shape)} does not fit to "
            f"statistics of {groups} group(s) of {n} columns"
        )
    _check_finite(weight, "weight holds")
    _check_finite(statistics.hessian, "inputs of the layer hold")
    _check_finite(statistics.drift, "inputs of the original layer hold")
    return groups


def _check_finite(values: Tensor, what: str) -> None:
    # A sum is finite only where all its terms are: no mask of them.
    if not math.isfinite(values.sum(dtype=torch.float64)):
        raise SolverError(
            f"the {what} NaN or infinite values: train or load the network "
            "again, and look at its images"
        )


def rounding_of(grid: Grid, rows: int, groups: int) -> Rounding:
    """``(z [g, R], column) -> nearest values`` of a grid.

    Introduced in chapter 3.
    """
    wide = grid.per_row(rows)
    scale = split_columns(wide.scale, groups)
    zero = split_columns(wide.zero_point, groups)
    scales, zeros = scale.unbind(1), zero.unbind(1)
    single, a = len(scales) == 1, grid.alphabet
    if a.codebook is None and a.step == 1 and not zero.any():
        return _integer_rounding(scales, a, 0 if single else grid.group_size)

    def nearest_values(z: Tensor, column: int) -> Tensor:
        group = 0 if single else column // grid.group_size
        return a.round(z, scales[group], zeros[group])

    return nearest_values


def _integer_rounding(
    scales: Sequence[Tensor], a: Alphabet, group_size: int
) -> Rounding:
    """As ``Alphabet.round`` for integers, in fewer and cheaper steps."""

    def nearest_values(z: Tensor, column: int) -> Tensor:
        s = scales[column // group_size if group_size else 0]
        if a.count > FLOAT32_LEVELS:
            return a.round(z, s, torch.zeros_like(s))
        level = z.div(s).add_(0.5).floor_().clamp_(a.lowest, a.highest)
        return level.mul_(s)

    return nearest_values


def feedback_sweep(
    target: Tensor,
    weight: Tensor,
    feedback: Tensor,
    rounding: Rounding,
    order: Tensor | None = None,
    block: int = BLOCK,
) -> Tensor:
    """The recursion that all solvers share, in blocks of columns.

    ``target`` and ``weight`` are ``[g, N, R]``, ``feedback`` ``[g, N, N]``
    strictly lower triangular, all in the order of the sweep; ``order``
    maps it to the columns of the grid. Returns ``[g, N, R]``.

    Source: GPFQ and GPTQ in Gram form; lazy updates as in the GPTQ paper,
    section 3.3. Introduced in chapter 3.
    """
    count = weight.shape[1]
    names = range(count) if order is None else order.tolist()
    quantized = torch.empty_like(weight)
    error = torch.zeros_like(weight)
    for start in range(0, count, block):
        stop = min(start + block, count)
        z = target[:, start:stop].clone()
        if start:
            z += feedback[:, start:stop, :start] @ error[:, :start]
        inner = feedback[:, start:stop, start:stop]
        values = []
        for j, (now, w) in enumerate(
            zip(z.unbind(1), weight[:, start:stop].unbind(1))
        ):
            q = rounding(now, names[start + j])
            values.append(q)
            later = inner[:, j + 1 :, j, None]
            z[:, j + 1 :].addcmul_(later, (w - q)[:, None])
        torch.stack(values, dim=1, out=quantized[:, start:stop])
        torch.sub(
            weight[:, start:stop],
            quantized[:, start:stop],
            out=error[:, start:stop],
        )
    return quantized


def alive_columns(hessian: Tensor) -> tuple[Tensor, Tensor]:
    """Diagonal ``[g, N]`` with ones for dead columns, and who is alive.

    Introduced in chapter 3.
    """
    diagonal = hessian.diagonal(dim1=1, dim2=2)
    most = diagonal.amax(dim=1, keepdim=True)
    alive = diagonal > DEAD * most
    return torch.where(alive, diagonal, 1.0), alive


def dead_columns(statistics: Statistics) -> int:
    """Number of columns whose inputs are zero on all patches.

    A solver rounds their weights to nearest. Introduced in chapter 3.
    """
    return int((~alive_columns(statistics.hessian)[1]).sum())


def descending_order(hessian: Tensor) -> Tensor:
    """One order for all groups, so that columns keep their grid.

    Introduced in chapter 3.
    """
    total = hessian.diagonal(dim1=1, dim2=2).sum(0)
    return total.argsort(descending=True, stable=True)


def permuted(matrix: Tensor, order: Tensor) -> Tensor:
    """Square matrices ``[G, N, N]``, rows and columns in another order.

    Introduced in chapter 3.
    """
    return matrix[:, order][:, :, order]


def restored(columns: Tensor, order: Tensor | None) -> Tensor:
    """Columns of ``permuted`` statistics in their first order again.

    Introduced in chapter 3.
    """
    if order is None:
        return columns
    restored = torch.empty_like(columns)
    restored[:, order] = columns
    return restored


@register_solver("rtn")
def round_to_nearest(
    weight: Tensor, statistics: Statistics, grid: Grid
) -> Tensor:
    """Every weight to its nearest level; looks at no data.

    Raises SolverError for weights that are not finite.

    Introduced in chapter 3.
    """
    _check_finite(weight, "weight holds")
    return grid.round(weight)
