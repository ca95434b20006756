"""One layer of a network by itself: its inputs, and its output error."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lq_utils.grams import GramCollector, Statistics
from lq_utils.graph import set_weight_matrix, weight_matrix


@dataclass(frozen=True)
class OneLayer:
    """A convolution or linear layer, and what it reads in two networks.

    ``analog`` are its inputs in the original network, ``seen`` in the
    partly quantized one, both ``[M, ...]`` for the same images.

    Introduced in chapter 8.
    """

    module: nn.Module
    analog: Tensor
    seen: Tensor

    @property
    def weight(self) -> Tensor:
        """The original weight as a matrix ``[K, N]``."""
        return weight_matrix(self.module)

    @torch.no_grad()
    def statistics(self) -> Statistics:
        """The Gram matrices that solvers need."""
        collector = GramCollector(self.module, 1.0, torch.Generator())
        collector.add(self.seen, self.analog)
        return collector.statistics()

    def _outputs(self, weight: Tensor, inputs: Tensor) -> Tensor:
        module = copy.deepcopy(self.module)
        set_weight_matrix(module, weight)
        module.register_parameter("bias", None)
        output: Tensor = module(inputs)
        return output

    @torch.no_grad()
    def error(self, quantized: Tensor) -> float:
        """Norm of the change of the output, by the norm of the output.

        ``quantized`` is ``[K, N]`` and reads the drifted inputs; the bias
        plays no part, as in the calibration's ``relative_error``.
        """
        original = self._outputs(self.weight, self.analog)
        gap = original - self._outputs(quantized, self.seen)
        return float(gap.norm() / original.norm())


@torch.no_grad()
def _layer_input(network: nn.Module, layer: str, images: Tensor) -> Tensor:
    seen: list[Tensor] = []
    module = network.get_submodule(layer)
    handle = module.register_forward_pre_hook(
        lambda _, args: seen.append(args[0].clone())
    )
    try:
        network(images)
    finally:
        handle.remove()
    return seen[0]


def one_layer(
    original: nn.Module, quantized: nn.Module, layer: str, images: Tensor
) -> OneLayer:
    """The layer called ``layer`` in both networks, with its inputs.

    ``images`` are float32 ``[M, 3, H, W]``. Batch norms must be folded in
    both networks or in none. Raises AttributeError for an unknown layer.

    Introduced in chapter 8.
    """
    return OneLayer(
        original.get_submodule(layer),
        _layer_input(original, layer, images),
        _layer_input(quantized, layer, images),
    )
