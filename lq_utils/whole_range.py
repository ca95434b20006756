"""The scale rule "whole": every level of an alphabet is used.

A symmetric alphabet of 2^b integers has one more below zero than above.
The rule "max" takes its step from the side above, so that nothing is
clipped and the lowest level is never used.
"""

from __future__ import annotations

from torch import Tensor

from lq_utils.scale_rules import Fit, Range, register_scale_rule


@register_scale_rule("whole")
def whole_range(rows: Tensor, fit: Fit) -> Range:
    """The step is 2 max|w| / (count - 1) for each of ``rows`` ``[R, n]``.

    The largest weight lies half a step beyond the highest level of a
    symmetric alphabet. Affine alphabets and those with a list of levels
    have none left over: they get the range of "max".

    Source: "full range symmetric" of Distiller (Zmora et al. 2019).
    Introduced in chapter 7.
    """
    letters = fit.alphabet
    if letters.affine or letters.codebook is not None:
        return rows.amin(dim=1), rows.amax(dim=1)
    half = (letters.highest - letters.lowest) / 2
    radius = rows.abs().amax(dim=1) * (letters.reach / half)
    return -radius, radius
