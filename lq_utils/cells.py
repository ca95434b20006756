"""Cells of a sweep: what they may hold, and how one is computed."""

from __future__ import annotations

import hashlib
import inspect
import itertools
import json
import math
import random
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from lq_utils.cache import canonical_json
from lq_utils.sharing import load_shared

if TYPE_CHECKING:  # worker processes start faster without
    import pandas as pd

Cell = dict[str, Any]
CellFunction = Callable[..., Mapping[str, Any] | Sequence[Mapping[str, Any]]]

# The random state and the number of threads are the process's: its cells
# take turns, whoever runs them.
_TURN = threading.RLock()
_SCALARS = (str, int, float, bool, type(None))


class SweepError(RuntimeError):
    """Cells failed, or the sweep was asked for in a wrong way.

    ``rows`` is the table of the cells that went well, ``failures`` has
    one row a failed cell: its values, ``error`` and ``traceback``. Both
    are None where no cell was tried.

    Introduced in chapter 3.
    """

    def __init__(
        self,
        message: str,
        rows: pd.DataFrame | None = None,
        failures: pd.DataFrame | None = None,
    ) -> None:
        super().__init__(message)
        self.rows, self.failures = rows, failures


class Outcome(NamedTuple):
    """What came of a cell: its rows and seconds, or its error.

    Introduced in chapter 3.
    """

    number: int
    rows: str = ""  # JSON
    seconds: float = 0.0  # of one worker
    error: str = ""
    traceback: str = ""


def cell_grid(**axes: Sequence[Any]) -> list[Cell]:
    """All combinations of the values, the last axis fastest.

    ``cell_grid(bits=[2, 3], seed=range(5))`` gives ten cells.

    Introduced in chapter 3.
    """
    return [
        dict(zip(axes, values, strict=True))
        for values in itertools.product(*axes.values())
    ]


def _scalar(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _literal(name: str, value: Any) -> Any:
    value = _scalar(value)
    if isinstance(value, tuple):
        return tuple(_literal(name, part) for part in value)
    endless = isinstance(value, float) and not math.isfinite(value)
    if endless or not isinstance(value, _SCALARS):
        raise SweepError(
            f"cell field '{name}' is {value!r}: cells hold finite numbers, "
            "strings, None and tuples of them; large inputs go into shared="
        )
    return value


def check_cells(cells: Sequence[Mapping[str, Any]]) -> list[Cell]:
    """The cells as plain dicts. Raises SweepError, also for doubles.

    Introduced in chapter 3.
    """
    literal = [{k: _literal(k, v) for k, v in c.items()} for c in cells]
    first: dict[str, int] = {}
    for i, cell in enumerate(literal):
        j = first.setdefault(canonical_json(cell), i)
        if i != j:
            raise SweepError(
                f"cells {j} and {i} are the same, {cell}; leave one out, or "
                "tell them apart by a seed"
            )
    return literal


def check_inputs(
    function: CellFunction,
    cells: list[Cell],
    shared: Mapping[str, Any],
    key: Mapping[str, Any],
) -> None:
    """Raises SweepError for inputs without key, or that do not fit.

    Introduced in chapter 3.
    """
    unnamed = [name for name in shared if name not in key]
    if unnamed:
        raise SweepError(
            f"shared inputs {unnamed} have no entry of the same name in "
            "key=; put their fingerprint there, e.g. digest(model) of "
            "lq_utils.fingerprints, or None for what cannot change the rows"
        )
    clash = {name for cell in cells for name in cell if name in shared}
    if clash:
        raise SweepError(
            f"{sorted(clash)} are both cell fields and shared inputs; "
            "rename one of them"
        )
    signature = inspect.signature(function)
    for cell in cells:
        try:
            signature.bind(**cell, **shared)
        except TypeError as error:
            raise SweepError(
                f"{function} takes {signature}; that does not fit the cell "
                f"{cell} and the shared inputs {list(shared)}: {error}"
            ) from error


@contextmanager
def _pinned(seed: int) -> Iterator[None]:
    """One thread and a fixed random state, so that rows never depend on
    how many workers there are or which cells came before."""
    threads = torch.get_num_threads()
    states = random.getstate(), np.random.get_state()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1), torch.random.fork_rng(devices=[]):
            random.seed(seed)
            np.random.seed(seed)
            torch.manual_seed(seed)
            yield
    finally:
        torch.set_num_threads(threads)
        random.setstate(states[0])
        np.random.set_state(states[1])


def _row(cell: Cell, row: Any) -> dict[str, Any]:
    if not isinstance(row, Mapping):
        raise TypeError(
            "a cell function returns a dict, or a list of dicts, one a row; "
            f"found {type(row).__name__}"
        )
    checked = {name: _scalar(value) for name, value in row.items()}
    for name, value in checked.items():
        if name in cell and cell[name] != value:
            raise ValueError(
                f"row field '{name}' is {value!r}, but the cell's is "
                f"{cell[name]!r}; give the row field another name"
            )
        if not isinstance(name, str) or not isinstance(value, _SCALARS):
            raise TypeError(
                f"row field {name!r} is of type {type(value).__name__}; rows "
                "hold numbers, strings and None: use float(...), or make "
                "several rows"
            )
    return {k: v for k, v in checked.items() if k not in cell}


def _as_list(found: Any) -> Iterable[Any]:
    # What is no row at all is one bad row, for `_row` to say so.
    many = isinstance(found, Iterable) and not isinstance(found, Mapping)
    return found if many else [found]


def run_cell(
    number: int, function: CellFunction, cell: Cell, folder: Path
) -> Outcome:
    """Compute one cell; in this process or in a worker.

    Introduced in chapter 3.
    """
    seed = hashlib.sha256(canonical_json(cell).encode()).digest()[:4]
    started = time.perf_counter()
    try:
        with _TURN, _pinned(int.from_bytes(seed)):
            found = function(**cell, **load_shared(folder))
            rows = list(_as_list(found))
        text = json.dumps([_row(cell, row) for row in rows])
    except (Exception, SystemExit) as error:  # noqa: BLE001
        name = f"{type(error).__name__}: {error}"
        details = traceback.format_exc()
        return Outcome(number, error=name, traceback=details)
    return Outcome(number, text, time.perf_counter() - started)
