"""Networks that are compressed while they train.

Every function takes a network and returns a copy in which the weights of
convolutions and linear layers are parametrized; biases never are. Stack
them in the order prune, cluster, fake quantize; train with
``lq_utils.compressed_training``; ``strip`` makes plain weights of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import nn

from lq_utils.clustering import cluster_weights
from lq_utils.parametrizations import (
    Clustered,
    CompressionError,
    FakeQuantize,
    Masked,
)
from lq_utils.pruning import SparsitySchedule, magnitude_mask
from lq_utils.stacks import (
    M,
    attach,
    clone,
    find,
    latent_weight,
    layers_of,
    strip,
    weight_before,
)

__all__ = [
    "CompressionError",
    "cluster",
    "cluster_preserving",
    "fake_quantize",
    "prune",
    "pruning_steps",
    "set_sparsity",
    "sparsity_and_cluster_preserving",
    "strip",
]

MOST_PRESERVED = 1024  # with more distinct values a layer is not clustered


def prune(model: M, sparsity: float, *, skip: Iterable[str] = ()) -> M:
    """A copy whose smallest weights, layer by layer, are masked.

    Of ``n`` weights max(round(n (1 - sparsity)), 1) are kept. Raises
    PruningError for a sparsity out of range.

    Source: Zhu and Gupta 2017. Introduced in chapter 4.
    """
    pruned = clone(model)
    for name, layer in layers_of(pruned, skip).items():
        mask = magnitude_mask(latent_weight(layer), sparsity)
        attach(name, layer, Masked(mask))
    return pruned


def set_sparsity(model: nn.Module, sparsity: float) -> None:
    """Make the masks of :func:`prune` anew, in place, from the latent
    weights as they are now.

    Raises CompressionError where no layer has such a mask.
    Introduced in chapter 4.
    """
    found = False
    for layer in layers_of(model).values():
        masked = find(layer, Masked)
        if masked is not None and not masked.fixed:
            masked.mask.copy_(magnitude_mask(latent_weight(layer), sparsity))
            found = True
    if not found:
        raise CompressionError(
            "no layer has a mask that may change: prune(model, 0.0) first"
        )


def pruning_steps(
    schedule: SparsitySchedule,
) -> Callable[[int, nn.Module], None]:
    """What a training calls before every step so that it follows
    ``schedule``: a function of the step (from 0) and the network.

    Introduced in chapter 4.
    """

    def before_step(step: int, model: nn.Module) -> None:
        if schedule.due(step):
            set_sparsity(model, schedule.at(step))

    return before_step


def cluster(
    model: M,
    count: int,
    *,
    method: str = "exact",
    gradient: str = "sum",
    preserve_zero: bool | None = None,
    skip: Iterable[str] = (),
    skip_small: bool = True,
    seed: int = 0,
) -> M:
    """A copy whose layers take at most ``count`` values each.

    Args:
        method: of ``lq_utils.clustering``, for the first centroids.
        gradient: a centroid's, ``"sum"`` or ``"mean"`` over its members.
        preserve_zero: keep one centroid at 0; None: where the layer is
            pruned.
        skip: names of layers left as they are.
        skip_small: so are layers of ``count`` weights or fewer.

    Raises ClusteringError for a count out of range, CompressionError for
    layers that are clustered or quantized already.

    Source: TensorFlow Model Optimization Toolkit, weight clustering.
    Introduced in chapter 4.
    """
    clustered = clone(model)
    for name, layer in layers_of(clustered, skip).items():
        weight = weight_before(layer, Clustered)
        pin = preserve_zero
        if pin is None:
            pin = find(layer, Masked) is not None
        found = cluster_weights(
            weight, count, method, preserve_zero=pin, seed=seed
        )
        if weight.numel() > count or not skip_small:
            codebook = found.centroids.to(weight.device)
            attach(name, layer, Clustered(codebook, gradient, pin))
    return clustered


def fake_quantize(
    model: M,
    bits: int,
    *,
    quantizer: str = "narrow",
    granularity: str = "tensor",
    rule: str = "max",
    skip: Iterable[str] = (),
) -> M:
    """A copy whose weights are rounded to a grid in every pass.

    ``granularity`` is ``"tensor"``, ``"channel"``, or ``"mixed"``: one
    scale a channel for convolutions, one a tensor for linear layers, as
    TensorFlow Lite has it. The rest is as in ``FakeQuantize``, whose
    errors are raised.

    Introduced in chapter 4.
    """
    quantized = clone(model)
    for name, layer in layers_of(quantized, skip).items():
        scales = granularity
        if granularity == "mixed":
            convolution = isinstance(layer, nn.Conv2d)
            scales = "channel" if convolution else "tensor"
        attach(name, layer, FakeQuantize(bits, scales, quantizer, rule))
    return quantized


def cluster_preserving(
    model: M,
    bits: int,
    *,
    granularity: str = "mixed",
    gradient: str = "sum",
    skip: Iterable[str] = (),
) -> M:
    """Quantization-aware training that keeps the clusters of a network.

    A layer's codebook are the distinct weights that it has; layers with
    only one, or with more than 1024, are quantized without clusters.

    Source: TensorFlow Model Optimization Toolkit, cluster-preserving
    quantization-aware training. Introduced in chapter 4.
    """
    plain = _clustered_again(model, gradient, skip, sparse=False)
    return fake_quantize(plain, bits, granularity=granularity, skip=skip)


def sparsity_and_cluster_preserving(
    model: M,
    bits: int,
    *,
    granularity: str = "mixed",
    gradient: str = "sum",
    skip: Iterable[str] = (),
) -> M:
    """As :func:`cluster_preserving`; zeros stay zero, too.

    Weights that are 0 are masked for good, and the centroid 0 is pinned.

    Source: TensorFlow Model Optimization Toolkit, sparsity and cluster
    preserving quantization-aware training. Introduced in chapter 4.
    """
    plain = _clustered_again(model, gradient, skip, sparse=True)
    return fake_quantize(plain, bits, granularity=granularity, skip=skip)


def _clustered_again(
    model: M, gradient: str, skip: Iterable[str], sparse: bool
) -> M:
    plain = strip(model)
    for name, layer in layers_of(plain, skip).items():
        weight = latent_weight(layer).detach()
        values = torch.unique(weight)
        zeros = sparse and bool((weight == 0).any())
        if zeros:
            attach(name, layer, Masked(weight != 0, fixed=True))
        if 1 < len(values) <= MOST_PRESERVED:
            attach(name, layer, Clustered(values, gradient, zeros))
    return plain
