"""The whole book as one page, and that page as a PDF file.

No package of the lock joins PDF files, so the pages are joined before:
their articles, in the order of the table of contents, with the style
sheets and the MathJax of the book. Headless Chromium prints the result.
"""

from __future__ import annotations

import base64
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple
from urllib.parse import unquote, urljoin, urlsplit

from lq_utils.book_zip import ReleaseError
from lq_utils.paths import atomic_write

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
DRIVER = "chromedriver"
HEADLESS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
)
FLAGS = (
    "--allow-file-access-from-files",
    # Any other host is unreachable: the file holds what the book has.
    "--host-resolver-rules=MAP * ~NOTFOUND",
)
WAIT = 600  # seconds for the formulas of all pages
MATHJAX = """
const done = arguments[0];
const ready = window.MathJax ? MathJax.startup.promise : Promise.resolve();
ready.then(() => document.fonts.ready).then(() => done(true));
"""
PAPER = {
    "paperWidth": 8.27,  # A4, inches
    "paperHeight": 11.69,
    "printBackground": True,
    "generateDocumentOutline": True,
    "transferMode": "ReturnAsBase64",
}
TITLE = "Label-aware quantization"
STYLE = """
@page { margin: 16mm 14mm; }
html { font-size: 11px; }
body { background: #fff; margin: 0; padding: 0; }
section.lq-page { break-before: page; }
section.lq-page:first-of-type { break-before: auto; }
pre, .lq-table, .lq-diagram { overflow: visible !important; }
pre, code { white-space: pre-wrap !important; overflow-wrap: anywhere; }
table { width: 100% !important; overflow-wrap: anywhere; }
figure, img, svg { break-inside: avoid; max-width: 100% !important; }
.lq-diagram svg { min-width: 0 !important; }
h1, h2, h3, h4 { break-after: avoid; }
.headerlink, .copybtn, .only-dark { display: none !important; }
"""
ARTICLE = re.compile(r'(?s)<article class="bd-article">(.*)</article>')
ADDRESS = re.compile(r'\b(src|href|data|id)="([^"]*)"')
# Places of index entries, which Sphinx counts anew on each page.
COUNTED = re.compile(r"index-\d+")
SHEETS = re.compile(r'<link[^>]*rel="stylesheet"[^>]*>')
SCRIPTS = re.compile(
    r"<script>window\.MathJax = .*?</script>|"
    r"<script[^>]*mathjax/tex-chtml\.js[^>]*></script>"
)


def _anchor(name: str) -> str:
    return f"page-{name.replace('/', '-')}"


def _moved(page: Path, text: str, anchors: dict[Path, str]) -> str:
    """A page's text with addresses that hold from anywhere.

    Links to other pages of the book lead to places in the same file.
    """

    own = page.resolve()

    def place(target: Path, fragment: str) -> str:
        name = anchors.get(target, "")
        if COUNTED.fullmatch(fragment):
            return f"{name}-{fragment}"
        return fragment or name

    def address(found: re.Match[str]) -> str:
        kind, given = found.groups()
        if kind == "id":
            return f'id="{place(own, given)}"' if given else found[0]
        parts = urlsplit(given)
        if not given or parts.scheme or parts.netloc:
            return found[0]
        target = (own.parent / unquote(parts.path)).resolve()
        if not parts.path:
            return f'{kind}="#{place(own, parts.fragment)}"'
        if kind == "href" and target in anchors:
            return f'{kind}="#{place(target, parts.fragment)}"'
        return f'{kind}="{urljoin(own.as_uri(), given)}"'

    return ADDRESS.sub(address, text)


def joined(html: Path, names: Sequence[str]) -> str:
    """One HTML page of the named pages below ``html``, in that order.

    Folded parts are open, since paper cannot be unfolded.

    Raises ReleaseError for a page that was not rendered.

    Introduced on the page "Re-run it".
    """
    files = {name: (html / name).with_suffix(".html") for name in names}
    anchors = {path.resolve(): _anchor(name) for name, path in files.items()}
    heads: dict[str, None] = {}
    body = []
    for name, path in files.items():
        text = path.read_text("utf-8") if path.is_file() else ""
        article = ARTICLE.search(text)
        if article is None:
            raise ReleaseError(
                f"{path} is no rendered page: build the book first, with "
                "python -m lq_utils book"
            )
        for part in (*SHEETS.findall(text), *SCRIPTS.findall(text)):
            heads[_moved(path, part, {})] = None
        inner = _moved(path, article[1], anchors)
        inner = inner.replace("<details ", "<details open ")
        body.append(
            f'<section class="lq-page" id="{_anchor(name)}">{inner}</section>'
        )
    return (
        '<!DOCTYPE html>\n<html lang="en" data-theme="light" '
        'data-mode="light">\n<head><meta charset="utf-8">\n'
        f"<title>{TITLE}</title>\n"
        + "\n".join(heads)
        + f"\n<style>{STYLE}</style></head>\n<body>\n"
        + "\n".join(body)
        + "\n</body></html>\n"
    )


class Browser(NamedTuple):
    """Paths of a Chromium-like browser and of its driver.

    Introduced on the page "Re-run it".
    """

    binary: str
    driver: str


def find_browser() -> Browser | None:
    """The first browser on PATH, if its driver is there too.

    Introduced on the page "Re-run it".
    """
    binary = next(filter(None, map(shutil.which, BROWSERS)), None)
    driver = shutil.which(DRIVER)
    return Browser(binary, driver) if binary and driver else None


@contextmanager
def started(
    found: Browser, flags: Sequence[str], logs: Mapping[str, str]
) -> Iterator[Any]:
    """A driven browser with an empty profile, closed in the end.

    ``flags`` are added to those of every headless browser, ``logs`` maps
    a kind of log to its level. Yields selenium's driver.

    Raises ReleaseError without selenium. Introduced on the page
    "Re-run it".
    """
    try:
        from selenium import webdriver
        from selenium.webdriver.chrome.service import Service
    except ImportError as error:
        raise ReleaseError(
            "selenium, which drives the browser, is not installed: do "
            "pip install -e .[test], or leave the PDF out with --no-pdf"
        ) from error

    options = webdriver.ChromeOptions()
    options.binary_location = found.binary
    options.set_capability("goog:loggingPrefs", dict(logs))
    with TemporaryDirectory() as profile:
        for flag in (*HEADLESS, *flags, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        service = Service(found.driver, env=dict(os.environ))
        driver = webdriver.Chrome(options=options, service=service)
        executor: Any = driver.command_executor
        executor.client_config.timeout = WAIT
        driver.set_page_load_timeout(WAIT)
        driver.set_script_timeout(WAIT)
        try:
            yield driver
        finally:
            driver.quit()


def _browser() -> AbstractContextManager[Any]:
    found = find_browser()
    if found is None:
        raise ReleaseError(
            "no Chromium with chromedriver was found to print the book: "
            "install them, or leave the PDF out with --no-pdf"
        )
    return started(found, FLAGS, {})


def print_pdf(text: str, path: Path) -> None:
    """Print an HTML page into a PDF file, A4, its formulas drawn first.

    Raises ReleaseError where there is no browser.

    Introduced on the page "Re-run it".
    """
    with TemporaryDirectory() as folder, _browser() as driver:
        page = Path(folder) / "book.html"
        page.write_text(text, "utf-8")
        driver.get(page.as_uri())
        driver.execute_async_script(MATHJAX)
        printed = driver.execute_cdp_cmd("Page.printToPDF", PAPER)
        with atomic_write(path) as temporary:
            temporary.write_bytes(base64.b64decode(printed["data"]))
