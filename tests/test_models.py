"""Networks: parameter counts, shapes, traceability, seeds."""

from typing import Any

import pytest
import torch
from torch import nn

from lq_utils.models import MODELS, QuantNet, build_model, count_parameters
from lq_utils.registry import UnknownName

CONVOLUTIONAL = sorted(n for n in MODELS.names() if not n.startswith("vit_"))


def test_quantnet_has_the_thesis_parameter_counts() -> None:
    model = build_model("quantnet", 1)
    by_layer = [count_parameters(layer) for layer in list(model.children())]
    assert [n for n in by_layer if n] == [896, 18_496, 524_416, 2_064, 17]
    assert count_parameters(model) == 545_889


def test_quantnet_initialisation_is_he_and_glorot_normal() -> None:
    torch.manual_seed(0)
    model = QuantNet(1)
    he = model.linear1.weight.std().item() * (4096 / 2) ** 0.5
    assert he == pytest.approx(1, rel=0.01)
    # 2,064 and 16 draws: the sample deviation is less exact.
    assert model.linear2.weight.std().item() == pytest.approx(
        (2 / 128) ** 0.5, rel=0.06
    )
    bound = 6 * (2 / 17) ** 0.5
    assert model.output.weight.abs().max().item() < bound
    assert all(
        layer.bias.abs().sum() == 0
        for layer in model.children()
        if isinstance(layer, (nn.Conv2d, nn.Linear))
    )


def test_quantnet_of_a_seed_keeps_its_weights() -> None:
    # The layers by hand, in the order that draws their random numbers.
    torch.manual_seed(3)
    sizes = [(3, 32), (32, 64)], [(64 * 8 * 8, 128), (128, 16), (16, 5)]
    layers = [nn.Conv2d(*size, 3, padding=1) for size in sizes[0]]
    layers += [nn.Linear(*size) for size in sizes[1]]
    for layer in layers[:-1]:
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    nn.init.xavier_normal_(layers[-1].weight)
    state = build_model("quantnet", 5, seed=3).state_dict()
    names = ("conv1", "conv2", "linear1", "linear2", "output")
    assert set(state) == {
        f"{n}.{p}" for n in names for p in ("weight", "bias")
    }
    for name, layer in zip(names, layers, strict=True):
        assert torch.equal(state[f"{name}.weight"], layer.weight)
        assert not state[f"{name}.bias"].any()


@pytest.mark.parametrize(
    ("initializer", "variance"),
    [
        ("he normal", 2 / 4096),
        ("he uniform", 2 / 4096),
        ("glorot normal", 2 / (4096 + 128)),
        ("glorot uniform", 2 / (4096 + 128)),
    ],
)
def test_quantnet_initializers(initializer: str, variance: float) -> None:
    torch.manual_seed(0)
    model = QuantNet(1, initializer=initializer)
    weight = model.linear1.weight.detach()
    # 524,288 draws: the sample variance is exact to about 0.4 % (2 sigma).
    assert weight.var().item() == pytest.approx(variance, rel=0.01)
    # A uniform distribution ends at sqrt(3) deviations, a normal does not.
    ends_at = weight.abs().max().item() / variance**0.5
    if "uniform" in initializer:
        assert ends_at == pytest.approx(3**0.5, rel=1e-3)
    else:
        assert ends_at > 4


def test_quantnet_output_is_always_glorot_normal() -> None:
    torch.manual_seed(0)
    # 16,000 draws, whose He variance would be 64 times as large.
    weight = QuantNet(1000, initializer="he uniform").output.weight.detach()
    assert weight.var().item() == pytest.approx(2 / 1016, rel=0.05)
    assert weight.abs().max().item() > 3 * (2 / 1016) ** 0.5


@pytest.mark.parametrize("kernel", [1, 5, 9])
def test_quantnet_sizes_by_hand(kernel: int) -> None:
    model = QuantNet(7, filters=(6, 10), kernel_size=kernel, dropout=0.3)
    pixels = kernel * kernel
    convolutions = 6 * (3 * pixels + 1) + 10 * (6 * pixels + 1)
    linear = 128 * (10 * 8 * 8 + 1) + 16 * 129 + 7 * 17
    assert count_parameters(model) == convolutions + linear
    assert model(torch.zeros(2, 3, 32, 32)).shape == (2, 7)
    assert model.dropout.p == 0.3


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"filters": (32,)}, "two whole numbers"),
        ({"filters": (32, 0)}, "two whole numbers"),
        ({"filters": (32.0, 64)}, "two whole numbers"),
        ({"kernel_size": 4}, "give 1, 3, 5"),
        ({"kernel_size": -3}, "give 1, 3, 5"),
        ({"dropout": 1.0}, "below 1"),
        ({"dropout": -0.1}, "0 or more"),
        ({"initializer": "zeros"}, "choose of .*'glorot uniform'"),
    ],
)
def test_impossible_quantnets(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        QuantNet(1, **wrong)
    with pytest.raises(ValueError, match="at least 1"):
        QuantNet(0)


def test_resnet20_has_the_published_parameter_count() -> None:
    # He et al. count 0.27 M; two projection shortcuts add 2,752 weights.
    assert count_parameters(build_model("resnet20", 10)) == 272_474


def test_resnet56_has_three_times_nine_blocks() -> None:
    model = build_model("resnet56", 10)
    convolutions = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    assert len(convolutions) == 1 + 3 * 9 * 2 + 2


@pytest.mark.parametrize("name", sorted(MODELS.names()))
@pytest.mark.parametrize("num_classes", [1, 7])
def test_output_shape_on_small_images(name: str, num_classes: int) -> None:
    # The meta device checks every shape without arithmetic.
    with torch.device("meta"):
        model = MODELS.get(name)(num_classes).eval()
        output = model(torch.zeros(2, 3, 32, 32))
    assert output.shape == (2, num_classes)


@pytest.mark.parametrize("name", CONVOLUTIONAL)
def test_convolutional_networks_can_be_traced(name: str) -> None:
    with torch.device("meta"):
        model = MODELS.get(name)(5).eval()
        traced = torch.fx.symbolic_trace(model)
        output = traced(torch.zeros(2, 3, 32, 32))
    assert output.shape == (2, 5)


def test_small_stems_keep_resolution() -> None:
    shapes = {}
    with torch.device("meta"):
        for name in ("resnet18", "resnet50", "densenet121"):
            model = MODELS.get(name)(5).eval()
            seen: list[torch.Size] = []
            model.get_submodule(
                "features.denseblock1" if "dense" in name else "layer1"
            ).register_forward_pre_hook(
                lambda _m, inputs, seen=seen: seen.append(inputs[0].shape)
            )
            model(torch.zeros(1, 3, 32, 32))
            shapes[name] = tuple(seen[0][-2:])
    assert set(shapes.values()) == {(32, 32)}


def test_same_seed_same_weights_and_global_state_untouched() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    a, b, c = (build_model("resnet20", 10, seed=s) for s in (1, 1, 2))
    assert torch.equal(torch.rand(3), expected)
    assert torch.equal(a.conv1.weight, b.conv1.weight)
    assert not torch.equal(a.conv1.weight, c.conv1.weight)


def test_unknown_name_suggests_a_known_one() -> None:
    with pytest.raises(UnknownName, match="resnet20"):
        build_model("resnet2O", 10)


def test_no_outputs_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        build_model("resnet20", 0)
