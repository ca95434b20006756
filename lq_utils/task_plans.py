"""Which bits each way to compress gives each task, before anything is run.

The ways are variants of the framework: the whole, each part of it taken
away, and the plans it is compared with.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
from torch import nn

from lq_utils.bit_allocation import AllocationError
from lq_utils.graph import layer_table
from lq_utils.images import ImageData
from lq_utils.label_aware import Classes
from lq_utils.plans import Plan
from lq_utils.task_budget import (
    choose_plan,
    file_bytes,
    template,
    uniform_bytes,
)
from lq_utils.task_network import TaskNetwork, task_network
from lq_utils.task_settings import ABLATIONS, TaskSettings, changed

WHOLE = "label-aware"
BLIND = "blind to the labels"
UNIFORM = "uniform bits"
ORIGINAL = "original"
# The first and the second half of the weights, against the mean bits.
HALVES = {"first half finer": 1, "second half finer": -1}
COST_FIELDS = ["subset", "allocation", "sensitivity"]
EVERYTHING: Classes = ()  # the classes of a blind cost


@dataclass(frozen=True)
class Study:
    """What all cells share: network, images, settings of the framework.

    ``held_out`` maps the part's name to images; all classes each.

    Introduced in chapter 9.
    """

    network: nn.Module
    model_name: str
    train: ImageData
    held_out: Mapping[str, ImageData]
    settings: TaskSettings

    def task(self, classes: Classes, cut: bool = True) -> TaskNetwork:
        """The network for some classes, before compression."""
        return task_network(self.network, classes, self.train.class_names, cut)


def settings_of(variant: str, settings: TaskSettings) -> TaskSettings:
    """Settings of a variant: WHOLE, a key of HALVES or of ABLATIONS.

    Raises KeyError for another name. Introduced in chapter 9.
    """
    if variant == WHOLE:
        return settings
    if variant in HALVES:
        return changed(settings, allocation="uniform")
    return changed(settings, **ABLATIONS[variant])


def halves_plan(network: nn.Module, plan: Plan, bits: int, finer: int) -> Plan:
    """A bit more for one half of the weights, a bit less for the other.

    ``finer`` 1: the first layers get ``bits + 1``, the others ``bits -
    1``; -1: the last ones. The finer part has as many layers as fit into
    half of the weights, so that the mean is at most ``bits``.

    Source: code of the label-aware report's authors (5 + 3 bits).
    Introduced in chapter 9.
    """
    infos = layer_table(network)[::finer]
    half, used = sum(info.weights for info in infos) / 2, 0
    for info in infos:
        used += info.weights
        plan = plan.override(
            info.name, bits=bits + 1 if used <= half else bits - 1
        )
    return plan


def cost_cell(variant: str, subset: Classes, study: Study) -> dict[str, Any]:
    """The cell of the costs that a variant chooses its bits by.

    Other switches than those of the allocation change no costs: bits are
    chosen once, and then all else is compared. Introduced in chapter 9.
    """
    own = settings_of(variant, study.settings)
    aware = own.allocation == "aware"
    return {
        "subset": subset if aware else EVERYTHING,
        "allocation": own.allocation,
        "sensitivity": own.sensitivity,
    }


def cost_cells(
    variants: Sequence[str], subsets: Sequence[Classes], study: Study
) -> list[dict[str, Any]]:
    """Every cost that is needed, once.

    Introduced in chapter 9.
    """
    found = {}
    for variant in variants:
        if settings_of(variant, study.settings).allocation == "uniform":
            continue
        for subset in subsets:
            cell = cost_cell(variant, subset, study)
            found[tuple(cell.values())] = cell
    return list(found.values())


def costs_of(
    costs: pd.DataFrame, variant: str, subset: Classes, study: Study
) -> pd.DataFrame | None:
    """Columns layer, bits and cost for a variant; None: uniform bits.

    ``costs`` are the rows of ``cost_rows``. Introduced in chapter 9.
    """
    if settings_of(variant, study.settings).allocation == "uniform":
        return None
    wanted = cost_cell(variant, subset, study)
    chosen = np.ones(len(costs), dtype=bool)
    for name, value in wanted.items():
        chosen &= [found == value for found in costs[name]]
    return costs.loc[chosen, ["layer", "bits", "cost"]]


def chosen_plan(
    variant: str,
    task: TaskNetwork,
    bits: int,
    budget_bytes: int,
    costs: pd.DataFrame,
    study: Study,
) -> Plan:
    """The plan of a variant for a task within a budget.

    ``task`` is cut or not, as the variant has it; ``bits`` are those of
    the uniform network whose bytes are the budget. Raises
    AllocationError where nothing fits. Introduced in chapter 9.
    """
    own = settings_of(variant, study.settings)
    rows = template(task.network, own)
    if variant in HALVES:
        if bits - 1 < min(own.bits):
            raise AllocationError(
                f"{variant}: {bits - 1} bits are fewer than a layer may have"
            )
        plan = halves_plan(task.network, rows, bits, HALVES[variant])
        size = file_bytes(task, study.model_name, plan, own)
        if size > budget_bytes:
            raise AllocationError(
                f"{variant}: {size} bytes, the budget is {budget_bytes}"
            )
        return plan
    found = costs_of(costs, variant, task.classes, study)
    if found is None:
        return rows.override("*", bits=bits)
    return choose_plan(task, study.model_name, budget_bytes, own, found)


def _sizing(settings: TaskSettings) -> TaskSettings:
    """The settings, without those that no bits and no bytes depend on."""
    return changed(
        settings,
        subset_share=1.0,
        dead_columns="nearest",
        reconstruction_steps=0,
    )


def task_cells(
    variants: Sequence[str],
    subsets: Sequence[Classes],
    bits: Sequence[int],
    costs: pd.DataFrame,
    study: Study,
) -> list[dict[str, Any]]:
    """Every variant for every subset at every budget, with its bits.

    The budget is the size of the file with uniform bits. A variant whose
    smallest file exceeds it has no cell, nor have halves with fewer bits
    than a layer may have. Introduced in chapter 9.
    """
    # Sizes depend on the shapes alone, plans on costs and rows besides.
    sizes: dict[tuple[int, int], int] = {}
    plans: dict[tuple[Any, ...], Plan | None] = {}
    cells = []
    for subset, b, variant in product(subsets, bits, variants):
        own = _sizing(settings_of(variant, study.settings))
        shape = (len(subset), b)
        if shape not in sizes:
            sizes[shape] = uniform_bytes(
                study.task(subset), study.model_name, b, study.settings
            )
        about = tuple(cost_cell(variant, subset, study).values())
        known = (HALVES.get(variant), own, *shape, about)
        if known not in plans:
            task = study.task(subset, own.slice_classifier)
            try:
                plans[known] = chosen_plan(
                    variant, task, b, sizes[shape], costs, study
                )
            except AllocationError:
                plans[known] = None
        plan = plans[known]
        if plan is not None:
            cells.append(
                {
                    "variant": variant,
                    "subset": subset,
                    "budget": b,
                    "budget_bytes": sizes[shape],
                    "plan": tuple(row.bits for row in plan),
                }
            )
    return cells
