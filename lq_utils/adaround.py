"""Soft rounding: each weight learns whether it goes down or up."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call

from lq_utils.grids import Grid

# The sigmoid is stretched to (-0.1, 1.1) and cut, so that 0 and 1 are
# reached with a gradient that does not vanish.
STRETCH_LOW, STRETCH_HIGH = -0.1, 1.1
FIRST_BETA, LAST_BETA = 20.0, 2.0  # the regulariser sharpens linearly


class ReconstructionError(ValueError):
    """These layers cannot be reconstructed as asked.

    Introduced in chapter 8.
    """


def rectified_sigmoid(v: Tensor) -> Tensor:
    """h(V), the share by which a weight is rounded up, in 0 ... 1.

    Source: Nagel et al. 2020 (AdaRound), equation 23; Louizos et al. 2018.
    Introduced in chapter 8.
    """
    span = STRETCH_HIGH - STRETCH_LOW
    return (torch.sigmoid(v) * span + STRETCH_LOW).clamp(0, 1)


def regulariser(h: Tensor, beta: float) -> Tensor:
    """Sum of 1 - abs(2 h - 1)^beta: zero where every h is 0 or 1.

    Source: Nagel et al. 2020 (AdaRound), equation 24. Introduced in
    chapter 8.
    """
    return h.numel() - (2 * h - 1).abs().pow(beta).sum()


class SoftRounding:
    """Weights between their two neighbouring levels, all in one vector.

    ``v`` (float32 ``[weights of all layers]``) is what is optimised; it
    starts where the soft weights are the original ones (cut to the
    grid's range). Weights outside the range stay at its end.

    Source: Nagel et al. 2020 (AdaRound), section 3.2; alphabets with any
    step and zero point. Introduced in chapter 8.
    """

    def __init__(
        self, weights: dict[str, Tensor], grids: dict[str, Grid]
    ) -> None:
        self.grids = grids
        self.shapes = {name: w.shape for name, w in weights.items()}
        parts = [_split(w, grids[name], name) for name, w in weights.items()]
        columns = [torch.cat(part) for part in zip(*parts)]
        self.index, self.free, share, self.base, self.step = columns
        width = STRETCH_HIGH - STRETCH_LOW
        start = torch.logit((share - STRETCH_LOW) / width).float()
        self.v = start.requires_grad_()

    def up(self) -> Tensor:
        """h of every weight, ``[weights]``."""
        return rectified_sigmoid(self.v)

    def weights(self, up: Tensor) -> dict[str, Tensor]:
        """Soft weights ``[K, N]`` of every layer for h = ``up``."""
        return self._by_layer(torch.addcmul(self.base, self.step, up))

    def codes(self) -> dict[str, Tensor]:
        """Codes int64 ``[K, N]`` after rounding h to 0 or 1."""
        up = (self.up().detach() >= 0.5) & self.free
        return self._by_layer(self.index + up.long())

    def hard(self) -> dict[str, Tensor]:
        """Weights ``[K, N]`` on their grids, h rounded to 0 or 1."""
        codes = self.codes()
        return {name: self.grids[name].values(codes[name]) for name in codes}

    def _by_layer(self, flat: Tensor) -> dict[str, Tensor]:
        sizes = [shape.numel() for shape in self.shapes.values()]
        return {
            name: part.view(shape)
            for (name, shape), part in zip(
                self.shapes.items(), flat.split(sizes)
            )
        }


def _by_column(parameter: Tensor, grid: Grid, columns: int) -> Tensor:
    """Scales or zero points, one a column (or one for all), float64."""
    wide = parameter.double()
    if wide.shape[1] > 1:
        wide = wide.repeat_interleave(grid.group_size, dim=1)[:, :columns]
    return wide


def _split(weight: Tensor, grid: Grid, name: str) -> tuple[Tensor, ...]:
    """Of every weight, flat: index of the level below (int64), whether
    there is one above, how far up it lies (0 ... 1), the value of the
    level below, and the step to the one above (0 where there is none).
    """
    a = grid.alphabet
    if a.codebook is not None:
        raise ReconstructionError(
            f"layer '{name}': the levels of '{a.name}' are not evenly "
            "spaced, and adaptive rounding needs one step; choose a "
            "uniform quantizer such as 'symmetric', or the solver 'gpfq'"
        )
    # In float64: with many bits float32 has no digits left for the share.
    scale = _by_column(grid.scale, grid, weight.shape[1])
    zero = _by_column(grid.zero_point, grid, weight.shape[1])
    position = (weight.double() / scale + zero - a.lowest) / a.step
    below = position.floor()
    free = (below >= 0) & (below <= a.count - 2)
    index = below.clamp(0, a.count - 1)
    share = torch.where(free, position - below, 0.5)
    base = (a.lowest + a.step * index - zero) * scale
    step = a.step * scale * free
    parts = index.long(), free, share, base.float(), step.float()
    return tuple(part.flatten() for part in parts)


@dataclass(frozen=True)
class Training:
    """How the rounding of one block is learnt; see ``reconstruct``.

    Introduced in chapter 8.
    """

    steps: int
    batch_size: int
    learning_rate: float
    warmup: float
    rounding_weight: float

    def __post_init__(self) -> None:
        whole = self.steps >= 1 and self.batch_size >= 1
        share = 0 <= self.warmup < 1 and self.rounding_weight >= 0
        if not (whole and share and self.learning_rate > 0):
            raise ReconstructionError(
                "give steps and batch_size of 1 or more, learning_rate "
                "above 0, warmup in [0, 1), rounding_weight 0 or more"
            )

    def beta(self, step: int) -> float | None:
        """Exponent of the regulariser; None during the warm-up."""
        start = self.warmup * self.steps
        if step < start:
            return None
        done = (step - start) / (self.steps - start)
        return FIRST_BETA + (LAST_BETA - FIRST_BETA) * done


class BlockFit:
    """The reconstruction loss of a block as a function of its weights.

    ``source`` and ``target`` are ``[images, ...]``: what the block reads
    in the quantized network, and what it returned in the original one.

    Introduced in chapter 8.
    """

    def __init__(
        self, network: nn.Module, source: Tensor, target: Tensor
    ) -> None:
        self.network = network
        self.source = source
        self.target = target
        # Detached: no gradient but that of the soft rounding is wanted.
        self.fixed = {n: p.detach() for n, p in network.named_parameters()}

    def loss(self, weights: dict[str, Tensor], images: Tensor) -> Tensor:
        """Squared error, summed over channels, mean over the rest.

        ``weights`` are matrices ``[K, N]`` by layer; ``images`` int64
        ``[B]`` says which are taken.
        """
        parameters = dict(self.fixed)
        for layer, matrix in weights.items():
            name = f"{layer}.weight"
            parameters[name] = matrix.view_as(self.fixed[name])
        output = functional_call(
            self.network, parameters, (self.source[images],)
        )
        error = (output - self.target[images]).square()
        channels = error.shape[1 if error.ndim == 4 else -1]
        return error.sum() * (channels / error.numel())

    @torch.no_grad()
    def total_loss(self, weights: dict[str, Tensor], batch: int = 64) -> float:
        """The loss over all images."""
        count, total = len(self.source), 0.0
        for images in torch.arange(count).split(batch):
            total += float(self.loss(weights, images)) * len(images)
        return total / count

    def better_rounding(
        self,
        rounding: SoftRounding,
        nearest: dict[str, Tensor],
        training: Training,
        generator: torch.Generator,
        after_step: Callable[[], object],
    ) -> tuple[dict[str, Tensor], float, float]:
        """Weights, loss of the nearest ones, and loss of those returned.

        ``rounding`` is learnt; ``nearest`` is returned where its loss over
        all images is not higher.
        """
        self.optimise(rounding, training, generator, after_step)
        learnt = rounding.hard()
        before, after = self.total_loss(nearest), self.total_loss(learnt)
        # Not "after >= before": the loss may be no number.
        if not after < before:
            return nearest, before, before
        return learnt, before, after

    def optimise(
        self,
        rounding: SoftRounding,
        training: Training,
        generator: torch.Generator,
        after_step: Callable[[], object] = lambda: None,
    ) -> None:
        """Learn the rounding with Adam; nothing else is changed.

        Source: Nagel et al. 2020 (AdaRound), section 3.2; warm-up and
        annealing as in the code of Li et al. 2021 (BRECQ).
        """
        adam = torch.optim.Adam(
            [rounding.v], lr=training.learning_rate, fused=True
        )
        drawn = _batches(len(self.source), training.batch_size, generator)
        for step in range(training.steps):
            with torch.enable_grad():
                up = rounding.up()
                loss = self.loss(rounding.weights(up), next(drawn))
                beta = training.beta(step)
                if beta is not None:
                    loss = loss + training.rounding_weight * regulariser(
                        up, beta
                    )
            (rounding.v.grad,) = torch.autograd.grad(loss, rounding.v)
            adam.step()
            after_step()


def _batches(
    images: int, size: int, generator: torch.Generator
) -> Iterator[Tensor]:
    """Batches of every pass over the images, in a new order each time."""
    size = min(size, images)
    while True:
        order = torch.randperm(images, generator=generator)
        yield from order[: images - images % size].split(size)
