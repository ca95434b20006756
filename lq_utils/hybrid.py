"""Hybrid networks: every layer in a precision of its own, trained so.

Weights of few bits in some layers, and what goes into these layers
quantized to as many bits; the others stay in float32.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import fx, nn
from torch.nn.utils import parametrize

from lq_utils.graph import trace
from lq_utils.hybrid_inputs import InputRule, insert_quantizers, reads_image
from lq_utils.learned_step import LearnedStep
from lq_utils.low_bit import SCALE_MODES, LowBit
from lq_utils.low_bit_base import LowBitWeight
from lq_utils.parametrizations import CompressionError
from lq_utils.plans import LayerPlan, Plan
from lq_utils.registry import did_you_mean
from lq_utils.stacks import clone, latent_weight, layers_of, stack_of

LEARNED = "lsq"
HYBRID_MODES = (*SCALE_MODES, LEARNED)

Precisions = Plan | Mapping[str, int | None]


def hybrid_network(
    network: nn.Module,
    plan: Precisions | None,
    *,
    activations: bool = True,
    activation_clip: float = 1.0,
    activation_scale: bool = False,
    image_activations: bool = False,
    keep_relu: bool = False,
    after_pooling: bool = False,
    scale_mode: str = "l1",
    granularity: str | None = None,
    clip: float = 1.0,
) -> fx.GraphModule:
    """A copy whose layers have the precisions of ``plan``, to be trained.

    Args:
        network: plain weights; the copy starts from them and is in the
            same mode (training or not).
        plan: rows of a plan, or bits by layer; None, and layers without
            bits, stay in float32.
        activations: quantize the inputs of these layers, too, to as many
            bits: clipped to ``activation_clip`` on both sides, signed
            levels, and (``activation_scale``) an ablation with a scale.
            The ReLU that feeds the layer gives way to the quantizer.
        image_activations: quantize the image, too, where it is a layer's
            input. With one bit only pixels above or below the middle grey
            are left; the thesis does not say what it does.
        keep_relu: literally as in the thesis, behind the ReLU: with one
            bit the layer's input is then 1 throughout.
        after_pooling: quantize behind a max-pooling that follows the ReLU:
            the same outputs, other gradients.
        scale_mode, clip: of ``LowBit``; ``"lsq"`` is ``LearnedStep``.
        granularity: ``"tensor"`` or ``"channel"``; None: that of the
            plan's rows, ``"tensor"`` for a mapping.

    Raises:
        CompressionError: an unknown layer or option, bits that do not
            exist, weights that are parametrized already, an input that
            has no sign, or keep_relu with after_pooling.
        TraceError: the network cannot be followed.

    Source: QuantNET thesis, section 3.3. Introduced in chapter 6.
    """
    graph = trace(clone(network))
    rows = _rows(plan, granularity, list(layers_of(graph)))
    for name, row in rows.items():
        layer = layers_of(graph)[name]
        if stack_of(layer):
            raise CompressionError(
                f"the weight of {name} is parametrized already: strip() "
                "the network first"
            )
        module = weight_module(layer, row, scale_mode, clip)
        parametrize.register_parametrization(layer, "weight", module)
    if activations:
        place = _place(keep_relu, after_pooling)
        rules = {
            name: InputRule(
                int(row.bits or 0), activation_clip, activation_scale, place
            )
            for name, row in rows.items()
            if image_activations or not reads_image(graph, name)
        }
        insert_quantizers(graph, rules)
    return graph.train(network.training)


def weight_module(
    layer: nn.Module, row: LayerPlan, scale_mode: str, clip: float
) -> LowBitWeight:
    """What the weight of a layer goes through under a row with bits.

    Raises as ``LowBit``, and CompressionError for an unknown mode.
    Introduced in chapter 6.
    """
    if scale_mode not in HYBRID_MODES:
        raise CompressionError(
            f"scale_mode={scale_mode!r}: choose one of {HYBRID_MODES}"
        )
    bits, shape = int(row.bits or 0), (row.granularity, row.quantizer)
    if scale_mode == LEARNED:
        return LearnedStep(latent_weight(layer), bits, *shape)
    return LowBit(bits, scale_mode, row.granularity, clip, row.quantizer)


def _place(keep_relu: bool, after_pooling: bool) -> str:
    if keep_relu and after_pooling:
        raise CompressionError(
            "keep_relu=True quantizes directly behind the ReLU: leave out "
            "after_pooling"
        )
    if keep_relu:
        return "after relu"
    return "pool" if after_pooling else "relu"


def _rows(
    plan: Precisions | None, granularity: str | None, layers: list[str]
) -> dict[str, LayerPlan]:
    """Rows of the layers that have bits, by layer."""
    if isinstance(plan, Plan):
        rows = list(plan)
    else:
        rows = [
            LayerPlan(name, bits, "full-range", "tensor")
            for name, bits in (plan or {}).items()
        ]
    for row in rows:
        if row.layer not in layers:
            raise CompressionError(
                f"no layer '{row.layer}'{did_you_mean(row.layer, layers)} "
                f"(layers: {', '.join(layers)})"
            )
    return {
        row.layer: LayerPlan(
            row.layer,
            row.bits,
            row.quantizer,
            granularity or row.granularity,
        )
        for row in rows
        if row.bits is not None
    }
