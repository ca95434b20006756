"""The runner, through real kernels: papermill with and without it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jupytext
import nbformat
import papermill
import pytest
from papermill.exceptions import PapermillExecutionError

from lq_utils import execution, freshness, runner
from lq_utils.__main__ import main
from lq_utils.parameters import ParameterError
from lq_utils.paths import ROOT
from lq_utils.results import load_rows, load_run

NOTEBOOKS = Path(__file__).parent / "notebooks"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LQ_NOTEBOOKS_DIR", str(NOTEBOOKS))
    monkeypatch.setenv("LQ_RESULTS_DIR", str(tmp_path / "results"))
    monkeypatch.setenv("LQ_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path


def command(*words: str) -> subprocess.CompletedProcess[str]:
    """``python -m lq_utils``, as a reader would start it."""
    return subprocess.run(
        [sys.executable, "-m", "lq_utils", *words],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
        timeout=300,
    )


def _no_kernel(*_: object, **__: object) -> None:
    raise AssertionError("a kernel was started")


REFUSED = [
    (["90", "-p", "sead", "1"], "did you mean 'seed'?"),
    (["90", "-p", "size", "5"], "size=5 is below 10 (10..500)"),
    (["90", "-p", "size", "ten"], "size='ten' is of type str"),
    (["90", "-y", "bits: '[3, 4]'"], 'use -y "bits: [3, 4]"'),
    (["90", "-r", "size", "20"], "size='20' is of type str"),
    (["90", "-p", "bits", "[3, 9]"], "bits[1]=9 is above 8"),
    (["90", "-p", "bits", "[3"], "not valid YAML"),
    (["90", "-y", "- 3"], "holds no parameters"),
    (["90", "-f", "/no/such.yml"], "cannot read -f /no/such.yml"),
    (["90", "-p", "profile", "smoke"], "write --profile smoke"),
    (["90", "--profile", "quik"], "did you mean 'quick'?"),
    (["90_pasing"], "did you mean '90_passing'?"),
    (["92", "-p", "dataset", "cifar100"], "cifar100 is not in"),
]


@pytest.mark.parametrize(("words", "says"), REFUSED)
def test_refused_before_a_kernel_starts(
    words: list[str],
    says: str,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (folder / "no data" / "cifar-100-python").mkdir(parents=True)
    monkeypatch.setenv("LQ_DATA_DIR", str(folder / "no data"))
    monkeypatch.setattr("papermill.execute_notebook", _no_kernel)
    assert main(["run", *words]) == 2
    error = capsys.readouterr().err
    assert says in error and "Traceback" not in error
    assert not (folder / "results").exists()


def values(*words: str) -> dict[str, object]:
    from lq_utils import options

    arguments = options.parse(["90", *words], "")
    chapter = "90_passing"
    given = options.given(chapter, arguments)
    return runner.make_plan(chapter, arguments.profile, given).values


def test_later_options_win(folder: Path) -> None:
    file = folder / "mine.yml"
    file.write_text("{size: 30, seed: 30, rate: 0.3}")
    smoke = values("--profile", "smoke")
    assert smoke["size"] == 10 and smoke["profile"] == "smoke"
    words = ["--profile", "smoke", "-f", str(file)]
    assert values(*words)["size"] == 30
    words += ["-y", "{size: 40, seed: 40}"]
    words = ["-p", "size", "50", *words]
    final = values(*words)
    assert (final["size"], final["seed"], final["rate"]) == (50, 40, 0.3)
    assert final["bits"] == [2] and final["profile"] == "custom"


def test_giving_a_profile_its_own_values_changes_nothing() -> None:
    assert values("-p", "size", "20", "-p", "rate", "0.5") == values()
    assert values()["profile"] == "quick"


def test_list_params(capsys: pytest.CaptureFixture[str]) -> None:
    assert runner.main(["90", "--list-params"]) == 0
    lines = capsys.readouterr().out.splitlines()
    (bits,) = [line for line in lines if line.startswith("bits")]
    for part in ("list of int", "[3, 4]", "each 2..8", "bit widths"):
        assert part in bits
    (size,) = [line for line in lines if line.startswith("size")]
    assert size.split()[-1] == "linear"


def test_run_with_parameters(folder: Path) -> None:
    done = command("run", "90", "-p", "bits", "[2, 8]", "-p", "rate", "1")
    assert done.returncode == 0, done.stderr
    assert done.stderr == "", "no warnings of kernels or papermill"
    assert "no earlier run" in done.stdout
    results = folder / "results" / "custom" / "90_passing"
    rows = load_rows(results)
    assert list(rows["keys"]) == ['{"bits":2}', '{"bits":8}']
    assert set(rows["profile"]) == {"custom"}
    assert load_run(results)["parameters"]["rate"] == 1.0
    assert set(rows["run_id"]) == {load_run(results)["run_id"]}
    executed = nbformat.read(results / "executed.ipynb", as_version=4)
    code = [c for c in executed.cells if c.cell_type == "code"]
    assert all(cell.execution_count for cell in code)
    timing = freshness.read_timing("90_passing", "custom")
    assert timing is not None and timing.last > 0


def test_failing_chapter_fails(folder: Path) -> None:
    results = folder / "results" / "quick" / "91_failing"
    results.mkdir(parents=True)
    for name in ("executed.ipynb", "rows.csv", "fingerprint.txt"):
        (results / name).write_text("left by an earlier run")
    done = command("run", "91")
    assert done.returncode == 1
    assert "ratio = seed / (seed - seed)" in done.stderr
    assert "ZeroDivisionError: division by zero" in done.stderr
    assert "Traceback" not in done.stderr
    left = [path.name for path in results.iterdir()]
    assert left == ["executed.failed.ipynb"]
    partial = (results / "executed.failed.ipynb").read_text()
    assert "before the failure" in partial
    assert "papermill-error-cell-tag" in partial


def test_run_all_skips_what_is_up_to_date(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    chapters = folder / "chapters"
    (chapters / "profiles").mkdir(parents=True)
    profile = "90_passing: {size: 10, bits: [2]}\n"
    (chapters / "profiles" / "smoke.yml").write_text(profile)
    source = chapters / "90_passing.py"
    shutil.copy(NOTEBOOKS / source.name, source)
    monkeypatch.setenv("LQ_NOTEBOOKS_DIR", str(chapters))
    # Others may be editing the package while this test runs.
    monkeypatch.setattr(freshness, "__file__", str(source))

    def fresh() -> bool:
        (outcome,) = runner.run_all("smoke")
        assert outcome.ok
        return outcome.fresh

    assert not fresh()
    executed = folder / "results/smoke/90_passing/executed.ipynb"
    first = executed.read_bytes()
    assert fresh() and executed.read_bytes() == first
    assert "up to date 90_passing" in capsys.readouterr().out
    source.write_text(source.read_text() + "\n# %%\n1 + 1\n")
    assert not fresh()
    assert runner.main(["all", "--profile", "smoke", "--force"]) == 0
    assert "about " in capsys.readouterr().out


def test_fingerprint_sees_what_matters(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(freshness, "__file__", str(folder / "x.py"))
    monkeypatch.setenv("LQ_DATA_DIR", str(folder / "data"))

    def mark(seed: int = 0) -> str:
        return freshness.fingerprint("90_passing", {"seed": seed})

    seen = [mark(), mark(seed=1)]
    (folder / "helper.py").write_text("x = 1\n")
    seen.append(mark())
    images = folder / "data" / "cifar-100-python"
    images.mkdir(parents=True)
    (images / "train").write_bytes(b"12")
    seen.append(mark())
    (images / "train").write_bytes(b"123")
    seen.append(mark())
    assert len(set(seen)) == len(seen) and mark() == seen[-1]


def test_own_images_are_never_up_to_date(folder: Path) -> None:
    (folder / "executed.ipynb").write_text("{}")
    (folder / "fingerprint.txt").write_text("mark\n")
    assert freshness.is_fresh(folder, "mark", {"dataset": "auto"})
    assert not freshness.is_fresh(folder, "other", {"dataset": "auto"})
    own = {"dataset": "imagefolder:/images"}
    assert not freshness.is_fresh(folder, "mark", own)


def test_estimates() -> None:
    freshness.write_timing("90_passing", "quick", 120)
    freshness.write_timing("90_passing", "quick", 4)
    text = freshness.estimate("90_passing", "quick")
    assert "about 4 s, with an empty cache up to 2 min" in text
    assert "no earlier run" in freshness.estimate("90_passing", "smoke")
    (freshness.cache_dir() / "timings.json").write_text("{cut o")
    assert "no earlier run" in freshness.estimate("90_passing", "quick")


def test_durations() -> None:
    shown = [freshness.duration(s) for s in (0.2, 45, 180, 9000)]
    assert shown == ["1 s", "45 s", "3 min", "2.5 h"]


def start(*words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "lq_utils", "run", *words],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_for_steps(folder: Path, count: int) -> None:
    deadline = time.monotonic() + 200
    while len(list((folder / "cache").rglob("stepwise/*.npz"))) < count:
        assert time.monotonic() < deadline, "the slow steps did not start"
        time.sleep(0.05)


def test_killed_run_goes_on_and_ends_the_same(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["92", "-p", "pause", "0.7", "-p", "steps", "3"]
    killed = start(*words)
    wait_for_steps(folder, 1)
    os.kill(killed.pid, signal.SIGKILL)
    killed.communicate(timeout=60)
    results = folder / "results" / "custom" / "92_stepwise"
    assert not (results / "executed.ipynb").exists()
    assert not (results / "rows.csv").exists()
    first_step = min((folder / "cache/stepwise").glob("*.npz"))
    written = first_step.stat().st_mtime_ns
    assert command("run", *words).returncode == 0
    resumed = load_rows(results)
    assert first_step.stat().st_mtime_ns == written, "a step ran twice"

    monkeypatch.setenv("LQ_CACHE_DIR", str(folder / "empty cache"))
    assert command("run", *words).returncode == 0
    straight = load_rows(results)
    assert resumed.drop(columns="run_id").equals(
        straight.drop(columns="run_id")
    )
    assert len(straight) == 3
    assert straight["run_id"][0] != resumed["run_id"][0]


def test_interrupted_run_says_how_to_go_on(folder: Path) -> None:
    # Tests that a shell runs in the background ignore interrupts, and so
    # would what they start.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    process = start("92", "-p", "pause", "5")
    signal.signal(signal.SIGINT, before)
    wait_for_steps(folder, 1)
    os.kill(process.pid, signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    # The dying kernel may show where it was, before or after; the runner
    # itself does not.
    lines = error.splitlines()
    assert any(
        line.startswith("Stopped. The same command goes on") for line in lines
    )
    assert "lq_utils/runner.py" not in error


@pytest.fixture(scope="module")
def plain_notebook(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The passing chapter as a notebook that anyone may run."""
    path = tmp_path_factory.mktemp("plain") / "90_passing.ipynb"
    nbformat.write(jupytext.read(NOTEBOOKS / "90_passing.py"), path)
    return path


def bare_papermill(path: Path, **parameters: object) -> None:
    papermill.execute_notebook(
        str(path),
        str(path.with_suffix(".out.ipynb")),
        parameters,
        cwd=str(ROOT),
        progress_bar=False,
    )


def test_bare_papermill_runs_it(plain_notebook: Path, folder: Path) -> None:
    bare_papermill(plain_notebook, bits=[5], seed=7)
    rows = load_rows(folder / "results" / "custom" / "90_passing")
    assert list(rows["keys"]) == ['{"bits":5}']
    assert rows["seed"].tolist() == [7]


def test_bare_papermill_is_checked_in_the_notebook(
    plain_notebook: Path, folder: Path
) -> None:
    with pytest.raises(PapermillExecutionError) as caught:
        bare_papermill(plain_notebook, bits="[3, 4]", size=5, sead=1)
    assert caught.value.ename == "ParameterError"
    assert caught.value.source.startswith("parameters = check_parameters")
    for part in (
        'use -y "bits: [3, 4]"',
        "size=5 is below 10 (10..500)",
        "unknown parameter 'sead'; did you mean 'seed'?",
    ):
        assert part in caught.value.evalue
    assert not (folder / "results").exists()


def test_jupytext_runs_it(plain_notebook: Path, folder: Path) -> None:
    output = folder / "90_passing.ipynb"
    words = ["--execute", "--to", "ipynb", "--output", str(output)]
    done = subprocess.run(
        [sys.executable, "-m", "jupytext", *words]
        + [str(NOTEBOOKS / "90_passing.py")],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        check=False,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    rows = load_rows(folder / "results" / "quick" / "90_passing")
    assert set(rows["profile"]) == {"quick"} and len(rows) == 2


def test_copy_of_the_executed_notebook(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finished = runner.Outcome("90_passing", True, folder / "run")
    finished.folder.mkdir()
    (finished.folder / "executed.ipynb").write_text("{}")
    monkeypatch.setattr(runner, "run_plans", lambda *_: [finished])
    output = folder / "new" / "mine.ipynb"
    assert runner.main(["90", "--output", str(output)]) == 0
    assert output.read_text() == "{}"
    with pytest.raises(SystemExit):
        runner.main(["all", "--output", str(output)])


@pytest.mark.parametrize(
    ("words", "status", "says"),
    [
        ([], 2, ""),
        (["--help"], 0, "compare"),
        (["rnu"], 2, "did you mean 'run'?"),
        (["compare", "90"], 2, "run the chapter first"),
    ],
)
def test_command_line(
    words: list[str],
    status: int,
    says: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(words) == status
    captured = capsys.readouterr()
    assert says in captured.out + captured.err


def test_a_reader_that_wants_no_more_is_no_fault() -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "lq_utils", "run", "90", "--list-params"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    with process.stderr as errors:
        assert errors.read() == b""
    assert process.wait(timeout=300) == 141


def test_keeping_cells_skips_no_chapter(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    forced = []

    def record(_: object, force: bool, __: object) -> list[object]:
        forced.append(force)
        return []

    monkeypatch.setattr(runner, "run_plans", record)
    monkeypatch.setenv("LQ_KEEP_CELLS", "")  # what it was comes back
    for more in ([], ["--keep-cells"], ["--force"]):
        assert runner.main(["all", "--profile", "smoke", *more]) == 0
    assert forced == [False, True, True]


def test_faults_of_ours_show_a_traceback(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(_: object) -> int:
        raise ZeroDivisionError

    monkeypatch.setattr(runner, "main", broken)
    with pytest.raises(ZeroDivisionError):
        main(["run", "90"])


def test_who_computes_does_not_make_a_run_custom(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("LQ_NOTEBOOKS_DIR", raising=False)
    for given in (3, "3", "tcp://10.0.0.1:8786"):
        plan = runner.make_plan("03_gpfq_sweeps", "smoke", {"workers": given})
        assert plan.profile == "smoke"
        assert plan.values["workers"] == str(given)
    with pytest.raises(ParameterError, match="is not one of"):
        runner.make_plan("03_gpfq_sweeps", "smoke", {"workers": "many"})
    with pytest.raises(ParameterError, match="above 64"):
        runner.make_plan("03_gpfq_sweeps", "smoke", {"workers": 65})


def test_where_files_lie_does_not_make_a_run_custom(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("LQ_NOTEBOOKS_DIR", raising=False)
    chapter = "01_class_distances"
    plan = runner.make_plan(chapter, "smoke", {"published_dir": "/somewhere"})
    assert plan.profile == "smoke"
    assert plan.values["published_dir"] == "/somewhere"


def test_kernels_keep_their_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    first, other = execution.KEPT_MEMORY
    monkeypatch.setenv(first, "17")  # the user's own word
    monkeypatch.delenv(other, raising=False)
    # As a process sees them that is started there.
    code = f"import os; print(os.environ[{first!r}], os.environ[{other!r}])"
    with execution._environment():
        said = subprocess.check_output([sys.executable, "-c", code], text=True)
    assert said.split() == ["17", execution.KEPT_MEMORY[other]]
    assert os.environ[first] == "17" and other not in os.environ
