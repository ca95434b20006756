"""Training with the images on the device, against the book's own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from large_samples import TinyNet, part
from torch import nn

from lq_utils.augmentation import crop_and_flip, pad_for_crops
from lq_utils.device_training import (
    DeviceTraining,
    crop_and_flip_there,
    cut_holes,
    device_optimizer,
    train_on_device,
)
from lq_utils.images import DataError, Splits
from lq_utils.inference import to_input
from lq_utils.models import MODELS, register_model
from lq_utils.recipes import TrainingConfig, TrainingError

CONFIG = TrainingConfig(epochs=2, batch_size=16, learning_rate=0.05)


@pytest.fixture(autouse=True)
def own_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    monkeypatch.setenv("LQ_CACHE_DIR", str(tmp_path / "cache"))
    register_model("tinynet", replace=True)(TinyNet)
    yield
    del MODELS._entries["tinynet"]


def made_splits() -> Splits:
    return Splits(part("train", 8), part("validation", 3), part("test", 4))


def test_crops_and_flips_are_those_of_numpy() -> None:
    images = np.random.default_rng(1).integers(
        0, 256, (9, 12, 10, 3), dtype=np.uint8
    )
    padded, indices = pad_for_crops(images), np.array([8, 0, 3, 3, 5])
    expected = crop_and_flip(padded, indices, np.random.default_rng(7))
    found = crop_and_flip_there(
        torch.from_numpy(padded), indices, np.random.default_rng(7)
    )
    assert np.array_equal(found.numpy(), expected)


def test_holes_are_squares_and_nothing_else_changes() -> None:
    x = torch.rand(40, 3, 16, 16) + 1
    cut = cut_holes(x, 6, np.random.default_rng(0))
    holes = cut == 0
    assert torch.equal(cut[~holes], x[~holes])
    assert (holes == holes[:, :1]).all()  # alike in all channels
    rows, columns = (holes[:, 0].any(dim=d).sum(dim=1) for d in (2, 1))
    assert torch.equal(holes[:, 0].sum(dim=(1, 2)), rows * columns)
    # At least half of a side lies inside, wherever the middle is.
    for side in (rows, columns):
        assert side.min() >= 3 and side.max() == 6
    assert cut_holes(x, 0, np.random.default_rng(0)) is x


def test_without_holes_a_batch_is_that_of_the_books_training() -> None:
    data = part("train", 8)
    state = DeviceTraining("tinynet", data, CONFIG, "cpu")
    indices = np.array([3, 41, 7])
    x, labels = state.batch(indices, np.random.default_rng(2), 32)
    same = crop_and_flip(
        pad_for_crops(data.images), indices, np.random.default_rng(2)
    )
    assert torch.equal(x, to_input(same))
    assert labels.tolist() == data.labels[indices].tolist()


def test_one_step_by_hand() -> None:
    """SGD with nesterov: (1 + m) (g + decay w) off a weight, first step."""
    config = TrainingConfig(
        epochs=1, batch_size=48, augment=False, schedule="constant"
    )
    data = part("train", 8)
    state = DeviceTraining("tinynet", data, config, "cpu")
    state.model.eval()
    before = [p.detach().clone() for p in state.model.parameters()]
    x, labels = state.batch(np.arange(48), np.random.default_rng(0), 32)
    loss = nn.functional.cross_entropy(state.model(x), labels)
    gradients = torch.autograd.grad(loss, list(state.model.parameters()))
    norm = sum(g.square().sum() for g in gradients) ** 0.5
    assert norm < 5  # nothing is clipped
    sums = state._device_step(x, labels)
    assert sums[0].item() == pytest.approx(48 * loss.item(), rel=1e-5)
    for p, w, g in zip(state.model.parameters(), before, gradients):
        decay = config.weight_decay if w.ndim > 1 else 0.0
        expected = w - 0.1 * 1.9 * (g + decay * w)
        assert torch.allclose(p.detach(), expected, atol=1e-6)


def test_adam_decays_weights_apart_from_gradients() -> None:
    model = nn.Linear(3, 2)
    config = TrainingConfig(optimizer="adam", weight_decay=0.5)
    optimizer = device_optimizer(model, config)
    before = model.weight.detach().clone(), model.bias.detach().clone()
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    assert torch.allclose(model.weight, before[0] * (1 - 0.1 * 0.5))
    assert torch.equal(model.bias, before[1])


def test_a_training_learns_and_a_stopped_one_goes_on(tmp_path: Path) -> None:
    splits = made_splits()
    whole = train_on_device("tinynet", splits, CONFIG, 4, "cpu")
    assert whole.history[-1]["train_loss"] < whole.history[0]["train_loss"]
    (path,) = (tmp_path / "cache" / "training").iterdir()
    path.unlink()
    state = DeviceTraining("tinynet", splits.train, CONFIG, "cpu", 4)
    first = state.run_epoch(0, splits.validation)
    state.save()
    resumed = train_on_device("tinynet", splits, CONFIG, 4, "cpu")
    assert resumed.history[0] == first  # its seconds, too: not run again
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(tensor, resumed.model.state_dict()[name]), name


def test_another_hole_is_another_training() -> None:
    data = part("train", 8)
    files = {
        DeviceTraining("tinynet", data, CONFIG, "cpu", hole).file
        for hole in (0, 4)
    }
    assert len(files) == 2


def test_what_cannot_be_trained() -> None:
    splits = made_splits()
    wild = TrainingConfig(
        epochs=1, batch_size=16, learning_rate=1e30, schedule="constant"
    )
    with pytest.raises(TrainingError, match="lower learning_rate"):
        train_on_device("tinynet", splits, wild, 0, "cpu")
    # A part that is not what it says cannot get into Splits at all.
    with pytest.raises(DataError, match="given the test part"):
        Splits(part("test", 8), splits.validation, splits.test)
