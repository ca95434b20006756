"""Subsets of classes, chosen by the distances between them.

Every kind is a function ``f(D [C, C], size, seed, **options)`` that
returns class indices; register your own with ``register_subset``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lq_utils.registry import Registry

RESTARTS = 200  # randomised starts of the equidistant search
SWEEPS = 50  # most passes of pairwise swaps

SUBSET_KINDS: Registry[Callable[..., Sequence[int]]] = Registry("subset kind")
register_subset = SUBSET_KINDS.register


class SubsetError(ValueError):
    """No such subset exists, or it was asked for in a wrong way.

    Introduced in chapter 2.
    """


@dataclass(frozen=True)
class Subset:
    """Some classes and the distances between them.

    ``classes`` are ascending class indices, ``distances`` the
    size (size - 1) / 2 pair distances in that order (upper triangle).

    Introduced in chapter 2.
    """

    classes: tuple[int, ...]
    kind: str
    seed: int
    distances: np.ndarray

    @property
    def median(self) -> float:
        return float(np.median(self.distances))

    def names(self, class_names: Sequence[str]) -> tuple[str, ...]:
        """The names of the classes, in the order of ``classes``."""
        return tuple(class_names[k] for k in self.classes)


def _check(matrix: np.ndarray, size: int, seed: int) -> np.ndarray:
    matrix = np.asarray(matrix, dtype=np.float64)
    classes = len(matrix)
    if matrix.shape != (classes, classes) or not np.isfinite(matrix).all():
        raise SubsetError(
            f"a distance matrix must be square and finite, not of shape "
            f"{matrix.shape}"
        )
    if np.diagonal(matrix).any() or not np.array_equal(matrix, matrix.T):
        raise SubsetError(
            "a distance matrix must be symmetric with a zero diagonal"
        )
    if size != int(size) or not 2 <= size <= classes:
        raise SubsetError(
            f"a subset of {size} out of {classes} classes is impossible: "
            f"size must lie in 2..{classes}"
        )
    if seed != int(seed) or seed < 0:
        raise SubsetError(f"seed {seed}: give a whole number from 0")
    return matrix


def subset_distances(
    matrix: np.ndarray, classes: Sequence[int] | np.ndarray
) -> np.ndarray:
    """Pair distances within ``classes``: float64 ``[k (k - 1) / 2]``.

    Introduced in chapter 2.
    """
    i, j = np.triu_indices(len(classes), 1)
    chosen = np.asarray(classes)
    return np.asarray(matrix, dtype=np.float64)[chosen[i], chosen[j]]


def generate(
    kind: str, matrix: np.ndarray, size: int, seed: int, **options: Any
) -> Subset:
    """A subset of the registered ``kind`` out of ``matrix [C, C]``.

    The same arguments always give the same subset. Raises SubsetError
    for an impossible request, UnknownName for an unknown kind.

    Introduced in chapter 2.
    """
    search = SUBSET_KINDS.get(kind)
    matrix = _check(matrix, size, seed)
    found = [int(k) for k in search(matrix, size, seed, **options)]
    classes = tuple(sorted(found))
    if len(set(classes)) != size or not set(classes) <= set(
        range(len(matrix))
    ):
        raise SubsetError(
            f"subset kind {kind!r} returned {found}, not {size} different "
            f"classes out of 0..{len(matrix) - 1}"
        )
    return Subset(classes, kind, seed, subset_distances(matrix, classes))


def _grow(matrix: np.ndarray, size: int, seed: int, sign: int) -> list[int]:
    """Start anywhere, then add the class nearest (farthest) on average."""
    chosen = [int(np.random.default_rng(seed).integers(len(matrix)))]
    sums = matrix[chosen[0]].copy()
    while len(chosen) < size:
        # Same argmin as the mean distance: the divisor is common.
        sums[chosen[-1]] = sign * np.inf
        chosen.append(int((sign * sums).argmin()))
        sums += matrix[chosen[-1]]
    return chosen


@register_subset("similar")
def _similar(matrix: np.ndarray, size: int, seed: int) -> list[int]:
    return _grow(matrix, size, seed, 1)


@register_subset("dissimilar")
def _dissimilar(matrix: np.ndarray, size: int, seed: int) -> list[int]:
    return _grow(matrix, size, seed, -1)


@register_subset("random")
def _random(matrix: np.ndarray, size: int, seed: int) -> list[int]:
    rng = np.random.default_rng(seed)
    return list(rng.choice(len(matrix), size, replace=False))


def _grow_clique(
    allowed: np.ndarray, start: int, size: int, rng: np.random.Generator
) -> list[int]:
    """Greedy clique: keep the class that leaves the most candidates."""
    chosen, candidates = [start], allowed[start].copy()
    while len(chosen) < size and candidates.any():
        options = np.flatnonzero(candidates)
        left = allowed[np.ix_(options, options)].sum(axis=1)
        best = options[left == left.max()]
        chosen.append(int(rng.choice(best)))
        candidates &= allowed[chosen[-1]]
    return chosen


@register_subset("equidistant")
def _equidistant(
    matrix: np.ndarray, size: int, seed: int, low: float, high: float
) -> list[int]:
    if not low <= high:
        raise SubsetError(f"the range {low:g}..{high:g} is empty")
    allowed = (matrix >= low) & (matrix <= high)
    np.fill_diagonal(allowed, False)
    rng = np.random.default_rng(seed)
    best: list[int] = []
    for k in range(RESTARTS):
        start = int(rng.integers(len(matrix)))
        found = _grow_clique(allowed, start, size, rng)
        best = max(best, found, key=len)
        if len(best) == size:
            return best
    values = matrix[np.triu_indices(len(matrix), 1)]
    raise SubsetError(
        f"no {size} classes with all pair distances in {low:.3g}..{high:.3g} "
        f"found in {RESTARTS} starts (the most was {len(best)}); all pairs "
        f"run from {values.min():.3g} to {values.max():.3g}, half of them "
        f"in {np.quantile(values, 0.25):.3g}..{np.quantile(values, 0.75):.3g}"
        ": widen the range or ask for fewer classes"
    )


def _swap_medians(
    matrix: np.ndarray, chosen: np.ndarray, outside: np.ndarray, drop: int
) -> np.ndarray:
    """Medians after ``chosen[drop]`` gives way to each of ``outside``."""
    rest = np.delete(chosen, drop)
    kept = subset_distances(matrix, rest)
    fresh = matrix[np.ix_(outside, rest)]
    kept = np.broadcast_to(kept, (len(outside), len(kept)))
    return np.median(np.concatenate([kept, fresh], axis=1), axis=1)


def _improve(
    matrix: np.ndarray, chosen: np.ndarray, target: float
) -> np.ndarray:
    """Best single swaps until none brings the median nearer."""
    gap = abs(np.median(subset_distances(matrix, chosen)) - target)
    for _ in range(SWEEPS):
        outside = np.setdiff1d(np.arange(len(matrix)), chosen)
        if not len(outside):
            break
        gaps = np.array(
            [
                np.abs(_swap_medians(matrix, chosen, outside, k) - target)
                for k in range(len(chosen))
            ]
        )
        drop, add = np.unravel_index(gaps.argmin(), gaps.shape)
        if not gaps[drop, add] < gap:
            break
        chosen[drop], gap = outside[add], gaps[drop, add]
    return chosen


@register_subset("target-median")
def _target_median(
    matrix: np.ndarray,
    size: int,
    seed: int,
    target: float,
    starts: int = 4,
) -> list[int]:
    if not 0 <= target < np.inf or starts < 1:
        raise SubsetError(
            f"a target median of {target} is not a distance, or {starts} "
            "starts are none: give 0 or more, and one start or more"
        )
    rng = np.random.default_rng(seed)
    best, best_gap = np.empty(0, dtype=int), np.inf
    for _ in range(starts):
        chosen = rng.choice(len(matrix), size, replace=False)
        chosen = _improve(matrix, chosen, target)
        gap = abs(np.median(subset_distances(matrix, chosen)) - target)
        if gap < best_gap:
            best, best_gap = chosen, gap
    return list(best)
