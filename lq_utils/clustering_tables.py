"""Tables of chapter 10's class clustering: drops, limits, controls.

Rows are those of ``clustering_study``. Points are per cent of images.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
from scipy import stats

from lq_utils.class_clustering import ClassClusteringError, above_chance
from lq_utils.clustering_study import CLASSES, CONFUSION, RANDOM
from lq_utils.intervals import LEVEL
from lq_utils.results import Run

SETTING = ["partition", "clusters", "rule"]
COUNTS = ["hits", "original_hits", "lost", "gained", "n"]
TOLERANCE = 1.0  # points that count as no loss


def paired_counts(
    lost: int, gained: int, n: int, level: float = LEVEL
) -> tuple[float, float, float]:
    """Drop of a share and its t interval, from counts of paired images.

    What ``paired`` gives for ``lost`` ones, ``gained`` minus ones and
    zeros, ``n`` together (at least 2). Raises ClassClusteringError for
    impossible counts. Introduced in chapter 10.
    """
    if n < 2 or min(lost, gained) < 0 or lost + gained > n:
        raise ClassClusteringError(
            f"{lost} lost and {gained} gained of {n} images: counts add up "
            "to n at most, of two images at least"
        )
    drop = (lost - gained) / n
    variance = ((lost + gained) / n - drop**2) * n / (n - 1)
    half = stats.t.ppf((1 + level) / 2, n - 1) * math.sqrt(variance / n)
    return drop, drop - half, drop + half


def _require(rows: pd.DataFrame, columns: Sequence[str]) -> None:
    missing = [name for name in columns if name not in rows]
    if missing or rows.empty:
        raise ClassClusteringError(
            f"rows of a sweep over coarse_rows are needed; missing: {missing}"
        )


def drop_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Every row with its accuracy, drop and interval, in points.

    Added columns: accuracy, original, drop, low, high (paired, over
    images), and corrected, corrected_original, corrected_drop,
    corrected_low, corrected_high, the same above chance.

    Raises ClassClusteringError for missing columns, or one cluster of
    everything. Introduced in chapter 10.
    """
    _require(rows, [*COUNTS, "chance"])
    found = []
    for row in rows.itertuples():
        drop = paired_counts(row.lost, row.gained, row.n)
        room = 1 - row.chance
        pair = [row.hits / row.n, row.original_hits / row.n]
        over = [above_chance(share, row.chance) for share in pair]
        scaled = [d / room for d in drop]
        found.append([100 * x for x in (*pair, *drop, *over, *scaled)])
    plain = ["accuracy", "original", "drop", "low", "high"]
    over_chance = ["", "_original", "_drop", "_low", "_high"]
    columns = plain + [f"corrected{end}" for end in over_chance]
    added = pd.DataFrame(found, columns=columns, index=rows.index)
    return pd.concat([rows, added], axis=1)


def by_partition(table: pd.DataFrame) -> pd.DataFrame:
    """A line for each width and partition; draws at random are averaged.

    ``table`` is one of :func:`drop_table`. Columns: bits, the setting,
    draws, n, chance, and means of accuracy, drop, corrected_drop,
    information; ``low`` and ``high`` of the drop: over images, or, for
    random partitions, percentiles 2.5 and 97.5 of the draws.

    Raises ClassClusteringError. Introduced in chapter 10.
    """
    _require(table, ["bits", *SETTING, "drop"])
    means = ["chance", "accuracy", "original", "drop", "corrected"]
    means += ["corrected_drop", "information", "original_information"]
    lines = []
    for keys, own in table.groupby(["bits", *SETTING], sort=False):
        line = dict(zip(["bits", *SETTING], keys, strict=True))
        line |= {"draws": len(own), "n": int(own["n"].iloc[0])} | own[
            means
        ].mean().to_dict()
        for prefix in ("", "corrected_"):
            ends = own[[f"{prefix}low", f"{prefix}high"]].iloc[0].to_numpy()
            if line["partition"] == RANDOM:
                ends = np.percentile(own[f"{prefix}drop"], [2.5, 97.5])
            line |= {f"{prefix}low": ends[0], f"{prefix}high": ends[1]}
        lines.append(line)
    return pd.DataFrame(lines)


def bit_limits(
    table: pd.DataFrame, column: str = "drop", tolerance: float = TOLERANCE
) -> pd.DataFrame:
    """Fewest bits that lose at most ``tolerance`` points.

    From wide to narrow, up to the first width that loses more. ``table``
    is one of :func:`drop_table`, ``column`` "drop" or "corrected_drop".
    Columns: the setting, draw, limit (bits; NaN where the widest loses
    more already), and sure (the interval of the drop agrees at the limit
    and at the next narrower width).

    Raises ClassClusteringError. Introduced in chapter 10.
    """
    _require(table, ["bits", *SETTING, "draw", column])
    prefix = column.removesuffix("drop")
    lines = []
    for keys, own in table.groupby([*SETTING, "draw"], sort=False):
        own = own.sort_values("bits", ascending=False)
        enough = (own[column] <= tolerance).cummin()
        kept, failed = own[enough], own[~enough].head(1)
        sure = (kept[f"{prefix}high"].tail(1) <= tolerance).all()
        sure &= (failed[f"{prefix}low"] > tolerance).all()
        line = dict(zip([*SETTING, "draw"], keys, strict=True))
        line["limit"] = float(kept["bits"].min()) if len(kept) else math.nan
        lines.append(line | {"sure": bool(sure)})
    return pd.DataFrame(lines)


def limit_table(
    table: pd.DataFrame, tolerance: float = TOLERANCE
) -> pd.DataFrame:
    """Bit limits of classes and clusters, plain and above chance.

    A line a setting: limit and limit_above_chance (medians over draws),
    sure. Raises ClassClusteringError. Introduced in chapter 10.
    """
    plain = bit_limits(table, "drop", tolerance)
    over = bit_limits(table, "corrected_drop", tolerance)
    plain["limit_above_chance"] = over["limit"]
    return (
        plain.groupby(SETTING, sort=False)
        .agg(
            limit=("limit", "median"),
            limit_above_chance=("limit_above_chance", "median"),
            sure=("sure", "all"),
        )
        .reset_index()
    )


def against_random(
    table: pd.DataFrame, partition: str = CONFUSION
) -> pd.DataFrame:
    """Is a partition's drop smaller than that of random ones, its sizes?

    A line for each width, number of clusters and rule: drop, random_drop
    (mean), information and random_information (what is left of the
    original network's, in per cent), draws and p, the share of partitions
    as good by the drop, the tested one counted among them.

    ``table`` is one of :func:`drop_table`. Raises ClassClusteringError
    where one of the two is missing. Introduced in chapter 10.
    """
    _require(table, ["bits", *SETTING, "drop", "information"])
    kept = 100 * table["information"] / table["original_information"]
    kept = kept.round(9) + 0.0  # no 1e-13 where nothing is left
    table = table.assign(kept=kept)
    keys = ["bits", "clusters", "rule"]
    chance = table[table["partition"] == RANDOM].groupby(keys)
    lines = []
    for row in table[table["partition"] == partition].to_dict("records"):
        setting = tuple(row[key] for key in keys)
        if setting not in chance.groups:
            raise ClassClusteringError(
                f"no random partition for {dict(zip(keys, setting))}: ask "
                "for one draw at least"
            )
        own = chance.get_group(setting)
        as_good = int((own["drop"] <= row["drop"] + 1e-9).sum())
        lines.append(
            dict(zip(keys, setting))
            | {
                "drop": row["drop"],
                "random_drop": own["drop"].mean(),
                "information": row["kept"],
                "random_information": own["kept"].mean(),
                "draws": len(own),
                "p": (1 + as_good) / (1 + len(own)),
            }
        )
    if not lines:
        raise ClassClusteringError(f"no row of the partition {partition!r}")
    return pd.DataFrame(lines)


def verdicts(table: pd.DataFrame, rule: str = "argmax") -> pd.DataFrame:
    """The poster's claim that clusters lower the bit limit, with controls.

    One line a number of clusters: the limits of classes, of clusters by
    confusion and of random ones; and whether the claim holds as the
    poster has it (limit below that of classes), above chance, and
    against random clusters. Raises ClassClusteringError.
    Introduced in chapter 10.
    """
    limits = limit_table(table[table["rule"] == rule])
    classes = limits[limits["partition"] == CLASSES].iloc[0]
    lines = []
    for count in limits["clusters"][limits["partition"] == CONFUSION]:
        own = limits[limits["clusters"] == count].set_index("partition")
        mine = own.loc[CONFUSION]
        lines.append(
            {
                "clusters": count,
                "limit of classes": classes["limit"],
                "limit of clusters": mine["limit"],
                "limit of random ones": own["limit"].get(RANDOM, math.nan),
                "as claimed": _lower(mine["limit"], classes["limit"]),
                "above chance": _lower(
                    mine["limit_above_chance"], classes["limit_above_chance"]
                ),
                "against random": _lower(
                    mine["limit"], own["limit"].get(RANDOM, math.nan)
                ),
            }
        )
    return pd.DataFrame(lines)


def claim_table(judged: pd.DataFrame) -> pd.DataFrame:
    """Lines of :func:`verdicts` by network, as claims and findings.

    Introduced in chapter 10.
    """
    lines = []
    for condition in ("as claimed", "above chance", "against random"):
        for row in judged.to_dict("records"):
            where = f"{row['network']}, {row['clusters']} clusters"
            lines.append((condition, where, row[condition]))
    return pd.DataFrame(lines, columns=["condition", "where", "verdict"])


def by_network(
    tables: Mapping[str, pd.DataFrame],
    function: Callable[[pd.DataFrame], pd.DataFrame],
) -> pd.DataFrame:
    """``function`` of each network's table, one below the other.

    The first column is ``network``. Introduced in chapter 10.
    """
    found = []
    for name, table in tables.items():
        own = function(table).copy()
        own.insert(0, "network", name)
        found.append(own)
    return pd.concat(found, ignore_index=True)


def record_lines(
    run: Run, metric: str, table: pd.DataFrame, keys: Sequence[str]
) -> None:
    """Record ``drop`` (points, with its interval) of each line.

    ``keys`` are the columns that tell lines apart; ``n``, where there is
    such a column, how many images a line rests on. Introduced in
    chapter 10.
    """
    for row in table.to_dict("records"):
        named = {str(key): row[key] for key in keys}
        ci = (row["low"], row["high"])
        run.record(metric, row["drop"], n=row.get("n"), ci=ci, **named)


def _lower(first: float, second: float) -> str:
    """Whether a limit is below another; NaN: above all that was tried."""
    if math.isnan(first) and math.isnan(second):
        return "cannot be told"
    if math.isnan(second) or first < second:
        return "holds"
    return "does not hold"
