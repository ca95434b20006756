"""Weight files: round trip, damage, records, the committed references."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from lq_utils import train_reference
from lq_utils.data import DataError, Provenance
from lq_utils.models import build_model
from lq_utils.train_reference import REFERENCES, Reference
from lq_utils.weights import (
    WeightsError,
    load_reference,
    load_weights,
    reference_path,
    reference_record,
    require_same_split,
    save_weights,
)

COMMITTED = [
    reference
    for reference in REFERENCES
    if reference_path(reference.model, reference.dataset).exists()
]


def stored(tmp_path: Path) -> tuple[Path, torch.nn.Module]:
    model = build_model("resnet20", 3, seed=4)
    path = tmp_path / "net.safetensors"
    record = {"num_outputs": 3, "class_names": ["a", "b", "c"]}
    save_weights(path, model, "resnet20", record)
    return path, model


def test_round_trip_is_exact(tmp_path: Path) -> None:
    path, model = stored(tmp_path)
    loaded = load_weights(path)
    assert not loaded.training
    for name, value in model.state_dict().items():
        assert torch.equal(value, loaded.state_dict()[name])


def test_missing_file_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="make train"):
        load_weights(tmp_path / "nothing.safetensors")


@pytest.mark.parametrize("keep", [0, 7, 1000])
def test_truncated_file_is_refused(tmp_path: Path, keep: int) -> None:
    path, _ = stored(tmp_path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(WeightsError, match="damaged"):
        load_weights(path)


def test_foreign_safetensors_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "foreign.safetensors"
    save_file({"w": torch.zeros(2)}, path)
    with pytest.raises(WeightsError, match="not a weight file"):
        load_weights(path)


def test_tensors_of_another_shape_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    model = build_model("resnet20", 5)
    save_weights(
        path, model, "resnet20", {"num_outputs": 3, "class_names": []}
    )
    with pytest.raises(WeightsError, match="not a weight file"):
        load_weights(path)


def test_references_are_the_four_of_the_book() -> None:
    assert [reference.name for reference in REFERENCES] == [
        "resnet20_cifar100",
        "resnet20_cifar10",
        "mobilenetv2_x0_5_cifar100",
        "resnet20_synthetic100",
    ]


def test_the_networks_that_the_chapters_load_are_committed() -> None:
    names = {reference.name for reference in COMMITTED}
    assert names >= {"resnet20_cifar100", "resnet20_synthetic100"}


@pytest.mark.parametrize("reference", COMMITTED, ids=lambda r: r.name)
def test_committed_reference_reaches_its_figure(reference: Reference) -> None:
    record = reference_record(reference.model, reference.dataset)
    assert (
        reference.least_accuracy
        <= record["test_accuracy"]
        <= reference.most_accuracy
    )
    best = max(row["validation_accuracy"] for row in record["history"])
    assert record["validation_accuracy"] == best
    chosen = record["history"][record["selected_epoch"]]
    assert chosen["validation_accuracy"] == best
    load_reference(reference.model, reference.dataset)


@pytest.mark.parametrize("reference", COMMITTED, ids=lambda r: r.name)
def test_model_card_is_the_one_its_record_makes(reference: Reference) -> None:
    path = reference_path(reference.model, reference.dataset)
    record = reference_record(reference.model, reference.dataset)
    card = path.with_suffix(".md").read_text()
    assert card == train_reference.model_card(record)


@pytest.mark.parametrize("reference", COMMITTED, ids=lambda r: r.name)
def test_weights_refuse_another_split(reference: Reference) -> None:
    names = (reference.model, reference.dataset)
    record = reference_record(*names)["data"]
    same = Provenance(
        record["dataset"], "a copy", record["fingerprint"], record["split"]
    )
    require_same_split(*names, same)
    with pytest.raises(DataError, match="book split"):
        require_same_split(*names, replace(same, split="official"))
