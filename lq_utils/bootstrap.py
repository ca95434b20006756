"""Fill a fresh virtual environment from the lock; standard library only.

``make`` runs this with the interpreter of the new environment, before any
package is there. uv does it in a quarter of pip's time, so it is taken
where it is at hand; pip does the same work where uv does not.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "requirements.lock"
# What only the CUDA build of torch needs; a CPU build goes without.
CUDA_ONLY = re.compile(r"(nvidia|cuda)-|triton$")


def read_lock(path: Path = LOCK) -> dict[str, str]:
    """Entries of a lock file: name to pin, markers and hashes.

    Raises ``ValueError`` where the file has no pinned entry.

    Introduced in chapter 1.
    """
    lines = path.read_text(encoding="utf-8").splitlines()
    body = "\n".join(x for x in lines if not x.lstrip().startswith("#"))
    entries = re.findall(
        r"^([\w.-]+)(==(?:.*\\\n)*.*)$", body, flags=re.MULTILINE
    )
    if not entries:
        raise ValueError(f"{path}: no pinned package; 'make lock' writes it")
    return {name: name + rest for name, rest in entries}


def pinned_version(entry: str) -> str:
    """The version in a lock entry, such as ``2.14.1``.

    Introduced in chapter 1.
    """
    found = re.match(r"[\w.-]+==([^\s;\\]+)", entry)
    if found is None:
        raise ValueError(f"no exact pin in the lock entry {entry[:60]!r}")
    return found[1]


def without_cuda(entries: dict[str, str]) -> dict[str, str]:
    """The entries that a CPU build of torch leaves to install.

    Introduced in chapter 1.
    """
    return {
        name: entry
        for name, entry in entries.items()
        if name not in ("torch", "torchvision") and not CUDA_ONLY.match(name)
    }


def _run(*command: str | Path) -> bool:
    """Run a command; whether it went well."""
    words = [str(part) for part in command]
    return subprocess.run(words, check=False).returncode == 0


def _pip(*arguments: str | Path) -> bool:
    return _run(sys.executable, "-m", "pip", "install", *arguments)


def find_uv(entries: dict[str, str], folder: Path) -> str | None:
    """uv from PATH, else the locked uv put into this environment by pip.

    Introduced in chapter 1.
    """
    found = shutil.which("uv")
    if found or "uv" not in entries:
        return found
    lock = folder / "uv.lock"
    lock.write_text(entries["uv"] + "\n", encoding="utf-8")
    if not _pip("--quiet", "--require-hashes", "--requirement", lock):
        return None
    return shutil.which("uv", path=sysconfig.get_path("scripts"))


def install(lock: Path, torch_index: str = "") -> bool:
    """Install ``lock`` into this environment; whether all of it is there.

    With ``torch_index``, the pinned torch and torchvision come from that
    package index and the CUDA packages are left out.

    Introduced in chapter 1.
    """
    entries = read_lock(lock)
    if torch_index:
        pins = [
            f"{name}=={pinned_version(entries[name])}"
            for name in ("torch", "torchvision")
        ]
        if not _pip("--no-deps", "--index-url", torch_index, *pins):
            return False
        entries = without_cuda(entries)
    with tempfile.TemporaryDirectory() as name:
        wanted = Path(name) / "requirements.lock"
        wanted.write_text("\n".join(entries.values()) + "\n", "utf-8")
        checked = ("--no-deps", "--require-hashes", "--requirement", wanted)
        uv = find_uv(entries, Path(name))
        if uv and _run(
            uv, "pip", "install", "--python", sys.executable, *checked
        ):
            return True
        print("uv did not install it; pip does (slower)", file=sys.stderr)
        return _pip(*checked)


def link_package(site: Path) -> Path:
    """Make ``lq_utils`` importable from every folder; the path written.

    One line in a ``.pth`` file is all that an editable install would do,
    without a build, without a download.

    Introduced in chapter 1.
    """
    path = site / "lq_utils.pth"
    path.write_text(f"{ROOT}\n", encoding="utf-8")
    return path


def main(arguments: Sequence[str] | None = None) -> int:
    """Install the lock and link the package; the exit code.

    Introduced in chapter 1.
    """
    parser = argparse.ArgumentParser(
        prog="python -m lq_utils.bootstrap", description=__doc__
    )
    parser.add_argument("--lock", type=Path, default=LOCK)
    parser.add_argument("--torch-index", default="", metavar="URL")
    options = parser.parse_args(arguments)
    if sys.prefix == sys.base_prefix:
        print("run this with the python of a virtual environment: 'make env'")
        return 1
    if not install(options.lock, options.torch_index):
        print(
            "The environment is not complete: see the messages above. With "
            "network and about 7 GB free, run the same command again."
        )
        return 1
    link_package(Path(sysconfig.get_path("purelib")))
    return 0


if __name__ == "__main__":
    sys.exit(main())
