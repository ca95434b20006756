"""One command: ``python -m lq_utils compress --model M --classes a,b ...``.

A trained network, some of its classes and a budget in; a file out that
knows only those classes.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from lq_utils.artifact import save_quantized
from lq_utils.compress_report import (
    CompressError,
    accuracies,
    check_stored,
    layer_lines,
)
from lq_utils.data import FOLDER_PREFIX, Splits, load_dataset
from lq_utils.inference import to_input
from lq_utils.paths import atomic_write
from lq_utils.task_budget import uniform_bytes
from lq_utils.task_compression import Compressed, compress_for_task
from lq_utils.task_models import TrainedModel, find_model
from lq_utils.task_network import TaskNetwork, task_network
from lq_utils.task_settings import CHOICES, TaskSettings

UNITS = {"b": 1, "kb": 1000, "kib": 1024, "mb": 10**6, "mib": 2**20}
CHECKED = 32  # images on which the stored file must answer the same


def parse_budget(text: str) -> tuple[float, str]:
    """A number and its unit: "bits" (a weight), or "bytes".

    ``"2.5bits"``, ``"48KB"`` (1000 bytes), ``"48KiB"`` (1024), ``"64000"``
    (bytes). Raises CompressError for anything else. Introduced in
    chapter 9.
    """
    found = re.fullmatch(r"\s*([0-9]*\.?[0-9]+)\s*([a-zA-Z]*)\s*", text)
    unit = found.group(2).lower() if found else ""
    if found and unit in ("bit", "bits") and float(found.group(1)) >= 1:
        return float(found.group(1)), "bits"
    if found and unit in ("", *UNITS) and float(found.group(1)) > 0:
        return float(found.group(1)) * UNITS.get(unit, 1), "bytes"
    raise CompressError(
        f"cannot read the budget {text!r}: write 2.5bits (1 or more for "
        "each weight), 48KB, 48KiB or a number of bytes"
    )


def budget_in_bytes(
    text: str, task: TaskNetwork, model_name: str, settings: TaskSettings
) -> int:
    """Bytes of a budget: given, or those of so many bits a weight.

    Raises CompressError where the text cannot be read. Introduced in
    chapter 9.
    """
    number, unit = parse_budget(text)
    if unit == "bytes":
        return int(number)
    return uniform_bytes(task, model_name, number, settings)


def parser() -> argparse.ArgumentParser:
    """Options of the command. Introduced in chapter 9."""
    found = argparse.ArgumentParser(
        "python -m lq_utils compress",
        description="Compress a network for some of its classes.",
        epilog="Calibration and choices look at training images only; "
        "validation and test images are read for the report.",
    )
    add = found.add_argument
    add("--model", required=True, help="registered name, or a file of weights")
    add("--dataset", default="auto", help="a data set, or a folder of classes")
    add("--classes", required=True, help="names or indices: otter,seal,...")
    add("--budget", required=True, help="2.5bits, 48KB or 48KiB")
    add("--out", required=True, type=Path, help="the file to write")
    add("--onnx", type=Path, help="also an ONNX file with float weights")
    add("--architecture", help="registered name, for weights of torch.save")
    add("--import", dest="module", help="your module that registers models")
    add("--bits", default="1,2,3,4,5,6", help="that a layer may have")
    add("--allocation", default="aware", choices=CHOICES["allocation"])
    add("--solver", default=TaskSettings.solver, help="of every layer")
    add("--scale", default=TaskSettings.scale, help="rule for scales")
    add("--polish", type=int, default=TaskSettings.polish, help="sweeps")
    add("--images", type=int, default=256, help="for calibration")
    add("--image-size", type=int, default=32, help="of an image folder")
    add("--seed", type=int, default=0)
    return found


def check_places(out: Path, onnx: Path | None) -> None:
    """Whether the files can be written, before anything takes time.

    Raises CompressError for a folder in a file's place, one that cannot
    be written to, or one path for two files. Introduced in chapter 9.
    """
    files = [out, out.with_suffix(".json"), *([onnx] if onnx else [])]
    places = [file.absolute() for file in files]
    if len(set(places)) < len(places):
        raise CompressError(
            f"--out {out} would be overwritten by its record "
            f"{files[1].name} or by --onnx: give each file a name of its "
            "own, such as task.lq and task.onnx"
        )
    for place in places:
        nearest = next(f for f in place.parents if f.exists())
        if place.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
            raise CompressError(
                f"cannot write {place}: it is a folder, or {nearest} is no "
                "folder that may be written to; give another path"
            )


def settings_from(options: argparse.Namespace) -> TaskSettings:
    """Settings of the framework from the command's options.

    Raises CompressError or TaskError for values of no use. Introduced in
    chapter 9.
    """
    try:
        bits = tuple(sorted(int(b) for b in options.bits.split(",")))
    except ValueError:
        raise CompressError(
            f"cannot read --bits {options.bits!r}: write 2,3,4"
        ) from None
    if options.seed < 0:
        raise CompressError(f"--seed {options.seed}: give 0 or more")
    return TaskSettings(
        allocation=options.allocation,
        solver=options.solver,
        scale=options.scale,
        polish=options.polish,
        bits=bits,
        images=options.images,
        cost_images=min(options.images, TaskSettings.cost_images),
        seed=options.seed,
    )


def _import(module: str) -> None:
    """The user's own code, on request: it may register models."""
    try:
        importlib.import_module(module)
    except ImportError as error:
        raise CompressError(
            f"cannot import {module!r} ({error}): give the name of a module "
            "in the folder that the command runs in"
        ) from error


def _load(options: argparse.Namespace) -> tuple[Splits, TrainedModel]:
    if options.module:
        _import(options.module)
    name = options.dataset
    if Path(name).is_dir():
        name = FOLDER_PREFIX + name
    splits = load_dataset(name, image_size=options.image_size)
    train = splits.train
    return splits, find_model(options.model, train, options.architecture)


def chosen_classes(text: str, splits: Splits) -> tuple[int, ...]:
    """Indices of classes given by name or index, separated by commas.

    Raises DataError with the nearest names. Introduced in chapter 9.
    """
    words = [word.strip() for word in text.split(",") if word.strip()]
    names = splits.train.class_names
    return tuple(
        splits.train.index_of(
            int(word) if word.isdecimal() and word not in names else word
        )
        for word in words
    )


def _write(
    options: argparse.Namespace,
    found: Compressed,
    name: str,
    images: torch.Tensor,
    rows: list[dict[str, Any]],
) -> None:
    save_quantized(options.out, found.quantized, name, found.task.total)
    check_stored(options.out, found, images)
    record = {
        "model": name,
        "class_names": list(found.task.class_names),
        "file_bytes": found.file_bytes,
        "budget_bytes": found.budget_bytes,
        "bits": {row.layer: row.bits for row in found.plan},
        "accuracy": rows,
    }
    with atomic_write(options.out.with_suffix(".json")) as temporary:
        temporary.write_text(json.dumps(record, indent=1) + "\n", "utf-8")
    if options.onnx:
        from lq_utils.onnx_export import export_onnx

        shape = (images.shape[1], images.shape[2], images.shape[3])
        size = export_onnx(found.quantized.model, options.onnx, shape)
        print(f"ONNX:    {options.onnx}, {size:,} bytes (float32 weights)")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; its exit status, 0.

    Raises:
        CompressError, TaskError: what was asked for makes no sense.
        DataError, WeightsError: data or network are not to be had.
        AllocationError: the budget is too small; it says by how much.

    Introduced in chapter 9.
    """
    options = parser().parse_args(argv)
    parse_budget(options.budget)  # before anything takes time
    check_places(options.out, options.onnx)
    settings = settings_from(options)
    splits, model = _load(options)
    if model.note:
        print(model.note)
    classes = chosen_classes(options.classes, splits)
    train = splits.train
    before = task_network(model.network, classes, train.class_names)
    budget = budget_in_bytes(options.budget, before, model.name, settings)
    print(f"Task:    {', '.join(before.class_names)}")
    print(f"Budget:  {budget:,} bytes; measuring what a bit costs ...")
    found = compress_for_task(
        model.network, model.name, train, classes, budget, settings
    )
    rows = accuracies(found, before, splits)
    own = train.subset(list(classes)).images[:CHECKED]
    _write(options, found, model.name, to_input(own), rows)
    _report(options, found, model, rows)
    return 0


def _report(
    options: argparse.Namespace,
    found: Compressed,
    model: TrainedModel,
    rows: list[dict[str, Any]],
) -> None:
    whole = sum(4 * p.numel() for p in model.network.parameters())
    print("\n".join(layer_lines(found)))
    for row in rows:
        share, low, high = (100 * row[k] for k in ("accuracy", "low", "high"))
        print(
            f"{row['part']:10}  {row['network']:6}  {share:5.1f} % "
            f"[{low:.1f}, {high:.1f}] of {row['n']:,} images"
        )
    mean = found.plan.mean_bits(found.task.network)
    print(f"Mean:    {mean:.2f} bits a weight")
    print(
        f"Written: {options.out}, {found.file_bytes:,} bytes of "
        f"{found.budget_bytes:,}; {whole / found.file_bytes:.1f} times "
        "smaller than the original's float32 weights. Loaded again, it "
        "answers the same."
    )
