"""Blocks, soft rounding and reconstruction: by hand and by brute force."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, fx, nn
from torch.nn import functional as F
from torchvision.models import VisionTransformer

from lq_utils.adaround import (
    ReconstructionError,
    SoftRounding,
    Training,
    rectified_sigmoid,
    regulariser,
)
from lq_utils.blocks import Block, extract, layer_blocks, residual_blocks
from lq_utils.graph import (
    TraceError,
    fold_batch_norm,
    layer_table,
    trace,
    weight_matrix,
)
from lq_utils.grids import alphabet
from lq_utils.lockstep import CalibrationError, Quantized, quantize
from lq_utils.models import build_model
from lq_utils.pairs import Values, run_batches
from lq_utils.plans import Plan, PlanError
from lq_utils.reconstruction import reconstruct
from lq_utils.scales import fit_grid

UNIFORM = ("narrow", "symmetric", "mid-tread", "asymmetric", "full-range")


class Unit(nn.Module):
    """A residual unit with batch norm, an in-place ReLU and an in-place
    addition."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, groups=2)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.conv2(y)
        y += x
        return self.relu(y)


class SmallNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.unit = Unit(4)
        self.fc = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.unit(F.relu(self.stem(x)))
        return self.fc(F.adaptive_avg_pool2d(x, 1).flatten(1))


def small_net(seed: int = 0) -> SmallNet:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = SmallNet()
        for bn in (net.unit.bn1,):
            nn.init.uniform_(bn.running_var, 0.5, 2)
            nn.init.normal_(bn.running_mean)
            nn.init.normal_(bn.bias)
    return net.eval()


def draw(count: int = 24, side: int = 6, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 3, side, side, generator=generator)


def single_layer(weight: Tensor) -> nn.Module:
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    layer.weight.data = weight
    return nn.Sequential(nn.Flatten(), layer)


def folded(name: str) -> fx.GraphModule:
    return fold_batch_norm(trace(build_model(name, 10)))


# Blocks


def test_blocks_of_resnet20_are_its_units() -> None:
    blocks = residual_blocks(folded("resnet20"))
    units = [f"layer{s}.{k}" for s in (1, 2, 3) for k in range(3)]
    assert [b.name for b in blocks] == ["conv1", *units, "fc"]
    assert [len(b.layers) for b in blocks] == [1, 2, 2, 2, 3, 2, 2, 3, 2, 2, 1]
    # The unit ends with its ReLU, the pooling belongs to the head.
    assert blocks[9].output.target == "layer3.2.relu"
    assert blocks[10].nodes[0].target == "avgpool"


def test_blocks_of_a_chain_are_its_layers() -> None:
    blocks = residual_blocks(folded("quantnet"))
    names = ["conv1", "conv2", "linear1", "linear2", "output"]
    assert [b.name for b in blocks] == names
    assert [b.layers for b in blocks] == [(name,) for name in names]


def test_inverted_residuals_stay_whole_without_their_shortcut() -> None:
    blocks = residual_blocks(folded("mobilenetv2_x0_5"))
    middle = [f"features.{k}.conv" for k in range(1, 18)]
    ends = ["features.18.0", "classifier.1"]
    assert [b.name for b in blocks] == ["features.0.0", *middle, *ends]
    # Only 10 of the 17 have a shortcut.
    adds = [b for b in blocks if any(n.name[:3] == "add" for n in b.nodes)]
    assert len(adds) == 10


def test_encoder_blocks_are_cut_into_attention_and_mlp() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = VisionTransformer(8, 4, 2, 2, 8, 16, num_classes=3)
    traced = trace(model)
    names = [b.name.split(".")[-1] for b in residual_blocks(traced)]
    parts = ["self_attention", "mlp"]
    assert names == ["conv_proj", *parts, *parts, "head"]
    check_that_blocks_make_the_network(
        traced, residual_blocks(traced), draw(3, 8)
    )


def check_that_blocks_make_the_network(
    traced: fx.GraphModule, blocks: list[Block], images: Tensor
) -> None:
    """Running the blocks one after another is running the network."""
    values = {next(iter(traced.graph.nodes)): images}
    with torch.no_grad():
        for block in blocks:
            inputs = [values[node] for node in block.inputs]
            values[block.output] = extract(traced, block)(*inputs)
        expected = traced(images)
    assert torch.equal(values[blocks[-1].output], expected)
    layers = [name for block in blocks for name in block.layers]
    assert layers == [info.name for info in layer_table(traced)]


@pytest.mark.parametrize("name", ["quantnet", "resnet20", "mobilenetv2_x0_5"])
@pytest.mark.parametrize("cut", [residual_blocks, layer_blocks])
def test_blocks_make_the_network(name: str, cut) -> None:
    traced = folded(name)
    check_that_blocks_make_the_network(traced, cut(traced), draw(2, 32))


def test_a_block_reads_one_tensor_and_shares_the_weights() -> None:
    traced = folded("resnet20")
    for block in residual_blocks(traced):
        assert len(block.inputs) == 1
        part = extract(traced, block)
        for name in block.layers:
            ours, theirs = part.get_submodule(name), traced.get_submodule(name)
            assert ours is theirs


def test_layer_blocks_take_the_activation_with_them() -> None:
    traced = fold_batch_norm(trace(small_net()))
    blocks = {b.layers[0]: b for b in layer_blocks(traced) if b.layers}
    sizes = {name: len(block.nodes) for name, block in blocks.items()}
    # The output of conv2 goes to the addition before it is cut by a ReLU.
    expected = {"stem": 2, "unit.conv1": 2, "unit.conv2": 1, "fc": 1}
    assert sizes == expected


class TwoOutputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(3, 2), nn.Linear(3, 2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.a(x), self.b(x)


def test_networks_that_cannot_be_cut() -> None:
    with pytest.raises(TraceError, match="return one tensor"):
        residual_blocks(trace(TwoOutputs()))
    with pytest.raises(TraceError, match="no layer"):
        residual_blocks(trace(nn.Sequential(nn.ReLU(), nn.Flatten())))
    # Layer by layer it can be done.
    assert len(layer_blocks(trace(TwoOutputs()))) == 2


# Soft rounding


@settings(max_examples=25)
@given(
    quantizer=st.sampled_from(UNIFORM),
    bits=st.integers(2, 8),
    granularity=st.sampled_from(["tensor", "channel", "group:3"]),
    rule=st.sampled_from(["max", "mse"]),
    seed=st.integers(0, 1000),
)
def test_soft_weights_are_those_of_the_paper(
    quantizer: str, bits: int, granularity: str, rule: str, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(3, 7, generator=generator)
    a = alphabet(quantizer, bits)
    grid = fit_grid(weight, a, granularity, rule)
    rounding = SoftRounding({"w": weight}, {"w": grid})

    size = grid.group_size if grid.scale.shape[1] > 1 else 7
    groups = torch.arange(7) // size
    scale = grid.scale.expand(3, -1)[:, groups].double()
    zero = grid.zero_point.expand(3, -1)[:, groups].double()
    t = (weight.double() / scale + zero - a.lowest) / a.step

    def textbook(h: Tensor) -> Tensor:
        level = (t.floor() + h).clamp(0, a.count - 1) * a.step + a.lowest
        return (level - zero) * scale

    start = rounding.weights(rounding.up())["w"].double()
    inside = (t >= 0) & (t <= a.count - 1)
    near = torch.isclose(start, weight.double(), rtol=1e-4, atol=1e-5)
    assert near[inside].all()
    hard, nearest = rounding.hard()["w"], grid.round(weight)
    tie = ((t - t.floor()) - 0.5).abs() < 1e-4
    assert torch.equal(hard[~tie], nearest[~tie])

    v = 4 * torch.randn(21, generator=generator)
    rounding.v.data = v
    h = rectified_sigmoid(v.double()).view(3, 7)
    soft = rounding.weights(rounding.up())["w"].double()
    assert torch.allclose(soft, textbook(h), rtol=1e-4, atol=1e-5)
    codes = grid.codes(rounding.hard()["w"])
    assert torch.equal(codes, rounding.codes()["w"])
    expected = textbook((v >= 0).double().view(3, 7)).float()
    assert torch.allclose(rounding.hard()["w"], expected, rtol=1e-5)


def test_rectified_sigmoid_and_regulariser_by_hand() -> None:
    v = torch.tensor([-9.0, 0.0, 9.0, 0.0])
    h = rectified_sigmoid(v)
    assert h.tolist() == [0, 0.5, 1, 0.5]
    assert float(regulariser(h, 2.0)) == pytest.approx(2)
    # 1 - 0.6^2 = 0.64 at h = 0.8 and at h = 0.2.
    pair = torch.tensor([0.8, 0.2])
    assert float(regulariser(pair, 2.0)) == pytest.approx(1.28)


def test_beta_falls_linearly_after_the_warm_up() -> None:
    training = Training(100, 8, 1e-3, 0.2, 0.01)
    assert training.beta(19) is None
    assert training.beta(20) == pytest.approx(20)
    assert training.beta(60) == pytest.approx(11)
    assert training.beta(99) == pytest.approx(2 + 18 / 80)


def test_with_32_bits_nothing_is_lost() -> None:
    weight = torch.randn(4, 9, generator=torch.Generator().manual_seed(0))
    grid = fit_grid(weight, alphabet("narrow", 32))
    rounding = SoftRounding({"w": weight}, {"w": grid})
    assert torch.allclose(rounding.hard()["w"], weight, rtol=1e-6)
    grid.codes(rounding.hard()["w"])


# Reconstruction


def test_two_equal_inputs_share_their_rounding() -> None:
    """By hand: 0.4 x + 0.3 x is nearest to 1 x, not to 0 x + 0 x.

    The third weight makes the scale 1.
    """
    x = torch.randn(64, 2, generator=torch.Generator().manual_seed(0))
    images = x[:, None, None, [0, 0, 1]]
    model = single_layer(torch.tensor([[0.4, 0.3, 3.0]]))
    plan = Plan.uniform(model, 3, quantizer="narrow", scale="max")
    result = reconstruct(model, plan, images, steps=400, learning_rate=0.02)
    assert result.model.get_submodule("1").weight.tolist() == [[1, 0, 3]]
    energy = float(x[:, 0].square().mean())
    row = result.blocks.iloc[0]
    assert row["loss_nearest"] == pytest.approx(0.49 * energy, rel=1e-4)
    assert row["loss"] == pytest.approx(0.09 * energy, rel=1e-4)
    assert row["moved"] == pytest.approx(1 / 3)


@pytest.mark.parametrize("seed", [1, 2])
def test_finds_the_best_of_all_roundings(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    n, highest = 6, 3
    mixing = torch.randn(n, n, generator=generator)
    x = torch.randn(80, n, generator=generator) @ mixing
    weight = torch.randn(1, n, generator=generator)
    scale = weight.abs().max().double() / highest
    below = (weight.double() / scale).floor()
    losses = {}
    for up in itertools.product((0, 1), repeat=n):
        codes = (below + torch.tensor(up)).clamp(-highest, highest)
        error = x.double() @ (weight - codes * scale).T
        losses[integers(codes)] = float(error.square().mean())
    best = min(losses, key=losses.__getitem__)
    assert integers(weight / scale) != best
    model = single_layer(weight)
    plan = Plan.uniform(model, 3, quantizer="narrow", scale="max")
    result = reconstruct(
        model, plan, x[:, None, None], steps=400, learning_rate=0.02
    )
    found = weight_matrix(result.model.get_submodule("1")) / scale
    assert integers(found) == best
    assert result.blocks["loss"][0] == pytest.approx(losses[best], rel=1e-3)


def integers(row: Tensor) -> tuple[int, ...]:
    return tuple(row[0].round().int().tolist())


def total_loss(
    original: fx.GraphModule, quantized: fx.GraphModule, images: Tensor
) -> dict[str, float]:
    """Loss of every block: its own errors and those before it."""
    losses, x, y = {}, images, images
    with torch.no_grad():
        for block in residual_blocks(original):
            x = extract(original, block)(x.clone())
            y = extract(quantized, block)(y.clone())
            dim = 1 if x.ndim == 4 else -1
            gap = (x - y).square().sum(dim=dim).mean()
            losses[block.name] = float(gap)
    return losses


def run(net: nn.Module, bits: int = 3, **options) -> Quantized:
    plan = Plan.uniform(net, bits, scale="mse")
    settings_ = {"steps": 60, "learning_rate": 0.02, "batch_size": 8}
    return reconstruct(net, plan, draw(), **settings_ | options)


def test_losses_are_those_of_the_blocks_and_never_worse() -> None:
    net = small_net()
    result = run(net)
    original = fold_batch_norm(trace(net))
    expected = total_loss(original, result.model, draw())
    table = result.blocks.set_index("block")
    assert list(table.index) == ["stem", "unit", "fc"]
    for name, loss in expected.items():
        assert table["loss"][name] == pytest.approx(loss, rel=1e-4)
    assert (table["loss"] <= table["loss_nearest"]).all()
    assert table["loss"]["unit"] < 0.8 * table["loss_nearest"]["unit"]
    assert table["moved"]["unit"] > 0


@pytest.mark.parametrize("unit", ["block", "layer"])
def test_without_learning_it_is_rounding_to_nearest(unit: str) -> None:
    """The lockstep calibration is the independent account of the errors."""
    net, images = small_net(), draw()
    plan = Plan.uniform(net, 3, scale="max", solver="rtn")
    for bias_correction in (False, True) if unit == "layer" else (False,):
        ours = reconstruct(
            net,
            plan,
            images,
            unit=unit,
            steps=1,
            learning_rate=1e-12,
            bias_correction=bias_correction,
        )
        theirs = quantize(net, plan, images, bias_correction=bias_correction)
        assert list(ours.layers) == list(theirs.layers)
        same = ["layer", "bits", "levels", "dead_columns"]
        assert ours.layers[same].equals(theirs.layers[same])
        errors = ours.layers["relative_error"].tolist()
        expected = theirs.layers["relative_error"].tolist()
        assert errors == pytest.approx(expected, rel=1e-4)
        parameters = dict(theirs.model.named_parameters())
        for name, value in ours.model.named_parameters():
            assert torch.allclose(value, parameters[name], atol=1e-5)


def test_scales_by_output_error_are_those_of_the_layer() -> None:
    net, images = small_net(), draw()
    plan = Plan.uniform(net, 2, scale="output", solver="rtn")
    ours = reconstruct(
        net, plan, images, unit="layer", steps=1, learning_rate=1e-12
    )
    theirs = quantize(net, plan, images)
    for name, grid in theirs.grids.items():
        assert torch.allclose(ours.grids[name].scale, grid.scale)


@pytest.mark.parametrize("unit", ["block", "layer"])
@pytest.mark.parametrize("quantizer", UNIFORM)
def test_every_weight_lies_on_its_grid(quantizer: str, unit: str) -> None:
    net = small_net()
    plan = Plan.uniform(net, 2, quantizer=quantizer, granularity="group:5")
    plan = plan.override("unit.conv1", granularity="tensor", scale="mse")
    plan = plan.override("stem", granularity="channel", bits=4)
    plan = plan.override("fc", bits=None)
    result = reconstruct(
        net, plan, draw(), unit=unit, steps=20, learning_rate=0.05
    )
    assert set(result.grids) == {"stem", "unit.conv1", "unit.conv2"}
    assert set(result.layers["layer"]) == set(result.grids)
    for name, grid in result.grids.items():
        weight = weight_matrix(result.model.get_submodule(name))
        codes = grid.codes(weight)
        assert torch.equal(grid.values(codes), weight)
    assert torch.equal(result.model.get_submodule("fc").weight, net.fc.weight)


def test_only_weights_of_the_plan_change() -> None:
    net = small_net()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    result = run(net)
    for name, value in net.state_dict().items():
        assert torch.equal(value, before[name])
    assert all(p.grad is None for p in net.parameters())
    original = dict(fold_batch_norm(trace(net)).named_parameters())
    for name, value in result.model.named_parameters():
        assert value.grad is None
        assert torch.equal(value, original[name]) == name.endswith("bias")


def test_the_seed_decides() -> None:
    net = small_net()
    with torch.inference_mode():
        options = {"batch_size": 2, "steps": 30}
        first, again, other = (
            run(net, seed=seed, **options).model for seed in (3, 3, 4)
        )
    for a, b in zip(first.parameters(), again.parameters()):
        assert torch.equal(a, b)
    pairs = zip(first.parameters(), other.parameters())
    assert not all(torch.equal(a, b) for a, b in pairs)


def test_values_keep_the_memory_format() -> None:
    network, images = nn.Conv2d(3, 4, 3, padding=1).eval(), draw(70)
    turned = images.to(memory_format=torch.channels_last)
    steps = []
    with torch.no_grad():
        for given in (images, turned):
            whole = run_batches(network, [Values.of(given)]).whole
            assert whole is not None
            assert torch.allclose(whole, network(given), atol=1e-6)
            steps.append(whole.stride(1))
    assert steps == [36, 1]


def test_the_memory_format_decides_no_weight() -> None:
    net, images = small_net(), draw()
    plan = Plan.uniform(net, 3, scale="mse")
    turned = images.to(memory_format=torch.channels_last)
    ours, theirs = (
        reconstruct(net, plan, x, steps=30, batch_size=8).model
        for x in (images, turned)
    )
    pairs = list(zip(ours.parameters(), theirs.parameters(), strict=True))
    same = sum(int(torch.isclose(a, b).sum()) for a, b in pairs)
    # Sums in another order may turn a weight that lies between two codes.
    assert same >= 0.99 * sum(a.numel() for a, _ in pairs)


def test_batch_norms_may_stay() -> None:
    net = small_net()
    result = run(net, fold=False)
    assert isinstance(result.model.get_submodule("unit.bn1"), nn.BatchNorm2d)
    expected = total_loss(trace(net), result.model, draw())
    table = result.blocks.set_index("block")["loss"]
    assert table["unit"] == pytest.approx(expected["unit"], rel=1e-4)


def test_bias_correction_gives_the_original_means() -> None:
    net, images = small_net(), draw()
    result = run(net, 2, bias_correction=True)
    with torch.no_grad():
        expected, means = net(images).mean(0), result.model(images).mean(0)
        plain = run(net, 2).model(images).mean(0)
    assert torch.allclose(means, expected, atol=1e-5)
    assert not torch.allclose(plain, expected, atol=1e-3)


def test_what_cannot_be_done_is_said() -> None:
    net, images = small_net(), draw()
    plan = Plan.uniform(net, 3)
    codebook = plan.override("fc", quantizer="power-of-two")
    with pytest.raises(ReconstructionError, match="'fc'.*not evenly"):
        reconstruct(net, codebook, images, steps=1)
    with pytest.raises(ReconstructionError, match="'block' or 'layer'"):
        reconstruct(net, plan, images, unit="net")
    with pytest.raises(ReconstructionError, match="steps"):
        reconstruct(net, plan, images, steps=0)
    with pytest.raises(ReconstructionError, match="warmup"):
        reconstruct(net, plan, images, warmup=1.0)
    with pytest.raises(CalibrationError):
        reconstruct(net, plan, images[:0])
    with pytest.raises(PlanError):
        reconstruct(net, Plan(plan.layers[:2]), images)


class Turned(nn.Module):
    """Its layer reads [features, images]."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x.flatten(1).T).T


def test_a_layer_that_mixes_images_is_refused() -> None:
    net = Turned()
    plan = Plan.uniform(net, 3)
    images = torch.randn(4, 3, 2, 2)[:3]
    with pytest.raises(ReconstructionError, match="row an image"):
        reconstruct(net, plan, torch.cat([images, images[:1]]), unit="layer")
