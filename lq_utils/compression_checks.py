"""What a compressed network promises, counted on its weights."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd
from torch import Tensor, nn

from lq_utils.parametrizations import CompressionError, FakeQuantize
from lq_utils.pruning import kept_count
from lq_utils.stacks import find, layers_of, weight_before


def distinct(values: Tensor) -> int:
    """Number of distinct values. Introduced in chapter 4."""
    return len(np.unique(values.detach().cpu().numpy() + 0.0))


def weight_codes(layer: nn.Module) -> Tensor | None:
    """Index (int64, the weight's shape) of every weight's level on its
    grid; None where the layer is not fake quantized.

    With the narrow alphabet of b bits the integer that is stored is
    code - (2^(b-1) - 1). Introduced in chapter 4.
    """
    quantize = find(layer, FakeQuantize)
    if quantize is None:
        return None
    return quantize.codes(weight_before(layer, FakeQuantize))


def layer_values(model: nn.Module) -> pd.DataFrame:
    """One row a layer: how many values its weights take.

    Columns: layer, parameters (of the kernel), distinct (float values as
    used), distinct_before (before fake quantization), codes (distinct
    codes in the channel with most of them, or in the tensor where it has
    one scale; missing without fake quantization), zero_share (0 to 1).

    Introduced in chapter 4.
    """
    rows = []
    for name, layer in layers_of(model).items():
        weight = layer.weight
        assert isinstance(weight, Tensor)
        rows.append(
            {
                "layer": name,
                "parameters": weight.numel(),
                "distinct": distinct(weight),
                "distinct_before": distinct(
                    weight_before(layer, FakeQuantize)
                ),
                "codes": _most_codes(layer),
                "zero_share": float((weight == 0).double().mean()),
            }
        )
    return pd.DataFrame(rows).astype({"codes": "Int64"})


def _most_codes(layer: nn.Module) -> int | None:
    codes, quantize = weight_codes(layer), find(layer, FakeQuantize)
    if codes is None or quantize is None:
        return None
    if quantize.granularity == "tensor":
        return distinct(codes)
    return max(distinct(channel) for channel in codes)


def check_distinct(
    model: nn.Module, most: int, skip: Iterable[str] = ()
) -> None:
    """Raise where a layer has more than ``most`` values.

    Counted are float values before fake quantization, and codes after it,
    which with a scale a channel are those of the channel with most.
    Checked before ``strip``, which leaves the product of code and scale.

    Raises:
        CompressionError: with the layer and the number of its values.

    Introduced in chapter 4.
    """
    kept = layers_of(model, skip)
    for row in layer_values(model).itertuples():
        if row.layer not in kept:
            continue
        counts = {"values": row.distinct_before, "codes": row.codes}
        for what, count in counts.items():
            if not pd.isna(count) and count > most:
                raise CompressionError(
                    f"{row.layer} has {count} distinct {what}, {most} allowed"
                )


def check_sparse(
    model: nn.Module, least: float, skip: Iterable[str] = ()
) -> None:
    """Raise where a layer has too small a share of zeros.

    A layer of ``n`` weights may have max(round(n (1 - least)), 1) that
    are not zero.

    Raises:
        CompressionError: with the layer and the number of its weights.

    Introduced in chapter 4.
    """
    for name, layer in layers_of(model, skip).items():
        weight = layer.weight
        assert isinstance(weight, Tensor)
        used, allowed = (
            int((weight != 0).sum()),
            kept_count(weight.numel(), least),
        )
        if used > allowed:
            raise CompressionError(
                f"{name} has {used} weights that are not zero, {allowed} "
                "allowed"
            )
