"""Symmetric KL of 100 Gaussians: all pairs at once against double loops.

    python benchmarks/bench_distances.py [--rounds 5]

Rounds alternate between the three versions, so that a busy moment hits
all of them; the median counts. Exit status 1 if, in two dimensions, the
vectorised version is less than 100 times faster than the double loop that
inverts inside (the textbook form), or if any two versions differ by more
than 1e-9.
"""

from __future__ import annotations

import os

# Before numpy is imported: threads only cost time on matrices this small.
for _name in ("OMP", "OPENBLAS", "MKL"):
    os.environ[f"{_name}_NUM_THREADS"] = "1"

import argparse
import sys
import time
from collections.abc import Callable

import numpy as np

from lq_utils.gaussian import Gaussians, gaussians, symmetric_kl

CLASSES = 100
DIMENSIONS = (2, 16, 64)
WANTED = 100.0
TOLERANCE = 1e-9


def textbook_loop(g: Gaussians) -> np.ndarray:
    """Two divergences a pair, each with its own inverse and determinants."""

    def kl(i: int, j: int) -> float:
        inverse = np.linalg.inv(g.covariances[j])
        step = g.means[j] - g.means[i]
        logdet = np.linalg.slogdet(g.covariances[j])[1]
        logdet -= np.linalg.slogdet(g.covariances[i])[1]
        traces = np.trace(inverse @ g.covariances[i])
        return 0.5 * (traces + step @ inverse @ step + logdet - len(step))

    matrix = np.zeros((len(g), len(g)))
    for i in range(len(g)):
        for j in range(i + 1, len(g)):
            matrix[i, j] = matrix[j, i] = (kl(i, j) + kl(j, i)) / 2
    return matrix


def hoisted_loop(g: Gaussians) -> np.ndarray:
    """The symmetric closed form, inverses computed once a class."""
    inverses = np.linalg.inv(g.covariances)
    d = g.means.shape[1]
    matrix = np.zeros((len(g), len(g)))
    for i in range(len(g)):
        for j in range(i + 1, len(g)):
            step = g.means[j] - g.means[i]
            traces = np.sum(inverses[j] * g.covariances[i])
            traces += np.sum(inverses[i] * g.covariances[j])
            square = step @ (inverses[i] + inverses[j]) @ step
            matrix[i, j] = matrix[j, i] = (traces - 2 * d + square) / 4
    return matrix


VERSIONS: dict[str, Callable[[Gaussians], np.ndarray]] = {
    "double loop": textbook_loop,
    "loop, inverses hoisted": hoisted_loop,
    "vectorised": symmetric_kl,
}


def make_gaussians(dimensions: int) -> Gaussians:
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(CLASSES), 3 * dimensions + 10)
    features = rng.normal(size=(len(labels), dimensions))
    features += 2 * rng.normal(size=(CLASSES, dimensions))[labels]
    return gaussians(features, labels, CLASSES)


def measure(
    g: Gaussians, rounds: int
) -> tuple[dict[str, float], dict[str, float]]:
    """Median seconds and largest relative difference of each version."""
    seconds: dict[str, list[float]] = {name: [] for name in VERSIONS}
    results: dict[str, np.ndarray] = {}
    for _ in range(rounds):
        for name, version in VERSIONS.items():
            started = time.perf_counter()
            results[name] = version(g)
            seconds[name].append(time.perf_counter() - started)
    off = ~np.eye(CLASSES, dtype=bool)
    base = results["double loop"][off]
    differences = {
        name: float(np.max(np.abs(matrix[off] / base - 1)))
        for name, matrix in results.items()
    }
    return {n: float(np.median(s)) for n, s in seconds.items()}, differences


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    ratio, worst = {}, 0.0
    print(f"{CLASSES} classes, {rounds} interleaved rounds, one thread")
    for d in DIMENSIONS:
        seconds, differences = measure(make_gaussians(d), rounds)
        worst = max(worst, *differences.values())
        ratio[d] = seconds["double loop"] / seconds["vectorised"]
        for name, value in seconds.items():
            print(
                f"  d={d:<3} {name:<24} {1e3 * value:10.2f} ms  "
                f"x{value / seconds['vectorised']:8.1f}  "
                f"difference {differences[name]:.1e}"
            )
    good = ratio[2] >= WANTED and worst <= TOLERANCE
    print(
        f"{'OK' if good else 'FAIL'}: {ratio[2]:.0f} times faster in two "
        f"dimensions (wanted {WANTED:.0f}), largest relative difference "
        f"{worst:.1e} (allowed {TOLERANCE:.0e})"
    )
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
