"""``python -m lq_utils compare 01``: a run against the reference run."""

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


def main(argv: Sequence[str] | None = None) -> int:
    """Print the comparison; 1 if any row is outside its tolerance.

    Raises ``ResultError`` for a run on other data than the reference's.

    Introduced in chapter 1.
    """
    parser = argparse.ArgumentParser(
        prog="python -m lq_utils compare", description=__doc__
    )
    parser.add_argument("chapter", help="01 or 01_class_distances")
    parser.add_argument("--profile", default="quick", help="default: quick")
    arguments = parser.parse_args(argv)
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
