"""Cell functions of the sweep tests, for worker processes to import."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

HELD = 3  # cells from this number on wait while the folder holds "hold"


def note(folder: str, text: object) -> None:
    """One more line in the log; appends of one line are atomic."""
    with (Path(folder) / "log").open("a") as file:
        file.write(f"{text}\n")


def held(number: int, folder: str) -> dict[str, Any]:
    note(folder, number)
    while number >= HELD and (Path(folder) / "hold").exists():
        time.sleep(0.02)
    return {"square": number * number, "third": number / 3}


def careless(number: int, kind: str, **shared: Any) -> list[dict[str, Any]]:
    """All that would make rows depend on the order, were it let."""
    shared["model"].weight.data.add_(number)
    shared["images"][...] += number
    shared["table"][0, 0] += number
    with torch.no_grad():
        output = shared["model"](shared["images"]).sum()
    threads = torch.get_num_threads()
    # What a matrix product rounds to may depend on the threads.
    product = torch.randn(70, 300) @ torch.randn(300, 70)
    return [
        {"metric": "output", "value": float(output)},
        {"metric": kind, "value": float(shared["table"].sum())},
        {"metric": "torch", "value": torch.rand(()).item()},
        {"metric": "numpy", "value": np.random.rand()},
        {"metric": "product", "value": float(product.norm())},
        {"metric": "threads", "value": threads},
    ]


def bulky(number: int, folder: str) -> dict[str, Any]:
    """More rows than a small disk takes, from HELD on."""
    note(folder, number)
    return {"text": str(number) * (10 if number < HELD else 100_000)}


def failing(number: int, folder: str) -> dict[str, Any]:
    note(folder, number)
    if number % 2 and (Path(folder) / "broken").exists():
        raise ValueError(f"number {number} is odd")
    return {"half": number / 2}


def deadly(number: int, folder: str) -> dict[str, Any]:
    """Kills its own process, once or whenever "always" is there."""
    here = {path.name for path in Path(folder).iterdir()}
    spared = "killed" in here and "always" not in here
    if number == 1 and "deadly" in here and not spared:
        (Path(folder) / "killed").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return {"double": 2 * number}


if __name__ == "__main__":
    from lq_utils.sweeps import cell_grid, sweep

    sweep(
        "held",
        held,
        cell_grid(number=range(6)),
        shared={"folder": sys.argv[1]},
        key={"folder": None},
        n_jobs=int(sys.argv[2]),
    )
