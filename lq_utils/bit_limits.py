"""The bit limit: how few bits cost at most a point of accuracy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from lq_utils.method_comparison import unpack_hits
from lq_utils.stats import StatsError, mean_interval, wilson

TOLERANCE = 1.0  # points
SCHEME = ["quantizer", "granularity", "scale", "correction"]
FLOAT = 32


def _hits(row: pd.Series) -> np.ndarray:
    return unpack_hits(row["hits"], int(row["n"])).astype(np.float64)


def drops(rows: pd.DataFrame, originals: pd.DataFrame) -> pd.DataFrame:
    """Accuracy and what is lost by rounding, paired image by image.

    ``rows`` are those of ``scheme_rows``, ``originals`` the same of the
    networks in full precision, on the same images. Columns: those of
    ``rows`` without answers and hits, accuracy, low, high (%, Wilson),
    drop, drop_low, drop_high (points; Student over images).

    Raises StatsError where a row has no original of the same images.
    Introduced in chapter 7.
    """
    known = {
        (row["network"], row["part"], row["subset"]): _hits(row)
        for _, row in originals.iterrows()
    }
    found = []
    for _, row in rows.iterrows():
        right = _hits(row)
        before = known.get((row["network"], row["part"], row["subset"]))
        if before is None or len(before) != len(right):
            raise StatsError(
                f"no original of {row['network']} on the {row['part']} "
                f"images of {row['subset']!r}: judge the network itself, too"
            )
        lost, share = (
            mean_interval(before - right),
            wilson(int(right.sum()), len(right)),
        )
        found.append(
            {
                "accuracy": 100 * share.value,
                "low": 100 * share.low,
                "high": 100 * share.high,
                "drop": 100 * lost.value,
                "drop_low": 100 * lost.low,
                "drop_high": 100 * lost.high,
            }
        )
    kept = rows.drop(columns=["hits", "answers"], errors="ignore")
    return kept.reset_index(drop=True).join(pd.DataFrame(found))


def _first_bits(own: pd.DataFrame, column: str, tolerance: float) -> int:
    """Fewest bits from which on all wider ones stay within tolerance."""
    limit = FLOAT
    for row in own.sort_values("bits", ascending=False).itertuples():
        if not getattr(row, column) <= tolerance:
            break
        limit = int(row.bits)
    return limit


def bit_limits(
    lost: pd.DataFrame,
    by: Sequence[str] = ("network", "subset"),
    tolerance: float = TOLERANCE,
) -> pd.DataFrame:
    """Fewest bits that cost at most ``tolerance`` points.

    ``lost`` comes from ``drops``. All wider ones in the table must stay
    within it as well; 32 where none does. Columns: ``by``, limit (by the
    drop itself), limit_low and limit_high (by the ends of its interval:
    below ``limit_low`` the loss is certain, from ``limit_high`` on it is
    certainly within the tolerance), images.

    Introduced in chapter 7.
    """
    lines = []
    for names, own in lost.groupby(list(by), sort=False):
        line = dict(zip(by, names, strict=True))
        for column, of in (
            ("limit", "drop"),
            ("limit_low", "drop_low"),
            ("limit_high", "drop_high"),
        ):
            line[column] = _first_bits(own, of, tolerance)
        lines.append(line | {"images": int(own["n"].iloc[0])})
    return pd.DataFrame(lines)


def variance_shares(lost: pd.DataFrame, value: str = "drop") -> pd.DataFrame:
    """How much of the drops is the network's, how much the classes'.

    ``lost`` has one row a network and subset (every pair, once). Two-way
    sums of squares without repetition: shares (0 to 1) of ``network``,
    ``subset`` and ``rest``; NaN where nothing varies.

    Raises StatsError for fewer than two networks or subsets, or a missing
    pair. Introduced in chapter 7.
    """
    wide = lost.pivot(index="network", columns="subset", values=value)
    if min(wide.shape) < 2 or wide.isna().to_numpy().any():
        raise StatsError(
            f"{wide.shape[0]} networks and {wide.shape[1]} subsets: give two "
            "of each or more, and every pair"
        )
    table = wide.to_numpy(dtype=np.float64)
    mean = table.mean()
    rows, columns = table.mean(axis=1) - mean, table.mean(axis=0) - mean
    sums = {
        "network": table.shape[1] * float(rows @ rows),
        "subset": table.shape[0] * float(columns @ columns),
    }
    total = float(((table - mean) ** 2).sum())
    sums["rest"] = max(total - sum(sums.values()), 0.0)
    share = [s / total if total else float("nan") for s in sums.values()]
    return pd.DataFrame({"source": list(sums), "share": share})
