"""Image data, splits by content, and the ladder."""

from __future__ import annotations

import hashlib
import inspect
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from cifar_files import shrink, write_tiny
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from lq_utils import data as ladder
from lq_utils import tasks
from lq_utils.data import (
    DataError,
    ImageData,
    Provenance,
    Splits,
    book_split,
    fingerprint,
    image_hashes,
    load_dataset,
    require_book_split,
    require_selection_part,
    share_split,
)
from lq_utils.folders import SUFFIXES, read_image_folder
from lq_utils.recipes import TrainingConfig
from lq_utils.training import train

PLACE = Provenance("toy", "synthetic", "0" * 16, "none")


def toy(counts: list[int], seed: int = 0, levels: int = 256) -> ImageData:
    """Random 2x2 images, ``counts`` of each class, in random order."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat(np.arange(len(counts)), counts))
    images = rng.integers(0, levels, (len(labels), 2, 2, 3), dtype=np.uint8)
    names = tuple(f"class_{k}" for k in range(len(counts)))
    group_of = np.arange(len(counts)) % 2
    return ImageData(
        images, labels, names, ("even", "odd"), group_of, "all", PLACE
    )


def contents(part: ImageData) -> list[tuple[bytes, int]]:
    """The images of a part with their labels, in order."""
    pairs = zip(part.images, part.labels, strict=True)
    return [(image.tobytes(), int(label)) for image, label in pairs]


def parts(splits: Splits) -> list[ImageData]:
    return [splits.train, splits.validation, splits.test]


# ------------------------------------------------------------------ splits


@settings(max_examples=30)
@given(
    st.lists(st.integers(8, 14), min_size=1, max_size=4),
    st.integers(0, 10**6),
    st.sampled_from([2, 256]),  # with 2 levels many images are alike
)
def test_split_depends_on_content_only(
    counts: list[int], seed: int, levels: int
) -> None:
    data = toy(counts, seed, levels)
    order = np.random.default_rng(seed + 1).permutation(len(data))
    for split in (lambda d: book_split(d, 3, 2), share_split):
        one, two = split(data), split(data.take(order))
        for a, b in zip(parts(one), parts(two), strict=True):
            assert contents(a) == contents(b)
        together = [item for p in parts(one) for item in contents(p)]
        assert sorted(together) == sorted(contents(data))


@settings(max_examples=30)
@given(st.lists(st.integers(6, 40), min_size=1, max_size=4))
def test_sizes_and_smallest_hashes(counts: list[int]) -> None:
    data = toy(counts)
    splits = book_split(data, 2, 3)
    for k, count in enumerate(counts):
        hashes = [
            sorted(image_hashes(p.images[p.labels == k]))
            for p in (splits.test, splits.validation, splits.train)
        ]
        assert [len(h) for h in hashes] == [2, 3, count - 5]
        assert [h for part in hashes for h in part] == sorted(
            image_hashes(data.images[data.labels == k])
        )


def test_share_split_is_stratified_and_never_empty() -> None:
    splits = share_split(toy([100, 10, 3]))
    sizes = [np.bincount(p.labels).tolist() for p in parts(splits)]
    assert sizes == [[70, 7, 1], [10, 1, 1], [20, 2, 1]]
    with pytest.raises(DataError, match="class class_1 has 2 images"):
        share_split(toy([5, 2]))
    for shares in ((0.0, 0.2), (0.5, 0.5), (0.1, -1)):
        with pytest.raises(DataError, match="leave some for training"):
            share_split(toy([9, 9]), *shares)


def test_book_split_needs_training_images() -> None:
    with pytest.raises(DataError, match="leave none to train on"):
        book_split(toy([200, 150]))


def test_known_hash() -> None:
    (digest,) = image_hashes(np.zeros((1, 32, 32, 3), np.uint8))
    assert digest == hashlib.sha256(bytes(3072)).hexdigest()
    planes = np.arange(12, dtype=np.uint8).reshape(1, 3, 2, 2)
    strided = planes.transpose(0, 2, 3, 1)
    assert image_hashes(strided) == image_hashes(strided.copy())


@settings(max_examples=20)
@given(st.integers(0, 10**6))
def test_fingerprint_is_of_the_set(seed: int) -> None:
    data = toy([4, 5])
    hashes = image_hashes(data.images)
    name = fingerprint(hashes, data.labels)
    order = np.random.default_rng(seed).permutation(9)
    assert fingerprint(hashes[order], data.labels[order]) == name
    assert fingerprint(hashes, 1 - data.labels) != name
    assert fingerprint(hashes[1:], data.labels[1:]) != name
    assert len(name) == 16


# -------------------------------------------------------- test images stay


def test_training_and_selection_refuse_test_images() -> None:
    splits, config = book_split(toy([9, 9]), 2, 2), TrainingConfig(epochs=1)
    for part in (splits.test, toy([2, 2])):
        with pytest.raises(DataError, match="choice must not be made"):
            require_selection_part(part)
    assert require_selection_part(splits.validation) is splits.validation
    assert require_selection_part(splits.train) is splits.train
    with pytest.raises(DataError, match="test"):
        train("resnet20", splits.test, splits.validation, config)
    with pytest.raises(DataError, match="test"):
        train("resnet20", splits.train, splits.test, config)


def test_training_has_no_door_for_test_images() -> None:
    names = list(inspect.signature(train).parameters)
    assert names[1:3] == ["train_data", "validation_data"]
    assert not any("test" in name or "split" in name for name in names)


def test_splits_hold_every_part_in_its_place() -> None:
    splits = book_split(toy([9, 9]), 2, 2)
    with pytest.raises(DataError, match="validation was given the test"):
        Splits(splits.train, splits.test, splits.test)


@pytest.mark.parametrize("split", ["official", "pair 70-10-20", "none"])
def test_book_weights_refuse_other_splits(split: str) -> None:
    with pytest.raises(DataError, match='split="book"'):
        require_book_split(Provenance("cifar100", "official", "f", split))
    require_book_split(Provenance("cifar100", "official", "f", "book"))


# --------------------------------------------------------------- ImageData


def test_subset_relabels_in_the_given_order() -> None:
    data = toy([3, 4, 5])
    chosen = data.subset(["class_2", 0])
    assert chosen.class_names == ("class_2", "class_0")
    assert np.bincount(chosen.labels).tolist() == [5, 3]
    assert chosen.superclass_names == ("even",)
    assert chosen.superclass_of.tolist() == [0, 0]
    mine = sorted(c for c, k in contents(chosen) if k == 1)
    assert mine == sorted(c for c, k in contents(data) if k == 0)
    pair = data.pair("class_1", "class_2")
    assert pair.superclass_names == ("even", "odd")
    assert pair.superclass_of.tolist() == [1, 0]


def test_subset_errors_suggest() -> None:
    data = toy([3, 4, 5])
    with pytest.raises(DataError, match="did you mean .*class_1"):
        data.subset(["clas_1"])
    with pytest.raises(DataError, match=r"class 3 is not in 0\.\.2"):
        data.subset([3])
    for classes in ([], [1, 1], [1, "class_1"]):
        with pytest.raises(DataError, match="each once"):
            data.subset(classes)


def test_per_class_is_balanced_and_repeatable() -> None:
    data = toy([30, 40])
    drawn = data.per_class(20, seed=3)
    assert np.bincount(drawn.labels).tolist() == [20, 20]
    assert len(set(contents(drawn))) == 40
    assert contents(drawn) == contents(data.per_class(20, seed=3))
    assert contents(drawn) != contents(data.per_class(20, seed=4))
    with pytest.raises(DataError, match="class_0 has 30"):
        data.per_class(31)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": np.zeros((4, 2, 2, 3))}, "not uint8"),
        ({"images": np.zeros((4, 3, 2, 2), np.uint8)}, "not uint8"),
        ({"labels": np.zeros(3, np.int64)}, "3 labels for images"),
        ({"labels": np.full(4, 2)}, "labels count from 0"),
        ({"labels": np.full(4, -1)}, "labels count from 0"),
        ({"superclass_of": np.zeros(3, np.int64)}, "3 superclass_of"),
        ({"part": "exam"}, "part 'exam'"),
    ],
)
def test_inconsistent_data_is_refused(change: dict, message: str) -> None:
    with pytest.raises(DataError, match=message):
        replace(toy([2, 2]), **change)


def test_stamp() -> None:
    place = Provenance("cifar100", "unofficial copy", "12ab", "book")
    assert place.stamp() == (
        "CIFAR-100, book split, unofficial copy (fingerprint 12ab)"
    )


# ------------------------------------------------------------------ ladder


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty data folder, and small counts everywhere."""
    monkeypatch.setenv("LQ_DATA_DIR", str(tmp_path))
    shrink(monkeypatch)
    monkeypatch.setattr("lq_utils.synthetic.TOTAL", 1000)
    monkeypatch.setattr(ladder, "CIFAR10_VALIDATION", 2)
    monkeypatch.setattr(ladder, "OFFICIAL_VALIDATION", 1)
    monkeypatch.setattr(ladder, "TEN_TEST", 5)
    return tmp_path


def test_auto_without_data_is_synthetic_and_loud(
    empty: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    splits = load_dataset("auto10")
    assert splits.provenance.dataset == "synthetic10"
    assert [len(p) for p in parts(splits)] == [930, 20, 50]
    said = capsys.readouterr().out
    assert "NO REAL DATA: CIFAR-10 is not in" in said
    assert "make data" in said
    assert splits.provenance.stamp() in said
    assert ladder.resolve_name("auto") == "synthetic100"
    assert list(empty.iterdir()) == []


def test_auto_takes_real_data_that_is_there(
    empty: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_tiny(empty, "cifar10")
    splits = load_dataset("auto10")
    assert splits.provenance.dataset == "cifar10"
    assert splits.provenance.split == "book"
    assert [len(p) for p in parts(splits)] == [80, 20, 20]
    assert "unofficial copy" in capsys.readouterr().out
    assert len(ladder.pool("auto10", verbose=False)) == 120


def test_cifar10_keeps_the_official_test_part(empty: Path) -> None:
    write_tiny(empty, "cifar10")
    splits = load_dataset("cifar10", verbose=False)
    archive = ladder.cifar.read_cifar("cifar10")
    assert sorted(contents(splits.test)) == sorted(contents(archive.test))
    for k in range(10):
        rows = archive.train.labels == k
        smallest = sorted(archive.train_hashes[rows])[:2]
        mine = splits.validation.images[splits.validation.labels == k]
        assert image_hashes(mine).tolist() == smallest


def test_official_split_is_named(empty: Path) -> None:
    write_tiny(empty, "cifar100")
    splits = load_dataset("cifar100", "official", verbose=False)
    assert splits.provenance.split == "official"
    assert [len(p) for p in parts(splits)] == [200, 100, 100]
    archive = ladder.cifar.read_cifar("cifar100")
    assert sorted(contents(splits.test)) == sorted(contents(archive.test))
    with pytest.raises(DataError, match="book"):
        require_book_split(splits.provenance)


def test_auto_does_not_step_over_damaged_data(empty: Path) -> None:
    base = write_tiny(empty, "cifar10")
    content = (base / "test_batch").read_bytes()
    (base / "test_batch").write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match="test_batch is damaged"):
        load_dataset("auto10", verbose=False)


@pytest.mark.parametrize(
    ("name", "split", "message"),
    [
        ("cifar11", "book", "no data set 'cifar11': use one of auto, "),
        ("cifar10", "book", "--dataset cifar10"),
        ("cifar100", "mine", "no split 'mine'"),
        ("synthetic10", "official", "no official split"),
        ("imagefolder:/no/such", "book", "no folder /no/such"),
    ],
)
def test_impossible_requests(
    empty: Path, name: str, split: str, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        load_dataset(name, split, verbose=False)


def test_command_line_check(
    empty: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ladder.main(["--check"]) == 0
    assert "CIFAR-100: not in" in capsys.readouterr().out
    base = write_tiny(empty, "cifar10")
    assert ladder.main(["--check", "--dataset", "cifar10"]) == 0
    assert "unofficial copy in" in capsys.readouterr().out
    (base / "test_batch").unlink()
    assert ladder.main(["--check"]) == 1
    assert "ERROR: " in capsys.readouterr().out


# ----------------------------------------------------------- image folders


def write_folder(base: Path, counts: dict[str, int], size: int = 40) -> None:
    rng = np.random.default_rng(0)
    for name, count in counts.items():
        (base / name).mkdir(parents=True)
        for i in range(count):
            pixels = rng.integers(0, 256, (size, size + 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(base / name / f"{i}.png")


def test_image_folder(tmp_path: Path) -> None:
    write_folder(tmp_path / "pets", {"dog": 10, "cat": 20})
    (tmp_path / "pets" / "notes.txt").write_text("not an image")
    name = f"imagefolder:{tmp_path / 'pets'}"
    splits = load_dataset(name, image_size=16, verbose=False)
    assert splits.train.class_names == ("cat", "dog")
    assert [len(p) for p in parts(splits)] == [21, 3, 6]
    assert splits.train.images.shape[1:] == (16, 16, 3)
    assert splits.provenance.rung == "image folder"
    assert splits.provenance.split == "70-10-20"
    original = load_dataset(name, image_size=40, verbose=False)
    with Image.open(tmp_path / "pets" / "dog" / "0.png") as image:
        centre = np.asarray(image)[:, 4:44]
    everything = np.concatenate([p.images for p in parts(original)])
    assert (everything == centre).all(axis=(1, 2, 3)).sum() == 1


def test_every_known_file_type_is_read(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for k, suffix in enumerate(sorted(SUFFIXES)):
            grey = np.full((9, 9, 3), 20 * k, np.uint8)
            file = tmp_path / name / f"{k}{suffix.upper()}"
            Image.fromarray(grey).save(file)
    found = read_image_folder(tmp_path, 8)
    assert np.bincount(found.labels).tolist() == [len(SUFFIXES)] * 2


def test_image_folder_errors(tmp_path: Path) -> None:
    write_folder(tmp_path / "one", {"cat": 3})
    with pytest.raises(DataError, match="has 1 class folders"):
        load_dataset(f"imagefolder:{tmp_path / 'one'}")
    write_folder(tmp_path / "two", {"cat": 3, "dog": 0})
    with pytest.raises(DataError, match="no images in dog"):
        load_dataset(f"imagefolder:{tmp_path / 'two'}")
    write_folder(tmp_path / "bad", {"cat": 3, "dog": 3})
    with pytest.raises(DataError, match="image_size=4"):
        load_dataset(f"imagefolder:{tmp_path / 'bad'}", image_size=4)
    broken = tmp_path / "bad" / "dog" / "1.png"
    broken.write_bytes(broken.read_bytes()[:700])
    with pytest.raises(DataError, match=r"dog/1\.png cannot be read"):
        load_dataset(f"imagefolder:{tmp_path / 'bad'}")


# ------------------------------------------------------------------- tasks


def test_pair_task_is_split_70_10_20(empty: Path) -> None:
    write_tiny(empty, "cifar10")
    splits = tasks.pair_task("cat", "dog", verbose=False)
    assert [np.bincount(p.labels).tolist() for p in parts(splits)] == [
        [9, 9],
        [1, 1],
        [2, 2],
    ]
    assert splits.train.class_names == ("cat", "dog")
    assert splits.provenance.split == "pair 70-10-20"
    assert splits.provenance.stamp().startswith("CIFAR-10 cat/dog, pair")
    with pytest.raises(DataError, match="each once"):
        tasks.pair_task("cat", "cat", verbose=False)


def test_thesis_tasks_by_name(empty: Path) -> None:
    write_tiny(empty, "cifar10")
    found = tasks.thesis_tasks(verbose=False)
    assert {n: s.train.class_names for n, s in found.items()} == {
        "cat/dog": ("cat", "dog"),
        "horse/frog": ("horse", "frog"),
        "rotated cat/dog": ("cat", "dog"),
    }
    plain, turned = found["cat/dog"].test, found["rotated cat/dog"].test
    assert (plain.labels == turned.labels).all()
    assert (plain.images != turned.images).any()


def test_rotated_pair_keeps_split_and_repeats(empty: Path) -> None:
    write_tiny(empty, "cifar10")
    plain = tasks.pair_task("cat", "dog", verbose=False)
    one, two, other = (
        tasks.pair_task("cat", "dog", rotated=True, seed=s, verbose=False)
        for s in (0, 0, 1)
    )
    for a, b, c, d in zip(*map(parts, (one, two, other, plain)), strict=True):
        np.testing.assert_array_equal(a.images, b.images)
        assert (a.images != c.images).mean() > 0.9
        assert a.labels.tolist() == d.labels.tolist()
    assert "rotated" in one.provenance.dataset
    first = [p.images[0].tobytes() for p in parts(one)]
    assert len(set(first)) == 3


def test_distortions_move_but_keep_colours() -> None:
    images = np.zeros((64, 32, 32, 3), np.uint8)
    images[:, 12:20, 20:28] = (200, 100, 50)
    labels = np.zeros(64, np.int64)
    data = ImageData(
        images, labels, ("x",), ("all",), np.zeros(1, int), "train", PLACE
    )
    moved = tasks.distort(data).images
    spot = moved[..., 0] > 150
    size = spot.sum(axis=(1, 2))
    assert 64 / 1.2**2 * 0.8 < size.min() < 58
    assert 70 < size.max() < 64 / 0.8**2 * 1.2
    across = np.arange(32) - 15.5
    left = (spot * across).sum(axis=(1, 2)) < 0
    assert 0.25 < left.mean() < 0.75
    np.testing.assert_allclose(
        moved[spot] / moved[spot][:, :1],
        [[1, 0.5, 0.25]] * spot.sum(),
        atol=0.02,
    )


def test_no_distortion_is_the_identity(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def upright(count: int, rng: np.random.Generator) -> torch.Tensor:
        return torch.eye(2, 3).expand(count, 2, 3)

    monkeypatch.setattr(tasks, "_grids", upright)
    data = toy([3, 3])
    np.testing.assert_array_equal(tasks.distort(data).images, data.images)


# --------------------------------------------------------------- real data


@pytest.mark.real_data
def test_real_book_split(real_cifar100: Path) -> None:
    splits = load_dataset("cifar100", verbose=False)
    assert [len(p) for p in parts(splits)] == [45_000, 5_000, 10_000]
    for part, count in zip(parts(splits), (450, 50, 100), strict=True):
        assert np.bincount(part.labels).tolist() == [count] * 100
    train_set, validation, test = (set(contents(p)) for p in parts(splits))
    assert not train_set & validation
    assert not (train_set | validation) & test
    # Every complete copy has these images, whatever the order.
    assert splits.provenance.fingerprint == "7916f7631ebd6a37"


@pytest.mark.real_data
def test_real_pair(real_cifar10: Path) -> None:
    splits = tasks.pair_task("cat", "dog", dataset="cifar10", verbose=False)
    assert [len(p) for p in parts(splits)] == [8_400, 1_200, 2_400]
    ten = load_dataset("cifar10", verbose=False)
    assert [len(p) for p in parts(ten)] == [45_000, 5_000, 10_000]
