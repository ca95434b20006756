"""Which layer gets how many bits: the exact answer under a budget.

One choice a layer, least total cost, total size within the budget: a
multiple-choice knapsack. Layer after layer, of all partial choices those
are kept that no other beats in both size and cost. What is left at the end
holds the optimum, for any costs; nothing is scaled or rounded.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from torch import nn

from lq_utils.artifact import size_report
from lq_utils.data_free import round_weights
from lq_utils.graph import LayerInfo, layer_table
from lq_utils.layer_rounding import data_free_row
from lq_utils.plan_rows import LayerPlan
from lq_utils.plans import FLOAT_BITS, Plan
from lq_utils.scales import scale_shape


class AllocationError(ValueError):
    """No choice of bits fits the budget, or costs and sizes are wrong.

    Introduced in chapter 9.
    """


def _checked(
    costs: np.ndarray, sizes: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    found, space = np.asarray(costs, np.float64), np.asarray(sizes)
    if found.ndim != 2 or found.shape != space.shape or not found.size:
        raise AllocationError(
            f"costs {list(found.shape)} and sizes {list(space.shape)}: give "
            "two tables [layers, choices] of one shape"
        )
    if not np.isfinite(found).all():
        raise AllocationError("costs hold NaN or infinity")
    if not np.issubdtype(space.dtype, np.integer) or (space < 0).any():
        raise AllocationError("sizes are whole numbers from 0, in bits")
    return found, space.astype(np.int64)


def choose(costs: np.ndarray, sizes: np.ndarray, budget: int) -> np.ndarray:
    """The choice of each layer with the least total cost in the budget.

    Args:
        costs: float ``[L, B]``, of each choice of each layer.
        sizes: int ``[L, B]``, of the same choices, in any one unit.
        budget: what the sizes chosen may add up to, in that unit.

    Returns:
        Int64 ``[L]``, the column chosen for each layer. Exact: of equal
        costs (added up in float64, first layer first) the smaller size.

    Raises:
        AllocationError: even the smallest choices exceed the budget, or
            the tables are not of one shape, finite and whole.

    Source: multiple-choice knapsack, Kellerer, Pferschy and Pisinger
    2004, section 11.5 (dynamic programming with lists). Introduced in
    chapter 9.
    """
    found, space = _checked(costs, sizes)
    if not np.isfinite(budget):
        raise AllocationError(f"a budget of {budget}: give a whole number")
    least = space.min(axis=1)
    if least.sum() > budget:
        raise AllocationError(
            f"the smallest choices take {least.sum()}, {least.sum() - budget}"
            f" more than the budget of {budget}: allow fewer bits, or raise "
            "the budget"
        )
    # What later layers need at least.
    reserve = np.append(np.cumsum(least[::-1])[::-1][1:], 0)
    size, cost = np.zeros(1, np.int64), np.zeros(1)
    steps = []
    for own_cost, own_size, later in zip(found, space, reserve, strict=True):
        all_size = (size[:, None] + own_size).ravel()
        all_cost = (cost[:, None] + own_cost).ravel()
        kept = _front(all_size, all_cost, budget - int(later))
        size, cost = all_size[kept], all_cost[kept]
        steps.append(np.divmod(kept, len(own_cost)))
    return _traced_back(steps)


def _front(size: np.ndarray, cost: np.ndarray, limit: int) -> np.ndarray:
    """Indices that fit and that none beats, by ascending size."""
    order = np.lexsort((cost, size))
    order = order[size[order] <= limit]
    best = np.minimum.accumulate(cost[order])
    # Strictly cheaper than everything that is no larger.
    falls = np.append(True, cost[order][1:] < best[:-1])
    kept: np.ndarray = order[falls]
    return kept


def _traced_back(steps: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """The choices that led to the last, cheapest entry."""
    entry, choices = -1, []
    for parent, choice in reversed(steps):
        choices.append(int(choice[entry]))
        entry = int(parent[entry])
    return np.array(choices[::-1], dtype=np.int64)


def row_bits(row: LayerPlan, info: LayerInfo) -> int:
    """Bits of a layer's weight under its row: codes, scales, zero points.

    A layer in full precision takes 32 a weight. Introduced in chapter 9.
    """
    letters, weights = row.alphabet(), info.rows * info.columns
    if letters is None:
        return FLOAT_BITS * weights
    count = int(np.prod(scale_shape(info.rows, info.columns, row.granularity)))
    numbers = letters.count if letters.own else count * (1 + letters.affine)
    return letters.code_bits * weights + FLOAT_BITS * numbers


def _wide(costs: pd.DataFrame, template: Plan) -> pd.DataFrame:
    """Costs with a row a layer and a column for each number of bits."""
    missing = {"layer", "bits", "cost"} - set(costs.columns)
    if missing or costs.duplicated(["layer", "bits"]).any():
        raise AllocationError(
            "costs need the columns layer, bits and cost, one row for each "
            "layer and number of bits"
        )
    wide = costs.pivot(index="layer", columns="bits", values="cost")
    unknown = [name for name in wide.index if name not in template.names()]
    if unknown:
        raise AllocationError(f"the plan has no row for {', '.join(unknown)}")
    if wide.isna().any(axis=None):
        raise AllocationError(
            "give a cost for every layer at every number of bits, no NaN"
        )
    return wide.loc[[n for n in template.names() if n in wide.index]]


@dataclass(frozen=True)
class _Shelves:
    """What each layer may take, and what all else takes, in bits."""

    template: Plan
    costs: pd.DataFrame  # a row a layer, a column a number of bits
    sizes: np.ndarray  # of the same
    fixed: int

    def plan(self, budget_bits: int) -> Plan:
        """The plan of least cost with ``size_bits`` in the budget."""
        left = budget_bits - self.fixed
        chosen = choose(self.costs.to_numpy(float), self.sizes, left)
        plan = self.template
        for name, k in zip(self.costs.index, chosen, strict=True):
            plan = plan.override(str(name), bits=int(self.costs.columns[k]))
        return plan


def _shelves(
    costs: pd.DataFrame, template: Plan, network: nn.Module
) -> _Shelves:
    wide = _wide(costs, template)
    infos = {info.name: info for info in layer_table(network)}
    fixed, sizes = template.size_bits(network), []
    for name in wide.index:
        row = template[name]
        fixed -= row_bits(row, infos[name])
        sizes.append(
            [
                row_bits(replace(row, bits=int(b)), infos[name])
                for b in wide.columns
            ]
        )
    return _Shelves(template, wide, np.array(sizes), fixed)


def allocated_plan(
    costs: pd.DataFrame, template: Plan, network: nn.Module, budget_bits: int
) -> Plan:
    """The plan of least total cost with ``size_bits`` in the budget.

    Args:
        costs: columns ``layer``, ``bits``, ``cost``, such as from
            ``sensitivity_costs``; every layer at the same bits.
        template: rows that get the bits. Layers without costs keep
            theirs.
        network: what the plan is for.
        budget_bits: what ``plan.size_bits(network)`` may be at most.

    Raises:
        AllocationError: even the fewest bits do not fit (it says by how
            much), or costs that do not fit to the template.
        PlanError: the template does not fit to the network.

    Introduced in chapter 9.
    """
    return _shelves(costs, template, network).plan(budget_bits)


def plan_file_bytes(
    network: nn.Module,
    plan: Plan,
    model_name: str,
    num_outputs: int,
    *,
    fold: bool = True,
) -> int:
    """Bytes of the file of the network under a plan, without calibration.

    They depend on the shapes of layers and on the plan's text alone: the
    weights are rounded without images, the file is the one that
    ``save_quantized`` would write after calibration. (Bias correction
    adds 4 bytes a channel of a layer without bias; folded ones have one.)

    Raises as ``round_weights`` and ``save_quantized``. Introduced in
    chapter 9.
    """
    # The simplest scale rule: all have numbers of one size.
    rough = Plan(tuple(data_free_row(row, "max") for row in plan))
    quantized = round_weights(network, rough, fold)
    true = replace(quantized, plan=plan)
    return size_report(true, model_name, num_outputs)["file_bytes"]


def plan_within_file(
    costs: pd.DataFrame,
    template: Plan,
    network: nn.Module,
    budget_bytes: int,
    model_name: str,
    num_outputs: int,
    *,
    fold: bool = True,
) -> Plan:
    """The plan of least cost whose file, measured, is within the budget.

    Arguments as for :func:`allocated_plan`; ``model_name`` and
    ``num_outputs`` as for ``save_quantized``. The file has a header,
    whose length depends a little on the plan: where the file is too
    long, the budget of the codes is cut by the excess.

    Raises:
        AllocationError: even the fewest bits do not fit; it says by how
            many bytes.

    Introduced in chapter 9.
    """
    shelves = _shelves(costs, template, network)
    fewest, smallest = int(min(shelves.costs.columns)), template
    for name in shelves.costs.index:
        smallest = smallest.override(str(name), bits=fewest)

    def measured(plan: Plan) -> int:
        return plan_file_bytes(
            network, plan, model_name, num_outputs, fold=fold
        )

    least = measured(smallest)
    if least > budget_bytes:
        raise AllocationError(
            f"with {fewest} bits a weight the file has {least} "
            f"bytes, {least - budget_bytes} more than the budget of "
            f"{budget_bytes}: allow fewer bits, raise the budget, or keep "
            "fewer classes"
        )
    lowest = smallest.size_bits(network)
    limit, known = lowest + 8 * (budget_bytes - least), smallest
    excess = least - budget_bytes
    while limit > lowest:
        plan = shelves.plan(limit)
        # A lower limit often gives the same plan, whose file is known.
        if plan != known:
            known, excess = plan, measured(plan) - budget_bytes
        if excess <= 0:
            return plan
        limit -= 8 * excess
    return smallest
