"""The folder that a network goes to LiteRT in, written by the book's side.

``network.safetensors`` holds its weights, ``calibration_0.safetensors`` and
``test.safetensors`` images (float32 ``[N, 3, H, W]``, normalised) with
labels (int64 ``[N]``), ``settings.json`` the rest; ``measuring`` reads them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

from lq_utils.calibration import calibration_rows
from lq_utils.images import ImageData, Splits
from lq_utils.inference import to_input

MODEL = "quantnet"
THREADS = 1


def write_inputs(
    folder: Path,
    network: nn.Module,
    splits: Splits,
    formats: Iterable[str],
    *,
    calibration: int = 200,
    runs: dict[int, int],
    seed: int = 0,
) -> None:
    """Write a QuantNET with one output and what it is measured on.

    ``calibration`` images are drawn evenly by class from the training
    part with ``seed``; all test images go along. ``runs`` maps a batch
    size to the number of timed runs. Raises DataError for more images
    than there are.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows = calibration_rows(splits.train, calibration, seed)
    weights = {k: v.contiguous() for k, v in network.state_dict().items()}
    save_file(weights, folder / "network.safetensors")
    _write_images(folder / "calibration_0", splits.train.take(rows))
    _write_images(folder / "test", splits.test)
    settings: dict[str, Any] = {
        "model": MODEL,
        "outputs": 1,
        "threads": THREADS,
        "formats": list(formats),
        "runs": {str(batch): count for batch, count in runs.items()},
    }
    (folder / "settings.json").write_text(json.dumps(settings, indent=2))


def _write_images(stem: Path, data: ImageData) -> None:
    tensors = {
        "images": to_input(data.images).contiguous(),
        "labels": torch.from_numpy(data.labels).long(),
    }
    save_file(tensors, stem.with_suffix(".safetensors"))
