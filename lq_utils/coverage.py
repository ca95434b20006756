"""Axes for sweeps over subsets: even targets, summaries, a second axis.

A sweep needs subsets that cover the distance axis evenly, a table of
what they are, and a measure of how far a subset is from the full set.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from lq_utils.gaussian import Gaussians, symmetric_kl
from lq_utils.subsets import Subset, SubsetError, generate


def coverage_targets(
    matrix: np.ndarray, count: int, size: int, seed: int
) -> np.ndarray:
    """``count`` medians, evenly spaced in the logarithm: float64 ``[count]``.

    They run from the lowest to the highest median that the swap search
    reaches for subsets of ``size`` out of ``matrix [C, C]``.

    Raises SubsetError for a count below 2 or a lowest median of 0, which
    has no logarithm.

    Introduced in chapter 2.
    """
    if count < 2:
        raise SubsetError(f"{count} target(s) span no range: take 2 or more")
    low = generate("target-median", matrix, size, seed, target=0.0).median
    top = float(np.max(matrix))
    high = generate("target-median", matrix, size, seed, target=top).median
    if not 0 < low:
        raise SubsetError(
            "the lowest median is 0 (classes without distance): no even "
            "logarithmic spacing exists; use larger subsets"
        )
    return np.geomspace(low, high, count)


def evenness(values: Sequence[float] | np.ndarray) -> float:
    """Largest gap between neighbours in the logarithm, 1 = even.

    The largest gap as a multiple of the gap that an even cover of the
    same range would have; ``values`` are positive, three or more.

    Raises SubsetError for fewer than three values, or equal ones.

    Introduced in chapter 2.
    """
    logs = np.sort(np.log(np.asarray(values, dtype=np.float64)))
    if len(logs) < 3 or not np.isfinite(logs).all() or logs[0] == logs[-1]:
        raise SubsetError(
            "evenness needs three or more positive values that differ"
        )
    return float(np.diff(logs).max() * (len(logs) - 1) / (logs[-1] - logs[0]))


def subset_table(
    subsets: Iterable[Subset], class_names: Sequence[str]
) -> pd.DataFrame:
    """One row a subset: kind, seed, median, mean, low, high, classes.

    Introduced in chapter 2.
    """
    return pd.DataFrame(
        {
            "kind": s.kind,
            "seed": s.seed,
            "median": s.median,
            "mean": float(s.distances.mean()),
            "low": float(s.distances.min()),
            "high": float(s.distances.max()),
            "classes": ", ".join(s.names(class_names)),
        }
        for s in subsets
    )


def pooled_moments(
    g: Gaussians, classes: Sequence[int]
) -> tuple[np.ndarray, np.ndarray]:
    """Mean ``[d]`` and covariance ``[d, d]`` of the classes together.

    Each class weighs the same: the mean covariance within classes plus
    the covariance of the class means.

    Introduced in chapter 2.
    """
    chosen = np.asarray(classes)
    mean = g.means[chosen].mean(axis=0)
    steps = g.means[chosen] - mean
    within = g.covariances[chosen].mean(axis=0)
    return mean, within + steps.T @ steps / len(chosen)


def distance_to_full(g: Gaussians, classes: Sequence[int]) -> float:
    """How far a subset's data is from all classes' data, in nats.

    Symmetric KL between two Gaussians: one with the pooled mean and
    covariance of ``classes``, one with those of all classes of ``g``.

    Raises SubsetError for no classes.

    Introduced in chapter 2.
    """
    if not len(classes):
        raise SubsetError("an empty subset has no distance from the full set")
    parts = [pooled_moments(g, c) for c in (classes, range(len(g)))]
    means, covariances = (np.stack(values) for values in zip(*parts))
    pair = Gaussians(means, covariances, np.array([2, 2]))
    return float(symmetric_kl(pair)[0, 1])
