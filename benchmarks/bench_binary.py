"""Binary products against torch's float32 products, on one thread.

    python benchmarks/bench_binary.py [--runs 100]
    python benchmarks/bench_binary.py --quick      # does it run?

Two layers of QuantNET, one image and 64 at a time. The products take
turns in one run, so that a busy moment hits all of them; the median
counts. Both sides must return the same numbers. Exit status 1 if a wanted
ratio does not hold.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import pandas as pd
from verdicts import Verdicts

from lq_utils.binary_timing import layer_shapes, time_binary
from lq_utils.models import build_model

BATCHES = (1, 64)
# Least times faster than float32: of packed inputs, and with packing. For
# one image the calls from Python take longer than the loops: no promise.
WANTED: dict[tuple[str, int], tuple[float | None, float | None]] = {
    ("linear1", 1): (None, None),
    ("linear1", 64): (3.5, 2.0),
    ("conv2", 1): (None, None),
    ("conv2", 64): (2.0, 1.5),
}


def print_times(frame: pd.DataFrame) -> None:
    heads = ("float32", "binary", "packing")
    print(f"  {'layer':<10}{'batch':>5}" + "".join(f"{h:>18}" for h in heads))
    for row in frame.to_dict("records"):
        line = f"  {row['layer']:<10}{row['batch']:>5}"
        for part in ("float", "binary", "packing"):
            median, spread = row[f"{part}_ms"], row[f"{part}_iqr_ms"]
            line += f"{median:10.4f} ({spread:.3f})"
        print(line)


def judge(frame: pd.DataFrame, verdicts: Verdicts) -> None:
    for row in frame.to_dict("records"):
        wanted = WANTED[row["layer"], row["batch"]]
        names = ("packed inputs", "packing included")
        columns = ("ratio", "ratio_packed")
        for name, column, least in zip(names, columns, wanted, strict=True):
            sentence = (
                f"{row['layer']}, batch {row['batch']}, {name}: "
                f"{row[column]:.1f} times faster"
            )
            if least is None:
                print(f"  not promised: {sentence}")
            else:
                good = row[column] >= least
                verdicts.check(good, f"{sentence} (wanted {least:g})")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=100, metavar="N")
    parser.add_argument(
        "--quick", action="store_true", help="few runs, nothing judged"
    )
    options = parser.parse_args()
    runs = 3 if options.quick else options.runs
    shapes = layer_shapes(build_model("quantnet", 1))
    chosen = [shapes[name] for name in dict.fromkeys(n for n, _ in WANTED)]
    print(
        f"QuantNET's layers as signs, {runs} interleaved runs, one thread; "
        "medians in ms (distance of the quartiles)"
    )
    frame = pd.concat([time_binary(chosen, b, runs) for b in BATCHES])
    print_times(frame)
    verdicts = Verdicts(judged=not options.quick)
    judge(frame, verdicts)
    print(f"\n{'FAIL' if verdicts.failed else 'OK'}")
    return 1 if verdicts.failed else 0


if __name__ == "__main__":
    sys.exit(main())
