"""The page on clusters: measured cells an hour, and what a grid costs.

python -m lq_utils.cluster_costs            writes book/beyond_one_machine.md
python -m lq_utils.cluster_costs --check    fails if it is out of date

The seconds are those of the cells kept in ``data/results/cells``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import torch

from lq_utils.generated_pages import write_or_check
from lq_utils.inference_cost import inference_cost
from lq_utils.models import build_model
from lq_utils.paths import REFERENCE, ROOT
from lq_utils.profiles import find_chapter

PAGE = ROOT / "book" / "beyond_one_machine.md"
COMMAND = "python -m lq_utils.cluster_costs"
WORKERS = (2, 16, 64, 256)
COLUMNS = (
    "sweep",
    "cells",
    "seconds",
    "longest",
    "cells_an_hour",
    "worker_hours",
)
BLOCK = re.compile(
    r"(?s)(<!-- (\w+): written by the command -->\n).*?(<!-- end -->)"
)
MODEL = "resnet20"  # of chapters 3 and 9
LARGE, PIXELS = "resnet50", 224


def kept_costs(folder: Path | None = None) -> pd.DataFrame:
    """What the kept cells took, a row a sweep.

    Columns: sweep, cells, seconds (mean, one worker), longest (seconds),
    cells_an_hour (of one worker), worker_hours (in all). Networks that
    several cells share are trained once and counted where that happened.

    Introduced on the page "Beyond one machine".
    """
    lines = []
    for path in sorted((folder or REFERENCE / "cells").glob("*.jsonl")):
        text = path.read_text("utf-8").splitlines()
        seconds = [json.loads(line)["seconds"] for line in text]
        mean = sum(seconds) / len(seconds)
        spent = mean, max(seconds), 3600 / mean, sum(seconds) / 3600
        lines.append((path.stem, len(seconds), *spent))
    return pd.DataFrame(lines, columns=list(COLUMNS))


def imagenet_factor() -> float:
    """How many times the products of an image: ImageNet against CIFAR.

    ResNet-50 at 224 pixels against the book's ResNet-20 at 32, a count of
    multiply-accumulates.

    Introduced on the page "Beyond one machine".
    """
    from torchvision import models

    with torch.device("cpu"):
        large = models.get_model(LARGE, weights=None)
    counts = [
        inference_cost(model, (3, pixels, pixels))["macs"].sum()
        for model, pixels in ((large, PIXELS), (build_model(MODEL, 100), 32))
    ]
    return float(counts[0] / counts[1])


def _rows(rows: Sequence[Sequence[str]], head: Sequence[str]) -> str:
    lines = ["| " + " | ".join(head) + " |"]
    lines.append("|---|" + "---:|" * (len(head) - 1))
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(lines)


def _hours(hours: float) -> str:
    if hours < 1:
        return f"{60 * hours:.0f} min"
    return f"{hours:.1f} h" if hours < 100 else f"{hours:,.0f} h"


def rates(costs: pd.DataFrame) -> str:
    """Table of the measured sweeps, in Markdown.

    Introduced on the page "Beyond one machine".
    """
    head = ("sweep", "cells", "seconds a cell", "cells an hour", "one worker")
    rows = [
        (
            f"`{row.sweep}`",
            f"{row.cells}",
            f"{row.seconds:.0f}",
            f"{row.cells_an_hour:.0f}",
            _hours(row.worker_hours),
        )
        for row in costs.itertuples()
    ]
    return _rows(rows, head) if rows else "No cells are kept yet."


def grid(costs: pd.DataFrame, factor: float) -> str:
    """Table of the time of each chapter's grid by workers, in Markdown.

    Introduced on the page "Beyond one machine".
    """
    by_chapter = costs.groupby(costs["sweep"].astype("str").str[:2])
    longest = by_chapter["longest"].max() / 3600
    total = by_chapter["worker_hours"].sum()
    head = ("chapter", *(f"{n} workers" for n in WORKERS), "ImageNet scale")
    rows = [
        (
            f"{{doc}}`chapters/{find_chapter(str(name))}`",
            *(_hours(max(hours / n, longest[name])) for n in WORKERS),
            f"{_hours(hours * factor)} of one worker",
        )
        for name, hours in total.items()
    ]
    return _rows(rows, head) if rows else "No cells are kept yet."


def page(text: str, folder: Path | None = None) -> str:
    """The page's text with its blocks written anew.

    Introduced on the page "Beyond one machine".
    """
    costs, factor = kept_costs(folder), imagenet_factor()
    blocks = {
        "rates": rates(costs),
        "grid": grid(costs, factor),
        "factor": f"That factor is {factor:.0f}.",
    }
    return BLOCK.sub(lambda m: f"{m[1]}{blocks[m[2]]}\n{m[3]}", text)


def main(arguments: list[str] | None = None) -> int:
    """Write or check the page; the exit status.

    Introduced on the page "Beyond one machine".
    """
    text = page(PAGE.read_text("utf-8"))
    return write_or_check({PAGE: text}, COMMAND, arguments)


if __name__ == "__main__":
    raise SystemExit(main())
