"""The derived notebooks: ``NN_name.ipynb`` made from ``NN_name.py``.

``python -m lq_utils notebooks`` writes them, with ``--check`` it only
reports what is not in order.
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Sequence
from pathlib import Path

import jupytext
import nbformat
from jupytext.combine import combine_inputs_with_outputs
from jupytext.compare import NotebookDifference, compare_notebooks
from nbformat import NotebookNode

from lq_utils.exercises import (
    exercise_problems,
    exercises,
    student_notebook,
)
from lq_utils.gates import profile_problems, style_problems
from lq_utils.paths import atomic_write
from lq_utils.profiles import chapters, notebooks_dir, source_path

METADATA = {
    "kernelspec": {
        "display_name": "Python 3",
        "language": "python",
        "name": "python3",
    },
    "language_info": {"name": "python"},
}


def _name_new_cells(
    notebook: NotebookNode, chapter: str, kept: set[str]
) -> None:
    """Ids that follow from the content, so that nobody's run differs."""
    taken: set[str] = set()
    for cell in notebook.cells:
        cell_id, copy = cell.id, 0
        while cell_id not in kept or cell_id in taken:
            text = f"{chapter}\n{cell.cell_type}\n{cell.source}\n{copy}"
            cell_id = hashlib.sha256(text.encode()).hexdigest()[:8]
            kept, copy = kept | {cell_id}, copy + 1
        cell.id = cell_id
        taken.add(cell_id)


def derive(source: Path, old: Path | None = None) -> NotebookNode:
    """The notebook that a ``.py`` source stands for, without outputs.

    Cells that ``old`` has already keep its ids, edited ones as well; new
    cells get ids made from the chapter's name and the cell's text.

    Introduced in chapter 1.
    """
    notebook = jupytext.read(source)
    kept: set[str] = set()
    if old is not None and old.is_file():
        previous = nbformat.read(old, as_version=4)
        kept = {cell.id for cell in previous.cells if "id" in cell}
        notebook = combine_inputs_with_outputs(
            notebook, previous, fmt="py:percent"
        )
    _name_new_cells(notebook, source.stem, kept)
    for cell in notebook.cells:
        tags = cell.metadata.get("tags", [])
        cell.metadata = nbformat.from_dict({"tags": tags} if tags else {})
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    notebook.metadata = nbformat.from_dict(METADATA)
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    nbformat.validate(notebook)
    return notebook


def _text(notebook: NotebookNode) -> str:
    return str(nbformat.writes(notebook, version=4)) + "\n"


def exercises_dir() -> Path:
    """Where the notebooks without solutions are.

    Introduced in chapter 1.
    """
    return notebooks_dir() / "exercises"


def _derived(chapter: str) -> dict[Path, NotebookNode]:
    """What a chapter's source gives: its notebook, and the student's."""
    path = notebooks_dir() / f"{chapter}.ipynb"
    notebook = derive(source_path(chapter), path)
    found = {path: notebook}
    if exercises(notebook):
        student = exercises_dir() / f"{chapter}_exercises.ipynb"
        found[student] = student_notebook(notebook, chapter)
    return found


def regenerate() -> list[Path]:
    """Write every chapter's notebooks; return those that changed.

    Introduced in chapter 1.
    """
    changed = []
    for chapter in chapters():
        for path, notebook in _derived(chapter).items():
            text = _text(notebook)
            if not path.is_file() or path.read_text("utf-8") != text:
                with atomic_write(path) as temporary:
                    temporary.write_text(text, "utf-8")
                changed.append(path)
    return changed


def _difference(derived: NotebookNode, path: Path) -> str:
    """Where a file differs, in a line; ``""`` where it does not."""
    text = path.read_text("utf-8")
    if text == _text(derived):
        return ""
    written = nbformat.reads(text, as_version=4)
    try:
        compare_notebooks(
            written, derived, fmt="py:percent", compare_ids=False
        )
    except NotebookDifference as difference:
        return " ".join(str(difference).split())[:200]
    return "outputs, ids or metadata differ"


def _pair_problems() -> list[str]:
    found, known = [], set()
    for chapter in chapters():
        for path, notebook in _derived(chapter).items():
            known.add(path)
            if not path.is_file():
                found.append(f"{path.name} is missing: run make notebooks")
                continue
            difference = _difference(notebook, path)
            if difference:
                found.append(
                    f"{path.name} is not what {chapter}.py gives "
                    f"({difference}): edit the .py, then run make notebooks"
                )
    for folder in (notebooks_dir(), exercises_dir()):
        for path in sorted(set(folder.glob("*.ipynb")) - known):
            found.append(f"{path.name} has no source: delete it, or add one")
    return found


def check() -> list[str]:
    """What is not in order with the notebooks, one line a problem.

    Pairs that differ, outputs, cells too long, parameters that no cell
    reads, exercises without hint or check, profiles that set what is not
    there.

    Introduced in chapter 1.
    """
    problems = _pair_problems()
    for chapter in chapters():
        notebook = jupytext.read(source_path(chapter))
        problems += style_problems(
            chapter, notebook.cells
        ) or exercise_problems(chapter, notebook)
    return problems + profile_problems()


def main(argv: Sequence[str] | None = None) -> int:
    """Command line of ``python -m lq_utils notebooks``.

    Introduced in chapter 1.
    """
    parser = argparse.ArgumentParser(
        prog="python -m lq_utils notebooks", description=__doc__
    )
    parser.add_argument(
        "--check", action="store_true", help="only report, change nothing"
    )
    if not parser.parse_args(argv).check:
        changed = regenerate()
        print(f"{len(chapters())} notebooks, {len(changed)} of them written")
        return 0
    problems = check()
    for problem in problems:
        print(problem)
    print(f"{len(chapters())} notebooks, {len(problems)} problems")
    return 1 if problems else 0
