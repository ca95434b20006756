"""Interactive figures: what stands on the page, and that it is the data."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb

from lq_utils import figures, interactive, results
from lq_utils import interactive_pieces as pieces
from lq_utils.data import Provenance
from lq_utils.ink import INK, INK_DARK
from lq_utils.interactive_data import compact
from lq_utils.interactive_pieces import Axis, InteractiveError, Layer, Steps

VOID = {"input", "img", "br", "meta", "link"}
CSS = (interactive.STATIC / "interactive.css").read_text("utf-8")
SCRIPT = interactive.STATIC / "interactive.js"


class Tree(HTMLParser):
    """Every tag, and whether all are closed in order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.feed(page)
        self.close()
        assert not self.open, f"not closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append((tag, {k: v or "" for k, v in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def all(self, name: str) -> list[dict[str, str]]:
        return [attributes for tag, attributes in self.tags if tag == name]


def data_in(page: str) -> dict[str, Any]:
    (text,) = re.findall(r'<script type="application/json">(.*?)</s', page)
    return json.loads(text)


def some_steps(**changes: Any) -> Steps:
    frames = pd.DataFrame({"label": ["1", "2"], "words": ["One <.", "Two."]})
    layers = [
        Layer("line", [1, 2], [0.123456789, np.nan], name="error & more"),
        Layer("dots", [1, 2], [0.5, 3.0], "green", when="grow"),
        Layer("ticks", [1.5], [2.0], "ink", when=1),
    ]
    given: dict[str, Any] = {
        "slider": "Column",
        "frames": frames,
        "panels": [(Axis("x"), Axis("y", zero=True))],
        "layers": layers,
        "numbers": pd.DataFrame({"a": [1.5, 2.5]}),
    }
    return Steps(**given | changes)


def some_points(**changes: Any) -> pieces.Points:
    points = pd.DataFrame(
        {
            "name": ["otter", "seal", "</script>"],
            "group": ["water", "water", "other"],
            "x": [0.0, 1.0, 2.0],
            "y": [3.0, 1.0, 2.0],
            "words": ["An otter.", "A seal.", "None."],
        }
    )
    given: dict[str, Any] = {
        "axes": (Axis("x", plain=True), Axis("y")),
        "points": points,
        "numbers": points[["name", "x"]],
        "near": [[1], [0], []],
    }
    return pieces.Points(**given | changes)


def page_of(piece: Any, name: str = "demo") -> str:
    return interactive.interactive_html(piece, "A caption.", "An alt.", name)


@pytest.mark.parametrize("piece", [some_steps(), some_points()])
def test_page_is_whole(piece: Any) -> None:
    page = page_of(piece)
    tree = Tree(page)
    controls = tree.all("input") + tree.all("select")
    labels = {a["for"] for a in tree.all("label")}
    assert controls and labels == {a["id"] for a in controls}
    (live,) = [a for a in tree.all("p") if "aria-live" in a]
    assert live["aria-live"] == "polite"
    (drawing,) = [a for a in tree.all("div") if a.get("role") == "img"]
    assert drawing["aria-label"] == "An alt."
    # Without a script: controls are hidden and the table is open.
    for part in ("lq-controls", "lq-panels", "lq-words"):
        (found,) = [a for _, a in tree.tags if a.get("class") == part]
        assert "hidden" in found
    assert "open" in tree.all("details")[0] and tree.all("td")
    assert figures.NO_RUN in page and "A caption." in page
    assert page == page_of(piece), "the same data, other bytes"


def test_steps_on_the_page_are_those_given() -> None:
    data = data_in(page_of(some_steps()))
    line, dots, ticks = data["layers"]
    assert line["y"] == [0.12346, None] and line["x"] == [1, 2]
    assert line["name"] == "error & more"
    assert dots["when"] == "grow" and ticks["when"] == 1
    assert [f["words"] for f in data["frames"]] == ["One <.", "Two."]
    (panel,) = data["panels"]
    assert panel["y"]["range"][0] == 0 and panel["y"]["range"][1] > 3
    low, high = panel["x"]["range"]
    assert low < 1 and high > 2
    assert all(low <= value <= high for value, _ in panel["x"]["ticks"])


def test_points_on_the_page_are_those_given() -> None:
    page = page_of(some_points())
    data = data_in(page)
    first, second = data["layers"]
    assert first["names"] == ["otter", "seal"] and second["index"] == [2]
    assert first["near"] == [[1], [0]] and first["x"] == [0, 1]
    assert (first["tone"], first["shape"]) != (second["tone"], second["shape"])
    assert data["panels"][0]["x"]["ticks"] == []
    assert page.count("</script>") == 1, "a name closed the script"


def test_bars_begin_at_zero_and_have_room() -> None:
    layers = [
        Layer("bars", [0, 1], [1.0, 2.0], when=0),
        Layer("bars", [0, 1], [0.5, -4.0], when=1, width=0.5),
    ]
    axes = Axis("", names=("a", "b")), Axis("y")
    data = data_in(page_of(some_steps(layers=layers, panels=[axes])))
    assert [x["width"] for x in data["layers"]] == [0.8, 0.5]
    (panel,) = data["panels"]
    assert panel["x"]["ticks"] == [[0, "a"], [1, "b"]]
    assert panel["x"]["range"][0] <= -0.5 and panel["x"]["range"][1] >= 1.5
    assert panel["y"]["range"][0] < -4 and panel["y"]["range"][1] > 2


def test_ticks_of_a_logarithmic_axis_are_inside() -> None:
    layer = Layer("dots", [1, 2, 3], [0.01, 1.0, 300.0])
    axes = [(Axis("x", names=("p", "q", "r", "s")), Axis("y", log=True))]
    data = data_in(page_of(some_steps(layers=[layer], panels=axes)))
    axis = data["panels"][0]["y"]
    low, high = axis["range"]
    assert axis["log"] and 0 < low < 0.01 and high > 300
    values = [value for value, _ in axis["ticks"]]
    assert len(values) >= 3 and all(low <= v <= high for v in values)


ONE = [1.0]
BAD: list[tuple[dict[str, Any], str]] = [
    ({"layers": [Layer("pie", ONE, ONE)]}, "'pie'"),
    ({"layers": [Layer("dots", ONE, ONE, "pink")]}, "'pink'"),
    ({"layers": [Layer("dots", ONE, ONE, panel=1)]}, "panel 1"),
    ({"layers": [Layer("dots", ONE, [1, 2])]}, "give as many"),
    ({"layers": [Layer("dots", ONE, ONE, when=2)]}, "when=2"),
    ({"layers": [Layer("dots", ONE, ONE, when="grow")]}, "1 marks for 2"),
    ({"layers": []}, "nothing to draw"),
    ({"frames": pd.DataFrame({"label": []})}, "at least one step"),
    ({"numbers": pd.DataFrame()}, "no rows in numbers"),
    ({"slider": " "}, "slider is empty"),
    (
        {"panels": [(Axis("x"), Axis("y", log=True))]}
        | {"layers": [Layer("dots", ONE, [0.0])]},
        "no positive values",
    ),
    (
        {"layers": [Layer("line", range(40_000), range(40_000))]},
        "more than 150,000",
    ),
]


@pytest.mark.parametrize(("changes", "says"), BAD)
def test_steps_that_cannot_be_drawn(changes: Any, says: str) -> None:
    with pytest.raises(ValueError, match=re.escape(says)):
        page_of(some_steps(**changes))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"near": [[1], [0]]}, "near must list"),
        ({"near": [[3], [], []]}, "near must list"),
        ({"points": pd.DataFrame({"name": ["a"]})}, "missing ['group'"),
    ],
)
def test_points_that_cannot_be_drawn(changes: Any, says: str) -> None:
    with pytest.raises(InteractiveError, match=re.escape(says)):
        page_of(some_points(**changes))


def test_names_and_texts_are_checked() -> None:
    with pytest.raises(ValueError, match="cannot be an anchor"):
        page_of(some_steps(), "1 a")
    with pytest.raises(ValueError, match="alt is empty"):
        interactive.interactive_html(some_steps(), "A caption.", " ", "a")


def test_output_carries_the_script_and_the_book_drops_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    provenance = Provenance("CIFAR-100", "unofficial copy", "f00d", "book")
    run = results.Run("01_x", {"profile": "smoke", "seed": 7}, provenance)
    monkeypatch.setattr(results, "_current", run)
    shown: list[dict[str, str]] = []
    monkeypatch.setattr(
        interactive, "display", lambda bundle, raw: shown.append(bundle)
    )
    interactive.show_interactive(some_steps(), "A caption.", "Alt.", "a")
    (bundle,) = shown
    page = bundle["text/html"]
    Tree(page)
    assert SCRIPT.read_text("utf-8") in page and CSS in page
    kept = interactive.without_shared(page)
    assert kept == interactive.interactive_html(
        some_steps(), "A caption.", "Alt.", "a"
    )
    assert "smoke profile · seed 7" in kept
    assert bundle["text/plain"].startswith("Interactive figure: A caption.")


def test_shared_files_are_small_and_local() -> None:
    script = SCRIPT.read_text("utf-8")
    assert len(script) < 25_000 and len(CSS) < 25_000
    without_names = script.replace("http://www.w3.org/2000/svg", "")
    for text in (without_names, CSS):
        assert not re.search(
            r"https?:|//\w|url\(|@import|fetch|import\(", text
        )


def _variables(selector: str) -> dict[str, str]:
    block = re.findall(
        rf"(?m)^{re.escape(selector)}[^{{]*\{{([^}}]*)\}}", CSS
    )[0]
    return dict(re.findall(r"--lq-(\w+): (#\w+);", block))


LIGHT = _variables(".lq-interactive")
DARK = LIGHT | _variables('html[data-theme="dark"] .lq-interactive')


def _contrast(one: str, other: str) -> float:
    lights = []
    for color in (one, other):
        rgb = np.asarray(to_rgb(color))
        line = np.where(
            rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4
        )
        lights.append(float(line @ [0.2126, 0.7152, 0.0722]) + 0.05)
    return max(lights) / min(lights)


def test_colours_are_the_figures() -> None:
    for name, color in figures.COLORS.items():
        assert LIGHT[name] == color.lower()
        assert f".lq-{name} {{ --lq-tone: var(--lq-{name}); }}" in CSS
    assert LIGHT["ink"] == INK.lower() and DARK["ink"] == INK_DARK.lower()


@pytest.mark.parametrize("mode", [LIGHT, DARK], ids=["light", "dark"])
def test_contrast(mode: dict[str, str]) -> None:
    assert _contrast(mode["ink"], mode["page"]) >= 4.5
    assert _contrast(mode["focus"], mode["page"]) >= 3
    for name in figures.COLORS:
        assert _contrast(mode[name], mode["page"]) >= 2
    # No text has another colour than the ink.
    colours = re.findall(r"(?m)^\s+(?:color|fill): ([^;]+);", CSS)
    allowed = {"var(--lq-ink)", "inherit", "none", "var(--lq-tone)"}
    assert set(colours) <= allowed


def test_numbers_are_compact() -> None:
    found = compact([1.0, 0.3333333, np.nan, np.inf, -2e-9])
    assert found == [1, 0.33333, None, None, -2e-9]
    assert [type(v) for v in found[:2]] == [int, float]
