"""The study of sensitivities: what predicts, what adds up, what it buys.

A cell is one subset of the classes with one draw of calibration images.
Its rows are of several parts, told apart by the column ``part``. Networks
in few bits are put together from layers that were quantized one by one:
no layer knows of the others' errors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lq_utils.bit_allocation import choose, row_bits
from lq_utils.calibration import calibration_rows
from lq_utils.engine import ENGINE, modules
from lq_utils.graph import layer_table
from lq_utils.images import ImageData
from lq_utils.inference import to_input
from lq_utils.label_aware import Classes, Rows, Settings, subset_key
from lq_utils.layer_rounding import joint_logits, single_layer_logits
from lq_utils.layer_sensitivity import (
    SENSITIVITIES,
    SensitivityTask,
    divergence,
    sensitivity_task,
)
from lq_utils.plan_search import SEARCHES
from lq_utils.plans import Plan

# What decides the rows of this module.
CODE: tuple[Any, ...] = ENGINE + modules(
    """
    bit_allocation components curvature data_free dimension
    layer_rounding layer_sensitivity layer_significance nearest
    plan_search products sensitivity_base sensitivity_study significance
    """
)

EXACT = "divergence"  # the sensitivity that searches compete with


class StudyError(ValueError):
    """A cell of the study asks for what does not exist.

    Introduced in chapter 9.
    """


@dataclass(frozen=True)
class _Subset:
    """One task with images that were held out, and sizes of its choices."""

    task: SensitivityTask
    images: Tensor
    places: Tensor  # of the labels among the classes
    bits: np.ndarray  # ascending

    @cached_property
    def sizes(self) -> np.ndarray:
        """Bits of each layer at each choice, int64 ``[L, B]``."""
        infos = {i.name: i for i in layer_table(self.task.network)}
        plan = self.task.plan
        return np.array(
            [
                [
                    row_bits(replace(plan[name], bits=int(b)), infos[name])
                    for b in self.bits
                ]
                for name in self.task.layers
            ]
        )

    @cached_property
    def held_out(self) -> Tensor:
        """The original network's answers to images held out."""
        return joint_logits(self.task.network, self.images, {})

    def costs(self, table: pd.DataFrame) -> np.ndarray:
        """Costs float ``[L, B]`` of a table with layer, bits and cost."""
        wide = table.pivot(index="layer", columns="bits", values="cost")
        found: np.ndarray = wide.loc[list(self.task.layers), self.bits].values
        return found

    def judged(self, logits: Tensor) -> dict[str, Any]:
        """How the answers to images held out do: hits, n, loss, KL."""
        classes = list(self.task.classes)
        own = logits[:, classes]
        apart = divergence(self.held_out, logits, classes)
        return {
            "hits": int((own.argmax(dim=1) == self.places).sum()),
            "n": len(own),
            "loss": float(F.cross_entropy(own.double(), self.places)),
            "held_out_divergence": float(apart.mean()),
        }

    def weights(self, choice: np.ndarray) -> dict[str, Tensor]:
        solved = self.task.solved
        return {
            name: solved[name, int(self.bits[k])]
            for name, k in zip(self.task.layers, choice, strict=True)
        }

    def joint(self, choice: np.ndarray) -> float:
        """KL divergence on calibration images, all layers quantized."""
        task = self.task
        found = joint_logits(task.network, task.images, self.weights(choice))
        return float(divergence(task.logits, found, task.classes).mean())

    def plan_row(self, name: str, choice: np.ndarray) -> dict[str, Any]:
        weights = self.weights(choice)
        found = joint_logits(self.task.network, self.images, weights)
        layers = np.arange(len(choice))
        return {
            "part": "plan",
            "name": name,
            "layer_bits": " ".join(str(b) for b in self.bits[choice]),
            "size_bits": int(self.sizes[layers, choice].sum()),
            "divergence": self.joint(choice),
        } | self.judged(found)


def sensitivity_rows(
    classes: Classes,
    images: int,
    draw: int,
    bits: tuple[int, ...],
    kinds: tuple[str, ...],
    probes: int,
    method: Settings,
    plan_bits: int | None,
    plans: int,
    *,
    network: nn.Module,
    train: ImageData,
    held_out: ImageData,
) -> Rows:
    """Cell: costs of bits by all ``kinds``, and what they are good for.

    Args:
        classes: of the subset.
        images: calibration images, drawn from ``train`` by ``draw``.
        bits: choices of every layer.
        kinds: sensitivities; "trace" takes ``probes``.
        method: fields of the plan's rows, as ``label_aware.settings``.
        plan_bits: plans may be as large as the uniform one in so many
            bits. None: costs only, and none of what follows.
        plans: random plans, for additivity.
        held_out: images that judge: never those of the test part, as
            what they say may choose a sensitivity.

    Returns:
        Rows of the parts "cost" (kind, layer, bits, cost), "original"
        and "single" (one layer quantized: layer, bits), "random" (total:
        the sum of single divergences; joint), "plan" (name, layer_bits,
        size_bits) and "search" (search, evaluation, best). Divergences
        are of calibration images, in nats; hits, n, loss (nats) and
        held_out_divergence of images held out.

    Raises StudyError where ``plan_bits`` are none of ``bits``, and as
    ``sensitivity_costs``. Introduced in chapter 9.
    """
    if plan_bits is not None and plan_bits not in bits:
        raise StudyError(
            f"a plan of {plan_bits} bits is none of {bits}: add them"
        )
    subset = _prepared(
        network, train, held_out, classes, images, draw, bits, method
    )
    tables = {kind: _costs(subset.task, kind, probes) for kind in kinds}
    rows = [
        {"part": "cost", "kind": kind, **row}
        for kind, table in tables.items()
        for row in _plain(table)
    ]
    if plan_bits is not None:
        rows += _single(subset)
        rows += _random(subset, plans, draw)
        rows += _plans(subset, tables, plan_bits, draw)
    return [{"subset": subset_key(classes), **row} for row in rows]


def _prepared(
    network: nn.Module,
    train: ImageData,
    held_out: ImageData,
    classes: Classes,
    images: int,
    draw: int,
    bits: Sequence[int],
    method: Settings,
) -> _Subset:
    own = calibration_rows(train, images, draw, classes)
    plan = Plan.uniform(network, max(bits), **dict(method))
    x, labels = to_input(train.images[own]), train.labels[own]
    task = sensitivity_task(network, x, labels, classes, bits, plan, seed=draw)
    kept = held_out.take(np.flatnonzero(np.isin(held_out.labels, classes)))
    places = np.searchsorted(task.classes, kept.labels)
    return _Subset(
        task,
        to_input(kept.images),
        torch.from_numpy(places),
        np.array(sorted(bits)),
    )


def _costs(task: SensitivityTask, kind: str, probes: int) -> pd.DataFrame:
    options = {"probes": probes} if kind == "trace" else {}
    return SENSITIVITIES.get(kind)(task, **options)


def _plain(table: pd.DataFrame) -> Rows:
    return [
        {"layer": layer, "bits_of_layer": int(b), "cost": float(cost)}
        for layer, b, cost in table[["layer", "bits", "cost"]].to_numpy()
    ]


def _single(subset: _Subset) -> Rows:
    """One layer quantized, judged by images held out."""
    task = subset.task
    answers = single_layer_logits(
        task.network, subset.images, task.solved, task.batch_size
    )
    rows: Rows = [{"part": "original"} | subset.judged(subset.held_out)]
    for (layer, b), logits in answers.items():
        row = {"part": "single", "layer": layer, "bits_of_layer": b}
        rows.append(row | subset.judged(logits))
    return rows


def _random(subset: _Subset, plans: int, draw: int) -> Rows:
    """Plans drawn at random: do the layers' divergences add up?"""
    single = subset.costs(SENSITIVITIES.get("divergence")(subset.task))
    layers = np.arange(len(single))
    rng = np.random.default_rng(draw)
    rows: Rows = []
    for number in range(plans):
        choice = rng.integers(single.shape[1], size=len(single))
        row: dict[str, Any] = {"part": "random", "number": number}
        row["total"] = float(single[layers, choice].sum())
        rows.append(row | {"joint": subset.joint(choice)})
    return rows


def _plans(
    subset: _Subset,
    tables: Mapping[str, pd.DataFrame],
    plan_bits: int,
    draw: int,
) -> Rows:
    """Plans of one size: uniform, by each sensitivity, and searched."""
    uniform = np.full(
        len(subset.sizes), int(np.flatnonzero(subset.bits == plan_bits)[0])
    )
    budget = int(subset.sizes[np.arange(len(uniform)), uniform].sum())
    rows = [subset.plan_row("uniform", uniform)]
    for kind, table in tables.items():
        choice = choose(subset.costs(table), subset.sizes, budget)
        rows.append(subset.plan_row(kind, choice))
    for name, search in SEARCHES.items():
        # As many networks as the divergence of single layers takes.
        tries = subset.sizes.size
        history = search(subset.joint, subset.sizes, budget, tries, draw)
        best = history.loc[history["score"].idxmin(), "choice"]
        rows.append(subset.plan_row(name, np.array(best)))
        rows += [
            {"part": "search", "search": name}
            | {"evaluation": int(k), "best": float(score)}
            for k, score in history[["evaluation", "best"]].to_numpy()
        ]
    return rows
