"""Two runs of a chapter: which of their rows differ, and by how much."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lq_utils.paths import results_dir
from lq_utils.profiles import find_chapter
from lq_utils.rows import load_rows

# Metrics that a machine measures anew each time; never equal, never wrong.
MEASURED = ("cpu_seconds", "peak_mib")
IDENTITY = ("chapter", "metric", "keys", "seed")
NUMBERS = ("value", "ci_low", "ci_high", "n")
WORDS = ("dataset", "rung", "profile")
DIFFERS, ONLY_FIRST, ONLY_SECOND = "differs", "only in A", "only in B"
TABLE = ("chapter", "metric", "keys", "seed", "what", "a", "b", "difference")


def run_folder(name: str, profile: str) -> Path:
    """The folder of a run: a path that holds rows, else a chapter's results.

    Raises UnknownName for what is neither.

    Introduced on the page "Re-run it".
    """
    path = Path(name)
    if (path / "rows.csv").is_file():
        return path
    return results_dir() / profile / find_chapter(name)


def _numbered(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows by what they are of; the nth of equal ones meets the nth."""
    identity = list(IDENTITY)
    plain = rows.assign(seed=rows["seed"].astype("str"))
    turn = plain.groupby(identity, dropna=False).cumcount()
    return plain.assign(turn=turn).set_index([*identity, "turn"])


def _changed(one: pd.Series, other: pd.Series) -> list[str]:
    """Columns in which two rows differ; two missing numbers are equal."""
    names = (*NUMBERS, *WORDS)
    return [name for name in names if not _same(one[name], other[name])]


def _same(value: Any, other: Any) -> bool:
    # Asked first: whether a missing count is equal to anything is unknown.
    if pd.isna(value) or pd.isna(other):
        return bool(pd.isna(value) and pd.isna(other))
    return bool(value == other)


def differing_rows(first: pd.DataFrame, second: pd.DataFrame) -> pd.DataFrame:
    """Rows of two runs that are not the same, but for their run's id.

    Columns: chapter, metric, keys, seed, what ("differs: ..." with the
    columns that do, "only in A", "only in B"), a, b (values, NaN where
    there is none), difference (b - a). A metric of ``MEASURED`` differs
    only where one of the runs lacks it.

    Introduced on the page "Re-run it".
    """
    one, other = _numbered(first), _numbered(second)
    shared = other.index.isin(one.index)
    lines = []
    for where in one.index.append(other.index[~shared]):
        a = one.loc[where] if where in one.index else None
        b = other.loc[where] if where in other.index else None
        what = ONLY_FIRST if b is None else ONLY_SECOND
        if a is not None and b is not None:
            changed = _changed(a, b)
            if not changed or where[1] in MEASURED:
                continue
            what = f"{DIFFERS}: {', '.join(changed)}"
        x = np.nan if a is None else float(a["value"])
        y = np.nan if b is None else float(b["value"])
        lines.append((*where[:4], what, x, y, y - x))
    return pd.DataFrame(lines, columns=list(TABLE))


def compare_runs(first: Path, second: Path) -> int:
    """Print what differs between the rows of two runs; how many rows do.

    Raises ResultError for a folder without rows.

    Introduced on the page "Re-run it".
    """
    rows = [load_rows(folder) for folder in (first, second)]
    table = differing_rows(*rows)
    for letter, folder, frame in zip("AB", (first, second), rows, strict=True):
        print(f"{letter}: {folder}, {len(frame)} rows")
    if len(table):
        print(
            table.to_string(
                index=False, na_rep="", float_format="{:.6g}".format
            )
        )
    print(f"{len(table)} rows differ (measured: {', '.join(MEASURED)})")
    return len(table)
