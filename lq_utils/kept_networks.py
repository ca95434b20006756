"""Networks that start from another task's, trained once and kept.

Base networks are kept by ``train``; those that were fine-tuned on another
task are kept here, as several chapters go on from them.
"""

from __future__ import annotations

import inspect

import numpy as np
import torch
from torch import nn

from lq_utils.cache import cached
from lq_utils.compression_networks import (
    OWN,
    Budget,
    Tasks,
    base_network,
    start_network,
)
from lq_utils.engine import modules
from lq_utils.fingerprints import digest
from lq_utils.images import ImageData

# What decides the weights.
CODE = modules(
    """
    augmentation compressed_training compression_networks images inference
    quantnet recipes stacks training
    """
)


def kept_network(
    task: str, start: str, seed: int, plan: Budget, splits: Tasks
) -> nn.Module:
    """The network that ``start_network`` returns, from the cache if there.

    Raises as ``start_network`` and ``cached``. Introduced in chapter 5.
    """
    own = splits[task]
    if start == OWN:
        return base_network(own, seed, plan)
    source = base_network(splits[start], seed, plan)
    key = {
        "source": digest(source),
        "train": _fingerprint(own.train),
        "validation": _fingerprint(own.validation),
        "seed": seed,
        "epochs": dict(plan)["transfer_epochs"],
        "rate": dict(plan)["rate"],
        "code": [inspect.getsource(module) for module in CODE],
    }

    def weights() -> dict[str, np.ndarray]:
        trained = start_network(task, start, seed, plan, splits)
        return {k: v.cpu().numpy() for k, v in trained.state_dict().items()}

    kept = cached("transferred", key, weights)
    source.load_state_dict({k: torch.from_numpy(v) for k, v in kept.items()})
    return source.eval()


def _fingerprint(part: ImageData) -> list[str]:
    return [digest(part.images), digest(part.labels)]
