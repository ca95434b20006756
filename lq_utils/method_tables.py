"""What the rows of a method comparison say: accuracies and differences."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import pandas as pd

from lq_utils.method_comparison import unpack_hits
from lq_utils.stats import Interval, holm, mean_interval, paired, wilson

SETTING = ["bits", "granularity", "scale", "calibration", "protocol"]
PAIR = ["first", "second", "difference", "low", "high", "p", "agree"]
SIGNIFICANT = 0.05


def accuracy_interval(correct: Sequence[int], n: int) -> Interval:
    """Accuracy (0 to 1) of one method, from one draw or several.

    ``correct[i]`` of ``n`` images are right after calibration draw i. One
    draw: Wilson's interval, over images. Several: Student's, over draws.

    Introduced in chapter 8.
    """
    if len(correct) == 1:
        return wilson(int(correct[0]), n)
    return mean_interval(np.asarray(correct, dtype=np.float64) / n)


def accuracies(rows: pd.DataFrame) -> pd.DataFrame:
    """One row a method and setting, in points, with its interval.

    ``rows`` are those of a sweep over ``compare_cell``. Columns: method,
    the setting, accuracy, low, high (0 to 100), n (images), draws, and
    means over draws of seconds, file_bytes and layer_error.

    Introduced in chapter 8.
    """
    found = []
    groups = rows.groupby(["method", *SETTING], sort=False)
    for names, own in groups:
        n = int(own["n"].iloc[0])
        interval = accuracy_interval(own["correct"].tolist(), n)
        means = own[["seconds", "file_bytes", "layer_error"]].mean()
        found.append(
            dict(zip(["method", *SETTING], names))
            | {
                "accuracy": 100 * interval.value,
                "low": 100 * interval.low,
                "high": 100 * interval.high,
                "n": n,
                "draws": len(own),
            }
            | means.to_dict()
        )
    return pd.DataFrame(found)


def hits_by_draw(own: pd.DataFrame) -> np.ndarray:
    """Float64 ``[draws, n]``: 1 where an image was right; by draw.

    ``own`` are the rows of one method and setting. Introduced in
    chapter 8.
    """
    ordered = own.sort_values("draw")
    return np.array(
        [unpack_hits(h, n) for h, n in zip(ordered["hits"], ordered["n"])],
        dtype=np.float64,
    )


def differences(rows: pd.DataFrame, of: str = "method") -> pd.DataFrame:
    """Every two methods in every setting, paired image by image.

    ``of`` is the column whose values are compared; all others make up the
    setting. An image counts with its mean over the calibration draws.
    Columns: the setting, first, second, difference (first minus second,
    points), low, high, p (Wilcoxon's, adjusted after Holm for all rows),
    and agree, the share of draws whose own difference has that sign.
    Without two values to compare the table is empty.

    Introduced in chapter 8.
    """
    keys = [name for name in ["method", *SETTING] if name != of]
    found = []
    for names, setting in rows.groupby(keys, sort=False):
        right = {
            str(value): hits_by_draw(own)
            for value, own in setting.groupby(of, sort=False)
        }
        for first, second in combinations(right, 2):
            a, b = right[first], right[second]
            result = paired(a.mean(axis=0), b.mean(axis=0))
            signs = np.sign((a - b).mean(axis=1))
            found.append(
                dict(zip(keys, names))
                | {
                    "first": first,
                    "second": second,
                    "difference": 100 * result.difference,
                    "low": 100 * result.low,
                    "high": 100 * result.high,
                    "p": result.p_wilcoxon,
                    "agree": float(np.mean(signs == np.sign(result.value))),
                }
            )
    table = pd.DataFrame(found, columns=[*keys, *PAIR])
    if len(table):
        table["p"] = holm(table["p"].to_numpy())
    return table


def drops(rows: pd.DataFrame, original: str) -> pd.DataFrame:
    """What every method loses in every setting, paired image by image.

    ``rows`` are of one protocol, all on the same images; ``original`` are
    the hits of the original network on them (``pack_hits``). Columns:
    method, the setting, drop, low, high (points, over images).

    Introduced in chapter 8.
    """
    keys = ["method", *SETTING]
    found = []
    for names, own in rows.groupby(keys, sort=False):
        right = hits_by_draw(own).mean(axis=0)
        lost = paired(unpack_hits(original, len(right)), right)
        ends = (100 * lost.difference, 100 * lost.low, 100 * lost.high)
        found.append([*names, *ends])
    return pd.DataFrame(found, columns=[*keys, "drop", "low", "high"])


def winners(means: pd.DataFrame, pairs: pd.DataFrame) -> pd.DataFrame:
    """Who wins each setting, and who cannot be told from the winner.

    ``means`` come from ``accuracies``, ``pairs`` from ``differences``.
    Columns: the setting, best, accuracy, and level (methods whose
    difference to the best has p of 0.05 or more).

    Introduced in chapter 8.
    """
    found = []
    for names, own in means.groupby(SETTING, sort=False):
        top = own.loc[own["accuracy"].idxmax()]
        here = pairs[(pairs[SETTING] == list(names)).all(axis=1)]
        close = here[here["p"] >= SIGNIFICANT]
        best = top["method"]
        level = [
            second if first == best else first
            for first, second in zip(close["first"], close["second"])
            if best in (first, second)
        ]
        found.append(
            dict(zip(SETTING, names))
            | {
                "best": best,
                "accuracy": top["accuracy"],
                "level": ", ".join(level) or "none",
            }
        )
    return pd.DataFrame(found)
