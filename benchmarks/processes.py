"""Runs the methods of the quantization benchmark, each in a process."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
PEERS = HERE / "peers"


class Bench:
    """Runs methods in processes that read one folder of inputs."""

    def __init__(self, folder: Path, options: argparse.Namespace) -> None:
        self.folder = folder
        self.options = options
        self.peers_python: Path | None = None

    def settings(self, **values: Any) -> None:
        fixed = {
            "bits": self.options.bits,
            "threads": self.options.threads,
            "batch_size": self.options.batch_size,
            "peer_scale": self.options.peer_scale,
        }
        path = self.folder / "settings.json"
        path.write_text(json.dumps(fixed | values))

    def run(self, script: str, *words: str) -> dict[str, Any]:
        """The result of a script; the peers' run with their Python.

        Raises RuntimeError with the end of its messages if it fails.
        """
        path = self.folder / "result.json"
        path.unlink(missing_ok=True)
        theirs = script.startswith("brevitas")
        python = self.peers_python if theirs else Path(sys.executable)
        name = (PEERS if theirs else HERE) / script
        done = subprocess.run(
            [str(python), str(name), str(self.folder), *words, str(path)],
            env=variables(self.options.threads),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"{script} failed:\n{done.stderr[-2000:]}")
        result: dict[str, Any] = json.loads(path.read_text())
        return result


def variables(threads: int) -> dict[str, str]:
    """What the processes see: modules of both sides, so many threads."""
    values = dict(os.environ)
    values["PYTHONPATH"] = os.pathsep.join(map(str, (ROOT, HERE, PEERS)))
    for name in ("OMP", "OPENBLAS", "MKL"):
        values[f"{name}_NUM_THREADS"] = str(threads)
    return values
