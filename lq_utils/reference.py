"""``python -m lq_utils reference 01``: make a full run the reference.

Copies its rows and its record to ``data/results/``, to be committed. The
tolerances beside them stay as they are, but with ``--tolerances``: then they
are made from the smoke and quick runs that are here.
Without a chapter it lists which rows are committed, and the command for
those that are pending.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from lq_utils.paths import REFERENCE, results_dir
from lq_utils.profiles import chapters, find_chapter
from lq_utils.records import ResultError, keep_run, load_run

PROFILE = "full"


def keep_reference(chapter: str) -> Path:
    """Copy the finished full run of a chapter; return the folder.

    Raises ``ResultError`` where there is no finished full run.

    Introduced in chapter 1.
    """
    run = results_dir() / PROFILE / chapter
    record = load_run(run)
    if not (run / "executed.ipynb").is_file():
        raise ResultError(
            f"the {PROFILE} run of {chapter} did not finish; do "
            f"python -m lq_utils run {chapter} --profile {PROFILE}"
        )
    if (record["chapter"], record["profile"]) != (chapter, PROFILE):
        raise ResultError(f"{run} holds another run; run the chapter again")
    return keep_run(run, REFERENCE / chapter)


def reference_states() -> pd.DataFrame:
    """Every chapter and large network, with its reference rows.

    Columns: what, rows (their number, 0 where they are pending), date and
    data of the run, command (that fills it).

    Introduced in chapter 1.
    """
    from lq_utils.network_command import network_states

    lines = []
    for name in chapters():
        command = f"python -m lq_utils run {name[:2]} --profile {PROFILE}"
        lines.append(_state(name, REFERENCE / name, command))
    for row in network_states().itertuples():
        folder = REFERENCE / "networks" / str(row.network)
        lines.append(_state(str(row.network), folder, str(row.command)))
    return pd.DataFrame(lines)


def _state(name: str, folder: Path, command: str) -> dict[str, object]:
    line = {"what": name, "rows": 0, "date": "", "data": ""}
    if (folder / "rows.csv").is_file():
        record = load_run(folder)
        line |= {"rows": record["rows"], "date": record["date"][:10]}
        line |= {"data": record["stamp"]}
    return {**line, "command": command}


def states_markdown() -> str:
    """``reference_states`` as a Markdown table, for the status page.

    Introduced in chapter 1.
    """
    lines = [
        "| chapter or network | rows | run | data |",
        "|---|---:|---|---|",
    ]
    for row in reference_states().itertuples():
        run = row.date or f"pending: `{row.command}`"
        lines.append(f"| {row.what} | {row.rows} | {run} | {row.data} |")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Command line of ``python -m lq_utils reference``.

    Introduced in chapter 1.
    """
    parser = argparse.ArgumentParser(
        prog="python -m lq_utils reference",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("chapter", nargs="?", help="01 or 01_class_distances")
    parser.add_argument(
        "--tolerances",
        action="store_true",
        help="write tolerances for the committed rows, copy nothing",
    )
    options = parser.parse_args(argv)
    given = options.chapter
    if given is None and options.tolerances:
        parser.error("--tolerances needs a chapter, such as 04")
    if given is None:
        states = reference_states()
        pending = int((states["rows"] == 0).sum())
        print(states.to_string(index=False))
        print(f"{len(states) - pending} committed, {pending} pending")
        return 0
    chapter = find_chapter(given)
    if options.tolerances:
        from lq_utils.tolerances import keep_tolerances

        print(f"tolerances of {chapter}: {keep_tolerances(chapter)}")
        return 0
    print(f"reference rows of {chapter}: {keep_reference(chapter)}")
    return 0
