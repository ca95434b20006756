"""Subsets of classes for the study of a large network."""

from __future__ import annotations

import numpy as np
import pandas as pd
from torch import nn

from lq_utils.coverage import subset_table
from lq_utils.distances import class_distances, weight_cosine
from lq_utils.embeddings import embed, umap_2d
from lq_utils.images import ImageData
from lq_utils.label_aware import subset_key
from lq_utils.large_networks import KINDS, LargeNetworkError, SubsetStudy
from lq_utils.subsets import generate

NEIGHBOURS = 15  # of UMAP, as in chapter 1


def class_matrix(
    network: nn.Module, train: ImageData, study: SubsetStudy, seed: int
) -> np.ndarray:
    """Distances of the classes, float64 ``[C, C]``.

    As ``study.distance`` says: chapter 1's symmetric divergence (nats) of
    training images, from the cache where it is there, or cosines of the
    network's last layer (no unit).

    Raises LargeNetworkError where there is no linear layer. Introduced in
    chapter 3.
    """
    if study.distance == "last layer":
        linear = [m for m in network.modules() if isinstance(m, nn.Linear)]
        if not linear:
            raise LargeNetworkError(
                "the network has no linear layer: set distance='divergence'"
            )
        return weight_cosine(linear[-1].weight.detach().cpu().numpy())
    sample = train.per_class(study.images_per_class, seed)
    size, backbone = study.image_size, study.backbone
    features = embed(sample.images, backbone, size, "average")
    points = umap_2d(features, seed, NEIGHBOURS)
    return class_distances(
        "symmetric_kl", points, sample.labels, sample.num_classes
    )


def study_subsets(
    network: nn.Module, train: ImageData, study: SubsetStudy, seed: int
) -> pd.DataFrame:
    """Similar, dissimilar and random subsets by turns, each once.

    Columns: those of ``subset_table`` (kind, seed, median, ...), and
    ``subset``, its key. By turns, so that the first few hold every kind.

    Raises LargeNetworkError for subsets of too many classes. Introduced
    in chapter 3.
    """
    if study.subset_size >= train.num_classes:
        raise LargeNetworkError(
            f"subset_size={study.subset_size}: the data have "
            f"{train.num_classes} classes, give fewer"
        )
    matrix = class_matrix(network, train, study, seed)
    drawn = [
        generate(kind, matrix, study.subset_size, seed + i)
        for i in range(study.subsets_per_kind)
        for kind in KINDS
    ]
    places = subset_table(drawn, train.class_names)
    places["subset"] = [subset_key(s.classes) for s in drawn]
    return places.drop_duplicates("subset").reset_index(drop=True)
