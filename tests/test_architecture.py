"""The architecture: imports point one way, modules are short."""

from __future__ import annotations

import ast
import subprocess
import sys
from itertools import pairwise
from xml.etree import ElementTree

import pytest

from lq_utils import architecture
from lq_utils.layers import (
    LayerError,
    levels,
    module_imports,
    reduced,
    topic_imports,
)
from lq_utils.paths import ROOT
from lq_utils.source_code import imported
from lq_utils.topics import TOPICS, topic_of

MOST_LINES = 300
MODULES = sorted((ROOT / "lq_utils").glob("*.py"))


def test_the_page_is_what_the_source_says() -> None:
    message = f"run {architecture.COMMAND}"
    assert architecture.main(["--check"]) == 0, message


def test_modules_do_not_import_in_a_circle() -> None:
    """By taking away, again and again, what imports nothing that is left."""
    left = module_imports()
    assert len(left) > 250
    while left:
        free = [name for name, uses in left.items() if not uses & set(left)]
        assert free, f"a circle among {sorted(left)}"
        for name in free:
            del left[name]


def test_topics_rest_on_earlier_ones() -> None:
    order = [topic.key for topic in TOPICS]
    against = [
        f"{name} ({topic_of(name).key}) -> {use} ({topic_of(use).key})"
        for name, uses in module_imports().items()
        for use in uses
        if order.index(topic_of(use).key) > order.index(topic_of(name).key)
    ]
    assert against == []


def test_no_module_is_long() -> None:
    lengths = {
        path.name: len(path.read_text("utf-8").splitlines())
        for path in MODULES
    }
    assert {n: k for n, k in lengths.items() if k > MOST_LINES} == {}


def test_imports_are_those_that_python_makes() -> None:
    """Of a module that needs no heavy library, in a fresh process."""
    code = (
        "import sys, lq_utils.layers; print(' '.join(sorted(m for m in "
        "sys.modules if m.startswith('lq_utils.'))))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = {name.split(".")[1] for name in done.stdout.split()}
    graph, found = module_imports(), {"layers"}
    while more := {use for name in found for use in graph[name]} - found:
        found |= more
    assert found == loaded


def test_imports_within_functions_are_told_apart() -> None:
    tree = ast.parse(
        "import os\nimport lq_utils.a\nfrom lq_utils import b\n"
        "from lq_utils.c import x, y\n"
        "def f():\n    from lq_utils.d import z\n"
    )
    assert imported(tree) == {"a", "b", "c"}
    assert imported(tree, inside=True) == {"d"}


GRAPH = {"a": set(), "b": {"a"}, "c": {"a", "b"}, "d": {"a", "c"}}


def test_levels_and_reduction_by_hand() -> None:
    assert levels(GRAPH) == {"a": 0, "b": 1, "c": 2, "d": 3}
    assert reduced(GRAPH) == {"a": set(), "b": {"a"}, "c": {"b"}, "d": {"c"}}


def test_a_circle_is_named() -> None:
    circle = {"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": set()}
    with pytest.raises(LayerError, match="-> . -> ") as caught:
        levels(circle)
    told = str(caught.value).removeprefix("imports in a circle: ")
    named = told.split(";")[0].split(" -> ")
    for name, target in pairwise(named):
        assert target in circle[name]


def test_imports_between_topics_are_counted() -> None:
    imports = {
        "scales": {"grids", "images", "paths"},
        "grids": {"paths"},
        "images": set(),
        "paths": set(),
    }
    assert topic_imports(imports) == {
        "files": {},
        "data": {},
        "grids": {"files": 2, "data": 1},
    }


def test_the_diagram_has_a_box_a_topic_and_arrows_that_lead_down() -> None:
    text = architecture.diagram(GRAPH, dict.fromkeys(GRAPH, 1))
    root = ElementTree.fromstring(text)
    boxes = {
        rect.get("y"): label.text
        for rect, label in zip(
            root.iter("rect"), list(root.iter("text"))[::2], strict=True
        )
    }
    by_height = sorted(boxes.items(), key=lambda item: float(item[0] or 0))
    assert [label for _, label in by_height] == ["d", "c", "b", "a"]
    arrows = [
        p.get("d") or "" for p in root.iter("path") if p.get("marker-end")
    ]
    assert len(arrows) == 3
    for arrow in arrows:
        start = float(arrow.split("C")[0].split()[1])
        assert float(arrow.split()[-1]) > start
    assert "\n\n" not in text
