"""Significant layers: the thesis's own numbers, and by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lq_utils import significance as ls
from lq_utils.nearest import DimensionError
from lq_utils.published import published_value
from lq_utils.registry import UnknownName
from lq_utils.significance import (
    layer_steps,
    selection_stability,
    significant_layers,
)

LAYERS = ["input", "conv1", "conv2", "linear1", "linear2"]
FLAT = {"input": 3.0, "a": 5.0, "b": 1.0, "c": 1.0}


def table_4_6(method: str, domain: str) -> dict[str, float]:
    return {
        layer: published_value(
            "quantnet_thesis",
            "table 4.6",
            "intrinsic dimension",
            domain=domain,
            layer=layer,
            method=method,
        )
        for layer in LAYERS
    }


@pytest.mark.parametrize("domain", ["source", "target"])
@pytest.mark.parametrize(
    "method, rule, expected",
    [
        ("TwoNN", "absolute", ["linear1", "linear2"]),
        ("TwoNN", "signed", []),
        ("PCA", "signed", ["conv2"]),
        ("PCA", "absolute", ["conv2", "linear2"]),
        ("TwoNN*", "absolute", []),
    ],
)
def test_table_4_6_at_the_threshold_of_the_thesis(
    method: str, rule: str, expected: list[str], domain: str
) -> None:
    threshold = published_value(
        "quantnet_thesis", "section 4.2.5", "significance threshold"
    )
    dimensions = table_4_6(method, domain)
    # The first layer keeps full precision; so does the output's.
    for skip in ((), ("conv1",)):
        found = significant_layers(dimensions, threshold, rule, skip)
        assert found == expected


def test_steps_by_hand() -> None:
    steps = layer_steps(table_4_6("TwoNN", "source"))
    assert steps["layer"].tolist() == LAYERS[1:]
    np.testing.assert_allclose(steps["step"], [7.58, 16.29, -25.72, -22.78])
    assert steps["before"].tolist()[1:] == steps["after"].tolist()[:-1]


def test_a_step_must_exceed_the_threshold() -> None:
    assert significant_layers(FLAT, 2) == ["b"]
    assert significant_layers(FLAT, 1.9) == ["a", "b"]
    assert significant_layers(FLAT, 1.9, "signed") == ["a"]
    assert significant_layers(FLAT, 1.9, skip=["a"]) == ["b"]
    assert significant_layers(FLAT, -1) == ["a", "b", "c"]


@given(
    values=st.lists(st.floats(0, 100), min_size=2, max_size=6),
    thresholds=st.lists(st.floats(0, 60), min_size=2, max_size=2),
)
def test_fewer_layers_at_a_higher_threshold(
    values: list[float], thresholds: list[float]
) -> None:
    dimensions = {str(i): v for i, v in enumerate(values)}
    low, high = sorted(thresholds)
    for rule in ls.RULES:
        more = significant_layers(dimensions, low, rule)
        assert set(significant_layers(dimensions, high, rule)) <= set(more)
    signed = significant_layers(dimensions, low, "signed")
    assert set(signed) <= set(significant_layers(dimensions, low))


@pytest.mark.parametrize("rule", ["absolute", "signed"])
def test_stability_is_the_share_of_single_selections(rule: str) -> None:
    rng = np.random.default_rng(0)
    centre = list(table_4_6("TwoNN", "source").values())
    samples = pd.DataFrame(
        centre + 5 * rng.normal(size=(40, 5)), columns=LAYERS
    )
    thresholds = [5, 20, 30]
    found = selection_stability(samples, thresholds, rule, skip=["conv1"])
    assert list(found.columns) == ["threshold", "layer", "share"]
    assert len(found) == 3 * 3
    for row in found.itertuples():
        picks = [
            row.layer
            in significant_layers(dict(sample), row.threshold, rule, ["conv1"])
            for _, sample in samples.iterrows()
        ]
        assert row.share == pytest.approx(np.mean(picks))


def test_a_students_rule_stands_beside_the_others() -> None:
    ls.register_rule("fall", replace=True)(lambda steps: -steps)
    try:
        assert significant_layers(FLAT, 1, "fall") == ["b"]
    finally:
        del ls.RULES._entries["fall"]


def test_what_has_no_steps_is_refused() -> None:
    with pytest.raises(DimensionError, match="1 place"):
        layer_steps({"input": 3.0})
    with pytest.raises(DimensionError, match="'b' is not finite"):
        layer_steps({"input": 3.0, "a": 2.0, "b": np.nan})
    with pytest.raises(DimensionError, match="cannot skip 'conv'.*a, b, c"):
        significant_layers(FLAT, 1, skip=["conv"])
    with pytest.raises(DimensionError, match="finite numbers"):
        significant_layers(FLAT, np.inf)
    with pytest.raises(UnknownName, match="did you mean 'signed'"):
        significant_layers(FLAT, 1, "sined")
    samples = pd.DataFrame([[1.0, np.inf]], columns=["input", "a"])
    with pytest.raises(DimensionError, match="'a' is not finite"):
        selection_stability(samples, [1])
    with pytest.raises(DimensionError, match="no resamples"):
        selection_stability(samples[:0], [1])
