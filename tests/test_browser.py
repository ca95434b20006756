"""The book in a real browser, with no network."""

from __future__ import annotations

import functools
import json
import os
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from book_build import built_book
from conftest import Browser
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
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
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # Any other host is unreachable, as on a train.
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
)
DESKTOP, PHONE = 1280, 390
# An image's own source is at times data:, the browser's are chrome:.
LOCAL = ("data:", "blob:", "chrome", "about:")
MATHJAX = """
const done = arguments[0];
const ready = window.MathJax ? MathJax.startup.promise : Promise.resolve();
ready.then(() => done(true));
"""
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


class Quiet(SimpleHTTPRequestHandler):
    """A server that does not report each request."""

    def log_message(self, *arguments: Any) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def base() -> Iterator[str]:
    """Address at which the built book is served."""
    built = built_book()
    assert built.code == 0, built.output
    handler = functools.partial(Quiet, directory=str(built.html))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()


@pytest.fixture(scope="module")
def driver(
    chromium: Browser, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[webdriver.Chrome]:
    """A browser that reaches this machine only."""
    options = webdriver.ChromeOptions()
    options.binary_location = chromium.binary
    profile: Path = tmp_path_factory.mktemp("browser")
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    logs = {"browser": "ALL", "performance": "ALL"}
    options.set_capability("goog:loggingPrefs", logs)
    service = Service(chromium.driver, env=dict(os.environ))
    browser = webdriver.Chrome(options=options, service=service)
    browser.set_page_load_timeout(120)
    browser.set_script_timeout(120)
    yield browser
    browser.quit()


def _open(
    driver: webdriver.Chrome, address: str, width: int = DESKTOP
) -> None:
    driver.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {
            "width": width,
            "height": 900,
            "deviceScaleFactor": 1,
            "mobile": False,
        },
    )
    for kind in ("browser", "performance"):
        driver.get_log(kind)
    driver.get(address)
    driver.execute_async_script(MATHJAX)


def _set_mode(driver: webdriver.Chrome, mode: str) -> None:
    script = f"localStorage.setItem('mode', '{mode}');"
    driver.execute_script(f"{script}localStorage.setItem('theme', '{mode}')")
    driver.refresh()
    driver.execute_async_script(MATHJAX)
    shown = driver.execute_script("return document.documentElement.dataset")
    assert shown["theme"] == mode


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
    _open(driver, f"{base}{name}.html")
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
        _open(driver, f"{base}{name}.html", width)
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
        _open(driver, f"{base}book/chapters/{name}.html")
        _set_mode(driver, mode)
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
    _open(driver, f"{base}book/chapters/{chapters()[0]}.html")
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
    _open(driver, f"{start}search.html?q=distance")
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
