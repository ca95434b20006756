"""Linear dimension: how many principal components hold most variance.

``view="channels"`` takes channels as variables and every position of every
image as an observation, as Chakraborty et al. 2020 do; its counts cannot
exceed the number of channels. ``view="flattened"`` takes all outputs of an
image as one observation, which is what TwoNN looks at.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from lq_utils.nearest import DimensionError

PART = 2**22  # values that are centred in float64 at a time
SLACK = 1e-12  # of a share, for rounding


def _table(values: np.ndarray, view: str) -> np.ndarray:
    """Observations in rows, variables in columns."""
    values = np.asarray(values)
    if values.ndim not in (2, 4) or not values.size or len(values) < 2:
        raise DimensionError(
            f"layer outputs of shape {values.shape}: give [N, C, H, W] or "
            "[N, D] with at least two images"
        )
    if view not in ("channels", "flattened"):
        raise DimensionError(f"view={view!r}: give 'channels' or 'flattened'")
    if not np.isfinite(values.sum(dtype=np.float64)):
        raise DimensionError(
            "layer outputs hold NaN or infinite values: look for the "
            "overflow that made them"
        )
    if values.ndim == 4 and view == "channels":
        return np.moveaxis(values, 1, 3).reshape(-1, values.shape[1])
    return values.reshape(len(values), -1)


def _centred(table: np.ndarray) -> Iterator[np.ndarray]:
    """Some columns at a time, float64, with mean 0."""
    step = max(1, PART // len(table))
    for start in range(0, table.shape[1], step):
        part = table[:, start : start + step].astype(np.float64)
        # The first row goes first: a constant column becomes exactly 0.
        part -= part[0].copy()
        part -= part.mean(axis=0)
        yield part


def _variances(values: np.ndarray, view: str) -> np.ndarray:
    """Sums of squares along the principal axes, descending, float64."""
    table = _table(values, view)
    observations, variables = table.shape
    if observations <= variables:
        gram = np.zeros((observations, observations))
        for part in _centred(table):
            gram += part @ part.T
    else:
        gram = _scatter(table)
    most = min(observations - 1, variables)
    found = np.linalg.eigvalsh(gram)[::-1][:most]
    return np.maximum(found, 0.0)


def _scatter(table: np.ndarray) -> np.ndarray:
    """Centred sums of products of the columns, ``[columns, columns]``."""
    first = table[0].astype(np.float64)
    step = max(1, PART // table.shape[1])
    parts = [table[i : i + step] for i in range(0, len(table), step)]
    # As above: a constant column becomes exactly 0.
    mean = sum((part - first).sum(axis=0) for part in parts) / len(table)
    total = np.zeros((len(first), len(first)))
    for part in parts:
        centred = part - first - mean
        total += centred.T @ centred
    return total


def explained_variance(
    values: np.ndarray, view: str = "channels"
) -> np.ndarray:
    """Share of the variance that the first k components hold, for all k.

    Args:
        values: layer outputs ``[N, C, H, W]`` or ``[N, D]``, N >= 2.
        view: ``"channels"`` or ``"flattened"``; the same for ``[N, D]``.

    Returns:
        Float64, ascending, the last one 1. Its length is the number of
        variables, at most the number of observations minus one.

    Raises:
        DimensionError: NaN or infinite values, fewer than two images,
            another shape or view, or outputs that are the same for all.

    Source: Chakraborty et al. 2020, section 3. Introduced in chapter 5.
    """
    variances = _variances(values, view)
    total = np.cumsum(variances)
    if not total[-1] > 0:
        raise DimensionError(
            "the layer's outputs do not vary: it is dead, or all images are "
            "the same; component_counts reports 0 components for it"
        )
    return total / total[-1]


def component_counts(
    values: np.ndarray,
    shares: Sequence[float] = (0.95, 0.99),
    view: str = "channels",
) -> dict[float, int]:
    """Fewest principal components that hold a share of the variance.

    Args:
        values: layer outputs ``[N, C, H, W]`` or ``[N, D]``, N >= 2.
        shares: of the variance, above 0 and below 1.
        view: ``"channels"`` or ``"flattened"``.

    Returns:
        The count for each share, from 1; 0 for outputs that do not vary.

    Raises:
        DimensionError: a share out of range, or values that
            ``explained_variance`` refuses for another reason.

    Source: Chakraborty et al. 2020, section 3; thesis, section 2.6.1.
    Introduced in chapter 5.
    """
    for share in shares:
        if not 0 < share < 1:
            raise DimensionError(
                f"share {share}: give shares above 0 and below 1"
            )
    total = np.cumsum(_variances(values, view))
    if not total[-1] > 0:
        return dict.fromkeys(shares, 0)
    held = total / total[-1] + SLACK
    return {s: int(np.searchsorted(held, s)) + 1 for s in shares}
