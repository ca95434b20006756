"""Networks that died while they were trained are found and passed over."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from lq_utils import living_networks
from lq_utils.compression_networks import Budget, base_network, budget
from lq_utils.images import Splits
from lq_utils.living_networks import is_dead, living_seeds
from lq_utils.models import build_model
from lq_utils.recipes import TrainingError
from lq_utils.tasks import all_classes_task, fewer_images


@pytest.fixture
def few(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Splits:
    monkeypatch.setenv("LQ_CACHE_DIR", str(tmp_path))
    task = all_classes_task(dataset="synthetic10", verbose=False)
    return fewer_images(task, 60, 5, seed=0)


def at_rate(rate: float) -> Budget:
    return budget(
        epochs=1,
        transfer_epochs=1,
        rate=rate,
        fine_epochs=1,
        fine_rate=rate,
        calibration=8,
    )


def test_a_layer_that_gives_zero_for_everything_is_death(few: Splits) -> None:
    network = build_model("quantnet", 10, 0)
    assert not is_dead(network, few.validation)
    with torch.no_grad():
        network.linear2.bias.fill_(-1e6)
    assert is_dead(network, few.validation)


def test_networks_that_live_are_taken_in_order(few: Splits) -> None:
    assert living_seeds(few, 3, 2, at_rate(1e-4)) == ([3, 4], [])


def test_networks_that_die_are_passed_over(
    few: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    reckless = at_rate(5.0)
    dies = {
        seed: is_dead(base_network(few, seed, reckless), few.validation)
        for seed in range(4)
    }
    lives = [seed for seed, dead in dies.items() if not dead]
    assert lives and len(lives) < len(dies)
    found = living_seeds(few, 0, len(lives), reckless)
    passed = [seed for seed in range(lives[-1]) if dies[seed]]
    assert found == (lives, passed)
    monkeypatch.setattr(living_networks, "TRIES", 1)
    first = next(seed for seed, dead in dies.items() if dead)
    with pytest.raises(TrainingError, match="lower the learning rate"):
        living_seeds(few, first, 1, reckless)
