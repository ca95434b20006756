"""Result rows of a large network: what its sweeps found."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from lq_utils.bit_limits import SCHEME, bit_limits, drops
from lq_utils.data_free_study import ALL
from lq_utils.data_free_tables import record_columns
from lq_utils.intervals import wilson
from lq_utils.large_sweeps import Material
from lq_utils.results import Run
from lq_utils.study import (
    PROTOCOLS,
    accuracy_interval,
    add_drop,
    record_summary,
    summary,
)
from lq_utils.subset_tables import own_gains, stage_summary

Frames = Mapping[str, pd.DataFrame]


def record_training(run: Run, record: Mapping[str, Any]) -> None:
    """Accuracies (0 to 1) of the network as it was trained.

    ``record`` is that of the weights. Introduced in chapter 3.
    """
    for part in ("validation", "test"):
        n = int(record["images"][part])
        value = float(record[f"{part}_accuracy"])
        found = wilson(round(value * n), n)
        run.record("trained_accuracy", value, n=n, ci=found.ci, part=part)


def record_label_aware(
    run: Run, frames: Frames, places: pd.DataFrame, of: Material
) -> None:
    """Rows with chapter 3's metrics, and two for each subset.

    ``frames`` are the rows of ``label_aware_sweeps``; ``places`` those of
    ``study_subsets``. Metrics: accuracy, stage_accuracy (per cent),
    own_gain (points), original_subset and own_subset (0 to 1).

    Introduced in chapter 3.
    """
    originals = frames["original"]
    rows = add_drop(frames["quantized"], originals)
    by_calibration = summary(rows, ["name", "bits", "calibration"])
    record_summary(run, by_calibration, "accuracy")
    published = rows[rows["name"] == "published"]
    own = published[published["calibration"] == "own"]
    study = of.settings.subsets
    stages = stage_summary(
        originals, own, frames["fine-tuned"], of.few, study.bits
    )
    record_summary(run, stages.drop(columns="authors"), "stage_accuracy")
    for line in own_gains(published, study.bits).to_dict("records"):
        which = {name: line[name] for name in ("bits", "other", "protocol")}
        gain = line["gain"]
        run.record("own_gain", gain.value, n=gain.n, ci=gain.ci, **which)
    where = places.set_index("subset")[["kind", "median"]]
    _record_subsets(run, originals, "original_subset", where)
    _record_subsets(run, own, "own_subset", where)


def _record_subsets(
    run: Run, rows: pd.DataFrame, metric: str, where: pd.DataFrame
) -> None:
    for row in rows.to_dict("records"):
        keys = {"subset": row["subset"], **where.loc[row["subset"]].to_dict()}
        if "bits" in row:
            keys["bits"] = row["bits"]
        for score, protocol in PROTOCOLS.items():
            found = accuracy_interval(row, score)
            run.record(
                metric, found.value, n=found.n, ci=found.ci,
                protocol=protocol, **keys,
            )  # fmt: skip


def record_data_free(run: Run, frames: Frames) -> None:
    """Rows with chapter 7's metrics.

    ``frames`` are the rows of ``data_free_sweeps``. Metrics:
    float_accuracy and, by scheme, data_free_accuracy (0 to 1) and
    data_free_drop (points), all on all classes; and the limits of bits,
    on all classes and on each subset.

    Introduced in chapter 7.
    """
    before = frames["float"].set_index("subset").loc[ALL]
    n, right = int(before["n"]), int(before["correct"])
    found = wilson(right, n)
    run.record("float_accuracy", found.value, n=n, ci=found.ci)
    lost = drops(frames["rounded"], frames["float"])
    whole = lost[lost["subset"] == ALL]
    for row in whole.to_dict("records"):
        keys = {name: row[name] for name in ("bits", *SCHEME)}
        share, *ci = (row[name] / 100 for name in ("accuracy", "low", "high"))
        run.record("data_free_accuracy", share, n=n, ci=tuple(ci), **keys)
        ci = [row["drop_low"], row["drop_high"]]
        run.record("data_free_drop", row["drop"], n=n, ci=tuple(ci), **keys)
    limits = bit_limits(
        lost[lost["correction"] == "none"],
        ("subset", "quantizer", "granularity"),
    )
    metrics = {name: name for name in ("limit", "limit_low", "limit_high")}
    by = ["subset", "quantizer", "granularity"]
    record_columns(run, limits, metrics, by)
