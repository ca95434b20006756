"""Detectors rounded part by part, without images and without tracing.

A detector's forward pass branches on what it finds, so that no tracer can
follow it. Rounding needs no inputs: the layers alone are enough.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import TypeVar

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from lq_utils.detection_scenes import DetectionError
from lq_utils.graph import LAYER_TYPES, set_weight_matrix, weight_matrix
from lq_utils.grids import Grid, alphabet
from lq_utils.plans import evaluation_tensors
from lq_utils.scales import fit_grid

M = TypeVar("M", bound=nn.Module)

BACKBONE, CLASS_HEAD, BOX_HEAD = "backbone", "class head", "box head"
# What is rounded in each set-up: parts, and the share of their layers,
# counted from the end.
SET_UPS: dict[str, tuple[tuple[str, ...], float]] = {
    "backbone, later half": ((BACKBONE,), 0.5),
    BACKBONE: ((BACKBONE,), 1.0),
    CLASS_HEAD: ((CLASS_HEAD,), 1.0),
    BOX_HEAD: ((BOX_HEAD,), 1.0),
    "everything": ((BACKBONE, CLASS_HEAD, BOX_HEAD), 1.0),
}


def fold_sequences(network: M) -> M:
    """A copy with batch normalisation folded within ``nn.Sequential``.

    Only where it directly follows a convolution there. Source: Jacob et
    al. 2018, section 3.2. Introduced in chapter 7.
    """
    folded = copy.deepcopy(network).eval()
    for module in list(folded.modules()):
        if isinstance(module, nn.Sequential):
            for first, second in pairwise(list(module._modules)):
                conv, norm = module._modules[first], module._modules[second]
                if isinstance(conv, nn.Conv2d) and isinstance(
                    norm, nn.BatchNorm2d
                ):
                    module._modules[first] = fuse_conv_bn_eval(conv, norm)
                    module._modules[second] = nn.Identity()
    return folded


def part_layers(
    network: nn.Module, parts: Mapping[str, str], set_up: str
) -> list[str]:
    """Names of the layers that a set-up of ``SET_UPS`` rounds.

    ``parts`` maps a part to the beginning of its layers' names. Raises
    DetectionError for an unknown set-up, or a part without layers.
    Introduced in chapter 7.
    """
    if set_up not in SET_UPS:
        raise DetectionError(
            f"set-up {set_up!r}: choose one of {', '.join(SET_UPS)}"
        )
    chosen, share = SET_UPS[set_up]
    found: list[str] = []
    for part in chosen:
        names = [
            name
            for name, module in network.named_modules()
            if name.startswith(parts[part]) and isinstance(module, LAYER_TYPES)
        ]
        if not names:
            raise DetectionError(f"no layer's name begins {parts[part]!r}")
        found += names[len(names) - max(1, round(share * len(names))) :]
    return found


@torch.no_grad()
def round_layers(
    network: nn.Module,
    layers: Iterable[str],
    bits: int,
    quantizer: str = "asymmetric",
    granularity: str = "channel",
    scale: str = "max",
) -> dict[str, Grid]:
    """Round the weights of some layers, in place; their grids by name.

    Raises as ``alphabet`` and ``fit_grid``. Introduced in chapter 7.
    """
    letters, grids = alphabet(quantizer, bits), {}
    for name in layers:
        module = network.get_submodule(name)
        weight = weight_matrix(module)
        grids[name] = fit_grid(weight, letters, granularity, scale)
        set_weight_matrix(module, grids[name].round(weight))
    return grids


def stored_bytes(network: nn.Module, grids: Mapping[str, Grid]) -> float:
    """Bytes of a network some of whose layers are rounded.

    Codes packed, scales (and zero points) and all else in what memory
    they take. Introduced in chapter 7.
    """
    total = float(sum(t.nbytes for t in evaluation_tensors(network).values()))
    for name, grid in grids.items():
        weight = weight_matrix(network.get_submodule(name))
        total += weight.numel() * grid.alphabet.code_bits / 8 - weight.nbytes
        each = 8 if grid.alphabet.affine else 4
        total += each * grid.scale.numel()
    return total
