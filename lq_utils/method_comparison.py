"""Quantization methods side by side: the same network and images for all.

A method is a function of the network, its calibration images and a
``Budget``; every one fills the same grid, so that a comparison is at an
equal number of levels.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor, nn

from lq_utils.artifact import size_report
from lq_utils.engine import ENGINE
from lq_utils.images import ImageData
from lq_utils.inference import predict
from lq_utils.lockstep import Quantized, quantize
from lq_utils.plans import Plan
from lq_utils.reconstruction import Reconstructed, reconstruct
from lq_utils.registry import Registry

QUANTIZER = "symmetric"  # 2^b levels for "b bits", for every method
POLISH = 3  # sweeps of coordinate descent
TEST_BATCH = 100  # images; what lies between layers still fits a cache


@dataclass(frozen=True)
class Budget:
    """What all methods share: the grid, and how hard each may try.

    ``patch_fraction`` bounds the one-pass solvers; ``steps`` of Adam for
    every layer or block, and its ``learning_rate``, those that learn.

    Introduced in chapter 8.
    """

    bits: int
    granularity: str = "channel"
    scale: str = "output"
    patch_fraction: float = 1.0
    steps: int = 2000
    learning_rate: float = 1e-3
    seed: int = 0

    def plan(self, model: nn.Module, **row: Any) -> Plan:
        """The same row for every layer: 2^bits levels."""
        return Plan.uniform(
            model,
            self.bits,
            quantizer=QUANTIZER,
            granularity=self.granularity,
            scale=self.scale,
            **row,
        )


Method = Callable[[nn.Module, Tensor, Budget], Quantized]
METHODS: Registry[Method] = Registry("method")
register_method = METHODS.register


def find_method(name: str) -> Method:
    """The method registered as ``name``; raises UnknownName.

    Introduced in chapter 8.
    """
    return METHODS.get(name)


def one_pass(
    model: nn.Module, images: Tensor, budget: Budget, **row: Any
) -> Quantized:
    """Lockstep calibration with one solver for every layer.

    ``images`` are float32 ``[M, 3, H, W]``; ``row`` holds fields of
    LayerPlan such as ``solver``. Introduced in chapter 8.
    """
    return quantize(
        model,
        budget.plan(model, **row),
        images,
        seed=budget.seed,
        patch_fraction=budget.patch_fraction,
    )


def learnt(
    model: nn.Module, images: Tensor, budget: Budget, unit: str
) -> Quantized:
    """Reconstruction of every ``"layer"`` or ``"block"``.

    Introduced in chapter 8.
    """
    return reconstruct(
        model,
        budget.plan(model),
        images,
        unit=unit,
        steps=budget.steps,
        learning_rate=budget.learning_rate,
        seed=budget.seed,
    )


@register_method("RTN")
def _rtn(model: nn.Module, images: Tensor, budget: Budget) -> Quantized:
    return one_pass(model, images, budget, solver="rtn")


@register_method("GPFQ")
def _gpfq(model: nn.Module, images: Tensor, budget: Budget) -> Quantized:
    return one_pass(model, images, budget, solver="gpfq")


@register_method("GPTQ")
def _gptq(model: nn.Module, images: Tensor, budget: Budget) -> Quantized:
    return one_pass(model, images, budget, solver="gptq")


@register_method("Qronos")
def _qronos(model: nn.Module, images: Tensor, budget: Budget) -> Quantized:
    return one_pass(model, images, budget, solver="qronos")


@register_method("GPFQ+polish")
def _gpfq_polish(
    model: nn.Module, images: Tensor, budget: Budget
) -> Quantized:
    return one_pass(model, images, budget, solver="gpfq", polish=POLISH)


@register_method("AdaRound")
def _adaround(model: nn.Module, images: Tensor, budget: Budget) -> Quantized:
    return learnt(model, images, budget, "layer")


@register_method("BRECQ")
def _brecq(model: nn.Module, images: Tensor, budget: Budget) -> Quantized:
    return learnt(model, images, budget, "block")


# What decides the rows besides the cell: a sweep keeps their source.
CODE: tuple[Any, ...] = (sys.modules[__name__], *ENGINE)


def pack_hits(hits: np.ndarray) -> str:
    """Right or wrong for every image, bool ``[n]``, as hexadecimal text.

    Introduced in chapter 8.
    """
    return np.packbits(np.asarray(hits, dtype=bool)).tobytes().hex()


def unpack_hits(text: str, n: int) -> np.ndarray:
    """The bool ``[n]`` of ``pack_hits``.

    Introduced in chapter 8.
    """
    bits = np.frombuffer(bytes.fromhex(text), dtype=np.uint8)
    return np.unpackbits(bits, count=n).astype(bool)


def right_answers(
    logits: Tensor,
    labels: np.ndarray,
    classes: tuple[int, ...] | None = None,
) -> np.ndarray:
    """Which images are answered right: bool ``[n]``.

    ``logits`` float ``[n, C]``, ``labels`` int64 ``[n]``; with ``classes``
    only their logits are compared. Introduced in chapter 8.
    """
    names = np.arange(logits.shape[1]) if classes is None else classes
    chosen = np.asarray(names)
    best = logits[:, chosen].argmax(dim=1).numpy()
    return np.asarray(chosen[best] == labels)


def compare_cell(
    method: str,
    bits: int,
    granularity: str,
    scale: str,
    calibration: str,
    draw: int,
    patch_fraction: float,
    steps: int,
    learning_rate: float,
    *,
    model: nn.Module,
    model_name: str,
    images: Mapping[str, Tensor],
    test: Mapping[str, ImageData],
    classes: tuple[int, ...],
) -> list[dict[str, Any]]:
    """Quantize once, score by every protocol: a cell of the sweep.

    ``images`` are the calibration sets by ``"<calibration> <draw>"``.
    ``test["full"]`` holds images of all classes, ``test["subset"]`` those
    of ``classes``; a network calibrated on the subset is scored on the
    latter only. ``seconds`` is CPU time of the method alone, one thread;
    ``hits`` says which images were right (``unpack_hits``).

    Introduced in chapter 8.
    """
    tries = (patch_fraction, steps, learning_rate, draw)
    budget = Budget(bits, granularity, scale, *tries)
    function = find_method(method)
    started = time.process_time()
    quantized = function(model, images[f"{calibration} {draw}"], budget)
    seconds = time.process_time() - started
    scored = score(quantized.model, test, classes, calibration == "all")
    outputs = test["full"].num_classes
    report = size_report(quantized, model_name, outputs)
    common = {
        "levels": int(quantized.layers["levels"].max()),
        "seconds": seconds,
        "file_bytes": report["file_bytes"],
        "layer_error": float(quantized.layers["relative_error"].mean()),
    }
    return [row | common | learning(quantized) for row in scored]


def learning(quantized: Quantized) -> dict[str, float | None]:
    """What learning changed: ``moved`` and ``loss_ratio``.

    The share of all weights that are not at their nearest level, and the
    reconstruction loss summed over blocks, relative to rounding to
    nearest. None for methods that do not learn.

    Introduced in chapter 8.
    """
    if not isinstance(quantized, Reconstructed):
        return {"moved": None, "loss_ratio": None}
    blocks = quantized.blocks
    share = np.average(blocks["moved"], weights=blocks["weights"])
    ratio = blocks["loss"].sum() / blocks["loss_nearest"].sum()
    return {"moved": float(share), "loss_ratio": float(ratio)}


def score(
    network: nn.Module,
    test: Mapping[str, ImageData],
    classes: tuple[int, ...],
    full: bool = True,
) -> list[dict[str, Any]]:
    """One row a protocol: ``protocol``, ``correct``, ``n``, ``hits``.

    ``"full"``: images of all classes, left out where ``full`` is False.
    Images of the subset only: ``"all"`` compares all logits, ``"sub"``
    those of ``classes`` (the report's All and Sub).

    Source: label-aware report. Introduced in chapter 8.
    """
    hits: dict[str, np.ndarray] = {}
    if full:
        data = test["full"]
        logits = predict(network, data, TEST_BATCH)
        hits["full"] = right_answers(logits, data.labels)
    own = test["subset"]
    logits = predict(network, own, TEST_BATCH)
    hits["all"] = right_answers(logits, own.labels)
    hits["sub"] = right_answers(logits, own.labels, classes)
    return [
        {
            "protocol": name,
            "correct": int(right.sum()),
            "n": len(right),
            "hits": pack_hits(right),
        }
        for name, right in hits.items()
    ]
