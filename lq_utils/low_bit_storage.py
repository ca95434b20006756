"""Networks of few bits as they are stored, to the bit."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
from torch import nn

from lq_utils.graph import layer_table, trace
from lq_utils.grids import Grid
from lq_utils.lockstep import Quantized
from lq_utils.low_bit import low_bit_weight
from lq_utils.low_bit_base import LatentWeight
from lq_utils.parametrizations import CompressionError
from lq_utils.plans import LayerPlan, Plan
from lq_utils.stacks import clone, layers_of, stack_of, strip, weight_before
from lq_utils.walk import Row


def low_bit_quantized(network: nn.Module) -> Quantized:
    """A network with weights of few bits, as ``save_quantized`` wants it.

    Each layer with a ``LowBitWeight`` gets the grid that it has now; the
    others, biases and everything else stay in float32. Quantized inputs
    of ``hybrid_network`` are part of it. Batch normalisations are not
    folded. The network itself is not changed.

    Raises:
        CompressionError: a layer of which only a part has few bits, or
            whose weights go through more after that.
        GridError: weights that are not finite.
        TraceError: the network cannot be followed.

    Source: QuantNET thesis, section 2.5. Introduced in chapter 6.
    """
    trained = clone(network).eval()
    grids, plans, rows = _grids(trained), [], []
    plain = trace(strip(trained)).cpu()
    for name in (info.name for info in layer_table(plain)):
        if name not in grids:
            plans.append(LayerPlan(name, None))
            continue
        plans.append(_row(name, grids[name]))
        letters = grids[name].alphabet
        rows.append(Row(name, letters.code_bits, letters.count))
    table = pd.DataFrame(rows, columns=list(Row.__annotations__))
    return Quantized(plain, grids, Plan(tuple(plans)), table, fold=False)


def _grids(network: nn.Module) -> dict[str, Grid]:
    found = {}
    for name, layer in layers_of(network).items():
        module, stack = low_bit_weight(layer), stack_of(layer)
        if module is None and any(isinstance(m, LatentWeight) for m in stack):
            raise CompressionError(
                f"only a part of {name} has few bits, which no file can "
                "hold: such networks are controls, to be evaluated only"
            )
        if module is None:
            continue
        if module is not stack[-1]:
            raise CompressionError(
                f"the weights of {name} go through more than few bits: "
                "strip() the network and make it anew with hybrid_network"
            )
        grid = module.grid(weight_before(layer, type(module)))
        scale, zero = grid.scale.cpu(), grid.zero_point.cpu()
        found[name] = replace(grid, scale=scale, zero_point=zero)
    return found


def _row(name: str, grid: Grid) -> LayerPlan:
    granularity = "tensor" if grid.scale.numel() == 1 else "channel"
    letters = grid.alphabet
    return LayerPlan(
        name, letters.code_bits, letters.name, granularity, "max", "rtn"
    )
