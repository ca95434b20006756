"""A tiny "large" network on made images, for the tests of the command."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from lq_utils.images import ImageData, Provenance
from lq_utils.large_networks import (
    LargeNetwork,
    RoundingStudy,
    SubsetStudy,
    register_large_network,
)
from lq_utils.large_run import find_job, run_network
from lq_utils.models import register_model
from lq_utils.recipes import TrainingConfig

CLASSES = 6
NAME = "tiny_made"


class TinyNet(nn.Module):
    """Shiftable, strided and grouped convolutions, and a classifier."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, 2, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(8)
        self.conv2 = nn.Conv2d(8, 8, 3, 1, 1)
        self.grouped = nn.Conv2d(8, 12, 1, groups=2)
        self.fc = nn.Linear(12, outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.bn1(self.conv1(x)))
        x = torch.relu(self.grouped(torch.relu(self.conv2(x))))
        return self.fc(x.mean(dim=(2, 3)))


def part(name: str, per_class: int) -> ImageData:
    """Images whose class shows in their colours, uint8 ``[N, 32, 32, 3]``."""
    rng = np.random.default_rng([per_class])
    labels = np.repeat(np.arange(CLASSES), per_class)
    tone = np.random.default_rng(5).integers(0, 200, (CLASSES, 1, 1, 3))
    noise = rng.integers(0, 56, (len(labels), 32, 32, 3))
    return ImageData(
        (tone[labels] + noise).astype(np.uint8),
        labels.astype(np.int64),
        tuple(f"class{k}" for k in range(CLASSES)),
        ("all",),
        np.zeros(CLASSES, dtype=np.int64),
        name,
        Provenance("made", "synthetic", "0", "book"),
    )


def image_folder(base: Path) -> str:
    """A folder of class folders with 40 images each; its data set's name."""
    data = part("all", 40)
    for i, (image, label) in enumerate(zip(data.images, data.labels)):
        place = base / data.class_names[label]
        place.mkdir(exist_ok=True)
        Image.fromarray(image).save(place / f"{i}.png")
    return f"imagefolder:{base}"


def tiny_settings(dataset: str, epochs: int = 1) -> LargeNetwork:
    """Few cells of every kind."""
    return LargeNetwork(
        NAME,
        "tinynet",
        dataset,
        TrainingConfig(epochs=epochs, batch_size=32, learning_rate=0.05),
        hole=4,
        subsets=SubsetStudy(
            subset_size=3,
            subsets_per_kind=1,
            few_subsets=2,
            bits=(3,),
            book_bits=(3,),
            images=12,
            tune_steps=2,
            test_per_class=6,
            distance="last layer",
        ),
        rounding=RoundingStudy(("asymmetric",), (4, 3), (3,), images=12),
    )


def register(dataset: str) -> None:
    """Make the tiny network known to the command."""
    register_model("tinynet", replace=True)(TinyNet)
    register_large_network(NAME, replace=True)(lambda: tiny_settings(dataset))


def run_tiny() -> Path:
    """Run the tiny network to its end; the folder of its rows."""
    return run_network(find_job(NAME, "cpu", 1))


if __name__ == "__main__":
    register(sys.argv[1])
    run_tiny()
