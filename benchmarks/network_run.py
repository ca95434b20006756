"""Quantize the whole network with our engine and write what it cost.

    python benchmarks/network_run.py FOLDER METHOD DRAW RESULT

METHOD is "ours" (every patch) or "ours, 1/4" (a quarter of them). Run by
bench_quantization.py, in a process of its own.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from measuring import (
    judge,
    metered,
    read_calibration,
    read_network,
    read_settings,
    write_result,
)
from torch import Tensor, nn

from lq_utils.graph import weight_matrix
from lq_utils.lockstep import Quantized, quantize
from lq_utils.plans import Plan

FRACTIONS = {"ours": 1.0, "ours, 1/4": 0.25}
WARM_UP = 8  # images of a run before the clock starts: it loads libraries
STEPS = ("forward", "gram", "solve")


def _quantize(
    model: nn.Module, images: Tensor, method: str, settings: dict[str, Any]
) -> Quantized:
    plan = Plan.uniform(
        model,
        settings["bits"],
        quantizer="narrow",
        granularity="channel",
        scale="output",
        solver="qronos",
    )
    return quantize(model, plan, images, patch_fraction=FRACTIONS[method])


def run(folder: Path, method: str, draw: int) -> dict[str, Any]:
    settings = read_settings(folder)
    model = read_network(folder, settings)
    # The memory order that lq_utils.inference.to_input gives.
    images = read_calibration(folder, draw)
    images = images.contiguous(memory_format=torch.channels_last)
    _quantize(model, images[:WARM_UP], method, settings)
    result: dict[str, Any] = {}
    with metered(result):
        quantized = _quantize(model, images, method, settings)
    for step in STEPS:
        result[step] = float(quantized.layers[f"{step}_s"].sum())
    weights = [
        weight_matrix(quantized.model.get_submodule(row.layer))
        for row in quantized.plan.layers
    ]
    judge(result, quantized.model, weights, folder)
    return result


def main() -> int:
    folder, method, draw, path = sys.argv[1:]
    write_result(Path(path), run(Path(folder), method, int(draw)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
