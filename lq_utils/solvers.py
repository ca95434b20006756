"""Solvers: which point of the grid each weight takes.

``solve(weight [K, N], statistics, grid, **options)`` returns a weight on
the grid. Importing this module registers all of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from lq_utils.feedback import (
    SOLVERS,
    SolverError,
    dead_columns,
    register_solver,
    round_to_nearest,
)
from lq_utils.gpfq import gpfq, gpfq_patches
from lq_utils.gptq import gptq, qronos
from lq_utils.grams import Statistics
from lq_utils.grids import Grid, alphabet
from lq_utils.refine import output_error, polish, search_scale
from lq_utils.scales import fit_grid, split_options

if TYPE_CHECKING:
    from lq_utils.plans import LayerPlan

__all__ = [
    "SOLVERS",
    "SolverError",
    "dead_columns",
    "gpfq",
    "gpfq_patches",
    "gptq",
    "output_error",
    "polish",
    "qronos",
    "register_solver",
    "round_to_nearest",
    "search_scale",
    "solve_layer",
]


def solve_layer(
    weight: Tensor, statistics: Statistics, layer: LayerPlan
) -> tuple[Grid, Tensor]:
    """Grid and quantized weight ``[K, N]`` of one layer.

    The scale rule "output" searches the scales with the layer's own
    solver; every other rule looks at the weight only.

    Introduced in chapter 3.
    """
    solver = SOLVERS.get(layer.solver)
    scale_options, options = split_options(layer.scale, dict(layer.options))

    def solve(w: Tensor, s: Statistics, g: Grid) -> Tensor:
        return solver(w, s, g, **options)

    a = alphabet(layer.quantizer, layer.bits or 0)
    rule = "max" if layer.scale == "output" else layer.scale
    grid = fit_grid(weight, a, layer.granularity, rule, **scale_options)
    if layer.scale == "output":
        grid, quantized = search_scale(weight, statistics, grid, solve)
    else:
        quantized = solve(weight, statistics, grid)
    if layer.polish:
        quantized = polish(weight, quantized, statistics, grid, layer.polish)
    return grid, quantized
