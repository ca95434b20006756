"""Our intrinsic dimensions against DADApy's, on clouds of known dimension.

    python benchmarks/dadapy/compare.py            # what `make test-peers` does
    python benchmarks/dadapy/compare.py --write    # and store its values

DADApy runs in an environment of its own, made on first use. Exit status 1
if a value of ours differs by more than 1e-3, or DADApy's by more than 1e-6
from the stored ones in tests/dadapy_values.csv, which the ordinary tests
compare ours with.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path[:0] = [str(ROOT), str(HERE), str(HERE.parent)]

from environment import DADAPY
from environments import SetUpError
from processes import variables
from verdicts import Verdicts

from lq_utils.dimension import two_nearest_neighbors
from lq_utils.gride import gride_curve
from lq_utils.manifolds import MANIFOLDS
from lq_utils.paths import atomic_write

STORED = ROOT / "tests" / "dadapy_values.csv"
TOLERANCE = 1e-3  # ours against DADApy's
SAME = 1e-6  # DADApy's against itself
KEYS = ["kind", "dimension", "points", "ambient", "seed"]
PLACE = [*KEYS, "method", "rank_near", "rank_far"]
OURS = {"TwoNN base": "regression", "TwoNN ml": "likelihood"}
CASES = pd.DataFrame(
    [
        (kind, dimension, 1000, 40, seed)
        for seed, (kind, dimension) in enumerate(
            [
                ("uniform_cube", 2),
                ("uniform_cube", 5),
                ("uniform_cube", 10),
                ("uniform_cube", 20),
                ("gaussian", 5),
                ("gaussian", 20),
                ("sphere", 2),
                ("sphere", 10),
                ("swiss_roll", 2),
            ]
        )
    ],
    columns=KEYS,
)


def make_points(case: dict) -> np.ndarray:
    return MANIFOLDS.get(case["kind"])(*(case[key] for key in KEYS[1:]))


def by_dadapy() -> pd.DataFrame:
    """What DADApy finds for every case, in its own environment."""
    python = DADAPY.ensure()
    cases = CASES.to_dict("records")
    with tempfile.TemporaryDirectory(prefix="lq-dadapy-") as name:
        folder = Path(name)
        for i, case in enumerate(cases):
            np.save(folder / f"{i:02}.npy", make_points(case))
        done = subprocess.run(
            [str(python), str(HERE / "dadapy_run.py"), name],
            env=variables(threads=1),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise SetUpError(f"DADApy failed:\n{done.stderr[-2000:]}")
        result = json.loads((folder / "result.json").read_text())
    return pd.DataFrame(
        [
            case | row
            for i, case in enumerate(cases)
            for row in result[f"{i:02}"]
        ]
    )


def by_us() -> pd.DataFrame:
    """The same table from our estimators."""
    rows = []
    for case in CASES.to_dict("records"):
        points = make_points(case)
        for theirs, method in OURS.items():
            found = two_nearest_neighbors(points, method, blocks=None)
            place = {"method": theirs, "rank_near": 1, "rank_far": 2}
            rows.append(case | place | {"value": found.value})
        for row in gride_curve(points).to_dict("records"):
            row.pop("scale")
            rows.append(case | {"method": "GRIDE"} | row)
    return pd.DataFrame(rows)


def difference(first: pd.DataFrame, second: pd.DataFrame) -> float:
    """Largest relative difference of values and errors; inf if rows miss."""
    both = first.merge(second, on=PLACE, suffixes=("", "_other"))
    if not len(both) == len(first) == len(second):
        return float("inf")
    gaps = [
        (both[name] / both[f"{name}_other"] - 1).abs().max()
        for name in ("value", "error")
    ]
    return float(max(gaps))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--write", action="store_true", help="store DADApy's values"
    )
    options = parser.parse_args()
    try:
        theirs = by_dadapy()
    except SetUpError as error:
        print(error, file=sys.stderr)
        return 1
    if options.write:
        with atomic_write(STORED) as path:
            theirs.to_csv(path, index=False, lineterminator="\n")
    verdicts = Verdicts(judged=True)
    print(f"{len(CASES)} clouds, {len(theirs)} values")
    gap = difference(by_us(), theirs)
    verdicts.require(
        gap <= TOLERANCE, f"ours and DADApy's differ by {gap:.1e}"
    )
    gap = difference(theirs, pd.read_csv(STORED))
    verdicts.require(gap <= SAME, f"DADApy's and the stored: {gap:.1e}")
    return 1 if verdicts.failed else 0


if __name__ == "__main__":
    sys.exit(main())
