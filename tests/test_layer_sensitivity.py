"""Sensitivities against closed forms, other ways to compute, symmetry."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import entropy
from sklearn.decomposition import PCA
from torch import Tensor, nn

from lq_utils.curvature import (
    hessian_traces,
    squared_output_gradients,
    squared_weight_gradients,
)
from lq_utils.graph import fold_batch_norm, trace, weight_matrix
from lq_utils.layer_rounding import (
    data_free_row,
    nearest_weights,
    single_layer_logits,
)
from lq_utils.layer_sensitivity import (
    SENSITIVITIES,
    SensitivityError,
    SensitivityTask,
    divergence,
    register_sensitivity,
    sensitivity_costs,
    sensitivity_task,
)
from lq_utils.lockstep import CalibrationError, quantize
from lq_utils.models import CifarResNet
from lq_utils.plan_rows import LayerPlan
from lq_utils.plans import Plan
from lq_utils.registry import UnknownName

BITS = (2, 4)
KINDS = (
    "output error", "fisher", "trace", "dimension", "components",
    "shrinking", "divergence", "weight error",
)  # fmt: skip


class Softmax(nn.Module):
    """Logits are linear in the pixels: everything has a closed form."""

    def __init__(self, inputs: int = 12, classes: int = 4) -> None:
        super().__init__()
        self.fc = nn.Linear(inputs, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x.flatten(1))


class Twins(nn.Module):
    """Two equal branches, added; works in place."""

    def __init__(self) -> None:
        super().__init__()
        self.left = nn.Conv2d(3, 6, 3, padding=1)
        self.right = copy.deepcopy(self.left)
        self.relu = nn.ReLU(inplace=True)
        self.fc = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        y = self.left(x)
        y += self.right(x)
        return self.fc(self.relu(y).mean(dim=(2, 3)))


def made(model: Callable[[], nn.Module], seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return model().eval()


def resnet() -> nn.Module:
    """With batch norms that do something."""
    network = made(lambda: CifarResNet(8, 5))
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.5, 1.5)
    return network


def some(
    images: int = 20, size: int = 2, classes: int = 4
) -> tuple[Tensor, Tensor]:
    source = torch.Generator().manual_seed(1)
    x = torch.randn(images, 3, size, size, generator=source)
    y = torch.randint(0, classes, (images,), generator=source)
    return x, y


def task_of(
    network: nn.Module,
    images: Tensor,
    labels: Tensor | None,
    classes: list[int] | None = None,
    **row: object,
) -> SensitivityTask:
    fields: dict = {"quantizer": "mid-tread", "scale": "mse"} | row
    plan = Plan.uniform(network, 3, **fields)
    return sensitivity_task(
        network, images, labels, classes, BITS, plan, batch_size=7
    )


def test_divergence_is_the_relative_entropy_of_the_chosen_softmax() -> None:
    source = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, 6, 5, generator=source)
    found = divergence(a, b, [0, 2, 4])
    for row in range(6):
        p = np.exp(a[row, [0, 2, 4]].double().numpy())
        q = np.exp(b[row, [0, 2, 4]].double().numpy())
        # scipy normalises both.
        assert float(found[row]) == pytest.approx(entropy(p, q), rel=1e-9)
    assert not divergence(a, a, [1, 3]).any()
    # What other classes say plays no part.
    b[:, 1] += 100
    assert torch.equal(divergence(a, b, [0, 2, 4]), found)


@pytest.mark.parametrize("network", [resnet(), made(Twins)])
def test_resumed_passes_are_whole_passes(network: nn.Module) -> None:
    traced = fold_batch_norm(trace(network))
    plan = Plan.uniform(traced, 3, scale="mse")
    weights = nearest_weights(traced, plan, (2, 3))
    x, _ = some(10, 8)
    with torch.no_grad():
        before = traced(x)
        found = single_layer_logits(traced, x, weights, batch_size=4)
        assert torch.equal(traced(x), before)  # weights are put back
        assert set(found) == set(weights)
        for (layer, b), logits in found.items():
            other = copy.deepcopy(traced)
            module = other.get_submodule(layer)
            module.weight.copy_(weights[layer, b].view_as(module.weight))
            torch.testing.assert_close(logits, other(x), rtol=1e-5, atol=1e-5)


def test_weights_are_those_of_a_calibration_of_one_layer() -> None:
    network, (x, y) = resnet(), some(16, 8)
    task = task_of(network, x, y, solver="qronos", scale="output", polish=2)
    for layer in ("conv1", "layer2.0.shortcut.0", "fc"):
        plan = Plan.uniform(network, None).override(
            layer, bits=2, quantizer="mid-tread", solver="qronos", polish=2
        )
        whole = quantize(network, plan, x)
        wanted = weight_matrix(whole.model.get_submodule(layer))
        torch.testing.assert_close(task.solved[layer, 2], wanted)


def test_rows_without_images() -> None:
    row = LayerPlan(
        "a", 3, "asymmetric", scale="output", solver="qronos", polish=4,
        options=(("damping", 0.1),),
    )  # fmt: skip
    free = LayerPlan("a", 3, "asymmetric", scale="mse", solver="rtn")
    assert data_free_row(row) == free
    kept = LayerPlan(
        "a", 3, scale="percentile", options=(("percentile", 99.0),)
    )
    assert data_free_row(kept).options == kept.options
    assert data_free_row(kept).scale == "percentile"


def test_softmax_regression_has_known_curvature() -> None:
    network, (x, y) = made(Softmax), some(30)
    task = task_of(network, x, y)
    flat = x.flatten(1).double()
    w, b = (p.detach().double() for p in network.fc.parameters())
    logits = flat @ w.T + b
    p = torch.softmax(logits, dim=1)
    slope = p - torch.eye(4)[y]
    # The gradient of one image is (p - e_y) x^T.
    fisher = (slope**2).T @ (flat**2) / len(x)
    found = squared_weight_gradients(task)["fc"]
    torch.testing.assert_close(found, fisher, rtol=1e-4, atol=1e-9)
    torch.testing.assert_close(
        squared_output_gradients(task)["fc"].double(),
        (slope**2).mean(dim=0),
        rtol=1e-4,
        atol=1e-9,
    )
    # The Hessian is the mean of (diag p - p p^T) times x x^T.
    exact = ((1 - (p**2).sum(1)) * (flat**2).sum(1)).mean()
    line = hessian_traces(task, probes=200).iloc[0]
    assert line["weights"] == 48
    assert abs(line["trace"] - float(exact)) < 4 * line["error"]
    assert 0 < line["error"] < 0.15 * float(exact)


def test_traces_of_layers_are_those_of_their_hessian_blocks() -> None:
    network = made(
        lambda: nn.Sequential(
            nn.Conv2d(3, 2, 2), nn.Tanh(), nn.Flatten(), nn.Linear(2, 3)
        )
    )
    x, y = some(9, classes=3)
    found = hessian_traces(task_of(network, x, y), probes=200)
    for name, trace_, error in found[["layer", "trace", "error"]].to_numpy():
        module = network.get_submodule(name)
        weight = module.weight.detach()

        def loss(w: Tensor, name: str = name) -> Tensor:
            named = {f"{name}.weight": w}
            logits = torch.func.functional_call(network, named, (x,))
            return nn.functional.cross_entropy(logits, y)

        hessian = torch.autograd.functional.hessian(loss, weight)
        n = weight.numel()
        exact = float(hessian.reshape(n, n).trace())
        assert abs(trace_ - exact) < 4 * error


def test_costs_are_their_formulas() -> None:
    network, (x, y) = made(Softmax), some(30)
    task = task_of(network, x, y, solver="gptq")
    w = weight_matrix(network.fc)
    costs = {
        kind: SENSITIVITIES.get(kind)(task).set_index("bits")["cost"]
        for kind in KINDS
    }
    fisher = squared_weight_gradients(task)["fc"]
    slopes = squared_output_gradients(task)["fc"]
    traces = hessian_traces(task).iloc[0]
    for b in BITS:
        near, solved = task.nearest["fc", b] - w, task.solved["fc", b] - w
        square = float((near**2).sum())
        assert costs["weight error"][b] == pytest.approx(square, rel=1e-5)
        assert costs["fisher"][b] == pytest.approx(
            float((fisher * near**2).sum()), rel=1e-5
        )
        assert costs["trace"][b] == pytest.approx(
            traces["trace"] / 48 * square, rel=1e-5
        )
        moved = ((x.flatten(1) @ solved.T) ** 2).mean(dim=0)
        assert costs["output error"][b] == pytest.approx(
            float((moved * slopes).sum()), rel=1e-4
        )
        logits = x.flatten(1) @ (w + solved).T + network.fc.bias
        assert costs["divergence"][b] == pytest.approx(
            float(divergence(network(x), logits, range(4)).mean()), rel=1e-4
        )
        # One layer, 12 values in and 4 out: it shrinks to a third.
        assert costs["shrinking"][b] == pytest.approx(square / 3, rel=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_equal_branches_cost_the_same(kind: str) -> None:
    network, (x, y) = made(Twins), some(40, 6, 5)
    options = {"probes": 80} if kind == "trace" else {}
    task = task_of(network, x, y)
    table = SENSITIVITIES.get(kind)(task, **options)
    assert list(table.columns[:3]) == ["layer", "bits", "cost"]
    assert list(table["bits"]) == list(BITS) * 3
    wide = table.pivot(index="layer", columns="bits", values="cost")
    assert np.isfinite(wide.to_numpy()).all()
    left, right = wide.loc["left"].to_numpy(), wide.loc["right"].to_numpy()
    if kind == "trace":  # an estimate: within its error
        error = table["error"][: 2 * len(BITS)].to_numpy()
        assert (np.abs(left - right) < 4 * error.max()).all()
        return
    if kind in ("dimension", "components"):
        # The right one runs after the left, whose output is the same.
        assert (right == 0).all() and (left > 0).all()
        return
    if kind == "shrinking":
        # Input 108, both branches 216, then 5 logits.
        assert table["significance"].tolist()[::2] == [1.0, 5 / 216, 5 / 216]
        return
    np.testing.assert_allclose(left, right, rtol=1e-4)
    assert (wide[2] > wide[4]).all()


@pytest.mark.parametrize("kind", KINDS)
def test_weights_on_the_grid_cost_nothing(kind: str) -> None:
    network, (x, y) = made(Softmax), some(30)
    with torch.no_grad():
        levels = torch.tensor([-2.0, -1, 0, 1, 2, -2, -1, 0, 1, 2, 0, 1])
        network.fc.weight.copy_(0.25 * levels.expand(4, 12))
    task = task_of(network, x, y, scale="max")
    costs = SENSITIVITIES.get(kind)(task).set_index("bits")["cost"]
    assert costs[2] == pytest.approx(0, abs=1e-12)


def test_steps_of_components_are_scikit_learns() -> None:
    network, (x, y) = made(Twins), some(40, 6, 5)
    table = sensitivity_costs(
        "components", network, x, y, None, BITS, Plan.uniform(network, 3)
    )
    step = table.drop_duplicates("layer").set_index("layer")["significance"]
    counts = [
        PCA(0.99, svd_solver="full")
        .fit(v.detach().movedim(1, -1).flatten(0, -2).double().numpy())
        .n_components_
        for v in (x, network.left(x))
    ]
    assert step["left"] == abs(counts[1] - counts[0]) > 0
    assert step["right"] == 0


def test_only_the_classes_of_the_task_count() -> None:
    network, (x, y) = made(lambda: Softmax(classes=6)), some(30)
    plan = Plan.uniform(network, 3, scale="mse")
    tables: list[pd.DataFrame] = []
    for shift in (0.0, 50.0):
        with torch.no_grad():
            network.fc.bias[4:] = shift  # of classes that are not meant
        tables.append(
            sensitivity_costs(
                "fisher", network, x, y, [3, 1, 0, 2], BITS, plan
            )
        )
    pd.testing.assert_frame_equal(tables[0], tables[1])


def test_what_does_not_fit_is_refused() -> None:
    network, (x, y) = made(Softmax), some(30)
    plan = Plan.uniform(network, 3, scale="mse")

    def costs(kind: str = "fisher", **changes: object) -> pd.DataFrame:
        given: dict = {
            "network": network, "images": x, "labels": y, "classes": None,
            "bits": BITS, "plan": plan,
        }  # fmt: skip
        return sensitivity_costs(kind, **given | changes)

    with pytest.raises(UnknownName, match="did you mean 'fisher'"):
        costs("fischer")
    with pytest.raises(SensitivityError, match="needs the labels"):
        costs(labels=None)
    costs("divergence", labels=None)
    with pytest.raises(SensitivityError, match="29 labels for 30 images"):
        costs(labels=y[:-1])
    with pytest.raises(SensitivityError, match="of the classes"):
        costs(classes=[0, 1])
    with pytest.raises(SensitivityError, match="not all in 0..3"):
        costs(classes=[0, 4])
    with pytest.raises(SensitivityError, match="two or more outputs"):
        costs(classes=[1])
    with pytest.raises(SensitivityError, match="each once"):
        costs(bits=(2, 2))
    with pytest.raises(SensitivityError, match="full precision"):
        costs(plan=Plan.uniform(network, None))
    with pytest.raises(SensitivityError, match="no option 'probes'"):
        costs(probes=4)
    with pytest.raises(SensitivityError, match="1 probes: give two"):
        costs("trace", probes=1)
    with pytest.raises(CalibrationError, match="at least one"):
        costs(images=x[:0])


def test_a_kind_of_your_own() -> None:
    network, (x, y) = made(Softmax), some(30)

    @register_sensitivity("size", replace=True)
    def size(task: SensitivityTask, power: float = 1.0) -> pd.DataFrame:
        rows = [("fc", b, 2.0 ** (-b * power)) for b in task.bits]
        return pd.DataFrame(rows, columns=["layer", "bits", "cost"])

    plan = Plan.uniform(network, 3)
    found = sensitivity_costs(
        "size", network, x, y, None, BITS, plan, power=2.0
    )
    assert found["cost"].tolist() == [2.0**-4, 2.0**-8]
