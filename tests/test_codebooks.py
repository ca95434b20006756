"""Codebooks: clustered networks in a file, exact and as small as counted."""

from __future__ import annotations

import copy
import gzip
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from scipy.stats import entropy
from torch import Tensor, nn

from lq_utils.artifact import (
    FIELD,
    ArtifactError,
    _digest,
    load_quantized,
    save_quantized,
    size_report,
)
from lq_utils.cache import canonical_json
from lq_utils.codebooks import codebook_network, codebook_sizes
from lq_utils.compression import (
    cluster,
    cluster_preserving,
    fake_quantize,
    prune,
    strip,
)
from lq_utils.grids import GridError, codebook_grid
from lq_utils.lockstep import Quantized, quantize
from lq_utils.models import MODELS, build_model, register_model
from lq_utils.parametrizations import CompressionError
from lq_utils.plans import LayerPlan, Plan, PlanError
from lq_utils.registry import UnknownName

PARTS = [
    "code_bits",
    "codebook_bits",
    "scale_bits",
    "zero_point_bits",
    "float_bits",
]
LAYERS = ["conv1", "conv2", "linear1", "linear2", "output"]
# Of QuantNET: inner weights, the output's 16, biases.
INNER = {"conv1": 864, "conv2": 18_432, "linear1": 524_288, "linear2": 2_048}
OUTPUT, BIASES = 16, 32 + 64 + 128 + 16 + 1


class Small(nn.Module):
    """72 and 40 weights, a batch norm that could be folded."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 4, 3, bias=False)
        self.bn = nn.BatchNorm2d(4)
        self.fc = nn.Linear(4, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(torch.relu(self.bn(self.conv(x))).mean(dim=(2, 3)))


@pytest.fixture(autouse=True)
def small_model() -> Iterator[None]:
    register_model("small", replace=True)(Small)
    yield
    del MODELS._entries["small"]


@pytest.fixture(scope="module")
def quantnet() -> nn.Module:
    """Random weights, and biases that are not zero."""
    model = build_model("quantnet", 1).eval()
    generator = torch.Generator().manual_seed(5)
    for name, p in model.named_parameters():
        if name.endswith("bias"):
            p.data = torch.randn(p.shape, generator=generator)
    return model


@pytest.fixture(scope="module")
def clustered(quantnet: nn.Module) -> nn.Module:
    """At most 16 values a layer, plain weights."""
    return strip(cluster(quantnet, 16, method="density"))


def small(conv: list[float], fc: list[float]) -> nn.Module:
    """These weights, over and over, and a batch norm that does much."""
    model = build_model("small", 10, seed=1).eval()
    with torch.no_grad():
        for name, values in (("conv", conv), ("fc", fc)):
            weight = model.get_submodule(name).weight
            book = torch.tensor(values)
            index = torch.arange(weight.numel()) % len(values)
            weight.copy_(book[index].reshape(weight.shape))
        for tensor in (model.bn.weight, model.bn.bias, model.bn.running_mean):
            tensor += torch.rand(4, generator=torch.Generator().manual_seed(2))
    return model


def bits(x: Tensor) -> Tensor:
    return x.detach().contiguous().view(torch.int32)


def weight_of(model: nn.Module, name: str) -> Tensor:
    weight = model.get_submodule(name).weight
    assert isinstance(weight, Tensor)
    return weight


def assert_same(first: nn.Module, second: nn.Module, x: Tensor) -> None:
    """Parameters, buffers and outputs, bit for bit."""
    mine, yours = first.state_dict(), second.state_dict()
    assert list(mine) == list(yours)
    for name, tensor in mine.items():
        if tensor.is_floating_point():
            assert torch.equal(bits(tensor), bits(yours[name])), name
    with torch.no_grad():
        assert torch.equal(bits(first(x)), bits(second(x)))


def round_trip(
    quantized: Quantized, path: Path, name: str = "quantnet", outputs: int = 1
) -> nn.Module:
    """The network loaded again; its sizes must add up."""
    size = save_quantized(path, quantized, name, outputs)
    report = size_report(quantized, name, outputs)
    stored = sum(report[part] for part in PARTS) + report["padding_bits"]
    assert 8 * size == stored + 8 * report["header_bytes"]
    assert path.stat().st_size == size == report["file_bytes"]
    return load_quantized(path)


def images(channels: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(9)
    return torch.randn(4, channels, 32, 32, generator=generator)


# Round trip


@pytest.mark.parametrize("count", [2, 3, 16, 31, 256])
def test_loaded_networks_are_bit_identical(
    tmp_path: Path, quantnet: nn.Module, count: int
) -> None:
    trained = cluster(quantnet, count, method="density")
    plain = strip(trained)
    quantized = codebook_network(trained)
    loaded = round_trip(quantized, tmp_path / "net")
    assert_same(plain, loaded, images())
    for name in LAYERS:
        distinct = len(weight_of(plain, name).unique())
        row = quantized.plan[name]
        if name == "output" and count >= OUTPUT:
            # Of 16 weights a codebook of 16 makes no smaller layer.
            assert (row.bits, distinct) == (None, 16)
            continue
        assert distinct <= count
        assert quantized.plan.levels(name) == distinct
        assert 2 ** (row.bits - 1) < distinct <= 2**row.bits
    assert quantized.plan.size_bits(plain) == sum(
        size_report(quantized, "quantnet", 1)[part] for part in PARTS
    )


def test_sixteen_centroids_take_four_bits_a_weight(
    tmp_path: Path, clustered: nn.Module
) -> None:
    quantized = codebook_network(clustered)
    report = size_report(quantized, "quantnet", 1)
    weights = sum(INNER.values())
    assert weights + OUTPUT + BIASES == 545_889
    assert report["code_bits"] == 4 * weights
    assert report["codebook_bits"] == 32 * 16 * 4
    assert report["float_bits"] == 32 * (OUTPUT + BIASES)
    assert report["scale_bits"] == report["zero_point_bits"] == 0
    assert report["padding_bits"] == 0
    planned = 4 * weights + 32 * (16 * 4 + OUTPUT + BIASES)
    assert quantized.plan.size_bits(clustered) == planned
    assert report["header_bytes"] < 2_000
    assert 8 * report["file_bytes"] < planned + 8 * 2_000
    rows = quantized.layers.set_index("layer")
    assert rows.index.tolist() == list(INNER)
    assert (rows["bits"] == 4).all() and (rows["levels"] == 16).all()
    assert (rows["relative_error"] == 0).all()
    raw = b"".join(p.detach().numpy() for p in clustered.parameters())
    assert report["file_bytes"] < len(gzip.compress(raw)) < len(raw)


def test_pruned_and_clustered(tmp_path: Path, quantnet: nn.Module) -> None:
    pruned = cluster(prune(quantnet, 0.7), 16, method="linear")
    quantized = codebook_network(pruned)
    loaded = round_trip(quantized, tmp_path / "net")
    assert_same(strip(pruned), loaded, images())
    for name, weights in INNER.items():
        weight = weight_of(loaded, name)
        assert int((weight == 0).sum()) >= round(0.7 * weights)
        assert 0.0 in quantized.grids[name].alphabet.levels().tolist()


def test_quantized_weights_have_products_for_centroids(
    tmp_path: Path, quantnet: nn.Module, clustered: nn.Module
) -> None:
    whole = strip(fake_quantize(quantnet, 8))
    quantized = codebook_network(whole)
    assert quantized.plan["linear1"].bits == 8
    assert_same(whole, round_trip(quantized, tmp_path / "a"), images())
    both = cluster_preserving(clustered, 8)
    quantized = codebook_network(both, most=16 * 64)
    # One scale for all of a linear layer keeps its 16 values.
    assert quantized.plan["linear1"].bits == 4
    assert 16 < (quantized.plan.levels("conv2") or 0) <= 16 * 64
    assert_same(strip(both), round_trip(quantized, tmp_path / "b"), images())


def test_batch_norms_stay_what_they_are(tmp_path: Path) -> None:
    model = small([0.5, -0.25, 0.1], [1.0, 2.0])
    quantized = codebook_network(model)
    loaded = round_trip(quantized, tmp_path / "net", "small", 10)
    assert_same(quantized.model, loaded, images(2))
    with torch.no_grad():
        assert torch.equal(model(images(2)), loaded(images(2)))
    report = size_report(quantized, "small", 10)
    assert report["code_bits"] == 72 * 2 + 40
    assert report["codebook_bits"] == 32 * (3 + 2)
    # Four vectors of the batch norm, the bias of the last layer.
    assert report["float_bits"] == 32 * (4 * 4 + 10)


def test_one_value_takes_one_bit(tmp_path: Path) -> None:
    model = small([0.3], [-7.5])
    quantized = codebook_network(model)
    loaded = round_trip(quantized, tmp_path / "net", "small", 10)
    assert_same(quantized.model, loaded, images(2))
    assert (weight_of(loaded, "fc") == -7.5).all()
    report = size_report(quantized, "small", 10)
    assert report["code_bits"] == 72 + 40
    assert report["codebook_bits"] == 2 * 32


def test_layers_that_are_skipped_stay_in_float32(
    tmp_path: Path, quantnet: nn.Module
) -> None:
    part = cluster(quantnet, 4, method="density", skip=["conv2"])
    with pytest.raises(CompressionError, match="conv2 has 18\\d+ distinct"):
        codebook_network(part)
    quantized = codebook_network(part, skip=["conv2"])
    assert quantized.plan["conv2"].bits is None
    assert sorted(quantized.grids) == ["conv1", "linear1", "linear2", "output"]
    assert_same(strip(part), round_trip(quantized, tmp_path / "n"), images())


def test_codebooks_stand_beside_scaled_grids(tmp_path: Path) -> None:
    model = small([0.1, 0.7, -0.4, 0.2], [1.5, -2.0, 0.25])
    plan = Plan.uniform(model, 3, quantizer="power-of-two", scale="max")
    plan = plan.override("*", solver="rtn").override("fc", bits=None)
    scaled = quantize(model, plan, images(2), fold=False)
    own = codebook_network(scaled.model, skip=["conv"])
    both = Quantized(
        own.model,
        {**scaled.grids, **own.grids},
        Plan((scaled.plan["conv"], own.plan["fc"])),
        own.layers,
        fold=False,
    )
    loaded = round_trip(both, tmp_path / "net", "small", 10)
    assert_same(both.model, loaded, images(2))
    report = size_report(both, "small", 10)
    assert report["scale_bits"] == 32 * 4
    assert report["codebook_bits"] == 32 * 3


@settings(max_examples=25)
@given(
    st.lists(
        st.floats(width=32, allow_nan=False, allow_infinity=False),
        min_size=1,
        max_size=9,
    )
)
def test_any_codebook_is_kept_to_the_bit(
    tmp_path_factory: pytest.TempPathFactory, values: list[float]
) -> None:
    register_model("small", replace=True)(Small)
    model = small([1.0], values)
    path = tmp_path_factory.mktemp("any") / "net"
    quantized = codebook_network(model)
    loaded = round_trip(quantized, path, "small", 10)
    # Both zeros are one value; all else is unchanged, subnormals too.
    distinct = len({value + 0.0 for value in values})
    assert quantized.plan.levels("fc") == distinct
    expected = weight_of(model, "fc").masked_fill(
        weight_of(model, "fc") == 0, 0.0
    )
    assert torch.equal(bits(expected), bits(weight_of(loaded, "fc")))


def test_both_zeros_are_one_centroid() -> None:
    model = small([-0.0, 1.0, 0.0], [-0.0, 3.0])
    before = copy.deepcopy(model.state_dict())
    quantized = codebook_network(model)
    for name, levels in (("conv", [0.0, 1.0]), ("fc", [0.0, 3.0])):
        book = quantized.grids[name].alphabet.levels()
        assert torch.equal(bits(book), bits(torch.tensor(levels)))
        zeros = weight_of(quantized.model, name)[weight_of(model, name) == 0]
        assert len(zeros) and not bits(zeros).any()
    # The network that was given keeps its own.
    for name, tensor in model.state_dict().items():
        assert torch.equal(before[name], tensor)
    assert torch.signbit(weight_of(model, "fc")).any()


# Refusals


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_weights_that_are_not_finite_are_refused(value: float) -> None:
    model = small([1.0, value], [1.0])
    with pytest.raises(CompressionError, match="conv holds NaN or infinite"):
        codebook_network(model)
    with pytest.raises(CompressionError, match="conv holds NaN or infinite"):
        codebook_sizes(model)


def test_bad_requests_say_what_to_do(quantnet: nn.Module) -> None:
    with pytest.raises(CompressionError, match="conv1 has .* raise most"):
        codebook_network(fake_quantize(quantnet, 8, granularity="channel"))
    model = small([1.0, 2.0, 3.0], [1.0])
    with pytest.raises(CompressionError, match="conv has 3 .* most=2"):
        codebook_network(model, most=2)
    with pytest.raises(CompressionError, match="skip names 'con'"):
        codebook_network(model, skip=["con"])
    with pytest.raises(CompressionError, match="float64.*model.float"):
        codebook_network(model.double())


def test_weights_off_their_codebook_are_refused(tmp_path: Path) -> None:
    quantized = codebook_network(small([1.0, 2.0], [1.0]))
    with torch.no_grad():
        weight_of(quantized.model, "conv")[0, 0, 0, 0] = 1.5
    with pytest.raises(ArtifactError, match="'conv': 1 values do not lie"):
        save_quantized(tmp_path / "net", quantized, "small", 10)


@pytest.mark.parametrize("values", [[1.0, 0.5], [2.0, 2.0], [torch.nan]])
def test_codebooks_ascend_and_are_finite(values: list[float]) -> None:
    with pytest.raises(GridError, match="ascending levels, finite"):
        codebook_grid(torch.tensor(values), 3)


# Plans


def test_plans_of_codebooks_are_plans(clustered: nn.Module) -> None:
    plan = codebook_network(clustered).plan
    plan.validate(clustered)
    assert plan["conv2"].quantizer == "codebook:16"
    assert Plan.from_text(plan.to_text()) == plan
    assert plan.frame()["levels"].tolist()[:4] == [16] * 4
    mean = (4 * sum(INNER.values()) + 32 * OUTPUT) / (545_889 - BIASES)
    assert plan.mean_bits(clustered) == pytest.approx(mean)


@pytest.mark.parametrize(
    ("name", "width", "message"),
    [
        ("codebook:16", 5, "5 bits: codes of 16 centroids take 4"),
        ("codebook:17", 4, "4 bits: codes of 17 centroids take 5"),
        ("codebook:0", 1, "write 'codebook:16'"),
        ("codebook:-3", 2, "write 'codebook:16'"),
        ("codebook:many", 2, "write 'codebook:16'"),
        ("codebook", 2, "write 'codebook:16'"),
    ],
)
def test_rows_that_are_no_codebook_are_refused(
    name: str, width: int, message: str
) -> None:
    model = build_model("small", 10)
    rows = (LayerPlan("conv", width, name), LayerPlan("fc", None))
    with pytest.raises(PlanError, match=message):
        Plan(rows).validate(model)
    with pytest.raises(PlanError, match=message):
        Plan(rows).size_bits(model)


def test_other_names_are_unknown_quantizers() -> None:
    with pytest.raises(UnknownName, match="unknown quantizer 'narrow:3'"):
        LayerPlan("conv", 2, "narrow:3").alphabet()


@pytest.mark.parametrize("scale", ["max", "output"])
def test_calibration_finds_no_codebook(scale: str) -> None:
    model = build_model("small", 10)
    plan = Plan.uniform(model, 2, quantizer="codebook:4", scale=scale)
    with pytest.raises(GridError, match="codebook_network"):
        quantize(model, plan, images(2))


# Damage


def sign_again(path: Path, tensors: dict[str, Tensor], **change: object):
    """Write these tensors and header fields with a checksum that fits."""
    with safe_open(path, framework="pt") as file:
        header = json.loads(file.metadata()[FIELD])
    del header["sha256"]
    header.update(change)
    header["sha256"] = _digest(tensors, header)
    save_file(tensors, path, {FIELD: canonical_json(header)})


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    quantized = codebook_network(small([0.5, -0.25, 0.1], [1.0, 2.0]))
    path = tmp_path / "net"
    save_quantized(path, quantized, "small", 10)
    return path


def test_the_file_holds_the_codebooks_one_after_the_other(
    stored: Path,
) -> None:
    tensors = load_file(stored)
    expected = torch.tensor([-0.25, 0.1, 0.5, 1.0, 2.0])
    assert torch.equal(bits(tensors["codebooks"]), bits(expected))
    assert not len(tensors["scales"])
    sign_again(stored, tensors)
    assert isinstance(load_quantized(stored), nn.Module)


@pytest.mark.parametrize(
    "book",
    [
        [-0.25, 0.1, 0.5, 2.0, 1.0],
        [-0.25, 0.1, 0.1, 1.0, 2.0],
        [-0.25, torch.nan, 0.5, 1.0, 2.0],
        [-0.25, 0.1, torch.inf, 1.0, 2.0],
        [-0.25, 0.1, 0.5, 1.0],
        [-0.25, 0.1, 0.5, 1.0, 2.0, 3.0],
        [],
    ],
)
def test_corrupt_codebooks_are_refused(
    stored: Path, book: list[float]
) -> None:
    tensors = {**load_file(stored), "codebooks": torch.tensor(book)}
    sign_again(stored, tensors)
    with pytest.raises(ArtifactError, match="does not fit the network"):
        load_quantized(stored)


def test_a_missing_codebook_and_codes_beyond_it_are_refused(
    stored: Path,
) -> None:
    tensors = load_file(stored)
    codes = torch.full_like(tensors["codes"], 255)
    without = {k: v for k, v in tensors.items() if k != "codebooks"}
    for wrong in ({**tensors, "codes": codes}, without):
        sign_again(stored, wrong)
        with pytest.raises(ArtifactError, match="does not fit the network"):
            load_quantized(stored)


@pytest.mark.parametrize(
    "grids",
    [[[3]], [[2], [3]], [[3], [1]], [[3], [0]], [[3], [-2]], [[3], ["2"]]],
)
def test_headers_of_other_codebooks_are_refused(
    stored: Path, grids: list[list[int]]
) -> None:
    sign_again(stored, load_file(stored), grids=grids)
    with pytest.raises(ArtifactError, match="does not fit the network"):
        load_quantized(stored)


def test_a_flipped_bit_of_a_centroid_is_seen(stored: Path) -> None:
    content = bytearray(stored.read_bytes())
    place = content.index(torch.tensor([0.1]).numpy().tobytes())
    content[place] ^= 1
    stored.write_bytes(bytes(content))
    with pytest.raises(ArtifactError, match="damaged"):
        load_quantized(stored)


# Sizes


def test_sizes_by_hand() -> None:
    # Of eight: four, two, one, one; their entropy is 1.75 bits.
    model = small([0.0, 0.0, -0.0, 0.0, 1.0, 1.0, 2.0, 3.0], [1.0])
    with torch.no_grad():
        model.fc.weight.copy_(torch.arange(40.0).reshape(10, 4))
    table = codebook_sizes(model).set_index("layer")
    assert table.loc["conv"].to_dict() == {
        "weights": 72,
        "distinct": 4,
        "float_bits": 32 * 72,
        "fixed_bits": 2 * 72 + 4 * 32,
        "entropy_bits": 1.75 * 72 + 4 * 32,
    }
    # Forty different weights: no codebook makes them smaller.
    assert table.loc["fc"].tolist() == [40, 40, 1280, 1280, 1280]
    assert codebook_network(model).plan["fc"].bits is None
    single = codebook_sizes(small([1.0], [1.0])).set_index("layer")
    assert single.loc["fc", "entropy_bits"] == 32
    assert single.loc["fc", "fixed_bits"] == 40 + 32


def test_sizes_are_those_of_the_file(
    quantnet: nn.Module, clustered: nn.Module
) -> None:
    table = codebook_sizes(clustered)
    planned = codebook_network(clustered).plan.size_bits(clustered)
    assert table["fixed_bits"].sum() + 32 * BIASES == planned
    assert (table["entropy_bits"] <= table["fixed_bits"]).all()
    assert table["float_bits"].sum() == 32 * (545_889 - BIASES)
    _, counts = weight_of(clustered, "linear1").unique(return_counts=True)
    coded = entropy(counts.numpy(), base=2) * INNER["linear1"] + 16 * 32
    row = table.set_index("layer").loc["linear1"]
    assert row["entropy_bits"] == pytest.approx(coded, rel=1e-12)
    # A network that still trains counts like the plain one.
    trained = codebook_sizes(cluster(quantnet, 16, method="density"))
    assert trained.equals(table)
