"""A small one-stage detector: a backbone, a class head and a box head.

The image is cut into cells. The cell that holds the middle of an object
names its class, and says where its box lies relative to the cell.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.ops import batched_nms

from lq_utils.detection_scenes import DetectionError
from lq_utils.inference import to_input

STRIDE = 8  # pixels of a cell
LEAST_SCORE = 0.05
OVERLAP = 0.5  # of two boxes of one class, of which one goes
MOST = 100  # boxes of an image
RARE = -4.0  # first logit of every class: most cells are empty
WIDEST = 4.0  # of exp(): a box is at most exp(4) cells wide


class Detections(NamedTuple):
    """What a detector finds on an image, best first.

    ``boxes`` float64 ``[n, 4]`` (left, top, right, bottom), ``scores``
    float64 ``[n]`` (0 to 1), ``labels`` int64 ``[n]``.

    Introduced in chapter 10.
    """

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray


class Detector(nn.Module, ABC):
    """A network that finds objects, and says where its parts are.

    ``parts`` maps "backbone", "class head" and "box head" to the
    beginning of their layers' names. Introduced in chapter 10.
    """

    parts: ClassVar[dict[str, str]]

    @abstractmethod
    def detect(
        self, images: Sequence[np.ndarray] | np.ndarray
    ) -> list[Detections]:
        """What is on each image (uint8 ``[H, W, 3]``)."""


def _block(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


class TinyDetector(Detector):
    """Grid detector for images whose sides are multiples of 8 pixels.

    Source: Redmon et al. 2016 (cells), Tian et al. 2019 (no anchors, two
    heads). With four classes both heads have the same number of weights.
    Introduced in chapter 10.
    """

    parts: ClassVar = {
        "backbone": "backbone.",
        "class head": "class_head.",
        "box head": "box_head.",
    }

    def __init__(self, num_classes: int, width: int = 16) -> None:
        super().__init__()
        if num_classes < 1 or width < 1:
            raise DetectionError(
                f"{num_classes} classes, width {width}: give 1 or more"
            )
        self.backbone = nn.Sequential(
            _block(3, width, 2),
            _block(width, 2 * width, 2),
            _block(2 * width, 4 * width, 2),
            _block(4 * width, 4 * width),
        )
        self.class_head = nn.Sequential(
            _block(4 * width, 4 * width), nn.Conv2d(4 * width, num_classes, 1)
        )
        self.box_head = nn.Sequential(
            _block(4 * width, 4 * width), nn.Conv2d(4 * width, 4, 1)
        )
        last = self.class_head[1]
        assert isinstance(last, nn.Conv2d) and last.bias is not None
        nn.init.constant_(last.bias, RARE)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Logits ``[N, C, H/8, W/8]`` and offsets ``[N, 4, H/8, W/8]``."""
        features = self.backbone(x)
        return self.class_head(features), self.box_head(features)

    @torch.inference_mode()
    def detect(
        self, images: Sequence[np.ndarray] | np.ndarray
    ) -> list[Detections]:
        """What is on each image (uint8 ``[H, W, 3]``, all of one size)."""
        was_training = self.training
        self.eval()
        found = []
        for start in range(0, len(images), 100):
            x = to_input(np.stack(list(images[start : start + 100])))
            logits, offsets = self(x)
            boxes = decode(offsets)
            found += [_best(s, b) for s, b in zip(logits.sigmoid(), boxes)]
        self.train(was_training)
        return found


def cell_middles(height: int, width: int) -> Tensor:
    """Middles float32 ``[2, height, width]`` (x, y) of cells, in pixels.

    Introduced in chapter 10.
    """
    y, x = torch.meshgrid(
        torch.arange(height), torch.arange(width), indexing="ij"
    )
    return STRIDE * (torch.stack([x, y]) + 0.5)


def decode(offsets: Tensor) -> Tensor:
    """Boxes float32 ``[N, 4, h, w]`` in pixels, of offsets of that shape.

    Middle: the cell's, moved by the first two (in cells); width and
    height: exp of the others (in cells). Introduced in chapter 10.
    """
    middle = cell_middles(*offsets.shape[2:]) + STRIDE * offsets[:, :2]
    half = STRIDE / 2 * offsets[:, 2:].clamp(max=WIDEST).exp()
    return torch.cat([middle - half, middle + half], dim=1)


def _best(scores: Tensor, boxes: Tensor) -> Detections:
    """Of scores ``[C, h, w]`` and boxes ``[4, h, w]``: what is left."""
    label, y, x = torch.where(scores > LEAST_SCORE)
    score, box = scores[label, y, x], boxes[:, y, x].T
    kept = batched_nms(box, score, label, OVERLAP)[:MOST]
    return Detections(
        box[kept].double().numpy(),
        score[kept].double().numpy(),
        label[kept].numpy(),
    )
