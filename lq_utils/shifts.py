"""Gram matrices of 3x3 convolutions from shifted images.

Convolutions with stride 1 see every pair of pixels (p, p + shift) up to
nine times. So the Gram matrices depend on the 25 shifts only, up to the
border: offset +1 never reads the first row or column, offset -1 never the
last. The five horizontal shifts of SPAN neighbouring columns take SPAN + 4
products instead of 5 SPAN (Toom-Cook, Winograd).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SPAN = 4  # neighbouring columns of an image in one group of products
LEAST_CHANNELS = 8  # below, unfolding is cheap and the shifts are not


def shiftable(module: nn.Module) -> bool:
    """Whether the statistics of a layer can come from shifted images.

    Introduced in chapter 3.
    """
    return (
        isinstance(module, nn.Conv2d)
        and module.kernel_size == (3, 3)
        and module.stride == module.dilation == module.padding == (1, 1)
        and module.groups == 1
        and module.padding_mode == "zeros"
        and module.in_channels >= LEAST_CHANNELS
    )


def shift_products(
    module: nn.Module, quantized: Tensor, away: Tensor | None
) -> tuple[Tensor, Tensor | None, int]:
    """Products of one batch ``[B, C, h, w]``, to be added up.

    ``away`` is the original input minus the quantized network's. Returns
    products for hessian and drift, ``[3, 3, 7, C, C]`` each, and the
    number of patches; :func:`assemble` makes matrices of their sums.

    Introduced in chapter 3.
    """
    images, _, height, width = quantized.shape
    x = Slab.of(quantized)
    drift = None if away is None else _vertical(x, Slab.of(away))
    return _vertical(x, x), drift, images * height * width


def _toom_cook() -> tuple[Tensor, Tensor, Tensor]:
    """Matrices L, R, S with ``sum_i a_i b_(i+s) = S ((L a) (R b))``.

    From the product of polynomials of degree SPAN - 1 and 4, evaluated at
    0, +-1, +-2, +-1/2 and infinity, transposed. Shapes ``[8, SPAN]``,
    ``[8, 8]``, ``[5, 8]``.

    Source: Winograd 1980; Lavin and Gray 2016, section 4.
    """
    points = torch.tensor([0, 1, -1, 2, -2, 0.5, -0.5]).double()

    def evaluate(degree: int) -> Tensor:
        powers = torch.arange(degree + 1)
        infinity = (powers == degree).double()
        return torch.vstack([points[:, None] ** powers, infinity])

    inverse = torch.linalg.inv(evaluate(SPAN + 3))
    return evaluate(SPAN - 1), inverse.T.contiguous(), evaluate(4).T


_LEFT, _RIGHT, _SHIFTS = _toom_cook()


@dataclass
class Slab:
    """Images row by row, transformed for products of shifted columns.

    ``left`` and ``right`` are ``[8, rows, m, C]``, ``first`` and ``last``
    the first and last column, ``[rows, B, C]``.
    """

    left: Tensor
    right: Tensor
    first: Tensor
    last: Tensor

    @classmethod
    def of(cls, x: Tensor) -> Slab:
        """From a batch of layer inputs ``[B, C, h, w]``."""
        width = x.shape[3]
        groups = -(-width // SPAN)
        if groups * SPAN > width:
            x = F.pad(x, (0, groups * SPAN - width))
        by_column = x.permute(2, 3, 0, 1).unflatten(1, (groups, SPAN))
        # Column SPAN g + k stands at [k][:, g + 1]; zeros all around.
        columns = [_padded(by_column[:, :, k]) for k in range(SPAN)]
        windows = []
        for k in range(-2, SPAN + 2):
            start = 1 + k // SPAN
            windows.append(columns[k % SPAN][:, start : start + groups])
        return cls(
            _transform(windows[2 : SPAN + 2], _LEFT),
            _transform(windows, _RIGHT),
            columns[0][:, 1],
            by_column[:, (width - 1) // SPAN, (width - 1) % SPAN],
        )

    def rows(self, low: int, high: int) -> Slab:
        """The rows ``low ... high - 1``."""
        return Slab(
            self.left[:, low:high],
            self.right[:, low:high],
            self.first[low:high],
            self.last[low:high],
        )


def _padded(columns: Tensor) -> Tensor:
    """``[h, groups, B, C]`` with a group of zeros before and after."""
    height, groups, *rest = columns.shape
    padded = columns.new_zeros(height, groups + 2, *rest)
    padded[:, 1:-1] = columns
    return padded


def _transform(windows: list[Tensor], matrix: Tensor) -> Tensor:
    """Rows of ``matrix [8, k]`` times k windows ``[h, groups, B, C]``.

    Returns ``[8, h, groups B, C]``. One pass an entry beats a product
    with so small a matrix.
    """
    result = windows[0].new_empty(len(matrix), *windows[0].shape)
    for out, row in zip(result, matrix.tolist()):
        terms = [(w, f) for w, f in zip(windows, row) if f]
        torch.mul(*terms[0], out=out)
        for window, factor in terms[1:]:
            out.add_(window, alpha=factor)
    return result.flatten(2, 3)


def _horizontal(a: Slab, b: Slab) -> Tensor:
    """Products of two slabs of rows: ``[7, C, C]``.

    First the shifts -2 ... 2 to the right, then the products of the first
    and of the last column with itself.
    """
    left, right = a.left.flatten(1, 2), b.right.flatten(1, 2)
    products = left.mT @ right
    shifts = torch.einsum("sk,kij->sij", _SHIFTS.to(products), products)
    first = a.first.flatten(0, 1).T @ b.first.flatten(0, 1)
    last = a.last.flatten(0, 1).T @ b.last.flatten(0, 1)
    return torch.cat([shifts, first[None], last[None]])


def _turned(products: Tensor) -> Tensor:
    """The products with both slabs exchanged."""
    return products[[4, 3, 2, 1, 0, 5, 6]].mT


def _vertical(a: Slab, b: Slab) -> Tensor:
    """Products for offsets (dy, dy') in {-1, 0, 1}^2: ``[3, 3, 7, C, C]``."""
    height, channels = len(a.first), a.first.shape[-1]
    by_shift = {}
    for shift in range(0 if a is b else -2, 3):
        low, high = max(0, -shift), height - max(0, shift)
        if low < high:
            other = b.rows(low + shift, high + shift)
            by_shift[shift] = _horizontal(a.rows(low, high), other)
        else:
            by_shift[shift] = a.first.new_zeros(7, channels, channels)
    if a is b:
        by_shift |= {-s: _turned(by_shift[s]) for s in (1, 2)}
    result = torch.stack(
        [
            torch.stack([by_shift[lower - upper] for lower in range(3)])
            for upper in range(3)
        ]
    )
    last = (height - 1, height)
    result[0, 0] -= _horizontal(a.rows(*last), b.rows(*last))
    result[2, 2] -= _horizontal(a.rows(0, 1), b.rows(0, 1))
    return result


def assemble(products: Tensor) -> Tensor:
    """Products ``[3, 3, 7, C, C]`` to the Gram matrix ``[1, 9 C, 9 C]``.

    Introduced in chapter 3.
    """
    channels = products.shape[-1]
    gram = products.new_empty(3, 3, 3, 3, channels, channels)
    for left in range(3):  # horizontal offset -1, 0, 1
        for right in range(3):
            gram[:, :, left, right] = products[:, :, right - left + 2]
    gram[:, :, 0, 0] -= products[:, :, 6]
    gram[:, :, 2, 2] -= products[:, :, 5]
    # dy, dy', dx, dx', c, c'  ->  (c, dy, dx), (c', dy', dx')
    order = gram.permute(4, 0, 2, 5, 1, 3)
    return order.reshape(1, 9 * channels, 9 * channels)
