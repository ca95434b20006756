"""Networks trained on for clusters of classes instead of classes."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from lq_utils.class_clustering import ClassClusteringError
from lq_utils.fine_tuning import fine_tune
from lq_utils.images import ImageData


def coarse_data(data: ImageData, clusters: np.ndarray) -> ImageData:
    """The same images, labelled by cluster; names are joined by "+".

    ``clusters`` int64 ``[C]``. Raises ClassClusteringError for another
    number of classes. Introduced in chapter 7.
    """
    if len(clusters) != data.num_classes:
        raise ClassClusteringError(
            f"{len(clusters)} clusters given for {data.num_classes} classes"
        )
    names = tuple(
        "+".join(data.class_names[c] for c in np.flatnonzero(clusters == k))
        for k in range(clusters.max() + 1)
    )
    return replace(
        data,
        labels=clusters[data.labels],
        class_names=names,
        superclass_names=names,
        superclass_of=np.arange(len(names)),
    )


def coarse_network(network: nn.Module, clusters: np.ndarray) -> nn.Module:
    """A copy whose last linear layer has one output a cluster.

    An output starts as the mean of its classes' outputs. Raises
    ClassClusteringError where the layer does not fit ``clusters`` [C].
    Introduced in chapter 7.
    """
    coarse = copy.deepcopy(network).eval()
    linear = {
        name: module
        for name, module in coarse.named_modules()
        if isinstance(module, nn.Linear)
    }
    name, last = linear.popitem() if linear else ("", None)
    if last is None or last.out_features != len(clusters):
        raise ClassClusteringError(
            "the network's last linear layer must have one output for each "
            f"of the {len(clusters)} classes"
        )
    member = torch.from_numpy(np.eye(clusters.max() + 1)[clusters]).float()
    mean = (member / member.sum(dim=0)).T
    fresh = nn.Linear(last.in_features, len(mean), last.bias is not None)
    with torch.no_grad():
        fresh.weight.copy_(mean @ last.weight)
        if last.bias is not None:
            fresh.bias.copy_(mean @ last.bias)
    coarse.set_submodule(name, fresh)
    return coarse


def trained_on_clusters(
    network: nn.Module,
    train: ImageData,
    clusters: np.ndarray,
    *,
    steps: int,
    learning_rate: float,
    layers: str = "all",
    seed: int = 0,
) -> nn.Module:
    """A copy of the network, trained on to name clusters ``[C]``.

    Raises as :func:`coarse_data`, :func:`coarse_network` and
    ``fine_tune``, whose arguments the others are.
    Introduced in chapter 7.
    """
    data = coarse_data(train, clusters)
    return fine_tune(
        coarse_network(network, clusters),
        data,
        range(data.num_classes),
        steps=steps,
        learning_rate=learning_rate,
        layers=layers,
        seed=seed,
    )
