"""Pages in a headless browser that reaches this machine only."""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from selenium import webdriver

from lq_utils.book_print import Browser, started

FLAGS = (
    "--disable-quic",
    "--disable-component-update",
    "--disable-sync",
    # Any other host is unreachable, as on a train.
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
)
DESKTOP, PHONE = 1280, 390
MATHJAX = """
const done = arguments[0];
const ready = window.MathJax ? MathJax.startup.promise : Promise.resolve();
ready.then(() => done(true));
"""


class Quiet(SimpleHTTPRequestHandler):
    """A server that does not report each request."""

    def log_message(self, *arguments: Any) -> None:
        """Say nothing."""


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Address at which a folder is served."""
    handler = functools.partial(Quiet, directory=str(folder))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()


def opened(found: Browser) -> AbstractContextManager[webdriver.Chrome]:
    """A browser with an empty profile, and logs of all that it does."""
    return started(found, FLAGS, {"browser": "ALL", "performance": "ALL"})


def open_page(
    driver: webdriver.Chrome, address: str, width: int = DESKTOP
) -> None:
    """Open a page at a width in pixels, wait for its formulas."""
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


def set_mode(driver: webdriver.Chrome, mode: str) -> None:
    """Show the open page in the light or the dark view."""
    script = f"localStorage.setItem('mode', '{mode}');"
    driver.execute_script(f"{script}localStorage.setItem('theme', '{mode}')")
    driver.refresh()
    driver.execute_async_script(MATHJAX)
    shown = driver.execute_script("return document.documentElement.dataset")
    assert shown["theme"] == mode
