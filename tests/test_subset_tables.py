"""Tables of the label-aware study against cases worked by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from lq_utils.authors_study import authors_means
from lq_utils.stats import Interval
from lq_utils.subset_tables import (
    own_gains,
    relation_table,
    sign_verdict,
    stage_summary,
)

SCORES = {  # calibration: accuracy under All on three subsets
    "own": [0.5, 0.6, 0.7],
    "all": [0.4, 0.4, 0.4],
    "noise": [0.6, 0.6, 0.6],
}


def study_rows() -> pd.DataFrame:
    lines = [
        (4, subset, kind, score, 0.9)
        for kind, scores in SCORES.items()
        for subset, score in zip("abc", scores)
    ]
    names = ["bits", "subset", "calibration", "all_logits", "subset_logits"]
    return pd.DataFrame(lines, columns=names)


def test_gains_are_paired_by_subset():
    rows = pd.concat([study_rows(), study_rows()])  # a second, equal draw
    found = own_gains(rows, [4]).set_index(["protocol", "other"])
    assert found.loc[("All", "all"), "gain"].value == pytest.approx(20)
    assert found.loc[("All", "noise"), "gain"].value == pytest.approx(0)
    assert found.loc[("Sub", "all"), "gain"].value == 0
    # Three signs alike: 2 of 8 patterns; Holm multiplies by four tests.
    assert found.loc[("All", "all"), "gain"].p_permutation == 0.25
    assert found.loc[("All", "all"), "p"] == 1
    assert {gain.n for gain in found["gain"]} == {3}


def test_no_other_calibration_no_gain():
    rows = study_rows()
    own = rows[rows["calibration"] == "own"]
    assert own_gains(own, [4]).empty


def score_row(subset: str, score: float, **fields: float) -> dict[str, object]:
    both = {"all_logits": score, "subset_logits": score}
    return {"subset": subset, "n": 10} | both | fields


def test_stages_stand_beside_the_authors():
    subsets = [(1, 0), (2, 3)]
    originals = pd.DataFrame(
        [score_row("0 1", 0.8), score_row("2 3", 0.6), score_row("4 5", 0.0)]
    ).assign(stage="original")
    quantized = pd.DataFrame([score_row("0 1", 0.4, bits=4)])
    tuned = pd.DataFrame(
        [score_row("0 1", 0.9), score_row("0 1", 0.7, quantized_bits=4)]
    ).assign(stage=["fine-tuned", "fine-tuned and quantized"])
    found = stage_summary(
        originals, quantized.assign(stage="quantized"), tuned, subsets, [4]
    )
    sub = found[found["protocol"] == "Sub"].set_index("stage")
    assert sub["mean"].to_dict() == pytest.approx(
        {
            "original": 70,  # the subset "4 5" is not asked for
            "quantized": 40,
            "fine-tuned": 90,
            "fine-tuned and quantized": 70,
        }
    )
    assert set(found["levels"]) == {17}
    theirs = authors_means(4).set_index(["stage", "protocol"])["authors"]
    assert sub["authors"]["original"] == theirs["original", "Sub"]


def test_relations_name_method_bits_and_axis():
    x = np.exp(np.arange(6.0))
    curve = pd.DataFrame({"median": x, "full": x[::-1], "name": "a"})
    curve["bits"] = 4
    curve["drop_sub"] = 3 * np.arange(6.0) + [0, 0.1, 0, -0.1, 0, 0.1]
    curve["original_sub"] = [0.5, 0.9, 0.6, 0.8, 0.7, 0.4]
    found = relation_table(pd.concat([curve, curve.assign(bits=2)]))
    assert found["bits"].tolist() == [4, 4, 2, 2]
    assert found["axis"].tolist() == ["median", "full"] * 2
    slopes = [slope.value for slope in found["slope"]]
    assert slopes == pytest.approx([3, -3, 3, -3], abs=0.05)


@pytest.mark.parametrize(
    ("low", "high", "sign", "words"),
    [
        (0.1, 0.5, 1, "holds"),
        (-0.5, -0.1, 1, "does not hold"),
        (-0.5, -0.1, -1, "holds"),
        (-0.1, 0.5, -1, "not shown by these subsets"),
        (np.nan, np.nan, 1, "cannot be told from so few subsets"),
    ],
)
def test_verdicts_read_the_interval(low, high, sign, words):
    interval = Interval(0.2, low, high, 5, 0.95)
    assert sign_verdict(interval, sign) == words
