"""Claims of the label-aware report on GPFQ, subset by subset."""

from __future__ import annotations

from functools import partial

from lq_utils.claims_core import (
    REPORT,
    SUBSETS,
    Number,
    Part,
    claim,
    number,
)
from lq_utils.claims_readings import ANY, Gap, Query, Value
from lq_utils.errata_core import DERIVED

SWEEPS = "03_gpfq_sweeps"
three = partial(Query, SWEEPS)


def _stage(stage: str, bits: int = 4, protocol: object = ANY) -> Query:
    keys = {"stage": stage, "quantized_bits": bits, "protocol": protocol}
    return three("stage_accuracy", {**keys, "levels": ANY, "subsets": ANY})


def _authors(first: str, second: str, protocol: str) -> Part:
    """A gap between two stages, beside the same gap in the authors' log."""
    theirs = [
        number(
            DERIVED,
            "ResNet-50 log",
            "accuracy",
            bits="4 bit",
            protocol=protocol,
            stage=stage,
            statistic="mean",
        )
        for stage in (first, second)
    ]
    a, b = (_stage(name, protocol=protocol) for name in (first, second))
    return Part(Gap(a, b), theirs[0] - theirs[1], protocol)


claim(
    "report-drop",
    REPORT,
    "section 3.1, figure 3",
    "Four bits by GPFQ cost a noticeable part of the accuracy",
    "Original less quantized accuracy among the subset's classes (protocol "
    "Sub), calibrated on the subset; printed: from the authors' log.",
    SWEEPS,
    "Four stages",
    _authors("original", "quantized", "Sub"),
)
claim(
    "report-original-higher",
    REPORT,
    "section 3.1, figure 3",
    "The original network stays above the fine-tuned one",
    "Original less fine-tuned accuracy, by both ways to count answers (All "
    "and Sub), as the report does not say which; printed: from the authors' "
    "log.",
    SWEEPS,
    "Four stages",
    _authors("original", "fine-tuned", "All"),
    _authors("original", "fine-tuned", "Sub"),
)
claim(
    "report-fine-tuned",
    REPORT,
    "section 3.1, figure 3",
    "Fine-tuning on the subset beats quantizing",
    "Fine-tuned less quantized accuracy, by All and by Sub; printed: from "
    "the authors' log.",
    SWEEPS,
    "Four stages",
    _authors("fine-tuned", "quantized", "All"),
    _authors("fine-tuned", "quantized", "Sub"),
)


def _curve(metric: str, axis: str = "median") -> Query:
    return three(metric, {"axis": axis, "bits": 4, "name": "published"})


def _link(stage: str) -> Query:
    keys = {"name": "published", "bits": 4, "stage": stage}
    return three("accuracy_link", keys)


def _authors_link(which: str) -> Number:
    keys = {"bits": "4 bit", "with": f"{which}, Sub"}
    return number(DERIVED, "ResNet-50 log", "correlation", **keys)


claim(
    "report-distance-accuracy",
    REPORT,
    "sections 2.1 and 3.2, figure 3",
    "Subsets of more distant classes are classified better",
    "Rank correlation of a subset's median distance with the accuracy of "
    "the quantized network is positive; printed: from the authors' log.",
    SWEEPS,
    "The quantization curve",
    Part(Value(_link("quantized")), _authors_link("quantized accuracy")),
    basis=SUBSETS,
    unit="rank correlation",
)
claim(
    "report-distance-drop",
    REPORT,
    "section 3.1",
    "The drop depends on the distances: close classes lose more",
    "Rank correlation of median distance and drop is negative, plain and "
    "with the original's accuracy held fixed; printed: from the authors' "
    "log, plain.",
    SWEEPS,
    "The quantization curve",
    Part(
        Value(_curve("correlation")),
        _authors_link("accuracy loss"),
        "plain",
    ),
    Part(Value(_curve("partial")), label="original held fixed"),
    sign=-1,
    basis=SUBSETS,
    unit="rank correlation",
)
claim(
    "report-own-classes",
    REPORT,
    "abstract, sections 1 and 5.4",
    "Calibration on the classes of interest improves accuracy",
    "Accuracy with images of the own classes less that with as many of all "
    "classes, four bits, protocol Sub, paired over subsets.",
    SWEEPS,
    "One accuracy, two protocols",
    Part(
        Value(
            three("own_gain", {"bits": 4, "other": "all", "protocol": "Sub"})
        )
    ),
    basis=SUBSETS,
)
claim(
    "report-beats-original",
    REPORT,
    "sections 1 and 5.4",
    "A network quantized for its classes can beat the original",
    "Quantized less original accuracy, four bits, by All and by Sub; "
    "printed: from the authors' log.",
    SWEEPS,
    "Four stages",
    _authors("quantized", "original", "All"),
    _authors("quantized", "original", "Sub"),
)
