"""How far a quantized layer's outputs are from the original ones."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from lq_utils.graph import weight_matrix


@dataclass
class OutputGap:
    """Outputs of a layer in both networks, compared batch by batch.

    Introduced in chapter 3.
    """

    original: nn.Conv2d | nn.Linear
    quantized: nn.Conv2d | nn.Linear

    def __post_init__(self) -> None:
        self.difference, self.energy, self.count = 0.0, 0.0, 0
        self.shift: Tensor | float = 0.0

    def add(self, y: Tensor, seen: Tensor) -> None:
        """Add a batch of outputs, original and quantized."""
        if isinstance(self.original, nn.Conv2d):
            y, seen = y.movedim(1, -1), seen.movedim(1, -1)
        gap = (y - seen).flatten(0, -2)
        bias = self.original.bias
        plain = y - bias if isinstance(bias, Tensor) else y
        self.difference += float(gap.square().sum())
        self.energy += float(plain.square().sum())
        self.shift = self.shift + gap.sum(dim=0).double()
        self.count += len(gap)

    def relative_error(self) -> float:
        """Norm of the difference over that of the original output.

        Without the bias; 0 where the original layer returns nothing else.
        """
        energy = self.energy
        return (self.difference / energy) ** 0.5 if energy else 0.0

    def correct_bias(self) -> Tensor:
        """Give every channel of the quantized layer its original mean.

        Returns what was added to the bias, ``[channels]``.
        """
        assert isinstance(self.shift, Tensor)
        mean = (self.shift / self.count).to(weight_matrix(self.quantized))
        bias = self.quantized.bias
        if isinstance(bias, Tensor):
            bias.add_(mean)
        else:
            self.quantized.bias = nn.Parameter(mean, requires_grad=False)
        return mean
