"""The cache: keys, damaged files, folders that cannot be written."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from lq_utils.cache import CacheError, cached, canonical_json


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LQ_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


class Counting:
    """A slow step that counts how often it ran."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> dict[str, np.ndarray]:
        self.calls += 1
        return {"x": np.arange(6.0).reshape(2, 3), "n": np.array(7)}


def helper_one() -> int:
    return 1


def helper_two() -> int:
    return 2


def the_file(folder: Path) -> Path:
    (found,) = folder.rglob("*.npz")
    return found


def test_second_call_reads() -> None:
    step = Counting()
    first = cached("step", {"seed": 0}, step)
    second = cached("step", {"seed": 0}, step)
    assert step.calls == 1
    assert set(second) == {"x", "n"}
    np.testing.assert_array_equal(first["x"], second["x"])
    assert second["n"] == 7 and second["n"].shape == ()


@pytest.mark.parametrize(
    "other", [{"seed": 1}, {"seed": 0, "size": 1}, {"seeds": 0}]
)
def test_other_key_computes(other: dict[str, int]) -> None:
    step = Counting()
    cached("step", {"seed": 0}, step)
    cached("step", other, step)
    assert step.calls == 2


def test_code_is_part_of_the_key() -> None:
    step = Counting()
    cached("step", {}, step, code=[helper_one])
    cached("step", {}, step, code=[helper_one])
    assert step.calls == 1
    cached("step", {}, step, code=[helper_two])
    assert step.calls == 2


def test_code_without_source() -> None:
    with pytest.raises(CacheError, match="no source code"):
        cached("step", {}, Counting(), code=[len])


def test_order_and_numpy_do_not_matter() -> None:
    step = Counting()
    cached("step", {"a": 1, "b": (2, 3)}, step)
    cached("step", {"b": [np.int64(2), 3], "a": np.int32(1)}, step)
    assert step.calls == 1


@pytest.mark.parametrize("damage", ["cut", "garbage", "empty", "flipped"])
def test_damaged_file_is_computed_again(
    folder: Path, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    step = Counting()
    cached("step", {}, step)
    path = the_file(folder)
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[whole.index(b"NUMPY") + 130] ^= 0xFF
    path.write_bytes(
        {
            "cut": whole[: len(whole) // 2],
            "garbage": b"not an archive",
            "empty": b"",
            "flipped": bytes(flipped),
        }[damage]
    )
    again = cached("step", {}, step)
    assert step.calls == 2 and again["x"][1, 2] == 5
    assert "damaged" in capsys.readouterr().err
    cached("step", {}, step)
    assert step.calls == 2


def test_file_of_another_key_is_not_taken(folder: Path) -> None:
    step = Counting()
    cached("step", {"seed": 0}, step)
    first = the_file(folder)
    cached("step", {"seed": 1}, step)
    (second,) = set(folder.rglob("*.npz")) - {first}
    second.write_bytes(first.read_bytes())
    cached("step", {"seed": 1}, step)
    assert step.calls == 3


def test_pickled_file_is_never_loaded(folder: Path) -> None:
    step = Counting()
    cached("step", {}, step)
    path = the_file(folder)
    evil = np.empty(1, dtype=object)
    evil[0] = {"would": "run code"}
    np.savez(path.open("wb"), x=evil)
    assert cached("step", {}, step)["x"].dtype == np.float64
    assert step.calls == 2


def test_failed_step_leaves_nothing(folder: Path) -> None:
    def broken() -> dict[str, np.ndarray]:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        cached("step", {}, broken)
    assert list(folder.rglob("*.npz")) == []


def test_folder_that_cannot_be_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("LQ_CACHE_DIR", str(tmp_path / "file"))
    step = Counting()
    with pytest.raises(CacheError, match="LQ_CACHE_DIR"):
        cached("step", {}, step)
    assert step.calls == 0, "the slow step must not run for nothing"


@pytest.mark.parametrize(
    "value",
    [
        [1, 2],
        {"x": np.array([{}], dtype=object)},
        {"file": np.zeros(1)},
        {"__key__": np.zeros(1)},
    ],
)
def test_values_that_cannot_be_stored(value: object) -> None:
    with pytest.raises(CacheError):
        cached("step", {}, lambda: value)  # type: ignore[arg-type,return-value]


def test_arrays_are_no_keys() -> None:
    with pytest.raises(TypeError, match="fingerprint"):
        cached("step", {"images": np.zeros(3)}, Counting())


def test_canonical_json() -> None:
    text = canonical_json({"b": (1, np.float64(0.5)), "a": {"d", "c"}})
    assert text == '{"a":["c","d"],"b":[1,0.5]}'
    assert json.loads(text) == {"a": ["c", "d"], "b": [1, 0.5]}
    with pytest.raises(ValueError):
        canonical_json({"x": float("nan")})
