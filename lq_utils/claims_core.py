"""What a claim is: where it stands, what decides it, which verdicts it has.

A claim is data: parts that read result rows, a bound, a sign, the source's
number. One rule, ``judge``, turns every reading into a verdict.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import pandas as pd

from lq_utils.errata_core import POSTER, REPORT, THESIS
from lq_utils.published import published_row

REPRODUCED = "reproduced"
DIRECTION = "reproduced in direction only"
NOT_REPRODUCED = "not reproduced"
UNDECIDABLE = "undecidable from the source"
NOT_RUN = "not yet run"
VERDICTS = (REPRODUCED, DIRECTION, NOT_REPRODUCED, UNDECIDABLE, NOT_RUN)

# What ``n`` counts.
NETWORKS = "networks"
IMAGES = "images; one training a network"
SUBSETS = "subsets; one network"
PAIRS = "pairs of classes; one map"

Rows = dict[str, pd.DataFrame | None]  # rows by chapter


class ClaimError(ValueError):
    """A claim of the ledger is not well formed.

    Introduced on the page of claims.
    """


class MissingRowsError(LookupError):
    """Rows that a claim reads are not there (yet).

    Introduced on the page of claims.
    """


@dataclass(frozen=True)
class Number:
    """A number of a source, or a difference or quotient of two, as text too.

    Introduced on the page of claims.
    """

    value: float
    text: str

    def __sub__(self, other: Number) -> Number:
        return Number(self.value - other.value, f"{self.text} − {other.text}")

    def __truediv__(self, other: Number) -> Number:
        return Number(self.value / other.value, f"{self.text} / {other.text}")

    def shown(self) -> str:
        """The text, and what it comes to where it is a calculation."""
        plain = " " not in self.text
        text = self.text if plain else f"{self.text} = {self.value:.4g}"
        return text.replace("-", "−")


def number(document: str, where: str, quantity: str, **keys: object) -> Number:
    """The one number at a place of a source, as printed.

    Raises PublishedError for an unknown place, and where the keys do not
    single out one number. Introduced on the page of claims.
    """
    row = published_row(document, where, quantity, **keys)
    return Number(float(row["value"]), str(row["printed"]))


@dataclass(frozen=True)
class Case:
    """One number of ours: value, interval (NaN: none), n, and its run.

    Introduced on the page of claims.
    """

    label: str
    value: float
    low: float = math.nan
    high: float = math.nan
    n: int | None = None
    run: str = ""

    @property
    def has_interval(self) -> bool:
        """Whether both ends are known."""
        return math.isfinite(self.low) and math.isfinite(self.high)


class Query(Protocol):
    """Names rows: a chapter, a metric and keys.

    Introduced on the page of claims.
    """

    @property
    def chapter(self) -> str: ...

    @property
    def metric(self) -> str: ...

    @property
    def names(self) -> tuple[str, ...]: ...


class Reading(Protocol):
    """Turns rows into cases; see ``claims_readings``.

    Introduced on the page of claims.
    """

    @property
    def queries(self) -> Sequence[Query]: ...

    def cases(self, rows: Rows) -> list[Case]: ...


@dataclass(frozen=True)
class Part:
    """A reading of our rows, and the source's number for it, if any.

    ``tolerance``: this part's own, in place of the claim's.

    Introduced on the page of claims.
    """

    reading: Reading
    printed: Number | None = None
    label: str = ""
    tolerance: float | None = None


@dataclass(frozen=True)
class Claim:
    """One claim of a source.

    The claim holds for a case if ``sign`` times (value − ``bound``) is
    above zero, and the interval agrees. With a ``tolerance`` (in ``unit``)
    the size counts as well: the source's number must be within it, or
    within our interval. ``exact`` numbers have no error of sampling, so
    that the value decides alone. ``reason`` says why a claim cannot be
    decided from its source; ``large`` claims need a network that no
    chapter runs.

    Introduced on the page of claims.
    """

    id: str
    document: str
    where: str
    title: str
    test: str
    chapter: str
    section: str
    parts: tuple[Part, ...] = ()
    basis: str = IMAGES
    bound: float = 0.0
    sign: int = 1
    tolerance: float | None = None
    exact: bool = False
    unit: str = "points"
    digits: int = 2
    reason: str = ""
    large: bool = False


@dataclass(frozen=True)
class Finding:
    """What the rows say of a claim.

    Introduced on the page of claims.
    """

    verdict: str
    cases: list[tuple[Part, Case]] = field(default_factory=list)
    missing: str = ""


CLAIMS: dict[str, Claim] = {}


def claim(
    id: str,
    document: str,
    where: str,
    title: str,
    test: str,
    chapter: str,
    section: str,
    *parts: Part,
    **more: object,
) -> Claim:
    """Put a claim on the page; further fields of ``Claim`` by name.

    Raises ClaimError for an id that is taken, an unknown source, a sign
    that is none, and a claim that nothing decides.

    Introduced on the page of claims.
    """
    fields = (id, document, where, title, test, chapter, section, parts)
    made = Claim(*fields, **more)  # type: ignore[arg-type]
    if id in CLAIMS:
        raise ClaimError(f"the id {id!r} is taken; choose another")
    if document not in (REPORT, POSTER, THESIS):
        raise ClaimError(f"{document!r} is none of the three sources")
    if made.sign not in (1, -1):
        raise ClaimError(f"{id}: sign is {made.sign}; choose 1 or -1")
    if bool(parts) + bool(made.reason) + made.large != 1:
        raise ClaimError(
            f"{id}: give parts that decide it, or the reason why nothing "
            "can, or say that it needs a large network"
        )
    CLAIMS[id] = made
    return made


def judge(asked: Claim, part: Part, case: Case) -> str:
    """The verdict on one case; the rules are those of the page.

    Introduced on the page of claims.
    """
    sign, printed = asked.sign, part.printed
    if sign * (case.value - asked.bound) <= 0:
        return NOT_REPRODUCED
    ends = sorted((sign * case.low, sign * case.high))
    sure = asked.exact or (case.has_interval and ends[0] > sign * asked.bound)
    if not sure:
        too_small = (
            printed is not None
            and case.has_interval
            and sign * printed.value > ends[1]
        )
        return NOT_REPRODUCED if too_small else DIRECTION
    own = part.tolerance
    tolerance = asked.tolerance if own is None else own
    if tolerance is None or printed is None:
        return REPRODUCED
    near = abs(case.value - printed.value) <= tolerance
    inside = case.has_interval and case.low <= printed.value <= case.high
    return REPRODUCED if near or inside else DIRECTION


def combined(verdicts: Sequence[str]) -> str:
    """The verdict on a claim about several cases.

    Reproduced where all are; in direction only where more than half have
    the direction at least; else not reproduced. Raises ClaimError for no
    cases. Introduced on the page of claims.
    """
    if not verdicts:
        raise ClaimError("a claim without cases has no verdict")
    if all(verdict == REPRODUCED for verdict in verdicts):
        return REPRODUCED
    agree = sum(verdict != NOT_REPRODUCED for verdict in verdicts)
    return DIRECTION if 2 * agree > len(verdicts) else NOT_REPRODUCED


def find(asked: Claim, rows: Rows) -> Finding:
    """Cases of a claim in these rows, and the verdict.

    Introduced on the page of claims.
    """
    if asked.reason:
        return Finding(UNDECIDABLE)
    if asked.large:
        return Finding(NOT_RUN)
    try:
        cases = [
            (part, case)
            for part in asked.parts
            for case in part.reading.cases(rows)
        ]
    except MissingRowsError as error:
        return Finding(NOT_RUN, missing=str(error))
    verdicts = [judge(asked, part, case) for part, case in cases]
    return Finding(combined(verdicts), cases)
