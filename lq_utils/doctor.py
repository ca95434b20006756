"""``python -m lq_utils doctor``: is everything there that a run needs?"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import shutil
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from packaging.requirements import Requirement

from lq_utils import bootstrap, paths

NEEDED_GB = 2.0  # room for the caches of all chapters
GB = 1e9


class Check(NamedTuple):
    """One line of the report; ``status`` is OK, FAIL or INFO.

    Introduced in chapter 1.
    """

    status: str
    text: str


def check_python() -> Iterator[Check]:
    """The version of the interpreter against the project's range.

    Introduced in chapter 1.
    """
    version = ".".join(map(str, sys.version_info[:3]))
    fine = (3, 11) <= sys.version_info[:2] < (3, 13)
    advice = "" if fine else ": 3.11 is needed, 'make env' finds it"
    yield Check("OK" if fine else "FAIL", f"Python {version}{advice}")


def _installed(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _problem(wanted: Requirement) -> str | None:
    """What is wrong with one required package, None if nothing is."""
    if wanted.marker and not wanted.marker.evaluate():
        return None
    found = _installed(wanted.name)
    if found is None:
        return f"{wanted.name} is missing, {wanted.specifier} is wanted"
    if not wanted.specifier.contains(found, prereleases=True):
        return f"{wanted.name} is {found}, {wanted.specifier} is wanted"
    return None


def _compare(wanted: Iterable[Requirement], source: str) -> Iterator[Check]:
    requirements = list(wanted)
    problems = [p for p in map(_problem, requirements) if p]
    for problem in problems:
        yield Check("FAIL", f"{problem} by {source}: run 'make env'")
    if not problems:
        yield Check("OK", f"{len(requirements)} packages are as in {source}")


def check_versions(lock: Path = bootstrap.LOCK) -> Iterator[Check]:
    """Every package of the lock: installed, in exactly that version?

    Where torch is a CPU build, its CUDA packages are not asked for.

    Introduced in chapter 1.
    """
    entries = bootstrap.read_lock(lock)
    if "+cpu" in (_installed("torch") or ""):
        names = [*bootstrap.without_cuda(entries), "torch", "torchvision"]
        entries = {n: entries[n] for n in names if n in entries}
    lines = (e.splitlines()[0].rstrip(" \\") for e in entries.values())
    yield from _compare(map(Requirement, lines), lock.name)


def check_ranges(project: Path) -> Iterator[Check]:
    """The direct packages: installed, within the project's ranges?

    Introduced in chapter 1.
    """
    with project.open("rb") as file:
        dependencies = tomllib.load(file)["project"]["dependencies"]
    yield from _compare(map(Requirement, dependencies), project.name)


def check_packages() -> Iterator[Check]:
    """The lock, or in a conda environment the ranges (it has no lock).

    Introduced in chapter 1.
    """
    if (Path(sys.prefix) / "conda-meta").is_dir():
        return check_ranges(paths.ROOT / "pyproject.toml")
    return check_versions()


def check_torch() -> Iterator[Check]:
    """torch and torchvision belong together: run a compiled operator.

    Introduced in chapter 1.
    """
    import torch
    import torchvision

    boxes = torch.tensor([[0.0, 0.0, 2.0, 2.0], [0.0, 0.0, 2.0, 1.9]])
    kept = torchvision.ops.nms(boxes, torch.tensor([0.9, 0.8]), 0.5)
    fine = kept.tolist() == [0]
    text = f"torch {torch.__version__}, torchvision {torchvision.__version__}"
    yield Check("OK" if fine else "FAIL", f"{text} work together")


def check_kernel() -> Iterator[Check]:
    """The notebook kernel: this interpreter, and it finds ``lq_utils``.

    It is started in an empty folder, as JupyterLab may do.

    Introduced in chapter 1.
    """
    from jupyter_client.manager import start_new_kernel

    printed: list[str] = []

    def collect(message: dict) -> None:
        printed.append(message["content"].get("text", ""))

    with tempfile.TemporaryDirectory() as folder:
        manager, client = start_new_kernel(
            kernel_name="python3",
            cwd=folder,
            extra_arguments=["--log-level=ERROR"],
        )
        try:
            reply = client.execute_interactive(
                "import sys, lq_utils; print(sys.prefix)",
                output_hook=collect,
                timeout=60,
            )["content"]
        finally:
            client.stop_channels()
            manager.shutdown_kernel(now=True)
    prefix = "".join(printed).strip()
    if reply["status"] != "ok":
        yield Check("FAIL", f"kernel python3: {reply['evalue']}: 'make env'")
    elif prefix != sys.prefix:
        yield Check(
            "FAIL",
            f"kernel python3 runs in {prefix}, not in {sys.prefix}: remove "
            f"it with 'jupyter kernelspec remove python3'",
        )
    else:
        yield Check("OK", "kernel python3 is this Python, with lq_utils")


def check_data() -> Iterator[Check]:
    """Which real image sets are there; none is needed, damaged ones fail.

    Introduced in chapter 1.
    """
    from lq_utils import cifar

    absent = "not there, the synthetic set stands in; 'make data' gets it"
    for name in ("cifar100", "cifar10"):
        try:
            rung = cifar.find_rung(name)
        except cifar.DataError as error:
            yield Check("FAIL", f"{name}: {error}")
        else:
            yield Check("INFO", f"{name}: {rung or absent}")
    yield Check("INFO", f"data folder: {paths.data_dir()}")


def check_device() -> Iterator[Check]:
    """The fastest device that torch can use.

    Introduced in chapter 1.
    """
    import torch

    if torch.cuda.is_available():
        device = torch.cuda.get_device_properties(0)
        text = f"CUDA, {device.name}, {device.total_memory / GB:.0f} GB"
    elif torch.backends.mps.is_available():
        text = "Apple GPU (MPS)"
    else:
        text = "none, the quick profile is sized for the CPU"
    yield Check("INFO", f"GPU: {text}")
    yield Check("INFO", f"CPU: {os.cpu_count()} cores")


def check_folders() -> Iterator[Check]:
    """Can caches and results be written, and is there room for them?

    Introduced in chapter 1.
    """
    for folder in (paths.cache_dir(), paths.results_dir()):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError as error:
            variables = "LQ_CACHE_DIR and LQ_RESULTS_DIR choose others"
            yield Check("FAIL", f"{folder}: {error.strerror}; {variables}")
            continue
        free = shutil.disk_usage(folder).free / GB
        enough = free >= NEEDED_GB
        yield Check(
            "OK" if enough else "FAIL",
            f"{folder}: writable, {free:.1f} GB free"
            + ("" if enough else f", {NEEDED_GB:.0f} GB are needed"),
        )


Checks = Iterable[Callable[[], Iterator[Check]]]
CHECKS: Checks = (
    check_python,
    check_packages,
    check_torch,
    check_kernel,
    check_data,
    check_device,
    check_folders,
)


def run_checks(checks: Checks = CHECKS) -> Iterator[Check]:
    """All checks; one that breaks off is a FAIL line, not the end.

    Introduced in chapter 1.
    """
    for check in checks:
        try:
            yield from check()
        except Exception as error:  # noqa: BLE001 (that is the finding)
            what = check.__name__.removeprefix("check_")
            yield Check("FAIL", f"{what}: {type(error).__name__}: {error}")


def main(argv: Sequence[str] | None = None, checks: Checks = CHECKS) -> int:
    """Print one line a check; 1 if any of them fails, else 0.

    Introduced in chapter 1.
    """
    argparse.ArgumentParser(
        prog="python -m lq_utils doctor",
        description="Check environment, data and GPU, one line each.",
    ).parse_args(argv)
    failed = 0
    for status, text in run_checks(checks):
        print(f"{status:<5} {text}", flush=True)
        failed += status == "FAIL"
    print(f"{failed} problem(s)" if failed else "all that is needed is there")
    return 1 if failed else 0
