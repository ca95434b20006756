"""Steps of the chapters' interactive figures, against other ways."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.neighbors import NearestNeighbors

from lq_utils import interactive_neighbors as neighbors
from lq_utils import interactive_rounding as rounding
from lq_utils import layer_bounds as lb
from lq_utils.alphabets import alphabet
from lq_utils.dimension import two_nearest_neighbors
from lq_utils.grams import gram_statistics
from lq_utils.interactive_pieces import InteractiveError, steps_data
from lq_utils.manifolds import uniform_cube
from lq_utils.scales import fit_grid
from lq_utils.solvers import gpfq


@pytest.fixture
def layer():
    made = torch.Generator().manual_seed(3)
    inputs = torch.randn(40, 9, generator=made, dtype=torch.float64).relu()
    inputs[:, 4] = 0  # a dead column
    weight = torch.randn(3, 9, generator=made, dtype=torch.float64)
    grid = fit_grid(weight, alphabet("mid-tread", 2), "channel", "max")
    return weight, inputs, grid


def test_path_following_is_gpfq(layer):
    weight, inputs, grid = layer
    found = gpfq(weight, gram_statistics(inputs, inputs), grid)
    own = rounding.path_following(weight, found, inputs, neuron=1)
    norms = lb.running_error(weight[1:2], found[1:2], inputs)
    assert np.allclose(own["error"], norms)
    # Rounding what is asked for gives the level that GPFQ took.
    asked = torch.from_numpy(own["asked"].to_numpy())[None]
    assert np.allclose(grid.rows(torch.tensor([1])).round(asked)[0], found[1])
    assert own["asked"][4] == own["weight"][4]


def test_gpfq_steps_show_both_methods(layer):
    weight, inputs, grid = layer
    found = gpfq(weight, gram_statistics(inputs, inputs), grid)
    piece = rounding.gpfq_steps(weight, found, inputs, grid, 2, most=7)
    data = steps_data(piece)
    plain = lb.running_error(weight[2:], grid.round(weight)[2:], inputs)
    assert len(data["frames"]) == 7
    assert np.allclose(data["layers"][3]["y"], plain[:7], rtol=1e-4)
    assert f"{float(weight[2, 6]):.3f}" in data["frames"][6]["words"]
    with pytest.raises(InteractiveError, match="neurons 0 to 2"):
        rounding.gpfq_steps(weight, found, inputs, grid, 3)


def test_levels_and_errors_by_bits():
    made = torch.Generator().manual_seed(1)
    weight = torch.randn(4, 30, generator=made)
    names = {"narrow": "symmetric", "power-of-two": "power of two"}
    found = rounding.grid_errors(weight, list(names), [2, 4])
    largest = float(weight.abs().max())
    for row in found.to_dict("records"):
        # Brute force: every weight goes to the nearest of the levels.
        away = weight.numpy()[..., None] - row["levels"]
        share = (away**2).min(axis=2).sum() / (weight.numpy() ** 2).sum()
        assert row["error"] == pytest.approx(share, rel=1e-4)
        assert np.abs(row["levels"]).max() == pytest.approx(largest)
    piece = rounding.bit_steps(weight, names, [2, 4])
    histogram = piece.layers[0]
    assert sum(histogram.y) == weight.numel()
    assert piece.numbers.shape == (2, 2)
    data = steps_data(piece)
    assert [p["x"]["label"] for p in data["panels"]][:2] == ["weight"] * 2


def test_two_neighbors_are_scikit_learns():
    points = uniform_cube(3, 60, 5, seed=2)
    found = neighbors.two_neighbors(points)
    search = NearestNeighbors(n_neighbors=3).fit(points)
    distances, rows = search.kneighbors(points)
    assert np.allclose(found[["r1", "r2"]], distances[:, 1:])
    assert (found[["first", "second"]].to_numpy() == rows[:, 1:]).all()


def test_last_step_is_the_estimate_of_all_points():
    points = uniform_cube(2, 80, 5, seed=4)
    piece = neighbors.two_neighbor_steps(points, singly=10, jumps=3)
    last = piece.numbers.iloc[-1]
    assert last["points"] == 80 and len(piece.frames) == 9 + 3
    fast = two_nearest_neighbors(points, method="regression", blocks=None)
    assert last["dimension"] == pytest.approx(fast.value, rel=1e-6)
    assert steps_data(piece)["frames"][-1]["label"] == "80"
    # The plane holds all distances: drawn lines have the true lengths.
    line = next(x for x in piece.layers if x.mark == "line")
    drawn = np.hypot(np.diff(line.x), np.diff(line.y))[0]
    assert drawn == pytest.approx(piece.numbers.iloc[0]["r1"])
    with pytest.raises(InteractiveError, match="at least 20"):
        neighbors.two_neighbor_steps(points[:10])
