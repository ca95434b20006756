"""Figures and tables of the book: one look, one way to show them.

Every figure is drawn twice, with dark ink for light pages and with light
ink for dark ones; the reader's page shows the variant that fits.
"""

from __future__ import annotations

import base64
import html
import io
import re
from collections.abc import Mapping

import matplotlib as mpl
import matplotlib.pyplot as plt
import pandas as pd
from cycler import cycler
from IPython.display import display
from matplotlib.figure import Figure
from PIL import Image

from lq_utils import results
from lq_utils.ink import FAINT, INK, dark_ink
from lq_utils.tables import html_rows

# Okabe and Ito's colours, without black and yellow: those two vanish on
# a dark and on a light page.
COLORS: dict[str, str] = {
    "blue": "#0072B2",
    "vermilion": "#D55E00",
    "green": "#009E73",
    "purple": "#CC79A7",
    "orange": "#E69F00",
    "sky": "#56B4E9",
    "grey": "#7F7F7F",
}
PALETTE: tuple[str, ...] = tuple(COLORS.values())
SEQUENTIAL = "viridis"
DIVERGING = "RdBu_r"
_PIXELS_PER_INCH = 100
_HEAVY = 100_000  # bytes; a page with many such pictures is slow to load
NO_RUN = "not part of a recorded run"

_numbers: dict[tuple[str, str], dict[str, int]] = {}


def use_style() -> None:
    """Set matplotlib's defaults to the look of the book.

    Transparent background, ink that ``show`` can recolour for dark pages,
    a colour-blind-safe cycle, constrained layout.

    Source: colours by M. Okabe and K. Ito, "Color Universal Design".

    Introduced in chapter 1.
    """
    mpl.rcParams.update(
        {
            "text.color": INK,
            "axes.labelcolor": INK,
            "axes.titlecolor": INK,
            "xtick.color": INK,
            "ytick.color": INK,
            "figure.figsize": (7.2, 4.2),
            "figure.dpi": _PIXELS_PER_INCH,
            "figure.constrained_layout.use": True,
            "figure.facecolor": "none",
            "axes.facecolor": "none",
            "savefig.facecolor": "none",
            "axes.edgecolor": INK,
            "axes.prop_cycle": cycler(color=PALETTE),
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.titlesize": 11,
            "axes.titleweight": "bold",
            "axes.titlelocation": "left",
            "axes.axisbelow": True,
            "grid.color": FAINT,
            "grid.linewidth": 0.6,
            "font.size": 10.5,
            "legend.frameon": False,
            "legend.labelcolor": INK,
            "lines.linewidth": 1.8,
            "image.cmap": SEQUENTIAL,
            "patch.edgecolor": INK,
            "boxplot.boxprops.color": INK,
            "boxplot.whiskerprops.color": INK,
            "boxplot.capprops.color": INK,
            "boxplot.medianprops.color": INK,
            "hatch.color": INK,
        }
    )


def show(fig: Figure, caption: str, alt: str, name: str) -> None:
    """Display a figure with its caption, alt text and provenance.

    Works the same in JupyterLab and in the rendered book. The figure is
    closed afterwards, so that no notebook back end shows it a second time.

    Args:
        fig: the figure to show.
        caption: what the reader should see, one or two sentences.
        alt: what the figure shows, for readers who cannot see it.
        name: short name, letters, digits and hyphens; the anchor on the
            page is ``figure-<name>``. A name keeps its number when its
            cell runs again.

    Raises:
        ValueError: a text is empty or the name cannot be an anchor.

    Introduced in chapter 1.
    """
    caption, alt = required_text(caption, "caption"), required_text(alt, "alt")
    label = f"Figure {_number('figure', anchor(name))}"
    light = _image(_png(fig), alt, "only-light")
    with dark_ink(fig):
        dark = _image(_png(fig), alt, "only-dark")
    plt.close(fig)
    body = (
        f'<figure class="lq-figure" id="figure-{name}" '
        # The theme hides a caption that is a sibling of a hidden image.
        f'style="margin:1em 0">\n<div>{light}\n{dark}</div>\n'
        f"{caption_line('figcaption', label, caption)}\n</figure>"
    )
    display(
        {"text/html": body, "text/plain": f"{label}: {caption} [{alt}]"},
        raw=True,
    )


def table(
    frame: pd.DataFrame,
    caption: str,
    digits: int | Mapping[str, int] = 3,
    name: str | None = None,
) -> None:
    """Display a data frame as an accessible HTML table with a caption.

    The index is shown unless it only counts rows (whole numbers without a
    name); missing values become a dash.

    Args:
        frame: the rows to show, all of them.
        caption: what the reader should see, one or two sentences.
        digits: decimals of the float columns, for all or by column; very
            small and very large numbers are written with a power of ten.
        name: anchor ``table-<name>``; by default made from the caption.

    Raises:
        ValueError: no rows, no caption, or a name that cannot be an
            anchor.

    Introduced in chapter 1.
    """
    caption = required_text(caption, "caption")
    if frame.empty:
        raise ValueError(
            f"the table {caption!r} has no rows: show it only when there "
            "is a result, and say in the text when there is none"
        )
    slug = re.sub(r"[^a-z0-9]+", "-", caption.lower()).strip("-")[:60]
    name = anchor(name or slug.lstrip("-0123456789").rstrip("-") or "table")
    label = f"Table {_number('table', name)}"
    body = (
        f'<div class="lq-table" id="table-{name}" role="region" '
        f'tabindex="0" aria-label="{html.escape(label)}" '
        'style="overflow-x:auto;margin:1em 0">\n<table>\n'
        f"{caption_line('caption', label, caption)}\n"
        f"{html_rows(frame, digits)}</table>\n</div>"
    )
    text = f"{label}: {caption}\n{frame.to_string()}"
    display({"text/html": body, "text/plain": text}, raw=True)


def provenance_line() -> str:
    """One line: profile, seed and data of the current run.

    Introduced in chapter 1.
    """
    run = results.current_run()
    if run is None:
        return NO_RUN
    profile = run.parameters.get("profile", "custom")
    seed = run.parameters.get("seed", "none")
    return f"{profile} profile · seed {seed} · {run.provenance.stamp()}"


def required_text(text: str, what: str) -> str:
    """The text on one line.

    Raises ValueError, naming ``what``, where there is none.

    Introduced in chapter 1.
    """
    cleaned = " ".join(text.split()) if isinstance(text, str) else ""
    if not cleaned:
        raise ValueError(
            f"{what} is empty: say in a sentence what there is to see"
        )
    return cleaned


def anchor(name: str) -> str:
    """The name, if it can be an anchor on a page; else ValueError.

    Introduced in chapter 1.
    """
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9-]*", name):
        raise ValueError(
            f"the name {name!r} cannot be an anchor: start with a letter "
            "and use letters, digits and hyphens"
        )
    return name


def _number(kind: str, name: str) -> int:
    """Number of a figure or table, counted by first showing in a run."""
    run = results.current_run()
    known = _numbers.setdefault((kind, run.id if run else ""), {})
    return known.setdefault(name, len(known) + 1)


def caption_line(tag: str, label: str, caption: str) -> str:
    """Caption element, with the line on profile, seed and data.

    Introduced in chapter 1.
    """
    # Inline styles serve pages without our CSS.
    return (
        f'<{tag} style="caption-side:bottom;text-align:left;'
        f'padding-top:0.4em"><strong>{label}:</strong> '
        f'{html.escape(caption)}<br><small class="lq-provenance">'
        f"{html.escape(provenance_line())}</small></{tag}>"
    )


def _png(fig: Figure) -> bytes:
    buffer = io.BytesIO()
    fig.savefig(
        buffer,
        format="png",
        dpi=2 * _PIXELS_PER_INCH,
        transparent=True,
        bbox_inches="tight",  # nothing is cut off, whatever the layout did
        pad_inches=0.05,
        metadata={"Software": None},
    )
    png = buffer.getvalue()
    return png if len(png) < _HEAVY else _with_palette(png)


def _with_palette(png: bytes) -> bytes:
    """The picture in 256 colours, about a third of the bytes."""
    buffer = io.BytesIO()
    with Image.open(io.BytesIO(png)) as picture:
        small = picture.quantize(256, Image.Quantize.FASTOCTREE)
        small.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _image(png: bytes, alt: str, variant: str) -> str:
    """Image element; a page without our CSS shows the light one, on white."""
    look = "background:#fff;" if variant == "only-light" else "display:none;"
    data = base64.b64encode(png).decode("ascii")
    # The header of a PNG holds its width; two pixels make one of CSS.
    width = int.from_bytes(png[16:20], "big") // 2
    return (
        f'<img class="{variant}" alt="{html.escape(alt)}" width="{width}" '
        f'style="{look}max-width:100%;height:auto" '
        f'src="data:image/png;base64,{data}">'
    )
