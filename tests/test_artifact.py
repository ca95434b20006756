"""Artifacts: packing, bit-identical networks, honest sizes, damage."""

import json
import math
import pickle
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.utils.parametrize import register_parametrization

from lq_utils.artifact import (
    FIELD,
    ArtifactError,
    _digest,
    load_quantized,
    save_quantized,
    size_report,
)
from lq_utils.cache import canonical_json
from lq_utils.grids import QUANTIZERS, Alphabet, register_quantizer
from lq_utils.hybrid import hybrid_network
from lq_utils.hybrid_inputs import input_rules
from lq_utils.lockstep import Quantized, quantize
from lq_utils.low_bit import BinaryConnect, Ternary
from lq_utils.low_bit_base import LowBitWeight
from lq_utils.low_bit_storage import low_bit_quantized
from lq_utils.models import MODELS, build_model, register_model
from lq_utils.packing import PackingError, pack, packed_size, unpack
from lq_utils.plans import Plan

PARTS = ["code_bits", "scale_bits", "zero_point_bits", "float_bits"]


class Tiny(nn.Module):
    """Strided, depthwise, grouped and 1x1 convolutions; a late norm."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, stride=2, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(4)
        self.depthwise = nn.Conv2d(4, 4, 3, groups=4)
        self.grouped = nn.Conv2d(4, 6, 1, groups=2, bias=False)
        self.late = nn.BatchNorm2d(6)
        self.fc = nn.Linear(6, outputs)
        self.register_buffer("shift", torch.arange(6))

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.bn(self.conv(x)))
        x = torch.relu(self.grouped(torch.relu(self.depthwise(x))))
        return self.fc(self.late(x).mean(dim=(2, 3)) + self.shift)


@pytest.fixture(autouse=True)
def tiny_model() -> Iterator[None]:
    register_model("tiny", replace=True)(Tiny)
    yield
    del MODELS._entries["tiny"]


def trained_tiny() -> nn.Module:
    """Statistics and weights that differ from those of a new network."""
    model = build_model("tiny", 5, seed=3)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for tensor in model.state_dict().values():
            if tensor.is_floating_point():
                noise = torch.rand(tensor.shape, generator=generator)
                tensor.add_(0.5 * noise)
    return model


def images(count: int = 4) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(count, 3, 12, 12, generator=generator)


def quantized_tiny(
    bits: int = 3, quantize_options: dict[str, Any] | None = None, **row: Any
) -> Quantized:
    model = trained_tiny()
    row = {"solver": "rtn", "scale": "max", **row}
    plan = Plan.uniform(model, bits, **row)
    return quantize(model, plan, images(), **(quantize_options or {}))


def assert_same_network(first: nn.Module, second: nn.Module) -> None:
    assert not second.training
    with torch.no_grad():
        expected, found = first(images(6)), second(images(6))
    assert torch.equal(expected.view(torch.int32), found.view(torch.int32))


# Packing


@given(st.data(), st.integers(1, 63), st.integers(0, 40))
def test_packing_round_trip(data: Any, bits: int, count: int) -> None:
    codes = torch.tensor(
        data.draw(
            st.lists(
                st.integers(0, 2**bits - 1), min_size=count, max_size=count
            )
        ),
        dtype=torch.int64,
    )
    packed = pack(codes, bits)
    assert packed.dtype == torch.uint8
    assert len(packed) == packed_size(count, bits) == -(-count * bits // 8)
    assert torch.equal(unpack(packed, bits, codes.shape), codes)
    # Independently: one long binary number, filled up on the right.
    text = "".join(f"{int(code):0{bits}b}" for code in codes)
    text += "0" * (-len(text) % 8)
    expected = [int(text[k : k + 8], 2) for k in range(0, len(text), 8)]
    assert packed.tolist() == expected


@pytest.mark.parametrize("bits", [1, 3, 8, 11, 33])
def test_packing_more_than_one_chunk(bits: int) -> None:
    generator = torch.Generator().manual_seed(bits)
    codes = torch.randint(0, 2**bits, (13, 10_091), generator=generator)
    packed = pack(codes, bits)
    assert len(packed) == math.ceil(codes.numel() * bits / 8)
    assert torch.equal(unpack(packed, bits, codes.shape), codes)


def test_packing_refuses_what_does_not_fit() -> None:
    with pytest.raises(PackingError, match="from 0 to 8 do not fit"):
        pack(torch.tensor([0, 8]), 3)
    with pytest.raises(PackingError, match="from -1 to 2"):
        pack(torch.tensor([-1, 2]), 3)
    with pytest.raises(PackingError, match="integers"):
        pack(torch.tensor([1.0]), 3)
    for bits in (0, 64):
        with pytest.raises(PackingError, match="1 to 63"):
            pack(torch.tensor([0]), bits)
    packed = pack(torch.tensor([1, 2, 3]), 3)
    for shape in ((2,), (6,)):
        with pytest.raises(PackingError, match="not \\[2\\]"):
            unpack(packed, 3, shape)
    with pytest.raises(PackingError, match="bits of no code"):
        unpack(packed | 1, 3, (3,))


# Round trip

ROWS: list[tuple[int, dict[str, Any]]] = [
    (1, {"quantizer": "binary", "scale": "mse"}),
    (2, {"quantizer": "ternary", "scale": "mse"}),
    (2, {"quantizer": "full-range", "granularity": "tensor"}),
    (3, {"quantizer": "mid-tread", "solver": "gpfq"}),
    (3, {"quantizer": "power-of-two", "granularity": "group:5"}),
    (4, {"quantizer": "asymmetric", "granularity": "group:4"}),
    (4, {"quantizer": "asymmetric", "granularity": "tensor"}),
    (4, {"scale": "output", "solver": "gptq", "polish": 1}),
    (8, {"quantizer": "narrow", "scale": "percentile"}),
    (32, {}),
    (32, {"quantizer": "mid-tread"}),
    (32, {"quantizer": "asymmetric"}),
]


@pytest.mark.parametrize(("bits", "row"), ROWS)
def test_loaded_network_is_bit_identical(
    tmp_path: Path, bits: int, row: dict[str, Any]
) -> None:
    quantized = quantized_tiny(bits, **row)
    path = tmp_path / "net.safetensors"
    size = save_quantized(path, quantized, "tiny", 5)
    assert path.stat().st_size == size
    loaded = load_quantized(path)
    assert_same_network(quantized.model, loaded)
    report = size_report(quantized, "tiny", 5)
    planned = quantized.plan.size_bits(trained_tiny())
    assert sum(report[part] for part in PARTS) == planned
    # A layer fills up its last byte; there are four layers.
    assert 0 <= report["padding_bits"] < 4 * 8
    stored = planned + report["padding_bits"] + 8 * report["header_bytes"]
    assert stored == 8 * report["file_bytes"] == 8 * size


@pytest.mark.parametrize("fold", [True, False])
@pytest.mark.parametrize("correct", [True, False])
@pytest.mark.parametrize("reestimate", [True, False])
def test_options_of_calibration_are_kept(
    tmp_path: Path, fold: bool, correct: bool, reestimate: bool
) -> None:
    options = {
        "fold": fold,
        "bias_correction": correct,
        "reestimate_batch_norm": reestimate,
    }
    quantized = quantized_tiny(2, options, solver="gpfq")
    path = tmp_path / "net.safetensors"
    save_quantized(path, quantized, "tiny", 5)
    assert_same_network(quantized.model, load_quantized(path))


def test_partial_plans_keep_the_other_layers(tmp_path: Path) -> None:
    model = trained_tiny()
    plan = Plan.uniform(model, 4, solver="rtn", scale="max")
    plan = plan.keep_first_last_full().override("grouped", bits=6)
    quantized = quantize(model, plan, images())
    path = tmp_path / "net.safetensors"
    save_quantized(path, quantized, "tiny", 5)
    assert_same_network(quantized.model, load_quantized(path))
    nothing = quantize(model, Plan.uniform(model, None), images())
    save_quantized(path, nothing, "tiny", 5)
    assert_same_network(nothing.model, load_quantized(path))


def test_the_header_is_small_beside_a_network(tmp_path: Path) -> None:
    model = build_model("resnet20", 3)
    plan = Plan.uniform(model, 2, solver="rtn", scale="max")
    quantized = quantize(model, plan, torch.rand(1, 3, 16, 16))
    path = tmp_path / "net.safetensors"
    size = save_quantized(path, quantized, "resnet20", 3)
    assert_same_network(quantized.model, load_quantized(path))
    assert size <= 1.06 * plan.size_bits(model) / 8


def test_a_students_quantizer_needs_no_registration_to_load(
    tmp_path: Path,
) -> None:
    register_quantizer("mine", replace=True)(
        lambda bits: Alphabet("mine", 3, -0.3, codebook=(-0.3, 0.1, 0.7))
    )
    try:
        quantized = quantized_tiny(2, quantizer="mine")
    finally:
        path = tmp_path / "net.safetensors"
        save_quantized(path, quantized, "tiny", 5)
        del QUANTIZERS._entries["mine"]
    assert_same_network(quantized.model, load_quantized(path))


# What cannot be stored


def test_weights_off_their_grid_are_refused(tmp_path: Path) -> None:
    quantized = quantized_tiny(3)
    module = quantized.model.get_submodule("grouped")
    assert isinstance(module, nn.Conv2d)
    module.weight = nn.Parameter(1.01 * module.weight.detach())
    path = tmp_path / "net.safetensors"
    with pytest.raises(ArtifactError, match="'grouped': .* do not lie"):
        save_quantized(path, quantized, "tiny", 5)
    assert not list(tmp_path.iterdir())


def test_other_networks_are_refused(tmp_path: Path) -> None:
    quantized = quantized_tiny(3)
    for name, outputs in (("tiny", 6), ("quantnet", 5), ("resnet20", 5)):
        with pytest.raises(ArtifactError, match=f"build_model\\('{name}'"):
            save_quantized(tmp_path / "x", quantized, name, outputs)
    conv = quantized.model.get_submodule("conv")
    assert isinstance(conv, nn.Conv2d)
    conv.stride = (1, 1)
    with pytest.raises(ArtifactError, match="is not the one"):
        save_quantized(tmp_path / "x", quantized, "tiny", 5)


# Damage


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    path = tmp_path / "net.safetensors"
    save_quantized(path, quantized_tiny(3), "tiny", 5)
    return path


def rewrite(path: Path, change: dict[str, Any]) -> None:
    """The same file with other header fields and the old checksum."""
    with safe_open(path, framework="pt") as file:
        header = json.loads(file.metadata()[FIELD])
    header.update(change)
    save_file(load_file(path), path, {FIELD: json.dumps(header)})


def sign_again(path: Path, tensors: dict[str, Tensor]) -> None:
    """Write these tensors under the file's header, checksum renewed."""
    with safe_open(path, framework="pt") as file:
        header = json.loads(file.metadata()[FIELD])
    del header["sha256"]
    header["sha256"] = _digest(tensors, header)
    save_file(tensors, path, {FIELD: canonical_json(header)})


@pytest.mark.parametrize("keep", [0, 5, 100, 1000, -1])
def test_truncated_files_are_refused(stored: Path, keep: int) -> None:
    stored.write_bytes(stored.read_bytes()[:keep])
    with pytest.raises(ArtifactError, match="damaged"):
        load_quantized(stored)


def test_no_flipped_bit_goes_unnoticed(stored: Path) -> None:
    intact = stored.read_bytes()
    (length,) = struct.unpack("<Q", intact[:8])
    generator = torch.Generator().manual_seed(0)
    places = torch.randint(0, len(intact), (150,), generator=generator)
    data = range(8 + length, len(intact), 97)
    for place in [*range(9), *places.tolist(), *data]:
        broken = bytearray(intact)
        broken[place] ^= 1 << (place % 8)
        stored.write_bytes(bytes(broken))
        try:
            loaded = load_quantized(stored)
        except ArtifactError:
            continue
        # Only blanks that fill up the header carry nothing.
        assert chr(intact[place]) == " "
        assert loaded is not None


def test_foreign_files_are_refused_and_never_executed(
    tmp_path: Path,
) -> None:
    marker = tmp_path / "executed"

    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (marker,))

    path = tmp_path / "trap.safetensors"
    path.write_bytes(pickle.dumps(Trap()))
    with pytest.raises(ArtifactError, match="damaged or no safetensors"):
        load_quantized(path)
    torch.save({"trap": Trap()}, path)
    with pytest.raises(ArtifactError, match="damaged or no safetensors"):
        load_quantized(path)
    assert not marker.exists()
    save_file({"w": torch.zeros(2)}, path)
    with pytest.raises(ArtifactError, match="holds no quantized network"):
        load_quantized(path)
    for text in ("[1]", '"lq"', "null", '{"format": "other"}'):
        save_file({"w": torch.zeros(2)}, path, {"lq": text})
        with pytest.raises(ArtifactError, match="holds no quantized"):
            load_quantized(path)
    for text in ("{", "[" * 100_000, '{"format": "lq-quantized", "a": NaN}'):
        save_file({"w": torch.zeros(2)}, path, {"lq": text})
        with pytest.raises(ArtifactError, match="damaged"):
            load_quantized(path)
    with pytest.raises(ArtifactError, match="no quantized network at"):
        load_quantized(tmp_path / "none.safetensors")
    with pytest.raises(ArtifactError, match="no quantized network at"):
        load_quantized(tmp_path)


def test_newer_versions_are_refused(stored: Path) -> None:
    rewrite(stored, {"version": 3})
    with pytest.raises(ArtifactError, match="version 3.*update the package"):
        load_quantized(stored)


def test_changed_headers_are_refused(stored: Path) -> None:
    rewrite(stored, {"outputs": 4})
    with pytest.raises(ArtifactError, match="checksum"):
        load_quantized(stored)


@pytest.mark.parametrize(
    "change",
    [
        {"outputs": 4},
        {"outputs": "5"},
        {"outputs": 1e300},
        {"model": "resnet20"},
        {"fold": False},
        {"biases": ["nowhere"]},
        {"biases": 3},
        {"layout": "0"},
        {"plan": "layer,bits\nconv,x\n"},
        {"plan": "layer,bits\nnowhere,3\n"},
        {"plan": None},
        {"alphabets": []},
        {"alphabets": [["symmetric", 8]]},
        {"alphabets": [["symmetric", 2**70, -4, 1, False]]},
        {"grids": []},
        {"grids": [[0, 2, 2, 2]] * 4},
        {"grids": [[0, -1, 1, 27]] * 4},
    ],
)
def test_files_made_to_mislead_are_refused(
    stored: Path, change: dict[str, Any]
) -> None:
    """With a right checksum, but content that does not fit together."""
    rewrite(stored, change)
    sign_again(stored, load_file(stored))
    with pytest.raises(ArtifactError, match="does not fit the network"):
        load_quantized(stored)


@pytest.mark.parametrize("name", ["codes", "scales", "rest.float32"])
@pytest.mark.parametrize("longer", [True, False])
def test_tensors_of_another_length_are_refused(
    stored: Path, name: str, longer: bool
) -> None:
    tensors = load_file(stored)
    flat = tensors[name]
    tensors[name] = torch.cat([flat, flat[:1]]) if longer else flat[:-1]
    sign_again(stored, tensors)
    with pytest.raises(ArtifactError, match="too long|too short"):
        load_quantized(stored)


def test_unregistered_models_are_named(stored: Path) -> None:
    builder = MODELS._entries.pop("tiny")
    try:
        with pytest.raises(ArtifactError, match="'tiny'.*Register the model"):
            load_quantized(stored)
    finally:
        MODELS._entries["tiny"] = builder


def test_failed_writes_leave_the_old_file(stored: Path) -> None:
    before = stored.read_bytes()
    quantized = quantized_tiny(2)
    del quantized.grids["fc"]
    with pytest.raises(ArtifactError, match="'fc' has bits .* no grid"):
        save_quantized(stored, quantized, "tiny", 5)
    assert stored.read_bytes() == before
    assert [p.name for p in stored.parent.iterdir()] == [stored.name]


# Quantized inputs


def sealed(path: Path, change: dict[str, Any]) -> None:
    """The same file with other header fields and a checksum of its own."""
    tensors = load_file(path)
    with safe_open(path, framework="pt") as file:
        header = json.loads(file.metadata()[FIELD])
    header.update(change)
    del header["sha256"]
    header["sha256"] = _digest(tensors, header)
    save_file(tensors, path, {FIELD: canonical_json(header)})


def header_of(path: Path) -> dict[str, Any]:
    with safe_open(path, framework="pt") as file:
        return json.loads(file.metadata()[FIELD])


@pytest.mark.parametrize("place", ["relu", "pool", "after relu"])
def test_quantized_inputs_are_stored(tmp_path: Path, place: str) -> None:
    network = hybrid_network(
        trained_tiny().eval(), {"grouped": 2, "depthwise": 1},
        keep_relu=place == "after relu", after_pooling=place == "pool",
        activation_clip=0.75, activation_scale=True, scale_mode="absmax",
        granularity="channel",
    )  # fmt: skip
    path = tmp_path / "net.safetensors"
    save_quantized(path, low_bit_quantized(network), "tiny", 5)
    assert header_of(path)["activations"] == {
        "depthwise": [1, 0.75, True, place],
        "grouped": [2, 0.75, True, place],
    }
    loaded = load_quantized(path)
    assert_same_network(network, loaded)
    assert input_rules(loaded) == input_rules(network)


@pytest.mark.parametrize("kind", [BinaryConnect, Ternary])
def test_weights_without_a_plan_of_few_bits_are_stored(
    tmp_path: Path, kind: type[LowBitWeight]
) -> None:
    network = trained_tiny().eval()
    register_parametrization(network.grouped, "weight", kind())
    quantized, path = low_bit_quantized(network), tmp_path / "net.safetensors"
    save_quantized(path, quantized, "tiny", 5)
    assert_same_network(network, load_quantized(path))
    assert quantized.plan["grouped"].bits == kind().bits
    report = size_report(quantized, "tiny", 5)
    assert report["code_bits"] == 12 * kind().bits


def test_files_without_quantized_inputs_say_nothing_of_them(
    stored: Path,
) -> None:
    assert "activations" not in header_of(stored)
    before = load_quantized(stored)
    sealed(stored, {"activations": {}})
    assert_same_network(before, load_quantized(stored))
    # An intact file may ask for inputs that are rounded; it gets them.
    sealed(stored, {"activations": {"fc": [1, 1.0, False, "after relu"]}})
    assert list(input_rules(load_quantized(stored))) == ["fc"]


WRONG: list[Any] = [
    {"nothing": [1, 1.0, False, "relu"]},
    {"grouped": [0, 1.0, False, "relu"]},
    {"grouped": [1, -1.0, False, "relu"]},
    {"grouped": [1, 1.0, False, "somewhere"]},
    {"grouped": [True, 1.0, False, "relu"]},
    {"grouped": [1, 1.0, False]},
    {"grouped": None},
    ["grouped"],
    7,
]


@pytest.mark.parametrize("rules", WRONG)
def test_wrong_rules_of_inputs_are_refused(stored: Path, rules: Any) -> None:
    sealed(stored, {"activations": rules})
    with pytest.raises(ArtifactError, match="store it"):
        load_quantized(stored)
