"""Steps of the chapters' interactive figures, against other ways."""

from __future__ import annotations

from itertools import product

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.neighbors import NearestNeighbors

from lq_utils import interactive_classes as classes
from lq_utils import interactive_feedback as feedback
from lq_utils import interactive_neighbors as neighbors
from lq_utils import interactive_plans as plans
from lq_utils import interactive_rounding as rounding
from lq_utils import layer_bounds as lb
from lq_utils.alphabets import alphabet
from lq_utils.data import Provenance
from lq_utils.dimension import two_nearest_neighbors
from lq_utils.grams import gram_statistics
from lq_utils.images import ImageData
from lq_utils.interactive_data import points_data, steps_data
from lq_utils.interactive_pieces import InteractiveError
from lq_utils.manifolds import uniform_cube
from lq_utils.scales import fit_grid
from lq_utils.solvers import gpfq
from lq_utils.subsets import Subset, subset_distances


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
    asked = torch.tensor(own["asked"].tolist(), dtype=torch.float64)[None]
    one = grid.rows(torch.tensor([1]))
    assert np.allclose(one.round(asked)[0], found[1])
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
    seven = rounding.bit_steps(weight, {"symmetric": "more"}, [2, 4])
    axis = steps_data(seven)["panels"][1]["x"]["range"]
    assert axis[0] < min(min(x.x) for x in seven.layers if x.mark == "ticks")
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
    unit = neighbors.two_neighbors(points)["r2"].mean()
    assert drawn * unit == pytest.approx(piece.numbers.iloc[0]["r1"])
    with pytest.raises(InteractiveError, match="at least 20"):
        neighbors.two_neighbor_steps(points[:19], singly=10)


def test_class_points_ring_the_nearest():
    data = ImageData(
        np.zeros((100, 2, 2, 3), np.uint8),
        np.arange(100),
        tuple(f"class_{k}" for k in range(100)),
        tuple(f"group_{k}" for k in range(20)),
        np.arange(100) // 5,
        "test",
        Provenance("made", "synthetic", "0", "book"),
    )
    made = np.random.default_rng(0)
    points = made.normal(size=(len(data), 2))
    away = np.abs(np.subtract.outer(np.arange(100.0), np.arange(100)))
    piece = classes.class_points(points, data, away, near=2)
    assert set(piece.near[50]) == {49, 51} and piece.near[0] == [1, 2]
    found = points_data(piece)
    assert len(found["layers"]) == 20
    name = data.class_names[1].replace("_", " ")
    assert f"{name} (1)" in piece.points["words"][0]
    assert piece.points["x"][7] == points[data.labels == 7][0, 0]


def test_subset_steps_rise():
    place = np.array([0.0, 1, 3, 7, 20, 21])
    line = np.abs(place[:, None] - place[None])
    chosen = [(2, 4, 5), (0, 1, 2)]
    drawn = [Subset(c, "random", 0, subset_distances(line, c)) for c in chosen]
    means = np.column_stack([place, place])
    piece = classes.subset_steps(drawn, means, list("abcdef"))
    assert piece.numbers["median"].tolist() == [2.0, 17.0]
    assert piece.numbers["classes"].tolist() == ["a, b, c", "c, e, f"]
    first = next(x for x in piece.layers if x.when == 0 and x.panel == 1)
    assert list(first.y) == [1, 2, 3]
    assert len(steps_data(piece)["frames"]) == 2
    few = classes.subset_steps(drawn * 5, means, list("abcdef"), most=4)
    assert few.numbers["median"].tolist() == [2, 2, 17, 17]
    with pytest.raises(InteractiveError, match="no subsets"):
        classes.subset_steps([], means, [])


def test_cluster_steps_merge_pets_first():
    names = ["cat", "dog", "car", "truck"]
    apart = np.array(
        [[0, 1, 8, 8], [1, 0, 8, 8], [8, 8, 0, 3], [8, 8, 3, 0.0]]
    )
    truth, answers = np.array([0, 1, 2, 3]), np.array([1, 1, 3, 0])
    piece = classes.cluster_steps(apart, names, answers, truth)
    found = piece.numbers.set_index("clusters")
    assert found["accuracy"].tolist() == [25, 50, 75, 100]
    assert found["chance"].tolist() == [25, 50, 50, 100]
    assert "cat + dog." in piece.frames["words"][1]
    # A cut lies between the merges at 0, 1, 3, 8 and the end.
    cuts = [x.y[0] for x in piece.layers if x.name == "cut"]
    assert cuts[:3] == [0.5, 2, 5.5] and cuts[3] > 8
    steps_data(piece)


def test_a_large_cluster_is_named_in_part():
    place = np.arange(12.0)
    apart = np.abs(place[:, None] - place[None])
    names = [f"class_{k}" for k in range(12)]
    every = np.arange(12)
    piece = classes.cluster_steps(apart, names, every, every, most=3)
    assert piece.numbers["clusters"].tolist() == [3, 2, 1]
    last = piece.frames["words"].iloc[-1]
    assert last.endswith("class 6 + class 7 and 4 more.")


def test_plans_stand_by_size():
    table = pd.DataFrame(
        {
            "task": ["a", "a", "b", "b"],
            "set_up": ["fp", "1", "fp", "1"],
            "accuracy": [90.0, 80, 70, 60],
            "mib": [2.0, 0.5, 2, 0.5],
        }
    )
    bits = {"fp": (None,), "1": (1,)}
    piece = plans.plan_steps(table, bits, ["one", "two"])
    assert piece.frames["label"].tolist() == ["1", "fp"]
    drawn = [x.y for x in piece.layers if x.mark == "bars"]
    assert drawn == [[1, 32], [32, 32]]
    assert piece.frames["words"][0] == "1: 0.50 MiB; 80.0 % on a; 60.0 % on b."
    steps_data(piece)
    with pytest.raises(InteractiveError, match="no bits"):
        plans.plan_steps(table, {"fp": (None,)}, ["one"])


def test_bits_by_budget_are_the_cheapest():
    made = np.random.default_rng(5)
    names, bits = ["x", "y", "z"], [2, 3, 4]
    own = pd.DataFrame(made.random((3, 3)) + 0.1, names, bits)
    other = pd.DataFrame(made.random((3, 3)) + 0.1, names, bits)
    sizes = pd.DataFrame(np.outer([10, 20, 30], bits), names, bits)
    piece = plans.budget_steps({"own": own, "other": other}, sizes, 7)
    every = np.array(list(product(range(3), repeat=3)))
    rows = np.arange(3)
    space = sizes.to_numpy()[rows, every].sum(axis=1)
    cost = own.to_numpy()[rows, every].sum(axis=1)
    for k, budget in enumerate(np.linspace(120, 240, 7).astype(int)):
        assert piece.numbers["own"][k] == pytest.approx(
            cost[space <= budget].min()
        )
    assert (piece.numbers["other"] >= piece.numbers["own"] - 1e-12).all()
    data = steps_data(piece)
    assert data["frames"][0]["label"] == f"{120 / 8 / 1024:.1f} KiB"
    with pytest.raises(InteractiveError, match="equal labels"):
        plans.budget_steps({"own": own}, sizes.loc[["z", "y", "x"]])


def test_set_ups_are_those_of_the_figure():
    rows = pd.DataFrame(
        {
            "task": "cat/dog",
            "set_up": ["full precision", "QAT int8"],
            "seed": 0,
            "measured": [True, False],
            "compressed_bytes": [4096.0, 1024.0],
            "median_ms": [2.0, np.nan],
            "hits": [90, 80],
            "n": 100,
        }
    )
    piece = plans.set_up_points(rows)
    assert piece.points["x"].tolist() == [4, 1]
    assert piece.points["y"].tolist() == [90, 80]
    assert piece.points["group"][1] == "quantization-aware"
    assert piece.points["words"][1].endswith("simulated.")
    points_data(piece)


def test_feedback_is_the_recursion():
    X = np.array([[2.0, 0, 1], [3, 0, 1], [3, 3, 3], [1, 2, 1]])
    w = np.array([0.4, 0.4, 0.1])
    H = X.T @ X
    M = np.tril(H, -1) / np.diag(H)[:, None]
    q = np.array([0.0, 1.0, 0.0])
    found = feedback.feedback_wishes(w, M, q)
    assert np.allclose(found[0], w) and np.allclose(found[3], q)
    # What the second weight is asked to be, from the first one's error.
    asked = w[1] + (X[:, 1] @ X[:, 0]) / (X[:, 1] @ X[:, 1]) * w[0]
    assert found[1, 1] == pytest.approx(asked)
    piece = feedback.feedback_steps(w, {"GPFQ": M}, {"GPFQ": q}, H)
    last = piece.numbers["squared error"].iloc[-1]
    assert last == pytest.approx(np.sum((X @ (w - q)) ** 2))
    assert len(steps_data(piece)["frames"]) == 4
    with pytest.raises(InteractiveError, match="same methods"):
        feedback.feedback_steps(w, {"GPFQ": M}, {}, H)
