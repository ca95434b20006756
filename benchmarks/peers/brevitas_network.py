"""Quantize the whole network with Brevitas and write what it cost.

    PEERS_PYTHON benchmarks/peers/brevitas_network.py FOLDER METHOD DRAW RESULT

METHOD is "Brevitas GPFQ" or "Brevitas GPTQ". Set up as Brevitas' own
post-training example does it: traced, batch norms merged, weights only,
one scale a channel computed once from the weights, layer after layer over
all calibration batches. Run by bench_quantization.py with the Python of
the peers' environment.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import brevitas.nn as qnn
import torch
from brevitas.core.scaling.standalone import (
    ParameterFromStatsFromParameterScaling,
)
from brevitas.graph.gpfq import gpfq_mode
from brevitas.graph.gptq import gptq_mode
from brevitas.graph.quantize import layerwise_quantize, preprocess_for_quantize
from brevitas.quant.scaled_int import (
    Int8WeightPerChannelFloat,
    Int8WeightPerChannelFloatMSE,
)
from measuring import (
    judge,
    metered,
    read_calibration,
    read_network,
    read_settings,
    timed,
    write_result,
)
from torch import Tensor, nn

SCALES = {
    "stats": Int8WeightPerChannelFloat,
    "mse": Int8WeightPerChannelFloatMSE,
}
MODES = {"Brevitas GPFQ": gpfq_mode, "Brevitas GPTQ": gptq_mode}
# Their example's arguments, weights only.
OPTIONS: dict[str, dict[str, bool]] = {
    "Brevitas GPFQ": {"act_order": False},
    "Brevitas GPTQ": {
        "act_order": False,
        "use_quant_activations": False,
        "create_weight_orig": False,
    },
}


def weight_quantizer(bits: int, scale: str) -> Any:
    """2^bits - 1 levels a channel, scales fixed before the first update."""
    return SCALES[scale].let(
        bit_width=bits,
        narrow_range=True,
        scaling_impl=ParameterFromStatsFromParameterScaling,
    )


def prepare(model: nn.Module, bits: int, scale: str) -> nn.Module:
    """The traced network, batch norms merged, with quantized layers."""
    arguments = {
        "weight_quant": weight_quantizer(bits, scale),
        "input_quant": None,
        "bias_quant": None,
        "return_quant_tensor": False,
    }
    layers = {
        nn.Conv2d: (qnn.QuantConv2d, arguments),
        nn.Linear: (qnn.QuantLinear, arguments),
    }
    model = preprocess_for_quantize(model, equalize_iters=0, merge_bn=True)
    return layerwise_quantize(model, compute_layer_map=layers).eval()


def optimise(model: nn.Module, method: str, batches: list[Tensor]) -> None:
    """Update every layer in turn, each over all batches."""
    mode = MODES[method](model, **OPTIONS[method])
    with mode as running:
        for _ in range(running.num_layers):
            for batch in batches:
                running.model(batch)
            running.update()


def quantized_weights(model: nn.Module) -> list[Tensor]:
    """The weights on their grids, layer by layer."""
    kinds = (qnn.QuantConv2d, qnn.QuantLinear)
    layers = [m for m in model.modules() if isinstance(m, kinds)]
    return [layer.quant_weight().value for layer in layers]


@torch.no_grad()
def run(folder: Path, method: str, draw: int) -> dict[str, Any]:
    settings = read_settings(folder)
    model = read_network(folder, settings)
    batches = list(
        read_calibration(folder, draw).split(settings["batch_size"])
    )
    result: dict[str, Any] = {}
    with timed(result, "prepare"):
        model = prepare(model, settings["bits"], settings["peer_scale"])
        model(batches[0])  # initialises the scales
    with metered(result):
        optimise(model, method, batches)
    judge(result, model, quantized_weights(model), folder)
    return result


def main() -> int:
    folder, method, draw, path = sys.argv[1:]
    write_result(Path(path), run(Path(folder), method, int(draw)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
