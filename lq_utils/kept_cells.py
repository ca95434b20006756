"""Rows of finished cells that are kept with the book, in ``data/results``.

A sweep that does not find a cell in the cache looks here: a long run goes
on from what was committed, on any machine, whatever became of its cache.
A file has one line a cell: digests of the code and of everything else
that went in, the cell, its seconds (one worker), the columns that its rows
have, and its rows. Rows need not have the same columns: the first entry of
a row says which of the lists is its own. Names once a cell, and not once a
row, make a file half as long.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from lq_utils.cache import CacheError, canonical_json
from lq_utils.cells import Cell
from lq_utils.paths import REFERENCE, atomic_write

FIELDS = ("code", "key", "cell", "seconds", "rows")
Rows = list[dict[str, Any]]


def _digest(value: Any) -> str:
    text = canonical_json(value)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def without_names(rows: Rows) -> tuple[list[list[str]], list[list[Any]]]:
    """Lists of columns, and rows as (place of their list, values ...).

    Introduced in chapter 3.
    """
    places = {
        names: i for i, names in enumerate(dict.fromkeys(map(tuple, rows)))
    }
    short = [[places[tuple(row)], *row.values()] for row in rows]
    return [list(names) for names in places], short


def with_names(columns: list[list[str]], rows: list[list[Any]]) -> Rows:
    """The rows that ``without_names`` was given.

    Raises IndexError, TypeError and ValueError for anything else.
    Introduced in chapter 3.
    """
    return [
        dict(zip(columns[place], values, strict=True))
        for place, *values in rows
    ]


def _text(line: Mapping[str, Any]) -> str:
    rest = dict(line)
    columns, rows = without_names(rest.pop("rows"))
    return json.dumps(rest | {"columns": columns, "rows": rows}) + "\n"


class KeptCells:
    """The kept cells of one sweep: found by what went in, added to.

    ``key`` is that of the sweep, ``code`` the state of its functions.
    Lines that nothing finds any more, because code changed, stay until
    somebody deletes the file: the next run that keeps its cells writes
    those of its cache again.

    Introduced in chapter 3.
    """

    def __init__(
        self, name: str, key: Mapping[str, Any], code: list[Any]
    ) -> None:
        self.path = REFERENCE / "cells" / f"{name}.jsonl"
        self.key, self.code = dict(key), _digest(code)
        self._lines = self._read()

    def _read(self) -> dict[str, dict[str, Any]]:
        if not self.path.is_file():
            return {}
        found = {}
        for text in self.path.read_text("utf-8").splitlines():
            try:
                line = json.loads(text)
                line["rows"] = with_names(line["columns"], line["rows"])
                found[line["key"]] = {name: line[name] for name in FIELDS}
            except (ValueError, LookupError, TypeError) as error:
                raise CacheError(
                    f"{self.path} holds a line that is no cell ({error}): "
                    f"{text[:60]!r}; take the file from the repository "
                    "again, or remove that line"
                ) from error
        return found

    def _of(self, cell: Cell) -> str:
        return _digest({"key": self.key, "code": self.code, "cell": cell})

    def get(self, cell: Cell) -> str | None:
        """The rows of ``cell`` (JSON), or None."""
        line = self._lines.get(self._of(cell))
        return None if line is None else json.dumps(line["rows"])

    def put(self, cell: Cell, rows: str, seconds: float) -> None:
        """Add the rows of ``cell``; the file is replaced in one step.

        Raises CacheError where it cannot be written.
        """
        name = self._of(cell)
        if name in self._lines:
            return
        spent = round(seconds, 2)
        values = (self.code, name, cell, spent, json.loads(rows))
        # Read again: another run may have added to it meanwhile.
        lines = self._read() | {name: dict(zip(FIELDS, values, strict=True))}
        text = "".join(map(_text, lines.values()))
        try:
            with atomic_write(self.path) as path:
                path.write_text(text, "utf-8")
        except OSError as error:
            raise CacheError(
                f"cannot keep a cell in {self.path}: {error}. The cell is in "
                "the cache; make room, and the same call goes on"
            ) from error
        self._lines = lines
