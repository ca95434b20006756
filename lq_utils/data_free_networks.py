"""The networks of chapter 7, by labels such as "resnet20@cifar10"."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from torch import nn

from lq_utils.data import load_dataset, resolve_name
from lq_utils.distances import weight_cosine
from lq_utils.fingerprints import digest
from lq_utils.images import ImageData, Splits
from lq_utils.label_aware import Classes
from lq_utils.study_networks import find_network
from lq_utils.subsets import generate
from lq_utils.weights import WeightsError, reference_path

KINDS = ("random", "similar", "dissimilar")


class LabelError(ValueError):
    """A label names no network and data set.

    Introduced in chapter 7.
    """


@dataclass(frozen=True)
class Case:
    """A network with the split that it was trained on.

    Introduced in chapter 7.
    """

    network: nn.Module
    splits: Splits


def read_label(label: str) -> tuple[str, str]:
    """Model and data set of ``"model@dataset"``; "auto" is resolved.

    Raises LabelError for another form. Introduced in chapter 7.
    """
    model, _, dataset = label.partition("@")
    if not model or not dataset:
        raise LabelError(
            f"networks: {label!r} is not of the form model@dataset, such as "
            "resnet20@cifar10"
        )
    return model, resolve_name(dataset)


def find_cases(
    labels: Sequence[str], weights_file: str = ""
) -> dict[str, Case]:
    """The networks of ``labels`` whose weights there are, by label.

    ``weights_file`` belongs to the first label. A network without weights
    is left out, and said to be. Data sets are loaded once. Labels have the
    data set that "auto" stands for.

    Raises LabelError for a label of another form or twice, WeightsError
    where no network is left, and as ``find_network``.

    Introduced in chapter 7.
    """
    named = [read_label(label) for label in labels]
    if len(set(named)) < len(named) or not named:
        raise LabelError(f"networks: name one or more, each once: {labels}")
    loaded: dict[str, Splits] = {}
    cases = {}
    for i, (model, dataset) in enumerate(named):
        own = weights_file if i == 0 else ""
        there = reference_path(model, dataset).is_file()
        if not (own or there):
            print(f"left out: {model}@{dataset}, which has no weights")
            continue
        if dataset not in loaded:
            loaded[dataset] = load_dataset(dataset)
        splits = loaded[dataset]
        network = find_network(model, splits, own)
        cases[f"{model}@{dataset}"] = Case(network.eval(), splits)
    if not cases:
        raise WeightsError(
            f"none of {', '.join(labels)} has committed weights: name a "
            "network of data/weights, or give a weights_file"
        )
    return cases


def parts_of(
    cases: Mapping[str, Case],
    train_images: int,
    validation_images: int,
    test_images: int,
    seed: int,
) -> dict[str, dict[str, ImageData]]:
    """Images by label and part, evenly of every class.

    So many of each part in all, spread over the classes (0: all that there
    are), at least one of a class. Drawn with the seed.

    Introduced in chapter 7.
    """
    counts = {
        "train": train_images,
        "validation": validation_images,
        "test": test_images,
    }
    return {
        label: {
            part: _some(getattr(case.splits, part), count, seed)
            for part, count in counts.items()
        }
        for label, case in cases.items()
    }


def subsets_of(
    cases: Mapping[str, Case], count: int, size: int, seed: int
) -> dict[str, tuple[Classes, ...]]:
    """Subsets of the classes by label, alike for networks on the same data.

    Random, similar and dissimilar ones by turns, of ``size`` classes (half
    of them at most), by the cosines of the weights of the first network on
    the data. Subsets found twice count once.

    Introduced in chapter 7.
    """
    found: dict[str, tuple[Classes, ...]] = {}
    known: dict[str, tuple[Classes, ...]] = {}
    for label, case in cases.items():
        data = case.splits.provenance.fingerprint
        if data not in known:
            known[data] = _subsets(case.network, count, size, seed)
        found[label] = known[data]
    return found


def _subsets(
    network: nn.Module, count: int, size: int, seed: int
) -> tuple[Classes, ...]:
    linear = [m for m in network.modules() if isinstance(m, nn.Linear)]
    distance = weight_cosine(linear[-1].weight.detach().cpu().numpy())
    fewer = max(2, min(size, len(distance) // 2))
    drawn = [
        generate(KINDS[i % len(KINDS)], distance, fewer, seed + i).classes
        for i in range(count)
    ]
    return tuple(dict.fromkeys(drawn))


def _some(data: ImageData, count: int, seed: int) -> ImageData:
    each = -(-count // data.num_classes)
    counts = [int((data.labels == k).sum()) for k in range(data.num_classes)]
    if not count or each >= min(counts):
        return data
    return data.per_class(each, seed)


def shared_inputs(
    cases: Mapping[str, Case], parts: Mapping[str, Mapping[str, ImageData]]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """What cells share, and its fingerprints: ``shared`` and ``key``.

    Introduced in chapter 7.
    """
    networks = {label: case.network for label, case in cases.items()}
    shared = {"networks": networks, "parts": parts}
    key = {
        "networks": {label: digest(n) for label, n in networks.items()},
        "parts": {
            label: {
                name: [digest(part.images), digest(part.labels)]
                for name, part in own.items()
            }
            for label, own in parts.items()
        },
    }
    return shared, key


def overview(cases: Mapping[str, Case]) -> pd.DataFrame:
    """One row a network: network, data (its stamp), classes, weights.

    ``weights`` counts convolutions and linear layers. Introduced in
    chapter 7.
    """
    lines = []
    for label, case in cases.items():
        weights = sum(
            p.numel() for p in case.network.parameters() if p.ndim > 1
        )
        line: dict[str, Any] = {"network": label}
        line |= {"data": case.splits.provenance.stamp()}
        line |= {"classes": case.splits.train.num_classes}
        lines.append(line | {"weights": weights})
    return pd.DataFrame(lines)
