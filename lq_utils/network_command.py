"""One command for a large network: ``python -m lq_utils network NAME``.

Trains it, runs the sweeps of chapters 3 and 7 on it, writes its rows.
Killed at any moment, the same command goes on.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from lq_utils.large_networks import (
    LARGE_NETWORKS,
    LargeNetworkError,
    large_network,
)
from lq_utils.large_run import (
    Job,
    find_job,
    keep_rows,
    plan_network,
    run_network,
)
from lq_utils.large_training import PROFILE, network_folder, read_record
from lq_utils.paths import REFERENCE
from lq_utils.records import KEPT

COMMITTED, HERE = "rows committed", "rows here, not kept"
TRAINED, PENDING = "trained", "pending"


def network_states() -> pd.DataFrame:
    """Every registered large network and how far it is, a row each.

    Columns: network, model, dataset, state ("rows committed", "rows
    here, not kept", "trained" or "pending"), command, which fills it.

    Introduced in chapter 3.
    """
    lines = []
    for name in LARGE_NETWORKS.names():
        settings = large_network(name)
        line = {"network": name, "model": settings.model}
        line |= {"dataset": settings.dataset, "state": _state(name)}
        command = f"python -m lq_utils network {name} --keep"
        lines.append(line | {"command": command})
    columns = ["network", "model", "dataset", "state", "command"]
    return pd.DataFrame(lines, columns=columns)


def _complete(folder: Path) -> bool:
    return all((folder / part).is_file() for part in KEPT)


def _state(name: str) -> str:
    if _complete(REFERENCE / PROFILE / name):
        return COMMITTED
    if _complete(network_folder(name)):
        return HERE
    return TRAINED if read_record(name) else PENDING


def parser() -> argparse.ArgumentParser:
    """Options of the command. Introduced in chapter 3."""
    found = argparse.ArgumentParser(
        "python -m lq_utils network",
        description="Train a large network and run the sweeps of chapters 3 "
        "and 7 on it. Stopped, the same command goes on.",
        epilog="Made for a GPU; a CPU takes days for most of them.",
    )
    add = found.add_argument
    add("name", nargs="?", help="one of those that --list shows")
    add("--list", action="store_true", help="all networks and their state")
    add("--plan", action="store_true", help="say what is left, do nothing")
    add("--keep", action="store_true", help="copy the rows to data/results")
    add("--device", default="auto", help="cuda, mps or cpu")
    add("--workers", type=int, default=0, help="processes for cells; 0: all")
    return found


def _show_plan(job: Job) -> None:
    settings = job.settings
    print(
        f"{settings.name}: {settings.model} on "
        f"{job.splits.provenance.stamp()}; {job.device}, {job.workers} "
        "workers"
    )
    plan = plan_network(job)
    print(plan.to_string(index=False, float_format="{:.1f}".format))
    print(
        f"About {plan['minutes'].sum():.0f} minutes are left: an estimate "
        "from counted products, and from timed epochs where there are any."
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; 1 where the network falls short of its accuracy.

    Raises:
        UnknownName, LargeNetworkError: what was asked for makes no sense.
        DataError, TrainingError, TraceError, SweepError: a step failed.

    Introduced in chapter 3.
    """
    options = parser().parse_args(argv)
    if options.list:
        print(network_states().to_string(index=False))
        return 0
    if not options.name:
        raise LargeNetworkError(
            "name a network: python -m lq_utils network --list shows them"
        )
    job = find_job(options.name, options.device, options.workers)
    _show_plan(job)
    if options.plan:
        return 0
    print(f"Rows: {run_network(job)}")
    if options.keep:
        print(f"To be committed: {keep_rows(options.name)}")
    return _verdict(job)


def _verdict(job: Job) -> int:
    record = read_record(job.settings.name)
    assert record is not None
    accuracy, least = record["test_accuracy"], job.settings.least_accuracy
    enough = accuracy >= least
    print(f"Test accuracy {accuracy:.4f}", end="")
    print("" if enough else f", below the {least:.2f} that were expected")
    return 0 if enough else 1
