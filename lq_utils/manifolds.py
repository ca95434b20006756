"""Point clouds of known intrinsic dimension, to judge estimators on.

Each generator draws points of a manifold and turns it at random into the
coordinates of a larger space, which changes no distance. Register your own
with ``register_manifold``.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from lq_utils.nearest import DimensionError
from lq_utils.registry import Registry

# f(dimension, points, ambient, seed) -> float64 [points, ambient]
Manifold = Callable[[int, int, int, int], np.ndarray]

MANIFOLDS: Registry[Manifold] = Registry("manifold")
register_manifold = MANIFOLDS.register


def _embed(
    flat: np.ndarray, ambient: int, rng: np.random.Generator
) -> np.ndarray:
    """Points ``[N, k]`` turned into a random subspace: ``[N, ambient]``."""
    width = flat.shape[1]
    if ambient < width:
        raise DimensionError(
            f"ambient={ambient}: this manifold needs at least {width} "
            "coordinates"
        )
    axes, _ = np.linalg.qr(rng.normal(size=(ambient, width)))
    return flat @ axes.T


def _generator(dimension: int, points: int, seed: int) -> np.random.Generator:
    if dimension < 1 or points < 1:
        raise DimensionError(
            f"dimension={dimension}, points={points}: give numbers from 1"
        )
    return np.random.default_rng(seed)


@register_manifold("uniform_cube")
def uniform_cube(
    dimension: int, points: int, ambient: int, seed: int
) -> np.ndarray:
    """Uniform in a unit cube: flat, constant density, sharp edges.

    Float64 ``[points, ambient]``, ``ambient >= dimension``, else
    DimensionError. Source: Facco et al. 2017, where cubes show the low
    bias. Introduced in chapter 5.
    """
    rng = _generator(dimension, points, seed)
    return _embed(rng.uniform(size=(points, dimension)), ambient, rng)


@register_manifold("gaussian")
def gaussian(
    dimension: int, points: int, ambient: int, seed: int
) -> np.ndarray:
    """A standard normal cloud: flat, its density falls outwards.

    Float64 ``[points, ambient]``, ``ambient >= dimension``, else
    DimensionError. Source: Facco et al. 2017. Introduced in chapter 5.
    """
    rng = _generator(dimension, points, seed)
    return _embed(rng.normal(size=(points, dimension)), ambient, rng)


@register_manifold("sphere")
def sphere(dimension: int, points: int, ambient: int, seed: int) -> np.ndarray:
    """Uniform on the surface of a ball of radius 1: curved, no edges.

    Float64 ``[points, ambient]``, ``ambient > dimension``, else
    DimensionError. Source: Muller 1959, a normal vector divided by its
    length. Introduced in chapter 5.
    """
    rng = _generator(dimension, points, seed)
    directions = rng.normal(size=(points, dimension + 1))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    return _embed(directions, ambient, rng)


@register_manifold("swiss_roll")
def swiss_roll(
    dimension: int, points: int, ambient: int, seed: int
) -> np.ndarray:
    """A cube rolled up along one axis: curved, PCA needs one more axis.

    The roll turns one and a half times; the other ``dimension - 1`` axes
    are straight. Float64 ``[points, ambient]``, ``ambient > dimension``,
    else DimensionError. Source: Tenenbaum, de Silva and Langford 2000, in
    more dimensions. Introduced in chapter 5.
    """
    rng = _generator(dimension, points, seed)
    flat = rng.uniform(size=(points, dimension))
    angle = 1.5 * np.pi * (1 + 2 * flat[:, :1])
    rolled = angle * np.hstack([np.cos(angle), np.sin(angle)])
    # As wide as the roll is across, so that no axis is thin.
    return _embed(np.hstack([rolled, 20 * flat[:, 1:]]), ambient, rng)
