"""Reconstruction: rounding learnt by gradient, layer by layer or by blocks.

AdaRound (one layer at a time) and BRECQ (one block at a time), for the
weights only. The walk is that of the lockstep calibration: a block reads
the activations of the partly quantized network, its targets are the
outputs of the original one.
"""

from __future__ import annotations

import copy
import time
from dataclasses import dataclass, field, replace
from typing import Any

import pandas as pd
import torch
from torch import Tensor, fx, nn
from tqdm import tqdm

from lq_utils.adaround import (
    BlockFit,
    ReconstructionError,
    SoftRounding,
    Training,
)
from lq_utils.blocks import Block, layer_blocks, residual_blocks
from lq_utils.grams import Statistics
from lq_utils.graph import (
    fold_batch_norm,
    set_weight_matrix,
    trace,
    weight_matrix,
)
from lq_utils.grids import Grid
from lq_utils.lockstep import Quantized, check_images
from lq_utils.pairs import Pair, Values, run_batches
from lq_utils.plans import Plan
from lq_utils.solvers import dead_columns, solve_layer
from lq_utils.walk import Row

UNITS = {"block": residual_blocks, "layer": layer_blocks}
LAYER_COLUMNS = tuple(Row.__annotations__)
BLOCK_COLUMNS = "block", "layers", "weights", "loss_nearest", "loss", "moved"


@dataclass
class Reconstructed(Quantized):
    """A quantized network; ``blocks`` has one row a block.

    Its layers, its number of weights, the reconstruction loss over all
    calibration images after rounding to nearest and after reconstruction,
    and the share of weights that are not at their nearest level.

    Introduced in chapter 8.
    """

    blocks: pd.DataFrame


def reconstruct(
    model: nn.Module,
    plan: Plan,
    images: Tensor,
    *,
    unit: str = "block",
    steps: int = 2000,
    batch_size: int = 32,
    learning_rate: float = 1e-2,
    warmup: float = 0.2,
    rounding_weight: float = 0.01,
    seed: int = 0,
    fold: bool = True,
    bias_correction: bool = False,
    progress: bool = False,
) -> Reconstructed:
    """Quantize ``model``: learn which weights go down and which up.

    Args:
        model: a network that :func:`lq_utils.graph.trace` can follow; it
            is not changed.
        plan: bits, quantizer, granularity and scale rule of every layer.
            ``"output"`` searches the scales by the layer's output error
            after rounding to nearest. ``solver``, ``polish`` and
            ``options`` play no part.
        images: calibration images, float32 ``[M, channels, height,
            width]``, normalised as the network wants them.
        unit: ``"block"`` (BRECQ) or ``"layer"`` (AdaRound).
        steps: steps of Adam for every unit.
        batch_size: images drawn for a step.
        learning_rate: of Adam, on the variables of the soft rounding;
            the papers take less of it and many more steps.
        warmup: share of the steps without the regulariser.
        rounding_weight: weight of the regulariser in the loss.
        seed: of the order of the images.
        fold: fold batch normalisation into the layers first.
        bias_correction: afterwards, shift each layer's bias so that the
            mean output of every channel is the original one.
        progress: show a progress bar.

    Returns:
        Reconstructed. Every weight of the plan's layers lies on its grid.
        ``layers`` has the columns of the lockstep calibration with the
        same ``relative_error``; the seconds of a unit are split among its
        layers by their numbers of weights. A unit whose loss over all
        images did not get better keeps its weights rounded to nearest.

    Raises:
        ReconstructionError: an alphabet without one step, an option out
            of range, or a layer that does not see every image by itself.
        TraceError: the network cannot be followed or cut.
        PlanError: the plan does not fit to the network.
        CalibrationError: no images, or values that are not finite.

    Source: Nagel et al. 2020 (AdaRound); Li et al. 2021 (BRECQ), with the
    squared error of the released code. Introduced in chapter 8.
    """
    training = Training(
        steps, batch_size, learning_rate, warmup, rounding_weight
    )
    if unit not in UNITS:
        raise ReconstructionError(f"unit {unit!r}: write 'block' or 'layer'")
    check_images(images)
    # Tensors made in inference mode could not take part in gradients.
    with torch.inference_mode(False), torch.no_grad():
        traced = trace(model)
        traced = fold_batch_norm(traced) if fold else traced
        plan.validate(traced)
        walk = _Walk(traced, plan, training, bias_correction)
        walk.generator.manual_seed(seed)
        walk.run(UNITS[unit](traced), images.clone(), progress)
    layers = pd.DataFrame(
        walk.layer_rows.values(), columns=list(LAYER_COLUMNS)
    )
    table = pd.DataFrame(walk.block_rows, columns=list(BLOCK_COLUMNS))
    return Reconstructed(walk.quantized, walk.grids, plan, layers, fold, table)


@dataclass
class _Walk:
    """State of one reconstruction."""

    original: fx.GraphModule
    plan: Plan
    training: Training
    bias_correction: bool
    generator: torch.Generator = field(default_factory=torch.Generator)
    grids: dict[str, Grid] = field(default_factory=dict)
    layer_rows: dict[str, dict[str, Any]] = field(default_factory=dict)
    block_rows: list[tuple[Any, ...]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.quantized = copy.deepcopy(self.original)
        self.plans = {r.layer: r for r in self.plan if r.bits is not None}

    def run(self, blocks: list[Block], images: Tensor, progress: bool) -> None:
        """Walk over the blocks; results stand in the fields afterwards."""
        given = Values.of(images)
        values: dict[fx.Node, tuple[Values, Values]] = {
            node: (given, given)
            for node in self.original.graph.nodes
            if node.op == "placeholder"
        }
        last = {node: block for block in blocks for node in block.inputs}
        busy = [
            b for b in blocks if not self.plans.keys().isdisjoint(b.layers)
        ]
        total = len(busy) * self.training.steps
        with tqdm(total=total, disable=not progress) as bar:
            for block in blocks:
                analog = [values[node][0] for node in block.inputs]
                source = [values[node][1] for node in block.inputs]
                values[block.output] = self._block(block, analog, source, bar)
                for node in block.inputs:
                    if last[node] is block:
                        del values[node]

    def _block(
        self,
        block: Block,
        analog: list[Values],
        source: list[Values],
        bar: tqdm,
    ) -> tuple[Values, Values]:
        """Outputs of the block in both networks, quantized before."""
        layers = [name for name in block.layers if name in self.plans]
        pair = Pair(block, self.original, self.quantized, layers)
        if layers:
            pair.check(source)
            return self._reconstruct(pair, analog[0], source[0], bar)
        target = run_batches(pair.original, analog)
        if all(a is b for a, b in zip(analog, source)):
            return target, target
        return target, run_batches(pair.quantized, source)

    def _reconstruct(
        self, pair: Pair, analog: Values, source: Values, bar: tqdm
    ) -> tuple[Values, Values]:
        started = time.perf_counter()
        target, statistics, gram_s = pair.statistics(analog, source)
        pair.check([target])
        forward_s = time.perf_counter() - started - sum(gram_s.values())
        started = time.perf_counter()
        self._round(pair, source, target, statistics, bar)
        solve_s = time.perf_counter() - started
        started = time.perf_counter()
        self._measure(pair, analog, source)
        output = run_batches(pair.quantized, [source])
        forward_s += time.perf_counter() - started
        sizes = {
            name: weight_matrix(pair.original.get_submodule(name)).numel()
            for name in pair.layers
        }
        for name, size in sizes.items():
            share = size / sum(sizes.values())
            self.layer_rows[name] |= {
                "forward_s": forward_s * share,
                "gram_s": gram_s[name],
                "solve_s": solve_s * share,
            }
        return target, output

    def _round(
        self,
        pair: Pair,
        source: Values,
        target: Values,
        statistics: dict[str, Statistics],
        bar: tqdm,
    ) -> None:
        """Choose the grids, learn the rounding, replace the weights."""
        weights, nearest = {}, {}
        for name in pair.layers:
            module = pair.quantized.get_submodule(name)
            weights[name] = weight_matrix(module).clone()
            grid, nearest[name] = self._nearest(
                name, weights[name], statistics[name]
            )
            self.grids[name] = grid
        assert source.whole is not None and target.whole is not None
        fit = BlockFit(pair.quantized, source.whole, target.whole)
        learnt, before, after = fit.better_rounding(
            SoftRounding(weights, self.grids),
            nearest,
            self.training,
            self.generator,
            bar.update,
        )
        for name in pair.layers:
            module = pair.quantized.get_submodule(name)
            set_weight_matrix(module, learnt[name])
        moved = sum(int((learnt[n] != nearest[n]).sum()) for n in learnt)
        count = sum(w.numel() for w in weights.values())
        names = ", ".join(pair.layers)
        self.block_rows.append(
            (pair.name, names, count, before, after, moved / count)
        )

    def _nearest(
        self, name: str, weight: Tensor, statistics: Statistics
    ) -> tuple[Grid, Tensor]:
        """Grid of a layer, and its weight rounded to nearest."""
        row = self.plans[name]
        nearest = replace(row, solver="rtn", polish=0, options=())
        grid, rounded = solve_layer(weight, statistics, nearest)
        self.layer_rows[name] = {
            "layer": name,
            "bits": row.bits,
            "levels": grid.alphabet.count,
            "dead_columns": dead_columns(statistics),
        }
        return grid, rounded

    def _measure(self, pair: Pair, analog: Values, source: Values) -> None:
        """Errors of the layers; corrections of their biases if asked.

        A correction changes what the next layers read, so that each layer
        then takes a pass of its own.
        """
        passes = [pair.layers]
        if self.bias_correction:
            passes = [(name,) for name in pair.layers]
        for layers in passes:
            gaps = pair.output_gaps(analog, source, layers)
            for name, gap in gaps.items():
                row = self.layer_rows[name]
                row["relative_error"] = gap.relative_error()
                if self.bias_correction:
                    gap.correct_bias()
