"""Which rows chapters record: chapter, metric and names of keys.

    python tests/recorded_rows.py FOLDER ...

rewrites ``recorded_rows.csv`` from the ``rows.csv`` of runs in the folders
(``_build/results/smoke``); lines of other chapters and profiles stay.
"""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

FILE = Path(__file__).with_suffix(".csv")
COLUMNS = ("profile", "chapter", "metric", "keys")
Line = tuple[str, str, str, str]


def recorded(folder: Path) -> set[Line]:
    """A line for every kind of row that the runs in ``folder`` recorded."""
    found = set()
    for path in sorted(folder.glob("*/rows.csv")):
        with path.open(encoding="utf-8", newline="") as stream:
            for row in csv.DictReader(stream):
                names = " ".join(sorted(json.loads(row["keys"])))
                place = row["profile"], row["chapter"], row["metric"]
                found.add((*place, names))
    return found


def known() -> set[Line]:
    """The lines of the committed file."""
    with FILE.open(encoding="utf-8", newline="") as stream:
        return {
            tuple(row[name] for name in COLUMNS)
            for row in csv.DictReader(stream)
        }


def main(folders: list[str]) -> None:
    """Rewrite the file from the runs in these folders."""
    new = set().union(*(recorded(Path(folder)) for folder in folders))
    runs = {line[:2] for line in new}
    old = known() if FILE.is_file() else set()
    lines = sorted(new | {line for line in old if line[:2] not in runs})
    with FILE.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerows([COLUMNS, *lines])


if __name__ == "__main__":
    main(sys.argv[1:])
