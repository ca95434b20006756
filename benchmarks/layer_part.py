"""One layer: our engine against plain loops and Brevitas' update."""

from __future__ import annotations

from processes import Bench
from verdicts import Ratio, Runs, Verdicts, average, report

NARROW = {"rows": 64, "columns": 576, "patches": 65_536}
NARROW_METHODS = ("paper's loop", "ours, patches")
GROWTH_METHODS = ("ours, Gram", "ours, Gram, 1/4")
GROWTH = 2.0  # times the solver's seconds at four times the patches
WIDE = {"rows": 512, "columns": 4608, "patches": 20_000}
WIDE_METHODS = ("straight loop", "ours, Gram", "ours, patches")
LAYER_RATIOS = (
    Ratio("paper's loop", "ours, patches", 30),
    Ratio("Brevitas GPFQ", "ours, patches", 25),
    Ratio("straight loop", "ours, patches", 8),
)
LAYER_FIELDS = {
    "gram": ("Gram", "7.2f", 1.0),
    "solve": ("solve", "8.3f", 1.0),
    "error": ("rel. error", "12.5f", 1.0),
}
ERROR_TOLERANCE = 0.01
SMALL_LAYER = {"rows": 16, "columns": 144, "patches": 2_048}


def measure_layer(
    bench: Bench, shape: dict[str, int], methods: tuple[str, ...], peer: bool
) -> Runs:
    """Rounds over the methods; the peer's update, a minute, runs once."""
    bench.settings(**shape)
    runs: Runs = {method: [] for method in methods}
    if peer and bench.peers_python:
        only = bench.run("brevitas_layer.py", "GPFQ")
        runs = {"Brevitas GPFQ": [only]} | runs
    for _ in range(bench.options.rounds):
        for method in methods:
            runs[method].append(bench.run("layer_run.py", method))
    return runs


def judge_layer(runs: Runs, verdicts: Verdicts) -> None:
    verdicts.ratios(runs, LAYER_RATIOS)
    errors = {m: average(runs, m, "error") for m in runs if "1/4" not in m}
    spread = max(errors.values()) / min(errors.values()) - 1
    verdicts.require(
        spread <= ERROR_TOLERANCE,
        f"the methods' output errors differ by {100 * spread:.2f} % "
        f"(allowed {100 * ERROR_TOLERANCE:g} %): they do the same work",
    )
    if set(GROWTH_METHODS) <= set(runs):
        every, quarter = (average(runs, m, "solve") for m in GROWTH_METHODS)
        verdicts.check(
            every <= GROWTH * quarter,
            f"on Gram matrices the solver takes {every:.3f} s with all "
            f"patches, {quarter:.3f} s with a quarter (allowed "
            f"{GROWTH:g} times as long)",
        )


def layer_part(
    bench: Bench,
    verdicts: Verdicts,
    shape: dict[str, int],
    methods: tuple[str, ...],
    peer: bool,
) -> None:
    runs = measure_layer(bench, shape, methods, peer)
    title = "One layer, K={rows}, N={columns}, {patches:,} patches"
    report(
        title.format(**shape),
        runs,
        LAYER_FIELDS,
        lambda: judge_layer(runs, verdicts),
    )
