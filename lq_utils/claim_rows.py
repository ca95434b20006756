"""Result rows that claims are decided by: orderings and paired changes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from lq_utils.compression_scores import require_columns
from lq_utils.results import Run
from lq_utils.stats import Interval, paired, wilson


def _plain(value: Any) -> Any:
    """numpy scalars as Python's, which keys of rows are made of."""
    return value.item() if hasattr(value, "item") else value


def _record(run: Run, metric: str, found: Interval, **keys: Any) -> None:
    named = {name: _plain(value) for name, value in keys.items()}
    run.record(metric, found.value, n=found.n, ci=found.ci, **named)


def record_orderings(run: Run, orderings: pd.DataFrame, table: str) -> None:
    """One row ``ordering`` (points) a claim "above is above below".

    ``orderings`` come from ``compression_tables.orderings`` or
    ``hybrid_tables.versus``; ``n`` is the number of networks.

    Raises ScoreError for a missing column. Introduced in chapter 4.
    """
    columns = ["task", "above", "below"]
    ends = ["difference_low", "difference_high"]
    require_columns(orderings, [*columns, "difference", *ends, "pairs"])
    for line in orderings.to_dict("records"):
        low, high = (float(line[end]) for end in ends)
        value, n = float(line["difference"]), int(line["pairs"])
        found = Interval(value, low, high, n, 0.95)
        keys = {name: line[name] for name in columns}
        _record(run, "ordering", found, table=table, **keys)


def record_changes(
    run: Run,
    metric: str,
    rows: pd.DataFrame,
    by: Sequence[str],
    base: pd.DataFrame,
) -> None:
    """Accuracy of each group of rows less that of ``base``, in points.

    Paired over seeds, with Student's interval; ``n`` counts the networks.
    Both have the columns seed, hits, n, and one row a seed and group; the
    columns ``by`` tell groups apart.

    Raises ScoreError for a missing column or no rows, StatsError where
    seeds do not fit. Introduced in chapter 4.
    """
    require_columns(rows, ["seed", "hits", "n", *by])
    require_columns(base, ["seed", "hits", "n"])
    before = 100 * base.set_index("seed")["hits"] / base.set_index("seed")["n"]
    for values, own in rows.groupby(list(by), sort=False):
        own = own.set_index("seed")
        after = 100 * own["hits"] / own["n"]
        found = paired(after, before.reindex(after.index))
        _record(run, metric, found, **dict(zip(by, values, strict=True)))


def record_agreement(run: Run, verdicts: pd.DataFrame) -> None:
    """Share of networks that agree with a statement, Wilson's interval.

    ``verdicts`` come from ``dimension_claims.thesis_verdicts``.

    Raises ScoreError for a missing column. Introduced in chapter 5.
    """
    require_columns(verdicts, ["statement", "agree", "networks"])
    for line in verdicts.to_dict("records"):
        n = int(line["networks"])
        found = wilson(round(line["agree"] * n), n)
        _record(run, "agreement", found, statement=line["statement"])
