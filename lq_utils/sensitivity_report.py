"""Around the study of sensitivities: its subsets, its cells, its verdicts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from torch import nn

from lq_utils.distances import weight_cosine
from lq_utils.label_aware import Classes, Settings, subset_key
from lq_utils.results import Run
from lq_utils.sensitivity_tables import COMPARED
from lq_utils.subsets import Subset, generate

WAYS = ("similar", "random", "dissimilar")
SOURCES = ("dimension", "components", "shrinking")  # of the book's sources


def study_subsets(
    network: nn.Module, size: int, count: int, seed: int
) -> list[Subset]:
    """Subsets in turn of similar, random and dissimilar classes.

    By the angles between the class weights of the network's last layer.
    Classes that are drawn a second time count once: there may be fewer
    than ``count``. Raises SubsetError as ``generate``. Introduced in
    chapter 9.
    """
    last = [p for p in network.parameters() if p.ndim == 2][-1]
    angles = weight_cosine(last.detach().numpy())
    drawn = [
        generate(WAYS[i % len(WAYS)], angles, size, seed + i)
        for i in range(count)
    ]
    return list({s.classes: s for s in drawn}.values())


def subset_names(studied: Sequence[Subset], everything: Classes) -> dict:
    """A short name for each subset's key, and for all classes.

    Introduced in chapter 9.
    """
    names = {
        subset_key(s.classes): f"{s.kind} {i}"
        for i, s in enumerate(studied, 1)
    }
    return names | {subset_key(everything): "all classes"}


def study_cells(
    subsets: Sequence[Classes],
    everything: Classes,
    *,
    seed: int,
    draws: int,
    images: int,
    bits: Sequence[int],
    kinds: Sequence[str],
    probes: int,
    method: Settings,
    plan_bits: int,
    plans: int,
) -> list[dict[str, Any]]:
    """Cells of ``sensitivity_rows``.

    The first draw of each subset answers everything. The others, and all
    classes together, have the prices by divergence alone. Introduced in
    chapter 9.
    """
    common = {"images": images, "bits": tuple(sorted(bits))}
    common |= {"probes": probes, "method": method, "plans": plans}
    whole = common | {"kinds": tuple(kinds), "plan_bits": plan_bits}
    prices = common | {"kinds": ("divergence",), "plan_bits": None}
    cells = [whole | {"classes": c, "draw": seed} for c in subsets]
    cells += [
        prices | {"classes": c, "draw": seed + k}
        for c in subsets
        for k in range(1, draws)
    ]
    return cells + [prices | {"classes": everything, "draw": seed}]


def _text(value: float, line: Mapping[str, Any], digits: int = 2) -> str:
    text = f"{value:.{digits}f}"
    if math.isnan(line.get("low", math.nan)):
        return text
    return f"{text} [{line['low']:.{digits}f}, {line['high']:.{digits}f}]"


def gain_text(plans: pd.DataFrame, name: str) -> str:
    """The gain of one line of ``plan_table``, with its interval if any.

    Such as ``"0.53 [0.10, 0.96]"``, in points. Introduced in chapter 9.
    """
    line = plans.set_index("name").loc[name].to_dict()
    return _text(line["gain"], line)


def agreement_text(agreement: pd.DataFrame) -> str:
    """What knowing the labels can add to the ranks of layers.

    ``agreement`` is an ``agreement_table``. Introduced in chapter 9.
    """
    own = agreement[agreement["kind"] == "divergence"]
    lines = own.set_index("compared").to_dict("index")
    parts = [
        f"with {name} {_text(line['correlation'], line)}"
        for name, line in lines.items()
    ]
    text = f"A subset's prices agree {'; '.join(parts)}."
    own_images, blind = (lines.get(COMPARED[k]) for k in (0, 2))
    if own_images is None or blind is None:
        return text
    gap = own_images["correlation"] - blind["correlation"]
    if gap <= 0:
        return (
            f"{text} All classes rank its layers no worse than its own "
            "images do: for the choice of bits the labels add nothing that "
            "so many images can show."
        )
    return (
        f"{text} Its own images rank its layers better than all classes "
        f"do, by {gap:.2f}: that much the labels can add to the choice of "
        "bits."
    )


def prediction_text(prediction: pd.DataFrame, bits: int) -> str:
    """Who ranks the layers best, and what the sources' rules add.

    ``prediction`` is a ``prediction_table``. Introduced in chapter 9.
    """
    own = prediction[prediction["bits"] == bits]
    own = own[own["measure"] == "KL divergence"].set_index("kind")
    ranks = own["correlation"].sort_values(ascending=False)
    text = f"At {bits} bits the best kind here is {ranks.index[0]}."
    rules = [name for name in SOURCES if name in ranks]
    if "weight error" not in ranks or not rules:
        return text
    plain = ranks["weight error"]
    better = [name for name in rules if ranks[name] > plain]
    return (
        f"{text} The squared change of the weights alone reaches "
        f"{plain:.2f}. Of the sources' rules ({', '.join(rules)}), which "
        f"multiply it, {', '.join(better) or 'none'} ranked the layers "
        "better than that."
    )


def record_lines(
    run: Run, table: pd.DataFrame, metric: str, value: str, keys: Sequence[str]
) -> None:
    """One result row a line: ``value`` with low and high, where defined.

    ``n`` is the number of subsets, where the table has it. Introduced in
    chapter 9.
    """
    for line in table.to_dict("records"):
        if not math.isfinite(line[value]):
            continue
        ends = float(line.get("low", math.nan)), float(line.get("high", 0))
        ci = ends if math.isfinite(sum(ends)) else None
        names = {key: line[key] for key in keys}
        n = line.get("subsets")
        run.record(metric, float(line[value]), ci=ci, n=n, **names)
