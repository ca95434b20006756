"""Executing one notebook with papermill, and saying what went wrong."""

from __future__ import annotations

import logging
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nbformat
import papermill
from nbclient.exceptions import DeadKernelError
from papermill.exceptions import PapermillExecutionError

from lq_utils.notebooks import derive
from lq_utils.paths import ROOT
from lq_utils.profiles import source_path

EXECUTED = "executed.ipynb"
FAILED = "executed.failed.ipynb"
LEFT_BY_A_RUN = (
    EXECUTED,
    FAILED,
    "rows.csv",
    "run.json",
    "fingerprint.txt",
)
# glibc gives every large array back to the system, and asks for new, empty
# pages for the next one. To keep them makes a pass over images up to twice
# as fast, training a tenth (QuantNET, one thread). Other systems ignore it.
KEPT_MEMORY = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(2**32 - 1),
}
# Each kernel would warn on stderr that its port is not encrypted.
QUIET_KERNEL = ["--IPKernelApp.log_level=40"]


class ChapterError(RuntimeError):
    """A cell of a chapter failed, or its kernel died.

    Introduced in chapter 1.
    """


@contextmanager
def _environment() -> Iterator[None]:
    """Let the kernel find the package and programs, and keep its memory."""
    names = {"PYTHONPATH": str(ROOT), "PATH": str(Path(sys.executable).parent)}
    before = {name: os.environ.get(name) for name in (*names, *KEPT_MEMORY)}
    for name, entry in names.items():
        rest = [before[name]] if before[name] else []
        os.environ[name] = os.pathsep.join([entry, *filter(None, rest)])
    for name, number in KEPT_MEMORY.items():
        os.environ.setdefault(name, number)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _failure(error: PapermillExecutionError, failed: Path) -> str:
    lines = str(error.source).strip().splitlines()
    shown = lines[:8] + (["..."] if len(lines) > 8 else [])
    cell = "\n".join(f"    {line}" for line in shown)
    return (
        f"cell [{error.exec_count}] failed:\n{cell}\n"
        f"{error.ename}: {error.evalue}\n"
        f"The notebook up to there, with the traceback: {failed}"
    )


def _fill(path: str) -> str:
    # papermill fills {names} in paths.
    return path.replace("{", "{{").replace("}", "}}")


def _papermill(
    source: Path, output: Path, values: Mapping[str, Any], bar: bool
) -> None:
    # Its log lines repeat what the runner says in its own words.
    logging.getLogger("papermill").setLevel(logging.ERROR)
    with _environment():
        papermill.execute_notebook(
            _fill(str(source)),
            _fill(str(output)),
            parameters=dict(values),
            kernel_name="python3",
            cwd=str(ROOT),
            progress_bar=bar,
            extra_arguments=QUIET_KERNEL,
        )


def execute(
    chapter: str, values: Mapping[str, Any], folder: Path, bar: bool
) -> Path:
    """Execute a chapter's source; return the executed notebook.

    What an earlier run left in ``folder`` is removed first, and the
    notebook gets its name only when its last cell has run, so that an
    old or a half page can never be taken for this run's.

    Raises ``ChapterError`` with the failing cell and its error.

    Introduced in chapter 1.
    """
    folder = folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    for name in LEFT_BY_A_RUN:
        (folder / name).unlink(missing_ok=True)
    failed = folder / FAILED
    source = source_path(chapter)
    with tempfile.TemporaryDirectory() as scratch:
        notebook = Path(scratch) / f"{chapter}.ipynb"
        nbformat.write(derive(source, source.with_suffix(".ipynb")), notebook)
        try:
            _papermill(notebook, failed, values, bar)
        except PapermillExecutionError as error:
            raise ChapterError(_failure(error, failed)) from error
        except DeadKernelError as error:
            raise ChapterError(
                "the kernel died, most likely for want of memory: close "
                "other programs or choose smaller parameters, then run the "
                "same command again; finished steps are kept"
            ) from error
    return failed.replace(folder / EXECUTED)
