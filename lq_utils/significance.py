"""Which layers are significant: those that change the dimension enough.

A layer's step is the dimension after it minus that before it. The thesis
takes the size of the step, Hybrid-Net its signed value. Register your own
rule with ``register_rule``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd

from lq_utils.nearest import DimensionError
from lq_utils.registry import Registry

# f(steps float64 [..., layers]) -> what must exceed the threshold
Rule = Callable[[np.ndarray], np.ndarray]

RULES: Registry[Rule] = Registry("significance rule")
register_rule = RULES.register


@register_rule("absolute")
def absolute(steps: np.ndarray) -> np.ndarray:
    """|ID_l - ID_(l-1)|: a fall of the dimension counts as well.

    Source: thesis, section 3.3.1. Introduced in chapter 5.
    """
    return np.abs(steps)


@register_rule("signed")
def signed(steps: np.ndarray) -> np.ndarray:
    """nPC_l - nPC_(l-1): only a rise of the dimension counts.

    Source: Chakraborty et al. 2020, section 3. Introduced in chapter 5.
    """
    return steps


def layer_steps(dimensions: Mapping[str, float]) -> pd.DataFrame:
    """The change of the dimension at each layer.

    ``dimensions`` maps the input and then the layers, in the order of the
    network, to their dimensions. Returns columns ``layer``, ``before``,
    ``after`` and ``step``, a row for each name but the first.

    Raises DimensionError for fewer than two names or a dimension that is
    not finite. Source: thesis, section 3.3.1. Introduced in chapter 5.
    """
    names = list(dimensions)
    values = np.array([float(dimensions[name]) for name in names])
    _check(names, values)
    steps = np.diff(values)
    return pd.DataFrame(
        {
            "layer": names[1:],
            "before": values[:-1],
            "after": values[1:],
            "step": steps,
        }
    )


def significant_layers(
    dimensions: Mapping[str, float],
    threshold: float,
    rule: str = "absolute",
    skip: Sequence[str] = (),
) -> list[str]:
    """Layers whose step exceeds the threshold, in the network's order.

    Args:
        dimensions: name to dimension, the input first (``layer_steps``).
        threshold: in dimensions; a step equal to it does not exceed it.
        rule: ``"absolute"`` (thesis) or ``"signed"`` (Hybrid-Net); or
            your own.
        skip: layers that cannot be chosen, such as the first and the last
            one, which always keep full precision.

    Raises:
        DimensionError: dimensions that ``layer_steps`` refuses, a
            threshold that is not finite, or a layer to skip that is not
            there.
        UnknownName: no such rule.

    Source: thesis, section 3.3.1; Chakraborty et al. 2020. Introduced in
    chapter 5.
    """
    table = layer_steps(dimensions)
    layers = list(table["layer"])
    steps = table["step"].to_numpy()
    chosen = _chosen(steps, [threshold], rule, layers, skip)[0]
    return [layer for layer, yes in zip(layers, chosen, strict=True) if yes]


def selection_stability(
    samples: pd.DataFrame,
    thresholds: Sequence[float],
    rule: str = "absolute",
    skip: Sequence[str] = (),
) -> pd.DataFrame:
    """How often each layer is chosen when the dimensions are resampled.

    Args:
        samples: a row for each resample, a column for the input and then
            for each layer, in the order of the network; dimensions.
        thresholds: to choose by, in dimensions.
        rule: as for ``significant_layers``, as is ``skip``.

    Returns:
        Columns ``threshold``, ``layer`` and ``share`` of the resamples
        that chose the layer, 0 to 1; a row for each threshold and layer
        that can be chosen.

    Raises DimensionError and UnknownName as ``significant_layers`` does,
    and DimensionError where there is no resample.

    Source: own, for the rule of the thesis, section 3.3.1. Introduced in
    chapter 5.
    """
    names = [str(name) for name in samples.columns]
    values = samples.to_numpy(dtype=np.float64)
    _check(names, values)
    if not len(values):
        raise DimensionError("no resamples: give at least one row")
    steps = np.diff(values, axis=1)
    chosen = _chosen(steps, thresholds, rule, names[1:], skip)
    shares = chosen.mean(axis=1)
    return pd.DataFrame(
        [
            (float(threshold), layer, float(share))
            for threshold, row in zip(thresholds, shares, strict=True)
            for layer, share in zip(names[1:], row, strict=True)
            if layer not in skip
        ],
        columns=["threshold", "layer", "share"],
    )


def _check(names: Sequence[str], values: np.ndarray) -> None:
    if len(names) < 2:
        raise DimensionError(
            f"dimensions of {len(names)} place(s): give the input's and at "
            "least one layer's, in the order of the network"
        )
    finite = np.isfinite(values).reshape(-1, len(names)).all(axis=0)
    if not finite.all():
        raise DimensionError(
            f"the dimension of {names[int(finite.argmin())]!r} is not "
            "finite: estimate it again, or leave that layer out"
        )


def _chosen(
    steps: np.ndarray,
    thresholds: Sequence[float],
    rule: str,
    layers: Sequence[str],
    skip: Sequence[str],
) -> np.ndarray:
    """Whether each layer is chosen, bool ``[thresholds, ..., layers]``."""
    measure = RULES.get(rule)
    limits = np.asarray(thresholds, dtype=np.float64)
    if not np.isfinite(limits).all():
        raise DimensionError(f"thresholds {thresholds}: give finite numbers")
    missing = [name for name in skip if name not in layers]
    if missing:
        raise DimensionError(
            f"cannot skip {missing[0]!r}: the layers are {', '.join(layers)}"
        )
    free = np.array([layer not in skip for layer in layers])
    limits = limits.reshape(-1, *[1] * steps.ndim)
    chosen: np.ndarray = (measure(steps) > limits) & free
    return chosen
