"""Claims of the bit-efficient poster on quantizers and limits of bits."""

from __future__ import annotations

from functools import partial

from lq_utils.claims_core import POSTER, Number, Part, claim, number
from lq_utils.claims_readings import (
    ANY,
    Gap,
    Query,
    Value,
)

CHAPTER = "07_data_free_quantizers"
seven = partial(Query, CHAPTER)
RESNET = "resnet20@cifar10"  # of the poster's ResNet-18's size
THEIRS = "ResNet-18, CIFAR-10"
WEIGHTS = "tensors of one network"


def _top_1(table: str, precision: str) -> Number:
    keys = {"metric": "top-1", "model": THEIRS, "precision": precision}
    return number(POSTER, table, "accuracy", **keys)


def _loss(table: str, precision: str) -> Number:
    """Points lost by the poster's ResNet-18."""
    return _top_1(table, "fp32") - _top_1(table, precision)


def _drop(bits: object, granularity: object, network: object) -> Query:
    return seven(
        "drop",
        {
            "bits": bits,
            "quantizer": "asymmetric",
            "granularity": granularity,
            "scale": "max",
            "correction": "none",
            "network": network,
        },
    )


def _trained(metric: str, grid: str, stage: str) -> Query:
    keys = {"bits": 4, "grid": grid, "stage": stage, "network": RESNET}
    return seven(metric, keys)


claim(
    "poster-mean-range",
    POSTER,
    "quantization schemes",
    "Uniform levels keep the mean, powers of two the range of each channel",
    "Shift of a layer's mean by powers of two less that by uniform levels "
    "(in standard deviations); and how much farther from each channel's "
    "range uniform levels are (as a share of it). Both above zero.",
    CHAPTER,
    "What rounding does to the weights",
    Part(Value(seven("mean_gap", {})), label="mean"),
    Part(Value(seven("range_gap", {})), label="range"),
    basis="layers or channels; one network",
    unit="",
    digits=4,
)
claim(
    "poster-8-bits",
    POSTER,
    "table 1",
    "Eight bits cost ResNet-18 nothing",
    "Drop of our residual network of CIFAR-10, one scale a layer or a "
    "channel: at most a point.",
    CHAPTER,
    "The poster's rows",
    Part(Value(_drop(8, ANY, RESNET)), _loss("table 1", "8-bit")),
    bound=1.0,
    sign=-1,
)
claim(
    "poster-4-bits",
    POSTER,
    "key outcomes, table 1",
    "Four bits cost ResNet-18 about four points",
    "Drop of our residual network, one scale a layer or a channel: above "
    "zero, and within a point of the printed one.",
    CHAPTER,
    "The poster's rows",
    Part(Value(_drop(4, ANY, RESNET)), _loss("table 1", "4-bit")),
    tolerance=1.0,
)
claim(
    "poster-3-bits",
    POSTER,
    "key outcomes",
    "Three bits without data do not affect accuracy",
    "Drop of the best data-free scheme, chosen on validation images: at "
    "most a point for every network.",
    CHAPTER,
    "As low as three bits?",
    Part(Value(seven("best_drop", {"bits": 3, "network": ANY}))),
    bound=1.0,
    sign=-1,
)
claim(
    "poster-bias",
    POSTER,
    "clustering",
    "Four bits make inference biased",
    "The histogram of answers differs from that of the original: p below "
    "five per cent for every network and granularity.",
    CHAPTER,
    "Biased inference",
    Part(
        Value(
            seven(
                "p_same_histogram",
                {"bits": 4, "network": ANY, "granularity": ANY},
            )
        )
    ),
    bound=0.05,
    sign=-1,
    exact=True,
    unit="p",
    digits=4,
)
claim(
    "poster-orthogonal",
    POSTER,
    "clustering",
    "Networks of orthogonal classes are quantization friendly",
    "Rank correlation of the mean cosine between a subset's classes and its "
    "drop, the accuracy before held fixed, is positive.",
    CHAPTER,
    "Orthogonal classes",
    Part(
        Value(
            seven(
                "cosine_correlation_given_accuracy",
                {"bits": 3, "network": ANY},
            )
        )
    ),
    basis="subsets",
    unit="rank correlation",
)
claim(
    "poster-architecture",
    POSTER,
    "architecture",
    "What rounding costs belongs to the data, not to the architecture",
    "Share of the variance of drops that is the subset's, less that of the "
    "network, over two networks of the same data.",
    CHAPTER,
    "The bit limit",
    Part(
        Gap(
            seven("share", {"data": ANY, "source": "subset"}),
            seven("share", {"data": ANY, "source": "network"}),
        )
    ),
    basis="networks by subsets",
    unit="of the variance",
)
claim(
    "poster-initial-layers",
    POSTER,
    "conclusion",
    "Quantizing initial layers affects accuracy most",
    "Accuracy with the first half of the layers rounded less that with the "
    "second half rounded, paired by image: below zero.",
    CHAPTER,
    "Which layers?",
    Part(Value(seven("halves", {"bits": 3, "network": ANY}))),
    sign=-1,
)
claim(
    "poster-trained-loss",
    POSTER,
    "table 2",
    "Powers of two, trained, lose about two points at 4 to 5 bits",
    "Drop of the network trained with powers of two in four bits: above "
    "zero, and within a point of the printed one.",
    CHAPTER,
    "Powers of two, trained",
    Part(
        Value(_trained("drop", "power-of-two", "trained")),
        _loss("table 2", "quantized"),
    ),
    tolerance=1.0,
)
claim(
    "poster-imagenet-limit",
    POSTER,
    "architecture graph",
    "Every network of ImageNet has its limit at six bits",
    "Limits of several networks of ImageNet: all equal to the printed one.",
    CHAPTER,
    "The bit limit",
    large=True,
)
