"""Training of the tiny detector: resumable, a minute or two on one core."""

from __future__ import annotations

import hashlib
import inspect
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import generalized_box_iou_loss
from tqdm import tqdm

from lq_utils.cache import canonical_json
from lq_utils.detection_scenes import DetectionError, DetectionSet
from lq_utils.engine import modules
from lq_utils.fingerprints import digest
from lq_utils.inference import to_input
from lq_utils.paths import atomic_write, cache_dir
from lq_utils.tiny_detector import STRIDE, TinyDetector, decode

BATCH = 32
DECAY = 1e-4
FOCUS = 2.0  # exponent of the focal loss
WARM_UP = 0.1  # share of the steps


def targets(scenes: DetectionSet, rows: np.ndarray) -> tuple[Tensor, Tensor]:
    """What the network should say about the images ``rows``.

    Classes float32 ``[N, C, h, w]``, 1 in the cell of a middle, and boxes
    float32 ``[N, 4, h, w]`` in pixels, NaN in cells without object.
    Introduced in chapter 7.
    """
    side = scenes.images[0].shape[0] // STRIDE
    classes = torch.zeros(len(rows), len(scenes.class_names), side, side)
    boxes = torch.full((len(rows), 4, side, side), math.nan)
    for i, row in enumerate(rows):
        for box, label in zip(scenes.boxes[row], scenes.labels[row]):
            x, y = ((box[:2] + box[2:]) / 2 // STRIDE).astype(int)
            classes[i, label, y, x] = 1
            boxes[i, :, y, x] = torch.from_numpy(box).float()
    return classes, boxes


def detection_loss(
    logits: Tensor, offsets: Tensor, classes: Tensor, boxes: Tensor
) -> Tensor:
    """Focal loss of the classes plus 1 - GIoU of the boxes, an object.

    Arguments as :func:`targets` and the network's outputs. Sources: Lin
    et al. 2017; Rezatofighi et al. 2019. Introduced in chapter 7.
    """
    plain = F.binary_cross_entropy_with_logits(
        logits, classes, reduction="none"
    )
    focal = (1 - torch.exp(-plain)) ** FOCUS * plain
    there = ~boxes[:, 0].isnan()
    count = max(1, int(there.sum()))
    predicted = decode(offsets).permute(0, 2, 3, 1)[there]
    wanted = boxes.permute(0, 2, 3, 1)[there]
    apart = generalized_box_iou_loss(predicted, wanted, reduction="sum")
    return (focal.sum() + apart) / count


def rate_share(done: float) -> float:
    """Share of the learning rate when a share ``done`` is done (0 to 1).

    Up in a straight line, then down to zero along a cosine. Introduced
    in chapter 7.
    """
    if done < WARM_UP:
        return done / WARM_UP
    left = (done - WARM_UP) / (1 - WARM_UP)
    return (1 + math.cos(math.pi * left)) / 2


def trained_detector(
    scenes: DetectionSet,
    *,
    epochs: int,
    learning_rate: float = 0.003,
    width: int = 16,
    seed: int = 0,
    progress: bool = True,
) -> TinyDetector:
    """A detector trained on square ``scenes``, in evaluation mode.

    AdamW, the rate warmed up and lowered to zero; the last epoch counts,
    nothing is chosen. Each epoch is kept in the cache: the same call goes
    on after the last one.

    Raises DetectionError for no epoch, or a loss that is not finite.
    Introduced in chapter 7.
    """
    if epochs < 1:
        raise DetectionError(f"{epochs} epochs: train for one at least")
    settings = (epochs, learning_rate, width, seed)
    state = _State(scenes, *settings)
    state.resume()
    bar = tqdm(
        range(state.epoch, epochs),
        desc="detector epochs",
        disable=not progress,
        initial=state.epoch,
        total=epochs,
    )
    for epoch in bar:
        bar.set_postfix(loss=f"{state.run_epoch(epoch):.3f}")
    return state.network.eval()


class _State:
    """Everything that a checkpoint holds, and one epoch of work."""

    def __init__(
        self,
        scenes: DetectionSet,
        epochs: int,
        learning_rate: float,
        width: int,
        seed: int,
    ) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.network = TinyDetector(len(scenes.class_names), width)
        self.scenes, self.seed, self.epoch = scenes, seed, 0
        self.images = np.stack(list(scenes.images))
        self.optimizer = torch.optim.AdamW(
            self.network.parameters(), learning_rate, weight_decay=DECAY
        )
        self.steps = math.ceil(len(scenes) / BATCH)
        self.total, self.rate = epochs * self.steps, learning_rate
        settings = [epochs, learning_rate, width, seed]
        self.file = _file(scenes, self.images, settings)

    def run_epoch(self, epoch: int) -> float:
        """Train on all scenes once; the mean loss. Keeps the state."""
        rng = np.random.default_rng([self.seed, epoch])
        order = rng.permutation(len(self.scenes))
        self.network.train()
        total = 0.0
        for step, rows in enumerate(np.array_split(order, self.steps)):
            done = (epoch * self.steps + step + 1) / (self.total + 1)
            for group in self.optimizer.param_groups:
                group["lr"] = self.rate * rate_share(done)
            logits, offsets = self.network(to_input(self.images[rows]))
            classes, boxes = targets(self.scenes, rows)
            loss = detection_loss(logits, offsets, classes, boxes)
            if not torch.isfinite(loss):
                raise DetectionError("the loss is not finite; lower the rate")
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            self.optimizer.step()
            total += loss.item() / self.steps
        self.epoch = epoch + 1
        with atomic_write(self.file) as temporary:
            torch.save(self._content(), temporary)
        return total

    def _content(self) -> dict[str, Any]:
        return {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "epoch": self.epoch,
        }

    def resume(self) -> None:
        if not self.file.exists():
            return
        content = torch.load(self.file, weights_only=True)
        self.network.load_state_dict(content["network"])
        self.optimizer.load_state_dict(content["optimizer"])
        self.epoch = content["epoch"]


def _file(
    scenes: DetectionSet, images: np.ndarray, settings: list[float]
) -> Path:
    """Where exactly this training is kept."""
    code = modules(
        "detection_scenes detector_training inference tiny_detector"
    )
    key = {
        "settings": settings,
        "images": digest(images),
        "boxes": digest(np.concatenate(scenes.boxes)),
        "labels": digest(np.concatenate(scenes.labels)),
        "torch": torch.__version__,
        "code": [inspect.getsource(module) for module in code],
    }
    name = hashlib.sha256(canonical_json(key).encode()).hexdigest()[:16]
    return cache_dir() / "training" / f"detector-{name}.pt"
