"""What one image costs a network: products, bit operations, bytes moved.

A proxy of energy that needs no meter: the energy of a product grows with
the widths of both factors, and moving bytes costs more than computing.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from lq_utils.registry import did_you_mean

FLOAT_BITS = 32
MAX_BITS = 64
COLUMNS = (
    "layer",
    "kind",
    "macs",
    "weights",
    "biases",
    "inputs",
    "outputs",
    "weight_bits",
    "activation_bits",
    "bit_operations",
    "bytes",
)

Bits = int | Mapping[str, int | None]


class CostError(ValueError):
    """The cost of a network cannot be counted.

    Introduced in chapter 4.
    """


def inference_cost(
    model: nn.Module,
    image_shape: tuple[int, int, int] = (3, 32, 32),
    weight_bits: Bits = FLOAT_BITS,
    activation_bits: Bits = FLOAT_BITS,
) -> pd.DataFrame:
    """Cost of one image, a row for each convolution and linear layer.

    ``macs`` counts products (multiply-accumulates, those with padding
    included); ``weights``, ``biases``, ``inputs`` and ``outputs`` count
    values. ``bit_operations`` are ``macs * weight_bits *
    activation_bits``. ``bytes`` are those of weights, inputs and outputs,
    each moved once at its width, and of 32-bit biases. Poolings,
    normalizations and additions are not counted.

    Args:
        model: any network; it stays as it is.
        image_shape: channels, height, width.
        weight_bits: one width for all layers, or layer name to width;
            layers that are missing or None there have 32 bits.
        activation_bits: likewise, of what a layer reads and writes.

    Raises:
        CostError: images that do not fit, unknown layers, or widths out
            of 1 ... 64.

    Source: bit operations as in Baskin et al. 2021, UNIQ (there
    with the additions). Introduced in chapter 4.
    """
    counts = _counts(model, image_shape)
    weight = _widths(weight_bits, counts)
    activation = _widths(activation_bits, counts)
    rows = []
    for name, row in counts.items():
        moved = (
            row["weights"] * weight[name]
            + (row["inputs"] + row["outputs"]) * activation[name]
            + row["biases"] * FLOAT_BITS
        )
        rows.append(
            {
                "layer": name,
                **row,
                "weight_bits": weight[name],
                "activation_bits": activation[name],
                "bit_operations": row["macs"]
                * weight[name]
                * activation[name],
                "bytes": moved / 8,
            }
        )
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _counts(
    model: nn.Module, image_shape: tuple[int, int, int]
) -> dict[str, dict[str, Any]]:
    """Layer name to its sizes, by one forward pass of a blank image."""
    model = copy.deepcopy(model).cpu().eval()
    counts: dict[str, dict[str, Any]] = {}
    for name, module in model.named_modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            module.register_forward_hook(_counter(counts, name))
    try:
        with torch.inference_mode():
            model(torch.zeros(1, *image_shape))
    except (RuntimeError, TypeError) as error:
        raise CostError(
            f"an image of shape {list(image_shape)} does not go through the "
            f"network ({error})"
        ) from error
    return counts


def _counter(counts: dict[str, dict[str, Any]], name: str) -> Any:
    def hook(
        layer: nn.Conv2d | nn.Linear, x: tuple[Tensor, ...], y: Tensor
    ) -> None:
        new = {
            # Each output is a sum over the weights of one row.
            "macs": y.numel() * layer.weight[0].numel(),
            "weights": layer.weight.numel(),
            "biases": 0 if layer.bias is None else layer.bias.numel(),
            "inputs": x[0].numel(),
            "outputs": y.numel(),
        }
        # A layer that is used twice is read twice.
        old = counts.get(name, dict.fromkeys(new, 0))
        kind = "conv" if isinstance(layer, nn.Conv2d) else "linear"
        total = {key: old[key] + value for key, value in new.items()}
        counts[name] = {"kind": kind, **total}

    return hook


def _widths(bits: Bits, layers: Mapping[str, Any]) -> dict[str, int]:
    given = dict.fromkeys(layers, bits) if isinstance(bits, int) else bits
    for name, width in given.items():
        if name not in layers:
            raise CostError(
                f"no layer '{name}' is used by the network"
                f"{did_you_mean(name, layers)}"
            )
        if width is not None and not 1 <= width <= MAX_BITS:
            raise CostError(
                f"{width} bits for layer '{name}': give 1 to {MAX_BITS}, or "
                "None for 32"
            )
    return {name: given.get(name) or FLOAT_BITS for name in layers}
