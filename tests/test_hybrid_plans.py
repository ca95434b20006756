"""Plans of hybrid networks: sizes by both counts, controls."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from lq_utils.hybrid_plans import (
    TABLE_4_7,
    kernel_bits,
    kernel_factor,
    plan_bits,
    precision_plan,
    table_plans,
    thesis_bits,
    thesis_factor,
)
from lq_utils.low_bit import LowBit, clip_latent
from lq_utils.low_bit_part import (
    LowBitPart,
    random_part,
    size_matched_network,
)
from lq_utils.low_bit_storage import low_bit_quantized
from lq_utils.models import build_model
from lq_utils.parametrizations import CompressionError
from lq_utils.plan_rows import PlanError
from lq_utils.stacks import latent_weight, strip

# By hand: parameters with biases, kernels alone.
ALL = {"conv1": 896, "conv2": 18_496, "linear1": 524_416, "linear2": 2_064}
KERNELS = {"conv1": 864, "conv2": 18_432, "linear1": 524_288, "linear2": 2048}
TOTAL = 545_889

FACTORS = [
    ("fp,fp,fp,fp", 1.0, 1.0),
    ("fp,1,1,1", 30.4227, 30.080),
    ("1,fp,fp,fp", 1.0016, 1.0015),
    ("fp,1,fp,fp", 1.0339, 1.0338),
    ("fp,fp,1,fp", 14.4182, 14.371),
    ("fp,1,2,2", 15.8707, 15.779),
]


@pytest.fixture(scope="module")
def quantnet() -> nn.Module:
    return build_model("quantnet", 1, seed=0)


@pytest.mark.parametrize(("name", "thesis", "kernels"), FACTORS)
def test_factors_of_the_table(
    quantnet: nn.Module, name: str, thesis: float, kernels: float
) -> None:
    plan = table_plans()[name]
    plan.validate(quantnet)
    assert thesis_factor(quantnet, plan) == pytest.approx(thesis, abs=5e-5)
    digits = 5e-4 if kernels > 2 else 5e-5
    assert kernel_factor(quantnet, plan) == pytest.approx(kernels, abs=digits)
    assert kernel_bits(quantnet, plan) == plan.size_bits(quantnet)
    rest, codes, scales = TOTAL, 0, 0
    by_thesis = 32 * TOTAL
    for layer, bits in zip(ALL, TABLE_4_7[name], strict=True):
        if bits is not None:
            rest -= KERNELS[layer]
            codes, scales = codes + bits * KERNELS[layer], scales + 1
            by_thesis -= (32 - bits) * ALL[layer]
    assert thesis_bits(quantnet, plan) == by_thesis
    assert kernel_bits(quantnet, plan) == 32 * (rest + scales) + codes
    assert plan_bits(plan)["output"] is None
    assert thesis_bits(quantnet, plan_bits(plan)) == by_thesis


def test_unknown_layers_and_bits_are_refused(quantnet: nn.Module) -> None:
    with pytest.raises(PlanError, match="did you mean 'linear1'"):
        precision_plan(quantnet, {"linear_1": 1})
    with pytest.raises(PlanError, match="no layer 'fc'"):
        thesis_bits(quantnet, {"fc": 1})
    with pytest.raises(PlanError, match="'conv2'"):
        precision_plan(quantnet, {"conv2": 0})


def test_masks_choose_as_many_weights_as_asked() -> None:
    mask = random_part((128, 4096), 18_432, seed=1)
    assert mask.shape == (128, 4096) and int(mask.sum()) == 18_432
    assert torch.equal(mask, random_part((128, 4096), 18_432, seed=1))
    assert not torch.equal(mask, random_part((128, 4096), 18_432, seed=2))
    rows = random_part((128, 4096), 18_432, seed=1, unit="rows")
    # 4.5 rows, so 5 whole ones.
    assert rows.all(dim=1).sum() == 5 and int(rows.sum()) == 5 * 4096
    kernel = random_part((8, 3, 3, 3), 54, seed=0, unit="rows")
    assert kernel.flatten(1).all(dim=1).sum() == 2
    for count in (0, 25):
        with pytest.raises(CompressionError, match="has 24"):
            random_part((4, 6), count, seed=0)
    with pytest.raises(CompressionError, match="'rows'"):
        random_part((4, 6), 2, seed=0, unit="row")


def test_part_of_a_layer_by_hand() -> None:
    mask = torch.tensor([[True, False], [True, True]])
    w = torch.tensor([[0.5, 9.0], [-0.1, 0.2]], requires_grad=True)
    # Of 0.5, -0.1 and 0.2 the mean is 0.2: 0.3, -0.3 and 0.
    y = LowBitPart(mask, LowBit(1))(w)
    torch.testing.assert_close(y, torch.tensor([[0.2, 9.0], [-0.2, 0.2]]))
    y.backward(torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
    assert w.grad.tolist() == [[1.0, 2.0], [3.0, 4.0]]
    with pytest.raises(CompressionError, match="at least one"):
        LowBitPart(~torch.ones(2, 2, dtype=torch.bool), LowBit(1))
    with pytest.raises(CompressionError, match="'tensor'"):
        LowBitPart(mask, LowBit(1, granularity="channel"))
    with pytest.raises(CompressionError, match="does not fit"):
        LowBitPart(mask, LowBit(1))(torch.zeros(3, 2))


@pytest.mark.parametrize("unit", ["weights", "rows"])
def test_a_control_of_the_same_size(quantnet: nn.Module, unit: str) -> None:
    control = size_matched_network(quantnet, "conv2", "linear1", 0, unit=unit)
    before = quantnet.linear1.weight.detach()
    layer = control.get_submodule("linear1")
    changed = layer.weight != before
    assert int(changed.sum()) == {"weights": 18_432, "rows": 20_480}[unit]
    assert len(layer.weight[changed].unique()) == 2
    assert torch.equal(control.get_submodule("conv2").weight,
                       quantnet.conv2.weight)  # fmt: skip
    with torch.no_grad():
        latent_weight(layer).fill_(2.0)
    clip_latent()(0, control)
    assert int((latent_weight(layer) == 1).sum()) == int(changed.sum())
    assert int((latent_weight(layer) == 2).sum()) == int((~changed).sum())
    with pytest.raises(CompressionError, match="no file"):
        low_bit_quantized(control)
    with pytest.raises(CompressionError, match="strip"):
        size_matched_network(control, "conv2", "linear1", 0)
    with pytest.raises(CompressionError, match="no layer 'fc'"):
        size_matched_network(quantnet, "fc", "linear1", 0)
    with pytest.raises(CompressionError, match="another layer"):
        size_matched_network(strip(control), "linear1", "conv2", 0)
