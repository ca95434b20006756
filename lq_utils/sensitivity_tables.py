"""Tables of the study of sensitivities; rows are ``sensitivity_rows``."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from lq_utils.intervals import Interval, mean_interval
from lq_utils.relations import spearman
from lq_utils.sensitivity_study import EXACT
from lq_utils.stats import holm, paired

# What quantizing one layer does to images held out.
MEASURES = {
    "accuracy": "drop of accuracy",
    "loss": "rise of the loss",
    "held_out_divergence": "KL divergence",
}


# What the layers' costs for a subset are compared with.
COMPARED = ("same subset, other images", "another subset", "all classes")


def part(rows: pd.DataFrame, name: str) -> pd.DataFrame:
    """The rows of one part, without the columns that it does not use.

    Introduced in chapter 9.
    """
    own = rows[rows["part"] == name].dropna(axis=1, how="all")
    whole = {"bits_of_layer", "evaluation", "hits", "n"} & set(own.columns)
    # Beside parts without them, whole numbers had become floats.
    return own.astype(dict.fromkeys(whole, int))


def cost_map(
    rows: pd.DataFrame, kind: str, bits: int, draw: int
) -> pd.DataFrame:
    """Costs at so many bits: a row a layer, a column a subset (its key).

    Layers and subsets are in the order of the rows. Introduced in
    chapter 9.
    """
    own = part(rows, "cost")
    own = own[(own["kind"] == kind) & (own["draw"] == draw)]
    own = own[own["bits_of_layer"] == bits]
    wide = own.pivot(index="layer", columns="subset", values="cost")
    return wide.loc[own["layer"].unique(), own["subset"].unique()]


def measured(rows: pd.DataFrame) -> pd.DataFrame:
    """What quantizing a layer alone does: subset, draw, layer, bits.

    Columns ``accuracy`` (what is lost, points), ``loss`` (what it rises
    by, nats) and ``held_out_divergence`` (nats). Introduced in chapter 9.
    """
    keys = ["subset", "draw"]
    single = part(rows, "single")
    first = part(rows, "original").set_index(keys)[["hits", "n", "loss"]]
    both = single.join(first.add_suffix("_original"), on=keys)
    lost = both["hits_original"] - both["hits"]
    return pd.DataFrame(
        {
            **{key: both[key] for key in [*keys, "layer", "bits_of_layer"]},
            "accuracy": 100 * lost / both["n"],
            "loss": both["loss"] - both["loss_original"],
            "held_out_divergence": both["held_out_divergence"],
        }
    )


def _mean(values: Iterable[float]) -> Interval:
    """Mean with Student's interval of what is defined; else NaN."""
    known = [v for v in values if not math.isnan(v)]
    if not known:
        return Interval(math.nan, math.nan, math.nan, 0, 0.95)
    return mean_interval(known)


def _mean_correlation(values: Iterable[float]) -> Interval:
    """As ``_mean``; ends beyond -1 and 1 are none."""
    found = _mean(values)
    low, high = max(found.low, -1.0), min(found.high, 1.0)
    return (
        found if math.isnan(found.low) else replace(found, low=low, high=high)
    )


def prediction_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Do costs rank the layers as what is measured on images held out?

    Columns: kind, bits, measure, ``correlation`` (Spearman's, over the
    layers of a subset at these bits; mean over subsets) with ``low`` and
    ``high`` (Student's over subsets), ``subsets``. A subset in which
    nothing varies says nothing and is left out.

    Introduced in chapter 9.
    """
    keys = ["subset", "draw", "layer", "bits_of_layer"]
    costs = part(rows, "cost")[[*keys, "kind", "cost"]]
    both = costs.merge(measured(rows), on=keys)
    lines = []
    for (kind, bits), own in both.groupby(
        ["kind", "bits_of_layer"], sort=False
    ):
        for column, name in MEASURES.items():
            found = _mean_correlation(
                float(spearman(one["cost"], one[column]))
                for _, one in own.groupby(["subset", "draw"])
            )
            line = {"kind": kind, "bits": int(bits), "measure": name}
            line |= {"correlation": found.value, "low": found.low}
            lines.append(line | {"high": found.high, "subsets": found.n})
    return pd.DataFrame(lines)


def agreement_table(rows: pd.DataFrame, everything: str) -> pd.DataFrame:
    """Do sensitivities know the subset, or only the network?

    Spearman's correlation of the costs of all layers at the same bits, for
    two draws of the same subset (what noise leaves), for two subsets of
    one draw, and for a subset and all classes, whose key is
    ``everything``. Columns: kind, ``compared``, correlation, low, high
    (Student's over subsets), subsets.

    Introduced in chapter 9.
    """
    own = part(rows, "cost")
    lines = []
    for kind, table in own.groupby("kind", sort=False):
        wide = table.pivot_table(
            index=["bits_of_layer", "layer"],
            columns=["subset", "draw"],
            values="cost",
        )
        for name, values in _compared(wide, everything).items():
            if not values:
                continue
            found = _mean_correlation(values)
            line = {"kind": kind, "compared": name}
            line |= {"correlation": found.value, "low": found.low}
            line |= {"high": found.high, "subsets": found.n}
            lines.append(line)
    return pd.DataFrame(lines)


def _compared(wide: pd.DataFrame, everything: str) -> dict[str, list[float]]:
    draws = wide.columns.get_level_values("draw")
    first = wide.loc[:, draws == draws.min()].droplevel("draw", axis=1)
    again = wide.loc[:, draws != draws.min()]
    subsets = [k for k in first.columns if k != everything]
    found: dict[str, list[float]] = {
        COMPARED[0]: [
            _by_bits(first[k], again[k, d])
            for k, d in again.columns
            if k != everything
        ],
        COMPARED[1]: [
            float(np.mean([_by_bits(first[k], first[j]) for j in others]))
            for k in subsets
            if (others := [j for j in subsets if j != k])
        ],
    }
    if everything in first:
        found[COMPARED[2]] = [
            _by_bits(first[k], first[everything]) for k in subsets
        ]
    return found


def _by_bits(a: pd.Series, b: pd.Series) -> float:
    """Mean over the numbers of bits of the correlation over layers."""
    return float(
        np.mean(
            [
                spearman(one, b[one.index])
                for _, one in a.groupby(level="bits_of_layer")
            ]
        )
    )


def additivity_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Does the divergence of a plan follow from those of its layers?

    Over the random plans of each subset: ``correlation`` (Spearman's of
    sum and joint divergence) and ``ratio`` (joint by sum, geometric
    mean), each a line with mean, low and high (Student's over subsets;
    of the logarithm, for the ratio), subsets, and plans of each.

    Introduced in chapter 9.
    """
    own = part(rows, "random")
    groups = [one for _, one in own.groupby(["subset", "draw"])]
    ranks = _mean_correlation(
        float(spearman(g["total"], g["joint"])) for g in groups
    )
    logs = _mean(float(np.log(g["joint"] / g["total"]).mean()) for g in groups)
    lines = [
        ("rank correlation", ranks.value, ranks.low, ranks.high),
        ("joint by sum", *np.exp([logs.value, logs.low, logs.high])),
    ]
    table = pd.DataFrame(lines, columns=["quantity", "mean", "low", "high"])
    return table.assign(subsets=ranks.n, plans=len(groups[0]))


def plan_table(rows: pd.DataFrame, tries: int) -> pd.DataFrame:
    """Plans of one size, by who chose the bits; a line a name.

    Columns: name, ``evaluations`` (networks looked at to choose),
    ``divergence`` (on calibration images, mean over subsets),
    ``held_out`` (the same on images held out), ``accuracy`` (per cent,
    among the classes, all subsets' images) and ``gain``, points over
    the uniform plan, mean of the subsets, with low and high (Student's)
    and ``p`` (permutation, Holm over all lines).

    Introduced in chapter 9.
    """
    own = part(rows, "plan")
    own = own.assign(share=100 * own["hits"] / own["n"])
    wide = own.pivot_table(
        index=["subset", "draw"], columns="name", values="share", sort=False
    )
    lines = []
    for name, one in own.groupby("name", sort=False):
        gain = paired(wide[name], wide["uniform"])
        line = {"name": name, "evaluations": _evaluations(str(name), tries)}
        line["divergence"] = one["divergence"].mean()
        line["held_out"] = one["held_out_divergence"].mean()
        line["accuracy"] = 100 * one["hits"].sum() / one["n"].sum()
        line |= {"gain": gain.value, "low": gain.low, "high": gain.high}
        lines.append(line | {"p": gain.p_permutation})
    table = pd.DataFrame(lines)
    others = table["name"] != "uniform"
    table["p"] = table["p"].where(others)
    if others.any():
        table.loc[others, "p"] = holm(table.loc[others, "p"].to_numpy())
    return table


def _evaluations(name: str, tries: int) -> int:
    return tries if name in (EXACT, "random", "evolution") else 0


def search_curves(rows: pd.DataFrame) -> pd.DataFrame:
    """Best plan so far, by the exact one: search, evaluation, ratio.

    ``ratio`` is the divergence on calibration images over that of the
    plan that is optimal for the sum of the layers' divergences, mean
    (geometric) over subsets; below 1 the search found a better one.

    Introduced in chapter 9.
    """
    keys = ["subset", "draw"]
    plans = part(rows, "plan")
    exact = plans[plans["name"] == EXACT].set_index(keys)["divergence"]
    own = part(rows, "search").join(exact.rename("exact"), on=keys)
    own["ratio"] = np.log(own["best"] / own["exact"])
    found = own.groupby(["search", "evaluation"], sort=False)["ratio"].mean()
    return np.exp(found).reset_index()


def bits_table(rows: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """Bits of each layer in some plans: mean over subsets, a row a layer.

    Introduced in chapter 9.
    """
    plans, layers = part(rows, "plan"), part(rows, "cost")["layer"].unique()
    columns = {}
    for name in names:
        own = plans.loc[plans["name"] == name, "layer_bits"]
        columns[name] = np.mean([_numbers(text) for text in own], axis=0)
    table = pd.DataFrame(columns, index=pd.Index(layers, name="layer"))
    return table.reset_index()


def _numbers(text: str) -> list[int]:
    return [int(b) for b in text.split()]
