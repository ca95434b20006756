"""The parameters cell: reading it, types, ranges, sessions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from IPython.core.interactiveshell import InteractiveShell

from lq_utils.parameters import (
    ParameterError,
    check_parameters,
    check_values,
    is_parameters_cell,
    load_yaml,
    parse_cell,
    read_option,
    read_parameters,
)

FIXTURE = Path(__file__).parent / "notebooks" / "90_passing.py"
CELL = """\
profile: str = "quick"  # smoke|quick|full|custom; which profile
dataset: str = "auto"  # auto|cifar100|imagefolder:*; where data is from
images_per_class: int = 50  # 10..500; images a class; cost linear
rate: float = 0.1  # 1e-3..1; learning rate
noisy: bool = True  # any; noise or none
bits: list = [3, 4]  # each 2..8; bit widths; cost: one run each
kinds: list[str] = ["a"]  # each a|b; kinds
"""
PARAMETERS = parse_cell(CELL)


def problem(**values: Any) -> str:
    with pytest.raises(ParameterError) as caught:
        check_values(PARAMETERS, values)
    return str(caught.value)


def test_parse_cell() -> None:
    assert list(PARAMETERS) == [
        "profile",
        "dataset",
        "images_per_class",
        "rate",
        "noisy",
        "bits",
        "kinds",
    ]
    images = PARAMETERS["images_per_class"]
    assert (images.type, images.default, images.spec) == ("int", 50, "10..500")
    assert (images.effect, images.cost) == ("images a class", "linear")
    bits = PARAMETERS["bits"]
    assert bits.type_name == "list of int" and bits.default == [3, 4]
    assert bits.cost == "one run each"


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("x: int = 3", "comment must read"),
        ("x: int = 3  # 1..5", "comment must read"),
        ("x: int = 3  # five; an effect", "cannot use the range"),
        ("x: int = 3  # 9..1; an effect", "cannot use the range"),
        ("x: str = 'a'  # 1..5; an effect", "cannot use the range"),
        ("x: list = [3]  # 1..5; an effect", "each"),
        ("x: int = 3  # each 1..5; an effect", "each"),
        ("x: int = len([])  # 1..5; an effect", "plain literal"),
        ("x: int  # 1..5; an effect", "no default"),
        ("x: dict = {}  # any; an effect", "not one of"),
        ("x: int[str] = 3  # any; an effect", "not one of"),
        ("x: list = 3  # any; an effect", "not a list"),
        ("x = 3  # 1..5; an effect", "write only"),
    ],
)
def test_lines_that_do_not_follow_the_form(line: str, says: str) -> None:
    with pytest.raises(ParameterError, match=says):
        parse_cell(line)


def test_values_are_converted() -> None:
    values = check_values(PARAMETERS, {"rate": 1, "bits": (2, 8)})
    assert values == {"rate": 1.0, "bits": [2, 8]}
    assert type(values["rate"]) is float


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"images_per_class": 5}, "images_per_class=5 is below 10 (10..500)"),
        ({"images_per_class": 501}, "is above 500 (10..500)"),
        ({"rate": float("nan")}, "rate=nan is not a number (1e-3..1)"),
        ({"rate": "1e-3"}, "write 0.001 or 1.0e-3"),
        ({"images_per_class": 50.0}, "takes int"),
        ({"images_per_class": True}, "takes int"),
        ({"noisy": 1}, "takes bool"),
        ({"noisy": None}, "takes bool"),
        ({"profile": "quik"}, "did you mean 'quick'?"),
        ({"dataset": "imagefolder"}, "is not one of"),
        ({"bits": "[3, 4]"}, "bits='[3, 4]' is a string: use -y \"bits: [3,"),
        ({"bits": 3}, 'use -y "bits: [3]"'),
        ({"bits": [3, 9]}, "bits[1]=9 is above 8"),
        ({"bits": [3, "4"]}, "bits[1]='4' is of type str"),
        ({"kinds": ["c"]}, "kinds[0]='c' is not one of a|b"),
        ({"image_per_class": 50}, "did you mean 'images_per_class'?"),
    ],
)
def test_wrong_values(values: dict[str, Any], says: str) -> None:
    assert says in problem(**values)


def test_every_problem_is_told() -> None:
    text = problem(rate=2, bits=[1], datset="auto")
    assert len(text.splitlines()) == 3


def test_text_that_may_be_a_number() -> None:
    line = 'workers: str = "2"  # 1..64|tcp://*; who computes\n'
    parameters = parse_cell(line)

    def given(value: Any) -> Any:
        return check_values(parameters, {"workers": value})["workers"]

    assert [given(v) for v in (3, "3", "tcp://a:1")] == ["3", "3", "tcp://a:1"]
    for wrong in (0, "65", "two", "", True, 2.0):
        with pytest.raises(ParameterError):
            given(wrong)
    with pytest.raises(ParameterError, match="cannot use the range"):
        parse_cell(line.replace("1..64|", "1..64|2..3|"))
    with pytest.raises(ParameterError, match="cannot use the range"):
        parse_cell(line.replace("str", "int").replace('"2"', "2"))


def test_star_choice() -> None:
    values = {"dataset": "imagefolder:/some/where"}
    assert check_values(PARAMETERS, values) == values


@pytest.mark.parametrize(
    "text", ["3", "-3", "1_0", "0.5", "1e-3", "True", "None", "abc", "", "nan"]
)
def test_options_are_read_as_papermill_reads_them(text: str) -> None:
    from papermill.cli import _resolve_type

    assert repr(read_option(None, text)) == repr(_resolve_type(text))


def test_options_of_declared_types() -> None:
    assert read_option(PARAMETERS["bits"], "[3, 4]") == [3, 4]
    assert read_option(PARAMETERS["dataset"], "10") == "10"
    assert read_option(PARAMETERS["rate"], "1e-3") == 0.001


def test_yaml() -> None:
    assert load_yaml("a: 2020-01-01") == {"a": "2020-01-01"}
    with pytest.raises(ParameterError, match="not valid YAML"):
        load_yaml("a: [")


def test_read_from_both_kinds_of_file(tmp_path: Path) -> None:
    import jupytext
    import nbformat

    path = tmp_path / "x.ipynb"
    nbformat.write(jupytext.read(FIXTURE), path)
    assert read_parameters(FIXTURE) == read_parameters(path)
    assert read_parameters(FIXTURE)["bits"].default == [3, 4]


def test_file_without_the_cell(tmp_path: Path) -> None:
    path = tmp_path / "x.py"
    path.write_text("# %%\nprofile: str = 'quick'\n")
    with pytest.raises(ParameterError, match="no cell tagged"):
        read_parameters(path)


def test_what_is_a_parameters_cell() -> None:
    assert is_parameters_cell(CELL)
    assert not is_parameters_cell("x: int = 3  # 1..5; an effect")
    assert not is_parameters_cell(CELL + "print(bits)")
    assert not is_parameters_cell("%matplotlib inline")


class Session:
    """A real IPython session, as a notebook's kernel has one."""

    def __init__(self) -> None:
        self.shell = InteractiveShell()
        self.run("from lq_utils.parameters import check_parameters")

    def run(self, source: str) -> None:
        done = self.shell.run_cell(source, store_history=True, silent=False)
        done.raise_error()

    def check(self) -> dict[str, Any]:
        return check_parameters(self.shell.user_ns)


@pytest.fixture
def session() -> Session:
    return Session()


def test_session_without_the_cell(session: Session) -> None:
    with pytest.raises(ParameterError, match="run it from the top"):
        session.check()
    with pytest.raises(ParameterError, match="run it from the top"):
        check_parameters({"profile": "quick"})


def test_session_gives_final_values(session: Session) -> None:
    session.run(CELL)
    session.run("# Parameters\nbits = [5]\nrate = 1\n")
    session.run("parameters = check_parameters(globals())")
    values = session.shell.user_ns["parameters"]
    assert values["bits"] == [5] and values["images_per_class"] == 50
    assert type(session.shell.user_ns["rate"]) is float


def test_session_rejects_injected_values(session: Session) -> None:
    session.run(CELL)
    session.run('# Parameters\nbits = "[3, 4]"\nimages_per_clas = 5\n')
    with pytest.raises(ParameterError) as caught:
        session.check()
    assert 'use -y "bits: [3, 4]"' in str(caught.value)
    assert "did you mean 'images_per_class'?" in str(caught.value)


def test_session_after_the_cell_was_edited_and_run_again(
    session: Session,
) -> None:
    session.run(CELL)
    session.run("# Parameters\nsteps = 3\n")
    session.run(CELL.replace("= 50", "= 5"))
    with pytest.raises(ParameterError, match="images_per_class=5 is below"):
        session.check()
    session.run(CELL.replace("= 50", "= 20"))
    assert session.check()["images_per_class"] == 20


def test_session_where_the_range_was_edited_away(session: Session) -> None:
    session.run(CELL.replace("  # 10..500; images a class; cost linear", ""))
    with pytest.raises(ParameterError, match="images_per_class: its comment"):
        session.check()


def test_nothing_changes_when_a_value_is_wrong(session: Session) -> None:
    session.run(CELL)
    session.run("rate = 1; bits = [9]")
    with pytest.raises(ParameterError):
        session.check()
    assert type(session.shell.user_ns["rate"]) is int
