"""Training: schedules, augmentation, exact resume, no test images."""

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from lq_utils.augmentation import crop_and_flip, pad_for_crops
from lq_utils.checkpoints import checkpoint_path
from lq_utils.data import DataError, ImageData, Provenance
from lq_utils.inference import evaluate, predict, to_input, top1
from lq_utils.recipes import (
    TrainingConfig,
    TrainingError,
    image_size_at,
    learning_rate_at,
    make_optimizer,
)
from lq_utils.training import STEP, loss_of, train

CONFIG = TrainingConfig(
    epochs=4, batch_size=8, optimizer="adam", learning_rate=0.002
)


def toy_data(part: str, seed: int, classes: int = 3) -> ImageData:
    """Images whose mean colour tells their class."""
    rng = np.random.default_rng(seed)
    labels = np.arange(48) % classes
    images = rng.integers(0, 120, size=(48, 32, 32, 3))
    images[np.arange(48), ..., labels % 3] += 120
    return ImageData(
        images.astype(np.uint8),
        labels.astype(np.int64),
        tuple(f"class{k}" for k in range(classes)),
        ("all",),
        np.zeros(classes, dtype=np.int64),
        part,
        Provenance("toy", "generated in a test", f"{seed}", "toy"),
    )


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LQ_CACHE_DIR", str(tmp_path / "cache"))


def parts() -> tuple[ImageData, ImageData]:
    return toy_data("train", 0), toy_data("validation", 1)


def test_training_learns_and_keeps_the_best_epoch() -> None:
    trained = train("quantnet", *parts(), CONFIG, progress=False)
    accuracies = [row["validation_accuracy"] for row in trained.history]
    assert trained.validation_accuracy == max(accuracies)
    assert accuracies.index(max(accuracies)) == trained.best_epoch
    assert evaluate(trained.model, parts()[1]) == max(accuracies)
    assert max(accuracies) > 0.6


@pytest.mark.parametrize("position", [0, 1])
def test_test_images_are_refused(position: int) -> None:
    both = list(parts())
    both[position] = replace(both[position], part="test")
    with pytest.raises(DataError, match="test part"):
        train("quantnet", *both, CONFIG, progress=False)


def test_class_counts_must_agree() -> None:
    with pytest.raises(DataError, match="classes"):
        train(
            "quantnet",
            toy_data("train", 0),
            toy_data("validation", 1, classes=4),
            CONFIG,
            progress=False,
        )


SCRIPT = """
    import os, signal, sys
    sys.path.insert(0, {tests!r})
    import torch
    from test_training import CONFIG, parts
    from lq_utils.training import train

    def report(row):
        if {die} and row["epoch"] == 1:
            os.kill(os.getpid(), signal.SIGKILL)

    trained = train(
        "resnet20", *parts(), CONFIG, progress=False, on_epoch=report
    )
    torch.save(trained.model.state_dict(), {out!r})
"""


def run_script(cache: Path, out: Path, die: bool) -> int:
    code = textwrap.dedent(SCRIPT).format(
        tests=str(Path(__file__).parent), die=die, out=str(out)
    )
    environment = {**os.environ, "LQ_CACHE_DIR": str(cache)}
    return subprocess.run(
        [sys.executable, "-c", code],
        check=False,
        env=environment,
        timeout=120,
    ).returncode


def test_killed_training_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    whole, resumed = tmp_path / "whole.pt", tmp_path / "resumed.pt"
    assert run_script(tmp_path / "a", whole, die=False) == 0
    assert run_script(tmp_path / "b", resumed, die=True) == -signal.SIGKILL
    assert not resumed.exists()
    assert run_script(tmp_path / "b", resumed, die=False) == 0
    one = torch.load(whole, weights_only=True)
    two = torch.load(resumed, weights_only=True)
    assert all(torch.equal(one[name], two[name]) for name in one)


class Layered(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(3, 2)


def test_another_forward_pass_is_another_checkpoint() -> None:
    def once(self: Layered, x: torch.Tensor) -> torch.Tensor:
        return self.fc(x)

    def clipped(self: Layered, x: torch.Tensor) -> torch.Tensor:
        return self.fc(x.clamp(0, 1))

    def network(forward: Callable[..., torch.Tensor]) -> nn.Module:
        base = type("Base", (Layered,), {"forward": forward})
        return type("Same", (base,), {})()

    first, again, other = map(network, (once, once, clipped))
    data = toy_data("train", 0)
    path = checkpoint_path("same", first, data, CONFIG, STEP)
    assert str(first) == str(other)
    assert path == checkpoint_path("same", again, data, CONFIG, STEP)
    assert path != checkpoint_path("same", other, data, CONFIG, STEP)


def test_other_seed_gives_other_weights() -> None:
    one = train("quantnet", *parts(), CONFIG, progress=False)
    two = train("quantnet", *parts(), replace(CONFIG, seed=1), progress=False)
    assert not torch.equal(one.model.conv1.weight, two.model.conv1.weight)


def test_patience_stops_early() -> None:
    # A learning rate of almost nothing never improves on the first epoch.
    config = replace(CONFIG, epochs=9, learning_rate=1e-12, patience=2)
    trained = train("quantnet", *parts(), config, progress=False)
    assert len(trained.history) == 3


def test_divergence_is_reported_with_advice() -> None:
    config = replace(CONFIG, learning_rate=1e30, schedule="constant")
    with pytest.raises(TrainingError, match="lower learning_rate"):
        train("quantnet", *parts(), config, progress=False)


@pytest.mark.parametrize(
    "wrong",
    [
        {"optimizer": "adamw2"},
        {"optimizer": "RMSprop"},
        {"schedule": "linear"},
        {"epochs": 0},
        {"image_sizes": ()},
    ],
)
def test_wrong_configurations_are_refused(wrong: dict) -> None:
    with pytest.raises(TrainingError):
        TrainingConfig(**wrong)


def test_one_cycle_learning_rate_in_closed_form() -> None:
    config = TrainingConfig(learning_rate=0.4, warmup=0.25)
    values = [learning_rate_at(p, config) for p in (0, 0.25, 0.625, 1)]
    np.testing.assert_allclose(values, [0.016, 0.4, 0.2, 0], atol=1e-12)


def test_cosine_starts_at_the_peak() -> None:
    config = TrainingConfig(learning_rate=0.4, schedule="cosine")
    values = [learning_rate_at(p, config) for p in (0, 0.5, 1)]
    np.testing.assert_allclose(values, [0.4, 0.2, 0], atol=1e-12)


def test_rmsprop_by_hand() -> None:
    # Hinton's lecture 6e: the step is the gradient over the root of a
    # running mean of its squares, which torch lets decay by 0.99.
    config = TrainingConfig(
        optimizer="rmsprop", learning_rate=0.01, weight_decay=0.1
    )
    weight = nn.Parameter(torch.tensor([2.0, -4.0], dtype=torch.float64))
    optimizer = make_optimizer([weight], config)
    expected, mean = np.array([2.0, -4.0]), np.zeros(2)
    for gradient in ([0.5, 3.0], [-1.0, 0.25]):
        decayed = np.array(gradient) + 0.1 * expected
        mean = 0.99 * mean + 0.01 * decayed**2
        expected = expected - 0.01 * decayed / (np.sqrt(mean) + 1e-8)
        weight.grad = torch.tensor(gradient, dtype=torch.float64)
        optimizer.step()
    np.testing.assert_allclose(weight.detach().numpy(), expected, rtol=1e-12)


def test_image_sizes_share_the_epochs_evenly() -> None:
    config = TrainingConfig(epochs=8, image_sizes=(16, 24, 28, 32))
    sizes = [image_size_at(epoch, config) for epoch in range(8)]
    assert sizes == [16, 16, 24, 24, 28, 28, 32, 32]


def test_crops_and_flips_equal_a_plain_loop() -> None:
    rng = np.random.default_rng(3)
    images = rng.integers(0, 256, size=(6, 32, 32, 3), dtype=np.uint8)
    padded = pad_for_crops(images)
    assert padded.shape == (6, 40, 40, 3)
    np.testing.assert_array_equal(padded[:, 4:-4, 4:-4], images)
    indices = np.array([5, 0, 3, 3, 1, 2, 4, 0])
    ours = crop_and_flip(padded, indices, np.random.default_rng(9))
    draws = np.random.default_rng(9)
    tops, lefts = draws.integers(0, 9, size=(2, 8))
    flips = draws.random(8) < 0.5
    assert flips.any() and not flips.all()
    for k, i in enumerate(indices):
        crop = padded[i, tops[k] : tops[k] + 32, lefts[k] : lefts[k] + 32]
        np.testing.assert_array_equal(
            ours[k], crop[:, ::-1] if flips[k] else crop
        )


def test_input_normalisation_and_layout() -> None:
    images = np.zeros((2, 4, 5, 3), dtype=np.uint8)
    images[1, 2, 3] = (0, 51, 255)
    x = to_input(images)
    assert x.shape == (2, 3, 4, 5)
    expected = torch.tensor([-2.0, (0.2 - 0.5) / 0.25, 2.0])
    torch.testing.assert_close(x[1, :, 2, 3], expected)


def test_predictions_do_not_depend_on_the_batch_size() -> None:
    trained = train("quantnet", *parts(), CONFIG, progress=False)
    small = predict(trained.model, parts()[1], batch_size=7)
    large = predict(trained.model, parts()[1], batch_size=48)
    torch.testing.assert_close(small, large)


def test_top1_of_many_and_of_one_logit() -> None:
    many = torch.tensor([[0.1, 0.9], [2.0, 1.0], [0.0, 1.0]])
    assert top1(many, np.array([1, 0, 0])) == pytest.approx(2 / 3)
    one = torch.tensor([[-1.0], [3.0], [0.5], [-2.0]])
    assert top1(one, np.array([0, 1, 0, 0])) == pytest.approx(3 / 4)


def test_binary_loss_in_closed_form() -> None:
    loss = loss_of(torch.tensor([[2.0], [-1.0]]), torch.tensor([1, 0]), 0.0)
    expected = np.log1p(np.exp([-2.0, -1.0])).mean()
    assert loss.item() == pytest.approx(expected, rel=1e-6)
