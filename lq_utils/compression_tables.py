"""Tables of chapter 4: what compressed networks score, and what they weigh.

Rows are those of the study of compression, see ``compression_scores``;
besides, the columns ``measured`` (computed in the numbers that the scheme
names, else simulated), ``bytes`` and ``compressed_bytes`` (the file on
disk, and the same file after a general compressor).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from lq_utils.compression_scores import (
    ALPHA,
    BASE,
    THESIS_IMAGES,
    ScoreError,
    adjusted,
    difference,
    mean_scores,
    require_columns,
    rows_of,
    thesis_value,
)
from lq_utils.compression_sizes import MIB, SIZES, honest_sizes, pareto
from lq_utils.results import Run

__all__ = [
    "BASE",
    "ScoreError",
    "honest_sizes",
    "mean_scores",
    "orderings",
    "pareto",
    "record_scores",
    "score_table",
    "table_for_page",
]

COLUMNS = ["task", "seed", "set_up", "measured", "hits", "n"]


def score_table(
    rows: pd.DataFrame, thesis_table: str, set_ups: Sequence[str]
) -> pd.DataFrame:
    """A line a task and set-up: ours, the thesis's, and against the base.

    Columns: those of :func:`mean_scores` by task and set_up; ``thesis``
    (per cent); ``difference`` to the base over the same seeds in points,
    with ``difference_low``, ``difference_high``, ``p`` (sign flips,
    adjusted after Holm for the set-ups of the task) and ``pairs``, all
    NaN for the base; ``mib`` and ``compressed_mib`` (2**20 bytes, mean
    over seeds), ``thesis_mb`` (as printed; also 2**20 bytes, going by the
    number of weights) and ``measured``. What the thesis does not print is
    NaN. With k seeds p is at least 2 ** (1 - k).

    Args:
        rows: every task in it is one of the table; a task has one start.
        thesis_table: for example ``"table 4.2"``.
        set_ups: lines of the table, in their order.

    Raises:
        ScoreError: a set-up or the base is missing for some task, a seed
            is there twice, or a column is missing.
        PublishedError: the thesis has no such table.

    Introduced in chapter 4.
    """
    require_columns(rows, [*COLUMNS, *SIZES])
    if len(set_ups) == 0:
        raise ScoreError("set_ups is empty: name the lines of the table")
    parts = [
        _task_table(rows, str(task), thesis_table, set_ups)
        for task in dict.fromkeys(rows["task"])
    ]
    return pd.concat(parts, ignore_index=True)


def _task_table(
    rows: pd.DataFrame, task: str, thesis_table: str, set_ups: Sequence[str]
) -> pd.DataFrame:
    lines = []
    for set_up in set_ups:
        own = rows_of(rows, task, set_up).reset_index()
        keys = {"set_up": set_up}
        line = mean_scores(own, ["task", "set_up"]).to_dict("records")[0]
        line["thesis"] = thesis_value(
            thesis_table, "test accuracy", task=task, **keys
        )
        if set_up != BASE:
            line |= difference(rows, task, set_up, BASE, ALPHA)
        line["mib"], line["compressed_mib"] = own[SIZES].mean() / MIB
        line["thesis_mb"] = thesis_value(thesis_table, "model size", **keys)
        line["measured"] = bool(own["measured"].all())
        lines.append(line)
    names = ["difference", "difference_low", "difference_high", "p", "pairs"]
    known = [name for name in lines[0] if name not in names]
    at = known.index("mib")
    columns = [*known[:at], *names, *known[at:]]
    table = pd.DataFrame(lines).reindex(columns=columns)
    return table.assign(p=adjusted(table["p"]))


def _number(value: float, digits: int = 2) -> str:
    return f"{value:.{digits}f}".replace("-", "−")


def _score_text(line: Any) -> str:
    low, high = _number(line.accuracy_low, 1), _number(line.accuracy_high, 1)
    return f"{_number(line.accuracy, 1)} [{low}, {high}]"


def _difference_text(line: Any) -> str:
    if math.isnan(line.difference):
        return "–"
    text = _number(line.difference)
    if math.isfinite(line.difference_low):
        ends = map(_number, (line.difference_low, line.difference_high))
        text += f" [{', '.join(ends)}]"
    if math.isfinite(line.p):
        text += ", p < 0.001" if line.p < 0.001 else f", p {line.p:.2g}"
    return text


def table_for_page(frame: pd.DataFrame) -> pd.DataFrame:
    """The lines of :func:`score_table` laid out to be read, one a set-up.

    For each task three columns: ours and against the base as text with
    intervals, the thesis's as a number; then sizes (mean over tasks) and
    the number of seeds, "3 to 5" where it differs between tasks. Set-ups
    that are not measured say "(simulated)". Show it with two digits.

    Introduced in chapter 4.
    """
    groups = frame.groupby("set_up", sort=False)
    measured = groups["measured"].all()
    page = pd.DataFrame(index=measured.index)
    for task, own in frame.groupby("task", sort=False):
        own = own.set_index("set_up")
        page[f"{task}: ours (%)"] = own.apply(_score_text, axis=1)
        page[f"{task}: thesis (%)"] = own["thesis"]
        page[f"{task}: against base"] = own.apply(_difference_text, axis=1)
    page["MiB"] = groups["mib"].mean()
    page["compressed MiB"] = groups["compressed_mib"].mean()
    page["thesis (MB)"] = groups["thesis_mb"].mean()
    page["seeds"] = [
        str(low) if low == high else f"{low} to {high}"
        for low, high in zip(groups["seeds"].min(), groups["seeds"].max())
    ]
    labels = [
        f"{name}{'' if real else ' (simulated)'}"
        for name, real in measured.items()
    ]
    page.insert(0, "set-up", labels)
    return page.reset_index(drop=True)


def orderings(
    rows: pd.DataFrame,
    task: str,
    pairs: Sequence[tuple[str, str]],
    thesis_table: str,
    alpha: float = ALPHA,
) -> pd.DataFrame:
    """Whether set-ups that a ranking puts above others really are.

    A line for each claim ``(above, below)``: ``difference`` in points over
    the same seeds with ``difference_low`` and ``difference_high`` (t, at
    level 1 - ``alpha``), ``p`` (sign flips, adjusted after Holm for all
    claims given), ``pairs`` and ``images``; ``verdict``: "real" or
    "reversed" where p is below ``alpha``, else "not shown"; ``thesis``,
    its own difference, and ``thesis_error``, the standard error of that,
    as of two independent shares of 2,000 test images each (points).

    Few seeds show nothing: with k seeds and m claims, p is at least
    m * 2 ** (1 - k).

    Raises:
        ScoreError: no claims, a missing set-up, or no seed in common.
        PublishedError: the thesis has no such table.

    Introduced in chapter 4.
    """
    require_columns(rows, ["task", "seed", "set_up", "hits", "n"])
    if len(pairs) == 0:
        raise ScoreError("pairs is empty: name who is above whom")
    lines = []
    for above, below in pairs:
        line: dict[str, Any] = {"task": task, "above": above, "below": below}
        line |= difference(rows, task, above, below, alpha)
        line["images"] = round(rows_of(rows, task, above)["n"].mean())
        values = [
            thesis_value(thesis_table, "test accuracy", task=task, set_up=name)
            for name in (above, below)
        ]
        line["thesis"] = values[0] - values[1]
        shares = np.array(values) / 100
        spread = (shares * (1 - shares)).sum() / THESIS_IMAGES
        line["thesis_error"] = 100 * math.sqrt(spread)
        lines.append(line)
    table = pd.DataFrame(lines)
    table["p"] = adjusted(table["p"])
    sign = np.where(table["difference"] > 0, "real", "reversed")
    verdict = np.where(table["p"] < alpha, sign, "not shown")
    table.insert(table.columns.get_loc("thesis"), "verdict", verdict)
    return table


def record_scores(
    run: Run,
    frame: pd.DataFrame,
    metric: str,
    by: Sequence[str] = ("task", "set_up"),
    **keys: Any,
) -> None:
    """One result row for each line of a table, but for those without it.

    ``metric`` is a column (``accuracy``, ``difference``, ``mib``...) and
    the metric's name; ``<metric>_low`` and ``<metric>_high`` are its
    interval, if they are there. The columns ``by`` and ``keys`` tell the
    lines apart; ``n`` is the number of test images.

    Raises ScoreError for a missing column. Introduced in chapter 4.
    """
    require_columns(frame, [metric, *by])
    for line in frame.to_dict("records"):
        if math.isnan(line[metric]):
            continue
        low = line.get(f"{metric}_low", math.nan)
        high = line.get(f"{metric}_high", math.nan)
        ci = None if math.isnan(low) or math.isnan(high) else (low, high)
        named = {name: line[name] for name in by} | keys
        run.record(metric, line[metric], n=line.get("images"), ci=ci, **named)
