"""Figures and tables: captions, alt texts, both modes, provenance."""

from __future__ import annotations

import base64
import io
import re
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb
from PIL import Image

from lq_utils import figures, results
from lq_utils.data import Provenance
from lq_utils.ink import FAINT, FAINT_DARK, INK, INK_DARK, dark_ink
from lq_utils.tables import html_rows

DARK_PAGE, LIGHT_PAGE = "#121212", "#FFFFFF"


@pytest.fixture(autouse=True)
def _rc() -> Any:
    with plt.rc_context():
        yield
    plt.close("all")


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, str]]:
    """What was displayed, in order."""
    bundles: list[dict[str, str]] = []
    monkeypatch.setattr(
        figures, "display", lambda bundle, raw: bundles.append(bundle)
    )
    return bundles


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> results.Run:
    provenance = Provenance("CIFAR-100", "unofficial copy", "f00d", "book")
    current = results.Run("01_x", {"profile": "smoke", "seed": 7}, provenance)
    monkeypatch.setattr(results, "_current", current)
    return current


def _figure() -> plt.Figure:
    figures.use_style()
    fig, axes = plt.subplots(figsize=(4, 3))
    axes.plot([0, 1], [0, 1], label="line")
    axes.set(xlabel="x", ylabel="y", title="title")
    axes.legend()
    axes.grid(True)
    return fig


def _luminance(color: Any) -> float:
    rgb = np.asarray(to_rgb(color))
    linear = np.where(
        rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4
    )
    return float(linear @ [0.2126, 0.7152, 0.0722])


def _contrast(one: Any, other: Any) -> float:
    low, high = sorted((_luminance(one), _luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_ink_is_legible_on_its_page() -> None:
    assert _contrast(INK, LIGHT_PAGE) >= 7
    assert _contrast(INK_DARK, DARK_PAGE) >= 7


def test_every_colour_is_visible_on_both_pages() -> None:
    for color in figures.PALETTE:
        assert _contrast(color, LIGHT_PAGE) >= 2
        assert _contrast(color, DARK_PAGE) >= 2


def test_show_has_caption_alt_provenance_and_two_variants(
    shown: list[dict[str, str]], run: results.Run
) -> None:
    figures.show(_figure(), 'A <line> & "more".', 'Rises "up" <1.', "line")
    (bundle,) = shown
    page = bundle["text/html"]
    assert 'id="figure-line"' in page
    assert "<strong>Figure 1:</strong> A &lt;line&gt; &amp;" in page
    assert page.count('alt="Rises &quot;up&quot; &lt;1."') == 2
    assert "smoke profile · seed 7 · CIFAR-100, book split" in page
    assert bundle["text/plain"].startswith("Figure 1: A <line>")
    light, dark = re.findall(r'<img class="(\S+)"[^>]*style="([^"]*)', page)
    assert light[0] == "only-light" and "display" not in light[1]
    assert dark[0] == "only-dark" and "display:none" in dark[1]
    assert not plt.get_fignums(), "the figure would be shown a second time"


def test_variants_differ_in_ink_only(
    shown: list[dict[str, str]], run: results.Run
) -> None:
    figures.show(_figure(), "A line.", "A line.", "line")
    data = re.findall(r"base64,([^\"]+)", shown[0]["text/html"])
    light, dark = (
        np.asarray(Image.open(io.BytesIO(base64.b64decode(d)))) for d in data
    )
    assert light.shape == dark.shape
    widths = re.findall(r'width="(\d+)"', shown[0]["text/html"])
    assert widths == [str(light.shape[1] // 2)] * 2
    edges = [light[0], light[-1], light[:, 0], light[:, -1]]
    assert not any(edge[..., 3].any() for edge in edges), "cut off"
    assert (light[..., 3] == 0).mean() > 0.5, "background not transparent"
    for image, ink in ((light, INK), (dark, INK_DARK)):
        rgb = (np.asarray(to_rgb(ink)) * 255).round().astype(int)
        solid = image[image[..., 3] == 255][:, :3].astype(int)
        assert (abs(solid - rgb).max(axis=1) <= 1).sum() > 200
    blue = (np.asarray(to_rgb(figures.COLORS["blue"])) * 255).round()
    for image in (light, dark):
        assert (abs(image[..., :3] - blue).max(axis=-1) <= 1).sum() > 100


def test_heavy_pictures_are_made_light_and_look_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    figures.use_style()
    fig, axes = plt.subplots(figsize=(5, 5))
    x, y = np.random.default_rng(0).normal(size=(2, 3000))
    axes.scatter(x, y, c=x, s=8, alpha=0.6)
    light = figures._png(fig)
    monkeypatch.setattr(figures, "_HEAVY", 10**9)
    full = figures._png(fig)
    assert len(full) > 100_000 and len(light) < 0.5 * len(full)
    seen = []
    for png in (light, full):
        picture = Image.open(io.BytesIO(png)).convert("RGBA")
        page = Image.new("RGBA", picture.size, "white")
        page.alpha_composite(picture)
        seen.append(np.asarray(page, dtype=float))
    assert seen[0].shape == seen[1].shape
    assert np.abs(seen[0] - seen[1]).mean() < 2  # of 255


def test_text_outside_the_figure_is_not_cut_off(
    shown: list[dict[str, str]], run: results.Run
) -> None:
    fig = _figure()
    fig.set_layout_engine("none")
    fig.axes[0].text(-0.6, 0.5, "far to the left " * 3, ha="right")
    figures.show(fig, "A line.", "A line.", "line")
    data = re.findall(r"base64,([^\"]+)", shown[0]["text/html"])[0]
    image = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))
    assert image.shape[1] > 900 and not image[:, 0, 3].any()


def test_dark_ink_recolours_lines_but_not_text_on_cells() -> None:
    figures.use_style()
    fig, axes = plt.subplots()
    (line,) = axes.plot([0, 1], color=".2", alpha=1.0)
    on_cell = axes.text(0, 0, "on a light cell", color=".15")
    points = axes.scatter([0, 1], [0, 1], color=[FAINT, "red"])
    with dark_ink(fig):
        assert _luminance(line.get_color()) > 0.7
        assert to_rgb(on_cell.get_color()) == to_rgb(".15")
        assert to_rgb(axes.xaxis.label.get_color()) == to_rgb(INK_DARK)
        first, second = points.get_facecolor()
        assert np.allclose(first[:3], to_rgb(FAINT_DARK), atol=1e-6)
        assert np.allclose(second[:3], to_rgb("red"))


@pytest.mark.parametrize(
    ("caption", "alt", "name", "message"),
    [
        ("", "alt", "a", "caption is empty"),
        ("  ", "alt", "a", "caption is empty"),
        ("caption", "", "a", "alt is empty"),
        ("caption", "alt", "1 a", "cannot be an anchor"),
    ],
)
def test_show_refuses(
    caption: str, alt: str, name: str, message: str, run: results.Run
) -> None:
    with pytest.raises(ValueError, match=message):
        figures.show(_figure(), caption, alt, name)


def test_a_caption_may_begin_with_a_number(
    shown: list[dict[str, str]], run: results.Run
) -> None:
    for caption in ("3 bits, then 4.", "8."):
        figures.table(pd.DataFrame({"a": [1]}), caption)
    names = [bundle["text/html"].split('id="')[1] for bundle in shown]
    assert names[0].startswith('table-bits-then-4"')
    assert names[1].startswith('table-table"')


def test_numbers_stay_when_a_cell_runs_again(
    shown: list[dict[str, str]], run: results.Run
) -> None:
    for name in ("first", "second", "first"):
        figures.show(_figure(), "A line.", "A line.", name)
    figures.table(pd.DataFrame({"a": [1]}), "A table.")
    labels = [bundle["text/plain"].split(":")[0] for bundle in shown]
    assert labels == ["Figure 1", "Figure 2", "Figure 1", "Table 1"]


def test_no_run_is_said(
    shown: list[dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(results, "_current", None)
    figures.table(pd.DataFrame({"a": [1]}), "A table.")
    assert figures.NO_RUN in shown[0]["text/html"]


def test_table_cells() -> None:
    frame = pd.DataFrame(
        {
            "pair": ["a & b", None],
            "value": [-1.23456, np.nan],
            "tiny": [1.5e-7, 0.0],
            "n": pd.array([3, None], dtype="Int64"),
            "same": [True, False],
            "big": [2.5e7, np.inf],
        }
    )
    page = html_rows(frame, {"value": 2, "tiny": 3, "big": 1})
    cells = re.findall(r"<td[^>]*>(.*?)</td>", page)
    assert cells == [
        *("a &amp; b", "−1.23", "1.50 · 10<sup>−7</sup>", "3", "yes"),
        "2 · 10<sup>7</sup>",
        *("–", "–", "0.000", "–", "no", "∞"),
    ]
    assert page.count('scope="col"') == 6


@pytest.mark.parametrize("name", [None, "bits"])
def test_left_over_row_numbers_are_not_shown(name: str | None) -> None:
    kept = pd.DataFrame({"value": [1.0, 2.0, 3.0]}).loc[[2, 0]]
    page = html_rows(kept.rename_axis(name), 1)
    assert ("bits</th>" in page) == (name is not None)
    assert (">2</td>" in page) == (name is not None)
    assert "index" not in page


def test_table_shows_a_named_index_and_its_caption(
    shown: list[dict[str, str]], run: results.Run
) -> None:
    frame = pd.DataFrame({"a": [1.0]}, index=pd.Index(["x"], name="kind"))
    figures.table(frame, "Kinds <all>.", digits=1)
    page = shown[0]["text/html"]
    assert ">kind</th>" in page and ">x</td>" in page and ">1.0</td>" in page
    assert "<strong>Table 1:</strong> Kinds &lt;all&gt;." in page
    assert 'id="table-kinds-all"' in page and 'role="region"' in page


def test_empty_table_is_an_error(run: results.Run) -> None:
    with pytest.raises(ValueError, match="has no rows"):
        figures.table(pd.DataFrame({"a": []}), "Nothing.")
    with pytest.raises(ValueError, match="caption is empty"):
        figures.table(pd.DataFrame({"a": [1]}), "")
