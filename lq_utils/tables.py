"""Data frames as the rows of an accessible HTML table."""

from __future__ import annotations

import html
import math
import numbers
from collections.abc import Mapping

import pandas as pd


def html_rows(frame: pd.DataFrame, digits: int | Mapping[str, int]) -> str:
    """Head and body of an HTML table, text escaped, numbers to the right.

    The index is shown unless it only counts rows, those of a longer table
    too: whole numbers without a name.

    Args:
        frame: the rows.
        digits: decimals of the float columns, for all or by column.

    Introduced in chapter 1.
    """
    whole = pd.api.types.is_integer_dtype(frame.index)
    counts_only = whole and frame.index.name is None
    shown = frame.reset_index(drop=counts_only)
    styles = [_style(shown.iloc[:, k]) for k in range(shown.shape[1])]
    head = "".join(
        f'<th scope="col"{style}>{html.escape(str(column))}</th>'
        for column, style in zip(shown.columns, styles)
    )
    places = [
        digits if isinstance(digits, int) else digits.get(str(c), 3)
        for c in shown.columns
    ]
    lines = [f"<thead><tr>{head}</tr></thead>\n<tbody>\n"]
    for row in shown.itertuples(index=False, name=None):
        cells = "".join(
            f"<td{style}>{_cell(value, place)}</td>"
            for value, style, place in zip(row, styles, places)
        )
        lines.append(f"<tr>{cells}</tr>\n")
    return "".join(lines) + "</tbody>\n"


def _style(column: pd.Series) -> str:
    """Numbers to the right; short texts stay on one line."""
    boolean = pd.api.types.is_bool_dtype(column)
    if pd.api.types.is_numeric_dtype(column) and not boolean:
        return ' style="text-align:right;white-space:nowrap"'
    short = column.astype(str).str.len().max() <= 24
    wrap = ";white-space:nowrap" if short else ""
    return f' style="text-align:left{wrap}"'


def _cell(value: object, digits: int) -> str:
    if isinstance(value, (list, tuple)):
        return ", ".join(_cell(item, digits) for item in value)
    if value is None or value is pd.NA or value is pd.NaT:
        return "–"
    if isinstance(value, bool) or type(value).__name__ == "bool":
        return "yes" if value else "no"
    if isinstance(value, numbers.Integral):
        return str(int(value))
    if isinstance(value, numbers.Real):
        return _float(float(value), digits)
    return html.escape(str(value))


def _float(value: float, digits: int) -> str:
    if math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    small = value != 0 and abs(value) < 0.5 * 10.0**-digits
    if small or abs(value) >= 1e6:
        mantissa, power = f"{value:.{max(digits - 1, 0)}e}".split("e")
        text = f"{mantissa} · 10<sup>{int(power)}</sup>"
    else:
        text = f"{value:.{digits}f}"
    return text.replace("-", "−")
