"""The comparison of chapter 4: QuantNET trained, compressed, measured.

A cell is one base network with all that is made from it; a row is one
compressed network, tested on every test image of its task.
"""

from __future__ import annotations

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
)
from lq_utils.compression_files import Rows, files_of
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

# What decides the rows of this module.
CODE = modules(
    """
    activation_quantization alphabets augmentation calibration checkpoints
    clustering compressed_training compression compression_checks
    compression_files compression_networks compression_study graph grids
    images inference models onnx_export onnx_files onnx_runtime
    onnx_schemes onnx_weights parametrizations partitions pruning quantnet
    recipes scale_rules scales scheme_registry simulated splits stacks
    training unit_pruning
    """
)

SPARSITY = 0.5  # of the sparse and clustered network
# Many units of the layer before it give zero for every image. Their weights
# here were never trained and are the largest: by magnitude, those that
# count would go.
UNPRUNED = ("output",)

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


def quantization_rows(
    task: str, start: str, seed: int, plan: Budget, splits: Tasks
) -> Rows:
    """Rows of tables 4.2 (``start`` "own") and 4.3 (another task).

    Introduced in chapter 4.
    """
    own = splits[task]
    base = start_network(task, start, seed, plan, splits)
    schemes = {"base": "float32"} | POST_TRAINING | MORE_POST_TRAINING
    rounded = with_quantized_activations(base, own, seed, plan)
    rounded = fake_quantize(rounded, BITS, granularity="mixed")
    aware = fine_tuned(rounded, own, seed, plan)
    with files_of(base, own, seed, plan) as files:
        rows = files.measured(base, schemes)
        rows.append(files.simulated("QAT", aware))
        plain = plain_copy(base, aware)
        rows += files.measured(plain, {"PTQ on QAT": "integer"})
        if start != OWN:
            source = base_network(splits[start], seed, plan)
            rows.append(files.simulated("source network", source))
    return rows


def clustering_rows(
    task: str, seed: int, count: int, plan: Budget, splits: Tasks
) -> Rows:
    """Rows of tables 4.4 and 4.5: ``count`` clusters a layer, and QAT.

    Raises CompressionError where a layer takes more values than it may.

    Introduced in chapter 4.
    """
    own = splits[task]
    base = base_network(own, seed, plan)
    small = small_layers(base, count)
    clustered = fine_tuned(cluster(base, count), own, seed, plan)
    check_distinct(clustered, count, skip=small)
    plain = plain_copy(base, clustered)
    rounded = with_quantized_activations(plain, own, seed, plan)
    aware = fake_quantize(rounded, BITS, granularity="mixed")
    aware = fine_tuned(aware, own, seed, plan)
    kept = fine_tuned(cluster_preserving(rounded, BITS), own, seed, plan)
    check_distinct(kept, count, skip=small)
    schemes = {f"clustered, {k}": v for k, v in POST_TRAINING.items()}
    schemes = {"clustered": "float32"} | schemes
    with files_of(base, own, seed, plan) as files:
        rows = files.measured(plain, schemes)
        for name, network, again in (
            ("clustered, QAT", aware, "clustered, PTQ on QAT"),
            ("cluster-preserving QAT", kept, "cluster-preserving QAT, int8"),
        ):
            rows.append(files.simulated(name, network))
            plain = plain_copy(base, network)
            rows += files.measured(plain, {again: "integer"})
    return rows


def sparse_rows(
    task: str, seed: int, count: int, plan: Budget, splits: Tasks
) -> Rows:
    """Half of the weights pruned, the others clustered, then both kept.

    No weight of the output layer is pruned.

    Raises CompressionError where clusters or zeros were lost.

    Introduced in chapter 4.
    """
    own = splits[task]
    base = base_network(own, seed, plan)
    sparse = prune(base, SPARSITY, skip=UNPRUNED)
    pruned = fine_tuned(sparse, own, seed, plan)
    both = fine_tuned(cluster(pruned, count), own, seed, plan)
    plain = plain_copy(base, both)
    rounded = with_quantized_activations(plain, own, seed, plan)
    kept = sparsity_and_cluster_preserving(rounded, BITS)
    kept = fine_tuned(kept, own, seed, plan)
    check_distinct(kept, count, skip=small_layers(base, count))
    check_sparse(kept, SPARSITY, skip=UNPRUNED)
    name = "sparsity- and cluster-preserving QAT"
    with files_of(base, own, seed, plan) as files:
        rows = [files.simulated(name, kept)]
        schemes = {f"{name}, int8": "integer"}
        return rows + files.measured(plain_copy(base, kept), schemes)
