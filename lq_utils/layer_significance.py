"""Significance of whole layers, turned into costs of bits.

These rules say how much a layer matters, but nothing of bits. Their cost
is the significance times the squared change of the weights at those bits,
||dW||^2: our reading, the sources only choose between two precisions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from lq_utils.components import component_counts
from lq_utils.dimension import two_nearest_neighbors
from lq_utils.graph import layer_of
from lq_utils.nearest import distinct_rows
from lq_utils.sensitivity_base import (
    SensitivityTask,
    cost_table,
    register_sensitivity,
    squared_change,
)
from lq_utils.significance import layer_steps

SHARE = 0.99  # of the variance
INPUT = "input"


@torch.no_grad()
def _measured(
    task: SensitivityTask, measure: Callable[[np.ndarray], float]
) -> dict[str, float]:
    """A number for the input, and for what each layer returns."""
    parts: dict[str, list[Tensor]] = {name: [] for name in task.layers}

    def keep(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: object, output: Tensor) -> None:
            # A copy: what follows may work in place.
            parts[name].append(output.cpu().clone())

        return hook

    handles = [
        layer_of(task.network, name).register_forward_hook(keep(name))
        for name in task.layers
    ]
    try:
        for batch in task.images.split(task.batch_size):
            task.network(batch)
    finally:
        for handle in handles:
            handle.remove()
    found = {INPUT: measure(task.images.cpu().numpy())}
    for name in task.layers:
        found[name] = measure(torch.cat(parts.pop(name)).numpy())
    return found


def _with_significance(
    task: SensitivityTask, significance: Mapping[str, float]
) -> pd.DataFrame:
    moved = squared_change(task)
    costs = {key: significance[key[0]] * d for key, d in moved.items()}
    table = cost_table(costs)
    table["significance"] = table["layer"].map(significance)
    return table


def _steps(task: SensitivityTask, sizes: Mapping[str, float]) -> pd.DataFrame:
    steps = layer_steps(sizes).set_index("layer")["step"].abs()
    return _with_significance(task, steps.to_dict())


def _dimension(values: np.ndarray) -> float:
    flat = values.reshape(len(values), -1)
    if len(distinct_rows(flat)) < 3:
        return 0.0  # a dead layer: a point or two
    return two_nearest_neighbors(flat, blocks=None).value


@register_sensitivity("dimension")
def _by_dimension(task: SensitivityTask) -> pd.DataFrame:
    """|ID_l - ID_(l-1)|: change of the intrinsic dimension, by TwoNN.

    Of what a layer returns for an image, all of it one point, against
    the layer that runs before it (the input before the first). Adds the
    column ``significance``. Source: QuantNET thesis, section 3.3.1.
    """
    return _steps(task, _measured(task, _dimension))


@register_sensitivity("components")
def _by_components(task: SensitivityTask) -> pd.DataFrame:
    """Change of the number of principal components, 99 % of variance.

    Channels are the variables. Against the layer that runs before, as
    "dimension". Adds the column ``significance``. Source: QuantNET
    thesis, section 3.3.1; Chakraborty et al. 2020, section 3.
    """

    def count(values: np.ndarray) -> float:
        return float(component_counts(values, (SHARE,))[SHARE])

    return _steps(task, _measured(task, count))


@register_sensitivity("shrinking")
def _shrinking(task: SensitivityTask) -> pd.DataFrame:
    """A layer where the network shrinks counts less.

    The label-aware report proposes to look at a layer and both its
    neighbours, and to take it for less important where a shrinking takes
    place; it gives no formula. Here: the number of values that the next
    layer returns for an image, by that of the layer before, at most 1.
    The input stands before the first layer; the last is its own next.
    Adds the column ``significance``. Source: label-aware report, section
    5.6.
    """
    sizes = list(_measured(task, lambda x: float(x[0].size)).values())
    after = [*sizes[2:], sizes[-1]]
    ratios = [min(1.0, b / a) for a, b in zip(sizes, after)]
    by_layer = dict(zip(task.layers, ratios, strict=True))
    return _with_significance(task, by_layer)
