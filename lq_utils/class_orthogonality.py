"""Are the classes orthogonal? Cosines between class means of features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from lq_utils.images import ImageData
from lq_utils.inference import predict

TOGETHER = 50  # images a pass: more leave the processor's caches


class FeatureError(ValueError):
    """A network has no such features, or classes have no direction.

    Introduced in chapter 7.
    """


def penultimate_features(network: nn.Module, data: ImageData) -> np.ndarray:
    """What the last linear layer sees of every image: float32 ``[N, d]``.

    Raises FeatureError for a network without a linear layer, or whose last
    one is called otherwise than once an image. Introduced in chapter 7.
    """
    linear = [m for m in network.modules() if isinstance(m, nn.Linear)]
    if not linear:
        raise FeatureError("the network has no linear layer")
    seen: list[Tensor] = []

    def keep(module: nn.Module, inputs: Any) -> None:
        seen.append(inputs[0].detach().cpu().clone())

    handle = linear[-1].register_forward_pre_hook(keep)
    try:
        predict(network, data, TOGETHER)
    finally:
        handle.remove()
    if sum(map(len, seen)) != len(data):
        raise FeatureError("the last linear layer is not called once an image")
    return torch.cat(seen).numpy()


def class_means(
    features: np.ndarray, labels: np.ndarray, classes: int
) -> np.ndarray:
    """Centred means of all classes: float64 ``[classes, d]``.

    The mean over classes is 0, each class counting alike however many
    images it has. Raises FeatureError for a class without images.
    Introduced in chapter 7.
    """
    counts = np.bincount(labels, minlength=classes)
    if len(counts) > classes or not counts.all():
        raise FeatureError(
            f"{classes} classes with {counts.tolist()} images: give images "
            "of every class"
        )
    sums = np.zeros((classes, features.shape[1]))
    np.add.at(sums, labels, features.astype(np.float64))
    means = sums / counts[:, None]
    return means - means.mean(axis=0)


def mean_cosine(means: np.ndarray, classes: Sequence[int]) -> float:
    """Mean absolute cosine between the means of these classes, 0 to 1.

    ``means`` are ``[C, d]``, centred over *all* classes, so that the value
    does not depend on how many are chosen: 0 where all are orthogonal.

    Raises FeatureError for fewer than two classes, or a mean of 0.
    Introduced in chapter 7.
    """
    chosen = np.asarray(means, dtype=np.float64)[list(classes)]
    length = np.linalg.norm(chosen, axis=1)
    if len(chosen) < 2 or not length.all():
        raise FeatureError(
            "give two or more classes whose means differ from the mean of all"
        )
    unit = chosen / length[:, None]
    i, j = np.triu_indices(len(chosen), 1)
    return float(np.abs((unit @ unit.T)[i, j]).mean())


def with_cosines(
    lost: pd.DataFrame, means: dict[str, np.ndarray]
) -> pd.DataFrame:
    """Rows of ``bit_limits.drops`` on subsets, with a column ``cosine``.

    ``means`` are those of ``class_means`` by network; the subset's key
    names its classes. Introduced in chapter 7.
    """
    cosines = [
        mean_cosine(means[row.network], [int(k) for k in row.subset.split()])
        for row in lost.itertuples()
    ]
    return lost.assign(cosine=cosines)
