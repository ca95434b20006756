"""The label-aware study: networks quantized for a subset of the classes.

A cell of the study is one quantized network: by which method, with how
many bits, calibrated on what. It is tested on one or several subsets.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor, nn

from lq_utils import fine_tuning, zero_dead
from lq_utils.calibration import calibration_set, noise_set, subset_accuracy
from lq_utils.engine import ENGINE
from lq_utils.fine_tuning import fine_tune
from lq_utils.graph import trace, weight_matrix
from lq_utils.images import ImageData
from lq_utils.inference import predict
from lq_utils.lockstep import Quantized, quantize
from lq_utils.plans import Plan
from lq_utils.registry import UnknownName

Classes = tuple[int, ...]
Settings = tuple[tuple[str, Any], ...]
Rows = list[dict[str, Any]]

KINDS = ("subset", "all", "many", "noise")
TEST_BATCH = 100  # images; what lies between layers still fits a cache

# Fields of a plan's rows, and whether batch norm is folded first.
METHODS: dict[str, dict[str, Any]] = {
    "published": {
        "quantizer": "mid-tread",
        "granularity": "tensor",
        "scale": "published",
        "solver": "gpfq-zero-dead",
        "fold": False,
    },
    "book": {
        "quantizer": "mid-tread",
        "granularity": "channel",
        "scale": "output",
        "solver": "gpfq",
        "fold": True,
    },
}


def settings(method: str | Mapping[str, Any], **changes: Any) -> Settings:
    """A method's fields, with changes, as a tuple that a cell can hold.

    ``method`` is a name in METHODS or a dict of the same kind;
    ``options`` are given as a dict. Raises UnknownName for a name that
    is not in METHODS. Introduced in chapter 3.
    """
    if isinstance(method, str) and method not in METHODS:
        raise UnknownName(f"no method '{method}'; known: {', '.join(METHODS)}")
    fields = dict(METHODS[method] if isinstance(method, str) else method)
    fields |= changes
    if "options" in fields:
        fields["options"] = tuple(sorted(dict(fields["options"]).items()))
    return tuple(sorted(fields.items()))


def subset_key(classes: Iterable[int]) -> str:
    """Classes as text, ascending: ``"3 14 15"``; joins tables.

    Introduced in chapter 3.
    """
    return " ".join(str(k) for k in sorted(classes))


def accuracy_rows(
    network: nn.Module,
    held_out: ImageData,
    subsets: Sequence[Classes],
    **fields: Any,
) -> Rows:
    """Accuracy on each subset: one row each, with ``fields`` in it.

    Every image is passed once, however many subsets hold its class.
    Introduced in chapter 3.
    """
    together = sorted({k for classes in subsets for k in classes})
    own = held_out.take(np.flatnonzero(np.isin(held_out.labels, together)))
    logits = predict(network, own, TEST_BATCH)
    return [
        {
            **fields,
            "subset": subset_key(classes),
            **subset_accuracy(logits, own.labels, classes),
        }
        for classes in subsets
    ]


def quantize_with(
    network: nn.Module,
    method: Settings,
    bits: int,
    images: Tensor,
    seed: int,
    patch_fraction: float,
) -> Quantized:
    """The network under a uniform plan with these settings.

    Introduced in chapter 3.
    """
    fields = dict(method)
    fold = bool(fields.pop("fold", True))
    plan = Plan.uniform(network, bits, **fields)
    return quantize(
        network,
        plan,
        images,
        seed=seed,
        fold=fold,
        patch_fraction=patch_fraction,
    )


def weight_record(network: nn.Module, quantized: Quantized) -> dict[str, Any]:
    """What was done to the weights: shares over all quantized layers.

    ``zeros`` and ``clipped`` (beyond the outer levels) are shares of the
    weights; ``dead_columns`` a number; ``relative_error`` that of the
    last layer's output. Without folding only: a folded weight differs
    from the network's own, and ``clipped`` is then None.

    Introduced in chapter 3.
    """
    total = zeros = clipped = 0
    traced = trace(network)
    for name, grid in quantized.grids.items():
        w = weight_matrix(traced.get_submodule(name))
        q = weight_matrix(quantized.model.get_submodule(name))
        reach = grid.alphabet.highest * grid.scale
        total += q.numel()
        zeros += int((q == 0).sum())
        if grid.scale.shape[1] == 1:
            # A millionth of room: a scale is rounded to float32.
            clipped += int((w.abs() > reach * (1 + 1e-6)).sum())
    layers = quantized.layers
    return {
        "levels": int(layers["levels"].iloc[0]),
        "zeros": zeros / total,
        "clipped": None if quantized.fold else clipped / total,
        "dead_columns": int(layers["dead_columns"].sum()),
        "relative_error": float(layers["relative_error"].iloc[-1]),
    }


def calibration_images(
    train: ImageData, drawn_from: str, classes: Classes, images: int, draw: int
) -> Tensor:
    """What a cell calibrates on: "subset", "all", "many" or "noise".

    Raises UnknownName for another word. Introduced in chapter 3.
    """
    if drawn_from not in KINDS:
        raise UnknownName(f"drawn_from {drawn_from!r} is none of {KINDS}")
    if drawn_from == "noise":
        return noise_set(images, draw, calibration_set(train, images, draw))
    chosen = classes if drawn_from == "subset" else None
    return calibration_set(train, images, draw, chosen)


def original_rows(
    tested: Sequence[Classes], *, network: nn.Module, held_out: ImageData
) -> Rows:
    """Cell: the original network on the subsets.

    Introduced in chapter 3.
    """
    return accuracy_rows(network, held_out, tested, stage="original")


def quantized_rows(
    settings: Settings,
    bits: int,
    drawn_from: str,
    classes: Classes,
    images: int,
    draw: int,
    tested: Sequence[Classes],
    name: str | float,
    *,
    network: nn.Module,
    train: ImageData,
    held_out: ImageData,
    patch_fraction: float,
) -> Rows:
    """Cell: one quantized network, tested on some subsets.

    ``name`` decides nothing; it tells what varies: a method, a scalar.
    Introduced in chapter 3.
    """
    x = calibration_images(train, drawn_from, classes, images, draw)
    found = quantize_with(network, settings, bits, x, draw, patch_fraction)
    record = weight_record(network, found)
    rows = accuracy_rows(found.model, held_out, tested, stage="quantized")
    return with_calibration(rows, tested, drawn_from, classes, record)


def with_calibration(
    rows: Rows,
    tested: Sequence[Classes],
    drawn_from: str,
    classes: Classes,
    record: Mapping[str, Any],
) -> Rows:
    """Rows of the ``tested`` subsets with what they were calibrated on.

    "own" where the calibration images were of the subset's classes,
    "another" where they were of another subset's. Introduced in chapter 3.
    """
    for row, subset in zip(rows, tested, strict=True):
        kind = drawn_from
        if drawn_from == "subset":
            kind = "own" if set(subset) == set(classes) else "another"
        row |= {"calibration": kind, **record}
    return rows


def fine_tuned_rows(
    settings: Settings,
    bits: Sequence[int],
    classes: Classes,
    images: int,
    draw: int,
    steps: int,
    learning_rate: float,
    layers: str,
    *,
    network: nn.Module,
    train: ImageData,
    held_out: ImageData,
    patch_fraction: float,
) -> Rows:
    """Cell: fine-tuned on a subset, then quantized with its images.

    Introduced in chapter 3.
    """
    tuned = fine_tune(
        network,
        train,
        classes,
        steps=steps,
        learning_rate=learning_rate,
        layers=layers,
        seed=draw,
    )
    rows = accuracy_rows(tuned, held_out, [classes], stage="fine-tuned")
    x = calibration_images(train, "subset", classes, images, draw)
    for b in bits:
        found = quantize_with(tuned, settings, b, x, draw, patch_fraction)
        stage = "fine-tuned and quantized"
        rows += accuracy_rows(
            found.model, held_out, [classes], stage=stage, quantized_bits=b
        )
    return rows


# Everything a cell's rows depend on: the sweep's cache looks at their text.
CODE: tuple[Any, ...] = (
    sys.modules[__name__],
    fine_tuning,
    zero_dead,
    *ENGINE,
)
