"""Build the book: run the chapters, make their pages, render them."""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import nbformat
import yaml

from lq_utils import runner
from lq_utils.chapter_pages import make_page
from lq_utils.page_record import PageError, Record
from lq_utils.paths import ROOT, atomic_write
from lq_utils.reference import states_markdown

CHAPTERS = ROOT / "book" / "chapters"
STATUS = ROOT / "book" / "status.md"
HTML = ROOT / "_build" / "html"
DOCTREES = ROOT / "_build" / ".doctrees"


def build(profile: str = "quick", force: bool = False) -> int:
    """Run all chapters and render the book.

    Only what changed is run and rendered again. A chapter that fails
    stops the build, and its old page is removed.

    Args:
        profile: profile of every chapter.
        force: run chapters again even where a finished run is there.

    Returns:
        0, or 1 where a chapter or the rendering failed.

    Introduced in chapter 1.
    """
    results = runner.run_all(profile, force)
    failed = [result.chapter for result in results if not result.ok]
    for name in failed:
        remove_page(name)
    if failed:
        print(f"No book: {', '.join(failed)} failed, see above.")
        return 1
    records = []
    for result in results:
        try:
            records.append(write_page(result.folder))
        except PageError as error:
            remove_page(result.chapter)
            print(f"No book: {error}")
            return 1
    remove_others({record.chapter for record in records})
    write_text(STATUS, status_page(records))
    if render() != 0:
        return 1
    print(f"The book: {HTML / 'index.html'}")
    for record in records:
        print(
            f"  {record.chapter}: {record.profile} profile, "
            f"seed {record.seed}, {record.stamp}"
        )
    return 0


def write_page(folder: Path) -> Record:
    """Write the page of one finished run; unchanged pages stay untouched.

    Raises:
        PageError: the run did not finish well, see ``make_page``.

    Introduced in chapter 1.
    """
    record = Record.read(folder)
    page = make_page(folder / "executed.ipynb", record)
    write_text(
        CHAPTERS / f"{record.chapter}.ipynb",
        nbformat.writes(page) + "\n",
    )
    return record


def write_text(path: Path, text: str) -> None:
    """Write a file unless it already says so (Sphinx compares times).

    Introduced in chapter 1.
    """
    if path.exists() and path.read_text("utf-8") == text:
        return
    with atomic_write(path) as temporary:
        temporary.write_text(text, "utf-8")


def remove_page(name: str) -> None:
    """Remove a chapter's page, so that no stale one is left.

    Introduced in chapter 1.
    """
    (CHAPTERS / f"{name}.ipynb").unlink(missing_ok=True)
    (HTML / "book" / "chapters" / f"{name}.html").unlink(missing_ok=True)


def remove_others(names: set[str]) -> None:
    """Remove the pages of chapters that are no longer there.

    Introduced in chapter 1.
    """
    for page in CHAPTERS.glob("*.ipynb"):
        if page.stem not in names:
            remove_page(page.stem)


def render() -> int:
    """Run Jupyter Book, warnings as errors; check that it made a book.

    Returns:
        0, or 1 where it failed.

    Introduced in chapter 1.
    """
    command = [
        *(sys.executable, "-c"),
        "from jupyter_book.cli.main import main; main()",
        *("build", str(ROOT), "-W", "-n", "--keep-going", "-q"),
    ]
    code = subprocess.run(command, cwd=ROOT, check=False).returncode
    if code != 0:
        # A page that warned is not read again by the next build, which
        # would then pass: make that one read everything.
        shutil.rmtree(DOCTREES, ignore_errors=True)
        print("No book: Jupyter Book reported the problems above.")
        return 1
    stale = stale_pages()
    if stale:
        print(
            f"No book: {', '.join(stale)} not rendered although Jupyter "
            "Book reported success; remove _build/html and build again"
        )
        return 1
    return 0


def stale_pages() -> list[str]:
    """Pages of the table of contents whose HTML is missing or old.

    Introduced in chapter 1.
    """
    stale = [] if (HTML / "index.html").exists() else ["index"]
    for name in contents(ROOT / "_toc.yml"):
        page = (HTML / name).with_suffix(".html")
        sources = [(ROOT / name).with_suffix(s) for s in (".md", ".ipynb")]
        newest = max(s.stat().st_mtime for s in sources if s.exists())
        if not page.exists() or page.stat().st_mtime < newest:
            stale.append(name)
    return stale


def contents(toc: Path) -> list[str]:
    """Names of the pages in a table of contents, in order.

    Introduced in chapter 1.
    """
    entries = yaml.safe_load(toc.read_text("utf-8"))
    names = [entries["root"]]
    for part in entries["parts"]:
        for page in part["chapters"]:
            names.append(page["file"])
            names += [inner["file"] for inner in page.get("sections", [])]
    return names


def status_page(records: Sequence[Record]) -> str:
    """Markdown of the page that says what was run, when and on what.

    Introduced in chapter 1.
    """
    rows = "\n".join(
        f"| {{doc}}`/book/chapters/{r.chapter}` | {r.profile} | {r.seed} "
        f"| {r.stamp} | {r.day}, run `{r.id}` | {r.seconds:.0f} |"
        for r in records
    )
    return f"""# Status of this copy

Every chapter of this copy of the book was executed before it was rendered.
The table is written by the build, from the record that each run leaves.

## Chapters

| chapter | profile | seed | data | executed | seconds |
|---|---|---|---|---|---:|
{rows}

## Reference rows

Full runs whose rows are committed with the book, and those that are pending.
Every chapter compares itself with them.

{states_markdown()}

## Environment

{environment(records)}
"""


def environment(records: Sequence[Record]) -> str:
    """Versions and machines of the runs; one table when they agree.

    Introduced in chapter 1.
    """
    groups: dict[str, list[str]] = {}
    for record in records:
        entries = {**record.machine, **record.versions}
        rows = "\n".join(f"| {k} | {v} |" for k, v in entries.items())
        groups.setdefault(rows, []).append(record.chapter)
    tables = []
    for rows, chapters in groups.items():
        note = "" if len(groups) == 1 else f"{', '.join(chapters)}:\n\n"
        tables.append(f"{note}| what | value |\n|---|---|\n{rows}\n")
    return "\n".join(tables)


def main(argv: Sequence[str] | None = None) -> int:
    """Command line: ``python -m lq_utils book --profile quick``.

    Introduced in chapter 1.
    """
    parser = argparse.ArgumentParser(
        prog="python -m lq_utils book",
        description="Run all chapters, render the book.",
    )
    parser.add_argument("--profile", default="quick")
    parser.add_argument(
        "--force", action="store_true", help="run finished chapters again"
    )
    options = parser.parse_args(argv)
    return build(options.profile, options.force)


if __name__ == "__main__":
    sys.exit(main())
