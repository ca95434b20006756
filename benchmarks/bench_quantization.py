"""Our quantization engine against Brevitas and against plain loops.

    python benchmarks/bench_quantization.py [--rounds 3] [--threads 2]
    python benchmarks/bench_quantization.py --quick      # a small check

Three parts: a whole ResNet-20, a narrow layer, a wide layer. Every run is
a process of its own; rounds alternate between the methods, so that a busy
moment hits all of them; the median counts. Exit status 1 if a wanted ratio
does not hold. See benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE / "peers")]

from environment import PEERS
from layer_part import (
    GROWTH_METHODS,
    NARROW,
    NARROW_METHODS,
    SMALL_LAYER,
    WIDE,
    WIDE_METHODS,
    layer_part,
)
from network_part import network_part
from processes import Bench
from verdicts import Verdicts


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    number: dict[str, Any] = {"type": int, "metavar": "N"}
    parser.add_argument("--rounds", default=3, **number)
    parser.add_argument("--threads", default=2, **number)
    parser.add_argument("--bits", default=3, **number)
    parser.add_argument("--batch-size", default=64, **number)
    parser.add_argument(
        "--part", choices=("network", "narrow", "wide"), help="only this part"
    )
    parser.add_argument(
        "--peer-scale",
        choices=("stats", "mse"),
        default="stats",
        help="Brevitas' rule for scales; stats (max|w|) is its default",
    )
    parser.add_argument(
        "--no-peers", action="store_true", help="leave Brevitas out"
    )
    parser.add_argument(
        "--quick", action="store_true", help="small inputs, nothing judged"
    )
    options = parser.parse_args()
    options.images = 32 if options.quick else 512
    options.held_out = 200 if options.quick else 10_000
    options.rounds = 1 if options.quick else options.rounds
    return options


def run_parts(bench: Bench, verdicts: Verdicts) -> None:
    options = bench.options
    if options.part in (None, "network"):
        network_part(bench, verdicts)
    if options.part in (None, "narrow"):
        shape = SMALL_LAYER if options.quick else NARROW
        methods = NARROW_METHODS + GROWTH_METHODS
        layer_part(bench, verdicts, shape, methods, peer=False)
    if options.part in (None, "wide"):
        shape = SMALL_LAYER if options.quick else WIDE
        layer_part(bench, verdicts, shape, WIDE_METHODS, peer=True)


def main() -> int:
    options = parse()
    verdicts = Verdicts(judged=not options.quick)
    print(
        f"{options.bits} bits, {2**options.bits - 1} levels, a scale a "
        f"channel, {options.rounds} interleaved rounds, {options.threads} "
        f"threads, Brevitas' scales by {options.peer_scale}"
    )
    with tempfile.TemporaryDirectory(prefix="lq-bench-") as folder:
        bench = Bench(Path(folder), options)
        try:
            if not options.no_peers:
                bench.peers_python = PEERS.ensure()
            run_parts(bench, verdicts)
        except RuntimeError as error:
            print(error, file=sys.stderr)
            return 1
    if options.no_peers:
        print("\nBrevitas was left out: its ratios were not checked")
    print(f"\n{'FAIL' if verdicts.failed else 'OK'}")
    return 1 if verdicts.failed else 0


if __name__ == "__main__":
    sys.exit(main())
