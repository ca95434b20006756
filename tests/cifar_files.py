"""Tiny folders in CIFAR's layout, as Python 2 and Python 3 write them."""

from __future__ import annotations

import hashlib
import pickle
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lq_utils.layouts import LAYOUTS, Layout

SMALL = {"cifar10": (100, 20), "cifar100": (300, 100)}
CIFAR10_NAMES = [
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
]


def _short(text: bytes) -> bytes:
    """A Python 2 string, which is bytes to Python 3."""
    if len(text) < 256:
        return b"U" + bytes([len(text)]) + text
    return b"T" + struct.pack("<i", len(text)) + text


def _python2_value(value: Any) -> bytes:
    if isinstance(value, str):
        return _short(value.encode())
    if isinstance(value, int):
        return b"J" + struct.pack("<i", value)
    if isinstance(value, list):
        return b"](" + b"".join(map(_python2_value, value)) + b"e"
    rows, columns = value.shape
    array = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n"
    array += b"K\x00\x85" + _short(b"b") + b"\x87R"
    kind = b"cnumpy\ndtype\n" + _short(b"u1") + b"K\x00K\x01\x87R"
    kind += b"(K\x03" + _short(b"|") + b"NNN" + 2 * b"J\xff\xff\xff\xff"
    kind += b"K\x00tb"
    shape = _python2_value(rows) + _python2_value(columns) + b"\x86"
    content = _short(value.tobytes())
    return array + b"(K\x01" + shape + kind + b"\x89" + content + b"tb"


def python2_pickle(entries: dict[str, Any]) -> bytes:
    """The dictionary as Python 2 and the NumPy of its time wrote it."""
    items = b"".join(
        _python2_value(key) + _python2_value(value)
        for key, value in entries.items()
    )
    return b"\x80\x02}(" + items + b"u."


def write_file(path: Path, entries: dict[str, Any], protocol: int) -> None:
    """Protocol 2 is written as by Python 2, others as by Python 3."""
    content = (
        python2_pickle(entries)
        if protocol == 2
        else pickle.dumps(entries, protocol)
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def entries_of(
    layout: Layout, count: int, rng: np.random.Generator
) -> dict[str, Any]:
    """One batch with equally many random images of every class."""
    labels = [i % layout.classes for i in range(count)]
    entries = {
        "data": rng.integers(0, 256, (count, 3072), dtype=np.uint8),
        layout.labels: labels,
        "batch_label": "tiny",
        "filenames": [f"image_{i}.png" for i in range(count)],
    }
    if layout.name == "cifar100":
        entries["coarse_labels"] = [label // 5 for label in labels]
    return entries


def meta_of(layout: Layout) -> dict[str, Any]:
    """Class names (and superclass names)."""
    if layout.name == "cifar10":
        return {"label_names": CIFAR10_NAMES, "num_vis": 3072}
    return {
        "fine_label_names": [f"fine_{k}" for k in range(100)],
        "coarse_label_names": [f"coarse_{k}" for k in range(20)],
    }


def write_tiny(folder: Path, name: str, protocol: int = 4) -> Path:
    """A data folder with a tiny data set; returns the set's own folder."""
    layout = LAYOUTS[name]
    base = folder / layout.folder
    rng = np.random.default_rng(7)
    each = layout.train_images // len(layout.train)
    for file in layout.train:
        write_file(base / file, entries_of(layout, each, rng), protocol)
    (test,) = layout.test
    entries = entries_of(layout, layout.test_images, rng)
    write_file(base / test, entries, protocol)
    (meta,) = layout.meta
    write_file(base / meta, meta_of(layout), protocol)
    return base


def shrink(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the layouts expect the tiny number of images."""
    for name, (train, test) in SMALL.items():
        small = replace(LAYOUTS[name], train_images=train, test_images=test)
        monkeypatch.setitem(LAYOUTS, name, small)


def call_official(
    monkeypatch: pytest.MonkeyPatch, name: str, base: Path
) -> None:
    """Let the layout know the checksums of the files in ``base``."""
    layout = LAYOUTS[name]

    def sums(files: dict[str, str]) -> dict[str, str]:
        return {
            f: hashlib.md5((base / f).read_bytes()).hexdigest() for f in files
        }

    known = replace(
        layout,
        train=sums(layout.train),
        test=sums(layout.test),
        meta=sums(layout.meta),
    )
    monkeypatch.setitem(LAYOUTS, name, known)
