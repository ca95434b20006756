"""Cells and tables of chapter 5."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import skdim
import torch
from test_engine import APART, imported

from lq_utils import compression_networks as cn
from lq_utils import dimension_claims as dc
from lq_utils import dimension_study as ds
from lq_utils import dimension_tables as dt
from lq_utils.data import load_dataset
from lq_utils.images import Splits
from lq_utils.kept_networks import kept_network
from lq_utils.layer_outputs import INPUT, LayerOutputError, layer_outputs
from lq_utils.manifolds import uniform_cube
from lq_utils.models import build_model
from lq_utils.nearest import DimensionError
from lq_utils.tasks import fewer_images, thesis_tasks

PLAN = ds.training_plan(epochs=1, transfer_epochs=1, rate=1e-3)
NAMES = ("cat/dog", "horse/frog", "rotated cat/dog")


@pytest.fixture(autouse=True, scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> object:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LQ_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("LQ_DATA_DIR", str(tmp_path_factory.mktemp("none")))
        yield


@pytest.fixture(scope="module")
def tasks(cache: None) -> dict[str, Splits]:
    found = thesis_tasks(dataset="synthetic10", verbose=False)
    few = [fewer_images(s, 64, 20, seed=0) for s in found.values()]
    return dict(zip(NAMES, few))


@pytest.fixture(scope="module")
def rows(tasks: dict[str, Splits]) -> pd.DataFrame:
    found = [
        {"task": task, "start": start, "seed": 0, "trained": True} | row
        for task, start in ((NAMES[0], cn.OWN), (NAMES[1], NAMES[0]))
        for row in ds.profile_rows(task, start, 0, True, 20, 1, PLAN, tasks)
    ]
    return pd.DataFrame(found)


def test_outputs_are_those_of_the_forward_pass(
    tasks: dict[str, Splits],
) -> None:
    data = tasks[NAMES[0]].test
    model = build_model("quantnet", 1, 0).train()
    found = layer_outputs(model, data, ["conv1", "linear2", "output"])
    assert model.training and next(iter(found)) == INPUT
    assert found["conv1"].shape == (len(data), 32, 32, 32)
    with torch.inference_mode():
        x = torch.from_numpy(found[INPUT])
        expected = model.conv1(x).clamp(min=0)
    assert np.allclose(found["conv1"], expected.numpy(), atol=1e-5)
    linear = layer_outputs(model, data, ["conv1"], rectified=False)
    assert (linear["conv1"] < 0).any()
    assert np.array_equal(linear["conv1"].clip(min=0), found["conv1"])


@pytest.mark.parametrize(
    ("layers", "hint"),
    [
        (["convl"], "did you mean"),
        ([], "each of them once"),
        (["conv1", "conv1"], "each of them once"),
        (["relu"], "not called once"),
    ],
)
def test_bad_layers_are_refused(
    tasks: dict[str, Splits], layers: list[str], hint: str
) -> None:
    model = build_model("quantnet", 1, 0)
    with pytest.raises(LayerOutputError, match=hint):
        layer_outputs(model, tasks[NAMES[0]].test, layers)


def test_a_transferred_network_is_that_of_chapter_4(
    tasks: dict[str, Splits],
) -> None:
    task, start = NAMES[1], NAMES[0]
    expected = cn.start_network(task, start, 0, PLAN, tasks).state_dict()
    for _ in range(2):  # computed, then read
        found = kept_network(task, start, 0, PLAN, tasks)
        assert not found.training
        for name, value in found.state_dict().items():
            assert torch.equal(value, expected[name])


def test_profiles_have_every_layer_and_method(rows: pd.DataFrame) -> None:
    one = rows[(rows["task"] == NAMES[0]) & (rows["parts"] == 1)]
    counts = one.groupby(["output", "layer"]).size().unique()
    assert counts.tolist() == [len(ds.METHODS) + 2 * len(ds.SHARES)]
    halves = rows[(rows["parts"] == 2) & (rows["task"] == NAMES[0])]
    assert set(halves["output"]) == {ds.RECTIFIED}
    assert set(halves["part"]) == {0, 1}
    whole = dt.chosen_rows(rows, "regression")
    assert (whole["points"] + whole["removed"] == 40).all()


def test_values_are_those_of_scikit_dimension(
    tasks: dict[str, Splits], rows: pd.DataFrame
) -> None:
    images = tasks[NAMES[0]].train.per_class(20, 0)
    network = kept_network(NAMES[0], cn.OWN, 0, PLAN, tasks)
    output = layer_outputs(network, images, ["linear1"])["linear1"]
    output = np.unique(output, axis=0).astype(np.float64)
    expected = skdim.id.TwoNN().fit(output).dimension_
    own = dt.chosen_rows(rows[rows["task"] == NAMES[0]], "regression")
    value = own.set_index("layer")["value"]["linear1"]
    assert value == pytest.approx(expected, rel=1e-3)


def test_a_dead_layer_has_no_dimension() -> None:
    for row in ds.neighbor_rows(np.zeros((10, 4))):
        assert (row["value"], row["points"], row["removed"]) == (0, 1, 9)


def test_readings_of_maps_and_of_vectors(tasks: dict[str, Splits]) -> None:
    maps = np.arange(2 * 3 * 2 * 2, dtype=np.float32).reshape(2, 3, 2, 2)
    picked = ds.one_position(maps, np.random.default_rng(0))
    assert picked.shape == (2, 3)
    assert (np.diff(picked, axis=1) == 4).all()  # one position, all channels
    maps[:, 1] *= 5
    assert np.array_equal(ds.one_channel(maps), maps[:, 1])
    vectors = maps.reshape(2, -1)
    assert ds.one_channel(vectors) is vectors
    found = pd.DataFrame(ds.candidate_rows(NAMES[0], 0, 20, PLAN, tasks))
    table = dc.reading_table(found)
    assert table["reading"].iloc[-1] == "the thesis's TwoNN*"
    plain = found[found["reading"] == "as TwoNN"].set_index("layer")["value"]
    assert (
        table.set_index("reading").loc["as TwoNN", "conv2"] == plain["conv2"]
    )


def test_the_thesis_stands_beside_ours(rows: pd.DataFrame) -> None:
    domains = {"source": NAMES[0], "target": NAMES[1]}
    table = dc.thesis_dimensions(rows, domains).set_index(["domain", "layer"])
    assert table.loc[("source", "conv2"), "thesis, TwoNN"] == 49.48
    assert table.loc[("target", "linear1"), "thesis, PCA"] == 31
    with pytest.raises(DimensionError, match="source"):
        dc.thesis_dimensions(rows, {"elsewhere": NAMES[0]})
    with pytest.raises(DimensionError, match="methods"):
        dt.chosen_rows(rows, "regresion")


def test_both_rules_with_the_numbers_of_the_thesis() -> None:
    printed = dc.thesis_columns("target")
    table = dc.significance_table(printed, 20).set_index("method")
    both = table[["absolute > 20", "signed > 20"]]
    assert both.loc["thesis, TwoNN"].tolist() == ["linear1, linear2", "none"]
    assert both.loc["thesis, TwoNN*"].tolist() == ["none", "none"]
    assert both.loc["thesis, PCA"].tolist() == ["conv2, linear2", "conv2"]


def test_known_shapes_and_their_low_bias() -> None:
    shapes = {d: uniform_cube(d, 400, 30, 0) for d in (2, 20)}
    table = dt.known_table(shapes).set_index("true")
    assert table["PCA 99 %"].tolist() == [2, 20]
    assert abs(table.loc[2, "regression"] - 2) < 4 * table.loc[2, "error"]
    assert table.loc[20, "regression"] < 18
    curves = dt.scaling_table(shapes, 2, 0)
    assert len(curves) == 2 * 3 and set(curves["truth"]) == {2, 20}


def test_errors_and_resamples(rows: pd.DataFrame) -> None:
    own = rows[rows["task"] == NAMES[0]]
    errors = dt.part_errors(own, "regression").set_index("layer")
    halves = dt.chosen_rows(own, "regression", parts=2)
    conv2 = halves[halves["layer"] == "conv2"]["value"]
    expected = abs(conv2.iloc[0] - conv2.iloc[1]) / 2  # sd / sqrt(2)
    assert errors.loc["conv2", "error"] == pytest.approx(expected)
    wide = dt.resamples(own, "regression", parts=2)
    assert list(wide.columns) == list(dt.ORDER) and len(wide) == 2


def test_blocks_of_a_reference_network() -> None:
    splits = load_dataset("synthetic100", verbose=False)
    name = splits.provenance.dataset
    found = pd.DataFrame(
        ds.reference_rows(True, 1, 0, "resnet20", name, splits)
    )
    assert found["block"].max() == 9  # three stages of three blocks
    assert (found.groupby("block").size() == 5 * (1 + ds.PARTS)).all()
    rows = pd.concat([found.assign(trained=t) for t in (True, False)])
    table = dt.reference_profiles(rows, ["regression"])
    own = found[(found["block"] == 3) & (found["method"] == "regression")]
    parts = own[own["parts"] == ds.PARTS]["value"]
    line = table[(table["layer"] == 3) & (table["network"] == "trained")]
    assert line["error"].item() == pytest.approx(parts.std(ddof=1) / 2)


def test_nothing_is_missing_from_the_code() -> None:
    names = {module.__name__ for module in ds.CODE}
    needed = set().union(*(imported(m.__file__) for m in ds.CODE))
    apart = {"cache", "data", "engine", "fingerprints"}
    assert needed - APART - {f"lq_utils.{n}" for n in apart} <= names


def test_what_was_learned_is_a_difference_by_network() -> None:
    lines = [
        {"task": NAMES[0], "layer": layer, "seed": seed, "trained": trained}
        | {"value": value + seed}
        for layer in dt.ORDER
        for seed in (0, 1)
        for trained, value in ((True, 9.0), (False, 7.0))
    ]
    table = dt.learned_table(pd.DataFrame(lines))
    assert table["layer"].tolist() == list(dt.ORDER)
    assert (table["difference"] == 2).all() and (
        table["difference_low"] == 2
    ).all()


def test_a_flat_twin_has_the_components_of_its_points() -> None:
    rng = np.random.default_rng(0)
    points = rng.normal(size=(300, 3)) @ np.diag([3.0, 2.0, 1.0])
    table = dt.flat_twin_table(points, 0).set_index("points")
    assert (table[["PCA 95%", "PCA 99%"]].nunique() == 1).all()
    assert table["TwoNN"].between(2, 4).all()


def test_verdicts_need_networks() -> None:
    def network(task: str, seed: int, values: list[float]) -> pd.DataFrame:
        rows = pd.DataFrame({"layer": dt.ORDER, "value": values})
        rows = rows.assign(task=task, seed=seed, parts=1, part=0)
        rows["output"] = ds.RECTIFIED
        first = rows.assign(method="regression", view=ds.FLATTENED)
        second = rows.assign(method="PCA 99 %", view=ds.CHANNELS)
        return pd.concat([first, second])

    printed = list(dc.thesis_columns("target")["thesis, TwoNN"].values())
    domains = {"source": NAMES[0], "target": NAMES[1]}
    rows = pd.concat(
        network(task, seed, printed)
        for task in domains.values()
        for seed in range(5)
    )
    table = dc.thesis_verdicts(rows, domains).set_index("statement")
    # As printed, conv1 changes it least, but conv1 is no candidate.
    assert (table["verdict"] == "holds").all()
    few = dc.thesis_verdicts(rows[rows["seed"] < 2], domains)
    assert set(few["verdict"]) == {"not decided"}
    flat = rows.assign(value=[5.0, 4.0, 3.0, 2.0, 1.0] * 20)
    falls = dc.thesis_verdicts(flat, domains).set_index("statement")
    assert falls.iloc[0]["verdict"] == "does not hold"
