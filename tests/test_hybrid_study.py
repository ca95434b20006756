"""Cells and tables of chapter 6."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd
import pytest
from test_engine import APART, imported

from lq_utils import compression_networks as cn
from lq_utils import dimension_claims as dc
from lq_utils import dimension_study as ds
from lq_utils import hybrid_pipelines as hp
from lq_utils import hybrid_study as hs
from lq_utils import hybrid_tables as ht
from lq_utils.compression_scores import ScoreError
from lq_utils.images import Splits
from lq_utils.inference import evaluate
from lq_utils.kept_networks import kept_network
from lq_utils.models import build_model
from lq_utils.parametrizations import CompressionError
from lq_utils.tasks import fewer_images, thesis_tasks

PLAN = cn.budget(
    epochs=1,
    transfer_epochs=1,
    fine_epochs=1,
    rate=1e-3,
    fine_rate=1e-4,
    calibration=8,
)
CLOSE, FAR, TURNED = NAMES = ("cat/dog", "horse/frog", "rotated cat/dog")
SETTING = {"options": (), "epochs": 1, "hybrid_rate": 1e-3, "plan": PLAN}


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


def test_labels_are_those_of_the_table() -> None:
    assert hs.label((None, 1, 2, 2)) == "fp,1,2,2"
    named = hs.by_layer((None, 1, 2, 2))
    assert named == {"conv1": None, "conv2": 1, "linear1": 2, "linear2": 2}


def test_a_hybrid_is_trained_stored_and_counted(
    tasks: dict[str, Splits],
) -> None:
    (row,) = hs.hybrid_rows(
        CLOSE, cn.OWN, 0, (None, 1, 2, 2), splits=tasks, **SETTING
    )
    assert row["set_up"] == "fp,1,2,2" and row["n"] == 40
    assert round(row["thesis_factor"], 4) == 15.8707
    assert 0 <= row["outer_share"] < 0.1  # small weights, as at the start
    codes = 18_432 + 2 * (524_288 + 2_048)
    assert codes / 8 < row["bytes"] < codes / 8 + 10_000
    assert row["seconds"] > 0 and 0 <= row["validation"] <= 1


def test_full_precision_is_trained_on_alike(tasks: dict[str, Splits]) -> None:
    (row,) = hs.hybrid_rows(
        CLOSE, cn.OWN, 0, (None,) * 4, splits=tasks, **SETTING
    )
    assert row["set_up"] == ht.FULL and row["thesis_factor"] == 1
    assert row["bytes"] > 4 * 545_889 and row["outer_share"] is None


def test_starts_are_the_networks_themselves(tasks: dict[str, Splits]) -> None:
    (row,) = hs.start_rows(FAR, CLOSE, 0, PLAN, tasks)
    network = kept_network(FAR, CLOSE, 0, PLAN, tasks)
    share = evaluate(network, tasks[FAR].test)
    assert row["hits"] == round(share * row["n"])


def test_parts_and_relatives(tasks: dict[str, Splits]) -> None:
    setting: dict[str, Any] = {
        k: v for k, v in SETTING.items() if k != "options"
    }
    (row,) = hs.part_rows(
        CLOSE, cn.OWN, 0, "conv2", "linear1", splits=tasks, **setting
    )
    assert row["set_up"] == "part of linear1"
    for kind in hs.KINDS:
        (row,) = hs.kind_rows(CLOSE, cn.OWN, 0, kind, splits=tasks, **setting)
        assert row["set_up"] == kind
    with pytest.raises(CompressionError, match="choose one of"):
        hs.kind_rows(CLOSE, cn.OWN, 0, "quaternary", splits=tasks, **setting)


def test_pipelines_give_int8_files(tasks: dict[str, Splits]) -> None:
    rows = hp.pipeline_rows(CLOSE, cn.OWN, 0, ("linear1",), 16, 4, PLAN, tasks)
    table = pd.DataFrame(rows).set_index("set_up")
    assert list(table.index) == [
        "base",
        "PTQ on QAT",
        "clustered, PTQ on QAT",
        "cluster-preserving QAT",
        "TwoNN, cluster-preserving QAT",
        "TwoNN, all clustered",
    ]
    assert (table["bytes"].iloc[1:] < table["bytes"]["base"] / 3.5).all()
    packed = table["compressed_bytes"]
    literal, ours = packed.iloc[4], packed.iloc[5]
    # Without clusters the largest layer cannot be packed as well.
    assert literal > 1.2 * packed["cluster-preserving QAT"] > ours
    assert table["seconds"]["base"] == 0
    assert (table["seconds"].iloc[1:] > 0).all()


def dimensions(values: dict[str, float]) -> pd.DataFrame:
    rows = [
        {"task": CLOSE, "start": cn.OWN, "seed": 0, "layer": k, "value": v}
        for k, v in values.items()
    ]
    return pd.DataFrame(rows)


def test_choices_with_the_numbers_of_the_thesis() -> None:
    printed = dc.thesis_columns("source")
    found = ht.selections(
        {
            "regression": dimensions(printed["thesis, TwoNN"]),
            "PCA 99 %": dimensions(printed["thesis, PCA"]),
        },
        20,
    ).set_index("choice")["bits"]
    assert found["TwoNN hybrid"] == (None, 1, 2, 2)
    assert found["PCA hybrid"] == (None, 2, 1, 1)
    assert found["TwoNN, signed"] == (None, 1, 1, 1)
    assert found["PCA, absolute"] == (None, 2, 1, 2)


def test_networks_that_chose_alike_are_counted() -> None:
    two, one = (None, 1, 2, 2), (None, 1, 1, 1)
    picked = [(("linear1", "linear2"), two), ((), one), ((), one)]
    chosen = pd.DataFrame(
        {"task": CLOSE, "seed": seed, "choice": "TwoNN hybrid"}
        | {"significant": names, "bits": bits}
        for seed, (names, bits) in enumerate(picked)
    )
    counts = ht.choice_counts(chosen).set_index("significant")
    assert counts["networks"].to_dict() == {"linear1, linear2": 1, "none": 2}
    assert counts.loc["none", "bits"] == "fp,1,1,1"


def test_memory_of_the_table_and_its_wrong_digit() -> None:
    table = ht.memory_table(build_model("quantnet", 1, 0)).set_index("plan")
    exact = [1, 30.4227, 1.0016, 1.0339, 14.4182, 15.8707]
    assert table["thesis_count"].round(4).tolist() == exact
    wrong = (table["printed"] - table["thesis_count"]).abs() > 0.02
    assert not wrong.any()  # 14.4 for 14.42 is rounded
    assert table.loc["1,fp,fp,fp", "printed"] == 1.01


def scores(hits: dict[str, list[int]]) -> pd.DataFrame:
    rows = [
        {"task": CLOSE, "start": cn.OWN, "seed": seed, "set_up": name}
        | {"hits": h, "n": 100, "validation": h / 100}
        | {"thesis_factor": 2.0, "bytes": 2**20, "measured": True}
        for name, values in hits.items()
        for seed, h in enumerate(values)
    ]
    return pd.DataFrame(rows)


def test_chosen_plans_get_the_rows_of_their_network() -> None:
    rows = scores({"fp,1,2,2": [70, 60], "fp,1,1,1": [50, 40]})
    chosen = pd.DataFrame(
        [
            {"task": CLOSE, "start": cn.OWN, "seed": s, "choice": "TwoNN"}
            | {"significant": (), "bits": bits}
            for s, bits in enumerate([(None, 1, 2, 2), (None, 1, 1, 1)])
        ]
    )
    found = ht.chosen_scores(rows, chosen)
    assert found["hits"].tolist() == [70, 40]
    assert set(found["set_up"]) == {"TwoNN"}
    assert ht.chosen_cells(chosen)[1]["bits"] == (None, 1, 1, 1)
    chosen.loc[0, "seed"] = 7
    with pytest.raises(ScoreError, match="seed 7"):
        ht.chosen_scores(rows, chosen)


def test_orders_of_the_same_bits() -> None:
    line = {"task": CLOSE, "start": cn.OWN, "choice": "TwoNN hybrid"}
    chosen = pd.DataFrame(
        [
            line | {"seed": 0, "significant": (), "bits": (None, 1, 2, 2)},
            line | {"seed": 1, "significant": (), "bits": (None, 1, 1, 1)},
        ]
    )
    orders = ht.other_orders(chosen)
    assert orders["bits"].tolist() == [(None, 2, 1, 2), (None, 2, 2, 1)]
    rows = scores({"fp,2,1,2": [70], "fp,2,2,1": [60]})
    means = ht.dealt_scores(rows, orders)
    assert means["hits"].tolist() == [65]
    assert ht.other_orders(chosen[1:]).empty


def test_tables_pair_networks_by_seed() -> None:
    rows = scores({ht.FULL: [80, 82, 84], "fp,1,1,1": [75, 77, 79]})
    table = ht.plan_table(rows, [ht.FULL, "fp,1,1,1"]).set_index("set_up")
    line = table.loc["fp,1,1,1"]
    assert line["difference"] == pytest.approx(-5)
    assert line["difference_low"] == pytest.approx(-5)  # all alike
    assert math.isnan(table.loc[ht.FULL, "difference"])
    assert line["thesis"] == 64.20 and line["mib"] == 1
    control = ht.control_table(rows, ["fp,1,1,1", ht.FULL], "fp,1,1,1")
    assert control["difference"].iloc[1] == pytest.approx(5)
    assert control["validation"].tolist() == pytest.approx([77, 82])


def test_claims_need_several_networks() -> None:
    rows = scores({"a": [80] * 8, "b": [70 + i for i in range(8)]})
    verdict = ht.versus(rows, CLOSE, [("a", "b"), ("b", "a")])
    assert verdict["verdict"].tolist() == ["real", "reversed"]
    one = ht.versus(rows[rows["seed"] == 0], CLOSE, [("a", "b")])
    assert one["verdict"].tolist() == ["not shown"]


def test_every_network_meets_every_plan_once() -> None:
    networks = [{"task": CLOSE, "seed": 0}, {"task": FAR, "seed": 0}]
    cells = ht.unique_cells(networks, [(None, 1), (None, 1), (None, 2)])
    assert len(cells) == 4 and cells[1]["bits"] == (None, 2)


def test_nothing_is_missing_from_the_code() -> None:
    names = {module.__name__ for module in hs.CODE}
    needed = set().union(*(imported(m.__file__) for m in hs.CODE))
    apart = {"cache", "data", "engine", "fingerprints"}
    # Of these only tables and names of solvers.
    apart |= {"lockstep", "solvers", "walk"}
    assert needed - APART - {f"lq_utils.{n}" for n in apart} <= names
    assert {f"lq_utils.{n}" for n in ("hybrid", "low_bit_storage")} <= names
    assert ds.CODE != hs.CODE
