"""Weights of few bits: levels by hand, errors, gradients, promises."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils import parametrize

from lq_utils.grids import GridError
from lq_utils.learned_step import LearnedStep
from lq_utils.low_bit import (
    BinaryConnect,
    LowBit,
    Ternary,
    clip_latent,
    low_bit_layers,
)
from lq_utils.low_bit_base import LowBitWeight
from lq_utils.parametrizations import CompressionError
from lq_utils.registry import UnknownName
from lq_utils.stacks import latent_weight, strip

LEVELS = {
    1: [-1, 1],
    2: [-1, -1 / 3, 1 / 3, 1],
    3: [k / 7 for k in range(-7, 8, 2)],
    4: [k / 15 for k in range(-15, 16, 2)],
}


def gaussian(sigma: float = 0.2, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return sigma * torch.randn(500, 400, generator=generator)


def thesis(w: Tensor, bits: int, clip: float = 1.0) -> Tensor:
    """The formulas as they are written down, one weight after another."""
    values = w.flatten().double().tolist()
    mean = math.fsum(values) / len(values)
    centred = [min(max(v - mean, -clip), clip) for v in values]
    alpha = math.fsum(map(abs, centred)) / len(values)
    top = 2**bits - 1
    levels = []
    for c in centred:
        k = math.floor((c / clip + 1) * top / 2 + 0.5)
        levels.append((2 * min(max(k, 0), top) - top) / top)
    return alpha * torch.tensor(levels, dtype=torch.float64).view(w.shape)


@pytest.mark.parametrize("bits", [1, 2, 3, 4])
@pytest.mark.parametrize("clip", [1.0, 0.5])
def test_the_formulas_of_the_thesis(bits: int, clip: float) -> None:
    w = torch.linspace(-1.4, 1.6, 91).view(7, 13)
    module = LowBit(bits, clip=clip)
    mine = module(w)
    wanted = thesis(w, bits, clip)
    torch.testing.assert_close(mine.double(), wanted, rtol=1e-6, atol=1e-7)
    alpha = module.grid(w).scale.item() * (2**bits - 1)
    found = (mine.unique() / alpha).tolist()
    assert found == pytest.approx(LEVELS[bits], rel=1e-6)


def test_two_bits_by_hand() -> None:
    # The mean is 0.1; W0 is 0.9, -0.3, -0.7, 0.1 and alpha 2 / 4.
    w = torch.tensor([[1.0, -0.2], [-0.6, 0.2]])
    module = LowBit(2)
    wanted = 0.5 * torch.tensor([[1, -1 / 3], [-1, 1 / 3]])
    torch.testing.assert_close(module(w), wanted)
    assert module.codes(w).tolist() == [[3, 1], [0, 2]]
    # <D, W0> = 0.9 + 0.1 + 0.7 + 1/30; <D, D> = 2 + 2/9.
    alpha = (1.7 + 0.1 / 3) / (2 + 2 / 9)
    found = 3 * LowBit(2, "ls").grid(w).scale
    assert found.item() == pytest.approx(alpha)
    # Of the range [-0.9, 0.9]: borders at -0.6, 0 and 0.6.
    absmax = LowBit(2, "absmax")
    torch.testing.assert_close(absmax(w), 1.8 * wanted)
    assert absmax.codes(w).tolist() == [[3, 1], [0, 2]]


def test_channels_have_means_and_scales_of_their_own() -> None:
    w = torch.tensor([[3.0, 1.0], [0.0, -0.2]])
    found = LowBit(1, granularity="channel")(w)
    torch.testing.assert_close(found, torch.tensor([[1, -1], [0.1, -0.1]]))
    kernel = w.view(2, 2, 1, 1)
    same = LowBit(1, granularity="channel")(kernel)
    assert torch.equal(same.flatten(1), found)


# For a Gaussian of sigma 0.2: with one bit 1 - 2/pi.
ERRORS = [
    (1, "l1", 1 - 2 / math.pi, 0.003),
    (1, "ls", 1 - 2 / math.pi, 0.003),
    (2, "l1", 0.643, 0.003),
    (2, "ls", 0.357, 0.003),
    (4, "l1", 0.707, 0.003),
    (4, "ls", 0.036, 0.001),
]


@pytest.mark.parametrize(("bits", "mode", "error", "tolerance"), ERRORS)
def test_relative_errors_of_a_gaussian(
    bits: int, mode: str, error: float, tolerance: float
) -> None:
    w = gaussian()
    difference = LowBit(bits, mode)(w) - w
    found = (difference.square().mean() / w.square().mean()).item()
    assert found == pytest.approx(error, abs=tolerance)


@pytest.mark.parametrize("bits", [1, 2, 3])
def test_least_squares_scale_is_the_least(bits: int) -> None:
    w = gaussian(0.4, seed=3)
    w0 = (w - w.mean()).clamp(-1, 1).double()
    values = LowBit(bits, "ls")(w).double()
    best = (values - w0).square().sum()
    for factor in (0.99, 1.01):
        assert (factor * values - w0).square().sum() > best


def test_gradients_pass_inside_of_the_clip_range_only() -> None:
    w = torch.tensor([[1.5, 0.4, -0.4, -1.5]], requires_grad=True)
    gradient = torch.tensor([[1.0, 2.0, 3.0, 4.0]])
    for mode in ("l1", "ls", "absmax"):
        w.grad = None
        LowBit(2, mode)(w).backward(gradient)
        assert w.grad.tolist() == [[0.0, 2.0, 3.0, 0.0]]
    w.grad = None
    LowBit(1, clip=1.5)(w).backward(gradient)
    assert torch.equal(w.grad, gradient)
    w.grad = None
    BinaryConnect()(w).backward(gradient)
    assert w.grad.tolist() == [[0.0, 2.0, 3.0, 0.0]]
    w.grad = None
    Ternary()(w).backward(gradient)
    assert torch.equal(w.grad, gradient)


def test_binary_connect() -> None:
    w = torch.tensor([[0.3, -0.0, -1e-30, -0.9]])
    assert BinaryConnect()(w).tolist() == [[1, 1, -1, -1]]
    module = BinaryConnect(stochastic=True)
    w = torch.tensor([-1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0])
    torch.manual_seed(0)
    drawn = module(w.expand(20_000, -1))
    assert set(drawn.unique().tolist()) == {-1.0, 1.0}
    share = (drawn > 0).double().mean(dim=0)
    wanted = torch.tensor([0, 0, 0.25, 0.5, 0.75, 1, 1]).double()
    # Four standard errors of 20,000 draws.
    assert (share - wanted).abs().max() < 4 * 0.5 / 20_000**0.5
    assert share[[0, 1, 5, 6]].tolist() == [0, 0, 1, 1]
    values = module.eval()(w[None])
    assert values.tolist() == [[-1, -1, -1, 1, 1, 1, 1]]


def test_ternary_by_hand() -> None:
    # Mean|w| is 0.5, the threshold 0.35.
    w = torch.tensor([[0.9, -0.3], [-0.7, 0.1]])
    module = Ternary()
    wanted = torch.tensor([[0.8, 0], [-0.8, 0]])
    torch.testing.assert_close(module(w), wanted)
    assert module.codes(w).tolist() == [[2, 1], [0, 1]]
    assert not torch.signbit(module(w)[0, 1])
    rows = Ternary("channel")(torch.tensor([[0.9, -0.3], [0.2, -0.2]]))
    torch.testing.assert_close(rows, torch.tensor([[0.9, 0], [0.2, -0.2]]))


def test_the_gradient_of_a_learned_step_by_hand() -> None:
    w = torch.tensor([[1.0, 0.25, -0.25, -1.0]], requires_grad=True)
    module = LearnedStep(w, 2)
    with torch.no_grad():
        module.factor.fill_(0.1 / module.first_scale.item())
    y = module(w)
    y.backward(torch.tensor([[1.0, 10.0, 100.0, 1000.0]]))
    # Levels 3, 3, -3, -3 times 0.1; cells end at 4 times 0.1.
    torch.testing.assert_close(y, torch.tensor([[0.3, 0.3, -0.3, -0.3]]))
    assert w.grad.tolist() == [[0.0, 10.0, 100.0, 0.0]]
    slope = 3 * 1 + (3 - 2.5) * 10 - (3 - 2.5) * 100 - 3 * 1000
    # Four weights; the outermost level is 1.5 steps away from 0.
    wanted = slope * module.first_scale.item() / (4 * 1.5) ** 0.5
    assert module.factor.grad.item() == pytest.approx(wanted, rel=1e-5)


def test_learned_steps_start_at_the_least_error() -> None:
    # Max 1960: distortion of the best uniform quantizers of a Gaussian.
    for bits, error in ((1, 0.3634), (2, 0.1188), (3, 0.03744)):
        w = gaussian(0.05)
        difference = LearnedStep(w, bits)(w).detach() - w
        found = difference.square().mean() / w.square().mean()
        assert found.item() == pytest.approx(error, rel=0.01)


def every_kind(w: Tensor) -> list[LowBitWeight]:
    kinds: list[LowBitWeight] = [BinaryConnect()]
    for granularity in ("tensor", "channel"):
        kinds.append(Ternary(granularity))
        for bits in (1, 2, 3, 5):
            kinds.append(LearnedStep(w, bits, granularity))
            for mode in ("l1", "ls", "absmax"):
                kinds.append(LowBit(bits, mode, granularity))
    kinds.append(LowBit(3, "ls", quantizer="narrow"))
    return kinds


@settings(max_examples=20)
@given(
    st.lists(
        st.lists(st.floats(-3, 3, width=32), min_size=4, max_size=4),
        min_size=1,
        max_size=4,
    )
)
def test_values_lie_on_the_grid_to_the_bit(x: list[list[float]]) -> None:
    w = torch.tensor(x)
    for module in every_kind(w):
        values, grid = module(w).detach(), module.grid(w)
        codes = module.codes(w)
        assert torch.equal(grid.values(codes), values)
        assert codes.min() >= 0 and codes.max() < module.alphabet.count
        assert torch.equal(grid.values(grid.codes(values)), values)
        assert torch.isfinite(values).all()


@settings(max_examples=20)
@given(
    st.lists(st.floats(-1, 1, width=32), min_size=2, max_size=24),
    st.integers(1, 4),
    st.floats(-2, 2, width=32),
)
def test_a_shift_of_all_weights_changes_hardly_anything(
    x: list[float], bits: int, shift: float
) -> None:
    w = torch.tensor([x], dtype=torch.float64)
    first, second = (LowBit(bits)(v) for v in (w, w + shift))
    # A weight on a border may fall on its other side.
    apart = (first - second).abs() > 1e-6
    centred = (w - w.mean()).abs() * (2**bits - 1) / 2
    assert (centred - centred.round()).abs()[apart].lt(1e-6).all()


def test_weights_that_are_all_the_same_become_negligible() -> None:
    w = torch.full((2, 3), 0.7)
    for mode in ("l1", "ls", "absmax"):
        assert LowBit(2, mode)(w).abs().max() < 1e-29
    assert (Ternary()(torch.zeros(2, 2)) == 0).all()


def test_latent_weights_are_clipped_before_every_step() -> None:
    network = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    parametrize.register_parametrization(network[0], "weight", LowBit(1))
    with torch.no_grad():
        latent_weight(network[0]).fill_(3.0)
        network[2].weight.fill_(3.0)
    assert list(low_bit_layers(network)) == ["0"]
    clip_latent(0.5)(0, network)
    assert (latent_weight(network[0]) == 0.5).all()
    assert (network[2].weight == 3).all()
    with pytest.raises(CompressionError, match="hybrid_network"):
        clip_latent()(0, strip(network))
    with pytest.raises(CompressionError, match="positive"):
        clip_latent(0.0)


def test_refusals_say_what_to_do() -> None:
    for bits in (0, 9, 1.0, None):
        with pytest.raises(CompressionError, match="1 to 8"):
            LowBit(bits)
    with pytest.raises(CompressionError, match="LearnedStep"):
        LowBit(2, "lsq")
    with pytest.raises(CompressionError, match="'channel'"):
        LowBit(2, granularity="group:4")
    for clip in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(CompressionError, match="positive"):
            LowBit(2, clip=clip)
    for name in ("asymmetric", "power-of-two"):
        with pytest.raises(CompressionError, match="full-range"):
            LowBit(2, quantizer=name)
    with pytest.raises(GridError):
        LowBit(1, quantizer="narrow")
    with pytest.raises(UnknownName, match="narrow"):
        LowBit(2, quantizer="narow")
