"""Times of binary products: the layers, the columns, the arithmetic."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from lq_utils import binary_timing as timing
from lq_utils.binary_kernel import BinaryError
from lq_utils.models import build_model


def test_shapes_are_read_from_the_network() -> None:
    shapes = timing.layer_shapes(build_model("quantnet", 1))
    assert list(shapes) == ["conv1", "conv2", "linear1", "linear2", "output"]
    kernel = {"size": (3, 3), "padding": 1}
    conv = timing.LayerShape("conv2", (32, 16, 16), 64, **kernel)
    assert shapes["conv2"] == conv and conv.convolution
    linear = timing.LayerShape("linear1", (4096,), 128)
    assert shapes["linear1"] == linear and not linear.convolution


@pytest.mark.parametrize(
    "options",
    [{"groups": 2}, {"dilation": 2}, {"stride": (1, 2)}, {"padding": (0, 1)}],
)
def test_refuses_other_convolutions(options: dict) -> None:
    network = nn.Sequential(nn.Conv2d(4, 4, 3, **options))
    with pytest.raises(BinaryError, match="layer '0' has groups, dilation"):
        timing.layer_shapes(network, (4, 8, 8))
    even = nn.Sequential(nn.Conv2d(4, 4, 2, padding="same"))
    with pytest.raises(BinaryError, match="leave it out"):
        timing.layer_shapes(even, (4, 8, 8))


def test_strides_and_valid_padding() -> None:
    network = nn.Sequential(nn.Conv2d(4, 5, (3, 1), 2, padding="valid"))
    (shape,) = timing.layer_shapes(network, (4, 9, 9)).values()
    assert shape == timing.LayerShape("0", (4, 9, 9), 5, (3, 1), 2, 0)


def test_a_row_a_layer_with_medians_and_spread() -> None:
    shapes = timing.layer_shapes(build_model("quantnet", 1))
    threads = torch.get_num_threads()
    chosen = [shapes[name] for name in ("linear2", "conv2", "conv1")]
    frame = timing.time_binary(chosen, batch=2, runs=3, warm_up=1)
    assert torch.get_num_threads() == threads
    assert frame["layer"].tolist() == ["linear2", "conv2", "conv1"]
    assert frame["batch"].tolist() == [2, 2, 2]
    parts = [
        f"{part}{end}"
        for end in ("_ms", "_iqr_ms")
        for part in ("float", "binary", "packing")
    ]
    assert list(frame.columns[2:]) == [*parts, "ratio", "ratio_packed"]
    assert (frame[parts] >= 0).all().all()
    both = frame["binary_ms"] + frame["packing_ms"]
    assert (frame["float_ms"] / both).tolist() == pytest.approx(
        frame["ratio_packed"].tolist()
    )
    assert (frame["ratio"] > frame["ratio_packed"]).all()


def test_refuses_counts_and_products_that_differ(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shape = timing.LayerShape("layer", (70,), 3)
    for counts in ((0, 1, 0), (1, 0, 0), (1, 1, -1)):
        with pytest.raises(BinaryError, match="give positive"):
            timing.time_binary([shape], *counts)
    wrong = torch.zeros(1, 3, dtype=torch.int32)
    monkeypatch.setattr(timing, "binary_linear", lambda *_: wrong - 1)
    with pytest.raises(BinaryError, match="differs from torch's"):
        timing.time_binary([shape], runs=1)
