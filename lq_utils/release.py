"""``python -m lq_utils release``: the book as files to hand on.

Makes ``book.zip``, ``book.pdf`` and ``SHA256SUMS`` in ``_build/release/``.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from lq_utils.book_print import joined, print_pdf
from lq_utils.book_zip import release_files, write_sums, write_zip
from lq_utils.pages import build, contents
from lq_utils.paths import ROOT


def make_release(root: Path, folder: Path, pdf: bool = True) -> list[Path]:
    """Pack and print the book that is rendered below ``root``.

    Returns the files made in ``folder``, ``SHA256SUMS`` last.

    Raises ReleaseError where a part of the book is missing, or no
    browser is there to print it.

    Introduced on the page "Re-run it".
    """
    made = [folder / "book.zip"]
    write_zip(release_files(root), made[0])
    if pdf:
        made.append(folder / "book.pdf")
        names = contents(root / "_toc.yml")
        print_pdf(joined(root / "_build" / "html", names), made[1])
    else:
        (folder / "book.pdf").unlink(missing_ok=True)
    return [*made, write_sums(made, folder)]


def main(argv: Sequence[str] | None = None) -> int:
    """Build the book, then make the release; the exit status.

    Raises ReleaseError as ``make_release``.

    Introduced on the page "Re-run it".
    """
    parser = argparse.ArgumentParser(
        prog="python -m lq_utils release", description=__doc__
    )
    parser.add_argument("--profile", default="quick", help="default: quick")
    parser.add_argument(
        "--no-build", action="store_true", help="take the pages as they are"
    )
    parser.add_argument(
        "--no-pdf", action="store_true", help="needs no browser then"
    )
    options = parser.parse_args(argv)
    if not options.no_build and build(options.profile) != 0:
        return 1
    folder = ROOT / "_build" / "release"
    for path in make_release(ROOT, folder, not options.no_pdf):
        print(f"{path} ({path.stat().st_size / 1e6:.1f} MB)")
    return 0
