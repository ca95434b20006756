"""What the compress command says of a network it compressed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lq_utils.artifact import load_quantized
from lq_utils.graph import layer_table
from lq_utils.images import Splits
from lq_utils.method_tables import accuracy_interval
from lq_utils.task_compression import Compressed
from lq_utils.task_network import TaskNetwork, task_hits


class CompressError(ValueError):
    """The command was asked for something it cannot do.

    Introduced in chapter 9.
    """


def accuracies(
    found: Compressed, before: TaskNetwork, splits: Splits
) -> list[dict[str, Any]]:
    """Accuracy on held-out images of the classes, before and after.

    One row a part and network: part, network, correct, n, accuracy, low,
    high (0 to 1, Wilson's interval). Introduced in chapter 9.
    """
    rows = []
    for part in (splits.validation, splits.test):
        networks = {
            "before": before.network,
            "after": found.quantized.model,
        }
        for name, network in networks.items():
            hits = task_hits(network, part, before)
            share = accuracy_interval([int(hits.sum())], len(hits))
            rows.append(
                {
                    "part": part.part,
                    "network": name,
                    "correct": int(hits.sum()),
                    "n": len(hits),
                    "accuracy": share.value,
                    "low": share.low,
                    "high": share.high,
                }
            )
    return rows


def layer_lines(found: Compressed) -> list[str]:
    """What was chosen for each layer, as lines of text.

    Introduced in chapter 9.
    """
    errors = found.quantized.layers.set_index("layer")["relative_error"]
    weights = {i.name: i.weights for i in layer_table(found.task.network)}
    width = max(len(row.layer) for row in found.plan)
    lines = [f"{'layer':{width}}  bits  levels    weights  output error"]
    for row in found.plan:
        levels, count = found.plan.levels(row.layer), weights[row.layer]
        lines.append(
            f"{row.layer:{width}}  {row.bits:4}  {levels:6}  {count:9,}  "
            f"{errors[row.layer]:12.4f}"
        )
    return lines


def check_stored(path: Path, found: Compressed, images: Tensor) -> None:
    """Load the file again and compare answers, bit for bit.

    Raises CompressError where they differ. Introduced in chapter 9.
    """
    with torch.no_grad():
        again = load_quantized(path)(images)
        same = torch.equal(again, found.quantized.model(images))
    if not same:
        raise CompressError(f"{path} answers differently; write it again")
