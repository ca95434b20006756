"""Wide layers: solved on their patches where that costs less.

A Gram matrix has the square of a layer's inputs; a layer with many inputs
and few outputs is cheaper to solve on the patches themselves.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lq_utils.feedback import BLOCK, DEAD
from lq_utils.gpfq import gpfq_patches
from lq_utils.grams import patches
from lq_utils.graph import weight_matrix
from lq_utils.grids import Grid, alphabet
from lq_utils.plan_rows import LayerPlan
from lq_utils.scales import fit_grid, split_options
from lq_utils.shifts import shiftable

MOST_BYTES = 2**28  # patches of both networks held in memory


def cheaper_on_patches(
    module: nn.Module, layer: LayerPlan, batches: Sequence[Tensor]
) -> bool:
    """Whether GPFQ on the patches needs less work than Gram matrices.

    Multiplications for ``m`` patches, ``K`` outputs and ``N`` inputs: 3 m
    K N for the running error and 4 m N for each column of a block, against
    2 m N^2 for both Gram matrices. Only plain GPFQ with scales that come
    from the weights alone has this form: searched scales and a polish
    read the Gram matrices many times. Patches must fit into 256 MiB.

    Source: Lybrand and Saab 2021, algorithm 1, in blocks. Introduced in
    chapter 3.
    """
    _, options = split_options(layer.scale, dict(layer.options))
    plain = layer.solver == "gpfq" and not options and not layer.polish
    if not plain or layer.scale == "output" or shiftable(module):
        return False
    first = patches(module, batches[0][:1])
    rows, columns = weight_matrix(module).shape
    count = first.shape[-1] * sum(len(x) for x in batches)
    fits = 2 * count * columns * 4 <= MOST_BYTES
    less = 3 * rows + 8 * BLOCK < 2 * columns
    return len(first) == 1 and fits and less


def solve_on_patches(
    module: nn.Module,
    layer: LayerPlan,
    quantized: Sequence[Tensor],
    analog: Sequence[Tensor],
) -> tuple[Grid, Tensor, int]:
    """Grid, quantized weight ``[K, N]`` and number of dead columns.

    ``quantized`` and ``analog`` are batches of layer inputs in the partly
    quantized and in the original network.

    Introduced in chapter 3.
    """
    weight = weight_matrix(module)
    seen = _stacked(module, quantized)
    same = all(a is b for a, b in zip(quantized, analog))
    original = seen if same else _stacked(module, analog)
    scale_options, _ = split_options(layer.scale, dict(layer.options))
    a = alphabet(layer.quantizer, layer.bits or 0)
    grid = fit_grid(weight, a, layer.granularity, layer.scale, **scale_options)
    norms = seen.square().sum(0)
    dead = int((norms <= DEAD * norms.max()).sum())
    return grid, gpfq_patches(weight, seen, original, grid), dead


def _stacked(module: nn.Module, batches: Sequence[Tensor]) -> Tensor:
    """The patches of all batches, ``[m, N]``."""
    return torch.cat([patches(module, x)[0].T for x in batches])
