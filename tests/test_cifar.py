"""The reader of CIFAR's files: right on good ones, clear on bad ones."""

from __future__ import annotations

import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cifar_files import (
    call_official,
    entries_of,
    meta_of,
    python2_pickle,
    shrink,
    write_file,
    write_tiny,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision import datasets

from lq_utils.cifar import find_rung, present, read_cifar
from lq_utils.data import DataError
from lq_utils.layouts import LAYOUTS, layout_of
from lq_utils.safe_pickle import read_dictionary


@pytest.fixture(autouse=True)
def _tiny(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "real_data" not in request.keywords:
        shrink(monkeypatch)


def test_checksums_are_torchvisions() -> None:
    for name, theirs in (
        ("cifar10", datasets.CIFAR10),
        ("cifar100", datasets.CIFAR100),
    ):
        ours = LAYOUTS[name]
        assert ours.train == dict(theirs.train_list)
        assert ours.test == dict(theirs.test_list)
        assert ours.meta == {theirs.meta["filename"]: theirs.meta["md5"]}
        assert (ours.url, ours.archive_md5) == (theirs.url, theirs.tgz_md5)
        assert ours.folder == theirs.base_folder


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_reads_python2_and_python3_files(
    tmp_path: Path, name: str, protocol: int
) -> None:
    base = write_tiny(tmp_path, name, protocol)
    cifar = read_cifar(name, tmp_path)
    layout = LAYOUTS[name]
    raw = entries_of(
        layout,
        layout.train_images // len(layout.train),
        np.random.default_rng(7),
    )
    first = raw["data"][0].reshape(3, 32, 32)
    np.testing.assert_array_equal(
        cifar.train.images[0], np.stack(list(first), axis=-1)
    )
    assert cifar.train.images.shape == (layout.train_images, 32, 32, 3)
    assert cifar.test.labels[:3].tolist() == [0, 1, 2]
    assert cifar.train.class_names == tuple(meta_of(layout)[layout.names])
    assert cifar.train.provenance.rung == "unofficial copy"
    assert find_rung(name, tmp_path) == "unofficial copy"
    assert base.is_dir()


def test_superclasses(tmp_path: Path) -> None:
    for name in LAYOUTS:
        write_tiny(tmp_path, name)
    hundred = read_cifar("cifar100", tmp_path).train
    assert hundred.superclass_of.tolist() == [k // 5 for k in range(100)]
    ten = read_cifar("cifar10", tmp_path).train
    groups = [ten.superclass_names[g] for g in ten.superclass_of]
    assert groups[:3] == ["vehicle", "vehicle", "animal"]


def test_fingerprint_ignores_order_and_protocol(tmp_path: Path) -> None:
    write_tiny(tmp_path / "a", "cifar100", 2)
    base = write_tiny(tmp_path / "b", "cifar100", 4)
    entries = pickle.loads((base / "train").read_bytes())
    order = np.random.default_rng(0).permutation(len(entries["data"]))
    entries["data"] = entries["data"][order]
    for key in ("fine_labels", "coarse_labels", "filenames"):
        entries[key] = [entries[key][i] for i in order]
    write_file(base / "train", entries, 4)
    prints = [
        read_cifar("cifar100", tmp_path / x).train.provenance.fingerprint
        for x in "ab"
    ]
    assert prints[0] == prints[1]
    entries["data"][0, 0] ^= 1
    write_file(base / "train", entries, 4)
    changed = read_cifar("cifar100", tmp_path / "b").train.provenance
    assert changed.fingerprint != prints[0]


def test_official_by_checksum_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = write_tiny(tmp_path, "cifar10")
    call_official(monkeypatch, "cifar10", base)
    assert find_rung("cifar10", tmp_path) == "official"
    assert read_cifar("cifar10", tmp_path).train.provenance.rung == "official"
    (base / "README.md").write_text("# Copy\n\nTwo images differ.\n")
    write_file(
        base / "test_batch",
        entries_of(LAYOUTS["cifar10"], 20, np.random.default_rng(1)),
        4,
    )
    provenance = read_cifar("cifar10", tmp_path).train.provenance
    assert provenance.rung == "unofficial copy"
    assert "Two images differ." in provenance.note


def test_absent_is_not_an_error(tmp_path: Path) -> None:
    assert not present("cifar10", tmp_path)
    assert find_rung("cifar10", tmp_path) is None
    with pytest.raises(DataError, match="cifar10 or cifar100"):
        layout_of("cifar20")


class _Attack:
    """Pickles as a call of ``function``."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize(
    "attack", ["system", "eval", "unlink", "getattr", "nested"]
)
def test_malicious_pickle_runs_nothing(
    tmp_path: Path, attack: str, protocol: int
) -> None:
    base = write_tiny(tmp_path, "cifar10")
    marker, victim = tmp_path / "ran", tmp_path / "victim"
    victim.touch()
    calls: dict[str, Any] = {
        "system": _Attack(os.system, f"touch {marker}"),
        "eval": _Attack(eval, f"open({str(marker)!r}, 'w')"),
        "unlink": _Attack(os.unlink, str(victim)),
        "getattr": _Attack(getattr, "x", "upper"),
        "nested": {"data": [[_Attack(os.system, f"touch {marker}")]]},
    }
    content = pickle.dumps(calls[attack], protocol)
    (base / "data_batch_3").write_bytes(content)
    with pytest.raises(DataError, match=r"data_batch_3 was refused: .* asks"):
        read_cifar("cifar10", tmp_path)
    assert victim.exists()
    assert not marker.exists()


def test_the_attack_is_real(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    pickle.loads(pickle.dumps(_Attack(os.system, f"touch {marker}")))
    assert marker.exists()


HUGE_ARRAY = (
    b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n"
    b"J\xff\xff\xff\x7f\x85U\x01b\x87R."
)
HUGE_MEMO = b"\x80\x02}r\xff\xff\xff\x7f."
OUTSIDE = b"\x80\x02K\x01Q."


@pytest.mark.parametrize("content", [HUGE_ARRAY, HUGE_MEMO, OUTSIDE])
def test_refuses_to_fill_memory_or_look_outside(content: bytes) -> None:
    with pytest.raises(DataError, match="refused"):
        read_dictionary(content, Path("file"), "Get another.")


SAMPLE = python2_pickle(
    {"data": np.arange(2 * 3072).reshape(2, -1).astype(np.uint8), "x": ["a"]}
)


@settings(max_examples=60)
@given(st.integers(0, len(SAMPLE) - 1))
def test_any_truncation_is_a_clear_error(length: int) -> None:
    with pytest.raises(DataError, match=r"file (is damaged|was refused)"):
        read_dictionary(SAMPLE[:length], Path("file"), "Get another.")


@settings(max_examples=200)
@given(st.integers(0, 230), st.integers(0, 255), st.booleans())
def test_any_damage_reads_or_is_a_clear_error(
    place: int, value: int, late: bool
) -> None:
    damaged = bytearray(SAMPLE)
    damaged[len(SAMPLE) - 1 - place if late else place] = value
    try:
        entries = read_dictionary(bytes(damaged), Path("file"), "Get it.")
    except DataError as error:
        assert "Get it." in str(error)
    else:
        assert all(type(key) is str for key in entries)


def _swap(base: Path, file: str, **changes: Any) -> None:
    entries = pickle.loads((base / file).read_bytes())
    entries.update(changes)
    kept = {k: v for k, v in entries.items() if v is not None}
    write_file(base / file, kept, 4)


GOOD = np.zeros((100, 3072), np.uint8)
DAMAGES: dict[str, tuple[dict[str, Any], str]] = {
    "no data": ({"data": None}, r"no entry 'data' \(entries: batch_label"),
    "no labels": ({"fine_labels": None}, "no entry 'fine_labels'"),
    "list data": ({"data": [1, 2]}, "'data' is list, not ndarray"),
    "width": ({"data": GOOD[:, :3000]}, r"not uint8 \[n, 3072\]"),
    "flat": ({"data": GOOD.ravel()}, r"\[307200\], not uint8"),
    "type": ({"data": GOOD.astype(np.int64)}, "'data' is int64"),
    "objects": ({"data": np.array([None])}, "something else than integers"),
    "floats": ({"data": GOOD.astype(float)}, "something else than integers"),
    "count": ({"data": GOOD[:50]}, "100 'fine_labels' for 50 images"),
    "high": ({"fine_labels": [100] * 100}, r"100 to 100, not within 0\.\.99"),
    "low": ({"fine_labels": [-1] * 100}, "from -1 to -1"),
    "words": ({"fine_labels": ["a"] * 100}, "something else than integers"),
    "bools": ({"fine_labels": [True] * 100}, "else than integers"),
    "coarse": ({"coarse_labels": [20] * 100}, r"not within 0\.\.19"),
    "crossed": ({"coarse_labels": [3] * 100}, "lies in two superclasses"),
    "unequal": ({"fine_labels": [0] * 100}, "no complete CIFAR-100"),
}


@pytest.mark.parametrize("kind", DAMAGES)
def test_wrong_content_names_file_fault_and_remedy(
    tmp_path: Path, kind: str
) -> None:
    changes, message = DAMAGES[kind]
    base = write_tiny(tmp_path, "cifar100")
    _swap(base, "test", **changes)
    with pytest.raises(DataError, match=message) as caught:
        read_cifar("cifar100", tmp_path)
    assert "cifar-100-python" in str(caught.value)
    assert "lq_utils data --dataset cifar100" in str(caught.value)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a"] * 100, "1 distinct names of 100"),
        ([f"{k}" for k in range(99)], "99 distinct"),
        ([1] * 100, "something else than names"),
    ],
)
def test_wrong_names(tmp_path: Path, names: list[Any], message: str) -> None:
    base = write_tiny(tmp_path, "cifar100")
    _swap(base, "meta", fine_label_names=names)
    with pytest.raises(DataError, match=message):
        read_cifar("cifar100", tmp_path)


def test_missing_empty_and_enormous_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = write_tiny(tmp_path, "cifar10")
    (base / "data_batch_2").unlink()
    with pytest.raises(DataError, match="incomplete: no data_batch_2"):
        find_rung("cifar10", tmp_path)
    (base / "data_batch_2").touch()
    with pytest.raises(DataError, match=r"data_batch_2 has 0 bytes"):
        read_cifar("cifar10", tmp_path)
    shutil.copy(base / "data_batch_1", base / "data_batch_2")
    read_cifar("cifar10", tmp_path)
    monkeypatch.setattr("lq_utils.safe_pickle.BYTES_LIMIT", 1000)
    with pytest.raises(DataError, match="are plausible"):
        read_cifar("cifar10", tmp_path)


def test_repeated_images_are_counted(tmp_path: Path) -> None:
    base = write_tiny(tmp_path, "cifar10")
    shutil.copy(base / "data_batch_1", base / "data_batch_2")
    note = read_cifar("cifar10", tmp_path).train.provenance.note
    assert "20 images repeat" in note


@pytest.mark.real_data
def test_real_cifar100_is_complete(real_cifar100: Path) -> None:
    cifar = read_cifar("cifar100", real_cifar100)
    assert (len(cifar.train), len(cifar.test)) == (50_000, 10_000)
    names = cifar.train.class_names
    assert names[:3] == ("apple", "aquarium_fish", "baby")
    assert names[-1] == "worm"
    trees = {n for n in names if n.endswith("_tree")}
    groups = {cifar.train.superclass_of[names.index(n)] for n in trees}
    (group,) = groups
    assert cifar.train.superclass_names[group] == "trees"


@pytest.mark.real_data
def test_real_cifar10_is_complete(real_cifar10: Path) -> None:
    cifar = read_cifar("cifar10", real_cifar10)
    assert (len(cifar.train), len(cifar.test)) == (50_000, 10_000)
    assert np.bincount(cifar.test.labels).tolist() == [1000] * 10
    assert cifar.train.class_names[3] == "cat"
