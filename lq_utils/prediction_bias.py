"""Biased inference: does a rounded network prefer some classes?"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from lq_utils.data_free_study import unpack_answers


class BiasError(ValueError):
    """Answers cannot be compared."""


class ChiSquare(NamedTuple):
    """A chi-square statistic, its degrees of freedom, and p.

    Introduced in chapter 7.
    """

    statistic: float
    freedom: int
    p: float


def _checked(
    first: np.ndarray, second: np.ndarray, classes: int
) -> tuple[np.ndarray, np.ndarray]:
    a, b = np.asarray(first), np.asarray(second)
    if a.shape != b.shape or a.ndim != 1 or not len(a):
        raise BiasError(
            f"{a.shape} and {b.shape} answers: give those of two networks to "
            "the same images"
        )
    if min(a.min(), b.min()) < 0 or max(a.max(), b.max()) >= classes:
        raise BiasError(f"answers must lie in 0..{classes - 1}")
    return a, b


def same_histogram(
    first: np.ndarray, second: np.ndarray, classes: int
) -> ChiSquare:
    """Test whether two networks answer each class equally often.

    ``first`` and ``second`` are predicted classes int ``[n]`` for the same
    images. Stuart and Maxwell's chi-square, which knows that they are the
    same: counts of independent samples would vary more. Classes on which
    no answer changed tell nothing and take no degree of freedom.

    Raises BiasError for answers that do not fit.

    Source: Stuart 1955; Maxwell 1970. Introduced in chapter 7.
    """
    a, b = _checked(first, second, classes)
    joint = np.zeros((classes, classes))
    np.add.at(joint, (a, b), 1.0)
    rows, columns = joint.sum(axis=1), joint.sum(axis=0)
    covariance = np.diag(rows + columns) - joint - joint.T
    difference = rows - columns
    freedom = int(np.linalg.matrix_rank(covariance))
    if not freedom:
        return ChiSquare(0.0, 0, 1.0)
    inverse = np.linalg.pinv(covariance, hermitian=True)
    statistic = float(difference @ inverse @ difference)
    return ChiSquare(
        statistic, freedom, float(stats.chi2.sf(statistic, freedom))
    )


def answer_counts(answers: np.ndarray, classes: int) -> np.ndarray:
    """How often each class is predicted: int64 ``[classes]``.

    Introduced in chapter 7.
    """
    return np.bincount(answers, minlength=classes)


def effective_classes(counts: np.ndarray) -> float:
    """Exponential of the histogram's entropy: C for even answers, 1 if
    there is only one. Introduced in chapter 7.
    """
    share = counts[counts > 0] / counts.sum()
    return float(np.exp(-(share * np.log(share)).sum()))


def bias_table(rows: pd.DataFrame, originals: pd.DataFrame) -> pd.DataFrame:
    """How unevenly each network answers, against its original.

    Rows on all classes, as ``scheme_rows`` has them. Columns: network,
    bits, quantizer, granularity, scale, correction, largest (share of the
    most frequent answer, 0 to 1), classes answered in effect, before and
    after, changed (share of images with another answer), chi-square,
    freedom, p.

    Introduced in chapter 7.
    """
    known = {
        row["network"]: (unpack_answers(row["answers"]), int(row["classes"]))
        for _, row in originals.iterrows()
    }
    keys = ["network", "bits", "quantizer", "granularity", "scale"]
    lines = []
    for _, row in rows.iterrows():
        before, classes = known[row["network"]]
        after = unpack_answers(row["answers"])
        counts = answer_counts(after, classes)
        found = same_histogram(before, after, classes)
        lines.append(
            {name: row[name] for name in [*keys, "correction"]}
            | {
                "largest": float(counts.max() / counts.sum()),
                "effective before": effective_classes(
                    answer_counts(before, classes)
                ),
                "effective": effective_classes(counts),
                "changed": float((before != after).mean()),
                "chi-square": found.statistic,
                "freedom": found.freedom,
                "p": found.p,
            }
        )
    return pd.DataFrame(lines)
