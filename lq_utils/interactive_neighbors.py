"""Steps of the interactive figure on two nearest neighbours."""

from __future__ import annotations

import numpy as np
import pandas as pd

from lq_utils.interactive_pieces import Axis, InteractiveError, Layer, Steps

FEWEST = 20  # points that TwoNN needs
_NEAR = 3.8, 3.0  # half width and height of the view around a point


def two_neighbors(points: np.ndarray) -> pd.DataFrame:
    """The two nearest neighbours of every point and their distances.

    ``points [N, D]``, all different. Columns: ``first`` and ``second``
    (rows of the neighbours), ``r1``, ``r2`` and ``ratio``.

    Introduced in chapter 5.
    """
    apart = np.linalg.norm(points[:, None] - points[None], axis=2)
    np.fill_diagonal(apart, np.inf)
    near = apart.argsort(axis=1)[:, :2]
    rows = np.arange(len(points))[:, None]
    r1, r2 = apart[rows, near].T
    return pd.DataFrame(
        {"first": near[:, 0], "second": near[:, 1], "r1": r1, "r2": r2}
    ).assign(ratio=r2 / r1)


def regression_points(
    ratios: np.ndarray, discard: float = 0.1
) -> tuple[np.ndarray, np.ndarray, float]:
    """Sorted ``log mu``, ``-log(1 - i/N)`` and the slope through zero.

    ``ratios`` float64 ``[N]``, two or more; the largest share ``discard``
    is left out of the result, ``N`` counts it.

    Source: Facco et al. 2017, section 2. Introduced in chapter 5.
    """
    kept = int((1 - discard) * len(ratios))
    logs = np.sort(np.log(ratios))[:kept]
    share = -np.log(1 - np.arange(1, kept + 1) / len(ratios))
    return logs, share, float(logs @ share / (logs @ logs))


def two_neighbor_steps(
    points: np.ndarray, singly: int = 30, jumps: int = 6
) -> Steps:
    """TwoNN on points of a plane: point by point, then many at a time.

    Args:
        points: ``[N, D]``; drawn by their two leading principal
            components, which lose nothing if they lie in a plane.
        singly: how many points are added one by one, from the second.
        jumps: further steps up to all points.

    Raises:
        InteractiveError: fewer than 20 points, or than ``singly``.

    Introduced in chapter 5.
    """
    if len(points) < max(FEWEST, singly):
        raise InteractiveError(
            f"{len(points)} points: give at least {max(FEWEST, singly)}"
        )
    centred = points - points.mean(axis=0)
    plane = centred @ np.linalg.svd(centred, full_matrices=False)[2][:2].T
    found = two_neighbors(points)
    later = np.linspace(singly, len(points), jumps + 1).astype(int)[1:]
    counts = [*range(2, singly + 1), *later.tolist()]
    x, y = plane.T
    layers = [Layer("dots", x, y, "grey", "points", faint=True)]
    rows = []
    for step, count in enumerate(counts):
        ratios = found["ratio"].to_numpy()[:count]
        logs, share, slope = regression_points(ratios)
        x, y = plane[[count - 1]].T
        layers.append(Layer("dots", x, y, "ink", "this point", step))
        layers += _around(plane, found, count - 1, step)
        layers += _fit(logs, share, slope, step)
        last = found.iloc[count - 1]
        rows.append((count, last["r1"], last["r2"], last["ratio"], slope))
    names = ["points", "r1", "r2", "ratio", "dimension"]
    table = pd.DataFrame(rows, columns=names)
    words = [_words(row) for row in table.to_dict("records")]
    labels = table["points"].astype(str)
    axes = [
        (Axis("first coordinate"), Axis("second coordinate")),
        (
            Axis("around this point", limits=(-_NEAR[0], _NEAR[0])),
            Axis("in mean distances r₂", limits=(-_NEAR[1], _NEAR[1])),
        ),
        (Axis("log μ", zero=True), Axis("−log(1 − i/N)", zero=True)),
    ]
    frames = pd.DataFrame({"label": labels, "words": words})
    return Steps("Points used", frames, axes, layers, table)


def _around(
    plane: np.ndarray, found: pd.DataFrame, point: int, step: int
) -> list[Layer]:
    """What is near a point, in mean distances to the second neighbour."""
    away = (plane - plane[point]) / found["r2"].mean()
    seen = away[(np.abs(away) <= _NEAR).all(axis=1)]
    layers = [Layer("dots", seen[:, 0], seen[:, 1], "grey", "", step, 1)]
    first, second = found.loc[point, ["first", "second"]].astype(int)
    looks = ((first, "blue", "nearest"), (second, "vermilion", "second"))
    for end, tone, name in looks:
        x, y = away[[point, end]].T
        look = (tone, f"{name} neighbour", step, 1)
        # The far neighbour of a point at the border may be out of view.
        if (np.abs(away[end]) <= _NEAR).all():
            layers.append(Layer("line", x, y, *look))
    return [*layers, Layer("dots", [0.0], [0.0], "ink", "", step, 1)]


def _fit(
    logs: np.ndarray, share: np.ndarray, slope: float, step: int
) -> list[Layer]:
    end = min(logs[-1], share[-1] / slope)
    line = np.array([0.0, end])
    return [
        Layer("dots", logs, share, "green", "ratios", step, 2, shape=1),
        Layer("line", line, slope * line, "ink", "fitted line", step, 2),
    ]


def _words(row: dict[str, float]) -> str:
    return (
        f"{row['points']:.0f} points used. The last of them has its nearest "
        f"neighbour at {row['r1']:.4f} and its second at {row['r2']:.4f}, "
        f"the ratio μ is {row['ratio']:.3f}. The line through all ratios so "
        f"far has the slope {row['dimension']:.2f}, the estimated dimension."
    )
