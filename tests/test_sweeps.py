"""Sweeps: killed and resumed, in parallel, failing, keys that differ."""

from __future__ import annotations

import linecache
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import sweep_cells
import torch
from pandas.testing import assert_frame_equal
from torch import fx, nn

from lq_utils import kept_cells, sweeps
from lq_utils.cache import CacheError
from lq_utils.fingerprints import FingerprintError, code_state, digest
from lq_utils.sharing import SharingError, load_shared, shared_folder
from lq_utils.sweeps import SweepError, cell_grid, failures, sweep

CELLS = cell_grid(number=range(6))
WAIT_S = 400  # for another process, on a busy machine


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LQ_CACHE_DIR", str(tmp_path / "cache"))
    (tmp_path / "temporary").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    monkeypatch.setattr(tempfile, "tempdir", None)  # read TMPDIR again
    return tmp_path / "cache"


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def run(
    function: Callable[..., Any], folder: Path, **options: Any
) -> pd.DataFrame:
    return sweep(
        function.__name__,
        function,
        options.pop("cells", CELLS),
        shared={"folder": str(folder)},
        key={"folder": None},
        progress=False,
        **options,
    )


def computed(folder: Path) -> Counter[int]:
    log = folder / "log"
    return Counter(map(int, log.read_text().split() if log.exists() else []))


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < end, "the other process did not get there"
        time.sleep(0.05)


@pytest.fixture
def holding(
    tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A sweep in another process whose cells from HELD on do not end."""
    n_jobs = request.param
    (tmp_path / "hold").touch()
    process = subprocess.Popen(
        [sys.executable, sweep_cells.__file__, str(tmp_path), str(n_jobs)],
        env=os.environ | {"PYTHONPATH": str(Path(sweeps.__file__).parents[1])},
        start_new_session=True,  # so that its workers can be ended too
    )
    yield process, n_jobs
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()


@pytest.mark.parametrize(
    "holding", [1, pytest.param(2, marks=pytest.mark.slow)], indirect=True
)
def test_killed_sweep_goes_on(
    tmp_path: Path,
    cache: Path,
    holding: tuple[subprocess.Popen[bytes], int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    process, n_jobs = holding
    done = set(range(sweep_cells.HELD))
    started = done | {sweep_cells.HELD + i for i in range(n_jobs)}

    def in_the_middle() -> bool:
        assert process.poll() is None, "the sweep ended before it was killed"
        stored = len(list(cache.rglob("*.npz")))
        return stored == len(done) and set(computed(tmp_path)) == started

    wait_for(in_the_middle)
    # Its workers, too: one that lives on may start a queued cell.
    os.killpg(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    (tmp_path / "hold").unlink()
    assert list((tmp_path / "temporary").glob("lq-shared-*"))
    resumed = run(sweep_cells.held, tmp_path)
    # Finished cells once, those cut short twice, the others once.
    assert computed(tmp_path) == {
        cell["number"]: 2 if cell["number"] in started - done else 1
        for cell in CELLS
    }
    assert not list((tmp_path / "temporary").glob("lq-shared-*"))
    monkeypatch.setenv("LQ_CACHE_DIR", str(tmp_path / "another"))
    assert_frame_equal(resumed, run(sweep_cells.held, tmp_path))
    assert resumed["square"].tolist() == [0, 1, 4, 9, 16, 25]
    assert resumed["third"].tolist() == [n / 3 for n in range(6)]


def shared_inputs() -> dict[str, Any]:
    torch.manual_seed(0)
    model = nn.Linear(4, 3)
    return {
        "model": model,
        "images": torch.arange(8.0).reshape(2, 4),
        "table": np.arange(600_000.0).reshape(600, 1000),
    }


@pytest.mark.usefixtures("two_threads")
def test_workers_give_the_rows_of_one_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = shared_inputs()
    key = {name: digest(value) for name, value in inputs.items()}
    cells = cell_grid(kind=["a", "b"], number=[1, 2, 3])
    tables = {}
    for n_jobs, order in [(1, 1), (1, -1), (2, 1)]:
        folder = tmp_path / f"{n_jobs}{order}"
        monkeypatch.setenv("LQ_CACHE_DIR", str(folder))
        tables[n_jobs, order] = sweep(
            "careless",
            sweep_cells.careless,
            cells[::order],
            shared=inputs,
            key=key,
            n_jobs=n_jobs,
            progress=False,
        )
        assert len(list(folder.rglob("*.npz"))) == len(cells)
    serial, parallel = tables[1, 1], tables[2, 1]
    assert_frame_equal(serial, parallel, check_exact=True)
    both = [
        t.sort_values(["kind", "number", "metric"], ignore_index=True)
        for t in (serial, tables[1, -1])
    ]
    assert_frame_equal(*both, check_exact=True)
    assert set(serial.query("metric == 'threads'").value) == {1}
    # No cell changed the inputs of another, nor the caller's.
    assert {n: digest(v) for n, v in inputs.items()} == key
    sums = serial.query("metric == 'a'")
    total = float(inputs["table"].sum())
    assert sums.value.tolist() == [total + n for n in (1, 2, 3)]
    draws = serial.query("metric == 'torch' or metric == 'numpy'").value
    assert draws.is_unique


@pytest.mark.usefixtures("two_threads")
def test_random_state_and_threads_of_the_caller_stay(tmp_path: Path) -> None:
    torch.manual_seed(5)
    np.random.seed(5)
    expected = torch.rand(3), np.random.rand(3)
    torch.manual_seed(5)
    np.random.seed(5)
    run(sweep_cells.failing, tmp_path)
    assert torch.equal(torch.rand(3), expected[0])
    np.testing.assert_array_equal(np.random.rand(3), expected[1])
    assert torch.get_num_threads() == 2


def test_failing_cells_are_listed_and_tried_again(tmp_path: Path) -> None:
    (tmp_path / "broken").touch()
    with pytest.raises(SweepError, match="3 of 6 cells.*'failing'") as caught:
        run(sweep_cells.failing, tmp_path)
    error = caught.value
    assert error.rows is not None and error.failures is not None
    assert error.rows["number"].tolist() == [0, 2, 4]
    assert error.failures["number"].tolist() == [1, 3, 5]
    assert error.failures["error"].tolist() == [
        f"ValueError: number {n} is odd" for n in (1, 3, 5)
    ]
    for text in [*error.failures["traceback"], str(error)]:
        assert "raise ValueError" in text and "sweep_cells.py" in text
    (tmp_path / "broken").unlink()
    table = run(sweep_cells.failing, tmp_path)
    assert table["half"].tolist() == [0, 0.5, 1, 1.5, 2, 2.5]
    assert computed(tmp_path) == {n: 1 + n % 2 for n in range(6)}
    assert failures(table).empty


def test_keep_going(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "broken").touch()
    table = run(sweep_cells.failing, tmp_path, keep_going=True)
    assert table["number"].tolist() == [0, 2, 4]
    assert failures(table)["number"].tolist() == [1, 3, 5]
    assert "3 of 6 cells" in capsys.readouterr().err
    # Tables with failures can be put together.
    assert len(pd.concat([table, table])) == 6


def kept_run(
    folder: Path, monkeypatch: pytest.MonkeyPatch, **options: Any
) -> pd.DataFrame:
    """As a run with an empty cache, beside kept cells in ``folder``."""
    monkeypatch.setattr(kept_cells, "REFERENCE", folder / "results")
    monkeypatch.setenv("LQ_CACHE_DIR", str(folder / str(time.monotonic_ns())))
    return run(sweep_cells.failing, folder, **options)


def test_kept_cells_replace_a_lost_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "results" / "cells" / "failing.jsonl"
    first = kept_run(tmp_path, monkeypatch)
    assert not file.exists()  # nobody asked for it
    monkeypatch.setenv("LQ_KEEP_CELLS", "1")
    kept_run(tmp_path, monkeypatch, cells=CELLS[:2])
    assert len(file.read_text().splitlines()) == 2
    monkeypatch.delenv("LQ_KEEP_CELLS")
    before = computed(tmp_path)
    again = kept_run(tmp_path, monkeypatch)
    assert computed(tmp_path) - before == dict.fromkeys(range(2, 6), 1)
    assert_frame_equal(first, again)
    # Cells that the cache has are kept, too, without being computed.
    monkeypatch.setenv("LQ_KEEP_CELLS", "1")
    before = computed(tmp_path)
    run(sweep_cells.failing, tmp_path)
    assert len(file.read_text().splitlines()) == 6
    assert computed(tmp_path) == before


def test_kept_cells_of_other_code_are_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "results" / "cells" / "failing.jsonl"
    monkeypatch.setenv("LQ_KEEP_CELLS", "1")
    kept_run(tmp_path, monkeypatch)
    kept_run(tmp_path, monkeypatch, code=[sweep_cells.note], cells=CELLS[:2])
    assert computed(tmp_path)[0] == 2
    assert len(file.read_text().splitlines()) == 8
    before = computed(tmp_path)
    kept_run(tmp_path, monkeypatch)
    assert computed(tmp_path) == before
    text = file.read_text()
    for damaged in ('{"code": ', text.splitlines()[0].replace("[[0,", "[[9,")):
        assert damaged not in text.splitlines()
        file.write_text(text + damaged)
        with pytest.raises(CacheError, match="line that is no cell"):
            kept_run(tmp_path, monkeypatch)


def test_full_disk_loses_no_finished_cell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A limit on the size of files stands in for a full disk."""
    first = run(sweep_cells.bulky, tmp_path, cells=CELLS[:3])
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    usual = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        with pytest.raises(CacheError, match="Make room"):
            run(sweep_cells.bulky, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, usual)
    assert not list(tmp_path.rglob(".*npz*"))
    whole = run(sweep_cells.bulky, tmp_path)
    assert_frame_equal(whole[whole["number"] < 3], first)
    assert [computed(tmp_path)[n] for n in range(3)] == [1, 1, 1]


def test_a_killed_worker_loses_nothing(tmp_path: Path) -> None:
    (tmp_path / "deadly").touch()
    table = run(sweep_cells.deadly, tmp_path, n_jobs=2)
    assert (tmp_path / "killed").exists()
    assert table["double"].tolist() == [0, 2, 4, 6, 8, 10]


@pytest.mark.slow
def test_a_cell_that_always_kills_its_worker(tmp_path: Path) -> None:
    (tmp_path / "deadly").touch()
    (tmp_path / "always").touch()
    table = run(sweep_cells.deadly, tmp_path, n_jobs=2, keep_going=True)
    failed = failures(table)
    assert 1 in set(failed["number"])
    assert failed["error"].str.contains("worker process").all()
    assert set(failed["number"]) | set(table.get("number", [])) == set(
        range(6)
    )
    (tmp_path / "deadly").unlink()
    again = run(sweep_cells.deadly, tmp_path)
    assert again["double"].tolist() == [0, 2, 4, 6, 8, 10]


def notebook_function(text: str, name: str) -> Callable[..., Any]:
    """A function as a notebook cell makes it: in no module's file."""
    file = f"<cell {hash(text)}>"
    linecache.cache[file] = len(text), None, text.splitlines(True), file
    space: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(text, file, "exec"), space)  # noqa: S102
    made = space[name]
    assert callable(made)
    return made


NOTEBOOK = """
factor = {}
def helper(x):
    return factor * x
def cell(number, folder):
    return {{"value": helper(number), "factor": factor}}
"""


def test_notebook_functions_and_their_constants(tmp_path: Path) -> None:
    tables = [
        run(notebook_function(NOTEBOOK.format(f), "cell"), tmp_path, n_jobs=n)
        for f, n in [(2, 2), (3, 1), (2, 1)]
    ]
    values = [table["value"].tolist() for table in tables]
    assert values[0] == values[2] == [0, 2, 4, 6, 8, 10]
    assert values[1] == [0, 3, 6, 9, 12, 15]


def test_what_is_in_the_key(tmp_path: Path, cache: Path) -> None:
    def stored(**options: Any) -> int:
        sweep(
            "failing",
            sweep_cells.failing,
            [{"number": 2}],
            shared={"folder": str(tmp_path)},
            progress=False,
            **options,
        )
        return len(list(cache.rglob("*.npz")))

    assert stored(key={"folder": None}) == 1
    assert stored(key={"folder": None}) == 1
    assert stored(key={"folder": "x"}) == 2
    assert stored(key={"folder": None, "data": "y"}) == 3
    helper = code_state(sweep_cells.note)
    assert stored(key={"folder": None}, code=[sweep_cells.note]) == 4
    assert "open('a')" in helper["source"]
    assert "atomic" not in helper["source"]  # a word of its docstring
    assert computed(tmp_path)[2] == 4


def test_rows_keep_their_values(tmp_path: Path) -> None:
    text = """
import numpy as np
def cell(number, folder):
    return [{"a": 0.1 + 0.2, "b": np.float32(0.1), "c": np.int64(2**40),
             "d": float("nan"), "e": None, "f": "\\u00e9\\ud83d\\ude00",
             "g": True, "number": number}]
"""
    made = notebook_function(text, "cell")
    for _ in range(2):  # computed, then read
        (row,) = run(made, tmp_path, cells=CELLS[:1]).to_dict("records")
        assert row["a"] == 0.1 + 0.2
        assert row["b"] == float(np.float32(0.1))
        assert row["c"] == 2**40 and row["g"] is True
        assert np.isnan(row["d"]) and row["e"] is None
        assert row["f"] == "\u00e9\U0001f600"
        assert next(iter(row)) == "number" and len(row) == 8


@pytest.mark.parametrize(
    "returned, message",
    [
        ("3", "returns a dict"),
        ("[3]", "returns a dict"),
        ("{'a': [1]}", "of type list"),
        ("{1: 1}", "of type int"),
        ("{'number': 7}", "give the row field another name"),
    ],
)
def test_rows_of_another_kind(
    returned: str, message: str, tmp_path: Path
) -> None:
    made = notebook_function(
        f"def cell(number, folder):\n    return {returned}\n", "cell"
    )
    with pytest.raises(SweepError, match=message):
        run(made, tmp_path, cells=CELLS[:1])


@pytest.mark.parametrize(
    "cells, message",
    [
        ([{"number": 1}, {"number": 1}], "cells 0 and 1 are the same"),
        ([{"number": np.zeros(2)}], "large inputs go into shared"),
        ([{"number": [1]}], "tuples of them"),
        ([{"number": float("nan")}], "finite"),
        ([{"nummer": 1}], "does not fit the cell"),
        ([{"number": 1, "folder": "x"}], "both cell fields and shared"),
    ],
)
def test_cells_that_cannot_be(
    cells: list[dict[str, Any]], message: str, tmp_path: Path, cache: Path
) -> None:
    with pytest.raises(SweepError, match=message):
        run(sweep_cells.failing, tmp_path, cells=cells)
    assert not cache.exists()


def test_cells_of_numpy_numbers_and_tuples(tmp_path: Path) -> None:
    made = notebook_function(
        "def cell(number, classes, folder):\n"
        "    return {'first': classes[0], 'type': type(number).__name__}\n",
        "cell",
    )
    cells = cell_grid(number=np.arange(2), classes=[(1, 2), (3, 4)])
    table = run(made, tmp_path, cells=cells)
    assert table["classes"].tolist() == [(1, 2), (3, 4)] * 2
    assert table["first"].tolist() == [1, 3, 1, 3]
    assert set(table["type"]) == {"int"}


def test_shared_inputs_need_a_key() -> None:
    with pytest.raises(SweepError, match=r"\['folder'\] have no entry"):
        sweep("x", sweep_cells.failing, CELLS, shared={"folder": "."})


def test_no_cells(tmp_path: Path) -> None:
    assert run(sweep_cells.failing, tmp_path, cells=[]).empty


def outer(number: int) -> Callable[..., Any]:
    def inner(x: int) -> dict[str, int]:
        return {"y": number + x}

    return inner


def test_functions_with_hidden_state_are_refused() -> None:
    made = notebook_function(
        "import numpy as np\nimages = np.zeros(3)\n"
        "def cell(x):\n    return [images.sum() for _ in range(x)]\n",
        "cell",
    )
    with pytest.raises(FingerprintError, match="uses 'images' .ndarray"):
        sweep("x", made, [{"x": 1}])
    with pytest.raises(FingerprintError, match="variables of the function"):
        sweep("x", outer(1), [{"x": 1}])
    with pytest.raises(FingerprintError, match="lambda"):
        sweep("x", lambda x: {"y": x}, [{"x": 1}])
    with pytest.raises(FingerprintError, match="no source code"):
        sweep("x", len, [{"x": 1}])


def test_defaults_count() -> None:
    text = "size = {}\ndef cell(x, n=size):\n    return n\n"
    one, two = (notebook_function(text.format(k), "cell") for k in (1, 2))
    assert code_state(one)["source"] == code_state(two)["source"]
    assert code_state(one) != code_state(two)


def test_shared_values_come_back() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).eval()
    values = {
        "array": np.arange(6.0).reshape(2, 3).T,
        "empty": np.zeros((0, 3)),
        "tensor": torch.arange(6).reshape(2, 3).T,
        "nothing": torch.zeros(0, 2),
        "scalar": torch.tensor(3.0),
        "half": torch.ones(3, dtype=torch.bfloat16),
        "gradient": torch.ones(2, requires_grad=True),
        "graph": fx.symbolic_trace(model),
        "function": lambda x: x + 1,
    }
    x = torch.randn(2, 3, 5, 5)
    with shared_folder(values) as folder:
        load_shared(folder)["array"][:] = -1
        back = load_shared(folder)
    assert not folder.exists()
    for name in ("array", "empty"):
        np.testing.assert_array_equal(back[name], values[name])
    for name in ("tensor", "nothing", "scalar", "half", "gradient"):
        assert torch.equal(back[name], values[name])
        assert back[name].dtype == values[name].dtype
    assert back["gradient"].requires_grad
    assert torch.equal(back["graph"](x), model(x))
    assert back["function"](1) == 2


def test_what_cannot_be_shared(tmp_path: Path) -> None:
    with (
        (tmp_path / "file").open("w") as file,
        pytest.raises(SharingError, match="no open files"),
        shared_folder({"file": file}),
    ):
        pass


@pytest.mark.parametrize("variable", ["TMPDIR", "LQ_CACHE_DIR"])
def test_no_place_for_what_is_shared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    """A file is where the folder would have to be made."""
    file = tmp_path / "file"
    file.touch()
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(file))
    within = None if variable == "TMPDIR" else file / "shared"
    with (
        pytest.raises(SharingError, match=f"point {variable} at another"),
        shared_folder({"number": 1}, within),
    ):
        pass


def test_a_folder_that_is_there_but_takes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(tempfile, "TemporaryDirectory", refuse)
    with (
        pytest.raises(SharingError, match="Permission denied.*writable"),
        shared_folder({"number": 1}, tmp_path),
    ):
        pass


def test_digest() -> None:
    torch.manual_seed(0)
    model = nn.BatchNorm1d(3)
    first = digest(model)
    assert digest(model) == first and len(first) == 16
    model.running_mean[0] += 1
    assert digest(model) != first
    values = np.arange(6.0)
    assert digest(values) == digest(torch.from_numpy(values))
    assert digest(values) == digest(values[::-1][::-1])
    others = [values.reshape(2, 3), values.astype(np.float32), values + 1]
    assert len({digest(v) for v in [values, *others]}) == 4
    with pytest.raises(FingerprintError, match="not of list"):
        digest([1.0])  # type: ignore[arg-type]
