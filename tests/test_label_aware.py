"""Cells of the label-aware study on a tiny network and tiny images."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from lq_utils.calibration import calibration_set, subset_accuracy
from lq_utils.grams import Statistics, gram_statistics
from lq_utils.graph import trace, weight_matrix
from lq_utils.grids import alphabet
from lq_utils.images import ImageData, Provenance, Splits
from lq_utils.inference import predict
from lq_utils.label_aware import (
    METHODS,
    accuracy_rows,
    calibration_images,
    fine_tuned_rows,
    original_rows,
    quantize_with,
    quantized_rows,
    settings,
    subset_key,
    weight_record,
)
from lq_utils.models import build_model
from lq_utils.registry import UnknownName
from lq_utils.rows import COLUMNS
from lq_utils.scales import fit_grid
from lq_utils.solvers import SolverError, gpfq
from lq_utils.study import own_cells, shared_cells
from lq_utils.study_networks import find_network, plan_coverage
from lq_utils.sweeps import sweep
from lq_utils.weights import WeightsError, save_weights
from lq_utils.zero_dead import gpfq_zero_dead

CLASSES = 6


def make_data(part: str, seed: int) -> ImageData:
    rng = np.random.default_rng(seed)
    labels = np.tile(np.arange(CLASSES), 10)
    images = rng.integers(0, 90, (60, 8, 8, 3), dtype=np.uint8)
    images[np.arange(60), labels] += 120  # a bright row tells the class
    names = tuple(f"class {k}" for k in range(CLASSES))
    groups = np.zeros(CLASSES, dtype=np.int64)
    source = Provenance("made", "synthetic", "0" * 8, "book")
    return ImageData(images, labels, names, ("all",), groups, part, source)


class Small(nn.Module):
    """Its second channel is off for every image: dead columns follow."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.second = nn.Conv2d(4, 5, 3, stride=2)
        self.fc = nn.Linear(5 * 9, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.norm(self.conv(x)))
        return self.fc(torch.relu(self.second(x)).flatten(1))


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    small = Small().eval()
    with torch.no_grad():
        small.norm.bias[1] = -100.0
    return small


TRAIN, TEST = make_data("train", 1), make_data("test", 2)
SHARED = {"train": TRAIN, "held_out": TEST, "patch_fraction": 1.0}
CELL = {
    "bits": 3,
    "drawn_from": "subset",
    "classes": (0, 2),
    "images": 12,
    "draw": 0,
    "tested": ((0, 2), (1, 4)),
    "name": "any",
}


def textbook(W, X, X_q, step, half):
    """The published loop: zero where the input is zero on all patches."""
    U, Q = np.zeros((len(X), len(W))), np.zeros_like(W)
    for t in range(W.shape[1]):
        x = X_q[:, t]
        U += np.outer(X[:, t], W[:, t])
        norm = x @ x
        z = x @ U / norm if norm > 0 else np.zeros(len(W))
        Q[:, t] = step * np.clip(np.floor(z / step + 0.5), -half, half)
        U -= np.outer(x, Q[:, t])
    return Q


@pytest.mark.parametrize("seed", range(5))
def test_dead_columns_become_zero_as_in_the_published_loop(seed: int):
    rng = np.random.default_rng(seed)
    W, X = rng.normal(size=(3, 8)), rng.normal(size=(20, 8))
    X_q = X + 0.2 * rng.normal(size=X.shape)
    X_q[:, [2, 5]] = 0.0
    weight = torch.from_numpy(W)
    grid = fit_grid(weight, alphabet("mid-tread", 3), "tensor", "published")
    stats = gram_statistics(torch.from_numpy(X_q), torch.from_numpy(X))
    found = gpfq_zero_dead(weight, stats, grid)
    wanted = textbook(W, X, X_q, float(grid.scale), 4)
    assert np.allclose(found.numpy(), wanted, atol=1e-9)
    assert (gpfq(weight, stats, grid)[:, [2, 5]] != 0).any()


def test_dead_columns_of_groups():
    # Two groups of two rows; column 0 is dead in the second group only.
    weight = torch.full((4, 3), 0.9)
    hessian = torch.eye(3).repeat(2, 1, 1)
    hessian[1, 0, 0] = 0.0
    stats = Statistics(hessian, torch.zeros_like(hessian), 5)
    grid = fit_grid(weight, alphabet("mid-tread", 2))
    found = gpfq_zero_dead(weight, stats, grid)
    zero = torch.zeros(4, 3, dtype=torch.bool)
    zero[2:, 0] = True
    assert torch.equal(found == 0, zero)
    with pytest.raises(SolverError, match="no zero"):
        gpfq_zero_dead(weight, stats, fit_grid(weight, alphabet("binary", 1)))


def test_settings():
    plain = dict(settings("published"))
    assert plain == METHODS["published"]
    changed = dict(settings("published", options={"scalar": 2.0}))
    assert changed["options"] == (("scalar", 2.0),)
    assert settings(METHODS["book"]) == settings("book")
    with pytest.raises(UnknownName, match="published"):
        settings("publisched")


def test_accuracy_of_overlapping_subsets(network: nn.Module):
    subsets = [(0, 2), (2, 5), (1, 2, 3)]
    rows = accuracy_rows(network, TEST, subsets, stage="any")
    logits = predict(network, TEST)
    for row, classes in zip(rows, subsets, strict=True):
        direct = subset_accuracy(logits, TEST.labels, classes)
        assert row == {"stage": "any", "subset": subset_key(classes), **direct}
    assert subset_key((14, 3)) == "3 14"


def test_what_a_cell_calibrates_on():
    own = calibration_images(TRAIN, "subset", (1, 3), 8, 0)
    assert torch.equal(own, calibration_set(TRAIN, 8, 0, (1, 3)))
    many = calibration_images(TRAIN, "many", (), 18, 0)
    assert torch.equal(many, calibration_set(TRAIN, 18, 0))
    noise = calibration_images(TRAIN, "noise", (), 9, 0)
    assert noise.shape == (9, 3, 8, 8)
    with pytest.raises(UnknownName, match="noice"):
        calibration_images(TRAIN, "noice", (), 9, 0)


def test_rows_of_a_quantized_network(network: nn.Module):
    rows = quantized_rows(
        settings("published"), network=network, **CELL, **SHARED
    )
    assert [r["calibration"] for r in rows] == ["own", "another"]
    assert [r["subset"] for r in rows] == ["0 2", "1 4"]
    assert all(r["levels"] == 9 and r["n"] == 20 for r in rows)
    assert rows[0]["dead_columns"] >= 9  # a channel of 3x3
    images = calibration_set(TRAIN, 12, 0, (0, 2))
    direct = quantize_with(
        network, settings("published"), 3, images, 0, 1.0
    ).model
    own = subset_accuracy(predict(direct, TEST), TEST.labels, (0, 2))
    assert {k: rows[0][k] for k in own} == own


def test_shares_of_weights(network: nn.Module):
    images = calibration_set(TRAIN, 12, 0)
    how = settings("published", options={"scalar": 0.5})
    found = quantize_with(network, how, 3, images, 0, 1.0)
    record = weight_record(network, found)
    zeros = clipped = total = 0
    for name, grid in found.grids.items():
        module = network.get_submodule(name)
        q = weight_matrix(found.model.get_submodule(name))
        for row, levels in zip(weight_matrix(module).tolist(), q.tolist()):
            total += len(row)
            zeros += levels.count(0.0)
            clipped += sum(abs(w) > 4 * float(grid.scale) for w in row)
    assert record["zeros"] == pytest.approx(zeros / total)
    assert record["clipped"] == pytest.approx(clipped / total)
    assert clipped > 0
    folded = quantize_with(network, settings("book"), 3, images, 0, 1.0)
    assert weight_record(network, folded)["clipped"] is None


def test_at_32_bits_the_habits_alone_matter(network: nn.Module):
    cell = CELL | {"bits": 32}
    inputs = {"network": network, **SHARED}
    neither = settings("published", scale="max", solver="gpfq")
    rows = quantized_rows(neither, **cell, **inputs)
    before = original_rows(CELL["tested"], network=network, held_out=TEST)
    for row, old in zip(rows, before, strict=True):
        assert {k: row[k] for k in old if k != "stage"} == {
            k: v for k, v in old.items() if k != "stage"
        }
    assert rows[0]["zeros"] == 0 == rows[0]["clipped"]
    zeroing = settings("published", scale="max")
    row = quantized_rows(zeroing, **cell, **inputs)[0]
    weights = sum(
        weight_matrix(m).numel()
        for m in trace(network).modules()
        if isinstance(m, (nn.Conv2d, nn.Linear))
    )
    seen = torch.relu(network.norm(network.conv(calibration_set(
        TRAIN, 12, 0, (0, 2)))))  # fmt: skip
    features = torch.relu(network.second(seen)).flatten(1)
    dead = int((features == 0).all(dim=0).sum())
    assert row["dead_columns"] == 9 + dead
    assert row["zeros"] == pytest.approx((9 * 5 + dead * 6) / weights)
    narrow = {"scalar": 0.8}
    clipping = settings("published", solver="gpfq", options=narrow)
    row = quantized_rows(clipping, **cell, **inputs)[0]
    assert row["clipped"] > 0 == row["zeros"]


def test_fine_tuned_rows(network: nn.Module):
    rows = fine_tuned_rows(
        settings("published"),
        bits=(2, 8),
        classes=(0, 2),
        images=8,
        draw=0,
        steps=30,
        learning_rate=0.01,
        layers="all",
        network=network,
        **SHARED,
    )
    assert [r.get("quantized_bits") for r in rows] == [None, 2, 8]
    before = original_rows([(0, 2)], network=network, held_out=TEST)[0]
    assert rows[0]["all_logits"] > before["all_logits"]
    assert rows[2]["all_logits"] == pytest.approx(
        rows[0]["all_logits"], abs=0.11
    )


def test_cells_run_in_a_sweep(network: nn.Module):
    subsets = [(0, 2), (1, 4), (3, 5)]
    how = settings("published")
    cells = own_cells("a", how, [2, 4], subsets, 6, [0], others=True)
    counts = {"all": 6, "noise": 6}
    cells += shared_cells("a", how, [2, 4], subsets, counts, [0])
    assert len(cells) == 2 * 3 + 2 * 2
    assert cells[2]["tested"] == ((3, 5), (0, 2))
    inputs = {"network": network, **SHARED}
    key = dict.fromkeys(inputs, "fixed")
    rows = sweep(
        "tiny", quantized_rows, cells, shared=inputs, key=key, progress=False
    )
    counts = rows.groupby(["bits", "calibration"]).size()
    assert counts.to_dict() == {
        (b, kind): 3 for b in (2, 4) for kind in ("own", "another", "all",
                                                  "noise")
    }  # fmt: skip


def test_network_from_a_file_of_ones_own(tmp_path: Path):
    model = build_model("quantnet", 2)
    path = tmp_path / "own.safetensors"
    record = {"num_outputs": 2, "class_names": ["a", "b"]}
    save_weights(path, model, "quantnet", record)
    found = find_network("quantnet", splits_of(TRAIN), str(path))
    for a, b in zip(model.parameters(), found.parameters(), strict=True):
        assert torch.equal(a, b)
    assert json.loads(path.with_suffix(".json").read_text()) == record


def splits_of(data: ImageData) -> Splits:
    parts = ("train", "validation", "test")
    return Splits(*(replace(data, part=part) for part in parts))


def test_network_without_weights_says_what_to_do():
    with pytest.raises(WeightsError, match="train_epochs"):
        find_network("vgg16", splits_of(TRAIN))


def test_network_without_weights_is_trained_when_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("LQ_CACHE_DIR", str(tmp_path))
    large = replace(TRAIN, images=TRAIN.images.repeat(4, 1).repeat(4, 2))
    found = find_network("quantnet", splits_of(large), epochs=1)
    fresh = build_model("quantnet", TRAIN.num_classes)
    pairs = zip(found.parameters(), fresh.parameters(), strict=True)
    assert not any(torch.equal(a, b) for a, b in pairs)
    assert list((tmp_path / "training").glob("quantnet-*.pt"))


def test_reference_rows_are_shown_without_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("lq_utils.rows.REFERENCE", tmp_path)
    folder = tmp_path / "03_gpfq_sweeps"
    folder.mkdir()
    empty = dict.fromkeys(COLUMNS, "") | {"keys": "{}", "n": "1", "seed": "0"}
    rows = [
        empty | {"metric": "accuracy", "value": "71.25"},
        empty | {"metric": "slope", "value": "0.5"},
    ]
    pd.DataFrame(rows).to_csv(folder / "rows.csv", index=False)
    shown: list[dict[str, str]] = []
    monkeypatch.setattr(
        "lq_utils.figures.display", lambda data, **_: shown.append(data)
    )
    with pytest.raises(WeightsError):
        find_network("vgg16", splits_of(TRAIN))
    page = shown[0]["text/html"]
    assert "71.25" in page and "slope" not in page


def test_coverage_counts_every_parameter():
    rows = plan_coverage(build_model("quantnet", 1)).set_index("kind")
    assert rows["parameters"].to_dict() == {
        "weights of conv layers, quantized": 864 + 18_432,
        "weights of linear layers, quantized": 524_288 + 2_048 + 16,
        "bias of Conv2d, kept": 32 + 64,
        "bias of Linear, kept": 128 + 16 + 1,
    }
    assert rows["share"].sum() == pytest.approx(1)
