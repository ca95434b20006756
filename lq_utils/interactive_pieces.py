"""What an interactive figure holds: axes, marks, steps or points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from lq_utils.figures import COLORS

TONES = (*COLORS, "ink")
MARKS = ("line", "dots", "bars", "ticks")
WHEN = ("always", "grow", "now")
SHAPES = 6

Values = Sequence[float] | np.ndarray


class InteractiveError(ValueError):
    """An interactive figure cannot be made of what was given.

    Introduced in chapter 1.
    """


@dataclass(frozen=True)
class Axis:
    """Label and scale of an axis; its range comes from what is drawn.

    ``names`` label the places 0, 1, ... in place of numbers; ``zero``
    makes the axis include zero; ``plain`` leaves the ticks out;
    ``limits`` are its ends, where not the data's.

    Introduced in chapter 1.
    """

    label: str
    log: bool = False
    zero: bool = False
    plain: bool = False
    names: tuple[str, ...] = ()
    limits: tuple[float, float] | None = None


@dataclass(frozen=True)
class Layer:
    """Marks of one kind, ``x`` and ``y`` of equal length.

    ``when`` says at which steps they are seen: "always"; "grow", up to
    the step's own mark; "now", the step's own mark; or one step by its
    number from 0. A NaN breaks a line. ``width`` is that of a bar, in
    units of x. Layers of one ``name`` share an entry of the legend.

    Introduced in chapter 1.
    """

    mark: str
    x: Values
    y: Values
    tone: str = "blue"
    name: str = ""
    when: str | int = "always"
    panel: int = 0
    dash: bool = False
    faint: bool = False
    shape: int = 0
    width: float = 0.8


@dataclass(frozen=True)
class Steps:
    """A slider over prepared steps.

    ``frames`` has a row a step: ``label`` beside the slider, and
    ``words``, a sentence that says what is shown. ``panels`` are pairs of
    axes, ``numbers`` the table for readers without the drawing.

    Introduced in chapter 1.
    """

    slider: str
    frames: pd.DataFrame
    panels: Sequence[tuple[Axis, Axis]]
    layers: Sequence[Layer]
    numbers: pd.DataFrame


@dataclass(frozen=True)
class Points:
    """Named points in groups, of which the reader chooses one.

    ``points`` has the columns name, group, x, y and words, a sentence on
    the point. ``near`` lists for each row the rows (from 0) that are
    ringed with it. ``numbers`` as for :class:`Steps`.

    Introduced in chapter 1.
    """

    axes: tuple[Axis, Axis]
    points: pd.DataFrame
    numbers: pd.DataFrame
    near: Sequence[Sequence[int]] = field(default_factory=list)
    group: str = "Show"
    choice: str = "Choose"
