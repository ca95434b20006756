"""Derived notebooks, pairs in sync, the gates for chapters."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import jupytext
import nbformat
import pytest

from lq_utils import notebooks
from lq_utils.paths import ROOT

FIXTURES = Path(__file__).parent / "notebooks"
SOURCE = FIXTURES / "90_passing.py"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A notebooks folder with one chapter, its pair in sync."""
    (tmp_path / "profiles").mkdir()
    shutil.copy(SOURCE, tmp_path)
    shutil.copy(ROOT / "notebooks" / "jupytext.toml", tmp_path)
    profile = tmp_path / "profiles" / "smoke.yml"
    profile.write_text("90_passing: {size: 10}\n")
    monkeypatch.setenv("LQ_NOTEBOOKS_DIR", str(tmp_path))
    notebooks.regenerate()
    return tmp_path


def edit(folder: Path, old: str, new: str) -> None:
    path = folder / SOURCE.name
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))


def pair(folder: Path) -> nbformat.NotebookNode:
    return nbformat.read(folder / "90_passing.ipynb", as_version=4)


def one_problem(folder: Path) -> str:
    (found,) = notebooks.check()
    return found


def test_chapters_of_the_book_are_in_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("LQ_NOTEBOOKS_DIR", raising=False)
    assert notebooks.check() == []


def test_jupyterlab_finds_the_pair(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from jupytext.cli import jupytext as command

    command(["--paired-paths", str(folder / "90_passing.ipynb")])
    assert capsys.readouterr().out.strip() == str(folder / SOURCE.name)


def test_derived_notebook(folder: Path) -> None:
    notebook = pair(folder)
    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec.name == "python3"
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(not c.outputs and c.execution_count is None for c in code)
    tagged = [c for c in notebook.cells if "tags" in c.metadata]
    assert [c.metadata.tags for c in tagged] == [["parameters"]]
    assert notebooks.check() == []


def test_regenerating_is_a_no_op(folder: Path) -> None:
    before = (folder / "90_passing.ipynb").read_bytes()
    assert notebooks.regenerate() == []
    assert (folder / "90_passing.ipynb").read_bytes() == before


def test_ids_do_not_depend_on_the_run(folder: Path) -> None:
    before = (folder / "90_passing.ipynb").read_bytes()
    (folder / "90_passing.ipynb").unlink()
    notebooks.regenerate()
    assert (folder / "90_passing.ipynb").read_bytes() == before


def test_ids_survive_edits(folder: Path) -> None:
    before = [cell.id for cell in pair(folder).cells]
    edit(folder, "run.save()", "path = run.save()")
    edit(
        folder,
        "import numpy as np\n",
        "import numpy as np\n\n# %%\nimport os\n",
    )
    notebooks.regenerate()
    after = [cell.id for cell in pair(folder).cells]
    assert len(after) == len(before) + 1 == len(set(after))
    assert [i for i in before if i in after] == before


def test_equal_cells_get_different_ids(folder: Path) -> None:
    edit(folder, "run.save()", "run.save()\n\n# %%\n1\n\n# %%\n1\n\n# %%\n1")
    notebooks.regenerate()
    ids = [cell.id for cell in pair(folder).cells]
    assert len(ids) == len(set(ids))


def test_edited_source_is_drift(folder: Path) -> None:
    edit(folder, "rate * rng", "2 * rate * rng")
    assert "is not what 90_passing.py gives" in one_problem(folder)


def test_edited_notebook_is_drift(folder: Path) -> None:
    notebook = pair(folder)
    notebook.cells[-1].source = "run.save();"
    nbformat.write(notebook, folder / "90_passing.ipynb")
    assert "run.save()" in one_problem(folder)


def test_changed_tag_is_drift(folder: Path) -> None:
    notebook = pair(folder)
    notebook.cells[0].metadata["tags"] = ["hide-input"]
    nbformat.write(notebook, folder / "90_passing.ipynb")
    assert "90_passing.ipynb" in one_problem(folder)


def test_outputs_are_found(folder: Path) -> None:
    notebook = pair(folder)
    notebook.cells[-1].outputs = [
        nbformat.v4.new_output("stream", text="left over")
    ]
    nbformat.write(notebook, folder / "90_passing.ipynb")
    assert "outputs" in one_problem(folder)


def test_missing_and_stray_notebooks(folder: Path) -> None:
    (folder / "90_passing.ipynb").rename(folder / "89_other.ipynb")
    missing, stray = notebooks.check()
    assert "90_passing.ipynb is missing" in missing
    assert "89_other.ipynb has no source" in stray


LONG = "x = [\n" + "    1,\n" * 24 + "]"
CELL = "run.save()"
STYLE: list[tuple[str, str, str]] = [
    (CELL, LONG, "has 26 lines"),
    (CELL, "x = " + "1 + " * 19 + "1", "columns"),
    (CELL, "def f(): 1\ndef g(): 1\ndef h(): 1", "3 definitions"),
    (CELL, "run.save(", "no plain Python"),
    (' tags=["parameters"]', "", "0 cells tagged 'parameters'"),
    ("# %%\nrun.save()", '# %% tags=["parameters"]\nx: int = 1', "2 cells"),
    ("seed: int = 0", "sede: int = 0", "no parameter 'seed'"),
    ("size: int = 20", "size: int = 5", "size=5 is below 10"),
    ("; points a draw", "", "size: its comment"),
    ("points a draw", "n=points", "papermill cannot read"),
    ("parameters = check_parameters(globals())", "pass", "the cell after"),
    ("if noisy else", "if True else", "'noisy' is read by no later cell"),
    (CELL, "size = 3", "'size' is bound again"),
    (CELL, "for seed in (1, 2):\n    pass", "'seed' is bound again"),
    (CELL, "def f():\n    global seed\n    seed = 2", "'seed' is bound again"),
]


@pytest.mark.parametrize(("old", "new", "says"), STYLE)
def test_gate(folder: Path, old: str, new: str, says: str) -> None:
    edit(folder, old, new)
    notebooks.regenerate()
    found = notebooks.check()
    assert any(says in problem for problem in found), found


READS = [
    "print(parameters['noisy'])",
    "def f():\n    return noisy",
    "[x for x in (1, 2) if noisy]",
]


@pytest.mark.parametrize("read", READS)
def test_gate_knows_a_read(folder: Path, read: str) -> None:
    edit(folder, "if noisy else", "if True else")
    edit(folder, CELL, read)
    notebooks.regenerate()
    assert notebooks.check() == []


NO_READS = [
    "def f(noisy):\n    return noisy",
    "[noisy for noisy in (1, 2)]",
    "print('noisy')",
    "run.noisy = 1",
]


@pytest.mark.parametrize("other", NO_READS)
def test_gate_knows_what_is_no_read(folder: Path, other: str) -> None:
    edit(folder, "if noisy else", "if True else")
    edit(folder, CELL, other)
    notebooks.regenerate()
    assert "'noisy' is read by no later cell" in one_problem(folder)


PROFILES = [
    ("90_passing: {sise: 10}", "did you mean 'size'?"),
    ("90_passing: {size: 5}", "size=5 is below 10"),
    ("90_passing: {bits: '[3]'}", "is a string"),
    ("90_passing: {profile: full}", "not 'smoke'"),
    ("91_other: {size: 10}", "no such chapter '91_other'"),
    ("- 90_passing", "must map chapters"),
    ("90_passing: 3", "must map chapters"),
    ("90_passing: [", "not valid YAML"),
]


@pytest.mark.parametrize(("text", "says"), PROFILES)
def test_profile_gate(folder: Path, text: str, says: str) -> None:
    (folder / "profiles" / "smoke.yml").write_text(text)
    assert says in one_problem(folder)


@pytest.mark.parametrize("change", [None, lambda p: p.write_text("x = 1\n")])
def test_command(
    folder: Path,
    change: Callable[[Path], object] | None,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if change is not None:
        change(folder / SOURCE.name)
    status = notebooks.main(["--check"])
    assert status == (0 if change is None else 1)
    output = capsys.readouterr().out
    assert ("1 notebooks, 0 problems" in output) == (change is None)
    assert notebooks.main([]) == 0
    assert jupytext.read(folder / SOURCE.name).cells
