"""Interactive figures on plans: bytes, bits of layers, accuracy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from lq_utils.bit_allocation import choose
from lq_utils.compression_figures import family, pareto_means
from lq_utils.interactive_pieces import (
    Axis,
    InteractiveError,
    Layer,
    Points,
    Steps,
)

FULL_BITS = 32
_TONES = ("blue", "vermilion", "green", "purple", "orange", "sky")


def set_up_points(rows: pd.DataFrame) -> Points:
    """Accuracy against compressed bytes, a point a set-up, by family.

    ``rows`` as for ``compression_figures.pareto_figure``, which raises
    the same errors.

    Introduced in chapter 4.
    """
    means = pareto_means(rows)
    words = [
        f"{line.set_up}: {line.kib:.1f} KiB compressed, {line.accuracy:.1f} % "
        f"right (from {line.accuracy_low:.1f} to {line.accuracy_high:.1f})"
        f"{'' if line.measured else ', simulated'}."
        for line in means.itertuples()
    ]
    frame = pd.DataFrame(
        {
            "name": means["set_up"],
            "group": [family(name) for name in means["set_up"]],
            "x": means["kib"],
            "y": means["accuracy"],
            "words": words,
        }
    )
    axes = Axis("compressed file (KiB)", log=True), Axis("accuracy (%)")
    columns = ["set_up", "kib", "accuracy"]
    return Points(axes, frame, means[columns], [], "Family", "Set-up")


def plan_steps(
    table: pd.DataFrame,
    bits: Mapping[str, Sequence[int | None]],
    layers: Sequence[str],
) -> Steps:
    """A slider over plans, smallest file first: bits, accuracy and size.

    ``table`` has the columns task, set_up, accuracy (%) and mib, a row a
    task and plan; ``bits`` maps each set_up to bits of its first layers
    (None: 32), ``layers`` names all, the others in full precision.

    Raises InteractiveError for a plan without bits.

    Introduced in chapter 6.
    """
    unknown = set(table["set_up"]) - set(bits)
    if unknown or table.empty:
        raise InteractiveError(f"no rows, or no bits of plans {unknown}")
    mib = table.groupby("set_up", sort=False)["mib"].mean().sort_values()
    places = np.arange(len(layers))
    drawn, words = [], []
    for step, name in enumerate(mib.index):
        own = [FULL_BITS if b is None else b for b in bits[name]]
        own += [FULL_BITS] * (len(layers) - len(own))
        drawn.append(Layer("bars", places, own, "blue", "bits", step))
        scored = table[table["set_up"] == name]
        parts = [
            f"{row.accuracy:.1f} % on {row.task}"
            for row in scored.itertuples()
        ]
        words.append(f"{name}: {mib[name]:.2f} MiB; {'; '.join(parts)}.")
    for k, (task, own) in enumerate(table.groupby("task", sort=False)):
        y = own.set_index("set_up")["accuracy"].reindex(mib.index).to_numpy()
        look = (_TONES[k % len(_TONES)], str(task))
        x, shape = mib.to_numpy(), k % 6
        every = Layer("dots", x, y, look[0], panel=1, shape=shape, faint=True)
        now = Layer("dots", x, y, *look, "now", 1, shape=shape)
        drawn += [every, now]
    panels = [
        (Axis("", names=tuple(layers)), Axis("bits a weight")),
        (Axis("file (MiB)", log=True), Axis("accuracy (%)")),
    ]
    frames = pd.DataFrame({"label": list(mib.index), "words": words})
    columns = ["task", "set_up", "mib", "accuracy"]
    return Steps("Plan", frames, panels, drawn, table[columns])


def budget_steps(
    prices: Mapping[str, pd.DataFrame], sizes: pd.DataFrame, steps: int = 21
) -> Steps:
    """A slider over budgets: the bits that each kind of price gives.

    Args:
        prices: by name, a row a layer, a column a number of bits; plans
            are priced by the first of them.
        sizes: bits of the same layers in the same numbers of bits, int.
        steps: budgets, evenly from the smallest to the largest plan.

    Raises:
        InteractiveError: tables of different layers or bits.
        AllocationError: prices that ``choose`` refuses.

    Introduced in chapter 9.
    """
    first = next(iter(prices.values()))
    for frame in (*prices.values(), sizes):
        if not (frame.index.equals(first.index)
                and list(frame.columns) == list(first.columns)):  # fmt: skip
            raise InteractiveError("prices and sizes must have equal labels")
    space, levels = sizes.to_numpy(), np.array(sizes.columns)
    ends = space.min(axis=1).sum(), space.max(axis=1).sum()
    budgets = np.linspace(*ends, steps).astype(np.int64)
    width = 0.8 / len(prices)
    places = np.arange(len(first)) - 0.4 + width / 2
    kib = budgets / 8 / 1024
    layers, rows = [], {"budget (KiB)": kib}
    for k, (name, own) in enumerate(prices.items()):
        look, moved = (_TONES[k % len(_TONES)], name), places + k * width
        total = []
        for step, budget in enumerate(budgets):
            picked = choose(own.to_numpy(), space, int(budget))
            bits = levels[picked]
            layers.append(Layer("bars", moved, bits, *look, step, width=width))
            total.append(
                first.to_numpy()[np.arange(len(picked)), picked].sum()
            )
        rows[name] = np.array(total)
        layers.append(Layer("line", kib, rows[name], *look, panel=1))
        layers.append(Layer("dots", kib, rows[name], *look, "now", 1, shape=k))
    layers.append(_uniform(first, space))
    table = pd.DataFrame(rows)
    words = [_budget_words(row) for row in table.to_dict("records")]
    labels = [f"{value:.1f} KiB" for value in kib]
    panels = [
        (Axis("", names=tuple(map(str, first.index))), Axis("bits a weight")),
        (Axis("budget (KiB)"), Axis("price (nats)", log=True)),
    ]
    frames = pd.DataFrame({"label": labels, "words": words})
    return Steps("Budget", frames, panels, layers, table)


def _uniform(first: pd.DataFrame, space: np.ndarray) -> Layer:
    """Size and price of every uniform plan."""
    kib, total = space.sum(axis=0) / 8 / 1024, first.sum().to_numpy()
    return Layer("dots", kib, total, "ink", "uniform bits", panel=1, shape=3)


def _budget_words(row: Mapping[str, float]) -> str:
    parts = [
        f"{name}, {value:.4g}"
        for name, value in row.items()
        if name != "budget (KiB)"
    ]
    return (
        f"Budget {row['budget (KiB)']:.1f} KiB. Price of the plan chosen by "
        f"{'; by '.join(parts)}."
    )
