"""Large networks: what they are, and the command that fills their rows."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import large_samples
import numpy as np
import pandas as pd
import pytest
import torch
from large_samples import (
    NAME,
    TinyNet,
    image_folder,
    register,
    run_tiny,
    tiny_settings,
)

from lq_utils.__main__ import main as command
from lq_utils.data import load_dataset
from lq_utils.graph import layer_table, trace
from lq_utils.inference import to_input
from lq_utils.large_estimates import (
    Work,
    cells_seconds,
    count_work,
    epoch_seconds,
)
from lq_utils.large_networks import (
    LARGE_NETWORKS,
    LargeNetworkError,
    RoundingStudy,
    SubsetStudy,
    large_network,
    register_large_network,
)
from lq_utils.large_run import find_job, keep_rows, plan_network
from lq_utils.large_training import finished_epochs, weights_file
from lq_utils.models import MODELS, count_parameters
from lq_utils.network_command import (
    network_states,
)
from lq_utils.paths import ROOT
from lq_utils.records import ResultError, load_run
from lq_utils.reference import reference_states
from lq_utils.registry import UnknownName
from lq_utils.rows import load_rows
from lq_utils.study import PROTOCOLS
from lq_utils.weights import load_weights

# torchvision's published counts (1,000 classes, 224x224); for ViT-S that
# of DeiT. Then what our stems, heads and 32x32 images change.
STEM = 64 * 3 * (3 * 3 - 7 * 7)  # 3x3 in place of 7x7
COUNTS = {
    "resnet50_cifar100": 25_557_032 + STEM + 2049 * (100 - 1000),
    "resnet18_cifar10": 11_689_512 + STEM + 513 * (10 - 1000),
    "vgg16_cifar100": 138_365_992
    + 4096 * 512 * (1 - 7 * 7)  # one pixel left, not seven by seven
    + 4097 * (100 - 1000),
    "densenet121_cifar100": 7_978_856 + STEM + 1025 * (100 - 1000),
    "alexnet_cifar100": 61_100_840
    + 64 * 3 * (3 * 3 - 11 * 11)
    + 4096 * 256 * (3 * 3 - 6 * 6)
    + 4097 * (100 - 1000),
    "efficientnet_b0_cifar100": 5_288_548 + 1281 * (100 - 1000),
    "vit_small_cifar100": 22_050_664
    + 384 * 3 * (4 * 4 - 16 * 16)
    + 384 * (64 - 196)  # positions
    + 385 * (100 - 1000),
}
# Convolutions and linear layers. Residual networks: a stem, the blocks'
# layers, shortcuts that change shape, a head. ViT: patches, twelve blocks
# of attention (in, out) and perceptron (two), a head.
LAYERS = {
    "resnet50_cifar100": 1 + 16 * 3 + 4 + 1,
    "resnet18_cifar10": 1 + 8 * 2 + 3 + 1,
    "vgg16_cifar100": 16,
    "densenet121_cifar100": 121,
    "alexnet_cifar100": 8,
    # 15 blocks of 5 (two of them squeeze), one without expansion.
    "efficientnet_b0_cifar100": 1 + 4 + 15 * 5 + 1 + 1,
    "vit_small_cifar100": 1 + 12 * 4 + 1,
}


@pytest.mark.parametrize("name", sorted(COUNTS))
def test_parameters_and_layers_of_the_registered(name: str) -> None:
    settings = large_network(name)
    with torch.device("meta"):
        classes = 10 if settings.dataset == "cifar10" else 100
        network = MODELS.get(settings.model)(classes).eval()
        traced = trace(network)
        assert traced(torch.zeros(2, 3, 32, 32)).shape == (2, classes)
    assert count_parameters(network) == COUNTS[name]
    assert len(layer_table(traced)) == LAYERS[name]


def test_registered_settings_are_complete() -> None:
    assert set(COUNTS) <= set(LARGE_NETWORKS.names())
    for name in COUNTS:
        settings = large_network(name)
        assert name.endswith(settings.dataset)
        classes = 10 if settings.dataset == "cifar10" else 100
        assert settings.subsets.subset_size <= classes / 2
        assert settings.config.augment and settings.config.warmup > 0
        assert 0 < settings.least_accuracy < 1
    assert large_network("resnet50_cifar100").least_accuracy >= 0.76


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: SubsetStudy(distance="far"), "choose one of"),
        (lambda: SubsetStudy(images=0), "images=0: give 1 or more"),
        (lambda: SubsetStudy(subset_size=1), "give 2 or more"),
        (lambda: SubsetStudy(bits=()), "one or more numbers from 1 to 32"),
        (lambda: RoundingStudy(bits=(9,)), "from 1 to 8"),
        (lambda: RoundingStudy(bits=(8,), few_bits=(3,)), "not all in"),
        (
            lambda: replace(large_network("vgg16_cifar100"), hole=40),
            "hole=40 must be",
        ),
        (
            lambda: replace(large_network("vgg16_cifar100"), model="vgg61"),
            "unknown model 'vgg61'; did you mean 'vgg16'",
        ),
    ],
)
def test_settings_of_no_use(wrong: Any, message: str) -> None:
    with pytest.raises((LargeNetworkError, UnknownName), match=message):
        wrong()


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> str:
    return image_folder(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(autouse=True)
def tiny_network(
    home: Path, dataset: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """A tiny registered network, caches and results of its own."""
    monkeypatch.setenv("LQ_CACHE_DIR", str(home / "cache"))
    monkeypatch.setenv("LQ_RESULTS_DIR", str(home / "results"))
    for module in ("large_run", "network_command", "reference"):
        monkeypatch.setattr(f"lq_utils.{module}.REFERENCE", home / "kept")
    register(dataset)
    yield
    del MODELS._entries["tinynet"], LARGE_NETWORKS._entries[NAME]


def cell_files(home: Path) -> dict[Path, int]:
    # A killed write may leave a temporary file, whose name has a dot.
    files = (home / "cache").glob("network_*/[!.]*.npz")
    return {path: path.stat().st_mtime_ns for path in files}


def metrics_of(rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    keys = pd.DataFrame([json.loads(text) for text in rows["keys"]])
    wide = rows.drop(columns="keys").reset_index(drop=True).join(keys)
    return {str(k): v.dropna(axis=1) for k, v in wide.groupby("metric")}


def test_killed_and_started_again_it_ends_with_all_rows(
    tmp_path: Path, dataset: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One story, in order: plan, kill, go on, nothing left to do."""
    home = tmp_path
    monkeypatch.setenv("LQ_CACHE_DIR", str(home / "cache"))
    monkeypatch.setenv("LQ_RESULTS_DIR", str(home / "results"))
    plan = plan_network(find_job(NAME, "cpu", 1)).set_index("step")
    assert plan["done"].eq(0).all()
    # Two numbers of bits by two granularities, and at one number of bits
    # two granularities by two corrections.
    expected = {"train": 1, "original": 1, "float": 1, "rounded": 8}
    # 3 subsets, calibrated on all once, and two by the other method.
    expected |= {"quantized": 3 + 1 + 2, "fine-tuned": 2}
    assert plan["of"].to_dict() == expected
    assert (plan["minutes"] > 0).all()

    _kill_once_there(home / "cache" / "network_quantized", dataset)
    trained = weights_file(NAME).stat().st_mtime_ns
    before = cell_files(home)
    assert before

    folder = run_tiny()
    assert weights_file(NAME).stat().st_mtime_ns == trained
    after = cell_files(home)
    assert {path: after[path] for path in before} == before
    assert len(after) == sum(expected.values()) - 1

    written = (folder / "rows.csv").stat().st_mtime_ns
    assert run_tiny() == folder
    assert (folder / "rows.csv").stat().st_mtime_ns == written
    assert cell_files(home) == after
    plan = plan_network(find_job(NAME, "cpu", 1))
    assert plan["done"].equals(plan["of"]) and plan["minutes"].eq(0).all()

    lost = min(after)
    lost.unlink()
    (folder / "run.json").unlink()
    run_tiny()
    again = cell_files(home)
    assert {p for p in again if again[p] != after[p]} == {lost}


def _kill_once_there(folder: Path, dataset: str) -> None:
    """Start a run in a process and kill it when ``folder`` has a file."""
    process = subprocess.Popen(
        [sys.executable, large_samples.__file__, dataset],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    end = time.monotonic() + 400
    while not any(folder.glob("[!.]*.npz")):
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.002)
    process.kill()
    assert process.wait() == -signal.SIGKILL


def test_rows_and_record(home: Path) -> None:
    folder = run_tiny()
    rows, record = load_rows(folder), load_run(folder)
    assert set(rows["chapter"]) == {NAME}
    assert folder == home / "results" / "networks" / NAME
    assert record["parameters"]["settings"]["model"] == "tinynet"
    assert record["parameters"]["device"] == "cpu"
    found = metrics_of(rows)
    assert set(found) == {
        "trained_accuracy",
        "accuracy",
        "stage_accuracy",
        "own_gain",
        "original_subset",
        "own_subset",
        "float_accuracy",
        "data_free_accuracy",
        "data_free_drop",
        "limit",
        "limit_low",
        "limit_high",
    }
    own = found["own_subset"]
    assert len(own) == 3 * len(PROTOCOLS)
    assert set(own["kind"]) == {"similar", "dissimilar", "random"}
    assert set(found["accuracy"]["calibration"]) == {"own", "another", "all"}
    stages = set(found["stage_accuracy"]["stage"])
    assert len(stages) == 4 and "fine-tuned and quantized" in stages
    assert len(found["data_free_drop"]) == 8


def test_accuracies_against_the_weights_themselves() -> None:
    """The network as it lies there, judged anew, without any sweep."""
    rows = metrics_of(load_rows(run_tiny()))
    settings = large_network(NAME)
    splits = load_dataset(settings.dataset, verbose=False)
    network = load_weights(weights_file(NAME))
    x = torch.from_numpy(splits.test.images).permute(0, 3, 1, 2)
    with torch.no_grad():
        logits = network((x / 255 - 0.5) / 0.25)
    right = logits.argmax(1).numpy() == splits.test.labels
    share = pytest.approx(right.mean())
    assert rows["float_accuracy"]["value"].item() == share
    trained = rows["trained_accuracy"].set_index("part")
    assert trained.loc["test", "value"] == share
    held_out = splits.test.per_class(6, 0)
    answers = network(to_input(held_out.images)).detach().numpy()
    for row in rows["original_subset"].itertuples():
        classes = [int(k) for k in row.subset.split()]
        own = np.isin(held_out.labels, classes)
        known = range(6) if row.protocol == "All" else classes
        best = np.array(known)[answers[own][:, known].argmax(1)]
        hits = best == held_out.labels[own]
        assert row.n == len(hits) == 6 * len(classes)
        assert row.value == pytest.approx(hits.mean())


def test_a_stopped_training_is_seen_by_the_plan(
    dataset: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lq_utils.device_training import DeviceTraining

    monkeypatch.setenv("LQ_RESULTS_DIR", str(home / "elsewhere"))
    settings = tiny_settings(dataset, epochs=3)
    register_large_network(NAME, replace=True)(lambda: settings)
    job = find_job(NAME, "cpu", 1)
    assert finished_epochs(settings, job.splits) == []
    train = job.splits.train
    state = DeviceTraining("tinynet", train, settings.config, "cpu", 4)
    row = state.run_epoch(0, job.splits.validation)
    state.save()
    line = plan_network(job).iloc[0]
    assert (line["step"], line["done"], line["of"]) == ("train", 1, 3)
    assert line["minutes"] == pytest.approx(2 * row["seconds"] / 60)


def test_the_command(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["network", NAME, "--device", "cpu", "--workers", "1"]
    assert command([*words, "--keep"]) == 0
    kept = home / "kept" / "networks" / NAME
    assert load_rows(kept).equals(load_rows(run_tiny()))
    text = capsys.readouterr().out
    assert "nothing to do" in text and "Test accuracy" in text
    assert command([*words, "--plan"]) == 0
    assert "About 0 minutes are left: an estimate" in capsys.readouterr().out
    assert command(["network", "--list"]) == 0
    listed = capsys.readouterr().out
    states = network_states().set_index("network")["state"]
    assert states[NAME] == "rows committed"
    assert states["resnet50_cifar100"] == "pending"
    assert all(name in listed for name in LARGE_NETWORKS.names())
    rows = reference_states().set_index("what")["rows"]
    assert rows[NAME] > 0 == rows["resnet50_cifar100"]


def test_a_network_that_falls_short_says_so(
    dataset: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run_tiny()
    high = replace(tiny_settings(dataset), least_accuracy=0.9999)
    register_large_network(NAME, replace=True)(lambda: high)
    words = ["network", NAME, "--device", "cpu", "--workers", "1"]
    record = load_run(run_tiny())
    assert record["parameters"]["settings"]["least_accuracy"] == 0.9999
    accuracy = metrics_of(load_rows(run_tiny()))["float_accuracy"]
    below = float(accuracy["value"].item()) < 0.9999
    assert command(words) == int(below)
    assert ("that were expected" in capsys.readouterr().out) == below


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["resnet5_cifar100"], "did you mean 'resnet50_cifar100'"),
        ([], "network --list shows them"),
        ([NAME, "--workers", "-1"], "give 0 (all) or more"),
    ],
)
def test_mistakes_on_the_command_line(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(["network", *words]) == 2
    assert message in capsys.readouterr().err


def test_what_cannot_be_kept_or_studied(
    dataset: str,
) -> None:
    with pytest.raises(ResultError, match="network vgg16_cifar100"):
        keep_rows("vgg16_cifar100")
    settings = tiny_settings(dataset)
    wide = replace(settings.subsets, subset_size=6)
    register_large_network(NAME, replace=True)(
        lambda: replace(settings, subsets=wide)
    )
    with pytest.raises(LargeNetworkError, match="give fewer"):
        run_tiny()
    register_large_network(NAME, replace=True)(
        lambda: replace(settings, name="other")
    )
    with pytest.raises(LargeNetworkError, match="give both the same name"):
        large_network(NAME)


def test_estimates_by_hand() -> None:
    work = count_work(TinyNet(6))
    # Products by position: 16 x 16 pixels after the first convolution.
    places = 16 * 16
    by_hand = places * (8 * 27 + 8 * 72 + 12 * 4) + 12 * 6
    assert work.passing == by_hand
    squares = 8 * 27**2 + 8 * 72**2 + 12 * 4**2 + 6 * 12**2
    assert work.solving == squares
    settings = large_network("resnet50_cifar100")
    some = Work(1e9, 1e9)
    slow = epoch_seconds(some, settings, 45_000, False, 4)
    assert slow == pytest.approx(6e9 * 45_000 / (4 * 2e10))
    assert epoch_seconds(some, settings, 45_000, True, 4) < slow / 100
    timed = [{"seconds": 3.0}, {"seconds": 7.0}]
    assert epoch_seconds(some, settings, 1, True, 4, timed) == 7.0
    cell = {"bits": 4, "images": 100, "settings": (("scale", "max"),)}
    one = cells_seconds(some, [cell], 800, False, 8)
    # 1,000 passes and one solution, two operations a product.
    assert one == pytest.approx(2 + 2e9 / 2e10 + 1000 * 2e9 / 2e10)
    assert cells_seconds(some, [], 800, True, 8) == 0
    searched = cell | {"settings": (("scale", "output"),)}
    more = cells_seconds(some, [searched], 800, False, 8) - one
    assert more == pytest.approx(17 * 2e9 / 2e10)
