"""The smoke profile again and again: memory and disk must stay flat.

    python benchmarks/soak.py                       # ten rounds, all chapters
    python benchmarks/soak.py --rounds 4 --chapters 02 05

Every round runs the chapters as `python -m lq_utils run` does, all from this
one process, with caches and results in a folder of their own. After each
round it notes the memory of this process, the largest of the chapters'
processes, the bytes of caches, results, shared memory and temporary files,
and processes that are left over. The first round fills the caches and loads
the libraries; from the second to the last nothing may grow by more than 2 %
and 4 MiB, no file may be left over, and rows must be identical. Exit status 1
otherwise.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import resource
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import pandas as pd
from metering import resident
from verdicts import Verdicts

from lq_utils.profiles import chapters, find_chapter
from lq_utils.runner import make_plan, run_plans
from lq_utils.two_runs import MEASURED

MIB = 2**20
SHARE, ROOM = 1.02, 4.0  # of growth that is noise: a factor, and MiB
GROWING = ("memory_mib", "child_mib", "cache_mib", "results_mib")
LEFT = ("shared_files", "temporary_files", "processes")
SHARED = Path("/dev/shm")
PROCESSES = Path("/proc")


def folder_mib(folder: Path) -> float:
    """Bytes of all files below a folder, in MiB."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return sum(path.stat().st_size for path in files) / MIB


def children() -> int:
    """Processes that descend from this one's session, besides itself."""
    own, session = os.getpid(), os.getsid(0)
    found = 0
    for stat in PROCESSES.glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it has ended meanwhile
        is_ours = int(fields[1]) == own or int(fields[3]) == session
        found += is_ours and int(stat.parent.name) != own
    return found


def rows_mark(results: Path) -> str:
    """A mark of all rows of a round."""
    found = hashlib.sha256()
    for path in sorted(results.rglob("rows.csv")):
        rows = pd.read_csv(path).drop(columns="run_id")
        rows = rows[~rows["metric"].isin(MEASURED)]
        found.update(f"{path.parent.name}\n{rows.to_csv()}".encode())
    return found.hexdigest()[:16]


def noted(work: Path) -> dict[str, Any]:
    """What a round has left behind."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "memory_mib": resident(),
        "child_mib": usage.ru_maxrss / 1024,
        "cache_mib": folder_mib(work / "cache"),
        "results_mib": folder_mib(work / "results"),
        "shared_files": sum(1 for _ in SHARED.rglob("*")),
        "temporary_files": sum(1 for _ in (work / "tmp").iterdir()),
        "processes": children(),
        "rows": rows_mark(work / "results"),
    }


def soak(rounds: int, names: Sequence[str], work: Path) -> pd.DataFrame:
    """Run the chapters again and again; what each round left behind."""
    plans = [make_plan(name, "smoke") for name in names]
    found = []
    for number in range(1, rounds + 1):
        outcomes = run_plans(plans, force=True, bar=False)
        failed = [o.chapter for o in outcomes if not o.ok]
        if failed:
            raise SystemExit(f"round {number}: {', '.join(failed)} failed")
        found.append({"round": number, **noted(work)})
        print(pd.DataFrame(found[-1:]).to_string(index=False), flush=True)
    return pd.DataFrame(found).set_index("round")


def judge(found: pd.DataFrame, verdicts: Verdicts) -> None:
    """Compare the last round with the second."""
    second, last = found.iloc[1], found.iloc[-1]
    for name in GROWING:
        good = last[name] <= max(second[name] * SHARE, second[name] + ROOM)
        numbers = f"{second[name]:.1f}, then {last[name]:.1f}"
        verdicts.check(bool(good), f"{name}: {numbers}")
    for name in LEFT:
        good = last[name] <= second[name]
        verdicts.check(
            bool(good), f"{name}: {second[name]}, then {last[name]}"
        )
    same = found["rows"].nunique() == 1
    verdicts.check(same, "rows of all rounds are identical")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--chapters", nargs="*", default=[])
    options = parser.parse_args()
    if options.rounds < 3:
        parser.error("three rounds or more, since the first one counts little")
    names = [find_chapter(name) for name in options.chapters] or chapters()
    with tempfile.TemporaryDirectory(prefix="lq-soak-") as folder:
        work = Path(folder)
        for variable, part in (
            ("LQ_CACHE_DIR", "cache"),
            ("LQ_RESULTS_DIR", "results"),
            ("TMPDIR", "tmp"),
        ):
            (work / part).mkdir()
            os.environ[variable] = str(work / part)
        tempfile.tempdir = None  # so that TMPDIR counts from here on
        found = soak(options.rounds, names, work)
    print(found.to_string())
    verdicts = Verdicts(judged=True)
    judge(found, verdicts)
    return 1 if verdicts.failed else 0


if __name__ == "__main__":
    sys.exit(main())
