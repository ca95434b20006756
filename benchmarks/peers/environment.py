"""The peers' own environment: made on demand, never mixed with the book's.

python benchmarks/peers/environment.py     # make it now
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
LOCK = HERE / "requirements.lock"
FOLDER = HERE / ".venv"
STAMP = FOLDER / ".complete"
PYTHON = FOLDER / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


class PeersError(RuntimeError):
    """The environment of the peers cannot be made."""


def _find_uv() -> str:
    beside = str(Path(sys.executable).parent)
    found = shutil.which("uv", path=beside) or shutil.which("uv")
    if found is None:
        raise PeersError(
            "uv was not found, which makes the peers' environment: run "
            "'make env' and start this script with .venv/bin/python"
        )
    return found


def _run(*command: str | Path) -> None:
    words = [str(word) for word in command]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise PeersError(
            f"the peers' environment {FOLDER} could not be made "
            f"({' '.join(words[1:3])} failed: {done.stderr.strip()[-600:]}). "
            "Making it needs the network once; or pass --no-peers to "
            "measure our side alone"
        )


def ensure() -> Path:
    """The Python of the peers' environment, which is made if need be.

    It is made again when ``requirements.lock`` has changed or an earlier
    installation was cut short: the stamp is written last.

    Raises:
        PeersError: no uv, or no network on the first run.
    """
    wanted = hashlib.sha256(LOCK.read_bytes()).hexdigest()
    if STAMP.exists() and STAMP.read_text() == wanted and PYTHON.exists():
        return PYTHON
    uv = _find_uv()
    print(f"Making the peers' environment {FOLDER} (once)", flush=True)
    _run(uv, "venv", "--clear", "--python", sys.executable, FOLDER)
    checked = ("--no-deps", "--require-hashes", "--requirement", LOCK)
    _run(uv, "pip", "install", "--python", PYTHON, *checked)
    STAMP.write_text(wanted)
    return PYTHON


def main() -> int:
    try:
        print(ensure())
    except PeersError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
