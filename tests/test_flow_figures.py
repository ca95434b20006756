"""The model flow: read from the network and the plan, nothing overlaps."""

from __future__ import annotations

from collections.abc import Iterator

import matplotlib.pyplot as plt
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Annotation, Text
from torch import nn

from lq_utils.figures import COLORS, use_style
from lq_utils.flow_figures import BITS, STAGES, flow_figure
from lq_utils.models import build_model
from lq_utils.plans import Plan, PlanError

DIMENSIONS = {"input": 21.0, "conv1": 26.5, "conv2": 30.1, "linear1": 8.5}


@pytest.fixture(autouse=True)
def style() -> Iterator[None]:
    with plt.rc_context():
        use_style()
        yield
    plt.close("all")


def hybrid() -> tuple[nn.Module, Plan]:
    model = build_model("quantnet", 1)
    plan = Plan.uniform(model, 1).override("linear1", bits=2)
    return model, plan.keep_first_last_full()


def written(fig: Figure) -> list[Text]:
    """Texts of the diagram; arrows are annotations without any."""
    (ax,) = fig.axes
    return [t for t in ax.texts if not isinstance(t, Annotation)]


def test_layers_stages_and_bits() -> None:
    model, plan = hybrid()
    fig = flow_figure(model, plan, DIMENSIONS, threshold=20)
    found = [t.get_text() for t in written(fig)]
    assert tuple(found[: len(STAGES)]) == STAGES
    assert [t for t in found if t in plan.names()] == list(plan.names())
    counts = ["896", "18,496", "524,416", "2,064", "17"]
    assert [t for t in found if t in counts] == counts
    words = ["full precision", "1 bit", "2 bits"]
    found_words = [t for t in found if t in words]
    assert found_words == [words[i] for i in (0, 1, 2, 1, 0)]
    assert "32 × 32 × 32" in found and "64 × 16 × 16" in found
    bold = [t.get_text() for t in written(fig) if t.get_weight() == "bold"]
    assert [t for t in bold if t not in plan.names()] == ["-21.6"]
    assert {"+5.5", "+3.6", "26.5", "8.5"} <= set(found)
    assert "bold: a change by more than 20" in found
    assert "dimension of the images: 21.0" in found
    colours = [p.get_facecolor()[:3] for p in fig.axes[0].patches]
    assert len(colours) == len(STAGES) + 2 * len(plan)
    assert len(set(colours)) == 4
    assert {BITS[bits] for bits in (None, 1, 2)} <= set(COLORS)


def test_without_dimensions() -> None:
    model, plan = hybrid()
    found = [t.get_text() for t in written(flow_figure(model, plan))]
    assert not {"dimension", "change"} & set(found)
    assert "precision" in found


@pytest.mark.parametrize("name", ["quantnet", "resnet20"])
def test_nothing_overlaps_and_nothing_is_cut(name: str) -> None:
    model = build_model(name, 10)
    plan = Plan.uniform(model, 2).keep_first_last_full()
    sizes = dict.fromkeys(plan.names(), 123.4)
    fig = flow_figure(model, plan, {"input": 250.0, **sizes}, threshold=20)
    fig.draw_without_rendering()
    boxes = [t.get_window_extent() for t in written(fig)]
    for i, box in enumerate(boxes):
        assert not box.count_overlaps(boxes[:i]), written(fig)[i]
        inside = fig.bbox.count_contains(box.get_points())
        assert inside == 2, written(fig)[i]
    # A text that begins in a box ends in it.
    frames = [p.get_window_extent() for p in fig.axes[0].patches]
    for text, box in zip(written(fig), boxes, strict=True):
        for frame in frames:
            if frame.count_overlaps([box]):
                ends = box.shrunk(0.98, 0.9).get_points()
                assert frame.count_contains(ends) == 2, text


def test_refuses_other_plans_and_layers() -> None:
    model, plan = hybrid()
    with pytest.raises(PlanError, match="conv1: in the plan or in"):
        flow_figure(model, Plan(plan.layers[1:]))
    with pytest.raises(ValueError, match="'linear9', which is no layer"):
        flow_figure(model, plan, {"linear9": 3.0})
