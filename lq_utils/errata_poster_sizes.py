"""Errata of the bit-efficient poster: sizes."""

from __future__ import annotations

from lq_utils.errata_core import (
    POSTER,
    Finding,
    Numbers,
    claim,
    erratum,
    number,
    show,
)

RESNET = "ResNet-18, CIFAR-10"
YOLO = "Tiny-YOLOv2, VOC 2007"
SSD = "MobileNet-SSD, COCO"


VGG16_WIDTHS = (64, 64, 128, 128, 256, 256, 256, *[512] * 6)


def _basic_block(inputs: int, width: int, *, project: bool) -> int:
    """Parameters of two 3 x 3 convolutions with batch normalisation."""
    block = 9 * width * (inputs + width) + 2 * 2 * width
    return block + (inputs * width + 2 * width if project else 0)


def resnet18_parameters(classes: int) -> int:
    """Parameters of the ImageNet ResNet-18 with another last layer.

    Introduced on the errata page.
    """
    total, inputs = 3 * 64 * 7 * 7 + 2 * 64, 64
    for width in (64, 128, 256, 512):
        total += _basic_block(inputs, width, project=width != inputs)
        total += _basic_block(width, width, project=False)
        inputs = width
    return total + (inputs + 1) * classes


def resnet20_parameters(classes: int) -> int:
    """Parameters of the CIFAR ResNet-20, projections at the changes.

    Introduced on the errata page.
    """
    total, inputs = 3 * 16 * 9 + 2 * 16, 16
    for width in (16, 32, 64):
        for _ in range(3):
            total += _basic_block(inputs, width, project=width != inputs)
            inputs = width
    return total + (inputs + 1) * classes


def vgg16_parameters(classes: int) -> int:
    """Parameters of VGG-16 without batch normalisation.

    Introduced on the errata page.
    """
    total, inputs = 0, 3
    for width in VGG16_WIDTHS:
        total += (9 * inputs + 1) * width
        inputs = width
    for inputs, outputs in ((7 * 7 * 512, 4096), (4096, 4096)):
        total += (inputs + 1) * outputs
    return total + (4096 + 1) * classes


@erratum(
    "poster-resnet-size",
    POSTER,
    "tables 1 and 2",
    "One network, two sizes, and neither is a ResNet-18",
)
def resnet_size(numbers: Numbers) -> Finding:
    keys = {"model": RESNET, "precision": "fp32"}
    first = numbers(POSTER, "table 1", "model size", **keys)
    second = numbers(POSTER, "table 2", "model size", **keys)
    parameters = resnet18_parameters(10)
    small = resnet20_parameters(10)
    return Finding(
        "The same full-precision network has different sizes in the two "
        f"tables, and a ResNet-18 has {show(parameters)} parameters, many "
        "times more than either. The size in table 2 is that of a CIFAR "
        f"ResNet-20 ({show(small)} parameters at four bytes), which is our "
        "guess at what was used.",
        [
            claim(
                "size in tables 1 and 2",
                f"{first.text} MB",
                f"{second.text} MB",
                "both tables, full precision",
                agrees=float(first) == float(second),
            ),
            number(
                "ResNet-18 in table 1",
                first,
                4 * parameters / 1e6,
                "parameters x 4 bytes / 10^6",
                tolerance=1.0,
            ),
            number(
                "ResNet-20 in table 2",
                second,
                4 * small / 1e6,
                "parameters x 4 bytes / 10^6",
                tolerance=0.05,
                misprint=False,
            ),
        ],
    )


@erratum(
    "poster-packing",
    POSTER,
    "table 1",
    "Files that are larger than their weights",
)
def packing(numbers: Numbers) -> Finding:
    comparisons = []
    for bits in (8, 4):
        saving = numbers(
            POSTER,
            "table 1",
            "size saving",
            model=RESNET,
            precision=f"{bits}-bit",
        )
        comparisons.append(
            number(
                f"saving at {bits} bits",
                saving,
                100 * (1 - bits / 32),
                f"1 - {bits}/32",
                tolerance=1.0,
            )
        )
    return Finding(
        "Storing each weight in fewer bits alone would save much more than "
        "the printed columns. The sizes seem to be those of a container or a "
        "compressed file, which the table does not say.",
        comparisons,
    )


@erratum(
    "poster-bit-saving",
    POSTER,
    "table 2",
    "The bit savings do not follow from the sizes",
)
def bit_saving(numbers: Numbers) -> Finding:
    comparisons = []
    for model in (RESNET, YOLO):
        before, after = (
            numbers(POSTER, "table 2", "model size", model=model, precision=p)
            for p in ("fp32", "quantized")
        )
        printed = numbers(
            POSTER, "table 2", "bit saving", model=model, precision="quantized"
        )
        bits = 32 * after / before
        how = f"1 - {after.text}/{before.text}, {show(bits, 2)} bits a weight"
        right = 100 * (1 - after / before)
        comparisons.append(number(model, printed, right, how, tolerance=0.5))
    return Finding(
        "The sizes of the same row give other savings. For Tiny-YOLOv2 they "
        "also mean fewer bits a weight than the range the row states.",
        comparisons,
    )


@erratum(
    "poster-partial",
    POSTER,
    "key outcomes",
    "The halved detector is not the partial one",
)
def partial(numbers: Numbers) -> Finding:
    text = numbers(POSTER, "key outcomes", "size saving", model=SSD)
    rows = {
        name: numbers(
            POSTER, "table 1", "size saving", model=SSD, precision=name
        )
        for name in ("partial 8-bit", "full backbone 8-bit")
    }
    return Finding(
        "The text credits partial quantization with the large saving. In the "
        "table it belongs to the row with the whole backbone at 8 bits.",
        [
            number(
                f"saving of the row {name}",
                text,
                saving,
                "table 1",
                tolerance=1.0,
                misprint=name.startswith("partial"),
            )
            for name, saving in rows.items()
        ],
    )


@erratum(
    "poster-vgg-size",
    POSTER,
    "table 3",
    "The size of VGG-16",
)
def vgg_size(numbers: Numbers) -> Finding:
    printed = numbers(
        POSTER, "table 3", "model size", model="VGG-16", precision="fp32"
    )
    parameters = vgg16_parameters(1000)
    return Finding(
        f"VGG-16 has {show(parameters)} parameters. Four bytes each make more "
        "than the printed size in either unit, so part of the network is "
        "missing or another variant was used.",
        [
            number(
                f"size in {unit}",
                printed,
                4 * parameters / size,
                f"parameters x 4 bytes / {text}",
                tolerance=1.0,
            )
            for unit, size, text in (
                ("MiB", 2**20, "2^20"),
                ("MB", 1e6, "10^6"),
            )
        ],
    )


@erratum(
    "poster-deltas",
    POSTER,
    "tables 1 and 3",
    "The savings in size are right",
)
def deltas(numbers: Numbers) -> Finding:
    comparisons = []
    for model in ("VGG-16", "ResNetV2-50", "InceptionV4"):
        for quantizer in ("uniform", "power-of-two"):
            keys = {"model": model, "quantizer": quantizer}
            gzip, seven = (
                numbers(
                    POSTER,
                    "table 3",
                    "model size",
                    coder=coder,
                    precision="6-bit",
                    **keys,
                )
                for coder in ("gzip", "7-zip")
            )
            printed = numbers(POSTER, "table 3", "size saving", **keys)
            comparisons.append(
                number(
                    f"{model}, {quantizer}",
                    printed,
                    100 * (1 - seven / gzip),
                    f"1 - {seven.text}/{gzip.text}",
                    tolerance=0.1,
                    misprint=False,
                )
            )
    return Finding(
        "A check that confirms the poster: every saving from gzip to 7-zip "
        "follows from the sizes beside it.",
        comparisons,
    )
