"""The dimensions of chapter 5: layer by layer, network by network.

A cell is one network; a row is one estimate for the output of one of its
layers.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import nn

from lq_utils.components import component_counts
from lq_utils.compression_networks import OWN, Budget, Tasks, budget
from lq_utils.dimension import ESTIMATORS
from lq_utils.engine import modules
from lq_utils.images import ImageData, Splits
from lq_utils.kept_networks import kept_network
from lq_utils.layer_outputs import layer_outputs
from lq_utils.models import build_model
from lq_utils.nearest import distinct_rows, nearest_distances
from lq_utils.weights import load_reference

# What decides the rows of this module.
CODE = modules(
    """
    activation_quantization alphabets augmentation bounded_models calibration
    checkpoints clustering components compressed_training compression_checks
    compression_networks dimension dimension_study graph grids images
    inference kept_networks layer_outputs models nearest parametrizations
    partitions products pruning quantnet recipes scale_rules scales splits
    stacks training weights
    """
)

Rows = list[dict[str, Any]]

LAYERS = ("conv1", "conv2", "linear1", "linear2")
METHODS = ("regression", "likelihood", "censored")
PARTS = 4  # disjoint parts of the images, for errors of blocks
DISCARD = 0.1  # share of the largest ratios, as Facco et al. have it
SHARES = {"PCA 95 %": 0.95, "PCA 99 %": 0.99}
RECTIFIED, LINEAR = "rectified", "linear"
FLATTENED, CHANNELS = "flattened", "channels"


def training_plan(epochs: int, transfer_epochs: int, rate: float) -> Budget:
    """A budget of networks that are trained, and not compressed.

    Introduced in chapter 5.
    """
    return budget(
        epochs=epochs,
        transfer_epochs=transfer_epochs,
        rate=rate,
        fine_epochs=0,
        fine_rate=0.0,
        calibration=0,
    )


def profile_rows(
    task: str,
    start: str,
    seed: int,
    trained: bool,
    per_class: int,
    halvings: int,
    plan: Budget,
    splits: Tasks,
) -> Rows:
    """Dimensions of what QuantNET's layers return for training images.

    ``per_class`` images of each class; the first "layer" is the input. A row
    is one estimate: ``layer``, ``output`` (rectified by the ReLU behind
    the layer, or linear, before it), ``view`` (all that a layer returns
    for an image is a point, or the channels at every position are),
    ``method``, ``part`` of ``parts`` disjoint parts of the images,
    ``points`` (different ones) and ``removed`` (duplicates), ``value``
    and ``scale`` (mean distance of the second neighbour; PCA has none).

    Raises as ``kept_network``. Introduced in chapter 5.
    """
    network = build_model("quantnet", 1, seed).eval()
    if trained:
        network = kept_network(task, start, seed, plan, splits)
    images = splits[task].train.per_class(per_class, seed)
    rows = _profile(network, images, RECTIFIED, halvings)
    return rows + _profile(network, images, LINEAR, 0)


def _profile(
    network: nn.Module, images: ImageData, output: str, halvings: int
) -> Rows:
    rectified = output == RECTIFIED
    found = layer_outputs(network, images, LAYERS, rectified=rectified)
    rows: Rows = []
    for layer, values in found.items():
        for parts in (2**k for k in range(halvings + 1)):
            for part in range(parts):
                own = values[part::parts]
                place: dict[str, Any] = {"layer": layer, "output": output}
                place |= {"part": part, "parts": parts}
                found_here = neighbor_rows(own) + _components(own, CHANNELS)
                if parts == 1:
                    found_here += _components(own, FLATTENED)
                rows += [place | row for row in found_here]
    return rows


def neighbor_rows(values: np.ndarray) -> Rows:
    """TwoNN of outputs ``[N, ...]`` by all methods, one row each.

    Points that are fewer than three different ones have dimension 0.
    Introduced in chapter 5.
    """
    flat = values.reshape(len(values), -1)
    kept = distinct_rows(flat)
    row: dict[str, Any] = {"view": FLATTENED, "points": len(kept)}
    row["removed"] = len(flat) - len(kept)
    if len(kept) < 3:
        return [row | {"method": m, "value": 0.0} for m in METHODS]
    near = nearest_distances(flat[kept]).distances
    row["scale"] = float(near[:, 1].mean())
    return [
        row | {"method": m, "value": ESTIMATORS.get(m)(near, DISCARD)}
        for m in METHODS
    ]


def _components(values: np.ndarray, view: str) -> Rows:
    counts = component_counts(values, tuple(SHARES.values()), view)
    row: dict[str, Any] = {"view": view, "points": len(values)}
    row["removed"] = 0
    return [
        row | {"method": name, "value": counts[share]}
        for name, share in SHARES.items()
    ]


def candidate_rows(
    task: str, seed: int, per_class: int, plan: Budget, splits: Tasks
) -> Rows:
    """What the thesis's TwoNN* may have been: ``reading``, ``layer``, value.

    The thesis never says. Each reading changes one thing about TwoNN by
    regression on flattened, rectified outputs.

    Introduced in chapter 5.
    """
    own = splits[task]
    network = kept_network(task, OWN, seed, plan, splits)
    images = own.train.per_class(per_class, seed)
    found = layer_outputs(network, images, LAYERS)
    linear = layer_outputs(network, images, LAYERS, rectified=False)
    rng = np.random.default_rng(seed)
    rows: Rows = []
    for layer, values in found.items():
        readings = {
            "as TwoNN": values,
            "before the ReLU": linear[layer],
            "one class": values[images.labels == 0],
            "channels at one position": one_position(values, rng),
            "mean over positions": values.reshape(*values.shape[:2], -1).mean(
                axis=2
            ),
            "one channel": one_channel(values),
        }
        for reading, points_of in readings.items():
            row = neighbor_rows(points_of)[0]
            rows.append({"reading": reading, "layer": layer} | row)
    return rows


def one_position(values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The channels ``[N, C]`` at one random position of each image.

    Outputs ``[N, D]`` have no positions and stay. Introduced in chapter 5.
    """
    if values.ndim == 2:
        return values
    at = rng.integers(values.shape[2:], size=(len(values), 2))
    picked: np.ndarray = values[np.arange(len(values)), :, at[:, 0], at[:, 1]]
    return picked


def one_channel(values: np.ndarray) -> np.ndarray:
    """The map ``[N, H, W]`` of the channel that varies most.

    Outputs ``[N, D]`` have no maps and stay. Introduced in chapter 5.
    """
    if values.ndim == 2:
        return values
    varies = values.var(axis=(0, 2, 3), dtype=np.float64)
    best: np.ndarray = values[:, int(varies.argmax())]
    return best


def reference_rows(
    trained: bool,
    per_class: int,
    seed: int,
    model: str,
    trained_on: str,
    splits: Splits,
) -> Rows:
    """Dimensions of what the blocks of a reference ResNet return.

    ``per_class`` training images of each class. A row is one estimate, as
    in :func:`profile_rows`; ``block`` counts from 0, the input; ``parts``
    are 1 and 4.

    Introduced in chapter 5.
    """
    data = splits.train
    network = build_model(model, data.num_classes, seed).eval()
    if trained:
        network = load_reference(model, trained_on).eval()
    images = data.per_class(per_class, seed)
    blocks = [
        name
        for name, module in network.named_modules()
        if type(module).__name__.endswith("Block")
    ]
    found = layer_outputs(network, images, blocks, rectified=False)
    rows: Rows = []
    for block, (name, values) in enumerate(found.items()):
        for part, parts in ((0, 1), *((k, PARTS) for k in range(PARTS))):
            own = values[part::parts]
            place = {"block": block, "layer": name}
            place |= {"part": part, "parts": parts}
            found_here = neighbor_rows(own) + _components(own, CHANNELS)
            rows += [place | row for row in found_here]
    return rows
