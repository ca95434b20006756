"""Result rows and verdicts of the comparison of methods."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from lq_utils.method_tables import accuracy_interval, hits_by_draw
from lq_utils.results import Run
from lq_utils.stats import Interval, StatsError, bootstrap

Claim = tuple[str, str, str]  # claim, evidence, verdict
SMALL_DROP = 1.0  # points
DEARER, CHEAPER = 1.2, 0.8  # ratios of seconds that count as a difference

# What the label-aware report expects, by method and bits.
EXPECTED = {
    ("GPFQ", 4): "GPFQ loses little at 4 bits (5.1)",
    ("GPFQ", 3): "GPFQ loses little at 3 bits (5.1)",
    ("GPTQ", 4): "GPTQ compresses CNNs to 4 bits (5.5)",
}


def record_original(run: Run, scored: pd.DataFrame) -> pd.Series:
    """Record the original network's accuracy by every protocol.

    ``scored`` are the rows of ``method_comparison.score``. Returns the
    accuracies in points, by protocol. Introduced in chapter 8.
    """
    points = {}
    for row in scored.itertuples():
        found = accuracy_interval([row.correct], row.n)
        keys = {"method": "original", "protocol": row.protocol}
        run.record("accuracy", found.value, n=row.n, ci=found.ci, **keys)
        points[row.protocol] = 100 * found.value
    return pd.Series(points, name="accuracy (%)").rename_axis("protocol")


def record_accuracies(run: Run, means: pd.DataFrame) -> None:
    """Record the rows of ``method_tables.accuracies`` as shares.

    Introduced in chapter 8.
    """
    names = ["method", "bits", "granularity", "calibration", "protocol"]
    for row in means.to_dict("records"):
        ends = (row["low"] / 100, row["high"] / 100)
        ci = ends if all(map(math.isfinite, ends)) else None
        keys = {name: row[name] for name in names}
        run.record(
            "accuracy", row["accuracy"] / 100, n=row["n"], ci=ci, **keys
        )


def record_points(
    run: Run, metric: str, table: pd.DataFrame, n: int, keys: Sequence[str]
) -> None:
    """Record a column with its interval (``low``, ``high``), in points.

    ``metric`` is both its name and the metric's; ``keys`` are the columns
    that tell its rows apart. Introduced in chapter 8.
    """
    for row in table.to_dict("records"):
        found = {name: row[name] for name in keys}
        ci = (row["low"], row["high"])
        run.record(metric, row[metric], n=n, ci=ci, **found)


def record_gaps(run: Run, by_rule: pd.DataFrame) -> dict[str, float]:
    """Record how far the choice of a rule, and of a solver, moves accuracy.

    ``by_rule`` has columns method, scale and accuracy (points). "rule" is
    the gap between the best and the worst scale rule, averaged over the
    solvers, "solver" the reverse; once for all solvers and once for those
    with feedback, without RTN. Returns the latter, in points.

    Introduced in chapter 8.
    """
    wide = by_rule.pivot(index="method", columns="scale", values="accuracy")
    feeding = wide.drop(index="RTN", errors="ignore")
    gaps: dict[str, float] = {}
    for kind, part in {"all": wide, "with feedback": feeding}.items():
        for axis, choice in ((1, "rule"), (0, "solver")):
            gaps[choice] = float(np.ptp(part.to_numpy(), axis=axis).mean())
            run.record(
                "accuracy_gap", gaps[choice], choice=choice, solvers=kind
            )
    return gaps


def gap_difference(run: Run, rows: pd.DataFrame) -> Interval:
    """How much more a rule moves accuracy than a solver, in points.

    ``rows`` are those of a sweep over ``compare_cell`` by one protocol;
    RTN, which has no feedback, is left out. Value: the gap of rules less
    that of solvers, as ``record_gaps`` has them; interval: bootstrap over
    test images, which all networks share. Recorded too.

    Raises StatsError where a solver lacks a rule. Introduced in chapter 8.
    """
    feeding = rows[rows["method"] != "RTN"]
    groups = feeding.groupby(["method", "scale"])
    right = {place: 100 * hits_by_draw(own).mean(0) for place, own in groups}
    solvers, rules = (list(dict.fromkeys(axis)) for axis in zip(*right))
    if len(right) != len(solvers) * len(rules):
        raise StatsError("every solver must have been run with every rule")

    def gap(*answers: np.ndarray, axis: int = -1) -> Any:
        scored = np.array([np.mean(a, axis=axis) for a in answers])
        square = scored.reshape(len(solvers), len(rules), *scored.shape[1:])
        return np.asarray(
            np.ptp(square, axis=1).mean(0) - np.ptp(square, axis=0).mean(0)
        )

    found = bootstrap(gap, *right.values())
    run.record("accuracy_gap_difference", found.value, n=found.n, ci=found.ci)
    return found


def told_gaps(gaps: dict[str, float], more: Interval) -> str:
    """A sentence on ``record_gaps`` and :func:`gap_difference`.

    Introduced in chapter 8.
    """
    text = (
        "Among solvers with feedback the rule moves accuracy by "
        f"{gaps['rule']:.1f} points on average, the solver by "
        f"{gaps['solver']:.1f}"
    )
    if more.ci is None:
        return f"{text}; {more.n} images cannot tell which matters more."
    low, high = more.ci
    text += f", a difference of {more.value:+.1f} [{low:+.1f}, {high:+.1f}]: "
    if low <= 0 <= high:
        return f"{text}these images cannot tell which matters more."
    word = "more" if low > 0 else "less"
    return f"{text}the scale rule matters {word} than the solver here."


def time_claims(seconds: pd.Series, steps: int) -> list[Claim]:
    """Verdicts on what the report expects of the methods' costs.

    ``seconds`` by method; ``steps`` is the budget of those that learn.
    Claims about methods that are not there are left out.

    Introduced in chapter 8.
    """
    claims = []
    if {"GPTQ", "BRECQ"} <= set(seconds.index):
        ratio = seconds["BRECQ"] / seconds["GPTQ"]
        evidence = f"BRECQ takes {ratio:.1f} times as long, {steps} steps each"
        verdict = "holds" if ratio > DEARER else "not at this budget"
        claims.append(("GPTQ costs less than BRECQ (5.5)", evidence, verdict))
    if {"GPTQ", "GPFQ"} <= set(seconds.index):
        ratio = seconds["GPTQ"] / seconds["GPFQ"]
        evidence = f"{ratio:.2f} times the seconds of GPFQ in Gram form"
        verdict = "holds" if ratio < CHEAPER else "does not hold here"
        claims.append(("GPTQ is more time-efficient (5.4)", evidence, verdict))
    return claims


def drop_claims(losses: pd.DataFrame) -> list[Claim]:
    """Verdicts on what the report expects of the methods' accuracy.

    ``losses`` come from ``method_tables.drops``. A drop is small up to
    one point; with that inside its interval there is no verdict.

    Introduced in chapter 8.
    """
    claims = []
    for row in losses.itertuples():
        text = EXPECTED.get((row.method, row.bits))
        if text is None:
            continue
        verdict = "this run cannot tell"
        if row.high <= SMALL_DROP:
            verdict = "holds"
        elif row.low > SMALL_DROP:
            verdict = "does not hold here"
        evidence = f"{row.drop:.2f} points ({row.low:.2f} to {row.high:.2f})"
        claims.append((text, evidence, verdict))
    return claims
