"""Options of the runner: papermill's own, and a table of parameters."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lq_utils.cifar import present
from lq_utils.folders import FOLDER_PREFIX, class_folders
from lq_utils.images import DataError
from lq_utils.layouts import LAYOUTS
from lq_utils.parameters import (
    ParameterError,
    read_option,
    read_parameters,
)
from lq_utils.paths import data_dir
from lq_utils.profiles import profile_values, source_path
from lq_utils.text_files import load_yaml, read_text


def parse(argv: Sequence[str] | None, description: str) -> argparse.Namespace:
    """Parse the command line of ``python -m lq_utils run``.

    Introduced in chapter 1.
    """
    parser = argparse.ArgumentParser(
        prog="python -m lq_utils run",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="later ones win: profile, -f, -y, -p, -r",
    )
    add = parser.add_argument
    add("chapter", help="01, 01_class_distances or all")
    add("--profile", default="quick", help="smoke, quick (default) or full")
    pair: dict[str, Any] = {"nargs": 2, "action": "append", "default": []}
    text: dict[str, Any] = {"action": "append", "default": []}
    name_value = ("NAME", "VALUE")
    add("-p", "--parameters", **pair, metavar=name_value, help="a parameter")
    add("-r", "--parameters_raw", **pair, metavar=name_value, help="as text")
    add("-f", "--parameters_file", **text, metavar="FILE", help="YAML file")
    add("-y", "--parameters_yaml", **text, metavar="YAML", help="YAML text")
    add("--list-params", action="store_true", help="list them, run nothing")
    add("--output", type=Path, help="copy the executed notebook to this file")
    add(
        "--keep-cells",
        action="store_true",
        help="also write finished cells to data/results/cells, to commit",
    )
    add("--force", action="store_true", help="'all' skips nothing")
    add(
        "--progress-bar",
        action=argparse.BooleanOptionalAction,
        help="default: where stderr is a terminal",
    )
    arguments = parser.parse_args(argv)
    if arguments.output is not None and arguments.chapter == "all":
        parser.error("--output names one file; run one chapter with it")
    if arguments.output is not None and arguments.output.is_dir():
        parser.error(f"--output {arguments.output} is a folder: name a file")
    return arguments


def _mapping(content: Any, where: str) -> dict[str, Any]:
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ParameterError(
            f"{where} holds no parameters; write 'name: value' lines"
        )
    return {str(name): value for name, value in content.items()}


def _file(path: str) -> dict[str, Any]:
    where = f"-f {path}"
    return _mapping(load_yaml(read_text(path, where), where), where)


def given(chapter: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Parameters from the command line: ``-f``, ``-y``, ``-p``, ``-r``.

    Raises ``ParameterError`` for what cannot be read, and for the
    parameter ``profile``, which has an option of its own.

    Introduced in chapter 1.
    """
    parameters = read_parameters(source_path(chapter))
    values: dict[str, Any] = {}
    for path in arguments.parameters_file:
        values |= _file(path)
    for text in arguments.parameters_yaml:
        where = f"-y {text[:80]!r}"
        values |= _mapping(load_yaml(text, where), where)
    for name, text in arguments.parameters:
        values[name] = read_option(parameters.get(name), text)
    values |= dict(arguments.parameters_raw)
    if "profile" in values:
        raise ParameterError(
            f"write --profile {values['profile']}: the profile decides "
            "other parameters too"
        )
    return values


def parameter_table(chapter: str, profile: str) -> str:
    """Name, type, default, range, effect and cost of all parameters.

    The default is the value at ``profile``.

    Introduced in chapter 1.
    """
    values = profile_values(chapter, profile)
    lines = [["name", "type", profile, "range", "effect", "cost"]]
    for p in read_parameters(source_path(chapter)).values():
        value = repr(values[p.name])
        lines.append([p.name, p.type_name, value, p.spec, p.effect, p.cost])
    widths = [max(len(line[i]) for line in lines) for i in range(6)]
    rows = (
        "  ".join(cell.ljust(w) for cell, w in zip(line, widths)).rstrip()
        for line in lines
    )
    return "\n".join([f"{chapter}, {profile} profile", *rows, ""])


def check_data(values: Mapping[str, Any]) -> None:
    """Check that the data set asked for by name is there.

    Raises ``DataError`` with the size of the download where it is not:
    a chapter never starts one itself.

    Introduced in chapter 1.
    """
    name = str(values.get("dataset"))
    if name.startswith(FOLDER_PREFIX):
        class_folders(name.removeprefix(FOLDER_PREFIX))
    layout = LAYOUTS.get(name)
    if layout is None or present(name):
        return
    raise DataError(
        f"{layout.name} is not in {data_dir()}: download it first with "
        f"python -m lq_utils data --dataset {layout.name} (about "
        f"{layout.archive_bytes / 1e6:.0f} MB, the host can be slow), or "
        "use dataset auto, which takes the synthetic set"
    )
