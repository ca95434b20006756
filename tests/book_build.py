"""Build the book from a copy of the sources: once for all its tests."""

from __future__ import annotations

import atexit
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from lq_utils.paths import ROOT, data_dir

SOURCES = (
    *("_config.yml", "_toc.yml", "_ext", "genindex.md"),
    *("book", "lq_utils", "notebooks"),
)
COMMITTED_DATA = ("published", "results", "weights")
GENERATED = ("chapters", "status.md", "__pycache__", ".ipynb_checkpoints")


@dataclass(frozen=True)
class Build:
    """A copy of the repository in which a command ran."""

    root: Path
    code: int
    output: str

    @property
    def html(self) -> Path:
        """Folder of the rendered book."""
        return self.root / "_build" / "html"

    @property
    def results(self) -> Path:
        """Folder of the smoke runs."""
        return self.root / "_build" / "results" / "smoke"


def scratch_folder() -> Path:
    """A folder that lives as long as the test run."""
    folder = Path(tempfile.mkdtemp(prefix="lq-book-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def copy_sources(to: Path) -> Path:
    """Copy what is committed and what the book is made of."""
    ignore = shutil.ignore_patterns(*GENERATED)
    for name in SOURCES:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, to / name, ignore=ignore)
        else:
            shutil.copy(source, to / name)
    for name in COMMITTED_DATA:
        if (ROOT / "data" / name).is_dir():
            shutil.copytree(ROOT / "data" / name, to / "data" / name)
    return to


def run_in(root: Path, *arguments: str, **variables: str) -> Build:
    """Run Python in a copy, with its own package and results."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(root),
        "LQ_DATA_DIR": str(data_dir().absolute()),
        "LQ_RESULTS_DIR": str(root / "_build" / "results"),
        **variables,
    }
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=root,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return Build(root, done.returncode, done.stdout)


def make_book(root: Path, **variables: str) -> Build:
    """What ``make book`` does, at the smoke profile."""
    command = ("-m", "lq_utils", "book", "--profile", "smoke")
    return run_in(root, *command, **variables)


@cache
def built_book() -> Build:
    """The book, every chapter executed at the smoke profile."""
    return make_book(copy_sources(scratch_folder()))
