"""Class clustering: partitions, scores, cells, limits, controls."""

from __future__ import annotations

from itertools import product

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import mutual_info_score
from test_engine import APART, imported

from lq_utils import class_clustering as cc
from lq_utils import clustering_figures as cf
from lq_utils import clustering_study as cs
from lq_utils import clustering_tables as ct
from lq_utils import coarse_training as training
from lq_utils.images import ImageData, Provenance, Splits
from lq_utils.inference import predict
from lq_utils.models import build_model
from lq_utils.stats import paired


def average_linkage(D: np.ndarray, count: int) -> set[frozenset[int]]:
    """By the definition: merge the two groups with the least mean."""
    groups = [frozenset([i]) for i in range(len(D))]
    while len(groups) > count:
        pairs = [(a, b) for a, b in product(groups, groups) if a != b]
        a, b = min(pairs, key=lambda p: D[np.ix_([*p[0]], [*p[1]])].mean())
        groups = [g for g in groups if g not in (a, b)] + [a | b]
    return set(groups)


def groups_of(clusters: np.ndarray) -> set[frozenset[int]]:
    return {
        frozenset(np.flatnonzero(clusters == k).tolist())
        for k in range(clusters.max() + 1)
    }


@settings(max_examples=30)
@given(st.integers(2, 8), st.integers(0, 2**32))
def test_cut_is_average_linkage(classes: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    D = rng.random((classes, classes))
    D = (D + D.T) / 2
    np.fill_diagonal(D, 0)
    for count in range(1, classes + 1):
        found = cc.cut(D, count)
        assert groups_of(found) == average_linkage(D, count)
        first = [np.flatnonzero(found == k)[0] for k in range(count)]
        assert first == sorted(first)


def test_cut_gives_the_number_asked_for_in_spite_of_ties() -> None:
    D = 1 - np.eye(9)
    for count in range(1, 10):
        assert len(set(cc.cut(D, count))) == count
    assert cc.cut(np.zeros((1, 1)), 1).tolist() == [0]


def test_clusters_of_a_hand_worked_confusion() -> None:
    # Cats and dogs are taken for each other, cars are not.
    labels = np.array([0, 0, 1, 1, 2, 2])
    answers = np.array([0, 1, 1, 0, 2, 2])
    found = cc.by_confusion(np.eye(3)[answers], labels, 2)
    assert found.tolist() == [0, 0, 1]


@pytest.mark.parametrize("count", [0, 4])
def test_impossible_counts_are_refused(count: int) -> None:
    with pytest.raises(cc.ClassClusteringError, match="ask for 1 to 3"):
        cc.cut(1 - np.eye(3), count)


LOGITS = np.log([[0.4, 0.3, 0.3], [0.1, 0.2, 0.7]])
PETS = np.array([0, 1, 1])


def test_answers_by_hand() -> None:
    assert cc.coarse_answers(LOGITS, PETS).tolist() == [0, 1]
    assert cc.coarse_answers(LOGITS, PETS, "sum").tolist() == [1, 1]
    with pytest.raises(cc.ClassClusteringError, match="choose one of"):
        cc.coarse_answers(LOGITS, PETS, "mean")
    with pytest.raises(cc.ClassClusteringError, match="one cluster for each"):
        cc.coarse_answers(LOGITS, PETS[:2])


@given(
    st.integers(2, 7).flatmap(
        lambda c: st.tuples(
            st.just(c),
            st.lists(st.integers(0, c - 1), min_size=2, max_size=40),
            st.integers(0, 2**32),
        )
    )
)
def test_clusters_are_never_harder_than_classes(
    case: tuple[int, list[int], int],
) -> None:
    classes, labels, seed = case
    rng = np.random.default_rng(seed)
    clusters = np.unique(
        rng.integers(0, classes, classes), return_inverse=True
    )[1]
    truth = np.array(labels)
    logits = rng.standard_normal((len(truth), classes))
    fine = logits.argmax(axis=1) == truth
    coarse = cc.coarse_answers(logits, clusters) == clusters[truth]
    assert (coarse >= fine).all()
    best = max(
        float(np.mean(clusters[truth] == k)) for k in range(clusters.max() + 1)
    )
    assert cc.chance_level(clusters, truth) == best
    told = cc.mutual_information(
        clusters[truth], cc.coarse_answers(logits, clusters)
    )
    expected = mutual_info_score(
        clusters[truth], cc.coarse_answers(logits, clusters)
    )
    assert np.isclose(told, expected / np.log(2), atol=1e-9)


def test_above_chance() -> None:
    assert cc.above_chance(0.75, 0.5) == 0.5
    assert cc.above_chance(0.5, 0.5) == 0 and cc.above_chance(1, 0.9) == 1
    with pytest.raises(cc.ClassClusteringError, match="take more clusters"):
        cc.above_chance(1, 1)


def test_shuffled_clusters_keep_their_sizes() -> None:
    clusters = np.array([0, 0, 0, 1, 2, 2])
    several = [cc.shuffled(clusters, seed) for seed in range(20)]
    assert all(np.array_equal(np.bincount(c), [3, 1, 2]) for c in several)
    assert len({tuple(c) for c in several}) > 5


@settings(max_examples=12)
@given(st.integers(0, 30), st.integers(0, 30), st.integers(2, 50))
def test_counts_give_the_paired_interval(
    lost: int, gained: int, same: int
) -> None:
    n = lost + gained + same
    differences = np.zeros(n)
    differences[:lost], differences[lost : lost + gained] = 1, -1
    expected = paired(differences, np.zeros(n))
    found = ct.paired_counts(lost, gained, n)
    wanted = (expected.value, expected.low, expected.high)
    assert np.allclose(found, wanted, atol=1e-9)


def test_impossible_paired_counts_are_refused() -> None:
    with pytest.raises(cc.ClassClusteringError, match="add up"):
        ct.paired_counts(3, 3, 5)


def images(part: str, count: int) -> ImageData:
    """Noise on ten greys, one a class; five superclasses."""
    rng = np.random.default_rng(count)
    labels = np.arange(count) % 10
    greys = 20 * labels[:, None, None, None] + rng.normal(
        0, 20, (count, 32, 32, 3)
    )
    return ImageData(
        greys.clip(0, 255).astype(np.uint8),
        labels,
        tuple(f"grey {k}" for k in range(10)),
        tuple("abcde"),
        np.arange(10) // 2,
        part,
        Provenance("greys", "synthetic", "0" * 16, "own"),
    )


@pytest.fixture(scope="module")
def splits() -> Splits:
    return Splits(
        images("train", 50), images("validation", 60), images("test", 60)
    )


@pytest.fixture(scope="module")
def network() -> torch.nn.Module:
    return build_model("quantnet", 10, seed=1).eval()


GRID = ("asymmetric", "tensor", "max")


@pytest.fixture(scope="module")
def table(splits: Splits, network: torch.nn.Module) -> pd.DataFrame:
    shared = {
        "network": network,
        "original": cs.answers(network, splits),
        "splits": splits,
        "distances": 1 - np.eye(10),
    }
    rows = [
        {"bits": bits} | row
        for bits in (2, 8)
        for row in cs.coarse_rows(
            bits,
            *GRID,
            (3, 5),
            cc.PARTITIONS.names(),
            cc.RULES,
            4,
            0,
            **shared,
        )
    ]
    return ct.drop_table(pd.DataFrame(rows))


def test_rows_of_a_cell(
    table: pd.DataFrame, splits: Splits, network: torch.nn.Module
) -> None:
    few = table[table["bits"] == 2]
    own = few["partition"].value_counts()
    assert own["classes"] == 1 and own["random"] == 16
    groups = len(set(splits.test.superclass_of))
    assert own["superclasses"] == 2 and groups == 5
    assert (few["n"] == 60).all()
    rough = cs.rounded(network, 2, *GRID)
    logits = predict(rough, splits.test).numpy()
    right = logits.argmax(axis=1) == splits.test.labels
    fine = few[few["partition"] == "classes"].iloc[0]
    assert fine["hits"] == right.sum() and np.isclose(fine["chance"], 0.1)
    coarse = few[few["rule"] == "argmax"]
    assert (coarse["hits"] >= fine["hits"]).all()
    wide = table[(table["bits"] == 8) & (table["partition"] == "classes")]
    assert abs(wide["drop"].iloc[0]) < 20


def test_means_over_random_partitions(table: pd.DataFrame) -> None:
    lines = ct.by_partition(table)
    mine = lines[(lines["partition"] == "random") & (lines["bits"] == 2)]
    assert (mine["draws"] == 4).all() and len(mine) == 4
    first = mine.iloc[0]
    same = table[
        (table["partition"] == "random")
        & (table["bits"] == 2)
        & (table["clusters"] == first["clusters"])
        & (table["rule"] == first["rule"])
    ]
    assert np.isclose(first["drop"], same["drop"].mean())
    assert same["drop"].min() <= first["low"] <= first["high"]
    ranks = ct.against_random(table)
    assert len(ranks) == 8 and ranks["p"].between(0.2, 1).all()
    with pytest.raises(cc.ClassClusteringError, match="no random partition"):
        ct.against_random(table[table["partition"] != "random"])


def made(drops: dict[int, float], name: str, clusters: int) -> pd.DataFrame:
    rows = [
        {"bits": b, "partition": name, "clusters": clusters, "draw": 0}
        | {"rule": "argmax", "drop": d, "low": d - 0.2, "high": d + 0.2}
        | {"corrected_drop": 2 * d, "corrected_low": 2 * d - 0.4}
        | {"corrected_high": 2 * d + 0.4}
        for b, d in drops.items()
    ]
    return pd.DataFrame(rows)


def test_limits_of_hand_worked_drops() -> None:
    # 3 bits lose little by luck: 4 bits, which lose more, come first.
    fine = made({8: 0.0, 6: 0.7, 4: 3.0, 3: 0.5}, "classes", 10)
    mine = made({8: 0.0, 6: 0.1, 4: 0.4, 3: 9.0}, "confusion", 5)
    luck = made({8: 0.0, 6: 0.9, 4: 0.95, 3: 2.0}, "random", 5)
    everything = pd.concat([fine, mine, luck])
    limits = ct.bit_limits(everything).set_index("partition")
    assert limits["limit"].to_dict() == {
        "classes": 6,
        "confusion": 4,
        "random": 4,
    }
    assert limits["sure"].to_dict() == {
        "classes": True,
        "confusion": True,
        "random": False,
    }
    over = ct.bit_limits(everything, "corrected_drop").set_index("partition")
    assert over["limit"].tolist() == [8, 4, 8]
    none = made({8: 5.0, 4: 9.0}, "classes", 10)
    assert np.isnan(ct.bit_limits(none)["limit"].iloc[0])
    (line,) = ct.verdicts(everything).to_dict("records")
    assert line["as claimed"] == "holds" == line["above chance"]
    assert line["against random"] == "does not hold"


def test_a_network_for_clusters_starts_at_the_mean(
    network: torch.nn.Module, splits: Splits
) -> None:
    clusters = np.array([0, 0, 1, 1, 1, 2, 2, 2, 2, 2])
    coarse = training.coarse_network(network, clusters)
    fine = predict(network, splits.test)
    expected = torch.stack(
        [fine[:, clusters == k].mean(dim=1) for k in range(3)], dim=1
    )
    assert torch.allclose(predict(coarse, splits.test), expected, atol=1e-5)
    data = training.coarse_data(splits.train, clusters)
    assert np.array_equal(data.labels, clusters[splits.train.labels])
    assert data.class_names[0] == "+".join(splits.train.class_names[:2])
    with pytest.raises(cc.ClassClusteringError, match="one output for each"):
        training.coarse_network(network, clusters[:5])
    with pytest.raises(cc.ClassClusteringError, match="5 clusters given"):
        training.coarse_data(splits.train, clusters[:5])


@pytest.mark.parametrize("target", ["clusters", "classes"])
@pytest.mark.parametrize("partition", ["confusion", "random"])
def test_retrained_networks(
    network: torch.nn.Module, splits: Splits, target: str, partition: str
) -> None:
    rows = cs.retrained_rows(
        partition, 4, 4, target, "last", (3, 8), *GRID, 2, 1e-3, 0,
        network=network,
        original=cs.answers(network, splits),
        splits=splits,
        distances=1 - np.eye(10),
    )  # fmt: skip
    assert [row["bits_tested"] for row in rows] == [3, 8]
    assert all(0 < row["chance"] < 1 and row["n"] == 60 for row in rows)
    assert rows[0]["original_hits"] == rows[1]["original_hits"]


def test_the_code_of_cells_is_complete() -> None:
    names = {module.__name__ for module in cs.CODE}
    needed = set().union(*(imported(str(m.__file__)) for m in cs.CODE))
    plain = {"lq_utils.data", "lq_utils.engine", "lq_utils.gaussian"}
    plain |= {"lq_utils.twosample", "lq_utils.checkpoints"}
    # The network and its images are inputs, with fingerprints of their own.
    plain |= {"lq_utils.models", "lq_utils.splits"}
    assert needed - APART - plain <= names


def test_figures(table: pd.DataFrame, splits: Splits) -> None:
    fig = cf.drops_figure(ct.by_partition(table))
    titles = [ax.get_title() for ax in fig.axes[:2]]
    assert titles == ["3 clusters", "5 clusters"]
    clusters = np.array([1, 0, 0, 1, 0, 0, 0, 0, 0, 0])
    again = cf.confusion_figure(np.eye(10), clusters, splits.test.class_names)
    assert [p.get_width() for p in again.axes[0].patches] == [8, 2]
    names = [t.get_text() for t in again.axes[0].get_xticklabels()]
    assert names[-2] == splits.test.class_names[0]
    with pytest.raises(cc.ClassClusteringError, match="no rows"):
        cf.drops_figure(ct.by_partition(table).query("bits == 5"))
