"""Integer weights in ONNX files: read them, or put them there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
from onnx import helper, numpy_helper
from torch import nn

from lq_utils.onnx_files import OnnxError, read_onnx, write_onnx

# Operators with a weight as their second input.
WEIGHTED = ("Conv", "Gemm", "MatMul", "ConvInteger", "MatMulInteger")
CODE_TYPES = {4: ml_dtypes.int4, 8: np.int8}


@dataclass(frozen=True)
class LayerCodes:
    """The stored weight of a layer: ``scales * (codes - zero_points)``.

    ``codes`` are int64 in torch's order, ``[outputs, inputs, ...]``;
    ``scales`` (float32 or float16) and ``zero_points`` (int64) have one
    value, or one an output, and as many dimensions as the codes.
    ``bits`` is the width of a stored code, ``low`` and ``high`` are the
    ends of its range.

    Introduced in chapter 4.
    """

    codes: np.ndarray
    scales: np.ndarray
    zero_points: np.ndarray
    bits: int
    low: int
    high: int

    @property
    def weight(self) -> np.ndarray:
        """What the codes stand for, in the type of the scales."""
        return ((self.codes - self.zero_points) * self.scales).astype(
            self.scales.dtype
        )

    def round(self, weight: np.ndarray) -> np.ndarray:
        """Codes (int64) of a float32 weight with these scales.

        Divided in float32, halves rounded to even, then clipped.
        """
        divided = weight.astype(np.float32) / self.scales.astype(np.float32)
        whole = np.rint(divided).astype(np.int64) + self.zero_points
        return np.clip(whole, self.low, self.high)


def weighted_nodes(
    graph: onnx.GraphProto,
) -> Iterator[tuple[onnx.NodeProto, str]]:
    """Nodes that multiply by a weight, with the weight's name.

    That is the initializer they read directly or through
    DequantizeLinear.

    Introduced in chapter 4.
    """
    stored = {tensor.name for tensor in graph.initializer}
    behind = {
        node.output[0]: node.input[0]
        for node in graph.node
        if node.op_type == "DequantizeLinear"
    }
    for node in graph.node:
        if node.op_type in WEIGHTED:
            name = behind.get(node.input[1], node.input[1])
            if name in stored:
                yield node, name


def is_transposed(node: onnx.NodeProto) -> bool:
    """Whether the weight is stored ``[inputs, outputs]``."""
    if node.op_type == "Gemm":
        return not any(a.name == "transB" and a.i for a in node.attribute)
    return node.op_type.startswith("MatMul")


def layer_name(weight: str) -> str:
    """``conv1`` of ``conv1.weight_quantized``."""
    return weight.removesuffix("_quantized").removesuffix(".weight")


def weight_codes(path: Path | str) -> dict[str, LayerCodes]:
    """Layer name to its codes, scales and zero points as stored.

    Layers whose weights are floating-point numbers are not in it.

    Raises:
        OnnxError: as ``read_onnx``, or weights in blocks, which this
            function does not read.

    Introduced in chapter 4.
    """
    graph = read_onnx(path).graph
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    scales = {
        node.input[0]: list(node.input[1:])
        for node in graph.node
        if node.op_type == "DequantizeLinear"
    }
    found = {}
    for node, name in weighted_nodes(graph):
        if node.op_type.endswith("Integer"):
            base = name.removesuffix("_quantized")
            parts = [f"{base}_scale", f"{base}_zero_point"]
        elif name in scales:
            parts = scales[name]
        else:
            continue
        if any(part not in tensors for part in parts):
            raise OnnxError(f"{path}: the scale of '{name}' is not stored")
        arrays = [numpy_helper.to_array(tensors[k]) for k in [name, *parts]]
        found[layer_name(name)] = _layer_codes(name, node, arrays)
    return found


def _layer_codes(
    name: str, node: onnx.NodeProto, arrays: list[np.ndarray]
) -> LayerCodes:
    codes, scales = arrays[:2]
    bits = 4 if "int4" in codes.dtype.name else 8 * codes.dtype.itemsize
    signed = not codes.dtype.name.startswith("u")
    codes = codes.astype(np.int64)
    zeros = arrays[2].astype(np.int64) if len(arrays) > 2 else np.zeros(1)
    if is_transposed(node):
        codes = codes.T
    if scales.ndim > 1 or scales.size not in (1, len(codes)):
        raise OnnxError(
            f"'{name}' has scales of shape {list(scales.shape)}: only one "
            "for all or one an output can be read"
        )
    shape = (-1,) + (1,) * (codes.ndim - 1)
    low = -(2 ** (bits - 1)) if signed else 0
    return LayerCodes(
        codes,
        scales.reshape(shape),
        zeros.astype(np.int64).reshape(shape),
        bits,
        low,
        low + 2**bits - 1,
    )


def store_integer_weights(
    proto: onnx.ModelProto,
    original: onnx.ModelProto,
    bits: int,
    scale_type: type[np.floating],
) -> None:
    """Store the weights of ``proto`` as integers, in place.

    Symmetric with one scale an output, ``max |w| / (2^(bits-1) - 1)``,
    rounded to ``scale_type``, which is also what the weights turn into
    again (DequantizeLinear) before they are used. The values come from
    ``original``, the same network in float32.

    Raises:
        OnnxError: bits other than 4 or 8, or weights used twice.

    Introduced in chapter 4.
    """
    if bits not in CODE_TYPES:
        raise OnnxError(f"{bits} bits: ONNX files hold 4 or 8 here")
    values = {t.name: t for t in original.graph.initializer}
    graph = proto.graph
    for node, name in list(weighted_nodes(graph)):
        if sum(name in other.input for other in graph.node) > 1:
            raise OnnxError(f"weight '{name}' is used by several layers")
        axis = 1 if is_transposed(node) else 0
        weight = numpy_helper.to_array(values[name])
        codes, scales = _rounded(weight, axis, bits, scale_type)
        _replace(graph, name, axis, codes.astype(CODE_TYPES[bits]), scales)


def _rounded(
    weight: np.ndarray, axis: int, bits: int, scale_type: type[np.floating]
) -> tuple[np.ndarray, np.ndarray]:
    others = tuple(k for k in range(weight.ndim) if k != axis)
    high = 2 ** (bits - 1) - 1
    scales = abs(weight).max(axis=others, keepdims=True) / np.float32(high)
    scales = scales.astype(scale_type)
    scales[scales == 0] = 1  # an output without weights
    codes = np.rint(weight / scales.astype(np.float32))
    return np.clip(codes, -high, high), scales.reshape(-1)


def _replace(
    graph: onnx.GraphProto,
    name: str,
    axis: int,
    codes: np.ndarray,
    scales: np.ndarray,
) -> None:
    """Put codes, scales and a DequantizeLinear where a weight was."""
    names = [f"{name}_quantized", f"{name}_scale"]
    old = next(t for t in graph.initializer if t.name == name)
    graph.initializer.remove(old)
    graph.initializer.extend(
        [
            numpy_helper.from_array(codes, names[0]),
            numpy_helper.from_array(scales, names[1]),
        ]
    )
    dequantize = helper.make_node(
        "DequantizeLinear", names, [name], f"{name}_dequantize", axis=axis
    )
    # Nodes stand in the order of execution.
    graph.node.insert(0, dequantize)


def replace_weights(
    source: Path | str, target: Path | str, network: nn.Module
) -> int:
    """Write a float32 file again with the weights of another network.

    ``source`` was exported from a network that is built alike and has no
    normalisations; this takes milliseconds where an export takes seconds.
    Returns the size on disk in bytes.

    Raises:
        OnnxError: as ``read_onnx``, or a network that is built otherwise.

    Introduced in chapter 4.
    """
    proto, state = read_onnx(source), network.state_dict()
    for tensor in proto.graph.initializer:
        if tensor.data_type != onnx.TensorProto.FLOAT:
            continue  # a shape, say
        new = state.pop(tensor.name, None)
        if new is None or list(new.shape) != list(tensor.dims):
            raise OnnxError(
                f"{source} stores '{tensor.name}' {list(tensor.dims)}, the "
                "network has no such tensor: export it anew"
            )
        array = new.detach().cpu().numpy()
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    left = [name for name, value in state.items() if value.any()]
    if left:
        raise OnnxError(
            f"{source} has no place for {', '.join(left)}: export the "
            "network anew"
        )
    return write_onnx(proto, target)
