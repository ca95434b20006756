"""Steps of interactive figures on rounding: GPFQ, and levels by bits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from textwrap import wrap

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from lq_utils.alphabets import alphabet
from lq_utils.grids import Grid
from lq_utils.interactive_pieces import Axis, InteractiveError, Layer, Steps
from lq_utils.scales import fit_grid

ROWS = 12  # lines of a table of numbers
BINS = 41
_TONES = ("blue", "vermilion", "green", "purple", "orange", "sky")


def path_following(
    weight: Tensor, quantized: Tensor, inputs: Tensor, neuron: int
) -> pd.DataFrame:
    """Every column of one neuron: what GPFQ is asked for and what it took.

    ``weight`` and ``quantized`` are ``[K, N]``, ``inputs [m, N]`` feed
    both networks. Columns: ``column`` from 1, ``weight``, ``asked`` (the
    value that would undo most of the error so far), ``level`` (of
    ``quantized``) and ``error``, the norm of the neuron's error.

    Source: Lybrand and Saab 2021, section 3. Introduced in chapter 3.
    """
    w, q = (part[neuron].double().numpy() for part in (weight, quantized))
    x = inputs.double().numpy()
    away = np.zeros(len(x))
    rows = []
    for t in range(len(w)):
        column = x[:, t]
        away = away + w[t] * column
        square = column @ column
        asked = column @ away / square if square > 0 else w[t]
        away = away - q[t] * column
        rows.append((t + 1, w[t], asked, q[t], np.linalg.norm(away)))
    names = ["column", "weight", "asked", "level", "error"]
    return pd.DataFrame(rows, columns=names)


def gpfq_steps(
    weight: Tensor,
    quantized: Tensor,
    inputs: Tensor,
    grid: Grid,
    neuron: int = 0,
    most: int = 300,
) -> Steps:
    """One neuron of GPFQ, column by column, beside plain rounding.

    ``weight`` and ``quantized [K, N]``, ``inputs [m, N]``; ``grid`` is
    the one both round to. At most ``most`` columns are shown.

    Raises InteractiveError for a neuron that the layer does not have.

    Introduced in chapter 3.
    """
    if not 0 <= neuron < len(weight):
        raise InteractiveError(
            f"neuron={neuron}: the layer has neurons 0 to {len(weight) - 1}"
        )
    nearest = grid.round(weight)
    own = path_following(weight, quantized, inputs, neuron)[:most]
    plain = path_following(weight, nearest, inputs, neuron)[:most]
    own = own.assign(nearest=plain["level"], plain=plain["error"])
    words = [_gpfq_words(row) for row in own.to_dict("records")]
    frames = pd.DataFrame({"label": own["column"].astype(str), "words": words})
    column = Axis("columns quantized")
    return Steps(
        "Column",
        frames,
        [
            (column, Axis("norm of the error", zero=True)),
            (column, Axis("value")),
        ],
        [*_errors(own), *_choices(own)],
        own.iloc[_spread(len(own))].rename(columns=_GPFQ_NAMES),
    )


_GPFQ_NAMES = {
    "asked": "best real value",
    "level": "level of GPFQ",
    "error": "error of GPFQ",
    "nearest": "nearest level",
    "plain": "error of rounding",
}


def _gpfq_words(row: Mapping[str, float]) -> str:
    return (
        f"Column {row['column']:.0f}: the weight is {row['weight']:.3f}. To "
        f"undo the error so far, {row['asked']:.3f} would be best; GPFQ "
        f"takes the level {row['level']:.3f}, plain rounding "
        f"{row['nearest']:.3f}. Error so far: {row['error']:.3g} with GPFQ, "
        f"{row['plain']:.3g} with plain rounding."
    )


def _errors(own: pd.DataFrame) -> list[Layer]:
    x, gpfq, plain = (own[c].to_numpy() for c in ("column", "error", "plain"))
    blue, red = ("blue", "GPFQ"), ("vermilion", "plain rounding")
    return [
        Layer("line", x, gpfq, "blue", faint=True),
        Layer("line", x, plain, "vermilion", faint=True),
        Layer("line", x, gpfq, *blue, when="grow"),
        Layer("line", x, plain, *red, when="grow"),
        Layer("dots", x, gpfq, *blue, when="now"),
        Layer("dots", x, plain, *red, when="now", shape=1),
    ]


def _choices(own: pd.DataFrame) -> list[Layer]:
    x = own["column"].to_numpy()
    looks = {
        "level": ("blue", "level taken", 1),
        "weight": ("ink", "weight", 0),
        "asked": ("green", "best real value", 2),
    }
    layers = [
        Layer(
            "dots", x, own["level"].to_numpy(), when="grow", panel=1,
            faint=True, shape=1,
        )
    ]  # fmt: skip
    for key, (tone, name, shape) in looks.items():
        y = own[key].to_numpy()
        look = {"when": "now", "panel": 1, "shape": shape}
        layers.append(Layer("dots", x, y, tone, name, **look))  # type: ignore[arg-type]
    return layers


def _spread(count: int) -> np.ndarray:
    """At most ROWS places from first to last."""
    return np.unique(np.linspace(0, count - 1, ROWS).astype(int))


def grid_errors(
    weight: Tensor, quantizers: Sequence[str], bits: Sequence[int]
) -> pd.DataFrame:
    """Levels and error of each quantizer, one scale for the weight.

    ``weight [K, N]``; the scale of each grid fits the largest weight.
    Columns: ``quantizer``, ``bits``, ``levels`` (float64 ``[L]``) and
    ``error``, squared errors over squared weights.

    Raises GridError for a quantizer that has no such number of bits.

    Introduced in chapter 7.
    """
    rows = []
    for name in quantizers:
        for b in bits:
            grid = fit_grid(weight, alphabet(name, b), "tensor")
            levels = grid.alphabet.levels().double() - grid.zero_point.double()
            values = (levels * grid.scale.double()).flatten()
            lost = (weight - grid.round(weight)).double().square().sum()
            share = float(lost / weight.double().square().sum())
            rows.append((name, b, values.numpy(), share))
    names = ["quantizer", "bits", "levels", "error"]
    return pd.DataFrame(rows, columns=names)


def bit_steps(
    weight: Tensor,
    quantizers: Mapping[str, str],
    bits: Sequence[int] = (2, 3, 4, 5, 6, 7, 8),
) -> Steps:
    """A slider over bits: a layer's weights, and the levels they get.

    ``weight [K, N]``; ``quantizers`` maps names of alphabets to what the
    reader calls them.

    Raises GridError as :func:`grid_errors` does.

    Introduced in chapter 7.
    """
    found = grid_errors(weight, list(quantizers), bits)
    # One grid has a level more below zero, beyond the largest weight.
    ends = [np.abs(levels).max() for levels in found["levels"]]
    far = 1.05 * max(float(weight.abs().max()), *ends)
    value = Axis("weight", limits=(-far, far))
    # Long names stand on several lines.
    shown = tuple("\n".join(wrap(n, 10)) for n in quantizers.values())
    panels = [
        (value, Axis("weights", zero=True)),
        (value, Axis("", names=shown)),
        (Axis("bits"), Axis("squared error / weights", log=True)),
    ]
    layers = [_histogram(weight, far)]
    for k, (key, name) in enumerate(quantizers.items()):
        own = found[found["quantizer"] == key]
        layers += _levels(own, k, name)
    words = [_bit_words(b, found, quantizers) for b in bits]
    labels = [str(b) for b in bits]
    table = found.assign(quantizer=found["quantizer"].map(dict(quantizers)))
    numbers = table.pivot(index="bits", columns="quantizer", values="error")
    frames = pd.DataFrame({"label": labels, "words": words})
    return Steps("Bits a weight", frames, panels, layers, numbers)


def _histogram(weight: Tensor, far: float) -> Layer:
    counts = torch.histc(weight.float(), BINS, -far, far)
    width = 2 * far / BINS
    middles = -far + width * (np.arange(BINS) + 0.5)
    return Layer("bars", middles, counts.numpy(), "grey", width=width)


def _levels(own: pd.DataFrame, k: int, name: str) -> list[Layer]:
    """Levels at each step in the second panel, errors in the third."""
    tone = _TONES[k % len(_TONES)]
    layers = [
        Layer("ticks", x, np.full(len(x), k), tone, name, i, 1)
        for i, x in enumerate(own["levels"])
    ]
    bits, error = own["bits"].to_numpy(), own["error"].to_numpy()
    return [
        *layers,
        Layer("line", bits, error, tone, name, panel=2),
        Layer("dots", bits, error, tone, name, "now", 2, shape=k % 6),
    ]


def _bit_words(
    bits: int, found: pd.DataFrame, quantizers: Mapping[str, str]
) -> str:
    own = found[found["bits"] == bits]
    parts = [
        f"{quantizers[row['quantizer']]}, {len(row['levels'])} levels, "
        f"{row['error']:.2%}"
        for row in own.to_dict("records")
    ]
    return f"{bits} bits. Squared error over weights: {'; '.join(parts)}."
