"""What the run of a chapter left behind, for its page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lq_utils.records import ResultError, load_run


class PageError(ValueError):
    """A chapter that cannot become a page of the book.

    Introduced in chapter 1.
    """


@dataclass(frozen=True)
class Record:
    """What ``run.json`` says about one run of a chapter.

    Introduced in chapter 1.
    """

    chapter: str
    id: str
    date: str
    seconds: float
    parameters: Mapping[str, Any]
    provenance: Mapping[str, str]
    stamp: str
    versions: Mapping[str, str]
    machine: Mapping[str, Any]

    @classmethod
    def read(cls, folder: Path) -> Record:
        """Read the record that a finished run left in its folder.

        Raises:
            PageError: there is no record, or it lacks an entry.
        """
        try:
            run = load_run(folder)
            return cls(
                chapter=run["chapter"],
                id=run["run_id"],
                date=run["date"],
                seconds=float(run["seconds"]),
                parameters=run["parameters"],
                provenance=run["provenance"],
                stamp=run["stamp"],
                versions=run["packages"],
                machine=run["machine"],
            )
        except (ResultError, KeyError, TypeError, ValueError) as error:
            raise PageError(
                f"{folder} does not hold a finished run ({error!r}): a "
                "chapter ends with run.save(); run it again with --force"
            ) from error

    @property
    def day(self) -> str:
        """When the run started, to the minute."""
        date = datetime.fromisoformat(self.date).astimezone(UTC)
        return f"{date:%Y-%m-%d %H:%M} UTC"

    @property
    def profile(self) -> str:
        """Profile of the run."""
        return str(self.parameters["profile"])

    @property
    def seed(self) -> Any:
        """Seed of the run."""
        return self.parameters["seed"]
