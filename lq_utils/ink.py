"""The ink of the figures, on light pages and on dark ones."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.colors import is_color_like, to_rgba
from matplotlib.figure import Figure
from matplotlib.text import Text

INK = "#24292F"
INK_DARK = "#E6EDF3"
FAINT = "#C9CED4"
FAINT_DARK = "#4A525C"
_SWAPS = ((INK, INK_DARK), (FAINT, FAINT_DARK))
_COLOR_PROPERTIES = (
    "color",
    "facecolor",
    "edgecolor",
    "markerfacecolor",
    "markeredgecolor",
)


@contextmanager
def dark_ink(fig: Figure) -> Iterator[None]:
    """Recolour everything drawn in the light page's ink; for one drawing.

    Introduced in chapter 1.
    """
    for artist in fig.findobj():
        for name in _COLOR_PROPERTIES:
            get = getattr(artist, f"get_{name}", None)
            put = getattr(artist, f"set_{name}", None)
            if get and put:
                # Black text may stand on a coloured cell: leave it.
                thin = name != "facecolor" and not isinstance(artist, Text)
                new = _swapped(get(), thin)
                if new is not None:
                    put(new)
    keys = [k for k, v in mpl.rcParams.items() if v == INK]
    # New ticks made while drawing take their colour from the defaults.
    with mpl.rc_context(dict.fromkeys(keys, INK_DARK)):
        yield


def _swapped(color: Any, thin: bool) -> Any:
    """Colours for the dark page, None where nothing changes.

    Args:
        color: one colour or several, as matplotlib's getters return them.
        thin: a line, so that any dark grey is ink too (seaborn's boxes).
    """
    if not isinstance(color, str) and len(np.shape(color)) != 1:
        several = [_swapped(one, thin) for one in color]
        if all(new is None for new in several):
            return None
        return [o if n is None else n for n, o in zip(several, color)]
    if not is_color_like(color):
        return None
    red, green, blue, alpha = to_rgba(color)
    grey = max(red, green, blue) - min(red, green, blue) < 0.02
    for old, new in _SWAPS:
        if np.allclose(to_rgba(old)[:3], (red, green, blue), atol=2e-3):
            return to_rgba(new, alpha)
    if thin and grey and alpha > 0 and red < 0.45:
        return to_rgba(INK_DARK, alpha)
    return None
