"""QuantNET in the thesis's formats as .tflite files, measured in LiteRT.

    python benchmarks/litert/measure_formats.py      # or: make litert
    python benchmarks/litert/measure_formats.py --quick   # does it run?

Trains a network for each pair of classes (goes on from its checkpoints),
trains it on with its weights rounded, and has litert_run.py write and
measure the files. A full run on real images becomes the reference rows in
data/results/litert. See benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent.parent), str(HERE.parent)]

from environment import LITERT
from inputs import write_inputs
from processes import variables
from torch import nn

from lq_utils.comparison import REAL
from lq_utils.compressed_training import fit
from lq_utils.compression import fake_quantize, strip
from lq_utils.data import pool
from lq_utils.images import Splits
from lq_utils.intervals import wilson
from lq_utils.litert_rows import NAME, litert_rows
from lq_utils.paths import REFERENCE, ROOT, atomic_write
from lq_utils.recipes import TrainingConfig
from lq_utils.results import Run
from lq_utils.tasks import pair_task
from lq_utils.training import train

PAIRS = ((3, 5), (7, 6))  # cat/dog and horse/frog in CIFAR-10
# The thesis's names of what becomes of a network, and their formats.
SET_UPS = {
    "base": {
        "base": "float32",
        "PTQ int8": "int8",
        "PTQ dynamic range": "dynamic range",
        "PTQ float16": "float16",
        "PTQ int8 with int16 activations": "int8 weights, int16 activations",
        "PTQ int4 weights": "int4 weights",
    },
    "QAT": {"QAT": "float32", "PTQ on QAT": "int8"},
}
SPLIT = "pair 70-10-20"  # of pair_task
BITS = 8
FINE_RATE = 1e-4


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    number: dict[str, Any] = {"type": int, "metavar": "N"}
    parser.add_argument("--epochs", default=12, **number)
    parser.add_argument("--fine-epochs", default=2, **number)
    parser.add_argument("--calibration", default=200, **number)
    parser.add_argument("--seed", default=0, **number)
    parser.add_argument(
        "--quick",
        action="store_true",
        help="made images, an epoch, few runs; nothing becomes reference",
    )
    options = parser.parse_args()
    usual = vars(options) == vars(parser.parse_args([]))
    options.profile = "full" if usual else "custom"
    options.dataset = "synthetic10" if options.quick else "auto10"
    options.runs = {1: 20, 64: 5} if options.quick else {1: 500, 64: 50}
    if options.quick:
        options.profile = "quick"
        options.epochs = options.fine_epochs = 1
    return options


def recipe(epochs: int, rate: float, seed: int) -> TrainingConfig:
    return TrainingConfig(
        epochs=epochs,
        batch_size=64,
        optimizer="adam",
        learning_rate=rate,
        weight_decay=0.0,
        schedule="cosine",
        seed=seed,
    )


def networks(
    splits: Splits, options: argparse.Namespace
) -> dict[str, nn.Module]:
    """The trained network, and the one trained on with rounded weights."""
    parts = (splits.train, splits.validation)
    first = recipe(options.epochs, 1e-3, options.seed)
    base = train("quantnet", *parts, first, num_outputs=1).model
    rounded = fake_quantize(base, BITS, granularity="mixed")
    more = recipe(options.fine_epochs, FINE_RATE, options.seed)
    return {"base": base, "QAT": strip(fit(rounded, *parts, more).model)}


def measure(
    folder: Path,
    network: nn.Module,
    splits: Splits,
    formats: list[str],
    options: argparse.Namespace,
) -> dict[str, Any]:
    """What LiteRT makes of a network.

    Raises RuntimeError with the end of its messages if it fails.
    """
    write_inputs(
        folder,
        network,
        splits,
        formats,
        calibration=options.calibration,
        runs=options.runs,
        seed=options.seed,
    )
    target = folder / "result.json"
    script = HERE / "litert_run.py"
    done = subprocess.run(
        [str(LITERT.python), str(script), str(folder), str(target)],
        env=variables(threads=1),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{script.name} failed:\n{done.stderr[-2000:]}")
    result: dict[str, Any] = json.loads(target.read_text())
    return result


def record(run: Run, keys: dict[str, Any], found: dict[str, Any]) -> None:
    """The rows of one file."""
    kinds = sorted(found["products"])
    stored = keys["format"] == "float32" or not any(
        kind.endswith("x float32") for kind in kinds
    )
    keys = {**keys, "arithmetic": ", ".join(kinds), "measured": stored}
    n = found["n"]
    accuracy = wilson(found["hits"], n)
    run.record("accuracy", accuracy.value, n=n, ci=accuracy.ci, **keys)
    run.record("agreement", found["same"] / n, n=n, **keys)
    run.record("logit_gap", found["logit_gap"], n=n, **keys)
    run.record("bytes", found["bytes"], **keys)
    run.record("compressed_bytes", found["gzip_bytes"], **keys)
    for batch, times in found["times"].items():
        for part in ("ms", "low_ms", "high_ms"):
            metric = f"batch{batch}_{part}"
            run.record(metric, times[part], n=times["runs"], **keys)


def study(run: Run, options: argparse.Namespace) -> dict[str, Any]:
    """All rows; returns versions, and formats left out with the reason."""
    left_out, versions = [], {}
    for pair in PAIRS:
        splits = pair_task(*pair, dataset=options.dataset)
        task = "/".join(splits.train.class_names)
        for name, network in networks(splits, options).items():
            set_ups = SET_UPS[name]
            folder = ROOT / "_build" / NAME / options.profile
            folder = folder / f"{task.replace('/', '-')}-{name}"
            wanted = list(set_ups.values())
            result = measure(folder, network, splits, wanted, options)
            versions = result["versions"]
            for set_up, form in set_ups.items():
                keys = {"task": task, "set_up": set_up, "format": form}
                if form in result["formats"]:
                    record(run, keys, result["formats"][form])
                else:
                    reason = result["failed"][form]
                    keys |= {"left_out": reason, "seed": options.seed}
                    left_out.append(keys)
                    print(f"{task}, {set_up}: left out ({reason})")
    return {"versions": versions, "left_out": left_out}


def vector_instructions() -> str:
    """What decides how fast integers are; "unknown" but on Linux."""
    try:
        text = Path("/proc/cpuinfo").read_text("utf-8")
    except OSError:
        return "unknown"
    found = re.findall(r"\b(?:avx|amx|asimd)\w*", text)
    return " ".join(sorted(set(found))) or "unknown"


def save(run: Run, more: dict[str, Any]) -> Path:
    """Write rows and record; a full run on real images is the reference."""
    folder = run.save()
    content = json.loads((folder / "run.json").read_text("utf-8"))
    content["packages"] |= more["versions"]
    content["machine"]["vector_instructions"] = vector_instructions()
    content["left_out"] = more["left_out"]
    with atomic_write(folder / "run.json") as path:
        text = json.dumps(content, indent=2, ensure_ascii=False)
        path.write_text(text + "\n", "utf-8")
    if run.profile != "full" or run.provenance.rung not in REAL:
        return folder
    for name in ("rows.csv", "run.json"):
        with atomic_write(REFERENCE / NAME / name) as path:
            shutil.copyfile(folder / name, path)
    return REFERENCE / NAME


def main() -> int:
    options = parse()
    provenance = pool(options.dataset, verbose=False).provenance
    provenance = replace(provenance, split=SPLIT)
    shared = {k: v for k, v in vars(options).items() if k != "quick"}
    run = Run(NAME, {**shared, "fine_rate": FINE_RATE}, provenance)
    try:
        LITERT.ensure()
        folder = save(run, study(run, options))
    except RuntimeError as error:
        print(error, file=sys.stderr)
        return 1
    rows = litert_rows(folder)
    shown = ["task", "set_up", "accuracy", "bytes", "batch1_ms"]
    print(rows[[*shown, "batch64_ms", "arithmetic"]].to_string(index=False))
    print(f"Rows: {folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
