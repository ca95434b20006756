"""Run chapters: ``python -m lq_utils run 01 --profile quick -p seed 1``.

Adds to papermill what it lacks: wrong parameters are errors before
anything starts, with an estimate of time, and a run that was cut off
goes on, because every finished step is cached.
"""

from __future__ import annotations

import argparse
import logging
import os
import shutil
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lq_utils import options
from lq_utils.freshness import (
    FINGERPRINT,
    duration,
    estimate,
    fingerprint,
    is_fresh,
    write_timing,
)
from lq_utils.parameters import check_values, read_parameters
from lq_utils.paths import KEEP_CELLS, results_dir
from lq_utils.profiles import (
    CUSTOM,
    chapters,
    decides_rows,
    find_chapter,
    profile_values,
    source_path,
)


@dataclass(frozen=True)
class Plan:
    """A chapter with all its parameters, checked, ready to run.

    Introduced in chapter 1.
    """

    chapter: str
    profile: str
    values: dict[str, Any]

    @property
    def folder(self) -> Path:
        """Where the run leaves its files."""
        return results_dir() / self.profile / self.chapter


@dataclass(frozen=True)
class Outcome:
    """What became of a plan; ``fresh`` means that it needed no run.

    Introduced in chapter 1.
    """

    chapter: str
    ok: bool
    folder: Path
    seconds: float = 0.0
    fresh: bool = False


def make_plan(
    chapter: str, profile: str, given: Mapping[str, Any] | None = None
) -> Plan:
    """Parameters of a run: defaults, then profile, then ``given``.

    Values that differ from the profile's make the run ``"custom"``; where
    files lie and how many workers there are does not count. Raises
    ``ParameterError`` for unknown names and values out of range,
    ``DataError`` for a data set that is not there.

    Introduced in chapter 1.
    """
    base = profile_values(chapter, profile)
    checked = check_values(read_parameters(source_path(chapter)), given or {})
    values = {**base, **checked}
    if any(values[k] != v for k, v in base.items() if decides_rows(k)):
        values["profile"] = CUSTOM
    options.check_data(values)
    return Plan(chapter, str(values["profile"]), values)


def run_chapter(plan: Plan, bar: bool | None = None) -> Outcome:
    """Run one planned chapter and print how it went.

    Introduced in chapter 1.
    """
    # Imported late: a typo should be an error at once, not in seconds.
    from lq_utils.execution import ChapterError, execute

    print(estimate(plan.chapter, plan.profile), flush=True)
    if bar is None:
        bar = sys.stderr.isatty()
    # Taken before the run: what changes meanwhile makes it stale.
    mark = fingerprint(plan.chapter, plan.values)
    start = time.perf_counter()
    try:
        executed = execute(plan.chapter, plan.values, plan.folder, bar)
    except ChapterError as error:
        seconds = time.perf_counter() - start
        print(f"FAILED {plan.chapter}: {error}", file=sys.stderr, flush=True)
        return Outcome(plan.chapter, False, plan.folder, seconds)
    seconds = time.perf_counter() - start
    (plan.folder / FINGERPRINT).write_text(mark + "\n", "utf-8")
    write_timing(plan.chapter, plan.profile, seconds)
    print(f"ok {plan.chapter} in {duration(seconds)}: {executed}", flush=True)
    return Outcome(plan.chapter, True, plan.folder, seconds)


def run_plans(
    plans: Iterable[Plan], force: bool, bar: bool | None = None
) -> list[Outcome]:
    """Run the plans that are not up to date (all, with ``force``).

    A chapter that fails does not keep the others from running.

    Introduced in chapter 1.
    """
    outcomes = []
    for plan in plans:
        mark = fingerprint(plan.chapter, plan.values)
        if not force and is_fresh(plan.folder, mark, plan.values):
            print(f"up to date {plan.chapter}, {plan.profile} profile")
            outcomes.append(
                Outcome(plan.chapter, True, plan.folder, fresh=True)
            )
        else:
            outcomes.append(run_chapter(plan, bar))
    return outcomes


def run_all(profile: str = "quick", force: bool = False) -> list[Outcome]:
    """Run every chapter at a profile, where anything changed.

    Introduced in chapter 1.
    """
    # All are planned, and so checked, before the first one starts.
    plans = [make_plan(chapter, profile) for chapter in chapters()]
    return run_plans(plans, force)


def _copy_output(outcomes: Sequence[Outcome], output: Path) -> None:
    for outcome in outcomes:
        if outcome.ok:
            output.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(outcome.folder / "executed.ipynb", output)
            print(f"copied to {output}")


def _run(arguments: argparse.Namespace) -> int:
    everything = arguments.chapter == "all"
    names = chapters() if everything else [find_chapter(arguments.chapter)]
    if arguments.list_params:
        for name in names:
            print(options.parameter_table(name, arguments.profile))
        return 0
    plans = [
        make_plan(n, arguments.profile, options.given(n, arguments))
        for n in names
    ]
    if arguments.keep_cells:
        os.environ[KEEP_CELLS] = "1"  # for the kernels
    # A chapter that is up to date would keep nothing.
    force = arguments.force or arguments.keep_cells or not everything
    outcomes = run_plans(plans, force, arguments.progress_bar)
    if arguments.output is not None:
        _copy_output(outcomes, arguments.output)
    failed = [outcome.chapter for outcome in outcomes if not outcome.ok]
    if everything:
        print(f"{len(outcomes)} chapters, {len(failed)} failed")
    return 1 if failed else 0


def main(argv: Sequence[str] | None = None) -> int:
    """Command line of ``python -m lq_utils run``.

    Introduced in chapter 1.
    """
    arguments = options.parse(argv, __doc__ or "")
    try:
        return _run(arguments)
    except KeyboardInterrupt:
        # The kernel dies with us; its client's traceback helps nobody.
        logging.getLogger("asyncio").setLevel(logging.CRITICAL)
        print(
            "\nStopped. The same command goes on from here: finished steps "
            "are in the cache.",
            file=sys.stderr,
        )
        return 130
