"""Your run against the reference run: differences and verdicts."""

from __future__ import annotations

from typing import Any

import pandas as pd

from lq_utils.machine import package_versions
from lq_utils.paths import REFERENCE
from lq_utils.rows import ResultError, load_run, reference_rows

REAL = ("official", "unofficial copy")  # both hold the same images
OTHER_DATA = "not comparable: other data"
NO_REFERENCE = "no reference"
NO_TOLERANCE = "no tolerance"
WITHIN = "within tolerance"
OUTSIDE = "outside tolerance"
_COLUMNS = (
    "metric",
    "keys",
    "ours",
    "reference",
    "difference",
    "tolerance",
    "verdict",
    "likely reason",
)


def _tolerances(chapter: str) -> dict[tuple[str, str], tuple[float, float]]:
    path = REFERENCE / chapter / "tolerances.csv"
    if not path.is_file():
        return {}
    frame = pd.read_csv(path, dtype={"metric": str, "profile": str})
    wanted = ["metric", "profile", "absolute", "relative"]
    if list(frame.columns) != wanted:
        raise ResultError(f"{path} must have the columns {wanted}")
    frame = frame.fillna({"absolute": 0.0, "relative": 0.0})
    return {
        (row.metric, row.profile): (float(row.absolute), float(row.relative))
        for row in frame.itertuples()
    }


def _same_data(row: Any, other: Any) -> bool:
    rungs_fit = row.rung == other.rung or {row.rung, other.rung} <= set(REAL)
    return bool(row.dataset == other.dataset and rungs_fit)


def _package_changes(chapter: str) -> str:
    folder = REFERENCE / chapter
    if not (folder / "run.json").is_file():
        return ""
    ours, theirs = package_versions(), load_run(folder).get("packages", {})
    changed = [k for k, v in theirs.items() if ours.get(k) != v]
    return f"other versions of {', '.join(changed)}" if changed else ""


def _partner(row: Any, candidates: pd.DataFrame) -> Any:
    """The reference row of the same seed, else one with their mean."""
    if pd.notna(row.seed):
        same = candidates[candidates["seed"] == row.seed]
        if len(same):
            return next(same.itertuples())
    mean = candidates.iloc[:1].assign(value=candidates["value"].mean())
    if len(candidates) > 1:
        mean = mean.assign(seed=pd.NA)
    return next(mean.itertuples())


def _reasons(row: Any, other: Any, packages: str) -> str:
    found = []
    if row.profile != other.profile:
        found.append(f"{row.profile} against {other.profile} profile")
    if pd.isna(row.seed) != pd.isna(other.seed) or (
        pd.notna(row.seed) and row.seed != other.seed
    ):
        found.append("other seed")
    if row.rung != other.rung:
        found.append("other copy of the data")
    if packages:
        found.append(packages)
    return "; ".join(found) or "machine, threads or linear algebra library"


def _verdict(
    row: Any, other: Any, tolerance: tuple[float, float] | None, packages: str
) -> dict[str, Any]:
    difference = row.value - other.value
    line = {"reference": other.value, "difference": difference}
    if tolerance is None:
        reason = _reasons(row, other, packages)
        return {**line, "verdict": NO_TOLERANCE, "likely reason": reason}
    absolute, relative = tolerance
    allowed = max(absolute, relative * abs(other.value))
    line["tolerance"] = allowed
    if abs(difference) <= allowed:
        return {**line, "verdict": WITHIN, "likely reason": ""}
    reason = _reasons(row, other, packages)
    return {**line, "verdict": OUTSIDE, "likely reason": reason}


def compare_with_reference(rows: pd.DataFrame, chapter: str) -> pd.DataFrame:
    """Rows of a run beside the committed reference rows of ``chapter``.

    One line a row: metric, keys, ours, reference, difference, tolerance
    (of this metric and profile, from ``tolerances.csv``), verdict and
    likely reason. Rows of another data set or another kind of copy are
    not compared; custom runs have no tolerance.

    Introduced in chapter 1.
    """
    reference = reference_rows(chapter)
    tolerances = _tolerances(chapter)
    packages = _package_changes(chapter)
    lines = []
    for row in rows.itertuples():
        line: dict[str, Any] = {
            "metric": row.metric,
            "keys": row.keys,
            "ours": row.value,
            "verdict": NO_REFERENCE,
        }
        if reference is not None:
            tolerance = tolerances.get((row.metric, row.profile))
            line |= _against(row, reference, tolerance, packages)
        lines.append(line)
    return pd.DataFrame(lines, columns=list(_COLUMNS)).astype(
        {name: "float64" for name in _COLUMNS[2:6]}
    )


def _against(
    row: Any,
    reference: pd.DataFrame,
    tolerance: tuple[float, float] | None,
    packages: str,
) -> dict[str, Any]:
    same = (reference["metric"] == row.metric) & (
        reference["keys"] == row.keys
    )
    candidates = reference[same]
    if candidates.empty:
        return {"verdict": NO_REFERENCE}
    other = _partner(row, candidates)
    if not _same_data(row, other):
        reason = (
            f"{row.dataset} ({row.rung}) against "
            f"{other.dataset} ({other.rung})"
        )
        return {"verdict": OTHER_DATA, "likely reason": reason}
    return _verdict(row, other, tolerance, packages)
