"""Bits and bytes of a task: what fits into a budget.

Sizes are those of the file that ``save_quantized`` writes, measured, with
its header.
"""

from __future__ import annotations

import math

import pandas as pd
import torch
from torch import nn

from lq_utils.bit_allocation import (
    AllocationError,
    plan_file_bytes,
    plan_within_file,
)
from lq_utils.graph import fold_batch_norm, layer_of, layer_table, trace
from lq_utils.plans import Plan
from lq_utils.task_network import TaskNetwork
from lq_utils.task_settings import TaskSettings

TEMPLATE_BITS = 4  # of a plan's rows before they get their own


def template(network: nn.Module, settings: TaskSettings) -> Plan:
    """Rows of all layers, before each gets its own bits.

    Introduced in chapter 9.
    """
    return Plan.uniform(network, TEMPLATE_BITS, **settings.row())


def sized_network(network: nn.Module, settings: TaskSettings) -> nn.Module:
    """The network with all the tensors that its file will hold.

    Bias correction gives a bias to layers that have none: 4 bytes an
    output. Raises TraceError where it cannot be followed. Introduced in
    chapter 9.
    """
    if settings.correction != "bias":
        return network
    folded = fold_batch_norm(trace(network))
    for info in layer_table(folded):
        module = layer_of(folded, info.name)
        if module.bias is None:
            module.bias = nn.Parameter(torch.zeros(info.rows))
    return folded


def file_bytes(
    task: TaskNetwork, model_name: str, plan: Plan, settings: TaskSettings
) -> int:
    """Bytes of the task's file under a plan, before calibration.

    Introduced in chapter 9.
    """
    network = sized_network(task.network, settings)
    return plan_file_bytes(
        network, plan, model_name, task.total, fold=settings.fold
    )


def uniform_bytes(
    task: TaskNetwork, model_name: str, bits: float, settings: TaskSettings
) -> int:
    """Bytes of the file with ``bits`` for every weight, measured.

    Between whole numbers of bits: on the straight line between the two.
    Raises GridError for bits that the quantizer does not take.

    Introduced in chapter 9.
    """

    def measured(whole: int) -> int:
        plan = Plan.uniform(task.network, whole, **settings.row())
        return file_bytes(task, model_name, plan, settings)

    low = math.floor(bits)
    least = measured(low)
    if low == bits:
        return least
    return int(least + (bits - low) * (measured(low + 1) - least))


def uniform_plan(
    task: TaskNetwork,
    model_name: str,
    budget_bytes: int,
    settings: TaskSettings,
) -> Plan:
    """The most bits, the same for all layers, that fit the budget.

    Raises AllocationError where not even the fewest of ``settings.bits``
    fit. Introduced in chapter 9.
    """
    sizes = {
        b: uniform_bytes(task, model_name, b, settings) for b in settings.bits
    }
    fitting = [b for b, size in sizes.items() if size <= budget_bytes]
    if not fitting:
        least = min(sizes.values())
        raise AllocationError(
            f"with {min(sizes)} bits a weight the file has {least} bytes, "
            f"{least - budget_bytes} more than the budget of {budget_bytes}:"
            " allow fewer bits, raise the budget, or keep fewer classes"
        )
    return Plan.uniform(task.network, max(fitting), **settings.row())


def choose_plan(
    task: TaskNetwork,
    model_name: str,
    budget_bytes: int,
    settings: TaskSettings,
    costs: pd.DataFrame | None,
) -> Plan:
    """The plan of a task within a budget: from costs, or uniform.

    ``costs`` have the columns layer, bits and cost; None: uniform.
    Raises AllocationError where nothing fits. Introduced in chapter 9.
    """
    if costs is None:
        return uniform_plan(task, model_name, budget_bytes, settings)
    return plan_within_file(
        costs,
        template(task.network, settings),
        sized_network(task.network, settings),
        budget_bytes,
        model_name,
        task.total,
        fold=settings.fold,
    )
