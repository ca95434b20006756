"""The switches of label-aware compression, each of which can be ablated."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

from lq_utils.layer_sensitivity import SENSITIVITIES
from lq_utils.registry import did_you_mean
from lq_utils.task_network import TaskError

CHOICES: dict[str, tuple[str, ...]] = {
    "allocation": ("aware", "blind", "uniform"),
    "correction": ("bias", "batch norm", "none"),
    "dead_columns": ("nearest", "zero"),
}


@dataclass(frozen=True)
class TaskSettings:
    """How a network is compressed for a task.

    Switches:
        slice_classifier: keep only the outputs of the task.
        subset_share: share of the calibration images that show classes
            of the task (0 to 1); the others show all classes.
        dead_columns: weights of inputs that are zero on all calibration
            images go to the nearest level, or to "zero".
        scale, solver, polish: of every layer, as in a plan's row.
        correction: shift the biases ("bias"), estimate the statistics of
            batch normalisations anew ("batch norm": they are not folded,
            and take room in the file), or "none".
        allocation: bits by layer, by costs on the task's classes
            ("aware") or on all classes ("blind"); or "uniform".
        reconstruction_steps: steps of block reconstruction in place of
            solver and polish; 0: none.

    What is not a switch: the sensitivity kind that measures costs on
    ``cost_images`` images; quantizer, granularity and ``bits`` that a
    layer may have; the number of calibration images, the share of them in
    the Gram matrices, and the seed of all draws.

    Raises TaskError for a value out of range.

    Introduced in chapter 9.
    """

    slice_classifier: bool = True
    subset_share: float = 1.0
    dead_columns: str = "nearest"
    scale: str = "output"
    solver: str = "qronos"
    polish: int = 4
    correction: str = "bias"
    allocation: str = "aware"
    reconstruction_steps: int = 0
    sensitivity: str = "divergence"
    cost_images: int = 64
    quantizer: str = "asymmetric"
    granularity: str = "channel"
    bits: tuple[int, ...] = (2, 3, 4, 5, 6)
    images: int = 256
    patch_fraction: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name, known in CHOICES.items():
            if getattr(self, name) not in known:
                raise TaskError(
                    f"{name} {getattr(self, name)!r}: write one of "
                    f"{', '.join(known)}"
                )
        if not 0 <= self.subset_share <= 1:
            raise TaskError(f"subset_share {self.subset_share} is not in 0..1")
        if min(self.images, self.cost_images) < 1:
            raise TaskError("give at least one image, and one for costs")
        if self.reconstruction_steps < 0:
            raise TaskError("reconstruction_steps must be 0 or more")
        if not self.bits or len(set(self.bits)) < len(self.bits):
            raise TaskError(
                f"bits {self.bits}: one or more numbers, each once"
            )
        SENSITIVITIES.get(self.sensitivity)

    @property
    def fold(self) -> bool:
        """Whether batch normalisations are folded into the layers."""
        return self.correction != "batch norm"

    def row(self) -> dict[str, Any]:
        """Fields of a plan's row, without layer and bits."""
        names = ("quantizer", "granularity", "scale", "solver", "polish")
        return {name: getattr(self, name) for name in names}


# One switch off (or set to what others do), all others as they are.
ABLATIONS: dict[str, dict[str, Any]] = {
    "all classes kept": {"slice_classifier": False},
    "calibrated on all classes": {"subset_share": 0.0},
    "calibrated half on all classes": {"subset_share": 0.5},
    "dead columns to zero": {"dead_columns": "zero"},
    "scales from weights alone": {"scale": "mse"},
    "rounded to nearest": {"solver": "rtn", "polish": 0},
    "GPFQ": {"solver": "gpfq"},
    "no polish": {"polish": 0},
    "no bias correction": {"correction": "none"},
    "batch norm re-estimated": {"correction": "batch norm"},
    "symmetric grid": {"quantizer": "symmetric"},
    "bits by weight error": {"sensitivity": "weight error"},
    "bits blind to the labels": {"allocation": "blind"},
    "blocks reconstructed": {"reconstruction_steps": 300},
    "uniform bits": {"allocation": "uniform"},
    "blind to the labels": {"allocation": "blind", "subset_share": 0.0},
}


def changed(settings: TaskSettings, **changes: Any) -> TaskSettings:
    """The same settings with some fields changed.

    Raises TaskError for an unknown field or a value out of range.
    Introduced in chapter 9.
    """
    known = [field.name for field in fields(TaskSettings)]
    for name in changes:
        if name not in known:
            raise TaskError(
                f"settings have no field '{name}'"
                f"{did_you_mean(name, known)}; fields: {', '.join(known)}"
            )
    return replace(settings, **changes)
