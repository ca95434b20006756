"""Committed reference networks: save, load, model cards.

A reference is three files under ``data/weights/``: the weights
(safetensors), the training record (JSON) and a model card (Markdown).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from lq_utils.bounded_models import build_bounded
from lq_utils.data import DataError, Provenance
from lq_utils.paths import WEIGHTS, atomic_write


class WeightsError(ValueError):
    """A weight file is missing, damaged or was made for something else.

    Introduced in chapter 1.
    """


def reference_path(model_name: str, dataset: str) -> Path:
    """Path of the committed weights of ``model_name`` on ``dataset``.

    Introduced in chapter 1.
    """
    return WEIGHTS / f"{model_name}_{dataset}.safetensors"


def save_weights(
    path: Path, model: nn.Module, model_name: str, record: dict[str, Any]
) -> None:
    """Write weights with what is needed to rebuild the network.

    ``record`` must hold ``num_outputs`` and ``class_names`` and is stored
    beside the weights as ``<name>.json``; both files are written
    atomically.

    Introduced in chapter 1.
    """
    tensors = {
        name: value.detach().cpu().contiguous()
        for name, value in model.state_dict().items()
    }
    header = {
        "model": model_name,
        "num_outputs": str(record["num_outputs"]),
        "class_names": json.dumps(list(record["class_names"])),
    }
    with atomic_write(path) as temporary:
        save_file(tensors, temporary, metadata=header)
    with atomic_write(path.with_suffix(".json")) as temporary:
        temporary.write_text(json.dumps(record, indent=1) + "\n")


def load_weights(path: Path) -> nn.Module:
    """The network stored at ``path``, in evaluation mode.

    Raises:
        WeightsError: no such file, not a safetensors file, or its tensors
            do not fit the network it names.

    Introduced in chapter 1.
    """
    path = Path(path)
    if not path.is_file():
        raise WeightsError(
            f"no weights at {path}; `make train` trains the reference "
            "networks, or give the path of an existing .safetensors file"
        )
    try:
        with safe_open(path, framework="pt") as handle:
            header = handle.metadata() or {}
        model_name, outputs = header["model"], int(header["num_outputs"])
        tensors = load_file(path)
        most = sum(tensor.numel() for tensor in tensors.values())
        model = build_bounded(model_name, outputs, most)
        model.load_state_dict(tensors)
    except (
        *(KeyError, OSError, RuntimeError, SafetensorError),
        *(TypeError, ValueError),
    ) as error:
        raise WeightsError(
            f"{path} is not a weight file of this book or is damaged "
            f"({error}); restore it with git or train it again"
        ) from error
    return model.eval()


def load_reference(model_name: str, dataset: str) -> nn.Module:
    """The committed network of ``model_name`` trained on ``dataset``.

    Raises:
        WeightsError: it is not there or damaged; the message names the
            command that makes it.

    Introduced in chapter 1.
    """
    return load_weights(reference_path(model_name, dataset))


def reference_record(model_name: str, dataset: str) -> dict[str, Any]:
    """The training record of a committed network.

    Raises:
        WeightsError: the record is not there.

    Introduced in chapter 1.
    """
    path = reference_path(model_name, dataset).with_suffix(".json")
    if not path.exists():
        raise WeightsError(f"no training record {path}; run `make train`")
    record: dict[str, Any] = json.loads(path.read_text())
    return record


def require_same_split(
    model_name: str, dataset: str, provenance: Provenance
) -> None:
    """Refuse images that the reference network may have been trained on.

    The network's test images are test images only under the split it was
    trained with, on the same set of images.

    Raises:
        DataError: the data set or the split differs from the record's.

    Introduced in chapter 1.
    """
    record = reference_record(model_name, dataset)["data"]
    ours = (provenance.dataset, provenance.split, provenance.fingerprint)
    theirs = (record["dataset"], record["split"], record["fingerprint"])
    if ours != theirs:
        raise DataError(
            f"the {model_name} weights were trained on {theirs}, the data "
            f"here is {ours}: its test part may hold their training "
            "images. Load the data with the book split, or train your own"
        )
