"""What every kind of sensitivity is computed from, and their registry.

A kind is a function ``f(task, **options)`` that returns a table with the
columns layer, bits and cost: what it costs to store that layer in so few
bits, all others in full precision. Costs of different layers are added up,
so only their proportions matter.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import pandas as pd
import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from lq_utils.grams import Statistics
from lq_utils.graph import fold_batch_norm, trace, weight_matrix
from lq_utils.layer_rounding import (
    Candidates,
    input_statistics,
    nearest_weights,
    solved_weights,
)
from lq_utils.lockstep import check_images
from lq_utils.plans import Plan
from lq_utils.registry import Registry

# f(task, **options) -> layer, bits, cost
Sensitivity = Callable[..., pd.DataFrame]

SENSITIVITIES: Registry[Sensitivity] = Registry("sensitivity")
register_sensitivity = SENSITIVITIES.register


class SensitivityError(ValueError):
    """A sensitivity cannot be computed from what was given.

    Introduced in chapter 9.
    """


@dataclass(frozen=True)
class SensitivityTask:
    """A network, images of the classes it is for, and what may be done.

    ``network`` is a traced copy, its batch norms folded; ``images``
    float32 ``[M, 3, H, W]``, ``labels`` int64 ``[M]`` or None;
    ``classes`` the outputs that are compared; ``plan`` says how a layer
    is quantized at each of ``bits``. Layers whose bits are blank in the
    plan stay in full precision, and have no cost.

    Introduced in chapter 9.
    """

    network: fx.GraphModule
    images: Tensor
    labels: Tensor | None
    classes: tuple[int, ...]
    bits: tuple[int, ...]
    plan: Plan
    seed: int = 0
    batch_size: int = 64

    @property
    def layers(self) -> tuple[str, ...]:
        """The layers that may be quantized, in order of execution."""
        return tuple(row.layer for row in self.plan if row.bits is not None)

    @cached_property
    def statistics(self) -> dict[str, Statistics]:
        """Gram matrices of what each layer reads."""
        return input_statistics(
            self.network, self.layers, self.images, self.batch_size
        )

    @cached_property
    def solved(self) -> Candidates:
        """Weights as the plan's own solvers choose them."""
        return solved_weights(
            self.network, self.plan, self.bits, self.statistics
        )

    @cached_property
    def nearest(self) -> Candidates:
        """Weights rounded to nearest, on grids that need no images."""
        return nearest_weights(self.network, self.plan, self.bits)

    @cached_property
    def logits(self) -> Tensor:
        """Answers of the original network, float32 ``[M, C]``."""
        with torch.no_grad():
            parts = [
                self.network(batch)
                for batch in self.images.split(self.batch_size)
            ]
        return torch.cat(parts)

    @cached_property
    def targets(self) -> Tensor:
        """Places of the labels among the classes, int64 ``[M]``.

        Raises SensitivityError without labels, or for a label that is
        none of the classes.
        """
        if self.labels is None:
            raise SensitivityError(
                "this sensitivity needs the labels of the images"
            )
        same = self.labels[:, None] == torch.tensor(self.classes)
        if len(self.labels) != len(self.images) or not same.any(1).all():
            raise SensitivityError(
                f"{len(self.labels)} labels for {len(self.images)} images: "
                "give one each, of the classes of the task"
            )
        return same.int().argmax(dim=1)

    def loss(self, logits: Tensor, images: slice) -> Tensor:
        """Sum of the cross-entropies among the classes, in nats."""
        own = logits[:, list(self.classes)]
        return F.cross_entropy(own, self.targets[images], reduction="sum")


def sensitivity_task(
    network: nn.Module,
    images: Tensor,
    labels: Sequence[int] | Tensor | None,
    classes: Sequence[int] | None,
    bits: Sequence[int],
    plan: Plan,
    *,
    fold: bool = True,
    seed: int = 0,
    batch_size: int = 64,
) -> SensitivityTask:
    """A task, checked; ``network`` is not changed.

    Arguments as for ``layer_sensitivity.sensitivity_costs``. Raises
    SensitivityError, CalibrationError, PlanError and TraceError.
    Introduced in chapter 9.
    """
    check_images(images)
    traced = trace(network)
    traced = fold_batch_norm(traced) if fold else traced
    traced.requires_grad_(False)
    plan.validate(traced)
    with torch.no_grad():
        outputs = traced(images[:1]).shape[1]
    chosen = range(outputs) if classes is None else classes
    task = SensitivityTask(
        traced,
        images,
        None if labels is None else torch.as_tensor(labels).long(),
        _checked_classes(chosen, outputs),
        tuple(int(b) for b in bits),
        plan,
        seed,
        batch_size,
    )
    _check_choices(task)
    return task


def _check_choices(task: SensitivityTask) -> None:
    if not task.bits or len(set(task.bits)) < len(task.bits):
        raise SensitivityError(
            f"bits {task.bits}: give one or more numbers of bits, each once"
        )
    if not task.layers:
        raise SensitivityError(
            "the plan leaves all layers in full precision; give bits to "
            "those that may be quantized, any number"
        )


def _checked_classes(classes: Sequence[int], outputs: int) -> tuple[int, ...]:
    found = tuple(sorted(int(k) for k in classes))
    if len(set(found)) < max(2, len(found)):
        raise SensitivityError(
            f"classes {found}: give two or more outputs, each once"
        )
    if not set(found) <= set(range(outputs)):
        raise SensitivityError(
            f"classes {found} are not all in 0..{outputs - 1}, the outputs "
            "of the network"
        )
    return found


def cost_table(costs: Mapping[tuple[str, int], float]) -> pd.DataFrame:
    """Columns layer, bits (int) and cost (float) from costs by both.

    Introduced in chapter 9.
    """
    rows = [(layer, b, float(cost)) for (layer, b), cost in costs.items()]
    return pd.DataFrame(rows, columns=["layer", "bits", "cost"])


def squared_change(task: SensitivityTask) -> dict[tuple[str, int], float]:
    """||dW||^2 of weights rounded to nearest, by layer and bits.

    Introduced in chapter 9.
    """
    return {
        key: float(change.double().square().sum())
        for key, change in changes(task, task.nearest).items()
    }


def changes(task: SensitivityTask, candidates: Candidates) -> Candidates:
    """Quantized less original weights ``[K, N]``, by layer and bits.

    Introduced in chapter 9.
    """
    weights = {
        name: weight_matrix(task.network.get_submodule(name))
        for name in task.layers
    }
    return {key: q - weights[key[0]] for key, q in candidates.items()}
