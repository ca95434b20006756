"""Cells of large networks: chapters 3 and 7 with passes on a device.

The rows are those of ``lq_utils.label_aware`` and
``lq_utils.data_free_study``; only where the passes run is another matter.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from lq_utils import data_free_study, device_quantization, label_aware
from lq_utils.calibration import calibration_set
from lq_utils.data_free_study import Parts, judged, scheme_plan
from lq_utils.data_free_study import rounded_network as rounded
from lq_utils.device_quantization import (
    fine_tune_there,
    full_precision,
    quantize_there,
)
from lq_utils.images import ImageData
from lq_utils.label_aware import (
    Classes,
    Rows,
    Settings,
    accuracy_rows,
    calibration_images,
    weight_record,
    with_calibration,
)
from lq_utils.lockstep import Quantized
from lq_utils.plans import Plan


def _quantized(
    network: nn.Module,
    method: Settings,
    bits: int,
    images: Tensor,
    device: str,
) -> Quantized:
    fields = dict(method)
    fold = bool(fields.pop("fold", True))
    plan = Plan.uniform(network, bits, **fields)
    return quantize_there(network, plan, images, device, fold=fold)


def _judged(
    network: nn.Module,
    device: str,
    held_out: ImageData,
    tested: Sequence[Classes],
    **fields: Any,
) -> Rows:
    with full_precision():
        return accuracy_rows(network.to(device), held_out, tested, **fields)


def original_rows(
    tested: Sequence[Classes],
    *,
    network: nn.Module,
    held_out: ImageData,
    device: str,
) -> Rows:
    """Cell: the original network on the subsets.

    Introduced in chapter 3.
    """
    return _judged(network, device, held_out, tested, stage="original")


def quantized_rows(
    settings: Settings,
    bits: int,
    drawn_from: str,
    classes: Classes,
    images: int,
    draw: int,
    tested: Sequence[Classes],
    name: str,
    *,
    network: nn.Module,
    train: ImageData,
    held_out: ImageData,
    device: str,
) -> Rows:
    """Cell: one quantized network, tested on some subsets.

    As ``lq_utils.label_aware.quantized_rows`` with every patch of every
    image. Introduced in chapter 3.
    """
    x = calibration_images(train, drawn_from, classes, images, draw)
    found = _quantized(network, settings, bits, x, device)
    record = weight_record(network, found)
    rows = _judged(found.model, device, held_out, tested, stage="quantized")
    return with_calibration(rows, tested, drawn_from, classes, record)


def fine_tuned_rows(
    settings: Settings,
    bits: Sequence[int],
    classes: Classes,
    images: int,
    draw: int,
    steps: int,
    learning_rate: float,
    *,
    network: nn.Module,
    train: ImageData,
    held_out: ImageData,
    device: str,
) -> Rows:
    """Cell: fine-tuned on a subset, then quantized with its images.

    Introduced in chapter 3.
    """
    tuned = fine_tune_there(
        network,
        train,
        classes,
        device,
        steps=steps,
        learning_rate=learning_rate,
        seed=draw,
    )
    x = calibration_images(train, "subset", classes, images, draw)
    stage = "fine-tuned and quantized"
    rows = []
    for b in bits:
        found = _quantized(tuned, settings, b, x, device)
        rows += _judged(
            found.model, device, held_out, [classes],
            stage=stage, quantized_bits=b,
        )  # fmt: skip
    # Last, as this moves the network.
    first = _judged(tuned, device, held_out, [classes], stage="fine-tuned")
    return first + rows


def scheme_rows(
    network: str,
    bits: int | None,
    quantizer: str,
    granularity: str,
    scale: str,
    correction: str,
    full: tuple[str, ...],
    part: str,
    subsets: tuple[Classes, ...],
    images: int,
    draw: int,
    *,
    networks: Mapping[str, nn.Module],
    parts: Parts,
    device: str,
) -> Rows:
    """Cell: the network by one data-free scheme, or as it is (no bits).

    As ``lq_utils.data_free_study.scheme_rows``; the correction by images
    looks at all patches. Introduced in chapter 7.
    """
    original, own = networks[network], parts[network]
    found = original
    if bits is not None:
        plan = scheme_plan(original, bits, quantizer, granularity, scale, full)
        if correction == "images":
            seen = calibration_set(own["train"], images, draw)
            found = quantize_there(
                original, plan, seen, device, bias_correction=True
            ).model
        else:
            found = rounded(original, plan, correction)
    with full_precision():
        return judged(found.to(device), own[part], subsets)


# Everything a cell's rows depend on: the sweep's cache looks at their text.
CODE: tuple[Any, ...] = (
    sys.modules[__name__],
    device_quantization,
    *label_aware.CODE,
    *data_free_study.CODE,
)
