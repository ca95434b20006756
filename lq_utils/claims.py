"""The claims page: every claim of the sources, with what decides it.

python -m lq_utils.claims            writes book/claims.md and the summary
python -m lq_utils.claims --check    fails if one of them is out of date

The summary stands between two markers in book/intro.md.
"""

from __future__ import annotations

import textwrap
from pathlib import Path

import pandas as pd

import lq_utils.claims_poster
import lq_utils.claims_poster_files
import lq_utils.claims_report
import lq_utils.claims_report_methods
import lq_utils.claims_report_sweeps
import lq_utils.claims_thesis
import lq_utils.claims_thesis_clusters
import lq_utils.claims_thesis_hybrid
import lq_utils.claims_thesis_layers  # noqa: F401
from lq_utils.claims_core import (
    CLAIMS,
    NOT_RUN,
    VERDICTS,
    Claim,
    ClaimError,
    Finding,
    Rows,
    find,
)
from lq_utils.claims_coverage import PLACES, Place
from lq_utils.claims_headlines import headlines
from lq_utils.claims_text import (
    cell,
    evidence,
    runs,
    section_link,
    theirs,
)
from lq_utils.errata import DOCUMENTS
from lq_utils.generated_pages import write_or_check
from lq_utils.paths import REFERENCE, ROOT
from lq_utils.rows import load_rows

PAGE = ROOT / "book" / "claims.md"
COMMAND = "python -m lq_utils.claims"
FRONT = ROOT / "book" / "intro.md"
START = "<!-- claims summary: start -->"
END = "<!-- claims summary: end -->"
SYNTHETIC = "synthetic"  # the rung of images that the book draws
# What to do for networks that no chapter runs.
LARGE = (
    "Needs a large network that no chapter runs: "
    "`python -m lq_utils network --list` has the commands."
)
INTRODUCTION = """\
<!-- Written by `python -m lq_utils.claims`: change the claims, not this. -->

# Claims of the sources

What the three documents say that can be tested, one entry a claim, in our
words. This page is not typed: the source's numbers are looked up in
`data/published/`, ours are rows of reference runs in `data/results/`, and a
rule turns them into a verdict. Misprints are another matter, for which there
is the [errata page](errata.md).

## How a verdict is made

Each claim names a reading of result rows (a value, a difference, a ratio, a
rank correlation), and the side of a bound on which it has to lie. A
difference of two rows has an interval from those of both, which is wider than
need be for rows of the same images.

- **Reproduced**: the value and its whole interval are on the claimed side.
  Where the claim has a size, the source's number is within the stated
  tolerance as well, or within our interval. Numbers without an error of
  sampling, such as sizes of files, need no interval.
- **Reproduced in direction only**: the value is on the claimed side, but the
  interval is not, or there is none; or the side is right and the size is not.
- **Not reproduced**: the value is on the other side; or the interval holds no
  effect and excludes the source's number. Look at the interval to see how
  weak or strong this is.
- **Undecidable from the source**: the source leaves out what a test would
  need. The entry says what.
- **Not yet run**: the chapter has no reference rows for it. The entry names
  the command that makes them. Rows from images that the book draws itself
  decide nothing.

A claim about several cases is reproduced if all of them are, reproduced in
direction only if more than half of them are at least that, and else not
reproduced. Intervals cover 95 per cent. *n* says what they are over. One
network cannot speak for others: where an entry says "one network", its
interval knows nothing of other trainings.

"""


def photographs(chapter: str) -> pd.DataFrame | None:
    """Committed rows of a chapter from photographs; None without any.

    Introduced on the page of claims.
    """
    folder = REFERENCE / chapter
    if not (folder / "rows.csv").is_file():
        return None
    rows = load_rows(folder)
    rows = rows[rows["rung"] != SYNTHETIC]
    return None if rows.empty else rows


def reference() -> Rows:
    """Rows that decide: of every chapter that some claim reads.

    Introduced on the page of claims.
    """
    chapters = dict.fromkeys(
        query.chapter
        for asked in CLAIMS.values()
        for part in asked.parts
        for query in part.reading.queries
    )
    return {chapter: photographs(chapter) for chapter in chapters}


def _ends(asked: Claim, found: Finding, rows: Rows) -> str:
    """Below the table: what is missing, what it was run on, or the reason."""
    if asked.reason:
        return asked.reason
    if asked.large:
        return LARGE
    if found.verdict != NOT_RUN:
        return runs(found)
    chapters = {q.chapter for p in asked.parts for q in p.reading.queries}
    numbers = sorted(chapter[:2] for chapter in chapters)
    commands = " and ".join(
        f"`python -m lq_utils run {n} --profile full`, then "
        f"`python -m lq_utils reference {n}`"
        for n in numbers
    )
    old = any(rows.get(chapter) is not None for chapter in chapters)
    older = f" (there are rows, but not these: {found.missing})" if old else ""
    return f"To run: {commands}{older}."


def entry(asked: Claim, rows: Rows) -> str:
    """One claim of the page, in Markdown.

    Introduced on the page of claims.
    """
    found = find(asked, rows)
    where = asked.where[0].upper() + asked.where[1:]
    lines = [
        f"(claim-{asked.id})=\n### {asked.title}",
        f"*{where}.* **Verdict: {found.verdict}.**",
        _filled(f"*Decided by:* {asked.test}"),
    ]
    printed = theirs(asked)
    if printed:
        lines.append(f"*The source:* {printed}")
    if found.cases:
        lines.append(f"*Here:* {evidence(asked, found)}")
    link = section_link(asked.chapter, asked.section)
    lines.append(f"{_ends(asked, found, rows)}\nSee {link}.")
    return "\n\n".join(lines) + "\n"


def _filled(text: str) -> str:
    return textwrap.fill(text, 79)


def summary(rows: Rows) -> str:
    """How many claims of each source have which verdict, in Markdown.

    Introduced on the page of claims.
    """
    lines = [
        "| source | " + " | ".join(VERDICTS) + " | all |",
        "|---|" + "---|" * (len(VERDICTS) + 1),
    ]
    for document, (title, _) in DOCUMENTS.items():
        own = [c for c in CLAIMS.values() if c.document == document]
        found = [find(asked, rows).verdict for asked in own]
        counts = [str(found.count(verdict)) for verdict in VERDICTS]
        lines.append(f"| {title} | {' | '.join(counts)} | {len(own)} |")
    return "\n".join(lines)


def _answers(place: Place) -> str:
    known = [f"{{ref}}`claim-{id}`" for id in place.claims]
    known += [section_link(*section) for section in place.sections]
    return "; ".join(known)


def coverage() -> str:
    """Tables and figures of the sources and what answers each.

    Introduced on the page of claims.
    """
    parts = []
    for document, (title, _) in DOCUMENTS.items():
        lines = ["| place | shows | answered by |", "|---|---|---|"]
        lines += [
            f"| {place.where} | {place.shows} | {cell(_answers(place))} |"
            for place in PLACES
            if place.document == document
        ]
        parts.append(f"### {title}: places\n\n" + "\n".join(lines) + "\n")
    return "\n".join(parts)


def page(rows: Rows | None = None) -> str:
    """The whole page, in Markdown; without rows those that are committed.

    Introduced on the page of claims.
    """
    rows = reference() if rows is None else rows
    text = INTRODUCTION + f"## Summary\n\n{summary(rows)}\n\n"
    for document, (title, source) in DOCUMENTS.items():
        text += f"## {title}\n\nThe source is {{cite:t}}`{source}`.\n\n"
        own = [c for c in CLAIMS.values() if c.document == document]
        own.sort(key=lambda asked: asked.chapter)
        text += "\n".join(entry(asked, rows) for asked in own) + "\n"
    text += "## Every table and figure\n\n" + coverage()
    return text.rstrip() + "\n"


def front(text: str, rows: Rows | None = None) -> str:
    """``text`` of the front page with the summary between its markers.

    Raises ClaimError where the markers are missing. Introduced on the page
    of claims.
    """
    rows = reference() if rows is None else rows
    before, start, rest = text.partition(START)
    _, end, after = rest.partition(END)
    if not start or not end:
        raise ClaimError(
            f"book/intro.md lacks the lines {START} and {END}; put them "
            "where the summary of claims shall stand"
        )
    more = "Every claim, its test and its rows: [the claims](claims.md)."
    found = "\n\n".join((summary(rows), headlines(rows), more))
    return f"{before}{START}\n{found}\n{END}{after}"


def _wanted() -> dict[Path, str]:
    return {PAGE: page(), FRONT: front(FRONT.read_text(encoding="utf-8"))}


def main(arguments: list[str] | None = None) -> int:
    """Write or check page and summary; the exit status.

    Introduced on the page of claims.
    """
    return write_or_check(_wanted(), COMMAND, arguments)


if __name__ == "__main__":
    raise SystemExit(main())
