"""What LiteRT measured, as the book reads it, and what it is given."""

from __future__ import annotations

import json
import math
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from lq_utils.images import DataError, Splits
from lq_utils.inference import predict, to_input
from lq_utils.litert_rows import COLUMNS, litert_rows
from lq_utils.models import build_model
from lq_utils.paths import ROOT
from lq_utils.published import published_value
from lq_utils.records import ResultError
from lq_utils.results import Run
from lq_utils.splits import image_hashes, share_split
from lq_utils.synthetic import make_synthetic

BENCHMARKS = ROOT / "benchmarks"
LOCKS = ["benchmarks/peers", "benchmarks/litert"]
THESIS = {
    "base": "base",
    "PTQ int8": "PTQ int8",
    "PTQ dynamic range": "PTQ dynamic range",
    "PTQ float16": "PTQ float16",
    "PTQ int8 with int16 activations": "PTQ int8 with int16 activations",
    "PTQ on QAT": "PTQ on QAT",
}
FOUND = {
    "hits": 30,
    "n": 40,
    "same": 38,
    "logit_gap": 0.25,
    "batch_gap": 0.0,
    "bytes": 1000,
    "gzip_bytes": 800,
    "products": {"int8 x int8": 5},
    "times": {
        "1": {"ms": 0.5, "low_ms": 0.4, "high_ms": 0.75, "runs": 20},
        "64": {"ms": 9.0, "low_ms": 8.0, "high_ms": 12.0, "runs": 5},
    },
}
HALF = {**FOUND, "products": {"float32 x float32": 5}}


@pytest.fixture(scope="module")
def driver() -> Iterator[ModuleType]:
    """The module that trains and records, without LiteRT."""
    folders = [str(BENCHMARKS / "litert"), str(BENCHMARKS)]
    before, known = list(sys.path), set(sys.modules)
    sys.path[:0] = folders
    import measure_formats

    yield measure_formats
    sys.path[:] = before
    for name in set(sys.modules) - known:
        if str(BENCHMARKS) in str(getattr(sys.modules[name], "__file__", "")):
            sys.modules.pop(name)


@pytest.fixture(scope="module")
def splits() -> Splits:
    return share_split(make_synthetic(10, per_class=30).pair(0, 1))


def run_of(splits: Splits) -> Run:
    return Run("litert", {"profile": "quick", "seed": 3}, splits.provenance)


def keys(set_up: str, form: str) -> dict[str, Any]:
    return {"task": "cat/dog", "set_up": set_up, "format": form}


# The committed rows


def test_sizes_are_those_of_the_thesis() -> None:
    frame = litert_rows()
    assert list(frame.columns) == list(COLUMNS)
    for task in ("cat/dog", "horse/frog"):
        own = frame[frame["task"] == task].set_index("set_up")
        for set_up, name in THESIS.items():
            printed = published_value(
                "quantnet_thesis", "table 4.2", "model size", set_up=name
            )
            assert own.loc[set_up, "bytes"] / 2**20 == pytest.approx(
                printed, rel=0.02
            )
        assert own.loc["PTQ int4 weights", "bytes"] < 2**19 * 0.6


def test_rows_are_consistent() -> None:
    frame = litert_rows()
    assert (frame["n"] == 2400).all() and frame["n"].dtype == "int64"
    assert (frame["hits"] / frame["n"] == frame["accuracy"]).all()
    for row in frame.itertuples():
        z, p, n = 1.959963984540054, row.accuracy, row.n
        middle = (p + z * z / (2 * n)) / (1 + z * z / n)
        half = z * math.sqrt(p * (1 - p) / n + (z / n) ** 2 / 4)
        half /= 1 + z * z / n
        found = (row.ci_low, row.ci_high)
        assert found == pytest.approx((middle - half, middle + half))
        assert row.batch1_low_ms <= row.batch1_ms <= row.batch1_high_ms
        assert row.batch64_low_ms <= row.batch64_ms <= row.batch64_high_ms
        assert row.compressed_bytes < row.bytes
        assert row.batch1_ms < row.batch64_ms


def test_arithmetic_is_said() -> None:
    frame = litert_rows()
    unreal = set(frame.loc[~frame["measured"], "set_up"])
    assert unreal == {"PTQ float16"}
    full = frame[frame["format"] == "int8"]
    assert set(full["arithmetic"]) == {"int8 x int8"}
    assert (frame.loc[frame["format"] == "float32", "agreement"] == 1).all()


# What the driver records


def test_recorded_rows_are_read_again(
    driver: ModuleType, splits: Splits
) -> None:
    run = run_of(splits)
    driver.record(run, keys("PTQ int8", "int8"), FOUND)
    driver.record(run, keys("PTQ float16", "float16"), HALF)
    reason = {**keys("PTQ int4 weights", "int4 weights"), "seed": 3}
    reason["left_out"] = "ValueError: no such kernel"
    more = {"versions": {"ai-edge-litert": "9.9"}, "left_out": [reason]}
    folder = driver.save(run, more)
    assert folder == run.folder  # a quick run never becomes the reference
    record = json.loads((folder / "run.json").read_text())
    assert record["packages"]["ai-edge-litert"] == "9.9"
    frame = litert_rows(folder).set_index("set_up")
    whole = frame.loc["PTQ int8"]
    assert (whole["hits"], whole["n"], whole["seed"]) == (30, 40, 3)
    assert (whole["accuracy"], whole["agreement"]) == (0.75, 0.95)
    assert (whole["bytes"], whole["compressed_bytes"]) == (1000, 800)
    assert (whole["batch1_ms"], whole["batch64_high_ms"]) == (0.5, 12.0)
    assert whole["measured"] and whole["arithmetic"] == "int8 x int8"
    assert not frame.loc["PTQ float16", "measured"]
    failed = frame.loc["PTQ int4 weights"]
    assert failed["left_out"] == "ValueError: no such kernel"
    assert pd.isna(failed["accuracy"]) and pd.isna(failed["bytes"])


def test_missing_rows_say_what_to_do(
    driver: ModuleType, splits: Splits, tmp_path: Path
) -> None:
    with pytest.raises(ResultError, match="no LiteRT rows.*make litert"):
        litert_rows(tmp_path)
    run = run_of(splits)
    driver.record(run, keys("PTQ int8", "int8"), FOUND)
    folder = driver.save(run, {"versions": {}, "left_out": []})
    lines = (folder / "rows.csv").read_text().splitlines()
    kept = [line for line in lines if "batch64_low_ms" not in line]
    (folder / "rows.csv").write_text("\n".join(kept) + "\n")
    with pytest.raises(ResultError, match="lacks rows.*make litert"):
        litert_rows(folder)


# What LiteRT is given


def test_folder_holds_network_and_images(
    driver: ModuleType, splits: Splits, tmp_path: Path
) -> None:
    import measuring

    model = build_model("quantnet", 1, seed=5).eval()
    model.to(memory_format=torch.channels_last)
    driver.write_inputs(
        tmp_path, model, splits, ["int8"], calibration=11, runs={1: 7}, seed=2
    )
    settings = measuring.read_settings(tmp_path)
    assert settings["formats"] == ["int8"] and settings["runs"] == {"1": 7}
    again = measuring.read_network(tmp_path, settings)
    expected = predict(model, splits.test)
    torch.testing.assert_close(predict(again, splits.test), expected)
    hits = (expected[:, 0] > 0).numpy() == (splits.test.labels == 1)
    found = measuring.load_file(tmp_path / "test.safetensors")
    assert torch.equal(found["images"], to_input(splits.test.images))
    with torch.inference_mode():
        logits = again(found["images"])[:, 0]
    again_hits = (logits > 0) == (found["labels"] == 1)
    assert np.array_equal(again_hits.numpy(), hits)
    pixels = measuring.read_calibration(tmp_path, 0) * 0.25 + 0.5
    whole = (pixels * 255).round().byte().permute(0, 2, 3, 1).numpy()
    drawn = set(image_hashes(whole))
    assert len(drawn) == 11
    assert drawn <= set(image_hashes(splits.train.images))


def test_more_calibration_images_than_there_are(
    driver: ModuleType, splits: Splits, tmp_path: Path
) -> None:
    model = build_model("quantnet", 1)
    with pytest.raises(DataError, match="no more of a class"):
        driver.write_inputs(
            tmp_path, model, splits, [], calibration=999, runs={1: 1}
        )


# Its environment


@pytest.mark.parametrize("folder", LOCKS)
def test_lock_has_hashes_no_address_and_the_books_torch(folder: str) -> None:
    text = (ROOT / folder / "requirements.lock").read_text()
    book = (ROOT / "requirements.lock").read_text()
    assert "://" not in text and "/tmp" not in text
    body = [x for x in text.splitlines() if not x.lstrip().startswith("#")]
    for entry in re.split(r"\n(?=\S)", "\n".join(body).strip()):
        assert re.fullmatch(
            r"[\w.-]+==\S+( ; [^\\]+)?( \\\n    --hash=sha256:[0-9a-f]{64})+",
            entry,
        ), entry[:200]
    for name in ("torch", "torchvision"):
        pin = re.search(rf"^{name}==\S+", book, re.MULTILINE)
        assert pin is not None and f"\n{pin[0]} " in text


def test_environment_is_made_once_and_again_for_another_lock(
    driver: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from environments import Environment, SetUpError

    tools = tmp_path / "bin"
    tools.mkdir()
    calls, uv = tmp_path / "calls", tools / "uv"
    makes = '[ "$1" = pip ] || mkdir -p "$5/bin"'
    uv.write_text(f'#!/bin/sh\necho "$1" >> {calls}\n{makes}\n')
    uv.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(tools / "python"))
    monkeypatch.setenv("PATH", f"{tools}{os.pathsep}/usr/bin:/bin")
    folder = tmp_path / "other"
    folder.mkdir()
    (folder / "requirements.lock").write_text("one")
    own = Environment(folder, "the other environment", "; or go without")
    for _ in range(2):
        own.ensure().touch()  # the interpreter that uv would have put there
    assert calls.read_text().split() == ["venv", "pip"]
    (folder / "requirements.lock").write_text("two")
    own.ensure()
    assert len(calls.read_text().split()) == 4
    uv.write_text("#!/bin/sh\necho no network >&2\nexit 1\n")
    (folder / "requirements.lock").write_text("three")
    with pytest.raises(SetUpError, match="no network.*or go without"):
        own.ensure()
    uv.unlink()
    with pytest.raises(SetUpError, match="uv was not found"):
        own.ensure()
