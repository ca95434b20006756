"""Cells of chapter 7 on a small network, and the tables made of them."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from scipy import stats as scipy_stats
from test_engine import APART, imported
from test_label_aware import CLASSES, Small, make_data
from torch import Tensor, nn
from torchvision import models as tv

from lq_utils import bit_limits as bl
from lq_utils import class_orthogonality as co
from lq_utils import data_free_claims as dfc
from lq_utils import data_free_figures as figures_of
from lq_utils import data_free_networks as dn
from lq_utils import data_free_study as ds
from lq_utils import data_free_tables as dft
from lq_utils import layer_sets as sens
from lq_utils import power_of_two_study as pot
from lq_utils import prediction_bias as pb
from lq_utils.bias_shift import (
    Moments,
    absorb_expected_error,
    clipped_normal,
    expected_inputs,
)
from lq_utils.data_free import round_weights
from lq_utils.engine import ENGINE
from lq_utils.folder_networks import OwnPreprocessing, folder_case, with_folder
from lq_utils.graph import fold_batch_norm, trace
from lq_utils.images import DataError, Splits
from lq_utils.inference import predict, to_input
from lq_utils.method_comparison import pack_hits
from lq_utils.models import build_model
from lq_utils.recipes import TrainingError
from lq_utils.short_training import train_on
from lq_utils.stacks import strip
from lq_utils.stats import StatsError
from lq_utils.sweeps import sweep
from lq_utils.training import TrainingState
from lq_utils.weights import WeightsError

SCHEME = {"quantizer": "asymmetric", "granularity": "channel", "scale": "max"}
SETTING = SCHEME | {"correction": "none", "full": (), "part": "test"}
SETTING |= {"subsets": (), "images": 0, "draw": 0}


@pytest.fixture(scope="module")
def network() -> nn.Module:
    torch.manual_seed(0)
    return Small().eval()


@pytest.fixture(scope="module")
def shared(network: nn.Module) -> dict[str, Any]:
    parts = {p: make_data(p, i) for i, p in enumerate(("train", "test"))}
    parts["validation"] = make_data("validation", 7)
    return {"networks": {"small": network}, "parts": {"small": parts}}


def test_the_keys_of_the_sweeps_are_complete() -> None:
    for module in (ds, pot):
        assert set(ENGINE) | {module} <= set(module.CODE)
        names = {m.__name__ for m in module.CODE}
        decides_nothing = {"lq_utils.label_aware", "lq_utils.engine"}
        assert imported(module.__file__) - APART - decides_nothing <= names


def test_a_cell_is_the_rounded_network_judged(shared: dict[str, Any]) -> None:
    network, test = (
        shared["networks"]["small"],
        shared["parts"]["small"]["test"],
    )
    cell = SETTING | {"network": "small", "bits": 3, "subsets": ((0, 2),)}
    whole, subset = ds.scheme_rows(**cell, **shared)
    plan = ds.scheme_plan(network, 3, **SCHEME)
    logits = predict(round_weights(network, plan).model, test)
    answers = logits.argmax(dim=1).numpy()
    assert np.array_equal(ds.unpack_answers(whole["answers"]), answers)
    assert whole["correct"] == (answers == test.labels).sum()
    own = np.isin(test.labels, (0, 2))
    among = np.array([0, 2])[logits[own][:, [0, 2]].argmax(dim=1).numpy()]
    assert subset["correct"] == (among == test.labels[own]).sum()
    assert subset["n"] == own.sum() and subset["subset"] == "0 2"


def test_full_precision_and_layers_left_out(shared: dict[str, Any]) -> None:
    layers = ("conv", "second", "fc")
    (as_it_is,) = ds.scheme_rows(
        **SETTING | {"network": "small", "bits": None}, **shared
    )
    (all_left,) = ds.scheme_rows(
        **SETTING | {"network": "small", "bits": 2, "full": layers}, **shared
    )
    assert as_it_is["hits"] == all_left["hits"]


def test_corrections_that_do_not_exist(network: nn.Module) -> None:
    plan = ds.scheme_plan(network, 4, **SCHEME)
    with pytest.raises(ds.SchemeError, match="choose one"):
        ds.rounded_network(network, plan, "luck")
    with pytest.raises(ds.SchemeError, match="needs images"):
        ds.rounded_network(network, plan, "images")


def test_outputs_that_are_not_finite_are_refused() -> None:
    class Broken(Small):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) * math.inf

    with pytest.raises(ds.SchemeError, match="not finite"):
        ds.judged(Broken().eval(), make_data("test", 1))


def test_cells_of_a_sweep(
    shared: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LQ_CACHE_DIR", str(tmp_path))
    small = shared["networks"]["small"]
    splits = Splits(
        *(shared["parts"]["small"][p] for p in ("train", "validation", "test"))
    )
    cases = {"small": dn.Case(small, splits)}
    parts = dn.parts_of(cases, 0, 12, 12, seed=0)
    assert (
        len(parts["small"]["train"]) == 60
        and len(parts["small"]["test"]) == 12
    )
    inputs, key = dn.shared_inputs(cases, parts)
    drawn = dn.subsets_of(cases, 6, 10, seed=0)
    assert {len(s) for s in drawn["small"]} == {CLASSES // 2}
    assert len(set(drawn["small"])) == len(drawn["small"])
    given = {"shared": inputs, "key": key, "code": ds.CODE, "progress": False}
    cells = ds.float_cells(["small"], subsets=drawn)
    originals = sweep("free", ds.scheme_rows, cells, **given)
    cells = ds.scheme_cells(["small"], [8, 2], ["asymmetric"], subsets=drawn)
    lost = bl.drops(sweep("free", ds.scheme_rows, cells, **given), originals)
    assert len(lost) == 2 * (1 + len(drawn["small"]))
    # Drops are differences of the accuracies.
    share = originals.set_index("subset")
    for row in lost.itertuples():
        before = 100 * share.loc[row.subset, "correct"] / row.n
        assert row.drop == pytest.approx(before - row.accuracy)
        assert row.drop_low <= row.drop <= row.drop_high
    limits = bl.bit_limits(lost)
    assert (limits["limit_low"] <= limits["limit_high"]).all()
    assert dn.overview(cases)["weights"].item() == 3 * 36 + 5 * 36 + 45 * 6


# Biases


def test_clipped_moments_against_samples() -> None:
    rng = np.random.default_rng(0)
    means, deviations = np.array([-2.0, 0.3, 5.0]), np.array([1.0, 2.0, 3.0])
    x = rng.normal(means, deviations, (400_000, 3))
    given = Moments(torch.from_numpy(means), torch.from_numpy(deviations**2))
    for high in (math.inf, 6.0):
        found, y = clipped_normal(given, 0.0, high), x.clip(0, high)
        np.testing.assert_allclose(found.mean, y.mean(0), atol=0.02)
        np.testing.assert_allclose(found.variance, y.var(0), atol=0.05)
    constant = Moments(torch.tensor([2.0, -2.0]).double(), torch.zeros(2))
    assert clipped_normal(constant).mean.tolist() == [2, 0]


class Blocks(nn.Module):
    """A residual sum, a depthwise layer, ReLU6, flattening."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(4)
        self.second = nn.Conv2d(4, 4, 1, groups=4, bias=False)
        self.norm2 = nn.BatchNorm2d(4)
        self.relu6 = nn.ReLU6()
        self.fc = nn.Linear(16, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm1(self.first(x)))
        x = x + self.relu6(self.norm2(self.second(x)))
        return self.fc(torch.flatten(x, 1))


@pytest.fixture
def blocks() -> nn.Module:
    torch.manual_seed(1)
    network = Blocks().eval()
    with torch.no_grad():
        for norm in (network.norm1, network.norm2):
            norm.weight.uniform_(0.5, 2)
            norm.bias.uniform_(-1, 1)
    return network


def test_expected_inputs_of_a_residual_network(blocks: Any) -> None:
    found = expected_inputs(blocks)
    assert set(found) == {"second", "fc"}  # not the first: images
    first = clipped_normal(
        Moments(blocks.norm1.bias.double(), blocks.norm1.weight.double() ** 2)
    )
    second = clipped_normal(
        Moments(blocks.norm2.bias.double(), blocks.norm2.weight.double() ** 2),
        0.0,
        6.0,
    )
    assert torch.equal(found["second"], first.mean)
    assert torch.equal(found["fc"], first.mean + second.mean)


@pytest.mark.parametrize("fold", [True, False])
def test_a_corrected_layer_has_the_mean_that_was_expected(
    blocks: Any, fold: bool
) -> None:
    plan = ds.scheme_plan(blocks, 2, **SCHEME)
    found = round_weights(blocks, plan, fold)
    assert absorb_expected_error(blocks, found) == 2
    original = trace(blocks)
    original = fold_batch_norm(original) if fold else original
    for name, mean in expected_inputs(blocks).items():
        layer = original.get_submodule(name)
        per_input = 4 if name == "fc" else 1
        x = mean.float().repeat_interleave(per_input)
        x = x[None] if name == "fc" else x[None, :, None, None]
        with torch.no_grad():
            wanted, got = layer(x), found.model.get_submodule(name)(x)
        torch.testing.assert_close(got, wanted, atol=1e-5, rtol=1e-4)


# Limits


def fake_rows(drops: dict[int, int], n: int = 200) -> pd.DataFrame:
    """Rows whose networks are wrong on the first so many images."""
    lines = []
    for bits, wrong in drops.items():
        hits = np.arange(n) >= wrong
        lines.append(
            SCHEME
            | {"correction": "none", "network": "a", "part": "test"}
            | {"subset": "all", "bits": bits, "hits": pack_hits(hits)}
            | {"n": n, "correct": int(hits.sum())}
        )
    return pd.DataFrame(lines)


def test_limit_by_hand() -> None:
    lost = bl.drops(fake_rows({8: 0, 4: 2, 3: 1, 2: 90}), fake_rows({32: 0}))
    assert lost["drop"].tolist() == [0, 1, 0.5, 45]
    (line,) = bl.bit_limits(lost).to_dict("records")
    # 1 of 200 images: the interval reaches beyond one point.
    assert (line["limit"], line["limit_low"], line["limit_high"]) == (3, 3, 8)
    # A width that fails ends the search, whatever narrower ones do.
    lost = bl.drops(fake_rows({8: 0, 4: 50, 3: 0}), fake_rows({32: 0}))
    assert bl.bit_limits(lost)["limit"].item() == 8
    lost = bl.drops(fake_rows({8: 50}), fake_rows({32: 0}))
    assert bl.bit_limits(lost)["limit"].item() == bl.FLOAT


def test_drops_need_the_original() -> None:
    with pytest.raises(StatsError, match="no original"):
        bl.drops(fake_rows({8: 0}), fake_rows({32: 0}).assign(network="b"))
    with pytest.raises(StatsError, match="no original"):
        bl.drops(fake_rows({8: 0}), fake_rows({32: 0}, n=100))


def test_variance_shares_by_hand() -> None:
    pairs = [("a", "x", 0), ("a", "y", 2), ("b", "x", 4), ("b", "y", 6)]
    table = pd.DataFrame(pairs, columns=["network", "subset", "drop"])
    found = bl.variance_shares(table).set_index("source")["share"]
    # Mean squares 16 and 4, nothing left: components 8 and 2.
    assert found.round(12).to_dict() == {
        "network": 0.8,
        "subset": 0.2,
        "rest": 0,
    }
    assert found.round(12).to_dict() == {
        "network": 0.8,
        "subset": 0.2,
        "rest": 0,
    }
    with pytest.raises(StatsError):
        bl.variance_shares(table.iloc[:3])


def test_noise_alone_is_neither_the_networks_nor_the_subsets() -> None:
    rng = np.random.default_rng(0)
    network, subset = np.indices((3, 400)).reshape(2, -1)
    table = pd.DataFrame({"network": network, "subset": subset})
    noise = bl.variance_shares(table.assign(drop=rng.normal(size=1200)))
    assert noise["share"].iloc[2] > 0.9
    assert noise["cases"].tolist() == [3, 400, 1200]
    # Variances 0, 4 and 1.
    drops = 2 * rng.normal(size=400)[subset] + rng.normal(size=1200)
    found = bl.variance_shares(table.assign(drop=drops))
    assert found["share"].iloc[1] == pytest.approx(0.8, abs=0.05)


# Answers


def test_histograms_of_two_classes_are_mcnemar() -> None:
    first = np.repeat([0, 0, 1, 1], [30, 14, 5, 20])
    second = np.repeat([0, 1, 0, 1], [30, 14, 5, 20])
    found = pb.same_histogram(first, second, 2, draws=20_000)
    # Class 0 is answered 44 and 35 times, class 1 25 and 34 times.
    assert found.statistic == pytest.approx(81 / 79 + 81 / 59)
    exact = scipy_stats.binomtest(5, 19).pvalue
    assert found.changed == 19 and found.p == pytest.approx(exact, abs=0.01)


def test_histograms_of_the_same_answers() -> None:
    same = np.array([0, 1, 2, 2])
    assert pb.same_histogram(same, same, 5) == (0.0, 0, 1.0)
    # Swapped pairs change answers, but not the histogram.
    swapped = pb.same_histogram(np.array([0, 1, 2]), np.array([1, 0, 2]), 3)
    assert swapped == (0.0, 2, 1.0)


def test_one_answer_to_all_is_seen_with_few_images_a_class() -> None:
    answers = np.arange(50)
    found = pb.same_histogram(answers, np.zeros(50, int), 50)
    assert found.p == 1 / pb.DRAWS


def test_histograms_hold_their_level_under_no_difference() -> None:
    rng = np.random.default_rng(0)
    p = []
    for i in range(200):
        first, second = rng.integers(0, 20, (2, 100))
        keep = rng.random(100) < 0.5
        other = np.where(keep, first, second)
        p.append(pb.same_histogram(first, other, 20, 200, seed=i).p)
    assert scipy_stats.kstest(p, "uniform").pvalue > 0.01


@pytest.mark.parametrize(
    ("first", "second"),
    [([0, 1], [0]), ([], []), ([0, 5], [0, 1]), ([-1], [0])],
)
def test_answers_that_do_not_fit(first: list[int], second: list[int]) -> None:
    with pytest.raises(pb.BiasError):
        pb.same_histogram(np.array(first, int), np.array(second, int), 3)


def test_effective_classes() -> None:
    assert pb.effective_classes(np.array([5, 5, 5, 5])) == pytest.approx(4)
    assert pb.effective_classes(np.array([0, 9, 0])) == 1


def test_answers_are_kept() -> None:
    answers = np.array([0, 99, 300, 65_535])
    assert np.array_equal(ds.unpack_answers(ds.pack_answers(answers)), answers)
    # Of a hundred classes, as good as evenly: hardly above their entropy.
    many = np.random.default_rng(0).integers(0, 100, 10_000)
    assert len(ds.pack_answers(many)) < 1.1 * 10_000 * np.log2(100) / 6


# Cosines


def test_cosines_by_hand() -> None:
    features = np.array([[1, 0], [3, 0], [0, 2], [-2, 0], [0, -2]], np.float32)
    labels = np.array([0, 0, 1, 2, 3])
    means = co.class_means(features, labels, 4)
    assert means.tolist() == [[2, 0], [0, 2], [-2, 0], [0, -2]]
    assert co.mean_cosine(means, (0, 1)) == 0
    assert co.mean_cosine(means, (0, 2)) == 1
    assert co.mean_cosine(means, (0, 1, 2)) == pytest.approx(1 / 3)
    with pytest.raises(co.FeatureError):
        co.mean_cosine(means, (0,))
    with pytest.raises(co.FeatureError):
        co.class_means(features, labels, 5)


def test_features_are_what_the_last_layer_sees(network: Any) -> None:
    data = make_data("test", 3)
    found = co.penultimate_features(network, data)
    with torch.no_grad():
        logits = network.fc(torch.from_numpy(found))
    torch.testing.assert_close(logits, predict(network, data))
    with pytest.raises(co.FeatureError):
        co.penultimate_features(nn.Conv2d(3, 4, 8), data)


# Layers


def test_sets_of_layers(network: nn.Module) -> None:
    found = {(w, i): own for w, i, own in sens.layer_sets(network)}
    assert len(found) == 9
    assert found["alone", 1] == ("second",)
    assert found["from the front", 1] == ("conv", "second")
    assert found["from the back", 1] == ("second", "fc")
    ends = {i for _, i, _ in sens.layer_sets(network, 2)}
    assert ends == {0, 2}
    assert [own for _, _, own in sens.halves(network)] == [("conv",), ("fc",)]
    partial = {w: own for w, _, own in sens.partial_sets(network)}
    assert partial["all but both"] == ("second",)
    assert partial["backbone"] == ("conv", "second")
    with pytest.raises(sens.LayerChoiceError):
        sens.layer_sets(network, 1)


def test_stages_of_the_reference_networks() -> None:
    names = [w for w, _, _ in sens.stages(build_model("resnet20", 10))]
    assert names == ["conv1", "layer1", "layer2", "layer3", "fc"]
    mobile = sens.stages(build_model("mobilenetv2_x0_5", 10))
    assert mobile[0][0] == "features.0" and mobile[-1][0] == "classifier.1"


def test_cells_of_sets_are_shared(network: nn.Module) -> None:
    sets = sens.layer_sets(network)
    cells, table = sens.cells_of_sets(
        "small", network, sets, [3], SCHEME, "test"
    )
    # One layer alone is also the front up to the first, the back from the last.
    assert len(table) == 9 and len(cells) == 9 - 3
    alone = table[table["way"] == "alone"]["weights"]
    assert alone.sum() == pytest.approx(1)


def test_position_and_drop() -> None:
    table = pd.DataFrame({"position": range(8), "drop": range(8, 0, -1)})
    table = table.assign(way="alone", network="a", bits=3)
    (line,) = sens.position_correlations(table).to_dict("records")
    assert line["correlation"] == pytest.approx(-1)
    flat = sens.position_correlations(table.assign(drop=0.0))
    assert flat["correlation"].isna().all()


# Training


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LQ_CACHE_DIR", str(tmp_path))
    return tmp_path


def test_training_goes_on_where_it_was_killed(
    network: nn.Module, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = make_data("train", 0), make_data("validation", 7)
    aware = pot.on_grid(network, "power-of-two", 3)
    recipe = pot.recipe(3, 0.01, 0, 8)
    whole = strip(train_on(aware, *parts, recipe, "cpu").model).state_dict()
    for file in (cache / "training").iterdir():
        file.unlink()
    save, saved = TrainingState.save, []

    def killed(state: TrainingState) -> None:
        save(state)
        saved.append(state.epoch)
        if len(saved) == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(TrainingState, "save", killed)
    with pytest.raises(KeyboardInterrupt):
        train_on(aware, *parts, recipe, "cpu")
    again = strip(train_on(aware, *parts, recipe, "cpu").model).state_dict()
    assert saved == [1, 2, 3]
    assert all(torch.equal(whole[k], again[k]) for k in whole)
    # A checkpoint belongs to the weights that it started from.
    other = pot.on_grid(Small().eval(), "power-of-two", 3)
    train_on(other, *parts, pot.recipe(3, 0.01, 0, 8), "cpu")
    assert len(list((cache / "training").iterdir())) == 2


@pytest.mark.parametrize("grid", pot.GRIDS)
def test_trained_weights_are_on_the_grid(
    shared: dict[str, Any], cache: Path, grid: str
) -> None:
    cell = {"network": "small", "grid": grid, "bits": 3, "seed": 0}
    cell |= {"granularity": "channel", "epochs": 1, "rate": 0.01}
    before, after = pot.training_rows(**cell, **shared)
    assert (before["stage"], after["stage"]) == (pot.ROUNDED, pot.TRAINED)
    assert before["epoch"] == -1 and after["epoch"] == 0
    json.dumps([before, after])
    data = shared["parts"]["small"]
    aware = pot.on_grid(shared["networks"]["small"], grid, 3)
    trained = train_on(
        aware, data["train"], data["validation"], pot.recipe(1, 0.01, 0, 8)
    )
    plain = strip(trained.model)
    for layer in (plain.conv, plain.fc):
        for row in layer.weight.detach().flatten(1):
            assert len(row.unique()) <= 7
        if grid == "power-of-two":
            sizes = layer.weight.detach().abs()
            powers = torch.log2(sizes[sizes > 0])
            assert torch.equal(powers, powers.round())


def test_the_control_is_the_network_itself(
    shared: dict[str, Any], cache: Path
) -> None:
    cell = {"network": "small", "grid": "none", "bits": 32, "seed": 0}
    cell |= {"granularity": "channel", "epochs": 1, "rate": 0.01}
    before, _ = pot.training_rows(**cell, **shared)
    data = shared["parts"]["small"]["test"]
    (own,) = ds.judged(shared["networks"]["small"], data)
    assert before["hits"] == own["hits"] and before["stage"] == pot.FULL


def test_grids_and_parts_that_cannot_be_trained(network: nn.Module) -> None:
    with pytest.raises(ds.SchemeError):
        pot.on_grid(network, "logarithmic", 3)
    train, test = make_data("train", 0), make_data("test", 1)
    with pytest.raises(DataError):
        train_on(network, train, test, pot.recipe(1, 0.01, 0, 8))
    pair = train.pair(0, 1), make_data("validation", 7).pair(0, 1)
    with pytest.raises(TrainingError, match="6 outputs"):
        train_on(network, *pair, pot.recipe(1, 0.01, 0, 8))


# Networks


def test_labels(capsys: pytest.CaptureFixture[str]) -> None:
    assert dn.read_label("resnet20@cifar10") == ("resnet20", "cifar10")
    with pytest.raises(dn.LabelError):
        dn.read_label("resnet20")
    with pytest.raises(dn.LabelError):
        dn.find_cases(["resnet20@cifar10", "resnet20@cifar10"])
    with pytest.raises(WeightsError, match="none of"):
        dn.find_cases(["resnet20@synthetic10"])
    assert "left out: resnet20@synthetic10" in capsys.readouterr().out


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten images of each of three classes, and weights for them."""
    base = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for k in range(3):
        (base / "photos" / f"n{k}").mkdir(parents=True)
        for i in range(20):
            pixels = rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)
            path = base / "photos" / f"n{k}" / f"{i}.png"
            Image.fromarray(pixels).save(path)
    torch.manual_seed(0)
    model = tv.squeezenet1_1(num_classes=3)
    torch.save(model.state_dict(), base / "weights.pth")
    return base


def test_a_torchvision_network_on_a_folder(folder: Path) -> None:
    case = folder_case(
        "squeezenet1_1", str(folder / "photos"), 40, 32,
        str(folder / "weights.pth"),
    )  # fmt: skip
    model = tv.squeezenet1_1(num_classes=3)
    model.load_state_dict(torch.load(folder / "weights.pth"))
    data = case.splits.test
    # torchvision's own preprocessing, written out.
    pixels = torch.from_numpy(data.images[:, 4:36, 4:36]).permute(0, 3, 1, 2)
    mean, std = (
        torch.tensor([0.485, 0.456, 0.406]),
        torch.tensor([0.229, 0.224, 0.225]),
    )
    x = (pixels / 255 - mean.view(3, 1, 1)) / std.view(3, 1, 1)
    with torch.no_grad():
        wanted = model.eval()(x)
    torch.testing.assert_close(
        predict(case.network, data), wanted, atol=1e-4, rtol=1e-4
    )
    shared, _ = dn.shared_inputs(
        {"own": case}, dn.parts_of({"own": case}, 0, 0, 0, 0)
    )
    cell = SETTING | {"network": "own", "bits": 4}
    (row,) = ds.scheme_rows(**cell, **shared)
    assert row["classes"] == 3 and row["n"] == len(data)
    assert with_folder({}, "none", "") == {}


@pytest.mark.parametrize(
    ("name", "weights", "message"),
    [
        ("resnet19", "w", "no model"),
        ("squeezenet1_1", "", "no weights"),
        ("resnet18", "weights.pth", "does not hold"),
    ],
)
def test_folders_that_have_no_network(
    folder: Path, name: str, weights: str, message: str
) -> None:
    path = str(folder / weights) if weights else ""
    with pytest.raises(WeightsError, match=message):
        folder_case(name, str(folder / "photos"), 40, 32, path)


def test_a_crop_that_does_not_fit() -> None:
    with pytest.raises(WeightsError, match="crop"):
        OwnPreprocessing(32, 64)
    same = OwnPreprocessing(8, 8, (0.5,) * 3, (0.25,) * 3)
    x = to_input(make_data("test", 0).images)
    torch.testing.assert_close(same(x), x)


# Tables, claims, figures


def test_the_posters_rows_stand_beside_ours() -> None:
    lost = bl.drops(fake_rows({8: 0, 4: 20}), fake_rows({32: 0}))
    found = dft.poster_table(lost, "a")
    # 90.87 less 90.83, and less 87.19.
    assert found["drop"].tolist()[:2] == ["0.04", "3.68"]
    assert found["drop"][3].startswith("10.0 [")
    rows = fake_rows({4: 20}).assign(grid="power-of-two", stage="trained")
    trained = bl.drops(rows, fake_rows({32: 0}))
    theirs = dft.training_poster_table(trained).iloc[0]
    assert (theirs["bits"], theirs["drop"]) == ("4 to 5", "1.97")


def test_grids_are_compared_image_by_image() -> None:
    even, odd = fake_rows({4: 10}), fake_rows({4: 30})
    rows = pd.concat(
        [even.assign(grid="power-of-two"), odd.assign(grid="uniform")]
    ).assign(stage="trained")
    (line,) = dft.grid_differences(rows).to_dict("records")
    assert line["difference"] == pytest.approx(10)  # 20 of 200 images
    assert 0 < line["low"] < 10 < line["high"]


def test_halves_are_compared_image_by_image(
    network: nn.Module, shared: dict[str, Any]
) -> None:
    cells, sets = sens.cells_of_sets(
        "small", network, sens.halves(network), [2], SCHEME, "test"
    )
    rows = pd.DataFrame(
        [c | r for c in cells for r in ds.scheme_rows(**c, **shared)]
    )
    (line,) = dft.half_differences(rows, sets).to_dict("records")
    right = rows.set_index("full")["correct"]
    first, second = right[("second", "fc")], right[("conv", "second")]
    assert line["difference"] == pytest.approx((first - second) / 60 * 100)


def test_verdicts() -> None:
    assert dft.verdict(0.1, 2) == "holds"
    assert dft.verdict(-2, -0.1) == "does not hold here"
    assert dft.verdict(-1, 1) == "this run cannot tell"
    halves = pd.DataFrame(
        [
            {
                "network": "a",
                "difference": -4.0,
                "low": -6.0,
                "high": -2.0,
                "first weights": 0.2,
                "second weights": 0.8,
            }
        ]
    )
    assert dfc.layers_claim(halves)[0]["verdict"] == "holds"
    best = pd.DataFrame(
        [
            {
                "network": "a",
                "bits": 3,
                "drop": 4.0,
                "drop_low": 3.0,
                "drop_high": 5.0,
            }
        ]
    )
    assert dfc.loss_claim(best)[0]["verdict"] == "does not hold here"
    shifts = pd.DataFrame(
        {"asymmetric": [0.0, 0.1, 0.1], "power-of-two": [0.5, 0.7, 0.6]}
    )
    assert dfc.mean_claim(shifts)[0]["verdict"] == "holds"
    assert dfc.mean_claim(shifts[["asymmetric"]]) == []
    kept = {
        "asymmetric": pd.Series([0.5, 0.6, 0.5]),
        "power-of-two": pd.Series([1.0, 0.9, 1.0]),
    }
    assert dfc.range_claim(kept)[0]["verdict"] == "holds"
    bias = pd.DataFrame(
        {"bits": [4, 4, 8], "p": [0.001, 0.4, 0.5], "largest": 0.2}
    )
    assert dfc.bias_claim(bias)[0]["verdict"] == "holds in some cases"
    assert dfc.bias_claim(bias[bias["bits"] == 8]) == []
    shares = pd.DataFrame(
        {
            "source": ["network", "subset", "rest"],
            "share": [0.1, 0.6, 0.3],
            "cases": [2, 9, 18],
            "data": "x",
        }
    )
    assert dfc.data_claim(shares)[0]["verdict"] == "points to it"
    assert dfc.data_claim(pd.DataFrame()) == []


def test_relations_of_cosines() -> None:
    rng = np.random.default_rng(0)
    cosine, original = rng.random(40), rng.random(40)
    table = pd.DataFrame({"cosine": cosine, "drop": cosine**3})
    table = table.assign(original=original, network="a", bits=3)
    (line,) = dft.cosine_relations(table).to_dict("records")
    assert line["correlation"] == pytest.approx(1)
    assert line["given accuracy"] == pytest.approx(1)
    (few,) = dft.cosine_relations(table.iloc[:2]).to_dict("records")
    assert math.isnan(few["correlation"])
    assert dfc.orthogonality_claim(pd.DataFrame([few])) == []


def test_figures_hold_what_was_measured() -> None:
    lost = bl.drops(fake_rows({8: 0, 4: 20}), fake_rows({32: 0}))
    fig = figures_of.scheme_figure(lost, {"a": 100.0})
    (ax,) = fig.axes
    assert ax.containers[0].lines[0].get_ydata().tolist() == [90, 100]
    counts = {"float": np.array([5, 5]), "2 bits": np.array([0, 10])}
    (ax,) = figures_of.answers_figure(counts, ("a", "b")).axes
    assert [p.get_height() for p in ax.patches] == [5, 5, 0, 10]
    many = {"float": np.arange(30)}
    (ax,) = figures_of.answers_figure(many, [str(k) for k in range(30)]).axes
    assert ax.lines[0].get_ydata()[0] == 29
    cosines = pd.DataFrame({"network": ["a"], "cosine": [0.2], "drop": [3.0]})
    (ax,) = figures_of.cosine_figure(cosines).axes
    assert ax.lines[0].get_xydata().tolist() == [[0.2, 3.0]]
