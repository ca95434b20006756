"""How a network is trained: the configuration and its schedules."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch


class TrainingError(RuntimeError):
    """Training cannot start or has diverged."""


@dataclass(frozen=True)
class TrainingConfig:
    """How a network is trained.

    ``image_sizes`` shares the epochs evenly between image sizes in pixels
    (progressive resizing); the last one must be the size used afterwards.
    ``patience`` stops after that many epochs without a better validation
    accuracy; ``None`` never does. ``momentum`` is that of "sgd"; "adam"
    and "rmsprop" run with torch's own constants.

    Introduced in chapter 1.
    """

    epochs: int = 15
    batch_size: int = 128
    optimizer: str = "sgd"
    learning_rate: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    schedule: str = "one-cycle"
    warmup: float = 0.2
    label_smoothing: float = 0.0
    augment: bool = True
    image_sizes: tuple[int, ...] = (32,)
    patience: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        choices = {
            "optimizer": (self.optimizer, ("sgd", "adam", "rmsprop")),
            "schedule": (
                self.schedule,
                ("one-cycle", "cosine", "constant"),
            ),
        }
        for name, (value, known) in choices.items():
            if value not in known:
                raise TrainingError(f"{name} {value!r}; choose of {known}")
        if self.epochs < 1 or self.batch_size < 2:
            raise TrainingError("epochs must be >= 1, batch_size >= 2")
        if not self.image_sizes:
            raise TrainingError("image_sizes is empty; give at least (32,)")


def learning_rate_at(progress: float, config: TrainingConfig) -> float:
    """Learning rate at ``progress`` (0 to 1) of the training.

    ``one-cycle`` rises linearly over the warm-up share, then follows a
    cosine to zero; ``cosine`` has no warm-up.

    Introduced in chapter 1.
    """
    peak = config.learning_rate
    if config.schedule == "constant":
        return peak
    warmup = config.warmup if config.schedule == "one-cycle" else 0.0
    if progress < warmup:
        return peak * (0.04 + 0.96 * progress / warmup)
    share = (progress - warmup) / (1 - warmup)
    return peak * 0.5 * (1 + math.cos(math.pi * share))


def image_size_at(epoch: int, config: TrainingConfig) -> int:
    """Side in pixels of the training images in ``epoch`` (from 0).

    Introduced in chapter 1.
    """
    share = epoch * len(config.image_sizes) // config.epochs
    return config.image_sizes[share]


def make_optimizer(
    parameters: Iterable[Any], config: TrainingConfig
) -> torch.optim.Optimizer:
    """The optimizer of a configuration, for parameters or groups of them.

    Introduced in chapter 1.
    """
    if config.optimizer == "adam":
        return torch.optim.Adam(
            parameters,
            lr=config.learning_rate,
            weight_decay=config.weight_decay,
        )
    if config.optimizer == "rmsprop":
        return torch.optim.RMSprop(
            parameters,
            lr=config.learning_rate,
            weight_decay=config.weight_decay,
        )
    return torch.optim.SGD(
        parameters,
        lr=config.learning_rate,
        momentum=config.momentum,
        weight_decay=config.weight_decay,
        nesterov=config.momentum > 0,
    )
