"""Fine-tuning: a few more training steps, on some of the classes only."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import nn

from lq_utils.augmentation import crop_and_flip, pad_for_crops
from lq_utils.images import DataError, ImageData
from lq_utils.inference import to_input
from lq_utils.recipes import TrainingError
from lq_utils.training import loss_of

PARTS = ("all", "last")


def _last_layer(model: nn.Module) -> nn.Linear:
    linear = [m for m in model.modules() if isinstance(m, nn.Linear)]
    if not linear:
        raise TrainingError(
            "the network has no linear layer: fine-tune layers='all'"
        )
    return linear[-1]


def batch_indices(
    count: int, steps: int, batch_size: int, rng: np.random.Generator
) -> Iterator[np.ndarray]:
    """Indices of ``steps`` batches of one size, epoch after epoch.

    Every epoch is a new order of all ``count`` images; what is too little
    for a batch at its end is left out. Introduced in chapter 3.
    """
    size = min(batch_size, count)
    left = np.empty(0, dtype=np.int64)
    for _ in range(steps):
        if len(left) < size:
            left = rng.permutation(count)
        yield left[:size]
        left = left[size:]


def fine_tune(
    model: nn.Module,
    train: ImageData,
    classes: Sequence[int],
    *,
    steps: int,
    batch_size: int = 64,
    learning_rate: float = 1e-4,
    layers: str = "all",
    seed: int = 0,
) -> nn.Module:
    """A copy of ``model``, trained on with the images of ``classes``.

    The network keeps all of its outputs. AdamW at a constant rate, crops
    and flips, cross-entropy; nothing is selected: the last step counts.
    ``layers="last"`` trains the last linear layer alone and leaves the
    normalisations as they are. Returned in evaluation mode.

    Raises:
        DataError: ``train`` is not a training part, or has no image of
            the classes.
        TrainingError: fewer than one step, another name of layers, or a
            loss that is not finite.

    Source: the label-aware report's fine-tuning step. Introduced in
    chapter 3.
    """
    if train.part != "train":
        raise DataError(
            f"fine-tuning takes training images, not the {train.part} part: "
            "give splits.train"
        )
    if layers not in PARTS or steps < 1 or batch_size < 2:
        raise TrainingError(
            f"layers={layers!r}, steps={steps}, batch_size={batch_size}: "
            f"layers is one of {PARTS}, steps >= 1, batch_size >= 2"
        )
    own = np.flatnonzero(np.isin(train.labels, list(classes)))
    if len(own) < 2:
        raise DataError(f"{len(own)} training images of {list(classes)}")
    tuned = copy.deepcopy(model).eval()
    trained = _last_layer(tuned) if layers == "last" else tuned
    # Only what is trained switches to the statistics of the batch.
    trained.train()
    tuned.requires_grad_(False)
    trained.requires_grad_(True)
    _run(
        tuned, trained, train.take(own), steps, batch_size, learning_rate, seed
    )
    return tuned.requires_grad_(True).eval()


def _run(
    model: nn.Module,
    trained: nn.Module,
    data: ImageData,
    steps: int,
    batch_size: int,
    learning_rate: float,
    seed: int,
) -> None:
    rng = np.random.default_rng(seed)
    optimizer = torch.optim.AdamW(trained.parameters(), lr=learning_rate)
    padded = pad_for_crops(data.images)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for indices in batch_indices(len(data), steps, batch_size, rng):
            x = to_input(crop_and_flip(padded, indices, rng))
            labels = torch.from_numpy(data.labels[indices])
            loss = loss_of(model(x), labels, 0.0)
            if not torch.isfinite(loss):
                raise TrainingError(
                    "the loss is not finite; lower learning_rate (now "
                    f"{learning_rate})"
                )
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
