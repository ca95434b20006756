"""Short labels beside the marks of a crowded plot, clear of each other."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.transforms import Bbox

from lq_utils.figures import COLORS, INK

RADII = (9, 14, 20, 27, 35)  # points
ANGLES = np.deg2rad(np.arange(45, 405, 30))
MARK = 4.0  # half the width of a mark in points
LEADER_FROM = 12  # farther labels get a line to their mark


def _box(centre: np.ndarray, width: float, height: float) -> Bbox:
    half = np.array([width, height]) / 2
    return Bbox([centre - half, centre + half])


def _overlap(box: Bbox, others: Sequence[Bbox]) -> float:
    shared = (Bbox.intersection(box, other) for other in others)
    return sum(s.width * s.height for s in shared if s is not None)


def place_labels(
    ax: Axes,
    places: Sequence[tuple[float, float]],
    texts: Sequence[str],
    bold: Sequence[bool],
    fontsize: float = 8,
) -> None:
    """Write each text near its place (in data units), where there is room.

    Nearest spot of the axes that covers no other label or mark; if there
    is none, the one that covers least. Call it last: what changes the
    axes' limits or size afterwards moves the marks under the labels.

    Introduced in chapter 4.
    """
    fig = ax.figure
    fig.draw_without_rendering()  # type: ignore[union-attr]
    pixels = fig.dpi / 72
    marks = ax.transData.transform(np.asarray(places, dtype=np.float64))
    size = 2 * MARK * pixels
    taken = [_box(mark, size, size) for mark in marks]
    frame = ax.get_window_extent()
    for place, mark, text, strong in zip(places, marks, texts, bold):
        width = 0.65 * fontsize * len(text) * pixels
        best: tuple[float, np.ndarray, Bbox] | None = None
        for radius, angle in product(RADII, ANGLES):
            shift = radius * np.array([np.cos(angle), np.sin(angle)])
            box = _box(mark + shift * pixels, width, fontsize * pixels)
            inside = _overlap(box, [frame])
            cost = _overlap(box, taken) + box.width * box.height - inside
            if best is None or cost < best[0] - 1e-6:
                best = cost, shift, box
            if cost < 1e-6:
                break
        assert best is not None
        _write(ax, text, place, best[1], strong, fontsize)
        taken.append(best[2])


def _write(
    ax: Axes,
    text: str,
    place: tuple[float, float],
    shift: np.ndarray,
    strong: bool,
    fontsize: float,
) -> None:
    far = np.hypot(*shift) >= LEADER_FROM
    # Arrows of annotations do not follow the ink of the page.
    line: dict[str, Any] = {"arrowstyle": "-", "color": COLORS["grey"]}
    line |= {"lw": 0.7, "shrinkA": 0, "shrinkB": 2}
    note = ax.annotate(
        text,
        place,
        xytext=tuple(shift),
        textcoords="offset points",
        ha="center",
        va="center",
        fontsize=fontsize,
        color=INK,
        weight="bold" if strong else "normal",
        arrowprops=line if far else None,
    )
    note.set_in_layout(False)  # or the axes would shrink to make room
