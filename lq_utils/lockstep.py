"""Lockstep calibration: the original and the quantized network at once.

One walk over the graph carries the activations of both. Where a layer is
to be quantized, its Gram matrices are collected, the solver replaces the
weight, and the walk goes on with both outputs. No image passes a layer
twice, however deep the network is.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd
import torch
from torch import Tensor, fx, nn

from lq_utils.activations import Batches
from lq_utils.graph import fold_batch_norm, trace
from lq_utils.grids import Grid
from lq_utils.walk import Options, Row, Walk

if TYPE_CHECKING:
    from lq_utils.plans import Plan


class CalibrationError(ValueError):
    """The calibration images cannot be used.

    Introduced in chapter 3.
    """


@dataclass
class Quantized:
    """A quantized network, simulated in float32, with its record.

    ``model`` holds weights that lie on ``grids`` (by layer name);
    ``layers`` has one row a layer: bits, levels, relative_error (of the
    layer's output, against the original network), dead_columns, and
    seconds of forward passes, Gram matrices and solver.

    Introduced in chapter 3.
    """

    model: fx.GraphModule
    grids: dict[str, Grid]
    plan: Plan
    layers: pd.DataFrame
    fold: bool


@torch.no_grad()
def quantize(
    model: nn.Module,
    plan: Plan,
    images: Tensor,
    *,
    seed: int = 0,
    fold: bool = True,
    bias_correction: bool = False,
    reestimate_batch_norm: bool = False,
    patch_fraction: float = 1.0,
    batch_size: int = 32,
    memory_mib: int = 2048,
    progress: bool = False,
) -> Quantized:
    """Quantize the weights of ``model`` according to ``plan``.

    Args:
        model: a network that :func:`lq_utils.graph.trace` can follow; it
            is not changed.
        plan: what to do with every layer.
        images: calibration images, float32 ``[M, channels, height,
            width]``, normalised as the network wants them.
        seed: of the images drawn where ``patch_fraction`` is below 1.
        fold: fold batch normalisation into the layers first.
        bias_correction: shift each layer's bias so that the mean output
            of every channel is the original one.
        reestimate_batch_norm: take the statistics of the normalisations
            that are left from the quantized network.
        patch_fraction: share of the patches in the Gram matrices: those
            of that share of each batch's images, drawn for every layer.
        batch_size: images that pass a layer together.
        memory_mib: activations beyond this many MiB go to a temporary
            file.
        progress: show a progress bar.

    Raises:
        TraceError: the network cannot be followed.
        PlanError: the plan does not fit to the network.
        CalibrationError: no images, values that are not finite, a batch
            of none, or a share of patches that is none.
        SolverError: activations that are not finite.

    Source: Lybrand and Saab 2021, section 3 (the quantized path), in one
    pass. Introduced in chapter 3.
    """
    check_images(images)
    if batch_size < 1 or not 0 < patch_fraction <= 1:
        raise CalibrationError(
            f"batch_size={batch_size}, patch_fraction={patch_fraction}: give "
            "one image or more at a time, and a share above 0, at most 1"
        )
    traced = trace(model)
    if fold:
        traced = fold_batch_norm(traced)
    plan.validate(traced)
    options = Options(
        bias_correction,
        reestimate_batch_norm,
        patch_fraction,
        torch.Generator().manual_seed(seed),
    )
    with tempfile.TemporaryDirectory() as folder:
        batches = Batches(folder, memory_mib * 2**20)
        walk = Walk(traced, plan, options, batches, progress)
        walk.run(images.split(batch_size))
    table = pd.DataFrame(walk.rows, columns=list(Row.__annotations__))
    return Quantized(walk.quantized, walk.grids, plan, table, fold)


def check_images(images: Tensor) -> None:
    """Whether images ``[M, channels, H, W]`` can be calibrated on.

    Raises CalibrationError for another shape, none, or values that are
    not finite.

    Introduced in chapter 3.
    """
    if images.ndim != 4 or not len(images):
        raise CalibrationError(
            f"calibration images of shape {tuple(images.shape)}: give at "
            "least one, [images, channels, height, width]"
        )
    if not torch.isfinite(images).all():
        raise CalibrationError(
            "the calibration images hold NaN or infinite values; check "
            "their normalisation"
        )
