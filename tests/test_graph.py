"""Tracing: the graph computes what the network does, and names its layers."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from lq_utils.graph import (
    TraceError,
    fold_batch_norm,
    kept_in_float,
    layer_table,
    set_weight_matrix,
    trace,
    weight_matrix,
)
from lq_utils.models import build_model

# Layers counted from the architectures' papers.
LAYERS = {
    "quantnet": 5,
    "resnet20": 22,  # with two 1x1 shortcuts
    "mobilenetv2_x0_5": 53,
    "alexnet": 8,
}


def settle(model: nn.Module) -> nn.Module:
    """Batch statistics that are not the initial zeros and ones."""
    generator = torch.Generator().manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.running_mean, module.bias.data):
                tensor.normal_(0, 0.2, generator=generator)
            for tensor in (module.running_var, module.weight.data):
                tensor.uniform_(0.5, 2, generator=generator)
    return model.eval()


def images(count: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(count, 3, 32, 32, generator=generator)


@pytest.mark.parametrize("name", LAYERS)
def test_graph_and_folded_graph_are_the_network(name: str) -> None:
    model = settle(build_model(name, 1 if name == "quantnet" else 7)).double()
    traced = trace(model)
    folded = fold_batch_norm(traced)
    with torch.no_grad():
        x = images().double()
        expected = model(x)
        assert torch.equal(traced(x), expected)
        torch.testing.assert_close(folded(x), expected)
    assert len(layer_table(model)) == LAYERS[name]
    assert [i.name for i in layer_table(folded)] == [
        i.name for i in layer_table(traced)
    ]
    normalisations = [
        m for m in folded.modules() if isinstance(m, nn.BatchNorm2d)
    ]
    assert not normalisations


def test_folding_leaves_the_network_alone() -> None:
    model = settle(build_model("resnet20", 4))
    before = {k: v.clone() for k, v in model.state_dict().items()}
    fold_batch_norm(trace(model))
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key])


def test_normalisation_before_a_convolution_stays() -> None:
    model = settle(
        nn.Sequential(nn.BatchNorm2d(3), nn.ReLU(), nn.Conv2d(3, 4, 1))
    )
    folded = fold_batch_norm(trace(model))
    with torch.no_grad():
        torch.testing.assert_close(folded(images()), model(images()))
    assert any(isinstance(m, nn.BatchNorm2d) for m in folded.modules())


class Encoder(nn.Module):
    """One attention layer, batch first or not."""

    def __init__(self, batch_first: bool, bias: bool = True) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(
            12, 3, bias=bias, batch_first=batch_first
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.attention(x, x, x, need_weights=False)[0]


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_attention_is_opened(batch_first: bool, bias: bool) -> None:
    torch.manual_seed(0)
    model = Encoder(batch_first, bias).eval().double()
    x = torch.randn(4, 5, 12, dtype=torch.float64)
    traced = trace(model)
    with torch.no_grad():
        torch.testing.assert_close(traced(x), model(x))
    assert [i.name for i in layer_table(traced)] == [
        "attention.in_proj",
        "attention.out_proj",
    ]


def test_what_no_plan_reaches_is_listed() -> None:
    kept = kept_in_float(build_model("quantnet", 1))
    assert set(kept) == {
        f"{i.name}.bias" for i in layer_table(build_model("quantnet", 1))
    }
    assert sum(kept.values()) == 32 + 64 + 128 + 16 + 1


class Masked(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = Encoder(True)

    def forward(self, x: Tensor) -> Tensor:
        inner = self.inner.attention
        return inner(x, x, 2 * x, need_weights=False)[0]


class Branching(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.part = Branch()

    def forward(self, x: Tensor) -> Tensor:
        return self.part(x)


class Branch(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        if x.sum() > 0:
            return self.layer(x)
        return x


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(self.layer(x))


@pytest.mark.parametrize(
    ("model", "names"),
    [
        (Branching(), ["part (Branch)"]),
        (Twice(), ["layer", "more than once"]),
        (Masked(), ["self-attention"]),
    ],
)
def test_what_cannot_be_followed_is_named(
    model: nn.Module, names: list[str]
) -> None:
    with pytest.raises(TraceError) as error:
        trace(model)
    for name in names:
        assert name in str(error.value)


def test_layers_have_their_sizes() -> None:
    grouped = nn.Sequential(
        nn.Conv2d(8, 6, (3, 2), groups=2), nn.Flatten(), nn.Linear(5, 4)
    )
    conv, linear = layer_table(grouped)
    assert (conv.kind, conv.rows, conv.columns, conv.groups) == (
        "conv",
        6,
        4 * 3 * 2,
        2,
    )
    assert (linear.kind, linear.weights) == ("linear", 20)


def test_weight_matrix_round_trip() -> None:
    layer = nn.Conv2d(4, 6, 3)
    matrix = weight_matrix(layer).clone()
    assert matrix.shape == (6, 36)
    set_weight_matrix(layer, 2 * matrix)
    assert torch.equal(layer.weight.flatten(1), 2 * matrix)
