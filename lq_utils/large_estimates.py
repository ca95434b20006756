"""How long a large network will take: guesses, made before anything runs.

Products are counted; how many a machine does in a second is assumed. No
GPU was timed for these numbers: they may be wrong by a factor of three.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from lq_utils.graph import layer_table, trace
from lq_utils.inference_cost import inference_cost
from lq_utils.large_networks import LargeNetwork
from lq_utils.refine import CANDIDATES

# Operations a second: a data-centre GPU of 2022 or later, and one core.
GPU_TRAINING = 6e13
GPU_PASSES = 2e13
CORE = 2e10
STEP = 0.02  # seconds that a training step takes on a GPU, however small
CELL = 2.0  # seconds that a cell takes besides
TUNED_BATCH = 64


@dataclass(frozen=True)
class Work:
    """Products of one image's pass, and of one solution of all layers.

    Introduced in chapter 3.
    """

    passing: float
    solving: float


def count_work(network: nn.Module) -> Work:
    """Products of a network for 32x32 images.

    A solver's feedback multiplies ``N^2 K`` times for a layer ``[K, N]``.
    Raises TraceError. Introduced in chapter 3.
    """
    traced = trace(network)
    solving = sum(i.rows * i.columns**2 for i in layer_table(traced))
    return Work(float(inference_cost(traced)["macs"].sum()), float(solving))


def epoch_seconds(
    work: Work,
    settings: LargeNetwork,
    images: int,
    gpu: bool,
    cores: int,
    history: Sequence[Mapping[str, Any]] = (),
) -> float:
    """Seconds of an epoch: those of the last one, else a guess.

    Forward and backward pass take three times the operations of a
    forward pass. Introduced in chapter 3.
    """
    if history:
        return float(history[-1]["seconds"])
    operations = 6 * work.passing * images
    if not gpu:
        return operations / (CORE * cores)
    steps = images / settings.config.batch_size
    return max(operations / GPU_TRAINING, STEP * steps)


def cells_seconds(
    work: Work,
    cells: Sequence[Mapping[str, Any]],
    tested: int,
    gpu: bool,
    workers: int,
) -> float:
    """A guess of the seconds that cells take, ``workers`` at a time.

    ``tested`` images judge a cell, ``cells`` are those of
    ``lq_utils.large_sweeps``. Introduced in chapter 3.
    """
    if not cells:
        return 0.0
    passes = sum(_images(cell) + tested for cell in cells) * work.passing * 2
    solves = sum(_solutions(cell) for cell in cells) * work.solving * 2
    at_once = min(workers, len(cells))
    alone = (solves / CORE + CELL * len(cells)) / at_once
    return alone + passes / (GPU_PASSES if gpu else CORE * at_once)


def _solutions(cell: Mapping[str, Any]) -> int:
    """How often a cell solves all layers."""
    settings = dict(cell.get("settings", ()))
    bits = cell.get("bits")
    each = len(bits) if isinstance(bits, tuple) else 1
    if not settings:
        return 0  # rounded: no solver
    return each * (CANDIDATES if settings["scale"] == "output" else 1)


def _images(cell: Mapping[str, Any]) -> int:
    """Images that pass in a cell before it is judged, as forward passes.

    Calibration passes the original and the quantized network.
    """
    bits = cell.get("bits")
    each = len(bits) if isinstance(bits, tuple) else 1
    tuning = 3 * TUNED_BATCH * int(cell.get("steps", 0))
    return 2 * each * int(cell.get("images", 0)) + tuning
