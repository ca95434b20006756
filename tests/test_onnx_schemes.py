"""ONNX files: what is in them, and what the runtime makes of them."""

from __future__ import annotations

import gzip
import lzma
import pickle
from pathlib import Path

import numpy as np
import onnx
import onnx_files
import pytest
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from lq_utils.compression import fake_quantize
from lq_utils.data import DataError
from lq_utils.inference import predict
from lq_utils.models import build_model
from lq_utils.onnx_export import export_onnx
from lq_utils.onnx_files import (
    MIB,
    OnnxError,
    file_sizes,
    packed_sizes,
    read_onnx,
    write_onnx,
)
from lq_utils.onnx_runtime import executed_operators, latency, predict_onnx
from lq_utils.onnx_schemes import SCHEMES, compress, register_scheme
from lq_utils.onnx_weights import (
    replace_weights,
    store_integer_weights,
    weight_codes,
)
from lq_utils.registry import RegistryError, UnknownName
from lq_utils.simulated import (
    compare_with_runtime,
    output_step,
    simulate,
)
from lq_utils.stacks import stack_of

TEST = "test"
LAYERS = ["conv1", "conv2", "linear1", "linear2", "output"]
INTEGER = [name for name in SCHEMES if "int" in name or "dynamic" in name]
KERNELS = {
    "QLinearConv",
    "QGemm",
    "ConvInteger",
    "MatMulInteger",
    "DynamicQuantizeMatMul",
}
# MiB: the thesis's tables 4.2 and 4.3 where they have the scheme.
SIZES = {
    "float32": 2.0852,
    "integer": 0.5271,
    "dynamic range": 0.5282,
    "float16": 1.0453,
    "int8 weights, int16 activations": 0.5292,
}


def weight(layer: str) -> np.ndarray:
    tensor = onnx_files.network().get_submodule(layer).weight
    return tensor.detach().numpy()


# The export


def test_export_computes_what_torch_does() -> None:
    data = onnx_files.images(TEST)
    expected = predict(onnx_files.network(), data)
    for batch in (400, 7, 1):
        some = data.take(np.arange(min(2 * batch, 400)))
        found = predict_onnx(onnx_files.exported(), some, batch)
        assert found.dtype == torch.float32
        assert (found - expected[: len(some)]).abs().max() < 1e-5


def test_export_holds_the_weights_and_no_notes() -> None:
    path = onnx_files.exported()
    proto = read_onnx(path)
    stored = {t.name: t for t in proto.graph.initializer}
    for name, parameter in onnx_files.network().named_parameters():
        array = numpy_helper.to_array(stored[name])
        assert np.array_equal(array, parameter.detach().numpy())
    assert not proto.doc_string and not proto.metadata_props
    assert not proto.graph.value_info
    assert not any(n.metadata_props for n in proto.graph.node)
    weights = sum(p.numel() for p in onnx_files.network().parameters())
    assert 4 * weights < path.stat().st_size < 4 * weights + 4096
    assert [p.name for p in path.parent.glob(".*")] == []


class Branching(nn.Module):
    """What cannot be exported: the code depends on the values."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3)) if x.mean() > 0 else x.amax((2, 3))


def test_what_cannot_be_exported_is_named(tmp_path: Path) -> None:
    target = tmp_path / "net.onnx"
    with pytest.raises(OnnxError, match="Branching cannot be exported"):
        export_onnx(Branching(), target)
    with pytest.raises(OnnxError, match="opset 17.*give 21"):
        export_onnx(onnx_files.network(), target, opset=17)
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_to(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    proto = read_onnx(onnx_files.exported())
    with pytest.raises(OnnxError, match="cannot be written.*another path"):
        write_onnx(proto, tmp_path / "file" / "net.onnx")


# The schemes


@pytest.mark.parametrize("scheme", list(SIZES))
def test_sizes_are_those_of_the_thesis(scheme: str) -> None:
    size = file_sizes(onnx_files.compressed(scheme))["raw"] / MIB
    assert size == pytest.approx(SIZES[scheme], rel=0.02)


@pytest.mark.parametrize("scheme", list(SCHEMES))
def test_measured_schemes_run_on_integer_kernels(scheme: str) -> None:
    operators = executed_operators(onnx_files.compressed(scheme))
    if scheme in INTEGER and SCHEMES.get(scheme).measured:
        assert sum(operators[name] for name in KERNELS) == len(LAYERS)
    else:
        assert not KERNELS & set(operators)


@pytest.mark.parametrize("scheme", INTEGER)
def test_codes_are_the_rounded_weights(scheme: str) -> None:
    found = weight_codes(onnx_files.compressed(scheme))
    assert list(found) == LAYERS
    for layer, stored in found.items():
        own = weight(layer)
        scales = stored.scales.astype(np.float32)
        zero = stored.zero_points
        bits = 4 if "int4" in scheme else 8
        assert stored.bits == bits and stored.codes.dtype == np.int64
        low = (
            0 if zero.any() or scheme == "dynamic range" else -(1 << bits) // 2
        )
        codes = np.clip(np.rint(own / scales) + zero, low, low + 2**bits - 1)
        assert np.array_equal(stored.codes, codes)
        # No weight is further off than half a step, where not clipped.
        gap = abs(stored.weight.astype(np.float32) - own)
        assert (gap <= 0.51 * scales + 1e-4).mean() > 0.99
        per_channel = scheme != "dynamic range"
        assert scales.size == (len(own) if per_channel else 1)


@pytest.mark.parametrize("scheme", list(SCHEMES))
def test_simulation_agrees_with_the_runtime(scheme: str) -> None:
    path = onnx_files.compressed(scheme)
    data = onnx_files.images(TEST)
    row = compare_with_runtime(onnx_files.network(), path, data, 200)
    weights = sum(weight(layer).size for layer in LAYERS)
    assert row["codes"] == (weights if scheme in INTEGER else 0)
    assert row["equal_codes"] == 1
    if scheme == "integer, signed":  # may saturate, see lq_utils.onnx_schemes
        assert row["same_top1"] > 0.95
        return
    # 16-bit steps are so small that the order of a float32 sum shows.
    allowed = 8 if "int16" in scheme else 2.01
    assert row["largest_gap"] < allowed
    assert row["same_top1"] >= 0.995


def test_simulation_rounds_like_the_reference_implementation() -> None:
    """ONNX's own evaluator, in numpy, on a few images."""
    from onnx.reference import ReferenceEvaluator

    from lq_utils.inference import to_input

    path = onnx_files.compressed("integer")
    images = to_input(onnx_files.images(TEST).images[:3])
    reference = ReferenceEvaluator(read_onnx(path))
    (expected,) = reference.run(None, {"x": images.contiguous().numpy()})
    with torch.no_grad():
        found = simulate(onnx_files.network(), path)(images).numpy()
    step = output_step(path)
    assert step is not None and np.ptp(expected) > 10 * step
    assert abs(found - expected).max() < 1.01 * step


def test_compression_takes_training_images_only(tmp_path: Path) -> None:
    source, target = onnx_files.exported(), tmp_path / "net.onnx"
    with pytest.raises(DataError, match="training part"):
        compress("integer", source, target, onnx_files.images(TEST))
    with pytest.raises(UnknownName, match="did you mean 'integer'"):
        compress("intger", source, target, onnx_files.images("train"))
    assert list(tmp_path.iterdir()) == []


def test_a_students_scheme(tmp_path: Path) -> None:
    def make(source: Path, target: Path, inputs: Tensor) -> None:
        if len(inputs) < 10:
            raise RuntimeError("too few")
        write_onnx(read_onnx(source), target)

    words = {"weights": "w", "activations": "a", "measured": False}
    register_scheme("mine", **words)(make)
    try:
        source, target = onnx_files.exported(), tmp_path / "net.onnx"
        train = onnx_files.images("train")
        assert compress("mine", source, target, train, 10) > 2 * MIB
        with pytest.raises(OnnxError, match="'mine' cannot.*too few"):
            compress("mine", source, target, train, 5)
        with pytest.raises(RegistryError, match="already"):
            register_scheme("mine", **words)(make)
    finally:
        del SCHEMES._entries["mine"]


# Reading, running, measuring


def test_packed_sizes_unpack_to_the_file() -> None:
    path = onnx_files.compressed("int4 weights")
    content, sizes = path.read_bytes(), file_sizes(path)
    assert sizes["raw"] == len(content)
    assert sizes["gzip"] == len(gzip.compress(content, 9))
    assert sizes["lzma"] == len(lzma.compress(content, preset=9))
    assert sizes["lzma"] < sizes["raw"]
    assert packed_sizes(path) == {
        "bytes": sizes["raw"],
        "compressed_bytes": sizes["gzip"],
    }


def test_replaced_weights_are_those_of_an_export(tmp_path: Path) -> None:
    network, other = (build_model("quantnet", 1, seed) for seed in (1, 2))
    for part in (*network.parameters(), *other.parameters()):
        torch.nn.init.normal_(part)  # biases, too
    paths = [tmp_path / f"{name}.onnx" for name in ("old", "new", "export")]
    export_onnx(network, paths[0])
    size = replace_weights(paths[0], paths[1], other)
    export_onnx(other, paths[2])
    assert paths[1].read_bytes() == paths[2].read_bytes()
    assert size == paths[1].stat().st_size


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    template = onnx_files.exported()
    ten = build_model("quantnet", 10)
    with pytest.raises(OnnxError, match="output.weight.*export it anew"):
        replace_weights(template, tmp_path / "a.onnx", ten)
    more = nn.Sequential()
    more.load_state_dict({})
    with pytest.raises(OnnxError, match="has no such tensor"):
        replace_weights(template, tmp_path / "a.onnx", more)
    one = build_model("quantnet", 1)
    one.register_buffer("extra", torch.ones(2))
    export_onnx(build_model("quantnet", 1), tmp_path / "plain.onnx")
    with pytest.raises(OnnxError, match="no place for extra"):
        replace_weights(tmp_path / "plain.onnx", tmp_path / "a.onnx", one)


def test_latency_is_a_median_with_its_quartiles() -> None:
    found = latency(onnx_files.exported(), batch=2, runs=5, warm_up=1)
    assert 0 < found["low_ms"] <= found["median_ms"] <= found["high_ms"]
    assert found["iqr_ms"] == found["high_ms"] - found["low_ms"]
    with pytest.raises(OnnxError, match="runs 0"):
        latency(onnx_files.exported(), runs=0)


@pytest.mark.parametrize("keep", [0, 50, 100_000, -1])
def test_damaged_files_are_refused(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(onnx_files.exported().read_bytes()[:keep])
    with pytest.raises(OnnxError, match="damaged or no ONNX file"):
        predict_onnx(path, onnx_files.images(TEST))


def test_foreign_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    with pytest.raises(OnnxError, match="no ONNX file at"):
        weight_codes(path)
    for content in (b"not a network", pickle.dumps({"a": [1, 2]})):
        path.write_bytes(content)
        with pytest.raises(OnnxError, match="damaged or no ONNX file"):
            latency(path)


def test_weights_in_other_files_are_refused(tmp_path: Path) -> None:
    proto = read_onnx(onnx_files.exported())
    path = tmp_path / "net.onnx"
    onnx.save(proto, path, save_as_external_data=True, location="weights")
    with pytest.raises(OnnxError, match="weights in other files"):
        predict_onnx(path, onnx_files.images(TEST))


def test_images_and_networks_that_do_not_fit() -> None:
    data = onnx_files.images(TEST)
    small = type(data)(**{**vars(data), "images": data.images[:, :16, :16]})
    with pytest.raises(OnnxError, match="do not fit"):
        predict_onnx(onnx_files.exported(), small)
    with pytest.raises(OnnxError, match="at least one"):
        predict_onnx(onnx_files.exported(), data.take(np.arange(0)))
    path = onnx_files.compressed("integer")
    with pytest.raises(OnnxError, match="layer 'conv1'.*exported from"):
        simulate(nn.Linear(3, 2), path)
    with pytest.raises(OnnxError, match="layer 'output' has a weight"):
        from lq_utils.models import build_model

        simulate(build_model("quantnet", 3), path)


def test_integer_weights_of_an_output_without_weights() -> None:
    original = read_onnx(onnx_files.exported())
    tensor = next(
        t for t in original.graph.initializer if t.name == "output.weight"
    )
    array = numpy_helper.to_array(tensor).copy()
    array[0] = 0
    tensor.CopyFrom(numpy_helper.from_array(array, "output.weight"))
    proto = onnx.ModelProto()
    proto.CopyFrom(original)
    store_integer_weights(proto, original, 4, np.float32)
    stored = {t.name: t for t in proto.graph.initializer}
    scales = numpy_helper.to_array(stored["output.weight_scale"])
    assert scales[0] == 1 and np.isfinite(scales).all()
    with pytest.raises(OnnxError, match="3 bits"):
        store_integer_weights(proto, original, 3, np.float32)


def test_export_of_a_compressed_network_leaves_it_compressed(
    tmp_path: Path,
) -> None:
    rounded = fake_quantize(onnx_files.network(), 8).eval()
    data = onnx_files.images(TEST)
    before = predict(rounded, data)
    export_onnx(rounded, tmp_path / "rounded.onnx")
    assert all(stack_of(rounded.get_submodule(name)) for name in LAYERS)
    assert torch.equal(predict(rounded, data), before)
    seen = predict_onnx(tmp_path / "rounded.onnx", data)
    torch.testing.assert_close(seen, before, rtol=1e-5, atol=1e-5)
