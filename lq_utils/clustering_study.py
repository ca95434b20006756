"""Cells of chapter 10's class clustering: right clusters in few bits.

A cell is one quantized network; a row is one partition of its classes.
Partitions are found on validation images and scored on test images.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.metrics import adjusted_rand_score
from torch import nn

from lq_utils.class_clustering import (
    Evidence,
    chance_level,
    coarse_answers,
    find_partition,
    mutual_information,
    shuffled,
)
from lq_utils.coarse_training import trained_on_clusters
from lq_utils.data_free import round_weights
from lq_utils.engine import ENGINE, modules
from lq_utils.fine_tuning import fine_tune
from lq_utils.images import ImageData, Splits
from lq_utils.inference import predict
from lq_utils.plans import Plan

CODE = ENGINE + modules(
    """
    augmentation class_clustering clustering_study coarse_training data_free
    distances fine_tuning inference recipes training
    """
)

Logits = dict[str, np.ndarray]
Rows = list[dict[str, Any]]
Names = tuple[str, ...]

BATCH = 50  # images whose maps fit into a processor's cache
CLASSES, RANDOM, CONFUSION = "classes", "random", "confusion"
SUPERCLASSES = "superclasses"


def rounded(
    network: nn.Module, bits: int, quantizer: str, granularity: str, scale: str
) -> nn.Module:
    """The network with every layer rounded alike, without images.

    Raises as ``round_weights``. Introduced in chapter 10.
    """
    plan = Plan.uniform(
        network,
        bits,
        quantizer=quantizer,
        granularity=granularity,
        scale=scale,
        solver="rtn",
    )
    return round_weights(network, plan).model


def answers(network: nn.Module, splits: Splits) -> Logits:
    """Logits float32 ``[N, C]`` on "validation" and "test" images.

    Introduced in chapter 10.
    """
    parts = {"validation": splits.validation, "test": splits.test}
    return {name: _logits(network, p) for name, p in parts.items()}


def _logits(network: nn.Module, data: ImageData) -> np.ndarray:
    return np.asarray(predict(network, data, BATCH).numpy())


def coarse_rows(
    bits: int,
    quantizer: str,
    granularity: str,
    scale: str,
    counts: tuple[int, ...],
    partitions: Names,
    rules: Names,
    draws: int,
    seed: int,
    *,
    network: nn.Module,
    original: Logits,
    splits: Splits,
    distances: np.ndarray,
) -> Rows:
    """Cell: a quantized network on classes and on clusters of them.

    ``original`` are the :func:`answers` of the network itself; every of
    ``counts`` clusters is made by all ``partitions`` (superclasses where
    there are so many), and ``draws`` times at random, with the sizes of
    the first. Columns: partition, clusters, draw, rule, hits and
    original_hits of n, lost and gained (images whose answer was right
    before, or is now), chance, largest (classes of a cluster),
    information and original_information (bits), like_superclasses
    (adjusted Rand index).

    Raises as ``round_weights`` and ``by_confusion``. Introduced in
    chapter 10.
    """
    own = answers(
        rounded(network, bits, quantizer, granularity, scale), splits
    )
    judge = _Judge(splits.test, own["test"], original["test"])
    each = np.arange(splits.test.num_classes)
    rows = [judge.row(each, "argmax", CLASSES, 0)]
    evidence = Evidence(
        own["validation"],
        original["validation"],
        splits.validation.labels,
        splits.test.superclass_of,
        distances,
    )
    for count in counts:
        found = {
            name: find_partition(name)(evidence, count)
            for name in partitions
            if name != SUPERCLASSES or count == _groups(splits.test)
        }
        first = next(iter(found.values()))
        for rule in rules:
            rows += [judge.row(c, rule, n, 0) for n, c in found.items()]
            for draw in range(draws):
                mixed = shuffled(first, seed + draw)
                rows.append(judge.row(mixed, rule, RANDOM, draw))
    return rows


def _groups(data: ImageData) -> int:
    return len(np.unique(data.superclass_of))


class _Judge:
    """Two networks on the same test images, cluster by cluster."""

    def __init__(
        self, test: ImageData, logits: np.ndarray, original: np.ndarray
    ) -> None:
        self.test, self.logits, self.original = test, logits, original

    def row(
        self, clusters: np.ndarray, rule: str, name: str, draw: int
    ) -> dict[str, Any]:
        truth = clusters[self.test.labels]
        now = coarse_answers(self.logits, clusters, rule)
        before = coarse_answers(self.original, clusters, rule)
        return {
            "partition": name,
            "clusters": int(clusters.max() + 1),
            "draw": draw,
            "rule": rule,
            **compared(truth, now, before),
            "chance": chance_level(clusters, self.test.labels),
            "largest": int(np.bincount(clusters).max()),
            "information": mutual_information(truth, now),
            "original_information": mutual_information(truth, before),
            "like_superclasses": float(
                adjusted_rand_score(self.test.superclass_of, clusters)
            ),
        }


def compared(
    truth: np.ndarray, now: np.ndarray, before: np.ndarray
) -> dict[str, int]:
    """Counts of right answers ``[N]``: hits, original_hits, lost, gained, n.

    Introduced in chapter 10.
    """
    right, was = now == truth, before == truth
    return {
        "hits": int(right.sum()),
        "original_hits": int(was.sum()),
        "lost": int((was & ~right).sum()),
        "gained": int((right & ~was).sum()),
        "n": len(truth),
    }


def retrained_rows(
    partition: str,
    clusters: int,
    found_bits: int,
    target: str,
    layers: str,
    bits: tuple[int, ...],
    quantizer: str,
    granularity: str,
    scale: str,
    steps: int,
    learning_rate: float,
    seed: int,
    *,
    network: nn.Module,
    original: Logits,
    splits: Splits,
    distances: np.ndarray,
) -> Rows:
    """Cell: trained on for clusters or for classes, then quantized.

    The partition is that of the network in ``found_bits`` bits, or, for
    ``"random"``, one of the same sizes. ``target`` is ``"clusters"`` or
    ``"classes"``, which are trained as long. A row a width: bits_tested,
    ``compared`` with the trained network in full precision, chance.

    Raises as ``coarse_rows``, and ``fine_tune``. Introduced in chapter 10.
    """
    grid = (quantizer, granularity, scale)
    rough = rounded(network, found_bits, *grid)
    evidence = Evidence(
        _logits(rough, splits.validation),
        original["validation"],
        splits.validation.labels,
        splits.test.superclass_of,
        distances,
    )
    method = CONFUSION if partition == RANDOM else partition
    groups = find_partition(method)(evidence, clusters)
    if partition == RANDOM:
        groups = shuffled(groups, seed)
    budget: dict[str, Any] = {
        "steps": steps,
        "learning_rate": learning_rate,
        "layers": layers,
        "seed": seed,
    }
    each = np.arange(splits.test.num_classes)
    if target == "clusters":
        tuned = trained_on_clusters(network, splits.train, groups, **budget)
        each = np.arange(clusters)
    else:
        tuned = fine_tune(network, splits.train, each.tolist(), **budget)
    to_cluster = each if target == "clusters" else groups
    truth = groups[splits.test.labels]
    before = coarse_answers(_logits(tuned, splits.test), to_cluster)
    chance = chance_level(groups, splits.test.labels)
    rows = []
    for width in bits:
        few = rounded(tuned, width, *grid)
        now = coarse_answers(_logits(few, splits.test), to_cluster)
        row = {"bits_tested": width, "chance": chance}
        rows.append(row | compared(truth, now, before))
    return rows
