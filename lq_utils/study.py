"""Planning and summing up a study over subsets of classes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from lq_utils.intervals import (
    Interval,
    StatsError,
    bootstrap,
    wilson,
)
from lq_utils.label_aware import KINDS, Classes, Settings
from lq_utils.registry import UnknownName, did_you_mean
from lq_utils.relations import (
    partial_correlation,
    regression,
    spearman,
)
from lq_utils.results import Run

PROTOCOLS = {"all_logits": "All", "subset_logits": "Sub"}
ANOTHER = "another"  # subset, whose images calibrate
STAGES = ("original", "quantized", "fine-tuned", "fine-tuned and quantized")


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


def images_by_calibration(
    kinds: Sequence[str], images: int, many: int
) -> dict[str, int]:
    """Number of calibration images of each kind; "many" has its own.

    Raises UnknownName for no kind at all, or one that there is not.

    Introduced in chapter 3.
    """
    known = [kind for kind in KINDS if kind != "subset"]
    known.append(ANOTHER)
    if not kinds:
        raise UnknownName(
            "no calibration to compare with: give one or more of "
            f"{', '.join(known)}"
        )
    for kind in kinds:
        if kind not in known:
            raise UnknownName(
                f"no calibration '{kind}'"
                f"{did_you_mean(str(kind), known) or ';'} "
                f"known: {', '.join(known)}"
            )
    return {kind: many if kind == "many" else images for kind in kinds}


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
