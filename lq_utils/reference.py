"""``python -m lq_utils reference 01``: make a full run the reference.

Copies its rows and its record to ``data/results/``, to be committed;
tolerances beside them stay as they are.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path

from lq_utils.paths import REFERENCE, atomic_write, results_dir
from lq_utils.profiles import find_chapter
from lq_utils.records import ResultError, load_run

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
    for name in ("rows.csv", "run.json"):
        with atomic_write(REFERENCE / chapter / name) as path:
            shutil.copyfile(run / name, path)
    return REFERENCE / chapter


def main(argv: Sequence[str] | None = None) -> int:
    """Command line of ``python -m lq_utils reference``.

    Introduced in chapter 1.
    """
    parser = argparse.ArgumentParser(
        prog="python -m lq_utils reference",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("chapter", help="01 or 01_class_distances")
    chapter = find_chapter(parser.parse_args(argv).chapter)
    print(f"reference rows of {chapter}: {keep_reference(chapter)}")
    return 0
