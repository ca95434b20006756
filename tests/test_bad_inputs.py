"""Bad inputs of every kind: named, with a way out, and nothing half-written.

The table is in bad_settings, bad_files and bad_networks. A mistake of the
reader never ends in a traceback, and never with status 0.
"""

from __future__ import annotations

import resource
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import bad_files  # noqa: F401 (fills the table)
import bad_networks  # noqa: F401
import bad_settings  # noqa: F401
import jupytext
import nbformat
import papermill
import pytest
from bad_inputs import CASES, NOTEBOOKS, Action, Case, Place
from papermill.exceptions import PapermillExecutionError
from task_samples import Small

from lq_utils.__main__ import main
from lq_utils.models import MODELS, register_model
from lq_utils.paths import ROOT

KINDS = (
    *("parameters", "profiles", "data files", "image folders", "plans"),
    *("grids", "artifacts", "ONNX files", "classes", "weights", "downloads"),
    "disk",
)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    register_model("small", replace=True)(Small)
    monkeypatch.setenv("LQ_NOTEBOOKS_DIR", str(NOTEBOOKS))
    monkeypatch.setenv("LQ_RESULTS_DIR", str(tmp_path / "results"))
    monkeypatch.setattr("papermill.execute_notebook", no_kernel)
    found = Place(tmp_path, monkeypatch)
    yield found
    for close in found.later:
        close()
    MODELS._entries.pop("small", None)


@contextmanager
def limits() -> Iterator[None]:
    """A disk that a case filled is as it was at once: pytest writes, too."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def no_kernel(*_: object, **__: object) -> None:
    raise AssertionError("a kernel was started")


def said(action: Action, capsys: pytest.CaptureFixture[str]) -> str:
    """What the reader is told; the command's status must not be 0."""
    if callable(action):
        with pytest.raises(Exception) as caught:
            action()
        assert type(caught.value).__module__.startswith("lq_utils.")
        return str(caught.value)
    capsys.readouterr()
    try:
        status: object = main(action)
    except SystemExit as stopped:
        status = stopped.code
    text = "".join(capsys.readouterr())
    assert status in (1, 2), text
    return text


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c.kind}: {c.what}")
def test_bad_input(
    case: Case, place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    with limits():
        action = case.prepare(place)
        before = place.files()
        text = said(action, capsys)
    assert case.wrong in text
    assert case.remedy in text
    assert "Traceback" not in text
    after = place.files()
    left = {n for n in after.keys() - before if not n.endswith(str(case.kept))}
    assert not left, "something half-written stays"
    assert {name: after.get(name) for name in before} == before


def test_every_kind_is_in_the_table() -> None:
    counts = Counter(case.kind for case in CASES)
    assert all(counts[kind] >= 3 for kind in KINDS), counts
    assert len({(c.kind, c.what) for c in CASES}) == len(CASES) >= 40


def test_the_status_that_a_shell_sees() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "lq_utils", "run", "3", "-p", "bits", "[]"],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: bits=[] is empty: give one value")
    assert "Traceback" not in done.stderr + done.stdout


def test_bare_papermill_is_told_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LQ_RESULTS_DIR", str(tmp_path / "results"))
    path = tmp_path / "90_passing.ipynb"
    nbformat.write(jupytext.read(NOTEBOOKS / "90_passing.py"), path)
    with pytest.raises(PapermillExecutionError) as caught:
        papermill.execute_notebook(
            str(path),
            str(tmp_path / "out.ipynb"),
            {"bits": [], "rate": "much", "dataset": "cifar9"},
            cwd=str(ROOT),
            progress_bar=False,
        )
    assert caught.value.ename == "ParameterError"
    for says in (
        "bits=[] is empty: give one value or more",
        "rate='much' is of type str; rate takes float",
        "dataset='cifar9' is not one of auto|synthetic10|imagefolder:*",
    ):
        assert says in caught.value.evalue
    assert not (tmp_path / "results").exists()
