"""Write a network as .tflite files, format by format, and measure them.

    LITERT_PYTHON benchmarks/litert/litert_run.py FOLDER RESULT

FOLDER is as ``inputs.write_inputs`` leaves it; the files are written there.
Run by measure_formats.py with the Python of LiteRT's environment.
"""

from __future__ import annotations

import gzip
import sys
import time
from collections import Counter
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import litert_torch
import numpy as np
import torch
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from ai_edge_quantizer import quantizer, recipe
from measuring import (
    read_calibration,
    read_network,
    read_settings,
    write_result,
)
from safetensors.torch import load_file
from torch import nn

Recipe = list[dict[str, Any]]
PRODUCTS = (
    schema.BuiltinOperator.CONV_2D,
    schema.BuiltinOperator.FULLY_CONNECTED,
)
WARM_UP = 10
GAP = 1e-3  # largest logit error of a right conversion to float32
FAILURES = (RuntimeError, ValueError, TypeError, LookupError)
VERSIONS = ("ai-edge-litert", "ai-edge-quantizer", "litert-torch", "torch")


def _float16() -> Recipe:
    """Weights stored as float16, made float32 again before they are used."""
    weights = {
        "num_bits": 16,
        "symmetric": True,
        "granularity": "TENSORWISE",
        "dtype": "FLOAT",
        "block_size": 0,
    }
    options = {
        "weight_tensor_config": weights,
        "compute_precision": "FLOAT",
        "explicit_dequantize": True,
        "skip_checks": False,
        "min_weight_elements": 0,
    }
    rule = {"regex": ".*", "operation": "*", "op_config": options}
    return [{**rule, "algorithm_key": "float_casting"}]


FORMATS: dict[str, Callable[[], Recipe]] = {
    "int8": recipe.static_wi8_ai8,
    "dynamic range": recipe.dynamic_wi8_afp32,
    "float16": _float16,
    "int8 weights, int16 activations": recipe.static_wi8_ai16,
    "int4 weights": recipe.dynamic_wi4_afp32,
}


class Runtime:
    """A .tflite file in the interpreter, on one thread; float32 outside."""

    def __init__(self, path: Path) -> None:
        self.interpreter = Interpreter(model_path=str(path), num_threads=1)
        self.interpreter.allocate_tensors()
        (self.input,) = self.interpreter.get_input_details()
        (self.output,) = self.interpreter.get_output_details()
        self.batch = int(self.input["shape"][0])

    def to_input(self, images: np.ndarray) -> np.ndarray:
        """Numbers of the file's input type."""
        scale, zero = self.input["quantization"]
        if not scale:
            return images.astype(np.float32)
        kind = np.iinfo(self.input["dtype"])
        codes = np.rint(images / scale) + zero
        return np.clip(codes, kind.min, kind.max).astype(kind.dtype)

    def run(self, batch: np.ndarray) -> np.ndarray:
        """One batch of the input type through the network."""
        self.interpreter.set_tensor(self.input["index"], batch)
        self.interpreter.invoke()
        return self.interpreter.get_tensor(self.output["index"])

    def logits(self, images: np.ndarray) -> np.ndarray:
        """Logits float32 ``[N]`` of any number of images."""
        short = -len(images) % self.batch
        padded = np.concatenate([images, images[:1].repeat(short, 0)])
        codes = self.to_input(padded)
        parts = np.split(codes, len(codes) // self.batch)
        outputs = np.concatenate([self.run(part) for part in parts])
        scale, zero = self.output["quantization"]
        values = outputs[: len(images), 0].astype(np.float32)
        return (values - zero) * scale if scale else values

    def milliseconds(self, images: np.ndarray, runs: int) -> dict[str, float]:
        """Median and quartiles of a batch, the input type at hand.

        Processor time: what else the machine does then counts little.
        """
        batch = self.to_input(images[: self.batch])
        for _ in range(WARM_UP):
            self.run(batch)
        times = []
        for _ in range(runs):
            start = time.process_time()
            self.run(batch)
            times.append(1e3 * (time.process_time() - start))
        low, median, high = np.percentile(times, [25, 50, 75]).tolist()
        return {"ms": median, "low_ms": low, "high_ms": high, "runs": runs}


def products(content: bytes) -> dict[str, int]:
    """Types that layers multiply, and in how many; read from a file."""
    model = schema.ModelT.InitFromPackedBuf(content)
    kinds = {
        code: name.lower()
        for name, code in vars(schema.TensorType).items()
        if isinstance(code, int)
    }
    (graph,) = model.subgraphs
    found: Counter[str] = Counter()
    for operator in graph.operators:
        code = model.operatorCodes[operator.opcodeIndex]
        if code.builtinCode in PRODUCTS:
            activation, weight = (
                kinds[graph.tensors[i].type] for i in operator.inputs[:2]
            )
            found[f"{activation} x {weight}"] += 1
    return dict(found)


def convert(model: nn.Module, folder: Path, batch: int) -> Path:
    """The float32 file for one batch size."""
    path = folder / f"float32_{batch}.tflite"
    example = torch.zeros(batch, 3, 32, 32)
    litert_torch.convert(model, (example,)).export(str(path))
    return path


def quantize(
    source: Path, rules: Recipe, images: np.ndarray, calibration: Any
) -> tuple[bytes, Any]:
    """The quantized file, and the ranges it was made with.

    Ranges are calibrated image by image where none are given.
    """
    work = quantizer.Quantizer(str(source), rules)
    if work.need_calibration and calibration is None:
        samples = [{"args_0": image[None]} for image in images]
        given = {"serving_default": samples}
        calibration = work.calibrate(given, num_threads=1)
    done = work.quantize(calibration) if calibration else work.quantize()
    return bytes(done.quantized_model), calibration


class Study:
    """One network, its float32 files, and what its outputs should be."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.settings = folder, read_settings(folder)
        for old in folder.glob("*.tflite"):
            old.unlink()
        model = read_network(folder, self.settings)
        test = load_file(folder / "test.safetensors")
        self.images = test["images"].numpy()
        self.labels = test["labels"].numpy() == 1
        self.calibration = read_calibration(folder, 0).numpy()
        self.runs = {int(k): v for k, v in self.settings["runs"].items()}
        self.sources = {b: convert(model, folder, b) for b in self.runs}
        with torch.inference_mode():
            self.expected = model(test["images"])[:, 0].numpy()

    def files(self, name: str) -> dict[int, Path]:
        """The files of a format, by batch size, with the same ranges."""
        if name == "float32":
            return self.sources
        files, ranges = {}, None
        for batch in sorted(self.sources):  # calibrated with a batch of one
            content, ranges = quantize(
                self.sources[batch], FORMATS[name](), self.calibration, ranges
            )
            files[batch] = self.folder / f"{name}_{batch}.tflite"
            files[batch].write_bytes(content)
        return files

    def measure(self, name: str) -> dict[str, Any]:
        """Everything about one format."""
        files = self.files(name)
        runtimes = {b: Runtime(path) for b, path in files.items()}
        small, large = runtimes[min(files)], runtimes[max(files)]
        logits = large.logits(self.images)
        some = self.images[: 2 * large.batch]
        gap = float(np.abs(logits - self.expected).max())
        if name == "float32" and gap > GAP:
            raise ValueError(f"the conversion changes logits by {gap:.2g}")
        content = files[min(files)].read_bytes()
        return {
            "hits": int(((logits > 0) == self.labels).sum()),
            "n": len(logits),
            "same": int(((logits > 0) == (self.expected > 0)).sum()),
            "logit_gap": gap,
            "batch_gap": float(
                np.abs(small.logits(some) - logits[: len(some)]).max()
            ),
            "bytes": len(content),
            "gzip_bytes": len(gzip.compress(content, 9, mtime=0)),
            "products": products(content),
            "times": {
                str(b): runtime.milliseconds(self.images, self.runs[b])
                for b, runtime in runtimes.items()
            },
        }


def main() -> int:
    folder, target = map(Path, sys.argv[1:])
    study = Study(folder)
    result: dict[str, Any] = {
        "versions": {name: metadata.version(name) for name in VERSIONS},
        "formats": {},
        "failed": {},
    }
    for name in study.settings["formats"]:
        try:
            result["formats"][name] = study.measure(name)
        except FAILURES as error:  # the other formats go on
            reason = str(error).strip().splitlines() or [""]
            result["failed"][name] = f"{type(error).__name__}: {reason[0]}"
    write_result(target, result)
    return 0


if __name__ == "__main__":
    sys.exit(main())
