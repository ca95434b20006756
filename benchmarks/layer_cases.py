"""One layer: inputs, grid, and the two loops that we compare with.

All matrices are float32: weight ``[K, N]``, patches ``[m, N]``, ``x`` from
the float network and ``xq`` from the partly quantized one.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

LATENT = 4  # columns of a patch that share one latent factor


class Layer(NamedTuple):
    """A layer with its patches and the grid's step a channel ``[K, 1]``."""

    weight: Tensor
    x: Tensor
    xq: Tensor
    step: Tensor
    top: int


def make_layer(rows: int, columns: int, patches: int, bits: int) -> Layer:
    """A layer with correlated, non-negative inputs, always the same.

    The quantized network's inputs differ from the float ones by a tenth of
    their spread. The grid has ``2^bits - 1`` levels up to max|w|.
    """
    source = torch.Generator().manual_seed(0)
    weight = torch.randn(rows, columns, generator=source) / columns**0.5
    factors = max(1, columns // LATENT)
    mix = torch.randn(factors, columns, generator=source) / factors**0.5
    x = torch.randn(patches, factors, generator=source) @ mix
    x += 0.5 * torch.randn(patches, columns, generator=source)
    xq = 0.1 * torch.randn(patches, columns, generator=source)
    xq += x
    top = 2 ** (bits - 1) - 1
    step = weight.abs().amax(1, keepdim=True) / top
    return Layer(weight, x.relu_(), xq.relu_(), step, top)


def _round(z: Tensor, step: Tensor, top: int) -> Tensor:
    """Nearest of the levels ``-top ... top`` times ``step``; ties go up."""
    return step * torch.floor(z / step + 0.5).clamp_(-top, top)


def paper_loop(layer: Layer) -> Tensor:
    """GPFQ as the paper writes it, on stored patches.

    Column after column the error ``[K, m]`` takes up the float
    contribution, the best value of the quantized column is rounded, and its
    contribution leaves. Source: Zhang, Zhou and Saab 2023, algorithm 1.
    """
    weight, x, xq, step, top = layer
    quantized = torch.zeros_like(weight)
    error = weight.new_zeros(len(weight), len(x))
    for t in range(weight.shape[1]):
        error += weight[:, t, None] * x[:, t]
        length = torch.linalg.vector_norm(xq[:, t]) ** 2
        z = error @ xq[:, t] / length if length > 0 else error[:, 0] * 0
        quantized[:, t] = _round(z, step[:, 0], top)
        error -= quantized[:, t, None] * xq[:, t]
    return quantized


def straight_loop(layer: Layer) -> Tensor:
    """The same steps on rows that lie together in memory.

    Patches are transposed once, all lengths are computed at once, and the
    two updates of the error need no temporary matrix.
    """
    weight, x, xq, step, top = layer
    rows, rows_q = x.T.contiguous(), xq.T.contiguous()
    lengths = rows_q.square().sum(1)
    inverse = torch.where(lengths > 0, 1 / lengths, 0)
    columns = weight.T.contiguous()
    quantized = torch.zeros_like(columns)
    error = weight.new_zeros(len(weight), len(x))
    for t in range(len(columns)):
        error.addr_(columns[t], rows[t])
        z = torch.mv(error, rows_q[t]) * inverse[t]
        quantized[t] = _round(z, step[:, 0], top)
        error.addr_(quantized[t], rows_q[t], alpha=-1)
    return quantized.T.contiguous()


def relative_error(layer: Layer, quantized: Tensor) -> float:
    """Output error of the quantized layer over the output's norm.

    In blocks of patches, in float64 sums.
    """
    lost = total = 0.0
    pairs = zip(layer.x.split(4096), layer.xq.split(4096), strict=True)
    for x, xq in pairs:
        wanted = x @ layer.weight.T
        got = xq @ quantized.T
        lost += float((wanted - got).double().square().sum())
        total += float(wanted.double().square().sum())
    return (lost / total) ** 0.5
