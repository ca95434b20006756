"""The study of chapter 9: plans, cells, tables, verdicts, figures."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from scipy import stats as scipy_stats
from task_samples import NAMES, Small, small_network, splits
from torch import nn

from lq_utils import task_compression_figures as tf
from lq_utils import task_compression_report as tr
from lq_utils import task_compression_tables as tt
from lq_utils import task_plans as tp
from lq_utils import task_study as ts
from lq_utils.bit_allocation import AllocationError
from lq_utils.method_comparison import pack_hits, unpack_hits
from lq_utils.models import MODELS, register_model
from lq_utils.plans import Plan
from lq_utils.results import Run
from lq_utils.sweeps import sweep
from lq_utils.task_budget import template
from lq_utils.task_settings import TaskSettings

FEW = TaskSettings(images=12, cost_images=6, bits=(2, 3, 4), polish=0)
SUBSETS = [(0, 1, 2), (3, 4, 5)]
EVERY = [tp.UNIFORM, *tp.HALVES, tp.BLIND, tp.WHOLE, "all classes kept"]


@pytest.fixture(autouse=True)
def small_model() -> Iterator[None]:
    register_model("small", replace=True)(Small)
    yield
    del MODELS._entries["small"]


def study() -> tp.Study:
    own = splits()
    parts = {"validation": own.validation, "test": own.test}
    return tp.Study(small_network(), "small", own.train, parts, FEW)


def costs_and_cells(
    of: tp.Study, variants: list[str], bits: list[int]
) -> tuple[pd.DataFrame, list[dict[str, Any]]]:
    rows = [
        {**cell, **row}
        for cell in tp.cost_cells(variants, SUBSETS, of)
        for row in ts.cost_rows(**cell, study=of)
    ]
    costs = pd.DataFrame(rows)
    return costs, tp.task_cells(variants, SUBSETS, bits, costs, of)


# -- plans ------------------------------------------------------------------


def stack(sizes: list[int]) -> nn.Module:
    """Linear layers of so many weights, which is all that halves see."""
    widths = [1, *np.cumprod(sizes).tolist()]
    assert len(sizes) == len(widths) - 1
    return nn.Sequential(*(nn.Linear(n, 1) for n in sizes))


@pytest.mark.parametrize(
    ("sizes", "finer", "bits"),
    [
        ([1, 1, 1, 1], 1, [5, 5, 3, 3]),
        ([1, 1, 1, 1], -1, [3, 3, 5, 5]),
        ([1, 1, 5, 2], 1, [5, 5, 3, 3]),
        ([1, 1, 5, 2], -1, [3, 3, 3, 5]),
        ([9, 1, 1], 1, [3, 3, 3]),
        ([2, 2, 1], -1, [3, 3, 5]),
    ],
)
def test_halves(sizes: list[int], finer: int, bits: list[int]) -> None:
    network = stack(sizes)
    plan = tp.halves_plan(network, Plan.uniform(network, 4), 4, finer)
    assert [row.bits for row in plan] == bits
    assert plan.mean_bits(network) <= 4


def test_costs_are_measured_once() -> None:
    cells = tp.cost_cells(EVERY, SUBSETS, study())
    wanted = [(tp.EVERYTHING, "blind"), *((s, "aware") for s in SUBSETS)]
    found = [(cell["subset"], cell["allocation"]) for cell in cells]
    assert sorted(found) == sorted(wanted)


def test_cells_hold_their_plans_within_equal_bytes() -> None:
    of = study()
    costs, cells = costs_and_cells(of, EVERY, [3])
    by = {(c["variant"], c["subset"]): c for c in cells}
    assert {c["budget_bytes"] for c in cells} == {cells[0]["budget_bytes"]}
    for subset in SUBSETS:
        assert by[tp.UNIFORM, subset]["plan"] == (3, 3, 3)
        for variant in (v for v in EVERY if (v, subset) in by):
            rows = ts.task_rows(**by[variant, subset], study=of)
            assert [row["part"] for row in rows] == ["validation", "test"]
            size = rows[0]["file_bytes"]
            assert size <= by[variant, subset]["budget_bytes"]
    # Two alphabets in the header are too much for a file this small.
    assert "first half finer" not in {variant for variant, _ in by}
    assert {tp.UNIFORM, tp.BLIND, tp.WHOLE} <= {v for v, _ in by}
    same = {by[tp.BLIND, s]["plan"] for s in SUBSETS}
    assert len(same) == 1  # it knows nothing of the task
    own = tp.costs_of(costs, tp.WHOLE, SUBSETS[1], of)
    assert own is not None and len(own) == 3 * 3
    assert tp.costs_of(costs, tp.UNIFORM, SUBSETS[1], of) is None


def test_halves_have_cells_where_they_fit() -> None:
    of, task = study(), study().task(SUBSETS[0])
    finer = next(iter(tp.HALVES))
    plan = tp.chosen_plan(finer, task, 3, 10**6, pd.DataFrame(), of)
    assert [row.bits for row in plan] == [4, 2, 2]
    with pytest.raises(AllocationError, match="the budget is 900"):
        tp.chosen_plan(finer, task, 3, 900, pd.DataFrame(), of)
    with pytest.raises(AllocationError, match="1 bits are fewer than"):
        tp.chosen_plan(finer, task, 2, 10**6, pd.DataFrame(), of)


def test_variants_that_do_not_fit_have_no_cell() -> None:
    of = study()
    _, cells = costs_and_cells(of, ["all classes kept", tp.UNIFORM], [2])
    assert {cell["variant"] for cell in cells} == {tp.UNIFORM}


def test_plans_are_those_of_every_variant_by_itself() -> None:
    of, alike = study(), ["dead columns to zero", "blocks reconstructed"]
    variants = [*tp.HALVES, tp.WHOLE, *alike, "symmetric grid", tp.BLIND]
    costs, cells = costs_and_cells(of, variants, [3])
    assert {tp.WHOLE, *alike} <= {cell["variant"] for cell in cells}
    for cell in cells:
        own = tp.settings_of(cell["variant"], FEW)
        task = of.task(cell["subset"], own.slice_classifier)
        plan = tp.chosen_plan(
            cell["variant"], task, 3, cell["budget_bytes"], costs, of
        )
        assert cell["plan"] == tuple(row.bits for row in plan)


def test_unknown_variants_are_an_error() -> None:
    with pytest.raises(KeyError):
        tp.settings_of("all clases kept", FEW)


def test_rows_of_a_sweep_are_those_of_the_function() -> None:
    of = study()
    _, cells = costs_and_cells(of, [tp.UNIFORM], [3])
    shared = {"shared": {"study": of}, "key": {"study": "test"}}
    rows = sweep(
        "task-test",
        ts.task_rows,
        cells,
        code=ts.CODE,
        progress=False,
        **shared,
    )
    direct = ts.task_rows(**cells[0], study=of)
    assert rows["hits"].iloc[0] == direct[0]["hits"]
    whole = [{"subset": s} for s in SUBSETS]
    original = sweep(
        "task-whole", ts.original_rows, whole, progress=False, **shared
    )
    assert set(original["variant"]) == {tp.ORIGINAL}
    assert original["n"].tolist() == [15, 21, 15, 21]
    assert rows["n"].tolist() == [15, 21, 15, 21]


# -- tables -----------------------------------------------------------------


def made_rows(
    points: dict[str, list[float]], budget: int = 3, n: int = 100
) -> pd.DataFrame:
    """Rows of a study in which variants have these accuracies."""
    rows = []
    for variant, values in points.items():
        for i, value in enumerate(values):
            correct = round(value * n / 100)
            for part in ("validation", "test"):
                rows.append(
                    {
                        "variant": variant,
                        "subset": (i, i + 1),
                        "classes": f"{i} {i + 1}",
                        "budget": budget,
                        "plan": (3, 3, 2 + (variant == tp.WHOLE)),
                        "part": part,
                        "correct": correct,
                        "n": n,
                        "hits": pack_hits(np.arange(n) < correct),
                        "file_bytes": 1000 + i,
                        "mean_bits": 3.0,
                    }
                )
    return pd.DataFrame(rows)


POINTS = {
    tp.WHOLE: [81.0, 72, 93, 64, 88, 70],
    tp.BLIND: [80.0, 71, 93, 63, 86, 69],
    tp.UNIFORM: [78.0, 70, 91, 60, 85, 66],
    "GPFQ": [70.0, 60, 80, 50, 70, 60],
}


def test_accuracies_are_means_over_tasks() -> None:
    table = tt.accuracies(made_rows(POINTS)).set_index("variant")
    line = table.loc[tp.WHOLE]
    values = np.array(POINTS[tp.WHOLE])
    low, high = scipy_stats.t.interval(
        0.95, 5, values.mean(), scipy_stats.sem(values)
    )
    assert line["accuracy"] == pytest.approx(values.mean())
    assert [line["low"], line["high"]] == pytest.approx([low, high])
    assert (line["subsets"], line["most_bytes"]) == (6, 1005)


def test_one_task_has_wilsons_interval() -> None:
    table = tt.accuracies(made_rows({"a": [80.0]}))
    known = scipy_stats.binomtest(80, 100).proportion_ci(method="wilson")
    assert table["low"].iloc[0] == pytest.approx(100 * known.low)
    assert table["high"].iloc[0] == pytest.approx(100 * known.high)


def test_gains_are_paired_by_task() -> None:
    table = tt.gains(made_rows(POINTS), [(tp.WHOLE, tp.UNIFORM)])
    away = np.array(POINTS[tp.WHOLE]) - np.array(POINTS[tp.UNIFORM])
    known = scipy_stats.ttest_1samp(away, 0).confidence_interval()
    line = table.iloc[0]
    assert line["difference"] == pytest.approx(away.mean())
    assert [line["low"], line["high"]] == pytest.approx([*known])
    assert line["p"] == pytest.approx(2 / 2**6)  # all signs agree


def test_p_values_are_adjusted_for_all_comparisons() -> None:
    pairs = [(tp.WHOLE, tp.UNIFORM), (tp.WHOLE, tp.BLIND)]
    alone = tt.gains(made_rows(POINTS), pairs[:1])["p"].iloc[0]
    both = tt.gains(made_rows(POINTS), pairs)["p"]
    assert both.iloc[0] == pytest.approx(2 * alone)
    assert tt.gains(made_rows({tp.WHOLE: [1.0]}), pairs).empty


def test_ablations_compare_with_the_whole() -> None:
    table = tt.ablations(made_rows(POINTS), 3)
    assert set(table["second"]) == {tp.BLIND, tp.UNIFORM, "GPFQ"}
    assert set(table["first"]) == {tp.WHOLE}
    assert (table["difference"] > 0).all()


def test_image_gain_pools_all_images() -> None:
    rows = made_rows(POINTS)
    found = tt.image_gain(rows, tp.WHOLE, tp.UNIFORM, 3, "test")
    away = np.mean(POINTS[tp.WHOLE]) - np.mean(POINTS[tp.UNIFORM])
    assert found.value == pytest.approx(away) and found.n == 600
    assert unpack_hits(rows["hits"].iloc[0], 100).sum() == 81


def test_gain_against_distance() -> None:
    rows = made_rows(POINTS)
    distances = {f"{i} {i + 1}": float(10 - i) for i in range(6)}
    table = tt.label_gains(rows, distances, 3)
    assert table["distance"].is_monotonic_increasing
    assert table["gain"].tolist() == [1, 2, 1, 0, 1, 1]
    found = tt.gain_correlation(table)
    known = scipy_stats.spearmanr(table["distance"], table["gain"])
    assert found is not None
    assert found.value == pytest.approx(known.statistic)
    assert tt.gain_correlation(table[:3]) is None
    assert tt.gain_correlation(table.assign(gain=1.0)) is None


def test_agreement_of_plans_and_costs() -> None:
    table = tt.agreement(made_rows(POINTS), 3)
    assert table["same"].tolist() == [2] * 6
    assert table["moved"].tolist() == pytest.approx([1 / 3] * 6)
    layers = list("abcd")
    parts = [((), "blind", [1.0, 2, 3, 4]), ((0, 1), "aware", [2.0, 1, 3, 4])]
    costs = pd.DataFrame(
        {
            "subset": [s for s, _, _ in parts for _ in layers],
            "allocation": [a for _, a, _ in parts for _ in layers],
            "sensitivity": "divergence",
            "layer": layers * 2,
            "bits": 2,
            "cost": [c for _, _, values in parts for c in values],
        }
    )
    found = tt.cost_agreement(costs, [(0, 1)], 3)
    assert found["rank_correlation"].tolist() == pytest.approx([0.8])


def test_the_authors_halves_as_published() -> None:
    table = tr.published_halves().set_index("variant")["published"]
    assert table.round(2).tolist() == [82.05, 83.25, 68.84]


def test_advice_is_chosen_on_validation_images() -> None:
    rows = made_rows(POINTS)
    better = (rows["variant"] == "GPFQ") & (rows["part"] == "test")
    rows.loc[better, "correct"] = 100  # which nobody may look at
    advice = tr.recommendations(rows)
    assert advice["choose"].tolist() == [tp.WHOLE]
    assert tp.BLIND in advice["level"].iloc[0]
    assert advice["test"].iloc[0] == pytest.approx(np.mean(POINTS[tp.WHOLE]))


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ((0.2, 1.0, 0.01), "holds"),
        ((-1.0, -0.2, 0.01), "does not hold here"),
        ((-0.1, 1.0, 0.01), "this run cannot tell"),
        ((0.2, 1.0, 0.5), "this run cannot tell"),
        ((math.nan, math.nan, 1.0), "this run cannot tell"),
        ((0.0, 0.0, 1.0), "no difference here"),
    ],
)
def test_verdicts(line: tuple[float, float, float], says: str) -> None:
    assert tr.verdict(*line) == says


def test_claims_get_verdicts_and_rows() -> None:
    rows = pd.concat([made_rows(POINTS), made_rows(POINTS, 4)])
    told = tt.gains(rows, tt.comparisons())
    judged = tr.verdicts(told)
    assert len(judged) == 4 and set(judged["bits"]) == {3, 4}
    run = Run("09", {"profile": "custom", "seed": 0}, splits().provenance)
    tr.record_accuracies(run, tt.accuracies(rows))
    tr.record_gains(run, told, "gain")
    assert len(run.rows) == 2 * 2 * len(POINTS) + len(told)
    shares = run.rows[run.rows["metric"] == "accuracy"]["value"]
    assert shares.between(0, 1).all()


# -- figures ----------------------------------------------------------------


def texts(fig: Figure) -> str:
    words = [t.get_text() for t in fig.findobj() if hasattr(t, "get_text")]
    return " ".join(words)


def test_figures_show_what_they_are_given() -> None:
    rows = pd.concat([made_rows(POINTS), made_rows(POINTS, 4)])
    curves = tf.pareto_figure(tt.accuracies(rows), list(POINTS), 90.0)
    assert all(name in texts(curves) for name in POINTS)
    dots = tf.gains_figure(tt.ablations(rows, 3), "points")
    assert "GPFQ" in texts(dots)
    distances = {f"{i} {i + 1}": float(i) for i in range(6)}
    kinds = dict.fromkeys(distances, "similar")
    gain = tf.label_gain_figure(tt.label_gains(rows, distances, 3), kinds)
    assert len(gain.axes[0].lines) == 3  # marks, fitted line, zero
    own = template(small_network(), FEW)
    bits = tf.bits_figure({"a": (2, 3, 4)}, own.names())
    assert "conv2" in texts(bits) and " 4 " in f" {texts(bits)} "
    assert len(NAMES) == 6
