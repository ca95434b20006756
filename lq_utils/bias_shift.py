"""Bias correction without data, from what batch normalisations expect.

Rounding moves a layer's mean output by the weights' errors times the mean
input. A normalisation says what the mean of its outputs is, and what a
ReLU makes of it follows if they are Gaussian.
"""

from __future__ import annotations

import operator
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from lq_utils.graph import (
    LAYER_TYPES,
    fold_batch_norm,
    layer_of,
    trace,
    weight_matrix,
)
from lq_utils.lockstep import Quantized

SMALLEST = 1e-12  # standard deviation


class Moments(NamedTuple):
    """Mean and variance of every channel: float64 ``[C]`` each.

    Introduced in chapter 7.
    """

    mean: Tensor
    variance: Tensor


def clipped_normal(
    moments: Moments, low: float = 0.0, high: float = float("inf")
) -> Moments:
    """Moments of Gaussians that are clipped to ``low`` ... ``high``.

    Source: Nagel et al. 2019, appendix C. Introduced in chapter 7.
    """
    mean, deviation = moments.mean, moments.variance.sqrt()
    deviation = deviation.clamp(min=SMALLEST)
    normal = torch.distributions.Normal(0.0, 1.0)
    # Beyond 40 deviations nothing is left; infinity times zero is not zero.
    a = ((low - mean) / deviation).clamp(-40, 40)
    b = ((high - mean) / deviation).clamp(-40, 40)
    below, above = normal.cdf(a), 1 - normal.cdf(b)
    inside = 1 - below - above
    at_a, at_b = normal.log_prob(a).exp(), normal.log_prob(b).exp()
    top = 0.0 if high == float("inf") else high
    first = deviation * (at_a - at_b) + mean * inside
    second = mean**2 * inside + 2 * mean * deviation * (at_a - at_b)
    second = second + deviation**2 * (inside + a * at_a - b * at_b)
    first = first + low * below + top * above
    second = second + low**2 * below + top**2 * above
    return Moments(first, (second - first**2).clamp(min=0))


def _of_norm(norm: nn.BatchNorm2d | nn.BatchNorm1d) -> Moments:
    like = torch.ones(norm.num_features, dtype=torch.float64)
    if not norm.affine:
        return Moments(torch.zeros_like(like), like)
    return Moments(norm.bias.double(), norm.weight.double() ** 2)


_RELUS = (nn.ReLU, F.relu, torch.relu, torch.relu_, "relu", "relu_")
_CLIPPED = (nn.ReLU6, F.relu6)
_SUMS = (operator.add, operator.iadd, torch.add, "add", "add_")
_MEANS = (
    nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.Dropout, nn.Dropout2d,
    nn.Identity, nn.Flatten, F.avg_pool2d, F.adaptive_avg_pool2d, F.dropout,
    torch.flatten, torch.mean, "flatten", "mean",
)  # fmt: skip


def _kind(traced: fx.GraphModule, node: fx.Node) -> Any:
    """What a node does: a module's type, a function, a method's name."""
    if node.op == "call_module":
        return type(traced.get_submodule(str(node.target)))
    return node.target


def _moments(
    traced: fx.GraphModule, node: fx.Node, known: dict[fx.Node, Moments | None]
) -> Moments | None:
    kind = _kind(traced, node)
    if kind in (nn.BatchNorm1d, nn.BatchNorm2d):
        norm: Any = traced.get_submodule(str(node.target))
        return _of_norm(norm)
    inputs = [known[source] for source in node.all_input_nodes]
    found = [moments for moments in inputs if moments is not None]
    if not found or len(found) < len(inputs):
        return None
    if kind in _RELUS:
        return clipped_normal(found[0])
    if kind in _CLIPPED:
        return clipped_normal(found[0], 0.0, 6.0)
    if kind in _SUMS and len(found) == 2:
        # Taken as independent.
        return Moments(*(a + b for a, b in zip(*found, strict=True)))
    return found[0] if kind in _MEANS else None


@torch.no_grad()
def expected_inputs(network: nn.Module) -> dict[str, Tensor]:
    """Mean input of every channel of the layers where it is known.

    Float64 ``[C]`` by the layer's name. Known are inputs that come from
    batch normalisations through ReLUs, sums, mean pooling and flattening;
    never the first layer's, which are images.

    Raises TraceError. Source: Nagel et al. 2019, section 4.2.1; sums are
    an extension for residual networks. Introduced in chapter 7.
    """
    traced = trace(network)
    known: dict[fx.Node, Moments | None] = {}
    means: dict[str, Tensor] = {}
    for node in traced.graph.nodes:
        if node.op == "output":
            break
        kind = _kind(traced, node)
        if node.op == "call_module" and issubclass(kind, LAYER_TYPES):
            seen = known[node.all_input_nodes[0]]
            if seen is not None:
                means[str(node.target)] = seen.mean
            known[node] = None
            continue
        known[node] = _moments(traced, node, known)
    return means


@torch.no_grad()
def absorb_expected_error(network: nn.Module, quantized: Quantized) -> int:
    """Take the expected error of every layer's output out of its bias.

    ``network`` is what ``quantized`` was made from; its model is changed
    in place. What padding adds at the border is not counted. Returns how
    many layers were corrected.

    Source: Nagel et al. 2019, section 4.2. Introduced in chapter 7.
    """
    original = trace(network)
    original = fold_batch_norm(original) if quantized.fold else original
    means, corrected = expected_inputs(network), 0
    for name in quantized.grids:
        if name in means:
            before = weight_matrix(original.get_submodule(name))
            _shift(layer_of(quantized.model, name), before, means[name])
            corrected += 1
    return corrected


def _shift(layer: nn.Conv2d | nn.Linear, before: Tensor, mean: Tensor) -> None:
    error = (weight_matrix(layer) - before).double()
    groups = layer.groups if isinstance(layer, nn.Conv2d) else 1
    # Columns are channels times kernel, or channels times positions.
    repeats = error.shape[1] * groups // len(mean)
    expected = mean.repeat_interleave(repeats).view(groups, -1)
    added = torch.einsum(
        "gkn,gn->gk", error.view(groups, -1, error.shape[1]), expected
    )
    shift = added.flatten().to(layer.weight.dtype)
    if layer.bias is None:
        layer.bias = nn.Parameter(-shift)
    else:
        layer.bias -= shift
