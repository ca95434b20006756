"""Random crops and flips of training images, a whole batch at once."""

from __future__ import annotations

import numpy as np

CROP_PADDING = 4


def pad_for_crops(images: np.ndarray) -> np.ndarray:
    """Images uint8 ``[N, H, W, 3]`` with a black frame of 4 pixels.

    Returns uint8 ``[N, H + 8, W + 8, 3]``.

    Introduced in chapter 1.
    """
    frame = (CROP_PADDING, CROP_PADDING)
    return np.pad(images, ((0, 0), frame, frame, (0, 0)))


def crop_and_flip(
    padded: np.ndarray, indices: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Random crops and horizontal flips of a batch.

    Args:
        padded: uint8 ``[N, H + 8, W + 8, 3]``, zero-padded by 4 pixels.
        indices: int ``[B]``, the images of the batch.
        rng: source of the offsets and flips.

    Returns:
        uint8 ``[B, H, W, 3]``.

    Source: He et al. 2016, section 4.2. Introduced in chapter 1.
    """
    height, width = (n - 2 * CROP_PADDING for n in padded.shape[1:3])
    offsets = rng.integers(0, 2 * CROP_PADDING + 1, size=(2, len(indices)))
    rows = offsets[0][:, None] + np.arange(height)
    columns = offsets[1][:, None] + np.arange(width)
    flipped = rng.random(len(indices)) < 0.5
    columns[flipped] = columns[flipped, ::-1]
    return padded[indices[:, None, None], rows[:, :, None], columns[:, None]]
