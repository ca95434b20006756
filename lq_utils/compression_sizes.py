"""How large compressed networks are, and which of them no other beats.

Rows are those of the study of compression, see ``compression_scores``;
besides, the columns ``bytes`` and ``compressed_bytes``: the file on disk,
and the same file after a general compressor.
"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from lq_utils.compression_scores import (
    BASE,
    THESIS,
    ScoreError,
    require_columns,
)
from lq_utils.published import PublishedError, published

MIB = 2**20
SIZES = ["bytes", "compressed_bytes"]
CASE = ["task", "start", "seed"]


def honest_sizes(rows: pd.DataFrame) -> pd.DataFrame:
    """How many times smaller than the base: like compared with like.

    A line a set-up, means over the networks in ``rows``, each against the
    base of the same task, start and seed: ``mib``, ``compressed_mib``;
    ``raw_ratio`` (base raw by raw), ``compressed_ratio`` (base compressed
    by compressed) and ``mixed_ratio`` (base raw by compressed); and the
    thesis's ``thesis_mb`` and ``thesis_ratio``. The sizes that it prints
    for clustered networks can only be compressed ones (3.9 bits a weight
    in a float32 file), that of the base is raw: they are mixed.

    Raises ScoreError for a missing column, or a network without one base.
    Introduced in chapter 4.
    """
    require_columns(rows, [*CASE, "set_up", *SIZES])
    joined = _beside_base(rows)
    raw, small = joined["bytes"], joined["compressed_bytes"]
    found = pd.DataFrame(
        {
            "set_up": joined["set_up"],
            "mib": raw / MIB,
            "compressed_mib": small / MIB,
            "raw_ratio": joined["bytes_base"] / raw,
            "compressed_ratio": joined["compressed_bytes_base"] / small,
            "mixed_ratio": joined["bytes_base"] / small,
        }
    )
    table = found.groupby("set_up", sort=False).mean().reset_index()
    table["thesis_mb"] = [_thesis_size(name) for name in table["set_up"]]
    table["thesis_ratio"] = _thesis_size(BASE) / table["thesis_mb"]
    return table


def _beside_base(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows with the sizes of their base, as ``bytes_base`` and so on."""
    base = rows.loc[rows["set_up"] == BASE, [*CASE, *SIZES]]
    twice = base[base.duplicated(CASE)]
    joined = rows.merge(base, on=CASE, how="left", suffixes=("", "_base"))
    alone = joined[joined["bytes_base"].isna()]
    for wrong, count in ((twice, "more than one row"), (alone, "no row")):
        if len(wrong):
            row = wrong.iloc[0]
            raise ScoreError(
                f"{row.task!r}, start {row.start!r}, seed {row.seed} has "
                f"{count} of the set-up 'base': give each network and its "
                "base once"
            )
    return joined


def _thesis_size(set_up: str) -> float:
    """MB of a set-up, the same in every table that has it; else NaN."""
    try:
        found = published(THESIS, quantity="model size", set_up=set_up)
    except PublishedError:
        return math.nan
    return float(found["value"].iloc[0])


def pareto(frame: pd.DataFrame, cost: str, score: str) -> pd.Series:
    """Lines that no other beats: bool, with the index of ``frame``.

    A line is beaten by one that costs no more and scores no less, and is
    better in one of the two: equal lines do not beat each other. Lines
    with a missing value are False.

    Raises ScoreError for a missing column. Introduced in chapter 4.
    """
    require_columns(frame, [cost, score])
    costs, scores = (frame[c].to_numpy(np.float64) for c in (cost, score))
    no_worse = (costs[:, None] <= costs) & (scores[:, None] >= scores)
    better = (costs[:, None] < costs) | (scores[:, None] > scores)
    beaten = (no_worse & better).any(axis=0)
    known = np.isfinite(costs) & np.isfinite(scores)
    return pd.Series(known & ~beaten, index=frame.index)
