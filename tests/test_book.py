"""The whole book: every chapter runs, the pages are whole and offline."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import unquote, urlsplit

import page_samples
import pandas as pd
import pytest
import recorded_rows
import yaml
from book_build import (
    Build,
    built_book,
    copy_sources,
    make_book,
    run_in,
    scratch_folder,
)
from sphinx.errors import ConfigError

from lq_utils import pages
from lq_utils.paths import ROOT
from lq_utils.profiles import chapters
from lq_utils.rows import load_rows

sys.path.insert(0, str(ROOT / "_ext"))
import bookfix

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400)]
Attributes = dict[str, str]
LOADING_LINKS = {
    *("stylesheet", "preload", "prefetch", "preconnect", "dns-prefetch"),
    *("icon", "shortcut", "modulepreload", "manifest", "apple-touch-icon"),
}
HOSTS = re.compile(r"unpkg\.com|jsdelivr|cdnjs|googleapis|gstatic|cdn\.")


class Page(HTMLParser):
    """Tags, ids, visible text and inline code of one HTML file."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.tags: list[tuple[str, Attributes]] = []
        self.ids: set[str] = set()
        self.text = ""
        self.code = ""
        self._inside = ""
        self.feed(path.read_text("utf-8"))

    def handle_starttag(
        self, tag: str, attrs: list[tuple[str, str | None]]
    ) -> None:
        attributes = {name: value or "" for name, value in attrs}
        self.tags.append((tag, attributes))
        self.ids.add(attributes.get("id", ""))
        if tag in ("script", "style"):
            self._inside = tag

    def handle_endtag(self, tag: str) -> None:
        if tag == self._inside:
            self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.code += data
        else:
            self.text += data

    def all(self, name: str) -> Iterator[Attributes]:
        """Attributes of every tag of that name."""
        return (attributes for tag, attributes in self.tags if tag == name)


@pytest.fixture(scope="session")
def book() -> Build:
    built = built_book()
    assert built.code == 0, built.output
    return built


@cache
def _read(path: Path) -> Page:
    return Page(path)


@pytest.fixture(scope="session")
def html(book: Build) -> list[Page]:
    found = [_read(p) for p in sorted(book.html.rglob("*.html"))]
    assert len(found) > len(pages.contents(ROOT / "_toc.yml"))
    return found


def _words(page: Page) -> str:
    return " ".join(page.text.split())


def test_book_says_where_it_is_and_on_what(book: Build) -> None:
    assert f"The book: {book.html / 'index.html'}" in book.output
    assert (book.html / "index.html").is_file()
    for name in chapters():
        assert re.search(
            rf"{name}: smoke profile, seed \d+, .* split", book.output
        )


@pytest.mark.parametrize("name", chapters())
def test_chapter_page_names_its_run(book: Build, name: str) -> None:
    run = json.loads((book.results / name / "run.json").read_text("utf-8"))
    page = _read(book.html / "book" / "chapters" / f"{name}.html")
    words = _words(page)
    seed = run["parameters"]["seed"]
    assert f"the smoke profile, seed {seed}, on {run['stamp']}" in words
    assert run["run_id"] in words
    assert "About this run" in words and "Parameters of this run" in words
    assert "Traceback (most recent call last)" not in words
    for parameter in run["parameters"]:
        assert parameter in words
    rows = (book.results / name / "rows.csv").read_text("utf-8")
    assert run["run_id"] in rows, "no row of this run"


@pytest.mark.parametrize("name", chapters())
def test_chapter_page_has_figures_with_provenance(
    book: Build, name: str
) -> None:
    page = _read(book.html / "book" / "chapters" / f"{name}.html")
    figures = [a for a in page.all("figure") if "lq-figure" in a["class"]]
    assert figures, "a chapter with no figure"
    for variant in ("only-light", "only-dark"):
        images = [a for a in page.all("img") if a.get("class") == variant]
        assert len(images) == len(figures)
    captions = re.findall(r"Figure \d+: ", _words(page))
    assert len(captions) >= len(figures)
    assert _words(page).count("smoke profile · seed") >= len(figures)


@pytest.mark.parametrize("name", chapters())
def test_chapter_has_one_interactive_figure(book: Build, name: str) -> None:
    page = _read(book.html / "book" / "chapters" / f"{name}.html")
    figures = [a for a in page.all("figure") if "lq-inter" in a["class"]]
    assert len(figures) == 1
    scripts = [a["src"] for a in page.all("script") if "src" in a]
    assert sum("_static/interactive.js" in s for s in scripts) == 1
    # The page does not carry the script that the output of the cell has.
    assert "lq-marks" not in page.code


@pytest.mark.parametrize("name", chapters())
def test_chapter_downloads_are_the_committed_files(
    book: Build, name: str
) -> None:
    page = _read(book.html / "book" / "chapters" / f"{name}.html")
    for suffix in (".py", ".ipynb"):
        links = {
            a["href"]
            for a in page.all("a")
            if a.get("href", "").endswith(f"/{name}{suffix}")
        }
        assert links, f"no link to {name}{suffix}"
        for link in links:
            offered = (page.path.parent / link).resolve().read_bytes()
            source = book.root / "notebooks" / f"{name}{suffix}"
            assert offered == source.read_bytes()


@pytest.mark.parametrize(
    ("name", "workers"), [("03_gpfq_sweeps", "2"), ("05_twonn_vs_pca", "1")]
)
def test_a_second_run_gives_the_same_rows(
    book: Build, tmp_path: Path, name: str, workers: str
) -> None:
    """With an empty cache, and for the sweeps with other workers."""
    done = run_in(
        book.root,
        *("-m", "lq_utils", "run", name, "--profile", "smoke"),
        *("-p", "workers", workers),
        LQ_CACHE_DIR=str(tmp_path / "cache"),
        LQ_RESULTS_DIR=str(tmp_path / "results"),
    )
    assert done.code == 0, done.output
    first, second = (
        load_rows(folder / name).drop(columns="run_id")
        for folder in (book.results, tmp_path / "results" / "smoke")
    )
    pd.testing.assert_frame_equal(first, second, check_exact=True)


# Only CIFAR has the classes that the report prints distances of.
ONLY_CIFAR = {"report_pair_distance", "report_pair_rank"}


def test_chapters_record_the_rows_that_claims_know(book: Build) -> None:
    found = recorded_rows.recorded(book.results)
    known = {line for line in recorded_rows.known() if line[0] == "smoke"}
    again = "run python tests/recorded_rows.py _build/results/smoke"
    assert not found - known, again
    missing = {line for line in known - found if line[2] not in ONLY_CIFAR}
    assert not missing, again


def test_status_page_names_every_run(book: Build) -> None:
    words = _words(_read(book.html / "book" / "status.html"))
    for name in chapters():
        run = json.loads((book.results / name / "run.json").read_text())
        assert run["run_id"] in words and run["stamp"] in words
        assert run["packages"]["numpy"] in words


def _is_remote(address: str) -> bool:
    parts = urlsplit(address.strip())
    return parts.scheme not in ("", "data") or bool(parts.netloc)


def _resources(page: Page) -> Iterator[str]:
    for tag, attributes in page.tags:
        if tag == "link":
            if LOADING_LINKS & set(attributes.get("rel", "").split()):
                yield attributes.get("href", "")
            continue
        for name in ("src", "data", "poster"):
            if name in attributes and tag != "a":
                yield attributes[name]
        for candidate in attributes.get("srcset", "").split(","):
            yield candidate.strip().split(" ")[0]
        yield from _css_addresses(attributes.get("style", ""))


def _css_addresses(css: str) -> list[str]:
    quoted = re.findall(r"url\(\s*['\"]?([^'\")]+)", css)
    return quoted + re.findall(r"@import\s+['\"]([^'\"]+)", css)


def test_pages_load_nothing_remote(html: list[Page]) -> None:
    for page in html:
        remote = [a for a in _resources(page) if _is_remote(a)]
        remote += [a for a in _css_addresses(page.code) if _is_remote(a)]
        assert not remote, f"{page.path.name} loads {remote}"
        assert not HOSTS.search(page.code), f"{page.path.name}: inline script"


def test_style_sheets_load_nothing_remote(book: Build) -> None:
    sheets = list(book.html.rglob("*.css"))
    assert sheets
    for sheet in sheets:
        addresses = _css_addresses(sheet.read_text("utf-8"))
        remote = [a for a in addresses if _is_remote(a)]
        assert not remote, f"{sheet.name} loads {remote}"


def test_local_resources_are_there(html: list[Page]) -> None:
    for page in html:
        for address in filter(None, _resources(page)):
            path = unquote(urlsplit(address).path)
            if not address.startswith("data:"):
                target = page.path.parent / path
                assert target.is_file(), f"{page.path.name}: {address}"


HEAVIEST = 2_000_000  # bytes of a page and of our files that it loads
# The theme, its fonts and MathJax are fetched once for all pages.
OURS = ("custom.css", "interactive.", "logo.png", "favicon.png")


def _is_ours(address: str) -> bool:
    path = urlsplit(address).path
    return any(f"_static/{name}" in path for name in OURS)


def test_no_page_is_heavy(html: list[Page]) -> None:
    for page in html:
        weight = page.path.stat().st_size
        for address in {a for a in _resources(page) if _is_ours(a)}:
            path = unquote(urlsplit(address).path)
            weight += (page.path.parent / path).stat().st_size
        assert weight <= HEAVIEST, f"{page.path.name}: {weight:,} bytes"


def test_internal_links_lead_somewhere(html: list[Page]) -> None:
    broken = []
    for page in html:
        for attributes in page.all("a"):
            address = attributes.get("href", "")
            parts = urlsplit(address)
            if parts.scheme or parts.netloc or address in ("", "#"):
                continue
            path = unquote(parts.path)
            target = (page.path.parent / path).resolve() if path else page.path
            if not target.is_file():
                broken.append(f"{page.path.name}: {address}")
            elif (
                parts.fragment
                and target.suffix == ".html"
                and unquote(parts.fragment) not in _read(target).ids
            ):
                broken.append(f"{page.path.name}: {address} (anchor)")
    assert not broken


def test_every_image_has_an_alt_text(html: list[Page]) -> None:
    for page in html:
        for attributes in page.all("img"):
            source = attributes.get("src", "")[:80]
            alt = attributes.get("alt", "").strip()
            assert alt, f"{page.path.name}: {source}"
            assert "_images/" not in alt, f"{page.path.name}: {source}"


def test_mathjax_is_the_vendored_one(html: list[Page], book: Build) -> None:
    scripts = {a.get("src", "") for p in html for a in p.all("script")}
    found = [s for s in scripts if "mathjax" in s.lower()]
    assert found and all("_static/mathjax/tex-chtml.js" in s for s in found)
    fonts = book.html / "_static/mathjax/output/chtml/fonts/woff-v2"
    assert len(list(fonts.glob("*.woff"))) > 20
    assert (book.html / "_static/mathjax/LICENSE").is_file()


def test_nothing_to_launch_without_a_repository(html: list[Page]) -> None:
    for page in html:
        links = [a.get("href", "") for a in page.all("a")]
        assert not [h for h in links if "mybinder" in h or "colab" in h]


def test_second_build_redoes_nothing(book: Build) -> None:
    html = book.html / "book" / "chapters" / f"{chapters()[0]}.html"
    before = html.stat().st_mtime_ns
    again = make_book(book.root)
    assert again.code == 0, again.output
    for name in chapters():
        assert f"up to date {name}" in again.output
    assert html.stat().st_mtime_ns == before
    assert f"The book: {book.html / 'index.html'}" in again.output


@pytest.fixture
def failing() -> Path:
    """A repository whose first chapter fails, with its old pages."""
    root = copy_sources(scratch_folder())
    name = chapters()[0]
    source = root / "notebooks" / f"{name}.py"
    for other in root.glob("notebooks/*_*.*"):
        other.unlink()
    source.write_text(
        "# ---\n# jupyter:\n#   kernelspec:\n#     name: python3\n"
        "#     display_name: Python 3\n#     language: python\n# ---\n\n"
        "# %% [markdown]\n# # Fails\n\n"
        '# %% tags=["parameters"]\n'
        'profile: str = "quick"  # smoke|quick|full|custom; nothing\n'
        "seed: int = 0  # 0..9; nothing\n\n"
        "# %%\nraise RuntimeError('this cell must fail')\n",
        "utf-8",
    )
    (root / "notebooks/profiles/smoke.yml").write_text("{}\n", "utf-8")
    for old in (
        root / "book" / "chapters" / f"{name}.ipynb",
        root / "_build" / "html" / "book" / "chapters" / f"{name}.html",
    ):
        old.parent.mkdir(parents=True)
        old.write_text("stale", "utf-8")
    return root


def test_a_failing_notebook_fails_the_build(failing: Path) -> None:
    build = make_book(failing)
    assert build.code == 1
    assert "this cell must fail" in build.output
    assert f"No book: {chapters()[0]} failed" in build.output
    assert "Running Jupyter-Book" not in build.output
    stale = [p for p in failing.rglob(f"{chapters()[0]}.*") if p.is_file()]
    assert [p.suffix for p in stale] == [".py"]


@pytest.fixture(scope="module")
def small() -> Path:
    """A book of one prose page and one chapter that has run."""
    root = copy_sources(scratch_folder())
    for page in root.glob("book/**/*.md"):
        page.unlink()
    (root / "book/intro.md").write_text("# Start\n\n$x^2$\n", "utf-8")
    (root / "book/rerun.md").write_text("# Again\n\nText.\n", "utf-8")
    part = {"caption": "All", "chapters": [{"file": "book/rerun"}]}
    part["chapters"].append({"file": f"book/chapters/{page_samples.NAME}"})
    toc = {"format": "jb-book", "root": "book/intro", "parts": [part]}
    (root / "_toc.yml").write_text(yaml.safe_dump(toc), "utf-8")
    for suffix in (".py", ".ipynb"):
        path = root / "notebooks" / f"{page_samples.NAME}{suffix}"
        path.write_text("{}", "utf-8")
    run = page_samples.write(root / "_build" / "run")
    code = "import sys; from lq_utils import pages; from pathlib import Path"
    made = run_in(root, "-c", f"{code}; pages.write_page(Path({str(run)!r}))")
    assert made.code == 0, made.output
    return root


RENDER = "import sys; from lq_utils import pages; sys.exit(pages.render())"


def test_a_warning_fails_the_build_again_and_again(small: Path) -> None:
    page = small / "book" / "intro.md"
    good = page.read_text("utf-8")
    page.write_text(good + "\n{ref}`no-such-label`\n", "utf-8")
    for _ in range(2):
        build = run_in(small, "-c", RENDER)
        assert build.code == 1
        assert "no-such-label" in build.output
        assert "No book: Jupyter Book reported" in build.output
    page.write_text(good, "utf-8")
    build = run_in(small, "-c", RENDER)
    assert build.code == 0, build.output


def test_buttons_of_a_configured_repository(small: Path) -> None:
    url = "https://github.com/someone/book"
    build = run_in(small, "-c", RENDER, LQ_REPOSITORY_URL=url)
    assert build.code == 0, build.output
    name = page_samples.NAME
    chapter = Page(build.html / "book" / "chapters" / f"{name}.html")
    links = [a.get("href", "") for a in chapter.all("a")]
    assert (
        "https://mybinder.org/v2/gh/someone/book/main"
        f"?urlpath=lab/tree/notebooks/{name}.ipynb" in links
    )
    prose = Page(build.html / "book" / "intro.html")
    links = [a.get("href", "") for a in prose.all("a")]
    assert url in links and not any("mybinder" in link for link in links)


def test_old_html_is_noticed(small: Path) -> None:
    assert run_in(small, "-c", RENDER).code == 0
    page = small / "_build" / "html" / "book" / "rerun.html"
    code = "from lq_utils import pages; print('stale:', pages.stale_pages())"
    assert "stale: []" in run_in(small, "-c", code).output
    old = (small / "book" / "rerun.md").stat().st_mtime - 10
    os.utime(page, (old, old))
    assert "stale: ['book/rerun']" in run_in(small, "-c", code).output
    page.unlink()
    assert "stale: ['book/rerun']" in run_in(small, "-c", code).output


def _configured(url: str) -> SimpleNamespace:
    return SimpleNamespace(lq_repository_url=url, lq_repository_branch="main")


def test_repository_address_is_checked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("LQ_REPOSITORY_URL", raising=False)
    config = _configured("https://github.com/a/b.git")
    bookfix.use_environment(None, config)
    assert config.lq_repository_url == "https://github.com/a/b"
    for wrong in ("github.com/a/b", "https://github.com/a", "git@x:a/b"):
        with pytest.raises(ConfigError, match="HOST/OWNER/NAME"):
            bookfix.use_environment(None, _configured(wrong))


def test_launch_button_of_another_host() -> None:
    config = _configured("https://example.org/a/b")
    (link,) = bookfix.launch_group(config, "01_x")["buttons"]
    assert link["url"] == (
        "https://mybinder.org/v2/git/https%3A%2F%2Fexample.org%2Fa%2Fb/main"
        "?urlpath=lab/tree/notebooks/01_x.ipynb"
    )


def test_scripts_are_kept_once_and_local() -> None:
    def script(name: str | None, body: str = "") -> SimpleNamespace:
        return SimpleNamespace(filename=name, attributes={"body": body})

    scripts = [
        script("_static/a.js"),
        script(None, "let a = 1"),
        script(None, "let a = 1"),
        script(None, "const THEBE_JS_URL = 'https://unpkg.com'"),
        script("_static/sphinx-thebe.js"),
        script("https://example.org/b.js"),
        script("//example.org/c.js"),
        script("_static/d.js"),
    ]
    seen: set[str] = set()
    kept = [s for s in scripts if bookfix.is_needed(s, seen)]
    assert [scripts.index(s) for s in kept] == [0, 1, 7]


def test_entries_of_a_bibliography_are_items_of_its_list() -> None:
    entry = '<div role="list"><div class="citation" role="doc-biblioentry">'
    fixed = bookfix.with_plain_entries(entry)
    assert fixed == '<div role="list"><div class="citation" role="listitem">'
