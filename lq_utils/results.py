"""Result rows: every number the book shows is one, with its run.

``start_run`` opens a run, ``record`` adds rows, ``save`` writes
``rows.csv`` and ``run.json``; what came of it is read again by
``load_rows`` and held against the reference by
``compare_with_reference``.
"""

from __future__ import annotations

import json
import math
import numbers
import time
import uuid
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from lq_utils.cache import canonical_json
from lq_utils.comparison import compare_with_reference
from lq_utils.machine import machine, package_versions
from lq_utils.paths import atomic_write, results_dir
from lq_utils.profiles import honest_profile, is_place
from lq_utils.rows import (
    COLUMNS,
    ResultError,
    as_frame,
    load_rows,
    load_run,
    reference_rows,
)

if TYPE_CHECKING:
    from lq_utils.data import Provenance

__all__ = [
    "COLUMNS",
    "ResultError",
    "Run",
    "compare_with_reference",
    "current_run",
    "load_rows",
    "load_run",
    "reference_rows",
    "start_run",
]


def _cell() -> tuple[str, int] | None:
    """Id of the notebook cell that runs now, and its execution count."""
    try:
        from IPython import get_ipython

        shell = get_ipython()
        parent = shell.get_parent()
        return parent["metadata"]["cellId"], shell.execution_count
    except (ImportError, AttributeError, KeyError, TypeError):
        return None  # no notebook, or one that does not name its cells


def _real(name: str, value: Any) -> float:
    if isinstance(value, numbers.Real) and math.isfinite(value):
        return float(value)
    raise ResultError(
        f"{name} must be a finite number, not {value!r}; record a count "
        "of the cases left out rather than NaN or infinity"
    )


def _interval(
    metric: str, ci: tuple[float, float] | None
) -> tuple[float | None, float | None]:
    if ci is None:
        return None, None
    low, high = (_real(f"ci of '{metric}'", bound) for bound in ci)
    if low > high:
        raise ResultError(f"ci of '{metric}' is upside down: {low} > {high}")
    return low, high


@dataclass
class Run:
    """One execution of a chapter, and the rows it recorded.

    ``parameters["profile"]`` is the profile that the values really are,
    ``"custom"`` where they are none.

    Introduced in chapter 1.
    """

    chapter: str
    parameters: dict[str, Any]
    provenance: Provenance
    id: str = field(default_factory=lambda: uuid.uuid4().hex[:12])
    started: datetime = field(default_factory=lambda: datetime.now(UTC))
    _clock: float = field(default_factory=time.perf_counter, repr=False)
    _rows: dict[tuple[str, str, int | None], dict[str, Any]] = field(
        default_factory=dict, repr=False
    )
    _cells: dict[tuple[str, str, int | None], tuple[str, int] | None] = field(
        default_factory=dict, repr=False
    )

    @property
    def profile(self) -> str:
        """The profile the rows count for."""
        return str(self.parameters["profile"])

    @property
    def folder(self) -> Path:
        """Where ``save`` writes."""
        return results_dir() / self.profile / self.chapter

    @property
    def rows(self) -> pd.DataFrame:
        """The rows recorded so far."""
        return as_frame(list(self._rows.values()))

    def record(
        self,
        metric: str,
        value: float,
        *,
        n: int | None = None,
        ci: tuple[float, float] | None = None,
        seed: int | None = None,
        **keys: Any,
    ) -> None:
        """Add a row: ``metric`` has ``value`` for these ``keys``.

        ``n`` is how many cases the value rests on, ``ci`` its confidence
        interval; ``seed`` is the run's own unless given. A cell that is
        run again replaces its own rows.

        Raises ``ResultError`` for a second value of the same metric,
        keys and seed, and for values that are no finite numbers.
        """
        seed = self.parameters.get("seed") if seed is None else int(seed)
        name = (metric, canonical_json(keys), seed)
        cell = _cell()
        if name in self._rows and not _run_again(self._cells[name], cell):
            raise ResultError(
                f"'{metric}' with keys {name[1]} and seed {seed} was "
                "recorded before; give a key that tells the two apart, or "
                "run the start_run cell again to begin a new run"
            )
        low, high = _interval(metric, ci)
        self._cells[name] = cell
        self._rows[name] = {
            "run_id": self.id,
            "chapter": self.chapter,
            "keys": name[1],
            "metric": metric,
            "value": _real(f"'{metric}'", value),
            "ci_low": low,
            "ci_high": high,
            "n": None if n is None else int(n),
            "seed": seed,
            "dataset": self.provenance.dataset,
            "rung": self.provenance.rung,
            "profile": self.profile,
        }

    def compare(self) -> pd.DataFrame:
        """These rows beside the reference: ``compare_with_reference``."""
        return compare_with_reference(self.rows, self.chapter, self._record())

    def save(self) -> Path:
        """Write ``rows.csv`` and ``run.json``; return their folder."""
        with atomic_write(self.folder / "rows.csv") as path:
            self.rows.to_csv(path, index=False, lineterminator="\n")
        with atomic_write(self.folder / "run.json") as path:
            text = json.dumps(self._record(), indent=2, ensure_ascii=False)
            path.write_text(text + "\n", "utf-8")
        return self.folder

    def _record(self) -> dict[str, Any]:
        return {
            "run_id": self.id,
            "chapter": self.chapter,
            "profile": self.profile,
            "date": self.started.isoformat(timespec="seconds"),
            "seconds": round(time.perf_counter() - self._clock, 1),
            "rows": len(self._rows),
            "parameters": self.parameters,
            "provenance": asdict(self.provenance),
            "stamp": self.provenance.stamp(),
            "packages": package_versions(),
            "machine": machine(),
        }


def _run_again(
    before: tuple[str, int] | None, now: tuple[str, int] | None
) -> bool:
    if before is None or now is None:
        return False
    return before[0] == now[0] and before[1] != now[1]


_current: Run | None = None


def start_run(
    chapter: str, parameters: dict[str, Any], provenance: Provenance
) -> Run:
    """Open the run of a chapter and print what it is.

    ``parameters`` come from ``check_parameters``. Where they are not what
    their profile says (changed in a session or by bare papermill), the
    run counts as ``"custom"``, so that it is never taken for the profile.

    Introduced in chapter 1.
    """
    global _current
    profile = honest_profile(chapter, parameters)
    # Other machines have other paths; that one was given is all they share.
    places = {
        name: "given"
        for name, value in parameters.items()
        if value and is_place(name)
    }
    recorded = {**parameters, **places, "profile": profile}
    _current = Run(chapter, recorded, provenance)
    print(
        f"{chapter} · {profile} profile · {provenance.stamp()} · "
        f"run {_current.id}"
    )
    return _current


def current_run() -> Run | None:
    """The run that ``start_run`` opened last in this session.

    Introduced in chapter 1.
    """
    return _current
