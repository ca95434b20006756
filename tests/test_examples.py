"""Every example in Python on the pages runs, and does what it is for."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import onnx_files
import pytest
import torch
from test_commands import PAGES
from test_prose import code_blocks
from torch import nn

from lq_utils.clustering import CLUSTERINGS, cluster_weights
from lq_utils.distances import DISTANCES, class_distances
from lq_utils.layer_sensitivity import sensitivity_task
from lq_utils.lockstep import quantize
from lq_utils.onnx_schemes import SCHEMES, compress
from lq_utils.plans import Plan
from lq_utils.registry import Registry
from lq_utils.sensitivity_base import SENSITIVITIES
from lq_utils.solvers import SOLVERS
from lq_utils.subsets import SUBSET_KINDS

Names = dict[str, Any]


def use_distance(names: Names) -> None:
    x = np.random.default_rng(0).normal(size=(30, 4))
    labels = np.arange(30) % 3
    D = class_distances("mean_gap", x, labels, 3)
    gap = x[labels == 0].mean(axis=0) - x[labels == 2].mean(axis=0)
    assert np.isclose(D[0, 2], np.linalg.norm(gap)) and D.shape == (3, 3)


def use_subset(names: Names) -> None:
    found = names["generate"]("first_classes", names["D"], size=4, seed=1)
    assert sorted(found.classes) == [0, 1, 2, 3]


def use_solver(names: Names) -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 3)).eval()
    before = network[1].weight.detach().clone()
    plan = Plan.uniform(network, 4, solver="towards_zero")
    after = quantize(network, plan, torch.rand(8, 3, 2, 2)).model
    assert not torch.equal(after.state_dict()["1.weight"], before)


def use_clustering(names: Names) -> None:
    values = torch.linspace(-1, 1, 101).double() ** 3
    found = cluster_weights(values, 4, "quantiles")
    assert len(found.centroids) == 4


def use_scheme(names: Names) -> None:
    source = onnx_files.exported()
    target = source.with_name("as_it_is.onnx")
    size = compress("as it is", source, target, onnx_files.images("train"))
    assert size == target.stat().st_size > 0


def use_sensitivity(names: Names) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 3)).eval()
    images, labels = torch.rand(9, 3, 2, 2), torch.arange(9) % 3
    plan = Plan.uniform(network, 3, quantizer="narrow", scale="max")
    task = sensitivity_task(network, images, labels, [0, 1, 2], (2, 8), plan)
    table = SENSITIVITIES.get("largest change")(task)
    cost = table.set_index("bits")["cost"]
    assert cost[2] > cost[8] > 0


USES: dict[str, tuple[Registry[Any], Callable[[Names], None]]] = {
    "mean_gap": (DISTANCES, use_distance),
    "first_classes": (SUBSET_KINDS, use_subset),
    "towards_zero": (SOLVERS, use_solver),
    "quantiles": (CLUSTERINGS, use_clustering),
    "as it is": (SCHEMES, use_scheme),
    "largest change": (SENSITIVITIES, use_sensitivity),
}
# Packages of clusters, which the book does not install.
FOREIGN = ("dask_jobqueue", "dask_kubernetes")


def examples() -> Iterator[Any]:
    for page in PAGES:
        text = page.read_text("utf-8")
        for language, code in code_blocks(text):
            foreign = any(f"from {name}" in code for name in FOREIGN)
            if language == "python" and not foreign:
                yield pytest.param(code, id=code.split("\n")[0])


@pytest.mark.parametrize("code", list(examples()))
def test_python_example_runs_and_is_used(code: str) -> None:
    gaps = np.random.default_rng(0).uniform(1, 2, (12, 12))
    names: Names = {"D": (gaps + gaps.T) * (1 - np.eye(12))}
    (name,) = re.findall(r'@register_\w+\(\s*"([^"]+)"', code)
    registry, use = USES[name]
    exec(code, names)  # noqa: S102, the book's own
    try:
        use(names)
    finally:
        del registry._entries[name]


def test_every_use_has_its_example() -> None:
    assert len(list(examples())) == len(USES)
