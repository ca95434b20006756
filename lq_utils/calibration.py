"""Calibration images, and accuracy on a subset of the classes.

A calibration set decides what a layer sees while it is quantized: the
classes that will be used, all of them, others, or mere noise.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from lq_utils.images import DataError, ImageData
from lq_utils.inference import to_input


def _chosen(classes: Sequence[int] | None, num_classes: int) -> np.ndarray:
    everything = range(num_classes)
    chosen = [int(k) for k in (everything if classes is None else classes)]
    if not chosen or len(set(chosen)) < len(chosen):
        raise DataError(
            f"classes {chosen}: give one or more class indices, each once"
        )
    if not set(chosen) <= set(everything):
        raise DataError(
            f"classes {sorted(chosen)} are not all in 0..{num_classes - 1}"
        )
    return np.sort(chosen)


def calibration_rows(
    data: ImageData,
    count: int,
    seed: int,
    classes: Sequence[int] | None = None,
) -> np.ndarray:
    """Indices int64 ``[count]`` into ``data``, drawn evenly by class.

    See :func:`calibration_set`. Introduced in chapter 3.
    """
    if data.part != "train":
        raise DataError(
            f"calibration images come from the training part, not from "
            f"the {data.part} part: give splits.train"
        )
    chosen = _chosen(classes, data.num_classes)
    rounds = -(-count // len(chosen))
    members = []
    for k in chosen:
        own = np.flatnonzero(data.labels == k)
        drawn = np.random.default_rng([seed, k]).permutation(own)
        members.append(drawn[:rounds])
    least = min(len(own) for own in members)
    if count < 1 or least < rounds:
        raise DataError(
            f"{count} calibration images of {len(chosen)} classes: ask for "
            "at least one, and for no more of a class than it has (the "
            f"smallest has {min(np.bincount(data.labels)[chosen])})"
        )
    # One of each class in turn: any beginning of the draw is even, too.
    order = np.random.default_rng(seed).permutation(len(chosen))
    return np.stack(members)[order].T.reshape(-1)[:count]


def calibration_set(
    data: ImageData,
    count: int,
    seed: int,
    classes: Sequence[int] | None = None,
) -> Tensor:
    """Calibration images, evenly from ``classes`` (all by default).

    Returns float32 ``[count, 3, H, W]``, normalised by ``to_input``. No
    two classes differ by more than one image. With the same seed a
    smaller set is the beginning of a larger one.

    Raises:
        DataError: ``data`` is not a training part; unknown classes;
            more images than the classes have.

    Introduced in chapter 3.
    """
    rows = calibration_rows(data, count, seed, classes)
    return to_input(data.images[rows])


def noise_set(count: int, seed: int, like: Tensor) -> Tensor:
    """Gaussian noise float32 ``[count, 3, H, W]`` in place of images.

    Every channel has the mean and standard deviation that it has in
    ``like`` ``[M, 3, H, W]``, real images after ``to_input``; pixels are
    independent, unlike those of real images.

    Raises DataError for fewer than one image.

    Introduced in chapter 3.
    """
    if count < 1 or like.ndim != 4:
        raise DataError(
            f"{count} noise images like {list(like.shape)}: ask for at "
            "least one, like images [M, channels, height, width]"
        )
    generator = torch.Generator().manual_seed(seed)
    shape = (count, *like.shape[1:])
    noise = torch.randn(shape, generator=generator)
    mean = like.mean(dim=(0, 2, 3), keepdim=True)
    std = like.std(dim=(0, 2, 3), keepdim=True)
    return noise * std.cpu() + mean.cpu()


def subset_accuracy(
    logits: Tensor, labels: np.ndarray, classes: Sequence[int]
) -> dict[str, float]:
    """Top-1 accuracy on the images of ``classes``, by both protocols.

    ``logits`` are ``[n, C]``, ``labels`` int64 ``[n]`` count over all C
    classes. ``all_logits`` (0 to 1): the network may answer with any of
    the C classes, the report's "All". ``subset_logits``: only logits of
    ``classes`` are compared, its "Sub"; never the lower one. ``n``: how
    many images those are; the images of other classes are left out.

    Raises:
        DataError: unknown classes, no image of them, shapes that do not
            fit, logits that are not finite.

    Source: label-aware report. Introduced in chapter 3.
    """
    if logits.ndim != 2 or len(logits) != len(labels):
        raise DataError(
            f"logits {list(logits.shape)} for {len(labels)} labels: give "
            "one row [C] an image"
        )
    chosen = _chosen(classes, logits.shape[1])
    own = np.isin(labels, chosen)
    if not own.any():
        raise DataError(f"no image is of the classes {chosen.tolist()}")
    seen = logits.cpu()[torch.from_numpy(own)]
    if not torch.isfinite(seen).all():
        raise DataError("the logits hold NaN or infinite values")
    true = labels[own]
    among_all = seen.argmax(dim=1).numpy() == true
    among_own = chosen[seen[:, chosen].argmax(dim=1).numpy()] == true
    return {
        "all_logits": float(among_all.mean()),
        "subset_logits": float(among_own.mean()),
        "n": int(own.sum()),
    }
