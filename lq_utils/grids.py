"""Grids: the finite sets of values that a quantized weight may take.

An *alphabet* is the set of levels before scaling, such as -3 ... 3; its
size is explicit, because "b bits" means 2^b - 1, 2^b or 2^b + 1 levels
depending on who says it. A *grid* is an alphabet with its scales, one a
tensor, a channel or a group of columns.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lq_utils.alphabets import (
    MAX_BITS,
    OWN,
    QUANTIZERS,
    Alphabet,
    GridError,
    alphabet,
    register_quantizer,
)

__all__ = [
    "MAX_BITS",
    "QUANTIZERS",
    "Alphabet",
    "Grid",
    "GridError",
    "alphabet",
    "codebook_grid",
    "register_quantizer",
]


@dataclass(frozen=True)
class Grid:
    """An alphabet with its scales: value = scale (level - zero point).

    ``scale`` and ``zero_point`` are ``[K, G]`` for a weight ``[K, N]``
    (``[1, 1]``: one a tensor); ``G`` groups of ``group_size`` columns.
    Zero points are integers.

    Introduced in chapter 3.
    """

    alphabet: Alphabet
    scale: Tensor
    zero_point: Tensor
    group_size: int

    def _of(self, parameter: Tensor, columns: slice) -> Tensor:
        """Scale or zero point ``[K or 1, columns or 1]``."""
        if parameter.shape[1] == 1:
            return parameter
        group = torch.arange(columns.start, columns.stop) // self.group_size
        return parameter[:, group]

    def round(self, weight: Tensor, columns: slice | None = None) -> Tensor:
        """The nearest values on the grid.

        ``weight`` is ``[K, N]``, or ``[K, columns]`` where only some
        columns are given. Ties go up.
        """
        columns = columns or slice(0, weight.shape[1])
        scale = self._of(self.scale, columns)
        zero = self._of(self.zero_point, columns)
        return self.alphabet.round(weight, scale, zero)

    def codes(self, values: Tensor) -> Tensor:
        """Codes int64 ``[K, N]`` of values that lie on the grid.

        Raises GridError where a value does not.
        """
        wanted = values.float()
        columns = slice(0, values.shape[1])
        scale = self._of(self.scale, columns).double()
        zero = self._of(self.zero_point, columns).double()
        level = self.alphabet.nearest(wanted.double() / scale + zero)
        guess = codes = self.alphabet.index(level)
        off = self.values(codes) != wanted
        for step in (-1, 1):
            # A value near a power of two may lie nearer another level.
            if off.any():
                other = (guess + step).clamp_(0, self.alphabet.count - 1)
                codes = torch.where(off, other, codes)
                off = self.values(codes) != wanted
        if off.any():
            raise GridError(
                f"{int(off.sum())} values do not lie on the grid; round "
                "them first"
            )
        return codes

    def values(self, codes: Tensor) -> Tensor:
        """Values float32 ``[K, N]`` of codes int64 ``[K, N]``."""
        columns = slice(0, codes.shape[1])
        scale = self._of(self.scale, columns).double()
        zero = self._of(self.zero_point, columns).double()
        # Exact products, rounded once: what `round` gives, in any dtype.
        return ((self.alphabet.at(codes) - zero) * scale).float()

    def scaled(self, factor: float | Tensor) -> Grid:
        """The same grid, wider or narrower (symmetric or affine)."""
        return replace(self, scale=self.scale * factor)

    def rows(self, index: Tensor) -> Grid:
        """The grid of some rows; a per-tensor grid serves all rows."""
        if self.scale.shape[0] == 1:
            return self
        return replace(
            self, scale=self.scale[index], zero_point=self.zero_point[index]
        )

    def per_row(self, rows: int) -> Grid:
        """The same grid with its scales written out for every row."""
        if self.scale.shape[0] == rows:
            return self
        return replace(
            self,
            scale=self.scale.expand(rows, -1).clone(),
            zero_point=self.zero_point.expand(rows, -1).clone(),
        )


def codebook_grid(centroids: Tensor, columns: int) -> Grid:
    """The grid of a layer ``[K, columns]`` that takes its own centroids.

    ``centroids`` are float32 ``[C]``, the values themselves: the scale
    is 1. Raises GridError where they are not finite and ascending.

    Source: Han et al. 2016, section 3. Introduced in chapter 4.
    """
    values = tuple(centroids.tolist())
    letters = Alphabet(OWN, len(values), min(values), 1, False, values, True)
    return Grid(letters, torch.ones(1, 1), torch.zeros(1, 1), columns)
