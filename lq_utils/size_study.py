"""Cells of the sizes in chapter 7: one network on one grid, all coders."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lq_utils.cells import Cell, cell_grid
from lq_utils.code_sizes import CODERS, Layers, file_sizes, grid_codes
from lq_utils.engine import ENGINE, modules
from lq_utils.grids import alphabet
from lq_utils.scales import fit_grid
from lq_utils.size_networks import (
    available_weights,
    layer_weights,
    share_within,
    weight_count,
)

CODE = ENGINE + modules("backbones code_sizes packing size_networks")

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
    layer, which covers the largest weight. The others as
    ``layer_weights``, whose errors it raises. Introduced in chapter 7.
    """
    letters = alphabet(QUANTIZERS[quantizer], bits)
    po2 = quantizer == "power-of-two"
    found = {}
    for name, w in layer_weights(network, weights, share, seed).items():
        grid = fit_grid(w, letters, "tensor", "max", power_of_two=po2)
        found[name] = grid_codes(grid.round(w), grid)
    return found


def size_cells(
    networks: Sequence[str], bits: Sequence[int], limit: int, seed: int
) -> list[Cell]:
    """Cells of :func:`size_rows`: both grids, all coders.

    Weights are ImageNet's or the book's where they are on this machine,
    else Gaussian; of each network about ``limit`` weights (0: all).
    Introduced in chapter 7.
    """
    cells = []
    for name in networks:
        kind = available_weights(name)
        cells += cell_grid(
            network=[name],
            weights=[kind],
            quantizer=list(QUANTIZERS),
            bits=bits,
            share=[share_within(name, kind, limit)],
            coders=[CODERS.names()],
            seed=[seed],
        )
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
    Introduced in chapter 7.
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
