"""Trained networks for the compress command, from names and files.

Nothing in a file is executed: weights are read as tensors, and the
architecture is built anew from its registered name.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from lq_utils.images import ImageData
from lq_utils.models import MODELS, build_model
from lq_utils.registry import did_you_mean
from lq_utils.weights import (
    WeightsError,
    load_reference,
    load_weights,
    reference_path,
    require_same_split,
)

SAFETENSORS = ".safetensors"
TORCH = (".pt", ".pth", ".bin", ".ckpt")
UNKNOWN_SPLIT = (
    "NOTE: nothing tells which images these weights were trained on; if test "
    "images were among them, the accuracies below are too high."
)


@dataclass(frozen=True)
class TrainedModel:
    """A trained network, its registered name, and what to know of it.

    Introduced in chapter 9.
    """

    network: nn.Module
    name: str
    note: str = ""


def find_model(
    given: str, train: ImageData, architecture: str | None = None
) -> TrainedModel:
    """The trained network that ``given`` stands for.

    Args:
        given: a registered model with committed weights for the data; a
            ``.safetensors`` file of ``save_weights``; or a file of
            ``torch.save(model.state_dict())`` (``.pt``, ``.pth``).
        train: images of the classes that it tells apart.
        architecture: the registered name, for a file of torch.

    Raises:
        WeightsError: no such model or file, or one that does not fit.
        UnknownName: no such architecture.
        DataError: the reference was trained on another split.

    Introduced in chapter 9.
    """
    suffix = Path(given).suffix.lower()
    if suffix == SAFETENSORS:
        return _from_safetensors(Path(given), train)
    if suffix in TORCH:
        return _from_torch(Path(given), train, architecture)
    dataset = train.provenance.dataset
    if given in MODELS and reference_path(given, dataset).is_file():
        require_same_split(given, dataset, train.provenance)
        return TrainedModel(load_reference(given, dataset), given)
    raise WeightsError(_unknown(given, dataset))


def _unknown(given: str, dataset: str) -> str:
    known = [n for n in MODELS if reference_path(n, dataset).is_file()]
    hint = did_you_mean(given, known) or ";"
    return (
        f"no weights of '{given}' trained on {dataset}{hint} with weights: "
        f"{', '.join(known) or 'none'}. A file may be given, too: "
        f"{SAFETENSORS} of save_weights, or {' or '.join(TORCH[:2])} of "
        "torch.save(model.state_dict()) with --architecture"
    )


def _from_safetensors(path: Path, train: ImageData) -> TrainedModel:
    network = load_weights(path)
    try:
        with safe_open(path, framework="pt") as handle:
            header = handle.metadata() or {}
        names = tuple(json.loads(header["class_names"]))
    except (SafetensorError, KeyError, ValueError, TypeError) as error:
        raise WeightsError(
            f"{path} does not say its class names; store the network with "
            "lq_utils.weights.save_weights"
        ) from error
    if names != train.class_names:
        raise WeightsError(
            f"{path} was trained for {len(names)} classes "
            f"({', '.join(names[:3])}, ...), the data have "
            f"{train.num_classes} ({', '.join(train.class_names[:3])}, "
            "...): give the data set that it was trained on"
        )
    return TrainedModel(network, header["model"], _split_note(path, train))


def _split_note(path: Path, train: ImageData) -> str:
    """A warning where the training split is unknown or another one."""
    own = train.provenance
    try:
        record = json.loads(path.with_suffix(".json").read_text())["data"]
        same = record["split"] == own.split
        same = same and record["fingerprint"] == own.fingerprint
    except (OSError, ValueError, LookupError, TypeError):
        return UNKNOWN_SPLIT
    if same:
        return ""
    raise WeightsError(
        f"{path} was trained on another split or copy of the data than is "
        "loaded here: its training images may be test images now"
    )


def _from_torch(
    path: Path, train: ImageData, architecture: str | None
) -> TrainedModel:
    if architecture is None:
        raise WeightsError(
            f"{path}: name the registered architecture of these weights, "
            f"--architecture NAME; known: {', '.join(MODELS)}"
        )
    network = build_model(architecture, train.num_classes)
    try:
        network.load_state_dict(_state(path))
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise WeightsError(
            f"{path} does not fit {architecture} with {train.num_classes} "
            f"outputs ({reason})"
        ) from error
    return TrainedModel(network.eval(), architecture, UNKNOWN_SPLIT)


def _state(path: Path) -> Mapping[str, Any]:
    if not path.is_file():
        raise WeightsError(f"no file {path}")
    try:
        # Tensors and plain containers only: pickled code is refused.
        found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # (damage can raise anything)
        raise WeightsError(
            f"{path} is damaged or holds more than weights. A whole module "
            "is never loaded, for it could run any code: store "
            "torch.save(model.state_dict(), path) and give that file"
        ) from error
    state = found.get("state_dict", found) if isinstance(found, dict) else {}
    if not state or not all(
        isinstance(t, torch.Tensor) for t in state.values()
    ):
        raise WeightsError(
            f"{path} holds no state dict: store model.state_dict()"
        )
    tensors: Mapping[str, Any] = state
    return tensors
