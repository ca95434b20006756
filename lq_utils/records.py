"""The record that each run leaves beside its rows: ``run.json``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


class ResultError(ValueError):
    """A result row or a run's record cannot be written or read.

    Introduced in chapter 1.
    """


def load_run(folder: Path) -> dict[str, Any]:
    """The record of the run in ``folder`` (its ``run.json``).

    Raises ``ResultError`` where there is none, or a damaged one.

    Introduced in chapter 1.
    """
    path = Path(folder) / "run.json"
    try:
        record: dict[str, Any] = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ResultError(
            f"cannot read {path} ({error}); run the chapter again"
        ) from error
    return record
