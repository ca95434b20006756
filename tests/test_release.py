"""The release: a zip that is the same each time, sums, a PDF file."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import zipfile
from pathlib import Path

import pytest
import yaml
from conftest import Browser

from lq_utils import book_print
from lq_utils.book_print import joined, print_pdf
from lq_utils.book_zip import (
    PARTS,
    ReleaseError,
    release_files,
    write_sums,
    write_zip,
)
from lq_utils.paths import ROOT
from lq_utils.release import make_release

NAMES = [f"book/page{k}" for k in range(7)]
PAGE = """\
<!DOCTYPE html><html lang="en" data-theme="auto"><head>
<link rel="stylesheet" href="../_static/custom.css" />
<script>window.MathJax = {{"options": {{"enableMenu": false}}}}</script>
<script defer="defer" src="../_static/mathjax/tex-chtml.js?v=1"></script>
</head><body><nav><a href="page0.html">aside</a></nav>
<article class="bd-article"><h1 id="title{k}">Title number{k}</h1>
<p>Words of page {k}: <span class="math">\\(x^{k}\\)</span>.
<a href="page0.html#title0">first</a> <a href="page1.html">second</a>
<a href="#title{k}">here</a> <a href="https://example.org/">far</a></p>
<img src="../_static/logo.png" alt="Logo">
<details class="fold"><summary>Fold</summary>Inside.</details>
</article></body></html>
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A small book: pages as the theme makes them, and the other parts."""
    html = tmp_path / "_build" / "html"
    shutil.copytree(ROOT / "book" / "_static", html / "_static")
    (html / "book").mkdir()
    for number, name in enumerate(NAMES):
        text = PAGE.format(k=number)
        (html / f"{name}.html").write_text(text, "utf-8")
    (html / ".buildinfo").write_text("of this machine", "utf-8")
    for part in PARTS:
        target = tmp_path / part
        if "." in target.name or target.name.isupper():
            target.write_text(f"text of {part}\n", "utf-8")
        elif not target.exists():
            (target / "inner").mkdir(parents=True)
            (target / "inner" / "file.csv").write_text("a,b\n", "utf-8")
    (tmp_path / "LICENSE-PROSE").write_text("prose", "utf-8")
    chapters = [{"file": name} for name in NAMES[1:]]
    toc = {"root": NAMES[0], "parts": [{"chapters": chapters}]}
    (tmp_path / "_toc.yml").write_text(yaml.safe_dump(toc), "utf-8")
    return tmp_path


def test_every_part_is_in_the_repository() -> None:
    for part in PARTS:
        assert part.startswith("_build/") or (ROOT / part).exists(), part


def test_the_zip_has_every_part_and_the_sums_are_right(root: Path) -> None:
    folder = root / "release"
    made = make_release(root, folder, pdf=False)
    assert [path.name for path in made] == ["book.zip", "SHA256SUMS"]
    with zipfile.ZipFile(made[0]) as archive:
        assert archive.testzip() is None
        names = archive.namelist()
        assert archive.read("html/book/page3.html").decode() == PAGE.format(
            k=3
        )
    assert names == sorted(names)
    assert "data/weights/inner/file.csv" in names
    assert "notebooks/inner/file.csv" in names
    assert {"README.md", "LICENSE", "LICENSE-PROSE"} <= set(names)
    assert not any("_build" in name or ".buildinfo" in name for name in names)
    digest, name = made[1].read_text("utf-8").split()
    assert name == "book.zip"
    assert digest == hashlib.sha256(made[0].read_bytes()).hexdigest()


def test_the_same_contents_give_the_same_bytes(root: Path) -> None:
    first, second = root / "one.zip", root / "two.zip"
    write_zip(release_files(root), first)
    for path in [*root.rglob("*.html"), *root.rglob("*.csv")]:
        os.utime(path, (1e9, 1e9))
        path.chmod(0o600)
    files = dict(reversed(release_files(root).items()))
    write_zip(files, second)
    assert first.read_bytes() == second.read_bytes()
    (root / "README.md").write_text("changed", "utf-8")
    write_zip(release_files(root), second)
    assert first.read_bytes() != second.read_bytes()


def test_sums_are_those_that_sha256sum_reads(tmp_path: Path) -> None:
    (tmp_path / "b").write_bytes(b"abc")
    (tmp_path / "a").write_bytes(b"")
    sums = write_sums([tmp_path / "b", tmp_path / "a"], tmp_path)
    # The digests are those of FIPS 180-2, and of no bytes at all.
    assert sums.read_text("utf-8") == (
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        "  a\n"
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        "  b\n"
    )


@pytest.mark.parametrize("missing", ["_build/html", "data/weights", "LICENSE"])
def test_a_missing_part_is_an_error(root: Path, missing: str) -> None:
    path = root / missing
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
    with pytest.raises(ReleaseError, match="lq_utils book"):
        make_release(root, root / "release", pdf=False)


def test_index_entries_of_two_pages_do_not_meet(root: Path) -> None:
    html = root / "_build" / "html"
    for name in NAMES[:2]:
        path = html / f"{name}.html"
        place = '<span id="index-0"></span></article>'
        path.write_text(
            path.read_text("utf-8").replace("</article>", place), "utf-8"
        )
    index = [f'<a href="book/page{k}.html#index-0">{k}</a>' for k in (0, 1)]
    text = f'<article class="bd-article">{"".join(index)}</article>'
    (html / "genindex.html").write_text(text, "utf-8")
    text = joined(html, [*NAMES, "genindex"])
    for k in (0, 1):
        place = f"page-book-page{k}-index-0"
        assert text.count(f'id="{place}"') == 1
        assert f'<a href="#{place}">{k}</a>' in text


def test_pages_are_joined_in_order_with_addresses_that_hold(
    root: Path,
) -> None:
    html = root / "_build" / "html"
    text = joined(html, NAMES)
    places = [text.index(f"Words of page {k}") for k in range(len(NAMES))]
    assert places == sorted(places)
    assert "<nav>" not in text and "aside" not in text
    assert text.count("tex-chtml.js") == 1 == text.count("window.MathJax")
    assert text.count("<details open ") == len(NAMES)
    ids = set(re.findall(r'id="([^"]+)"', text))
    for kind, address in re.findall(r'\b(src|href)="([^"]+)"', text):
        if address.startswith("file://"):
            assert Path(address[7:].split("?")[0]).is_file(), address
        elif address.startswith("#"):
            assert address[1:] in ids
        else:
            assert (kind, address) == ("href", "https://example.org/")


def test_a_page_that_was_not_rendered_is_an_error(root: Path) -> None:
    with pytest.raises(ReleaseError, match="no rendered page"):
        joined(root / "_build" / "html", [*NAMES, "book/none"])


def test_without_a_browser_the_way_out_is_named(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(book_print, "BROWSERS", ("no-such-browser",))
    with pytest.raises(ReleaseError, match="--no-pdf"):
        make_release(root, root / "release")


@pytest.mark.browser
@pytest.mark.timeout(300)
def test_the_pdf_has_all_pages(root: Path, chromium: Browser) -> None:
    path = root / "book.pdf"
    print_pdf(joined(root / "_build" / "html", NAMES), path)
    content = path.read_bytes()
    assert content.startswith(b"%PDF-") and content.rstrip().endswith(b"%%EOF")
    assert len(re.findall(rb"/Type\s*/Page\b", content)) >= len(NAMES) > 5
    # Text is packed, but the outline that Chromium makes is not.
    assert b"Title number0" in content
    assert f"Title number{len(NAMES) - 1}".encode() in content
    assert b"MathJax" in content, "no formula was drawn with its fonts"
