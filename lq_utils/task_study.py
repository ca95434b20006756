"""The study of label-aware compression: subsets, budgets, switches.

A cell is one network compressed for one subset of the classes. Its bits
are part of the cell: they are chosen before, from costs that are a sweep
of their own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from torch import nn

from lq_utils.bit_allocation import AllocationError
from lq_utils.engine import ENGINE, modules
from lq_utils.graph import layer_table
from lq_utils.images import ImageData
from lq_utils.label_aware import Classes, Rows, subset_key
from lq_utils.method_comparison import pack_hits
from lq_utils.plans import Plan
from lq_utils.task_budget import choose_plan, template, uniform_bytes
from lq_utils.task_compression import compress_for_task, task_costs
from lq_utils.task_network import TaskNetwork, task_hits, task_network
from lq_utils.task_settings import ABLATIONS, TaskSettings, changed

CODE: tuple[Any, ...] = ENGINE + modules(
    """
    artifact artifact_grids artifact_parts bit_allocation curvature data_free
    inference layer_rounding layer_sensitivity layer_significance
    method_comparison packing
    sensitivity_base task_budget task_calibration task_compression
    task_network task_settings task_study
    """
)

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


def cost_rows(
    subset: Classes, allocation: str, sensitivity: str, *, study: Study
) -> Rows:
    """Cell: what each layer costs at each number of bits.

    Introduced in chapter 9.
    """
    own = changed(
        study.settings, allocation=allocation, sensitivity=sensitivity
    )
    costs = task_costs(study.network, study.train, subset, own)
    rows: Rows = costs[["layer", "bits", "cost"]].to_dict("records")
    return rows


def cost_cell(variant: str, subset: Classes, study: Study) -> dict[str, Any]:
    """The cell of the costs that a variant chooses its bits by.

    Other switches than those of the allocation change no costs: bits are
    chosen once, and then all else is compared. Introduced in chapter 9.
    """
    own = settings_of(variant, study.settings)
    blind = own.allocation == "blind"
    return {
        "subset": EVERYTHING if blind else subset,
        "allocation": "blind" if blind else "aware",
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
    subset: Classes,
    bits: int,
    budget_bytes: int,
    costs: pd.DataFrame,
    study: Study,
) -> Plan:
    """The plan of a variant within a budget.

    ``bits`` are those of the uniform network whose bytes are the budget.
    Raises AllocationError where nothing fits. Introduced in chapter 9.
    """
    own = settings_of(variant, study.settings)
    task = study.task(subset, own.slice_classifier)
    if variant in HALVES:
        rows = template(task.network, own)
        return halves_plan(task.network, rows, bits, HALVES[variant])
    found = costs_of(costs, variant, subset, study)
    if found is None:
        own = replace(own, bits=tuple(range(1, bits + 1)))
    return choose_plan(task, study.model_name, budget_bytes, own, found)


def task_cells(
    variants: Sequence[str],
    subsets: Sequence[Classes],
    bits: Sequence[int],
    costs: pd.DataFrame,
    study: Study,
) -> Iterator[dict[str, Any]]:
    """Every variant for every subset at every budget, with its bits.

    The budget is the size of the file with uniform bits. A variant whose
    smallest file exceeds it has no cell. Introduced in chapter 9.
    """
    for subset in subsets:
        task = study.task(subset)
        for b in bits:
            size = uniform_bytes(task, study.model_name, b, study.settings)
            for variant in variants:
                try:
                    plan = chosen_plan(variant, subset, b, size, costs, study)
                except AllocationError:
                    continue
                yield {
                    "variant": variant,
                    "subset": subset,
                    "budget": b,
                    "budget_bytes": size,
                    "plan": tuple(row.bits for row in plan),
                }


def task_rows(
    variant: str,
    subset: Classes,
    budget: int,
    budget_bytes: int,
    plan: tuple[int, ...],
    *,
    study: Study,
) -> Rows:
    """Cell: one compressed network, a row for each held-out part.

    Columns: part, correct, n, hits (``unpack_hits``), file_bytes,
    mean_bits and relative_error (of the classifier's outputs). ``budget``
    only tells what ``budget_bytes`` stand for.

    Introduced in chapter 9.
    """
    own = settings_of(variant, study.settings)
    task = study.task(subset, own.slice_classifier)
    rows = template(task.network, own)
    for name, b in zip(rows.names(), plan, strict=True):
        rows = rows.override(name, bits=b)
    found = compress_for_task(
        study.network,
        study.model_name,
        study.train,
        subset,
        budget_bytes,
        own,
        plan=rows,
    )
    record = {
        "file_bytes": found.file_bytes,
        "mean_bits": rows.mean_bits(task.network),
        "relative_error": float(
            found.quantized.layers["relative_error"].iloc[-1]
        ),
    }
    scored = score_rows(found.quantized.model, task, study)
    return [row | record for row in scored]


def original_rows(subset: Classes, *, study: Study) -> Rows:
    """Cell: the network of the task before compression.

    Introduced in chapter 9.
    """
    task = study.task(subset)
    return [
        row | {"variant": ORIGINAL}
        for row in score_rows(task.network, task, study)
    ]


def score_rows(network: nn.Module, task: TaskNetwork, study: Study) -> Rows:
    """A row for each held-out part: part, classes, correct, n, hits.

    Introduced in chapter 9.
    """
    rows: Rows = []
    for part, data in study.held_out.items():
        hits = task_hits(network, data, task)
        rows.append(
            {
                "part": part,
                "classes": subset_key(task.classes),
                "correct": int(hits.sum()),
                "n": len(hits),
                "hits": pack_hits(hits),
            }
        )
    return rows
