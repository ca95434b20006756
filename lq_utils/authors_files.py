"""The files that the authors of the label-aware report published.

They have no licence, so they are not part of this book. A reader who has
them gives their folder; what the book keeps are the summaries made here
(``data/published/label_aware_derived.csv``).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

COLUMNS = ["document", "where", "quantity", "keys", "value", "unit", "note"]
DERIVED = "label_aware_derived"
MATRIX_FILE = "label_aware_kl_matrix.csv"
LOGS = {
    "3 bit": "3bit",
    "4 bit": "4bit",
    "8 bit": "8bit",
    "16 bit": "16bit",
    "32 bit": "32bit",
    "5 then 3 bit": "mp4bit",
    "3 then 5 bit": "mpasc4bit",
}
STAGES = {
    "original": "Original",
    "quantized": "Quantized",
    "fine-tuned": "Fine-Tuned",
    "fine-tuned and quantized": "Quant+FT",
}
PROTOCOLS = {"All": "", "Sub": " (Pick Sub)"}
NAMED_PAIRS = 30

Row = tuple[str, str, dict[str, Any], float, str, str]


class AuthorsFilesError(FileNotFoundError):
    """A file of the authors is missing or is not what it should be.

    Introduced in chapter 1.
    """


def read_matrix(folder: str | Path) -> tuple[np.ndarray, list[str]]:
    """The authors' divergence matrix and its class names.

    Parameters
    ----------
    folder
        Where the authors' files lie (they are not part of this book).

    Returns
    -------
    tuple
        Symmetric matrix ``[C, C]`` float64 in nats, and C class names in
        the order of the official CIFAR-100 labels.

    Raises
    ------
    AuthorsFilesError
        The file is not there, or is not square.

    Source: label-aware report, section 2.2. Introduced in chapter 1.
    """
    path = Path(folder) / MATRIX_FILE
    if not path.is_file():
        raise AuthorsFilesError(
            f"{path} is not there; give the folder that holds the published "
            "files of the label-aware report"
        )
    table = pd.read_csv(path, index_col=0)
    if list(table.index) != list(table.columns):
        raise AuthorsFilesError(f"{path}: rows and columns name other classes")
    return table.to_numpy(dtype=np.float64), list(table.columns)


def _pairs(
    matrix: np.ndarray, names: Sequence[str]
) -> list[tuple[str, float]]:
    first, second = np.triu_indices(len(names), k=1)
    order = np.argsort(matrix[first, second], kind="stable")
    return [
        (
            "/".join(sorted((names[first[k]], names[second[k]]))),
            float(matrix[first[k], second[k]]),
        )
        for k in order
    ]


def _matrix_rows(folder: Path) -> Iterator[Row]:
    pairs = _pairs(*read_matrix(folder))
    values = np.array([value for _, value in pairs])
    quantity = "symmetric KL divergence"
    note = "over all pairs of different classes"
    for name in ("min", "median", "mean", "max"):
        value = float(getattr(np, name)(values))
        yield "KL matrix", quantity, {"statistic": name}, value, "nat", note
    yield "KL matrix", "pairs", {}, len(values), "pairs", note
    for rank, (pair, value) in enumerate(pairs[:NAMED_PAIRS], 1):
        yield (
            "KL matrix",
            "rank",
            {"pair": pair},
            rank,
            "",
            "1 is the closest pair",
        )
        if rank <= 10:
            yield "KL matrix", quantity, {"pair": pair}, value, "nat", ""
    note = "1 is the farthest pair"
    quantity = "rank from the far end"
    for rank, (pair, _) in enumerate(pairs[: -NAMED_PAIRS - 1 : -1], 1):
        yield "KL matrix", quantity, {"pair": pair}, rank, "", note


def _log(folder: Path, bits: str) -> pd.DataFrame:
    path = folder / f"label_aware_resnet50_{LOGS[bits]}.csv"
    if not path.is_file():
        raise AuthorsFilesError(
            f"{path} is not there; the folder must hold all {len(LOGS)} logs"
        )
    return pd.read_csv(path)


def _accuracy(log: pd.DataFrame, stage: str, protocol: str) -> np.ndarray:
    column = f"{STAGES[stage]} Top1 Accuracy{PROTOCOLS[protocol]}"
    return 100 * log[column].to_numpy(dtype=np.float64)


def _log_rows(bits: str, log: pd.DataFrame) -> Iterator[Row]:
    where = "ResNet-50 log"
    note = "over the ten-class subsets"
    yield where, "subsets", {"bits": bits}, len(log), "subsets", ""
    for stage in STAGES:
        for protocol in PROTOCOLS:
            values = _accuracy(log, stage, protocol)
            keys = {"bits": bits, "protocol": protocol, "stage": stage}
            for name in ("mean", "min", "max"):
                value = float(getattr(np, name)(values))
                found = {**keys, "statistic": name}
                yield where, "accuracy", found, value, "%", note
    zeros = float(log["Quantized Sparsity"].mean())
    yield where, "share of zero weights", {"bits": bits}, zeros, "", note
    for protocol in PROTOCOLS:
        original = _accuracy(log, "original", protocol)
        for stage in ("quantized", "fine-tuned"):
            gain = _accuracy(log, stage, protocol) - original
            keys = {"bits": bits, "protocol": protocol, "stage": stage}
            for quantity, those in (
                ("subsets above the original", gain > 0),
                ("subsets below the original", gain < 0),
            ):
                yield where, quantity, keys, int(those.sum()), "subsets", ""


def _distance_rows(bits: str, log: pd.DataFrame) -> Iterator[Row]:
    where = "ResNet-50 log"
    distance = np.log(log["Median_KL"].to_numpy(dtype=np.float64))
    original = _accuracy(log, "original", "Sub")
    quantized = _accuracy(log, "quantized", "Sub")
    targets = {
        "original accuracy, All": _accuracy(log, "original", "All"),
        "original accuracy, Sub": original,
        "quantized accuracy, Sub": quantized,
        "accuracy loss, Sub": original - quantized,
    }
    for name, values in targets.items():
        keys = {"bits": bits, "with": name}
        value = float(np.corrcoef(distance, values)[0, 1])
        note = "Pearson, with the logarithm of the subset's median KL"
        yield where, "correlation", keys, value, "", note
    order = np.argsort(distance, kind="stable")
    parts = np.array_split(order, 3)
    for third, part in zip(("lowest", "middle", "highest"), parts):
        keys = {"bits": bits, "third of median KL": third}
        value = float((original - quantized)[part].mean())
        yield where, "mean accuracy loss, Sub", keys, value, "%", ""


def derive_label_aware(folder: str | Path) -> pd.DataFrame:
    """Summaries of the authors' matrix and logs, as rows.

    Parameters
    ----------
    folder
        Holds ``label_aware_kl_matrix.csv`` and the seven
        ``label_aware_resnet50_*.csv`` of the authors.

    Returns
    -------
    DataFrame
        The columns of every file in ``data/published/``. "All" scores all
        100 classes, "Sub" the ten of the subset; accuracies in per cent,
        divergences in nats.

    Raises
    ------
    AuthorsFilesError
        A file is missing.

    Source: label-aware report, sections 2 and 3. Introduced in chapter 1.
    """
    folder = Path(folder)
    rows = list(_matrix_rows(folder))
    for bits in LOGS:
        log = _log(folder, bits)
        rows += list(_log_rows(bits, log))
        rows += list(_distance_rows(bits, log))
    table = pd.DataFrame(
        [
            (DERIVED, where, quantity, json.dumps(keys, sort_keys=True))
            + (f"{value:.6g}", unit, note)
            for where, quantity, keys, value, unit, note in rows
        ],
        columns=COLUMNS,
    )
    return table
