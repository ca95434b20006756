"""What it costs to store one layer in few bits: sensitivities.

Importing this module registers all kinds. Your own is a function
``f(task, **options)`` under ``register_sensitivity``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from lq_utils import curvature, layer_significance
from lq_utils.layer_rounding import single_layer_logits
from lq_utils.plans import Plan
from lq_utils.scales import option_names
from lq_utils.sensitivity_base import (
    SENSITIVITIES,
    SensitivityError,
    SensitivityTask,
    cost_table,
    register_sensitivity,
    sensitivity_task,
    squared_change,
)

# Imported for what they register, and named for the code of a sweep.
KINDS = (curvature, layer_significance)

__all__ = [
    "KINDS",
    "SENSITIVITIES",
    "SensitivityError",
    "SensitivityTask",
    "divergence",
    "register_sensitivity",
    "sensitivity_costs",
    "sensitivity_task",
]


def sensitivity_costs(
    kind: str,
    network: nn.Module,
    images: Tensor,
    labels: Sequence[int] | Tensor | None,
    classes: Sequence[int] | None,
    bits: Sequence[int],
    plan: Plan,
    *,
    fold: bool = True,
    seed: int = 0,
    batch_size: int = 64,
    **options: Any,
) -> pd.DataFrame:
    """Cost of each layer at each number of bits.

    Args:
        kind: a registered sensitivity, such as ``"divergence"``.
        network: one that can be traced; it is not changed.
        images: calibration images of the classes, float32
            ``[M, 3, H, W]``.
        labels: their outputs, ``[M]``; None for kinds without gradients.
        classes: the outputs that are compared; None: all.
        bits: numbers of bits, each once.
        plan: a template: its rows say how a layer is quantized. Its own
            bits do not count, but where they are blank the layer stays in
            full precision, and has no cost.
        fold: fold batch normalisation into the layers first.
        seed: of what is drawn.
        batch_size: images that pass the network together.
        options: of the kind.

    Returns:
        Columns ``layer``, ``bits``, ``cost``, a row each, in order of
        execution. Kinds may add columns.

    Raises:
        SensitivityError: what was given does not fit together.
        UnknownName: no such kind.
        CalibrationError, PlanError, TraceError: as for ``quantize``.

    Introduced in chapter 9.
    """
    compute = SENSITIVITIES.get(kind)
    known = option_names(compute, 1)
    for name in options:
        if name not in known:
            raise SensitivityError(
                f"sensitivity '{kind}' has no option '{name}'; its "
                f"options: {', '.join(known) or 'none'}"
            )
    task = sensitivity_task(
        network,
        images,
        labels,
        classes,
        bits,
        plan,
        fold=fold,
        seed=seed,
        batch_size=batch_size,
    )
    return compute(task, **options)


def divergence(
    original: Tensor, quantized: Tensor, classes: Sequence[int]
) -> Tensor:
    """KL(p || q) among the classes for each image, float64 ``[M]``, nats.

    ``original`` and ``quantized`` are logits ``[M, C]``; p and q are the
    softmax over the logits of ``classes`` alone. Introduced in chapter 9.
    """
    own = list(classes)
    log_p = torch.log_softmax(original[:, own].double(), dim=1)
    log_q = torch.log_softmax(quantized[:, own].double(), dim=1)
    return (log_p.exp() * (log_p - log_q)).sum(dim=1)


@register_sensitivity("divergence")
def _divergence(task: SensitivityTask) -> pd.DataFrame:
    """Mean KL divergence of the answers, with only that layer quantized.

    Among the classes; forward passes only, with the plan's own solver.
    """
    answers = single_layer_logits(
        task.network, task.images, task.solved, task.batch_size
    )
    return cost_table(
        {
            key: float(divergence(task.logits, found, task.classes).mean())
            for key, found in answers.items()
        }
    )


@register_sensitivity("weight error")
def _weight_error(task: SensitivityTask) -> pd.DataFrame:
    """Squared change ||dW||^2 of weights rounded to nearest: no images."""
    return cost_table(squared_change(task))
