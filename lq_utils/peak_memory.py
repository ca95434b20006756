"""Peak memory of computations, each in a fresh process of its own.

One helper process loads the libraries and the inputs, then forks a child
for each computation: nothing that ran before can be in its memory.

    python -m lq_utils.peak_memory FOLDER

is that helper; only :func:`peak_memory` starts it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from threadpoolctl import threadpool_limits

from lq_utils.sharing import load_shared, shared_folder

MIB = 2**20


class PeakMemoryError(RuntimeError):
    """A computation failed, so that its memory is not known.

    Introduced in chapter 8.
    """


def _highest() -> float:
    """Most memory this process ever had resident, in MiB."""
    import resource

    highest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Linux counts in KiB, macOS in bytes.
    return highest / (MIB if sys.platform == "darwin" else 1024)


def _measure(
    function: Callable[..., Any],
    values: dict[str, Any],
    warm_up: dict[str, Any] | None,
) -> float:
    torch.set_num_threads(1)
    with threadpool_limits(1):
        if warm_up is not None:
            function(**{**values, **warm_up})
        start = _highest()
        function(**values)
        return _highest() - start


def _child(answer: Path, *job: Any) -> None:
    """Measure and write the answer; never returns."""
    try:
        found: dict[str, Any] = {"mib": _measure(*job)}
    except BaseException:  # noqa: BLE001 (the parent raises it again)
        found = {"error": traceback.format_exc()}
    answer.write_text(json.dumps(found), "utf-8")
    os._exit(0)


def _serve(folder: Path) -> None:
    shared = load_shared(folder)
    for number, function in enumerate(shared["functions"]):
        answer = folder / f"{number}.json"
        child = os.fork()
        if child == 0:
            _child(answer, function, shared["values"], shared["warm_up"])
        os.waitpid(child, 0)


def peak_memory(
    functions: Mapping[str, Callable[..., Any]],
    values: Mapping[str, Any],
    warm_up: Mapping[str, Any] | None = None,
) -> dict[str, float] | None:
    """Memory that each ``function(**values)`` needs over its inputs, MiB.

    How far the highest resident memory (``ru_maxrss``) of a process that
    does nothing else rises above that before the call. One thread.
    ``warm_up`` replaces some of the values by tiny ones for a call before
    that: code pages that are read from disk at their first use do not
    count then. What the warm-up frees is used again and does not count
    either, so keep it tiny.

    None on systems that cannot fork. Raises PeakMemoryError with the
    traceback of a function that failed.

    Introduced in chapter 8.
    """
    if not hasattr(os, "fork"):
        return None
    shared = {
        "functions": list(functions.values()),
        "values": dict(values),
        "warm_up": None if warm_up is None else dict(warm_up),
    }
    with shared_folder(shared) as folder:
        command = [sys.executable, "-m", "lq_utils.peak_memory", str(folder)]
        helper = subprocess.run(
            command, capture_output=True, text=True, check=False
        )
        if helper.returncode:
            raise PeakMemoryError(f"the helper failed:\n{helper.stderr}")
        return {
            name: _answer(name, folder / f"{number}.json")
            for number, name in enumerate(functions)
        }


def _answer(name: str, path: Path) -> float:
    if not path.exists():
        raise PeakMemoryError(
            f"'{name}' was killed while it was measured; there may be too "
            "little memory for it"
        )
    found = json.loads(path.read_text("utf-8"))
    if "error" in found:
        raise PeakMemoryError(f"'{name}' failed:\n{found['error']}")
    return float(found["mib"])


if __name__ == "__main__":
    _serve(Path(sys.argv[1]))
