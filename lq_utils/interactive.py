"""Interactive figures: a drawing that the reader steps through.

One script, ``book/_static/interactive.js``, serves all of them. The book
loads it once; a notebook carries it in the cell's output. Without a script
the table of numbers is shown instead.
"""

from __future__ import annotations

import html
import json
import re
from functools import cache
from typing import Any

from IPython.display import display

from lq_utils.figures import anchor, caption_line, required_text
from lq_utils.interactive_data import points_data, steps_data
from lq_utils.interactive_pieces import InteractiveError, Points, Steps
from lq_utils.paths import ROOT
from lq_utils.tables import html_rows

STATIC = ROOT / "book" / "_static"
LIMIT = 150_000  # bytes of an interactive figure on its page
_SHARED = re.compile(r"<!--lq-shared-->.*?<!--/lq-shared-->\n?", re.DOTALL)


def show_interactive(
    piece: Steps | Points, caption: str, alt: str, name: str, digits: int = 3
) -> None:
    """Display an interactive figure with caption, table and provenance.

    The same data gives the same bytes. In JupyterLab the output brings
    the script and style along; the page of the book has its own.

    Args:
        piece: what to step through, or points to choose from.
        caption: what the reader should see, one or two sentences.
        alt: what the drawing shows, for readers who cannot see it.
        name: short name, letters, digits and hyphens; the anchor on the
            page is ``interactive-<name>``.
        digits: decimals in the table of numbers.

    Raises:
        InteractiveError: marks that cannot be drawn, or more than fits
            a page.
        ValueError: a text is empty or the name cannot be an anchor.

    Introduced in chapter 1.
    """
    body = interactive_html(piece, caption, alt, name, digits)
    text = f"Interactive figure: {caption} [{alt}]"
    shared = _shared()
    display({"text/html": body + shared, "text/plain": text}, raw=True)


def without_shared(page: str) -> str:
    """HTML of a cell's output without the script that the book loads.

    Introduced in chapter 1.
    """
    return _SHARED.sub("", page)


def interactive_html(
    piece: Steps | Points, caption: str, alt: str, name: str, digits: int = 3
) -> str:
    """The figure as HTML, without the shared script and style.

    Arguments as for :func:`show_interactive`. Raises InteractiveError where
    the table of numbers is empty.

    Introduced in chapter 1.
    """
    caption = required_text(caption, "caption")
    alt = required_text(alt, "alt")
    own = f"interactive-{anchor(name)}"
    if piece.numbers.empty:
        raise InteractiveError(
            "no rows in numbers: readers without a script see this table"
        )
    data: dict[str, Any]
    if isinstance(piece, Steps):
        data, controls = steps_data(piece), _slider(piece, own)
    else:
        data, controls = points_data(piece), _lists(piece, own)
    body = (
        f'<figure class="lq-interactive" id="{own}" style="margin:1em 0">\n'
        f'<div class="lq-controls" hidden>{controls}</div>\n'
        f'<div class="lq-panels" role="img" aria-label="{html.escape(alt)}" '
        "hidden></div>\n"
        '<p class="lq-words" aria-live="polite" hidden></p>\n'
        f"{_numbers(piece, digits)}\n"
        f'<script type="application/json">{_json(data)}</script>\n'
        f"{caption_line('figcaption', 'Interactive figure', caption)}\n"
        "</figure>\n"
    )
    size = len(body.encode("utf-8"))
    if size > LIMIT:
        raise InteractiveError(
            f"{name}: {size:,} bytes, more than {LIMIT:,}: show fewer steps "
            "or fewer points"
        )
    return body


def _slider(piece: Steps, own: str) -> str:
    label = html.escape(required_text(piece.slider, "slider"))
    return (
        f'<label for="{own}-step">{label}</label>'
        f'<input type="range" id="{own}-step" min="0" '
        f'max="{len(piece.frames) - 1}" step="1" value="0">'
        f'<output for="{own}-step"></output>'
    )


def _lists(piece: Points, own: str) -> str:
    names = piece.points["name"].astype(str).tolist()
    ordered = sorted(enumerate(names), key=lambda pair: pair[1])
    groups = dict.fromkeys(piece.points["group"].astype(str))
    shown = "".join(_option(str(k), group) for k, group in enumerate(groups))
    chosen = "".join(_option(str(k), name) for k, name in ordered)
    return (
        f'<label for="{own}-group">{html.escape(piece.group)}</label>'
        f'<select id="{own}-group">{_option("all", "all")}{shown}</select>'
        f'<label for="{own}-choice">{html.escape(piece.choice)}</label>'
        f'<select id="{own}-choice">{chosen}</select>'
    )


def _option(value: str, text: str) -> str:
    return f'<option value="{value}">{html.escape(text)}</option>'


def _numbers(piece: Steps | Points, digits: int) -> str:
    return (
        '<details class="lq-data" open><summary>The numbers as a table'
        '</summary>\n<div class="lq-table" role="region" tabindex="0" '
        'aria-label="The numbers as a table" style="overflow-x:auto">'
        f"<table>\n{html_rows(piece.numbers, digits)}</table></div></details>"
    )


def _json(data: dict[str, Any]) -> str:
    """Compact JSON that no HTML parser takes for a tag."""
    text = json.dumps(data, separators=(",", ":"), ensure_ascii=False)
    for sign in "<>&":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text


@cache
def _shared() -> str:
    style = (STATIC / "interactive.css").read_text("utf-8")
    script = (STATIC / "interactive.js").read_text("utf-8")
    return (
        f"<!--lq-shared--><style>\n{style}</style>"
        f"<script>\n{script}</script><!--/lq-shared-->\n"
    )
