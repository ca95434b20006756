"""Rows that claims are decided by: paired changes, orderings, shares."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from lq_utils.claim_rows import (
    record_agreement,
    record_changes,
    record_orderings,
)
from lq_utils.compression_scores import ScoreError
from lq_utils.data import Provenance
from lq_utils.data_free_claims import record_gaps
from lq_utils.data_free_tables import record_cosines
from lq_utils.results import Run
from lq_utils.stats import mean_interval, wilson
from lq_utils.subset_tables import record_accuracy_links


@pytest.fixture
def run() -> Run:
    provenance = Provenance("made", "synthetic", "0", "book")
    return Run("04_x", {"profile": "smoke", "seed": 0}, provenance)


def keys_of(run: Run) -> list[dict[str, object]]:
    return [json.loads(text) for text in run.rows["keys"]]


def networks(hits: list[int], **columns: object) -> pd.DataFrame:
    """A network a seed, of 200 test images."""
    frame = pd.DataFrame({"seed": range(len(hits)), "hits": hits, "n": 200})
    return frame.assign(**columns)


def test_changes_are_paired_over_seeds(run: Run) -> None:
    base = networks([180, 160, 170])
    worse = networks([170, 152, 164], layer="conv1", bits=np.int64(2))
    same = networks([180, 160, 170], layer="all", bits=np.int64(8))
    # Rows in another order, and of fewer seeds, find their base by seed.
    both = pd.concat([worse.iloc[::-1], same.iloc[1:]])
    record_changes(run, "change", both, ["layer", "bits"], base)
    first, second = run.rows.to_dict("records")
    by_hand = mean_interval([-5.0, -4.0, -3.0])
    assert first["value"] == pytest.approx(by_hand.value)
    assert (first["ci_low"], first["ci_high"]) == pytest.approx(by_hand.ci)
    assert (first["n"], second["n"]) == (3, 2)
    assert second["value"] == 0
    assert keys_of(run)[0] == {"layer": "conv1", "bits": 2}
    with pytest.raises(ScoreError, match="no column kind"):
        record_changes(run, "other", both, ["kind"], base)


def test_one_network_has_no_interval(run: Run) -> None:
    base, other = networks([180]), networks([170], kind="units")
    record_changes(run, "change", other, ["kind"], base)
    (row,) = run.rows.to_dict("records")
    assert row["value"] == -5 and row["n"] == 1
    assert np.isnan(row["ci_low"])


def test_orderings_are_recorded_with_their_networks(run: Run) -> None:
    line = {"task": "cat/dog", "above": "QAT", "below": "PTQ int8"}
    line |= {"difference": 1.5, "difference_low": 0.5, "difference_high": 2.5}
    frame = pd.DataFrame([line | {"pairs": 20, "images": 2000}])
    record_orderings(run, frame, "4.2")
    (row,) = run.rows.to_dict("records")
    assert (row["value"], row["ci_low"], row["ci_high"]) == (1.5, 0.5, 2.5)
    assert row["n"] == 20
    assert keys_of(run)[0]["table"] == "4.2"
    with pytest.raises(ScoreError, match="no column pairs"):
        record_orderings(run, frame.drop(columns="pairs"), "4.4")


def test_agreement_is_a_share_of_networks(run: Run) -> None:
    frame = pd.DataFrame(
        [{"statement": "it rises", "agree": 0.85, "networks": 20}]
    )
    record_agreement(run, frame)
    (row,) = run.rows.to_dict("records")
    assert row["value"] == 0.85
    ends = row["ci_low"], row["ci_high"]
    assert ends == pytest.approx(wilson(17, 20).ci)
    with pytest.raises(ScoreError, match="no column agree"):
        record_agreement(run, frame.drop(columns="agree"))


def test_accuracy_links_follow_the_distance(run: Run) -> None:
    curve = pd.DataFrame({"median": [1.0, 2, 4, 8, 16], "bits": 4})
    curve = curve.assign(
        name="published",
        original_sub=[0.9, 0.91, 0.92, 0.93, 0.94],
        subset_logits=[0.8, 0.7, 0.6, 0.5, 0.4],
    )
    level = curve.assign(bits=3, original_sub=0.9, subset_logits=0.9)
    record_accuracy_links(run, pd.concat([curve, level]))
    values = dict(
        zip((k["stage"] for k in keys_of(run)), run.rows["value"], strict=True)
    )
    # Accuracies that do not vary have no correlation, and no row.
    assert values == pytest.approx({"original": 1, "quantized": -1})


def test_gaps_of_mean_and_range(run: Run) -> None:
    shifts = pd.DataFrame(
        {"power-of-two": [0.3, 0.5, 0.4], "asymmetric": [0.1, 0.2, 0.3]}
    )
    channels = {
        "power-of-two": pd.Series([1.0, 0.9]),
        "asymmetric": pd.Series([1.2, 0.7]),
    }
    record_gaps(run, shifts, channels)
    found = run.rows.set_index("metric")["value"]
    assert found["mean_gap"] == pytest.approx(0.2)
    assert found["range_gap"] == pytest.approx(0.2)
    record_gaps(run, shifts[["asymmetric"]], {})
    assert len(run.rows) == 2


def test_cosines_are_recorded_with_intervals(run: Run) -> None:
    line = {"network": "net", "bits": 3, "subsets": 12}
    line |= {"correlation": 0.5, "low": 0.1, "high": 0.8}
    line |= {"given accuracy": np.nan, "given low": np.nan}
    record_cosines(run, pd.DataFrame([line | {"given high": np.nan}]))
    (row,) = run.rows.to_dict("records")
    assert row["metric"] == "cosine_correlation"
    assert (row["ci_low"], row["ci_high"], row["n"]) == (0.1, 0.8, 12)
