"""Claims of the QuantNET thesis on shared weights and their files."""

from __future__ import annotations

from lq_utils.claims_core import NETWORKS, THESIS, Number, Part, claim, number
from lq_utils.claims_readings import Gap, Query, Ratio
from lq_utils.claims_thesis import CHAPTER, SIZE, four, ordering

PRESERVING = "cluster-preserving QAT"


def _count(count: int) -> Query:
    return four("cluster_change", {"count": count, "trained": True})


claim(
    "thesis-sixteen",
    THESIS,
    "section 4.2.4, figure 4.4",
    "More than sixteen clusters hardly help",
    "Accuracy with 32 and 64 clusters a layer, trained, each less that "
    "with sixteen: below half a point.",
    CHAPTER,
    "Clusters",
    *(
        Part(Gap(_count(more), _count(16)), label=f"{more} clusters")
        for more in (32, 64)
    ),
    bound=0.5,
    sign=-1,
    basis=NETWORKS,
)
claim(
    "thesis-clusters",
    THESIS,
    "section 4.2.4, tables 4.4 and 4.5",
    "Sixteen clusters a layer cost little accuracy",
    "Base less clustered accuracy, paired over networks: below one point.",
    CHAPTER,
    "Clusters",
    *ordering("4.4", "base", "clustered"),
    bound=1.0,
    sign=-1,
    basis=NETWORKS,
)
claim(
    "thesis-preserving",
    THESIS,
    "section 4.2.4, tables 4.4 and 4.5",
    "Training after clustering wins accuracy, and may keep the clusters",
    "Trained and rounded less rounded alone; trained with its clusters kept "
    "less clustered alone, and less trained without: paired over networks.",
    CHAPTER,
    "Clusters",
    *ordering("4.4", "clustered, PTQ on QAT", "clustered, PTQ int8"),
    *ordering("4.5", PRESERVING, "clustered"),
    *ordering("4.5", PRESERVING, "clustered, QAT"),
    basis=NETWORKS,
)


def _packed(set_up: str, table: str) -> Query:
    keys = {"table": table, "set_up": set_up, "task": "cat/dog"}
    return four("compressed_mib", keys)


def _factor(set_up: str, than: str = "base", table: str = "clustered") -> Part:
    """How much smaller a file is than another, both packed by gzip."""
    theirs: Number = number(
        THESIS, "section 4.2.4", "size reduction", set_up=set_up
    )
    label = f"{set_up}, against {than}"
    files = _packed(than, table), _packed(set_up, table)
    return Part(Ratio(*files), theirs, label)


claim(
    "thesis-factors",
    THESIS,
    "section 4.2.4, tables 4.4 and 4.5",
    "Clustered files are nine, twelve and seven times smaller",
    "The other file over the clustered one, both packed by gzip: above one, "
    "and within one of the printed factor.",
    CHAPTER,
    "Honest sizes",
    _factor("clustered"),
    _factor("clustered, PTQ on QAT"),
    _factor(PRESERVING, "clustered, QAT", "preserving"),
    bound=1.0,
    tolerance=1.0,
    exact=True,
    basis=SIZE,
    unit="times smaller",
)
