"""The study of label-aware compression: subsets, budgets, switches.

A cell is one network compressed for one subset of the classes. Its bits
are part of the cell: they are chosen before, from costs that are a sweep
of their own.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from lq_utils.engine import ENGINE, modules
from lq_utils.label_aware import Classes, Rows, subset_key
from lq_utils.method_comparison import pack_hits
from lq_utils.task_budget import template
from lq_utils.task_compression import compress_for_task, task_costs
from lq_utils.task_network import TaskNetwork, task_hits
from lq_utils.task_plans import ORIGINAL, Study, settings_of
from lq_utils.task_settings import changed

CODE: tuple[Any, ...] = ENGINE + modules(
    """
    artifact artifact_grids artifact_parts bit_allocation curvature data_free
    inference layer_rounding layer_sensitivity layer_significance
    method_comparison packing
    sensitivity_base task_budget task_calibration task_compression
    task_network task_plans task_settings task_study
    """
)


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
