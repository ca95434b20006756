"""Cost of one image: counted by hand and layer by layer."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from lq_utils.inference_cost import COLUMNS, CostError, inference_cost
from lq_utils.models import build_model

# QuantNET with one output, 32x32 images: positions * inputs of a product.
MACS = {
    "conv1": 32 * 32 * 32 * (3 * 9),
    "conv2": 16 * 16 * 64 * (32 * 9),
    "linear1": 128 * 4096,
    "linear2": 16 * 128,
    "output": 16,
}


def test_quantnet_by_hand() -> None:
    model = build_model("quantnet", 1).train()
    frame = inference_cost(model)
    assert tuple(frame.columns) == COLUMNS and model.training
    assert dict(zip(frame["layer"], frame["macs"])) == MACS
    assert frame["macs"].sum() == 6_129_680
    assert frame[["weights", "biases"]].to_numpy().sum() == 545_889
    assert frame["bit_operations"].sum() == 6_129_680 * 32 * 32
    linear = frame.set_index("layer").loc["linear1"]
    assert linear["bytes"] == 4 * (524_288 + 128 + 4096 + 128)
    assert list(frame["kind"]) == ["conv"] * 2 + ["linear"] * 3


def test_widths_of_single_layers() -> None:
    model = build_model("quantnet", 1)
    frame = inference_cost(
        model, weight_bits={"conv2": 4, "linear1": None}, activation_bits=8
    ).set_index("layer")
    assert list(frame["weight_bits"]) == [32, 4, 32, 32, 32]
    row = frame.loc["conv2"]
    assert row["bit_operations"] == MACS["conv2"] * 4 * 8
    moved = 18_432 * 4 + (32 * 16 * 16 + 64 * 16 * 16) * 8 + 64 * 32
    assert row["bytes"] == moved / 8


def test_strides_groups_and_layers_used_twice() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.depthwise = nn.Conv2d(
                4, 4, 3, stride=2, padding=1, groups=4, bias=False
            )
            self.twice = nn.Conv2d(4, 4, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.twice(self.twice(self.depthwise(x)))

    frame = inference_cost(Net(), (4, 10, 10)).set_index("layer")
    assert frame.loc["depthwise", "macs"] == 5 * 5 * 4 * 9
    assert frame.loc["depthwise", "biases"] == 0
    assert frame.loc["twice", "macs"] == 2 * 5 * 5 * 4 * 4
    assert frame.loc["twice", "weights"] == 2 * 16


def test_wrong_input_is_named() -> None:
    model = build_model("quantnet", 1)
    with pytest.raises(CostError, match="did you mean 'conv1'"):
        inference_cost(model, weight_bits={"conv_1": 4})
    with pytest.raises(CostError, match="0 bits"):
        inference_cost(model, activation_bits=0)
    with pytest.raises(CostError, match="does not go through"):
        inference_cost(model, (1, 32, 32))
