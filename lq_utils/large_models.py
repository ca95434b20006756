"""Two more architectures for large networks; importing registers them."""

from __future__ import annotations

from torch import nn
from torchvision import models as tv

from lq_utils.models import register_model


@register_model("vgg16_bn")
def _vgg16_bn(num_classes: int) -> nn.Module:
    """VGG-16 with batch normalisation: 32x32 images end as one pixel."""
    network = tv.vgg16_bn(num_classes=num_classes)
    network.avgpool = nn.AdaptiveAvgPool2d(1)
    network.classifier[0] = nn.Linear(512, 4096)
    return network


@register_model("vit_small")
def _vit_small(num_classes: int) -> nn.Module:
    """ViT-S of Touvron et al. 2021 (DeiT), on 64 patches of 4x4 pixels."""
    return tv.VisionTransformer(
        image_size=32,
        patch_size=4,
        num_layers=12,
        num_heads=6,
        hidden_dim=384,
        mlp_dim=1536,
        num_classes=num_classes,
    )
