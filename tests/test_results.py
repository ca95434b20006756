"""Rows and runs: recording, saving, reading, the reference."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from IPython.core.interactiveshell import InteractiveShell

from lq_utils import comparison, profiles, reference, results, rows
from lq_utils.__main__ import main
from lq_utils.data import Provenance
from lq_utils.results import (
    COLUMNS,
    ResultError,
    Run,
    compare_with_reference,
    current_run,
    load_rows,
    load_run,
    start_run,
)

NOTEBOOKS = Path(__file__).parent / "notebooks"
CHAPTER = "90_passing"
OFFICIAL = Provenance("cifar100", "official", "a" * 16, "book")
COPY = Provenance("cifar100", "unofficial copy", "b" * 16, "book")
SYNTHETIC = Provenance("synthetic100", "synthetic", "c" * 16, "book")


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LQ_NOTEBOOKS_DIR", str(NOTEBOOKS))
    monkeypatch.setenv("LQ_RESULTS_DIR", str(tmp_path / "results"))
    for module in (rows, comparison, reference):
        monkeypatch.setattr(module, "REFERENCE", tmp_path / "reference")
    return tmp_path


def values(profile: str = "quick", **changes: Any) -> dict[str, Any]:
    return profiles.profile_values(CHAPTER, profile) | changes


def a_run(provenance: Provenance = COPY, **changes: Any) -> Run:
    return start_run(CHAPTER, values(**changes), provenance)


def keep(run: Run, folder: Path, tolerances: str = "") -> None:
    """Commit a run's rows as the reference of the chapter."""
    target = folder / "reference" / CHAPTER
    target.mkdir(parents=True)
    saved = run.save()
    for name in ("rows.csv", "run.json"):
        (target / name).write_bytes((saved / name).read_bytes())
    if tolerances:
        (target / "tolerances.csv").write_text(
            "metric,profile,absolute,relative\n" + tolerances
        )


def test_start_run_says_what_it_is(
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = a_run()
    (line,) = capsys.readouterr().out.splitlines()
    for part in (CHAPTER, "quick profile", COPY.stamp(), run.id):
        assert part in line
    assert current_run() is run and len(run.id) == 12


@pytest.mark.parametrize("changes", [{"size": 21}, {"seed": 1}, {"bits": [3]}])
def test_changed_values_are_custom(
    changes: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    run = a_run(**changes)
    assert run.profile == run.parameters["profile"] == "custom"
    assert run.folder.parent.name == "custom"


def test_profile_values_keep_their_name() -> None:
    assert start_run(CHAPTER, values("smoke"), COPY).profile == "smoke"


def test_smoke_values_called_quick_are_custom(
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = start_run(CHAPTER, values("smoke") | {"profile": "quick"}, COPY)
    assert run.profile == "custom"
    assert "bits=[2]" in capsys.readouterr().out


def test_notebook_of_your_own_is_custom() -> None:
    assert start_run("99_mine", values(), COPY).profile == "custom"


def test_rows_go_to_disk_and_back() -> None:
    run = a_run()
    run.record("accuracy", np.float32(0.5), n=10, ci=(0.25, 0.75), bits=4)
    run.record("size", 3, name='a, "b"', layer=None)
    folder = run.save()
    assert folder == run.folder
    read = load_rows(folder)
    assert tuple(read.columns) == COLUMNS
    pd.testing.assert_frame_equal(read, run.rows)
    assert set(read["run_id"]) == {run.id}
    assert list(read["keys"]) == ['{"bits":4}', run.rows["keys"][1]]
    assert json.loads(read["keys"][1]) == {"name": 'a, "b"', "layer": None}
    assert read["n"].isna().tolist() == [False, True]
    assert read["seed"].tolist() == [0, 0]
    assert read["rung"][0] == "unofficial copy"


def test_id_that_looks_like_a_number_stays_text() -> None:
    run = a_run()
    run.id = "123e45678901"
    run.record("x", 1.0)
    assert load_rows(run.save())["run_id"][0] == "123e45678901"


def test_record_of_the_run() -> None:
    run = a_run()
    run.record("x", 1.0)
    record = load_run(run.save())
    assert record["run_id"] == run.id and record["rows"] == 1
    assert record["parameters"]["bits"] == [3, 4]
    assert record["provenance"]["fingerprint"] == "b" * 16
    assert record["packages"]["numpy"] == np.__version__
    assert record["machine"]["processor"] and record["machine"]["cores"] > 0
    assert record["seconds"] >= 0 and record["date"].startswith("20")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "1", None])
def test_values_that_are_no_numbers(value: Any) -> None:
    with pytest.raises(ResultError, match="finite number"):
        a_run().record("x", value)


def test_interval_upside_down() -> None:
    with pytest.raises(ResultError, match="upside down"):
        a_run().record("x", 1.0, ci=(2.0, 0.0))


def test_twice_is_an_error() -> None:
    run = a_run()
    run.record("x", 1.0, a=1, b=2)
    run.record("x", 1.0, a=1, b=2, seed=9)
    with pytest.raises(ResultError, match="recorded before"):
        run.record("x", 2.0, b=2, a=1)
    assert run.rows["value"].tolist() == [1.0, 1.0]


class Notebook(InteractiveShell):
    """A session that names its cells, as JupyterLab does."""

    cell_id = ""

    def get_parent(self) -> dict[str, Any]:
        return {"metadata": {"cellId": self.cell_id}}

    def run(self, cell_id: str, source: str) -> None:
        self.cell_id = cell_id
        self.run_cell(source, store_history=True).raise_error()


def test_cell_run_again_replaces_its_rows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shell = Notebook()
    monkeypatch.setattr("IPython.get_ipython", lambda: shell)
    shell.user_ns["run"] = run = a_run()
    shell.run("a", "run.record('x', 1.0)")
    shell.run("a", "run.record('x', 2.0)")
    assert run.rows["value"].tolist() == [2.0]
    with pytest.raises(ResultError):
        shell.run("b", "run.record('x', 3.0)")
    with pytest.raises(ResultError):
        shell.run("c", "for v in (1, 2): run.record('y', v)")


def test_load_rows_says_what_to_do(folders: Path) -> None:
    with pytest.raises(ResultError, match="run the chapter first"):
        load_rows(folders)
    (folders / "rows.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ResultError, match="columns"):
        load_rows(folders)
    (folders / "run.json").write_text("{")
    with pytest.raises(ResultError, match="run the chapter again"):
        load_run(folders)


def test_no_reference_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    run = a_run()
    run.record("x", 1.0)
    table = compare_with_reference(run.rows, CHAPTER)
    assert table["verdict"].tolist() == ["no reference"]
    assert "No reference rows" in capsys.readouterr().out


def compared(ours: Run, value: float, **keys: Any) -> Any:
    ours.record("x", value, **keys)
    return ours.compare().iloc[-1]


def test_verdicts(folders: Path) -> None:
    run = a_run()
    run.record("x", 10.0, bits=4)
    keep(run, folders, "x,quick,0.5,0.1\n")
    inside = compared(a_run(), 10.9, bits=4)
    assert inside["verdict"] == "within tolerance"
    assert inside["tolerance"] == 1.0  # the relative one is wider here
    assert inside["difference"] == pytest.approx(0.9)
    outside = compared(a_run(), 11.1, bits=4)
    assert outside["verdict"] == "outside tolerance"
    assert "machine" in outside["likely reason"]
    other_key = compared(a_run(), 10.0, bits=3)
    assert other_key["verdict"] == "no reference"


def test_other_data_is_not_compared(folders: Path) -> None:
    run = a_run(COPY)
    run.record("x", 10.0)
    keep(run, folders, "x,quick,0.5,\n")
    line = compared(a_run(SYNTHETIC), 10.0)
    assert line["verdict"] == "not comparable: other data"
    assert np.isnan(line["difference"]) and np.isnan(line["reference"])
    assert "synthetic100" in line["likely reason"]
    assert compared(a_run(OFFICIAL), 10.0)["verdict"] == "within tolerance"


def test_custom_run_has_no_tolerance(folders: Path) -> None:
    run = a_run()
    run.record("x", 10.0)
    keep(run, folders, "x,quick,0.5,\n")
    line = compared(a_run(seed=1), 10.1)
    assert line["verdict"] == "no tolerance"
    assert line["difference"] == pytest.approx(0.1)
    assert line["likely reason"] == (
        "custom against quick profile; other seed"
    )


def test_same_seed_first_then_the_mean(folders: Path) -> None:
    run = a_run()
    run.record("x", 1.0, seed=0)
    run.record("x", 3.0, seed=1)
    keep(run, folders, "x,quick,0.5,\n")
    ours = a_run()
    ours.record("x", 3.0, seed=1)
    ours.record("x", 2.0, seed=7)
    table = compare_with_reference(ours.rows, CHAPTER)
    assert table["reference"].tolist() == [3.0, 2.0]


def test_other_versions_are_a_reason(folders: Path) -> None:
    run = a_run()
    run.record("x", 1.0)
    keep(run, folders, "x,quick,0.5,\n")
    path = folders / "reference" / CHAPTER / "run.json"
    record = json.loads(path.read_text())
    record["packages"]["umap-learn"] = "0.0.1"
    path.write_text(json.dumps(record))
    line = compared(a_run(), 9.0)
    assert line["likely reason"] == "other versions of umap-learn"


def test_likely_reasons_of_two_runs(folders: Path) -> None:
    run = a_run()
    run.record("x", 1.0)
    keep(run, folders, "x,quick,0.5,\n")
    path = folders / "reference" / CHAPTER / "run.json"
    record = json.loads(path.read_text())
    record["machine"]["threads"] = 64
    record["parameters"]["size"] = 99
    record["parameters"]["seed"] = 5  # told row by row
    path.write_text(json.dumps(record))
    ours = a_run()
    threads = f"threads {torch.get_num_threads()} against 64"
    assert compared(ours, 9.0)["likely reason"] == (
        f"size {ours.parameters['size']} against 99; {threads}"
    )


def test_command_refuses_other_data(
    folders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = a_run(COPY)
    run.record("x", 10.0)
    keep(run, folders, "x,quick,0.5,\n")
    for provenance, status in ((COPY, 0), (SYNTHETIC, 2)):
        ours = a_run(provenance)
        ours.record("x", 10.0)
        ours.save()
        assert main(["compare", CHAPTER]) == status
    assert "not compared: synthetic100" in capsys.readouterr().err


def test_keeping_a_reference(
    folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notebooks = folders / "notebooks"
    (notebooks / "profiles").mkdir(parents=True)
    source = (NOTEBOOKS / f"{CHAPTER}.py").read_text()
    (notebooks / f"{CHAPTER}.py").write_text(source)
    (notebooks / "profiles" / "full.yml").write_text("")
    monkeypatch.setenv("LQ_NOTEBOOKS_DIR", str(notebooks))
    with pytest.raises(ResultError):
        reference.keep_reference(CHAPTER)
    run = start_run(CHAPTER, values("full"), COPY)
    run.record("x", 1.0)
    folder = run.save()
    with pytest.raises(ResultError, match="did not finish"):
        reference.keep_reference(CHAPTER)
    (folder / "executed.ipynb").write_text("{}")
    kept = reference.keep_reference(CHAPTER)
    pd.testing.assert_frame_equal(load_rows(kept), run.rows)
    assert results.reference_rows(CHAPTER) is not None


def test_where_files_lie_is_not_recorded() -> None:
    given = values("smoke") | {"images_dir": "/somewhere/private"}
    run = start_run(CHAPTER, given, COPY)
    assert run.profile == "smoke"
    assert run.parameters["images_dir"] == "given"
