"""Two runs compared row by row, by the function and by the command."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from lq_utils.__main__ import main
from lq_utils.rows import as_frame
from lq_utils.two_runs import MEASURED, differing_rows

ROW = {
    "run_id": "a",
    "chapter": "90_passing",
    "keys": "bits=3",
    "metric": "accuracy",
    "value": 0.5,
    "ci_low": None,
    "ci_high": None,
    "n": 100,
    "seed": 0,
    "dataset": "cifar10",
    "rung": "official",
    "profile": "quick",
}


def rows(*changes: dict[str, Any]) -> pd.DataFrame:
    return as_frame([ROW | change for change in changes])


def save(folder: Path, frame: pd.DataFrame) -> str:
    folder.mkdir()
    frame.to_csv(folder / "rows.csv", index=False)
    return str(folder)


def test_rows_are_the_same_up_to_their_run_in_any_order() -> None:
    uncounted = {"metric": "size", "n": None}
    first = rows({}, {"keys": "bits=4"}, {"seed": None}, uncounted)
    second = first.iloc[::-1].assign(run_id="b")
    assert differing_rows(first, second).empty


@pytest.mark.parametrize(
    ("change", "what", "difference"),
    [
        ({"value": 0.75}, "differs: value", 0.25),
        ({"n": 99}, "differs: n", 0),
        ({"n": None}, "differs: n", 0),
        ({"ci_low": 0.4}, "differs: ci_low", 0),
        ({"rung": "synthetic"}, "differs: rung", 0),
        ({"value": None}, "differs: value", None),
    ],
)
def test_a_change_is_seen(
    change: dict[str, Any], what: str, difference: float | None
) -> None:
    table = differing_rows(rows({}, {"seed": 1}), rows(change, {"seed": 1}))
    (line,) = table.to_dict("records")
    assert (line["what"], line["a"]) == (what, 0.5)
    if difference is not None:
        assert line["difference"] == difference


def test_rows_of_one_run_only() -> None:
    first = rows({}, {"seed": 1}, {"metric": "x"})
    second = rows({}, {"seed": 2})
    table = differing_rows(first, second)
    found = list(
        zip(table["seed"], table["metric"], table["what"], strict=True)
    )
    assert found == [
        ("1", "accuracy", "only in A"),
        ("0", "x", "only in A"),
        ("2", "accuracy", "only in B"),
    ]
    assert table["difference"].isna().all()


def test_equal_rows_are_met_in_turn() -> None:
    assert differing_rows(rows({}, {}), rows({}, {})).empty
    (line,) = differing_rows(rows({}, {}), rows({})).to_dict("records")
    assert line["what"] == "only in A"


@pytest.mark.parametrize("metric", MEASURED)
def test_what_is_measured_anew_differs_only_where_it_is_missing(
    metric: str,
) -> None:
    first = rows({"metric": metric})
    assert differing_rows(first, first.assign(value=9.0)).empty
    assert len(differing_rows(first, first.iloc[:0])) == 1


def test_the_command_tells_and_returns(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = save(tmp_path / "one", rows({}))
    same = save(tmp_path / "same", rows({"run_id": "b"}))
    other = save(tmp_path / "other", rows({"value": 0.75}))
    assert main(["compare", one, same]) == 0
    assert "0 rows differ" in capsys.readouterr().out
    assert main(["compare", one, other]) == 1
    out = capsys.readouterr().out
    assert "bits=3" in out and "0.25" in out and "1 rows differ" in out


def test_a_folder_without_rows_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = save(tmp_path / "one", rows({}))
    assert main(["compare", one, str(tmp_path)]) == 2
    assert "error: " in capsys.readouterr().err
