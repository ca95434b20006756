"""What the cells of chapter 7's class clustering are given."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from lq_utils.cells import Cell, cell_grid
from lq_utils.class_clustering import PARTITIONS, RULES
from lq_utils.clustering_study import CONFUSION, RANDOM, answers
from lq_utils.distances import weight_cosine
from lq_utils.fingerprints import digest
from lq_utils.images import Splits

# The poster's quantizer; it does not say that channels have their own.
GRID = {"quantizer": "asymmetric", "granularity": "tensor", "scale": "max"}


def study_inputs(
    network: nn.Module, splits: Splits
) -> tuple[dict[str, Any], dict[str, Any]]:
    """``shared`` inputs of the cells, and their ``key`` for ``sweep``.

    Distances between classes are those of the last layer's weights
    (chapter 1). Introduced in chapter 7.
    """
    last = [m for m in network.modules() if isinstance(m, nn.Linear)][-1]
    shared = {
        "network": network,
        "original": answers(network, splits),
        "splits": splits,
        "distances": weight_cosine(last.weight.detach().cpu().numpy()),
    }
    key: dict[str, Any] = dict.fromkeys(shared, digest(network))
    parts = (splits.train, splits.validation, splits.test)
    key["splits"] = [[digest(p.images), digest(p.labels)] for p in parts]
    return shared, key


def cluster_counts(splits: Splits, sizes: Sequence[int]) -> tuple[int, ...]:
    """Numbers of clusters with so many classes each on average.

    Two clusters at least. Introduced in chapter 7.
    """
    classes = splits.test.num_classes
    counts = [max(2, round(classes / size)) for size in sizes]
    return tuple(dict.fromkeys(counts))


def coarse_cells(
    splits: Splits,
    bits: Sequence[int],
    sizes: Sequence[int],
    draws: int,
    seed: int,
) -> list[Cell]:
    """Cells of ``coarse_rows``: all partitions and rules, one a width.

    Introduced in chapter 7.
    """
    return cell_grid(
        bits=bits,
        **{name: [value] for name, value in GRID.items()},
        counts=[cluster_counts(splits, sizes)],
        partitions=[PARTITIONS.names()],
        rules=[RULES],
        draws=[draws],
        seed=[seed],
    )


def retrained_cells(
    clusters: int,
    found_bits: int,
    bits: Sequence[int],
    steps: int,
    learning_rate: float,
    seed: int,
) -> list[Cell]:
    """Cells of ``retrained_rows``: both targets, two partitions.

    Trained are the last layer alone, or all of them. Introduced in
    chapter 7.
    """
    return cell_grid(
        partition=[CONFUSION, RANDOM],
        clusters=[clusters],
        found_bits=[found_bits],
        target=["classes", "clusters"],
        layers=["last", "all"],
        bits=[tuple(bits)],
        **{name: [value] for name, value in GRID.items()},
        steps=[steps],
        learning_rate=[learning_rate],
        seed=[seed],
    )
