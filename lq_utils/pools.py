"""Where the cells of a sweep are computed: processes here, or a cluster.

All that knows of joblib and of Dask is in here.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator, Mapping
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import Any

from joblib import Parallel, delayed, parallel_config

from lq_utils.cells import Cell, CellFunction, Outcome, SweepError, run_cell
from lq_utils.paths import cache_dir
from lq_utils.sharing import shared_folder

POOLS = 3  # how often a pool whose worker died is started again
SCHEMES = ("tcp://", "tls://", "ucx://")
ANSWER_S = 20  # for a scheduler to answer


def check_workers(n_jobs: int | str) -> int | str:
    """Number of processes, or the address of a Dask scheduler.

    Digits count as their number. Raises SweepError for anything else.

    Introduced in chapter 3.
    """
    if isinstance(n_jobs, str) and n_jobs.startswith(SCHEMES):
        return n_jobs
    try:
        number = int(n_jobs)
    except (TypeError, ValueError):
        number = 0
    if number == 0 or number < -1:
        raise SweepError(
            f"{n_jobs!r} workers: give a number of processes (-1: one a "
            "core), or the address of a Dask scheduler, tcp://host:port"
        )
    return number


def shared_inputs(
    values: Mapping[str, Any], n_jobs: int | str
) -> AbstractContextManager[Path]:
    """The folder with ``values`` where all workers see it.

    For a cluster that is the cache folder, which its machines share.

    Introduced in chapter 3.
    """
    return shared_folder(
        values, cache_dir() / "shared" if isinstance(n_jobs, str) else None
    )


@contextmanager
def _parallel(n_jobs: int | str) -> Iterator[Parallel]:
    # One cell a batch: a finished cell is never held back.
    options: Any = {"batch_size": 1, "return_as": "generator_unordered"}
    if isinstance(n_jobs, int):
        with parallel_config("loky", inner_max_num_threads=1):
            pool = Parallel(n_jobs, **options)
        yield pool
        return
    with _client(n_jobs) as client:
        with parallel_config("dask", client=client):
            pool = Parallel(**options)
        yield pool


@contextmanager
def _client(address: str) -> Iterator[Any]:
    try:
        from distributed import Client
    except ImportError as error:
        raise SweepError(
            f"workers at {address} need Dask: pip install 'lq-utils[dask]'"
        ) from error
    try:
        client = Client(address, timeout=ANSWER_S, set_as_default=False)
    except (OSError, TimeoutError) as error:
        raise SweepError(
            f"no Dask scheduler answers at {address} ({error}); start one "
            "with 'dask scheduler', and workers with "
            f"'dask worker {address} --nthreads 1'"
        ) from error
    with closing(client):
        if any(threads != 1 for threads in client.nthreads().values()):
            raise SweepError(
                f"a worker of {address} has several threads: start each with "
                "--nthreads 1, and one worker a core, so that cells do not "
                "wait for each other"
            )
        yield client


def _broken() -> tuple[type[Exception], ...]:
    """What a pool raises whose workers die."""
    try:
        from distributed import KilledWorker
    except ImportError:
        return (BrokenProcessPool,)
    return BrokenProcessPool, KilledWorker


def outcomes(
    function: CellFunction,
    cells: Mapping[int, Cell],
    folder: Path,
    n_jobs: int | str,
) -> Iterator[Outcome]:
    """What came of each cell, as they come.

    Introduced in chapter 3.
    """
    todo = dict(cells)
    error = details = ""
    for _ in range(POOLS):
        work = (delayed(run_cell)(i, function, todo[i], folder) for i in todo)
        try:
            with (
                _parallel(n_jobs) as pool,
                closing(pool(list(work))) as found,
            ):
                for outcome in found:
                    del todo[outcome.number]
                    yield outcome
        except _broken() as broken:
            error = f"a worker process failed: {' '.join(str(broken).split())}"
            details = traceback.format_exc()
            # What killed it may be first in the queue: then it is last.
            todo = dict(reversed(todo.items()))
    for index in todo:
        yield Outcome(index, error=error, traceback=details)
