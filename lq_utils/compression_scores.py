"""Scores of compressed networks: means over seeds, paired differences.

Rows are those of the study of compression, one a compressed network. This
module uses the columns ``task``, ``start`` (what the base was trained on),
``seed``, ``set_up``, ``hits`` and ``n`` (test images classified right, and
all of them).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from lq_utils.published import PublishedError, published, published_value
from lq_utils.registry import did_you_mean
from lq_utils.stats import Interval, holm, mean_interval, paired, wilson

BASE = "base"
THESIS = "quantnet_thesis"
# Every accuracy in the thesis is a multiple of 0.05 %.
THESIS_IMAGES = 2000
ALPHA = 0.05


class ScoreError(ValueError):
    """Rows do not hold the scores that are asked for.

    Introduced in chapter 4.
    """


def require_columns(rows: pd.DataFrame, columns: Sequence[str]) -> None:
    """Raise ScoreError unless there are rows that have these columns.

    Introduced in chapter 4.
    """
    missing = [name for name in columns if name not in rows.columns]
    if missing:
        raise ScoreError(
            f"the rows have no column {', '.join(missing)}; columns there: "
            f"{', '.join(map(str, rows.columns))}"
        )
    if rows.empty:
        raise ScoreError("there are no rows; check what they were filtered by")


def _require_one_each(rows: pd.DataFrame, what: str) -> None:
    twice = sorted(set(rows.loc[rows["seed"].duplicated(), "seed"]))
    if twice:
        raise ScoreError(
            f"{what} has more than one row of seed {twice[0]}: give the "
            "rows of one start and one scheme, each network once"
        )


def _accuracy(rows: pd.DataFrame) -> Interval:
    """Of one network Wilson's interval, of several seeds Student's."""
    if len(rows) == 1:
        return wilson(int(rows["hits"].iloc[0]), int(rows["n"].iloc[0]))
    return mean_interval(rows["hits"] / rows["n"])


def mean_scores(rows: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Accuracy in per cent, a line for each value of the columns ``by``.

    Adds ``accuracy``, ``accuracy_low``, ``accuracy_high``, ``seeds`` and
    ``images`` (test images a network; the mean, if they differ). The
    interval is Student's over seeds: how far other seeds would be, on the
    same images. With one seed it is Wilson's, over images.

    Raises ScoreError for no rows, a missing column, or a seed that is
    there twice. Introduced in chapter 4.
    """
    require_columns(rows, [*by, "seed", "hits", "n"])
    lines = []
    for keys, own in rows.groupby(list(by), sort=False, dropna=False):
        named = dict(zip(by, keys, strict=True))
        _require_one_each(own, ", ".join(f"{k} {v}" for k, v in named.items()))
        found = _accuracy(own)
        line: dict[str, Any] = dict(named)
        line["accuracy"] = 100 * found.value
        line["accuracy_low"] = 100 * found.low
        line["accuracy_high"] = 100 * found.high
        line |= {"seeds": len(own), "images": round(own["n"].mean())}
        lines.append(line)
    return pd.DataFrame(lines)


def rows_of(rows: pd.DataFrame, task: str, set_up: str) -> pd.DataFrame:
    """Rows of one set-up of one task, one a seed, with seeds as index.

    Raises ScoreError where there are none, or two of one seed.
    Introduced in chapter 4.
    """
    of_task = rows[rows["task"] == task]
    own = of_task[of_task["set_up"] == set_up]
    if own.empty:
        known = list(dict.fromkeys(of_task["set_up"]))
        raise ScoreError(
            f"no row of {task!r} has the set-up {set_up!r}"
            f"{did_you_mean(set_up, known)}; compress a network with it or "
            f"leave it out (set-ups there: {'; '.join(known) or 'none'})"
        )
    _require_one_each(own, f"{set_up!r} of {task!r}")
    return own.set_index("seed")


def difference(
    rows: pd.DataFrame, task: str, first: str, second: str, alpha: float
) -> dict[str, float]:
    """First set-up minus second, in points, over the seeds of both.

    ``difference`` with ``difference_low`` and ``difference_high`` (t, at
    level 1 - ``alpha``), ``p`` (sign flips, not adjusted), ``pairs`` (the
    number of seeds). With one seed there is neither interval nor p: NaN.

    Raises ScoreError for missing rows, or no seed in common.
    Introduced in chapter 4.
    """
    a, b = (
        100 * own["hits"] / own["n"]
        for own in (rows_of(rows, task, first), rows_of(rows, task, second))
    )
    seeds = a.index.intersection(b.index)
    if seeds.empty:
        raise ScoreError(
            f"{first!r} and {second!r} of {task!r} share no seed: compress "
            "the same trained networks with both"
        )
    found = paired(a[seeds], b[seeds], level=1 - alpha)
    return {
        "difference": found.difference,
        "difference_low": found.low,
        "difference_high": found.high,
        "p": found.p_permutation if len(seeds) > 1 else math.nan,
        "pairs": len(seeds),
    }


def adjusted(p_values: pd.Series) -> np.ndarray:
    """Holm's adjustment of the p-values that exist; NaN stays NaN.

    Introduced in chapter 4.
    """
    p = p_values.to_numpy(dtype=np.float64, copy=True)
    known = ~np.isnan(p)
    if known.any():
        p[known] = holm(p[known])
    return p


def thesis_value(table: str, quantity: str, **keys: str) -> float:
    """What a table of the thesis prints, NaN where it prints nothing.

    Raises PublishedError for a table that the thesis does not have.
    Introduced in chapter 4.
    """
    published(THESIS, table)
    try:
        return published_value(THESIS, table, quantity, **keys)
    except PublishedError:
        return math.nan
