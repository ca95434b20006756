"""Environments beside the book's: made on demand, never mixed with it."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

IN_VENV = "Scripts/python.exe" if os.name == "nt" else "bin/python"


class SetUpError(RuntimeError):
    """An environment cannot be made."""


@dataclass(frozen=True)
class Environment:
    """Packages of ``folder/requirements.lock``, in ``folder/.venv``.

    ``name`` and ``otherwise`` (what to do where it cannot be made) are
    for messages.
    """

    folder: Path
    name: str
    otherwise: str = ""

    @property
    def python(self) -> Path:
        return self.folder / ".venv" / IN_VENV

    def ensure(self) -> Path:
        """The Python of the environment, which is made if need be.

        It is made again when ``requirements.lock`` has changed or an
        earlier installation was cut short: the stamp is written last.

        Raises:
            SetUpError: no uv, or no network on the first run.
        """
        venv, lock = self.folder / ".venv", self.folder / "requirements.lock"
        stamp = venv / ".complete"
        wanted = hashlib.sha256(lock.read_bytes()).hexdigest()
        made = stamp.exists() and stamp.read_text() == wanted
        if made and self.python.exists():
            return self.python
        uv = self._find_uv()
        print(f"Making {self.name} {venv} (once)", flush=True)
        self._run(uv, "venv", "--clear", "--python", sys.executable, venv)
        checked = ("--no-deps", "--require-hashes", "--requirement", lock)
        self._run(uv, "pip", "install", "--python", self.python, *checked)
        stamp.write_text(wanted)
        return self.python

    def main(self) -> int:
        """Make it now, from the command line; the exit status."""
        try:
            print(self.ensure())
        except SetUpError as error:
            print(error, file=sys.stderr)
            return 1
        return 0

    def _find_uv(self) -> str:
        beside = str(Path(sys.executable).parent)
        found = shutil.which("uv", path=beside) or shutil.which("uv")
        if found is None:
            raise SetUpError(
                f"uv was not found, which makes {self.name}: run "
                "'make env' and start this script with .venv/bin/python"
            )
        return found

    def _run(self, *command: str | Path) -> None:
        words = [str(word) for word in command]
        done = subprocess.run(
            words, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise SetUpError(
                f"{self.name} {self.folder / '.venv'} could not be made "
                f"({' '.join(words[1:3])} failed: "
                f"{done.stderr.strip()[-600:]}). Making it needs the network "
                f"once{self.otherwise}"
            )
