"""What a quantized network's file holds, and the way back from it.

Flat tensors (codes, scales, zero points, centroids, the rest by type) and
a header of plain values; the architecture is built anew from its name.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, fx, nn

from lq_utils.artifact_grids import (
    Reader,
    alphabet_from_list,
    alphabet_to_list,
    grid_to_list,
    take_grid,
    take_weight,
)
from lq_utils.bounded_models import build_bounded
from lq_utils.graph import (
    fold_batch_norm,
    set_weight_matrix,
    trace,
    weight_matrix,
)
from lq_utils.grids import GridError
from lq_utils.hybrid_inputs import (
    InputRule,
    input_rules,
    insert_quantizers,
    rules_from_plain,
    rules_to_plain,
)
from lq_utils.models import build_model
from lq_utils.packing import pack
from lq_utils.plans import Plan, evaluation_tensors

if TYPE_CHECKING:
    from lq_utils.lockstep import Quantized


class ArtifactError(ValueError):
    """A network cannot be stored, or a file holds none.

    Introduced in chapter 3.
    """


@dataclass(frozen=True)
class Parts:
    """Content of a file before it is written.

    Introduced in chapter 3.
    """

    tensors: dict[str, Tensor]
    header: dict[str, Any]
    code_bits: int


def _network(
    model: nn.Module, fold: bool, inputs: Mapping[str, InputRule]
) -> fx.GraphModule:
    traced = trace(model)
    traced = fold_batch_norm(traced) if fold else traced
    if inputs:
        insert_quantizers(traced, inputs)
    return traced


def _add_biases(network: fx.GraphModule, layers: list[str]) -> None:
    """Biases for layers that bias correction gave one."""
    for name in layers:
        module = network.get_submodule(name)
        zeros = torch.zeros(weight_matrix(module).shape[0])
        module.bias = nn.Parameter(zeros, requires_grad=False)


def _rest(network: fx.GraphModule, plan: Plan) -> dict[str, Tensor]:
    """Everything but the weights that are stored as codes."""
    coded = {f"{r.layer}.weight" for r in plan if r.bits is not None}
    return {
        name: tensor.detach()
        for name, tensor in evaluation_tensors(network).items()
        if name not in coded
    }


def _layout(network: fx.GraphModule) -> str:
    """Fingerprint of names, shapes and types of all tensors."""
    lines = [
        f"{name} {list(tensor.shape)} {tensor.dtype}"
        for name, tensor in evaluation_tensors(network).items()
    ]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def encode(quantized: Quantized, model_name: str, num_outputs: int) -> Parts:
    """What the file of a quantized network holds: tensors and a header.

    Raises ArtifactError for a network that cannot be made again.

    Introduced in chapter 3.
    """
    network, plan = quantized.model, quantized.plan
    biases = _check_rebuilt(quantized, model_name, num_outputs)
    rows = [row.layer for row in plan if row.bits is not None]
    packed, count = [torch.empty(0, dtype=torch.uint8)], 0
    for name in rows:
        codes, bits = _codes(quantized, name)
        packed.append(pack(codes, bits))
        count += codes.numel() * bits
    grids = [quantized.grids[name] for name in rows]
    own = [grid for grid in grids if grid.alphabet.own]
    scaled = [grid for grid in grids if not grid.alphabet.own]
    affine = [grid for grid in grids if grid.alphabet.affine]
    alphabets = list(dict.fromkeys(grid.alphabet for grid in scaled))
    header = {
        "model": model_name,
        "outputs": num_outputs,
        "fold": quantized.fold,
        "biases": biases,
        "layout": _layout(network),
        "plan": plan.to_text(),
        "alphabets": [alphabet_to_list(a) for a in alphabets],
        "grids": [grid_to_list(grid, alphabets) for grid in grids],
    }
    inputs = input_rules(network)
    if inputs:  # else the file is what it was before they existed
        header["activations"] = rules_to_plain(inputs)
    tensors = {
        "codes": torch.cat(packed),
        "scales": _flat([grid.scale for grid in scaled]),
        "zero_points": _flat([grid.zero_point for grid in affine]),
        "codebooks": _flat([grid.alphabet.levels() for grid in own]),
        **_by_type(_rest(network, plan)),
    }
    return Parts(tensors, header, count)


def _check_rebuilt(
    quantized: Quantized, model_name: str, num_outputs: int
) -> list[str]:
    """Names of added biases; refuses what could not be built again."""
    network = quantized.model
    inputs = input_rules(network)
    model = build_model(model_name, num_outputs)
    rebuilt = _network(model, quantized.fold, inputs)
    missing = [row.layer for row in quantized.plan]
    try:
        missing = [
            name
            for name in missing
            if rebuilt.get_submodule(name).bias is None
            and network.get_submodule(name).bias is not None
        ]
    except AttributeError as error:
        raise ArtifactError(_other_network(model_name, str(error))) from error
    _add_biases(rebuilt, missing)
    if _described(rebuilt) != _described(network):
        raise ArtifactError(
            _other_network(model_name, f"{num_outputs} outputs")
        )
    return missing


def _described(network: fx.GraphModule) -> list[str]:
    """Modules with their settings, code, names and shapes of tensors."""
    # The first line is the class, which copying a graph changes.
    return [*str(network).splitlines()[1:], _layout(network)]


def _other_network(model_name: str, detail: str) -> str:
    return (
        f"this network is not the one that build_model('{model_name}') "
        f"makes ({detail}); give the name and number of outputs it was "
        "built with, or register its architecture with register_model"
    )


def _codes(quantized: Quantized, name: str) -> tuple[Tensor, int]:
    if name not in quantized.grids:
        raise ArtifactError(
            f"layer '{name}' has bits in the plan but no grid; quantize "
            "the network with this plan again"
        )
    grid = quantized.grids[name]
    try:
        codes = grid.codes(weight_matrix(quantized.model.get_submodule(name)))
    except GridError as error:
        raise ArtifactError(f"layer '{name}': {error}") from error
    return codes, grid.alphabet.code_bits


def _flat(tensors: list[Tensor]) -> Tensor:
    parts = [t.detach().float().cpu().reshape(-1) for t in tensors]
    return torch.cat([torch.empty(0), *parts])


def _by_type(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """One flat tensor ``rest.<type>`` of each type, in order."""
    parts: dict[str, list[Tensor]] = {}
    for tensor in tensors.values():
        key = f"rest.{str(tensor.dtype).removeprefix('torch.')}"
        parts.setdefault(key, []).append(tensor.cpu().reshape(-1))
    return {key: torch.cat(found) for key, found in parts.items()}


def decode(
    tensors: dict[str, Tensor], header: dict[str, Any]
) -> fx.GraphModule:
    """The network that ``encode`` took apart, in evaluation mode.

    Raises ValueError where the parts do not fit together.

    Introduced in chapter 3.
    """
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise ValueError(f"'{name}' holds values that are not finite")
    plan = Plan.from_text(header["plan"])
    inputs = rules_from_plain(header.get("activations", {}))
    # A code takes one bit at least, so there are no more weights than this.
    most = sum(
        tensor.numel() * (8 if name == "codes" else 1)
        for name, tensor in tensors.items()
    )
    model = build_bounded(header["model"], header["outputs"], most)
    network = _network(model, header["fold"], inputs)
    _add_biases(network, header["biases"])
    if _layout(network) != header["layout"]:
        raise ValueError("the architecture of that name has changed")
    readers = {name: Reader(tensors, name) for name in tensors}
    alphabets = [alphabet_from_list(a) for a in header["alphabets"]]
    rows = [row.layer for row in plan if row.bits is not None]
    for name, record in zip(rows, header["grids"], strict=True):
        module = network.get_submodule(name)
        columns = weight_matrix(module).shape[1]
        grid = take_grid(readers, alphabets, record, columns)
        set_weight_matrix(module, take_weight(readers, module, grid))
    with torch.no_grad():
        for tensor in _rest(network, plan).values():
            kind = f"rest.{str(tensor.dtype).removeprefix('torch.')}"
            values = readers[kind].take(tensor.numel())
            tensor.copy_(values.reshape(tensor.shape))
    for reader in readers.values():
        reader.finish()
    return network.requires_grad_(False).eval()
