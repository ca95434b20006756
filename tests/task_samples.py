"""A small network and small images for the tests of chapter 9."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lq_utils.images import ImageData, Provenance, Splits
from lq_utils.models import build_model

CLASSES = 6
NAMES = ("ant", "bee", "cat", "dog", "eel", "fox")


class Small(nn.Module):
    """Two convolutions, one with batch norm, and a classifier."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(4)
        self.conv2 = nn.Conv2d(4, 8, 3, padding=1, bias=False)
        self.fc = nn.Linear(8, outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.bn1(self.conv1(x)))
        return self.fc(torch.relu(self.conv2(x)).mean(dim=(2, 3)))


def small_network(seed: int = 1) -> nn.Module:
    """A network of ``build_model("small", 6)``, in evaluation mode."""
    network = build_model("small", CLASSES, seed=seed).eval()
    with torch.no_grad():
        network.fc.weight.mul_(20)
    return network.requires_grad_(False)


def part(name: str, per_class: int, seed: int = 0) -> ImageData:
    """Images whose class shows in their colours."""
    rng = np.random.default_rng([seed, per_class])
    labels = np.repeat(np.arange(CLASSES), per_class)
    tone = rng.integers(0, 200, (CLASSES, 1, 1, 3))
    noise = rng.integers(0, 56, (len(labels), 8, 8, 3))
    return ImageData(
        (tone[labels] + noise).astype(np.uint8),
        labels.astype(np.int64),
        NAMES,
        ("all",),
        np.zeros(CLASSES, dtype=np.int64),
        name,
        Provenance("made", "synthetic", "0", "book"),
    )


def splits() -> Splits:
    sizes: dict[str, Any] = {"train": 12, "validation": 5, "test": 7}
    return Splits(**{name: part(name, n) for name, n in sizes.items()})
