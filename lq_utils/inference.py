"""From images to logits and accuracy, on whatever device there is."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from lq_utils.data import ImageData

PIXEL_MEAN = 0.5
PIXEL_STD = 0.25


def pick_device(name: str = "auto") -> torch.device:
    """The device to compute on: CUDA, then MPS, then the CPU.

    Introduced in chapter 1.
    """
    if name != "auto":
        return torch.device(name)
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def to_input(images: np.ndarray, device: torch.device | str = "cpu") -> Tensor:
    """Images uint8 ``[N, H, W, 3]`` to network input.

    Returns float32 ``[N, 3, H, W]``, ``(pixel / 255 - 0.5) / 0.25``, in
    channels-last memory.

    Introduced in chapter 1.
    """
    x = torch.from_numpy(np.ascontiguousarray(images)).to(device)
    x = x.permute(0, 3, 1, 2).float()
    return (x / 255 - PIXEL_MEAN) / PIXEL_STD


@torch.inference_mode()
def predict(
    model: nn.Module, data: ImageData, batch_size: int = 500
) -> Tensor:
    """Logits float32 ``[N, classes]`` (on the CPU) of every image.

    Introduced in chapter 1.
    """
    was_training = model.training
    device = next(model.parameters()).device
    model.eval()
    parts = [
        model(to_input(data.images[i : i + batch_size], device)).cpu()
        for i in range(0, len(data), batch_size)
    ]
    model.train(was_training)
    return torch.cat(parts)


def top1(logits: Tensor, labels: np.ndarray) -> float:
    """Share of images whose largest logit is the label's (0 to 1).

    One logit a image is read as binary: positive means class 1.

    Introduced in chapter 1.
    """
    if logits.shape[1] == 1:
        guesses = (logits[:, 0] > 0).long()
    else:
        guesses = logits.argmax(dim=1)
    return float((guesses == torch.from_numpy(labels)).float().mean().item())


def evaluate(model: nn.Module, data: ImageData) -> float:
    """Top-1 accuracy of ``model`` on ``data`` (0 to 1).

    Introduced in chapter 1.
    """
    return top1(predict(model, data), data.labels)
