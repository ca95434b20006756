"""How a claim reads result rows: values, differences, ratios, rankings."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from lq_utils.claims_core import Case, ClaimError, MissingRowsError, Rows
from lq_utils.stats import Interval, StatsError, correlation, wilson

ANY = "*"  # a key that may have any value


@dataclass(frozen=True)
class Query:
    """Rows of a chapter: their metric, and every key they have.

    A key's value is one value, a tuple of allowed ones, or ``ANY``. Rows
    with other names of keys never match.

    Introduced on the page of claims.
    """

    chapter: str
    metric: str
    keys: Mapping[str, Any]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the keys, sorted."""
        return tuple(sorted(self.keys))

    @property
    def open_names(self) -> tuple[str, ...]:
        """Names of the keys that may differ between the rows."""
        return tuple(
            name
            for name in self.names
            if self.keys[name] == ANY or isinstance(self.keys[name], tuple)
        )

    def _fits(self, found: Mapping[str, Any]) -> bool:
        if tuple(sorted(found)) != self.names:
            return False
        for name, wanted in self.keys.items():
            allowed = wanted if isinstance(wanted, tuple) else (wanted,)
            if wanted != ANY and found[name] not in allowed:
                return False
        return True

    def select(self, rows: Rows) -> list[Row]:
        """The rows that match, in order.

        Raises MissingRowsError where none do.
        """
        frame = rows.get(self.chapter)
        if frame is None:
            raise MissingRowsError(f"{self.chapter} has no reference rows")
        own = frame[frame["metric"] == self.metric]
        keys = [json.loads(text) for text in own["keys"]]
        found = [
            Row(row, named)
            for row, named in zip(own.to_dict("records"), keys, strict=True)
            if self._fits(named)
        ]
        if not found:
            raise MissingRowsError(
                f"the rows of {self.chapter} have no {self.metric} with the "
                f"keys {dict(self.keys)}"
            )
        for row in found:
            row.names = _varying(found, self.open_names)
        return found


class Row:
    """A result row: its number, its keys, and where it comes from.

    Introduced on the page of claims.
    """

    def __init__(
        self, row: Mapping[Any, Any], keys: Mapping[str, Any]
    ) -> None:
        self.keys, self._row = keys, row
        self.names: tuple[str, ...] = ()
        n = row["n"]
        self.n = None if pd.isna(n) else int(n)
        low, high = row["ci_low"], row["ci_high"]
        level = math.nan
        self.found = Interval(
            float(row["value"]), low, high, self.n or 0, level
        )

    @property
    def run(self) -> str:
        """Profile, data set and rung."""
        row = self._row
        return f"{row['profile']} profile, {row['dataset']} ({row['rung']})"

    def at(self, names: Sequence[str]) -> tuple[Any, ...]:
        """Values of these keys."""
        return tuple(self.keys[name] for name in names)

    @property
    def label(self) -> str:
        """What tells this row from the others of its query."""
        values = (self.keys[name] for name in self.names)
        pairs = zip(self.names, values, strict=True)
        return ", ".join(
            value if isinstance(value, str) else f"{name} {value}"
            for name, value in pairs
        )

    def case(self, found: Interval | None = None, scale: float = 1.0) -> Case:
        """This row, or another number of it, as a case."""
        shown = self.found if found is None else found
        ends = (scale * shown.low, scale * shown.high)
        ends = ends if scale > 0 else ends[::-1]
        return Case(self.label, scale * shown.value, *ends, self.n, self.run)


def gap(first: Interval, second: Interval) -> Interval:
    """First minus second, with an interval from those of both.

    Newcombe's square-and-add: right for independent numbers, too wide for
    numbers of the same images. A number without interval counts as known.
    NaN where neither has one. Newcombe 1998.

    Introduced on the page of claims.
    """
    value = first.value - second.value
    a, b = (
        found if found.ci else Interval(*(found.value,) * 3, found.n, 0.95)
        for found in (first, second)
    )
    low = value - math.hypot(a.value - a.low, b.high - b.value)
    high = value + math.hypot(a.high - a.value, b.value - b.low)
    if first.ci is None and second.ci is None:
        low = high = math.nan
    return Interval(value, low, high, first.n, 0.95)


@dataclass(frozen=True)
class Value:
    """Each row by itself, times ``scale``.

    ``share``: the row is a share of its ``n``, with Wilson's interval;
    ``part_of_n``: the row is divided by its ``n``.

    Introduced on the page of claims.
    """

    query: Query
    scale: float = 1.0
    share: bool = False
    part_of_n: bool = False

    @property
    def queries(self) -> Sequence[Query]:
        return (self.query,)

    def cases(self, rows: Rows) -> list[Case]:
        return [self._case(row) for row in self.query.select(rows)]

    def _case(self, row: Row) -> Case:
        if not (self.share or self.part_of_n):
            return row.case(scale=self.scale)
        if row.n is None:
            raise ClaimError(f"{self.query.metric} has no n to divide by")
        if self.part_of_n:
            return row.case(scale=self.scale / row.n)
        hits = round(row.found.value * row.n)
        return row.case(wilson(hits, row.n), self.scale)


@dataclass(frozen=True)
class Gap:
    """First minus second, times ``scale``; pairs share their open keys.

    Introduced on the page of claims.
    """

    first: Query
    second: Query
    scale: float = 1.0

    @property
    def queries(self) -> Sequence[Query]:
        return (self.first, self.second)

    def cases(self, rows: Rows) -> list[Case]:
        return [
            a.case(gap(a.found, b.found), self.scale)
            for a, b in _pairs(self.first, self.second, rows)
        ]


@dataclass(frozen=True)
class Ratio:
    """First over second (a query or a number), no interval.

    ``saving``: 100 (1 − ratio), in per cent. Introduced on the page of
    claims.
    """

    first: Query
    second: Query | float
    saving: bool = False

    @property
    def queries(self) -> Sequence[Query]:
        known = isinstance(self.second, Query)
        return (self.first, self.second) if known else (self.first,)  # type: ignore[return-value]

    def cases(self, rows: Rows) -> list[Case]:
        if isinstance(self.second, Query):
            both = _pairs(self.first, self.second, rows)
            ratios = [(a, a.found.value / b.found.value) for a, b in both]
        else:
            over = self.second
            own = self.first.select(rows)
            ratios = [(a, a.found.value / over) for a in own]
        return [
            Case(
                a.label,
                100 * (1 - ratio) if self.saving else ratio,
                n=a.n,
                run=a.run,
            )
            for a, ratio in ratios
        ]


@dataclass(frozen=True)
class RankLink:
    """Spearman's correlation of two queries over lines equal in ``on``.

    Introduced on the page of claims.
    """

    first: Query
    second: Query
    on: tuple[str, ...]

    @property
    def queries(self) -> Sequence[Query]:
        return (self.first, self.second)

    def cases(self, rows: Rows) -> list[Case]:
        left = {row.at(self.on): row for row in self.first.select(rows)}
        right = {row.at(self.on): row for row in self.second.select(rows)}
        shared = [at for at in left if at in right]
        x = [left[at].found.value for at in shared]
        y = [right[at].found.value for at in shared]
        run = next(iter(left.values())).run
        return [_rank_case(x, y, run, self.first.metric)]


def _varying(rows: Sequence[Row], names: Sequence[str]) -> tuple[str, ...]:
    """Those of the names that tell rows apart."""
    return tuple(n for n in names if len({row.at((n,)) for row in rows}) > 1)


def _pairs(first: Query, second: Query, rows: Rows) -> list[tuple[Row, Row]]:
    """Rows of both that agree in the keys that both leave open."""
    on = [name for name in first.open_names if name in second.open_names]
    found = {row.at(on): row for row in second.select(rows)}
    both = [
        (row, found[row.at(on)])
        for row in first.select(rows)
        if row.at(on) in found
    ]
    if not both:
        raise MissingRowsError(f"{first.metric}: no two rows to compare")
    return both


def _rank_case(
    x: Sequence[float], y: Sequence[float], run: str, metric: str
) -> Case:
    try:
        found = correlation(x, y)
    except StatsError as error:
        raise MissingRowsError(f"{metric}: too few lines to rank") from error
    return Case("", found.value, found.low, found.high, found.n, run)
