"""Pruning: masks, the schedule, and the removal of whole units."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from lq_utils.compression import prune, pruning_steps, set_sparsity, strip
from lq_utils.compression_checks import check_sparse, layer_values
from lq_utils.models import build_model
from lq_utils.parametrizations import CompressionError
from lq_utils.pruning import (
    PruningError,
    SparsitySchedule,
    magnitude_mask,
    unit_mask,
)
from lq_utils.stacks import latent_weight
from lq_utils.unit_pruning import (
    kept_units,
    layer_chain,
    mask_units,
    parameters_removed,
    remove_units,
)

INNER = ["conv1", "conv2", "linear1", "linear2"]


@pytest.fixture(scope="module")
def quantnet() -> nn.Module:
    return biased(build_model("quantnet", 1)).eval()


def biased(model: nn.Module) -> nn.Module:
    """Biases that are not zero, so that forgetting them shows."""
    generator = torch.Generator().manual_seed(5)
    for name, p in model.named_parameters():
        if name.endswith("bias"):
            p.data = torch.randn(p.shape, generator=generator)
    return model


def images(count: int = 4, size: int = 32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(9)
    return torch.randn(count, 3, size, size, generator=generator)


@settings(max_examples=60)
@given(
    st.lists(st.integers(-3, 3), min_size=1, max_size=40),
    st.floats(0, 0.999),
)
def test_masks_keep_exactly_the_largest(x, sparsity):
    w = torch.tensor(x, dtype=torch.float32)
    mask = magnitude_mask(w, sparsity)
    kept = max(round(len(x) * (1 - sparsity)), 1)
    # An independent order: by size, of equal ones the first.
    order = sorted(range(len(x)), key=lambda i: (-abs(x[i]), i))
    assert sorted(order[:kept]) == mask.nonzero().flatten().tolist()


def test_schedule_by_hand():
    schedule = SparsitySchedule(0.8, 300, initial=0.2, begin=100, every=70)
    # Half-way: 0.8 - 0.6 / 8.
    assert schedule.at(200) == pytest.approx(0.725)
    assert schedule.at(0) == schedule.at(100) == pytest.approx(0.2)
    assert schedule.at(300) == schedule.at(999) == 0.8
    assert [t for t in range(999) if schedule.due(t)] == [100, 170, 240, 300]


@pytest.mark.parametrize(
    "wrong",
    [
        {"final": 1.0, "end": 9},
        {"final": 0.5, "end": 0},
        {"final": 0.5, "end": 9, "every": 0},
        {"final": 0.5, "end": 9, "initial": -0.1},
    ],
)
def test_impossible_schedules(wrong):
    with pytest.raises(PruningError):
        SparsitySchedule(**wrong)


def test_bad_masks():
    for sparsity in (1.0, -0.1, float("nan")):
        with pytest.raises(PruningError, match="share"):
            magnitude_mask(torch.ones(3), sparsity)
    with pytest.raises(PruningError, match="NaN"):
        magnitude_mask(torch.tensor([torch.nan]), 0.5)


def test_pruned_layers_have_the_zeros_they_should(quantnet):
    pruned = prune(quantnet, 0.7, skip=["output"])
    table = layer_values(pruned).set_index("layer")
    for name in INNER:
        total = table.parameters[name]
        kept = round(total * 0.3)
        assert table.zero_share[name] == pytest.approx(1 - kept / total)
    assert table.zero_share["output"] == 0
    check_sparse(pruned, 0.7, skip=["output"])
    with pytest.raises(CompressionError, match="output has 16 weights"):
        check_sparse(pruned, 0.7)
    # The original is as it was.
    assert layer_values(quantnet).zero_share.max() == 0


def test_steps_follow_the_schedule_and_weights_can_return():
    model = prune(nn.Sequential(nn.Linear(10, 10)), 0.0)
    step = pruning_steps(SparsitySchedule(0.5, 10, every=5))
    shares = []
    for t in range(12):
        step(t, model)
        shares.append(round(float((model[0].weight == 0).double().mean()), 2))
    # 0.5 - 0.5 (1/2)^3 = 0.4375, of which 56 weights are left.
    assert shares == [0.0] * 5 + [0.44] * 5 + [0.5] * 2
    zeros = model[0].weight == 0
    with torch.no_grad():
        latent_weight(model[0])[zeros] += 9
    assert (model[0].weight[zeros] == 0).all()
    set_sparsity(model, 0.5)
    assert (model[0].weight[zeros] > 8).all()


def test_sparsity_needs_masks():
    with pytest.raises(CompressionError, match="prune"):
        set_sparsity(nn.Linear(2, 2), 0.5)


def test_units_are_chosen_by_their_norm():
    w = torch.tensor([[3.0, 4.0], [6.0, 0.0], [0.0, -4.9], [5.0, 0.1]])
    assert unit_mask(w, 0.5).tolist() == [False, True, False, True]


def test_the_chain_of_quantnet(quantnet):
    assert layer_chain(quantnet) == [*INNER, "output"]


@pytest.mark.parametrize("sparsity", [0.3, 0.9])
def test_removal_equals_masking(quantnet, sparsity):
    kept = kept_units(quantnet, sparsity)
    masked = mask_units(quantnet, kept)
    small = remove_units(quantnet, kept)
    x = images()
    with torch.no_grad():
        original, a, b = quantnet(x), masked(x), small(x)
    torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-5)
    assert (a - original).abs().max() > 0.01
    units = [int(kept[name].sum()) for name in INNER]
    assert units == [round(k * (1 - sparsity)) for k in (32, 64, 128, 16)]
    assert small.linear1.weight.shape == (units[2], units[1] * 64)
    assert small.linear1.in_features == units[1] * 64
    removed = parameters_removed(quantnet, kept).iloc[-1]
    count = sum(p.numel() for p in small.parameters())
    assert removed.parameters - removed.removed == count
    assert removed.parameters == 545_889


def test_masked_units_stay_masked_in_training(quantnet):
    masked = mask_units(quantnet, kept_units(quantnet, 0.5)).train()
    optimizer = torch.optim.SGD(masked.parameters(), 0.01, momentum=0.9)
    for _ in range(2):
        optimizer.zero_grad()
        masked(images()).square().mean().backward()
        optimizer.step()
    plain = strip(masked).eval()
    kept = {n: plain.get_submodule(n).weight.flatten(1).any(1) for n in INNER}
    assert int(kept["conv1"].sum()) == 16
    small = remove_units(plain, kept)
    with torch.no_grad():
        torch.testing.assert_close(
            small(images()), plain(images()), atol=1e-6, rtol=1e-5
        )


def test_a_hand_made_chain_with_strides_and_unpadded_pixels():
    torch.manual_seed(0)
    model = biased(
        nn.Sequential(
            nn.Conv2d(3, 6, 3, stride=2),
            nn.ReLU(),
            nn.Conv2d(6, 4, 2, bias=False),
            nn.AvgPool2d(2),
            nn.Flatten(),
            nn.Linear(4 * 9, 5),
            nn.ReLU(),
            nn.Linear(5, 3),
        )
    )
    kept = kept_units(model, 0.5, skip=["5"])
    assert set(kept) == {"0", "2"}
    x = images(3, 15)
    with torch.no_grad():
        torch.testing.assert_close(
            remove_units(model, kept)(x),
            mask_units(model, kept)(x),
            atol=1e-6,
            rtol=1e-5,
        )


def test_parameters_removed_in_closed_form():
    # Two inner layers without biases: 1 - (1 - k)^2 between them.
    model = nn.Sequential(
        nn.Linear(3, 100, bias=False),
        nn.ReLU(),
        nn.Linear(100, 100, bias=False),
        nn.ReLU(),
        nn.Linear(100, 2, bias=False),
    )
    table = parameters_removed(model, kept_units(model, 0.3))
    share = table.set_index("layer").share
    assert share["2"] == pytest.approx(2 * 0.3 - 0.3**2)
    assert share["0"] == share["4"] == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("kept", "message"),
    [
        ({"output": torch.ones(1, dtype=torch.bool)}, "no units to prune"),
        ({"conv1": torch.ones(3, dtype=torch.bool)}, r"bool \[32\]"),
        ({"conv1": torch.zeros(32, dtype=torch.bool)}, "at least one"),
    ],
)
def test_units_that_do_not_fit(quantnet, kept, message):
    with pytest.raises(PruningError, match=message):
        mask_units(quantnet, kept)


def test_networks_that_are_no_chain():
    with pytest.raises(PruningError, match="plain chain"):
        kept_units(build_model("resnet20", 10), 0.5)
