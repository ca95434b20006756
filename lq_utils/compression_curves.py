"""Curves of chapter 4: one layer at a time, sparsity, number of clusters."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from lq_utils import compression_study
from lq_utils.compressed_training import fit, steps_per_epoch
from lq_utils.compression import cluster, fake_quantize, prune, pruning_steps
from lq_utils.compression_checks import check_distinct, check_sparse
from lq_utils.compression_files import Rows, files_of
from lq_utils.compression_networks import (
    Budget,
    Tasks,
    base_network,
    fine_tuned,
    plain_copy,
    recipe,
    small_layers,
)
from lq_utils.compression_study import UNPRUNED
from lq_utils.engine import modules
from lq_utils.images import Splits
from lq_utils.inference import evaluate
from lq_utils.models import count_parameters
from lq_utils.pruning import SparsitySchedule
from lq_utils.quantnet import QuantNet
from lq_utils.stacks import layers_of, strip
from lq_utils.unit_pruning import kept_units, parameters_removed, remove_units

# What decides the rows of this module.
CODE = compression_study.CODE + modules("compression_curves")

# Filters of QuantNETs with about a half, a quarter and an eighth of the
# parameters.
SMALL = ((16, 32), (8, 16), (4, 8))


def _tested(
    network: nn.Module, splits: Splits, **fields: Any
) -> dict[str, Any]:
    n = len(splits.test)
    hits = round(evaluate(network, splits.test) * n)
    return {**fields, "hits": hits, "n": n}


def layer_rows(
    task: str, seed: int, widths: tuple[int, ...], plan: Budget, splits: Tasks
) -> Rows:
    """Weights of one layer on a grid, of none, and of all: figure 4.2.

    Columns: layer ("none", a name, "all"), bits, hits, n. Nothing is
    trained afterwards.

    Introduced in chapter 4.
    """
    own = splits[task]
    base = base_network(own, seed, plan)
    names = list(layers_of(base))
    rows = [_tested(base, own, layer="none", bits=32)]
    for width in widths:
        for name in [*names, "all"]:
            others = [other for other in names if name not in (other, "all")]
            rounded = fake_quantize(
                base, width, granularity="mixed", skip=others
            )
            rows.append(_tested(rounded, own, layer=name, bits=width))
    return rows


def pruning_rows(
    task: str,
    seed: int,
    sparsities: tuple[float, ...],
    plan: Budget,
    splits: Tasks,
) -> Rows:
    """Weights or whole units removed at once, without training: figure 4.3.

    No weight of the output layer goes.

    Columns: kind ("weights" or "units"), sparsity, removed (share of all
    parameters that are gone), hits, n.

    Introduced in chapter 4.
    """
    own = splits[task]
    base = base_network(own, seed, plan)
    total, rows = count_parameters(base), []
    for sparsity in sparsities:
        sparse = strip(prune(base, sparsity, skip=UNPRUNED))
        zeros = sum(int((p == 0).sum()) for p in weights_of(sparse))
        kept = kept_units(base, sparsity)
        table = parameters_removed(base, kept).set_index("layer")
        gone = {
            "weights": (sparse, zeros / total),
            "units": (remove_units(base, kept), table["share"]["all"]),
        }
        for kind, (network, share) in gone.items():
            fields = {"kind": kind, "sparsity": sparsity}
            rows.append(_tested(network, own, **fields, removed=float(share)))
    return rows


def weights_of(
    network: nn.Module, skip: Iterable[str] = ()
) -> list[nn.Parameter]:
    """Kernels of all convolutions and linear layers but those in ``skip``.

    Introduced in chapter 4.
    """
    return [layer.weight for layer in layers_of(network, skip).values()]  # type: ignore[misc]


def equal_size_rows(
    task: str,
    seed: int,
    filters: tuple[int, int],
    plan: Budget,
    splits: Tasks,
) -> Rows:
    """Large and sparse against small and dense, both trained alike.

    A base network loses weights step by step while it is fine-tuned; a
    network with fewer ``filters`` is trained as long. As many parameters
    of the first are not zero as the second has. Columns: kind ("large and
    sparse", "small and dense"), kept (number of such parameters), removed
    (share), hits, n.

    Source: Zhu and Gupta 2017, section 4. Introduced in chapter 4.
    """
    own = splits[task]
    base = base_network(own, seed, plan)
    total = count_parameters(base)
    weights = sum(w.numel() for w in weights_of(base, UNPRUNED))
    small = small_network(own, filters, seed, plan)
    kept = count_parameters(small)
    sparse = sparse_network(base, own, (total - kept) / weights, seed, plan)
    both = {"small and dense": small, "large and sparse": sparse}
    fields = {"kept": kept, "removed": 1 - kept / total}
    return [_tested(n, own, kind=k, **fields) for k, n in both.items()]


def small_network(
    splits: Splits, filters: tuple[int, int], seed: int, plan: Budget
) -> nn.Module:
    """A QuantNET with so many filters, trained and fine-tuned.

    Introduced in chapter 4.
    """
    classes = splits.train.num_classes
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = QuantNet(1 if classes == 2 else classes, filters=filters)
    parts = (splits.train, splits.validation)
    done = fit(network, *parts, recipe(plan, seed), progress=False)
    return fine_tuned(done.model, splits, seed, plan)


def sparse_network(
    base: nn.Module, splits: Splits, sparsity: float, seed: int, plan: Budget
) -> nn.Module:
    """The base network, fine-tuned while its smallest weights go.

    Sparsity rises during the first two thirds of the steps, of which there
    must be two or more. Raises CompressionError where too many weights are
    left.

    Introduced in chapter 4.
    """
    configuration = recipe(plan, seed, fine=True)
    steps = steps_per_epoch(len(splits.train), configuration)
    end = max(1, 2 * steps * configuration.epochs // 3)
    schedule = SparsitySchedule(final=sparsity, end=end, every=20)
    sparse = fine_tuned(
        prune(base, 0.0, skip=UNPRUNED),
        splits,
        seed,
        plan,
        callback=pruning_steps(schedule),
        keep_from_step=end,
    )
    check_sparse(sparse, sparsity, skip=UNPRUNED)
    return strip(sparse)


def cluster_rows(
    task: str, seed: int, count: int, plan: Budget, splits: Tasks
) -> Rows:
    """Accuracy and size with ``count`` clusters a layer: figure 4.4.

    Columns: trained (whether centroids and weights were, after
    clustering), bytes and compressed_bytes of the float32 file, hits, n.

    Introduced in chapter 4.
    """
    own, rows = splits[task], []
    base = base_network(own, seed, plan)
    at_once = cluster(base, count)
    trained = fine_tuned(at_once, own, seed, plan)
    with files_of(base, own, seed, plan) as files:
        for network, was in ((at_once, False), (trained, True)):
            check_distinct(network, count, skip=small_layers(base, count))
            plain = plain_copy(base, network)
            rows.append(_tested(plain, own, trained=was) | files.sizes(plain))
    return rows
