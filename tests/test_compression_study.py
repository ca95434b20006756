"""Cells of chapter 4: networks, rows, curves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from test_engine import APART, imported
from torch import nn

from lq_utils import compression_curves as cc
from lq_utils import compression_networks as cn
from lq_utils import compression_study as cs
from lq_utils.activation_quantization import activation_quantizers
from lq_utils.compression import cluster, fake_quantize
from lq_utils.images import Splits
from lq_utils.inference import evaluate, predict
from lq_utils.models import count_parameters
from lq_utils.tasks import all_classes_task, fewer_images, thesis_tasks

PLAN = cn.budget(
    epochs=2,
    transfer_epochs=1,
    fine_epochs=1,
    rate=1e-3,
    fine_rate=1e-4,
    calibration=8,
)
NAMES = ("cat/dog", "horse/frog", "rotated cat/dog")


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Splits]:
    empty = str(tmp_path_factory.mktemp("none"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LQ_DATA_DIR", empty)
        found = thesis_tasks(dataset="synthetic10", verbose=False)
        few = [fewer_images(s, 64, 20, seed=0) for s in found.values()]
        return dict(zip(NAMES, few))


@pytest.fixture(autouse=True, scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> object:
    """One cache for the module: base networks are trained once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LQ_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def base(tasks: dict[str, Splits]) -> nn.Module:
    return cn.base_network(tasks["cat/dog"], 0, PLAN)


def test_a_budget_is_complete() -> None:
    with pytest.raises(ValueError, match="fine_epochs"):
        cn.budget(epochs=1)
    assert cn.recipe(PLAN, 3).epochs == 2
    assert cn.recipe(PLAN, 3, fine=True).learning_rate == 1e-4


def test_base_networks_are_shared(
    tasks: dict[str, Splits], base: nn.Module
) -> None:
    again = cn.base_network(tasks["cat/dog"], 0, PLAN)
    other = cn.base_network(tasks["cat/dog"], 1, PLAN)
    key = "linear2.weight"
    assert torch.equal(again.state_dict()[key], base.state_dict()[key])
    assert not torch.equal(other.state_dict()[key], base.state_dict()[key])


def test_tasks_of_fewer_images(tasks: dict[str, Splits]) -> None:
    splits = tasks["cat/dog"]
    assert [len(splits.train), len(splits.test)] == [128, 40]
    assert fewer_images(splits, 0, 0, 5).train is splits.train


def test_all_classes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LQ_DATA_DIR", str(tmp_path))
    splits = all_classes_task(dataset="synthetic10", verbose=False)
    sizes = [len(p) for p in (splits.train, splits.validation, splits.test)]
    assert np.allclose(np.array(sizes) / sum(sizes), [0.7, 0.1, 0.2])
    assert splits.train.num_classes == 10


def test_a_transfer_starts_from_the_source(
    tasks: dict[str, Splits], base: nn.Module
) -> None:
    arguments = ("horse/frog", "cat/dog", 0, PLAN, tasks)
    moved = cn.start_network(*arguments)
    own = cn.start_network("cat/dog", cn.OWN, 0, PLAN, tasks)
    change = [
        float((a.state_dict()[k] - base.state_dict()[k]).abs().max())
        for a in (moved, own)
        for k in ["conv1.weight"]
    ]
    # Two steps of Adam at 1e-3 or less, against none.
    assert 0 < change[0] < 3e-3
    assert change[1] == 0


def test_a_plain_copy_rounds_nothing(
    tasks: dict[str, Splits], base: nn.Module
) -> None:
    splits = tasks["cat/dog"]
    aware = cn.with_quantized_activations(base, splits, 0, PLAN)
    rounded = fake_quantize(aware, 8)
    plain = cn.plain_copy(base, rounded)
    assert activation_quantizers(rounded) and not activation_quantizers(plain)
    expected = rounded.get_submodule("conv2").weight
    assert torch.equal(plain.get_submodule("conv2").weight, expected)


def test_rows_of_quantized_networks(
    tasks: dict[str, Splits],
    base: nn.Module,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cs, "POST_TRAINING", {"PTQ int8": "integer"})
    monkeypatch.setattr(cs, "MORE_POST_TRAINING", {})
    rows = cs.quantization_rows("horse/frog", "cat/dog", 0, PLAN, tasks)
    named = {row["set_up"]: row for row in rows}
    assert list(named) == [
        "base",
        "PTQ int8",
        "QAT",
        "PTQ on QAT",
        "source network",
    ]
    for name in ("base", "PTQ int8", "PTQ on QAT"):
        assert named[name]["equal_codes"] == 1
        assert named[name]["within_two"] >= 0.995
        assert named[name]["measured"] is True
    moved = cn.start_network("horse/frog", "cat/dog", 0, PLAN, tasks)
    test = tasks["horse/frog"].test
    assert named["base"]["hits"] == round(evaluate(moved, test) * 40)
    assert named["source network"]["hits"] == round(evaluate(base, test) * 40)
    assert named["PTQ int8"]["bytes"] < named["base"]["bytes"] / 3.5


def test_rows_of_clustered_networks(
    tasks: dict[str, Splits], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cs, "POST_TRAINING", {"PTQ int8": "integer"})
    rows = cs.clustering_rows("cat/dog", 0, 4, PLAN, tasks)
    named = {row["set_up"]: row for row in rows}
    kept = named["cluster-preserving QAT"]
    for row in (named["clustered"], kept):
        assert row["distinct_by_layer"] == "4, 4, 4, 4, 4"
    assert kept["most_codes"] <= 4
    assert named["clustered, QAT"]["distinct"] > 1000
    packed = named["clustered"]["compressed_bytes"]
    assert packed < named["clustered"]["bytes"] / 8


def test_rows_of_sparse_networks(tasks: dict[str, Splits]) -> None:
    rows = cs.sparse_rows("cat/dog", 0, 16, PLAN, tasks)
    assert [row["measured"] for row in rows] == [False, True]
    for row in rows:
        assert row["zero_share"] == pytest.approx(0.5, abs=1e-3)
    assert rows[0]["distinct"] <= 16


def test_one_layer_at_a_time(
    tasks: dict[str, Splits], base: nn.Module
) -> None:
    rows = cc.layer_rows("cat/dog", 0, (8, 2), PLAN, tasks)
    assert len(rows) == 1 + 2 * 6
    test = tasks["cat/dog"].test
    assert rows[0]["hits"] == round(evaluate(base, test) * 40)
    one = next(r for r in rows if (r["layer"], r["bits"]) == ("conv2", 2))
    rounded = fake_quantize(
        base,
        2,
        granularity="mixed",
        skip=["conv1", "linear1", "linear2", "output"],
    )
    assert one["hits"] == round(evaluate(rounded, test) * 40)
    names = ["conv1", "linear1"]
    for name in names:
        kept, old = (m.get_submodule(name).weight for m in (rounded, base))
        assert torch.equal(kept, old)


def test_pruning_without_training(
    tasks: dict[str, Splits], base: nn.Module
) -> None:
    rows = cc.pruning_rows("cat/dog", 0, (0.0, 0.5), PLAN, tasks)
    none, half = rows[:2], rows[2:]
    hits = round(evaluate(base, tasks["cat/dog"].test) * 40)
    assert [(r["removed"], r["hits"]) for r in none] == [(0, hits)] * 2
    total = count_parameters(base)
    # By hand: half of all weights but the last sixteen; units keep 16, 32,
    # 64, 8 of each layer.
    assert half[0]["removed"] == (total - 241 - 16) // 2 / total
    left = 448 + 16 * 32 * 9 + 32 + 64 * 32 * 64 + 64 + 64 * 8 + 8 + 8 + 1
    assert half[1]["removed"] == pytest.approx(1 - left / total)


def test_equal_sizes(tasks: dict[str, Splits]) -> None:
    rows = cc.equal_size_rows("cat/dog", 0, (16, 32), PLAN, tasks)
    kept = [row["kept"] for row in rows]
    # By hand: 3x3 convolutions to 16 and 32 filters, 64 x 32 inputs, ...
    first = 3 * 9 * 16 + 16 + 16 * 9 * 32 + 32 + 64 * 32 * 128 + 128
    assert kept == [first + 2064 + 17] * 2
    assert [row["kind"] for row in rows] == [
        "small and dense",
        "large and sparse",
    ]


def test_a_sparse_network_keeps_as_many_parameters(
    tasks: dict[str, Splits], base: nn.Module
) -> None:
    sparse = cc.sparse_network(base, tasks["cat/dog"], 0.75, 0, PLAN)
    zeros = [float((w == 0).double().mean()) for w in cc.weights_of(sparse)]
    assert zeros == pytest.approx([0.75] * 4 + [0], abs=0.01)
    assert not torch.equal(
        predict(sparse, tasks["cat/dog"].test),
        predict(base, tasks["cat/dog"].test),
    )


def test_clusters(tasks: dict[str, Splits], base: nn.Module) -> None:
    two, many = (
        cc.cluster_rows("cat/dog", 0, count, PLAN, tasks) for count in (2, 16)
    )
    assert [row["trained"] for row in two] == [False, True]
    test = tasks["cat/dog"].test
    at_once = round(evaluate(cluster(base, 2), test) * 40)
    assert two[0]["hits"] == at_once
    assert two[0]["compressed_bytes"] < many[0]["compressed_bytes"]


def test_nothing_is_missing_from_the_code() -> None:
    names = {module.__name__ for module in cs.CODE}
    needed = set().union(*(imported(m.__file__) for m in cs.CODE))
    apart = APART | {"lq_utils.engine", "lq_utils.cache", "lq_utils.data"}
    assert needed - apart <= names
