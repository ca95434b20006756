"""Label-aware compression: a network for some classes, in so many bytes.

The framework that the label-aware report set out to build. The classifier
is cut down to the task, each layer gets the bits that the task's answers
need, the weights are quantized with the task's images in view, and the
file is measured: it never exceeds the budget.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
from torch import Tensor, nn

from lq_utils.artifact import size_report
from lq_utils.bit_allocation import AllocationError
from lq_utils.calibration import calibration_rows
from lq_utils.images import ImageData
from lq_utils.inference import to_input
from lq_utils.layer_sensitivity import sensitivity_costs
from lq_utils.lockstep import Quantized, quantize
from lq_utils.plans import Plan
from lq_utils.reconstruction import reconstruct
from lq_utils.task_budget import choose_plan, template, uniform_plan
from lq_utils.task_calibration import mixed_images, zero_dead_weights
from lq_utils.task_network import TaskNetwork, task_network
from lq_utils.task_settings import TaskSettings, changed

DEFAULTS = TaskSettings()


@dataclass(frozen=True)
class Compressed:
    """A network compressed for a task.

    ``quantized`` answers with one output a class of ``task``, in its
    order (with all outputs where the classifier was not cut).
    ``file_bytes`` is what ``save_quantized`` writes, never more than
    ``budget_bytes``; ``costs`` (columns layer, bits, cost) is what the
    bits of ``plan`` were chosen by, None where they are uniform.

    Introduced in chapter 9.
    """

    task: TaskNetwork
    quantized: Quantized
    plan: Plan
    file_bytes: int
    budget_bytes: int
    costs: pd.DataFrame | None
    settings: TaskSettings


def task_costs(
    network: nn.Module,
    train: ImageData,
    classes: Sequence[int],
    settings: TaskSettings = DEFAULTS,
) -> pd.DataFrame:
    """What each layer costs at each number of bits: layer, bits, cost.

    "aware": for the network of the task, on images of its classes;
    "blind": for ``network`` as it is, on images of all of them.

    Raises as ``sensitivity_costs`` and ``slice_classifier``. Introduced
    in chapter 9.
    """
    aware = settings.allocation != "blind"
    chosen = tuple(classes) if aware else tuple(range(train.num_classes))
    cut = aware and settings.slice_classifier
    task = task_network(network, chosen, train.class_names, cut)
    rows = calibration_rows(train, settings.cost_images, settings.seed, chosen)
    output = dict(zip(task.classes, task.outputs))
    labels = [output[int(k)] for k in train.labels[rows]]
    return sensitivity_costs(
        settings.sensitivity,
        task.network,
        to_input(train.images[rows]),
        labels,
        task.outputs,
        settings.bits,
        # Polishing takes as long again, and hardly changes proportions.
        template(task.network, changed(settings, polish=0)),
        fold=settings.fold,
        seed=settings.seed,
    )


def quantize_for_task(
    network: nn.Module, plan: Plan, images: Tensor, settings: TaskSettings
) -> Quantized:
    """The network under a plan, with the settings' solver or blocks.

    ``images`` are float32 ``[M, 3, H, W]``. Introduced in chapter 9.
    """
    if settings.dead_columns == "zero":
        network = zero_dead_weights(network, images, settings.fold)[0]
    correct = settings.correction == "bias"
    if settings.reconstruction_steps:
        return reconstruct(
            network,
            plan,
            images,
            steps=settings.reconstruction_steps,
            seed=settings.seed,
            fold=settings.fold,
            bias_correction=correct,
        )
    return quantize(
        network,
        plan,
        images,
        seed=settings.seed,
        fold=settings.fold,
        bias_correction=correct,
        reestimate_batch_norm=settings.correction == "batch norm",
        patch_fraction=settings.patch_fraction,
    )


def compress_for_task(
    network: nn.Module,
    model_name: str,
    train: ImageData,
    classes: Sequence[int],
    budget_bytes: int,
    settings: TaskSettings = DEFAULTS,
    *,
    costs: pd.DataFrame | None = None,
    plan: Plan | None = None,
) -> Compressed:
    """Compress ``network`` for some classes into ``budget_bytes``.

    Args:
        network: one of ``build_model(model_name, C)``; not changed.
        model_name: its registered name, which the file keeps.
        train: training images of all C classes.
        classes: those of the task, two or more.
        budget_bytes: what the file of ``save_quantized`` may take.
        settings: the switches.
        costs: of ``task_costs``, where they are known already.
        plan: the bits, where they are decided already.

    Returns:
        Compressed. Calibration looks at training images only.

    Raises:
        AllocationError: no plan fits; it says by how many bytes.
        TaskError: classes or network that make no task.
        TraceError, CalibrationError, DataError: as the parts raise them.

    Source: label-aware report, sections 1 and 5 (its aim); Dong et al.
    2020 (HAWQ-V2) for bits by sensitivity. Introduced in chapter 9.
    """
    names, cut = train.class_names, settings.slice_classifier
    task = task_network(network, classes, names, cut)
    if costs is None and plan is None and settings.allocation != "uniform":
        # What cannot fit is refused before costs take their minutes.
        uniform_plan(task, model_name, budget_bytes, settings)
        costs = task_costs(network, train, classes, settings)
    images = mixed_images(
        train, settings.images, settings.subset_share, classes, settings.seed
    )
    chosen = plan
    if chosen is None:
        chosen = choose_plan(task, model_name, budget_bytes, settings, costs)
    found = quantize_for_task(task.network, chosen, images, settings)
    size = size_report(found, model_name, task.total)["file_bytes"]
    if size > budget_bytes:
        raise AllocationError(
            f"the file of this plan has {size} bytes, {size - budget_bytes} "
            f"more than the budget of {budget_bytes}: give fewer bits"
        )
    return Compressed(task, found, chosen, size, budget_bytes, costs, settings)
