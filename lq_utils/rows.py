"""Result rows on disk: reading those of a run and of the reference."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from lq_utils.paths import REFERENCE
from lq_utils.records import ResultError, load_run

__all__ = [
    "COLUMNS",
    "ResultError",
    "as_frame",
    "load_rows",
    "load_run",
    "reference_rows",
]

COLUMNS = (
    "run_id",
    "chapter",
    "keys",
    "metric",
    "value",
    "ci_low",
    "ci_high",
    "n",
    "seed",
    "dataset",
    "rung",
    "profile",
)
_NUMBERS = ("value", "ci_low", "ci_high")
_COUNTS = ("n", "seed")


def as_frame(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Rows as a data frame with the columns of ``rows.csv``, typed.

    Introduced in chapter 1.
    """
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    types: dict[str, str] = dict.fromkeys(COLUMNS, "str")
    types |= dict.fromkeys(_NUMBERS, "float64")
    types |= dict.fromkeys(_COUNTS, "Int64")
    return frame.astype(types)


def load_rows(folder: Path) -> pd.DataFrame:
    """The rows that a run left in ``folder`` (its ``rows.csv``).

    Raises ``ResultError`` where there are none, or other columns.

    Introduced in chapter 1.
    """
    path = Path(folder) / "rows.csv"
    if not path.is_file():
        raise ResultError(
            f"no rows in {folder}; run the chapter first "
            "(python -m lq_utils run ...)"
        )
    try:
        return _typed(path)
    except ResultError:
        raise
    except (OSError, ValueError, TypeError) as error:
        raise ResultError(
            f"{path} is damaged ({error}); delete it and run the chapter again"
        ) from error


def _typed(path: Path) -> pd.DataFrame:
    # Text first: an id such as 12e456789012 would be read as a number.
    frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    if tuple(frame.columns) != COLUMNS:
        raise ResultError(
            f"{path} has the columns {list(frame.columns)} in place of "
            f"{list(COLUMNS)}; delete it and run the chapter again"
        )
    for name in _NUMBERS + _COUNTS:
        frame[name] = pd.to_numeric(frame[name].replace("", None))
    return as_frame(frame.to_dict("records"))


def reference_rows(chapter: str) -> pd.DataFrame | None:
    """Committed rows of the reference run of ``chapter``.

    ``None``, with a printed line, where none are committed.

    Introduced in chapter 1.
    """
    folder = REFERENCE / chapter
    if not (folder / "rows.csv").is_file():
        print(f"No reference rows of {chapter} in data/results yet.")
        return None
    return load_rows(folder)
