"""Fine-tuning: what moves, what stays, what is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from lq_utils.fine_tuning import batch_indices, fine_tune
from lq_utils.images import DataError, ImageData, Provenance
from lq_utils.inference import predict
from lq_utils.recipes import TrainingError


def make_data(part: str = "train") -> ImageData:
    """Three classes of 8x8 images that differ in their colour."""
    rng = np.random.default_rng(0)
    labels = np.tile([0, 1, 2], 20)
    images = rng.integers(0, 60, (60, 8, 8, 3), dtype=np.uint8)
    images[np.arange(60), :, :, labels] += 150
    names, groups = ("a", "b", "c"), np.zeros(3, dtype=np.int64)
    source = Provenance("made", "synthetic", "0" * 8, "book")
    return ImageData(images, labels, names, ("all",), groups, part, source)


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.fc = nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.norm(self.conv(x)))
        return self.fc(x.mean(dim=(2, 3)))


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    return Small().eval()


def changed(before: nn.Module, after: nn.Module) -> set[str]:
    old, new = before.state_dict(), after.state_dict()
    return {n.split(".")[0] for n in old if not torch.equal(old[n], new[n])}


def test_training_lowers_the_loss_and_keeps_the_original(network):
    data = make_data()
    kept = {n: v.clone() for n, v in network.state_dict().items()}
    tuned = fine_tune(
        network, data, [0, 2], steps=40, batch_size=16, learning_rate=0.01
    )
    own = data.take(np.flatnonzero(data.labels != 1))
    labels = torch.from_numpy(own.labels)
    before, after = (
        nn.functional.cross_entropy(predict(m, own), labels)
        for m in (network, tuned)
    )
    assert after < before / 2
    assert all(torch.equal(v, kept[n]) for n, v in network.named_parameters())
    assert changed(network, tuned) == {"conv", "norm", "fc"}
    assert not tuned.training
    assert all(p.requires_grad for p in tuned.parameters())


def test_last_layer_alone(network):
    how = {"steps": 3, "batch_size": 8, "learning_rate": 0.01}
    tuned = fine_tune(network, make_data(), [0, 1], layers="last", **how)
    assert changed(network, tuned) == {"fc"}


def test_seeds_decide(network):
    how = {"steps": 3, "batch_size": 8, "learning_rate": 0.01}
    data = make_data()
    runs = [fine_tune(network, data, [0, 1], seed=s, **how) for s in (1, 1, 2)]
    weights = [run.fc.weight for run in runs]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_first_step_is_adamw_by_hand(network):
    # The first step of Adam moves every weight by the rate, but for decay.
    data = make_data().take(np.arange(8))
    tuned = fine_tune(
        network,
        data,
        [0, 1, 2],
        steps=1,
        batch_size=8,
        learning_rate=0.01,
        layers="last",
    )
    old, new = network.fc.bias.detach(), tuned.fc.bias.detach()
    move = new - old * (1 - 0.01 * 0.01)
    assert move.abs().numpy() == pytest.approx(0.01, rel=1e-3)


def test_batches_cover_every_epoch():
    rng = np.random.default_rng(0)
    drawn = list(batch_indices(10, 7, 4, rng))
    assert all(len(set(b.tolist())) == 4 for b in drawn)
    for first, second in zip(drawn[::2], drawn[1::2]):
        assert not set(first) & set(second)  # two batches an epoch
    few = list(batch_indices(3, 2, 64, rng))
    assert [sorted(b.tolist()) for b in few] == [[0, 1, 2]] * 2


def test_what_is_refused(network):
    data = make_data()
    with pytest.raises(DataError, match="training images"):
        fine_tune(network, replace(data, part="test"), [0], steps=1)
    with pytest.raises(DataError, match="0 training images"):
        fine_tune(network, data, [7], steps=1)
    for wrong in ({"layers": "first"}, {"steps": 0}, {"batch_size": 1}):
        with pytest.raises(TrainingError, match="layers is one of"):
            fine_tune(network, data, [0], **{"steps": 1, **wrong})
    with pytest.raises(TrainingError, match="no linear layer"):
        fine_tune(nn.Conv2d(3, 3, 8), data, [0], steps=1, layers="last")
    with pytest.raises(TrainingError, match="not finite"):
        fine_tune(network, data, [0, 1], steps=9, learning_rate=1e30)
