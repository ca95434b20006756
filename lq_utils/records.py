"""The record that each run leaves beside its rows: ``run.json``."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from lq_utils.paths import atomic_write


class ResultError(ValueError):
    """A result row or a run's record cannot be written or read.

    Introduced in chapter 1.
    """


KEPT = ("rows.csv", "run.json")


def keep_run(source: Path, target: Path) -> Path:
    """Copy the rows and the record of a run, each in one step.

    Introduced in chapter 1.
    """
    for name in KEPT:
        with atomic_write(target / name) as path:
            shutil.copyfile(source / name, path)
    return target


def load_run(folder: Path) -> dict[str, Any]:
    """The record of the run in ``folder`` (its ``run.json``).

    Raises ``ResultError`` where there is none, or a damaged one.

    Introduced in chapter 1.
    """
    path = Path(folder) / "run.json"
    try:
        record: dict[str, Any] = json.loads(path.read_text("utf-8"))
        if not isinstance(record, dict):
            raise TypeError(f"it holds a {type(record).__name__}")
    except (OSError, TypeError, ValueError) as error:
        raise ResultError(
            f"cannot read {path} ({error}); run the chapter again"
        ) from error
    return record
