"""Cells on a Dask cluster: the same rows, whatever happens to workers."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import sweep_cells
import torch
from distributed import LocalCluster
from pandas.testing import assert_frame_equal
from torch import nn

from lq_utils.pools import check_workers
from lq_utils.sweeps import SweepError, cell_grid, sweep

NUMBERS = cell_grid(number=range(6))


@pytest.fixture
def cluster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[LocalCluster]:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("LQ_CACHE_DIR", str(tmp_path / "cache"))
    with LocalCluster(
        n_workers=2,
        threads_per_worker=1,
        dashboard_address=None,
        local_directory=str(tmp_path),
    ) as cluster:
        yield cluster


def careless(n_jobs: int | str, name: str) -> pd.DataFrame:
    torch.manual_seed(0)
    shared: dict[str, Any] = {
        "model": nn.Linear(4, 3),
        "images": torch.arange(8.0).reshape(2, 4),
        "table": np.arange(600_000.0).reshape(600, 1000),
    }
    return sweep(
        name,
        sweep_cells.careless,
        cell_grid(number=range(5), kind=["a", "b"]),
        shared=shared,
        key=dict.fromkeys(shared),
        n_jobs=n_jobs,
        progress=False,
    )


def deadly(n_jobs: int | str, name: str, folder: Path) -> pd.DataFrame:
    return sweep(
        name,
        sweep_cells.deadly,
        NUMBERS,
        shared={"folder": str(folder)},
        key={"folder": None},
        n_jobs=n_jobs,
        progress=False,
    )


@pytest.mark.slow
def test_serial_processes_and_dask_give_the_same_rows(
    cluster: LocalCluster, tmp_path: Path
) -> None:
    serial = careless(1, "serial")
    assert_frame_equal(serial, careless(2, "processes"))
    address = cluster.scheduler_address
    assert_frame_equal(serial, careless(address, "dask"))
    # What was shared with the workers is gone.
    assert not list((tmp_path / "cache" / "shared").iterdir())


@pytest.mark.slow
def test_a_killed_dask_worker_loses_nothing(
    cluster: LocalCluster, tmp_path: Path
) -> None:
    serial = deadly(1, "serial", tmp_path)
    (tmp_path / "deadly").touch()
    table = deadly(cluster.scheduler_address, "dask", tmp_path)
    assert (tmp_path / "killed").exists()
    assert_frame_equal(serial, table)


def test_workers_with_several_threads_are_refused(tmp_path: Path) -> None:
    with (
        LocalCluster(
            n_workers=1,
            threads_per_worker=2,
            processes=False,
            protocol="tcp://",
            dashboard_address=None,
        ) as cluster,
        pytest.raises(SweepError, match="--nthreads 1"),
    ):
        deadly(cluster.scheduler_address, "threads", tmp_path)


def test_nobody_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lq_utils.pools.ANSWER_S", 0.5)
    with pytest.raises(SweepError, match="dask scheduler"):
        deadly("tcp://127.0.0.1:9", "nobody", tmp_path)


@pytest.mark.parametrize(
    "given", ["two", "0", 0, -3, "127.0.0.1:8786", "", None]
)
def test_what_is_no_number_of_workers(given: Any) -> None:
    with pytest.raises(SweepError, match="tcp://host:port"):
        check_workers(given)


@pytest.mark.parametrize(
    ("given", "meant"),
    [("2", 2), (3, 3), (-1, -1), ("tls://h:1", "tls://h:1")],
)
def test_numbers_of_workers(given: int | str, meant: int | str) -> None:
    assert check_workers(given) == meant
