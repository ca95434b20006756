"""What an erratum is: printed numbers, a check that recomputes, a verdict."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from lq_utils.published import published

REPORT = "label_aware_report"
POSTER = "bit_efficient_poster"
THESIS = "quantnet_thesis"
DERIVED = "label_aware_derived"
PEERS = "peers"

Key = tuple[str, str, str, str]


class Printed(float):
    """A number as a source prints it; it remembers where it stands.

    Introduced on the errata page.
    """

    text: str
    key: Key


class Numbers:
    """Look-ups in ``data/published/`` that remember what was used.

    Parameters
    ----------
    changes
        Replacement values by row, so that a test can show that a check
        notices changed input.

    Introduced on the errata page.
    """

    def __init__(self, changes: Mapping[Key, float] | None = None) -> None:
        self.changes = dict(changes or {})
        self.used: dict[Key, float] = {}

    def __call__(
        self, document: str, where: str, quantity: str, **keys: Any
    ) -> Printed:
        """The one number at a place of a document."""
        key = (document, where, quantity, json.dumps(keys, sort_keys=True))
        index = _index(document)
        if key not in index:
            raise LookupError(
                f"no row has exactly these keys: {document}, {where}, "
                f"{quantity!r}, {keys}; look into data/published/"
            )
        text = index[key]
        value = float(self.changes.get(key, float(text)))
        self.used[key] = value
        number = Printed(value)
        number.key = key
        number.text = show(value) if key in self.changes else text
        return number


@cache
def _index(document: str) -> dict[Key, str]:
    """The printed text of every row of a document."""
    return {
        (
            document,
            row.where,
            row.quantity,
            json.dumps(row.keys, sort_keys=True),
        ): row.printed
        for row in published(document).itertuples()
    }


@dataclass(frozen=True)
class Comparison:
    """One printed number or claim beside what the check finds.

    ``misprint`` says what the erratum asserts: that the two differ, or (for
    a number that was checked and is right) that they agree.

    Introduced on the errata page.
    """

    what: str
    printed: str
    found: str
    how: str
    agrees: bool
    misprint: bool
    key: Key | None = None
    right: float | None = None

    @property
    def holds(self) -> bool:
        """Whether the check confirms what the erratum says."""
        return self.agrees != self.misprint


def show(value: float, digits: int = 4) -> str:
    """A number for the page: whole numbers whole, others rounded.

    Introduced on the errata page.
    """
    rounded = round(float(value), digits) + 0.0  # no negative zero
    if rounded.is_integer():
        return f"{int(rounded):,}"
    return f"{rounded:,.{digits}f}".rstrip("0").rstrip(".")


def number(
    what: str,
    printed: Printed,
    right: float,
    how: str,
    *,
    tolerance: float,
    misprint: bool = True,
) -> Comparison:
    """Compare a printed number with the one that the check computes.

    Introduced on the errata page.
    """
    agrees = abs(float(printed) - right) <= tolerance
    return Comparison(
        what,
        printed.text,
        show(right),
        how,
        agrees,
        misprint,
        printed.key,
        float(right),
    )


def claim(
    what: str,
    says: str,
    found: str,
    how: str,
    *,
    agrees: bool,
    misprint: bool = True,
) -> Comparison:
    """Compare a claim in words with what the check finds.

    Introduced on the errata page.
    """
    return Comparison(what, says, found, how, bool(agrees), misprint)


@dataclass(frozen=True)
class Finding:
    """What a check returns: a verdict in words, and its comparisons.

    Introduced on the errata page.
    """

    verdict: str
    comparisons: list[Comparison] = field(default_factory=list)


Check = Callable[[Numbers], Finding]


@dataclass(frozen=True)
class Erratum:
    """One entry of the errata page.

    Introduced on the errata page.
    """

    id: str
    document: str
    where: str
    title: str
    check: Check


ERRATA: dict[str, Erratum] = {}


def erratum(
    id: str, document: str, where: str, title: str
) -> Callable[[Check], Check]:
    """Put a check on the errata page.

    Raises
    ------
    ValueError
        The id is taken.

    Introduced on the errata page.
    """

    def register(check: Check) -> Check:
        if id in ERRATA:
            raise ValueError(f"erratum id {id!r} is taken; choose another")
        ERRATA[id] = Erratum(id, document, where, title, check)
        return check

    return register
