"""The sources' numbers: complete, as printed, and looked up safely."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lq_utils.authors_files import (
    COLUMNS,
    LOGS,
    AuthorsFilesError,
    derive_label_aware,
    read_matrix,
)
from lq_utils.paths import PUBLISHED
from lq_utils.published import (
    PublishedError,
    documents,
    published,
    published_value,
)

TABLE_ROWS = {
    ("label_aware_report", "figure 1"): 5,
    ("bit_efficient_poster", "table 1"): 30,
    ("bit_efficient_poster", "table 2"): 18,
    ("bit_efficient_poster", "table 3"): 21,
    ("quantnet_thesis", "table 4.1"): 35,
    ("quantnet_thesis", "table 4.2"): 21,
    ("quantnet_thesis", "table 4.3"): 28,
    ("quantnet_thesis", "table 4.4"): 16,
    ("quantnet_thesis", "table 4.5"): 28,
    ("quantnet_thesis", "table 4.6"): 30,
    ("quantnet_thesis", "table 4.7"): 18,
    ("quantnet_thesis", "table 4.8"): 12,
}
SPOT_VALUES = [
    (("label_aware_report", "figure 1", "symmetric KL divergence"),
     {"pair": "otter/seal", "row": 3}, 0.074),
    (("bit_efficient_poster", "table 1", "accuracy loss"),
     {"model": "MobileNet-SSD, COCO", "precision": "full backbone 8-bit"},
     1.65),
    (("bit_efficient_poster", "table 2", "bit saving"),
     {"model": "ResNet-18, CIFAR-10", "precision": "quantized"}, 90.15),
    (("bit_efficient_poster", "table 3", "model size"),
     {"model": "ResNetV2-50", "quantizer": "power-of-two", "coder": "7-zip",
      "precision": "6-bit"}, 11.18),
    (("quantnet_thesis", "table 4.2", "test accuracy"),
     {"set_up": "QAT", "task": "horse/frog"}, 93.95),
    (("quantnet_thesis", "table 4.3", "test accuracy"),
     {"set_up": "PTQ on QAT", "task": "rotated cat/dog"}, 59.05),
    (("quantnet_thesis", "table 4.4", "model size"),
     {"set_up": "clustered, PTQ float16"}, 0.2153),
    (("quantnet_thesis", "table 4.5", "unique weights"),
     {"set_up": "base", "layer": "linear1"}, 534416),
    (("quantnet_thesis", "table 4.6", "intrinsic dimension"),
     {"domain": "target", "layer": "conv2", "method": "TwoNN"}, 52.10),
    (("quantnet_thesis", "table 4.7", "memory reduction"),
     {"bits": "fp,1,2,2"}, 15.87),
    (("quantnet_thesis", "table 4.8", "test accuracy"),
     {"set_up": "TwoNN, cluster-preserving QAT", "task": "cat/dog"}, 65.95),
    (("label_aware_derived", "ResNet-50 log", "subsets"),
     {"bits": "4 bit"}, 35),
]  # fmt: skip


@pytest.mark.parametrize(("place", "count"), TABLE_ROWS.items())
def test_every_printed_number_of_a_table_is_there(place, count):
    assert len(published(*place)) == count


@pytest.mark.parametrize(("place", "keys", "value"), SPOT_VALUES)
def test_spot_values(place, keys, value):
    assert published_value(*place, **keys) == value


@pytest.mark.parametrize("document", documents())
def test_files_are_tidy(document):
    path = PUBLISHED / f"{document}.csv"
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    assert list(table.columns) == COLUMNS
    assert set(table["document"]) == {document}
    for keys in table["keys"]:
        assert json.dumps(json.loads(keys), sort_keys=True) == keys
    assert not table.duplicated(["where", "quantity", "keys"]).any()
    assert np.isfinite(table["value"].astype(float)).all()


def test_rows_keep_the_printed_digits():
    rows = published("quantnet_thesis", "table 4.8", set_up="base")
    assert list(rows["printed"]) == ["66.00", "2.0852"]
    assert rows["keys"].iloc[0]["task"] == "cat/dog"


@pytest.mark.parametrize(
    ("given", "keys", "message"),
    [
        (("quantnet_theses",), {}, "quantnet_thesis"),
        (("quantnet_thesis", "table 9.9"), {}, "table 4.8"),
        (("quantnet_thesis", "table 4.8"), {"set_up": "none"}, "base"),
    ],
)
def test_an_unknown_place_names_the_known_ones(given, keys, message):
    with pytest.raises(PublishedError, match=message):
        published(*given, **keys)


def test_an_unknown_quantity_names_the_known_ones():
    with pytest.raises(PublishedError, match="test accuracy"):
        published("quantnet_thesis", "table 4.8", quantity="accuracy")


def test_one_value_needs_every_key():
    with pytest.raises(PublishedError, match="give every key"):
        published_value(
            "quantnet_thesis", "table 4.8", "test accuracy", set_up="base"
        )


def _write_authors_files(folder: Path) -> None:
    names = ["apple", "bear", "crab"]
    matrix = np.array([[0, 2.0, 0.5], [2.0, 0, 4.0], [0.5, 4.0, 0]])
    frame = pd.DataFrame(matrix, index=names, columns=names)
    frame.to_csv(folder / "label_aware_kl_matrix.csv")
    log = {"Median_KL": [1.0, 10.0, 100.0], "Quantized Sparsity": [0.4] * 3}
    for number, stage in enumerate(
        ("Original", "Quantized", "Fine-Tuned", "Quant+FT")
    ):
        for protocol in ("", " (Pick Sub)"):
            column = f"{stage} Top1 Accuracy{protocol}"
            log[column] = [0.9, 0.8 + 0.04 * number, 0.7 + 0.1 * number]
    for name in LOGS.values():
        path = folder / f"label_aware_resnet50_{name}.csv"
        pd.DataFrame(log).to_csv(path, index=False)


def _derived_value(table: pd.DataFrame, quantity: str, **keys) -> float:
    text = json.dumps(keys, sort_keys=True)
    rows = table[(table["quantity"] == quantity) & (table["keys"] == text)]
    assert len(rows) == 1
    return float(rows["value"].iloc[0])


def test_summaries_of_a_small_example_by_hand(tmp_path):
    _write_authors_files(tmp_path)
    table = derive_label_aware(tmp_path)
    kl = "symmetric KL divergence"
    assert _derived_value(table, kl, statistic="median") == 2
    assert _derived_value(table, kl, statistic="mean") == pytest.approx(
        6.5 / 3, rel=1e-5
    )
    assert _derived_value(table, "rank", pair="apple/crab") == 1
    assert _derived_value(table, "rank", pair="bear/crab") == 3
    far = _derived_value(table, "rank from the far end", pair="bear/crab")
    assert far == 1
    keys = {"bits": "4 bit", "protocol": "Sub", "stage": "quantized"}
    above = _derived_value(table, "subsets above the original", **keys)
    below = _derived_value(table, "subsets below the original", **keys)
    assert (above, below) == (2, 0)
    mean = _derived_value(table, "accuracy", statistic="mean", **keys)
    assert mean == pytest.approx(100 * (0.9 + 0.84 + 0.8) / 3, rel=1e-5)
    loss = _derived_value(
        table,
        "mean accuracy loss, Sub",
        bits="4 bit",
        **{"third of median KL": "highest"},
    )
    assert loss == pytest.approx(-10)


def test_missing_authors_files_are_named(tmp_path):
    with pytest.raises(AuthorsFilesError, match="label_aware_kl_matrix.csv"):
        read_matrix(tmp_path)
    _write_authors_files(tmp_path)
    (tmp_path / "label_aware_resnet50_4bit.csv").unlink()
    with pytest.raises(AuthorsFilesError, match="4bit.csv is not there"):
        derive_label_aware(tmp_path)


def test_derived_file_is_what_the_authors_files_give():
    folder = os.environ.get("LQ_PUBLISHED_DIR")
    if not folder:
        pytest.skip(
            "LQ_PUBLISHED_DIR IS NOT SET: the summaries in data/published/ "
            "were not recomputed from the authors' files"
        )
    again = derive_label_aware(folder)
    path = PUBLISHED / "label_aware_derived.csv"
    kept = pd.read_csv(path, dtype=str, keep_default_na=False)
    pd.testing.assert_frame_equal(again.astype(str), kept.astype(str))
