"""``python -m lq_utils compare 01``: a run against the reference run.

With two names, ``compare A B``: the rows of two runs, one by one. A name
is a folder with ``rows.csv``, or a chapter.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from lq_utils.comparison import (
    OTHER_DATA,
    OUTSIDE,
    compare_with_reference,
)
from lq_utils.paths import results_dir
from lq_utils.profiles import find_chapter
from lq_utils.rows import ResultError, load_rows, load_run
from lq_utils.two_runs import compare_runs, run_folder


def main(argv: Sequence[str] | None = None) -> int:
    """Print the comparison; 1 if any row is outside its tolerance.

    Of two runs: 1 if any row differs in more than its run's id.

    Raises ``ResultError`` for a run on other data than the reference's.

    Introduced in chapter 1.
    """
    parser = argparse.ArgumentParser(
        prog="python -m lq_utils compare", description=__doc__
    )
    parser.add_argument("chapter", help="01, 01_class_distances or a folder")
    parser.add_argument("other", nargs="?", help="a second run, to compare")
    parser.add_argument("--profile", default="quick", help="default: quick")
    arguments = parser.parse_args(argv)
    if arguments.other is not None:
        names = (arguments.chapter, arguments.other)
        folders = [run_folder(name, arguments.profile) for name in names]
        return 1 if compare_runs(*folders) else 0
    chapter = find_chapter(arguments.chapter)
    folder = results_dir() / arguments.profile / chapter
    rows, record = load_rows(folder), load_run(folder)
    print(f"{chapter}, {arguments.profile} profile: {record['stamp']}")
    table = compare_with_reference(rows, chapter, record)
    if len(table) and (table["verdict"] == OTHER_DATA).all():
        raise ResultError(
            f"this run is not compared: {table['likely reason'].iloc[0]}. Run "
            "the chapter on the reference's data (python -m lq_utils data)"
        )
    print(
        table.to_string(index=False, na_rep="", float_format="{:.4g}".format)
    )
    return 1 if (table["verdict"] == OUTSIDE).any() else 0
