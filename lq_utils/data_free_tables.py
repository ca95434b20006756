"""Tables of chapter 7: the poster's rows and ours, and what they decide."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from lq_utils.layer_sets import HALVES, WAYS
from lq_utils.method_comparison import unpack_hits
from lq_utils.power_of_two_study import TRAINED
from lq_utils.published import published_value
from lq_utils.results import Run
from lq_utils.stats import (
    StatsError,
    correlation,
    mean_interval,
    partial_correlation,
)

POSTER = "bit_efficient_poster"
THEIRS = "ResNet-18, CIFAR-10"


def interval(value: float, low: float, high: float, digits: int = 1) -> str:
    """``"1.2 [0.8, 1.6]"``; without brackets where there is no interval.

    Introduced in chapter 7.
    """
    text = f"{value:.{digits}f}"
    if np.isnan([low, high]).any():
        return text
    return f"{text} [{low:.{digits}f}, {high:.{digits}f}]"


def with_text(table: pd.DataFrame) -> pd.DataFrame:
    """Rows of ``drops``, with accuracy and drop as text with intervals.

    Introduced in chapter 7.
    """
    shown = table.copy()
    for name, low, high in (
        ("accuracy", "low", "high"),
        ("drop", "drop_low", "drop_high"),
    ):
        shown[name] = [
            interval(*row) for row in table[[name, low, high]].to_numpy()
        ]
    return shown.drop(columns=["low", "high", "drop_low", "drop_high"])


def poster_table(lost: pd.DataFrame, network: str) -> pd.DataFrame:
    """The poster's rows of table 1 on CIFAR-10, and ours, by bits.

    ``lost`` comes from ``drops``; of ours those of ``network`` with the
    asymmetric quantizer, uncorrected, at 8 and 4 bits. The poster's drop
    is recomputed from its accuracies, as it prints one absolute and one
    relative. Columns: network, granularity, bits, accuracy, drop.

    Introduced in chapter 7.
    """
    given = {"metric": "top-1", "model": THEIRS}
    full = published_value(
        POSTER, "table 1", "accuracy", precision="fp32", **given
    )
    lines = []
    for bits in (8, 4):
        value = published_value(
            POSTER, "table 1", "accuracy", precision=f"{bits}-bit", **given
        )
        line: dict[str, object] = {"network": f"{THEIRS} (poster)"}
        line["granularity"] = "not said"
        line |= {"bits": bits, "accuracy": f"{value:.2f}"}
        lines.append(line | {"drop": f"{full - value:.2f}"})
    own = lost[lost["bits"].isin([8, 4]) & (lost["network"] == network)]
    own = own[(own["quantizer"] == "asymmetric") & (own["scale"] == "max")]
    own = with_text(own[own["correction"] == "none"])
    columns = ["network", "granularity", "bits", "accuracy", "drop"]
    return pd.concat([pd.DataFrame(lines), own[columns]], ignore_index=True)


def training_poster_table(lost: pd.DataFrame) -> pd.DataFrame:
    """The poster's row of table 2 on CIFAR-10 beside ours.

    ``lost`` are rows of ``training_rows`` after ``drops``. Columns: network, grid, stage,
    bits, accuracy, drop. Introduced in chapter 7.
    """
    given = {"metric": "top-1", "model": THEIRS}
    values = [
        published_value(POSTER, "table 2", "accuracy", precision=p, **given)
        for p in ("fp32", "quantized")
    ]
    low, high = (
        published_value(
            POSTER, "table 2", "weight bits",
            model=THEIRS, precision="quantized", end=end,
        )
        for end in ("low", "high")
    )  # fmt: skip
    theirs = {
        "network": f"{THEIRS} (poster)",
        "grid": "power-of-two",
        "stage": TRAINED,
        "bits": f"{low:.0f} to {high:.0f}",
        "accuracy": f"{values[1]:.2f}",
        "drop": f"{values[0] - values[1]:.2f}",
    }
    ours = with_text(lost)[list(theirs)]
    return pd.concat([pd.DataFrame([theirs]), ours], ignore_index=True)


def grid_differences(rows: pd.DataFrame) -> pd.DataFrame:
    """Power-of-two less uniform, image by image, stage by stage.

    ``rows`` come from ``training_rows``. Columns: network, bits, stage,
    difference, low, high (points; over the seeds together, an image
    counting with its mean). Introduced in chapter 7.
    """
    lines = []
    keys = ["network", "bits", "stage"]
    for names, own in rows[rows["grid"] != "none"].groupby(keys, sort=False):
        means = {
            grid: np.mean(
                [
                    unpack_hits(row.hits, row.n).astype(float)
                    for row in part.itertuples()
                ],
                axis=0,
            )
            for grid, part in own.groupby("grid", sort=False)
        }
        if len(means) == 2:
            found = mean_interval(means["power-of-two"] - means["uniform"])
            ends = (100 * found.value, 100 * found.low, 100 * found.high)
            columns = ("difference", "low", "high")
            line = dict(zip(keys, names, strict=True))
            lines.append(line | dict(zip(columns, ends, strict=True)))
    return pd.DataFrame(lines)


def cosine_relations(table: pd.DataFrame) -> pd.DataFrame:
    """How the drop of a subset follows the cosine of its classes.

    ``table`` has the columns network, bits, cosine, drop and original
    (accuracy before, %). Spearman's correlation and the one with the
    accuracy before held fixed. Columns: network, bits, correlation, low,
    high, given accuracy, given low, given high, subsets; NaN where it
    does not exist. Subsets share classes: they are not independent, and
    intervals are too narrow for that.

    Introduced in chapter 7.
    """
    lines = []
    for (network, bits), own in table.groupby(["network", "bits"], sort=False):
        line = {"network": network, "bits": bits, "subsets": len(own)}
        ask = {
            "correlation": lambda d: correlation(d["cosine"], d["drop"]),
            "given accuracy": lambda d: partial_correlation(
                d["cosine"], d["drop"], d["original"]
            ),
        }
        for name, question in ask.items():
            try:
                found = question(own)
                ends = (found.value, found.low, found.high)
            except StatsError:
                ends = (np.nan,) * 3
            short = name.split()[0] + " " if " " in name else ""
            names = (name, f"{short}low", f"{short}high")
            line |= dict(zip(names, ends, strict=True))
        lines.append(line)
    return pd.DataFrame(lines)


def record_cosines(run: Run, related: pd.DataFrame) -> None:
    """Record both correlations of ``cosine_relations``, with intervals.

    What does not exist is left out. Introduced in chapter 7.
    """
    columns = {
        "cosine_correlation": ("correlation", "low", "high"),
        "cosine_correlation_given_accuracy": (
            "given accuracy",
            "given low",
            "given high",
        ),
    }
    for row in related.to_dict("records"):
        keys = {"network": row["network"], "bits": row["bits"]}
        for metric, names in columns.items():
            value, low, high = (float(row[name]) for name in names)
            ci = (low, high) if np.isfinite([low, high]).all() else None
            if np.isfinite(value):
                run.record(metric, value, n=row["subsets"], ci=ci, **keys)


def half_differences(rows: pd.DataFrame, sets: pd.DataFrame) -> pd.DataFrame:
    """First half of the layers rounded less second half, image by image.

    ``rows`` are those of the cells of ``sets`` (``cells_of_sets`` of
    ``halves``). Columns: network, bits, difference (of accuracies,
    points: negative says that the first half costs more), low, high,
    first weights and second weights (shares of the weights).

    Introduced in chapter 7.
    """
    both = sets[sets["way"].isin(HALVES)]
    joined = both.merge(rows, on=["network", "bits", "full"], how="left")
    lines = []
    for (network, bits), own in joined.groupby(["network", "bits"]):
        own = own.set_index("way")
        first, second = (
            unpack_hits(own.loc[w, "hits"], int(own.loc[w, "n"])).astype(float)
            for w in HALVES
        )
        found = mean_interval(first - second)
        line = {"network": network, "bits": bits}
        line |= {
            "difference": 100 * found.value,
            "low": 100 * found.low,
            "high": 100 * found.high,
            "first weights": own.loc[HALVES[0], "weights"],
            "second weights": own.loc[HALVES[1], "weights"],
        }
        lines.append(line)
    return pd.DataFrame(lines)


def verdict(low: float, high: float) -> str:
    """ "holds" above 0, "does not hold here" below, else undecided.

    Introduced in chapter 7.
    """
    if low > 0:
        return "holds"
    return "does not hold here" if high < 0 else "this run cannot tell"


def steepest(table: pd.DataFrame, count: int = 5) -> pd.DataFrame:
    """The layers that cost most when they alone are rounded.

    Rows of ``layer_sets.joined``; columns network, bits, position,
    weights, drop (text with interval). Introduced in chapter 7.
    """
    alone = table[table["way"] == WAYS[0]]
    worst = alone.sort_values("drop", ascending=False, kind="stable")
    worst = worst.groupby(["network", "bits"], sort=False).head(count)
    shown = worst[["network", "bits", "position", "weights"]].copy()
    ends = worst[["drop", "drop_low", "drop_high"]].to_numpy()
    return shown.assign(drop=[interval(*row) for row in ends])


def record_drops(run: Run, lost: pd.DataFrame, keys: Sequence[str]) -> None:
    """Record accuracy (0 to 1) and drop (points) of each row.

    ``keys`` are the columns that tell rows apart. Introduced in chapter 7.
    """
    for row in lost.to_dict("records"):
        named = {str(k): row[k] for k in keys}
        n = int(row["n"])
        ci = (row["low"] / 100, row["high"] / 100)
        run.record("accuracy", row["accuracy"] / 100, n=n, ci=ci, **named)
        ci = (row["drop_low"], row["drop_high"])
        run.record("drop", row["drop"], n=n, ci=ci, **named)


def record_columns(
    run: Run, table: pd.DataFrame, metrics: Mapping[str, str], keys: list[str]
) -> None:
    """Record columns of a table: ``metrics`` maps a column to a metric.

    What is not finite is left out. Introduced in chapter 7.
    """
    for row in table.to_dict("records"):
        named = {name: row[name] for name in keys}
        for column, metric in metrics.items():
            if np.isfinite(row[column]):
                run.record(metric, float(row[column]), **named)
