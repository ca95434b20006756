"""GPFQ as the label-aware report's code has it: dead inputs lose weights."""

from __future__ import annotations

import torch
from torch import Tensor

from lq_utils.feedback import SolverError, alive_columns, register_solver
from lq_utils.gpfq import gpfq
from lq_utils.grams import Statistics
from lq_utils.grids import Grid


@register_solver("gpfq-zero-dead")
def gpfq_zero_dead(
    weight: Tensor, statistics: Statistics, grid: Grid
) -> Tensor:
    """GPFQ that sets the weights of dead columns to zero.

    What the label-aware report's GPFQ code does with an input that is
    zero on all calibration images. The other columns are those of GPFQ:
    a dead one has no part in any product.

    Raises SolverError where the grid has no zero.

    Introduced in chapter 3.
    """
    if float(grid.alphabet.nearest(torch.zeros(1))) != 0:
        raise SolverError(
            f"the alphabet {grid.alphabet.name} has no zero for dead columns"
        )
    quantized = gpfq(weight, statistics, grid)
    alive = alive_columns(statistics.hessian)[1]
    rows = len(weight) // len(alive)
    kept = alive.repeat_interleave(rows, dim=0)
    return torch.where(kept, quantized, torch.zeros_like(quantized))
