"""Advice, verdicts and result rows of chapter 9."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import pandas as pd

from lq_utils.label_aware import Classes
from lq_utils.published import published_value
from lq_utils.results import Run
from lq_utils.stats import Correlation, Interval
from lq_utils.subsets import Subset
from lq_utils.task_compression_tables import (
    accuracies,
    agreement,
    by_subset,
    cost_agreement,
    gains,
)
from lq_utils.task_plans import BLIND, UNIFORM, WHOLE
from lq_utils.task_settings import ABLATIONS, TaskSettings
from lq_utils.task_tables import with_intervals

SIGNIFICANT = 0.05
# Bits in the authors' log, by variant.
PUBLISHED_BITS = {
    UNIFORM: "4 bit",
    "first half finer": "5 then 3 bit",
    "second half finer": "3 then 5 bit",
}
CLAIMS = {
    (WHOLE, UNIFORM): "more bits for important layers (5.6)",
    (WHOLE, BLIND): "both ideas together compress better (5.7)",
    ("first half finer", UNIFORM): "5 + 3 bits beat 4 (authors' log)",
    (UNIFORM, "second half finer"): "3 + 5 bits lose to 4 (authors' log)",
}


def published_halves() -> pd.DataFrame:
    """The authors' accuracies (Sub, per cent) by variant and mean bits.

    Source: log of the label-aware report's authors, ResNet-50, means over
    their subsets. Introduced in chapter 9.
    """
    found = [
        {
            "variant": variant,
            "published": published_value(
                "label_aware_derived",
                "ResNet-50 log",
                "accuracy",
                bits=bits,
                protocol="Sub",
                stage="quantized",
                statistic="mean",
            ),
        }
        for variant, bits in PUBLISHED_BITS.items()
    ]
    return pd.DataFrame(found)


def recommendations(rows: pd.DataFrame) -> pd.DataFrame:
    """What to take for each budget: chosen on validation images.

    Columns: budget, kilobytes (1000 bytes), choose (the best mean on
    validation images), level (variants whose difference to it could be
    chance there), test, low, high (points, of the one chosen).

    Introduced in chapter 9.
    """
    found = []
    for budget in dict.fromkeys(rows["budget"]):
        own = rows[rows["budget"] == budget]
        wide = by_subset(own, "validation", budget).dropna(axis=1)
        best = str(wide.mean().idxmax())
        against = gains(
            own,
            [(best, name) for name in wide.columns if name != best],
            "validation",
        )
        close = against.loc[against["p"] >= SIGNIFICANT, "second"]
        test = accuracies(own[own["variant"] == best], "test").iloc[0]
        found.append(
            {
                "budget": budget,
                "kilobytes": test["most_bytes"] / 1000,
                "choose": best,
                "level": ", ".join(close) or "none",
                "test": test["accuracy"],
                "test_low": test["low"],
                "test_high": test["high"],
            }
        )
    return pd.DataFrame(found)


def verdict(low: float, high: float, p: float) -> str:
    """What an interval and a p-value say of "the gain is above zero".

    Two tasks that happen to agree have a narrow interval and a large
    p-value: both must speak. An interval of zero alone is that of
    networks that are the same. Introduced in chapter 9.
    """
    if low == high == 0:
        return "no difference here"
    if p >= SIGNIFICANT or low <= 0 <= high:
        return "this run cannot tell"
    return "holds" if low > 0 else "does not hold here"


def verdicts(found: pd.DataFrame) -> pd.DataFrame:
    """Verdicts on claims about gains: claim, evidence, verdict.

    ``found`` comes from ``gains``; claims whose pair is not there are left
    out. Introduced in chapter 9.
    """
    rows = []
    for row in found.to_dict("records"):
        claim = CLAIMS.get((row["first"], row["second"]))
        if claim is None:
            continue
        rows.append(
            {
                "claim": claim,
                "bits": row["budget"],
                "gain": row["difference"],
                "gain_low": row["low"],
                "gain_high": row["high"],
                "verdict": verdict(row["low"], row["high"], row["p"]),
            }
        )
    return pd.DataFrame(rows)


def record_accuracies(run: Run, table: pd.DataFrame) -> None:
    """Record the rows of ``accuracies`` as shares. Introduced in chapter 9."""
    for row in table.to_dict("records"):
        keys = {"variant": row["variant"], "budget": int(row["budget"])}
        ends = (row["low"] / 100, row["high"] / 100)
        run.record(
            "accuracy",
            row["accuracy"] / 100,
            n=row["subsets"],
            ci=ends if all(map(math.isfinite, ends)) else None,
            **keys,
        )
        run.record("file_bytes", row["file_bytes"], **keys)


def record_gains(run: Run, table: pd.DataFrame, metric: str) -> None:
    """Record the rows of ``gains`` in points. Introduced in chapter 9."""
    for row in table.to_dict("records"):
        run.record(
            metric,
            row["difference"],
            n=row["subsets"],
            ci=(row["low"], row["high"]),
            first=row["first"],
            second=row["second"],
            budget=int(row["budget"]),
        )


def task_listing(
    tasks: Sequence[Subset], class_names: Sequence[str]
) -> pd.DataFrame:
    """A row a task: kind, median distance, names of its classes.

    Introduced in chapter 9.
    """
    return pd.DataFrame(
        {
            "kind": [task.kind for task in tasks],
            "median distance": [task.median for task in tasks],
            "classes": [", ".join(task.names(class_names)) for task in tasks],
        }
    )


def switch_table(settings: TaskSettings) -> pd.DataFrame:
    """What each ablation sets to what: a row a switch.

    Introduced in chapter 9.
    """
    rows = [
        {
            "ablation": name,
            "switch": switch,
            "set to": str(value),
            "otherwise": str(getattr(settings, switch)),
        }
        for name, changes in ABLATIONS.items()
        for switch, value in changes.items()
    ]
    return pd.DataFrame(rows)


def accuracy_page(means: pd.DataFrame) -> pd.DataFrame:
    """Rows of ``accuracies`` for a page: values with their intervals.

    Introduced in chapter 9.
    """
    ends = {"low": "accuracy_low", "high": "accuracy_high"}
    page = means.rename(columns=ends).drop(columns="most_bytes")
    return with_intervals(page)


def halves_page(means: pd.DataFrame, budget: int) -> pd.DataFrame:
    """The authors' halves beside ours at a budget, accuracies in points.

    Introduced in chapter 9.
    """
    own = means[means["budget"] == budget].set_index("variant")["accuracy"]
    page = published_halves()
    page[f"ours, {budget} bits"] = page["variant"].map(own)
    return page


def label_text(pooled: Interval, link: Correlation | None) -> str:
    """What knowing the labels brings, as a sentence or two.

    ``pooled`` is from ``image_gain``, ``link`` from ``gain_correlation``.
    Introduced in chapter 9.
    """
    text = (
        f"Over all {pooled.n:,} test images of the tasks, knowing the labels "
        f"brings {pooled.value:+.2f} points [{pooled.low:.2f}, "
        f"{pooled.high:.2f}]. "
    )
    if link is None:
        return text + "There are too few tasks for a rank correlation."
    return text + (
        f"The gain's rank correlation with the distance is {link.value:.2f} "
        f"[{link.low:.2f}, {link.high:.2f}]."
    )


def agreement_page(
    rows: pd.DataFrame,
    costs: pd.DataFrame,
    subsets: Sequence[Classes],
    kinds: Mapping[str, str],
    budget: int,
) -> pd.DataFrame:
    """Agreement of the aware and the blind plans and costs, by task.

    Columns: kind, layers, same, moved, rank_correlation. Introduced in
    chapter 9.
    """
    plans = agreement(rows, budget)
    page = plans.merge(cost_agreement(costs, subsets, budget), on="classes")
    page.insert(0, "kind", page.pop("classes").map(kinds))
    return page
