"""The API pages: complete, current, every docstring says where from."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path
from types import ModuleType

import page_samples
import pytest

from lq_utils import api_page, chapter_pages, intervals, pages, registry
from lq_utils.api_page import ApiError, all_entries, label, origin, section
from lq_utils.chapter_pages import make_page
from lq_utils.docstrings import escaped, introduction, markdown
from lq_utils.page_record import Record
from lq_utils.paths import ROOT
from lq_utils.source_code import Entry, entries, signature, trees
from lq_utils.topics import TOPICS, TopicError, topic_of

ENTRIES = [entry for found in all_entries().values() for entry in found]
# Modules whose text kept runs were made with, exactly: their rows would be
# computed anew. These few lack the line, or the error, until the next run.
WITHOUT_CHAPTER = {
    "alphabets.GridError",
    "clustering.ClusteringError",
    "graph.TraceError",
    "images.DataError",
    "onnx_weights.is_transposed",
    "onnx_weights.layer_name",
    "parametrizations.CompressionError",
    "pruning.PruningError",
    "recipes.TrainingError",
    "simulated.LayerRule",
    "training.TrainingState",
}
WITHOUT_ERROR = {
    "alphabets.binary",
    "alphabets.power_of_two",
    "alphabets.ternary",
    "calibration.calibration_rows",
}
OWN_ERRORS = {
    entry.name
    for entry in ENTRIES
    if entry.kind == "class" and re.search(r"Error\b", entry.code)
}


def full(entry: Entry) -> str:
    return f"{entry.module}.{entry.name}"


def parsed(text: str) -> list[Entry]:
    return entries("sample", ast.parse(text))


def test_pages_are_what_the_source_says() -> None:
    assert api_page.main(["--check"]) == 0, f"run {api_page.COMMAND}"


def test_no_page_is_left_over_or_too_large() -> None:
    made = api_page.pages()
    assert set(made) == set(api_page.FOLDER.glob("*.md"))
    assert all(len(text.encode()) < 300_000 for text in made.values())


def test_every_page_is_in_the_table_of_contents() -> None:
    listed = pages.contents(ROOT / "_toc.yml")
    for path in api_page.pages():
        name = path.relative_to(ROOT).with_suffix("")
        assert str(name) in listed


def test_every_module_has_one_topic() -> None:
    for module in trees():
        assert module == "__init__" or topic_of(module) in TOPICS


def test_every_listed_module_is_there() -> None:
    names = set(trees())
    for topic in TOPICS:
        for word in topic.modules.split():
            assert "*" in word or word in names, word


def test_a_module_without_topic_is_an_error() -> None:
    with pytest.raises(TopicError, match=r"topics\.py"):
        topic_of("no_such_module")


def test_every_entry_says_what_it_is_and_where_it_comes_from() -> None:
    assert len(ENTRIES) > 1000
    assert [full(e) for e in ENTRIES if not e.docstring] == []
    assert {full(e) for e in ENTRIES if not origin(e)} == WITHOUT_CHAPTER


def test_own_errors_are_told() -> None:
    assert len(OWN_ERRORS) > 40
    silent = {
        full(entry)
        for entry in ENTRIES
        if entry.raises & OWN_ERRORS
        and not re.search("raise", entry.docstring, re.IGNORECASE)
        and not all(name in entry.docstring for name in entry.raises)
    }
    assert silent == WITHOUT_ERROR


def test_places_are_unique() -> None:
    labels = [label(entry) for entry in ENTRIES]
    assert len(set(labels)) == len(labels)


@pytest.mark.parametrize("module", [intervals, registry, pages])
def test_entries_are_those_that_python_sees(module: ModuleType) -> None:
    name = module.__name__.split(".")[1]
    seen = {
        key
        for key, value in inspect.getmembers(module)
        if (inspect.isfunction(value) or inspect.isclass(value))
        and value.__module__ == f"lq_utils.{name}"
        and not key.startswith("_")
    }
    assert {entry.name for entry in all_entries()[name]} == seen


def test_signature_is_that_of_python() -> None:
    text = "def f(a, b: int, /, c=1, *rest: str, d: float = 2.0, **more): ..."
    node = ast.parse(text).body[0]
    assert isinstance(node, ast.FunctionDef)
    assert signature(node) == (
        "f(a, b: int, /, c=1, *rest: str, d: float = 2.0, **more)"
    )
    broken = signature(node, width=30).splitlines()
    assert broken[:3] == ["f(", "    a,", "    b: int,"]
    text = "def g(self, *, x: int) -> str: ..."
    node = ast.parse(text).body[0]
    assert isinstance(node, ast.FunctionDef)
    assert signature(node) == "g(*, x: int) -> str"


def test_a_class_shows_its_fields_and_documented_methods() -> None:
    (entry,) = parsed(
        "class A(B):\n"
        '    """An A."""\n'
        "    x: int = 3\n"
        "    _y: int = 4\n"
        "    def __init__(self, z): ...\n"
        "    def told(self):\n"
        '        """Told."""\n'
        "        return 1\n"
        "    def untold(self): ...\n"
        "class _Hidden: ...\n"
        "@erratum('an entry')\ndef check(numbers): ...\n"
    )
    assert entry.code == "class A(B):\n    x: int = 3\n    __init__(z)"
    assert [method.code for method in entry.methods] == ["told()"]


@pytest.mark.parametrize(
    ("docstring", "expected"),
    [
        ("A.\n\nIntroduced in chapter 7.", ("A.", 7, "")),
        ("A. Introduced in\nchapter 10.", ("A.", 10, "")),
        ("A.\n\nIntroduced on the errata page.", ("A.", None, "errata page")),
        ("Introduced in chapter 7. More.", ("Introduced in chapter 7. More.",
                                            None, "")),
    ],
)  # fmt: skip
def test_last_line_of_a_docstring(docstring: str, expected: object) -> None:
    assert introduction(docstring) == expected


def test_an_unknown_chapter_is_an_error() -> None:
    (entry,) = parsed(
        'def f():\n    """F.\n\n    Introduced in chapter 99."""'
    )
    with pytest.raises(ApiError, match=r"sample\.f .*chapter 99"):
        section(entry)


def test_sections_become_lists() -> None:
    text = (
        "Ab ``c [K, N]`` of :func:`d`.\n\nArgs:\n    x: first\n"
        "        line.\n    y: b.\n\nRaises\n------\nMyError\n    Why.\n\n"
        "    a + b\n\nReturns:\n    One,\n    or two."
    )
    assert markdown(text).split("\n\n") == [
        "Ab `` c [K, N] `` of `` d ``.",
        "**Args:**",
        "- `` x ``: first line.\n- `` y ``: b.",
        "**Raises:**",
        "- `` MyError ``: Why.",
        "```text\n    a + b\n```",
        "**Returns:** One, or two.",
    ]


def test_markdown_reads_only_letters() -> None:
    from markdown_it import MarkdownIt

    text = "1. a_b_c *x* [y](z) <b> $q$ `r` {s}`t` :u:v & # | -- x.py ~~w~~"
    for line in (text, f"- {text}", f"# {text}", f"+ {text}"):
        html = MarkdownIt("commonmark", {"html": True}).render(escaped(line))
        plain = re.sub("&amp;", "&", re.sub("&[lg]t;", "?", html))
        assert plain == f"<p>{re.sub('[<>]', '?', line)}</p>\n"


def test_a_chapter_links_to_its_helpers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = page_samples.write(tmp_path / "run")
    listed = tmp_path / "by_chapter.md"
    monkeypatch.setattr(chapter_pages, "BY_CHAPTER", listed)

    def last() -> str:
        record = Record.read(folder)
        page = make_page(folder / "executed.ipynb", record)
        return page.cells[-1].source.splitlines()[-1]

    assert "api-chapter" not in last()
    listed.write_text("(api-chapter-2)=\n", "utf-8")
    assert "api-chapter" not in last()
    listed.write_text("(api-chapter-1)=\n", "utf-8")
    assert "{ref}`its helpers <api-chapter-1>`" in last()
