"""Your run against the reference run: differences and verdicts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from lq_utils.paths import REFERENCE
from lq_utils.profiles import CUSTOM, decides_rows
from lq_utils.rows import ResultError, load_run, reference_rows

REAL = ("official", "unofficial copy")  # both hold the same images
OTHER_DATA = "not comparable: other data"
NO_REFERENCE = "no reference"
NO_TOLERANCE = "no tolerance"
WITHIN = "within tolerance"
OUTSIDE = "outside tolerance"
SHOWN = 3  # parameters named as a reason
ROUNDING = 1e-6  # what other libraries and machines round to
TOLERANCE_COLUMNS = ("metric", "profile", "absolute", "relative")
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
    wanted = list(TOLERANCE_COLUMNS)
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


def _run_reasons(ours: Mapping[str, Any], chapter: str) -> list[str]:
    """What differs between two runs as a whole, most telling first."""
    folder = REFERENCE / chapter
    if not ours or not (folder / "run.json").is_file():
        return []
    theirs = load_run(folder)
    found = []
    if ours["profile"] in (theirs["profile"], CUSTOM):
        pairs = _changes(ours["parameters"], theirs["parameters"])
        pairs = [pair for pair in pairs if decides_rows(pair[0])]
        found += [f"{name} {a} against {b}" for name, a, b in pairs[:SHOWN]]
    for name, a, b in _changes(ours["machine"], theirs["machine"]):
        if name in ("threads", "gpu", "processor"):
            found.append(f"{name} {a} against {b}")
    changed = _changes(ours["packages"], theirs["packages"])
    if changed:
        names = ", ".join(name for name, *_ in changed)
        found.append(f"other versions of {names}")
    return found


def _changes(
    ours: Mapping[str, Any], theirs: Mapping[str, Any]
) -> list[tuple[str, Any, Any]]:
    """Names whose values differ, with both; ``profile`` and ``seed`` are
    told row by row."""
    return [
        (name, ours.get(name, "none"), value)
        for name, value in theirs.items()
        if ours.get(name) != value and name not in ("profile", "seed")
    ]


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


def _reasons(row: Any, other: Any, whole: list[str]) -> str:
    found = []
    if row.profile != other.profile:
        found.append(f"{row.profile} against {other.profile} profile")
    if pd.isna(row.seed) != pd.isna(other.seed) or (
        pd.notna(row.seed) and row.seed != other.seed
    ):
        found.append("other seed")
    if row.rung != other.rung:
        found.append("other copy of the data")
    return "; ".join(found + whole) or "rounding of the machine's libraries"


def _allowed(
    row: Any, other: Any, tolerance: tuple[float, float] | None
) -> float | None:
    """How far a row may be from its reference row; None: nobody knows.

    Two values, each with a 95 % interval of half-width h, differ by less
    than sqrt(2) h in 95 of 100 cases: so a row of the same profile is
    held to the interval of its own reference row, where that has one.
    """
    half = (other.ci_high - other.ci_low) / 2
    if row.profile == other.profile and pd.notna(half):
        return max(math.sqrt(2) * float(half), ROUNDING * abs(other.value))
    if tolerance is None:
        return None
    absolute, relative = tolerance
    return max(absolute, relative * abs(other.value))


def _verdict(
    row: Any,
    other: Any,
    tolerance: tuple[float, float] | None,
    whole: list[str],
) -> dict[str, Any]:
    difference = row.value - other.value
    line = {"reference": other.value, "difference": difference}
    allowed = _allowed(row, other, tolerance)
    if allowed is None:
        reason = _reasons(row, other, whole)
        return {**line, "verdict": NO_TOLERANCE, "likely reason": reason}
    line["tolerance"] = allowed
    if abs(difference) <= allowed:
        return {**line, "verdict": WITHIN, "likely reason": ""}
    reason = _reasons(row, other, whole)
    return {**line, "verdict": OUTSIDE, "likely reason": reason}


def compare_with_reference(
    rows: pd.DataFrame, chapter: str, record: Mapping[str, Any] | None = None
) -> pd.DataFrame:
    """Rows of a run beside the committed reference rows of ``chapter``.

    ``record`` is the run's (its ``run.json``), for the likely reasons of
    a difference. One line a row: metric, keys, ours, reference,
    difference, tolerance (by the reference row's own interval in the same
    profile, else of this metric and profile, from ``tolerances.csv``),
    verdict and likely reason. Rows of another data set, or of drawn
    images beside real ones, are not compared; custom runs have no
    tolerance.

    Introduced in chapter 1.
    """
    reference = reference_rows(chapter)
    tolerances = _tolerances(chapter)
    whole = _run_reasons(record or {}, chapter)
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
            line |= _against(row, reference, tolerance, whole)
        lines.append(line)
    return pd.DataFrame(lines, columns=list(_COLUMNS)).astype(
        {name: "float64" for name in _COLUMNS[2:6]}
    )


def _against(
    row: Any,
    reference: pd.DataFrame,
    tolerance: tuple[float, float] | None,
    whole: list[str],
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
    return _verdict(row, other, tolerance, whole)
