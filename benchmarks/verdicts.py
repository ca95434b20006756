"""Ratios that the quantization benchmark wants, and tables of what it saw."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import mean, median
from typing import Any

Runs = dict[str, list[dict[str, Any]]]  # method: one result a round


@dataclass(frozen=True)
class Ratio:
    """``slow`` takes at least ``wanted`` times the seconds of ``fast``."""

    slow: str
    fast: str
    wanted: float


def seconds(runs: Runs, method: str) -> float:
    return median(result["seconds"] for result in runs[method])


def average(runs: Runs, method: str, field: str) -> float:
    return mean(result[field] for result in runs[method])


def peak(runs: Runs, method: str) -> float | None:
    """Largest peak over the start of all rounds, MiB; None: not measured."""
    peaks = [result["peak_mib"] for result in runs[method]]
    return None if None in peaks else max(peaks)


class Verdicts:
    """Prints each condition with what was seen; remembers failures."""

    def __init__(self, judged: bool) -> None:
        self.judged = judged
        self.failed: list[str] = []

    def check(self, good: bool, sentence: str) -> None:
        word = "OK" if good else "FAIL"
        print(f"  {word if self.judged else 'not judged'}: {sentence}")
        if self.judged and not good:
            self.failed.append(sentence)

    def require(self, good: bool, sentence: str) -> None:
        """A condition that holds on small inputs as well."""
        print(f"  {'OK' if good else 'FAIL'}: {sentence}")
        if not good:
            self.failed.append(sentence)

    def ratios(self, runs: Runs, wanted: Sequence[Ratio]) -> None:
        for ratio in wanted:
            if ratio.slow not in runs or ratio.fast not in runs:
                continue
            seen = seconds(runs, ratio.slow) / seconds(runs, ratio.fast)
            self.check(
                seen >= ratio.wanted,
                f"{ratio.fast} is {seen:.1f} times faster than {ratio.slow} "
                f"(wanted {ratio.wanted:g})",
            )


def _cell(value: float | None, form: str) -> str:
    width = int(form.split(".")[0])
    return " " * (width - 1) + "-" if value is None else f"{value:{form}}"


def print_runs(runs: Runs, fields: dict[str, tuple[str, str, float]]) -> None:
    """One line a method; ``fields``: name to (heading, format, factor).

    Seconds and the fields are medians over the rounds.
    """
    heads = "".join(
        f"{head:>{int(form.split('.')[0])}}"
        for head, form, _ in fields.values()
    )
    print(f"  {'method':<18}{'seconds':>9}{'MiB':>7}{heads}  rounds")
    for method, results in runs.items():
        line = f"  {method:<18}{seconds(runs, method):9.2f}"
        line += _cell(peak(runs, method), "7.0f")
        for name, (_, form, factor) in fields.items():
            seen = [r[name] * factor for r in results if name in r]
            line += _cell(median(seen) if seen else None, form)
        rounds = ", ".join(f"{r['seconds']:.2f}" for r in results)
        print(f"{line}  {rounds}")


def report(
    title: str,
    runs: Runs,
    fields: dict[str, tuple[str, str, float]],
    judge: Callable[[], None],
) -> None:
    versions = sorted({r["torch"] for each in runs.values() for r in each})
    print(f"\n{title}, torch {' and '.join(versions)}")
    print_runs(runs, fields)
    judge()
    sys.stdout.flush()
