"""Tolerances of reference rows, from intervals and from shorter runs."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lq_utils import comparison, reference, tolerances
from lq_utils.comparison import (
    NO_TOLERANCE,
    OUTSIDE,
    ROUNDING,
    WITHIN,
    compare_with_reference,
)
from lq_utils.data import load_dataset
from lq_utils.profiles import profile_values
from lq_utils.records import ResultError
from lq_utils.results import start_run
from lq_utils.rows import load_rows
from lq_utils.tolerances import (
    keep_tolerances,
    of_run,
    rounded_up,
    tolerance_table,
)

CHAPTER = "02_subset_generation"


@given(st.floats(1e-5, 1e5))
def test_rounded_up_is_a_little_more(value: float) -> None:
    found = rounded_up(value)
    assert value * (1 - 1e-7) <= found <= value * 1.11
    assert float(f"{found:.2g}") == found


def test_two_digits() -> None:
    assert rounded_up(0.1234) == 0.13
    assert rounded_up(0.12) == 0.12
    assert rounded_up(1234.0) == 1300
    assert rounded_up(0.0) == ROUNDING


def test_twice_the_largest_difference() -> None:
    frame = pd.DataFrame(
        {"metric": ["a", "a", "b"], "difference": [0.1, -0.3, None]}
    )
    assert of_run(frame).to_dict() == {"a": 0.6}


def test_table_is_of_the_form_that_is_read() -> None:
    seen = pd.DataFrame({"metric": ["b", "a"], "difference": [1.0, 0.0]})
    table = tolerance_table({"quick": seen})
    lines = list(table.iloc[:, :3].itertuples(index=False, name=None))
    assert lines == [("a", "quick", 1e-6), ("b", "quick", 2.0)]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folders of results and of reference rows, with three runs."""
    for module in (comparison, reference, tolerances):
        monkeypatch.setattr(module, "REFERENCE", tmp_path / "reference")
    monkeypatch.setattr("lq_utils.rows.REFERENCE", tmp_path / "reference")
    monkeypatch.setenv("LQ_RESULTS_DIR", str(tmp_path / "results"))
    return tmp_path


def record(profile: str, value: float) -> Path:
    """A finished run of one row."""
    stamp = load_dataset("synthetic10", verbose=False).provenance
    run = start_run(CHAPTER, profile_values(CHAPTER, profile), stamp)
    run.record("share", value, n=10, ci=(value - 0.1, value + 0.1))
    folder = run.save()
    (Path(folder) / "executed.ipynb").write_text("{}")
    return Path(folder)


def test_a_run_is_within_what_was_written(home: Path) -> None:
    record("full", 0.5)
    assert reference.main([CHAPTER]) == 0
    for profile, value in (("smoke", 0.6), ("quick", 0.52)):
        with pytest.raises(ResultError, match=f"no {profile} run"):
            keep_tolerances(CHAPTER)
        record(profile, value)
    assert reference.main([CHAPTER, "--tolerances"]) == 0
    for folder in sorted((home / "results").glob("*/*")):
        rows = load_rows(folder)
        found = compare_with_reference(rows, CHAPTER)
        assert set(found["verdict"]) == {WITHIN}
    written = pd.read_csv(home / "reference" / CHAPTER / "tolerances.csv")
    allowed = written.set_index("profile")["absolute"].to_dict()
    assert allowed == {"quick": 0.04, "smoke": 0.2}


def test_a_full_row_is_held_to_its_own_interval(home: Path) -> None:
    record("full", 0.5)
    assert reference.main([CHAPTER]) == 0
    allowed = math.sqrt(2) * 0.1
    for far, verdict in ((0.99, WITHIN), (1.01, OUTSIDE)):
        rows = load_rows(record("full", 0.5 + far * allowed))
        found = compare_with_reference(rows, CHAPTER)
        assert found["verdict"].tolist() == [verdict]
        assert found["tolerance"].tolist() == pytest.approx([allowed])
    rows = load_rows(record("quick", 0.5))
    found = compare_with_reference(rows, CHAPTER)
    assert found["verdict"].tolist() == [NO_TOLERANCE]


def test_needs_reference_rows_and_a_chapter(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ResultError, match="no reference rows of"):
        keep_tolerances(CHAPTER)
    with pytest.raises(SystemExit):
        reference.main(["--tolerances"])
    assert "--tolerances needs a chapter" in capsys.readouterr().err
