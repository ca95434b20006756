"""Plans of hybrid networks, their controls, and two ways to count bits.

The thesis counts every parameter of a quantized layer, bias included, at
the layer's bits; what is stored are kernels at these bits, biases and one
scale a layer at 32.
"""

from __future__ import annotations

import math
import random
from collections import Counter
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


def hybrid_plan(
    model: nn.Module,
    significant: Iterable[str],
    bits: int | None = 2,
    insignificant_bits: int | None = 1,
) -> Plan:
    """Significant layers in ``bits``, the others in fewer.

    The first and the last layer stay in full precision and cannot be
    named. Raises PlanError for such a name or an unknown one.

    Source: QuantNET thesis, section 3.3. Introduced in chapter 6.
    """
    names = [info.name for info in layer_table(model)]
    inner, chosen = names[1:-1], set(significant)
    _check_names(chosen, names)
    if chosen - set(inner):
        raise PlanError(
            f"{', '.join(sorted(chosen - set(inner)))}: the first and the "
            f"last layer stay in full precision; choose of {inner}"
        )
    wanted = {n: bits if n in chosen else insignificant_bits for n in inner}
    return precision_plan(model, wanted)


def random_plans(
    model: nn.Module,
    plan: Plan,
    count: int,
    seed: int,
    among: Iterable[str] | None = None,
) -> list[Plan]:
    """The same bits on other layers: ``count`` different plans, drawn.

    The bits of the layers ``among`` (None: all but the last) change their
    places at random; ``plan`` itself is not among the results. Sizes
    differ where layers do.

    Raises PlanError for an unknown layer, or where fewer such plans exist.
    Introduced in chapter 6.
    """
    plan.validate(model)
    places = [info.name for info in layer_table(model)][:-1]
    if among is not None:
        places = list(among)
        _check_names(places, plan.names())
    given = tuple(plan[name].bits for name in places)
    others = _arrangements(given) - 1
    if count > others:
        raise PlanError(
            f"{count} plans, but the bits {given} have only {others} other "
            "arrangements: ask for fewer, or name more layers in among"
        )
    drawn, found = random.Random(seed), [given]
    while len(found) <= count:
        order = tuple(drawn.sample(given, len(given)))
        if order not in found:
            found.append(order)
    return [
        _with_bits(plan, dict(zip(places, order, strict=True)))
        for order in found[1:]
    ]


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


def _arrangements(bits: tuple[int | None, ...]) -> int:
    """Number of different orders of these bits."""
    total = math.factorial(len(bits))
    for times in Counter(bits).values():
        total //= math.factorial(times)
    return total


def _with_bits(plan: Plan, bits: Bits) -> Plan:
    for name, b in bits.items():
        plan = plan.override(name, bits=b)
    return plan


def _check_names(names: Iterable[str], known: Iterable[str]) -> None:
    known = list(known)
    for name in names:
        if name not in known:
            raise PlanError(
                f"no layer '{name}'{did_you_mean(name, known)} (layers: "
                f"{', '.join(known)})"
            )
