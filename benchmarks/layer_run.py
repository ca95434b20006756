"""Quantize one layer with one method and write what it cost.

    python benchmarks/layer_run.py FOLDER METHOD RESULT

Run by bench_quantization.py, in a process of its own.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from layer_cases import (
    Layer,
    make_layer,
    paper_loop,
    relative_error,
    straight_loop,
)
from measuring import metered, read_settings, timed, write_result
from torch import Tensor

Result = dict[str, Any]


def _grid(layer: Layer, bits: int) -> Any:
    from lq_utils.grids import Grid, alphabet

    zero = torch.zeros_like(layer.step)
    columns = layer.weight.shape[1]
    return Grid(alphabet("narrow", bits), layer.step, zero, columns)


def _patches(layer: Layer, bits: int, result: Result) -> Tensor:
    """Ours, blocked on the patches: no Gram matrix of all columns."""
    from lq_utils.solvers import gpfq_patches

    grid = _grid(layer, bits)
    with timed(result, "solve"):
        return gpfq_patches(layer.weight, layer.xq, layer.x, grid)


def _gram(layer: Layer, bits: int, result: Result) -> Tensor:
    """Ours, on Gram matrices."""
    from lq_utils.grams import gram_statistics
    from lq_utils.solvers import SOLVERS

    grid = _grid(layer, bits)
    with timed(result, "gram"):
        statistics = gram_statistics(layer.xq, layer.x)
    with timed(result, "solve"):
        return SOLVERS.get("gpfq")(layer.weight, statistics, grid)


METHODS: dict[str, Callable[[Layer, int, Result], Tensor]] = {
    "ours, patches": _patches,
    "ours, Gram": _gram,
    "ours, Gram, 1/4": _gram,
    "paper's loop": lambda layer, bits, result: paper_loop(layer),
    "straight loop": lambda layer, bits, result: straight_loop(layer),
}


def run(settings: dict[str, Any], method: str) -> Result:
    solve, bits = METHODS[method], settings["bits"]
    # Libraries start their threads on a small layer, not on the clock.
    solve(make_layer(8, 16, 64, bits), bits, {})
    shape = settings["rows"], settings["columns"], settings["patches"]
    layer = make_layer(*shape, bits)
    if method.endswith("1/4"):
        part = slice(shape[2] // 4)
        layer = layer._replace(x=layer.x[part], xq=layer.xq[part])
    result: Result = {}
    with metered(result):
        quantized = solve(layer, bits, result)
    result["error"] = relative_error(layer, quantized)
    return result


def main() -> int:
    folder, method, path = sys.argv[1:]
    settings = read_settings(Path(folder))
    with torch.inference_mode():
        result = run(settings, method)
    write_result(Path(path), result)
    return 0


if __name__ == "__main__":
    sys.exit(main())
