"""Prose pages: no number typed by hand, no command that does not exist."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from lq_utils.paths import ROOT

BOOK = ROOT / "book"
GENERATED = {"architecture.md", "claims.md", "errata.md", "status.md"}
ALL_PAGES = sorted(BOOK.glob("*.md"))
PAGES = [path for path in ALL_PAGES if path.name not in GENERATED]
BIBLIOGRAPHY = BOOK / "references.bib"
EXPECTED = {
    "intro", "how_to_read", "rerun", "extend", "notation", "glossary",
    "errata", "claims", "troubleshooting", "bibliography",
}  # fmt: skip

RESULT_LIKE = {
    "decimal": r"(?<![\w.])\d+\.\d+(?![\w.]*\d)",
    "per cent": r"\d+(?:\.\d+)?\s?(?:%|per\s?cent|percent)",
    "points": r"\d+(?:\.\d+)?[ -]points?\b",
    "factor": r"\b\d+(?:\.\d+)?(?:x|×|-fold| times)(?!\w)",
    "seconds": r"\b\d+(?:\.\d+)?\s(?:s|ms|seconds|minutes|hours|MB|MiB|GB)\b",
}
# What may stand in prose: versions, and the meaning of an interval.
ALLOWED = [
    r"Python \d+\.\d+",
    r"Jupyter Book \d(?:\.\w+)?",
    r"[Vv]ersion \d+",
    r"An interval after a value covers 95 per cent",
]
NOT_PROSE = [
    # What a command writes into a page, and another test holds current.
    r"(?s)<!-- [\w ]+: (?:start|written by).*?<!-- (?:[\w ]+: )?end -->",
    r"<!--.*?-->",
    r"(?ms)^(`{3,}|:{3,})[ ]*(?:bash|python|text)?\n.*?^\1[ ]*$",
    r"(?s)\$\$.*?\$\$",
    r"\$[^$\n]+\$",
    r"`[^`]*`",
    r"\]\([^)]*\)",
    r"https?://\S+",
]
FORBIDDEN = [
    r"/work\b", r"/tmp\b", r"/root\b", r"/home/", r"\.\./shared",
    r"TODO", r"FIXME", r"XXX", r"\bTBD\b", r"[Ll]orem ipsum",
]  # fmt: skip


def result_like_numbers(text: str) -> list[str]:
    """Numbers in prose that look like results typed by hand."""
    for pattern in [*NOT_PROSE, *ALLOWED]:
        text = re.sub(pattern, " ", text)
    return [
        f"{kind}: {found.group()}"
        for kind, pattern in RESULT_LIKE.items()
        for found in re.finditer(pattern, text)
    ]


def code_blocks(text: str) -> Iterator[tuple[str, str]]:
    """Language and content of each fenced block of code."""
    pattern = r"(?ms)^```(bash|python)\n(.*?)^```"
    for found in re.finditer(pattern, text):
        yield found.group(1), found.group(2)


def commands(text: str) -> str:
    """Everything that is set as code: blocks and inline."""
    inline = re.findall(r"`([^`\n]+)`", text)
    return "\n".join([*(code for _, code in code_blocks(text)), *inline])


def names_of(module: Path) -> set[str]:
    """Names that a module defines or imports at its top level."""
    names: set[str] = set()
    for node in ast.parse(module.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.Assign):
            names |= {t.id for t in node.targets if isinstance(t, ast.Name)}
        elif isinstance(node, ast.AnnAssign):
            assert isinstance(node.target, ast.Name)
            names.add(node.target.id)
    return names


def unknown_imports(code: str) -> list[str]:
    """Imports from lq_utils that no module provides."""
    unknown = []
    for node in ast.walk(ast.parse(code)):
        if not isinstance(node, ast.ImportFrom):
            continue
        if not (node.module or "").startswith("lq_utils"):
            continue
        module = ROOT / f"{(node.module or '').replace('.', '/')}.py"
        known = names_of(module) if module.is_file() else set()
        unknown += [
            f"{node.module}.{alias.name}"
            for alias in node.names
            if alias.name not in known
        ]
    return unknown


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def by_name(path: Path) -> str:
    return path.name


def test_every_page_is_there():
    assert {path.stem for path in ALL_PAGES} >= EXPECTED


@pytest.mark.parametrize("page", PAGES, ids=by_name)
def test_no_result_is_typed_by_hand(page):
    assert result_like_numbers(read(page)) == []


@pytest.mark.parametrize(
    "text",
    [
        "It reaches 66.3 of them.",
        "about 82 % of the images",
        "a drop of 12 per cent",
        "loses 7 points",
        "is 370x faster",
        "grows 28-fold",
        "takes 90 seconds",
    ],
)
def test_the_gate_sees_a_typed_result(text):
    assert result_like_numbers(text)


@pytest.mark.parametrize(
    "text",
    [
        "Python 3.11 and Jupyter Book 1.x",
        "a 32-bit float in `x = 0.5`",
        "```python\nstep = 0.25\n```\n",
        "$\\tfrac{1}{2} = 0.5$",
        "[a page](https://example.org/1.5/)",
        "60,000 photographs of 32 by 32 pixels",
    ],
)
def test_the_gate_lets_other_numbers_pass(text):
    assert result_like_numbers(text) == []


@pytest.mark.parametrize("page", [*ALL_PAGES, BIBLIOGRAPHY], ids=by_name)
def test_no_forbidden_words(page):
    text = read(page)
    found = [word for word in FORBIDDEN if re.search(word, text)]
    assert found == []


@pytest.mark.parametrize("page", PAGES, ids=by_name)
def test_make_targets_exist(page):
    makefile = read(ROOT / "Makefile")
    targets = set(re.findall(r"(?m)^([a-z][\w-]*):", makefile))
    assert len(targets) > 5
    used = re.findall(r"\bmake ([a-z][\w-]*)", commands(read(page)))
    assert set(used) <= targets


@pytest.mark.parametrize("page", PAGES, ids=by_name)
def test_commands_of_the_package_exist(page):
    from lq_utils.__main__ import MODULES

    used = re.findall(r"python -m lq_utils (\w+)", commands(read(page)))
    assert set(used) <= set(MODULES)


@pytest.mark.parametrize("page", PAGES, ids=by_name)
def test_python_examples_can_be_imported(page):
    for language, code in code_blocks(read(page)):
        if language == "python":
            assert unknown_imports(code) == []


def test_an_import_that_does_not_exist_is_seen():
    assert unknown_imports("from lq_utils.paths import nowhere")
    assert unknown_imports("from lq_utils.no_such_module import x")
    assert not unknown_imports("from lq_utils.paths import ROOT")


def cited(text: str) -> set[str]:
    found = re.findall(r"\{cite:[pt]\}`([^`]+)`", text)
    return {key.strip() for keys in found for key in keys.split(",")}


def test_citations_and_entries_match():
    entries = re.findall(r"(?m)^@\w+\{([^,]+),", read(BIBLIOGRAPHY))
    assert len(entries) == len(set(entries))
    used = set().union(*(cited(read(page)) for page in ALL_PAGES))
    assert used <= set(entries)


def glossary_terms() -> list[str]:
    block = re.search(
        r"(?ms)^```\{glossary\}\n(.*?)^```", read(BOOK / "glossary.md")
    )
    assert block is not None
    return re.findall(r"(?m)^(\S.*)$", block.group(1))


def test_glossary_is_sorted_and_terms_are_known():
    terms = glossary_terms()
    assert terms == sorted(terms, key=str.lower)
    for page in ALL_PAGES:
        for found in re.findall(r"\{term\}`([^`]+)`", read(page)):
            target = re.search(r"<(.+)>$", found)
            term = target.group(1) if target else found
            assert term in terms, f"{page.name}: {term!r}"


@pytest.mark.parametrize("page", ALL_PAGES, ids=by_name)
def test_links_inside_the_book_lead_somewhere(page):
    text = read(page)
    links = re.findall(r"\]\(([^)#:]+)\)", text)
    links += re.findall(r"\{doc\}`[^`<]*<([^>`]+)>`", text)
    links += re.findall(r"(?m)^:link: (\S+)$", text)
    for link in links:
        path = Path(link)
        if path.name in GENERATED:
            continue
        if path.parts[0] == "chapters":
            assert (ROOT / "notebooks" / f"{path.stem}.py").is_file(), link
            continue
        assert (BOOK / path.with_suffix(".md")).is_file(), link
