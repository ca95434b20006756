"""GPTQ and Qronos: later columns absorb the error of earlier ones."""

from __future__ import annotations

import torch
from torch import Tensor

from lq_utils.feedback import (
    SolverError,
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

DAMPING = 0.01  # of the mean diagonal entry


@register_solver("gptq")
def gptq(
    weight: Tensor,
    statistics: Statistics,
    grid: Grid,
    *,
    damping: float = DAMPING,
    descending: bool = False,
) -> Tensor:
    """GPTQ of a weight ``[K, N]``: later columns absorb the error.

    ``damping`` is a share of the mean diagonal entry of the Hessian;
    ``descending`` is the authors' act-order.

    Source: Frantar et al. 2023, algorithm 1, by one Cholesky factor of
    the flipped matrix.

    Raises SolverError where the damped Hessian is not positive definite.

    Introduced in chapter 8.
    """
    groups = check_shapes(weight, statistics)
    w = split_columns(weight, groups)
    hessian = _damped(statistics.hessian, damping)
    order = descending_order(hessian) if descending else None
    if order is not None:
        hessian, w = permuted(hessian, order), w[:, order]
    feedback = _gptq_feedback(hessian).to(weight.dtype)
    rounding = rounding_of(grid, weight.shape[0], groups)
    q = feedback_sweep(w, w, feedback, rounding, order)
    return join_columns(restored(q, order))


def _damped(hessian: Tensor, damping: float) -> Tensor:
    damped = hessian.double().clone()
    diagonal = damped.diagonal(dim1=1, dim2=2)
    mean = diagonal.mean(dim=1, keepdim=True)
    # An input that is zero everywhere leaves nothing to weigh by.
    diagonal += torch.where(mean > 0, damping * mean, 1.0)
    return damped


def _gptq_feedback(hessian: Tensor) -> Tensor:
    """``M_ts = V_st / V_tt`` with H = V V^T and V upper triangular."""
    flipped, info = torch.linalg.cholesky_ex(hessian.flip(1, 2))
    if int(info.max()):
        raise SolverError(
            "the Hessian is not positive definite; give more damping, or "
            "more calibration images"
        )
    upper = flipped.flip(1, 2)
    diagonal = upper.diagonal(dim1=1, dim2=2)
    return (upper / diagonal[:, None]).mT.tril(-1)


@register_solver("qronos")
def qronos(
    weight: Tensor,
    statistics: Statistics,
    grid: Grid,
    *,
    damping: float = 1e-4,
    descending: bool = False,
) -> Tensor:
    """GPTQ on the weight that best repeats the original outputs.

    That weight is ``(H + c I)^-1 (G + c I) w``: the inputs have drifted,
    and the solution of least squares corrects it before rounding. It
    makes nearly all of Qronos' decisions.

    Source: Zhang et al. 2025 (Qronos). Introduced in chapter 8.
    """
    groups = check_shapes(weight, statistics)
    damped = _damped(statistics.hessian, damping)
    w = split_columns(weight, groups).double()
    moved = w + torch.linalg.solve(damped, statistics.drift.double() @ w)
    corrected = join_columns(moved).to(weight.dtype)
    return gptq(
        corrected, statistics, grid, damping=damping, descending=descending
    )
