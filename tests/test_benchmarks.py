"""The loops that the benchmarks time do what the library does."""

from __future__ import annotations

import sys

import pytest
import torch

from lq_utils.grams import gram_statistics
from lq_utils.grids import Grid, alphabet
from lq_utils.paths import ROOT
from lq_utils.solvers import gpfq, gpfq_patches


def test_plain_loops_and_library_decide_alike(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import layer_cases as cases

    layer = cases.make_layer(6, 40, 90, bits=3)
    layer = cases.Layer(*(t.double() for t in layer[:4]), layer.top)
    grid = Grid(
        alphabet("narrow", 3), layer.step, torch.zeros(1, 1), 40
    ).per_row(6)
    statistics = gram_statistics(layer.xq, layer.x)
    expected = cases.paper_loop(layer)
    for found in (
        cases.straight_loop(layer),
        gpfq(layer.weight, statistics, grid),
        gpfq_patches(layer.weight, layer.xq, layer.x, grid),
    ):
        torch.testing.assert_close(found, expected)
    sys.modules.pop("layer_cases")
