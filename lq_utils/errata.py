"""The errata page, written from checks that recompute every number.

python -m lq_utils.errata            writes book/errata.md
python -m lq_utils.errata --check    fails if the page is out of date
"""

from __future__ import annotations

import inspect
import textwrap

import lq_utils.errata_poster
import lq_utils.errata_poster_sizes
import lq_utils.errata_report
import lq_utils.errata_text
import lq_utils.errata_thesis
import lq_utils.errata_thesis_accuracy
import lq_utils.errata_thesis_dimensions
import lq_utils.errata_thesis_formulas  # noqa: F401
from lq_utils.errata_core import (
    ERRATA,
    POSTER,
    REPORT,
    THESIS,
    Comparison,
    Erratum,
    Finding,
    Numbers,
)
from lq_utils.generated_pages import write_or_check
from lq_utils.paths import ROOT

PAGE = ROOT / "book" / "errata.md"
COMMAND = "python -m lq_utils.errata"
DOCUMENTS = {
    REPORT: ("Label-aware report", "dirisala-label-aware"),
    POSTER: ("Bit-efficient poster", "nayak2019bit"),
    THESIS: ("QuantNET thesis", "anirudh2022optimal"),
}
COLUMNS = ("what", "printed", "recomputed", "how", "")
INTRODUCTION = """\
<!-- Written by `python -m lq_utils.errata`: change the checks, not this. -->

# Errata of the sources

The three documents contain slips, as every document does. This page lists
those that matter for a reader who compares numbers. It is not typed: every
printed value is looked up in `data/published/`, every right value is computed
by a short function, and the test suite runs all of them. Unfold *The check*
under an entry to see the function.

A ✗ marks a number or claim that the check does not confirm. A ✓ marks one that
it does confirm: some entries need both, to show which reading is right.
Entries without a table rest on reasoning alone.

"""


class ErrataError(AssertionError):
    """A check does not confirm what its erratum says.

    Introduced on the errata page.
    """


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _table(comparisons: list[Comparison]) -> str:
    lines = [
        "| " + " | ".join(COLUMNS) + " |",
        "|" + "---|" * len(COLUMNS),
    ]
    for item in comparisons:
        mark = "✓" if item.agrees else "✗"
        cells = (item.what, item.printed, item.found, item.how, mark)
        lines.append("| " + " | ".join(map(_cell, cells)) + " |")
    return "\n".join(lines)


def _paragraphs(text: str) -> str:
    parts = text.split("\n\n")
    return "\n\n".join(textwrap.fill(part, 79) for part in parts)


def find(entry: Erratum, numbers: Numbers | None = None) -> Finding:
    """Run an erratum's check.

    Raises
    ------
    ErrataError
        A comparison came out otherwise than the erratum says.

    Introduced on the errata page.
    """
    finding = entry.check(Numbers() if numbers is None else numbers)
    wrong = [item.what for item in finding.comparisons if not item.holds]
    if wrong:
        raise ErrataError(
            f"erratum {entry.id}: the check no longer shows {wrong}; "
            "look at the look-ups or correct the erratum"
        )
    return finding


def section(entry: Erratum) -> str:
    """One entry of the page, in Markdown.

    Introduced on the errata page.
    """
    finding = find(entry)
    parts = [
        f"(erratum-{entry.id})=\n### {entry.title}",
        f"*Where: {entry.where}*",
        _paragraphs(finding.verdict),
    ]
    if finding.comparisons:
        source = inspect.getsource(entry.check).rstrip()
        parts += [
            _table(finding.comparisons),
            f"````{{dropdown}} The check\n```python\n{source}\n```\n````",
        ]
    return "\n\n".join(parts) + "\n"


def page() -> str:
    """The whole errata page, in Markdown.

    Introduced on the errata page.
    """
    text = INTRODUCTION
    for document, (title, source) in DOCUMENTS.items():
        text += f"## {title}\n\nThe source is {{cite:t}}`{source}`.\n\n"
        entries = [e for e in ERRATA.values() if e.document == document]
        # Entries with arithmetic first; those of reasoning alone last.
        entries.sort(key=lambda entry: not find(entry).comparisons)
        text += "\n".join(section(entry) for entry in entries) + "\n"
    return text.rstrip() + "\n"


def main(arguments: list[str] | None = None) -> int:
    """Write or check the page; the exit status.

    Introduced on the errata page.
    """
    return write_or_check({PAGE: page()}, COMMAND, arguments)


if __name__ == "__main__":
    raise SystemExit(main())
