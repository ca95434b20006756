"""Building a network that a file names, if the file is large enough for it.

A few bytes may claim a billion outputs. What the file holds says how many
weights there can be, and nothing larger is given memory.
"""

from __future__ import annotations

import torch
from torch import nn

from lq_utils.models import build_model


class ModelSizeError(ValueError):
    """A file names a network that it is too small for.

    Introduced in chapter 3.
    """


def build_bounded(name: str, outputs: int, most: int) -> nn.Module:
    """``build_model(name, outputs)`` of at most ``most`` weights.

    Weights are the values of matrices and filters; biases and what
    belongs to normalisations do not count. They are counted before any of
    them takes memory.

    Raises:
        ModelSizeError: the network has more.
        UnknownName: no model of that name.

    Introduced in chapter 3.
    """
    # Of each output there is one weight at least.
    if outputs > most or _weights(name, outputs) > most:
        raise ModelSizeError(
            f"'{name}' with {outputs} outputs has more weights than the "
            f"file, which holds {most} values at most"
        )
    return build_model(name, outputs)


def _weights(name: str, outputs: int) -> int:
    try:
        with torch.device("meta"):
            shapes = build_model(name, outputs)
    except (NotImplementedError, RuntimeError):
        # A builder that looks at its numbers, of which meta tensors have
        # none. The number of outputs, which the file claims, is bounded.
        return 0
    return sum(p.numel() for p in shapes.parameters() if p.ndim > 1)
