"""Settings of QuantNET: its tunable parameters, and what a training gives.

A setting is a dict of plain values, a space a dict of their choices:
change a copy of ``THESIS_SPACE`` to search elsewhere.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from lq_utils.compressed_training import fit
from lq_utils.images import ImageData
from lq_utils.inference import predict
from lq_utils.keras_search import Outcome, Setting, Space
from lq_utils.models import count_parameters
from lq_utils.quantnet import QuantNet
from lq_utils.recipes import TrainingConfig, TrainingError
from lq_utils.training import loss_of

# QuantNET thesis, table 4.1: the ranges, and the values it found.
THESIS_SPACE: Space = {
    "conv1_filters": tuple(range(16, 129, 16)),
    "conv2_filters": tuple(range(16, 129, 16)),
    "kernel_size": (3, 5, 7, 9),
    "dropout": (0.1, 0.2, 0.3, 0.4, 0.5),
    "optimizer": ("adam", "sgd", "rmsprop"),
    "learning_rate": (1e-5, 1e-4, 1e-3, 1e-2, 1e-1),
    "epochs": tuple(range(10, 101, 10)),
    "batch_size": (32, 64, 128, 256, 512),
}
THESIS_SETTING: Setting = {
    "conv1_filters": 32,
    "conv2_filters": 64,
    "kernel_size": 3,
    "dropout": 0.1,
    "initializer": "he normal",
    "optimizer": "adam",
    "learning_rate": 1e-3,
    "epochs": 100,
    "batch_size": 64,
}
# What the thesis does not tune: a constant rate, plain SGD, no decay.
BASE = TrainingConfig(
    momentum=0.0, weight_decay=0.0, schedule="constant", augment=False
)


def network_of(
    setting: Mapping[str, Any], num_outputs: int, seed: int = 0
) -> QuantNet:
    """The untrained network of a setting, its weights drawn by ``seed``.

    What ``setting`` does not name is as in ``THESIS_SETTING``. Raises
    ValueError for values that QuantNET does not take.

    Introduced in chapter 4.
    """
    chosen = {**THESIS_SETTING, **setting}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return QuantNet(
            num_outputs,
            filters=(chosen["conv1_filters"], chosen["conv2_filters"]),
            kernel_size=chosen["kernel_size"],
            dropout=chosen["dropout"],
            initializer=chosen["initializer"],
        )


def recipe_of(
    setting: Mapping[str, Any], base: TrainingConfig = BASE, seed: int = 0
) -> TrainingConfig:
    """The training of a setting; all that is not tuned is as in ``base``.

    What ``setting`` does not name is as in ``THESIS_SETTING``. Raises
    TrainingError for values that no training takes.

    Introduced in chapter 4.
    """
    names = ("optimizer", "learning_rate", "epochs", "batch_size")
    chosen = {**THESIS_SETTING, **setting}
    return replace(base, seed=seed, **{name: chosen[name] for name in names})


def train_and_score(
    setting: Mapping[str, Any],
    config: TrainingConfig,
    train: ImageData,
    validation: ImageData,
    device: str = "auto",
) -> Outcome:
    """What the network of a setting reaches when trained by ``config``.

    Two classes have one output. Returns parameters (number), of the best
    epoch validation_accuracy (0 to 1) and validation_loss (mean cross
    entropy, nats), seconds, and status: "ok", or "diverged" or "out of
    memory", which have accuracy 0 and an infinite loss.

    Raises ValueError, DataError as ``network_of`` and ``fit`` do.

    Introduced in chapter 4.
    """
    started = time.perf_counter()
    outputs = 1 if train.num_classes == 2 else train.num_classes
    with torch.device("meta"):  # counts what no memory may hold
        parameters = count_parameters(network_of(setting, outputs))
    accuracy, loss, status = 0.0, math.inf, "diverged"
    try:
        network = network_of(setting, outputs, config.seed)
        trained = fit(
            network, train, validation, config, device=device, progress=False
        )
        logits = predict(trained.model, validation)
        labels = torch.from_numpy(validation.labels)
        found = loss_of(logits, labels, 0.0).item()
        if math.isfinite(found):
            accuracy, loss = trained.validation_accuracy, found
            status = "ok"
    except TrainingError:
        pass  # the network fits: only a loss that is not finite is left
    except (RuntimeError, MemoryError) as error:
        if not _out_of_memory(error):
            raise
        status = "out of memory"
    return {
        "parameters": parameters,
        "validation_accuracy": accuracy,
        "validation_loss": loss,
        "seconds": time.perf_counter() - started,
        "status": status,
    }


def _out_of_memory(error: Exception) -> bool:
    # On a CPU, torch raises a plain RuntimeError of its allocator.
    return (
        isinstance(error, MemoryError)
        or "out of memory" in str(error)
        or "DefaultCPUAllocator" in str(error)
    )
