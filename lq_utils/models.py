"""The book's networks, all for small images and any number of classes.

Inputs are normalised by :func:`lq_utils.inference.to_input`: one constant
normalisation for every data set, so that weights and images never mismatch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from lq_utils.quantnet import QuantNet
from lq_utils.registry import Registry

MODELS: Registry = Registry("model")
register_model = MODELS.register

Builder = Callable[[int], nn.Module]


def build_model(
    name: str, num_classes: int, seed: int | None = 0
) -> nn.Module:
    """A freshly initialised network for 32x32 images.

    Args:
        name: a registered model, see ``MODELS.names()``.
        num_classes: number of outputs (1 for a binary logit).
        seed: seed of the initial weights; ``None`` leaves torch's state.

    Returns:
        Module that maps float32 ``[N, 3, 32, 32]`` to ``[N, num_classes]``.

    Raises:
        UnknownName: no model of that name is registered.
        ValueError: ``num_classes`` is smaller than 1.

    Introduced in chapter 1.
    """
    if num_classes < 1:
        raise ValueError(f"num_classes is {num_classes}; give at least 1")
    builder: Builder = MODELS.get(name)
    if seed is None:
        return builder(num_classes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return builder(num_classes)


def count_parameters(model: nn.Module) -> int:
    """Number of trainable parameters.

    Introduced in chapter 1.
    """
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with a projection shortcut where shapes change.

    Source: He et al. 2016, section 4.2 (CIFAR networks, option B).
    Introduced in chapter 1.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False),
                nn.BatchNorm2d(outputs),
            )

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return self.relu(y + self.shortcut(x))


class CifarResNet(nn.Module):
    """Residual network of depth ``6 n + 2`` with 16, 32, 64 channels.

    Source: He et al. 2016, section 4.2. Introduced in chapter 1.
    """

    def __init__(self, depth: int, num_classes: int) -> None:
        super().__init__()
        if depth < 8 or (depth - 2) % 6:
            raise ValueError(f"depth {depth} is not 6 n + 2 with n >= 1")
        blocks = (depth - 2) // 6
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.relu = nn.ReLU(inplace=True)
        self.layer1 = _stage(16, 16, blocks, stride=1)
        self.layer2 = _stage(16, 32, blocks, stride=2)
        self.layer3 = _stage(32, 64, blocks, stride=2)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(64, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.fc(torch.flatten(self.avgpool(x), 1))


def _stage(
    inputs: int, outputs: int, blocks: int, stride: int
) -> nn.Sequential:
    rest = [BasicBlock(outputs, outputs, 1) for _ in range(blocks - 1)]
    return nn.Sequential(BasicBlock(inputs, outputs, stride), *rest)


@register_model("quantnet")
def _quantnet(num_classes: int) -> nn.Module:
    return QuantNet(num_classes)


@register_model("resnet20")
def _resnet20(num_classes: int) -> nn.Module:
    return CifarResNet(20, num_classes)


@register_model("resnet56")
def _resnet56(num_classes: int) -> nn.Module:
    return CifarResNet(56, num_classes)


def _torchvision() -> Any:
    """torchvision's models, imported late: it takes seconds."""
    from torchvision import models

    return models


def _small_stem(network: Any) -> nn.Module:
    """3x3 stride-1 stem without pooling: 32x32 images keep their detail."""
    network.conv1 = nn.Conv2d(3, 64, 3, 1, 1, bias=False)
    nn.init.kaiming_normal_(network.conv1.weight, mode="fan_out")
    network.maxpool = nn.Identity()
    return network


@register_model("resnet18")
def _resnet18(num_classes: int) -> nn.Module:
    return _small_stem(_torchvision().resnet18(num_classes=num_classes))


@register_model("resnet50")
def _resnet50(num_classes: int) -> nn.Module:
    return _small_stem(_torchvision().resnet50(num_classes=num_classes))


# (expansion, channels, repeats, stride): two strides fewer than ImageNet's.
MOBILENET_STAGES = [
    [1, 16, 1, 1],
    [6, 24, 2, 1],
    [6, 32, 3, 2],
    [6, 64, 4, 2],
    [6, 96, 3, 1],
    [6, 160, 3, 2],
    [6, 320, 1, 1],
]


@register_model("mobilenetv2_x0_5")
def _mobilenetv2_x0_5(num_classes: int) -> nn.Module:
    network = _torchvision().MobileNetV2(
        num_classes=num_classes,
        width_mult=0.5,
        inverted_residual_setting=MOBILENET_STAGES,
    )
    network.features[0][0].stride = (1, 1)
    return network


@register_model("vgg16")
def _vgg16(num_classes: int) -> nn.Module:
    network = _torchvision().vgg16(num_classes=num_classes)
    network.avgpool = nn.AdaptiveAvgPool2d(1)
    network.classifier[0] = nn.Linear(512, 4096)
    return network


@register_model("alexnet")
def _alexnet(num_classes: int) -> nn.Module:
    network = _torchvision().alexnet(num_classes=num_classes)
    network.features[0] = nn.Conv2d(3, 64, 3, 1, 1)
    network.avgpool = nn.AdaptiveAvgPool2d(3)
    network.classifier[1] = nn.Linear(256 * 9, 4096)
    return network


@register_model("densenet121")
def _densenet121(num_classes: int) -> nn.Module:
    network = _torchvision().densenet121(num_classes=num_classes)
    network.features.conv0 = nn.Conv2d(3, 64, 3, 1, 1, bias=False)
    network.features.pool0 = nn.Identity()
    return network


@register_model("efficientnet_b0")
def _efficientnet_b0(num_classes: int) -> nn.Module:
    network = _torchvision().efficientnet_b0(num_classes=num_classes)
    network.features[0][0].stride = (1, 1)
    return network


@register_model("vit_b_16")
def _vit_b_16(num_classes: int) -> nn.Module:
    # Patches of 4x4 give 64 tokens on a 32x32 image.
    return _torchvision().VisionTransformer(
        image_size=32,
        patch_size=4,
        num_layers=12,
        num_heads=12,
        hidden_dim=768,
        mlp_dim=3072,
        num_classes=num_classes,
    )
