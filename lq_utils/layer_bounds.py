"""How far a quantized layer may stray: running errors and a worst case.

GPFQ takes the columns of a weight one by one. What the running error can
grow by in a step is known, and that gives a bound for any data.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import pandas as pd
import torch
from torch import Tensor, fx, nn

from lq_utils.grams import patches
from lq_utils.graph import fold_batch_norm, trace, weight_matrix
from lq_utils.grids import Grid, GridError
from lq_utils.lockstep import Quantized


def running_error(
    weight: Tensor,
    quantized: Tensor,
    inputs: Tensor,
    analog: Tensor | None = None,
) -> Tensor:
    """Norm of the layer's error after each column: float64 ``[N]``.

    ``weight`` and ``quantized`` are ``[K, N]``; ``inputs [m, N]`` feed the
    quantized layer, ``analog [m, N]`` the original one (the same, if not
    given). Entry t is the Frobenius norm of the sum over the columns up
    to t of ``x_s w_s^T - x~_s q_s^T``.

    Source: Lybrand and Saab 2021, section 3. Introduced in chapter 3.
    """
    w, q, seen = weight.double(), quantized.double(), inputs.double()
    original = seen if analog is None else analog.double()
    away = torch.zeros(len(seen), len(w), dtype=torch.float64)
    norms = []
    for t in range(w.shape[1]):
        away.addr_(original[:, t], w[:, t])
        away.addr_(seen[:, t], q[:, t], alpha=-1)
        norms.append(float(away.norm()))
    return torch.tensor(norms, dtype=torch.float64)


def row_steps(grid: Grid, rows: int) -> Tensor:
    """Distance of neighbouring levels for each row: float64 ``[rows, 1]``.

    Raises GridError for levels that are not evenly spaced, and for more
    than one scale a row.

    Introduced in chapter 3.
    """
    if grid.alphabet.codebook is not None or grid.scale.shape[1] > 1:
        raise GridError(
            "the worst case needs evenly spaced levels and one scale a "
            "tensor or channel"
        )
    steps = grid.scale.double() * grid.alphabet.step
    return steps.expand(rows, 1)


def worst_case(
    weight: Tensor,
    grid: Grid,
    inputs: Tensor,
    analog: Tensor | None = None,
) -> Tensor:
    """What ``running_error`` of GPFQ cannot exceed: float64 ``[N]``.

    For a row with step ``d``, after column t::

        d / 2 sqrt(sum ||x~_s||^2)  +  sum |w_s| ||x_s - x~_s||

    over the columns up to t. No assumption on the data; but no value
    that GPFQ rounds may lie beyond the outer levels.

    Shapes as in :func:`running_error`. Introduced in chapter 3.
    """
    steps = row_steps(grid, len(weight))
    square = inputs.double().square().sum(dim=0).cumsum(dim=0)
    bound = steps / 2 * square.sqrt()
    if analog is not None:
        drift = (analog.double() - inputs.double()).norm(dim=0)
        bound = bound + (weight.double().abs() * drift).cumsum(dim=1)
    return bound.norm(dim=0)


@contextmanager
def _captured(
    model: fx.GraphModule, layers: list[str]
) -> Iterator[dict[str, Tensor]]:
    """Inputs of the layers while the model runs."""
    seen: dict[str, Tensor] = {}

    def keep(name: str) -> object:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            seen[name] = inputs[0]

        return model.get_submodule(name).register_forward_pre_hook(hook)

    handles = [keep(name) for name in layers]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()  # type: ignore[attr-defined]


@torch.inference_mode()
def layer_patches(
    model: nn.Module, layer: str, images: Tensor, count: int, seed: int
) -> tuple[Tensor, Tensor]:
    """Weight ``[K, N]`` of a layer and what it sees: ``[count, N]``.

    Patches of the original network on ``images``, drawn without
    replacement (all, if there are fewer); of a grouped layer the first
    group. Introduced in chapter 3.
    """
    traced = trace(model)
    with _captured(traced, [layer]) as seen:
        traced(images)
    module = traced.get_submodule(layer)
    x = patches(module, seen[layer])
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randperm(x.shape[2], generator=generator)[:count]
    weight = weight_matrix(module)
    return weight[: len(weight) // len(x)], x[0][:, drawn].T.contiguous()


@torch.inference_mode()
def layer_errors(
    model: nn.Module, quantized: Quantized, images: Tensor
) -> pd.DataFrame:
    """Every quantized layer's error on ``images``, and its worst case.

    ``images`` must be those that ``quantized`` was calibrated with, all
    patches of them: the bound holds for these only. Columns: ``layer``,
    ``columns`` N, ``patches`` m, ``relative_error`` and ``bound`` (both
    as multiples of the norm of the original output without bias).

    Raises GridError as :func:`row_steps` does.

    Introduced in chapter 3.
    """
    original = trace(model)
    if quantized.fold:
        original = fold_batch_norm(original)
    layers = list(quantized.grids)
    with (
        _captured(original, layers) as analog,
        _captured(quantized.model, layers) as seen,
    ):
        original(images)
        quantized.model(images)
    rows = []
    for name in layers:
        module = original.get_submodule(name)
        other = quantized.model.get_submodule(name)
        x, x_q = patches(module, analog[name]), patches(other, seen[name])
        parts = [
            _group_errors(w, q, grid, a.T, b.T)
            for w, q, grid, a, b in _groups(
                module, other, quantized.grids[name], x, x_q
            )
        ]
        error, bound, norm = (
            math.sqrt(sum(part[i] ** 2 for part in parts)) for i in range(3)
        )
        rows.append(
            {
                "layer": name,
                "columns": x.shape[1],
                "patches": x.shape[2],
                "relative_error": error / norm,
                "bound": bound / norm,
            }
        )
    return pd.DataFrame(rows)


def _groups(
    module: nn.Module, other: nn.Module, grid: Grid, x: Tensor, x_q: Tensor
) -> Iterator[tuple[Tensor, Tensor, Grid, Tensor, Tensor]]:
    w, q = weight_matrix(module), weight_matrix(other)
    for index, a, b in zip(torch.arange(len(w)).chunk(len(x)), x, x_q):
        yield w[index], q[index], grid.rows(index), a, b


def _group_errors(
    weight: Tensor, quantized: Tensor, grid: Grid, x: Tensor, x_q: Tensor
) -> tuple[float, float, float]:
    output = x @ weight.T
    error = (output - x_q @ quantized.T).double().norm()
    bound = worst_case(weight, grid, x_q, x)[-1]
    return float(error), float(bound), float(output.double().norm())
