"""The hybrids of chapter 6: QuantNET in few bits, trained and measured.

A cell is one network in one plan, or one network through the pipelines
that are compared with it; a row is one compressed network, tested on every
test image of its task.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from torch import nn
from torch.nn.utils.parametrize import register_parametrization

from lq_utils import compression_study
from lq_utils.artifact import save_quantized
from lq_utils.compressed_training import fit
from lq_utils.compression_files import Rows
from lq_utils.compression_networks import (
    Budget,
    Tasks,
    recipe,
)
from lq_utils.engine import modules
from lq_utils.hybrid import hybrid_network
from lq_utils.hybrid_plans import (
    QUANTNET_LAYERS,
    thesis_factor,
)
from lq_utils.images import Splits
from lq_utils.inference import evaluate
from lq_utils.kept_networks import kept_network
from lq_utils.low_bit import (
    BinaryConnect,
    Ternary,
    clip_latent,
    low_bit_layers,
    low_bit_weight,
)
from lq_utils.low_bit_base import LatentWeight
from lq_utils.low_bit_part import size_matched_network
from lq_utils.low_bit_storage import low_bit_quantized
from lq_utils.onnx_files import packed_sizes
from lq_utils.parametrizations import CompressionError
from lq_utils.stacks import clone, latent_weight, layers_of

# What decides the rows of this module.
CODE = compression_study.CODE + modules(
    """
    artifact artifact_grids artifact_parts bounded_models hybrid hybrid_inputs
    hybrid_pipelines
    hybrid_plans hybrid_study kept_networks learned_step low_bit
    low_bit_activations low_bit_base low_bit_part low_bit_storage packing plan_rows plans
    """
)

Bits = tuple[int | None, ...]
Options = tuple[tuple[str, Any], ...]


def label(bits: Sequence[int | None]) -> str:
    """Precisions of the layers as table 4.7 names them: "fp,1,2,2".

    Introduced in chapter 6.
    """
    return ",".join("fp" if b is None else str(b) for b in bits)


def by_layer(bits: Sequence[int | None]) -> dict[str, int | None]:
    """Bits of conv1, conv2, linear1 and linear2 by name.

    Introduced in chapter 6.
    """
    return dict(zip(QUANTNET_LAYERS, bits, strict=False))


def hybrid_rows(
    task: str,
    start: str,
    seed: int,
    bits: Bits,
    options: Options,
    epochs: int,
    hybrid_rate: float,
    plan: Budget,
    splits: Tasks,
) -> Rows:
    """The row of one plan: trained on from a network in full precision.

    ``bits`` are those of conv1, conv2, linear1 and linear2, ``options``
    go to ``hybrid_network``. Columns besides hits and n: validation
    (accuracy, 0 to 1), seconds (of processor time, to train),
    thesis_factor (memory), outer_share (of weights of two bits or more
    on the two outermost levels; None without such), bytes and
    compressed_bytes of the artifact.

    Raises as ``hybrid_network`` and ``fit``. Introduced in chapter 6.
    """
    own = splits[task]
    base = kept_network(task, start, seed, plan, splits)
    wanted = by_layer(bits)
    hybrid = hybrid_network(base, wanted, **dict(options))
    began = time.process_time()
    trained = _trained(hybrid, own, seed, epochs, hybrid_rate, plan)
    row = {
        "set_up": label(bits),
        "scheme": "",
        "measured": False,  # signs, but multiplied as floats
        "seconds": time.process_time() - began,
        "thesis_factor": thesis_factor(base, wanted),
        "outer_share": _outer_share(trained),
    }
    return [row | _stored(trained) | _judged(trained, own)]


def start_rows(
    task: str, start: str, seed: int, plan: Budget, splits: Tasks
) -> Rows:
    """The row of the network that everything starts from: "start".

    Columns: set_up, hits, n, validation. Introduced in chapter 6.
    """
    base = kept_network(task, start, seed, plan, splits)
    return [{"set_up": "start"} | _judged(base, splits[task])]


def _trained(
    network: nn.Module,
    splits: Splits,
    seed: int,
    epochs: int,
    rate: float,
    plan: Budget,
) -> nn.Module:
    configuration = replace(
        recipe(plan, seed), epochs=epochs, learning_rate=rate
    )
    few = any(isinstance(m, LatentWeight) for m in network.modules())
    clip = clip_latent() if few else None
    parts = (splits.train, splits.validation)
    return fit(network, *parts, configuration, clip, progress=False).model


def _tested(network: nn.Module, splits: Splits) -> dict[str, int]:
    n = len(splits.test)
    return {"hits": round(evaluate(network, splits.test) * n), "n": n}


def _outer_share(network: nn.Module) -> float | None:
    outer = total = 0
    for layer in low_bit_layers(network).values():
        rule = low_bit_weight(layer)
        if rule is None or rule.alphabet.count == 2:
            continue
        codes = rule.codes(latent_weight(layer))
        ends = (codes == 0) | (codes == rule.alphabet.count - 1)
        outer, total = outer + int(ends.sum()), total + codes.numel()
    return outer / total if total else None


def _stored(network: nn.Module) -> dict[str, int]:
    """Bytes of the artifact, as it is and packed."""
    with TemporaryDirectory(prefix="lq-") as folder:
        path = Path(folder) / "network.safetensors"
        save_quantized(path, low_bit_quantized(network), "quantnet", 1)
        return packed_sizes(path)


def part_rows(
    task: str,
    start: str,
    seed: int,
    like: str,
    layer: str,
    epochs: int,
    hybrid_rate: float,
    plan: Budget,
    splits: Tasks,
) -> Rows:
    """As many weights of ``layer`` in one bit as ``like`` has weights.

    Drawn with the seed; inputs are not quantized. Columns: set_up, hits,
    n, validation. Introduced in chapter 6.
    """
    own = splits[task]
    base = kept_network(task, start, seed, plan, splits)
    network = size_matched_network(base, like, layer, seed)
    trained = _trained(network, own, seed, epochs, hybrid_rate, plan)
    return [{"set_up": f"part of {layer}"} | _judged(trained, own)]


KINDS = ("BinaryConnect", "BinaryConnect, stochastic", "ternary weights")


def _kind(name: str) -> nn.Module:
    if name not in KINDS:
        raise CompressionError(f"kind={name!r}: choose one of {KINDS}")
    if name == "ternary weights":
        return Ternary()
    return BinaryConnect(stochastic=name.endswith("stochastic"))


def kind_rows(
    task: str,
    start: str,
    seed: int,
    kind: str,
    epochs: int,
    hybrid_rate: float,
    plan: Budget,
    splits: Tasks,
) -> Rows:
    """Relatives: weights of one of ``KINDS`` in all inner layers.

    Inputs are not quantized. Columns: set_up, hits, n, validation.
    Raises CompressionError for another kind. Introduced in chapter 6.
    """
    own = splits[task]
    network = clone(kept_network(task, start, seed, plan, splits))
    for name, layer in layers_of(network).items():
        if name in QUANTNET_LAYERS[1:-1]:
            register_parametrization(layer, "weight", _kind(kind))
    trained = _trained(network, own, seed, epochs, hybrid_rate, plan)
    return [{"set_up": kind} | _judged(trained, own)]


def _judged(network: nn.Module, splits: Splits) -> dict[str, Any]:
    validation = evaluate(network, splits.validation)
    return {"validation": validation} | _tested(network, splits)
