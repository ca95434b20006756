"""Sweeps: a grid of cells, each computed once, into one table of rows.

A cell is a flat dict of literals. Its rows are kept under everything
that went into them, one file a cell, so that a killed sweep goes on
where it stopped, and a changed function starts again.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from lq_utils.cache import cached
from lq_utils.cells import (
    Cell,
    CellFunction,
    Outcome,
    SweepError,
    cell_grid,
    check_cells,
    check_inputs,
)
from lq_utils.fingerprints import code_state
from lq_utils.kept_cells import KeptCells
from lq_utils.paths import keeping_cells
from lq_utils.pools import check_workers, outcomes, shared_inputs

__all__ = ["SweepError", "cell_grid", "failures", "pending_cells", "sweep"]

SHOWN = 20  # failed cells in an error message


class _Missing(Exception):
    """The rows of a cell are not stored yet."""


class _Store:
    """The rows of finished cells on disk, as JSON."""

    def __init__(
        self, name: str, key: Mapping[str, Any], code: list[Any]
    ) -> None:
        self.name, self.key = name, {"key": dict(key), "code": code}
        self.kept = KeptCells(name, key, code)

    def _cached(self, cell: Cell, compute: Callable[[], Any]) -> str:
        key = {**self.key, "cell": cell}
        stored = cached(self.name, key, compute)
        rows, seconds = str(stored["rows"]), float(stored["seconds"])
        if keeping_cells():
            self.kept.put(cell, rows, seconds)
        return rows

    def get(self, cell: Cell) -> str | None:
        """The rows of ``cell``, or None."""

        def missing() -> Any:
            raise _Missing

        try:
            return self._cached(cell, missing)
        except _Missing:
            return self.kept.get(cell)

    def put(self, cell: Cell, done: Outcome) -> str:
        """Store the rows in one step."""
        fields = {
            "rows": np.array(done.rows),
            "seconds": np.array(done.seconds),
        }
        return self._cached(cell, lambda: fields)


def _frame(cells: list[Cell], rows: Mapping[int, str]) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {**cell, **row}
            for i, cell in enumerate(cells)
            for row in json.loads(rows.get(i, "[]"))
        ]
    )


def _fill(
    store: _Store,
    function: CellFunction,
    cells: list[Cell],
    shared: Mapping[str, Any],
    n_jobs: int | str,
    progress: bool,
) -> tuple[dict[int, str], list[dict[str, Any]]]:
    """Stored and new rows by cell, and the failed cells."""
    found = {i: store.get(cell) for i, cell in enumerate(cells)}
    rows = {i: text for i, text in found.items() if text is not None}
    todo = {i: cells[i] for i in found if i not in rows}
    failed: dict[int, dict[str, Any]] = {}
    bar = tqdm(
        total=len(cells),
        initial=len(rows),
        desc=store.name,
        unit="cell",
        disable=not progress,
    )
    if not todo:
        bar.close()
        return rows, []
    with bar, shared_inputs(shared, n_jobs) as folder:
        for done in outcomes(function, todo, folder, n_jobs):
            if done.error:
                failed[done.number] = {
                    "cell": cells[done.number],
                    "error": done.error,
                    "traceback": done.traceback,
                }
                bar.set_postfix(failed=len(failed))
            else:
                rows[done.number] = store.put(cells[done.number], done)
            bar.update()
    return rows, [failed[i] for i in sorted(failed)]


def _message(name: str, failed: list[dict[str, Any]], of: int) -> str:
    lines = [f"{len(failed)} of {of} cells of sweep '{name}' failed:"]
    lines += [f"  {f['cell']}: {f['error']}" for f in failed[:SHOWN]]
    if len(failed) > SHOWN:
        lines += [f"  and {len(failed) - SHOWN} more"]
    lines += ["The others are stored; the same call tries these again."]
    return "\n".join([*lines, "The first failure:", failed[0]["traceback"]])


def failures(frame: pd.DataFrame) -> pd.DataFrame:
    """The cells that failed in a sweep with ``keep_going=True``.

    Columns: the cell's fields, ``error`` and ``traceback``.

    Introduced in chapter 3.
    """
    found = frame.attrs.get("failures", [])
    return pd.DataFrame(
        [
            {**f["cell"], "error": f["error"], "traceback": f["traceback"]}
            for f in found
        ]
    )


def _store(
    name: str,
    function: CellFunction,
    key: Mapping[str, Any],
    code: Sequence[Callable[..., Any]],
) -> _Store:
    states = [code_state(function, strict=True), *map(code_state, code)]
    return _Store(name, key, states)


def pending_cells(
    name: str,
    function: CellFunction,
    cells: Sequence[Mapping[str, Any]],
    *,
    key: Mapping[str, Any] | None = None,
    code: Sequence[Callable[..., Any]] = (),
) -> list[dict[str, Any]]:
    """The cells whose rows are not stored: what ``sweep`` would compute.

    Arguments are those of ``sweep``. Raises SweepError for cells that
    cannot be told apart or stored, FingerprintError as ``code_state``.

    Introduced in chapter 3.
    """
    store = _store(name, function, key or {}, code)
    return [cell for cell in check_cells(cells) if store.get(cell) is None]


def sweep(
    name: str,
    function: CellFunction,
    cells: Sequence[Mapping[str, Any]],
    *,
    shared: Mapping[str, Any] | None = None,
    key: Mapping[str, Any] | None = None,
    code: Sequence[Callable[..., Any]] = (),
    n_jobs: int | str = 1,
    progress: bool = True,
    keep_going: bool = False,
) -> pd.DataFrame:
    """The rows of all cells, in the order of the cells.

    ``function(**cell, **shared)`` returns a row (a dict) or a list of
    them; the table holds the fields of the cell, then of the row. Each
    cell is stored as soon as it is done, under its values, ``key``, and
    the source and constants of ``function`` and the helpers in ``code``
    (functions of functions are not followed: name them all). ``shared``
    inputs, such as a model or images, are not part of that: ``key``
    holds the fingerprint of each under the same name.

    ``n_jobs`` processes (-1: one a core) work at the same time, or the
    workers of the Dask scheduler at an address (tcp://host:port), which
    see the same data and cache folders. In each of them, as without any,
    a cell has one thread, a random state that depends on nothing but the
    cell, and ``shared`` inputs of its own: the rows are the same however
    they were computed.

    Failed cells do not stop the others and are tried again by the next
    call. Raises SweepError that lists them at the end; ``keep_going``
    returns the other rows instead, and ``failures(table)`` lists them.
    Also raises SweepError for cells that cannot be told apart or stored,
    FingerprintError and SharingError as ``code_state`` and
    ``shared_folder`` do, CacheError where the cache cannot be written.

    Introduced in chapter 3.
    """
    shared, key, todo = dict(shared or {}), dict(key or {}), check_cells(cells)
    n_jobs = check_workers(n_jobs)
    store = _store(name, function, key, code)
    check_inputs(function, todo, shared, key)
    rows, failed = _fill(store, function, todo, shared, n_jobs, progress)
    table = _frame(todo, rows)
    if failed:
        table.attrs["failures"] = failed
        message = _message(name, failed, len(todo))
        if not keep_going:
            raise SweepError(message, table, failures(table))
        print(message, file=sys.stderr)
    return table
