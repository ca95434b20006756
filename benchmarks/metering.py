"""Seconds and peak memory of a block; the standard library is enough.

Every environment of the benchmarks imports this file.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PROCESS = Path("/proc/self")


def _status(field: str) -> float | None:
    """A memory field of this process in MiB; None where it has none."""
    try:
        lines = (PROCESS / "status").read_text().splitlines()
    except OSError:
        return None
    found = [x.split()[1] for x in lines if x.startswith(f"{field}:")]
    return int(found[0]) / 1024 if found else None


def resident() -> float:
    """Resident MiB of this process; 0 where that cannot be told."""
    gc.collect()
    return _status("VmRSS") or 0.0


def _reset_peak() -> float | None:
    """Resident MiB now, from which the peak counts; None: cannot be told.

    Linux forgets the earlier peak when "5" is written to clear_refs.
    """
    gc.collect()
    try:
        (PROCESS / "clear_refs").write_text("5")
    except OSError:
        return None
    return _status("VmRSS")


@contextmanager
def metered(result: dict[str, Any]) -> Iterator[None]:
    """Put ``seconds`` and ``peak_mib`` (over the start) into ``result``."""
    start = _reset_peak()
    started = time.perf_counter()
    yield
    result["seconds"] = time.perf_counter() - started
    peak = _status("VmHWM")
    result["peak_mib"] = (
        None if start is None or peak is None else max(peak - start, 0.0)
    )


@contextmanager
def timed(result: dict[str, Any], name: str) -> Iterator[None]:
    """Put the seconds of the block into ``result`` under ``name``."""
    started = time.perf_counter()
    yield
    result[name] = time.perf_counter() - started
