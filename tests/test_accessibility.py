"""Every page against axe-core's rules for WCAG 2, levels A and AA."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest
from browser_pages import open_page, set_mode
from selenium import webdriver

from lq_utils.pages import contents
from lq_utils.paths import ROOT

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.timeout(1800),
]
NAMES = [*contents(ROOT / "_toc.yml"), "search"]
SEVERE = ("serious", "critical")
# In the dark view only colours differ. Formulas are MathJax's own, which
# is the same on each page and draws every letter as an element.
RUN = """
const [rules, done] = arguments;
document.querySelectorAll('details').forEach(d => { d.open = true; });
axe.run(
  {include: [['html']], exclude: [['mjx-container > *']]},
  {resultTypes: ['violations'], preload: false, ...rules},
).then(found => done(found.violations.map(v => ({
  rule: v.id, impact: v.impact,
  nodes: v.nodes.map(n => n.html.slice(0, 120)),
}))));
"""
RULES = {
    "light": {
        "runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa"]},
        "rules": {"heading-order": {"enabled": True}},
    },
    "dark": {"runOnly": {"type": "rule", "values": ["color-contrast"]}},
}


def axe() -> str:
    """The script of axe-core, which a package of that name brings along."""
    spec = find_spec("axe_core_python")
    assert spec is not None and spec.origin is not None
    return (Path(spec.origin).parent / "axe.min.js").read_text("utf-8")


def violations(driver: webdriver.Chrome, mode: str) -> list[dict[str, object]]:
    """What axe-core calls serious or critical on the open page."""
    driver.execute_script(axe())
    found = driver.execute_async_script(RUN, RULES[mode])
    # The order of headings matters to the book as much as contrast.
    return [
        v
        for v in found
        if v["impact"] in SEVERE or v["rule"] == "heading-order"
    ]


@pytest.mark.parametrize("mode", ["light", "dark"])
@pytest.mark.parametrize("name", NAMES)
def test_page_is_accessible(
    driver: webdriver.Chrome, base: str, name: str, mode: str
) -> None:
    open_page(driver, f"{base}{name}.html")
    set_mode(driver, mode)
    assert violations(driver, mode) == []


BAD = """<!doctype html><html lang="en"><head><title>t</title></head><body>
<h1>One</h1><h3>Three</h3><p style="color:#aaa;background:#fff">faint</p>
<img src="data:,"><button></button></body></html>"""


def test_a_bad_page_is_seen(driver: webdriver.Chrome, tmp_path: Path) -> None:
    page = tmp_path / "bad.html"
    page.write_text(BAD, "utf-8")
    open_page(driver, page.as_uri())
    seen = {str(v["rule"]) for v in violations(driver, "light")}
    wrong = {"color-contrast", "image-alt", "button-name", "heading-order"}
    assert seen == wrong
    seen = {str(v["rule"]) for v in violations(driver, "dark")}
    assert seen == {"color-contrast"}
