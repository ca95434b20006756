"""The weights of a large network: trained once, then found again."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lq_utils.cache import canonical_json
from lq_utils.device_quantization import full_precision
from lq_utils.device_training import train_on_device, training_file
from lq_utils.images import Splits
from lq_utils.inference import evaluate
from lq_utils.large_networks import LargeNetwork
from lq_utils.models import build_model, count_parameters
from lq_utils.paths import results_dir
from lq_utils.weights import load_weights, save_weights

PROFILE = "networks"  # in place of a profile, in rows and folders


def network_folder(name: str) -> Path:
    """Where weights and rows of a large network are written.

    Introduced in chapter 3.
    """
    return results_dir() / PROFILE / name


def weights_file(name: str) -> Path:
    """The trained weights of a large network. Introduced in chapter 3."""
    return network_folder(name) / "weights.safetensors"


def read_record(name: str) -> dict[str, Any] | None:
    """The record of the last finished training, or None.

    Introduced in chapter 3.
    """
    path = weights_file(name)
    try:
        record: dict[str, Any]
        record = json.loads(path.with_suffix(".json").read_text("utf-8"))
    except (OSError, ValueError):
        return None  # none yet, or cut off: to be trained
    return record if path.is_file() else None


def finished_record(
    settings: LargeNetwork, splits: Splits
) -> dict[str, Any] | None:
    """The record of exactly this training on these images, or None.

    Introduced in chapter 3.
    """
    record = read_record(settings.name)
    wanted = json.loads(canonical_json(settings.training()))
    if record is None or record.get("training") != wanted:
        return None
    data = record["data"]["fingerprint"], record["data"]["split"]
    ours = splits.provenance
    return record if data == (ours.fingerprint, ours.split) else None


def finished_epochs(settings: LargeNetwork, splits: Splits) -> list[Any]:
    """Rows of the epochs that a checkpoint holds; none without one.

    Introduced in chapter 3.
    """
    train, config = splits.train, settings.config
    model = build_model(settings.model, train.num_classes, config.seed)
    path = training_file(settings.model, model, train, config, settings.hole)
    if not path.is_file():
        return []
    content = torch.load(path, "cpu", weights_only=True, mmap=True)
    history: list[Any] = content["history"]
    return history


def train_large(
    settings: LargeNetwork, splits: Splits, device: str
) -> dict[str, Any]:
    """Train, test once, and write the weights; the training's record.

    Goes on from the last epoch. Raises DataError and TrainingError as
    ``train_on_device``. Introduced in chapter 3.
    """
    trained = train_on_device(
        settings.model, splits, settings.config, settings.hole, device
    )
    with full_precision():
        accuracy = evaluate(trained.model, splits.test)
    train = splits.train
    record = {
        "name": settings.name,
        "training": settings.training(),
        "num_outputs": train.num_classes,
        "parameters": count_parameters(trained.model),
        "class_names": list(train.class_names),
        "data": asdict(splits.provenance),
        "images": {
            "train": len(train),
            "validation": len(splits.validation),
            "test": len(splits.test),
        },
        "device": device,
        "selected_epoch": trained.best_epoch,
        "validation_accuracy": trained.validation_accuracy,
        "test_accuracy": accuracy,
        "seconds": sum(row["seconds"] for row in trained.history),
        "torch": torch.__version__,
        "history": trained.history,
    }
    path = weights_file(settings.name)
    save_weights(path, trained.model, settings.model, record)
    return record


def load_large(
    settings: LargeNetwork, splits: Splits, device: str
) -> tuple[nn.Module, dict[str, Any]]:
    """The trained network, on the CPU, and its record; trained if need be.

    Raises WeightsError for a damaged file. Introduced in chapter 3.
    """
    record = finished_record(settings, splits)
    if record is None:
        record = train_large(settings, splits, device)
        torch.cuda.empty_cache()  # the sweep's processes share its memory
    return load_weights(weights_file(settings.name)), record
