"""What the rows of chapter 9 say: accuracies, gains, agreement, advice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from lq_utils.label_aware import subset_key
from lq_utils.method_comparison import unpack_hits
from lq_utils.stats import (
    Correlation,
    Interval,
    correlation,
    holm,
    mean_interval,
    paired,
    spearman,
    wilson,
)
from lq_utils.task_plans import BLIND, HALVES, UNIFORM, WHOLE

ENDS = ["low", "high"]


def by_subset(rows: pd.DataFrame, part: str, budget: int) -> pd.DataFrame:
    """Accuracy in points: a row a subset (``classes``), a column a variant.

    Introduced in chapter 9.
    """
    own = rows[(rows["part"] == part) & (rows["budget"] == budget)]
    points = own.assign(points=100 * own["correct"] / own["n"])
    wide = points.pivot(index="classes", columns="variant", values="points")
    return wide[list(dict.fromkeys(own["variant"]))]


def subset_mean(points: pd.Series, n: int) -> Interval:
    """Mean accuracy over subsets in points, with its interval.

    Several subsets: Student's interval over them. One: Wilson's, over its
    ``n`` images. Introduced in chapter 9.
    """
    if len(points) > 1:
        return mean_interval(points.to_numpy())
    found = wilson(round(float(points.iloc[0]) * n / 100), n)
    ends = (100 * found.value, 100 * found.low, 100 * found.high)
    return Interval(*ends, found.n, found.level)


def accuracies(rows: pd.DataFrame, part: str = "test") -> pd.DataFrame:
    """One row a budget and variant: mean accuracy over subsets, sizes.

    Columns: budget, variant, subsets, accuracy, low, high (points), and
    means of file_bytes, mean_bits. Introduced in chapter 9.
    """
    found = []
    own = rows[rows["part"] == part]
    for (budget, variant), group in own.groupby(
        ["budget", "variant"], sort=False
    ):
        points = 100 * group["correct"] / group["n"]
        mean = subset_mean(points, int(group["n"].iloc[0]))
        found.append(
            {
                "budget": budget,
                "variant": variant,
                "subsets": len(group),
                "accuracy": mean.value,
                "low": mean.low,
                "high": mean.high,
                "file_bytes": group["file_bytes"].mean(),
                "most_bytes": group["file_bytes"].max(),
                "mean_bits": group["mean_bits"].mean(),
            }
        )
    return pd.DataFrame(found)


def gains(
    rows: pd.DataFrame,
    pairs: Sequence[tuple[str, str]],
    part: str = "test",
) -> pd.DataFrame:
    """Differences of two variants, paired by subset, at every budget.

    Columns: budget, first, second, difference (first minus second,
    points), low, high (Student, over subsets), p (sign flips of the
    subsets' differences, Holm over all rows), subsets. Pairs that a
    budget does not have are left out, as are budgets with one subset.

    Introduced in chapter 9.
    """
    found = []
    for budget in dict.fromkeys(rows["budget"]):
        wide = by_subset(rows, part, budget)
        for first, second in pairs:
            if not {first, second} <= set(wide.columns):
                continue
            both = wide[[first, second]].dropna()
            if len(both) < 2:
                continue
            result = paired(both[first], both[second])
            found.append(
                {
                    "budget": budget,
                    "first": first,
                    "second": second,
                    "difference": result.difference,
                    "low": result.low,
                    "high": result.high,
                    "p": result.p_permutation,
                    "subsets": len(both),
                }
            )
    names = ["budget", "first", "second", "difference", *ENDS, "p", "subsets"]
    table = pd.DataFrame(found, columns=names)
    if len(table):
        table["p"] = holm(table["p"].to_numpy())
    return table


def ablations(
    rows: pd.DataFrame, budget: int, part: str = "test"
) -> pd.DataFrame:
    """What each switch is worth: the whole less the variant without it.

    Columns of ``gains``. Introduced in chapter 9.
    """
    own = rows[rows["budget"] == budget]
    others = [v for v in dict.fromkeys(own["variant"]) if v != WHOLE]
    return gains(own, [(WHOLE, v) for v in others], part)


def image_gain(
    rows: pd.DataFrame, first: str, second: str, budget: int, part: str
) -> Interval:
    """Difference in points, paired by image, over all subsets' images.

    Introduced in chapter 9.
    """
    own = rows[(rows["part"] == part) & (rows["budget"] == budget)]
    hits = {}
    for name in (first, second):
        chosen = own[own["variant"] == name].sort_values("classes")
        packed = zip(chosen["hits"], chosen["n"], strict=True)
        hits[name] = np.concatenate([unpack_hits(h, n) for h, n in packed])
    found = paired(hits[first].astype(float), hits[second].astype(float))
    ends = (100 * found.value, 100 * found.low, 100 * found.high)
    return Interval(*ends, found.n, found.level)


def label_gains(
    rows: pd.DataFrame,
    distances: Mapping[str, float],
    budget: int,
    part: str = "test",
) -> pd.DataFrame:
    """What knowing the labels brings each subset: gain and distance.

    ``distances`` maps the subset's key to its median distance. Columns:
    classes, distance, gain (WHOLE less BLIND, points).

    Introduced in chapter 9.
    """
    wide = by_subset(rows, part, budget)
    found = pd.DataFrame(
        {
            "classes": wide.index,
            "distance": [distances[name] for name in wide.index],
            "gain": (wide[WHOLE] - wide[BLIND]).to_numpy(),
        }
    )
    return found.sort_values("distance", ignore_index=True)


def gain_correlation(found: pd.DataFrame) -> Correlation | None:
    """Rank correlation of gain and distance; None where there is none.

    ``found`` is a table of ``label_gains``: four subsets or more, whose
    gains differ. Introduced in chapter 9.
    """
    varies = found["gain"].nunique() > 1 and found["distance"].nunique() > 1
    if len(found) < 4 or not varies:
        return None
    return correlation(found["distance"], found["gain"], kind="spearman")


def agreement(rows: pd.DataFrame, budget: int) -> pd.DataFrame:
    """How far the bits of two ways to choose them agree, by subset.

    Columns: classes, layers, same (bits of the aware and of the blind
    plan), moved (mean absolute difference in bits a layer).

    Introduced in chapter 9.
    """
    own = rows[rows["budget"] == budget].drop_duplicates(
        ["classes", "variant"]
    )
    plans = own.pivot(index="classes", columns="variant", values="plan")
    found = []
    for classes, aware, blind in zip(plans.index, plans[WHOLE], plans[BLIND]):
        a, b = np.array(aware), np.array(blind)
        found.append((classes, len(a), int((a == b).sum()), abs(a - b).mean()))
    return pd.DataFrame(found, columns=["classes", "layers", "same", "moved"])


def cost_agreement(
    costs: pd.DataFrame, subsets: Sequence[Sequence[int]], bits: int
) -> pd.DataFrame:
    """Rank correlation over layers of each task's costs with the blind ones.

    ``costs`` are the rows of ``task_study.cost_rows`` by divergence, at
    ``bits`` (or the nearest number there is). Columns: classes,
    rank_correlation. Introduced in chapter 9.
    """
    known = costs["bits"].unique()
    nearest = known[np.abs(known - bits).argmin()]
    own = costs[costs["bits"] == nearest]
    own = own[own["sensitivity"] == "divergence"]
    blind = own[own["allocation"] == "blind"].set_index("layer")["cost"]
    found = []
    for classes in subsets:
        same = [tuple(c) == tuple(classes) for c in own["subset"]]
        aware = own[same].set_index("layer")["cost"].loc[blind.index]
        found.append((subset_key(classes), float(spearman(aware, blind))))
    return pd.DataFrame(found, columns=["classes", "rank_correlation"])


def comparisons() -> list[tuple[str, str]]:
    """The pairs of variants that the chapter compares at every budget.

    Introduced in chapter 9.
    """
    finer, coarser = HALVES
    return [
        (WHOLE, UNIFORM),
        (BLIND, UNIFORM),
        (WHOLE, BLIND),
        (finer, UNIFORM),
        (UNIFORM, coarser),
        (WHOLE, finer),
    ]
