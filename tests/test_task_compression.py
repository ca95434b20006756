"""Networks for some classes: cut, calibrated, within a budget of bytes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from task_samples import CLASSES, NAMES, Small, part, small_network, splits
from torch import nn

from lq_utils.artifact import load_quantized, save_quantized
from lq_utils.bit_allocation import AllocationError
from lq_utils.calibration import calibration_rows, subset_accuracy
from lq_utils.graph import fold_batch_norm, trace
from lq_utils.images import DataError
from lq_utils.inference import predict, to_input
from lq_utils.models import MODELS, build_model, register_model
from lq_utils.plans import Plan
from lq_utils.quantnet import QuantNet
from lq_utils.registry import UnknownName
from lq_utils.task_budget import uniform_bytes, uniform_plan
from lq_utils.task_calibration import mixed_rows, zero_dead_weights
from lq_utils.task_compression import compress_for_task, task_costs
from lq_utils.task_network import (
    TaskError,
    classifier_name,
    slice_classifier,
    task_hits,
    task_network,
)
from lq_utils.task_settings import ABLATIONS, TaskSettings, changed

FEW = TaskSettings(images=24, cost_images=12, bits=(2, 3, 4), polish=1)
TASK = (4, 1, 2)


@pytest.fixture(autouse=True)
def small_model() -> Iterator[None]:
    register_model("small", replace=True)(Small)
    yield
    del MODELS._entries["small"]


# -- the network of a task --------------------------------------------------


@settings(max_examples=25)
@given(st.permutations(range(CLASSES)), st.integers(2, CLASSES))
def test_logits_are_the_rows_of_the_whole_networks(
    order: list[int], size: int
) -> None:
    network, classes = small_network(), order[:size]
    x = to_input(part("train", 2).images)
    whole, own = network(x), slice_classifier(network, classes)(x)
    torch.testing.assert_close(own, whole[:, classes])
    assert network.fc.out_features == CLASSES


@pytest.mark.parametrize(
    ("network", "name"),
    [
        (build_model("mobilenetv2_x0_5", 7), "classifier.1"),
        (QuantNet(7), "output"),
        (nn.Sequential(nn.Flatten(), nn.Linear(4, 7), nn.Dropout()), "1"),
        (nn.Sequential(nn.Flatten(), nn.Linear(4, 7, bias=False)), "1"),
    ],
)
def test_any_network_that_ends_in_a_linear_layer(
    network: nn.Module, name: str
) -> None:
    assert classifier_name(network) == name
    kept = slice_classifier(network, [6, 0]).get_submodule(name)
    old = network.get_submodule(name)
    assert torch.equal(kept.weight, old.weight[[6, 0]])
    assert (kept.bias is None) == (old.bias is None)


@pytest.mark.parametrize(
    "network",
    [
        nn.Sequential(nn.Conv2d(3, 2, 1), nn.Flatten()),
        nn.Sequential(nn.Linear(4, 7), nn.Softmax(1)),
        nn.Sequential(nn.Linear(4, 7), nn.ReLU()),
    ],
)
def test_other_ends_are_refused(network: nn.Module) -> None:
    with pytest.raises(TaskError, match="does not end in a linear layer"):
        slice_classifier(network, [0, 1])


@pytest.mark.parametrize(
    ("classes", "says"),
    [([1], "two or more"), ([1, 1], "each once"), ([0, 6], "not all in 0..5")],
)
def test_classes_that_are_no_task(classes: list[int], says: str) -> None:
    with pytest.raises(TaskError, match=says):
        slice_classifier(small_network(), classes)


def test_names_stay_with_their_outputs() -> None:
    task = task_network(small_network(), TASK, NAMES)
    assert task.class_names == ("eel", "bee", "cat")
    assert (task.outputs, task.total) == ((0, 1, 2), 3)
    whole = task_network(small_network(), TASK, NAMES, cut=False)
    assert (whole.outputs, whole.total) == (TASK, CLASSES)
    with pytest.raises(TaskError, match="2 class names for 6 outputs"):
        task_network(small_network(), TASK, ("a", "b"))


@pytest.mark.parametrize("cut", [True, False])
def test_hits_are_the_reports_sub_protocol(cut: bool) -> None:
    network, data = small_network(), part("test", 9)
    task = task_network(network, TASK, NAMES, cut)
    hits = task_hits(task.network, data, task)
    known = subset_accuracy(predict(network, data), data.labels, TASK)
    assert hits.mean() == pytest.approx(known["subset_logits"])
    assert len(hits) == 9 * len(TASK)


# -- calibration ------------------------------------------------------------


@given(st.floats(0, 1), st.integers(1, 30), st.integers(0, 5))
def test_shares_of_the_task_and_of_all(
    share: float, count: int, seed: int
) -> None:
    data = part("train", 12)
    rows = mixed_rows(data, count, share, TASK, seed)
    assert len(rows) == len(set(rows.tolist())) == count
    own = round(share * count)
    assert set(data.labels[rows[:own]]) <= set(TASK)
    if own:
        drawn = calibration_rows(data, own, seed, TASK)
        assert rows[:own].tolist() == drawn.tolist()
    if not own:
        assert rows.tolist() == calibration_rows(data, count, seed).tolist()


def test_bad_mixes() -> None:
    with pytest.raises(TaskError, match="not in 0..1"):
        mixed_rows(part("train", 3), 4, 1.5, TASK, 0)
    with pytest.raises(DataError, match="training part"):
        mixed_rows(part("test", 3), 4, 0.5, TASK, 0)
    with pytest.raises(DataError, match="smallest has 3"):
        mixed_rows(part("train", 3), 40, 1.0, TASK, 0)


def test_dead_weights_are_those_that_no_image_reaches() -> None:
    network = small_network()
    with torch.no_grad():
        network.bn1.bias[2] = -100.0  # its channel never fires
    x = to_input(part("train", 3).images)
    found, count = zero_dead_weights(network, x)
    folded = fold_batch_norm(trace(network))
    assert count == 8 * 9 and not found.conv2.weight[:, 2].any()
    kept = [0, 1, 3]
    assert torch.equal(
        found.conv2.weight[:, kept], folded.conv2.weight[:, kept]
    )
    assert torch.equal(found(x), folded(x))


# -- settings ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"allocation": "awre"}, "aware, blind, uniform"),
        ({"subset_share": 1.2}, "not in 0..1"),
        ({"images": 0}, "at least one image"),
        ({"bits": ()}, "one or more"),
        ({"bits": (3, 3)}, "each once"),
        ({"reconstruction_steps": -1}, "0 or more"),
    ],
)
def test_wrong_settings(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(TaskError, match=says):
        TaskSettings(**fields)


def test_unknown_names_get_suggestions() -> None:
    with pytest.raises(TaskError, match="did you mean 'polish'"):
        changed(FEW, polsh=3)
    with pytest.raises(UnknownName, match="did you mean 'divergence'"):
        TaskSettings(sensitivity="divergance")


def test_every_ablation_differs_from_the_whole() -> None:
    whole = TaskSettings()
    assert all(changed(whole, **c) != whole for c in ABLATIONS.values())


# -- budgets ----------------------------------------------------------------


def budget(bits: float, own: TaskSettings = FEW) -> int:
    task = task_network(small_network(), TASK, NAMES)
    return uniform_bytes(task, "small", bits, own)


def test_budgets_in_bits_lie_on_the_line_between_whole_ones() -> None:
    low, high = budget(2), budget(3)
    weights = 4 * 27 + 8 * 36 + 3 * 8
    assert high - low == pytest.approx(weights / 8, abs=16)
    assert budget(2.5) == pytest.approx((low + high) / 2, abs=1)


def test_uniform_takes_the_most_bits_that_fit() -> None:
    task = task_network(small_network(), TASK, NAMES)
    exact = uniform_plan(task, "small", budget(3), FEW)
    assert {row.bits for row in exact} == {3}
    below = uniform_plan(task, "small", budget(3) - 1, FEW)
    assert {row.bits for row in below} == {2}
    with pytest.raises(AllocationError, match="1 more than the budget"):
        uniform_plan(task, "small", budget(2) - 1, FEW)


# -- compression ------------------------------------------------------------


@pytest.mark.parametrize("name", ["whole", *ABLATIONS])
def test_every_switch_stays_in_the_budget_and_in_the_file(
    name: str, tmp_path: Path
) -> None:
    own = FEW if name == "whole" else changed(FEW, **ABLATIONS[name])
    if own.reconstruction_steps:
        own = changed(own, reconstruction_steps=3)
    # Room for all outputs, and for normalisations that are not folded.
    data, limit = splits(), budget(3) + 200
    found = compress_for_task(
        small_network(), "small", data.train, TASK, limit, own
    )
    path = tmp_path / "network.lq"
    size = save_quantized(path, found.quantized, "small", found.task.total)
    assert size == path.stat().st_size == found.file_bytes <= limit
    assert (found.costs is None) == (own.allocation == "uniform")
    x = to_input(data.test.images)
    assert torch.equal(load_quantized(path)(x), found.quantized.model(x))


def test_aware_costs_are_those_of_the_cut_network() -> None:
    """Cut or not, the same answers compete on the same images."""
    train = splits().train
    cut = task_costs(small_network(), train, TASK, FEW)
    whole = task_costs(
        small_network(),
        train,
        TASK,
        changed(FEW, slice_classifier=False),
    )
    pd.testing.assert_frame_equal(cut, whole, rtol=1e-3)
    blind = task_costs(
        small_network(), train, TASK, changed(FEW, allocation="blind")
    )
    assert not np.allclose(cut["cost"], blind["cost"], rtol=0.05)


def test_costs_by_gradient_know_their_labels() -> None:
    own = changed(FEW, sensitivity="fisher")
    found = task_costs(small_network(), splits().train, TASK, own)
    assert (found["cost"] >= 0).all() and found["cost"].sum() > 0


def test_more_bytes_never_give_fewer_bits_in_total() -> None:
    network, train = small_network(), splits().train
    costs = task_costs(network, train, TASK, FEW)
    totals = []
    for bits in (2, 2.5, 3, 4):
        found = compress_for_task(
            network, "small", train, TASK, budget(bits), FEW, costs=costs
        )
        chosen = dict(zip(costs["layer"], [0] * len(costs)))
        by_key = costs.set_index(["layer", "bits"])["cost"]
        assert set(chosen) == set(found.plan.names())
        totals.append(sum(by_key[r.layer, r.bits] for r in found.plan))
    assert totals == sorted(totals, reverse=True)


def test_a_plan_given_is_taken_or_refused() -> None:
    network, train = small_network(), splits().train
    task = task_network(network, TASK, NAMES)
    plan = Plan.uniform(task.network, 4, **FEW.row())
    found = compress_for_task(
        network, "small", train, TASK, 10**6, FEW, plan=plan
    )
    assert found.plan == plan and found.costs is None
    with pytest.raises(AllocationError, match="more than the budget"):
        compress_for_task(network, "small", train, TASK, 900, FEW, plan=plan)


def test_biases_of_the_correction_count() -> None:
    """conv2 has none until its outputs are corrected: four bytes each."""
    network, train = small_network(), splits().train
    none = changed(FEW, correction="none", allocation="uniform", bits=(3, 4))
    free = compress_for_task(network, "small", train, TASK, 10**6, none)
    corrected = replace(none, correction="bias")
    tight = compress_for_task(
        network, "small", train, TASK, free.file_bytes, corrected
    )
    assert {row.bits for row in free.plan} == {4}
    assert {row.bits for row in tight.plan} == {3}
    assert tight.file_bytes <= free.file_bytes


def test_the_network_is_left_alone() -> None:
    network = small_network()
    before = {k: v.clone() for k, v in network.state_dict().items()}
    own = changed(FEW, dead_columns="zero")
    compress_for_task(
        network, "small", splits().train, TASK, budget(3) + 200, own
    )
    after = network.state_dict()
    assert all(torch.equal(before[k], after[k]) for k in before)
