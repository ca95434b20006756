"""Writing pages that a command makes, or checking that they are current."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from lq_utils.paths import ROOT, atomic_write


def write_or_check(
    texts: Mapping[Path, str], command: str, arguments: Sequence[str] | None
) -> int:
    """Write files, or with ``--check`` say which are out of date.

    ``texts`` holds the text of each file, ``command`` is what a reader
    types to write them; the exit status: 0, 1 if out of date, 2 for
    other arguments.

    Introduced on the API pages.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given not in ([], ["--check"]):
        print(f"usage: {command} [--check]", file=sys.stderr)
        return 2
    old = [path for path, text in texts.items() if _read(path) != text]
    names = ", ".join(_shown(path) for path in old)
    if given:
        if old:
            print(f"out of date: {names}; run {command}", file=sys.stderr)
        return int(bool(old))
    for path in old:
        with atomic_write(path) as temporary:
            temporary.write_text(texts[path], "utf-8")
    print(f"written: {names}" if old else "all up to date")
    return 0


def _read(path: Path) -> str | None:
    return path.read_text("utf-8") if path.is_file() else None


def _shown(path: Path) -> str:
    return str(path.relative_to(ROOT) if path.is_relative_to(ROOT) else path)
