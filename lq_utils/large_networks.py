"""Large networks: what each is, how it is trained, what is asked of it.

Register your own with ``register_large_network``: a function without
arguments that returns a :class:`LargeNetwork` of that name.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import lq_utils.large_models  # noqa: F401  registers architectures
from lq_utils.models import MODELS
from lq_utils.recipes import TrainingConfig
from lq_utils.registry import Registry

DISTANCES = ("divergence", "last layer")
KINDS = ("similar", "dissimilar", "random")


class LargeNetworkError(ValueError):
    """A large network is described or asked for in a wrong way.

    Introduced in chapter 3.
    """


@dataclass(frozen=True)
class SubsetStudy:
    """Cells of chapter 3 for one network; see its parameters.

    ``distance`` decides which classes are similar: "divergence" is
    chapter 1's, of embedded images; "last layer" takes cosines of the
    network's own last layer, without images. The costly cells (method
    "book", fine-tuning) take the first ``few_subsets`` subsets, ``book``
    with ``book_bits``.

    Raises LargeNetworkError for values of no use. Introduced in chapter 3.
    """

    subset_size: int = 10
    subsets_per_kind: int = 3
    few_subsets: int = 3
    bits: tuple[int, ...] = (2, 3, 4, 8)
    book_bits: tuple[int, ...] = (2, 4)
    images: int = 256
    tune_steps: int = 350
    tune_rate: float = 1e-4
    test_per_class: int = 100
    distance: str = "divergence"
    images_per_class: int = 25
    backbone: str = "efficientnet_lite0"
    image_size: int = 96

    def __post_init__(self) -> None:
        _check_choice("distance", self.distance, DISTANCES)
        _check_least(self, 1, "subsets_per_kind", "few_subsets", "images")
        _check_least(self, 1, "tune_steps", "test_per_class")
        _check_least(self, 2, "subset_size", "images_per_class")
        _check_bits(self.bits, 32)
        _check_bits(self.book_bits, 32)


@dataclass(frozen=True)
class RoundingStudy:
    """Data-free cells of chapter 7 for one network.

    Every quantizer at all ``bits`` with one scale a layer and one a
    channel; at ``few_bits`` also with corrected biases. ``images`` are
    for the one correction that needs some.

    Raises LargeNetworkError for values of no use. Introduced in chapter 7.
    """

    quantizers: tuple[str, ...] = ("asymmetric", "narrow", "power-of-two")
    bits: tuple[int, ...] = (8, 7, 6, 5, 4, 3, 2)
    few_bits: tuple[int, ...] = (4, 3)
    images: int = 200

    def __post_init__(self) -> None:
        _check_bits(self.bits, 8)
        _check_bits(self.few_bits, 8)
        _check_least(self, 1, "images")
        if not set(self.few_bits) <= set(self.bits):
            raise LargeNetworkError(
                f"few_bits={self.few_bits} are not all in bits={self.bits}"
            )


@dataclass(frozen=True)
class LargeNetwork:
    """A network to train from random weights, and to study.

    ``hole`` is the side in pixels of the square cut out of a training
    image. ``least_accuracy`` (0 to 1, on test images) is what a finished
    training is expected to reach; nothing is chosen by it.

    Raises LargeNetworkError for values of no use. Introduced in chapter 3.
    """

    name: str
    model: str
    dataset: str
    config: TrainingConfig
    hole: int = 0
    least_accuracy: float = 0.0
    subsets: SubsetStudy = field(default_factory=SubsetStudy)
    rounding: RoundingStudy = field(default_factory=RoundingStudy)

    def __post_init__(self) -> None:
        MODELS.get(self.model)
        if not 0 <= self.hole <= 32 or not 0 <= self.least_accuracy < 1:
            raise LargeNetworkError(
                f"{self.name}: hole={self.hole} must be 0 to 32 pixels, "
                f"least_accuracy={self.least_accuracy} from 0 to below 1"
            )

    def training(self) -> dict[str, Any]:
        """All that decides the weights besides code and data."""
        return {
            "model": self.model,
            "config": asdict(self.config),
            "hole": self.hole,
        }


def _check_choice(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise LargeNetworkError(f"{name}={value!r}: choose one of {known}")


def _check_least(study: Any, least: int, *names: str) -> None:
    for name in names:
        if getattr(study, name) < least:
            raise LargeNetworkError(
                f"{name}={getattr(study, name)}: give {least} or more"
            )


def _check_bits(bits: tuple[int, ...], most: int) -> None:
    if not bits or not all(1 <= b <= most for b in bits):
        raise LargeNetworkError(
            f"bits {bits}: give one or more numbers from 1 to {most}"
        )


LARGE_NETWORKS: Registry[Callable[[], LargeNetwork]] = Registry(
    "large network"
)
register_large_network = LARGE_NETWORKS.register


def large_network(name: str) -> LargeNetwork:
    """The description registered as ``name``.

    Raises UnknownName with the nearest name, LargeNetworkError where the
    registered function gives another one. Introduced in chapter 3.
    """
    found = LARGE_NETWORKS.get(name)()
    if found.name != name:
        raise LargeNetworkError(
            f"'{name}' is registered with a network called '{found.name}': "
            "give both the same name"
        )
    return found


def _recipe(epochs: int, rate: float, **others: Any) -> TrainingConfig:
    given: dict[str, Any] = {"batch_size": 256, "warmup": 0.1}
    given |= {"label_smoothing": 0.1, **others}
    return TrainingConfig(epochs=epochs, learning_rate=rate, **given)


# Expected accuracies are guesses from the literature, less what a tenth
# fewer training images and a short schedule cost.


@register_large_network("resnet50_cifar100")
def _resnet50_cifar100() -> LargeNetwork:
    return LargeNetwork(
        "resnet50_cifar100", "resnet50", "cifar100",
        _recipe(45, 0.2), hole=8, least_accuracy=0.76,
    )  # fmt: skip


@register_large_network("resnet18_cifar10")
def _resnet18_cifar10() -> LargeNetwork:
    return LargeNetwork(
        "resnet18_cifar10", "resnet18", "cifar10",
        _recipe(50, 0.2), hole=16, least_accuracy=0.94,
        # Half of the classes, as ten are all of them.
        subsets=SubsetStudy(subset_size=5, test_per_class=200),
    )  # fmt: skip


@register_large_network("vgg16_cifar100")
def _vgg16_cifar100() -> LargeNetwork:
    return LargeNetwork(
        "vgg16_cifar100", "vgg16_bn", "cifar100",
        _recipe(60, 0.1), hole=8, least_accuracy=0.68,
    )  # fmt: skip


@register_large_network("densenet121_cifar100")
def _densenet121_cifar100() -> LargeNetwork:
    return LargeNetwork(
        "densenet121_cifar100", "densenet121", "cifar100",
        _recipe(45, 0.2), hole=8, least_accuracy=0.74,
    )  # fmt: skip


@register_large_network("alexnet_cifar100")
def _alexnet_cifar100() -> LargeNetwork:
    # Nothing is normalised: a small rate, and a long warm-up.
    return LargeNetwork(
        "alexnet_cifar100", "alexnet", "cifar100",
        _recipe(60, 0.02, batch_size=128, warmup=0.2),
        hole=8, least_accuracy=0.5,
    )  # fmt: skip


@register_large_network("efficientnet_b0_cifar100")
def _efficientnet_b0_cifar100() -> LargeNetwork:
    return LargeNetwork(
        "efficientnet_b0_cifar100", "efficientnet_b0", "cifar100",
        _recipe(50, 0.1), hole=8, least_accuracy=0.6,
    )  # fmt: skip


@register_large_network("vit_small_cifar100")
def _vit_small_cifar100() -> LargeNetwork:
    return LargeNetwork(
        "vit_small_cifar100", "vit_small", "cifar100",
        _recipe(50, 1e-3, optimizer="adam", weight_decay=0.05),
        hole=8, least_accuracy=0.45,
    )  # fmt: skip
