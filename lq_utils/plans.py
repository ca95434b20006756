"""Plans: what is done to each layer, one row a layer.

Uniform precision, first and last layer in full precision, mixed
precision: all of them are tables of this kind, and the size of the
quantized network is a function of the network and its plan.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pandas as pd
from torch import Tensor, nn

from lq_utils.graph import LayerInfo, fold_batch_norm, layer_table, trace
from lq_utils.grids import GridError
from lq_utils.paths import atomic_write
from lq_utils.plan_rows import (
    COLUMNS,
    LayerPlan,
    PlanError,
    check_row,
    row_to_text,
    rows_from_text,
)
from lq_utils.registry import UnknownName, did_you_mean
from lq_utils.scales import scale_shape

FLOAT_BITS = 32  # a scale, a zero point, a centroid


@dataclass(frozen=True)
class Plan:
    """The rows of all layers, in the order of execution.

    Raises PlanError where a layer has two rows.

    Introduced in chapter 3.
    """

    layers: tuple[LayerPlan, ...]

    def __post_init__(self) -> None:
        counts = Counter(row.layer for row in self.layers)
        twice = [name for name, n in counts.items() if n > 1]
        if twice:
            raise PlanError(
                f"duplicate rows for {', '.join(twice)}: keep one row a layer"
            )

    @classmethod
    def uniform(cls, model: nn.Module, bits: int | None, **row: Any) -> Plan:
        """The same row for every convolution and linear layer.

        ``row`` holds fields of LayerPlan. Raises TraceError for a network
        that cannot be traced, PlanError for an unknown field.
        """
        _check_fields(row)
        names = [info.name for info in layer_table(model)]
        return cls(tuple(LayerPlan(name, bits, **row) for name in names))

    def __iter__(self) -> Iterator[LayerPlan]:
        return iter(self.layers)

    def __len__(self) -> int:
        return len(self.layers)

    def __getitem__(self, layer: str) -> LayerPlan:
        for row in self.layers:
            if row.layer == layer:
                return row
        raise PlanError(_unknown_layer(layer, self.names()))

    def names(self) -> tuple[str, ...]:
        """Names of the layers, in the order of the rows."""
        return tuple(row.layer for row in self.layers)

    def override(self, layer: str, **changes: Any) -> Plan:
        """Other fields for one layer, or all that match ``layer1.*``.

        Raises PlanError where nothing matches or a field is unknown.
        """
        _check_fields(changes)
        names = self.names()
        chosen = {n for n in names if n == layer or fnmatchcase(n, layer)}
        if not chosen:
            raise PlanError(_unknown_layer(layer, names))
        return self._replace(lambda row: row.layer in chosen, **changes)

    def keep_first_last_full(self) -> Plan:
        """The first and the last row in full precision."""
        ends = self.names()[:1] + self.names()[-1:]
        return self._replace(lambda row: row.layer in ends, bits=None)

    def _replace(
        self, chosen: Callable[[LayerPlan], bool], **changes: Any
    ) -> Plan:
        rows = (replace(r, **changes) if chosen(r) else r for r in self.layers)
        return Plan(tuple(rows))

    def levels(self, layer: str) -> int | None:
        """Number of levels of a layer's alphabet; None: not quantized."""
        letters = self[layer].alphabet()
        return None if letters is None else letters.count

    def frame(self) -> pd.DataFrame:
        """One row a layer: the fields of LayerPlan, and ``levels``."""
        rows = [row_to_text(row) for row in self.layers]
        table = pd.DataFrame(rows, columns=list(COLUMNS))
        table["bits"] = pd.array([r.bits for r in self.layers], dtype="Int64")
        table["polish"] = [row.polish for row in self.layers]
        levels = [self.levels(name) for name in self.names()]
        table["levels"] = pd.array(levels, dtype="Int64")
        return table

    def to_csv(self, path: Path | str) -> None:
        """Write the rows; bits are blank in full precision."""
        with atomic_write(Path(path)) as temporary:
            temporary.write_text(self.to_text(), encoding="utf-8")

    def to_text(self) -> str:
        """The rows as CSV text."""
        text = io.StringIO()
        writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(row_to_text(row) for row in self.layers)
        return text.getvalue()

    @classmethod
    def from_csv(cls, path: Path | str) -> Plan:
        """Read rows with the columns ``layer``, ``bits`` and others.

        Columns left out, and blank cells, take the defaults of
        LayerPlan; blank bits mean full precision; ``options`` are
        written ``damping=0.01, seed=1``. Raises PlanError with
        the line that is wrong.
        """
        try:
            text = Path(path).read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise PlanError(f"cannot read a plan: {error}") from error
        return cls.from_text(text, str(path))

    @classmethod
    def from_text(cls, text: str, source: str = "plan") -> Plan:
        """Read CSV text; ``source`` is what errors call it."""
        return cls(tuple(rows_from_text(text, source)))

    def validate(self, model: nn.Module) -> None:
        """Check every row against the network and the registries.

        Raises PlanError: a layer the network does not have, a layer
        without a row, bits that the quantizer does not take, unknown
        quantizer, granularity, scale rule or solver, negative polish.
        """
        _check(self, layer_table(model))

    def size_bits(self, model: nn.Module) -> int:
        """Exact size, in bits, of the network under this plan.

        Codes take ceil(log2 levels) bits each, 1 at least; scales (zero
        points of affine grids, centroids of clustered layers) 32; all
        other parameters and buffers, batch norms
        folded, what they take in memory. File headers are not counted.
        Raises PlanError where the plan does not fit the network.
        """
        folded = fold_batch_norm(trace(model))
        infos = layer_table(folded)
        _check(self, infos)
        tensors = evaluation_tensors(folded).values()
        bits = 8 * sum(tensor.nbytes for tensor in tensors)
        for info in infos:
            row = self[info.name]
            if row.bits is not None:
                weights = info.rows * info.columns
                bits += _layer_bits(row, info) - FLOAT_BITS * weights
        return bits

    def mean_bits(self, model: nn.Module) -> float:
        """Mean bits of a code over all weights of the plan's layers.

        Weights in full precision count 32; scales are not counted.
        """
        infos = layer_table(model)
        _check(self, infos)
        weights = [info.rows * info.columns for info in infos]
        bits = [code_bits(self[info.name]) for info in infos]
        total = sum(n * b for n, b in zip(weights, bits, strict=True))
        return total / sum(weights)


def code_bits(row: LayerPlan) -> int:
    """Bits that store one weight of a layer under its row.

    Introduced in chapter 3.
    """
    letters = row.alphabet()
    return FLOAT_BITS if letters is None else letters.code_bits


def evaluation_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Every parameter and buffer that plays a part in evaluation mode.

    Counters of batch norm (``num_batches_tracked``) play none.

    Introduced in chapter 3.
    """
    named: dict[str, Tensor] = dict(model.named_parameters())
    named.update(model.named_buffers())
    return {
        name: tensor
        for name, tensor in named.items()
        if not name.endswith("num_batches_tracked")
    }


def _layer_bits(row: LayerPlan, info: LayerInfo) -> int:
    letters = row.alphabet()
    assert letters is not None
    scales = scale_shape(info.rows, info.columns, row.granularity)
    numbers = scales[0] * scales[1] * (2 if letters.affine else 1)
    if letters.own:
        numbers = letters.count
    codes = info.rows * info.columns * letters.code_bits
    return codes + FLOAT_BITS * numbers


def _unknown_layer(layer: str, known: tuple[str, ...]) -> str:
    hint = did_you_mean(layer, known) or ";"
    some = ", ".join(known[:6]) + (", ..." if len(known) > 6 else "")
    return f"no layer matches '{layer}'{hint} layers: {some or 'none'}"


def _check_fields(row: dict[str, Any]) -> None:
    for name in row:
        if name not in COLUMNS[1:]:
            raise PlanError(
                f"a plan's row has no field '{name}'"
                f"{did_you_mean(name, COLUMNS)}; fields: {', '.join(COLUMNS)}"
            )


def _check(plan: Plan, infos: list[LayerInfo]) -> None:
    known = tuple(info.name for info in infos)
    for row in plan.layers:
        if row.layer not in known:
            raise PlanError(_unknown_layer(row.layer, known))
        try:
            check_row(row)
        except (PlanError, GridError, UnknownName) as error:
            raise PlanError(f"layer '{row.layer}': {error}") from error
    missing = [name for name in known if name not in plan.names()]
    if missing:
        raise PlanError(
            f"no row for {', '.join(missing)}: add one each, with blank "
            "bits where the layer stays in full precision"
        )
