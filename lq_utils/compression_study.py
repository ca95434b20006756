"""The comparison of chapter 4: QuantNET trained, compressed, measured.

A cell is one base network with all that is made from it; a row is one
compressed network, tested on every test image of its task.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from torch import nn

from lq_utils.compression import (
    cluster,
    cluster_preserving,
    fake_quantize,
    prune,
    sparsity_and_cluster_preserving,
)
from lq_utils.compression_checks import (
    check_distinct,
    check_sparse,
    layer_values,
)
from lq_utils.compression_networks import (
    BITS,
    OWN,
    Budget,
    Tasks,
    base_network,
    fine_tuned,
    plain_copy,
    small_layers,
    start_network,
    with_quantized_activations,
)
from lq_utils.engine import modules
from lq_utils.images import Splits
from lq_utils.inference import evaluate
from lq_utils.onnx_export import export_onnx, onnx_sizes
from lq_utils.onnx_files import packed_sizes
from lq_utils.onnx_schemes import SCHEMES, compress
from lq_utils.simulated import compare_with_runtime

Rows = list[dict[str, Any]]

# What decides the rows of this module and of compression_curves.
CODE = modules(
    """
    activation_quantization alphabets augmentation calibration checkpoints
    clustering compressed_training compression compression_checks
    compression_curves compression_networks compression_study graph grids
    images inference models onnx_export onnx_files onnx_runtime
    onnx_schemes onnx_weights parametrizations partitions pruning quantnet
    recipes scale_rules scales scheme_registry simulated splits stacks
    training unit_pruning
    """
)

SPARSITY = 0.5  # of the sparse and clustered network

# The thesis's set-ups, and ours besides, with the schemes that make them.
POST_TRAINING = {
    "PTQ int8": "integer",
    "PTQ dynamic range": "dynamic range",
    "PTQ float16": "float16",
    "PTQ int8 with int16 activations": "int8 weights, int16 activations",
}
MORE_POST_TRAINING = {
    "PTQ int8 with float16 activations": "int8 weights, float16 activations",
    "PTQ int4 weights": "int4 weights",
    "PTQ int4 with int8 activations": "int4 weights, int8 activations",
}


def runtime_rows(
    network: nn.Module,
    splits: Splits,
    schemes: Mapping[str, str],
    calibration: int,
    seed: int,
) -> Rows:
    """One row a set-up: the network as a file in ONNX Runtime.

    ``schemes`` maps set-ups to schemes. Introduced in chapter 4.
    """
    values = _values(network)
    rows = []
    with TemporaryDirectory(prefix="lq-") as folder:
        source, target = Path(folder) / "a.onnx", Path(folder) / "b.onnx"
        export_onnx(network, source)
        for set_up, scheme in schemes.items():
            compress(scheme, source, target, splits.train, calibration, seed)
            found = compare_with_runtime(network, target, splits.test)
            rows.append(
                {
                    "set_up": set_up,
                    "scheme": scheme,
                    "measured": SCHEMES.get(scheme).measured,
                    "n": len(splits.test),
                    **packed_sizes(target),
                    **found,
                    **values,
                }
            )
    return rows


def simulated_row(
    set_up: str, network: nn.Module, base: nn.Module, splits: Splits
) -> dict[str, Any]:
    """The row of a network as it was trained, computed by torch.

    Its file is the float32 one of its weights, as ``base`` has it.

    Introduced in chapter 4.
    """
    n = len(splits.test)
    sizes = onnx_sizes(plain_copy(base, network))
    hits = round(evaluate(network, splits.test) * n)
    row = {"set_up": set_up, "scheme": "", "measured": False, "n": n}
    return row | {"hits": hits} | sizes | _values(network)


def _values(network: nn.Module) -> dict[str, Any]:
    """How many values the layers take, before they are fake quantized."""
    table = layer_values(network)
    counts, codes = table["distinct_before"], table["codes"].dropna()
    return {
        "distinct": int(counts.max()),
        "distinct_by_layer": ", ".join(map(str, counts)),
        "most_codes": int(codes.max()) if len(codes) else None,
        "zero_share": float(
            (table["zero_share"] * table["parameters"]).sum()
            / table["parameters"].sum()
        ),
    }


def quantization_rows(
    task: str, start: str, seed: int, plan: Budget, splits: Tasks
) -> Rows:
    """Rows of tables 4.2 (``start`` "own") and 4.3 (another task).

    Introduced in chapter 4.
    """
    own, images = splits[task], dict(plan)["calibration"]
    base = start_network(task, start, seed, plan, splits)
    schemes = {"base": "float32"} | POST_TRAINING | MORE_POST_TRAINING
    rows = runtime_rows(base, own, schemes, images, seed)
    rounded = with_quantized_activations(base, own, seed, plan)
    rounded = fake_quantize(rounded, BITS, granularity="mixed")
    aware = fine_tuned(rounded, own, seed, plan)
    rows.append(simulated_row("QAT", aware, base, own))
    again = {"PTQ on QAT": "integer"}
    rows += runtime_rows(plain_copy(base, aware), own, again, images, seed)
    if start != OWN:
        source = base_network(splits[start], seed, plan)
        rows.append(simulated_row("source network", source, source, own))
    return rows


def clustering_rows(
    task: str, seed: int, count: int, plan: Budget, splits: Tasks
) -> Rows:
    """Rows of tables 4.4 and 4.5: ``count`` clusters a layer, and QAT.

    Raises CompressionError where a layer takes more values than it may.

    Introduced in chapter 4.
    """
    own, images = splits[task], dict(plan)["calibration"]
    base = base_network(own, seed, plan)
    clustered = fine_tuned(cluster(base, count), own, seed, plan)
    check_distinct(clustered, count, skip=small_layers(base, count))
    plain = plain_copy(base, clustered)
    schemes = {f"clustered, {k}": v for k, v in POST_TRAINING.items()}
    schemes = {"clustered": "float32"} | schemes
    rows = runtime_rows(plain, own, schemes, images, seed)
    rounded = with_quantized_activations(plain, own, seed, plan)
    aware = fake_quantize(rounded, BITS, granularity="mixed")
    aware = fine_tuned(aware, own, seed, plan)
    rows.append(simulated_row("clustered, QAT", aware, base, own))
    again = {"clustered, PTQ on QAT": "integer"}
    rows += runtime_rows(plain_copy(base, aware), own, again, images, seed)
    kept = fine_tuned(cluster_preserving(rounded, BITS), own, seed, plan)
    check_distinct(kept, count, skip=small_layers(base, count))
    rows.append(simulated_row("cluster-preserving QAT", kept, base, own))
    again = {"cluster-preserving QAT, int8": "integer"}
    rows += runtime_rows(plain_copy(base, kept), own, again, images, seed)
    return rows


def sparse_rows(
    task: str, seed: int, count: int, plan: Budget, splits: Tasks
) -> Rows:
    """Half of the weights pruned, the others clustered, then both kept.

    Raises CompressionError where clusters or zeros were lost.

    Introduced in chapter 4.
    """
    own, images = splits[task], dict(plan)["calibration"]
    base = base_network(own, seed, plan)
    pruned = fine_tuned(prune(base, SPARSITY), own, seed, plan)
    both = fine_tuned(cluster(pruned, count), own, seed, plan)
    plain = plain_copy(base, both)
    rounded = with_quantized_activations(plain, own, seed, plan)
    kept = sparsity_and_cluster_preserving(rounded, BITS)
    kept = fine_tuned(kept, own, seed, plan)
    check_distinct(kept, count, skip=small_layers(base, count))
    check_sparse(kept, SPARSITY)
    name = "sparsity- and cluster-preserving QAT"
    rows = [simulated_row(name, kept, base, own)]
    again = {f"{name}, int8": "integer"}
    plain = plain_copy(base, kept)
    return rows + runtime_rows(plain, own, again, images, seed)
