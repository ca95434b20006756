"""Claims of the QuantNET thesis on mixed precision and its pipeline."""

from __future__ import annotations

from functools import partial

from lq_utils.claims_core import NETWORKS, THESIS, Number, Part, claim, number
from lq_utils.claims_readings import Gap, Query, Value
from lq_utils.claims_thesis import PAIRS, PER_NETWORK, SIZE, printed

HYBRID = "06_quantnet_hybrid"
PROPOSED = "TwoNN, cluster-preserving QAT"
MIXED = "TwoNN, mixed precision"
six = partial(Query, HYBRID)


def _plans(above: str, below: str) -> list[Part]:
    """Above less below among plans of table 4.7."""

    def share(bits: str, task: str) -> Number:
        where, quantity = "table 4.7", "test accuracy"
        return number(THESIS, where, quantity, bits=bits, task=task)

    keys = {"table": "4.7", "above": above, "below": below}
    return [
        Part(
            Value(six("ordering", keys | {"task": task})),
            share(above, task) - share(below, task),
            task,
        )
        for task in PAIRS
    ]


BOTH = "Paired difference over networks, on both tasks."

claim(
    "thesis-twonn-right",
    THESIS,
    "section 4.2.5, table 4.7",
    "One bit in conv2 is better than one bit in linear1, as TwoNN says",
    BOTH,
    HYBRID,
    "Table 4.7",
    *_plans("fp,1,fp,fp", "fp,fp,1,fp"),
    basis=NETWORKS,
)
claim(
    "thesis-hybrid-xnor",
    THESIS,
    "section 4.2.5, table 4.7",
    "The hybrid is considerably better than one bit throughout",
    BOTH,
    HYBRID,
    "Table 4.7",
    *_plans("fp,1,2,2", "fp,1,1,1"),
    basis=NETWORKS,
)
claim(
    "thesis-hybrid-marginal",
    THESIS,
    "section 4.2.5, table 4.7",
    "The hybrid loses only marginally against full precision",
    "Full precision less hybrid, paired over networks, on both tasks: below "
    "one point.",
    HYBRID,
    "Table 4.7",
    *_plans("fp,fp,fp,fp", "fp,1,2,2"),
    bound=1.0,
    sign=-1,
    basis=NETWORKS,
)


def _factor(bits: str) -> Part:
    """A factor beside the printed one, whose last digit may be rounded."""
    keys = {"table": "4.7", "task": "cat/dog", "set_up": bits}
    theirs = number(THESIS, "table 4.7", "memory reduction", bits=bits)
    unit = 10.0 ** -len(theirs.text.partition(".")[2])
    return Part(Value(six("factor", keys)), theirs, bits, unit / 2)


claim(
    "thesis-memory",
    THESIS,
    "table 4.7",
    "The plans have the printed memory factors",
    "Factor by the thesis's own formula: above one, and the printed one "
    "after rounding to its digits.",
    HYBRID,
    "Plans, and how they are counted",
    *(
        _factor(bits)
        for bits in (
            "fp,1,1,1",
            "1,fp,fp,fp",
            "fp,1,fp,fp",
            "fp,fp,1,fp",
            "fp,1,2,2",
        )
    ),
    bound=1.0,
    exact=True,
    basis="bits of one network",
    unit="times smaller",
    digits=4,
)


def _chosen(choice: str, task: str) -> Query:
    keys = {"table": "choices", "set_up": choice, "task": task}
    return six("accuracy", keys)


claim(
    "thesis-twonn-pca",
    THESIS,
    "chapter 5",
    "Bits chosen by TwoNN are better than bits chosen by PCA",
    "Accuracy of the plans that each chooses, network by network, on both "
    "tasks.",
    HYBRID,
    "By the dimensions of each network",
    *(
        Part(
            Gap(_chosen("TwoNN hybrid", task), _chosen("PCA hybrid", task)),
            label=task,
        )
        for task in PAIRS
    ),
    basis=PER_NETWORK,
)


def _proposed(rival: str) -> Part:
    keys = {"table": "4.8", "above": PROPOSED, "below": rival}
    theirs = [printed("table 4.8", name) for name in (PROPOSED, rival)]
    return Part(
        Value(six("ordering", keys | {"task": "cat/dog"})),
        theirs[0] - theirs[1],
        f"against {rival}",
    )


claim(
    "thesis-proposed",
    THESIS,
    "section 4.2.6, table 4.8",
    "The proposed pipeline outperforms the best of all other schemes",
    "Its accuracy less that of each rival, cats and dogs, paired over "
    "networks.",
    HYBRID,
    "Does the proposed model outperform the others?",
    _proposed("PTQ on QAT"),
    _proposed("clustered, PTQ on QAT"),
    _proposed("cluster-preserving QAT"),
    _proposed(MIXED),
    basis=NETWORKS,
)


def _size(set_up: str, metric: str) -> Part:
    keys = {"table": "4.8", "set_up": set_up, "task": "cat/dog"}
    theirs = number(THESIS, "table 4.8", "model size", set_up=set_up)
    return Part(Value(six(metric, keys)), theirs, set_up)


claim(
    "thesis-proposed-size",
    THESIS,
    "table 4.8",
    "The proposed pipelines have the printed sizes",
    "File packed by gzip (mixed precision: our own format), below a quarter "
    "of a mebibyte and within two hundredths of the printed size.",
    HYBRID,
    "Table 4.8",
    _size(PROPOSED, "compressed_mib"),
    _size(MIXED, "mib"),
    bound=0.25,
    sign=-1,
    tolerance=0.02,
    exact=True,
    basis=SIZE,
    unit="MiB",
    digits=3,
)
