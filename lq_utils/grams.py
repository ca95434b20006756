"""Layer statistics: Gram matrices of a layer's inputs, batch by batch.

For a layer with weight ``[K, N]`` and patches ``x~`` (its inputs in the
partly quantized network) and ``x`` (in the original one), the solvers need
``H = sum x~ x~^T`` and the drift ``D = sum x~ (x - x~)^T``, ``[N, N]``
each, whatever the number of patches.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lq_utils.shifts import assemble, shift_products, shiftable

AT_ONCE = 2**18  # values of an input, or up to twice as many, go together


@dataclass
class Statistics:
    """Gram matrices of a layer, float ``[groups, N, N]``.

    ``hessian`` is X~^T X~, ``drift`` X~^T (X - X~), ``rows`` the number of
    patches. Their sum is X~^T X, the cross Gram matrix of GPFQ.

    Source: algorithm of the label-aware report in Gram form.
    Introduced in chapter 3.
    """

    hessian: Tensor
    drift: Tensor
    rows: int


def gram_statistics(quantized: Tensor, analog: Tensor) -> Statistics:
    """Statistics of patches ``[m, N]`` of a layer without groups.

    Introduced in chapter 3.
    """
    hessian = quantized.T @ quantized
    drift = quantized.T @ (analog - quantized)
    return Statistics(hessian[None], drift[None], len(quantized))


def patches(module: nn.Module, x: Tensor) -> Tensor:
    """What each row of a layer's weight sees: ``[groups, N, m]``.

    ``x`` is a batch of layer inputs. Introduced in chapter 3.
    """
    if isinstance(module, nn.Linear):
        return x.flatten(0, -2).T[None]
    assert isinstance(module, nn.Conv2d)
    mode = module.padding_mode
    around = module._reversed_padding_repeated_twice
    if any(around):
        x = F.pad(x, around, mode="constant" if mode == "zeros" else mode)
    if module.kernel_size == (1, 1):
        down, right = module.stride
        columns = x[:, :, ::down, ::right].flatten(2)
    else:
        columns = F.unfold(
            x, module.kernel_size, module.dilation, 0, module.stride
        )
    groups = module.groups
    split = columns.unflatten(1, (groups, -1)).permute(1, 2, 0, 3)
    return split.flatten(2)


class GramCollector:
    """Adds up the statistics of one layer over batches.

    Of every batch a ``fraction`` of the images is used, drawn without
    replacement: every layer sees another sample.

    Introduced in chapter 3.
    """

    def __init__(
        self, module: nn.Module, fraction: float, generator: torch.Generator
    ) -> None:
        if not 0 < fraction <= 1:
            raise ValueError(f"patch fraction {fraction} is not in (0, 1]")
        self.module = module
        self.fraction = fraction
        self.generator = generator
        self.shifts = shiftable(module)
        self.rows = 0
        self.hessian: Tensor | None = None
        self.drift: Tensor | None = None
        self.waiting: list[tuple[Tensor, Tensor]] = []

    def add(self, quantized: Tensor, analog: Tensor) -> None:
        """Add a batch of layer inputs; the same tensor twice is fine."""
        same = analog is quantized
        if self.fraction < 1:
            count = max(1, round(self.fraction * len(quantized)))
            order = torch.randperm(len(quantized), generator=self.generator)
            drawn = order[:count].sort().values
            quantized = quantized[drawn]
            analog = quantized if same else analog[drawn]
        self.waiting.append((quantized, analog))
        if sum(x.numel() for x, _ in self.waiting) >= AT_ONCE:
            self._add_waiting()

    def _add_waiting(self) -> None:
        """Products of several small batches at once, of a large one in
        parts: large enough for speed, small enough for memory."""
        pairs, self.waiting = self.waiting, []
        if not pairs:
            return
        shared = all(x is y for x, y in pairs)
        quantized = _joined([x for x, _ in pairs])
        analog = quantized if shared else _joined([y for _, y in pairs])
        del pairs  # the memory of images that were drawn
        parts = max(1, quantized.numel() // (2 * AT_ONCE))
        for x, y in zip(
            quantized.tensor_split(parts), analog.tensor_split(parts)
        ):
            self._add_products(x, None if shared else y - x)

    def _add_products(self, quantized: Tensor, away: Tensor | None) -> None:
        form = shift_products if self.shifts else _patch_products
        hessian, drift, rows = form(self.module, quantized, away)
        self.rows += rows
        self.hessian = _sum(self.hessian, hessian)
        if drift is not None:
            self.drift = _sum(self.drift, drift)

    def statistics(self) -> Statistics:
        """Statistics of everything added so far.

        Raises ValueError where nothing was added.
        """
        self._add_waiting()
        if self.hessian is None:
            raise ValueError("no batch was added to the statistics")
        hessian, drift = self.hessian, self.drift
        if self.shifts:
            hessian = assemble(hessian)
            drift = None if drift is None else assemble(drift)
        if drift is None:
            drift = torch.zeros_like(hessian)
        return Statistics(hessian, drift, self.rows)


def _joined(batches: list[Tensor]) -> Tensor:
    return batches[0] if len(batches) == 1 else torch.cat(batches)


def _patch_products(
    module: nn.Module, quantized: Tensor, away: Tensor | None
) -> tuple[Tensor, Tensor | None, int]:
    x = patches(module, quantized)
    drift = None if away is None else x @ patches(module, away).mT
    return x @ x.mT, drift, x.shape[-1]


def _sum(total: Tensor | None, part: Tensor | None) -> Tensor:
    """Float64 sums: thousands of float32 batches would lose digits."""
    assert part is not None
    return part.double() if total is None else total.add_(part)
