"""Passes on a device: the same as the book's own calibration on a CPU."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import pytest
import torch
from large_samples import TinyNet, part
from torch import nn

from lq_utils import data_free_study as st
from lq_utils import label_aware as la
from lq_utils import large_cells as lc
from lq_utils.calibration import calibration_set
from lq_utils.device_quantization import (
    Remote,
    fine_tune_there,
    quantize_there,
)
from lq_utils.fine_tuning import fine_tune
from lq_utils.lockstep import CalibrationError, quantize
from lq_utils.models import MODELS, build_model, register_model
from lq_utils.plans import Plan

TRAIN, HELD_OUT = part("train", 8), part("test", 5)
INPUTS = {"train": TRAIN, "held_out": HELD_OUT}


@pytest.fixture(autouse=True)
def tiny_model() -> Iterator[None]:
    register_model("tinynet", replace=True)(TinyNet)
    yield
    del MODELS._entries["tinynet"]


def network() -> nn.Module:
    found = build_model("tinynet", 6, seed=2).eval()
    with torch.no_grad():
        found.fc.weight.mul_(10)
    return found


@pytest.mark.parametrize("method", ["published", "book"])
@pytest.mark.parametrize("correction", [False, True])
def test_same_weights_as_lockstep(method: str, correction: bool) -> None:
    fields = dict(la.METHODS[method])
    fold = fields.pop("fold")
    original = network()
    before = copy.deepcopy(original.state_dict())
    plan = Plan.uniform(original, 3, **fields)
    images = calibration_set(TRAIN, 20, 0)
    expected = quantize(
        original, plan, images, fold=fold, bias_correction=correction
    )
    found = quantize_there(
        original, plan, images, "cpu", fold=fold, bias_correction=correction
    )
    for name, tensor in expected.model.state_dict().items():
        ours = found.model.state_dict()[name]
        assert torch.allclose(ours, tensor, atol=1e-6), name
    columns = ["layer", "bits", "levels", "dead_columns"]
    assert found.layers[columns].equals(expected.layers[columns])
    for name, tensor in original.state_dict().items():
        assert torch.equal(tensor, before[name])


def test_unusable_images() -> None:
    plan = Plan.uniform(network(), 4)
    with pytest.raises(CalibrationError, match="at least one"):
        quantize_there(network(), plan, torch.zeros(0, 3, 8, 8), "cpu")


def test_a_remote_network_passes_images_and_gradients() -> None:
    original = network()
    twin = copy.deepcopy(original)
    there = Remote(twin, "cpu")
    x = torch.randn(4, 3, 32, 32)
    assert torch.equal(there(x), original(x))
    there(x).square().sum().backward()
    original(x).square().sum().backward()
    for ours, expected in zip(twin.parameters(), original.parameters()):
        assert torch.equal(ours.grad, expected.grad)


def test_fine_tuning_is_the_books() -> None:
    how = {"steps": 3, "learning_rate": 1e-2, "seed": 1}
    found = fine_tune_there(network(), TRAIN, (0, 2), "cpu", **how)
    expected = fine_tune(network(), TRAIN, (0, 2), **how)
    for name, tensor in expected.state_dict().items():
        assert torch.equal(found.state_dict()[name], tensor), name
    assert not torch.equal(found.fc.weight, network().fc.weight)


@pytest.mark.parametrize("drawn_from", ["subset", "all", "noise"])
def test_quantized_rows_are_those_of_chapter_3(drawn_from: str) -> None:
    cell = {
        "settings": la.settings("book"),
        "bits": 3,
        "drawn_from": drawn_from,
        "classes": (0, 2, 4) if drawn_from == "subset" else (),
        "images": 12,
        "draw": 1,
        "tested": ((0, 2, 4), (1, 2, 3)),
        "name": "book",
    }
    found = lc.quantized_rows(
        **cell, **INPUTS, network=network(), device="cpu"
    )
    expected = la.quantized_rows(
        **cell, **INPUTS, network=network(), patch_fraction=1.0
    )
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.pop("relative_error") == pytest.approx(
            theirs.pop("relative_error"), rel=1e-4
        )
        assert ours == theirs


def test_fine_tuned_rows_are_those_of_chapter_3() -> None:
    cell = {
        "settings": la.settings("published"),
        "bits": (3, 8),
        "classes": (1, 5),
        "images": 12,
        "draw": 0,
        "steps": 3,
        "learning_rate": 1e-2,
    }
    found = lc.fine_tuned_rows(
        **cell, **INPUTS, network=network(), device="cpu"
    )
    expected = la.fine_tuned_rows(
        **cell, **INPUTS, network=network(), layers="all", patch_fraction=1.0
    )
    assert found == expected
    original = lc.original_rows(
        [(1, 5)], network=network(), held_out=HELD_OUT, device="cpu"
    )
    assert original == la.original_rows(
        [(1, 5)], network=network(), held_out=HELD_OUT
    )


@pytest.mark.parametrize("correction", st.CORRECTIONS)
@pytest.mark.parametrize("bits", [None, 3])
def test_scheme_rows_are_those_of_chapter_7(
    correction: str, bits: int | None
) -> None:
    cells = st.scheme_cells(
        ["tiny"],
        [bits],
        ["asymmetric"],
        correction=correction,
        subsets={"tiny": ((0, 1), (2, 3, 4))},
        images=20,
    )
    parts = {"tiny": {"train": TRAIN, "test": HELD_OUT}}
    found = lc.scheme_rows(
        **cells[0], networks={"tiny": network()}, parts=parts, device="cpu"
    )
    expected = st.scheme_rows(
        **cells[0], networks={"tiny": network()}, parts=parts
    )
    assert found == expected
