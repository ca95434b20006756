"""How claims, numbers and links are written on the claims page."""

from __future__ import annotations

import math

from docutils.nodes import make_id

from lq_utils.claims_core import NETWORKS, Case, Claim, Finding, Part

MOST = 8  # cases shown one by one


def cell(text: str) -> str:
    """Text that may stand in a cell of a table.

    Introduced on the page of claims.
    """
    return text.replace("|", "\\|")


def shown(value: float, digits: int) -> str:
    """A number with these digits, and a true minus sign.

    Introduced on the page of claims.
    """
    rounded = round(value, digits) + 0.0  # no negative zero
    return f"{rounded:,.{digits}f}".replace("-", "−")


def heading_id(heading: str) -> str:
    """The id that a heading has in the rendered book.

    Introduced on the page of claims.
    """
    # Apostrophes become typographic, which ids leave out.
    return str(make_id(heading.replace("'", "")))


def section_link(chapter: str, section: str) -> str:
    """A link to a section of a chapter's page.

    Introduced on the page of claims.
    """
    place = f"chapters/{chapter}.html#{heading_id(section)}"
    name = f"chapter {int(chapter[:2])}, {section}"
    return f'<a class="reference internal" href="{place}">{name}</a>'


def _counted(asked: Claim, case: Case) -> str:
    if case.n is None:
        return asked.basis if asked.basis != NETWORKS else ""
    if asked.basis == NETWORKS and case.n == 1:
        return "one network"
    return f"n = {case.n:,} {asked.basis}"


def _name(part: Part, case: Case) -> str:
    names = [name for name in (part.label, case.label) if name]
    return ", ".join(dict.fromkeys(names))


def case_text(asked: Claim, part: Part, case: Case) -> str:
    """``label: value [low, high] unit``.

    Introduced on the page of claims.
    """
    text = shown(case.value, asked.digits)
    if math.isfinite(case.low) and math.isfinite(case.high):
        ends = (shown(end, asked.digits) for end in (case.low, case.high))
        text += f" [{', '.join(ends)}]"
    name = _name(part, case)
    start = f"{name}: " if name else ""
    return f"{start}{text} {asked.unit}".rstrip()


def evidence(asked: Claim, found: Finding) -> str:
    """Our numbers, with n, for the page.

    Introduced on the page of claims.
    """
    texts = [case_text(asked, *pair) for pair in found.cases[:MOST]]
    more = len(found.cases) - MOST
    if more > 0:
        texts.append(f"and {more} more cases")
    counts = dict.fromkeys(_counted(asked, case) for _, case in found.cases)
    return f"{'; '.join(texts)} ({' or '.join(filter(None, counts))})."


def runs(found: Finding) -> str:
    """Profile, data set and rung of the rows that were read.

    Introduced on the page of claims.
    """
    seen = dict.fromkeys(case.run for _, case in found.cases)
    return f"Rows of the {'; '.join(seen)}."


def theirs(asked: Claim) -> str:
    """The source's numbers, as printed; empty where it prints none.

    Introduced on the page of claims.
    """
    texts = []
    for part in asked.parts:
        if part.printed is not None:
            start = f"{part.label}: " if part.label else ""
            texts.append(start + part.printed.shown())
    return "; ".join(texts) + "." if texts else ""
