"""Networks that learn, and those that die in the first steps.

A layer of few units behind a ReLU can die: a large step makes every unit
negative for every image, nothing flows back, and the network answers the
same for ever. What compression does to such a network says nothing.
"""

from __future__ import annotations

from torch import nn

from lq_utils.compression_networks import Budget, base_network
from lq_utils.images import ImageData, Splits
from lq_utils.inference import predict
from lq_utils.recipes import TrainingError

TRIES = 4  # seeds for each network that is wanted


def is_dead(network: nn.Module, images: ImageData) -> bool:
    """Whether all images get exactly the same logits.

    Introduced in chapter 4.
    """
    logits = predict(network, images)
    return bool((logits == logits[0]).all())


def living_seeds(
    splits: Splits, start: int, count: int, plan: Budget
) -> tuple[list[int], list[int]]:
    """The first ``count`` seeds whose base networks live, and the others.

    Seeds are tried from ``start`` on. Validation images tell; the networks
    are kept, so that whoever goes on from them finds them trained.

    Raises TrainingError where three of four networks die. Introduced in
    chapter 4.
    """
    living: list[int] = []
    dead: list[int] = []
    for seed in range(start, start + TRIES * count):
        network = base_network(splits, seed, plan)
        found = dead if is_dead(network, splits.validation) else living
        found.append(seed)
        if len(living) == count:
            return living, dead
    raise TrainingError(
        f"{len(dead)} of {len(dead) + len(living)} networks died while they "
        "were trained: lower the learning rate"
    )
