"""Sensitivities from gradients: how the loss bends along a layer's weights.

Near a minimum the loss grows by half of dw^T H dw. None of these computes
the Hessian H: they take its mean diagonal, or the Fisher information in
its place, or what the gradients of a layer's outputs say of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn
from torch.func import functional_call

from lq_utils.graph import layer_of, weight_matrix
from lq_utils.sensitivity_base import (
    SensitivityError,
    SensitivityTask,
    changes,
    cost_table,
    register_sensitivity,
    squared_change,
)

PROBES = 32  # of Hutchinson's estimate


def _loss_of_weights(
    task: SensitivityTask, images: slice
) -> tuple[Tensor, list[Tensor]]:
    """Summed loss of some images, and the layers' weights it hangs on."""
    weights = {
        name: layer_of(task.network, name).weight.detach().requires_grad_()
        for name in task.layers
    }
    named = {f"{name}.weight": w for name, w in weights.items()}
    logits = functional_call(task.network, named, (task.images[images],))
    return task.loss(logits, images), list(weights.values())


def squared_weight_gradients(task: SensitivityTask) -> dict[str, Tensor]:
    """Mean over images of the squared gradient, ``[K, N]`` a layer.

    The diagonal of the empirical Fisher information, of the
    cross-entropy among the classes of the task. Raises SensitivityError
    without labels. Introduced in chapter 9.
    """
    total: dict[str, Tensor] = {}
    for i in range(len(task.images)):
        loss, weights = _loss_of_weights(task, slice(i, i + 1))
        found = torch.autograd.grad(loss, weights)
        for name, g in zip(task.layers, found, strict=True):
            square = g.flatten(1).double().square() / len(task.images)
            total[name] = total[name] + square if i else square
    return total


@contextmanager
def _kept_outputs(task: SensitivityTask) -> Iterator[dict[str, Tensor]]:
    """Outputs of the layers in the last pass, each with a gradient."""
    kept: dict[str, Tensor] = {}

    def keep(name: str) -> Callable[..., Tensor]:
        def hook(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
            if not output.requires_grad:
                output.requires_grad_()
            kept[name] = output
            return output.clone()  # what follows may work in place

        return hook

    handles = [
        layer_of(task.network, name).register_forward_hook(keep(name))
        for name in task.layers
    ]
    try:
        yield kept
    finally:
        for handle in handles:
            handle.remove()


def squared_output_gradients(task: SensitivityTask) -> dict[str, Tensor]:
    """Mean squared gradient of each output channel, float64 ``[K]``.

    Over images and positions, of each image's cross-entropy. Raises
    SensitivityError without labels. Introduced in chapter 9.
    """
    total: dict[str, Tensor] = {}
    for start in range(0, len(task.images), task.batch_size):
        images = slice(start, start + task.batch_size)
        with _kept_outputs(task) as kept:
            loss = task.loss(task.network(task.images[images]), images)
            found = torch.autograd.grad(loss, list(kept.values()))
        for name, g in zip(kept, found, strict=True):
            convolution = isinstance(layer_of(task.network, name), nn.Conv2d)
            by_channel = (g.movedim(1, -1) if convolution else g).double()
            square = by_channel.flatten(0, -2).square().sum(dim=0)
            square = square * (len(g) / by_channel[..., 0].numel())
            total[name] = total.get(name, 0.0) + square / len(task.images)
    return total


@register_sensitivity("output error")
def _output_error(task: SensitivityTask) -> pd.DataFrame:
    """sum_k s_k dW_k H dW_k^T: squared output errors, weighted.

    H is the mean Gram matrix of the layer's inputs a image, s_k the mean
    squared gradient of output channel k; dW by the plan's own solver.
    Source: Li et al. 2021 (BRECQ), section 3.2, for the weighting.
    """
    slopes = squared_output_gradients(task)
    costs = {}
    for (layer, b), change in changes(task, task.solved).items():
        gram = task.statistics[layer].hessian / len(task.images)
        split = change.double().unflatten(0, (len(gram), -1))
        errors = torch.einsum("gkn,gnm,gkm->gk", split, gram, split)
        costs[layer, b] = float((errors.flatten() * slopes[layer]).sum())
    return cost_table(costs)


@register_sensitivity("fisher")
def _fisher(task: SensitivityTask) -> pd.DataFrame:
    """sum g^2 dw^2: squared changes, weighted by squared gradients.

    g is the gradient of one image, its square the mean over images; dw
    of weights rounded to nearest. Source: Molchanov et
    al. 2019, section 3.
    """
    squares = squared_weight_gradients(task)
    return cost_table(
        {
            (layer, b): float((squares[layer] * change.double() ** 2).sum())
            for (layer, b), change in changes(task, task.nearest).items()
        }
    )


def hessian_traces(
    task: SensitivityTask, probes: int = PROBES
) -> pd.DataFrame:
    """Trace of the Hessian of the mean loss along each layer's weights.

    Hutchinson: the mean of v^T H v over random signs v. One probe serves
    all layers at once; what other layers add is zero on average and part
    of the error. Columns ``layer``, ``weights``, ``trace`` and ``error``
    (standard error over probes).

    Raises SensitivityError for fewer than two probes, or without labels.
    Source: Dong et al. 2020 (HAWQ-V2), section 3. Introduced in
    chapter 9.
    """
    if probes < 2:
        raise SensitivityError(
            f"{probes} probes: give two or more, one has no standard error"
        )
    found = torch.zeros(probes, len(task.layers), dtype=torch.float64)
    for start in range(0, len(task.images), task.batch_size):
        images = slice(start, start + task.batch_size)
        loss, weights = _loss_of_weights(task, images)
        slopes = torch.autograd.grad(loss, weights, create_graph=True)
        for k in range(probes):
            signs = _signs(weights, task.seed, k)
            products = torch.autograd.grad(
                slopes, weights, signs, retain_graph=True
            )
            for j, (v, p) in enumerate(zip(signs, products, strict=True)):
                found[k, j] += float((v * p).sum()) / len(task.images)
    sizes = [weight_matrix(layer_of(task.network, n)) for n in task.layers]
    return pd.DataFrame(
        {
            "layer": task.layers,
            "weights": [w.numel() for w in sizes],
            "trace": found.mean(dim=0),
            "error": found.std(dim=0) / probes**0.5,
        }
    )


def _signs(weights: list[Tensor], seed: int, probe: int) -> list[Tensor]:
    """The same random signs for every batch of images."""
    source = torch.Generator().manual_seed(seed * 10_007 + probe)
    return [
        torch.randint(0, 2, w.shape, generator=source).to(w) * 2 - 1
        for w in weights
    ]


@register_sensitivity("trace")
def _trace(task: SensitivityTask, probes: int = PROBES) -> pd.DataFrame:
    """tr(H) / n times ||dw||^2, n weights; dw of rounding to nearest.

    Adds the column ``error``, the standard error of the cost. A trace
    that comes out below zero counts as zero. Source: Dong et al. 2020
    (HAWQ-V2), section 3.
    """
    traces = hessian_traces(task, probes).set_index("layer")
    mean = (traces["trace"] / traces["weights"]).clip(lower=0)
    error = traces["error"] / traces["weights"]
    moved = squared_change(task)
    table = cost_table({key: mean[key[0]] * d for key, d in moved.items()})
    table["error"] = [error[key[0]] * d for key, d in moved.items()]
    return table
