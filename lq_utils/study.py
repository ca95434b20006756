"""Planning and summing up a study over subsets of classes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from torch import nn

from lq_utils.figures import table
from lq_utils.graph import kept_in_float, layer_table, trace
from lq_utils.images import Splits
from lq_utils.intervals import (
    Interval,
    StatsError,
    bootstrap,
    wilson,
)
from lq_utils.label_aware import Classes, Settings
from lq_utils.recipes import TrainingConfig
from lq_utils.relations import (
    partial_correlation,
    regression,
    spearman,
)
from lq_utils.results import Run, reference_rows
from lq_utils.training import train
from lq_utils.weights import (
    WeightsError,
    load_reference,
    load_weights,
    reference_path,
    require_same_split,
)

PROTOCOLS = {"all_logits": "All", "subset_logits": "Sub"}
STAGES = ("original", "quantized", "fine-tuned", "fine-tuned and quantized")


def find_network(
    name: str, splits: Splits, weights_file: str = "", epochs: int = 0
) -> nn.Module:
    """The network to quantize: yours, a committed one, or trained here.

    ``weights_file`` comes first. Without committed weights the network is
    trained for ``epochs`` (resumable, chosen on validation images); with
    0 epochs the committed rows of the reference run are shown instead, and
    the error ends the chapter.

    Raises:
        WeightsError: there are no weights; the message says how to make
            them.
        DataError: a committed network was trained with another split.

    Introduced in chapter 3.
    """
    if weights_file:
        return load_weights(Path(weights_file))
    dataset = splits.provenance.dataset
    if reference_path(name, dataset).is_file():
        require_same_split(name, dataset, splits.provenance)
        return load_reference(name, dataset)
    if epochs:
        config = TrainingConfig(epochs=epochs)
        return train(name, splits.train, splits.validation, config).model
    show_reference("03_gpfq_sweeps", ("accuracy", "original"))
    raise WeightsError(
        f"no committed weights of '{name}' for {dataset}. Set train_epochs "
        "(15 or more; hours on a CPU, minutes on a GPU), or give the path "
        "of a .safetensors file made by save_weights as weights_file. The "
        "table above, if any, is the committed reference run"
    )


def show_reference(chapter: str, metrics: Sequence[str]) -> None:
    """Show the committed rows of a chapter's reference run, if any.

    Introduced in chapter 3.
    """
    rows = reference_rows(chapter)
    if rows is not None:
        columns = ["metric", "keys", "value", "ci_low", "ci_high", "n"]
        kept = rows.loc[rows["metric"].isin(metrics), columns]
        table(kept, "The reference run's accuracies.", name="reference")


def plan_coverage(network: nn.Module) -> pd.DataFrame:
    """What a plan can reach, and what stays in floating point.

    One row a kind of parameter: kind, parameters, share (0 to 1).

    Raises TraceError for a network that cannot be followed.

    Introduced in chapter 3.
    """
    traced = trace(network)
    counts: dict[str, int] = {}
    for info in layer_table(traced):
        kind = f"weights of {info.kind} layers, quantized"
        counts[kind] = counts.get(kind, 0) + info.weights
    for name, size in kept_in_float(traced).items():
        owner, _, last = name.rpartition(".")
        of = type(traced.get_submodule(owner)).__name__
        kind = f"{last} of {of}, kept"
        counts[kind] = counts.get(kind, 0) + size
    rows = pd.DataFrame(counts.items(), columns=["kind", "parameters"])
    return rows.assign(share=rows["parameters"] / rows["parameters"].sum())


def own_cells(
    name: str | float,
    method: Settings,
    bits: Sequence[int],
    subsets: Sequence[Classes],
    images: int,
    draws: Sequence[int],
    others: bool = False,
) -> list[dict[str, Any]]:
    """Cells of ``quantized_rows``: each subset with its own images.

    With ``others`` the network is also tested on the next subset, for
    which the images are those of "another".

    Introduced in chapter 3.
    """
    cells = []
    for b in bits:
        for draw in draws:
            for i, classes in enumerate(subsets):
                tested = [classes]
                if others and len(subsets) > 1:
                    tested.append(subsets[(i + 1) % len(subsets)])
                what: dict[str, Any] = {"name": name, "settings": method}
                what |= {"bits": int(b)}
                what |= {"draw": int(draw), "images": images}
                what |= {"drawn_from": "subset", "classes": classes}
                cells.append(what | {"tested": tuple(tested)})
    return cells


def shared_cells(
    name: str | float,
    method: Settings,
    bits: Sequence[int],
    subsets: Sequence[Classes],
    images: Mapping[str, int],
    draws: Sequence[int],
) -> list[dict[str, Any]]:
    """Cells of ``quantized_rows`` that do not depend on the subset.

    ``images`` maps "all", "many" or "noise" to a number of images. Each
    network is tested on every subset.

    Introduced in chapter 3.
    """
    return [
        {
            "name": name,
            "settings": method,
            "bits": int(b),
            "draw": int(draw),
            "images": count,
            "drawn_from": kind,
            "classes": (),
            "tested": tuple(subsets),
        }
        for b in bits
        for draw in draws
        for kind, count in images.items()
    ]


def add_drop(rows: pd.DataFrame, originals: pd.DataFrame) -> pd.DataFrame:
    """Rows with ``drop_all`` and ``drop_sub``, in points.

    The drop is the original network's accuracy on the same subset (and
    the same images) minus the row's. Also adds ``original_all`` and
    ``original_sub`` (0 to 1).

    Introduced in chapter 3.
    """
    columns = {"all_logits": "original_all", "subset_logits": "original_sub"}
    known = originals.set_index("subset")[list(columns)]
    joined = rows.join(known.rename(columns=columns), on="subset")
    for score, original in columns.items():
        drop = joined[original] - joined[score]
        joined[original.replace("original", "drop")] = 100 * drop
    return joined


def summary(rows: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Accuracy in per cent over all subsets' images, with its interval.

    One line for each value of ``by`` and protocol: ``protocol``, ``mean``,
    ``low``, ``high``, ``subsets``, ``images``. Draws of a subset are
    averaged first. The interval is Wilson's, for these subsets: it says
    how sure the number is, not how other subsets would do.

    Introduced in chapter 3.
    """
    scores = list(PROTOCOLS)
    lines = []
    for keys, group in rows.groupby(list(by), sort=False):
        each = group.groupby("subset")[[*scores, "n"]].mean()
        n = round(each["n"].sum())
        for score, protocol in PROTOCOLS.items():
            share = float((each[score] * each["n"]).sum() / n)
            found = wilson(round(share * n), n)
            line = dict(zip(by, keys, strict=True))
            line |= {"protocol": protocol, "mean": 100 * share}
            line |= {"low": 100 * found.low, "high": 100 * found.high}
            lines.append(line | {"subsets": len(each), "images": n})
    return pd.DataFrame(lines)


def record_summary(run: Run, table: pd.DataFrame, metric: str) -> None:
    """One result row for each line of ``summary``; other columns as keys.

    ``n`` is the number of images. Introduced in chapter 3.
    """
    values = ("mean", "low", "high", "images")
    for line in table.to_dict("records"):
        keys = {str(k): v for k, v in line.items() if k not in values}
        ci = (line["low"], line["high"])
        run.record(metric, line["mean"], n=line["images"], ci=ci, **keys)


def accuracy_interval(row: Any, score: str) -> Interval:
    """Wilson's interval of one row's accuracy (0 to 1).

    ``score`` is "all_logits" or "subset_logits". Introduced in chapter 3.
    """
    value, n = float(row[score]), int(row["n"])
    return wilson(round(value * n), n)


def relation(
    curve: pd.DataFrame, x: str, y: str, given: str
) -> dict[str, Any]:
    """How ``y`` follows the logarithm of ``x`` over subsets.

    ``slope`` in units of y a factor of e, Spearman's ``correlation``, the
    same with a ``bootstrap`` interval (BCa), and the ``partial`` one with
    ``given`` held fixed: an Interval each. What does not exist, for too
    few subsets or values that do not vary, is NaN; ``note`` says why.

    Introduced in chapter 3.
    """
    logs, values = np.log(curve[x]), curve[y]
    found: dict[str, Any] = {"axis": x, "subsets": len(curve)}
    ask = {
        "slope": lambda: regression(logs, values).slope,
        "correlation": lambda: partial_correlation(
            logs, values, np.empty((len(curve), 0))
        ),
        "bootstrap": lambda: bootstrap(spearman, logs, values),  # type: ignore
        "partial": lambda: partial_correlation(logs, values, curve[given]),
    }
    notes = []
    for name, question in ask.items():
        try:
            answer = question()
        except StatsError as error:
            notes.append(f"{name}: {error}")
            answer = Interval(math.nan, math.nan, math.nan, len(curve), 0.95)
        found[name] = answer
    return found | {"note": "; ".join(notes)}


def interval_text(found: Interval, digits: int = 2) -> str:
    """``"0.41 [0.10, 0.66]"``; without brackets where there is none.

    Introduced in chapter 3.
    """
    if math.isnan(found.value):
        return "not defined"
    text = f"{found.value:.{digits}f}"
    if found.ci is None:
        return text
    return f"{text} [{found.low:.{digits}f}, {found.high:.{digits}f}]"
