"""Cells a minute of two warm worker processes against one, on this machine.

    python benchmarks/bench_sweeps.py [--rounds 3]
    python benchmarks/bench_sweeps.py --quick      # does it run?

A cell trains QuantNET for about ten seconds. One single-threaded process
and two warm ones take turns, each with the same cells and an empty cache;
the median of the rounds counts, and the rows must be identical. Exit
status 1 if they are not, or where a wanted ratio does not hold.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import pandas as pd
import torch
from torch.nn import functional as F
from verdicts import Verdicts

from lq_utils.models import build_model
from lq_utils.sweeps import cell_grid, sweep

CELLS = 4
WANTED = 1.6  # times the cells a minute of one worker


def trained(number: int, steps: int) -> dict[str, Any]:
    """Loss of QuantNET after ``steps`` on random images."""
    network = build_model("quantnet", 1, seed=number)
    network.to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(network.parameters())
    x = torch.randn(64, 3, 32, 32).to(memory_format=torch.channels_last)
    y = torch.rand(64).round()
    for _ in range(steps):
        optimizer.zero_grad()
        loss = F.binary_cross_entropy_with_logits(network(x)[:, 0], y)
        loss.backward()
        optimizer.step()
    return {"loss": float(loss.detach())}


def timed(n_jobs: int, cells: list[dict[str, Any]]) -> tuple[float, Any]:
    with tempfile.TemporaryDirectory() as folder:
        os.environ["LQ_CACHE_DIR"] = folder
        start = time.perf_counter()
        rows = sweep("speed", trained, cells, n_jobs=n_jobs, progress=False)
        return time.perf_counter() - start, rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    rounds, steps = arguments.rounds, arguments.steps
    if arguments.quick:
        rounds, steps = 1, 2
    cells = cell_grid(number=range(CELLS), steps=[steps])
    timed(2, cell_grid(number=range(2), steps=[1]))  # processes start
    seconds: dict[int, list[float]] = {1: [], 2: []}
    tables: list[pd.DataFrame] = []
    for _ in range(rounds):
        for n_jobs, taken in seconds.items():
            elapsed, table = timed(n_jobs, cells)
            taken.append(elapsed)
            tables.append(table)
    per_minute = {n: 60 * CELLS / median(s) for n, s in seconds.items()}
    print(f"{CELLS} cells of {seconds[1][0] / CELLS:.1f} s, {rounds} rounds")
    for n_jobs, rate in per_minute.items():
        shown = ", ".join(f"{s:.1f}" for s in seconds[n_jobs])
        print(f"  {n_jobs} worker(s): {rate:.1f} cells a minute ({shown} s)")
    verdicts = Verdicts(judged=not arguments.quick)
    same = all(table.equals(tables[0]) for table in tables)
    verdicts.require(same, "all rows are identical")
    ratio = per_minute[2] / per_minute[1]
    verdicts.check(
        ratio >= WANTED,
        f"two warm workers give {ratio:.2f} times the cells a minute of one "
        f"(wanted {WANTED:g})",
    )
    return int(bool(verdicts.failed))


if __name__ == "__main__":
    raise SystemExit(main())
