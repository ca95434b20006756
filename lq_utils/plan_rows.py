"""The rows of a plan, and their text in CSV files."""

from __future__ import annotations

import ast
import csv
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any

from lq_utils.grids import Alphabet, alphabet
from lq_utils.registry import did_you_mean
from lq_utils.scales import (
    OUTPUT_RULE,
    SCALE_RULES,
    option_names,
    scale_shape,
    split_options,
)


class PlanError(ValueError):
    """A plan does not fit the network, or cannot be read.

    Introduced in chapter 3.
    """


@dataclass(frozen=True)
class LayerPlan:
    """One row: how one layer is quantized; ``bits=None``: not at all.

    ``polish`` counts sweeps of coordinate descent after the solver,
    ``options`` are (name, value) pairs for the solver and scale rule.
    The quantizer ``"codebook:16"`` says that a layer is clustered; see
    ``lq_utils.codebooks``.

    Introduced in chapter 3.
    """

    layer: str
    bits: int | None
    quantizer: str = "symmetric"
    granularity: str = "channel"
    scale: str = OUTPUT_RULE
    solver: str = "gpfq"
    polish: int = 0
    options: tuple[tuple[str, Any], ...] = ()

    def alphabet(self) -> Alphabet | None:
        """The levels before scaling; None in full precision."""
        if self.bits is None:
            return None
        return alphabet(self.quantizer, self.bits)


COLUMNS = tuple(field.name for field in fields(LayerPlan))


def check_row(row: LayerPlan) -> None:
    """Check one row against the registries.

    Raises PlanError, GridError or UnknownName for bits that the
    quantizer does not take, an unknown quantizer, granularity, scale
    rule, solver or option, or a negative number of polishing sweeps.

    Introduced in chapter 3.
    """
    # Imported here: the solvers build on plans, not the other way round.
    from lq_utils.solvers import SOLVERS

    if row.bits is not None and type(row.bits) is not int:
        raise PlanError(f"bits must be an integer or None, not {row.bits!r}")
    if type(row.polish) is not int or row.polish < 0:
        raise PlanError(f"polish must be 0 or more sweeps, not {row.polish!r}")
    row.alphabet()
    scale_shape(1, 1, row.granularity)
    known = [OUTPUT_RULE, *SCALE_RULES]
    if row.scale not in known:
        raise PlanError(
            f"unknown scale rule '{row.scale}'"
            f"{did_you_mean(row.scale, known)}; known: {', '.join(known)}"
        )
    solver = option_names(SOLVERS.get(row.solver), 3)
    for name in split_options(row.scale, dict(row.options))[1]:
        if name not in solver:
            raise PlanError(
                f"neither solver '{row.solver}' (options: "
                f"{', '.join(solver) or 'none'}) nor scale rule "
                f"'{row.scale}' has an option '{name}'"
            )


def row_to_text(row: LayerPlan) -> dict[str, str]:
    """The cells of a row, by column; the inverse of `rows_from_text`.

    Introduced in chapter 3.
    """
    text = {name: str(getattr(row, name)) for name in COLUMNS}
    text["bits"] = "" if row.bits is None else str(row.bits)
    text["options"] = ", ".join(f"{k}={v!r}" for k, v in row.options)
    return text


def rows_from_text(text: str, source: str) -> Iterator[LayerPlan]:
    """The rows of a CSV text; raises PlanError naming the line.

    Introduced in chapter 3.
    """
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        _check_header(list(reader.fieldnames or []))
        for record in reader:
            yield _from_text(record)
    except (PlanError, csv.Error) as error:
        line = max(reader.line_num, 1)
        raise PlanError(f"{source}, line {line}: {error}") from error


def _check_header(header: list[str]) -> None:
    for name in header:
        if name not in COLUMNS:
            raise PlanError(
                f"unknown column '{name}'{did_you_mean(name, COLUMNS)}; "
                f"columns: {', '.join(COLUMNS)}"
            )
        if header.count(name) > 1:
            raise PlanError(f"the column '{name}' is there twice: keep one")
    for name in ("layer", "bits"):
        if name not in header:
            raise PlanError(
                f"the column '{name}' is missing: begin the file with a "
                f"line such as layer,bits; columns: {', '.join(COLUMNS)}"
            )


def _from_text(record: dict[Any, Any]) -> LayerPlan:
    if None in record:
        raise PlanError(
            "more cells than columns: write options with commas in quotes, "
            "or name the columns"
        )
    for name, cell in record.items():
        if cell and len(cell.strip().splitlines()) > 1:
            raise PlanError(f"{name} holds {cell!r}: write it in one line")
    row: dict[str, Any] = {
        name: cell.strip()
        for name, cell in record.items()
        if cell and cell.strip()
    }
    if "layer" not in row:
        raise PlanError(
            "the layer's name is missing: write it, or delete the line"
        )
    for name in {"bits", "polish"} & set(row):
        row[name] = _integer(name, row[name])
    if "options" in row:
        row["options"] = _options(row["options"])
    return LayerPlan(**{"bits": None, **row})


def _integer(name: str, text: str) -> int:
    if not re.fullmatch(r"-?[0-9]{1,9}", text):
        blank = ", or blank for full precision" if name == "bits" else ""
        raise PlanError(f"{name} must be an integer{blank}, not {text!r}")
    return int(text)


def _value(node: ast.expr) -> Any:
    """A literal that can be written and read again; 1e999 cannot."""
    value = ast.literal_eval(node)
    if ast.literal_eval(repr(value)) != value:
        raise ValueError("not a plain value")
    return value


def _options(text: str) -> tuple[tuple[str, Any], ...]:
    # Parsed as the arguments of a call, and never evaluated.
    try:
        call = ast.parse(f"dict({text})", mode="eval").body
        if (
            not isinstance(call, ast.Call)
            or not isinstance(call.func, ast.Name)
            or call.args
            or any(pair.arg is None for pair in call.keywords)
        ):
            raise ValueError("not a list of options")
        return tuple(
            (str(pair.arg), _value(pair.value)) for pair in call.keywords
        )
    except (
        *(MemoryError, RecursionError, SyntaxError),
        *(TypeError, ValueError),
    ) as error:
        raise PlanError(
            f"write options as name=value, other=value, not {text!r}"
        ) from error
