"""Train the committed reference networks: ``python -m lq_utils train``."""

from __future__ import annotations

import argparse
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from lq_utils.data import Splits, load_dataset
from lq_utils.inference import evaluate
from lq_utils.models import count_parameters
from lq_utils.paths import atomic_write
from lq_utils.recipes import TrainingConfig
from lq_utils.registry import UnknownName, did_you_mean
from lq_utils.training import Trained, train
from lq_utils.weights import reference_path, save_weights

PROGRESSIVE = (20, 24, 28, 32)


@dataclass(frozen=True)
class Reference:
    """A network to commit, and the test accuracy it must reach (0 to 1).

    Introduced in chapter 1.
    """

    model: str
    dataset: str
    config: TrainingConfig
    least_accuracy: float
    most_accuracy: float = 1.0

    @property
    def name(self) -> str:
        return f"{self.model}_{self.dataset}"


REFERENCES = [
    Reference(
        "resnet20",
        "cifar100",
        TrainingConfig(epochs=32, learning_rate=0.2, image_sizes=PROGRESSIVE),
        0.65,
    ),
    Reference(
        "resnet20",
        "cifar10",
        TrainingConfig(epochs=36, learning_rate=0.2, image_sizes=PROGRESSIVE),
        0.905,
    ),
    Reference(
        "mobilenetv2_x0_5",
        "cifar100",
        # Small batches: its wide activations leave the cache at 128 images.
        TrainingConfig(
            epochs=20,
            batch_size=64,
            learning_rate=0.1,
            image_sizes=(16, 20, 24, 32, 32),
        ),
        0.58,
    ),
    Reference(
        "resnet20",
        "synthetic100",
        TrainingConfig(epochs=6, learning_rate=0.2, image_sizes=PROGRESSIVE),
        0.60,
        0.95,
    ),
]


def train_one(reference: Reference, device: str = "auto") -> float:
    """Train, test once, and write weights, record and model card.

    Returns the test accuracy (0 to 1).

    Raises:
        DataError: the data set is not there.

    Introduced in chapter 1.
    """
    splits = load_dataset(reference.dataset)
    trained = train(
        reference.model,
        splits.train,
        splits.validation,
        reference.config,
        device=device,
    )
    accuracy = evaluate(trained.model, splits.test)
    record = _record(reference, splits, trained, accuracy)
    path = reference_path(reference.model, reference.dataset)
    save_weights(path, trained.model, reference.model, record)
    with atomic_write(path.with_suffix(".md")) as temporary:
        temporary.write_text(model_card(record), "utf-8")
    return accuracy


def _record(
    reference: Reference, splits: Splits, trained: Trained, accuracy: float
) -> dict[str, Any]:
    return {
        "name": reference.name,
        "model": reference.model,
        "num_outputs": splits.train.num_classes,
        "parameters": count_parameters(trained.model),
        "class_names": list(splits.train.class_names),
        "data": asdict(splits.provenance),
        "images": {
            "train": len(splits.train),
            "validation": len(splits.validation),
            "test": len(splits.test),
        },
        "config": asdict(reference.config),
        "selected_epoch": trained.best_epoch,
        "validation_accuracy": trained.validation_accuracy,
        "test_accuracy": accuracy,
        "seconds": sum(row["seconds"] for row in trained.history),
        "torch": torch.__version__,
        "machine": platform.machine(),
        "history": trained.history,
    }


def model_card(record: dict[str, Any]) -> str:
    """Markdown model card of a training record.

    Introduced in chapter 1.
    """
    data, images = record["data"], record["images"]
    return f"""# {record["name"]}

`{record["model"]}` with {record["num_outputs"]} outputs and
{record["parameters"]:,} parameters, trained by
`python -m lq_utils train {record["name"]}`.

| | |
|---|---|
| data | {data["dataset"]}, {data["split"]} split, {data["rung"]} |
| fingerprint | `{data["fingerprint"]}` |
| images | {images["train"]:,} train, {images["validation"]:,} validation, \
{images["test"]:,} test |
| input | 32x32 RGB, `(pixel / 255 - 0.5) / 0.25` |
| epochs | {record["config"]["epochs"]}, the best on validation kept |
| seed | {record["config"]["seed"]} |
| validation accuracy | {record["validation_accuracy"]:.4f} |
| test accuracy | {record["test_accuracy"]:.4f} (read once) |
| training time | {record["seconds"] / 60:.0f} minutes |

The weights are one training run. They are meant for the experiments of
this book, not for use in the world: the data are small pictures from the
web, with the biases of their collection.

Never test these weights on another split of the same data: its test images
may be among their training images. Licence of the weights: CC BY 4.0; of
the images: see `THIRD_PARTY.md`.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Command line of ``python -m lq_utils train``; 1 if one falls short.

    Raises UnknownName for a network that is none of ``REFERENCES``.

    Introduced in chapter 1.
    """
    known = {reference.name: reference for reference in REFERENCES}
    names = ", ".join(known)
    parser = argparse.ArgumentParser(
        prog="python -m lq_utils train",
        description="Train reference networks; a killed run goes on.",
    )
    parser.add_argument("names", nargs="*", help=f"of {names}; default: all")
    parser.add_argument("--device", default="auto")
    options = parser.parse_args(argv)
    for name in options.names:  # before hours of training begin
        if name not in known:
            hint = did_you_mean(name, known) or ";"
            raise UnknownName(f"no network '{name}'{hint} known: {names}")
    failures = 0
    for name in options.names or known:
        reference = known[name]
        accuracy = train_one(reference, options.device)
        enough = (
            reference.least_accuracy <= accuracy <= reference.most_accuracy
        )
        failures += not enough
        print(f"{name}: test accuracy {accuracy:.4f}", end="")
        print("" if enough else ", outside what the book expects")
    return 1 if failures else 0
