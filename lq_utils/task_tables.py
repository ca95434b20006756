"""One table a task, from a frame that holds all of them."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import pandas as pd

from lq_utils.figures import table


def with_intervals(frame: pd.DataFrame, digits: int = 2) -> pd.DataFrame:
    """A copy in which a value and its interval are one column of text.

    Where there are columns ``x``, ``x_low`` and ``x_high``, the first
    becomes "value [low, high]", without brackets where there is no
    interval; no value gives a dash.

    Introduced in chapter 6.
    """
    page = frame.copy()
    for name in frame.columns:
        low, high = f"{name}_low", f"{name}_high"
        if {low, high} <= set(frame.columns):
            page[name] = [
                _text(*values, digits)
                for values in zip(frame[name], frame[low], frame[high])
            ]
            page = page.drop(columns=[low, high])
    return page


def _text(value: float, low: float, high: float, digits: int) -> str:
    if math.isnan(value):
        return "–"
    text = f"{value:.{digits}f}"
    if not (math.isnan(low) or math.isnan(high)):
        text += f" [{low:.{digits}f}, {high:.{digits}f}]"
    return text.replace("-", "−")


def show_by_task(
    frame: pd.DataFrame,
    caption: str,
    name: str,
    *,
    by: str = "task",
    digits: int = 2,
    drop: Sequence[str] = (),
) -> None:
    """Display the rows of each task as a table, in order of appearance.

    Values and their intervals share a column, see :func:`with_intervals`.

    Args:
        frame: rows with the column ``by``, which is left out.
        caption: of all tables; the task is added.
        name: of the anchors ``table-<name>-<task>``.
        by: the column whose values get a table each.
        digits: decimals of float columns.
        drop: further columns to leave out.

    Raises KeyError for a column that is not there, ValueError for no
    rows. Introduced in chapter 6.
    """
    if frame.empty:
        raise ValueError(f"no rows for {caption!r}")
    for task, part in frame.groupby(by, sort=False):
        page = part.drop(columns=[by, *drop]).reset_index(drop=True)
        page = with_intervals(page, digits)
        slug = re.sub(r"[^a-z0-9]+", "-", str(task).lower()).strip("-")
        table(page, f"{caption}: {task}.", digits, name=f"{name}-{slug}")
