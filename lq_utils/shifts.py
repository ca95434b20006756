"""Gram matrices of 3x3 convolutions from shifted images.

Convolutions with stride 1 see every pair of pixels (p, p + shift) up to
nine times. So the Gram matrices depend on the 25 shifts only, up to the
border: offset +1 never reads the first row or column, offset -1 never the
last. The five horizontal shifts of SPAN neighbouring columns take SPAN + 4
products instead of 5 SPAN (Toom-Cook, Winograd).
"""

from __future__ import annotations

from collections.abc import Sequence
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
    products for hessian, ``[5, 10, C, C]``, and drift, ``[7, 10, C, C]``,
    and the number of patches; :func:`assemble` makes matrices of their
    sums.

    Introduced in chapter 3.
    """
    images, _, height, width = quantized.shape
    left, right = _slabs(quantized, (_LEFT, _RIGHT))
    # The Gram matrix is symmetric: shifts upwards are turned later.
    hessian = _vertical(left, right, range(3))
    if away is None:
        return hessian, None, images * height * width
    del right  # memory for the next
    (right,) = _slabs(away, (_RIGHT,))
    drift = _vertical(left, right, range(-2, 3))
    return hessian, drift, images * height * width


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

    ``rows`` is ``[8, h, m, C]``, ``first`` and ``last`` are the first and
    last column, ``[h, B, C]``.

    Introduced in chapter 3.
    """

    rows: Tensor
    first: Tensor
    last: Tensor


def _slabs(x: Tensor, matrices: Sequence[Tensor]) -> list[Slab]:
    """A batch ``[B, C, h, w]``, transformed by _LEFT or _RIGHT or both."""
    width = x.shape[3]
    by_column = x.permute(2, 3, 0, 1)
    first, last = by_column[:, 0], by_column[:, -1]
    groups = -(-width // SPAN)
    if groups * SPAN > width:
        x = F.pad(x, (0, groups * SPAN - width))
    by_group = x.permute(2, 3, 0, 1).unflatten(1, (groups, SPAN))
    # Column SPAN g + k stands at [k][:, g + 1]; zeros all around.
    columns = [_padded(by_group[:, :, k]) for k in range(SPAN)]
    windows = []  # every SPAN-th column, from the one at -2, -1, ...
    for k in range(-2, SPAN + 2):
        start = 1 + k // SPAN
        windows.append(columns[k % SPAN][:, start : start + groups])
    slabs = []
    for matrix in matrices:
        outer = (SPAN + 4 - matrix.shape[1]) // 2
        inner = windows[outer : len(windows) - outer]
        slabs.append(Slab(_transform(inner, matrix), first, last))
    return slabs


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


def _horizontal(
    left: Slab, right: Slab, low: int, high: int, shift: int
) -> Tensor:
    """Rows low ... high - 1 times those ``shift`` below: ``[10, C, C]``.

    First the 8 transformed products, then those of the first and of the
    last column.
    """
    other = slice(low + shift, high + shift)
    a = left.rows[:, low:high].flatten(1, 2)
    products = a.mT @ right.rows[:, other].flatten(1, 2)
    edges = [
        x[low:high].flatten(0, 1).T @ y[other].flatten(0, 1)
        for x, y in ((left.first, right.first), (left.last, right.last))
    ]
    return torch.cat([products, torch.stack(edges)])


def _vertical(left: Slab, right: Slab, shifts: range) -> Tensor:
    """Products for each vertical shift, then those of last and first row.

    Returns ``[len(shifts) + 2, 10, C, C]``.
    """
    height, _, channels = left.first.shape
    found = []
    for shift in shifts:
        low, high = max(0, -shift), height - max(0, shift)
        if low < high:
            found.append(_horizontal(left, right, low, high, shift))
        else:
            found.append(left.rows.new_zeros(10, channels, channels))
    found.append(_horizontal(left, right, height - 1, height, 0))
    found.append(_horizontal(left, right, 0, 1, 0))
    return torch.stack(found)


def _untransformed(products: Tensor) -> Tensor:
    """``[n, 10, C, C]`` to ``[n, 7, C, C]``: the shifts -2 ... 2 to the
    right, then the products of the first and of the last column."""
    matrix = _SHIFTS.to(products)
    shifts = torch.einsum("sk,nkij->nsij", matrix, products[:, :8])
    return torch.cat([shifts, products[:, 8:]], dim=1)


def _by_offsets(products: Tensor) -> Tensor:
    """Products for offsets (dy, dy') in {-1, 0, 1}^2: ``[3, 3, 7, C, C]``."""
    *shifts, last, first = products
    if len(shifts) == 3:  # both slabs are the same: turn the other two
        turned = [p[[4, 3, 2, 1, 0, 5, 6]].mT for p in shifts[:0:-1]]
        shifts = turned + shifts
    result = torch.stack(
        [torch.stack([*shifts[2 - dy : 5 - dy]]) for dy in range(3)]
    )
    result[0, 0] -= last
    result[2, 2] -= first
    return result


def assemble(products: Tensor) -> Tensor:
    """Sums of :func:`shift_products` to the Gram matrix ``[1, 9 C, 9 C]``.

    Introduced in chapter 3.
    """
    products = _by_offsets(_untransformed(products))
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
