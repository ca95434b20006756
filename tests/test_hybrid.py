"""Hybrid networks: what reaches each layer, training, files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from lq_utils.artifact import load_quantized, save_quantized, size_report
from lq_utils.compressed_training import fit
from lq_utils.hybrid import HYBRID_MODES, hybrid_network
from lq_utils.hybrid_inputs import input_rules
from lq_utils.hybrid_plans import kernel_bits, table_plans
from lq_utils.images import ImageData, Provenance
from lq_utils.inference import evaluate
from lq_utils.learned_step import LearnedStep
from lq_utils.low_bit import LowBit, clip_latent, low_bit_layers
from lq_utils.low_bit_activations import SignedActivation, signed_activations
from lq_utils.low_bit_storage import low_bit_quantized
from lq_utils.models import build_model
from lq_utils.parametrizations import CompressionError
from lq_utils.recipes import TrainingConfig
from lq_utils.stacks import find, latent_weight, strip

BITS = {"conv2": 1, "linear1": 2, "linear2": 3}


def images(count: int = 6, size: int = 32) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(count, 3, size, size, generator=generator)


@pytest.fixture(scope="module")
def quantnet() -> nn.Module:
    """In evaluation mode, with biases that are not zero."""
    model = build_model("quantnet", 1, seed=0).eval()
    generator = torch.Generator().manual_seed(5)
    for name, p in model.named_parameters():
        if name.endswith("bias"):
            p.data = 0.3 * torch.randn(p.shape, generator=generator)
    return model


def inputs_of(network: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """What every convolution and linear layer gets."""
    seen: dict[str, Tensor] = {}
    hooks = [
        module.register_forward_pre_hook(
            lambda _, args, name=name: seen.__setitem__(name, args[0])
        )
        for name, module in network.named_modules()
        if isinstance(module, (nn.Conv2d, nn.Linear))
    ]
    with torch.no_grad():
        network(x)
    for hook in hooks:
        hook.remove()
    return seen


# The activation by itself


def test_signed_activations_by_hand() -> None:
    x = torch.tensor([[-2.0, -0.7, -0.5, -1e-30, 0.0, 0.5, 0.7, 2.0]])
    one = SignedActivation(1)
    assert one(x).tolist() == [[-1, -1, -1, -1, 1, 1, 1, 1]]
    two = SignedActivation(2)(x) * 3
    torch.testing.assert_close(
        two, torch.tensor([[-3.0, -3, -1, -1, 1, 1, 3, 3]])
    )
    wide = SignedActivation(2, clip=3.0)(x)
    # The border between 1 and 3 is 2, and ties go up.
    assert wide.tolist() == [[-1, -1, -1, -1, 1, 1, 1, 3]]
    assert SignedActivation(1, clip=0.5)(x).abs().unique().tolist() == [0.5]


def test_gradients_pass_inside_of_the_range_only() -> None:
    x = torch.tensor([[-1.5, -1.0, 0.2, 1.0, 1.1]], requires_grad=True)
    SignedActivation(2)(x).backward(torch.arange(1.0, 6.0)[None])
    assert x.grad.tolist() == [[0.0, 2.0, 3.0, 4.0, 0.0]]


def test_the_scale_is_each_images_own() -> None:
    x = torch.tensor([[[1.0, -3.0]], [[0.5, 0.1]]], requires_grad=True)
    y = SignedActivation(1, scale=True)(x)
    wanted = torch.tensor([[[2.0, -2.0]], [[0.3, 0.3]]])
    torch.testing.assert_close(y, wanted)
    y.sum().backward()
    torch.testing.assert_close(
        x.grad, torch.tensor([[[2.0, 0.0]], [[0.3, 0.3]]])
    )


@settings(max_examples=50)
@given(
    st.lists(st.floats(-4, 4, width=32), min_size=1, max_size=30),
    st.integers(1, 8),
    st.sampled_from([0.5, 1.0, 2.0]),
)
def test_activations_are_the_nearest_levels(
    x: list[float], bits: int, clip: float
) -> None:
    module, values = SignedActivation(bits, clip), torch.tensor(x)
    y, levels = module(values), module.levels()
    assert len(levels) == 2**bits
    assert levels[0] == -clip and levels[-1] == clip
    assert torch.isin(y, levels).all()
    distance = (values.double()[:, None] - levels.double()).abs()
    mine = (values.double() - y.double()).abs()
    assert (mine <= distance.min(dim=1).values + 1e-6).all()
    assert torch.equal(module(values.sort().values), y.sort().values)


# Networks


@pytest.mark.parametrize("after_pooling", [False, True])
def test_every_quantized_layer_sees_its_own_bits(
    quantnet: nn.Module, after_pooling: bool
) -> None:
    network = hybrid_network(quantnet, BITS, after_pooling=after_pooling)
    seen = inputs_of(network, images())
    for name, bits in BITS.items():
        values = seen[name].unique()
        wanted = SignedActivation(bits).levels()
        assert torch.equal(values, wanted), name
    # What is in full precision sees what it saw; the ReLU is still there.
    assert torch.equal(seen["conv1"], images())
    assert seen["output"].min() == 0 and len(seen["output"].unique()) > 9
    rules = input_rules(network)
    assert {name: rule.bits for name, rule in rules.items()} == BITS
    assert not any(isinstance(m, SignedActivation) for m in quantnet.modules())


def test_small_weights_reach_the_inner_levels_only(
    quantnet: nn.Module,
) -> None:
    # He normal: a standard deviation of 0.02 in linear1, far below 2/3.
    counts = {}
    for mode in HYBRID_MODES:
        network = hybrid_network(quantnet, {"linear1": 2}, scale_mode=mode)
        counts[mode] = len(network.get_submodule("linear1").weight.unique())
    assert counts == {"l1": 2, "ls": 2, "absmax": 4, "lsq": 4}
    one = hybrid_network(quantnet, {"linear1": 1}).get_submodule("linear1")
    two = hybrid_network(quantnet, {"linear1": 2}).get_submodule("linear1")
    torch.testing.assert_close(two.weight * 3, one.weight)


def test_the_first_quantizer_is_the_sign_of_what_conv1_returns(
    quantnet: nn.Module,
) -> None:
    network = hybrid_network(quantnet, {"conv2": 1})
    with torch.no_grad():
        before = quantnet.conv1(images())
    wanted = nn.functional.max_pool2d(torch.where(before >= 0, 1.0, -1.0), 2)
    assert torch.equal(inputs_of(network, images())["conv2"], wanted)


def test_pooling_before_or_after_gives_the_same_outputs(
    quantnet: nn.Module,
) -> None:
    first = hybrid_network(quantnet, BITS)
    second = hybrid_network(quantnet, BITS, after_pooling=True)
    assert torch.equal(first(images()), second(images()))
    for network in (first, second):
        network(images()).sum().backward()
    gradients = [n.conv1.weight.grad for n in (first, second)]
    assert not torch.equal(*gradients)


def test_behind_a_relu_one_bit_is_constant(quantnet: nn.Module) -> None:
    network = hybrid_network(quantnet, BITS, keep_relu=True)
    seen = inputs_of(network, images())
    assert seen["conv2"].unique().tolist() == [1.0]
    # Of two bits the two positive levels are left.
    assert len(seen["linear1"].unique()) <= 2
    assert seen["linear1"].min() > 0
    outputs = network(images())
    assert (outputs == outputs[0]).all()


def test_the_image_is_quantized_on_demand_only(quantnet: nn.Module) -> None:
    x = images()
    plain = hybrid_network(quantnet, {"conv1": 1})
    assert not signed_activations(plain)
    assert torch.equal(inputs_of(plain, x)["conv1"], x)
    literal = hybrid_network(quantnet, {"conv1": 1}, image_activations=True)
    found = inputs_of(literal, x)["conv1"]
    assert torch.equal(found, torch.where(x >= 0, 1.0, -1.0))


def test_weights_only_keeps_the_graph(quantnet: nn.Module) -> None:
    network = hybrid_network(quantnet, BITS, activations=False)
    assert not signed_activations(network)
    assert list(low_bit_layers(network)) == list(BITS)
    for plan in (None, {}, {"conv2": None}, table_plans()["fp,fp,fp,fp"]):
        same = hybrid_network(quantnet, plan)
        assert torch.equal(same(images()), quantnet(images()))


def test_plans_and_options_reach_the_weights(quantnet: nn.Module) -> None:
    plan = table_plans()["fp,1,2,2"].override("linear*", granularity="channel")
    network = hybrid_network(quantnet, plan, scale_mode="ls", clip=0.5)
    found = {
        name: find(layer, LowBit)
        for name, layer in low_bit_layers(network).items()
    }
    assert [m.bits for m in found.values()] == [1, 2, 2]
    kinds = [m.granularity for m in found.values()]
    assert kinds == ["tensor", "channel", "channel"]
    assert {(m.scale_mode, m.clip) for m in found.values()} == {("ls", 0.5)}
    learned = hybrid_network(
        quantnet, plan, scale_mode="lsq", granularity="tensor",
        activation_clip=2.0, activation_scale=True,
    )  # fmt: skip
    steps = [find(m, LearnedStep) for m in low_bit_layers(learned).values()]
    assert [s.factor.shape for s in steps] == [(1, 1)] * 3
    rules = input_rules(learned).values()
    assert {(r.clip, r.scale) for r in rules} == {(2.0, True)}
    assert not network.training
    assert hybrid_network(quantnet.train(), plan).training
    quantnet.eval()


class Branches(nn.Module):
    """A ReLU with two readers, and a layer behind an average."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.second = nn.Conv2d(4, 4, 3, padding=1)
        self.third = nn.Conv2d(4, 4, 1)
        self.fc = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.first(x)))
        x = self.third(self.second(x)) + x
        return self.fc(torch.relu(x).mean(dim=(2, 3)))


def test_other_readers_of_a_relu_see_what_they_saw() -> None:
    torch.manual_seed(0)
    model, x = Branches().eval(), images(2, 8)
    network = hybrid_network(model, {"second": 1, "third": 2})
    seen = inputs_of(network, x)
    normed = model.norm(model.first(x))
    assert torch.equal(seen["second"], torch.where(normed >= 0, 1.0, -1.0))
    # No ReLU lies before the third: its input is quantized as it is.
    behind = network.second(seen["second"])
    assert torch.equal(seen["third"], SignedActivation(2)(behind))
    total = network.third(seen["third"]) + torch.relu(normed)
    wanted = torch.relu(total).mean(dim=(2, 3))
    torch.testing.assert_close(seen["fc"], wanted)
    with pytest.raises(CompressionError, match="comes from 'mean'"):
        hybrid_network(model, {"fc": 1})
    literal = hybrid_network(model, {"fc": 1}, keep_relu=True)
    assert inputs_of(literal, x)["fc"].unique().tolist() == [1.0]


def test_refusals_say_what_to_do(quantnet: nn.Module) -> None:
    once = hybrid_network(quantnet, BITS)
    with pytest.raises(CompressionError, match="strip"):
        hybrid_network(once, BITS)
    with pytest.raises(CompressionError, match="quantized already"):
        hybrid_network(strip(once), BITS)
    with pytest.raises(CompressionError, match="did you mean 'conv2'"):
        hybrid_network(quantnet, {"conv_2": 1})
    with pytest.raises(CompressionError, match="after_pooling"):
        hybrid_network(quantnet, BITS, keep_relu=True, after_pooling=True)
    with pytest.raises(CompressionError, match="'lsq'"):
        hybrid_network(quantnet, BITS, scale_mode="l2")
    with pytest.raises(CompressionError, match="1 to 8"):
        hybrid_network(quantnet, {"conv2": 16})
    with pytest.raises(CompressionError, match="positive"):
        hybrid_network(quantnet, BITS, activation_clip=-1.0)


# Training

CONFIG = TrainingConfig(
    epochs=3,
    batch_size=16,
    optimizer="adam",
    learning_rate=1e-3,
    weight_decay=0.0,
    schedule="constant",
    image_sizes=(32,),
)


def made_data(part: str, count: int = 64) -> ImageData:
    """Images whose class is their brighter colour."""
    rng = np.random.default_rng(len(part))
    labels = np.arange(count) % 2
    pixels = rng.integers(0, 120, (count, 8, 8, 3), dtype=np.uint8)
    pixels[np.arange(count), :, :, labels] += 60
    large = pixels.repeat(4, axis=1).repeat(4, axis=2)
    source = Provenance("made", "synthetic", "0" * 8, "pair")
    groups = np.zeros(2, dtype=np.int64)
    return ImageData(
        large, labels, ("a", "b"), ("all",), groups, part, source
    )  # fmt: skip


@pytest.mark.parametrize("mode", HYBRID_MODES)
def test_hybrid_networks_learn_and_are_stored_to_the_bit(
    quantnet: nn.Module, mode: str, tmp_path: Path
) -> None:
    start = hybrid_network(
        quantnet, table_plans()["fp,1,2,2"], scale_mode=mode
    )
    with torch.no_grad():
        latent_weight(start.get_submodule("conv2")).mul_(20)
    train, validation = made_data("train"), made_data("validation")
    trained = fit(
        start, train, validation, CONFIG, clip_latent(), device="cpu",
        progress=False,
    )  # fmt: skip
    losses = [row["train_loss"] for row in trained.history]
    assert losses[-1] < 0.5 * losses[0]
    for layer in low_bit_layers(trained.model).values():
        # Beyond the limit by one step of Adam at most.
        assert latent_weight(layer).abs().max() < 1 + 4 * CONFIG.learning_rate
    if mode == "lsq":
        factor = find(trained.model.linear1, LearnedStep).factor
        assert 0 < abs(factor.item() - 1) < 12 * 4 * CONFIG.learning_rate
    quantized = low_bit_quantized(trained.model)
    path = tmp_path / "hybrid.safetensors"
    save_quantized(path, quantized, "quantnet", 1)
    loaded = load_quantized(path)
    with torch.no_grad():
        assert torch.equal(loaded(images()), trained.model(images()))
    plain = strip(trained.model).state_dict()
    stored = loaded.state_dict()
    assert plain.keys() == stored.keys()
    assert all(torch.equal(plain[name], stored[name]) for name in plain)
    assert evaluate(loaded, validation) == trained.validation_accuracy


@pytest.mark.parametrize("name", list(table_plans()))
def test_sizes_of_files_add_up(quantnet: nn.Module, name: str) -> None:
    plan = table_plans()[name]
    quantized = low_bit_quantized(hybrid_network(quantnet, plan))
    report = size_report(quantized, "quantnet", 1)
    infos = {"conv1": 864, "conv2": 18_432, "linear1": 524_288}
    infos |= {"linear2": 2_048, "output": 16}
    codes = sum(infos[r.layer] * (r.bits or 0) for r in plan)
    assert report["code_bits"] == codes
    assert report["padding_bits"] == 0
    parts = ("code_bits", "scale_bits", "float_bits")
    assert sum(report[p] for p in parts) == kernel_bits(quantnet, plan)
    assert [r.bits for r in quantized.plan] == [r.bits for r in plan]
    assert replace(quantized.plan).size_bits(quantnet) == kernel_bits(
        quantnet, plan
    )
