"""How far a run may be from the reference rows, by metric and profile.

What decides is measured: the intervals of the reference rows, and runs of
the other profiles that are here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from lq_utils.comparison import TOLERANCE_COLUMNS, compare_with_reference
from lq_utils.paths import REFERENCE, atomic_write, results_dir
from lq_utils.records import ResultError, load_run
from lq_utils.rows import load_rows, reference_rows

FULL = "full"
OTHERS = ("smoke", "quick")
MARGIN = 2.0  # times the largest difference that one run showed
LEAST = 1e-6  # what other libraries and machines round to


def rounded_up(value: float) -> float:
    """``value`` or a little more, with two significant digits.

    Introduced in chapter 1.
    """
    value = max(value, LEAST)
    step = 10.0 ** (math.floor(math.log10(value)) - 1)
    return float(f"{math.ceil(value / step - 1e-9) * step:.2g}")


def of_intervals(reference: pd.DataFrame) -> pd.Series:
    """Allowed difference of a second full run with other seeds.

    Two values, each with a 95 % interval of half-width h, differ by less
    than sqrt(2) h in 95 of 100 cases. By metric, of its widest interval;
    metrics without an interval have none. Introduced in chapter 1.
    """
    half = (reference["ci_high"] - reference["ci_low"]) / 2
    widest = half.groupby(reference["metric"]).max().dropna()
    return (math.sqrt(2) * widest).map(rounded_up)


def of_run(comparison: pd.DataFrame) -> pd.Series:
    """Allowed difference of a run of a shorter profile.

    By metric, ``MARGIN`` times the largest difference that one run of
    this profile showed; ``comparison`` is of ``compare_with_reference``.
    Introduced in chapter 1.
    """
    shown = comparison["difference"].abs().groupby(comparison["metric"]).max()
    return (MARGIN * shown.dropna()).map(rounded_up)


def tolerance_table(
    reference: pd.DataFrame, comparisons: Mapping[str, pd.DataFrame]
) -> pd.DataFrame:
    """``metric``, ``profile``, ``absolute``, ``relative`` (left empty).

    ``comparisons`` maps a profile to its run beside the reference.
    Introduced in chapter 1.
    """
    found = {FULL: of_intervals(reference)}
    found |= {name: of_run(frame) for name, frame in comparisons.items()}
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
    reference = reference_rows(chapter)
    if reference is None:
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
        tolerance_table(reference, comparisons).to_csv(temporary, index=False)
    return path
