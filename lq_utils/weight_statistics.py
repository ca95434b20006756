"""What rounding does to the weights: quartiles, range, mean, zeros, noise.

One row a tensor or a channel, before and after, without any image.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor, nn

from lq_utils.graph import fold_batch_norm, trace, weight_matrix
from lq_utils.lockstep import Quantized

QUARTILES = {"q1": 25, "median": 50, "q3": 75}
SCALES = ("tensor", "channel")


class StatisticsError(ValueError):
    """Weights cannot be compared.

    Introduced in chapter 7.
    """


def _as_rows(weight: Tensor, per: str) -> np.ndarray:
    values = weight.detach().double().cpu().flatten(1).numpy()
    return values.reshape(1, -1) if per == "tensor" else values


def _ratio(top: np.ndarray, bottom: np.ndarray) -> np.ndarray:
    """NaN where the divisor is 0: what was not there cannot be kept."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(bottom > 0, top / bottom, np.nan)


def _noise_ratio(rows: np.ndarray, rounded: np.ndarray) -> np.ndarray:
    signal = (rows**2).sum(axis=1)
    noise = ((rows - rounded) ** 2).sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        decibel = 10 * np.log10(signal / noise)
    return np.where(signal > 0, decibel, np.nan)


def rounding_statistics(
    original: Tensor, quantized: Tensor, per: str = "channel"
) -> pd.DataFrame:
    """Statistics of one layer before and after rounding.

    ``original`` and ``quantized`` are float ``[K, ...]``; one row an
    output channel, or a single one for the tensor. Columns: channel (from
    0; -1 for the tensor), weights, q1, median, q3, low, high and the same
    of the rounded ones (``q1_after`` ...), ``range_kept`` (high - low
    after over before), ``mean_shift`` (mean after less mean before, in
    standard deviations of the original), ``zeros_before`` and ``zeros``
    (share of exact zeros, 0 to 1, the poster's local sparsity), ``sqnr_db``
    (10 log10 of squared weights over squared errors; infinite without
    error). What a constant or zero row does not have is NaN.

    Raises StatisticsError for shapes that differ, empty weights, values
    that are not finite, or another ``per``.

    Source: bit-efficient poster, first figure. Introduced in chapter 7.
    """
    if per not in SCALES:
        raise StatisticsError(f"per={per!r}: choose one of {SCALES}")
    if original.shape != quantized.shape or original.numel() == 0:
        raise StatisticsError(
            f"weights {list(original.shape)} and {list(quantized.shape)}: "
            "give the same layer before and after, with weights in it"
        )
    rows, after = _as_rows(original, per), _as_rows(quantized, per)
    if not (np.isfinite(rows).all() and np.isfinite(after).all()):
        raise StatisticsError("weights hold NaN or infinite values")
    shift = after.mean(axis=1) - rows.mean(axis=1)
    columns: dict[str, Any] = {
        "channel": [-1] if per == "tensor" else np.arange(len(rows)),
        "weights": rows.shape[1],
        **_five_numbers(rows, ""),
        **_five_numbers(after, "_after"),
        "range_kept": _ratio(np.ptp(after, axis=1), np.ptp(rows, axis=1)),
        "mean_shift": _ratio(shift, rows.std(axis=1)),
        "zeros_before": (rows == 0).mean(axis=1),
        "zeros": (after == 0).mean(axis=1),
        "sqnr_db": _noise_ratio(rows, after),
    }
    return pd.DataFrame(columns)


def _five_numbers(rows: np.ndarray, suffix: str) -> dict[str, np.ndarray]:
    quartiles = np.percentile(rows, list(QUARTILES.values()), axis=1)
    found = dict(zip(QUARTILES, quartiles, strict=True))
    found |= {"low": rows.min(axis=1), "high": rows.max(axis=1)}
    return {name + suffix: values for name, values in found.items()}


def network_statistics(
    network: nn.Module, quantized: Quantized, per: str = "tensor"
) -> pd.DataFrame:
    """Rows of ``rounding_statistics`` for all quantized layers.

    ``network`` is what ``quantized`` was made from; it is folded where
    that was. Columns: layer, then those of ``rounding_statistics``.

    Raises TraceError and StatisticsError. Introduced in chapter 7.
    """
    original = trace(network)
    original = fold_batch_norm(original) if quantized.fold else original
    tables = []
    for name in quantized.grids:
        before = weight_matrix(original.get_submodule(name))
        after = weight_matrix(quantized.model.get_submodule(name))
        found = rounding_statistics(before, after, per)
        found.insert(0, "layer", name)
        tables.append(found)
    if not tables:
        raise StatisticsError("no layer is quantized: give a plan with bits")
    return pd.concat(tables, ignore_index=True)


def summarised(table: pd.DataFrame) -> dict[str, float]:
    """One line for many rows of ``rounding_statistics``.

    Weighted by the number of weights: ``zeros`` (share), ``mean_shift``
    (mean magnitude, standard deviations). Medians over rows:
    ``range_kept``, ``sqnr_db``. ``lost`` is the share of rows of which
    nothing but zeros is left.

    Introduced in chapter 7.
    """
    n = table["weights"].to_numpy()
    gone = (table["zeros"] == 1) & (table["zeros_before"] < 1)
    shift = table["mean_shift"].abs().fillna(0.0).to_numpy()
    return {
        "zeros": float(np.average(table["zeros"], weights=n)),
        "mean_shift": float(np.average(shift, weights=n)),
        "range_kept": float(table["range_kept"].median()),
        "sqnr_db": float(table["sqnr_db"].median()),
        "lost": float(gone.mean()),
    }
