"""Docstrings as Markdown: sections become lists, all else stays as it is."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable

HEADS = ("Args", "Raises", "Returns", "Yields", "Parameters", "Switches")
SECTION = re.compile(rf"({'|'.join(HEADS)})(?::|\n-+)\n(.*)", re.DOTALL)
CODE = re.compile(r":\w+:`([^`]+)`|``(.+?)``|`([^`]+)`", re.DOTALL)
INTRODUCED = re.compile(
    r"\s*Introduced\s+(?:in\s+chapters?\s+(\d+)|on\s+the\s+([^.]+))\.\s*\Z"
)


def introduction(docstring: str) -> tuple[str, int | None, str]:
    """A docstring without its last line, and what that line names.

    The chapter's number, or None with the name of a page; both are
    empty for a docstring that does not say where it is introduced.

    Introduced on the API pages.
    """
    found = INTRODUCED.search(docstring)
    if found is None:
        return docstring, None, ""
    chapter = int(found[1]) if found[1] else None
    page = " ".join((found[2] or "").split())
    return docstring[: found.start()], chapter, page


def escaped(text: str) -> str:
    """Text in which Markdown reads nothing but the letters.

    Introduced on the API pages.
    """
    text = re.sub(r"([\\`*_{}\[\]<>#|$~^@&])", r"\\\1", text)
    text = re.sub(r"(?<=\w)\.(?=\w)|:(?=\S)|--", r"\\\g<0>", text)
    text = re.sub(r"(?m)^(\s*)([-+=])", r"\1\\\2", text)
    return re.sub(r"(?m)^(\s*\d+)([.)])", r"\1\\\2", text)


def inline(text: str) -> str:
    """A paragraph as Markdown, with what is set as code kept as code.

    Introduced on the API pages.
    """
    parts, end = [], 0
    for found in CODE.finditer(text):
        code = " ".join((found[1] or found[2] or found[3]).split())
        parts += [escaped(text[end : found.start()]), f"`` {code} ``"]
        end = found.end()
    parts.append(escaped(text[end:]))
    return "".join(parts)


def _items(body: str) -> Iterable[str]:
    """The entries of a section: a name and what is said of it."""
    lines = textwrap.dedent(body).splitlines()
    item: list[str] = []
    for line in lines:
        if item and line and not line[0].isspace():
            yield "\n".join(item)
            item = []
        item.append(line)
    yield "\n".join(item)


def _item(text: str) -> str:
    named = re.match(r"(\*{0,2}\w+)(?::|\n)\s*(.*)", text, re.DOTALL)
    if named is None:
        return f"- {inline(textwrap.dedent(text))}"
    said = " ".join(named[2].split())
    return f"- `` {named[1]} ``: {inline(said)}"


def _paragraph(text: str) -> str:
    section = SECTION.fullmatch(text)
    if section is not None and section[1] in ("Returns", "Yields"):
        body = " ".join(section[2].split())
        return f"**{section[1]}:** {inline(body)}"
    if section is not None:
        items = "\n".join(map(_item, _items(section[2])))
        return f"**{section[1]}:**\n\n{items}"
    if re.search(r"(?m)^\s", text):  # a formula or table set by hand
        return f"```text\n{text}\n```"
    return inline(text)


def markdown(docstring: str) -> str:
    """A docstring in Markdown.

    Introduced on the API pages.
    """
    parts = re.split(r"\n\s*\n", docstring.strip("\n"))
    return "\n\n".join(_paragraph(part) for part in parts if part.strip())
