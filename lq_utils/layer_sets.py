"""Which layers bear few bits: alone, from the front, from the back.

All plans round one set of layers and leave the others in full precision.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from torch import nn

from lq_utils.data_free_study import scheme_cells
from lq_utils.graph import layer_table
from lq_utils.stats import Correlation, StatsError, correlation

WAYS = ("alone", "from the front", "from the back")
HALVES = ("first half", "second half")


class LayerChoiceError(ValueError):
    """A set of layers that cannot be rounded.

    Introduced in chapter 7.
    """


def layer_sets(
    network: nn.Module, most: int = 0
) -> list[tuple[str, int, tuple[str, ...]]]:
    """What to round: (way, position, names of the layers), layer by layer.

    Positions count layers from 0 in the order of execution. "from the
    front" rounds layers 0 to position, "from the back" position to the
    last. With ``most`` (2 or more) only so many positions, evenly spread,
    the first and the last among them; 0 takes all.

    Raises TraceError, and LayerChoiceError for another ``most``.
    Introduced in chapter 7.
    """
    names = tuple(info.name for info in layer_table(network))
    if most < 0 or most == 1:
        raise LayerChoiceError(f"most={most}: give 0 (all), or 2 and more")
    count = len(names) if not most else min(most, len(names))
    places = np.unique(np.linspace(0, len(names) - 1, count).round())
    sets = []
    for i in places.astype(int).tolist():
        sets.append((WAYS[0], i, names[i : i + 1]))
        sets.append((WAYS[1], i, names[: i + 1]))
        sets.append((WAYS[2], i, names[i:]))
    return sets


def halves(network: nn.Module) -> list[tuple[str, int, tuple[str, ...]]]:
    """The first half of the layers, and the second, as ``layer_sets``.

    Of an odd number the one in the middle belongs to neither. Introduced
    in chapter 7.
    """
    names = tuple(info.name for info in layer_table(network))
    half = len(names) // 2
    parts = names[:half], names[len(names) - half :]
    return [(way, 0, own) for way, own in zip(HALVES, parts, strict=True)]


def stages(network: nn.Module) -> list[tuple[str, int, tuple[str, ...]]]:
    """The network's stages, each as one set: "layer1", "features.3", ...

    A stage are the layers of one child of the network; where there are
    fewer than four such children, of one grandchild. Introduced in
    chapter 7.
    """
    names = [info.name for info in layer_table(network)]
    for depth in (1, 2):
        groups: dict[str, list[str]] = {}
        for name in names:
            key = ".".join(name.split(".")[:depth])
            groups.setdefault(key, []).append(name)
        if len(groups) >= 4:
            break
    return [(key, i, tuple(v)) for i, (key, v) in enumerate(groups.items())]


def partial_sets(
    network: nn.Module,
) -> list[tuple[str, int, tuple[str, ...]]]:
    """Partial quantization: all, without the first, without the last,
    without both, and the backbone (all but the last linear layers).

    Introduced in chapter 7.
    """
    infos = layer_table(network)
    names = tuple(info.name for info in infos)
    convolutions = tuple(i.name for i in infos if i.kind == "conv")
    chosen = {
        "all layers": names,
        "all but the first": names[1:],
        "all but the last": names[:-1],
        "all but both": names[1:-1],
        "backbone": convolutions,
    }
    return [(way, 0, own) for way, own in chosen.items() if own]


def cells_of_sets(
    label: str,
    network: nn.Module,
    sets: Sequence[tuple[str, int, tuple[str, ...]]],
    bits: Sequence[int],
    scheme: Mapping[str, str],
    part: str,
) -> tuple[list[dict[str, Any]], pd.DataFrame]:
    """Cells that round each set, and what each of them is.

    ``scheme`` holds quantizer, granularity, scale. Two sets of the same
    layers share a cell. The table has the columns network, bits, full
    (layers not rounded), way, position, layers (their number), weights
    (share of all weights that is rounded, 0 to 1); merge it with the
    rows.

    Introduced in chapter 7.
    """
    infos = {i.name: i.weights for i in layer_table(network)}
    total = sum(infos.values())
    cells, lines = {}, []
    for way, position, chosen in sets:
        full = tuple(name for name in infos if name not in chosen)
        share = sum(infos[name] for name in chosen) / total
        for cell in scheme_cells(
            [label],
            bits,
            [scheme["quantizer"]],
            [scheme["granularity"]],
            [scheme["scale"]],
            full=full,
            part=part,
        ):
            cells[full, cell["bits"]] = cell
            lines.append(
                {
                    "network": label,
                    "bits": cell["bits"],
                    "full": full,
                    "way": way,
                    "position": position,
                    "layers": len(chosen),
                    "weights": share,
                }
            )
    return list(cells.values()), pd.DataFrame(lines)


def joined(sets: pd.DataFrame, lost: pd.DataFrame) -> pd.DataFrame:
    """The table of ``cells_of_sets`` with the drops of its cells.

    Introduced in chapter 7.
    """
    keys = ["network", "bits", "full"]
    accuracy, drop = ["accuracy", "low", "high"], ["drop", "drop_low"]
    values = lost[[*keys, *accuracy, *drop, "drop_high", "n"]]
    return sets.merge(values, on=keys, how="left", validate="many_to_one")


def position_correlations(table: pd.DataFrame) -> pd.DataFrame:
    """Spearman's correlation of a layer's position with its own drop.

    Rows of ``joined``; those where one layer alone is rounded count. A
    negative one says that early layers cost more. Columns: network, bits,
    correlation, low, high, layers; NaN where no correlation exists.

    Introduced in chapter 7.
    """
    lines = []
    alone = table[table["way"] == WAYS[0]]
    for (network, bits), own in alone.groupby(["network", "bits"], sort=False):
        line = {"network": network, "bits": bits, "layers": len(own)}
        found = _correlation(own)
        ends = (found.value, found.low, found.high) if found else (np.nan,) * 3
        line |= dict(zip(("correlation", "low", "high"), ends, strict=True))
        lines.append(line)
    return pd.DataFrame(lines)


def _correlation(own: pd.DataFrame) -> Correlation | None:
    try:
        return correlation(own["position"], own["drop"])
    except StatsError:
        return None
