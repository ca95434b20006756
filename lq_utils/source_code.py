"""What the package is made of, read from its source, nothing imported.

Importing all modules would take half a minute and start torch; parsing
their text takes two seconds.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
WIDTH = 79
Function = ast.FunctionDef | ast.AsyncFunctionDef
# Registered checks of the sources: entries of the errata page, no API.
ENTRIES = ("erratum(",)


@dataclass(frozen=True)
class Entry:
    """One public function, class or method: its signature and docstring.

    ``code`` is Python without a body; ``methods`` are the documented
    public methods of a class; ``raises`` the names of errors in it.

    Introduced on the API pages.
    """

    module: str
    name: str
    kind: str
    code: str
    docstring: str
    methods: tuple[Entry, ...] = ()
    raises: frozenset[str] = frozenset()


@cache
def trees(package: Path = PACKAGE) -> Mapping[str, ast.Module]:
    """Parsed modules of the package by name, sorted.

    Introduced on the API pages.
    """
    return {
        path.stem: ast.parse(path.read_text("utf-8"))
        for path in sorted(package.glob("*.py"))
    }


def _parts(arguments: ast.arguments) -> Iterator[str]:
    """The parameters of a function, each as Python writes it."""
    plain = [*arguments.posonlyargs, *arguments.args]
    missing = len(plain) - len(arguments.defaults)
    defaults = [None] * missing + list(arguments.defaults)
    for index, (name, default) in enumerate(zip(plain, defaults, strict=True)):
        yield _part(name, default)
        if index + 1 == len(arguments.posonlyargs):
            yield "/"
    if arguments.vararg:
        yield f"*{_part(arguments.vararg, None)}"
    elif arguments.kwonlyargs:
        yield "*"
    for name, default in zip(
        arguments.kwonlyargs, arguments.kw_defaults, strict=True
    ):
        yield _part(name, default)
    if arguments.kwarg:
        yield f"**{_part(arguments.kwarg, None)}"


def _part(name: ast.arg, default: ast.expr | None) -> str:
    text = ast.unparse(name)
    if default is None:
        return text
    space = " " if name.annotation else ""
    return f"{text}{space}={space}{ast.unparse(default)}"


def signature(node: Function, width: int = WIDTH) -> str:
    """``name(parameters) -> type``, broken where it is too wide.

    Introduced on the API pages.
    """
    parts = list(_parts(node.args))
    if parts and parts[0] in ("self", "cls"):
        parts = parts[1:]
    end = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    line = f"{node.name}({', '.join(parts)}){end}"
    if len(line) <= width:
        return line
    inner = "".join(f"    {part},\n" for part in parts)
    return f"{node.name}(\n{inner}){end}"


def _class_code(node: ast.ClassDef) -> str:
    """A class's head with its public fields and what it is made from."""
    bases = f"({', '.join(map(ast.unparse, node.bases))})"
    lines = [f"class {node.name}{bases if node.bases else ''}:"]
    for item in node.body:
        if isinstance(item, ast.AnnAssign) and _is_public(item.target):
            lines.append(f"    {ast.unparse(item)}")
        elif isinstance(item, ast.FunctionDef) and item.name == "__init__":
            text = signature(item, WIDTH - 4).removesuffix(" -> None")
            lines += [f"    {line}" for line in text.splitlines()]
    return "\n".join(lines) if len(lines) > 1 else lines[0].rstrip(":")


def _is_public(target: ast.expr) -> bool:
    return isinstance(target, ast.Name) and not target.id.startswith("_")


def _raised(node: ast.AST) -> frozenset[str]:
    """Names of the exceptions that a function raises itself."""
    found = set()
    for part in ast.walk(node):
        if isinstance(part, ast.Raise) and part.exc is not None:
            error = part.exc
            if isinstance(error, ast.Call):
                error = error.func
            found.add(ast.unparse(error).split(".")[-1])
    return frozenset(found)


def _entry(module: str, node: Function | ast.ClassDef) -> Entry:
    text = ast.get_docstring(node) or ""
    if not isinstance(node, ast.ClassDef):
        code, raised = signature(node), _raised(node)
        return Entry(module, node.name, "function", code, text, (), raised)
    methods = tuple(
        _entry(module, item)
        for item in node.body
        if isinstance(item, Function)
        and not item.name.startswith("_")
        and ast.get_docstring(item)
    )
    return Entry(module, node.name, "class", _class_code(node), text, methods)


def entries(module: str, tree: ast.Module) -> list[Entry]:
    """Public functions and classes of a module, in its order.

    Introduced on the API pages.
    """
    found = []
    for node in tree.body:
        if not isinstance(node, Function | ast.ClassDef):
            continue
        marks = [ast.unparse(mark) for mark in node.decorator_list]
        if not node.name.startswith("_") and not any(
            mark.startswith(ENTRIES) for mark in marks
        ):
            found.append(_entry(module, node))
    return found


def imported(tree: ast.Module, inside: bool = False) -> set[str]:
    """Modules of this package that a module imports.

    At its top level; with ``inside``, those its functions import when
    they are called. Imports for type checks only do not count.

    Introduced on the architecture page.
    """
    outer = {id(node) for node in tree.body}
    found: set[str] = set()
    for node in ast.walk(tree):
        if (id(node) in outer) is not inside:
            found |= _names(node)
    return found


def _names(node: ast.AST) -> set[str]:
    if isinstance(node, ast.ImportFrom) and node.module == "lq_utils":
        return {alias.name for alias in node.names}
    if isinstance(node, ast.ImportFrom):
        names: Iterable[str] = [node.module or ""]
    elif isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
    else:
        return set()
    inner = [name for name in names if name.startswith("lq_utils.")]
    return {name.split(".")[1] for name in inner}
