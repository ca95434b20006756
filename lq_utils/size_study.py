"""Cells of the sizes in chapter 10: one network on one grid, all coders."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from lq_utils.cells import Cell, cell_grid
from lq_utils.code_sizes import (
    CHUNK,
    CODERS,
    CodeSizeError,
    Layers,
    file_sizes,
    grid_codes,
)
from lq_utils.engine import ENGINE, modules
from lq_utils.grids import Grid, alphabet
from lq_utils.scales import fit_grid
from lq_utils.size_networks import (
    available_weights,
    first_rows,
    layer_weights,
    share_within,
    weight_count,
)

CODE = ENGINE + modules(
    "backbones code_sizes packing size_networks size_study"
)

# The poster's names, and our alphabets; both have one scale a layer.
QUANTIZERS = {"uniform": "asymmetric", "power-of-two": "power-of-two"}


def rounded_codes(
    network: str,
    weights: str,
    quantizer: str,
    bits: int,
    share: float = 1.0,
    seed: int = 0,
) -> Layers:
    """Codes uint8 of a network's layers, rounded without any image.

    ``quantizer`` is ``"uniform"`` or ``"power-of-two"``; one scale a
    layer, which covers the largest weight of the whole layer, also where
    only a ``share`` of its rows is turned into codes. The others as
    ``layer_weights``, whose errors it raises, and those of
    ``first_rows``. Introduced in chapter 10.
    """
    letters = alphabet(QUANTIZERS[quantizer], bits)
    po2 = quantizer == "power-of-two"
    found = {}
    for name, w in layer_weights(network, weights, seed).items():
        grid = fit_grid(w, letters, "tensor", "max", power_of_two=po2)
        found[name] = _codes(first_rows(w, share), grid)
    return found


def _codes(weight: Tensor, grid: Grid) -> np.ndarray:
    """A few rows at a time: a layer of VGG-16 has 100 million weights."""
    rows = weight.split(max(1, CHUNK // weight.shape[1]))
    return np.concatenate([grid_codes(grid.round(w), grid) for w in rows])


def size_cells(
    networks: Sequence[str],
    bits: Sequence[int],
    limits: Sequence[int],
    seed: int,
) -> list[Cell]:
    """Cells of :func:`size_rows`: both grids, all coders.

    Weights are ImageNet's or the book's where they are on this machine,
    else Gaussian. ``limits`` say about how many weights of each network
    (0: all), for each of ``bits``, or one number for all of them.

    Raises CodeSizeError for another number of limits. Introduced in
    chapter 10.
    """
    if len(limits) not in (1, len(bits)):
        raise CodeSizeError(
            f"{len(limits)} limits of weights for {len(bits)} widths: give "
            "one for all, or one for each"
        )
    each = dict(zip(bits, [*limits] * len(bits), strict=False))
    cells = []
    for name in networks:
        kind = available_weights(name)
        shares = {b: share_within(name, kind, n) for b, n in each.items()}
        own = cell_grid(
            network=[name],
            weights=[kind],
            quantizer=list(QUANTIZERS),
            bits=bits,
            coders=[CODERS.names()],
            seed=[seed],
        )
        cells += [cell | {"share": shares[cell["bits"]]} for cell in own]
    return cells


def size_rows(
    network: str,
    weights: str,
    quantizer: str,
    bits: int,
    share: float,
    coders: tuple[str, ...],
    seed: int,
) -> list[dict[str, Any]]:
    """Cell: file sizes of a network's codes, one row a coder.

    Columns: coder (also ``"packed"``, ``"entropy"``, ``"packed, gzip"``),
    bytes (of the share), measured and total (numbers of weights),
    bits_a_weight. Raises as :func:`rounded_codes` and ``file_sizes``.
    Introduced in chapter 10.
    """
    layers = rounded_codes(network, weights, quantizer, bits, share, seed)
    measured = sum(codes.size for codes in layers.values())
    total = weight_count(network, weights)
    return [
        {
            "coder": name,
            "bytes": size,
            "measured": measured,
            "total": total,
            "bits_a_weight": 8 * size / measured,
        }
        for name, size in file_sizes(layers, bits, coders).items()
    ]
