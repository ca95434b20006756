"""Intrinsic dimension by TwoNN: ours, scikit-dimension's, DADApy's.

    python benchmarks/bench_dimension.py [--rounds 3] [--threads 2]
    python benchmarks/bench_dimension.py --quick      # a small check

5,000 points of a 10-dimensional cloud in 8,192 coordinates, float32, as a
layer gives them. Every run is a process of its own; rounds alternate
between the methods, so that a busy moment hits all of them; the median
counts. Exit status 1 if ours is less than twice as fast as
scikit-dimension, or an estimate differs by more than 1e-3. Takes about five
minutes.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
PEER = HERE / "dadapy"
sys.path[:0] = [str(HERE.parent), str(PEER)]

from environment import DADAPY
from processes import variables
from verdicts import Ratio, Runs, Verdicts, print_runs, seconds

from lq_utils.manifolds import gaussian

OURS = ("ours", "ours with error", "scikit-dimension", "the same, float64")
WANTED = (Ratio("scikit-dimension", "ours", 2.0),)
TOLERANCE = 1e-3
DIMENSION = 10


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    number: dict[str, Any] = {"type": int, "metavar": "N"}
    parser.add_argument("--rounds", default=3, **number)
    parser.add_argument("--threads", default=2, **number)
    parser.add_argument("--points", default=5000, **number)
    parser.add_argument("--coordinates", default=8192, **number)
    parser.add_argument(
        "--no-peers", action="store_true", help="leave DADApy out"
    )
    parser.add_argument(
        "--quick", action="store_true", help="small inputs, no ratio judged"
    )
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.points, options.coordinates = 1, 400, 100
    return options


def write_points(folder: Path, options: argparse.Namespace) -> None:
    points = gaussian(DIMENSION, options.points, options.coordinates, seed=0)
    np.save(folder / "points.npy", points.astype(np.float32))


def run(python: Path, script: Path, *words: str, threads: int) -> dict:
    """The result of a script that is given a folder and a method.

    Raises RuntimeError with the end of its messages if it fails.
    """
    path = Path(words[0]) / "result.json"
    path.unlink(missing_ok=True)
    done = subprocess.run(
        [str(python), str(script), *words, str(path)],
        env=variables(threads),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{script.name} failed:\n{done.stderr[-2000:]}")
    result: dict = json.loads(path.read_text())
    return result


def measure(
    folder: Path, peer: Path | None, options: argparse.Namespace
) -> Runs:
    """Results of every method in turn, round after round."""
    book = Path(sys.executable)
    methods = {
        name: (book, HERE / "dimension_run.py", str(folder), name)
        for name in OURS
    }
    if peer is not None:
        script = PEER / "dadapy_time.py"
        methods["DADApy"] = (peer, script, str(folder), "base")
    runs: Runs = {name: [] for name in methods}
    for _ in range(options.rounds):
        for name, words in methods.items():
            runs[name].append(run(*words, threads=options.threads))
    return runs


def judge(runs: Runs, verdicts: Verdicts) -> None:
    ours = seconds(runs, "ours")
    for name in runs:
        print(f"  {name}: {seconds(runs, name) / ours:.2f} times our seconds")
    verdicts.ratios(runs, WANTED)
    values = [r["value"] for results in runs.values() for r in results]
    spread = max(values) / min(values) - 1
    verdicts.require(
        spread <= TOLERANCE,
        f"estimates differ by {spread:.1e} (allowed {TOLERANCE:.0e})",
    )


def main() -> int:
    options = parse()
    verdicts = Verdicts(judged=not options.quick)
    print(
        f"{options.points} points in {options.coordinates} coordinates, "
        f"{options.rounds} interleaved rounds, {options.threads} threads"
    )
    with tempfile.TemporaryDirectory(prefix="lq-bench-") as name:
        try:
            peer = None if options.no_peers else DADAPY.ensure()
            write_points(Path(name), options)
            runs = measure(Path(name), peer, options)
        except RuntimeError as error:
            print(error, file=sys.stderr)
            return 1
    print_runs(runs, {"value": ("estimate", "10.5f", 1)})
    judge(runs, verdicts)
    if options.no_peers:
        print("DADApy was left out")
    print("FAIL" if verdicts.failed else "OK")
    return 1 if verdicts.failed else 0


if __name__ == "__main__":
    sys.exit(main())
