"""The compress command: what it takes, writes, says and refuses."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from task_samples import NAMES, Small, part, small_network
from torch import nn

from lq_utils.__main__ import main as command
from lq_utils.artifact import load_quantized
from lq_utils.bit_allocation import AllocationError
from lq_utils.compress_command import chosen_classes, main, parse_budget
from lq_utils.compress_report import CompressError
from lq_utils.data import DataError, load_dataset
from lq_utils.inference import to_input
from lq_utils.models import MODELS, register_model
from lq_utils.onnx_runtime import predict_onnx
from lq_utils.task_models import find_model
from lq_utils.weights import WeightsError, save_weights

FAST = ["--bits", "2,3,4", "--images", "12", "--image-size", "8"]
FAST += ["--polish", "0"]


@pytest.fixture(autouse=True)
def small_model() -> Iterator[None]:
    register_model("small", replace=True)(Small)
    yield
    del MODELS._entries["small"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of class folders, ten images of 8x8 pixels each."""
    base = tmp_path_factory.mktemp("images")
    data = part("train", 10)
    for i, (image, label) in enumerate(zip(data.images, data.labels)):
        place = base / NAMES[label]
        place.mkdir(exist_ok=True)
        Image.fromarray(image).save(place / f"{i}.png")
    return base


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "small.pt"
    torch.save(small_network().state_dict(), path)
    return path


def words(model: Path, folder: Path, out: Path, *others: str) -> list[str]:
    given = ["--model", str(model), "--dataset", str(folder)]
    given += ["--architecture", "small", "--out", str(out)]
    fixed = {"--classes": "fox,ant,cat", "--budget": "3bits"}
    for name, value in fixed.items():
        if name not in others:
            given += [name, value]
    return [*given, *FAST, *others]


def test_from_weights_to_a_file_that_answers_the_same(
    weights: Path,
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out, onnx = tmp_path / "task.lq", tmp_path / "task.onnx"
    asked = words(weights, folder, out, "--onnx", str(onnx))
    assert command(["compress", *asked]) == 0
    said = capsys.readouterr().out
    assert "Task:    fox, ant, cat" in said and "conv2" in said
    assert "validation" in said and "test" in said and "NOTE:" in said
    record = json.loads(out.with_suffix(".json").read_text())
    assert record["class_names"] == ["fox", "ant", "cat"]
    assert record["file_bytes"] == out.stat().st_size
    assert record["file_bytes"] <= record["budget_bytes"]
    x = to_input(part("test", 3).images)
    with torch.no_grad():
        answers = load_quantized(out)(x)
    assert answers.shape == (18, 3)
    same = predict_onnx(onnx, part("test", 3))
    torch.testing.assert_close(same, answers, rtol=1e-4, atol=1e-4)


def test_a_budget_in_bytes_is_kept_or_refused(
    weights: Path, folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "task.lq"
    assert main(words(weights, folder, out, "--budget", "3KB")) == 0
    assert out.stat().st_size <= 3000
    before = out.read_bytes()
    with pytest.raises(AllocationError, match="more than the budget of 500"):
        main(words(weights, folder, out, "--budget", "500"))
    assert out.read_bytes() == before


@pytest.mark.parametrize(
    ("text", "means"),
    [
        ("2.5bits", (2.5, "bits")),
        ("3 bit", (3.0, "bits")),
        ("48KB", (48000.0, "bytes")),
        ("48KiB", (49152.0, "bytes")),
        ("0.1mb", (100000.0, "bytes")),
        (" 64000 ", (64000.0, "bytes")),
    ],
)
def test_budgets(text: str, means: tuple[float, str]) -> None:
    assert parse_budget(text) == means


@pytest.mark.parametrize(
    "text", ["", "bits", "0.5bits", "0", "-3KB", "3GBit", "1e3", "nan"]
)
def test_budgets_that_cannot_be_read(text: str) -> None:
    with pytest.raises(CompressError, match="cannot read the budget"):
        parse_budget(text)


def test_mistakes_are_named_before_anything_is_written(
    weights: Path,
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "task.lq"
    for wrong, says in {
        ("--classes", "foxx,ant"): "did you mean fox?",
        ("--classes", "ant"): "two or more",
        ("--classes", "ant,17"): "not in 0..5",
        ("--budget", "3parsecs"): "cannot read the budget",
        ("--bits", "2,three"): "write 2,3,4",
        ("--images", "4000"): "the smallest has",
        ("--solver", "gptqq"): "did you mean 'gptq'",
        ("--import", "no_such_module"): "cannot import 'no_such_module'",
        ("--architecture", "smal"): "did you mean 'small'",
        ("--dataset", str(tmp_path / "none")): "no data set",
    }.items():
        assert command(["compress", *words(weights, folder, out, *wrong)]) == 2
        assert says in capsys.readouterr().err
    assert not out.exists()


def test_classes_by_name_or_index(folder: Path) -> None:
    splits = load_dataset(f"imagefolder:{folder}", image_size=8, verbose=False)
    assert chosen_classes(" fox, 0 ,cat", splits) == (5, 0, 2)
    with pytest.raises(DataError, match="did you mean dog"):
        chosen_classes("dogg,ant", splits)


# -- models -----------------------------------------------------------------


class Harmful(nn.Module):
    """What a whole pickled module could do when it is loaded."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (Path("harm"),)  # type: ignore[return-value]


def test_pickled_code_is_never_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save(Harmful(), tmp_path / "whole.pt")
    with pytest.raises(WeightsError, match="model.state_dict"):
        find_model("whole.pt", part("train", 3), "small")
    assert not (tmp_path / "harm").exists()


def test_files_that_are_no_weights(tmp_path: Path, weights: Path) -> None:
    train = part("train", 3)
    (tmp_path / "text.pt").write_text("no archive")
    torch.save([1, 2], tmp_path / "list.pt")
    torch.save({"epoch": 3}, tmp_path / "epoch.pt")
    for name, says in {
        "none.pt": "no file",
        "text.pt": "damaged or holds more",
        "list.pt": "no state dict",
        "epoch.pt": "no state dict",
    }.items():
        with pytest.raises(WeightsError, match=says):
            find_model(str(tmp_path / name), train, "small")
    with pytest.raises(WeightsError, match="--architecture NAME"):
        find_model(str(weights), train)
    with pytest.raises(WeightsError, match="does not fit quantnet"):
        find_model(str(weights), train, "quantnet")
    with pytest.raises(WeightsError, match="did you mean|with weights"):
        find_model("resnet2", train)


def test_state_dicts_in_checkpoints_are_found(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pth"
    torch.save({"state_dict": small_network().state_dict(), "epoch": 3}, path)
    found = find_model(str(path), part("train", 3), "small")
    x = to_input(part("test", 2).images)
    assert torch.equal(found.network(x), small_network()(x))


def test_safetensors_say_their_classes_and_split(tmp_path: Path) -> None:
    train, path = part("train", 3), tmp_path / "small.safetensors"
    own = train.provenance
    record = {"num_outputs": 6, "class_names": NAMES}
    save_weights(path, small_network(), "small", record)
    found = find_model(str(path), train)
    assert found.name == "small" and found.note.startswith("NOTE:")
    data = {"split": own.split, "fingerprint": own.fingerprint}
    save_weights(path, small_network(), "small", record | {"data": data})
    assert find_model(str(path), train).note == ""
    other = {"data": data | {"split": "official"}}
    save_weights(path, small_network(), "small", record | other)
    with pytest.raises(WeightsError, match="another split"):
        find_model(str(path), train)
    names = {"class_names": list("uvwxyz")}
    save_weights(path, small_network(), "small", record | names)
    with pytest.raises(WeightsError, match="give the data set"):
        find_model(str(path), train)
    assert np.isfinite(train.images).all()
