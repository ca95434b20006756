"""Plans of hybrid networks, and two ways to count their bits.

The thesis counts every parameter of a quantized layer, bias included, at
the layer's bits; what is stored are kernels at these bits, biases and one
scale a layer at 32.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from torch import nn

from lq_utils.graph import layer_info, layer_table
from lq_utils.plans import FLOAT_BITS, LayerPlan, Plan, PlanError
from lq_utils.registry import did_you_mean
from lq_utils.stacks import layers_of

Bits = Mapping[str, int | None]

QUANTNET_LAYERS = ("conv1", "conv2", "linear1", "linear2", "output")
# Of conv1, conv2, linear1 and linear2; the output is never quantized.
TABLE_4_7: dict[str, tuple[int | None, ...]] = {
    "fp,fp,fp,fp": (None, None, None, None),
    "fp,1,1,1": (None, 1, 1, 1),
    "1,fp,fp,fp": (1, None, None, None),
    "fp,1,fp,fp": (None, 1, None, None),
    "fp,fp,1,fp": (None, None, 1, None),
    "fp,1,2,2": (None, 1, 2, 2),
}


def low_bit_row(
    layer: str, bits: int | None, granularity: str = "tensor"
) -> LayerPlan:
    """The row of a layer whose weights are trained in few bits.

    Introduced in chapter 6.
    """
    return LayerPlan(layer, bits, "full-range", granularity, "max", "rtn")


def precision_plan(
    model: nn.Module, bits: Bits, granularity: str = "tensor"
) -> Plan:
    """The plan of a network with these bits; None, and layers that are
    not named, in full precision.

    Raises PlanError for an unknown layer or bits that do not exist,
    TraceError for a network that cannot be followed.
    Introduced in chapter 6.
    """
    names = [info.name for info in layer_table(model)]
    _check_names(bits, names)
    rows = [low_bit_row(name, bits.get(name), granularity) for name in names]
    plan = Plan(tuple(rows))
    plan.validate(model)
    return plan


def table_plans() -> dict[str, Plan]:
    """The plans of QuantNET in the thesis's table, by their precisions.

    Keys are the precisions of conv1, conv2, linear1 and linear2, such as
    ``"fp,1,2,2"``; the output layer stays in full precision.

    Source: QuantNET thesis, table 4.7. Introduced in chapter 6.
    """
    return {
        name: Plan(
            tuple(
                low_bit_row(layer, b)
                for layer, b in zip(
                    QUANTNET_LAYERS, (*bits, None), strict=True
                )
            )
        )
        for name, bits in TABLE_4_7.items()
    }


def thesis_bits(model: nn.Module, plan: Plan | Bits) -> int:
    """Bits of a network as the thesis counts them.

    Weights and biases of a layer take the layer's bits each, whatever is
    in full precision takes 32, scales nothing. An empirical formula: no
    file is that small. Raises PlanError for an unknown layer.

    Source: QuantNET thesis, section 4.2.5, note below table 4.7.
    Introduced in chapter 6.
    """
    return _total(model) - sum(
        (FLOAT_BITS - bits) * sum(p.numel() for p in layer.parameters())
        for layer, bits in _quantized(model, plan)
    )


def kernel_bits(model: nn.Module, plan: Plan | Bits) -> int:
    """Bits of a network whose kernels alone are quantized.

    Biases take 32 bits each, one scale a layer 32 more: what a file
    without its header holds, and ``plan.size_bits(model)`` of a plan with
    one scale a layer. Raises PlanError for an unknown layer.
    Introduced in chapter 6.
    """
    total = _total(model)
    for layer, bits in _quantized(model, plan):
        weights = layer_info("", layer).weights
        total -= (FLOAT_BITS - bits) * weights - FLOAT_BITS
    return total


def thesis_factor(model: nn.Module, plan: Plan | Bits) -> float:
    """How many times smaller a network is by :func:`thesis_bits`.

    Source: QuantNET thesis, table 4.7. Introduced in chapter 6.
    """
    return _total(model) / thesis_bits(model, plan)


def kernel_factor(model: nn.Module, plan: Plan | Bits) -> float:
    """How many times smaller a network is by :func:`kernel_bits`.

    Introduced in chapter 6.
    """
    return _total(model) / kernel_bits(model, plan)


def plan_bits(plan: Plan | Bits) -> dict[str, int | None]:
    """Bits by layer; None in full precision. Introduced in chapter 6."""
    if isinstance(plan, Plan):
        return {row.layer: row.bits for row in plan}
    return dict(plan)


def _total(model: nn.Module) -> int:
    return FLOAT_BITS * sum(p.numel() for p in model.parameters())


def _quantized(
    model: nn.Module, plan: Plan | Bits
) -> list[tuple[nn.Module, int]]:
    layers, bits = layers_of(model), plan_bits(plan)
    _check_names(bits, layers)
    return [(layers[name], b) for name, b in bits.items() if b is not None]


def _check_names(names: Iterable[str], known: Iterable[str]) -> None:
    known = list(known)
    for name in names:
        if name not in known:
            raise PlanError(
                f"no layer '{name}'{did_you_mean(name, known)} (layers: "
                f"{', '.join(known)})"
            )
