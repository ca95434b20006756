"""The mechanics of the table of bad inputs: a place, a case, the table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

NOTEBOOKS = Path(__file__).parent / "notebooks"
Action = list[str] | Callable[[], object]
Prepare = Callable[["Place"], Action]


@dataclass(frozen=True)
class Place:
    """An empty folder, which holds everything that a case touches."""

    folder: Path
    patch: pytest.MonkeyPatch
    later: list[Callable[[], None]] = field(default_factory=list)

    def write(self, name: str, content: str | bytes = "") -> Path:
        """A file with this content, and its path."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        data = content.encode() if isinstance(content, str) else content
        path.write_bytes(data)
        return path

    def point(self, variable: str, name: str) -> Path:
        """Let an environment variable name something in the folder."""
        self.patch.setenv(variable, str(self.folder / name))
        return self.folder / name

    def files(self) -> dict[str, bytes]:
        """Every file in the folder, with its content."""
        return {
            str(path.relative_to(self.folder)): path.read_bytes()
            for path in self.folder.rglob("*")
            if path.is_file()
        }


@dataclass(frozen=True)
class Case:
    """One bad input: what is given, and what must be said about it.

    ``prepare`` returns words of the command line, or a call. ``wrong``
    and ``remedy`` are in the message; files that end in ``kept`` may
    stay, for the same command goes on with them.
    """

    kind: str
    what: str
    prepare: Prepare
    wrong: str
    remedy: str
    kept: str | None = None


CASES: list[Case] = []


def bad(
    kind: str, what: str, wrong: str, remedy: str, kept: str | None = None
) -> Callable[[Prepare], Prepare]:
    """Put a function of a place into the table."""

    def add(prepare: Prepare) -> Prepare:
        CASES.append(Case(kind, what, prepare, wrong, remedy, kept))
        return prepare

    return add


def bad_command(
    kind: str, what: str, words: str, wrong: str, remedy: str
) -> None:
    """Put a command into the table that needs no preparation."""
    bad(kind, what, wrong, remedy)(lambda place: words.split("~"))
