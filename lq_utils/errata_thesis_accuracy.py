"""Errata of the QuantNET thesis: accuracies."""

from __future__ import annotations

from math import sqrt

from lq_utils.errata_core import (
    THESIS,
    Finding,
    Numbers,
    Printed,
    claim,
    erratum,
    number,
    show,
)
from lq_utils.published import published

SET_UPS = (
    "base",
    "PTQ int8",
    "PTQ dynamic range",
    "PTQ float16",
    "PTQ int8 with int16 activations",
    "QAT",
    "PTQ on QAT",
)
TEST_IMAGES = 2000


@erratum(
    "thesis-transfer-loss",
    THESIS,
    "section 4.2.2 and table 4.3",
    "The average loss by transfer",
)
def transfer_loss(numbers: Numbers) -> Finding:
    task = "horse/frog"

    def accuracy(table: str, name: str) -> Printed:
        return numbers(THESIS, table, "test accuracy", set_up=name, task=task)

    losses = [
        accuracy("table 4.2", name) - accuracy("table 4.3", name)
        for name in SET_UPS
    ]
    printed = numbers(
        THESIS, "section 4.2.2", "average accuracy loss by transfer", task=task
    )
    alone = accuracy("table 4.2", "base")
    hybrid = numbers(
        THESIS, "table 4.7", "test accuracy", bits="fp,fp,fp,fp", task=task
    )
    transferred = accuracy("table 4.3", "base")
    return Finding(
        "The average over the seven rows of the two tables is larger than "
        "the one in the text. The base row of the transfer table repeats the "
        "stand-alone value to the digit, and table 4.7 prints another value "
        "for the same network, so that a row may have been copied.",
        [
            number(
                "average loss in points",
                printed,
                sum(losses) / len(losses),
                f"table 4.2 - table 4.3, {len(losses)} rows",
                tolerance=0.05,
            ),
            number(
                "base after transfer, as stand-alone",
                transferred,
                alone,
                "table 4.2",
                tolerance=0,
                misprint=False,
            ),
            number(
                "base in table 4.7",
                hybrid,
                alone,
                "table 4.2",
                tolerance=0,
            ),
        ],
    )


@erratum(
    "thesis-test-size",
    THESIS,
    "tables 4.2 to 4.8",
    "How many test images, and how many runs",
)
def test_size(numbers: Numbers) -> Finding:
    share = numbers(THESIS, "section 4.1.2", "share of images", part="test")
    of_class = numbers(THESIS, "section 4.1.1", "images of one class")
    runs = numbers(THESIS, "section 4.2", "independent runs averaged")
    stated = 2 * of_class * share / 100
    values: list[float] = []
    for table in (2, 3, 4, 5, 7, 8):
        rows = published(THESIS, f"table 4.{table}", quantity="test accuracy")
        values += list(rows["value"])

    def on_grid(images: float) -> int:
        counts = [value * images / 100 for value in values]
        # The tables print two decimals: half of the last one is slack.
        slack = 0.005 * images / 100 + 1e-9
        return sum(abs(count - round(count)) <= slack for count in counts)

    single = sum(
        abs(20 * value - round(20 * value)) < 1e-6 for value in values
    )
    return Finding(
        f"The stated share of two classes makes {show(stated)} test images, "
        f"and the stated average over {show(runs)} runs would give values "
        f"between the steps of a single run. All printed accuracies are whole "
        f"counts out of {show(TEST_IMAGES)} images, the official test set of "
        "two classes. That fits one evaluation each on the official test set, "
        "and fits the text badly.",
        [
            claim(
                f"accuracies that are whole counts of {show(stated)}",
                f"{len(values)} of {len(values)}",
                f"{on_grid(stated)} of {len(values)}",
                "accuracy x images / 100, within the printed digits",
                agrees=on_grid(stated) == len(values),
            ),
            claim(
                "accuracies between the steps of one run of "
                f"{show(TEST_IMAGES)}",
                "most, after averaging",
                f"{len(values) - single} of {len(values)}",
                "not a multiple of one image",
                agrees=len(values) - single > len(values) / 2,
            ),
        ],
    )


@erratum(
    "thesis-ranking",
    THESIS,
    "tables 4.7 and 4.8",
    "Differences smaller than their uncertainty",
)
def ranking(numbers: Numbers) -> Finding:
    def hybrid(bits: str) -> Printed:
        return numbers(
            THESIS, "table 4.7", "test accuracy", bits=bits, task="cat/dog"
        )

    second, first = hybrid("fp,1,fp,fp"), hybrid("fp,fp,1,fp")
    names = (
        "base",
        "PTQ on QAT",
        "clustered, PTQ on QAT",
        "cluster-preserving QAT",
        "TwoNN, mixed precision",
        "TwoNN, cluster-preserving QAT",
    )
    table = [
        numbers(
            THESIS,
            "table 4.8",
            "test accuracy",
            set_up=name,
            task="cat/dog",
        )
        for name in names
    ]
    share = second / 100
    error = 100 * sqrt(share * (1 - share) / TEST_IMAGES)
    weights = [
        numbers(
            THESIS, "table 4.5", "unique weights", layer=layer, set_up="base"
        )
        for layer in ("linear1", "conv2")
    ]
    gap, spread = second - first, max(table) - min(table)
    comparisons = [
        claim(
            what,
            f"{show(value, 2)} points decide",
            f"one standard error is {show(error, 2)}",
            f"sqrt(p (1 - p) / {show(TEST_IMAGES)})",
            agrees=value > 2 * sqrt(2) * error,
        )
        for what, value in (
            ("conv2 binary against linear1 binary", gap),
            ("best against worst of table 4.8", spread),
        )
    ]
    return Finding(
        "TwoNN is declared better than PCA by comparing two rows of table "
        "4.7, and the proposed model best by table 4.8. Each accuracy is a "
        "share of correct answers with a binomial standard error. Two "
        "separate measurements must differ by about three of them to be told "
        "apart; no ranking here does. (On the same images a paired test could "
        "be sharper; the thesis does not give what it needs.) Moreover the "
        "two layers that were compared differ "
        f"{show(weights[0] / weights[1], 0)}-fold in size.",
        comparisons,
    )
