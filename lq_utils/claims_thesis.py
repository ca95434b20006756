"""Claims of the QuantNET thesis on quantization, pruning and clusters."""

from __future__ import annotations

from functools import partial

from lq_utils.claims_core import NETWORKS, THESIS, Number, Part, claim, number
from lq_utils.claims_readings import (
    ANY,
    Gap,
    Query,
    RankLink,
    Ratio,
    Value,
)

CHAPTER = "04_compression_comparison"
four = partial(Query, CHAPTER)
PER_NETWORK = "test images a network; interval over networks"
PAIRS = ("cat/dog", "horse/frog")
INT16 = "PTQ int8 with int16 activations"
SIZE = "test images; the file of one network"


def printed(table: str, set_up: str, task: str = "cat/dog") -> Number:
    """A test accuracy of the thesis, in per cent.

    Introduced on the page of claims.
    """
    return number(THESIS, table, "test accuracy", set_up=set_up, task=task)


def ordering(
    table: str, above: str, below: str, tasks: tuple[str, ...] = ("cat/dog",)
) -> list[Part]:
    """Above less below, paired over networks, beside the thesis's.

    Introduced on the page of claims.
    """
    place = f"table {table}"
    return [
        Part(
            Value(
                four(
                    "ordering",
                    {
                        "table": table,
                        "above": above,
                        "below": below,
                        "task": task,
                    },
                )
            ),
            printed(place, above, task) - printed(place, below, task),
            f"{above} less {below}, {task}",
        )
        for task in tasks
    ]


def _score(metric: str, table: str, set_up: object, task: object) -> Query:
    return four(metric, {"table": table, "set_up": set_up, "task": task})


claim(
    "thesis-base",
    THESIS,
    "table 4.2",
    "QuantNET's accuracy in full precision",
    "Above chance, and within two points of the printed one.",
    CHAPTER,
    "Networks and files",
    *(
        Part(
            Value(_score("accuracy", "stand-alone", "base", task)),
            printed("table 4.2", "base", task),
            task,
        )
        for task in PAIRS
    ),
    bound=50.0,
    tolerance=2.0,
    basis=PER_NETWORK,
    unit="%",
)
claim(
    "thesis-int8",
    THESIS,
    "section 4.2.2, table 4.2",
    "Rounding to integers after training costs most",
    "Base, dynamic range and 16-bit activations, each less plain integers, "
    "paired over networks, on both pairs of classes.",
    CHAPTER,
    "Which orderings are real?",
    *ordering("4.2", "base", "PTQ int8", PAIRS),
    *ordering("4.2", "PTQ dynamic range", "PTQ int8", PAIRS),
    *ordering("4.2", INT16, "PTQ int8", PAIRS),
    basis=NETWORKS,
)
claim(
    "thesis-qat",
    THESIS,
    "section 4.2.2, table 4.2",
    "Quantization-aware training beats rounding afterwards",
    "The trained network, in floats and in integers, each less plain "
    "integers, paired over networks, on both pairs of classes.",
    CHAPTER,
    "Which orderings are real?",
    *ordering("4.2", "QAT", "PTQ int8", PAIRS),
    *ordering("4.2", "PTQ on QAT", "PTQ int8", PAIRS),
    basis=NETWORKS,
)


def _mb(table: str, set_up: str) -> Number:
    return number(THESIS, table, "model size", set_up=set_up)


def _sizes(set_up: str) -> Part:
    own, base = (
        _score("mib", "stand-alone", name, "cat/dog")
        for name in (set_up, "base")
    )
    theirs = _mb("table 4.2", set_up) / _mb("table 4.2", "base")
    return Part(Ratio(own, base), theirs, set_up)


claim(
    "thesis-sizes",
    THESIS,
    "table 4.2",
    "Integers make the file four times smaller, float16 twice",
    "Size over that of the base file: below one, and within two hundredths "
    "of the printed ratio.",
    CHAPTER,
    "Where the bytes go",
    _sizes("PTQ int8"),
    _sizes("PTQ dynamic range"),
    _sizes("PTQ float16"),
    bound=1.0,
    sign=-1,
    tolerance=0.02,
    exact=True,
    basis=SIZE,
    unit="of the base file",
    digits=3,
)
claim(
    "thesis-qat-size",
    THESIS,
    "section 4.2.2, table 4.2",
    "Quantization-aware training makes the largest file",
    "Size of the trained network's file over that of the base file: above "
    "one by more than a tenth.",
    CHAPTER,
    "Networks and files",
    _sizes("QAT"),
    bound=1.1,
    tolerance=0.1,
    exact=True,
    basis=SIZE,
    unit="of the base file",
)


def _changes(table: str, task: str) -> Query:
    return _score("difference", table, ANY, task)


claim(
    "thesis-transfer",
    THESIS,
    "section 4.2.2, table 4.3",
    "Trends between schemes hold after transfer as well",
    "Rank correlation over schemes: loss against the base on the source "
    "task with the loss on each target.",
    CHAPTER,
    "Transfer",
    *(
        Part(
            RankLink(
                _changes("stand-alone", "cat/dog"),
                _changes("transfer", task),
                ("set_up",),
            ),
            label=task,
        )
        for task in ("horse/frog", "rotated cat/dog")
    ),
    basis="schemes",
    unit="rank correlation",
)


def _layer(layer: str) -> Query:
    return four("layer_change", {"layer": layer, "bits": 2})


claim(
    "thesis-layers",
    THESIS,
    "section 4.2.2, figure 4.2",
    "The first and last layer and the convolutions mind rounding most",
    "Change of accuracy of each hidden linear layer at two bits, less that "
    "of the last layer and of each convolution.",
    CHAPTER,
    "One layer at a time",
    *(
        Part(
            Gap(_layer(linear), _layer(other)), label=f"{linear} less {other}"
        )
        for other in ("conv1", "conv2", "output")
        for linear in ("linear1", "linear2")
    ),
    basis=NETWORKS,
)


def _pruned(kind: str, sparsity: object = ANY) -> Query:
    return four("pruning_change", {"kind": kind, "sparsity": sparsity})


claim(
    "thesis-weights-units",
    THESIS,
    "section 4.2.3, figure 4.3",
    "Pruning weights beats pruning neurons at every sparsity",
    "Change of accuracy without weights less that without units, at equal "
    "sparsity, nothing trained afterwards.",
    CHAPTER,
    "Pruning",
    Part(Gap(_pruned("weights"), _pruned("units"))),
    basis=NETWORKS,
)
claim(
    "thesis-half",
    THESIS,
    "section 4.2.3, figure 4.3",
    "Half of the weights can go for less than five points",
    "Accuracy lost without half of the weights, nothing trained afterwards.",
    CHAPTER,
    "Pruning",
    Part(
        Value(_pruned("weights", 0.5), -1.0),
        number(THESIS, "section 4.2.3", "accuracy loss, at most"),
    ),
    bound=5.0,
    sign=-1,
    basis=NETWORKS,
)
claim(
    "thesis-classes",
    THESIS,
    "section 4.1.1",
    "What compression costs does not depend on the number of classes",
    "Rank correlation over schemes: loss against the base on two classes "
    "with the loss on ten.",
    CHAPTER,
    "Ten classes",
    Part(
        RankLink(
            _changes("stand-alone", "cat/dog"),
            _changes("ten classes", "ten classes"),
            ("set_up",),
        )
    ),
    basis="schemes",
    unit="rank correlation",
)
