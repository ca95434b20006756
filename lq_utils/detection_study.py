"""Cells of chapter 7's detection: which part of a detector bears few bits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from lq_utils.average_precision import (
    METRICS,
    localisation,
    match,
    precision_drop,
)
from lq_utils.cells import Cell, cell_grid
from lq_utils.detection_scenes import DetectionSet
from lq_utils.detector_rounding import (
    SET_UPS,
    fold_sequences,
    part_layers,
    round_layers,
    stored_bytes,
)
from lq_utils.engine import modules
from lq_utils.graph import weight_matrix
from lq_utils.tiny_detector import Detector

CODE = modules(
    """
    alphabets average_precision coco_detection detection_scenes
    detector_rounding graph grids inference intervals plans scale_rules
    scales tiny_detector
    """
)


def detection_cells(
    bits: Sequence[int], draws: int, seed: int, granularity: str = "channel"
) -> list[Cell]:
    """Cells of :func:`detection_row`: every set-up, one scale a channel.

    Introduced in chapter 7.
    """
    return cell_grid(
        set_up=list(SET_UPS),
        bits=bits,
        quantizer=["asymmetric"],
        granularity=[granularity],
        scale=["max"],
        draws=[draws],
        seed=[seed],
    )


def detection_row(
    set_up: str,
    bits: int,
    quantizer: str,
    granularity: str,
    scale: str,
    draws: int,
    seed: int,
    *,
    detector: Detector,
    scenes: DetectionSet,
) -> dict[str, Any]:
    """Cell: a detector with some layers rounded, tested on ``scenes``.

    ``detector`` has ``detect`` and ``parts``, as TinyDetector. Columns:
    for AP, AP50 and AP75 (0 to 1) the value, ``original_``, ``drop_``,
    ``low_`` and ``high_`` (bootstrap over images); found, overlap and
    right_class (of ``localisation``; None where nothing is found), also
    ``original_``; bytes and original_bytes; rounded, the share of weights
    that is rounded; images.

    Raises as ``part_layers``, ``round_layers``, ``match`` and
    ``precision_drop``. Introduced in chapter 7.
    """
    original = fold_sequences(detector)
    rounded = fold_sequences(detector)
    layers = part_layers(rounded, detector.parts, set_up)
    grids = round_layers(rounded, layers, bits, quantizer, granularity, scale)
    found = {"original_": original.detect(scenes.images)}
    found[""] = rounded.detect(scenes.images)
    matches = {name: match(scenes, boxes) for name, boxes in found.items()}
    row: dict[str, Any] = {"images": len(scenes)}
    for name, boxes in found.items():
        values = matches[name].precision() | localisation(scenes, boxes)
        row |= {f"{name}{k}": _known(v) for k, v in values.items()}
    drops = precision_drop(matches["original_"], matches[""], draws, seed)
    for metric in METRICS:
        drop = drops[metric]
        row |= {f"drop_{metric}": drop.value}
        row |= {f"low_{metric}": drop.low, f"high_{metric}": drop.high}
    weights = sum(p.numel() for p in rounded.parameters())
    own = [weight_matrix(rounded.get_submodule(name)) for name in layers]
    few = sum(weight.numel() for weight in own)
    row |= {"rounded": few / weights}
    row["bytes"] = stored_bytes(rounded, grids)
    row["original_bytes"] = stored_bytes(original, {})
    return row


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value
