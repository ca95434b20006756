"""From an executed chapter to its page in the book."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_markdown_cell

from lq_utils.api_page import BY_CHAPTER
from lq_utils.figures import NO_RUN
from lq_utils.interactive import without_shared
from lq_utils.page_record import PageError, Record
from lq_utils.parameters import Parameter, parse_cell

ERROR_TAG = "papermill-error-cell-tag"
SYNTHETIC = "synthetic"
EXERCISE = "```{exercise}"


def make_page(executed: Path, record: Record) -> NotebookNode:
    """Turn an executed chapter into the notebook of its page.

    The parameters cell is collapsed, the cells that inject and check
    values go, as do the runner's notes on times and paths; a line on
    profile, seed and data is put below the title, and a section with the
    run record, the parameters and the files at the end.

    Raises:
        PageError: a cell failed, a cell did not run, or a figure or
            table does not belong to a recorded run.

    Introduced in chapter 1.
    """
    notebook = nbformat.read(executed, as_version=4)
    name = record.chapter
    _check_ran(notebook, name)
    parameters: dict[str, Parameter] = {}
    cells = []
    for cell in notebook.cells:
        tags = cell.metadata.get("tags", [])
        if "injected-parameters" in tags or _only_checks(cell):
            continue
        if "parameters" in tags:
            parameters = parse_cell(cell.source)
            tags = [*tags, "hide-input"]
        cells.append(_cleaned(cell, tags))
    if not parameters:
        raise PageError(f"{name} has no cell tagged 'parameters'")
    cells = _with_exercises(_with_stamp(cells, record), name)
    end = new_markdown_cell(_about(record, parameters))
    end["id"] = "about-this-run"
    notebook.cells = [*cells, end]
    notebook.metadata = nbformat.from_dict(
        {
            key: notebook.metadata[key]
            for key in ("kernelspec", "language_info")
            if key in notebook.metadata
        }
    )
    return notebook


def _check_ran(notebook: NotebookNode, name: str) -> None:
    for number, cell in enumerate(notebook.cells, start=1):
        if ERROR_TAG in cell.metadata.get("tags", []):
            raise PageError(f"a cell of {name} failed: {cell.source}")
        if cell.cell_type != "code" or not cell.source.strip():
            continue
        if cell.execution_count is None:
            raise PageError(
                f"cell {number} of {name} did not run; run the chapter "
                f"again with `python -m lq_utils run {name[:2]}`"
            )
        for output in cell.outputs:
            if output.output_type == "error":
                raise PageError(
                    f"cell {number} of {name} failed: "
                    f"{output.ename}: {output.evalue}"
                )
            shown = output.get("data", {}).get("text/html", "")
            if NO_RUN in shown:
                raise PageError(
                    f"cell {number} of {name} shows a figure or table "
                    "before start_run(): start the run first, so that "
                    "its profile, seed and data stand below it"
                )


def _only_checks(cell: NotebookNode) -> bool:
    """Whether the cell only checks the parameters."""
    lines = [
        line
        for line in cell.source.splitlines()
        if line.strip() and not line.startswith("#")
    ]
    return (
        cell.cell_type == "code"
        and len(lines) == 1
        and "check_parameters(globals())" in lines[0]
    )


def _cleaned(cell: NotebookNode, tags: list[str]) -> NotebookNode:
    metadata: dict[str, Any] = {"tags": tags} if tags else {}
    if "parameters" in tags:
        metadata["mystnb"] = {"code_prompt_show": "Show the parameters cell"}
    cell.metadata = nbformat.from_dict(metadata)
    if cell.cell_type == "code":
        cell.outputs = [o for o in cell.outputs if not _is_progress(o)]
        for output in cell.outputs:
            shown = output.get("data", {})
            if "text/html" in shown:
                # The book loads the script of interactive figures once.
                shown["text/html"] = without_shared(shown["text/html"])
    return cell


def _is_progress(output: NotebookNode) -> bool:
    """Whether an output is a progress bar, which is of no use on a page.

    So are the warning that a bar could look better, and the line break
    that ends a bar.
    """
    if output.output_type != "stream" or output.name != "stderr":
        return False
    marks = ("\r", "%|", "IProgress")
    return not output.text.strip() or any(m in output.text for m in marks)


def _with_stamp(
    cells: list[NotebookNode], record: Record
) -> list[NotebookNode]:
    """The chapter's number in its title; profile, seed, data below."""
    first = cells[0]
    title, _, rest = first.source.partition("\n")
    before = ""
    if title.startswith("("):  # the page's label
        before = title + "\n"
        title, _, rest = rest.partition("\n")
    if first.cell_type != "markdown" or not title.startswith("# "):
        raise PageError(
            f"{record.chapter} must begin with a markdown cell whose first "
            "line is its title, '# ...'"
        )
    title = _numbered(title, record.chapter)
    first.source = f"{before}{title}\n\n{_stamp(record)}\n{rest}"
    return cells


def _with_exercises(
    cells: list[NotebookNode], chapter: str
) -> list[NotebookNode]:
    """A link to the notebook without solutions where exercises begin."""
    file = f"{chapter}_exercises.ipynb"
    for cell in cells:
        if cell.cell_type == "markdown" and EXERCISE in cell.source:
            cell.source = re.sub(
                r"(?m)^(## Exercises)$",
                r"\1\n\nWork on them in the notebook without solutions, "
                "where a cell checks each answer: "
                f"{{download}}`{file} <../../notebooks/exercises/{file}>`.",
                cell.source,
            )
    return cells


def _numbered(title: str, chapter: str) -> str:
    """The title of "08_name" with the number 8, which the text says.

    The generator of pages would count the chapters that there are.
    """
    number = chapter.split("_")[0]
    if not number.isdecimal():
        return title
    return f"# {int(number)}. {title.removeprefix('# ')}"


def _stamp(record: Record) -> str:
    line = (
        f"This page was computed with the **{record.profile}** profile, "
        f"seed **{record.seed}**, on **{record.stamp}**."
    )
    if record.provenance["rung"] != SYNTHETIC:
        return f":::{{div}} lq-stamp\n{line}\n:::\n"
    return (
        ":::{admonition} Synthetic images\n:class: warning\n"
        f"{line} These images are drawn by a program: the numbers show that "
        "the methods work, they say nothing about photographs. "
        "`make data` fetches the real ones.\n:::\n"
    )


def _about(record: Record, parameters: Mapping[str, Parameter]) -> str:
    name = record.chapter
    versions = ", ".join(f"{k} {v}" for k, v in record.versions.items())
    machine = ", ".join(f"{k} {v}" for k, v in record.machine.items())
    return f"""## About this run

:::{{admonition}} Run record
:class: note lq-record
- Data: {record.stamp}
- Profile: {record.profile}; seed: {record.seed}
- Run: `{record.id}`, {record.day}, {record.seconds:.0f} s
- Machine: {machine}
- Versions: {versions}
:::

:::{{dropdown}} Parameters of this run
{parameter_table(record.parameters, parameters)}
:::

Take the chapter with you: the notebook
{{download}}`{name}.ipynb <../../notebooks/{name}.ipynb>`
or its source {{download}}`{name}.py <../../notebooks/{name}.py>`.
How to run it with other values: {{doc}}`/book/rerun`.
{_helpers(name)}"""


def _helpers(chapter: str) -> str:
    """A link to the helpers that a chapter introduces, if any are listed.

    A chapter of one's own has no list, nor has a book without API pages.
    """
    number = chapter.split("_")[0]
    if not number.isdecimal() or not BY_CHAPTER.is_file():
        return ""
    label = f"api-chapter-{int(number)}"
    if f"({label})=" not in BY_CHAPTER.read_text("utf-8"):
        return ""
    return f"What it adds to `lq_utils`: {{ref}}`its helpers <{label}>`.\n"


def parameter_table(
    values: Mapping[str, Any], parameters: Mapping[str, Parameter]
) -> str:
    """HTML table: value in this run, default, range and effect by name.

    A value that differs from its default stands in bold.

    Raises:
        PageError: the run has no value for a declared parameter.

    Introduced in chapter 1.
    """
    missing = [name for name in parameters if name not in values]
    if missing:
        raise PageError(
            f"the run record has no value for {', '.join(missing)}: pass "
            "what check_parameters returns to start_run"
        )
    head = "".join(
        f'<th scope="col">{text}</th>'
        for text in ("name", "this run", "default", "range", "effect")
    )
    rows = "\n".join(
        _parameter_row(values[name], parameters[name]) for name in parameters
    )
    return (
        '<div class="lq-table lq-parameters" role="region" tabindex="0" '
        'aria-label="Parameters of this run"><table>\n'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}\n</tbody>"
        "</table></div>"
    )


def _parameter_row(value: Any, parameter: Parameter) -> str:
    effect = html.escape(parameter.effect)
    if parameter.cost:
        effect += f" (cost: {html.escape(parameter.cost)})"
    shown = _literal(value)
    if value != parameter.default:
        shown = f"<strong>{shown}</strong>"
    choices = html.escape(parameter.spec.replace("|", " | "))
    return (
        f'<tr><th scope="row"><code>{parameter.name}</code></th>'
        f"<td>{shown}</td><td>{_literal(parameter.default)}</td>"
        f"<td>{choices}</td><td>{effect}</td></tr>"
    )


def _literal(value: Any) -> str:
    return f"<code>{html.escape(json.dumps(value))}</code>"
