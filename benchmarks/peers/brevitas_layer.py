"""Quantize one layer with Brevitas' GPFQ and write what it cost.

    PEERS_PYTHON benchmarks/peers/brevitas_layer.py FOLDER METHOD RESULT

Both Gram matrices, then the update of the layer, in Brevitas' own class.
Run by bench_quantization.py with the Python of the peers' environment.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import brevitas.nn as qnn
import torch
from brevitas.graph.calibrate import quantization_status_manager
from brevitas.graph.gpfq import GPFQ
from brevitas.graph.gpxq import LayerHandler
from brevitas.utils.torch_utils import StopFwdException
from brevitas_network import weight_quantizer
from layer_cases import Layer, make_layer, relative_error
from measuring import metered, read_settings, timed, write_result
from torch import Tensor


def _linear(layer: Layer, bits: int) -> qnn.QuantLinear:
    rows, columns = layer.weight.shape
    linear = qnn.QuantLinear(
        columns,
        rows,
        bias=False,
        weight_quant=weight_quantizer(bits, "stats"),
    )
    linear.weight.data.copy_(layer.weight)
    linear.eval()
    linear(layer.x[:1])  # initialises the scales
    return linear


def _collect(update: GPFQ, linear: qnn.QuantLinear, layer: Layer) -> None:
    """Quantized inputs first, then the float inputs of the same rows."""
    handler = LayerHandler()
    with suppress(StopFwdException):
        update.update_batch(linear, (layer.xq,), handler)
    with (
        quantization_status_manager(
            linear, disable_weight_quant=True, is_training=False
        ),
        suppress(StopFwdException),
    ):
        update.update_batch(linear, (layer.x,), handler)


def solve(layer: Layer, bits: int, result: dict[str, Any]) -> Tensor:
    linear = _linear(layer, bits)
    update = GPFQ(
        linear,
        "layer",
        act_order=False,
        len_parallel_layers=1,
        create_weight_orig=True,
    )
    with timed(result, "gram"):
        _collect(update, linear, layer)
    with timed(result, "solve"):
        update.single_layer_update()
    return linear.quant_weight().value


@torch.no_grad()
def main() -> int:
    folder, _, path = sys.argv[1:]
    settings = read_settings(Path(folder))
    bits = settings["bits"]
    solve(make_layer(8, 16, 64, bits), bits, {})
    layer = make_layer(
        settings["rows"], settings["columns"], settings["patches"], bits
    )
    result: dict[str, Any] = {}
    with metered(result):
        quantized = solve(layer, bits, result)
    result["error"] = relative_error(layer, quantized)
    write_result(Path(path), result)
    return 0


if __name__ == "__main__":
    sys.exit(main())
