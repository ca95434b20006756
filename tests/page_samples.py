"""A small executed chapter and its record, as a run leaves them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode
from nbformat.v4 import (
    new_code_cell,
    new_markdown_cell,
    new_notebook,
    new_output,
)

NAME = "01_demo"
PARAMETERS = """\
profile: str = "quick"  # smoke|quick|full|custom; how much is computed
seed: int = 0  # 0..1000; seed of everything random
bits: list = [3, 4]  # each 1..8; bits of the <grids>; cost linear"""


def ran(source: str, *outputs: NotebookNode, tags: Any = ()) -> NotebookNode:
    """A code cell as papermill leaves it."""
    return new_code_cell(
        source,
        execution_count=1,
        outputs=list(outputs),
        metadata={"tags": list(tags), "papermill": {"duration": 1.5}},
    )


def notebook() -> NotebookNode:
    """An executed chapter."""
    bar = new_output("stream", name="stderr", text="\r 50%|##  | 1/2")
    end = new_output("stream", name="stderr", text="\n")
    plain = new_output("stream", name="stderr", text="TqdmWarning: IProgress")
    warning = new_output("stream", name="stderr", text="DemoWarning: x\n")
    printed = new_output("stream", name="stdout", text="result 42\n")
    return new_notebook(
        cells=[
            new_markdown_cell("(ch-demo)=\n# A demo\n\nA question, $x^2$."),
            ran("import math"),
            ran(PARAMETERS, tags=["parameters"]),
            ran("# Parameters\nseed = 3", tags=["injected-parameters"]),
            ran("# checked\nparameters = check_parameters(globals())"),
            new_markdown_cell("## Experiment"),
            ran("print('result 42')", bar, end, end, plain, warning, printed),
        ],
        metadata={
            "kernelspec": {"name": "python3", "display_name": "Python 3"},
            "language_info": {"name": "python"},
            "papermill": {"input_path": "/secret/path"},
        },
    )


def record(**changes: Any) -> dict[str, Any]:
    """What ``run.json`` says about that run."""
    return {
        "run_id": "0123456789ab",
        "chapter": NAME,
        "profile": "smoke",
        "date": "2026-01-02T03:04:05+00:00",
        "seconds": 12.3,
        "rows": 1,
        "parameters": {"profile": "smoke", "seed": 3, "bits": [3, 4]},
        "provenance": {"dataset": "CIFAR-100", "rung": "unofficial copy"},
        "stamp": "CIFAR-100, book split, unofficial copy (fingerprint f00d)",
        "packages": {"python": "3.11.7", "numpy": "2.0"},
        "machine": {"processor": "a chip", "cores": 2},
        **changes,
    }


def write(
    folder: Path, cells: NotebookNode | None = None, **changes: Any
) -> Path:
    """Write both into a folder, as the runner does."""
    folder.mkdir(parents=True, exist_ok=True)
    nbformat.write(cells or notebook(), folder / "executed.ipynb")
    text = json.dumps(record(**changes))
    (folder / "run.json").write_text(text, "utf-8")
    return folder
