"""Grids of a quantized network's file, as plain values and back."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from lq_utils.graph import weight_matrix
from lq_utils.grids import Alphabet, Grid, codebook_grid
from lq_utils.packing import packed_size, unpack


def alphabet_to_list(a: Alphabet) -> list[Any]:
    """The fields of an alphabet. Introduced in chapter 3."""
    values = [a.name, a.count, a.lowest, a.step, a.affine]
    return values if a.codebook is None else [*values, list(a.codebook)]


def alphabet_from_list(values: list[Any]) -> Alphabet:
    """The inverse of :func:`alphabet_to_list`.

    Raises GridError for levels that do not ascend.
    Introduced in chapter 3.
    """
    name, count, lowest, step, affine, *codebook = values
    book = tuple(codebook[0]) if codebook else None
    return Alphabet(name, count, lowest, step, affine, book)


def grid_to_list(grid: Grid, alphabets: list[Alphabet]) -> list[int]:
    """Alphabet and shape of the scales, or the number of centroids.

    Introduced in chapter 3.
    """
    letters = grid.alphabet
    if letters.own:
        return [letters.count]
    return [alphabets.index(letters), *grid.scale.shape, grid.group_size]


class Reader:
    """Hands out a flat tensor piece by piece, and insists on its end.

    Raises ValueError where it is too short or too long.
    Introduced in chapter 3.
    """

    def __init__(self, tensors: dict[str, Tensor], name: str) -> None:
        self.name, self.values = name, tensors[name]
        self.start = 0

    def take(self, count: int) -> Tensor:
        piece = self.values[self.start : self.start + count]
        if len(piece) != count:
            raise ValueError(f"'{self.name}' is too short")
        self.start += count
        return piece

    def finish(self) -> None:
        if self.start != len(self.values):
            raise ValueError(f"'{self.name}' is too long")


def take_grid(
    readers: dict[str, Reader],
    alphabets: list[Alphabet],
    record: list[int],
    columns: int,
) -> Grid:
    """The inverse of :func:`grid_to_list`, for a weight of ``columns``.

    Introduced in chapter 3.
    """
    if len(record) == 1:
        return codebook_grid(readers["codebooks"].take(record[0]), columns)
    index, rows, groups, group_size = record
    scale = readers["scales"].take(rows * groups).reshape(rows, groups)
    zero = torch.zeros_like(scale)
    if alphabets[index].affine:
        zero = readers["zero_points"].take(rows * groups).reshape(rows, groups)
    return Grid(alphabets[index], scale, zero, group_size)


def take_weight(
    readers: dict[str, Reader], module: nn.Module, grid: Grid
) -> Tensor:
    """The next weight, float32 ``[K, N]``, for a layer and its grid.

    Introduced in chapter 3.
    """
    bits, shape = grid.alphabet.code_bits, weight_matrix(module).shape
    packed = readers["codes"].take(packed_size(shape.numel(), bits))
    return grid.values(unpack(packed, bits, shape))
