"""Fake quantization of activations during training."""

from __future__ import annotations

from contextlib import ExitStack

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from lq_utils.graph import trace
from lq_utils.parametrizations import CompressionError
from lq_utils.stacks import clone

RELUS = (F.relu, F.relu_, torch.relu, torch.relu_, "relu", "relu_")
BATCH = 128


class QuantizeActivation(nn.Module):
    """Activations on 2^b levels of a range that calibration has seen.

    value = scale (code - zero point), codes 0 to 2^b - 1; the range always
    holds 0, which is a level. The gradient goes straight through, but is 0
    outside of the range. Before a range is observed nothing is rounded
    and using it is an error.

    Raises CompressionError for bits other than 1 to 16.
    Source: Jacob et al. 2018, section 2.1. Introduced in chapter 4.
    """

    low: Tensor
    high: Tensor

    def __init__(self, bits: int) -> None:
        super().__init__()
        if not 1 <= bits <= 16:
            raise CompressionError(
                f"{bits} bits: activations take 1 to 16 of them"
            )
        self.bits = bits
        self.observing = False
        self.register_buffer("low", torch.tensor(torch.nan))
        self.register_buffer("high", torch.tensor(torch.nan))

    @property
    def scale(self) -> float:
        """Width of a step, from the range that was observed."""
        if bool(self.low.isnan()):
            raise CompressionError(
                "no range was observed: calibrate the network first"
            )
        # A range of zeros only: any step will do.
        return float(self.high - self.low) / (2**self.bits - 1) or 1.0

    @property
    def zero_point(self) -> int:
        """Code (integer) of the value 0."""
        return round(-float(self.low) / self.scale)

    def forward(self, x: Tensor) -> Tensor:
        if self.observing:
            low, high = x.detach().aminmax()
            # fmin and fmax pass over the NaN of the start.
            self.low.copy_(torch.fmin(self.low, low.clamp(max=0)))
            self.high.copy_(torch.fmax(self.high, high.clamp(min=0)))
            return x
        return torch.fake_quantize_per_tensor_affine(
            x, self.scale, self.zero_point, 0, 2**self.bits - 1
        )

    def extra_repr(self) -> str:
        return f"{self.bits} bits, {float(self.low)} to {float(self.high)}"


def _is_relu(graph: fx.GraphModule, node: fx.Node) -> bool:
    if node.op == "call_module":
        return isinstance(graph.get_submodule(str(node.target)), nn.ReLU)
    return node.target in RELUS


def quantize_activations(
    model: nn.Module, inputs: Tensor, bits: int
) -> fx.GraphModule:
    """A copy that quantizes what every ReLU returns.

    Each call of a ReLU gets a range of its own: the least and largest
    value for ``inputs`` (float32 ``[N, 3, H, W]``, calibration images as
    ``to_input`` makes them). Weights may be parametrized before or after.
    The copy is in the mode (training or not) of ``model``.

    Raises CompressionError where there is no ReLU or no input, TraceError
    for a network that cannot be followed.

    Source: Jacob et al. 2018. Introduced in chapter 4.
    """
    if not len(inputs):
        raise CompressionError("no images to calibrate with: give a few")
    graph = trace(clone(model))
    added = {}
    for node in [n for n in graph.graph.nodes if _is_relu(graph, n)]:
        name = f"{node.name}_quantized"
        added[name] = QuantizeActivation(bits).to(inputs.device)
        graph.add_submodule(name, added[name])
        with graph.graph.inserting_after(node):
            after = graph.graph.call_module(name, (node,))
        node.replace_all_uses_with(
            after, delete_user_cb=lambda user, new=after: user is not new
        )
    if not added:
        raise CompressionError("the network has no ReLU to quantize behind")
    graph.graph.lint()
    graph.recompile()
    calibrate(graph, inputs)
    return graph.train(model.training)


def activation_quantizers(model: nn.Module) -> dict[str, QuantizeActivation]:
    """The activation quantizers of a network by name.

    Introduced in chapter 4.
    """
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, QuantizeActivation)
    }


@torch.no_grad()
def calibrate(model: nn.Module, inputs: Tensor) -> None:
    """Observe all ranges anew, in place, on ``inputs [N, 3, H, W]``.

    Nothing is rounded meanwhile, and dropout is off.
    Introduced in chapter 4.
    """
    was_training = model.training
    model.eval()
    with ExitStack() as stack:
        for module in activation_quantizers(model).values():
            module.low.fill_(torch.nan)
            module.high.fill_(torch.nan)
            module.observing = True
            stack.callback(setattr, module, "observing", False)
        for batch in inputs.split(BATCH):
            model(batch)
    model.train(was_training)
