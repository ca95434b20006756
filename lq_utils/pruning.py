"""Pruning: which weights go, and when."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


class PruningError(ValueError):
    """Weights cannot be pruned as asked for."""


def check_sparsity(sparsity: float) -> float:
    """Return a share of zeros if it is one, 0 <= s < 1.

    Raises PruningError for anything else. Introduced in chapter 4.
    """
    if not 0 <= sparsity < 1:
        raise PruningError(
            f"sparsity {sparsity}: give a share from 0 up to, not including, "
            "1 (0.5 prunes half)"
        )
    return sparsity


def kept_count(total: int, sparsity: float) -> int:
    """How many of ``total`` are kept: max(round(total (1 - s)), 1).

    Introduced in chapter 4.
    """
    return max(round(total * (1 - check_sparsity(sparsity))), 1)


@dataclass(frozen=True)
class SparsitySchedule:
    """Sparsity that rises fast, then slowly, from ``initial`` to ``final``.

    At step t from ``begin`` to ``end`` (optimizer steps, from 0) it is
    final + (initial - final) (1 - (t - begin) / (end - begin))^power; masks
    are made anew every ``every`` steps, and at ``end``.

    Raises PruningError for sparsities or steps out of range or order.
    Source: Zhu and Gupta 2017, section 3. Introduced in chapter 4.
    """

    final: float
    end: int
    initial: float = 0.0
    begin: int = 0
    every: int = 100
    power: float = 3.0

    def __post_init__(self) -> None:
        check_sparsity(self.initial)
        check_sparsity(self.final)
        if not 0 <= self.begin < self.end or self.every < 1 or self.power <= 0:
            raise PruningError(
                f"begin={self.begin}, end={self.end}, every={self.every}, "
                f"power={self.power}: begin >= 0, end after it, every >= 1 "
                "and power > 0"
            )

    def at(self, step: int) -> float:
        """Sparsity of the formula at ``step``, constant outside."""
        share = (step - self.begin) / (self.end - self.begin)
        left = 1 - min(max(share, 0.0), 1.0)
        return self.final + (self.initial - self.final) * left**self.power

    def due(self, step: int) -> bool:
        """Whether masks are made anew before this step."""
        if not self.begin <= step <= self.end:
            return False
        return step == self.end or (step - self.begin) % self.every == 0


def magnitude_mask(weight: Tensor, sparsity: float) -> Tensor:
    """True (bool, the weight's shape) for the largest |w|.

    Exactly max(round(n (1 - sparsity)), 1) of ``n`` weights are kept; of
    equal ones the first. Raises PruningError for a sparsity out of range,
    no weights, or NaN among them.

    Source: Zhu and Gupta 2017; Han et al. 2015. Introduced in chapter 4.
    """
    size = weight.detach().abs().flatten()
    if not len(size) or bool(size.isnan().any()):
        raise PruningError(
            "there are no weights to prune, or NaN among them: train or "
            "load the network again"
        )
    order = size.argsort(descending=True, stable=True)
    mask = torch.zeros(len(size), dtype=torch.bool, device=size.device)
    mask[order[: kept_count(len(size), sparsity)]] = True
    return mask.view(weight.shape)


def unit_norms(weight: Tensor) -> Tensor:
    """L2 norm of every filter or neuron, float64 ``[K]``.

    ``weight`` is ``[K, ...]``: a unit is what makes one output.
    Introduced in chapter 4.
    """
    return weight.detach().double().flatten(1).norm(dim=1)


def unit_mask(weight: Tensor, sparsity: float) -> Tensor:
    """True (bool ``[K]``) for the units of the largest L2 norms.

    As many as :func:`magnitude_mask` keeps of ``K`` weights.

    Source: Li et al. 2017 with the L2 norm. Introduced in chapter 4.
    """
    return magnitude_mask(unit_norms(weight), sparsity)
