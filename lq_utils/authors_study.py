"""The authors' own study of subsets, from their logs, and ours like it.

Only summaries of their logs are kept in ``data/published/``; see
``lq_utils.published``.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from lq_utils.intervals import StatsError
from lq_utils.published import published
from lq_utils.relations import correlation


def authors_means(bits: int, statistic: str = "mean") -> pd.DataFrame:
    """The authors' ResNet-50: mean accuracy in per cent, by stage.

    Columns ``stage``, ``protocol``, ``authors``; empty for bits that
    they did not try. Derived from their published logs of ten-class
    subsets of CIFAR-100.

    Introduced in chapter 3.
    """
    rows = published(
        "label_aware_derived", "ResNet-50 log", quantity="accuracy"
    )
    wanted = {"bits": f"{bits} bit", "statistic": statistic}
    lines = [
        {"stage": k["stage"], "protocol": k["protocol"], "authors": value}
        for k, value in zip(rows["keys"], rows["value"])
        if wanted.items() <= k.items()
    ]
    return pd.DataFrame(lines, columns=["stage", "protocol", "authors"])


def authors_correlations(bits: Sequence[int]) -> pd.DataFrame:
    """The authors' correlations with the logarithm of the median KL.

    Pearson's, over their subsets; columns ``bits``, ``with``, ``authors``.
    Empty for bits that they did not try. Introduced in chapter 3.
    """
    rows = published(
        "label_aware_derived", "ResNet-50 log", quantity="correlation"
    )
    wanted = {f"{b} bit": b for b in bits}
    lines = [
        {"bits": wanted[k["bits"]], "with": k["with"], "authors": value}
        for k, value in zip(rows["keys"], rows["value"])
        if k["bits"] in wanted
    ]
    return pd.DataFrame(lines, columns=["bits", "with", "authors"])


def pearson_with_median(curve: pd.DataFrame) -> pd.DataFrame:
    """The same correlations as the authors', for subsets of one's own.

    ``curve`` has one row a subset and number of ``bits``. Columns
    ``bits``, ``with``, ``here``; what does not vary is left out.

    Introduced in chapter 3.
    """
    columns = {
        "original accuracy, All": "original_all",
        "original accuracy, Sub": "original_sub",
        "quantized accuracy, Sub": "subset_logits",
        "accuracy loss, Sub": "drop_sub",
    }
    lines = []
    for bits, part in curve.groupby("bits", sort=False):
        for name, column in columns.items():
            try:
                r = correlation(
                    np.log(part["median"]), part[column], "pearson"
                )
            except StatsError:
                continue
            lines.append({"bits": bits, "with": name, "here": r.value})
    return pd.DataFrame(lines, columns=["bits", "with", "here"])
