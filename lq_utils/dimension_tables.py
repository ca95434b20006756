"""Tables of chapter 5: dimensions of layers, ours and the thesis's.

Rows are those of ``dimension_study``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from lq_utils.components import component_counts
from lq_utils.compression_scores import thesis_value
from lq_utils.dimension import scaling_curve, two_nearest_neighbors
from lq_utils.dimension_study import (
    CHANNELS,
    FLATTENED,
    LAYERS,
    METHODS,
    RECTIFIED,
    SHARES,
)
from lq_utils.layer_outputs import INPUT
from lq_utils.nearest import DimensionError
from lq_utils.significance import layer_steps, significant_layers
from lq_utils.stats import mean_interval

ORDER = (INPUT, *LAYERS)
THESIS_DOMAINS = ("source", "target")
# Their first and last layer always keep full precision.
ENDS = ("conv1",)


def known_table(shapes: Mapping[int, np.ndarray]) -> pd.DataFrame:
    """Estimates for points of known dimension, a line each.

    ``shapes`` maps the true dimension to points ``[N, D]``. Columns: one a
    method of TwoNN, the standard error of the regression, and principal
    components that hold 99 per cent.

    Introduced in chapter 5.
    """
    lines = []
    for truth, points in shapes.items():
        found = {m: two_nearest_neighbors(points, m) for m in METHODS}
        line: dict[str, float] = {"true": truth, "points": len(points)}
        line |= {m: estimate.value for m, estimate in found.items()}
        line["error"] = found["regression"].error
        line["PCA 99 %"] = component_counts(points, (0.99,))[0.99]
        lines.append(line)
    return pd.DataFrame(lines)


def scaling_table(
    shapes: Mapping[int, np.ndarray], halvings: int, seed: int
) -> pd.DataFrame:
    """Scaling curves of points of known dimension, one below the other.

    Columns: those of ``scaling_curve``, ``name`` and ``truth``.

    Introduced in chapter 5.
    """
    curves = [
        scaling_curve(points, halvings, seed=seed).assign(
            name=f"cube of {truth} dimensions", truth=truth
        )
        for truth, points in shapes.items()
    ]
    return pd.concat(curves, ignore_index=True)


def chosen_rows(
    rows: pd.DataFrame,
    method: str,
    output: str = RECTIFIED,
    view: str | None = None,
    parts: int = 1,
) -> pd.DataFrame:
    """Rows of one method on one kind of output, with so many parts.

    ``view`` is left to the method: channels for PCA, flattened for TwoNN.
    Raises DimensionError where there is none. Introduced in chapter 5.
    """
    if view is None:
        view = CHANNELS if method in SHARES else FLATTENED
    same = (rows["method"] == method) & (rows["view"] == view)
    same &= (rows["output"] == output) & (rows["parts"] == parts)
    found = rows[same]
    if found.empty:
        raise DimensionError(
            f"no row of {method!r} ({view}, {output}, {parts} parts): methods "
            f"there are {', '.join(map(str, rows['method'].unique()))}"
        )
    return found


def profiles(rows: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Mean dimension of each layer over networks, with an interval.

    ``rows`` are :func:`chosen_rows`; ``by`` tells profiles apart. Columns:
    ``by``, layer, value, low, high (Student's over networks, NaN for one),
    error (half of that) and networks.

    Introduced in chapter 5.
    """
    lines = []
    for keys, own in rows.groupby([*by, "layer"], sort=False):
        found = mean_interval(own["value"])
        line = dict(zip([*by, "layer"], keys, strict=True))
        line |= {"value": found.value, "low": found.low, "high": found.high}
        line["error"] = (found.high - found.low) / 2
        line["networks"] = len(own)
        lines.append(line)
    return pd.DataFrame(lines)


def part_errors(rows: pd.DataFrame, method: str) -> pd.DataFrame:
    """Standard error of one network's dimensions, from disjoint parts.

    Columns: layer, value (of all points), error (standard deviation over
    the smallest parts, over the root of their number; NaN without parts).
    ``rows`` are of one network. Introduced in chapter 5.
    """
    most = int(rows["parts"].max())
    whole = chosen_rows(rows, method).set_index("layer")["value"]
    split = chosen_rows(rows, method, parts=most).groupby("layer", sort=False)
    error = split["value"].std(ddof=1) / math.sqrt(most)
    table = pd.DataFrame({"value": whole, "error": error.reindex(whole.index)})
    return table.rename_axis("layer").reset_index()


def thesis_dimensions(
    rows: pd.DataFrame, domains: Mapping[str, str]
) -> pd.DataFrame:
    """Table 4.6 beside ours: a line a domain and layer.

    ``domains`` maps the thesis's ("source", "target") to tasks in
    ``rows``. Columns: for each method ours (mean over networks), and for
    those of the thesis what it prints.

    Raises DimensionError for an unknown domain or without rows.
    Introduced in chapter 5.
    """
    lines = []
    for domain, task in domains.items():
        if domain not in THESIS_DOMAINS:
            raise DimensionError(
                f"domain {domain!r}: the thesis has {THESIS_DOMAINS}"
            )
        own = rows[rows["task"] == task]
        values = {
            name: chosen_rows(own, name).groupby("layer")["value"].mean()
            for name in (*METHODS[:2], *SHARES)
        }
        for layer in ORDER:
            line: dict[str, object] = {"domain": domain, "task": task}
            line["layer"] = layer
            line |= {name: found[layer] for name, found in values.items()}
            printed = thesis_columns(domain).items()
            line |= {name: column[layer] for name, column in printed}
            lines.append(line)
    return pd.DataFrame(lines)


def dimensions_of(rows: pd.DataFrame) -> dict[str, float]:
    """Mean dimension by layer, the input first, in the network's order.

    ``rows`` are :func:`chosen_rows`. Introduced in chapter 5.
    """
    means = rows.groupby("layer")["value"].mean()
    return {layer: float(means[layer]) for layer in ORDER}


def thesis_columns(domain: str) -> dict[str, dict[str, float]]:
    """Dimensions by layer that table 4.6 prints, for each of its columns.

    Source: QuantNET thesis, table 4.6. Introduced in chapter 5.
    """
    return {
        f"thesis, {name}": {
            layer: thesis_value(
                "table 4.6",
                "intrinsic dimension",
                domain=domain,
                layer=layer,
                method=name,
            )
            for layer in ORDER
        }
        for name in ("TwoNN", "TwoNN*", "PCA")
    }


def significance_table(
    dimensions: Mapping[str, Mapping[str, float]], threshold: float
) -> pd.DataFrame:
    """Steps of several methods, and what both rules make of them.

    ``dimensions`` maps a method to dimensions by layer. A line a method:
    the steps, and the layers chosen by the absolute and the signed rule.

    Introduced in chapter 5.
    """
    lines = []
    for name, values in dimensions.items():
        steps = layer_steps(values).set_index("layer")["step"]
        line: dict[str, object] = {"method": name, **steps.to_dict()}
        for rule in ("absolute", "signed"):
            chosen = significant_layers(values, threshold, rule, ENDS)
            line[f"{rule} > {threshold:g}"] = ", ".join(chosen) or "none"
        lines.append(line)
    return pd.DataFrame(lines)


def resamples(
    rows: pd.DataFrame, method: str, parts: int = 1, output: str = RECTIFIED
) -> pd.DataFrame:
    """Dimensions as ``selection_stability`` wants them.

    A row a network and part of the images, a column a layer.

    Introduced in chapter 5.
    """
    own = chosen_rows(rows, method, output=output, parts=parts)
    wide = own.pivot_table(
        index=["seed", "part"], columns="layer", values="value"
    )
    return wide[list(ORDER)]


def reading_table(rows: pd.DataFrame) -> pd.DataFrame:
    """What TwoNN* may be: dimensions by reading, and how far from it.

    ``rows`` are those of ``candidate_rows``. The last column is the mean
    over layers of |log2| of the ratio to the thesis's TwoNN* (source
    domain); the last line is the thesis's.

    Introduced in chapter 5.
    """
    wide = rows.pivot_table(
        index="reading", columns="layer", values="value", sort=False
    )[list(ORDER)]
    printed = pd.Series(thesis_columns("source")["thesis, TwoNN*"])
    ratio = wide.where(wide > 0) / printed
    wide["mean |log2 ratio|"] = np.log2(ratio).abs().mean(axis=1)
    wide.loc["the thesis's TwoNN*"] = printed
    return wide.rename_axis("reading").reset_index()
