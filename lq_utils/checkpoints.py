"""Where checkpoints lie: a name that holds all that decides the weights."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lq_utils.images import ImageData
from lq_utils.paths import cache_dir
from lq_utils.recipes import TrainingConfig


def checkpoint_path(
    model_name: str,
    model: nn.Module,
    data: ImageData,
    config: TrainingConfig,
    code: Sequence[Callable[..., Any]],
) -> Path:
    """Where the checkpoint of exactly this training lies.

    The name holds everything that decides the weights: network and its
    code, data, configuration, library version and ``code``, the classes
    and functions that make a training step.

    Introduced in chapter 1.
    """
    key = {
        "model": model_name,
        "modules": str(model),
        "forward": _own_code(model),
        "config": asdict(config),
        "images": hashlib.sha256(data.images.tobytes()).hexdigest(),
        "labels": hashlib.sha256(data.labels.tobytes()).hexdigest(),
        "torch": torch.__version__,
        "code": [inspect.getsource(part) for part in code],
    }
    text = json.dumps(key, sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    return cache_dir() / "training" / f"{model_name}-{digest}.pt"


def _own_code(model: nn.Module) -> list[str]:
    """What the modules' classes do, those of torch left out."""
    kinds = {k for m in model.modules() for k in type(m).__mro__}
    return sorted(
        _source(function)
        for kind in kinds
        if kind.__module__.split(".")[0] not in ("torch", "builtins")
        for function in vars(kind).values()
        if inspect.isfunction(function)
    )


def _source(function: Callable[..., Any]) -> str:
    try:
        return inspect.getsource(function)
    except OSError:  # typed at a prompt: no file to read
        return function.__code__.co_code.hex()
