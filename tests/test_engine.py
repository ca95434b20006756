"""No module that quantizes is missing from the keys of sweeps."""

from __future__ import annotations

import ast
from pathlib import Path

from lq_utils import label_aware, method_comparison
from lq_utils.engine import ENGINE

# They hold no arithmetic of a quantized network.
APART = {"lq_utils.registry", "lq_utils.paths", "lq_utils.images"}
APART |= {"lq_utils.inference"}


def imported(path: str) -> set[str]:
    """Modules of the package that a file imports names from."""
    tree = ast.parse(Path(path).read_text())
    return {
        str(node.module)
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        and str(node.module).startswith("lq_utils.")
    }


def test_the_engine_is_complete() -> None:
    names = {module.__name__ for module in ENGINE}
    needed = set().union(*(imported(m.__file__) for m in ENGINE))
    assert needed - APART <= names


def test_sweeps_of_networks_keep_the_engine() -> None:
    for chapter in (label_aware, method_comparison):
        assert set(ENGINE) | {chapter} <= set(chapter.CODE)
