"""What the thesis says of dimensions, beside ours, and verdicts on it.

Rows are those of ``dimension_study``.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from lq_utils.compression_scores import thesis_value
from lq_utils.dimension_study import LAYERS, METHODS, SHARES
from lq_utils.dimension_tables import ENDS, ORDER, chosen_rows
from lq_utils.layer_outputs import INPUT
from lq_utils.nearest import DimensionError
from lq_utils.significance import layer_steps, significant_layers

THESIS_DOMAINS = ("source", "target")
MAPS = (INPUT, "conv1", "conv2")


def thesis_verdicts(
    rows: pd.DataFrame, domains: Mapping[str, str]
) -> pd.DataFrame:
    """What section 4.2.5 says of dimensions, tested over networks.

    ``rows`` are of trained networks. A line a statement: how many of the
    networks agree, and "holds" (nine of ten at least, of five or more),
    "does not hold" (half of them or fewer) or "not decided".

    Source: QuantNET thesis, section 4.2.5. Introduced in chapter 5.
    """
    two = {
        domain: _by_network(rows[rows["task"] == task], "regression")
        for domain, task in domains.items()
    }
    parts = [_by_network(rows, m) for m in ("regression", "PCA 99 %")]
    target = two["target"]
    steps = target.diff(axis=1).abs()[list(LAYERS[1:])]
    shared = two["source"].index.intersection(target.index)
    gap = (two["source"].loc[shared] - target.loc[shared]).abs()
    statements = {
        "hunchback by TwoNN: rises, then falls": _humps(parts[0]),
        "hunchback by PCA (99 %, channels)": _humps(parts[1]),
        "conv2 changes the dimension least": steps.idxmin(axis=1) == "conv2",
        "linear1 changes it most": steps.idxmax(axis=1) == "linear1",
        "source and target within 10 % in each layer": (
            gap <= 0.1 * target.loc[shared]
        ).all(axis=1),
    }
    lines = []
    for name, agree in statements.items():
        share, count = float(agree.mean()), len(agree)
        verdict = "holds" if share >= 0.9 else "not decided"
        if share <= 0.5:
            verdict = "does not hold"
        if count < 5:
            verdict = "not decided"
        lines.append(
            {"statement": name, "networks": count, "agree": share}
            | {"verdict": verdict}
        )
    return pd.DataFrame(lines)


def _by_network(rows: pd.DataFrame, method: str) -> pd.DataFrame:
    """A row a network, a column a layer, in order."""
    own = chosen_rows(rows, method)
    wide = own.pivot_table(
        index=["task", "seed"], columns="layer", values="value"
    )
    if own["task"].nunique() == 1:
        wide = wide.droplevel("task")
    return wide[list(ORDER)]


def _humps(dimensions: pd.DataFrame) -> pd.Series:
    """Whether the largest is neither the input nor the last layer."""
    top = dimensions.idxmax(axis=1)
    humps: pd.Series = ~top.isin([ORDER[0], ORDER[-1]])
    return humps


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


def reading_table(rows: pd.DataFrame) -> pd.DataFrame:
    """What TwoNN* may be: dimensions by reading, and how far from it.

    ``rows`` are those of ``candidate_rows``. The last column is the mean
    over the input and the convolutions of |log2| of the ratio to the
    thesis's TwoNN* (source domain); the last line is the thesis's.

    Introduced in chapter 5.
    """
    wide = rows.pivot_table(
        index="reading", columns="layer", values="value", sort=False
    )[list(ORDER)]
    printed = pd.Series(thesis_columns("source")["thesis, TwoNN*"])
    ratio = wide.where(wide > 0) / printed
    # A reading without a value for some map is not judged.
    off = np.log2(ratio[list(MAPS)]).abs()
    wide["mean |log2 ratio|"] = off.mean(axis=1, skipna=False)
    wide.loc["the thesis's TwoNN*"] = printed
    return wide.rename_axis("reading").reset_index()
