"""Pairs of classes that the label-aware report and its authors name.

Its printed pairs and summaries of the authors' matrix are looked up in
``data/published/``; the matrix itself is not part of the book.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from lq_utils.distances import closest_pairs
from lq_utils.published import published, read_matrix

CLOSEST = 10


def pair_name(first: str, second: str) -> str:
    """``"boy/girl"``: two class names in alphabetical order.

    Introduced in chapter 1.
    """
    return "/".join(sorted((first, second)))


def pair_ranks(matrix: np.ndarray, names: Sequence[str]) -> pd.DataFrame:
    """Every pair with its ``distance`` and ``rank``, indexed by its name.

    Introduced in chapter 1.
    """
    found = closest_pairs(matrix, names, len(names) * (len(names) - 1) // 2)
    index = [pair_name(*pair) for pair in zip(found["first"], found["second"])]
    return found[["distance", "rank"]].set_index(pd.Index(index, name="pair"))


def authors_ranks() -> dict[str, int]:
    """Rank of the thirty closest pairs in the authors' matrix.

    Introduced in chapter 1.
    """
    rows = published("label_aware_derived", "KL matrix", quantity="rank")
    pairs = [keys["pair"] for keys in rows["keys"]]
    return dict(zip(pairs, rows["value"].astype(int)))


def printed_pairs() -> pd.DataFrame:
    """The pairs of the report's Figure 1: ``pair``, ``report``, ``rank``.

    ``report`` is the printed divergence in nats, ``rank`` the pair's rank
    in the authors' own matrix.

    Introduced in chapter 1.
    """
    rows = published(
        "label_aware_report", "figure 1", quantity="symmetric KL divergence"
    )
    pairs = [keys["pair"] for keys in rows["keys"]]
    ranks = authors_ranks()
    return pd.DataFrame(
        {
            "pair": pairs,
            "report": rows["value"],
            "rank": [ranks[pair] for pair in pairs],
        }
    )


def left_out() -> list[str]:
    """Pairs closer than the last printed one that Figure 1 does not show.

    Introduced in chapter 1.
    """
    printed = printed_pairs()
    last = printed["rank"].max()
    return [
        pair
        for pair, rank in authors_ranks().items()
        if rank < last and pair not in set(printed["pair"])
    ]


def knows_report_classes(names: Sequence[str]) -> bool:
    """Whether all classes of the report's pairs are among ``names``.

    Introduced in chapter 1.
    """
    wanted = {n for pair in printed_pairs()["pair"] for n in pair.split("/")}
    return wanted <= set(names)


def plausible_share(
    matrix: np.ndarray, names: Sequence[str], superclass_of: np.ndarray
) -> float:
    """Share of the ten closest pairs that make sense, 0..1.

    A pair does if both classes are of one superclass, or if it is among
    the authors' thirty closest.

    Introduced in chapter 1.
    """
    group = dict(zip(names, superclass_of))
    theirs = authors_ranks()
    top = closest_pairs(matrix, names, CLOSEST)
    pairs = list(zip(top["first"], top["second"]))
    good = [
        group[a] == group[b] or pair_name(a, b) in theirs for a, b in pairs
    ]
    return float(np.mean(good))


def authors_matrix(folder: str, names: Sequence[str]) -> np.ndarray:
    """The authors' matrix with rows and columns in the order of ``names``.

    Raises AuthorsFilesError where ``folder`` does not hold it.

    Introduced in chapter 1.
    """
    matrix, order = read_matrix(folder)
    index = [order.index(name) for name in names]
    return matrix[np.ix_(index, index)]
