"""Power-of-two levels with power-of-two scales: only shifts are left."""

from __future__ import annotations

from torch import Tensor

from lq_utils.grids import Grid
from lq_utils.parametrizations import FakeQuantize
from lq_utils.scales import fit_grid


class PowerOfTwo(FakeQuantize):
    """Weights at 0 or a signed power of two, fitted in every pass.

    Args:
        bits: 2 to 8; there are 2^b - 1 levels, 0 and plus or minus 2^e
            for the largest exponents e up to floor(log2(4 max|w| / 3)).
        granularity: ``"tensor"`` or ``"channel"``: what shares the largest
            exponent.

    The nearest level in value is taken (the border between 2^e and
    2^(e+1) is 1.5 2^e). The gradient goes straight through everywhere: no
    weight lies beyond the cell of its largest level. Raises as
    ``FakeQuantize``.

    Source: Zhou et al. 2017 for the largest exponent; bit-efficient
    poster, table 2, for training with such levels. Introduced in
    chapter 7.
    """

    def __init__(self, bits: int, granularity: str = "tensor") -> None:
        super().__init__(bits, granularity, "power-of-two", "max")

    def grid(self, weight: Tensor) -> Grid:
        """The grid of these weights, one row an output channel."""
        rows = weight.detach().flatten(1)
        return fit_grid(
            rows, self.alphabet, self.granularity, "max", power_of_two=True
        )

    def forward(self, weight: Tensor) -> Tensor:
        rounded = self.grid(weight).round(weight.detach().flatten(1))
        return rounded.view(weight.shape) + (weight - weight.detach())
