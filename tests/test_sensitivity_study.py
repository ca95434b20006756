"""Cells, tables and figures of the study of sensitivities."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import entropy, spearmanr, ttest_1samp
from test_engine import APART, imported
from test_label_aware import Small, make_data
from torch import nn

from lq_utils import sensitivity_figures as sf
from lq_utils import sensitivity_report as sr
from lq_utils import sensitivity_study as ss
from lq_utils import sensitivity_tables as st
from lq_utils.calibration import calibration_rows
from lq_utils.graph import fold_batch_norm, trace
from lq_utils.images import Provenance
from lq_utils.inference import to_input
from lq_utils.label_aware import settings
from lq_utils.layer_sensitivity import sensitivity_task
from lq_utils.plan_rows import PlanError
from lq_utils.plans import Plan
from lq_utils.results import Run

CLASSES = (0, 2, 5)
BITS = (2, 3, 4)
KINDS = ("divergence", "weight error", "fisher")
METHOD = settings({"quantizer": "mid-tread", "scale": "mse"})
LAYERS = ["conv", "second", "fc"]


@pytest.fixture(scope="module")
def network() -> nn.Module:
    torch.manual_seed(0)
    return Small().eval()


def cell(network: nn.Module, **changes: Any) -> pd.DataFrame:
    given: dict[str, Any] = {
        "classes": CLASSES, "images": 12, "draw": 0, "bits": BITS,
        "kinds": KINDS, "probes": 4, "method": METHOD, "plan_bits": 3,
        "plans": 6,
    }  # fmt: skip
    given |= changes
    rows = ss.sensitivity_rows(
        **given,
        network=network,
        train=make_data("train", 1),
        held_out=make_data("validation", 2),
    )
    kept = {k: given[k] for k in ("draw", "images")}
    return pd.DataFrame([kept | row for row in rows])


@pytest.fixture(scope="module")
def rows(network: nn.Module) -> pd.DataFrame:
    return cell(network)


def rebuilt(
    network: nn.Module, bits: dict[str, int]
) -> tuple[nn.Module, nn.Module]:
    """The original, and a copy with layers in few bits, by other means."""
    train = make_data("train", 1)
    own = calibration_rows(train, 12, 0, CLASSES)
    task = sensitivity_task(
        network, to_input(train.images[own]), train.labels[own], CLASSES,
        BITS, Plan.uniform(network, 3, **dict(METHOD)),
    )  # fmt: skip
    original = fold_batch_norm(trace(network))
    other = copy.deepcopy(original)
    for layer, b in bits.items():
        module = other.get_submodule(layer)
        module.weight.data = task.solved[layer, b].view_as(module.weight)
    return original, other


def kl(original: nn.Module, other: nn.Module, x: torch.Tensor) -> float:
    with torch.no_grad():
        a, b = (m(x)[:, CLASSES].double() for m in (original, other))
    each = [entropy(p.exp(), q.exp()) for p, q in zip(a, b)]
    return float(np.mean(each))


def test_rows_of_one_layer(network: nn.Module, rows: pd.DataFrame) -> None:
    held_out = make_data("validation", 2)
    own = np.isin(held_out.labels, CLASSES)
    x = to_input(held_out.images[own])
    labels = torch.from_numpy(held_out.labels[own])
    single = st.part(rows, "single")
    assert list(single["layer"]) == [n for n in LAYERS for _ in BITS]
    line = single[single["layer"] == "second"].iloc[0]
    assert line["bits_of_layer"] == 2
    original, other = rebuilt(network, {"second": 2})
    with torch.no_grad():
        logits = other(x)[:, CLASSES]
    guesses = torch.tensor(CLASSES)[logits.argmax(dim=1)]
    assert line["hits"] == int((guesses == labels).sum())
    assert line["n"] == int(own.sum()) == 30
    found = kl(original, other, x)
    assert line["held_out_divergence"] == pytest.approx(found, rel=1e-4)
    places = torch.tensor([CLASSES.index(int(k)) for k in labels])
    loss = nn.functional.cross_entropy(logits, places)
    assert line["loss"] == pytest.approx(float(loss), rel=1e-5)
    first = st.part(rows, "original").iloc[0]
    moved = st.measured(rows).set_index(["layer", "bits_of_layer"])
    assert moved.loc[("second", 2), "accuracy"] == pytest.approx(
        100 * (first["hits"] - line["hits"]) / 30
    )


def test_random_plans(network: nn.Module, rows: pd.DataFrame) -> None:
    random = st.part(rows, "random")
    assert len(random) == 6
    costs = st.part(rows, "cost")
    costs = costs[costs["kind"] == "divergence"].set_index(
        ["layer", "bits_of_layer"]
    )["cost"]
    drawn = np.random.default_rng(0).integers(3, size=3)
    bits = {n: BITS[k] for n, k in zip(LAYERS, drawn)}
    line = random.iloc[0]
    total = sum(costs[key] for key in bits.items())
    assert line["total"] == pytest.approx(total)
    train = make_data("train", 1)
    own = calibration_rows(train, 12, 0, CLASSES)
    x = to_input(train.images[own])
    assert line["joint"] == pytest.approx(
        kl(*rebuilt(network, bits), x), rel=1e-4
    )


def test_plans_of_one_size(network: nn.Module, rows: pd.DataFrame) -> None:
    plans = st.part(rows, "plan").set_index("name")
    assert list(plans.index) == ["uniform", *KINDS, "random", "evolution"]
    budget = plans.loc["uniform", "size_bits"]
    assert plans.loc["uniform", "layer_bits"] == "3 3 3"
    assert (plans["size_bits"] <= budget).all()
    template = Plan.uniform(network, 3, **dict(METHOD))
    whole = template.size_bits(network)
    costs = st.part(rows, "cost").set_index(["kind", "layer", "bits_of_layer"])
    for name, line in plans.iterrows():
        plan, bits = template, [int(b) for b in line["layer_bits"].split()]
        for layer, b in zip(LAYERS, bits):
            plan = plan.override(layer, bits=b)
        change = plan.size_bits(network) - whole
        assert line["size_bits"] - budget == change
    for kind in KINDS:  # nobody's plan is cheaper than that of the kind
        totals = {
            name: sum(
                costs.loc[(kind, n, int(b)), "cost"]
                for n, b in zip(LAYERS, line["layer_bits"].split())
            )
            for name, line in plans.iterrows()
        }
        assert totals[kind] == pytest.approx(min(totals.values()))
    search = st.part(rows, "search")
    for name, own in search.groupby("search"):
        assert len(own) == len(LAYERS) * len(BITS)
        last = own["best"].iloc[-1]
        assert plans.loc[name, "divergence"] == pytest.approx(last)


def test_costs_alone(network: nn.Module, rows: pd.DataFrame) -> None:
    few = cell(network, plan_bits=None, kinds=("divergence",))
    assert set(few["part"]) == {"cost"}
    both = st.part(rows, "cost")
    both = both[both["kind"] == "divergence"].reset_index(drop=True)
    pd.testing.assert_frame_equal(few[both.columns], both)
    again = cell(network, plan_bits=None, draw=1, kinds=("divergence",))
    assert not np.allclose(again["cost"], few["cost"])


def test_wrong_cells(network: nn.Module) -> None:
    with pytest.raises(ss.StudyError, match="5 bits is none of"):
        cell(network, plan_bits=5)
    with pytest.raises(PlanError, match="quantiser"):
        cell(network, method=(("quantiser", "narrow"),))


def test_nothing_is_missing_from_the_code() -> None:
    names = {module.__name__ for module in ss.CODE}
    needed = set().union(*(imported(m.__file__) for m in ss.CODE))
    # Of these only tables, files of plans, and names.
    apart = {"artifact", "engine", "label_aware", "models", "cache", "data"}
    assert needed - APART - {f"lq_utils.{n}" for n in apart} <= names
    assert {"lq_utils.curvature", "lq_utils.plan_search"} <= names


def hand_made() -> pd.DataFrame:
    """Three subsets; layers a to d, whose truth is 1, 2, 3, 4 points."""
    found: list[dict[str, Any]] = []
    orders = {"right": [1, 2, 3, 4], "wrong": [4, 3, 2, 1]}
    for s, subset in enumerate(("0 1", "2 3", "4 5")):
        common = {"subset": subset, "draw": 0}
        found.append(
            common | {"part": "original", "hits": 90, "n": 100, "loss": 0.2}
        )
        for k, layer in enumerate("abcd"):
            for kind, order in orders.items():
                row = common | {"part": "cost", "kind": kind, "layer": layer}
                cost = 0.1 * order[k]
                if kind == "wrong" and s == 0:
                    cost = 0.1 * orders["right"][k]
                found.append(row | {"bits_of_layer": 2, "cost": cost})
            row = common | {"part": "single", "layer": layer}
            row |= {"bits_of_layer": 2, "hits": 89 - k, "n": 100}
            row |= {"loss": 0.3, "held_out_divergence": 0.1 * k}
            found.append(row)
        for k in range(4):
            row = common | {"part": "random", "number": k, "total": 1.0 + k}
            found.append(row | {"joint": (1 + k) * 2.0 ** (s - 1)})
        for name, hits, apart in (
            ("uniform", 80, 0.4), ("divergence", 84 + s, 0.2),
            ("random", 80, 0.1),
        ):  # fmt: skip
            row = common | {"part": "plan", "name": name, "hits": hits}
            row |= {"n": 100, "divergence": apart, "layer_bits": f"2 {s} 2 4"}
            found.append(row | {"held_out_divergence": 2 * apart})
        for k, best in enumerate((0.8, 0.1), 1):
            row = common | {"part": "search", "search": "random"}
            found.append(row | {"evaluation": k, "best": best})
    return pd.DataFrame(found)


def test_prediction_by_hand() -> None:
    table = st.prediction_table(hand_made())
    lines = table.set_index(["kind", "measure"])
    sure = lines.loc[("right", "drop of accuracy")]
    assert (sure["correlation"], sure["low"], sure["high"]) == (1, 1, 1)
    assert sure["subsets"] == 3 and sure["bits"] == 2
    # One subset ranks them right, two the other way round.
    wrong = lines.loc[("wrong", "KL divergence")]
    assert wrong["correlation"] == pytest.approx(-1 / 3)
    ends = ttest_1samp([1, -1, -1], 0).confidence_interval()
    assert ends.low < -1 and wrong["low"] == -1  # there is nothing below
    assert wrong["high"] == pytest.approx(min(1, ends.high))
    # The loss is the same for all layers: nothing to rank.
    flat = lines.loc[("right", "rise of the loss")]
    assert math.isnan(flat["correlation"]) and flat["subsets"] == 0


def test_agreement_by_hand() -> None:
    rows = hand_made()
    once = st.agreement_table(rows, "none")
    assert set(once["compared"]) == {"another subset"}
    again = rows[rows["subset"] == "0 1"].assign(draw=1)
    table = st.agreement_table(pd.concat([rows, again]), "4 5")
    lines = table.set_index(["kind", "compared"])["correlation"]
    assert lines["wrong", "same subset, other images"] == pytest.approx(1)
    assert lines["wrong", "another subset"] == pytest.approx(-1)
    assert lines["wrong", "all classes"] == pytest.approx(0)
    assert lines["right", "all classes"] == pytest.approx(1)


def test_additivity_by_hand() -> None:
    table = st.additivity_table(hand_made()).set_index("quantity")
    assert table.loc["rank correlation", "mean"] == pytest.approx(1)
    # Ratios 1/2, 1 and 2: their geometric mean is 1.
    ratio = table.loc["joint by sum"]
    assert ratio["mean"] == pytest.approx(1)
    ends = ttest_1samp(np.log([0.5, 1, 2]), 0).confidence_interval()
    assert math.log(ratio["high"]) == pytest.approx(ends.high)
    assert (table["plans"] == 4).all() and (table["subsets"] == 3).all()


def test_plans_by_hand() -> None:
    table = st.plan_table(hand_made(), 88).set_index("name")
    found = table.loc["divergence"]
    assert found["accuracy"] == pytest.approx(85)
    assert found["gain"] == pytest.approx(5)
    assert found["low"] < 5 < found["high"]
    # Three gains of one sign: 2 of 8 patterns; twice that by Holm.
    assert found["p"] == pytest.approx(0.5)
    assert math.isnan(table.loc["uniform", "p"])
    assert table["evaluations"].tolist() == [0, 88, 88]
    bits = st.bits_table(hand_made(), ["uniform"])
    assert bits["uniform"].tolist() == [2, 1, 2, 4]
    curves = st.search_curves(hand_made())
    assert curves["ratio"].tolist() == pytest.approx([4, 0.5])
    assert curves["evaluation"].tolist() == [1, 2]


def test_maps_and_predictions_of_a_cell(rows: pd.DataFrame) -> None:
    wide = st.cost_map(rows, "fisher", 2, 0)
    assert list(wide.index) == LAYERS and list(wide.columns) == ["0 2 5"]
    table = st.prediction_table(rows)
    truth = st.measured(rows)
    one = truth[truth["bits_of_layer"] == 2]["held_out_divergence"]
    line = table[(table["kind"] == "fisher") & (table["bits"] == 2)]
    line = line[line["measure"] == "KL divergence"].iloc[0]
    wanted = spearmanr(wide["0 2 5"], one).statistic
    assert line["correlation"] == pytest.approx(wanted)
    assert math.isnan(line["low"])  # of one subset


def test_figures_show_every_row(rows: pd.DataFrame) -> None:
    wide = st.cost_map(rows, "divergence", 2, 0)
    fig = sf.cost_map_figure(wide, ["a, b"], "nats")
    (image,) = fig.axes[0].images
    np.testing.assert_allclose(image.get_array(), wide.to_numpy())
    empty = sf.cost_map_figure(0 * wide, ["a, b"], "nats")
    assert np.ma.getmaskarray(empty.axes[0].images[0].get_array()).all()
    made = hand_made()
    measures = list(st.MEASURES.values())[:2]
    fig = sf.prediction_figure(st.prediction_table(made), measures)
    names = [t.get_text() for t in fig.axes[0].get_yticklabels()]
    assert names == ["right", "wrong"]
    fig = sf.additivity_figure(st.part(made, "random"), {"0 1": "cats"})
    assert "cats" in fig.axes[0].get_legend_handles_labels()[1]
    curves = st.search_curves(made)
    line = sf.search_figure(curves, 5).axes[0].lines[0]
    np.testing.assert_allclose(line.get_ydata(), curves["ratio"])


def test_cells_of_the_study(network: nn.Module) -> None:
    studied = sr.study_subsets(network, 3, 4, seed=5)
    kinds = [s.kind for s in studied]
    assert kinds == ["similar", "random", "dissimilar"]  # one came twice
    assert studied[0].median < studied[2].median
    everything = tuple(range(6))
    names = sr.subset_names(studied[:2], everything)
    assert list(names.values()) == ["similar 1", "random 2", "all classes"]
    subsets = [s.classes for s in studied[:2]]
    cells = sr.study_cells(
        subsets, everything, seed=5, draws=3, images=12, bits=[3, 2],
        kinds=list(KINDS), probes=2, method=METHOD, plan_bits=3, plans=4,
    )  # fmt: skip
    whole = [cell for cell in cells if cell["plan_bits"] is not None]
    assert [cell["classes"] for cell in whole] == subsets
    assert {cell["kinds"] for cell in whole} == {KINDS}
    others = [cell for cell in cells if cell["plan_bits"] is None]
    assert [cell["draw"] for cell in others] == [6, 7, 6, 7, 5]
    assert {cell["kinds"] for cell in others} == {("divergence",)}
    assert others[-1]["classes"] == everything
    found = ss.sensitivity_rows(
        **whole[0],
        network=network,
        train=make_data("train", 1),
        held_out=make_data("validation", 2),
    )
    assert {row["subset"] for row in found} == {next(iter(names))}


def test_verdicts_follow_the_rows() -> None:
    rows = hand_made()
    text = sr.gain_text(st.plan_table(rows, 88), "divergence")
    assert text.startswith("5.00 [2.5")
    one = st.plan_table(rows[rows["subset"] == "0 1"], 88)
    assert sr.gain_text(one, "divergence") == "4.00"
    renamed = {"right": "components", "wrong": "weight error"}
    prediction = st.prediction_table(rows.replace({"kind": renamed}))
    text = sr.prediction_text(prediction, 2)
    assert "best kind here is components." in text
    assert "reaches -0.33" in text and ", components ranked" in text
    swapped = {"right": "weight error", "wrong": "shrinking"}
    prediction = st.prediction_table(rows.replace({"kind": swapped}))
    assert ", none ranked" in sr.prediction_text(prediction, 2)
    own = rows.replace({"kind": {"right": "divergence"}})
    text = sr.agreement_text(st.agreement_table(own, "4 5"))
    assert "with another subset 1.00 [1.00, 1.00]" in text
    assert text.endswith("].")  # one draw: noise is not known
    again = own[own["subset"] == "0 1"].assign(draw=1)
    both = st.agreement_table(pd.concat([own, again]), "4 5")
    assert "the labels add nothing" in sr.agreement_text(both)
    other = own["subset"] == "4 5"
    blind = own.assign(cost=own["cost"].where(~other, -own["cost"]))
    both = st.agreement_table(pd.concat([blind, again]), "4 5")
    assert "better than all classes do, by 2.00" in sr.agreement_text(both)


def test_lines_become_result_rows() -> None:
    source = Provenance("made", "synthetic", "0" * 8, "book")
    run = Run("09_made", {"seed": 0, "profile": "custom"}, source)
    table = st.prediction_table(hand_made())
    keys = ["kind", "bits", "measure"]
    sr.record_lines(run, table, "prediction", "correlation", keys)
    found = run.rows
    # What is not defined is left out.
    assert len(found) == 4 == table["correlation"].notna().sum()
    line = found[found["value"] < 0].iloc[0]
    assert (line["n"], line["ci_low"]) == (3, -1)
