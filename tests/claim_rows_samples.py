"""Result rows made so that a claim's readings come out as wished."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lq_utils.claims_core import Claim, Part, Rows
from lq_utils.claims_readings import ANY, Gap, Query, RankLink, Ratio, Value
from lq_utils.rows import as_frame

Key = tuple[str, str, str]


@dataclass
class Wish:
    """What a reading shall be: a value, and how far its ends are away."""

    value: float
    below: float = math.nan
    above: float = math.nan


@dataclass
class Made:
    """Rows by chapter, metric and keys; a second wish must not conflict."""

    rows: dict[Key, dict[str, Any]] = field(default_factory=dict)

    def put(
        self, query: Query, wish: Wish, n: int = 1000, **more: Any
    ) -> None:
        """A row for every combination that the query asks for by name."""
        for keys in spelled(query, more):
            key = (query.chapter, query.metric, json.dumps(keys))
            row = {"chapter": query.chapter, "metric": query.metric}
            row |= {"keys": json.dumps(keys), "value": wish.value, "n": n}
            ends = {"ci_low": -wish.below, "ci_high": wish.above}
            row |= {
                name: wish.value + way if math.isfinite(way) else None
                for name, way in ends.items()
            }
            row |= {"dataset": "made", "rung": "synthetic"}
            row |= {"profile": "smoke", "run_id": "0", "seed": 0}
            assert key not in self.rows or self.rows[key] == row
            self.rows[key] = row

    def get(self, query: Query) -> float | None:
        """The value that the query's rows have by now."""
        keys = json.dumps(spelled(query, {})[0])
        row = self.rows.get((query.chapter, query.metric, keys))
        return None if row is None else float(row["value"])

    def frames(self) -> Rows:
        """The rows as a claim reads them."""
        chapters = dict.fromkeys(key[0] for key in self.rows)
        return {
            name: as_frame([r for k, r in self.rows.items() if k[0] == name])
            for name in chapters
        }


def spelled(query: Query, more: dict[str, Any]) -> list[dict[str, Any]]:
    """The keys of a query; one made-up value where any will do."""
    found: list[dict[str, Any]] = [{}]
    for name, wanted in query.keys.items():
        values = wanted if isinstance(wanted, tuple) else (wanted,)
        if wanted == ANY:
            values = (more.get(name, "made"),)
        found = [keys | {name: value} for keys in found for value in values]
    return found


def _value(made: Made, reading: Value, wish: Wish, n: int) -> None:
    if reading.part_of_n:
        made.put(reading.query, Wish(wish.value * n / reading.scale), n)
    elif reading.share:
        made.put(reading.query, Wish(wish.value), n)
    else:
        made.put(reading.query, _scaled(wish, reading.scale), n)


def _scaled(wish: Wish, scale: float) -> Wish:
    ends = (wish.below / abs(scale), wish.above / abs(scale))
    below, above = ends if scale > 0 else ends[::-1]
    return Wish(wish.value / scale, below, above)


def _gap(made: Made, reading: Gap, wish: Wish, n: int) -> None:
    before = made.get(reading.second)
    if before is None:
        before = 0.0
        made.put(reading.second, Wish(before), n)
    moved = _scaled(wish, reading.scale)
    made.put(
        reading.first,
        Wish(moved.value + before, moved.below, moved.above),
        n,
    )


def _ratio(made: Made, reading: Ratio, wish: Wish, n: int) -> None:
    ratio = 1 - wish.value / 100 if reading.saving else wish.value
    if not isinstance(reading.second, Query):
        made.put(reading.first, Wish(ratio * reading.second), n)
        return
    first, second = made.get(reading.first), made.get(reading.second)
    if first is None:
        first = ratio if second is None else ratio * second
        made.put(reading.first, Wish(first), n)
    if second is None:
        made.put(reading.second, Wish(first / ratio), n)


def order(kind: str) -> list[int]:
    """Ranks with a correlation of one, of minus one, or in between."""
    return {
        "same": [0, 1, 2, 3, 4, 5, 6, 7],
        "reversed": [7, 6, 5, 4, 3, 2, 1, 0],
        "unsure": [0, 1, 3, 2],
    }[kind]


def _ranks(made: Made, reading: RankLink, kind: str) -> None:
    ranks = order(kind)
    for x, y in enumerate(ranks):
        at = {name: f"line {x}" for name in reading.on}
        made.put(reading.first, Wish(float(x)), **at)
        # The first query of two parts may be the same one.
        made.put(reading.second, Wish(float(y)), **at)


def write(made: Made, part: Part, wish: Wish, kind: str, n: int) -> None:
    """Add rows of which the part's reading gives the wish."""
    reading = part.reading
    if isinstance(reading, Value):
        _value(made, reading, wish, n)
    elif isinstance(reading, Gap):
        _gap(made, reading, wish, n)
    elif isinstance(reading, Ratio):
        _ratio(made, reading, wish, n)
    elif isinstance(reading, RankLink):
        _ranks(made, reading, kind)
    else:
        raise TypeError(f"no rows can be made for {reading}")


def offset(asked: Claim) -> float:
    """A step from the bound that leaves shares and ratios possible."""
    return 0.4 * abs(asked.bound) or 1.0


def tolerance(asked: Claim, part: Part) -> float | None:
    """How near a part has to be to the source's number."""
    return asked.tolerance if part.tolerance is None else part.tolerance


def held(asked: Claim) -> Rows:
    """Rows by which the claim holds, with its size."""
    made = Made()
    for part in asked.parts:
        value = asked.bound + asked.sign * offset(asked)
        if tolerance(asked, part) is not None and part.printed is not None:
            value = part.printed.value
        tiny = 1e-3 * abs(value - asked.bound)
        write(made, part, Wish(value, tiny, tiny), "same", 1000)
    return made.frames()


def refuted(asked: Claim) -> Rows:
    """Rows by which the claim fails, every case of it."""
    made = Made()
    for part in asked.parts:
        value = asked.bound - asked.sign * offset(asked)
        wish = Wish(value, 1e-6, 1e-6)
        write(made, part, wish, "reversed", 1000)
    return made.frames()


def unsure(asked: Claim) -> Rows:
    """Rows on the claimed side whose intervals reach over the bound."""
    made = Made()
    for part in asked.parts:
        step = offset(asked)
        value = asked.bound + asked.sign * 0.25 * step
        reach = step
        if part.printed is not None:
            reach += abs(part.printed.value - value)
        wish = Wish(value, reach, reach)
        write(made, part, wish, "unsure", 20)
    return made.frames()


def too_large(asked: Claim) -> Rows:
    """Rows surely on the claimed side, far from the source's numbers."""
    made = Made()
    for part in asked.parts:
        assert part.printed is not None
        away = abs(part.printed.value - asked.bound)
        size = away + 10 * float(tolerance(asked, part) or 0)
        value = asked.bound + asked.sign * size
        write(made, part, Wish(value, 1e-6, 1e-6), "same", 1000)
    return made.frames()


def jitter(rows: Rows, seed: int) -> Rows:
    """The same rows in another order."""
    rng = np.random.default_rng(seed)
    return {
        name: frame.iloc[rng.permutation(len(frame))]
        for name, frame in rows.items()
        if frame is not None
    }
