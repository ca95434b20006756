"""Errata of the bit-efficient poster: accuracies and claims."""

from __future__ import annotations

import numpy as np

from lq_utils.errata_core import (
    POSTER,
    Comparison,
    Finding,
    Numbers,
    Printed,
    claim,
    erratum,
    number,
    show,
)

RESNET = "ResNet-18, CIFAR-10"
YOLO = "Tiny-YOLOv2, VOC 2007"
SSD = "MobileNet-SSD, COCO"
METRIC = {RESNET: "top-1", YOLO: "mAP", SSD: "mAP"}


def _losses(
    numbers: Numbers, table: str, model: str, precision: str
) -> tuple[Printed, float, float]:
    def accuracy(precision: str) -> Printed:
        return numbers(
            POSTER,
            table,
            "accuracy",
            metric=METRIC[model],
            model=model,
            precision=precision,
        )

    before, after = accuracy("fp32"), accuracy(precision)
    printed = numbers(
        POSTER, table, "accuracy loss", model=model, precision=precision
    )
    return printed, before - after, 100 * (before - after) / before


def _two_readings(
    numbers: Numbers,
    table: str,
    model: str,
    precision: str,
    fits: tuple[bool, bool],
) -> list[Comparison]:
    printed, absolute, relative = _losses(numbers, table, model, precision)
    name = f"{model}, {precision}"
    # One unit of the last printed digit: some entries are cut, not rounded.
    decimals = len(printed.text.partition(".")[2])
    unit = 10.0**-decimals
    readings = (
        ("in points", absolute, "original - quantized", fits[0]),
        ("relative", relative, "the same over the original", fits[1]),
    )
    return [
        number(
            f"{name}, {kind}",
            printed,
            value,
            how,
            tolerance=unit,
            misprint=not fit,
        )
        for kind, value, how, fit in readings
    ]


@erratum(
    "poster-loss",
    POSTER,
    "tables 1 and 2",
    "One column, two definitions of accuracy loss",
)
def loss(numbers: Numbers) -> Finding:
    rows = (
        ("table 1", SSD, "partial 8-bit", (False, True)),
        ("table 1", SSD, "full backbone 8-bit", (False, True)),
        ("table 2", RESNET, "quantized", (True, False)),
    )
    comparisons = [
        comparison
        for table, model, precision, fits in rows
        for comparison in _two_readings(numbers, table, model, precision, fits)
    ]
    return Finding(
        "The detection rows of table 1 are relative losses; the "
        "classification row of table 2 is a difference in points. Both carry "
        "the same heading and a per cent sign. (The classification rows of "
        "table 1 fit both readings within their printed digits.)",
        comparisons,
    )


@erratum(
    "poster-voc",
    POSTER,
    "tables 1 and 2",
    "The losses of Tiny-YOLOv2 fit no definition",
)
def voc(numbers: Numbers) -> Finding:
    rows = (
        ("table 1", "8-bit"),
        ("table 1", "6-bit"),
        ("table 2", "quantized"),
    )
    return Finding(
        "Neither the difference in points nor the relative loss gives the "
        "printed values.",
        [
            comparison
            for table, precision in rows
            for comparison in _two_readings(
                numbers, table, YOLO, precision, (False, False)
            )
        ],
    )


@erratum(
    "poster-three-bits",
    POSTER,
    "key outcomes",
    "Three bits without loss are not in the tables",
)
def three_bits(numbers: Numbers) -> Finding:
    text = numbers(POSTER, "key outcomes", "lowest weight bits without loss")
    limit = numbers(POSTER, "architecture graph", "bit limit on ImageNet")
    _, points, _ = _losses(numbers, "table 1", RESNET, "4-bit")
    return Finding(
        "No table has a row at three bits. The lowest precision shown already "
        f"loses {show(points, 2)} points at 4 bits, and the poster's own "
        "graph puts the limit for ImageNet networks higher.",
        [
            number(
                "bits without loss",
                text,
                limit,
                "limit stated beside the graph",
                tolerance=0.5,
            ),
            claim(
                "accuracy lost at 4 bits",
                "none",
                f"{show(points, 2)} points",
                "table 1, classification",
                agrees=points < 0.5,
            ),
        ],
    )


@erratum(
    "poster-mean",
    POSTER,
    "quantization schemes",
    "When uniform quantization keeps the mean",
)
def mean(numbers: Numbers) -> Finding:
    bits = int(
        numbers(
            POSTER, "clustering figure", "weight bits of the biased network"
        )
    )
    # A skewed weight distribution: quantiles of the exponential law.
    weights = -np.log(1 - (np.arange(4000) + 0.5) / 4000)
    step = weights.max() / (2**bits - 1)
    nearest = step * np.round(weights / step)
    cut = step * np.floor(weights / step)
    clipped = np.minimum(weights, np.quantile(weights, 0.9))

    def shift(values: np.ndarray) -> float:
        return float(abs(values.mean() - weights.mean()) / step)

    names = (
        ("rounding to nearest", nearest, False),
        ("rounding down", cut, True),
        ("clipping one tail", clipped, True),
    )
    return Finding(
        "The poster says that uniform quantizers keep the mean of a tensor. "
        "That needs two conditions it does not name: rounding to nearest, and "
        f"no clipping. The check quantizes a skewed set of weights to {bits} "
        "bits and gives the shift of the mean in steps.",
        [
            claim(
                f"shift of the mean, {name}",
                "none",
                f"{show(shift(values), 3)} steps",
                "mean after - mean before, over the step",
                agrees=shift(values) < 0.05,
                misprint=misprint,
            )
            for name, values, misprint in names
        ],
    )
