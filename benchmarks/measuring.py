"""What every process of the quantization benchmark shares.

Both environments import this file: it needs torch and safetensors only.
Each method runs in a process of its own, so that memory one method leaves
behind is not counted for the next.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from metering import metered, timed
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

__all__ = [
    "judge",
    "metered",
    "most_levels",
    "read_calibration",
    "read_network",
    "read_settings",
    "timed",
    "top1",
    "write_result",
]

BATCH = 500


def read_settings(folder: Path) -> dict[str, Any]:
    """The settings that the benchmark wrote; threads are set on the way."""
    settings: dict[str, Any] = json.loads(
        (folder / "settings.json").read_text()
    )
    torch.set_num_threads(settings["threads"])
    return settings


def write_result(path: Path, result: dict[str, Any]) -> None:
    result["torch"] = torch.__version__
    path.write_text(json.dumps(result))


def read_network(folder: Path, settings: dict[str, Any]) -> nn.Module:
    """The float network with its batch norms, in evaluation mode."""
    from lq_utils.models import build_model

    model = build_model(settings["model"], settings["outputs"])
    model.load_state_dict(load_file(folder / "network.safetensors"))
    return model.eval()


def read_calibration(folder: Path, draw: int) -> Tensor:
    """Calibration images float32 ``[M, 3, H, W]`` of one draw."""
    path = folder / f"calibration_{draw}.safetensors"
    return load_file(path)["images"]


@torch.inference_mode()
def top1(model: nn.Module, path: Path) -> float:
    """Share of the images of a file that ``model`` gets right."""
    with safe_open(path, framework="pt") as handle:
        labels = handle.get_tensor("labels")
        images = handle.get_slice("images")
        hits = sum(
            int((model(images[i : i + BATCH]).argmax(1) == part).sum())
            for i, part in zip(
                range(0, len(labels), BATCH), labels.split(BATCH), strict=True
            )
        )
    return hits / len(labels)


def most_levels(weights: Iterable[Tensor]) -> int:
    """Largest number of different values in a row of any weight."""
    return max(
        len(row.unique()) for weight in weights for row in weight.flatten(1)
    )


def judge(
    result: dict[str, Any], model: nn.Module, weights: list[Tensor], data: Path
) -> None:
    """Add levels and top-1 on held-out images to ``result``."""
    result["layers"] = len(weights)
    result["levels"] = most_levels(weights)
    for part in ("validation", "test"):
        result[part] = top1(model, data / f"{part}.safetensors")
