"""Interactive figures on classes: map, subsets, clusters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from scipy.cluster.hierarchy import dendrogram, linkage
from scipy.spatial.distance import squareform

from lq_utils.class_clustering import chance_level, cut
from lq_utils.images import ImageData
from lq_utils.interactive_pieces import (
    Axis,
    InteractiveError,
    Layer,
    Points,
    Steps,
)
from lq_utils.subsets import Subset

PAIRS = 45  # distances drawn of a subset
GROUPS, MEMBERS = 3, 8  # clusters and classes named in a sentence
_MAP = (Axis("UMAP 1", plain=True), Axis("UMAP 2", plain=True))


def class_means(points: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Mean place of every class: float64 ``[C, 2]``.

    ``points [N, 2]``, ``labels`` int64 ``[N]`` with every class.

    Introduced in chapter 1.
    """
    count = int(labels.max()) + 1
    return np.array([points[labels == k].mean(axis=0) for k in range(count)])


def class_points(
    points: np.ndarray, data: ImageData, distances: np.ndarray, near: int = 5
) -> Points:
    """The classes at their means, each with its nearest by ``distances``.

    ``points [N, 2]`` are the places of the images of ``data``, distances
    ``[C, C]``; the nearest ``near`` classes are named and ringed.

    Introduced in chapter 1.
    """
    means = class_means(points, data.labels)
    names = [name.replace("_", " ") for name in data.class_names]
    groups = [data.superclass_names[g] for g in data.superclass_of]
    away = np.array(distances, dtype=np.float64)
    np.fill_diagonal(away, np.inf)
    nearest = away.argsort(axis=1, kind="stable")[:, :near]
    listed = [
        ", ".join(f"{names[j]} ({away[k, j]:.3g})" for j in row)
        for k, row in enumerate(nearest)
    ]
    words = [
        f"{name}, one of {group.replace('_', ' ')}. "
        f"Nearest by distance: {text}."
        for name, group, text in zip(names, groups, listed, strict=True)
    ]
    frame = pd.DataFrame(
        {
            "name": names,
            "group": [group.replace("_", " ") for group in groups],
            "x": means[:, 0],
            "y": means[:, 1],
            "words": words,
        }
    )
    numbers = frame[["name", "group"]].assign(nearest=listed)
    numbers = numbers.rename(columns={"name": "class", "group": "superclass"})
    rows = [list(map(int, row)) for row in nearest]
    return Points(_MAP, frame, numbers, rows, "Superclass", "Class")


def subset_steps(
    subsets: Sequence[Subset],
    means: np.ndarray,
    names: Sequence[str],
    most: int = 40,
) -> Steps:
    """A slider over subsets by median: their classes and distances.

    ``means [C, 2]`` are the places of the classes on the map. Of more
    than ``most`` subsets so many are shown, evenly by rank.

    Raises InteractiveError without a subset.

    Introduced in chapter 2.
    """
    if not subsets:
        raise InteractiveError("no subsets: give at least one")
    ordered = sorted(subsets, key=lambda subset: subset.median)
    shown = np.linspace(0, len(ordered) - 1, min(most, len(ordered)))
    ordered = [ordered[i] for i in shown.round().astype(int).tolist()]
    x, y = means.T
    layers = [Layer("dots", x, y, "grey", "all classes", faint=True)]
    rows = []
    for step, subset in enumerate(ordered):
        own = np.sort(subset.distances)
        taken = np.linspace(0, len(own) - 1, min(PAIRS, len(own))).astype(int)
        inside = means[list(subset.classes)]
        look = ("blue", "in the subset", step)
        rank = 100 * (taken + 0.5) / len(own)
        half, level = np.array([0.0, 100.0]), np.full(2, subset.median)
        layers += [
            Layer("dots", inside[:, 0], inside[:, 1], *look),
            Layer("dots", rank, own[taken], *look, panel=1),
            Layer("line", half, level, "ink", "median", step, 1, dash=True),
        ]
        listed = ", ".join(subset.names(names)).replace("_", " ")
        rows.append((subset.median, own[0], own[-1], listed))
    table = pd.DataFrame(rows, columns=["median", "low", "high", "classes"])
    words = [
        f"Median distance {median:.3g}, "
        f"from {low:.3g} to {high:.3g}: {listed}."
        for median, low, high, listed in rows
    ]
    labels = [f"{median:.3g}" for median in table["median"]]
    pairs = (Axis("pairs below (%)"), Axis("distance", log=True))
    frames = pd.DataFrame({"label": labels, "words": words})
    return Steps("Median", frames, [_MAP, pairs], layers, table)


def cluster_steps(
    distances: np.ndarray,
    names: Sequence[str],
    answers: np.ndarray,
    truth: np.ndarray,
    most: int = 100,
) -> Steps:
    """A slider over the cut of a tree of classes: clusters and accuracy.

    Average linkage on ``distances [C, C]`` (symmetric, zero diagonal);
    ``answers`` and ``truth`` int64 ``[N]`` are classes. At most ``most``
    numbers of clusters are shown, the smallest ones.

    Raises ClassClusteringError as ``class_clustering.cut``.

    Introduced in chapter 10.
    """
    counts = range(min(len(names), most), 0, -1)
    tree = linkage(squareform(distances), method="average")
    drawn = dendrogram(tree, no_plot=True)
    layers = [_tree(drawn)]
    order = [names[i].replace("_", " ") for i in drawn["leaves"]]
    rows, words = [], []
    for step, count in enumerate(counts):
        clusters = cut(distances, count)
        right = float((clusters[answers] == clusters[truth]).mean())
        chance = chance_level(clusters, truth)
        rows.append((count, 100 * right, 100 * chance))
        words.append(_cluster_words(rows[-1], clusters, names))
        # Halfway between the last merge made and the first one not made.
        heights = np.concatenate([[0], tree[:, 2], [1.02 * tree[-1, 2]]])
        k = len(names) - count
        at = float(heights[k : k + 2].mean())
        ends = np.array([-0.5, len(names) - 0.5])
        level = np.full(2, at)
        layers.append(Layer("line", ends, level, "vermilion", "cut", step))
    table = pd.DataFrame(rows, columns=["clusters", "accuracy", "chance"])
    x = table["clusters"].to_numpy()
    for column, tone in (("accuracy", "blue"), ("chance", "grey")):
        y = table[column].to_numpy()
        layers.append(Layer("line", x, y, tone, column, panel=1))
        layers.append(Layer("dots", x, y, tone, column, "now", 1))
    panels = [
        (Axis("", names=tuple(order)), Axis("distance")),
        (Axis("clusters"), Axis("per cent")),
    ]
    labels = table["clusters"].astype(str)
    frames = pd.DataFrame({"label": labels, "words": words})
    return Steps("Clusters", frames, panels, layers, table)


def _tree(drawn: Mapping[str, list[list[float]]]) -> Layer:
    """The dendrogram as one broken line; leaves at 0, 1, ..."""
    x, y = [], []
    for across, heights in zip(drawn["icoord"], drawn["dcoord"], strict=True):
        # scipy puts leaves at 5, 15, 25, ...
        x += [*((a - 5) / 10 for a in across), np.nan]
        y += [*heights, np.nan]
    return Layer("line", x, y, "ink", "tree")


def _cluster_words(
    row: tuple[int, float, float], clusters: np.ndarray, names: Sequence[str]
) -> str:
    count, right, chance = row
    sizes = np.bincount(clusters, minlength=count)
    large = np.argsort(-sizes, kind="stable")[:GROUPS]
    groups = [
        _listed([names[i] for i in np.flatnonzero(clusters == k).tolist()])
        for k in large
        if sizes[k] > 1
    ]
    listed = "; ".join(groups) if groups else "every class by itself"
    return (
        f"{count} clusters: {right:.1f} % right, {chance:.1f} % by always "
        f"naming the largest one. Largest: {listed}."
    )


def _listed(names: Sequence[str]) -> str:
    """The first names of a cluster, and how many more there are."""
    text = " + ".join(name.replace("_", " ") for name in names[:MEMBERS])
    more = len(names) - MEMBERS
    return f"{text} and {more} more" if more > 0 else text
