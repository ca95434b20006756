"""Claims of the bit-efficient poster on clusters, files and detectors."""

from __future__ import annotations

from functools import partial

from lq_utils.claims_core import POSTER, Number, Part, claim, number
from lq_utils.claims_readings import ANY, Gap, Query, Ratio, Value

CHAPTER = "10_class_clustering"
ten = partial(Query, CHAPTER)
RESNET = "resnet20@cifar10"


def _clusters(partition: str, clusters: int, bits: int = 4) -> Query:
    return ten(
        "cluster_drop",
        {
            "partition": partition,
            "clusters": clusters,
            "bits": bits,
            "network": RESNET,
            "rule": "argmax",
        },
    )


claim(
    "poster-clusters",
    POSTER,
    "clustering, conclusion",
    "Grouping overlapping classes pushes the limit of bits down",
    "Drop at four bits on ten classes, and on random clusters of the same "
    "sizes, each less that on five clusters by confusion.",
    CHAPTER,
    "Real networks",
    Part(
        Gap(_clusters("classes", 10), _clusters("confusion", 5)),
        label="against classes",
    ),
    Part(
        Gap(_clusters("random", 5), _clusters("confusion", 5)),
        label="against random clusters",
    ),
)


def _retrained(target: str) -> Query:
    return ten(
        "retrained_drop",
        {
            "bits_tested": 4,
            "layers": ANY,
            "partition": "confusion",
            "target": target,
        },
    )


claim(
    "poster-clusters-trained",
    POSTER,
    "clustering, conclusion",
    "A network trained on groups of classes bears fewer bits",
    "Drop at four bits of the network that went on with classes less that "
    "of its sister trained on clusters, as many steps.",
    CHAPTER,
    "Trained on clusters",
    Part(Gap(_retrained("classes"), _retrained("clusters"))),
)


def _saving(model: str, network: str, quantizer: str) -> Part:
    """What 7-Zip saves over gzip at six bits, and the printed saving."""
    keys = {"bits": 6, "network": network, "quantizer": quantizer}
    smaller, larger = (
        ten("bits_a_weight", keys | {"coder": coder, "weights": ANY})
        for coder in ("7-Zip", "gzip")
    )
    theirs = number(
        POSTER, "table 3", "size saving", model=model, quantizer=quantizer
    )
    label = f"{model}, {quantizer}"
    return Part(Ratio(smaller, larger, saving=True), theirs, label)


claim(
    "poster-7zip",
    POSTER,
    "table 3",
    "7-Zip makes six-bit files a quarter to a third smaller than gzip",
    "What 7-Zip saves over gzip: above zero, and within five per cent of the "
    "gzip file of each printed saving. Ours are the nearest networks of "
    "torchvision.",
    CHAPTER,
    "The poster's third table",
    *(
        _saving(model, network, quantizer)
        for model, network in (
            ("VGG-16", "vgg16"),
            ("ResNetV2-50", "resnet50"),
            ("InceptionV4", "inception_v3"),
        )
        for quantizer in ("uniform", "power-of-two")
    ),
    tolerance=5.0,
    exact=True,
    basis="weights",
    unit="%",
    digits=1,
)
claim(
    "poster-size-saving",
    POSTER,
    "key outcomes, table 1",
    "Four bits make the file of ResNet-18 smaller by four tenths",
    "Codes of four bits by gzip against floats: x.",
    CHAPTER,
    "Real sizes",
    Part(
        Ratio(
            ten(
                "bits_a_weight",
                {
                    "coder": "gzip",
                    "bits": 4,
                    "network": "resnet20 cifar10",
                    "quantizer": "uniform",
                    "weights": ANY,
                },
            ),
            32.0,
            saving=True,
        ),
        number(
            POSTER,
            "table 1",
            "size saving",
            model="ResNet-18, CIFAR-10",
            precision="4-bit",
        ),
    ),
    tolerance=5.0,
    exact=True,
    basis="weights",
    unit="%",
    digits=1,
)


def _head(part: str) -> Query:
    return ten("detection_drop", {"set_up": part, "bits": (4, 3)})


claim(
    "poster-regression",
    POSTER,
    "conclusion",
    "Coordinates are harder to quantize than classes",
    "Average precision lost by the box head less that by the class head, at "
    "four and three bits, made scenes.",
    CHAPTER,
    "Is regression harder?",
    Part(Gap(_head("box head"), _head("class head"))),
    basis="scenes; one detector",
)


def _coco(precision: str) -> Number:
    return number(
        POSTER,
        "table 1",
        "accuracy",
        metric="mAP",
        model="MobileNet-SSD, COCO",
        precision=precision,
    )


claim(
    "poster-backbone",
    POSTER,
    "key outcomes, table 1",
    "A detector's backbone in eight bits loses little",
    "Average precision lost on made scenes, backbone in eight bits: at most "
    "two points.",
    CHAPTER,
    "Parts of the detector",
    Part(
        Value(ten("detection_drop", {"set_up": "backbone", "bits": 8})),
        _coco("fp32") - _coco("full backbone 8-bit"),
    ),
    bound=2.0,
    sign=-1,
    basis="scenes; one detector",
)
claim(
    "poster-detectors",
    POSTER,
    "tables 1 and 2",
    "Losses and sizes of Tiny-YOLOv2 and MobileNet-SSD",
    "Average precision and file size of these detectors on VOC and COCO.",
    CHAPTER,
    "The poster's detectors",
    large=True,
)
