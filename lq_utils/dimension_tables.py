"""Tables of chapter 5: dimensions of layers, ours and the thesis's.

Rows are those of ``dimension_study``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from lq_utils.components import component_counts
from lq_utils.dimension import scaling_curve, two_nearest_neighbors
from lq_utils.dimension_study import (
    CHANNELS,
    FLATTENED,
    LAYERS,
    METHODS,
    RECTIFIED,
    SHARES,
)
from lq_utils.gride import gride_curve
from lq_utils.layer_outputs import INPUT
from lq_utils.nearest import DimensionError
from lq_utils.stats import mean_interval

ORDER = (INPUT, *LAYERS)
# Their first and last layer always keep full precision.
ENDS = ("conv1",)


def known_table(shapes: Mapping[int, np.ndarray]) -> pd.DataFrame:
    """Estimates for points of known dimension, a line each.

    ``shapes`` maps the true dimension to points ``[N, D]``. Columns: one a
    method of TwoNN, the standard error of the regression, the scale (mean
    distance of the second neighbour), and principal components that hold
    99 per cent.

    Introduced in chapter 5.
    """
    lines = []
    for truth, points in shapes.items():
        found = {m: two_nearest_neighbors(points, m) for m in METHODS}
        line: dict[str, float] = {"true": truth, "points": len(points)}
        line |= {m: estimate.value for m, estimate in found.items()}
        line["error"] = found["regression"].error
        line["scale"] = found["regression"].scale
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
            name=f"{truth} dimensions", truth=truth
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


def learned_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Trained less untrained, over networks: a line a task and layer.

    ``rows`` are :func:`chosen_rows` of both (column ``trained``). Columns:
    task, layer, difference (dimensions) with difference_low and
    difference_high (Student's over networks, NaN for one), networks.

    Introduced in chapter 5.
    """
    wide = rows.pivot_table(
        index=["task", "layer", "seed"], columns="trained", values="value"
    )
    change = (wide[True] - wide[False]).reset_index(name="value")
    change["layer"] = pd.Categorical(change["layer"], ORDER)
    found = profiles(change.sort_values(["task", "layer"]), ["task"])
    new = {"value": "difference", "low": "difference_low"}
    found = found.rename(columns=new | {"high": "difference_high"})
    return found.drop(columns="error")


def gride_table(
    outputs: Mapping[str, np.ndarray], largest_rank: int
) -> pd.DataFrame:
    """GRIDE of layer outputs ``[N, ...]``: a line a rank, a column a layer.

    Raises DimensionError as ``gride_curve``. Introduced in chapter 5.
    """
    curves = {
        name: gride_curve(x.reshape(len(x), -1), largest_rank)
        for name, x in outputs.items()
    }
    columns = {k: c.set_index("rank_far")["value"] for k, c in curves.items()}
    return pd.DataFrame(columns).reset_index()


def flat_twin_table(images: np.ndarray, seed: int) -> pd.DataFrame:
    """Points, and a Gaussian cloud with the same principal variances.

    ``images`` are float ``[N, ...]``. The cloud is flat in all its
    directions; what TwoNN and PCA say of it needs no curvature. A line
    each: TwoNN by regression, components that hold 95 and 99 per cent.

    Introduced in chapter 5.
    """
    flat = images.reshape(len(images), -1).astype(np.float64)
    flat -= flat.mean(axis=0)
    sizes = np.linalg.svd(flat, compute_uv=False)
    rng = np.random.default_rng(seed)
    twin = rng.normal(size=(len(flat), len(sizes))) * sizes
    lines = []
    for name, cloud in (("images", flat), ("flat twin", twin)):
        line: dict[str, object] = {"points": name}
        line["TwoNN"] = two_nearest_neighbors(cloud, blocks=None).value
        line |= {
            f"PCA {share:.0%}": count
            for share, count in component_counts(cloud).items()
        }
        lines.append(line)
    return pd.DataFrame(lines)


def reference_profiles(
    rows: pd.DataFrame, methods: Sequence[str]
) -> pd.DataFrame:
    """Dimension by block of a trained and an untrained reference network.

    ``rows`` are those of ``reference_rows``. Columns: method, network,
    layer (number of the block), value (of all points), error (standard
    error over the disjoint parts).

    Introduced in chapter 5.
    """
    rows = rows[rows["method"].isin(methods)]
    most = int(rows["parts"].max())
    keys = ["method", "trained", "block"]
    whole = rows[rows["parts"] == 1].groupby(keys, sort=False)["value"].first()
    split = rows[rows["parts"] == most].groupby(keys)["value"]
    error = split.std(ddof=1) / math.sqrt(most)
    table = pd.DataFrame({"value": whole, "error": error.reindex(whole.index)})
    table = table.reset_index().rename(columns={"block": "layer"})
    names = table["trained"].map({True: "trained", False: "untrained"})
    return table.assign(network=names).drop(columns="trained")


def part_errors(rows: pd.DataFrame, method: str) -> pd.DataFrame:
    """Standard error of one network's dimensions, from disjoint parts.

    Columns: layer, value (of all points), error (standard deviation over
    the smallest parts, over the root of their number; NaN without parts),
    scale (mean distance of the second neighbour, of all points). ``rows``
    are of one network. Introduced in chapter 5.
    """
    most = int(rows["parts"].max())
    own = chosen_rows(rows, method).set_index("layer")
    whole = own["value"]
    split = chosen_rows(rows, method, parts=most).groupby("layer", sort=False)
    error = split["value"].std(ddof=1) / math.sqrt(most)
    table = pd.DataFrame({"value": whole, "error": error.reindex(whole.index)})
    table["scale"] = own["scale"]
    return table.rename_axis("layer").reset_index()


def dimensions_of(rows: pd.DataFrame) -> dict[str, float]:
    """Mean dimension by layer, the input first, in the network's order.

    ``rows`` are :func:`chosen_rows`. Introduced in chapter 5.
    """
    means = rows.groupby("layer")["value"].mean()
    return {layer: float(means[layer]) for layer in ORDER}


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
