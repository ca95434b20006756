"""Power-of-two grids after training, and in it, against uniform ones."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from torch import nn
from torch.nn.utils.parametrize import register_parametrization

from lq_utils import data_free_study, power_of_two, short_training
from lq_utils.data_free_study import SchemeError, judged
from lq_utils.engine import ENGINE, modules
from lq_utils.images import ImageData
from lq_utils.label_aware import Rows
from lq_utils.parametrizations import FakeQuantize
from lq_utils.power_of_two import PowerOfTwo
from lq_utils.recipes import TrainingConfig
from lq_utils.short_training import train_on
from lq_utils.stacks import clone, layers_of, strip

GRIDS = ("power-of-two", "uniform")
TRAINED, ROUNDED, FULL = "trained", "rounded", "full precision"


def on_grid(
    network: nn.Module, grid: str, bits: int, granularity: str = "channel"
) -> nn.Module:
    """A copy whose weights are rounded in every pass, batch norm left.

    ``grid``: "power-of-two" (levels and scales: only shifts are left) or
    "uniform" (2^b - 1 integers around 0, any scale). Both have 2^b - 1
    levels and clip nothing.

    Raises SchemeError for another grid, GridError for impossible bits.
    Introduced in chapter 7.
    """
    if grid not in GRIDS:
        raise SchemeError(f"grid={grid!r}: choose one of {GRIDS}")
    copy = clone(network)
    for layer in layers_of(copy).values():
        rounding: FakeQuantize = (
            PowerOfTwo(bits, granularity)
            if grid == GRIDS[0]
            else FakeQuantize(bits, granularity, "narrow", "max")
        )
        register_parametrization(layer, "weight", rounding)
    return copy


def recipe(epochs: int, rate: float, seed: int, size: int) -> TrainingConfig:
    """A short training from good weights: SGD, the rate falls to 0.

    Images are ``size`` pixels a side. Introduced in chapter 7.
    """
    return TrainingConfig(
        epochs=epochs,
        batch_size=64,
        learning_rate=rate,
        weight_decay=1e-4,
        schedule="cosine",
        image_sizes=(size,),
        seed=seed,
    )


def training_rows(
    network: str,
    grid: str,
    bits: int,
    granularity: str,
    epochs: int,
    rate: float,
    seed: int,
    *,
    networks: Mapping[str, nn.Module],
    parts: Mapping[str, Mapping[str, ImageData]],
) -> Rows:
    """Cell: one grid, after training alone and after training with it.

    With the grid "none" (and 32 bits) the network is trained on alike in
    full precision: the control. Columns besides those of ``judged``:
    stage ("rounded": not trained on; "trained"; "full precision" for the
    control's network as it was), epoch (the one kept; -1 where none was).
    The ``seed`` decides the order of images and their crops.

    Introduced in chapter 7.
    """
    own = parts[network]
    start = networks[network]
    aware = clone(start)
    if grid != "none":
        aware = on_grid(start, grid, bits, granularity)
    train = own["train"]
    configuration = recipe(epochs, rate, seed, train.images.shape[1])
    done = train_on(aware, train, own["validation"], configuration)
    before = FULL if grid == "none" else ROUNDED
    rows = []
    for stage, model, epoch in (
        (before, strip(aware).eval(), -1),
        (TRAINED, strip(done.model).eval(), done.best_epoch),
    ):
        (row,) = judged(model, own["test"])
        rows.append(row | {"stage": stage, "epoch": epoch, "part": "test"})
    return rows


# Everything a cell's rows depend on: the sweep's cache looks at their text.
CODE: tuple[Any, ...] = (
    sys.modules[__name__],
    data_free_study,
    power_of_two,
    short_training,
    *ENGINE,
    *modules(
        """
        augmentation inference parametrizations recipes stacks training
        """
    ),
)
