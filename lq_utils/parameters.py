"""The parameters cell of a chapter: reading it, checking values.

A line reads ``name: type = literal  # range; effect[; cost ...]``, with
the range as in ``lq_utils.specs``.
"""

from __future__ import annotations

import ast
import io
import json
import re
import tokenize
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from lq_utils.registry import did_you_mean
from lq_utils.specs import (
    TYPES,
    Parameter,
    ParameterError,
    check_spec,
    element_type,
)
from lq_utils.text_files import load_yaml, read_text

__all__ = [
    "Parameter",
    "ParameterError",
    "check_parameters",
    "check_values",
    "is_parameters_cell",
    "parse_cell",
    "read_option",
    "read_parameters",
]

INJECTED = "# Parameters"  # how papermill's own cell begins
_WORDS = {"True": True, "False": False, "None": None}
_TAGGED = re.compile(
    r'^# %%[^\n]*tags=[^\n]*"parameters"[^\n]*\n(.*?)(?=^# %%|\Z)',
    re.MULTILINE | re.DOTALL,
)
FORM = "name: type = literal  # range; effect"


def _comments(source: str) -> dict[int, str]:
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return {
        token.start[0]: token.string.lstrip("# ").strip()
        for token in tokens
        if token.type == tokenize.COMMENT
    }


def _annotation(node: ast.expr, name: str) -> tuple[str, str]:
    text = ast.unparse(node)
    kind, _, element = text.rstrip("]").partition("[")
    scalar = element in TYPES and element != "list"
    if kind not in TYPES or (element and not (kind == "list" and scalar)):
        raise ParameterError(
            f"{name}: type '{text}' is not one of {', '.join(TYPES)}"
        )
    return kind, element


def _default(node: ast.AnnAssign, name: str) -> Any:
    if node.value is None:
        raise ParameterError(f"{name} has no default; write '{FORM}'")
    try:
        return ast.literal_eval(node.value)
    except ValueError as error:
        raise ParameterError(
            f"{name}: the default must be a plain literal, because "
            "papermill puts one in its place"
        ) from error


def _parameter(node: ast.AnnAssign, comment: str) -> Parameter:
    name = ast.unparse(node.target)
    kind, element = _annotation(node.annotation, name)
    default = _default(node, name)
    spec, *rest = (part.strip() for part in comment.split(";", 2))
    if not rest or not rest[0] or rest[0].startswith("cost "):
        raise ParameterError(
            f"{name}: its comment must read '# range; effect', such as "
            "'# 10..500; images a class'"
        )
    if kind == "list":
        if not isinstance(default, list):
            raise ParameterError(f"{name}: its default is not a list")
        element = element_type(default, element)
    check_spec(name, spec, kind, element)
    cost = rest[1].removeprefix("cost").lstrip(": ") if rest[1:] else ""
    return Parameter(name, kind, default, spec, rest[0], cost, element)


def is_parameters_cell(source: str) -> bool:
    """Whether a cell holds only annotated names, ``profile`` among them.

    Introduced in chapter 1.
    """
    try:
        body = ast.parse(source).body
    except SyntaxError:
        return False
    names = [
        ast.unparse(node.target)
        for node in body
        if isinstance(node, ast.AnnAssign)
    ]
    return "profile" in names and len(names) == len(body)


def parse_cell(source: str) -> dict[str, Parameter]:
    """The parameters that a cell's source declares, in order.

    Raises ``ParameterError`` for a line that does not follow the form.

    Introduced in chapter 1.
    """
    try:
        comments, body = _comments(source), ast.parse(source).body
    except (SyntaxError, ValueError, tokenize.TokenError) as error:
        raise ParameterError(
            f"the parameters cell is no Python ({error}): write only "
            f"'{FORM}' lines in it"
        ) from error
    parameters: dict[str, Parameter] = {}
    for node in body:
        if not isinstance(node, ast.AnnAssign):
            raise ParameterError(
                f"line {node.lineno} of the parameters cell: write only "
                f"'{FORM}' lines here"
            )
        comment = comments.get(node.end_lineno or node.lineno, "")
        parameter = _parameter(node, comment)
        parameters[parameter.name] = parameter
    return parameters


def _tagged_source(path: Path) -> str | None:
    text = read_text(path, str(path))
    if path.suffix != ".ipynb":
        # The percent format, read without jupytext: it takes seconds to
        # import, and every run of a notebook comes through here.
        found = _TAGGED.search(text)
        return found.group(1) if found else None
    try:
        for cell in json.loads(text)["cells"]:
            if "parameters" in cell["metadata"].get("tags", []):
                return "".join(cell["source"])
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise ParameterError(
            f"{path} is damaged or no notebook ({error}): make it again "
            "with 'python -m lq_utils notebooks', or take another copy"
        ) from error
    return None


def read_parameters(path: Path) -> dict[str, Parameter]:
    """The parameters of a notebook file, ``.py`` (percent) or ``.ipynb``.

    Raises ``ParameterError`` where no cell is tagged ``parameters``.

    Introduced in chapter 1.
    """
    source = _tagged_source(Path(path))
    if source is None:
        raise ParameterError(
            f"{path} has no cell tagged 'parameters'; mark one with "
            '# %% tags=["parameters"]'
        )
    return parse_cell(source)


def read_option(parameter: Parameter | None, text: str) -> Any:
    """The value of ``-p name text``, as papermill reads it.

    True, False, None, then int, then float, else text. For a list the
    text is YAML, so that ``-p bits "[3, 4]"`` works; for a str it is the
    text itself.

    Introduced in chapter 1.
    """
    if parameter is not None and parameter.type == "list":
        return load_yaml(text, f"-p {parameter.name}")
    if parameter is not None and parameter.type == "str":
        return text
    if text in _WORDS:
        return _WORDS[text]
    for number in (int, float):
        try:
            return number(text)
        except ValueError:
            continue
    return text


def check_values(
    parameters: Mapping[str, Parameter], values: Mapping[str, Any]
) -> dict[str, Any]:
    """Values in their declared types; defaults are not filled in.

    Raises one ``ParameterError`` that lists every problem.

    Introduced in chapter 1.
    """
    problems = _unknown(parameters, values)
    checked: dict[str, Any] = {}
    for name in (n for n in values if n in parameters):
        try:
            checked[name] = parameters[name].convert(values[name])
        except ParameterError as error:
            problems.append(str(error))
    if problems:
        raise ParameterError("\n".join(problems))
    return checked


def _unknown(
    parameters: Mapping[str, Parameter], names: Iterable[str]
) -> list[str]:
    known = ", ".join(parameters)
    return [
        f"unknown parameter '{name}'"
        f"{did_you_mean(str(name), parameters) or ';'} known: {known}"
        for name in names
        if name not in parameters
    ]


def _session(namespace: Mapping[str, Any]) -> tuple[str, list[str]]:
    """Source of the parameters cell, and the cells that ran after it."""
    history = [str(source) for source in namespace.get("In", [])]
    for index in range(len(history) - 1, -1, -1):
        if is_parameters_cell(history[index]):
            return history[index], history[index + 1 :]
    raise ParameterError(
        "no parameters cell has run in this session, so there is nothing "
        "to check against: open the notebook and run it from the top (the "
        f"cell's lines read '{FORM}', with 'profile' among them)"
    )


def _injected_names(cells: Iterable[str]) -> list[str]:
    names = []
    for cell in cells:
        if cell.startswith(INJECTED):
            for node in ast.parse(cell).body:
                if isinstance(node, ast.Assign):
                    names += [ast.unparse(t) for t in node.targets]
    return names


def check_parameters(namespace: dict[str, Any]) -> dict[str, Any]:
    """Check the notebook's parameters as they stand; return them.

    Call it as ``check_parameters(globals())`` in the cell after the
    parameters cell. It reads that cell's comments back from the session's
    history, so that a notebook run by bare papermill, JupyterLab or
    jupytext is checked alike. An int given for a float becomes a float,
    in the notebook too.

    Raises ``ParameterError`` for values of a wrong type or range, and
    for names that papermill injected and the notebook does not know.

    Introduced in chapter 1.
    """
    source, later = _session(namespace)
    parameters = parse_cell(source)
    values = {name: namespace.get(name) for name in parameters}
    # What papermill put in and the notebook does not know is told too.
    extra = [n for n in _injected_names(later) if n not in parameters]
    checked = check_values(
        parameters, values | {name: namespace[name] for name in extra}
    )
    namespace.update(checked)
    return checked
