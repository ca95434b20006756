"""Cells of chapter 7: a network, rounded by some scheme, on held-out images.

A cell is one network on the grids of one scheme; a row is what it answers
on all classes, or on a subset of them.
"""

from __future__ import annotations

import sys
import zlib
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor, nn

from lq_utils import (
    bias_shift,
    data_free,
    inference,
    method_comparison,
    whole_range,
)
from lq_utils.bias_shift import absorb_expected_error
from lq_utils.calibration import calibration_set
from lq_utils.data_free import round_weights
from lq_utils.engine import ENGINE
from lq_utils.images import ImageData
from lq_utils.inference import predict
from lq_utils.label_aware import Classes, Rows, subset_key
from lq_utils.lockstep import quantize
from lq_utils.method_comparison import pack_hits, right_answers
from lq_utils.plans import Plan

Parts = Mapping[str, Mapping[str, ImageData]]  # by label, then by part
ALL = "all"  # in place of a subset
CORRECTIONS = ("none", "batch norm", "images")
BATCHES = 64  # images of a calibration set that pass together
TOGETHER = 50  # images judged together: more leave the processor's caches


class SchemeError(ValueError):
    """A network cannot be rounded or judged as asked.

    Introduced in chapter 7.
    """


def scheme_plan(
    network: nn.Module,
    bits: int | None,
    quantizer: str,
    granularity: str,
    scale: str,
    full: Sequence[str] = (),
) -> Plan:
    """Round to nearest in every layer but those in ``full``.

    Raises TraceError, and PlanError for a layer that is not there.
    Introduced in chapter 7.
    """
    row = {"quantizer": quantizer, "granularity": granularity}
    plan = Plan.uniform(network, bits, solver="rtn", scale=scale, **row)
    for name in full:
        plan = plan.override(name, bits=None)
    return plan


def rounded_network(
    network: nn.Module,
    plan: Plan,
    correction: str = "none",
    images: Tensor | None = None,
    fold: bool = True,
) -> nn.Module:
    """The network on its grids, with its biases corrected or not.

    ``correction``: "none"; "batch norm", by the means that batch
    normalisations expect, still without data; "images", by the mean
    outputs on calibration images float32 ``[M, 3, H, W]``, which is no
    longer data-free.

    Raises SchemeError for another correction or missing images, and as
    ``round_weights`` and ``quantize``.

    Source: Nagel et al. 2019, section 4.2 and appendix D.
    Introduced in chapter 7.
    """
    if correction not in CORRECTIONS:
        raise SchemeError(
            f"correction={correction!r}: choose one of {CORRECTIONS}"
        )
    if correction != "images":
        found = round_weights(network, plan, fold)
        if correction == "batch norm":
            absorb_expected_error(network, found)
        return found.model
    if images is None:
        raise SchemeError("this correction needs images: give some")
    # Statistics of inputs are not used by rounding: a tenth is enough.
    return quantize(
        network, plan, images, fold=fold, bias_correction=True,
        patch_fraction=0.1, batch_size=BATCHES,
    ).model  # fmt: skip


def pack_answers(answers: np.ndarray) -> str:
    """Predicted classes int ``[n]`` (below 65,536) as compressed text.

    Introduced in chapter 7.
    """
    pairs = np.asarray(answers, dtype="<u2").view(np.uint8).reshape(-1, 2)
    # High bytes, mostly zeros, after all low ones: a quarter of the text.
    return b64encode(zlib.compress(pairs.T.tobytes(), 9)).decode()


def unpack_answers(text: str) -> np.ndarray:
    """The int64 ``[n]`` of ``pack_answers``. Introduced in chapter 7."""
    low, high = np.frombuffer(
        zlib.decompress(b64decode(text)), dtype=np.uint8
    ).reshape(2, -1)
    return low + 256 * high.astype(np.int64)


def judged(
    network: nn.Module, held_out: ImageData, subsets: Sequence[Classes] = ()
) -> Rows:
    """What a network answers: a row for all classes, and one a subset.

    Columns: subset ("all", or its key), classes (their number), correct,
    n, hits (``pack_hits``; on a subset only its logits are compared), and
    for all classes ``answers`` (``pack_answers``; None for a subset).

    Raises SchemeError for logits that are not finite. Introduced in
    chapter 7.
    """
    logits = predict(network, held_out, TOGETHER)
    if not bool(logits.isfinite().all()):
        raise SchemeError("the network's outputs are not finite")
    labels = held_out.labels
    everything = right_answers(logits, labels)
    answers = pack_answers(logits.argmax(dim=1).numpy())
    rows = [_row(ALL, held_out.num_classes, everything, answers)]
    for classes in subsets:
        own = np.flatnonzero(np.isin(labels, classes))
        right = right_answers(logits[own], labels[own], classes)
        rows.append(_row(subset_key(classes), len(classes), right, None))
    return rows


def _row(
    subset: str, classes: int, right: np.ndarray, answers: str | None
) -> dict[str, Any]:
    return {
        "subset": subset,
        "classes": classes,
        "correct": int(right.sum()),
        "n": len(right),
        "hits": pack_hits(right),
        "answers": answers,
    }


def scheme_rows(
    network: str,
    bits: int | None,
    quantizer: str,
    granularity: str,
    scale: str,
    correction: str,
    full: tuple[str, ...],
    part: str,
    subsets: tuple[Classes, ...],
    images: int,
    draw: int,
    *,
    networks: Mapping[str, nn.Module],
    parts: Parts,
) -> Rows:
    """Cell: one network by one scheme, or in full precision (no bits).

    ``network`` is a label in ``networks`` and ``parts``; ``part`` says
    which images judge it: "test", or "validation" where something will
    be chosen by them. ``images`` and the ``draw`` of them count for the
    correction by images only.

    Raises as ``rounded_network`` and ``judged``. Introduced in chapter 7.
    """
    original, own = networks[network], parts[network]
    if bits is None:
        return judged(original, own[part], subsets)
    seen = None
    if correction == "images":
        seen = calibration_set(own["train"], images, draw)
    plan = scheme_plan(original, bits, quantizer, granularity, scale, full)
    rounded = rounded_network(original, plan, correction, seen)
    return judged(rounded, own[part], subsets)


def scheme_cells(
    networks: Sequence[str],
    bits: Sequence[int | None],
    quantizers: Sequence[str],
    granularities: Sequence[str] = ("channel",),
    scales: Sequence[str] = ("max",),
    correction: str = "none",
    full: tuple[str, ...] = (),
    part: str = "test",
    subsets: Mapping[str, tuple[Classes, ...]] | None = None,
    images: int = 0,
    draw: int = 0,
) -> list[dict[str, Any]]:
    """Cells of ``scheme_rows``: every combination that exists.

    ``subsets`` are by network. A power-of-two grid has no more than 8
    bits; all others are left to the plan to refuse.

    Introduced in chapter 7.
    """
    return [
        {
            "network": network,
            "bits": None if b is None else int(b),
            "quantizer": quantizer,
            "granularity": granularity,
            "scale": scale,
            "correction": correction,
            "full": full,
            "part": part,
            "subsets": (subsets or {}).get(network, ()),
            "images": images,
            "draw": draw,
        }
        for network in networks
        for quantizer in quantizers
        for granularity in granularities
        for scale in scales
        for b in bits
    ]


def float_cells(
    networks: Sequence[str],
    part: str = "test",
    subsets: Mapping[str, tuple[Classes, ...]] | None = None,
) -> list[dict[str, Any]]:
    """Cells of ``scheme_rows`` for the networks as they are.

    Introduced in chapter 7.
    """
    none = ["none"]
    return scheme_cells(
        networks, [None], none, none, none, part=part, subsets=subsets
    )


def all_classes(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows on all classes. Introduced in chapter 7."""
    return rows[rows["subset"] == ALL]


# Everything a cell's rows depend on: the sweep's cache looks at their text.
CODE: tuple[Any, ...] = (
    sys.modules[__name__],
    bias_shift,
    data_free,
    inference,
    method_comparison,
    whole_range,
    *ENGINE,
)
