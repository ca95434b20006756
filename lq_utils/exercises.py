"""Exercises: answers that check themselves, and notebooks without solutions.

A chapter holds each exercise with its solution, which runs with the chapter.
``python -m lq_utils notebooks`` derives the student's notebook from it.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import nbformat
from IPython.display import Markdown
from nbformat import NotebookNode
from nbformat.v4 import new_markdown_cell

from lq_utils.gates import SOLUTION, bound_and_read

CHECK = "check"  # tag of a cell that checks an answer
MARK = "  # your answer"
EDGE = re.compile(
    r"^(```\{solution-(?:start|end)\}.*?^```$)", re.MULTILINE | re.DOTALL
)
BLOCK = re.compile(
    r"^```\{(exercise|hint)\}[^\n]*\n((?::[^\n]*\n)*)(.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
LABEL = re.compile(r":label: *(\S+)")
TIME = re.compile(r"\(\d+ minutes")


class ExerciseError(AssertionError):
    """An answer is missing or wrong; the text says what to look at.

    Introduced in chapter 1.
    """

    def _render_traceback_(self) -> list[str]:
        """What a notebook shows: the advice, no traceback."""
        return [f"Not yet: {self}"]


@dataclass
class Exercise:
    """An exercise of a chapter: its text, hints, solution and checks.

    ``solution`` and ``checks`` are the sources of code cells.

    Introduced in chapter 1.
    """

    label: str
    text: str
    hints: list[str] = field(default_factory=list)
    solution: list[str] = field(default_factory=list)
    checks: list[str] = field(default_factory=list)
    solved: bool = False


def check_answer(tests: Mapping[str, Callable[[], object]]) -> Markdown:
    """Try an answer; say that it is right, or give the first advice.

    Args:
        tests: for each piece of advice a function without arguments that
            returns whether the answer passes.

    Raises:
        ExerciseError: the first advice whose function returns something
            false or fails, as it does where the answer is still missing.

    Introduced in chapter 1.
    """
    for advice, passes in tests.items():
        try:
            right = bool(passes())
        except Exception as error:
            raise ExerciseError(
                f"{advice} ({type(error).__name__}: {error})"
            ) from error
        if not right:
            raise ExerciseError(advice)
    return Markdown(f"Right: {len(tests)} of {len(tests)} checks pass.")


def exercises(notebook: NotebookNode) -> list[Exercise]:
    """The exercises of a chapter, in order.

    Introduced in chapter 1.
    """
    found: dict[str, Exercise] = {}
    last = ""
    for cell, text, solved in _walk(notebook):
        if cell.cell_type == "markdown":
            for kind, label, body in _blocks(text):
                if kind == "exercise":
                    found[label], last = Exercise(label, body), label
                elif last:
                    found[last].hints.append(body)
        if solved in found:
            found[solved].solved = True
            if CHECK in _tags(cell):
                found[solved].checks.append(cell.source)
            elif cell.cell_type == "code":
                found[solved].solution.append(cell.source)
    return list(found.values())


def student_notebook(notebook: NotebookNode, chapter: str) -> NotebookNode:
    """The chapter without the solutions of its exercises.

    The text of a solution goes. Of its code remain the names that the
    checks read, to be filled in, and the checks.

    Introduced in chapter 1.
    """
    checked = {
        exercise.label: set().union(
            *(bound_and_read(source)[1] for source in exercise.checks)
        )
        for exercise in exercises(notebook)
    }
    cells = [_beginning(chapter)]
    for cell, text, solved in _walk(notebook):
        if solved and cell.cell_type == "code" and CHECK not in _tags(cell):
            text = _blank(text, checked.get(solved, set()))
        if text.strip():
            copy = nbformat.from_dict(cell)
            copy.source = BLOCK.sub(_plain, text).strip("\n")
            cells.append(copy)
    found = nbformat.from_dict(notebook)
    found.cells = cells
    return found


def exercise_problems(chapter: str, notebook: NotebookNode) -> list[str]:
    """What is not in order with a chapter's exercises, one line a problem.

    Introduced in chapter 1.
    """
    problems = [
        f"exercise {exercise.label} has no {part}"
        for exercise in exercises(notebook)
        for part in _missing(exercise)
    ]
    inside: set[str] = set()
    before: set[str] = set()
    for cell, text, solved in _walk(notebook):
        if cell.cell_type != "code":
            continue
        bound, read = bound_and_read(text)
        tagged = {SOLUTION, CHECK} & set(_tags(cell))
        if bool(tagged) != bool(solved):
            problems.append(
                "a code cell of a solution is tagged 'solution' or 'check', "
                f"and no other is: {text[:40]!r}"
            )
        if not solved:
            problems += [
                f"'{name}' comes from a solution only, and is read after it"
                for name in sorted(read & (inside - before - bound))
            ]
            before |= bound
        else:
            inside |= bound
    return [f"{chapter}: {problem}" for problem in problems]


def _missing(exercise: Exercise) -> Iterator[str]:
    if not TIME.search(exercise.text):
        yield "time, as in '(5 minutes)'"
    if not exercise.hints:
        yield "hint"
    if not exercise.solved:
        yield "solution"
    if not exercise.checks:
        yield "check"


def _tags(cell: NotebookNode) -> list[str]:
    return list(cell.metadata.get("tags", []))


def _walk(
    notebook: NotebookNode,
) -> Iterator[tuple[NotebookNode, str, str]]:
    """Cells, their text outside solutions, the solution that they are in.

    A code cell's text is all of it. A text cell is in the solution that
    it begins or goes on with.
    """
    label = ""
    for cell in notebook.cells:
        if cell.cell_type == "code":
            yield cell, cell.source, label
            continue
        outside, touched = [], label
        for part in EDGE.split(cell.source):
            if part.startswith("```{solution-start}"):
                label = part.split("\n")[0].split("}")[1].strip()
                touched = label
            elif part.startswith("```{solution-end}"):
                label = ""
            elif not label:
                outside.append(part)
        yield cell, "".join(outside), touched


def _blocks(text: str) -> Iterator[tuple[str, str, str]]:
    for kind, options, body in BLOCK.findall(text):
        label = LABEL.search(options)
        yield kind, label.group(1) if label else "", body.strip()


def _plain(block: re.Match[str]) -> str:
    """A directive in words that JupyterLab shows well."""
    kind, options, body = block.groups()
    if kind == "hint":
        return (
            f"<details><summary>Hint</summary>\n\n{body.strip()}\n\n</details>"
        )
    label = LABEL.search(options)
    return f"### Exercise {label.group(1) if label else ''}\n\n{body.strip()}"


def _beginning(chapter: str) -> NotebookNode:
    cell = new_markdown_cell(
        f"*Exercises of chapter {chapter}.* This is the chapter with empty "
        "solutions. Go down to *Exercises*, run all cells above, and put "
        "your answers where it says *your answer*. The cell after each one "
        f"checks it. The solutions are in `notebooks/{chapter}.ipynb` and "
        "in the rendered book."
    )
    cell["id"] = "exercises"
    return cell


def _blank(source: str, names: set[str]) -> str:
    """What remains of a solution: imports, and the names to fill in."""
    lines = []
    for node in ast.parse(source).body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            lines.append(ast.unparse(node))
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            if node.name in names:
                lines.append(_blank_definition(node))
        else:
            bound = bound_and_read(ast.unparse(node))[0]
            lines += [f"{name} = None{MARK}" for name in sorted(bound & names)]
    return "\n".join(dict.fromkeys(lines))


def _blank_definition(node: ast.FunctionDef | ast.ClassDef) -> str:
    """A definition with its docstring and nothing else."""
    described = ast.get_docstring(node) is not None
    node.body = [*node.body[:1]] if described else []
    node.body.append(ast.Expr(ast.Constant(...)))
    return ast.unparse(node) + MARK
