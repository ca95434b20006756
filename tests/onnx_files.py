"""One exported QuantNET and its compressed files, made once a test run."""

from __future__ import annotations

import atexit
import tempfile
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import nn

from lq_utils.data import ImageData
from lq_utils.models import build_model
from lq_utils.onnx_export import export_onnx
from lq_utils.onnx_schemes import compress
from lq_utils.synthetic import make_synthetic


@cache
def folder() -> Path:
    directory = tempfile.TemporaryDirectory()
    atexit.register(directory.cleanup)
    return Path(directory.name)


@cache
def network() -> nn.Module:
    """Seeded, untrained, with biases that are not zero."""
    model = build_model("quantnet", 2, seed=0).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                noise = torch.randn(parameter.shape, generator=generator)
                parameter.add_(0.1 * noise)
    return model


@cache
def images(part: str) -> ImageData:
    """Synthetic images, 200 to calibrate or 400 others to test."""
    everything = make_synthetic(10, per_class=60)
    chosen = np.arange(600) % 60 < 20
    wanted = chosen if part == "train" else ~chosen
    return everything.take(np.flatnonzero(wanted), part)


@cache
def exported() -> Path:
    path = folder() / "float32.onnx"
    export_onnx(network(), path)
    return path


@cache
def compressed(scheme: str) -> Path:
    path = folder() / f"{scheme}.onnx"
    compress(scheme, exported(), path, images("train"))
    return path
