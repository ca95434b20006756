"""Biased inference: does a rounded network prefer some classes?"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

from lq_utils.data_free_study import unpack_answers

DRAWS = 2000
BATCH = 200  # draws at a time


class BiasError(ValueError):
    """Answers cannot be compared.

    Introduced in chapter 7.
    """


class Histograms(NamedTuple):
    """A chi-square statistic, how many answers changed, and p.

    Introduced in chapter 7.
    """

    statistic: float
    changed: int
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
    first: np.ndarray,
    second: np.ndarray,
    classes: int,
    draws: int = DRAWS,
    seed: int = 0,
) -> Histograms:
    """Test whether two networks answer each class equally often.

    ``first`` and ``second`` are predicted classes int ``[n]`` for the same
    images. The statistic is the chi-square of two histograms, the sum of
    (a - b)^2 / (a + b). Its law is not the usual one, as the answers are
    paired, and classes may have few: ``p`` is the share of ``draws``, this
    one included, in which the two answers to an image, swapped or not by
    chance, give as large a statistic.

    Raises BiasError for answers that do not fit.

    Source: Maxwell 1970 for paired answers; the p is that of a permutation
    test. Introduced in chapter 7.
    """
    a, b = _checked(first, second, classes)
    moved = a != b
    if not moved.any():
        return Histograms(0.0, 0, 1.0)
    a, b = a[moved], b[moved]
    change = np.zeros((len(a), classes), dtype=np.float32)
    rows = np.arange(len(a))
    change[rows, a], change[rows, b] = 1.0, -1.0
    together = np.bincount(np.concatenate([first, second]), minlength=classes)
    weight = 1.0 / np.maximum(together, 1)
    found = float(change.sum(axis=0) ** 2 @ weight)
    rng, reached = np.random.default_rng(seed), 1
    for start in range(0, draws - 1, BATCH):
        count = min(BATCH, draws - 1 - start)
        signs = 2.0 * rng.integers(0, 2, (count, len(a))) - 1
        values = (signs.astype(np.float32) @ change) ** 2 @ weight
        # Sums of the same terms in another order differ in the last digits.
        reached += int((values >= found * (1 - 1e-6)).sum())
    return Histograms(found, len(a), reached / draws)


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
    after, changed (share of images with another answer), chi-square, p.

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
                "p": found.p,
            }
        )
    return pd.DataFrame(lines)
