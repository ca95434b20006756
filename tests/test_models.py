"""Networks: parameter counts, shapes, traceability, seeds."""

import pytest
import torch
from torch import nn

from lq_utils.models import MODELS, QuantNet, build_model, count_parameters
from lq_utils.registry import UnknownName


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


@pytest.mark.parametrize("name", sorted(set(MODELS.names()) - {"vit_b_16"}))
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
