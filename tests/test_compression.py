"""Parametrized weights: gradients by hand, and promises that hold."""

from __future__ import annotations

import copy
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from lq_utils.activation_quantization import (
    QuantizeActivation,
    activation_quantizers,
    quantize_activations,
)
from lq_utils.clustering import ClusteringError
from lq_utils.compression import (
    cluster,
    cluster_preserving,
    fake_quantize,
    prune,
    sparsity_and_cluster_preserving,
    strip,
)
from lq_utils.compression_checks import (
    check_distinct,
    check_sparse,
    layer_values,
    weight_codes,
)
from lq_utils.models import build_model
from lq_utils.parametrizations import (
    Clustered,
    CompressionError,
    FakeQuantize,
    Masked,
)
from lq_utils.registry import UnknownName
from lq_utils.scale_rules import SCALE_RULES, register_scale_rule
from lq_utils.stacks import find, latent_weight, layers_of, stack_of


def tiny(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3),
        nn.ReLU(),
        nn.Conv2d(6, 8, 3),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(32, 10),
        nn.ReLU(),
        nn.Linear(10, 2),
    )


def batch(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(16, 3, 6, 6, generator=generator)
    return x, torch.arange(16) % 2


def train_a_little(model: nn.Module, steps: int = 12) -> None:
    optimizer = torch.optim.Adam(model.parameters(), 0.02, weight_decay=1e-3)
    for step in range(steps):
        x, labels = batch(step)
        loss = nn.functional.cross_entropy(model(x), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def test_clustered_gradients_by_hand():
    w = torch.tensor([0.1, 0.9, 1.2, -0.2], requires_grad=True)
    g = torch.tensor([1.0, 2.0, 4.0, 8.0])
    for gradient, wanted in (("sum", [9.0, 6.0]), ("mean", [4.5, 3.0])):
        module = Clustered(torch.tensor([1.0, 0.0]), gradient)
        w.grad = None
        y = module(w)
        assert y.tolist() == [0.0, 1.0, 1.0, 0.0]
        y.backward(g)
        assert module.codebook.tolist() == [0.0, 1.0]
        assert module.codebook.grad.tolist() == wanted
        assert torch.equal(w.grad, g)


def test_centroids_that_crossed_are_still_found():
    module = Clustered(torch.tensor([0.0, 1.0, 5.0]))
    with torch.no_grad():
        module.codebook.copy_(torch.tensor([2.0, 1.0, -3.0]))
    w = torch.tensor([1.9, 1.1, -9.0, 0.9])
    assert module.assign(w).tolist() == [0, 1, 2, 1]
    assert module(w).tolist() == [2.0, 1.0, -3.0, 1.0]


def test_a_centroid_without_members_has_no_gradient():
    module = Clustered(torch.tensor([0.0, 9.0]), "mean")
    module(torch.tensor([0.1, 0.2], requires_grad=True)).sum().backward()
    assert module.codebook.grad.tolist() == [1.0, 0.0]


def test_the_pinned_centroid_stays_zero():
    module = Clustered(torch.tensor([-1.0, 0.0, 1.0]), pin_zero=True)
    w = torch.tensor([0.0, 0.2, 0.9], requires_grad=True)
    module(w).backward(torch.ones(3))
    assert module.codebook.grad.tolist() == [0.0, 0.0, 1.0]
    with torch.no_grad():
        module.codebook += 0.3
    assert module(torch.zeros(1)).item() == 0.0
    with pytest.raises(CompressionError, match="preserve_zero"):
        Clustered(torch.tensor([1.0, 2.0]), pin_zero=True)


def test_masked_weights_have_no_gradient_and_no_negative_zero():
    w = torch.tensor([-1.0, 2.0], requires_grad=True)
    y = Masked(torch.tensor([False, True]))(w)
    y.sum().backward()
    assert y.tolist() == [0.0, 2.0] and not torch.signbit(y[0])
    assert w.grad.tolist() == [0.0, 1.0]


def test_fake_quantization_by_hand():
    # Three bits, narrow: max|w| = 0.6 is level 3, so the step is 0.2.
    w = torch.tensor([[0.6, -0.29], [0.11, 0.05]], requires_grad=True)
    module = FakeQuantize(3)
    y = module(w)
    wanted = torch.tensor([[0.6, -0.2], [0.2, 0.0]])
    torch.testing.assert_close(y, wanted)
    y.sum().backward()
    assert torch.equal(w.grad, torch.ones(2, 2))
    assert module.codes(w).tolist() == [[6, 2], [4, 3]]
    by_row = FakeQuantize(3, "channel")(w)
    torch.testing.assert_close(by_row[1], torch.tensor([0.11, 0.11 / 3]))


@pytest.fixture
def quarter_rule():
    """A scale rule that clips: a quarter of max|w|."""

    @register_scale_rule("quarter", replace=True)
    def quarter(rows, fit):
        edge = rows.abs().amax(dim=1) / 4
        return -edge, edge

    yield "quarter"
    SCALE_RULES._entries.pop("quarter")


def test_clipped_weights_have_no_gradient(quarter_rule):
    w = torch.tensor([[1.0, 1.0, 1.0, -9.0]], requires_grad=True)
    y = FakeQuantize(4, rule=quarter_rule)(w)
    y.sum().backward()
    assert y[0, 3].item() == pytest.approx(-2.25)
    assert w.grad.tolist() == [[1.0, 1.0, 1.0, 0.0]]


@settings(max_examples=30)
@given(
    st.lists(st.floats(-9, 9, width=32), min_size=2, max_size=24),
    st.integers(2, 8),
    st.sampled_from(["narrow", "symmetric", "mid-tread", "asymmetric"]),
)
def test_max_scales_clip_nothing_and_round_to_half_a_step(x, bits, name):
    w = torch.tensor([x], requires_grad=True)
    module = FakeQuantize(bits, quantizer=name)
    y = module(w)
    step = module.grid(w).scale.item()
    y.sum().backward()
    if name != "asymmetric":  # whose rounded zero point may cut half a step
        assert (w.grad == 1).all()
        assert (y - w).abs().max().item() <= step * 0.5001
    assert len(np.unique(module.codes(w))) <= module.alphabet.count


COMBINATIONS = list(
    product((False, True), (None, 6), (None, ("tensor", 8), ("channel", 4)))
)


@pytest.mark.parametrize(("sparse", "count", "grid"), COMBINATIONS)
@pytest.mark.parametrize("gradient", ["sum", "mean"])
def test_promises_hold_after_training(sparse, count, grid, gradient):
    model = tiny()
    if sparse:
        model = prune(model, 0.6)
    if count:
        model = cluster(model, count, gradient=gradient)
    if grid:
        model = fake_quantize(model, grid[1], granularity=grid[0])
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    train_a_little(model)
    moved = [n for n, p in model.named_parameters() if (p != before[n]).any()]
    assert len(moved) == len(before)
    if sparse:
        check_sparse(model, 0.6)
    if count:
        check_distinct(model, count)
        for layer in layers_of(model).values():
            codes = weight_codes(layer)
            if grid == ("tensor", 8):
                integers = (codes - 127).to(torch.int8)
                assert len(integers.unique()) <= count
                assert len(layer.weight.unique()) <= count
            if grid == ("channel", 4):
                for channel in codes - 7:
                    assert len(channel.unique()) <= count
    x, _ = batch()
    plain = strip(model)
    assert torch.equal(plain(x), model(x))
    assert not any("parametrizations" in n for n in plain.state_dict())
    assert set(plain.state_dict()) == set(tiny().state_dict())


def test_codes_are_what_the_weights_are():
    model = fake_quantize(tiny(), 5, granularity="mixed")
    for layer in layers_of(model).values():
        quantize = find(layer, FakeQuantize)
        scale = quantize.grid(latent_weight(layer)).scale
        integers = (weight_codes(layer) - 15).flatten(1)
        wanted = integers.float() * scale
        torch.testing.assert_close(layer.weight.flatten(1), wanted)
    kinds = [
        find(x, FakeQuantize).granularity for x in layers_of(model).values()
    ]
    assert kinds == ["channel", "channel", "tensor", "tensor"]


def test_preserving_clusters_of_a_stripped_network():
    clustered = cluster(tiny(), 6)
    train_a_little(clustered, 3)
    for start in (clustered, strip(clustered)):
        model = cluster_preserving(start, 8)
        book = find(model[2], Clustered).codebook.detach()
        assert torch.equal(book, clustered[2].weight.detach().unique())
        train_a_little(model)
        check_distinct(model, 6)


def test_preserving_sparsity_too():
    start = strip(cluster(prune(tiny(), 0.5), 6))
    model = sparsity_and_cluster_preserving(start, 8)
    zeros = {n: x.weight == 0 for n, x in layers_of(start).items()}
    assert find(model[2], Clustered).pins_zero
    train_a_little(model)
    check_distinct(model, 6)
    for name, layer in layers_of(model).items():
        assert (layer.weight[zeros[name]] == 0).all()


def test_many_values_are_quantized_without_clusters():
    model = cluster_preserving(nn.Sequential(nn.Linear(50, 50)), 8)
    assert [type(m) for m in stack_of(model[0])] == [FakeQuantize]


def test_small_layers_are_skipped_as_in_the_source():
    model = build_model("quantnet", 1)
    clustered = cluster(model, 16, method="density")
    assert find(clustered.output, Clustered) is None
    assert find(clustered.linear2, Clustered).count == 16
    every = cluster(model, 16, method="density", skip_small=False)
    assert find(every.output, Clustered).count == 16
    named = cluster(model, 16, method="density", skip=["linear1"])
    assert find(named.linear1, Clustered) is None


def test_the_original_is_untouched_whatever_is_done_to_copies():
    model = cluster(tiny(), 6)
    weight = model[2].weight.detach().clone()
    strip(model)
    fake_quantize(model, 4)
    strip(fake_quantize(copy.deepcopy(model), 4))
    assert torch.equal(model[2].weight, weight)
    assert len(stack_of(model[2])) == 1
    train_a_little(model, 1)


def test_the_order_is_enforced():
    clustered = cluster(tiny(), 6)
    with pytest.raises(CompressionError, match="0 is Clustered already"):
        prune(clustered, 0.5)
    with pytest.raises(CompressionError, match="strip"):
        cluster(clustered, 4)
    quantized = fake_quantize(tiny(), 4)
    with pytest.raises(CompressionError, match="FakeQuantize"):
        cluster(quantized, 4)


def test_broken_promises_name_layer_and_count():
    model = cluster(tiny(), 6)
    with pytest.raises(
        CompressionError, match="0 has 6 distinct values, 5 allowed"
    ):
        check_distinct(model, 5)
    rows = layer_values(cluster(tiny(), 6, skip=["7"])).set_index("layer")
    assert rows.distinct.tolist() == [6, 6, 6, 20]
    assert rows.parameters.tolist() == [162, 432, 320, 20]
    assert rows.codes.isna().all()


def test_bad_input():
    with pytest.raises(CompressionError, match="skip names 'conv'"):
        cluster(tiny(), 4, skip=["conv"])
    with pytest.raises(ClusteringError, match="from 1 to"):
        cluster(tiny(), 0)
    with pytest.raises(CompressionError, match="gradient"):
        cluster(tiny(), 4, gradient="average")
    with pytest.raises(CompressionError, match="granularity"):
        fake_quantize(tiny(), 4, granularity="row")
    with pytest.raises(UnknownName, match="narrow"):
        fake_quantize(tiny(), 4, quantizer="narow")
    with pytest.raises(CompressionError, match="finite"):
        Clustered(torch.tensor([torch.nan]))
    with pytest.raises(CompressionError, match="bool"):
        Masked(torch.ones(2))


def test_activations_by_hand():
    module = QuantizeActivation(2)
    with pytest.raises(CompressionError, match="calibrate"):
        module(torch.ones(1))
    module.observing = True
    module(torch.tensor([0.5, -1.0]))
    module(torch.tensor([2.0]))
    module.observing = False
    assert (module.scale, module.zero_point) == (1.0, 1)
    x = torch.tensor([-7.0, -0.6, 0.0, 1.4, 2.4, 9.0], requires_grad=True)
    y = module(x)
    assert y.tolist() == [-1.0, -1.0, 0.0, 1.0, 2.0, 2.0]
    y.sum().backward()
    assert x.grad.tolist() == [0.0, 1.0, 1.0, 1.0, 1.0, 0.0]
    with pytest.raises(CompressionError, match="1 to 16"):
        QuantizeActivation(0)


def test_every_call_of_a_relu_has_its_own_range():
    model = build_model("quantnet", 1).eval()
    x = torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    seen: list[float] = []
    handle = model.relu.register_forward_hook(
        lambda module, args, output: seen.append(output.max().item())
    )
    model(x)
    handle.remove()
    for start in (
        model,
        fake_quantize(model, 8),
        cluster(model, 4, method="linear"),
    ):
        quantized = quantize_activations(start, x, 8)
        found = activation_quantizers(quantized)
        assert len(found) == 4 and not quantized.training
        if start is model:
            highs = [float(m.high) for m in found.values()]
            np.testing.assert_allclose(highs, seen, rtol=1e-5)
            gap = (quantized(x) - model(x)).abs().max()
            assert 0 < gap < 0.1 * model(x).abs().max()
        assert all(m.zero_point == 0 for m in found.values())
        plain = strip(quantized)
        assert torch.equal(plain(x), quantized(x))
    # Weights after activations, and a step of training with both.
    both = fake_quantize(quantize_activations(model.train(), x, 4), 4)
    assert both.training
    both(x).square().mean().backward()
    assert latent_weight(both.conv1).grad.abs().sum() > 0


def test_nothing_to_quantize():
    with pytest.raises(CompressionError, match="no ReLU"):
        quantize_activations(
            nn.Sequential(nn.Linear(2, 2)), torch.ones(1, 2), 8
        )
    with pytest.raises(CompressionError, match="no images"):
        quantize_activations(tiny(), torch.ones(0, 3, 6, 6), 8)
