"""Training and evaluation: resumable, seeded, validation only.

Every random draw is a function of (seed, epoch), so that a run killed at
any moment and started again ends with the same weights.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from lq_utils.augmentation import crop_and_flip, pad_for_crops
from lq_utils.checkpoints import checkpoint_path
from lq_utils.data import DataError, ImageData
from lq_utils.inference import evaluate, pick_device, to_input, top1
from lq_utils.models import build_model
from lq_utils.paths import atomic_write
from lq_utils.recipes import (
    TrainingConfig,
    TrainingError,
    image_size_at,
    learning_rate_at,
    make_optimizer,
)
from lq_utils.splits import require_selection_part


@dataclass
class Trained:
    """A trained network with its record.

    ``history`` has one row an epoch: epoch, seconds, learning_rate,
    train_loss, train_accuracy, validation_accuracy.

    Introduced in chapter 1.
    """

    model: nn.Module
    history: list[dict[str, float]]
    best_epoch: int
    validation_accuracy: float


def loss_of(logits: Tensor, labels: Tensor, smoothing: float) -> Tensor:
    """Cross-entropy, binary when the network has one output.

    Introduced in chapter 1.
    """
    if logits.shape[1] == 1:
        return F.binary_cross_entropy_with_logits(
            logits[:, 0], labels.to(logits.dtype)
        )
    return F.cross_entropy(logits, labels, label_smoothing=smoothing)


def train(
    model_name: str,
    train_data: ImageData,
    validation_data: ImageData,
    config: TrainingConfig,
    *,
    device: str = "auto",
    num_outputs: int | None = None,
    progress: bool = True,
    on_epoch: Callable[[dict[str, float]], None] | None = None,
) -> Trained:
    """Train a registered network from its seeded initial weights.

    The weights of the epoch with the best validation accuracy are kept.
    A checkpoint is written after every epoch under ``cache_dir()``; the
    same call goes on from it. Mixed precision (bfloat16) is used on GPUs
    that have it.

    Raises:
        DataError: a part given is test data, or the class counts differ.
        TrainingError: the loss became infinite or not a number.

    Introduced in chapter 1.
    """
    check_parts(train_data, validation_data)
    state = TrainingState(model_name, train_data, config, device, num_outputs)
    state.resume()
    epochs = range(state.epoch, config.epochs)
    bar = tqdm(
        epochs,
        desc=f"{model_name} epochs",
        disable=not progress,
        initial=state.epoch,
        total=config.epochs,
    )
    for epoch in bar:
        if state.out_of_patience():
            break
        row = state.run_epoch(epoch, validation_data)
        bar.set_postfix(validation=f"{row['validation_accuracy']:.4f}")
        state.save()
        if on_epoch is not None:
            on_epoch(row)
    state.model.load_state_dict(state.best_weights)
    state.model.eval()
    best = state.history[state.best_epoch]["validation_accuracy"]
    return Trained(state.model, state.history, state.best_epoch, best)


def check_parts(train_data: ImageData, validation_data: ImageData) -> None:
    """Raise DataError for a test part, or for other classes in one part.

    Introduced in chapter 1.
    """
    for data in (train_data, validation_data):
        require_selection_part(data)
    if train_data.num_classes != validation_data.num_classes:
        raise DataError(
            f"training has {train_data.num_classes} classes, "
            f"validation {validation_data.num_classes}: use one Splits"
        )


class TrainingState:
    """Everything that a checkpoint holds, and one epoch of work."""

    def __init__(
        self,
        model_name: str,
        data: ImageData,
        config: TrainingConfig,
        device: str,
        num_outputs: int | None,
    ) -> None:
        self.config = config
        self.data = data
        self.device = pick_device(device)
        outputs = num_outputs or data.num_classes
        self.model = build_model(model_name, outputs, seed=config.seed)
        self.model.to(self.device)
        self.model.to(memory_format=torch.channels_last)
        self.optimizer = make_optimizer(self.model.parameters(), config)
        self.epoch = 0
        self.best_epoch = 0
        self.best_weights: dict[str, Tensor] = {}
        self.history: list[dict[str, float]] = []
        self.file = checkpoint_path(model_name, self.model, data, config, STEP)
        self.padded = pad_for_crops(data.images) if config.augment else None

    def out_of_patience(self) -> bool:
        patience = self.config.patience
        return patience is not None and (
            len(self.history) - 1 - self.best_epoch >= patience
        )

    def batch(
        self, indices: np.ndarray, rng: np.random.Generator, size: int
    ) -> tuple[Tensor, Tensor]:
        if self.padded is None:
            images = self.data.images[indices]
        else:
            images = crop_and_flip(self.padded, indices, rng)
        x = to_input(images, self.device)
        if size != x.shape[-1]:
            x = F.interpolate(x, size=size, mode="bilinear", antialias=True)
            x = x.contiguous(memory_format=torch.channels_last)
        labels = torch.from_numpy(self.data.labels[indices])
        return x, labels.to(self.device)

    def run_epoch(
        self, epoch: int, validation_data: ImageData
    ) -> dict[str, float]:
        started = time.perf_counter()
        rng = np.random.default_rng([self.config.seed, epoch])
        torch.manual_seed(int(rng.integers(2**31)))
        order = rng.permutation(len(self.data))
        size = image_size_at(epoch, self.config)
        # A last batch of one image would break batch normalisation.
        steps = max(1, len(order) // self.config.batch_size)
        self.model.train()
        loss_sum, hits, seen = 0.0, 0, 0
        for step, indices in enumerate(np.array_split(order, steps)):
            x, labels = self.batch(indices, rng, size)
            self._set_learning_rate(epoch + step / steps)
            loss, logits = self._step(x, labels)
            loss_sum += loss * len(labels)
            hits += round(top1(logits.cpu(), labels.cpu().numpy()) * len(x))
            seen += len(labels)
        row = {
            "epoch": epoch,
            "image_size": size,
            "learning_rate": self.optimizer.param_groups[0]["lr"],
            "train_loss": loss_sum / seen,
            "train_accuracy": hits / seen,
            "validation_accuracy": evaluate(self.model, validation_data),
            "seconds": time.perf_counter() - started,
        }
        self._keep(epoch, row)
        return row

    def _set_learning_rate(self, epochs_done: float) -> None:
        rate = learning_rate_at(epochs_done / self.config.epochs, self.config)
        for group in self.optimizer.param_groups:
            group["lr"] = rate

    def _step(self, x: Tensor, labels: Tensor) -> tuple[float, Tensor]:
        with _autocast(self.device):
            logits = self.model(x)
            loss = loss_of(logits, labels, self.config.label_smoothing)
        if not torch.isfinite(loss):
            raise TrainingError(
                "the loss is not finite; lower learning_rate "
                f"(now {self.config.learning_rate}) or lengthen warmup"
            )
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        return loss.item(), logits.detach().float()

    def _keep(self, epoch: int, row: dict[str, float]) -> None:
        self.history.append(row)
        best = self.history[self.best_epoch]["validation_accuracy"]
        if not self.best_weights or row["validation_accuracy"] > best:
            self.best_epoch = epoch
            self.best_weights = {
                name: value.detach().cpu().clone()
                for name, value in self.model.state_dict().items()
            }
        self.epoch = epoch + 1

    def save(self) -> None:
        content = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "epoch": self.epoch,
            "best_epoch": self.best_epoch,
            "best_weights": self.best_weights,
            "history": self.history,
        }
        with atomic_write(self.file) as temporary:
            torch.save(content, temporary)

    def resume(self) -> None:
        if not self.file.exists():
            return
        content: dict[str, Any] = torch.load(
            self.file, map_location=self.device, weights_only=True
        )
        self.model.load_state_dict(content["model"])
        self.optimizer.load_state_dict(content["optimizer"])
        self.epoch = content["epoch"]
        self.best_epoch = content["best_epoch"]
        self.best_weights = content["best_weights"]
        self.history = content["history"]
        if self.epoch < self.config.epochs:
            tqdm.write(f"going on after epoch {self.epoch} ({self.file.name})")


def _autocast(device: torch.device) -> Any:
    if device.type == "cuda" and torch.cuda.is_bf16_supported():
        return torch.autocast("cuda", dtype=torch.bfloat16)
    return nullcontext()


# What decides the weights besides network, data and configuration.
STEP = (
    TrainingState,
    crop_and_flip,
    image_size_at,
    learning_rate_at,
    loss_of,
    make_optimizer,
)
