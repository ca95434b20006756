"""The architecture page: five ideas, and what imports what.

python -m lq_utils.architecture            writes book/architecture.md
python -m lq_utils.architecture --check    fails if it is out of date
"""

from __future__ import annotations

import html
from collections.abc import Mapping

from lq_utils.generated_pages import write_or_check
from lq_utils.layers import (
    Graph,
    levels,
    module_imports,
    reduced,
    topic_imports,
)
from lq_utils.paths import ROOT
from lq_utils.topics import TOPICS, by_topic

PAGE = ROOT / "book" / "architecture.md"
COMMAND = "python -m lq_utils.architecture"
TITLES = {topic.key: topic.title for topic in TOPICS}
# Of the diagram, in its own units.
BOX, GAP, ROW, HEIGHT, MARGIN = 240, 18, 74, 42, 10
INTRODUCTION = f"""\
<!-- Written by `{COMMAND}`: change the command, not this. -->

# Architecture

`lq_utils` is a flat package of small modules, each about one thing. A chapter
imports a few of them. Nearly everything is made of five ideas.

Image data
: Images as arrays, with the names of their classes and a record of where they
  came from. Whatever is taken from them, a subset or a split, is again such an
  object, so that no number loses its origin. See {{doc}}`api/data`.

Grid
: The finite set of values that a quantized weight may take: an alphabet, which
  says how the levels lie, times a scale. A method is told the grid and can not
  use more levels than it has. See {{doc}}`api/grids`.

Plan
: A table with a row a layer, which says what is to happen there: bits, grid,
  solver. One precision for all, mixed precision or a search are different ways
  to fill the same table, and the size of a network follows from it. See
  {{doc}}`api/plans`.

Lockstep calibration
: One pass through the original and the quantized network at the same time.
  Each layer is solved with the inputs that it will really get, and each layer
  is run only once. A solver sees weights, statistics of the inputs and a grid,
  and knows nothing of networks. See {{doc}}`api/solvers`.

Result rows
: Every number of the book is a row with its metric, interval, seed and data,
  beside a record of the run. Figures, tables and verdicts read rows; they
  compute nothing. See {{doc}}`api/results`.

## What rests on what

Each box is a topic with the number of its modules. An arrow leads from a topic
to one that it imports from. Arrows that longer ways say already are left out;
the table below has all of them. Imports point one way, between modules too: a
test finds every circle.

"""

END = """\
## What is checked besides

The pages of {doc}`api/index` and this page are made from the source, and a
test fails where they are out of date. The same holds for
`requirements.licences.md`, the licences of all locked packages: one that is
unknown, or asks for more than its notice, needs a word. Another test reads
the source for calls that could run code hidden in a file.
"""


def _places(graph: Graph) -> dict[str, tuple[float, float]]:
    """Middle of each box: rows by layer, each row centred."""
    level = levels(graph)
    height = max(level.values())
    rows: dict[int, list[str]] = {}
    for key in graph:
        rows.setdefault(level[key], []).append(key)
    widest = max(map(len, rows.values()))
    places = {}
    for layer, keys in rows.items():
        start = MARGIN + (widest - len(keys)) * (BOX + GAP) / 2
        for index, key in enumerate(keys):
            x = start + index * (BOX + GAP) + BOX / 2
            y = MARGIN + (height - layer) * ROW + HEIGHT / 2
            places[key] = (x, y)
    return places


def _box(text: str, count: int, x: float, y: float) -> str:
    noun = "module" if count == 1 else "modules"
    left, top = x - BOX / 2, y - HEIGHT / 2
    return (
        f'<rect x="{left:g}" y="{top:g}" width="{BOX}" height="{HEIGHT}"/>'
        f'<text x="{x:g}" y="{y - 3:g}">{html.escape(text)}</text>'
        f'<text x="{x:g}" y="{y + 14:g}" class="lq-count">'
        f"{count} {noun}</text>"
    )


def _arrow(start: tuple[float, float], end: tuple[float, float]) -> str:
    """A curve from the foot of one box to the head of another."""
    (x, y), (u, v) = start, end
    y, v = y + HEIGHT / 2, v - HEIGHT / 2 - 4
    bend = (v - y) / 2
    return (
        f'<path d="M{x:g} {y:g}C{x:g} {y + bend:g} {u:g} {v - bend:g} '
        f'{u:g} {v:g}" marker-end="url(#lq-arrow)"/>'
    )


def diagram(graph: Graph, sizes: Mapping[str, int]) -> str:
    """The layers of topics as SVG in HTML; ``sizes`` counts modules.

    Raises LayerError where topics import each other in a circle.

    Introduced on the architecture page.
    """
    places = _places(graph)
    width = max(x for x, _ in places.values()) + BOX / 2 + MARGIN
    height = max(y for _, y in places.values()) + HEIGHT / 2 + MARGIN
    arrows = [
        _arrow(places[key], places[target])
        for key, targets in reduced(graph).items()
        for target in sorted(targets)
    ]
    boxes = [
        _box(TITLES.get(key, key), sizes[key], *places[key]) for key in graph
    ]
    marker = (
        '<defs><marker id="lq-arrow" viewBox="0 0 8 8" refX="6" refY="4" '
        'markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0 0L8 4L0 8z"/></marker></defs>'
    )
    region = (
        '<div class="lq-diagram" role="region" tabindex="0" '
        'aria-label="Diagram of the topics">'
    )
    head = (
        f'<svg viewBox="0 0 {width:g} {height:g}" role="img" '
        'aria-label="Topics in layers; the table below says the same">'
    )
    lines = [region, head, marker, *arrows, *boxes, "</svg></div>"]
    return "\n".join(lines)


def _table(
    counts: Mapping[str, Mapping[str, int]],
    grouped: Mapping[str, list[str]],
) -> str:
    head = "| topic | imports from | modules |\n|---|---|---|"
    rows = []
    for key in counts:
        uses = ", ".join(
            f"{TITLES[other]} ({n})" for other, n in counts[key].items()
        )
        names = ", ".join(f"`{name}`" for name in grouped[key])
        rows.append(f"| {{doc}}`api/{key}` | {uses or 'none'} | {names} |")
    return "\n".join([head, *rows])


def page() -> str:
    """The whole page, in Markdown.

    Raises TopicError and LayerError as ``topic_imports`` and ``levels``.

    Introduced on the architecture page.
    """
    imports = module_imports()
    counts, grouped = topic_imports(imports), by_topic(imports)
    graph = {key: set(others) for key, others in counts.items()}
    sizes = {key: len(names) for key, names in grouped.items()}
    deep = max(levels(imports).values()) + 1
    return (
        f"{INTRODUCTION}{diagram(graph, sizes)}\n\n"
        f"The {len(imports)} modules themselves lie in {deep} layers.\n\n"
        "## Topics and their modules\n\n"
        "The number after a topic counts imports of one module by another.\n\n"
        f"{_table(counts, grouped)}\n\n{END}"
    )


def main(arguments: list[str] | None = None) -> int:
    """Write or check the page; the exit status.

    Introduced on the architecture page.
    """
    return write_or_check({PAGE: page()}, COMMAND, arguments)


if __name__ == "__main__":
    raise SystemExit(main())
