"""Rows of the networks that were measured as .tflite files in LiteRT.

``make litert`` writes them to ``data/results/litert``, in an environment
of its own; the book only reads them.
"""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd

from lq_utils.paths import REFERENCE
from lq_utils.records import ResultError, load_run
from lq_utils.rows import load_rows

NAME = "litert"
METRICS = (
    "bytes",
    "compressed_bytes",
    "batch1_ms",
    "batch1_low_ms",
    "batch1_high_ms",
    "batch64_ms",
    "batch64_low_ms",
    "batch64_high_ms",
    "agreement",
    "logit_gap",
)
KEYS = ("task", "set_up", "format", "arithmetic", "measured")
COLUMNS = (
    "set_up",
    "task",
    "seed",
    "accuracy",
    "ci_low",
    "ci_high",
    "hits",
    "n",
    *METRICS,
    "format",
    "arithmetic",
    "measured",
    "left_out",
)


def litert_rows(folder: Path | None = None) -> pd.DataFrame:
    """The committed measurements in LiteRT, a row a .tflite file.

    Columns: ``set_up`` and ``task``, named as in the thesis; ``seed``;
    ``accuracy`` on all ``n`` test images (0 to 1) with its Wilson
    interval ``ci_low``, ``ci_high`` and its ``hits``; ``bytes`` of the
    file and ``compressed_bytes`` (gzip, level 9); milliseconds of
    processor time of one thread for a batch of 1 and of 64, ``batch1_ms``
    and ``batch64_ms`` (median; quartiles ``_low_ms``, ``_high_ms``);
    ``agreement``, the share of test images decided as by the float32
    network in torch, and ``logit_gap``, the largest difference of a logit from it; ``format``;
    ``arithmetic``, the types that layers multiply (activations x
    weights); ``measured``, whether they are what the file stores (not
    so where float16 is made float32 first); ``left_out``, why a format
    has no numbers, or "" where it has.

    Raises:
        ResultError: no such rows, damaged ones, or some missing.

    Source: LiteRT (TensorFlow Lite), the runtime of the thesis's tables
    4.2 to 4.4. Introduced in chapter 4.
    """
    folder = REFERENCE / NAME if folder is None else Path(folder)
    if not (folder / "rows.csv").is_file():
        raise ResultError(
            f"no LiteRT rows in {folder}: take data/results/{NAME} from the "
            f"repository, or measure anew with 'make {NAME}'"
        )
    rows = load_rows(folder)
    keys = pd.DataFrame([json.loads(text) for text in rows["keys"]])
    tidy = pd.concat([rows.drop(columns="keys"), keys], axis=1)
    accuracies, metrics = _accuracies(tidy), _metrics(tidy)
    wide = accuracies.join(metrics)
    if len(wide) < len(metrics) or wide.isna().any(axis=None):
        raise ResultError(
            f"{folder} lacks rows of some network: run 'make {NAME}' again"
        )
    frame = wide.reset_index().assign(left_out="")
    missing = pd.DataFrame(load_run(folder).get("left_out", []))
    whole = pd.concat([frame, missing], ignore_index=True)
    return whole.reindex(columns=list(COLUMNS))


def _accuracies(tidy: pd.DataFrame) -> pd.DataFrame:
    """Accuracy, its interval, hits and count, by network."""
    found = tidy[tidy["metric"] == "accuracy"].copy()
    found["hits"] = (found["value"] * found["n"].astype(float)).round()
    found = found.astype({"hits": "int64", "n": "int64", "seed": "int64"})
    found = found.rename(columns={"value": "accuracy"})
    wanted = ["accuracy", "ci_low", "ci_high", "hits", "n"]
    return found.set_index([*KEYS, "seed"])[wanted]


def _metrics(tidy: pd.DataFrame) -> pd.DataFrame:
    """The other metrics, a column each, by network."""
    index = [*KEYS, "seed"]
    wide = tidy.astype({"seed": "int64"}).pivot(
        index=index, columns="metric", values="value"
    )
    wide = wide.reindex(columns=list(METRICS))
    sizes = {"bytes": "Int64", "compressed_bytes": "Int64"}
    return wide.astype(sizes)
