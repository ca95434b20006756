"""Data-free quantization: weights rounded on their grids, without images.

What lockstep calibration does with images, this does with weights alone,
in the time that rounding takes: one layer after another, none of which
knows of the others.
"""

from __future__ import annotations

import pandas as pd
import torch
from torch import nn

from lq_utils.graph import (
    fold_batch_norm,
    layer_of,
    set_weight_matrix,
    trace,
    weight_matrix,
)
from lq_utils.grids import Grid, alphabet
from lq_utils.lockstep import Quantized
from lq_utils.plan_rows import LayerPlan, PlanError
from lq_utils.plans import Plan
from lq_utils.scales import OUTPUT_RULE, fit_grid, split_options

NEAREST = "rtn"


@torch.no_grad()
def round_weights(
    network: nn.Module, plan: Plan, fold: bool = True
) -> Quantized:
    """Every weight at the nearest value of its layer's grid.

    Args:
        network: one that :func:`lq_utils.graph.trace` can follow; it is
            not changed.
        plan: a row a layer; rows with bits must have the solver "rtn"
            and a scale rule that looks at weights alone.
        fold: fold batch normalisation into the layers first.

    Returns:
        What ``quantize`` returns, without images: the table ``layers``
        has the columns layer, bits, levels and relative_error, here that
        of the weights, ||q - w|| / ||w||.

    Raises:
        TraceError: the network cannot be followed.
        PlanError: the plan does not fit to the network, or a row needs
            images.
        GridError: weights that are not finite.

    Source: bit-efficient poster. Introduced in chapter 7.
    """
    traced = trace(network)
    traced = fold_batch_norm(traced) if fold else traced
    plan.validate(traced)
    grids, rows = {}, []
    for row in plan.layers:
        if row.bits is None:
            continue
        module = layer_of(traced, row.layer)
        weight = weight_matrix(module)
        grid = _data_free_grid(weight, row)
        rounded = grid.round(weight)
        error = (rounded - weight).norm() / weight.norm().clamp(min=1e-30)
        set_weight_matrix(module, rounded)
        grids[row.layer] = grid
        rows.append((row.layer, row.bits, grid.alphabet.count, error.item()))
    columns = ["layer", "bits", "levels", "relative_error"]
    table = pd.DataFrame(rows, columns=columns)
    return Quantized(traced, grids, plan, table, fold)


def _data_free_grid(weight: torch.Tensor, row: LayerPlan) -> Grid:
    """The grid of a layer under its row; PlanError where it needs images."""
    assert row.bits is not None
    if row.solver != NEAREST or row.scale == OUTPUT_RULE or row.polish:
        raise PlanError(
            f"layer '{row.layer}': solver '{row.solver}', scale rule "
            f"'{row.scale}' and {row.polish} sweeps of polish need images: "
            "use lq_utils.lockstep.quantize, or the solver 'rtn' with the "
            "scale rule 'max' or 'mse' and no polish"
        )
    options, others = split_options(row.scale, dict(row.options))
    if others:
        raise PlanError(
            f"layer '{row.layer}': the options {', '.join(others)} belong "
            "to no data-free step"
        )
    letters = alphabet(row.quantizer, row.bits)
    return fit_grid(weight, letters, row.granularity, row.scale, **options)
