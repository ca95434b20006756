"""The thesis's small network, with the choices that the thesis tunes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

INITIALIZERS: dict[str, Callable[[Tensor], Tensor]] = {
    "he normal": partial(nn.init.kaiming_normal_, nonlinearity="relu"),
    "he uniform": partial(nn.init.kaiming_uniform_, nonlinearity="relu"),
    "glorot normal": nn.init.xavier_normal_,
    "glorot uniform": nn.init.xavier_uniform_,
}


class QuantNet(nn.Module):
    """The thesis's small classifier: 545,889 parameters with one output.

    Args:
        num_classes: number of outputs (1 for a binary logit).
        filters: of the first and the second convolution.
        kernel_size: of both convolutions, odd, in pixels.
        dropout: share of values dropped after each convolution, from 0
            to below 1.
        initializer: of all layers but the output, which is always Glorot
            normal; a name of ``INITIALIZERS``. Biases are zero.

    Maps float32 ``[N, 3, 32, 32]`` to ``[N, num_classes]``.

    Raises:
        ValueError: an argument outside of that.

    Source: QuantNET thesis, sections 3.2 and 4.2.1, table 4.1. The two
    2x2 poolings and "same" padding are forced by its parameter count.
    Introduced in chapter 4.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        filters: tuple[int, int] = (32, 64),
        kernel_size: int = 3,
        dropout: float = 0.1,
        initializer: str = "he normal",
    ) -> None:
        super().__init__()
        _check(num_classes, filters, kernel_size, dropout, initializer)
        first, second = filters
        self.initializer = initializer
        self.conv1 = nn.Conv2d(3, first, kernel_size, padding="same")
        self.conv2 = nn.Conv2d(first, second, kernel_size, padding="same")
        self.linear1 = nn.Linear(second * 8 * 8, 128)
        self.linear2 = nn.Linear(128, 16)
        self.output = nn.Linear(16, num_classes)
        self.pool = nn.MaxPool2d(2)
        self.dropout = nn.Dropout(dropout)
        self.relu = nn.ReLU()
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw all weights again; biases become zero."""
        for layer in (self.conv1, self.conv2, self.linear1, self.linear2):
            INITIALIZERS[self.initializer](layer.weight)
        nn.init.xavier_normal_(self.output.weight)
        for module in self.children():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                assert module.bias is not None
                nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        x = self.dropout(self.pool(self.relu(self.conv1(x))))
        x = self.dropout(self.pool(self.relu(self.conv2(x))))
        x = self.relu(self.linear1(torch.flatten(x, 1)))
        x = self.relu(self.linear2(x))
        return self.output(x)


def _check(
    num_classes: int,
    filters: tuple[int, int],
    kernel_size: int,
    dropout: float,
    initializer: str,
) -> None:
    if num_classes < 1:
        raise ValueError(f"num_classes is {num_classes}; give at least 1")
    if len(filters) != 2 or not all(map(_counts, filters)):
        raise ValueError(
            f"filters={filters}: give two whole numbers of 1 or more, one "
            "for each convolution"
        )
    # An even kernel has no middle: "same" padding would shift the image.
    if not _counts(kernel_size) or kernel_size % 2 == 0:
        raise ValueError(f"kernel_size={kernel_size}: give 1, 3, 5, 7 ...")
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout={dropout}: give 0 or more, below 1")
    if initializer not in INITIALIZERS:
        raise ValueError(
            f"initializer {initializer!r}; choose of {list(INITIALIZERS)}"
        )


def _counts(value: object) -> bool:
    return isinstance(value, int) and value >= 1
