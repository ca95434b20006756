"""Plans: rows, CSV files, checks against the network, exact sizes."""

import math
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from lq_utils.grids import alphabet
from lq_utils.models import build_model
from lq_utils.plans import COLUMNS, LayerPlan, Plan, PlanError


class Small(nn.Module):
    """Every kind of layer once; 20 + 8 + 4 + 60 weights and biases."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, stride=2, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(4)
        self.depthwise = nn.Conv2d(4, 4, 3, groups=4)
        self.point = nn.Conv2d(4, 6, 1, bias=False)
        self.late = nn.BatchNorm2d(6)
        self.fc = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.bn(self.conv(x)))
        x = torch.relu(self.point(torch.relu(self.depthwise(x))))
        return self.fc(self.late(x).mean(dim=(2, 3)))


NAMES = ("conv", "depthwise", "point", "fc")
WEIGHTS = {"conv": 4 * 27, "depthwise": 4 * 9, "point": 6 * 4, "fc": 5 * 6}
# Biases of conv (folded), depthwise and fc; the late norm's four vectors.
FLOATS = 4 + 4 + 5 + 4 * 6


def small_plan(bits: int | None = 4) -> Plan:
    return Plan.uniform(Small(), bits)


def test_uniform_has_a_row_a_layer_in_execution_order() -> None:
    plan = Plan.uniform(Small(), 3, quantizer="narrow", solver="gptq")
    assert plan.names() == NAMES
    assert len(plan) == 4
    assert all(
        row == LayerPlan(row.layer, 3, quantizer="narrow", solver="gptq")
        for row in plan
    )
    assert plan["point"].layer == "point"


def test_overrides_by_name_and_pattern() -> None:
    plan = Plan.uniform(build_model("resnet20", 10), 4)
    changed = plan.override("layer2.*", bits=3).override("fc", bits=8)
    for row in changed:
        wanted = 3 if row.layer.startswith("layer2.") else 4
        assert row.bits == (8 if row.layer == "fc" else wanted)
    assert all(row.bits == 4 for row in plan)
    ends = changed.keep_first_last_full()
    full = [row.layer for row in ends if row.bits is None]
    assert full == ["conv1", "fc"]


def test_errors_of_building_say_what_to_do() -> None:
    plan = small_plan()
    with pytest.raises(PlanError, match="did you mean 'depthwise'"):
        plan.override("depthwide", bits=3)
    with pytest.raises(PlanError, match="did you mean 'point'"):
        plan["pint"]
    with pytest.raises(PlanError, match="did you mean 'quantizer'"):
        plan.override("fc", quantiser="narrow")
    with pytest.raises(PlanError, match="no field 'layer'"):
        Plan.uniform(Small(), 3, layer="x")
    with pytest.raises(PlanError, match="duplicate rows for fc"):
        Plan((LayerPlan("fc", 3), LayerPlan("conv", 3), LayerPlan("fc", 2)))


def test_levels_follow_the_quantizer() -> None:
    plan = small_plan(3).override("conv", quantizer="mid-tread")
    plan = plan.override("fc", bits=None).override("point", quantizer="narrow")
    assert [plan.levels(n) for n in NAMES] == [9, 8, 7, None]
    table = plan.frame()
    assert list(table.columns) == [*COLUMNS, "levels"]
    assert table["levels"].isna().tolist() == [False, False, False, True]
    assert table["bits"].isna().tolist() == [False, False, False, True]
    assert table["levels"][:3].tolist() == [9, 8, 7]


def with_option(**changes: object) -> Plan:
    return small_plan().override("point", **changes)


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        (with_option(bits=0), "'point': 0 bits"),
        (with_option(bits=33), "'point': 33 bits"),
        (with_option(bits=2.5), "integer or None, not 2.5"),
        (with_option(bits=True), "integer or None, not True"),
        (with_option(quantizer="narow"), "did you mean 'narrow'"),
        (with_option(granularity="row"), "'group:64'"),
        (with_option(scale="outputs"), "did you mean 'output'"),
        (with_option(solver="gpfk"), "did you mean 'gpfq'"),
        (with_option(polish=-1), "0 or more sweeps"),
        (with_option(options=(("damp", 1),)), "has an option 'damp'"),
        (with_option(bits=None, solver="x"), "unknown solver 'x'"),
        (Plan(small_plan().layers[1:]), "no row for conv"),
        (
            Plan((*small_plan().layers, LayerPlan("fc2", 3))),
            "did you mean 'fc'",
        ),
    ],
)
def test_validate_names_what_is_wrong(plan: Plan, message: str) -> None:
    with pytest.raises(PlanError, match=message):
        plan.validate(Small())
    with pytest.raises(PlanError, match=message):
        plan.size_bits(Small())


def test_validate_accepts_what_is_right() -> None:
    small_plan().validate(Small())
    small_plan(None).validate(Small())
    with_option(
        solver="gptq",
        scale="percentile",
        options=(("damping", 0.1), ("percentile", 99.0)),
    ).validate(Small())


def test_csv_reads_what_people_write(tmp_path: Path) -> None:
    path = tmp_path / "plan.csv"
    path.write_text(
        "\ufefflayer,bits,solver,options\n"
        "conv, 4 ,gptq,\"damping=0.1, note='a; b'\"\r\n"
        "fc,,,\n"
    )
    plan = Plan.from_csv(path)
    assert plan == Plan(
        (
            LayerPlan(
                "conv",
                4,
                solver="gptq",
                options=(("damping", 0.1), ("note", "a; b")),
            ),
            LayerPlan("fc", None),
        )
    )


names = st.text(
    st.characters(exclude_categories=("Cs", "Cc", "Z")), min_size=1
)
option_values = st.one_of(
    st.integers(),
    st.booleans(),
    st.none(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(codec="utf-8")),
)
option_pairs = st.dictionaries(
    st.sampled_from(["a", "damping", "x_1"]), option_values
).map(lambda found: tuple(found.items()))
rows = st.builds(
    LayerPlan,
    layer=names,
    bits=st.one_of(st.none(), st.integers(-5, 99)),
    quantizer=st.sampled_from(["narrow", "binary"]),
    granularity=st.sampled_from(["tensor", "group:7"]),
    polish=st.integers(0, 9),
    options=option_pairs,
)


@settings(max_examples=40)
@given(st.lists(rows, unique_by=lambda row: row.layer))
def test_csv_round_trip(found: list[LayerPlan]) -> None:
    plan = Plan(tuple(found))
    assert Plan.from_text(plan.to_text()) == plan


def test_csv_file_round_trip(tmp_path: Path) -> None:
    plan = small_plan().keep_first_last_full()
    plan.to_csv(tmp_path / "new" / "plan.csv")
    assert Plan.from_csv(tmp_path / "new" / "plan.csv") == plan


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "'layer' is missing"),
        ("layer\nfc\n", "'bits' is missing"),
        ("layer,bits,solvr\nfc,3,rtn\n", "did you mean 'solver'"),
        ("layer,bits\nconv,3\nfc,three\n", "line 3: bits must be an integer"),
        ("layer,bits\nfc,3.0\n", "line 2: bits must be an integer"),
        ("layer,bits\n,3\n", "line 2: the layer's name is missing"),
        ("layer,bits\nfc,3,4\n", "line 2: more cells"),
        ("layer,bits,polish\nfc,3,x\n", "polish must be"),
        ("layer,bits,options\nfc,3,damping\n", "name=value"),
        ("layer,bits,options\nfc,3,a=open('x')\n", "name=value"),
        ("layer,bits,options\nfc,3,) + dict(\n", "name=value"),
        ('layer,bits\n"fc,3\n', "unexpected end"),
        ("layer,bits\nfc,3\nfc,4\n", "duplicate rows for fc"),
    ],
)
def test_broken_csv_names_the_line(
    tmp_path: Path, text: str, message: str
) -> None:
    path = tmp_path / "plan.csv"
    path.write_text(text)
    with pytest.raises(PlanError, match=message):
        Plan.from_csv(path)


def test_unreadable_csv(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="cannot read"):
        Plan.from_csv(tmp_path / "none.csv")
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(PlanError, match="cannot read"):
        Plan.from_csv(tmp_path / "binary.csv")


def test_size_of_full_precision_is_that_of_the_folded_network() -> None:
    floats = sum(WEIGHTS.values()) + FLOATS
    assert small_plan(None).size_bits(Small()) == 32 * floats
    assert small_plan(None).mean_bits(Small()) == 32


@pytest.mark.parametrize("bits", [2, 3, 8])
@pytest.mark.parametrize("name", ["narrow", "mid-tread", "asymmetric"])
def test_size_by_hand(bits: int, name: str) -> None:
    rows_of = {"conv": 4, "depthwise": 4, "point": 6, "fc": 5}
    code = math.ceil(math.log2(alphabet(name, bits).count))
    numbers = 2 if name == "asymmetric" else 1
    for granularity, scales in (
        ("tensor", 4),
        ("channel", sum(rows_of.values())),
        ("group:10", 4 * 3 + 4 * 1 + 6 * 1 + 5 * 1),
    ):
        plan = Plan.uniform(
            Small(), bits, quantizer=name, granularity=granularity
        )
        expected = code * sum(WEIGHTS.values()) + 32 * FLOATS
        assert plan.size_bits(Small()) == expected + 32 * numbers * scales
        assert plan.mean_bits(Small()) == code


def test_mixed_precision_size_and_mean() -> None:
    plan = small_plan(4).override("fc", bits=None).override("conv", bits=2)
    codes = 2 * 108 + 4 * (36 + 24)
    scales = 4 + 4 + 6
    expected = codes + 32 * (scales + WEIGHTS["fc"] + FLOATS)
    assert plan.size_bits(Small()) == expected
    total = sum(WEIGHTS.values())
    assert plan.mean_bits(Small()) == pytest.approx(
        (codes + 32 * WEIGHTS["fc"]) / total
    )


def test_thesis_network_has_its_published_parameters() -> None:
    model = build_model("quantnet", 1)
    plan = Plan.uniform(model, 1, quantizer="binary", granularity="tensor")
    plan = plan.override("conv1", bits=None).override("output", bits=None)
    kernels = 18_432 + 524_288 + 2_048
    floats = 545_889 - kernels
    assert plan.size_bits(model) == kernels + 32 * (floats + 3)
