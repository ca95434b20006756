"""Tables of the label-aware study: gains, stages, relations, verdicts.

Rows are those of ``label_aware``: one a network and subset that it was
tested on.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from lq_utils.authors_study import authors_means
from lq_utils.intervals import Interval
from lq_utils.label_aware import Classes, subset_key
from lq_utils.results import Run
from lq_utils.stats import StatsError, correlation, holm, paired
from lq_utils.study import PROTOCOLS, relation, summary

AXES = ("median", "full")


def own_gains(rows: pd.DataFrame, bits: Sequence[int]) -> pd.DataFrame:
    """What a subset's own calibration gains over each other one.

    ``rows`` of one method, with ``bits``, ``subset``, ``calibration``,
    ``all_logits`` and ``subset_logits`` (0 to 1); draws are averaged. A
    line for each protocol, number of bits and other calibration that
    shares a subset with "own": ``protocol``, ``bits``, ``other``, ``gain``
    (a ``stats.Paired`` over subsets, in points) and ``p`` (sign flips,
    adjusted after Holm for all lines).

    Introduced in chapter 3.
    """
    lines = []
    for score, protocol in PROTOCOLS.items():
        scores = rows.pivot_table(score, ["bits", "subset"], "calibration")
        for b in bits:
            for other in (c for c in scores if c != "own"):
                pair = 100 * scores.loc[b][["own", other]].dropna()
                if len(pair):
                    gain = paired(pair["own"], pair[other])
                    lines.append((protocol, b, other, gain))
    gains = pd.DataFrame(lines, columns=["protocol", "bits", "other", "gain"])
    if len(gains):
        gains["p"] = holm([gain.p_permutation for gain in gains["gain"]])
    return gains


def stage_summary(
    originals: pd.DataFrame,
    quantized: pd.DataFrame,
    tuned: pd.DataFrame,
    subsets: Sequence[Classes],
    bits: Sequence[int],
) -> pd.DataFrame:
    """Four stages of a network beside the authors', over some subsets.

    ``originals``, ``quantized`` and ``tuned`` are rows of
    ``original_rows``, ``quantized_rows`` and ``fine_tuned_rows``; stages
    that have no bits are repeated for each of ``bits``. Columns: those of
    ``study.summary`` by ``quantized_bits``, ``levels`` and ``stage``, and
    ``authors`` (per cent, NaN where they have none).

    Introduced in chapter 3.
    """
    every = pd.DataFrame({"quantized_bits": list(bits)})
    plain = tuned["quantized_bits"].isna()
    floats = tuned[plain].drop(columns="quantized_bits")
    stages = pd.concat(
        [
            originals.merge(every, how="cross"),
            quantized.assign(quantized_bits=quantized["bits"]),
            floats.merge(every, how="cross"),
            tuned[~plain],
        ]
    )
    keys = {subset_key(classes) for classes in subsets}
    stages = stages[stages["subset"].isin(keys)]
    stages = stages.astype({"quantized_bits": int})
    stages["levels"] = 2 ** stages["quantized_bits"] + 1
    found = summary(stages, ["quantized_bits", "levels", "stage"])
    theirs = [authors_means(b).assign(quantized_bits=b) for b in bits]
    on = ["quantized_bits", "stage", "protocol"]
    found = found.merge(pd.concat(theirs), how="left", on=on)
    found = found.sort_values("quantized_bits", kind="stable")
    return found.reset_index(drop=True)


def relation_table(curve: pd.DataFrame) -> pd.DataFrame:
    """How the drop under Sub follows both distances, by method and bits.

    ``curve`` has one row a subset, ``name`` and ``bits``, with the axes
    ``median`` and ``full`` (nats), ``drop_sub`` (points) and
    ``original_sub``, which the partial correlation holds fixed. Columns:
    ``name``, ``bits``, and those of ``study.relation``.

    Introduced in chapter 3.
    """
    lines = []
    for (name, bits), part in curve.groupby(["name", "bits"], sort=False):
        for axis in AXES:
            found = relation(part, axis, "drop_sub", "original_sub")
            lines.append({"name": name, "bits": bits} | found)
    return pd.DataFrame(lines)


def record_accuracy_links(run: Run, curve: pd.DataFrame) -> None:
    """How accuracy itself follows the median distance, before and after.

    Spearman's correlation over subsets as rows ``accuracy_link``, for the
    stages "original" and "quantized" under Sub; what does not exist, for too
    few subsets or values that do not vary, is left out. ``curve`` is that of
    ``relation_table``, with ``subset_logits``.

    Introduced in chapter 3.
    """
    stages = {"original": "original_sub", "quantized": "subset_logits"}
    for (name, bits), part in curve.groupby(["name", "bits"], sort=False):
        for stage, score in stages.items():
            try:
                link = correlation(np.log(part["median"]), part[score])
            except StatsError:
                continue
            keys = {"name": name, "bits": int(bits), "stage": stage}
            run.record(
                "accuracy_link", link.value, n=link.n, ci=link.ci, **keys
            )


def sign_verdict(interval: Interval, sign: int = 1) -> str:
    """What an interval says about a claimed sign (1 or -1).

    Introduced in chapter 3.
    """
    if interval.ci is None:
        return "cannot be told from so few subsets"
    low, high = sorted(sign * end for end in interval.ci)
    if low > 0:
        return "holds"
    return "does not hold" if high < 0 else "not shown by these subsets"
