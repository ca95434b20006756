"""Interactive figures in a real browser, from disk, by keyboard."""

from __future__ import annotations

from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from test_interactive import page_of, some_points, some_steps

from lq_utils.interactive import STATIC

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page with one figure of each kind; script and style beside it."""
    folder = tmp_path_factory.mktemp("page")
    for name in ("interactive.js", "interactive.css"):
        (folder / name).write_bytes((STATIC / name).read_bytes())
    path = folder / "page.html"
    path.write_text(
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<title>t</title><link rel="stylesheet" href="interactive.css">'
        '<script src="interactive.js" defer></script></head><body>'
        f"{page_of(some_steps(), 's')}{page_of(some_points(), 'p')}"
        "</body></html>",
        "utf-8",
    )
    return path


def test_slider_and_lists_work_by_keyboard(
    driver: webdriver.Chrome, page: Path
) -> None:
    driver.get(page.as_uri())
    words = driver.find_elements(By.CSS_SELECTOR, "[aria-live]")
    marks = driver.find_elements(By.CSS_SELECTOR, ".lq-marks")
    slider = driver.find_element(By.ID, "interactive-s-step")
    assert words[0].text == "One <."
    before = marks[0].get_attribute("innerHTML")
    slider.send_keys(Keys.ARROW_RIGHT)
    assert words[0].text == "Two."
    assert slider.get_attribute("aria-valuetext") == "2"
    assert marks[0].get_attribute("innerHTML") != before
    assert len(marks[0].find_elements(By.CSS_SELECTOR, ".lq-dots")) == 2
    chosen = driver.find_element(By.ID, "interactive-p-choice")
    assert words[1].text == "None."  # first in the alphabet: "</script>"
    chosen.send_keys("otter")
    assert words[1].text == "An otter."
    near = marks[1].find_elements(By.CSS_SELECTOR, ".lq-near, .lq-chosen")
    assert len(near) == 2
    group = driver.find_element(By.ID, "interactive-p-group")
    group.send_keys("other")
    assert len(marks[1].find_elements(By.CSS_SELECTOR, ".lq-dots")) == 1
    outline = driver.execute_script(
        "return getComputedStyle(document.activeElement).outlineStyle"
    )
    assert outline == "solid"
    severe = [e for e in driver.get_log("browser") if e["level"] == "SEVERE"]
    assert not severe
    opened = driver.execute_script("return document.body.scrollWidth")
    assert opened <= driver.execute_script("return window.innerWidth")


def test_without_a_script_the_table_is_seen(
    driver: webdriver.Chrome, page: Path
) -> None:
    off = {"value": True}
    driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", off)
    driver.get(page.as_uri())
    cells = driver.find_elements(By.CSS_SELECTOR, "details td")
    assert cells and all(cell.is_displayed() for cell in cells)
    slider = driver.find_element(By.ID, "interactive-s-step")
    assert not slider.is_displayed()
