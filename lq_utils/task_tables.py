"""One table a task, from a frame that holds all of them."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pandas as pd

from lq_utils.figures import table


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
        slug = re.sub(r"[^a-z0-9]+", "-", str(task).lower()).strip("-")
        table(page, f"{caption}: {task}.", digits, name=f"{name}-{slug}")
