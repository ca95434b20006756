"""Weights rounded without images, against lockstep and closed forms."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from lq_utils.artifact import load_quantized, save_quantized
from lq_utils.data_free import round_weights
from lq_utils.graph import weight_matrix
from lq_utils.grids import GridError
from lq_utils.lockstep import quantize
from lq_utils.models import build_model
from lq_utils.plan_rows import PlanError
from lq_utils.plans import Plan

ROW = {"scale": "max", "solver": "rtn"}


@pytest.fixture(scope="module")
def network() -> nn.Module:
    return build_model("quantnet", 2).eval()


def plan_of(network: nn.Module, **changes: object) -> Plan:
    return Plan.uniform(network, 4, **{**ROW, **changes})


@pytest.mark.parametrize("quantizer", ["narrow", "asymmetric", "power-of-two"])
@pytest.mark.parametrize("fold", [True, False])
def test_same_weights_as_lockstep_with_images(quantizer, fold):
    small = build_model("resnet20", 10).eval()
    plan = Plan.uniform(small, 3, **ROW, quantizer=quantizer)
    plan = plan.keep_first_last_full()
    images = torch.randn(4, 3, 32, 32, generator=torch.manual_seed(0))
    wanted = quantize(small, plan, images, fold=fold)
    found = round_weights(small, plan, fold)
    for name, tensor in wanted.model.state_dict().items():
        assert torch.equal(found.model.state_dict()[name], tensor), name
    assert found.grids.keys() == wanted.grids.keys()


def test_restricted_symmetric_by_its_formula(network):
    found = round_weights(network, plan_of(network, quantizer="narrow"))
    for name, grid in found.grids.items():
        w = weight_matrix(network.get_submodule(name)).detach().double()
        s = w.abs().amax(dim=1, keepdim=True).float().double() / 7
        wanted = s * torch.floor(w / s + 0.5).clamp(-7, 7)
        got = weight_matrix(found.model.get_submodule(name)).double()
        assert (got - wanted).abs().max() < 1e-6 * s.max()
        assert len(np.unique(grid.codes(got.float()))) <= 15


def test_error_is_that_of_the_weights(network):
    found = round_weights(network, plan_of(network))
    row = found.layers.iloc[1]
    w = weight_matrix(network.get_submodule(row.layer)).double()
    q = weight_matrix(found.model.get_submodule(row.layer)).double()
    assert row.relative_error == pytest.approx(
        float((q - w).norm() / w.norm()), rel=1e-5
    )


def test_network_unchanged_and_file_loads(network, tmp_path: Path):
    before = {k: v.clone() for k, v in network.state_dict().items()}
    found = round_weights(network, plan_of(network))
    after = network.state_dict()
    assert all(torch.equal(after[k], v) for k, v in before.items())
    save_quantized(tmp_path / "q.safetensors", found, "quantnet", 2)
    x = torch.randn(2, 3, 32, 32)
    again = load_quantized(tmp_path / "q.safetensors")
    assert torch.equal(again(x), found.model(x))


@pytest.mark.parametrize(
    "wrong",
    [{"solver": "gpfq"}, {"scale": "output"}, {"polish": 2}],
)
def test_what_needs_images_is_refused(network, wrong):
    with pytest.raises(PlanError, match="need images"):
        round_weights(network, plan_of(network, **wrong))


def test_rows_in_full_precision_stay(network):
    plan = plan_of(network).override("conv2", bits=None)
    found = round_weights(network, plan)
    assert "conv2" not in found.grids
    assert torch.equal(
        found.model.get_submodule("conv2").weight,
        network.get_submodule("conv2").weight,
    )


def test_nan_weights_are_refused(network):
    broken = build_model("quantnet", 2)
    with torch.no_grad():
        broken.get_submodule("conv1").weight[0, 0, 0, 0] = float("nan")
    with pytest.raises(GridError, match="NaN"):
        round_weights(broken, plan_of(broken))


def test_plan_that_does_not_fit(network):
    plan = plan_of(network)
    with pytest.raises(PlanError, match="no row for"):
        round_weights(network, replace(plan, layers=plan.layers[1:]))
