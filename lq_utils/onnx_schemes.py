"""Schemes: a float32 ONNX file in, a compressed ONNX file out.

Whether a scheme is *measured* says whether ONNX Runtime multiplies in the
numbers that the scheme names, on an ordinary (x86) processor. Where it is
not, values are rounded as the scheme says, but multiplied in float32: its
file size and its accuracy are real, its latency says nothing about a
machine with such arithmetic. See ``onnx_runtime.executed_operators``.

Eight-bit weights are stored unsigned, zero being 128. Products of
unsigned activations and signed weights are summed in pairs in 16 bits
where a processor has AVX2 but no VNNI instructions, which cuts large
sums off, without a word; "integer, signed", the usual choice, is there
to be compared.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)
from onnxruntime.quantization.onnx_model import ONNXModel
from onnxruntime.quantization.shape_inference import quant_pre_process
from onnxruntime.transformers.float16 import convert_float_to_float16
from torch import Tensor

from lq_utils.calibration import calibration_set
from lq_utils.data import ImageData
from lq_utils.onnx_files import OnnxError, quiet, read_onnx, write_onnx
from lq_utils.onnx_weights import store_integer_weights
from lq_utils.scheme_registry import (
    SCHEMES,
    Scheme,
    register_scheme,
)

__all__ = ["SCHEMES", "Scheme", "compress", "register_scheme"]

CALIBRATION_BATCH = 50


def compress(
    name: str,
    source: Path | str,
    target: Path | str,
    data: ImageData,
    count: int = 200,
    seed: int = 0,
) -> int:
    """Write the float32 file ``source`` again under a scheme.

    ``count`` images of ``data``, drawn evenly by class with ``seed``,
    show what ranges activations take; only training images may.

    Returns:
        The size of ``target`` on disk in bytes.

    Raises:
        UnknownName: no scheme of that name.
        DataError: ``data`` is not the training part, or too small.
        OnnxError: ``source`` cannot be read or quantized, ``target`` not
            be written.

    Introduced in chapter 4.
    """
    scheme = SCHEMES.get(name)
    inputs = calibration_set(data, count, seed)
    read_onnx(source)
    try:
        scheme(Path(source), Path(target), inputs)
    except OnnxError:
        raise
    except Exception as error:
        raise OnnxError(
            f"scheme '{name}' cannot quantize {source} "
            f"({type(error).__name__}: {error})"
        ) from error
    read_onnx(target)
    return Path(target).stat().st_size


class _Batches(CalibrationDataReader):
    """Calibration inputs as the quantizer asks for them, batch by batch."""

    def __init__(self, name: str, inputs: Tensor) -> None:
        self.name = name
        self.parts = iter(inputs.split(CALIBRATION_BATCH))

    def get_next(self) -> dict[str, np.ndarray] | None:
        part = next(self.parts, None)
        if part is None:
            return None
        return {self.name: part.contiguous().numpy()}


def _quantize(source: Path, target: Path, run: Callable[..., None]) -> None:
    """Fold what can be folded, quantize with ``run``, write in one step."""
    with tempfile.TemporaryDirectory() as folder, quiet():
        prepared, raw = f"{folder}/prepared.onnx", f"{folder}/raw.onnx"
        quant_pre_process(str(source), prepared)
        run(prepared, raw)
        proto = read_onnx(raw)
    write_onnx(proto, target)


def _static(
    source: Path, target: Path, inputs: Tensor, **options: Any
) -> None:
    name = read_onnx(source).graph.input[0].name

    def run(prepared: str, raw: str) -> None:
        quantize_static(
            prepared,
            raw,
            _Batches(name, inputs),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            **options,
        )

    _quantize(source, target, run)


@register_scheme(
    "float32", weights="float32", activations="float32", measured=True
)
def _float32(source: Path, target: Path, inputs: Tensor) -> None:
    write_onnx(read_onnx(source), target)


@register_scheme(
    "integer",
    weights="uint8 per channel, zero at 128",
    activations="uint8, calibrated",
    measured=True,
)
def _integer(source: Path, target: Path, inputs: Tensor) -> None:
    _static(
        source,
        target,
        inputs,
        weight_type=QuantType.QUInt8,
        activation_type=QuantType.QUInt8,
        # One zero point for all channels, or no integer kernel takes it.
        extra_options={"WeightSymmetric": True},
    )


@register_scheme(
    "integer, signed",
    weights="int8 per channel",
    activations="int8, calibrated",
    measured=True,
)
def _integer_signed(source: Path, target: Path, inputs: Tensor) -> None:
    _static(
        source,
        target,
        inputs,
        weight_type=QuantType.QInt8,
        activation_type=QuantType.QInt8,
    )


# Unsigned weights: the kernels for signed ones take several times longer.
@register_scheme(
    "dynamic range",
    weights="uint8 per layer",
    activations="uint8, range of each batch",
    measured=True,
)
def _dynamic(source: Path, target: Path, inputs: Tensor) -> None:
    def run(prepared: str, raw: str) -> None:
        quantize_dynamic(prepared, raw, weight_type=QuantType.QUInt8)

    _quantize(source, target, run)


@register_scheme(
    "float16", weights="float16", activations="float16", measured=False
)
def _float16(source: Path, target: Path, inputs: Tensor) -> None:
    write_onnx(_halved(source), target)


def _halved(source: Path) -> onnx.ModelProto:
    with quiet():
        proto = convert_float_to_float16(read_onnx(source), keep_io_types=True)
        model = ONNXModel(proto)
        # It appends the casts of inputs behind the nodes that read them.
        model.topological_sort()
    return model.model


@register_scheme(
    "int8 weights, int16 activations",
    weights="int8 per channel",
    activations="int16, calibrated",
    measured=False,
)
def _int16(source: Path, target: Path, inputs: Tensor) -> None:
    _static(
        source,
        target,
        inputs,
        weight_type=QuantType.QInt8,
        activation_type=QuantType.QInt16,
        extra_options={"ActivationSymmetric": True},
    )


@register_scheme(
    "int8 weights, float16 activations",
    weights="int8 per channel",
    activations="float16",
    measured=False,
)
def _int8_float16(source: Path, target: Path, inputs: Tensor) -> None:
    proto = _halved(source)
    store_integer_weights(proto, read_onnx(source), 8, np.float16)
    write_onnx(proto, target)


@register_scheme(
    "int4 weights",
    weights="int4 per channel",
    activations="float32",
    measured=False,
)
def _int4(source: Path, target: Path, inputs: Tensor) -> None:
    proto = read_onnx(source)
    store_integer_weights(proto, read_onnx(source), 4, np.float32)
    write_onnx(proto, target)


@register_scheme(
    "int4 weights, int8 activations",
    weights="int4 per channel",
    activations="int8, calibrated",
    measured=False,
)
def _int4_int8(source: Path, target: Path, inputs: Tensor) -> None:
    _static(
        source,
        target,
        inputs,
        weight_type=QuantType.QInt4,
        activation_type=QuantType.QInt8,
    )
