"""Codebooks: clustered networks as they are stored.

The weights of a clustered layer take a few values, its centroids. A code
for every weight and 32 bits for every centroid are the whole layer, to
the bit.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from lq_utils.graph import (
    layer_table,
    set_weight_matrix,
    trace,
    weight_matrix,
)
from lq_utils.grids import OWN, Grid, codebook_grid
from lq_utils.lockstep import Quantized
from lq_utils.parametrizations import CompressionError
from lq_utils.plans import FLOAT_BITS, LayerPlan, Plan
from lq_utils.stacks import layers_of, strip
from lq_utils.walk import Row


def codebook_network(
    model: nn.Module, *, most: int = 256, skip: Iterable[str] = ()
) -> Quantized:
    """A network whose layers take few values, as ``save_quantized`` wants.

    Every layer gets its own codebook, of the distinct weights that it
    has; what a clustered layer is trained with is stripped first. The
    weights stay what they are, but -0 becomes 0. Layers that a codebook
    would not make smaller (such as one of 16 different weights) stay in
    float32. Batch normalisations are not folded: this would multiply the
    values.

    Args:
        model: a clustered network, plain or still parametrized, or one
            with quantized weights (what counts are the products of code
            and scale); it is not changed.
        most: distinct weights that a layer may have.
        skip: names of layers that stay in float32.

    Raises:
        CompressionError: a layer with more than ``most`` values, with
            NaN or infinite weights, or not in float32; an unknown name
            in ``skip``.
        TraceError: the network cannot be followed.

    Source: Han et al. 2016 (deep compression), section 3.
    Introduced in chapter 4.
    """
    network = trace(strip(model)).cpu()
    chosen = layers_of(network, skip)
    plans, grids, rows = [], {}, []
    for name in (info.name for info in layer_table(network)):
        grid = None
        if name in chosen:
            grid = _own_grid(name, chosen[name], most)
        if grid is None:
            plans.append(LayerPlan(name, None))
            continue
        set_weight_matrix(chosen[name], weight_matrix(chosen[name]) + 0.0)
        grids[name] = grid
        plans.append(_row(name, grid))
        rows.append(Row(name, grid.alphabet.code_bits, grid.alphabet.count))
    table = pd.DataFrame(rows, columns=list(Row.__annotations__))
    return Quantized(network, grids, Plan(tuple(plans)), table, fold=False)


def codebook_sizes(model: nn.Module) -> pd.DataFrame:
    """What the weights of each layer take with a codebook, in bits.

    Columns: layer, weights (n), distinct (d), float_bits (32 n),
    fixed_bits (n codes of one width, as they are stored, and 32 d),
    entropy_bits (n H + 32 d, with H the entropy of the codes in bits: no
    coder that takes weights one by one gets below it). Where a codebook
    makes a layer larger the last two are float_bits. Biases and
    everything else are not in it.

    Raises CompressionError for weights that are not finite or not in
    float32. Source: Han et al. 2016 (deep compression), sections 3 and 4.
    Introduced in chapter 4.
    """
    rows = []
    for name, layer in layers_of(strip(model)).items():
        _, counts = _distinct(name, layer)
        rows.append({"layer": name, **_sizes(counts)})
    return pd.DataFrame(rows)


def _distinct(name: str, layer: nn.Module) -> tuple[Tensor, Tensor]:
    """Distinct weights (float32, ascending) and how often each occurs."""
    weight = weight_matrix(layer)
    if weight.dtype != torch.float32:
        raise CompressionError(
            f"{name} has weights in {weight.dtype}, codebooks are float32: "
            "call model.float() first"
        )
    if not torch.isfinite(weight).all():
        raise CompressionError(
            f"{name} holds NaN or infinite weights: train or load the "
            "network again"
        )
    # Adding 0 turns -0 into 0.
    values, counts = torch.unique(weight.cpu() + 0.0, return_counts=True)
    return values, counts


def _sizes(counts: Tensor) -> dict[str, Any]:
    weights, distinct = int(counts.sum()), len(counts)
    plain, centroids = FLOAT_BITS * weights, FLOAT_BITS * distinct
    width = max(1, (distinct - 1).bit_length())
    # In this form a single value gives 0, not -0.
    entropy = (counts * (weights / counts.double()).log2()).sum().item()
    return {
        "weights": weights,
        "distinct": distinct,
        "float_bits": plain,
        "fixed_bits": min(weights * width + centroids, plain),
        "entropy_bits": min(entropy + centroids, float(plain)),
    }


def _own_grid(name: str, layer: nn.Module, most: int) -> Grid | None:
    """The grid of a layer's distinct weights; None: float32 is smaller."""
    values, counts = _distinct(name, layer)
    if len(values) > most:
        raise CompressionError(
            f"{name} has {len(values)} distinct weights, most={most} "
            "allowed: cluster it, quantize it with one scale a tensor, "
            "name it in skip to keep it in float32, or raise most"
        )
    sizes = _sizes(counts)
    if sizes["fixed_bits"] == sizes["float_bits"]:
        return None
    return codebook_grid(values, weight_matrix(layer).shape[1])


def _row(name: str, grid: Grid) -> LayerPlan:
    letters = grid.alphabet
    return LayerPlan(
        name,
        letters.code_bits,
        f"{OWN}:{letters.count}",
        granularity="tensor",
        scale="max",
        solver="rtn",
    )
