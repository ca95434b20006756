"""Compressed networks simulated in torch, and held against the runtime.

The simulation rounds where the file says so, and computes everything in
float32: what quantization does to accuracy, without its arithmetic. It
takes scales and zero points from the file, the weights from the network.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from lq_utils.data import ImageData
from lq_utils.inference import predict
from lq_utils.onnx_files import OnnxError, read_onnx
from lq_utils.onnx_runtime import predict_onnx
from lq_utils.onnx_weights import (
    LayerCodes,
    layer_name,
    weight_codes,
    weighted_nodes,
)

Rule = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Rounding:
    """Rounds to ``scale * (k - zero_point)``, integer k in low ... high.

    Halves go to the even integer.

    Introduced in chapter 4.
    """

    scale: float
    zero_point: int
    low: int
    high: int

    def __call__(self, x: Tensor) -> Tensor:
        whole = torch.round(x / self.scale) + self.zero_point
        return (whole.clamp(self.low, self.high) - self.zero_point) * (
            self.scale
        )


def round_to_range(x: Tensor) -> Tensor:
    """Rounds to 256 levels between smallest and largest value, 0 included.

    Source: ONNX operator DynamicQuantizeLinear. Introduced in chapter 4.
    """
    low, high = x.min().clamp(max=0), x.max().clamp(min=0)
    scale = float((high - low) / 255) or 1.0
    zero_point = int(torch.round(-low / scale).clamp(0, 255))
    return Rounding(scale, zero_point, 0, 255)(x)


@dataclass(frozen=True)
class LayerRule:
    """What a file does to a layer's input, output, bias and weight."""

    before: Rule | None
    after: Rule | None
    bias: np.ndarray | None
    half_weight: bool  # stored as float16


class _File:
    """The graph of a file, to be asked what lies before and behind."""

    def __init__(self, path: Path | str) -> None:
        self.graph = read_onnx(path).graph
        self.tensors = {t.name: t for t in self.graph.initializer}
        self.maker = {k: n for n in self.graph.node for k in n.output}
        self.readers: dict[str, list[onnx.NodeProto]] = {}
        for node in self.graph.node:
            for name in node.input:
                self.readers.setdefault(name, []).append(node)

    def value(self, name: str) -> np.ndarray | None:
        """A stored tensor, dequantized; None where it is computed."""
        if name in self.tensors:
            return numpy_helper.to_array(self.tensors[name])
        made = self.maker.get(name)
        if made is None or made.op_type != "DequantizeLinear":
            return None
        if any(part not in self.tensors for part in made.input):
            return None
        parts = [
            numpy_helper.to_array(self.tensors[part]) for part in made.input
        ]
        zero = parts[2] if len(parts) > 2 else 0
        return (parts[0] - zero).astype(np.float32) * parts[1]

    def rounding(self, node: onnx.NodeProto | None, kind: str) -> Rule | None:
        """That of a QuantizeLinear or DequantizeLinear node."""
        if node is None or node.op_type != kind or len(node.input) < 3:
            return None
        scale, zero = (
            numpy_helper.to_array(self.tensors[name])
            for name in node.input[1:]
        )
        ends = np.iinfo(zero.dtype)
        return Rounding(float(scale), int(zero), int(ends.min), int(ends.max))

    def rule(self, node: onnx.NodeProto, weight: str) -> LayerRule:
        before = self.rounding(
            self.maker.get(node.input[0]), "DequantizeLinear"
        )
        readers = self.readers.get(node.output[0], [])
        after = [self.rounding(r, "QuantizeLinear") for r in readers]
        integer = node.op_type.endswith("Integer")
        has_bias = len(node.input) > 2 and not integer
        half = self.tensors[weight].data_type == onnx.TensorProto.FLOAT16
        return LayerRule(
            round_to_range if integer else before,
            next((rule for rule in after if rule), None),
            self.value(node.input[2]) if has_bias else None,
            half,
        )


def simulate(model: nn.Module, path: Path | str) -> nn.Module:
    """A copy of ``model`` that rounds as the file at ``path`` does.

    ``model`` is the network that the file was made from, batch
    normalization folded (``graph.fold_batch_norm``). Activations that a
    file keeps in float16 stay float32, as in the runtime on an ordinary
    processor.

    Raises:
        OnnxError: as ``read_onnx``, or a file of another network.

    Introduced in chapter 4.
    """
    file, codes = _File(path), weight_codes(path)
    simulated = copy.deepcopy(model).eval()
    layers = dict(simulated.named_modules())
    for node, weight in weighted_nodes(file.graph):
        name = layer_name(weight)
        layer = layers.get(name)
        if not isinstance(layer, (nn.Conv2d, nn.Linear)):
            raise OnnxError(
                f"{path} has a layer '{name}', the network has none of that "
                "name: give the one it was exported from"
            )
        _apply(layer, name, codes.get(name), file.rule(node, weight))
    return simulated


def _apply(
    layer: nn.Conv2d | nn.Linear,
    name: str,
    codes: LayerCodes | None,
    rule: LayerRule,
) -> None:
    with torch.no_grad():
        if codes is not None:
            layer.weight.copy_(torch.from_numpy(_rounded(layer, name, codes)))
        elif rule.half_weight:
            layer.weight.copy_(layer.weight.half())
        if rule.bias is not None and layer.bias is not None:
            layer.bias.copy_(torch.from_numpy(rule.bias.copy()))
    before, after = rule.before, rule.after
    if before is not None:
        layer.register_forward_pre_hook(lambda _, x: (before(x[0]),))
    if after is not None:
        layer.register_forward_hook(lambda _, x, y: after(y))


def _own_codes(layer: nn.Module, name: str, stored: LayerCodes) -> np.ndarray:
    weight = layer.weight
    assert isinstance(weight, Tensor)
    if tuple(weight.shape) != stored.codes.shape:
        raise OnnxError(
            f"layer '{name}' has a weight of shape {list(weight.shape)}, "
            f"the file one of {list(stored.codes.shape)}: give the network "
            "it was exported from"
        )
    return stored.round(weight.detach().cpu().numpy())


def _rounded(layer: nn.Module, name: str, stored: LayerCodes) -> np.ndarray:
    whole = _own_codes(layer, name, stored) - stored.zero_points
    return (whole * stored.scales).astype(stored.scales.dtype)


def output_step(path: Path | str) -> float | None:
    """Distance of two neighbouring logits of a file; None if not rounded.

    Introduced in chapter 4.
    """
    file = _File(path)
    last = file.maker.get(file.graph.output[0].name)
    rule = file.rounding(last, "DequantizeLinear")
    return rule.scale if isinstance(rule, Rounding) else None


def compare_with_runtime(
    model: nn.Module,
    path: Path | str,
    data: ImageData,
    batch_size: int = 500,
) -> dict[str, Any]:
    """How well the simulation of a file agrees with the runtime: a row.

    ``codes`` weights are stored as integers, ``equal_codes`` is the share
    of them that rounding ``model`` gives as well (1 where there are
    none). ``largest_gap`` is the largest difference of two logits in
    ``output_step``, to three decimals; that step is the file's where it
    rounds logits to eight bits, else (not rounded, or to steps finer than
    float32 sums can tell) 1/255 of the range of the runtime's logits.
    ``within_two`` is the share of logits that are at most two such steps
    apart, ``same_top1`` that of images put into the same class, ``hits`` the number that the runtime puts into the right one.

    Raises:
        OnnxError: as ``simulate`` and ``predict_onnx``.

    Introduced in chapter 4.
    """
    simulated = simulate(model, path)
    equal = [
        _own_codes(model.get_submodule(name), name, stored) == stored.codes
        for name, stored in weight_codes(path).items()
    ]
    ours = predict(simulated, data, batch_size)
    theirs = predict_onnx(path, data, batch_size)
    guesses = _classes(theirs)
    agree = _classes(ours) == guesses
    right = guesses == torch.from_numpy(data.labels)
    step = float(theirs.max() - theirs.min()) / 255
    step = max(step, output_step(path) or 0.0)
    gaps = (ours - theirs).abs() / step
    count = sum(part.size for part in equal)
    same = sum(int(part.sum()) for part in equal)
    return {
        "codes": count,
        "equal_codes": same / count if count else 1.0,
        "output_step": step,
        "largest_gap": round(float(gaps.max()), 3),
        "within_two": float((gaps <= 2.001).double().mean()),
        "same_top1": float(agree.float().mean()),
        "hits": int(right.sum()),
    }


def _classes(logits: Tensor) -> Tensor:
    """One logit is read as binary: positive means class 1."""
    if logits.shape[1] == 1:
        return (logits[:, 0] > 0).long()
    return logits.argmax(dim=1)
