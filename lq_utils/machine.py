"""What a run ran on: packages, processor, threads."""

from __future__ import annotations

import os
import platform
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = (
    "numpy",
    "scipy",
    "scikit-learn",
    "umap-learn",
    "pandas",
    "matplotlib",
    "torch",
    "torchvision",
    "papermill",
    "jupytext",
)


def package_versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide numbers.

    Introduced in chapter 1.
    """
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "not installed"
    return versions


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        lines = []  # macOS and Windows
    for line in lines:
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def machine() -> dict[str, Any]:
    """Processor, cores, threads, system and GPU of this machine.

    Introduced in chapter 1.
    """
    record: dict[str, Any] = {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": os.environ.get("OMP_NUM_THREADS", "not set"),
        "system": f"{platform.system()} {platform.machine()}",
    }
    torch = sys.modules.get("torch")  # not imported only to be asked
    if torch is not None:
        record["threads"] = torch.get_num_threads()
        if torch.cuda.is_available():
            record["gpu"] = torch.cuda.get_device_name()
    return record
