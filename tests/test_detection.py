"""Detection: scenes, detector, precision, rounding by part, COCO's files."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import nn
from torchvision.ops import box_iou

from lq_utils import average_precision as ap
from lq_utils import coco_detection as coco
from lq_utils import detection_figures as figures
from lq_utils import detection_scenes as ds
from lq_utils import detection_tables as tables
from lq_utils import detector_rounding as dr
from lq_utils import detector_training as dt
from lq_utils.detection_study import detection_row
from lq_utils.tiny_detector import (
    STRIDE,
    Detections,
    TinyDetector,
    cell_middles,
    decode,
)


@pytest.fixture(scope="module")
def scenes() -> ds.DetectionSet:
    return ds.generate_scenes(24, seed=0)


def test_scenes_hold_what_their_boxes_say(scenes: ds.DetectionSet) -> None:
    for image, boxes, labels in zip(
        scenes.images, scenes.boxes, scenes.labels
    ):
        assert image.shape == (64, 64, 3) and image.dtype == np.uint8
        assert 1 <= len(labels) <= ds.MOST
        assert boxes.min() >= 0 and boxes.max() <= 64
        overlap = box_iou(*[torch.from_numpy(boxes)] * 2)
        assert torch.equal(overlap > 0, torch.eye(len(labels)) > 0)
        middles = {tuple(m) for m in (boxes[:, :2] + boxes[:, 2:]) // 16}
        assert len(middles) == len(labels)  # one object a cell
    assert set(np.concatenate(scenes.labels)) == {0, 1, 2, 3}


def test_a_smaller_set_is_the_beginning_of_a_larger(
    scenes: ds.DetectionSet,
) -> None:
    few = ds.generate_scenes(3, seed=0)
    assert np.array_equal(few.images, scenes.images[:3])
    assert np.array_equal(few.boxes[2], scenes.boxes[2])
    other = ds.generate_scenes(3, seed=1)
    assert not np.array_equal(other.images, few.images)


def test_boxes_and_areas_of_shapes_are_those_of_geometry() -> None:
    half, centre = np.array([28.0, 20.0]), (32.0, 32.0)
    areas = {"disc": np.pi * 560, "rectangle": 2240, "triangle": 1120}
    areas["cross"] = 2240 * (1 - 0.65**2)
    for shape, area in areas.items():
        mask = ds.shape_mask(shape, 64, centre, half)
        assert abs(mask.sum() / area - 1) < 0.05, shape
        assert np.abs(ds.box_of(mask) - [4, 12, 60, 52]).max() <= 1
    with pytest.raises(ds.DetectionError, match="choose one of"):
        ds.shape_mask("star", 64, centre, half)


def test_bad_sets_are_refused(scenes: ds.DetectionSet) -> None:
    with pytest.raises(ds.DetectionError, match="at least one"):
        ds.generate_scenes(0, 0)
    with pytest.raises(ds.DetectionError, match="images, boxes and labels"):
        replace(scenes, boxes=scenes.boxes[1:])
    upside_down = [b[:, [2, 3, 0, 1]] for b in scenes.boxes]
    with pytest.raises(ds.DetectionError, match="left, top, right, bottom"):
        replace(scenes, boxes=upside_down)
    with pytest.raises(ds.DetectionError, match="count from 0"):
        replace(scenes, class_names=("disc",))


def tiny_set(*boxes: list[list[float]]) -> ds.DetectionSet:
    n = len(boxes)
    return ds.DetectionSet(
        [np.zeros((64, 64, 3), np.uint8)] * n,
        [np.array(b, dtype=float).reshape(-1, 4) for b in boxes],
        [np.zeros(len(b), np.int64) for b in boxes],
        [np.zeros(len(b), bool) for b in boxes],
        ("thing",),
    )


def detected(boxes: list[list[float]], scores: list[float]) -> Detections:
    return Detections(
        np.array(boxes, dtype=float).reshape(-1, 4),
        np.array(scores),
        np.zeros(len(scores), np.int64),
    )


A, B, AWAY = [0.0, 0, 10, 10], [30.0, 30, 50, 50], [52.0, 0, 60, 8]


def test_average_precision_of_a_hand_worked_case() -> None:
    # By score: right, wrong, right. Precision is 1 up to a recall of a
    # half, which 51 of the 101 recalls are, and two thirds beyond.
    truth = tiny_set([A], [B])
    found = [detected([A, AWAY], [0.9, 0.8]), detected([B], [0.7])]
    expected = (51 * 1 + 50 * 2 / 3) / 101
    precision = ap.match(truth, found).precision()
    assert np.isclose(precision["AP50"], expected)
    assert np.isclose(precision["AP"], expected)


def test_overlap_decides_at_which_threshold_a_box_counts() -> None:
    # Shifted by 2 of 10: overlap 80 / 120 = 0.667, right at 0.5 ... 0.65.
    truth = tiny_set([A])
    found = [detected([[2.0, 0, 12, 10]], [0.9])]
    precision = ap.match(truth, found).precision()
    assert np.isclose(precision["AP"], 4 / 10)
    assert np.isclose(precision["AP50"], 1) and precision["AP75"] == 0


def test_nothing_found_scores_zero() -> None:
    truth = tiny_set([A], [B])
    empty = [detected([], [])] * 2
    assert ap.match(truth, empty).precision()["AP"] == 0
    assert ap.localisation(truth, empty)["found"] == 0
    assert np.isnan(ap.localisation(truth, empty)["overlap"])
    with pytest.raises(ds.DetectionError, match="one entry an image"):
        ap.match(truth, empty[:1])
    with pytest.raises(ds.DetectionError, match="one entry an image"):
        ap.match(tiny_set([]), empty[:1])


def test_drawing_images_anew_is_scoring_those_images() -> None:
    truth = tiny_set([A], [B], [A, B])
    found = [
        detected([A], [0.9]),
        detected([AWAY], [0.8]),
        detected([B, AWAY], [0.6, 0.7]),
    ]
    drawn = np.array([2, 0, 2])
    again = tiny_set(*([truth.boxes[i].tolist() for i in drawn]))
    expected = ap.match(again, [found[i] for i in drawn]).precision()
    whole = ap.match(truth, found)
    assert whole.precision(drawn) == pytest.approx(expected)
    assert whole.precision() != pytest.approx(expected)


def test_drops_are_paired_by_image() -> None:
    truth = tiny_set([A], [B], [A], [B])
    perfect = [detected([b.tolist()[0]], [0.9]) for b in truth.boxes]
    poor = perfect[:3] + [detected([], [])]
    good, worse = ap.match(truth, perfect), ap.match(truth, poor)
    same = ap.precision_drop(good, good, draws=20)
    assert all(d.value == d.low == d.high == 0 for d in same.values())
    lost = ap.precision_drop(good, worse, draws=50)["AP"]
    # Recall ends at three quarters: 76 of 101 recalls have a precision.
    assert np.isclose(lost.value, 25 / 101)
    assert 0 <= lost.low <= lost.value <= lost.high <= 1
    with pytest.raises(ds.DetectionError, match="20 draws or more"):
        ap.precision_drop(good, worse, draws=3)


def test_where_and_what_apart() -> None:
    truth = tiny_set([A], [B])
    wrong_class = detected([[2.0, 0, 12, 10], A], [0.9, 0.3])._replace(
        labels=np.array([1, 0])
    )
    found = ap.localisation(truth, [wrong_class, detected([], [])])
    assert found == pytest.approx(
        {"found": 0.5, "overlap": 80 / 120, "right_class": 0.0}
    )


def test_crowds_are_left_out_of_the_score() -> None:
    truth = replace(tiny_set([A, B]), crowd=[np.array([False, True])])
    found = [detected([A, B], [0.5, 0.9])]
    assert ap.match(truth, found).precision()["AP"] == pytest.approx(1)


def test_targets_are_decoded_to_the_boxes(scenes: ds.DetectionSet) -> None:
    rows = np.arange(5)
    classes, boxes = dt.targets(scenes, rows)
    assert classes.shape == (5, 4, 8, 8) and boxes.shape == (5, 4, 8, 8)
    assert classes.sum() == sum(len(scenes.labels[i]) for i in rows)
    there = classes.sum(dim=1) > 0
    assert torch.equal(there, ~boxes[:, 0].isnan())
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2
    size = boxes[:, 2:] - boxes[:, :2]
    move = (middle - cell_middles(8, 8)) / STRIDE
    again = decode(torch.cat([move, (size / STRIDE).log()], dim=1))
    wanted = boxes.permute(0, 2, 3, 1)[there]
    assert torch.allclose(again.permute(0, 2, 3, 1)[there], wanted, atol=1e-3)
    assert (move.permute(0, 2, 3, 1)[there].abs() <= 0.5).all()


def test_the_loss_is_least_at_the_targets(scenes: ds.DetectionSet) -> None:
    classes, boxes = dt.targets(scenes, np.arange(4))
    size = (boxes[:, 2:] - boxes[:, :2]) / STRIDE
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2 - cell_middles(8, 8)
    right = torch.cat([middle / STRIDE, size.log()], dim=1).nan_to_num()
    sure = 40 * classes - 20
    least = dt.detection_loss(sure, right, classes, boxes)
    assert least < 1e-4
    assert dt.detection_loss(-sure, right, classes, boxes) > 1
    assert dt.detection_loss(sure, right + 0.3, classes, boxes) > 0.1


def test_the_learning_rate_rises_and_falls() -> None:
    shares = [dt.rate_share(done) for done in np.linspace(0, 1, 101)]
    assert shares[0] == 0 and np.isclose(shares[10], 1)
    assert np.isclose(shares[5], 0.5) and np.isclose(shares[55], 0.5)
    assert abs(shares[-1]) < 1e-9 and np.diff(shares).argmin() == 54


def test_a_killed_training_goes_on_where_it_stopped(
    scenes: ds.DetectionSet,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = {"epochs": 2, "width": 4, "progress": False}
    monkeypatch.setenv("LQ_CACHE_DIR", str(tmp_path / "a"))
    whole = dt.trained_detector(scenes, **settings)
    monkeypatch.setenv("LQ_CACHE_DIR", str(tmp_path / "b"))
    state = dt._State(scenes, 2, 0.003, 4, 0)
    state.run_epoch(0)
    epochs = []
    real = dt._State.run_epoch

    def counted(self: dt._State, epoch: int) -> float:
        epochs.append(epoch)
        return real(self, epoch)

    monkeypatch.setattr(dt._State, "run_epoch", counted)
    again = dt.trained_detector(scenes, **settings)
    assert epochs == [1] and not again.training
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name]), name
    with pytest.raises(ds.DetectionError, match="one at least"):
        dt.trained_detector(scenes, epochs=0)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> TinyDetector:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LQ_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        many = ds.generate_scenes(192, seed=1)
        return dt.trained_detector(
            many, epochs=6, width=8, learning_rate=0.01, progress=False
        )


def test_training_finds_objects(trained: TinyDetector) -> None:
    held_out = ds.generate_scenes(40, seed=2)
    fresh = TinyDetector(4, 8)
    before = ap.localisation(held_out, fresh.detect(held_out.images))
    after = ap.localisation(held_out, trained.detect(held_out.images))
    assert after["found"] > before["found"] + 0.3
    found = trained.detect(held_out.images)
    assert all((np.diff(own.scores) <= 0).all() for own in found)


def test_heads_have_the_same_number_of_weights() -> None:
    detector = TinyDetector(4)
    sizes = [
        sum(
            m.weight.numel()
            for n, m in detector.named_modules()
            if n.startswith(detector.parts[part]) and isinstance(m, nn.Conv2d)
        )
        for part in (dr.CLASS_HEAD, dr.BOX_HEAD)
    ]
    assert sizes[0] == sizes[1] > 0
    with pytest.raises(ds.DetectionError, match="give 1 or more"):
        TinyDetector(0)


def test_folding_does_not_change_the_outputs(trained: TinyDetector) -> None:
    x = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    folded = dr.fold_sequences(trained)
    norms = [m for m in folded.modules() if isinstance(m, nn.BatchNorm2d)]
    assert not norms and not trained.training
    with torch.no_grad():
        for a, b in zip(trained(x), folded(x)):
            assert torch.allclose(a, b, atol=1e-4)


def test_only_the_layers_asked_for_are_rounded(trained: TinyDetector) -> None:
    parts = trained.parts
    sizes = {s: len(dr.part_layers(trained, parts, s)) for s in dr.SET_UPS}
    assert list(sizes.values()) == [2, 4, 2, 2, 8]
    layers = dr.part_layers(trained, parts, "backbone, later half")
    assert layers == ["backbone.2.0", "backbone.3.0"]
    few = dr.fold_sequences(trained)
    grids = dr.round_layers(few, layers, 3)
    whole = dr.fold_sequences(trained)
    for name, tensor in few.named_parameters():
        same = torch.equal(tensor, whole.get_parameter(name))
        assert same != (name.removesuffix(".weight") in layers)
    for name, grid in grids.items():
        channel = few.get_submodule(name).weight.flatten(1)[0]
        assert len(channel.unique()) <= 8 == grid.alphabet.count
    weights = sum(few.get_submodule(n).weight.numel() for n in layers)
    channels = sum(len(few.get_submodule(n).weight) for n in layers)
    every = sum(p.numel() for p in few.parameters())
    expected = 4 * (every - weights) + weights * 3 / 8 + 8 * channels
    assert dr.stored_bytes(few, grids) == expected
    with pytest.raises(ds.DetectionError, match="choose one of"):
        dr.part_layers(trained, parts, "neck")
    with pytest.raises(ds.DetectionError, match="begins 'trunk'"):
        dr.part_layers(trained, parts | {"backbone": "trunk"}, "backbone")


@pytest.fixture(scope="module")
def rows(trained: TinyDetector) -> pd.DataFrame:
    held_out = ds.generate_scenes(12, seed=2)
    shared = {"detector": trained, "scenes": held_out}
    grid = {"quantizer": "asymmetric", "granularity": "channel"}
    grid |= {"scale": "max", "draws": 20, "seed": 0}
    cells = [(s, b) for s in dr.SET_UPS for b in (8, 2)]
    return pd.DataFrame(
        [
            {"set_up": s, "bits": b} | detection_row(s, b, **grid, **shared)
            for s, b in cells
        ]
    )


def test_rows_of_cells(rows: pd.DataFrame, trained: TinyDetector) -> None:
    wide, narrow = (
        rows[rows["bits"] == b].set_index("set_up") for b in (8, 2)
    )
    assert (wide["drop_AP"].abs() < 0.1).all()
    assert narrow.loc["everything", "drop_AP"] > 0
    assert np.allclose(rows["original_AP"] - rows["AP"], rows["drop_AP"])
    assert (rows["low_AP"] <= rows["high_AP"]).all()
    assert narrow["rounded"].iloc[0] < narrow["rounded"].iloc[1] < 1
    assert (narrow["bytes"] < wide["bytes"]).all()
    assert (rows["bytes"] < rows["original_bytes"]).all()


def test_tables_and_figures(rows: pd.DataFrame, trained: TinyDetector) -> None:
    table = tables.precision_table(rows, "AP50")
    assert np.allclose(table["AP50"], 100 * rows["AP50"])
    heads = tables.heads_table(rows)
    assert heads["bits"].tolist() == [8, 2]
    told = tables.verdicts(rows)
    assert len(told) == 3 and told["verdict"].str.contains("here").all()
    fig = figures.parts_figure(rows, ["AP", "AP50"])
    assert [ax.get_title() for ax in fig.axes] == ["AP", "AP50"]
    held_out = ds.generate_scenes(3, seed=2)
    found = {"as trained": trained.detect(held_out.images)}
    again = figures.scenes_figure(held_out, found, 3)
    least = [len(k) for k in held_out.labels]
    assert all(
        len(ax.patches) >= n for ax, n in zip(again.axes, least, strict=True)
    )
    with pytest.raises(ds.DetectionError, match="missing"):
        tables.precision_table(rows.drop(columns="bytes"))
    with pytest.raises(ds.DetectionError, match="wanted"):
        tables.heads_table(rows[rows["set_up"] != dr.BOX_HEAD])


def head_rows(classes: list[float], boxes: list[float]) -> pd.DataFrame:
    lines = []
    for name, drops in ((dr.CLASS_HEAD, classes), (dr.BOX_HEAD, boxes)):
        for bits, drop in zip((4, 3), drops):
            line = {"set_up": name, "bits": bits, "AP": 0.5 - drop}
            line |= {"drop_AP": drop, "low_AP": drop - 0.01}
            line |= {
                "high_AP": drop + 0.01,
                "bytes": 1,
                "original_bytes": 2,
                "images": 9,
            }
            lines.append(line)
    return pd.DataFrame(lines)


def test_heads_are_told_apart_by_their_intervals() -> None:
    found = tables.heads_table(head_rows([0.0, 0.1], [0.01, 0.3]))
    assert found["worse"].tolist() == ["cannot be told", dr.BOX_HEAD]
    found = tables.heads_table(head_rows([0.1, 0.2], [0.0, 0.3]))
    assert found["worse"].tolist() == [dr.CLASS_HEAD, dr.BOX_HEAD]


def test_verdicts_on_heads_follow_from_the_rows() -> None:
    rows = head_rows([0.0, 0.1], [0.0, 0.3])
    whole = rows[rows["set_up"] == dr.BOX_HEAD].assign(set_up=dr.BACKBONE)
    rows = pd.concat([rows, whole])
    swapped = rows["set_up"].map({dr.BOX_HEAD: 0.0, dr.CLASS_HEAD: 0.2})
    for end in ("drop_AP", "low_AP", "high_AP"):
        rows[f"{end}50"] = rows[end] + swapped.fillna(0)
    rows["AP50"] = rows["AP"]
    found = tables.verdicts(rows)["verdict"].tolist()
    assert found == ["holds here", "holds here", "does not hold here"]
    blind = rows.assign(AP=0.05 - rows["drop_AP"])
    assert tables.verdicts(blind)["verdict"].iloc[0] == "cannot be told here"


def test_the_poster_s_detectors() -> None:
    table = tables.poster_rows()
    assert len(table) == 6
    yolo = table[table["precision"] == "8-bit"].iloc[0]
    assert np.isclose(yolo["lost"], 52.97 - 46.10)
    assert np.isclose(yolo["smaller"], 100 * (1 - 13.7 / 58.8))


def coco_folder(scenes: ds.DetectionSet, folder: Path) -> None:
    (folder / "annotations").mkdir()
    (folder / coco.PHOTOGRAPHS).mkdir()
    images, annotations = [], []
    for i, image in enumerate(scenes.images):
        name = f"{i:04}.png"
        Image.fromarray(image).save(folder / coco.PHOTOGRAPHS / name)
        images.append({"id": i + 7, "file_name": name})
        for box, label in zip(scenes.boxes[i], scenes.labels[i]):
            sides = (box[2:] - box[:2]).tolist()
            annotations.append(
                {"id": len(annotations) + 1, "image_id": i + 7}
                | {"bbox": [*box[:2].tolist(), *sides], "iscrowd": 0}
                | {"category_id": int(label) + 1, "area": 1.0}
            )
    names = [{"id": k + 1, "name": n} for k, n in enumerate(ds.SHAPES)]
    content = {"images": images, "annotations": annotations}
    text = json.dumps(content | {"categories": names})
    (folder / coco.ANNOTATIONS).write_text(text)


def test_a_folder_of_coco_s_form_is_read(tmp_path: Path) -> None:
    scenes = ds.generate_scenes(4, seed=5)
    coco_folder(scenes, tmp_path)
    found = coco.read_coco(tmp_path, 3)
    assert len(found) == 3 and found.class_names == ds.SHAPES
    for i in range(3):
        assert np.array_equal(found.images[i], scenes.images[i])
        assert np.array_equal(found.boxes[i], scenes.boxes[i])
        assert np.array_equal(found.labels[i], scenes.labels[i])
    with pytest.raises(ds.DetectionError, match="cocodataset"):
        coco.read_coco(tmp_path / "none", 3)
    (tmp_path / coco.PHOTOGRAPHS / "0000.png").write_bytes(b"damaged")
    with pytest.raises(ds.DetectionError, match="cannot read"):
        coco.read_coco(tmp_path, 1)


def test_ssdlite_takes_the_same_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scenes = ds.generate_scenes(2, seed=5)
    detector = coco.SSDLite(len(scenes.class_names), seed=0)
    row = detection_row(
        "backbone", 8, "asymmetric", "channel", "max", 20, 0,
        detector=detector, scenes=scenes,
    )  # fmt: skip
    assert 0 <= row["AP"] <= 1 and 0.5 < row["rounded"] < 0.95
    assert row["bytes"] < 0.7 * row["original_bytes"]
    x = [torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(0))]
    with torch.no_grad():
        a = detector.network(x)[0]
        b = dr.fold_sequences(detector).network(x)[0]
    assert torch.allclose(a["scores"], b["scores"], atol=1e-4)
    monkeypatch.setenv("LQ_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(ds.DetectionError, match="download"):
        coco.coco_detector()
