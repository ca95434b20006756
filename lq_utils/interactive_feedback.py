"""Interactive figure on feedback: one rounding decision, then the next."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from lq_utils.interactive_pieces import Axis, InteractiveError, Layer, Steps


def feedback_wishes(
    weights: np.ndarray, feedback: np.ndarray, chosen: np.ndarray
) -> np.ndarray:
    """What every weight is asked to be after each decision: ``[N + 1, N]``.

    ``weights`` and ``chosen`` (levels) are ``[N]``, ``feedback [N, N]``
    strictly lower triangular. Row t holds the values after t decisions;
    weights that are decided stand at their levels.

    Introduced in chapter 8.
    """
    count = len(weights)
    rows = []
    for t in range(count + 1):
        made = np.zeros(count)
        made[:t] = (weights - chosen)[:t]
        wish = weights + feedback @ made
        rows.append(np.concatenate([chosen[:t], wish[t:]]))
    return np.array(rows)


def feedback_steps(
    weights: np.ndarray,
    feedback: Mapping[str, np.ndarray],
    chosen: Mapping[str, np.ndarray],
    gram: np.ndarray,
) -> Steps:
    """A slider over decisions of several methods on one neuron.

    ``weights [N]``; for each method its ``feedback [N, N]`` and the
    levels ``chosen [N]``; ``gram [N, N]`` gives the squared error of the
    output with the weights that stand at a step.

    Raises InteractiveError where a method has no levels.

    Introduced in chapter 8.
    """
    if set(feedback) != set(chosen):
        raise InteractiveError("give feedback and levels of the same methods")
    places = np.arange(len(weights))
    layers = [Layer("dots", places, weights, "ink", "original weight")]
    rows: list[tuple[str, float]] = []
    words = []
    for method, matrix in feedback.items():
        wishes = feedback_wishes(weights, matrix, chosen[method])
        for t, values in enumerate(wishes):
            step = len(rows)
            away = weights - values
            rows.append((f"{method}, {t} decided", float(away @ gram @ away)))
            layers += _standing(places, values, t, step)
            words.append(_words(method, t, values, rows[-1][1]))
    table = pd.DataFrame(rows, columns=["step", "squared error"])
    number = np.arange(len(rows))
    error = table["squared error"].to_numpy()
    for when, faint in (("always", True), ("now", False)):
        look = {"panel": 1, "faint": faint}
        layers.append(Layer("bars", number, error, "blue", "", when, **look))  # type: ignore[arg-type]
    starts = tuple(s.replace(",", "").split(" d")[0] for s in table["step"])
    panels = [
        (
            Axis("", names=tuple(f"weight {i + 1}" for i in places)),
            Axis("value"),
        ),
        (Axis("", names=starts), Axis("squared error of the output")),
    ]
    frames = pd.DataFrame({"label": table["step"], "words": words})
    return Steps("Step", frames, panels, layers, table)


def _standing(
    places: np.ndarray, values: np.ndarray, decided: int, step: int
) -> list[Layer]:
    found = []
    if decided:
        own = places[:decided], values[:decided]
        found.append(Layer("dots", *own, "blue", "level taken", step, shape=1))
    if decided < len(places):
        own = places[decided:], values[decided:]
        found.append(Layer("dots", *own, "green", "asked for", step, shape=2))
    return found


def _words(method: str, t: int, values: np.ndarray, error: float) -> str:
    listed = ", ".join(f"{value:.2f}" for value in values)
    return (
        f"{method} after {t} of {len(values)} decisions: the weights stand at "
        f"{listed}. Squared error of the output so far: {error:.3g}."
    )
