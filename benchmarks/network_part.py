"""Whole network: our engine against Brevitas' GPFQ and GPTQ."""

from __future__ import annotations

import shutil

import numpy as np
import torch
from processes import Bench
from safetensors.torch import save_file
from verdicts import Ratio, Runs, Verdicts, average, peak, report

from lq_utils.data import ImageData, load_dataset
from lq_utils.inference import to_input
from lq_utils.weights import reference_path, require_same_split

MODEL = "resnet20"
OURS = ("ours", "ours, 1/4")
BREVITAS = ("Brevitas GPFQ", "Brevitas GPTQ")
PEAK_MIB = 150.0
NETWORK_RATIOS = (
    Ratio("Brevitas GPFQ", "ours", 8),
    Ratio("Brevitas GPTQ", "ours", 4),
    Ratio("Brevitas GPFQ", "ours, 1/4", 11),
    Ratio("Brevitas GPTQ", "ours, 1/4", 6),
)
NETWORK_FIELDS = {
    "forward": ("forward", "9.2f", 1.0),
    "gram": ("Gram", "7.2f", 1.0),
    "solve": ("solve", "7.2f", 1.0),
    "prepare": ("prepare", "9.2f", 1.0),
    "levels": ("levels", "8.0f", 1.0),
    "validation": ("val. %", "8.2f", 100.0),
    "test": ("test %", "8.2f", 100.0),
}


def write_network(bench: Bench) -> str:
    """Weights, calibration draws and held-out images; what they are."""

    def write(name: str, data: ImageData) -> None:
        tensors = {
            "images": to_input(data.images).contiguous(),
            "labels": torch.from_numpy(data.labels.astype(np.int64)),
        }
        save_file(tensors, bench.folder / f"{name}.safetensors")

    options, splits = bench.options, load_dataset("auto", verbose=False)
    dataset = splits.provenance.dataset
    require_same_split(MODEL, dataset, splits.provenance)
    shutil.copyfile(
        reference_path(MODEL, dataset), bench.folder / "network.safetensors"
    )
    for draw in range(options.rounds):
        order = np.random.default_rng(draw).permutation(len(splits.train))
        chosen = order[: options.images]
        write(f"calibration_{draw}", splits.train.take(chosen))
    held_out = np.arange(options.held_out)
    for part in (splits.validation, splits.test):
        write(part.part, part.take(held_out[: len(part)]))
    bench.settings(model=MODEL, outputs=len(splits.train.class_names))
    return splits.provenance.stamp()


def measure_network(bench: Bench) -> tuple[str, Runs]:
    stamp = write_network(bench)
    peers = BREVITAS if bench.peers_python else ()
    runs: Runs = {method: [] for method in (*peers, *OURS)}
    for draw in range(bench.options.rounds):
        for method, results in runs.items():
            theirs = method in BREVITAS
            script = "brevitas_network.py" if theirs else "network_run.py"
            results.append(bench.run(script, method, str(draw)))
    return stamp, runs


def judge_network(runs: Runs, bits: int, verdicts: Verdicts) -> None:
    verdicts.ratios(runs, NETWORK_RATIOS)
    for fast in OURS:
        mib = peak(runs, fast)
        if mib is None:
            print(f"  not measured: peak memory of {fast} (needs Linux)")
        else:
            verdicts.check(
                mib <= PEAK_MIB,
                f"{fast} takes {mib:.0f} MiB over its start "
                f"(allowed {PEAK_MIB:.0f})",
            )
        for peer in filter(runs.__contains__, BREVITAS):
            gain = 100 * (
                average(runs, fast, "validation")
                - average(runs, peer, "validation")
            )
            verdicts.check(
                gain >= 0,
                f"{fast} is {gain:+.2f} points better than {peer} on "
                "validation images (mean of the rounds; wanted 0)",
            )
    results = [result for each in runs.values() for result in each]
    most = max(result["levels"] for result in results)
    verdicts.require(
        most <= 2**bits - 1, f"at most {most} levels a channel everywhere"
    )
    counts = sorted({result["layers"] for result in results})
    verdicts.require(len(counts) == 1, f"all quantize {counts} layers")


def network_part(bench: Bench, verdicts: Verdicts) -> None:
    options = bench.options
    stamp, runs = measure_network(bench)
    title = f"{MODEL}, {stamp}, {options.images} calibration images"
    report(
        title,
        runs,
        NETWORK_FIELDS,
        lambda: judge_network(runs, options.bits, verdicts),
    )
