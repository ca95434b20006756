"""Networks that a study quantizes, and what of them is quantized."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from torch import nn

from lq_utils.figures import table
from lq_utils.graph import kept_in_float, layer_table, trace
from lq_utils.images import Splits
from lq_utils.recipes import TrainingConfig
from lq_utils.results import reference_rows
from lq_utils.training import train
from lq_utils.weights import (
    WeightsError,
    load_reference,
    load_weights,
    reference_path,
    require_same_split,
)


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
