"""Gram matrices: every form equals the products of unfolded patches."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lq_utils import grams
from lq_utils.grams import GramCollector, gram_statistics, patches

LAYERS = {
    "3x3": (nn.Conv2d(8, 5, 3, padding=1), (3, 8, 7, 6)),
    "3x3, width 9": (nn.Conv2d(9, 5, 3, padding=1), (2, 9, 4, 9)),
    "3x3, one row": (nn.Conv2d(8, 5, 3, padding=1), (3, 8, 1, 5)),
    "3x3, one column": (nn.Conv2d(8, 5, 3, padding=1), (2, 8, 2, 1)),
    "few channels": (nn.Conv2d(3, 5, 3, padding=1), (3, 3, 6, 6)),
    "strided": (nn.Conv2d(8, 6, 3, stride=2, padding=1), (3, 8, 7, 6)),
    "no padding": (nn.Conv2d(8, 6, 3), (3, 8, 7, 6)),
    "grouped": (nn.Conv2d(8, 6, 3, padding=1, groups=2), (3, 8, 7, 6)),
    "depthwise, dilated": (
        nn.Conv2d(8, 8, 5, padding="same", dilation=2, groups=8),
        (3, 8, 7, 6),
    ),
    "1x1": (nn.Conv2d(8, 4, 1), (3, 8, 7, 6)),
    "1x1, strided": (nn.Conv2d(8, 4, 1, stride=2), (3, 8, 7, 6)),
    "1x1, padded": (nn.Conv2d(8, 4, 1, padding=1), (3, 8, 3, 3)),
    "reflected": (
        nn.Conv2d(8, 4, 3, padding=1, padding_mode="reflect"),
        (2, 8, 4, 5),
    ),
    "linear": (nn.Linear(8, 3), (6, 8)),
    "linear on tokens": (nn.Linear(8, 3), (3, 4, 8)),
}


def pair(shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(shape, generator=generator, dtype=torch.float64)
    noise = torch.randn(shape, generator=generator, dtype=torch.float64)
    return x, x + 0.3 * noise


def unfolded(module: nn.Module, x: Tensor) -> Tensor:
    """Patches ``[groups, N, m]`` by torch's own unfold, image by image."""
    if isinstance(module, nn.Linear):
        return x.reshape(-1, x.shape[-1]).T[None]
    mode = module.padding_mode
    around = module._reversed_padding_repeated_twice
    x = F.pad(x, around, mode="constant" if mode == "zeros" else mode)
    columns = [
        F.unfold(
            image[None],
            module.kernel_size,
            dilation=module.dilation,
            stride=module.stride,
        )[0]
        for image in x
    ]
    return torch.cat(columns, dim=1).unflatten(0, (module.groups, -1))


@pytest.mark.parametrize("name", LAYERS)
def test_statistics_are_the_products_of_patches(name: str) -> None:
    module, shape = LAYERS[name]
    x, analog = pair(shape)
    collector = GramCollector(module, 1.0, torch.Generator())
    collector.add(x[:1], analog[:1])
    collector.add(x[1:], analog[1:])
    statistics = collector.statistics()
    p, original = unfolded(module, x), unfolded(module, analog)
    torch.testing.assert_close(statistics.hessian, p @ p.mT)
    torch.testing.assert_close(statistics.drift, p @ (original - p).mT)
    assert statistics.rows == p.shape[-1]


@pytest.mark.parametrize("name", LAYERS)
def test_patches_times_weight_is_the_layer(name: str) -> None:
    module, shape = LAYERS[name]
    module = module.double()
    x, _ = pair(shape)
    p = patches(module, x)
    weight = module.weight.flatten(1).unflatten(0, (len(p), -1))
    by_hand = (weight @ p).flatten(0, 1) + module.bias[:, None]
    dim = 1 if isinstance(module, nn.Conv2d) else -1
    y = module(x).movedim(dim, 0).flatten(1)
    torch.testing.assert_close(by_hand, y)


def test_float32_keeps_six_digits() -> None:
    module, shape = nn.Conv2d(16, 4, 3, padding=1), (8, 16, 16, 16)
    x, analog = pair(shape)
    collector = GramCollector(module, 1.0, torch.Generator())
    collector.add(x.float(), analog.float())
    got = collector.statistics()
    p, original = unfolded(module, x), unfolded(module, analog)
    for ours, exact in (
        (got.hessian, p @ p.mT),
        (got.drift, p @ (original - p).mT),
    ):
        worst = (ours - exact).abs().max() / exact.abs().max()
        assert worst < 1e-5


def test_the_same_tensor_twice_has_no_drift() -> None:
    module, shape = LAYERS["3x3"]
    x, _ = pair(shape)
    collector = GramCollector(module, 1.0, torch.Generator())
    collector.add(x, x)
    assert not collector.statistics().drift.any()


@pytest.mark.parametrize("name", ["3x3", "strided", "linear"])
def test_a_fraction_of_the_images(name: str) -> None:
    module, shape = LAYERS[name]
    x, analog = pair((8, *shape[1:]))
    collector = GramCollector(module, 0.25, torch.Generator().manual_seed(1))
    collector.add(x, analog)
    got = collector.statistics()
    drawn = torch.randperm(8, generator=torch.Generator().manual_seed(1))[:2]
    p = unfolded(module, x[drawn])
    torch.testing.assert_close(got.hessian, p @ p.mT)
    assert got.rows == p.shape[-1]


@pytest.mark.parametrize("name", ["3x3", "strided", "linear"])
@pytest.mark.parametrize("at_once", [1, 300, 2**30])
def test_batches_are_joined_and_split(
    name: str, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grams, "AT_ONCE", at_once)
    module, shape = LAYERS[name]
    x, analog = pair((11, *shape[1:]))
    collector = GramCollector(module, 1.0, torch.Generator())
    for part, other in zip(x.split(4), analog.split(4)):
        collector.add(part, other)
    got = collector.statistics()
    p, away = unfolded(module, x), unfolded(module, analog - x)
    torch.testing.assert_close(got.hessian, p @ p.mT)
    torch.testing.assert_close(got.drift, p @ away.mT)
    assert got.rows == p.shape[-1]


@pytest.mark.parametrize("fraction", [0.0, -0.5, 1.5])
def test_an_impossible_fraction_is_refused(fraction: float) -> None:
    with pytest.raises(ValueError, match="patch fraction"):
        GramCollector(nn.Linear(2, 2), fraction, torch.Generator())


def test_nothing_added_is_an_error() -> None:
    collector = GramCollector(nn.Linear(2, 2), 1.0, torch.Generator())
    with pytest.raises(ValueError, match="no batch"):
        collector.statistics()


def test_statistics_of_stored_patches() -> None:
    x, analog = pair((20, 5))
    got = gram_statistics(x, analog)
    torch.testing.assert_close(got.hessian[0], x.T @ x)
    torch.testing.assert_close(got.hessian[0] + got.drift[0], x.T @ analog)
    assert got.rows == 20
