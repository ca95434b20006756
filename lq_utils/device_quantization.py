"""Lockstep calibration with the network on a device, solvers on the CPU.

Passing images and summing Gram matrices is work for a GPU. A solver goes
column by column in steps too small for one: its matrices come back.
"""

from __future__ import annotations

import copy
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pandas as pd
import torch
from torch import Tensor, fx, nn

from lq_utils.activations import Batches, Stream
from lq_utils.fine_tuning import fine_tune
from lq_utils.grams import Statistics
from lq_utils.graph import (
    fold_batch_norm,
    layer_of,
    set_weight_matrix,
    trace,
    weight_matrix,
)
from lq_utils.grids import alphabet
from lq_utils.images import ImageData
from lq_utils.lockstep import Quantized, check_images
from lq_utils.plans import Plan
from lq_utils.solvers import dead_columns, solve_layer
from lq_utils.walk import Options, Row, Walk

BATCH = 64  # images that pass a layer together
CPU_BYTES = 2**31  # activations beyond go to a file
DEVICE_BYTES = 2**50  # a device has no files: all stays on it


@contextmanager
def full_precision() -> Iterator[None]:
    """Convolutions on a GPU in float32 proper, without TF32.

    TF32 keeps 10 bits of a factor, as few as some grids under study.
    Introduced in chapter 3.
    """
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        yield


class _DeviceWalk(Walk):
    """The walk of a calibration whose solvers work on the CPU."""

    def _quantize_layer(self, node: fx.Node, stream: Stream) -> None:
        name = str(node.target)
        module = layer_of(self.quantized, name)
        layer = self.plans[name]
        bits = layer.bits or 0
        row = Row(name, bits, alphabet(layer.quantizer, bits).count)
        started = time.perf_counter()
        found = self._statistics(module, stream)
        statistics = Statistics(
            found.hessian.cpu(), found.drift.cpu(), found.rows
        )
        row.gram_s = time.perf_counter() - started
        started = time.perf_counter()
        row.dead_columns = dead_columns(statistics)
        weight = weight_matrix(module).cpu()
        grid, solved = solve_layer(weight, statistics, layer)
        row.solve_s = time.perf_counter() - started
        set_weight_matrix(module, solved)
        self.grids[name] = grid
        self.rows.append(row)


@torch.no_grad()
def quantize_there(
    network: nn.Module,
    plan: Plan,
    images: Tensor,
    device: str,
    *,
    fold: bool = True,
    bias_correction: bool = False,
) -> Quantized:
    """What ``lq_utils.lockstep.quantize`` does, passes on ``device``.

    Args:
        network: one that ``lq_utils.graph.trace`` can follow, on the
            CPU; it is not changed.
        plan: what to do with every layer.
        images: calibration images, float32 ``[M, 3, H, W]``.
        device: "cpu", "cuda", ...; all activations must fit on a GPU.
        fold: fold batch normalisation into the layers first.
        bias_correction: as there.

    Returns:
        The same, its model on the CPU. Layers are always solved by
        their Gram matrices.

    Raises TraceError, PlanError, CalibrationError as there.
    Introduced in chapter 3.
    """
    check_images(images)
    traced = trace(network)
    if fold:
        traced = fold_batch_norm(traced)
    plan.validate(traced)
    options = Options(bias_correction, False, 1.0, torch.Generator())
    limit = CPU_BYTES if torch.device(device).type == "cpu" else DEVICE_BYTES
    with tempfile.TemporaryDirectory() as folder, full_precision():
        batches = Batches(folder, limit)
        walk = _DeviceWalk(traced.to(device), plan, options, batches, False)
        walk.run(images.to(device).split(BATCH))
    table = pd.DataFrame(walk.rows, columns=list(Row.__annotations__))
    return Quantized(walk.quantized.cpu(), walk.grids, plan, table, fold)


class Remote(nn.Module):
    """A network on a device, for code that works on the CPU.

    Takes float32 ``[N, 3, H, W]`` and returns logits ``[N, C]`` on the
    CPU; gradients find their way back. ``network`` is moved.

    Introduced in chapter 3.
    """

    def __init__(self, network: nn.Module, device: str) -> None:
        super().__init__()
        self.network = network.to(device)
        self.device = device

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.network(x.to(self.device))
        return logits.cpu()


def fine_tune_there(
    network: nn.Module,
    train: ImageData,
    classes: tuple[int, ...],
    device: str,
    *,
    steps: int,
    learning_rate: float,
    seed: int,
) -> nn.Module:
    """What ``fine_tune`` does to all layers, passes on ``device``.

    Returns a copy, on the CPU. Raises DataError and TrainingError as
    there. Introduced in chapter 3.
    """
    there = Remote(copy.deepcopy(network), device)
    with full_precision():
        tuned = fine_tune(
            there,
            train,
            classes,
            steps=steps,
            learning_rate=learning_rate,
            seed=seed,
        )
    assert isinstance(tuned, Remote)
    return tuned.network.cpu()
