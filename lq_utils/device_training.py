"""Training with the images on the device: a GPU never waits for the CPU.

The book's own training assembles batches on the CPU. A large network on a
GPU would wait for them about as long as it computes.
"""

from __future__ import annotations

import math
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from lq_utils.augmentation import CROP_PADDING
from lq_utils.checkpoints import checkpoint_path
from lq_utils.images import ImageData, Splits
from lq_utils.inference import PIXEL_MEAN, PIXEL_STD, evaluate
from lq_utils.recipes import (
    TrainingConfig,
    TrainingError,
    image_size_at,
    learning_rate_at,
    make_optimizer,
)
from lq_utils.training import (
    Trained,
    TrainingState,
    check_parts,
    loss_of,
)

MOST_NORM = 5.0  # of a gradient: a safeguard where nothing normalises


def crop_and_flip_there(
    padded: Tensor, indices: np.ndarray, rng: np.random.Generator
) -> Tensor:
    """Random crops and horizontal flips, on the device of ``padded``.

    Args:
        padded: uint8 ``[N, H + 8, W + 8, 3]``, zero-padded by 4 pixels.
        indices: int ``[B]``, the images of the batch.
        rng: source of the offsets and flips.

    Returns:
        uint8 ``[B, H, W, 3]``: with the same ``rng`` those of
        ``lq_utils.augmentation.crop_and_flip``.

    Source: He et al. 2016, section 4.2. Introduced in chapter 3.
    """
    height, width = (n - 2 * CROP_PADDING for n in padded.shape[1:3])
    offsets = rng.integers(0, 2 * CROP_PADDING + 1, size=(2, len(indices)))
    rows = offsets[0][:, None] + np.arange(height)
    columns = offsets[1][:, None] + np.arange(width)
    flipped = rng.random(len(indices)) < 0.5
    columns[flipped] = columns[flipped, ::-1]
    image, row, column = (
        torch.from_numpy(np.ascontiguousarray(a)).to(padded.device)
        for a in (indices, rows, columns)
    )
    return padded[image[:, None, None], row[:, :, None], column[:, None]]


def cut_holes(x: Tensor, hole: int, rng: np.random.Generator) -> Tensor:
    """Images float ``[B, 3, H, W]`` with a grey square in each.

    The square has ``hole`` pixels a side (0: none) around a pixel drawn
    anywhere, so that it may reach beyond the border. Zero is grey after
    the book's normalisation.

    Source: DeVries and Taylor 2017 (cutout), section 3. Introduced in
    chapter 3.
    """
    if not hole:
        return x
    inside = []
    for size in x.shape[2:]:
        middle = rng.integers(0, size, size=(len(x), 1))
        away = np.arange(size) - (middle - hole // 2)
        near = torch.from_numpy((away >= 0) & (away < hole))
        inside.append(near.to(x.device))
    covered = inside[0][:, :, None] & inside[1][:, None]
    return x.masked_fill(covered[:, None], 0.0)


def device_optimizer(
    model: nn.Module, config: TrainingConfig
) -> torch.optim.Optimizer:
    """The optimizer of a configuration; vectors do not decay.

    Biases and normalisations are left out of the weight decay. "adam"
    decays weights apart from the gradient (AdamW).

    Source: Loshchilov and Hutter 2019; Goyal et al. 2017, section 5.3.
    Introduced in chapter 3.
    """
    parameters = list(model.parameters())
    groups: list[dict[str, Any]] = [
        {"params": [p for p in parameters if p.ndim > 1]},
        {"params": [p for p in parameters if p.ndim <= 1]},
    ]
    groups[1]["weight_decay"] = 0.0
    if config.optimizer != "adam":
        return make_optimizer(groups, config)
    return torch.optim.AdamW(
        groups, lr=config.learning_rate, weight_decay=config.weight_decay
    )


class DeviceTraining(TrainingState):
    """A training whose images lie on the device, and one epoch of it.

    ``hole`` is the side in pixels of the square cut out of each training
    image, 0 for none. Checkpoints are of its own kind.

    Introduced in chapter 3.
    """

    def __init__(
        self,
        model_name: str,
        data: ImageData,
        config: TrainingConfig,
        device: str = "auto",
        hole: int = 0,
    ) -> None:
        super().__init__(model_name, data, config, device, None)
        self.hole = hole
        self.optimizer = device_optimizer(self.model, config)
        self.file = training_file(model_name, self.model, data, config, hole)
        images = data.images if self.padded is None else self.padded
        self.images = torch.from_numpy(images).to(self.device)
        self.labels = torch.from_numpy(data.labels).to(self.device)

    def batch(
        self, indices: np.ndarray, rng: np.random.Generator, size: int
    ) -> tuple[Tensor, Tensor]:
        there = torch.from_numpy(indices).to(self.device)
        if self.config.augment:
            images = crop_and_flip_there(self.images, indices, rng)
        else:
            images = self.images[there]
        x = images.permute(0, 3, 1, 2).float()
        x = (x / 255 - PIXEL_MEAN) / PIXEL_STD
        if self.config.augment:
            x = cut_holes(x, self.hole, rng)
        if size != x.shape[-1]:
            x = F.interpolate(x, size=size, mode="bilinear", antialias=True)
        x = x.contiguous(memory_format=torch.channels_last)
        return x, self.labels[there]

    def run_epoch(
        self, epoch: int, validation_data: ImageData
    ) -> dict[str, float]:
        started = time.perf_counter()
        rng = np.random.default_rng([self.config.seed, epoch])
        torch.manual_seed(int(rng.integers(2**31)))
        order = rng.permutation(len(self.data))
        size = image_size_at(epoch, self.config)
        steps = max(1, len(order) // self.config.batch_size)
        self.model.train()
        sums = torch.zeros(2, device=self.device)
        for step, indices in enumerate(np.array_split(order, steps)):
            self._set_learning_rate(epoch + step / steps)
            # Left on the device: to read it would make the CPU wait.
            sums += self._device_step(*self.batch(indices, rng, size))
        loss, accuracy = (sums / len(order)).tolist()
        self._check(loss)
        row = {
            "epoch": epoch,
            "image_size": size,
            "learning_rate": self.optimizer.param_groups[0]["lr"],
            "train_loss": loss,
            "train_accuracy": accuracy,
            "validation_accuracy": evaluate(self.model, validation_data),
            "seconds": time.perf_counter() - started,
        }
        self._keep(epoch, row)
        return row

    def _device_step(self, x: Tensor, labels: Tensor) -> Tensor:
        """One step; the sums of losses and of right answers, ``[2]``."""
        with _half_precision(self.device):
            logits = self.model(x)
            loss = loss_of(logits, labels, self.config.label_smoothing)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), MOST_NORM)
        self.optimizer.step()
        hits = (logits.argmax(dim=1) == labels).sum()
        return torch.stack([loss.detach().float() * len(x), hits.float()])

    def _check(self, loss: float) -> None:
        if not math.isfinite(loss):
            raise TrainingError(
                "the loss is not finite; lower learning_rate "
                f"(now {self.config.learning_rate}) or lengthen warmup"
            )


def _half_precision(device: torch.device) -> Any:
    if device.type == "cuda" and torch.cuda.is_bf16_supported():
        return torch.autocast("cuda", dtype=torch.bfloat16)
    return nullcontext()


# What decides the weights besides network, data and configuration.
STEP = (
    DeviceTraining,
    TrainingState,
    crop_and_flip_there,
    cut_holes,
    device_optimizer,
    image_size_at,
    learning_rate_at,
    loss_of,
    make_optimizer,
)


def training_file(
    model_name: str,
    model: nn.Module,
    data: ImageData,
    config: TrainingConfig,
    hole: int,
) -> Path:
    """Path of the checkpoint of exactly this training.

    Introduced in chapter 3.
    """
    path = checkpoint_path(model_name, model, data, config, STEP)
    return path.with_stem(f"{path.stem}-hole{hole}")


def train_on_device(
    model_name: str,
    splits: Splits,
    config: TrainingConfig,
    hole: int = 0,
    device: str = "auto",
) -> Trained:
    """Train a registered network; the best epoch on validation is kept.

    Crops, flips and holes are made on the device; bfloat16 on GPUs that
    have it, float32 on a CPU. A checkpoint is written after every epoch
    under ``cache_dir()``; the same call goes on from it. On a GPU two
    trainings are alike, not equal to the bit.

    Raises:
        DataError: a part is not what it should be.
        TrainingError: the loss became infinite or not a number.

    Introduced in chapter 3.
    """
    check_parts(splits.train, splits.validation)
    state = DeviceTraining(model_name, splits.train, config, device, hole)
    state.resume()
    bar = tqdm(
        range(state.epoch, config.epochs),
        desc=f"{model_name} epochs",
        initial=state.epoch,
        total=config.epochs,
    )
    with torch.backends.cudnn.flags(
        enabled=True, benchmark=True, allow_tf32=True
    ):
        for epoch in bar:
            if state.out_of_patience():
                break
            row = state.run_epoch(epoch, splits.validation)
            bar.set_postfix(validation=f"{row['validation_accuracy']:.4f}")
            state.save()
    state.model.load_state_dict(state.best_weights)
    best = state.history[state.best_epoch]["validation_accuracy"]
    return Trained(state.model.eval(), state.history, state.best_epoch, best)
