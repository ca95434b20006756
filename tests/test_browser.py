"""The book in a real browser, with no network."""

from __future__ import annotations

import json

import pytest
from book_build import built_book
from browser_pages import DESKTOP, PHONE, open_page, set_mode
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support import expected_conditions
from selenium.webdriver.support.ui import WebDriverWait

from lq_utils.pages import contents
from lq_utils.paths import ROOT
from lq_utils.profiles import chapters

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.timeout(1200),
]
NAMES = contents(ROOT / "_toc.yml")
# An image's own source is at times data:, the browser's are chrome:.
LOCAL = ("data:", "blob:", "chrome", "about:")
VISIBLE = """
return [...document.querySelectorAll('figure.lq-figure')].map(figure => ({
  shown: [...figure.querySelectorAll('img')]
    .filter(image => image.offsetWidth > 0).map(image => image.className),
  caption: figure.querySelector('figcaption').offsetHeight,
  wide: figure.getBoundingClientRect().right,
}));
"""
CONTRAST = """
const numbers = text => text.match(/[\\d.]+/g).map(Number);
const light = ([r, g, b]) => {
  const [x, y, z] = [r, g, b].map(v => v / 255).map(
    v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  return 0.2126 * x + 0.7152 * y + 0.0722 * z;
};
const behind = node => {
  if (!node) return [255, 255, 255];
  const text = getComputedStyle(node).backgroundColor;
  const [r, g, b, alpha = 1] = numbers(text);
  if (alpha === 1) return [r, g, b];
  return behind(node.parentElement).map(
    (below, k) => alpha * [r, g, b][k] + (1 - alpha) * below);
};
return [...document.querySelectorAll(arguments[0])].map(node => {
  const text = light(numbers(getComputedStyle(node).color));
  const page = light(behind(node));
  return (Math.max(text, page) + 0.05) / (Math.min(text, page) + 0.05);
});
"""


def _requests(driver: webdriver.Chrome) -> list[str]:
    messages = [
        json.loads(entry["message"])["message"]
        for entry in driver.get_log("performance")
    ]
    return [
        m["params"]["request"]["url"]
        for m in messages
        if m["method"] == "Network.requestWillBeSent"
    ]


@pytest.mark.parametrize("name", NAMES)
def test_page_works_offline(
    driver: webdriver.Chrome, base: str, name: str
) -> None:
    open_page(driver, f"{base}{name}.html")
    formulas = driver.find_elements(By.CSS_SELECTOR, "span.math, div.math")
    drawn = driver.find_elements(By.TAG_NAME, "mjx-container")
    assert len(drawn) == len(formulas)
    assert not driver.find_elements(By.CSS_SELECTOR, "mjx-merror")
    broken = driver.execute_script(
        "return [...document.images].filter(i => !i.naturalWidth)"
        ".map(i => i.src.slice(0, 80))"
    )
    assert not broken
    severe = [e for e in driver.get_log("browser") if e["level"] == "SEVERE"]
    assert not severe
    requests = _requests(driver)
    assert any(url.startswith(base) for url in requests)
    assert not [u for u in requests if not u.startswith((base, *LOCAL))]


@pytest.mark.parametrize("width", [DESKTOP, PHONE])
def test_no_page_scrolls_sideways(
    driver: webdriver.Chrome, base: str, width: int
) -> None:
    too_wide = []
    for name in NAMES:
        open_page(driver, f"{base}{name}.html", width)
        page, window = driver.execute_script(
            "const e = document.documentElement;"
            "return [e.scrollWidth, e.clientWidth]"
        )
        if page > window:
            too_wide.append((name, page))
    assert not too_wide


@pytest.mark.parametrize("mode", ["light", "dark"])
def test_figures_and_text_are_legible(
    driver: webdriver.Chrome, base: str, mode: str
) -> None:
    for name in chapters():
        open_page(driver, f"{base}book/chapters/{name}.html")
        set_mode(driver, mode)
        figures = driver.execute_script(VISIBLE)
        assert figures
        for figure in figures:
            assert figure["shown"] == [f"only-{mode}"]
            assert figure["caption"] > 10
            assert figure["wide"] <= DESKTOP
        texts = (
            "figcaption, .lq-provenance, .lq-table td, .lq-table caption,"
            ".lq-stamp, .lq-stamp strong, article p, article li,"
            "article a:not(.headerlink)"  # shown under the mouse only
        )
        ratios = driver.execute_script(CONTRAST, texts)
        assert len(ratios) > 20
        assert min(ratios) >= 4.5, sorted(ratios)[:5]


def test_code_of_79_columns_fits_a_desktop(
    driver: webdriver.Chrome, base: str
) -> None:
    open_page(driver, f"{base}book/chapters/{chapters()[0]}.html")
    columns = driver.execute_script(
        "const pre = document.querySelector('div.cell_input pre');"
        "const mark = document.createElement('span');"
        "mark.textContent = 'm'.repeat(79); pre.prepend(mark);"
        "const style = getComputedStyle(pre);"
        "const room = pre.clientWidth - parseFloat(style.paddingLeft)"
        " - parseFloat(style.paddingRight);"
        "const width = mark.getBoundingClientRect().width; mark.remove();"
        "return 79 * room / width"
    )
    assert columns >= 79


@pytest.mark.parametrize("scheme", ["http", "file"])
def test_search_finds_the_chapter(
    driver: webdriver.Chrome, base: str, scheme: str
) -> None:
    folder = built_book().html.resolve().as_uri() + "/"
    start = base if scheme == "http" else folder
    open_page(driver, f"{start}search.html?q=distance")
    links = WebDriverWait(driver, 60).until(
        lambda d: d.find_elements(By.CSS_SELECTOR, "#search-results li a")
    )
    targets = [link.get_attribute("href") or "" for link in links]
    assert any("chapters/01_class_distances.html" in t for t in targets)
    severe = [e for e in driver.get_log("browser") if e["level"] == "SEVERE"]
    assert scheme == "file" or not severe


def test_home_page_leads_to_the_first_chapter(
    driver: webdriver.Chrome, base: str
) -> None:
    driver.get(base)  # only sends the browser on: there is no MathJax yet
    WebDriverWait(driver, 60).until(
        lambda d: d.current_url.endswith("book/intro.html")
    )
    link = "nav a[href*='01_class_distances']"
    WebDriverWait(driver, 60).until(
        expected_conditions.element_to_be_clickable((By.CSS_SELECTOR, link))
    ).click()
    title = WebDriverWait(driver, 60).until(
        lambda d: d.find_element(By.CSS_SELECTOR, "article h1").text
    )
    assert title.startswith("1. ")
