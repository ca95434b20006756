"""The claims that the front page shows."""

from __future__ import annotations

from lq_utils.claims_core import CLAIMS, Rows, find
from lq_utils.claims_text import cell, evidence

# What the book is about, in ten claims.
HEADLINES = (
    "report-close-pairs",
    "report-distance-drop",
    "report-own-classes",
    "report-mixed-precision",
    "poster-3-bits",
    "poster-clusters",
    "poster-7zip",
    "thesis-sixteen",
    "thesis-twonn-pca",
    "thesis-proposed",
)


def headlines(rows: Rows) -> str:
    """Table of these claims, their verdicts and our numbers, in Markdown.

    Introduced on the page of claims.
    """
    lines = ["| claim | verdict | here |", "|---|---|---|"]
    for name in HEADLINES:
        asked = CLAIMS[name]
        found = find(asked, rows)
        here = cell(evidence(asked, found)) if found.cases else ""
        link = f"{{ref}}`{asked.title} <claim-{name}>`"
        lines.append(f"| {link} | {found.verdict} | {here} |")
    return "\n".join(lines)
