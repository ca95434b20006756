"""The pipelines that the thesis sets beside its hybrids (table 4.8).

Clustering, then quantization-aware training, then an int8 file that ONNX
Runtime runs.
"""

from __future__ import annotations

import time
from typing import Any

from torch import nn

from lq_utils.compression import cluster, cluster_preserving, fake_quantize
from lq_utils.compression_checks import check_distinct
from lq_utils.compression_files import Files, Rows, files_of
from lq_utils.compression_networks import (
    BITS,
    Budget,
    Tasks,
    fine_tuned,
    plain_copy,
    with_quantized_activations,
)
from lq_utils.images import Splits
from lq_utils.inference import evaluate
from lq_utils.kept_networks import kept_network
from lq_utils.parametrizations import Clustered
from lq_utils.stacks import find, layers_of


def pipeline_rows(
    task: str,
    start: str,
    seed: int,
    significant: tuple[str, ...],
    count: int,
    fewer: int,
    plan: Budget,
    splits: Tasks,
) -> Rows:
    """Table 4.8 without its mixed-precision row, one row a pipeline.

    Every layer gets ``count`` clusters; in the last pipeline those that
    are not ``significant`` get ``fewer``. In the one before, the thesis's
    words to the letter, significant layers get none. All end as int8
    files, run by ONNX Runtime. ``seconds`` are of processor time, for
    training alone.

    Raises CompressionError where a network is not what it should be.
    Introduced in chapter 6.
    """
    own = splits[task]
    base = kept_network(task, start, seed, plan, splits)
    rest = [name for name in layers_of(base) if name not in significant]
    pipelines = _Pipelines(own, seed, plan)
    mixed = cluster(cluster(base, count, skip=rest), fewer, skip=significant)
    alike = pipelines.clustered(cluster(base, count))
    some = pipelines.clustered(cluster(base, count, skip=significant))
    both = pipelines.clustered(mixed)
    with files_of(base, own, seed, plan) as files:
        rows = files.measured(base, {"base": "float32"})
        rows[0] |= {"seconds": 0.0, "validation": pipelines.validation(base)}
        for set_up, (network, spent), preserve in (
            ("PTQ on QAT", (base, 0.0), False),
            ("clustered, PTQ on QAT", alike, False),
            ("cluster-preserving QAT", alike, True),
            ("TwoNN, cluster-preserving QAT", some, True),
            ("TwoNN, all clustered", both, True),
        ):
            row = pipelines.row(files, set_up, network, preserve)
            row["seconds"] += spent
            rows.append(row)
    return rows


class _Pipelines:
    """Clustering, then quantization-aware training, then an int8 file."""

    def __init__(self, splits: Splits, seed: int, plan: Budget) -> None:
        self.splits, self.budget = splits, (splits, seed, plan)

    def clustered(self, network: nn.Module) -> tuple[nn.Module, float]:
        """The network after its clusters were trained, and the seconds."""
        began = time.process_time()
        trained = fine_tuned(network, *self.budget)
        return trained, time.process_time() - began

    def validation(self, network: nn.Module) -> float:
        return evaluate(network, self.splits.validation)

    def check(self, aware: nn.Module, network: nn.Module) -> None:
        """Clustered layers have no more values than before."""
        for name, layer in layers_of(network).items():
            clusters = find(layer, Clustered)
            if clusters is not None:
                others = [n for n in layers_of(network) if n != name]
                check_distinct(aware, clusters.count, skip=others)

    def row(
        self, files: Files, set_up: str, network: nn.Module, preserve: bool
    ) -> dict[str, Any]:
        began = time.process_time()
        plain = plain_copy(files.base, network)
        rounded = with_quantized_activations(plain, *self.budget)
        if preserve:
            aware = cluster_preserving(rounded, BITS)
        else:
            aware = fake_quantize(rounded, BITS, granularity="mixed")
        aware = fine_tuned(aware, *self.budget)
        if preserve:
            self.check(aware, network)
        seconds = time.process_time() - began
        last = plain_copy(files.base, aware)
        (row,) = files.measured(last, {set_up: "integer"})
        row |= {"seconds": seconds, "validation": self.validation(aware)}
        return row
