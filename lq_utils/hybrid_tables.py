"""Tables of chapter 6: which bits were chosen, and what they scored.

Rows are those of ``hybrid_study`` and, for the dimensions that choose, of
``dimension_study``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import permutations

import numpy as np
import pandas as pd
from torch import nn

from lq_utils.compression_scores import (
    ALPHA,
    ScoreError,
    adjusted,
    difference,
    mean_scores,
    rows_of,
    thesis_value,
)
from lq_utils.dimension_study import LAYERS
from lq_utils.dimension_tables import ENDS, dimensions_of
from lq_utils.hybrid_plans import kernel_factor, table_plans, thesis_factor
from lq_utils.hybrid_study import Bits, label
from lq_utils.significance import significant_layers

# Estimator and rule of each way to choose, as rows of dimensions name them.
CHOICES = {
    "TwoNN hybrid": ("regression", "absolute"),
    "PCA hybrid": ("PCA 99 %", "signed"),
    "TwoNN, signed": ("regression", "signed"),
    "PCA, absolute": ("PCA 99 %", "absolute"),
}
FULL = "fp,fp,fp,fp"


def bits_for(
    significant: Iterable[str], bits: int = 2, insignificant_bits: int = 1
) -> Bits:
    """Bits of conv1, conv2, linear1 and linear2; conv1 keeps all of its.

    Source: QuantNET thesis, section 3.3. Introduced in chapter 6.
    """
    chosen = set(significant)
    inner = (bits if n in chosen else insignificant_bits for n in LAYERS[1:])
    return (None, *inner)


def selections(
    dimensions: Mapping[str, pd.DataFrame], threshold: float
) -> pd.DataFrame:
    """What each way of choosing takes in each network.

    ``dimensions`` maps estimators, those of ``CHOICES``, to rows of one
    dimension a network and layer. Columns: task, start, seed, choice,
    significant (names in a tuple), bits.

    Introduced in chapter 6.
    """
    lines = []
    for choice, (estimator, rule) in CHOICES.items():
        rows = dimensions[estimator]
        for keys, own in rows.groupby(["task", "start", "seed"], sort=False):
            chosen = significant_layers(
                dimensions_of(own), threshold, rule, ENDS
            )
            line = dict(zip(("task", "start", "seed"), keys, strict=True))
            line |= {"choice": choice, "significant": tuple(chosen)}
            lines.append(line | {"bits": bits_for(chosen)})
    return pd.DataFrame(lines)


def choice_counts(chosen: pd.DataFrame) -> pd.DataFrame:
    """How many networks of a task each way to choose gave which layers.

    ``chosen`` is a table of :func:`selections`. Columns: task, choice,
    significant (names, or "none"), bits (as ``label``), networks.

    Introduced in chapter 6.
    """
    named = chosen.assign(
        significant=[", ".join(s) or "none" for s in chosen["significant"]],
        bits=chosen["bits"].map(label),
    )
    keys = ["task", "choice", "significant", "bits"]
    return named.groupby(keys, sort=False).size().reset_index(name="networks")


def chosen_scores(rows: pd.DataFrame, chosen: pd.DataFrame) -> pd.DataFrame:
    """Rows of the plans that were chosen, with the choice as set-up.

    Raises ScoreError where a chosen plan was not computed.
    Introduced in chapter 6.
    """
    wanted = chosen.assign(precisions=chosen["bits"].map(label))
    keys = ["task", "start", "seed"]
    found = wanted.drop(columns="bits").merge(
        rows.rename(columns={"set_up": "precisions"}),
        on=[*keys, "precisions"],
        how="left",
    )
    lost = found[found["hits"].isna()]
    if len(lost):
        first = lost.iloc[0]
        raise ScoreError(
            f"no row for the plan {first['precisions']} of {first['task']}, seed "
            f"{first['seed']}: compute a cell for each chosen plan"
        )
    return found.rename(columns={"choice": "set_up"})


def chosen_cells(chosen: pd.DataFrame) -> list[dict[str, object]]:
    """Task, start, seed and bits of every plan that was chosen, once.

    ``chosen`` is a table of :func:`selections`. Introduced in chapter 6.
    """
    wanted = chosen[["task", "start", "seed", "bits"]].drop_duplicates()
    return wanted.to_dict("records")


def other_orders(chosen: pd.DataFrame) -> pd.DataFrame:
    """The bits of each plan in all other orders of the inner layers.

    ``chosen`` is a table of :func:`selections` with one choice; rows of
    plans that have no other order drop out. Introduced in chapter 6.
    """
    lines = []
    for row in chosen.to_dict("records"):
        first, *inner = row["bits"]
        for order in dict.fromkeys(permutations(inner)):
            if order != tuple(inner):
                lines.append(row | {"bits": (first, *order)})
    return pd.DataFrame(lines, columns=chosen.columns)


def dealt_scores(rows: pd.DataFrame, orders: pd.DataFrame) -> pd.DataFrame:
    """Scores of :func:`other_orders`, averaged for each network.

    ``rows`` are of their plans. The set-up is "other orders".
    Introduced in chapter 6.
    """
    found = chosen_scores(rows, orders)
    keys = ["task", "start", "seed", "n"]
    values = ["hits", "validation", "thesis_factor", "bytes"]
    means = found.groupby(keys, sort=False)[values].mean().reset_index()
    means["hits"] = means["hits"].round().astype(int)
    return means.assign(set_up="other orders")


def memory_table(model: nn.Module) -> pd.DataFrame:
    """Memory factors of the plans of table 4.7, counted in two ways.

    Columns: plan, printed (by the thesis), thesis_count (its formula),
    kernels (biases and scales in 32 bits).

    Introduced in chapter 6.
    """
    lines = [
        {
            "plan": name,
            "printed": thesis_value(
                "table 4.7", "memory reduction", bits=name
            ),
            "thesis_count": thesis_factor(model, plan),
            "kernels": kernel_factor(model, plan),
        }
        for name, plan in table_plans().items()
    ]
    return pd.DataFrame(lines)


def plan_table(
    rows: pd.DataFrame, set_ups: Sequence[str], against: str = FULL
) -> pd.DataFrame:
    """A line a task and plan: ours, the thesis's, against full precision.

    Columns: task, set_up, accuracy with its interval, seeds, images (as
    ``mean_scores``), thesis (per cent, table 4.7), difference in points
    to ``against`` over the same seeds with interval and ``p`` (adjusted
    after Holm within the task), factor (memory, mean), mib (artifact).

    Raises ScoreError where a set-up is missing for some task.
    Introduced in chapter 6.
    """

    def more(task: str, set_up: str, own: pd.DataFrame) -> dict[str, float]:
        printed = thesis_value(
            "table 4.7", "test accuracy", bits=set_up, task=task
        )
        factor, size = own["thesis_factor"].mean(), own["bytes"].mean()
        return {"thesis": printed, "factor": factor, "mib": size / 2**20}

    table = _against(rows, set_ups, against, more)
    groups = table.groupby("task", sort=False)["p"]
    return table.assign(p=groups.transform(adjusted))


def control_table(
    rows: pd.DataFrame, set_ups: Sequence[str], against: str
) -> pd.DataFrame:
    """A line a task and set-up: accuracy, validation, against one of them.

    Columns: those of ``mean_scores`` by task and set_up, validation (per
    cent), difference in points to ``against`` with interval.

    Raises ScoreError where a set-up is missing for some task.
    Introduced in chapter 6.
    """

    def more(task: str, set_up: str, own: pd.DataFrame) -> dict[str, float]:
        return {"validation": 100 * own["validation"].mean()}

    table = _against(rows, set_ups, against, more)
    return table.drop(columns=["p", "pairs"])


def _against(
    rows: pd.DataFrame,
    set_ups: Sequence[str],
    against: str,
    more: Callable[[str, str, pd.DataFrame], dict[str, float]],
) -> pd.DataFrame:
    """Scores by task and set-up, what ``more`` says, and differences."""
    lines = []
    for task in dict.fromkeys(rows["task"]):
        for set_up in set_ups:
            own = rows_of(rows, task, set_up).reset_index()
            line = mean_scores(own, ["task", "set_up"]).to_dict("records")[0]
            line |= more(task, set_up, own)
            if set_up != against:
                line |= difference(rows, task, set_up, against, ALPHA)
            lines.append(line)
    return pd.DataFrame(lines)


def versus(
    rows: pd.DataFrame, task: str, claims: Sequence[tuple[str, str]]
) -> pd.DataFrame:
    """Paired differences of claims "first is above second", one a line.

    Columns: task, above, below, difference (points) with interval, p (adjusted
    after Holm), pairs and verdict: "real", "reversed" or "not shown".

    Raises ScoreError as ``difference``. Introduced in chapter 6.
    """
    lines = [
        {"task": task, "above": a, "below": b}
        | difference(rows, task, a, b, ALPHA)
        for a, b in claims
    ]
    table = pd.DataFrame(lines)
    table["p"] = adjusted(table["p"])
    sign = np.where(table["difference"] > 0, "real", "reversed")
    table["verdict"] = np.where(table["p"] < ALPHA, sign, "not shown")
    return table


def unique_cells(
    networks: Sequence[Mapping[str, object]], plans: Iterable[Bits]
) -> list[dict[str, object]]:
    """Every network with every plan, each combination once.

    Introduced in chapter 6.
    """
    wanted = list(dict.fromkeys(plans))
    return [dict(n) | {"bits": bits} for n in networks for bits in wanted]
