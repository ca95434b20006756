"""Layers of a graph of imports: what rests on what."""

from __future__ import annotations

from collections.abc import Mapping
from graphlib import CycleError, TopologicalSorter

from lq_utils.source_code import imported, trees
from lq_utils.topics import TOPICS, topic_of

Graph = Mapping[str, set[str]]


class LayerError(ValueError):
    """Modules that import each other in a circle.

    Introduced on the architecture page.
    """


def module_imports(inside: bool = False) -> dict[str, set[str]]:
    """Modules of the package that each module imports.

    With ``inside``, only those that its functions import when called.

    Introduced on the architecture page.
    """
    found = trees()
    names = set(found) - {"__init__"}
    return {n: imported(found[n], inside) & names - {n} for n in sorted(names)}


def topic_imports(imports: Graph) -> dict[str, dict[str, int]]:
    """How many imports lead from topic to topic, by their keys.

    Topics are in the order of ``TOPICS``, imports within one are left
    out. Raises TopicError for a module that has no topic.

    Introduced on the architecture page.
    """
    home = {name: topic_of(name).key for name in imports}
    counts = {
        t.key: dict[str, int]() for t in TOPICS if t.key in home.values()
    }
    for name, targets in imports.items():
        own = counts[home[name]]
        for target in targets:
            if home[target] != home[name]:
                own[home[target]] = own.get(home[target], 0) + 1
    order = list(counts)
    return {
        key: dict(sorted(own.items(), key=lambda item: order.index(item[0])))
        for key, own in counts.items()
    }


def levels(graph: Graph) -> dict[str, int]:
    """The layer of each node: 0 imports none, else above all it imports.

    Raises LayerError for a circle.

    Introduced on the architecture page.
    """
    found: dict[str, int] = {}
    try:
        for name in TopologicalSorter(graph).static_order():
            below = (found[target] for target in graph.get(name, ()))
            found[name] = max(below, default=-1) + 1
    except CycleError as error:
        circle = " -> ".join(reversed(error.args[1]))
        raise LayerError(
            f"imports in a circle: {circle}; move what both need into a "
            "module of its own"
        ) from error
    return found


def _reach(graph: Graph, start: str) -> set[str]:
    """Nodes that paths lead to, ``start`` itself left out."""
    found: set[str] = set()
    waiting = list(graph.get(start, ()))
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += graph.get(name, ())
    return found


def reduced(graph: Graph) -> dict[str, set[str]]:
    """The graph without edges that longer paths say already.

    Raises LayerError for a circle.

    Introduced on the architecture page.
    """
    levels(graph)
    return {
        name: {
            target
            for target in targets
            if not any(
                target in _reach(graph, other) for other in targets - {target}
            )
        }
        for name, targets in graph.items()
    }
