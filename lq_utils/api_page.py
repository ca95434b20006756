"""The API pages: every public function and class, by topic and by chapter.

python -m lq_utils.api_page            writes book/api/
python -m lq_utils.api_page --check    fails if a page is out of date

They are made from the source alone: nothing of the package is imported.
"""

from __future__ import annotations

import ast
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path

from lq_utils.docstrings import escaped, introduction, markdown
from lq_utils.generated_pages import write_or_check
from lq_utils.paths import ROOT
from lq_utils.source_code import Entry, entries, trees
from lq_utils.topics import TOPICS, Topic, by_topic

FOLDER = ROOT / "book" / "api"
BY_CHAPTER = FOLDER / "by_chapter.md"
COMMAND = "python -m lq_utils.api_page"
# Pages, other than chapters, that introduce helpers.
PAGES = {
    "errata page": "/book/errata",
    "page of claims": "/book/claims",
    'page "Beyond one machine"': "/book/beyond_one_machine",
    "API pages": "/book/api/index",
    "architecture page": "/book/architecture",
    'page "Re-run it"': "/book/rerun",
}
NOTE = f"<!-- Written by `{COMMAND}`: change the docstrings, not this. -->\n\n"
INDEX = """\
# The helpers, by topic

Every public function and class of `lq_utils`, with its signature and its
docstring. The topics are in the order in which they build on each other. Each
entry links to the chapter that introduces it, and {doc}`by_chapter` lists the
other way round. A helper is imported from its module, as in
`from lq_utils.scales import fit_grid`. Names that begin with an underscore are
left out.

| topic | about | modules | functions and classes |
|---|---|---:|---:|
"""
CHAPTERS = """\
# The helpers, by chapter

What each chapter and page of the book adds to `lq_utils`. The end of a
chapter links to its list.
"""


class ApiError(ValueError):
    """A docstring that names no chapter or page of the book.

    Introduced on the API pages.
    """


@cache
def chapter_names() -> Mapping[int, str]:
    """Names of the chapters by their number, from ``notebooks/``.

    Introduced on the API pages.
    """
    files = (ROOT / "notebooks").glob("[0-9][0-9]_*.py")
    return {int(path.stem[:2]): path.stem for path in sorted(files)}


@cache
def all_entries() -> dict[str, list[Entry]]:
    """Public functions and classes by module, as the source has them.

    Introduced on the API pages.
    """
    return {name: entries(name, tree) for name, tree in trees().items()}


def label(entry: Entry) -> str:
    """Name of the place of an entry, which links lead to.

    Introduced on the API pages.
    """
    return f"api-{entry.kind}-{entry.module}-{entry.name}".lower()


def origin(entry: Entry) -> str:
    """Page of the book that introduces an entry; empty if none is named.

    Raises ApiError for a chapter or page that does not exist.
    Introduced on the API pages.
    """
    _, chapter, page = introduction(entry.docstring)
    if chapter is None and not page:
        return ""
    known = {n: f"/book/chapters/{c}" for n, c in chapter_names().items()}
    found = known.get(chapter) if chapter is not None else PAGES.get(page)
    if found is None:
        raise ApiError(
            f"lq_utils.{entry.module}.{entry.name} is introduced in "
            f"'{page or f'chapter {chapter}'}', which is not there: correct "
            "the last line of its docstring"
        )
    return found


def _method(entry: Entry) -> str:
    text = markdown(introduction(entry.docstring)[0])
    body = f"```python\n.{entry.code}\n```\n\n{text}"
    return f"- {textwrap.indent(body, '  ').lstrip()}"


def section(entry: Entry) -> str:
    """One entry of an API page, in Markdown.

    Raises ApiError as ``origin``.
    Introduced on the API pages.
    """
    text = introduction(entry.docstring)[0]
    parts = [
        f"({label(entry)})=\n### `{entry.name}`",
        f"```python\n{entry.code}\n```",
        markdown(text),
        *map(_method, entry.methods),
    ]
    page = origin(entry)
    if page:
        parts.append(f"*Introduced in:* {{doc}}`{page}`")
    return "\n\n".join(part for part in parts if part) + "\n"


def _module(name: str, tree: ast.Module, found: Sequence[Entry]) -> str:
    about = markdown(ast.get_docstring(tree) or "")
    parts = [f"## `{name}`\n\n{about}\n", *map(section, found)]
    return "\n".join(parts)


def topic_page(topic: Topic, modules: Iterable[str]) -> str:
    """The page of one topic, in Markdown.

    Raises ApiError as ``origin``.
    Introduced on the API pages.
    """
    found = all_entries()
    parts = [f"{NOTE}# {topic.title}\n\n{topic.about}\n"]
    parts += [_module(name, trees()[name], found[name]) for name in modules]
    return "\n".join(parts)


def index_page(grouped: Mapping[str, Sequence[str]]) -> str:
    """The table of the topics, in Markdown.

    Introduced on the API pages.
    """
    found = all_entries()
    rows = [
        f"| {{doc}}`{topic.key}` | {escaped(topic.about)} "
        f"| {len(grouped[topic.key])} "
        f"| {sum(len(found[name]) for name in grouped[topic.key])} |"
        for topic in TOPICS
        if topic.key in grouped
    ]
    return f"{NOTE}{INDEX}" + "\n".join(rows) + "\n"


def _links(found: Iterable[Entry]) -> str:
    by_module: dict[str, list[str]] = {}
    for entry in found:
        link = f"{{ref}}`{entry.name} <{label(entry)}>`"
        by_module.setdefault(entry.module, []).append(link)
    return "\n".join(
        f"- `{module}`: {', '.join(links)}"
        for module, links in by_module.items()
    )


def chapter_page() -> str:
    """The lists of helpers by the chapter or page that introduces them.

    Raises ApiError as ``origin``.
    Introduced on the API pages.
    """
    grouped: dict[str, list[Entry]] = {}
    for found in all_entries().values():
        for entry in found:
            grouped.setdefault(origin(entry), []).append(entry)
    parts = [f"{NOTE}{CHAPTERS}"]
    for number, name in chapter_names().items():
        found = grouped.get(f"/book/chapters/{name}", [])
        if found:
            head = f"(api-chapter-{number})=\n## Chapter {number}"
            title = f"{{doc}}`/book/chapters/{name}`"
            parts.append(f"{head}\n\n{title}\n\n{_links(found)}\n")
    for page in PAGES.values():
        if page in grouped:
            head = f"## Page {page.removeprefix('/book/')}"
            links = _links(grouped[page])
            parts.append(f"{head}\n\n{{doc}}`{page}`\n\n{links}\n")
    return "\n".join(parts)


def pages() -> dict[Path, str]:
    """Every API page by its path.

    Raises ApiError as ``origin``, and TopicError for a module that has
    no topic.

    Introduced on the API pages.
    """
    grouped = by_topic(name for name in trees() if name != "__init__")
    made = {FOLDER / "index.md": index_page(grouped)}
    made[BY_CHAPTER] = chapter_page()
    for topic in TOPICS:
        if topic.key in grouped:
            text = topic_page(topic, grouped[topic.key])
            made[FOLDER / f"{topic.key}.md"] = text
    return made


def main(arguments: list[str] | None = None) -> int:
    """Write or check the pages; the exit status.

    Introduced on the API pages.
    """
    return write_or_check(pages(), COMMAND, arguments)


if __name__ == "__main__":
    raise SystemExit(main())
