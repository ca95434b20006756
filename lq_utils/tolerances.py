"""How far a run may be from the reference rows, by metric and profile.

What decides is measured: runs of the shorter profiles that are here. A full
run is held to the intervals of the reference rows themselves.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from lq_utils.comparison import (
    ROUNDING,
    TOLERANCE_COLUMNS,
    compare_with_reference,
)
from lq_utils.paths import REFERENCE, atomic_write, results_dir
from lq_utils.records import ResultError, load_run
from lq_utils.rows import load_rows, reference_rows

OTHERS = ("smoke", "quick")
MARGIN = 2.0  # times the largest difference that one run showed


def rounded_up(value: float) -> float:
    """``value`` or a little more, with two significant digits.

    Introduced in chapter 1.
    """
    value = max(value, ROUNDING)
    step = 10.0 ** (math.floor(math.log10(value)) - 1)
    return float(f"{math.ceil(value / step - 1e-9) * step:.2g}")


def of_run(comparison: pd.DataFrame) -> pd.Series:
    """Allowed difference of a run of a shorter profile.

    By metric, ``MARGIN`` times the largest difference that one run of
    this profile showed; ``comparison`` is of ``compare_with_reference``.
    Introduced in chapter 1.
    """
    shown = comparison["difference"].abs().groupby(comparison["metric"]).max()
    return (MARGIN * shown.dropna()).map(rounded_up)


def tolerance_table(comparisons: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """``metric``, ``profile``, ``absolute``, ``relative`` (left empty).

    ``comparisons`` maps a profile to its run beside the reference.
    Introduced in chapter 1.
    """
    found = {name: of_run(frame) for name, frame in comparisons.items()}
    lines = [
        (metric, profile, absolute, None)
        for profile, values in found.items()
        for metric, absolute in values.items()
    ]
    table = pd.DataFrame(lines, columns=list(TOLERANCE_COLUMNS))
    return table.sort_values(["metric", "profile"]).reset_index(drop=True)


def keep_tolerances(chapter: str) -> Path:
    """Write ``tolerances.csv`` beside a chapter's reference rows.

    Raises ResultError without reference rows, or without runs of the
    smoke and the quick profile on the same data. Introduced in chapter 1.
    """
    if reference_rows(chapter) is None:
        raise ResultError(
            f"no reference rows of {chapter}: do python -m lq_utils "
            f"reference {chapter} first"
        )
    comparisons = {}
    for profile in OTHERS:
        run = results_dir() / profile / chapter
        command = f"python -m lq_utils run {chapter} --profile {profile}"
        if not (run / "rows.csv").is_file():
            raise ResultError(f"no {profile} run of {chapter}: do {command}")
        frame = compare_with_reference(load_rows(run), chapter, load_run(run))
        if frame["difference"].isna().all():
            raise ResultError(
                f"the {profile} run of {chapter} has no row to compare: "
                f"do {command} on the data of the reference run"
            )
        comparisons[profile] = frame
    path = REFERENCE / chapter / "tolerances.csv"
    with atomic_write(path) as temporary:
        tolerance_table(comparisons).to_csv(temporary, index=False)
    return path
