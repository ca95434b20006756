"""Methods side by side: equal grids, scores, tables, memory, figures."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as scipy_stats
from torch import Tensor, nn
from torch.nn import functional as F

from lq_utils import method_comparison as mc
from lq_utils import method_figures, method_report, method_tables
from lq_utils.calibration import subset_accuracy
from lq_utils.graph import fold_batch_norm, trace, weight_matrix
from lq_utils.images import ImageData, Provenance
from lq_utils.layer_study import one_layer
from lq_utils.models import MODELS, build_model, register_model
from lq_utils.peak_memory import PeakMemoryError, peak_memory
from lq_utils.results import Run
from lq_utils.stats import StatsError
from lq_utils.sweeps import sweep

CLASSES = 5


class Tiny(nn.Module):
    """Two convolutions with a residual connection, and a classifier."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(4)
        self.conv2 = nn.Conv2d(4, 4, 3, padding=1)
        self.fc = nn.Linear(4, outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.bn1(self.conv1(x)))
        x = torch.relu(x + self.conv2(x))
        return self.fc(x.mean(dim=(2, 3)))


@pytest.fixture(autouse=True)
def tiny_model() -> Iterator[None]:
    register_model("tiny", replace=True)(Tiny)
    yield
    del MODELS._entries["tiny"]


@pytest.fixture
def model() -> nn.Module:
    return build_model("tiny", CLASSES, seed=1).eval()


def images(count: int = 12, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 3, 8, 8, generator=generator)


def data(per_class: int, seed: int, classes: range) -> ImageData:
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.array(classes), per_class).astype(np.int64)
    return ImageData(
        rng.integers(0, 256, (len(labels), 8, 8, 3), dtype=np.uint8),
        labels,
        tuple("abcde"),
        ("all",),
        np.zeros(CLASSES, dtype=np.int64),
        "test",
        Provenance("made", "synthetic", "0", "book"),
    )


@pytest.mark.parametrize("name", list(mc.METHODS))
@pytest.mark.parametrize("granularity", ["channel", "tensor"])
def test_every_method_fills_the_same_grid(
    model: nn.Module, name: str, granularity: str
) -> None:
    budget = mc.Budget(3, granularity, steps=2)
    quantized = mc.find_method(name)(model, images(), budget)
    assert list(quantized.grids) == ["conv1", "conv2", "fc"]
    for layer, grid in quantized.grids.items():
        weight = weight_matrix(quantized.model.get_submodule(layer))
        assert grid.alphabet.count == 8
        assert grid.scale.shape == (len(weight), 1) or granularity == "tensor"
        assert grid.scale.shape == (1, 1) or granularity == "channel"
        # Raises where a weight is not on the grid.
        assert grid.codes(weight).max() < 8
        by_row = [len(row.unique()) for row in weight]
        assert max(by_row) <= 8


def test_budget_reaches_the_methods(model: nn.Module) -> None:
    """Each field changes something, or the comparison is not what it says."""

    def weights(name: str, **fields: Any) -> Tensor:
        budget = mc.Budget(**{"bits": 2, "steps": 1} | fields)
        found = mc.find_method(name)(model, images(), budget)
        return torch.cat([p.flatten() for p in found.model.parameters()])

    plain = weights("GPFQ")
    assert torch.equal(plain, weights("GPFQ", steps=3))
    assert not torch.equal(plain, weights("GPFQ", bits=3))
    assert not torch.equal(plain, weights("GPFQ", scale="max"))
    few = weights("GPFQ", patch_fraction=0.2)
    assert not torch.equal(plain, few)
    assert not torch.equal(few, weights("GPFQ", patch_fraction=0.2, seed=4))
    slow = weights("BRECQ", steps=30, learning_rate=1e-6)
    fast = weights("BRECQ", steps=30, learning_rate=0.3)
    assert not torch.equal(slow, fast)
    assert torch.equal(slow, weights("RTN"))


@given(st.lists(st.booleans(), min_size=1, max_size=70))
def test_hits_round_trip(hits: list[bool]) -> None:
    text = mc.pack_hits(np.array(hits))
    assert mc.unpack_hits(text, len(hits)).tolist() == hits
    assert len(text) == 2 * math.ceil(len(hits) / 8)


@given(st.integers(0, 1000), st.permutations(range(CLASSES)))
def test_right_answers_are_those_of_the_report_protocols(
    seed: int, order: list[int]
) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(30, CLASSES, generator=generator)
    classes = tuple(order[:3])
    labels = np.random.default_rng(seed).choice(classes, 30)
    known = subset_accuracy(logits, labels, classes)
    among_all = mc.right_answers(logits, labels)
    among_own = mc.right_answers(logits, labels, classes)
    assert among_all.mean() == pytest.approx(known["all_logits"])
    assert among_own.mean() == pytest.approx(known["subset_logits"])
    assert (among_own | ~among_all).all()


def cell(**changes: Any) -> dict[str, Any]:
    return {
        "method": "RTN",
        "bits": 3,
        "granularity": "channel",
        "scale": "output",
        "calibration": "all",
        "draw": 0,
        "patch_fraction": 1.0,
        "steps": 2,
        "learning_rate": 0.01,
    } | changes


def shared(model: nn.Module) -> dict[str, Any]:
    return {
        "model": model,
        "model_name": "tiny",
        "images": {"all 0": images(), "subset 0": images(seed=1)},
        "test": {
            "full": data(4, 0, range(CLASSES)),
            "subset": data(6, 1, range(1, 3)),
        },
        "classes": (1, 2),
    }


def test_a_cell_scores_what_it_quantized(model: nn.Module) -> None:
    given_ = shared(model)
    rows = mc.compare_cell(**cell(), **given_)
    assert [row["protocol"] for row in rows] == ["full", "all", "sub"]
    budget = mc.Budget(3, steps=2)
    network = mc.find_method("RTN")(model, images(), budget).model
    pixels = torch.from_numpy(given_["test"]["full"].images)
    x = (pixels.permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.25
    right = network(x).argmax(1).numpy() == given_["test"]["full"].labels
    assert rows[0]["correct"] == right.sum() and rows[0]["n"] == 20
    assert (mc.unpack_hits(rows[0]["hits"], 20) == right).all()
    assert all(r["levels"] == 8 and r["seconds"] > 0 for r in rows)
    assert rows[0]["moved"] is None


def test_a_cell_of_the_subset(model: nn.Module) -> None:
    one = cell(calibration="subset", method="BRECQ", steps=20)
    rows = mc.compare_cell(**one, **shared(model))
    assert [row["protocol"] for row in rows] == ["all", "sub"]
    assert rows[1]["correct"] >= rows[0]["correct"] and rows[0]["n"] == 12
    assert 0 <= rows[0]["moved"] <= 1 and 0 < rows[0]["loss_ratio"] <= 1


def test_cells_can_be_swept(model: nn.Module) -> None:
    """The key of the sweep takes the cell function and all of its code."""
    inputs = shared(model)
    cells = [cell(), cell(method="GPTQ")]
    frame = sweep(
        "test-methods",
        mc.compare_cell,
        cells,
        shared=inputs,
        key={name: None for name in inputs},
        code=mc.CODE,
        progress=False,
    )
    assert len(frame) == 6
    means = method_tables.accuracies(frame)
    assert set(means["method"]) == {"RTN", "GPTQ"}
    assert means["low"].lt(means["accuracy"]).all()


def rows_of(hits: dict[tuple[str, int], list[int]], **same: Any) -> Any:
    """Rows of made-up cells: hits by (method, draw)."""
    return pd.DataFrame(
        [
            cell(method=method, draw=draw)
            | {
                "protocol": "full",
                "correct": sum(right),
                "n": len(right),
                "hits": mc.pack_hits(np.array(right)),
                "seconds": 1.0 + draw,
                "file_bytes": 100,
                "layer_error": 0.1,
            }
            | same
            for (method, draw), right in hits.items()
        ]
    )


def test_one_draw_has_the_interval_of_wilson() -> None:
    found = method_tables.accuracy_interval([30], 40)
    z, p, n = scipy_stats.norm.ppf(0.975), 0.75, 40
    centre = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2)) / (1 + z**2 / n)
    assert found.ci == pytest.approx((centre - half, centre + half))


def test_several_draws_have_the_interval_of_student() -> None:
    found = method_tables.accuracy_interval([30, 32, 37], 40)
    accuracies = np.array([0.75, 0.8, 0.925])
    half = scipy_stats.t.ppf(0.975, 2) * accuracies.std(ddof=1) / math.sqrt(3)
    mean = accuracies.mean()
    assert found.value == pytest.approx(mean)
    assert found.ci == pytest.approx((mean - half, mean + half))


def test_accuracies_average_over_draws() -> None:
    hits = {("a", 0): [1, 1, 0, 0], ("a", 1): [1, 1, 1, 0]}
    (row,) = method_tables.accuracies(rows_of(hits)).to_dict("records")
    assert row["accuracy"] == pytest.approx(62.5)
    assert (row["n"], row["draws"], row["seconds"]) == (4, 2, 1.5)


def test_differences_are_paired_by_image() -> None:
    """Ten images change sides, all the same way: an exact sign test."""
    a = [1] * 60 + [0] * 40
    b = [1] * 50 + [0] * 50
    (row,) = method_tables.differences(
        rows_of({("a", 0): a, ("b", 0): b})
    ).to_dict("records")
    assert (row["first"], row["second"]) == ("a", "b")
    assert row["difference"] == pytest.approx(10)
    assert row["agree"] == 1 and row["p"] < 0.01
    crossed = [1] * 50 + [0] * 10 + [1] * 10 + [0] * 30
    (row,) = method_tables.differences(
        rows_of({("a", 0): a, ("c", 0): crossed})
    ).to_dict("records")
    assert row["difference"] == 0 and row["p"] > 0.9


def test_draws_are_matched_whatever_their_order() -> None:
    first, second = [1, 1, 1, 0] * 5, [1, 0, 0, 0] * 5
    hits = {("a", 0): first, ("a", 1): second}
    hits |= {("b", 1): second, ("b", 0): first}
    (row,) = method_tables.differences(rows_of(hits)).to_dict("records")
    assert row["difference"] == 0 and row["p"] == 1 and row["agree"] == 1


def test_p_values_are_adjusted_for_all_pairs() -> None:
    rng = np.random.default_rng(0)
    hits = {(m, 0): rng.integers(0, 2, 60).tolist() for m in "abc"}
    table = method_tables.differences(rows_of(hits))
    alone = [
        method_tables.differences(rows_of({(m, 0): hits[m, 0] for m in pair}))[
            "p"
        ].iloc[0]
        for pair in ("ab", "ac", "bc")
    ]
    assert len(table) == 3
    order = np.argsort(alone)
    assert table["p"].iloc[order[0]] == pytest.approx(
        min(1, 3 * alone[order[0]])
    )
    assert (table["p"] >= np.array(alone) - 1e-12).all()


def test_drops_are_paired_with_the_original() -> None:
    original = mc.pack_hits(np.array([1] * 80 + [0] * 20))
    hits = {("a", 0): [1] * 70 + [0] * 30, ("a", 1): [1] * 60 + [0] * 40}
    (row,) = method_tables.drops(rows_of(hits), original).to_dict("records")
    lost = np.repeat([0, 0.5, 1, 0], [60, 10, 10, 20])
    half = scipy_stats.t.ppf(0.975, 99) * lost.std(ddof=1) / 10
    assert row["method"] == "a" and row["drop"] == pytest.approx(15)
    ends = (100 * (lost.mean() - half), 100 * (lost.mean() + half))
    assert (row["low"], row["high"]) == pytest.approx(ends)


def test_differences_of_another_column() -> None:
    both = pd.concat(
        [
            rows_of({("a", 0): [1] * 30}),
            rows_of({("a", 0): [0] * 30}, calibration="subset"),
        ]
    )
    (row,) = method_tables.differences(both, "calibration").to_dict("records")
    assert (row["method"], row["difference"]) == ("a", 100)
    assert method_tables.differences(both).empty


def test_winners_and_who_is_level() -> None:
    hits = {
        ("a", 0): [1] * 59 + [0] * 41,
        ("b", 0): [1] * 60 + [0] * 40,
        ("c", 0): [1] * 20 + [0] * 80,
    }
    rows = rows_of(hits)
    (row,) = method_tables.winners(
        method_tables.accuracies(rows), method_tables.differences(rows)
    ).to_dict("records")
    assert (row["best"], row["level"], row["accuracy"]) == ("b", "a", 60)


def test_layer_error_is_that_of_the_calibration(model: nn.Module) -> None:
    x = images()
    quantized = mc.find_method("GPTQ")(model, x, mc.Budget(2))
    folded = fold_batch_norm(trace(model))
    layers = quantized.layers.set_index("layer")["relative_error"]
    for layer in ("conv1", "conv2", "fc"):
        one = one_layer(folded, quantized.model, layer, x)
        weight = weight_matrix(quantized.model.get_submodule(layer))
        assert one.error(weight) == pytest.approx(layers[layer], rel=1e-4)


def test_layer_statistics_are_those_of_its_patches(model: nn.Module) -> None:
    quantized = mc.find_method("RTN")(model, images(), mc.Budget(2)).model
    folded = fold_batch_norm(trace(model))
    one = one_layer(folded, quantized, "conv2", images())
    x, seen = (
        F.unfold(
            torch.relu(net.get_submodule("conv1")(images())), 3, padding=1
        )
        .transpose(0, 1)
        .flatten(1)
        .double()
        for net in (folded, quantized)
    )
    found = one.statistics()
    assert torch.allclose(found.hessian[0], seen @ seen.T, atol=1e-2)
    assert torch.allclose(found.drift[0], seen @ (x - seen).T, atol=1e-2)
    w, q = one.weight.detach().double(), torch.zeros_like(one.weight)
    gap = (w @ (x - seen).detach()).norm() / (w @ x.detach()).norm()
    assert one.error(q) == pytest.approx(1)
    assert one.error(one.weight) == pytest.approx(float(gap), rel=1e-4)


def test_peak_memory_is_what_is_allocated() -> None:
    """The warm-up takes one byte a number and the measured call eight:
    what the former needed does not count for the latter."""
    sizes = {"large": 8 * 2**20, "none": 1, "medium": 2 * 2**20}
    found = peak_memory(
        {name: partial(np.ones, size) for name, size in sizes.items()},
        {"dtype": np.float64},
        {"dtype": np.int8},
    )
    assert found is not None
    # Each in a process of its own: the large one leaves nothing behind.
    assert 54 < found["large"] < 62
    assert 12 < found["medium"] < 20
    assert found["none"] < 4


def test_peak_memory_says_what_failed() -> None:
    with pytest.raises(PeakMemoryError, match="'bad' failed(.|\n)*negative"):
        peak_memory({"bad": partial(np.ones, -1)}, {})


def test_figures_show_every_method() -> None:
    hits = {(m, 0): [1, 1, 0, 1] for m in ("RTN", "GPFQ")}
    rows = pd.concat(
        [
            rows_of(hits, bits=b, granularity=g)
            for b in (2, 3)
            for g in ("channel", "tensor")
        ]
    )
    means = method_tables.accuracies(rows)
    figure = method_figures.accuracy_time_figure(means, 90.0)
    assert len(figure.axes) == 2
    for ax in figure.axes:
        assert len(ax.containers) == 2
        assert sorted(t.get_text() for t in ax.texts) == ["2", "2", "3", "3"]
    rules = pd.concat([rows_of(hits, scale=s) for s in ("max", "output")])
    ax = method_figures.rules_figure(
        method_tables.accuracies(rules), 90.0
    ).axes[0]
    assert [t.get_text() for t in ax.get_yticklabels()] == ["max", "output"]
    assert len(ax.containers) == 2


def made_run() -> Run:
    provenance = Provenance("made", "synthetic", "0", "book")
    return Run(
        "08_gpfq_gptq_brecq", {"profile": "smoke", "seed": 0}, provenance
    )


def test_recorded_rows_are_those_of_the_tables() -> None:
    run = made_run()
    rows = rows_of({("a", 0): [1, 1, 0, 1], ("b", 0): [0, 1, 0, 0]})
    scored = pd.DataFrame([{"protocol": "full", "correct": 3, "n": 4}])
    base = method_report.record_original(run, scored)
    assert base["full"] == pytest.approx(75)
    method_report.record_accuracies(run, method_tables.accuracies(rows))
    pairs = method_tables.differences(rows)
    keys = ["first", "second", "bits"]
    method_report.record_points(run, "difference", pairs, 4, keys)
    frame = run.rows
    by_metric = frame.groupby("metric")["value"].apply(list).to_dict()
    assert by_metric["accuracy"] == pytest.approx([0.75, 0.75, 0.25])
    assert by_metric["difference"] == pytest.approx([50])
    assert (frame["ci_low"] <= frame["value"]).all()
    assert (frame["ci_high"] >= frame["value"]).all()


def test_gaps_of_rules_and_of_solvers() -> None:
    # By solver: two rules. Rules move RTN by 20, GPFQ by 4, GPTQ by 2;
    # without RTN solvers differ by 3 under one rule and by 1 under the other.
    points = {"RTN": (10, 30), "GPFQ": (40, 44), "GPTQ": (43, 45)}
    by_rule = pd.DataFrame(
        {"method": method, "scale": scale, "accuracy": value}
        for method, values in points.items()
        for scale, value in zip(("max", "mse"), values)
    )
    run = made_run()
    gaps = method_report.record_gaps(run, by_rule)
    assert gaps == pytest.approx({"rule": 3, "solver": 2})
    found = run.rows[run.rows["metric"] == "accuracy_gap"]["value"]
    assert found.tolist() == pytest.approx([26 / 3, (33 + 15) / 2, 3, 2])


def rows_of_rules(solver_counts: bool) -> pd.DataFrame:
    """Forty images; one rule, or one solver, gets thirty more right."""
    lines = []
    for solver in ("RTN", "GPFQ", "GPTQ"):
        for scale in ("max", "mse"):
            best = solver == "GPTQ" if solver_counts else scale == "mse"
            right = np.arange(40) < (35 if best else 5)
            line = {"method": solver, "scale": scale, "draw": 0, "n": 40}
            lines.append(line | {"hits": mc.pack_hits(right)})
    return pd.DataFrame(lines)


@pytest.mark.parametrize(("counts", "word"), [(False, "more"), (True, "less")])
def test_which_gap_is_larger_is_said_with_an_interval(
    counts: bool, word: str
) -> None:
    run = made_run()
    more = method_report.gap_difference(run, rows_of_rules(counts))
    assert more.value == pytest.approx(-75 if counts else 75)
    assert more.ci is not None and more.low < more.value < more.high
    assert np.sign(more.low) == np.sign(more.high)
    assert run.rows["metric"].tolist() == ["accuracy_gap_difference"]
    told = method_report.told_gaps({"rule": 75.0, "solver": 0.0}, more)
    assert f"matters {word} than the solver" in told
    even = replace(more, low=-1.0)
    even = replace(even, high=1.0)
    told = method_report.told_gaps({"rule": 1.0, "solver": 1.0}, even)
    assert "cannot tell" in told


def test_a_rule_that_a_solver_lacks_is_an_error() -> None:
    rows = rows_of_rules(False)
    with pytest.raises(StatsError, match="every solver"):
        method_report.gap_difference(made_run(), rows.iloc[:-1])


@pytest.mark.parametrize(
    ("seconds", "verdicts"),
    [
        ({"GPTQ": 1.0, "GPFQ": 1.0, "BRECQ": 5.0}, ["holds", "does not"]),
        ({"GPTQ": 1.0, "GPFQ": 2.0, "BRECQ": 1.1}, ["not at", "holds"]),
        ({"RTN": 1.0, "GPFQ": 2.0, "BRECQ": 1.1}, []),
    ],
)
def test_verdicts_on_time(
    seconds: dict[str, float], verdicts: list[str]
) -> None:
    found = method_report.time_claims(pd.Series(seconds), 40)
    assert len(found) == len(verdicts)
    assert all(c[2].startswith(v) for c, v in zip(found, verdicts))


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (-0.5, 0.9, "holds"),
        (0.5, 1.5, "this run cannot tell"),
        (1.5, 3.0, "does not hold here"),
    ],
)
def test_verdicts_on_accuracy(low: float, high: float, verdict: str) -> None:
    row = {"bits": 4, "drop": (low + high) / 2, "low": low, "high": high}
    losses = pd.DataFrame([row | {"method": m} for m in ("GPTQ", "RTN")])
    (claim,) = method_report.drop_claims(losses)
    assert claim[2] == verdict and "GPTQ" in claim[0]
