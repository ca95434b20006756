"""What a chapter must keep to: short cells, parameters that are used."""

from __future__ import annotations

import ast
import symtable
from collections.abc import Iterator, Sequence
from typing import Any

from nbformat import NotebookNode

from lq_utils.parameters import (
    Parameter,
    ParameterError,
    check_values,
    parse_cell,
    read_parameters,
)
from lq_utils.profiles import profile_names, read_profile, source_path

MAX_LINES = 25
MAX_COLUMNS = 79
MAX_DEFINITIONS = 2
REQUIRED = ("profile", "dataset", "seed")
SOLUTION = "solution"  # tag of a cell that is an exercise's answer


def _is_parameters(cell: NotebookNode) -> bool:
    return "parameters" in cell.metadata.get("tags", [])


def _code(cells: Sequence[NotebookNode]) -> list[NotebookNode]:
    return [cell for cell in cells if cell.cell_type == "code"]


def style_problems(chapter: str, cells: Sequence[NotebookNode]) -> list[str]:
    """What breaks the rules for chapters, one line a problem.

    Introduced in chapter 1.
    """
    code = _code(cells)
    problems = []
    definitions = 0
    for number, cell in enumerate(code, start=1):
        problems += list(_layout(number, cell.source))
        try:
            if SOLUTION not in cell.metadata.get("tags", []):
                definitions += _definitions(cell.source)
        except SyntaxError as error:
            problems.append(f"code cell {number}: no plain Python: {error}")
    if definitions > MAX_DEFINITIONS:
        problems.append(
            f"{definitions} definitions, more than {MAX_DEFINITIONS}: move "
            "those that are not the lesson to lq_utils"
        )
    if not problems:
        problems = _parameter_cell_problems(code)
    return [f"{chapter}: {problem}" for problem in problems]


def _layout(number: int, source: str) -> Iterator[str]:
    lines = source.splitlines()
    if len(lines) > MAX_LINES:
        yield (
            f"code cell {number} has {len(lines)} lines, more than "
            f"{MAX_LINES}: split it"
        )
    for line in lines:
        if len(line) > MAX_COLUMNS:
            yield (
                f"code cell {number} has a line of {len(line)} columns, "
                f"more than {MAX_COLUMNS}: {line[:40]}..."
            )


def _definitions(source: str) -> int:
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return sum(isinstance(n, kinds) for n in ast.walk(ast.parse(source)))


def _parameter_cell_problems(code: Sequence[NotebookNode]) -> list[str]:
    tagged = [i for i, cell in enumerate(code) if _is_parameters(cell)]
    if len(tagged) != 1:
        return [f"{len(tagged)} cells tagged 'parameters' in place of one"]
    index = tagged[0]
    try:
        parameters = parse_cell(code[index].source)
        check_values(
            parameters, {p.name: p.default for p in parameters.values()}
        )
    except ParameterError as error:
        return str(error).splitlines()
    problems = [
        f"no parameter '{name}'; every chapter has one"
        for name in REQUIRED
        if name not in parameters
    ]
    following = code[index + 1].source if code[index + 1 :] else ""
    if "check_parameters(globals())" not in following:
        problems.append(
            "the cell after the parameters must be "
            "'parameters = check_parameters(globals())'"
        )
    problems += _papermill_problems(code[index], parameters)
    return problems + _use_problems(parameters, code, index)


def _papermill_problems(
    cell: NotebookNode, parameters: dict[str, Parameter]
) -> list[str]:
    from papermill.translators import PythonTranslator

    seen = {p.name for p in PythonTranslator.inspect(cell)}
    return [
        f"papermill cannot read the line of '{name}': keep '=' out of its "
        "comment and its default"
        for name in parameters
        if name not in seen
    ]


def _names(table: symtable.SymbolTable) -> tuple[set[str], set[str]]:
    """Global names that a cell reads, and those that it binds."""
    top = table.get_type() == "module"
    read, bound = set(), set()
    for symbol in table.get_symbols():
        if top or symbol.is_global():
            if symbol.is_referenced():
                read.add(symbol.get_name())
            if symbol.is_assigned() or symbol.is_imported():
                bound.add(symbol.get_name())
    for child in table.get_children():
        child_read, child_bound = _names(child)
        read, bound = read | child_read, bound | child_bound
    return read, bound


def _subscripts(source: str) -> set[str]:
    """Names read as ``parameters["name"]``."""
    return {
        node.slice.value
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Subscript)
        and ast.unparse(node.value) == "parameters"
        and isinstance(node.slice, ast.Constant)
        and isinstance(node.slice.value, str)
    }


def bound_and_read(source: str) -> tuple[set[str], set[str]]:
    """Global names that a cell's code binds, and those that it reads.

    Introduced in chapter 1.
    """
    read, bound = _names(symtable.symtable(source, "cell", "exec"))
    return bound, read


def _use_problems(
    parameters: dict[str, Parameter],
    code: Sequence[NotebookNode],
    index: int,
) -> list[str]:
    read: set[str] = {"profile"}  # start_run reads it
    bound: set[str] = set()
    for i, cell in enumerate(code):
        cell_bound, cell_read = bound_and_read(cell.source)
        if i > index:
            read |= cell_read | _subscripts(cell.source)
        if i != index:
            bound |= cell_bound
    problems = [
        f"parameter '{name}' is read by no later cell: use it or drop it"
        for name in parameters
        if name not in read
    ]
    problems += [
        f"parameter '{name}' is bound again by a cell, so that an override "
        "would not reach the code after it: use another name there"
        for name in parameters
        if name in bound
    ]
    return problems


def profile_problems() -> list[str]:
    """What is wrong with the profile files, one line a problem.

    Introduced in chapter 1.
    """
    problems = []
    for profile in profile_names():
        try:
            changes = read_profile(profile)
        except ParameterError as error:
            problems.append(str(error))
            continue
        for chapter, values in changes.items():
            problems += [
                f"profiles/{profile}.yml, {chapter}: {line}"
                for line in _override_problems(chapter, profile, values)
            ]
    return problems


def _override_problems(
    chapter: str, profile: str, values: dict[str, Any]
) -> list[str]:
    if values.get("profile", profile) != profile:
        return [f"its profile is '{values['profile']}', not '{profile}'"]
    try:
        check_values(read_parameters(source_path(chapter)), values)
    except ParameterError as error:
        return str(error).splitlines()
    return []
