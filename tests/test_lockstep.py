"""Lockstep calibration against a walk that starts anew at every layer."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from lq_utils.activations import Batches
from lq_utils.grams import gram_statistics, patches
from lq_utils.graph import (
    fold_batch_norm,
    layer_table,
    set_weight_matrix,
    trace,
    weight_matrix,
)
from lq_utils.lockstep import CalibrationError, quantize
from lq_utils.models import build_model
from lq_utils.plan_rows import LayerPlan
from lq_utils.plans import Plan, PlanError
from lq_utils.solvers import solve_layer
from lq_utils.wide import cheaper_on_patches


class Small(nn.Module):
    """Residual, strided, grouped, depthwise, pointwise and linear layers.

    ``head`` and ``side`` read the same tensor.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(8)
        self.relu = nn.ReLU(inplace=True)
        self.same = nn.Conv2d(8, 8, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(8)
        self.depthwise = nn.Conv2d(8, 8, 3, 2, 1, groups=8)
        self.grouped = nn.Conv2d(8, 12, 3, padding=2, dilation=2, groups=2)
        self.side = nn.Conv2d(8, 12, 1)
        self.head = nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.bn(self.stem(x)))
        x = self.relu(x + self.bn2(self.same(x)))
        x = self.depthwise(x)
        x = self.relu(self.grouped(x) + self.side(x))
        return self.head(x.mean(dim=(2, 3)))


def network(dtype: torch.dtype = torch.float64) -> nn.Module:
    torch.manual_seed(0)
    model = Small()
    for norm in (model.bn, model.bn2):
        norm.running_mean.normal_(0, 0.3)
        norm.running_var.uniform_(0.5, 2)
    return model.eval().to(dtype)


def images(
    count: int = 7, size: int = 9, dtype: torch.dtype = torch.float64
) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(count, 3, size, size, generator=generator).to(dtype)


def inputs_of(model: nn.Module, names: list[str], x: Tensor) -> dict:
    """Inputs of layers by hooks on a complete forward pass."""
    seen: dict[str, Tensor] = {}
    handles = [
        model.get_submodule(name).register_forward_pre_hook(
            lambda _, args, name=name: seen.update({name: args[0].clone()})
        )
        for name in names
    ]
    with torch.no_grad():
        model(x)
    for handle in handles:
        handle.remove()
    return seen


def one_layer_at_a_time(model: nn.Module, plan: Plan, x: Tensor) -> nn.Module:
    """The textbook walk: from the image anew for every layer."""
    original = fold_batch_norm(trace(model))
    quantized = copy.deepcopy(original)
    names = [info.name for info in layer_table(original)]
    target = inputs_of(original, names, x)
    for name in names:
        module = quantized.get_submodule(name)
        now = inputs_of(quantized, [name], x)[name]
        p, q = patches(module, target[name]), patches(module, now)
        parts = [gram_statistics(b.T, a.T) for a, b in zip(p, q)]
        statistics = parts[0]
        statistics.hessian = torch.cat([s.hessian for s in parts])
        statistics.drift = torch.cat([s.drift for s in parts])
        _, weight = solve_layer(weight_matrix(module), statistics, plan[name])
        set_weight_matrix(module, weight)
    return quantized


@pytest.mark.parametrize("solver", ["rtn", "gpfq", "gptq", "qronos"])
@pytest.mark.parametrize("batch_size", [3, 100])
def test_lockstep_is_the_walk_from_the_start(
    solver: str, batch_size: int
) -> None:
    model, x = network(), images()
    plan = Plan.uniform(model, 3, solver=solver)
    got = quantize(model, plan, x, batch_size=batch_size)
    expected = one_layer_at_a_time(model, plan, x)
    for info in layer_table(expected):
        torch.testing.assert_close(
            weight_matrix(got.model.get_submodule(info.name)),
            weight_matrix(expected.get_submodule(info.name)),
        )


@pytest.mark.parametrize("scale", ["max", "output"])
def test_wide_layers_are_solved_on_their_patches(scale: str) -> None:
    torch.manual_seed(2)
    layers = [nn.Conv2d(3, 8, 1), nn.ReLU(), nn.Flatten()]
    model = nn.Sequential(*layers, nn.Linear(8 * 81, 4)).double().eval()
    x = images()
    plan = Plan.uniform(model, 3, solver="gpfq", scale=scale)
    got = quantize(model, plan, x, batch_size=3)
    expected = one_layer_at_a_time(model, plan, x)
    torch.testing.assert_close(got.model(x), expected(x))
    on_grams = got.layers["gram_s"] > 0
    assert list(on_grams) == [True, scale == "output"]


def test_wide_layers_of_many_patches_keep_gram_matrices(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    module, x = nn.Linear(648, 4), [torch.zeros(3, 648), torch.zeros(2, 648)]
    row = LayerPlan("any", 3, solver="gpfq", scale="max")
    assert cheaper_on_patches(module, row, x)
    assert not cheaper_on_patches(module, replace(row, polish=1), x)
    assert not cheaper_on_patches(nn.Linear(648, 500), row, x)
    monkeypatch.setattr("lq_utils.wide.MOST_BYTES", 2 * 5 * 648 * 4 - 1)
    assert not cheaper_on_patches(module, row, x)


def test_every_weight_lies_on_its_grid() -> None:
    model, x = network(torch.float32), images(dtype=torch.float32)
    result = quantize(model, Plan.uniform(model, 3, polish=2), x)
    assert list(result.layers.layer) == [i.name for i in layer_table(model)]
    assert (result.layers.levels == 8).all()
    for name, grid in result.grids.items():
        weight = weight_matrix(result.model.get_submodule(name))
        assert torch.equal(grid.values(grid.codes(weight)), weight)
        assert all(len(row.unique()) <= 8 for row in weight)


def test_the_network_given_is_not_changed() -> None:
    model = network(torch.float32)
    before = copy.deepcopy(model.state_dict())
    plan = Plan.uniform(model, 2)
    quantize(model, plan, images(dtype=torch.float32), bias_correction=True)
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key])


@pytest.mark.parametrize("name", ["resnet20", "mobilenetv2_x0_5"])
@pytest.mark.parametrize("solver", ["gpfq", "gptq"])
def test_32_bits_change_nothing(name: str, solver: str) -> None:
    model = build_model(name, 10)
    x = images(6, 32, torch.float32)
    x[:, 2] = 0  # a dead input channel, alive again in the images below
    model.eval()
    result = quantize(model, Plan.uniform(model, 32, solver=solver), x)
    fresh = images(20, 32, torch.float32)
    with torch.no_grad():
        expected, logits = model(fresh), result.model(fresh)
    assert result.layers.dead_columns.sum() >= 9
    worst = (logits - expected).abs().max() / expected.abs().max()
    assert worst <= 1e-5
    assert torch.equal(logits.argmax(dim=1), expected.argmax(dim=1))


def test_layers_left_in_float_stay_as_they_are() -> None:
    model, x = network(), images()
    plan = Plan.uniform(model, 3).keep_first_last_full()
    result = quantize(model, plan, x, fold=False)
    for name in ("stem", "head"):
        assert name not in result.grids
        assert torch.equal(
            weight_matrix(result.model.get_submodule(name)),
            weight_matrix(model.get_submodule(name)),
        )
    assert set(result.layers.layer) == set(result.grids)


def layer_outputs(model: nn.Module, name: str, x: Tensor) -> Tensor:
    seen = []
    handle = model.get_submodule(name).register_forward_hook(
        lambda _, __, y: seen.append(y.clone())
    )
    with torch.no_grad():
        model(x)
    handle.remove()
    return seen[0].detach()


def test_relative_error_is_that_of_the_outputs() -> None:
    model, x = network(), images()
    result = quantize(model, Plan.uniform(model, 2), x)
    folded = fold_batch_norm(trace(model))
    for row in result.layers.itertuples():
        y = layer_outputs(folded, row.layer, x)
        seen = layer_outputs(result.model, row.layer, x)
        bias = folded.get_submodule(row.layer).bias.detach()
        shape = (-1, *[1] * (y.ndim - 2))
        expected = (y - seen).norm() / (y - bias.view(shape)).norm()
        assert row.relative_error == pytest.approx(float(expected))


@pytest.mark.parametrize("fold", [True, False])
def test_bias_correction_matches_every_mean(fold: bool) -> None:
    model, x = network(), images()
    plan = Plan.uniform(model, 2)
    result = quantize(model, plan, x, bias_correction=True, fold=fold)
    original = fold_batch_norm(trace(model)) if fold else trace(model)
    for name in result.grids:
        y = layer_outputs(original, name, x)
        seen = layer_outputs(result.model, name, x)
        dims = [d for d in range(y.ndim) if d != 1]
        torch.testing.assert_close(seen.mean(dims), y.mean(dims))


def test_batch_norm_is_estimated_again() -> None:
    model, x = network(), images()
    plan = Plan.uniform(model, 2)
    result = quantize(model, plan, x, fold=False, reestimate_batch_norm=True)
    for name, layer in (("bn", "stem"), ("bn2", "same")):
        y = layer_outputs(result.model, layer, x)
        norm = result.model.get_submodule(name)
        torch.testing.assert_close(norm.running_mean, y.mean((0, 2, 3)))
        torch.testing.assert_close(norm.running_var, y.var((0, 2, 3)))
    without = quantize(model, plan, x, fold=False)
    norm = without.model.get_submodule("bn")
    assert torch.equal(norm.running_mean, model.bn.running_mean)


def test_the_same_seed_gives_the_same_weights() -> None:
    model, x = network(torch.float32), images(16, dtype=torch.float32)
    plan = Plan.uniform(model, 3)
    runs = [
        quantize(model, plan, x, seed=seed, patch_fraction=0.25)
        for seed in (0, 0, 1)
    ]
    weights = [weight_matrix(r.model.get_submodule("same")) for r in runs]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_files_in_place_of_memory_give_the_same() -> None:
    model, x = network(), images()
    plan = Plan.uniform(model, 3)
    here = quantize(model, plan, x)
    there = quantize(model, plan, x, memory_mib=0)
    for name in here.grids:
        assert torch.equal(
            weight_matrix(here.model.get_submodule(name)),
            weight_matrix(there.model.get_submodule(name)),
        )


def test_memory_is_counted_and_freed(tmp_path) -> None:
    batches = Batches(tmp_path, limit=100)
    first = batches.keep(torch.arange(20.0))
    second = batches.keep(torch.arange(20.0))
    assert batches.used == 80 and batches.files == 1
    assert torch.equal(first, second)
    del first
    assert batches.used == 0
    assert batches.keep("not a tensor") == "not a tensor"


def test_attention_layers_are_quantized() -> None:
    torch.manual_seed(0)
    encoder = nn.TransformerEncoderLayer(
        8, 2, 16, dropout=0.0, batch_first=True
    )

    class Tokens(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Conv2d(3, 8, 3, 3)
            self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
            self.mlp = nn.Sequential(
                nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 8)
            )
            self.norm = encoder.norm1

        def forward(self, x: Tensor) -> Tensor:
            t = self.embed(x).flatten(2).transpose(1, 2)
            u = self.norm(t)
            t = t + self.attention(u, u, u, need_weights=False)[0]
            return (t + self.mlp(t)).mean(dim=1)

    model = Tokens().eval().double()
    plan = Plan.uniform(model, 4)
    x = images(6, 9)
    result = quantize(model, plan, x)
    assert list(result.grids) == [
        "embed",
        "attention.in_proj",
        "attention.out_proj",
        "mlp.0",
        "mlp.2",
    ]
    expected = one_layer_at_a_time(model, plan, x)
    with torch.no_grad():
        torch.testing.assert_close(result.model(x), expected(x))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (torch.zeros(0, 3, 9, 9), "at least one"),
        (torch.zeros(3, 9, 9), "at least one"),
        (torch.full((1, 3, 9, 9), torch.nan), "NaN"),
    ],
)
def test_images_that_cannot_be_used(wrong: Tensor, message: str) -> None:
    model = network(torch.float32)
    with pytest.raises(CalibrationError, match=message):
        quantize(model, Plan.uniform(model, 3), wrong)


def test_a_plan_for_another_network() -> None:
    plan = Plan.uniform(build_model("quantnet", 1), 3)
    with pytest.raises(PlanError):
        quantize(network(torch.float32), plan, images(dtype=torch.float32))
