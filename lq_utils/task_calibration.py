"""Calibration for a task: a mix of its classes and all others."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, fx, nn

from lq_utils.calibration import calibration_rows
from lq_utils.feedback import alive_columns
from lq_utils.graph import (
    fold_batch_norm,
    layer_of,
    layer_table,
    set_weight_matrix,
    trace,
    weight_matrix,
)
from lq_utils.images import ImageData
from lq_utils.inference import to_input
from lq_utils.layer_rounding import input_statistics
from lq_utils.task_network import TaskError


def mixed_rows(
    train: ImageData,
    count: int,
    share: float,
    classes: Sequence[int],
    seed: int,
) -> np.ndarray:
    """Indices int64 ``[count]`` into ``train``: the task's, then all's.

    ``share`` of the images (rounded) show ``classes``, the others are
    drawn evenly from all classes, without repeating an image.

    Raises:
        TaskError: a share outside 0..1.
        DataError: not a training part, unknown classes, too few images.

    Introduced in chapter 9.
    """
    if not 0 <= share <= 1:
        raise TaskError(f"a share of {share} is not in 0..1")
    own = round(share * count)
    rows = np.empty(0, dtype=np.int64)
    if own:
        rows = calibration_rows(train, own, seed, classes)
    if own == count:
        return rows
    # An image of the task may be drawn twice: draw more, keep what is new.
    spare = min(len(train), count - own + len(rows))
    others = calibration_rows(train, spare, seed)
    fresh = others[~np.isin(others, rows)][: count - own]
    return np.concatenate([rows, fresh])


def mixed_images(
    train: ImageData,
    count: int,
    share: float,
    classes: Sequence[int],
    seed: int,
) -> Tensor:
    """Calibration images float32 ``[count, 3, H, W]`` of ``mixed_rows``.

    Introduced in chapter 9.
    """
    rows = mixed_rows(train, count, share, classes, seed)
    return to_input(train.images[rows])


@torch.no_grad()
def zero_dead_weights(
    network: nn.Module, images: Tensor, fold: bool = True
) -> tuple[fx.GraphModule, int]:
    """A traced copy in which dead weights are zero, and how many they are.

    A weight is dead where its input is zero on all ``images``, float32
    ``[M, 3, H, W]``: there the answers stay the same, for other images
    they may not. The report's GPFQ code does this; see
    ``lq_utils.zero_dead``. ``fold``: batch norms first.

    Source: label-aware report, its code. Introduced in chapter 9.
    """
    traced = trace(network)
    traced = fold_batch_norm(traced) if fold else traced
    layers = [info.name for info in layer_table(traced)]
    count = 0
    for name, found in input_statistics(traced, layers, images).items():
        module = layer_of(traced, name)
        alive = alive_columns(found.hessian)[1]
        weight = weight_matrix(module)
        kept = alive.repeat_interleave(len(weight) // len(alive), dim=0)
        count += int((~kept).sum())
        set_weight_matrix(module, torch.where(kept, weight, 0.0))
    return traced, count
