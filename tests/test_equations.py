"""Numbered equations and index entries of the chapters and pages."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest
import yaml

from lq_utils.paths import ROOT
from lq_utils.profiles import chapters

NOTEBOOKS = [ROOT / "notebooks" / f"{name}.py" for name in chapters()]
TEXTS = [*NOTEBOOKS, *sorted((ROOT / "book").rglob("*.md"))]
LABEL = re.compile(r"(?m)^(?:# )?\$\$ \(([^)]+)\)$")
REFERENCE = re.compile(r"\{eq\}`([^`]+)`")
ENTRY = re.compile(r"(?m)^# ```\{index\} (.+)\n# ```$")
# What a reader may look up, whatever else the index has.
EXPECTED = {
    "AdaRound", "bias correction", "BRECQ", "cluster-preserving training",
    "entropy", "GPFQ", "GPTQ", "Gram matrix", "Hessian matrix",
    "Huffman code", "Kullback-Leibler divergence", "scale",
    "straight-through gradient", "TwoNN", "UMAP", "XNOR-Net", "zero point",
}  # fmt: skip


def labels(text: str) -> list[str]:
    return LABEL.findall(text)


def entries(text: str) -> list[str]:
    """Index entries of one chapter."""
    return [e.strip() for line in ENTRY.findall(text) for e in line.split(",")]


def read(path: Path) -> str:
    return path.read_text("utf-8")


def test_labels_are_unique_and_every_reference_has_one() -> None:
    count = Counter(label for text in TEXTS for label in labels(read(text)))
    assert [label for label, n in count.items() if n > 1] == []
    used = {r for text in TEXTS for r in REFERENCE.findall(read(text))}
    assert used and used <= set(count)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_displayed_equation_of_a_chapter_is_numbered(path: Path) -> None:
    text = read(path).split("# ## Exercises")[0]
    found = labels(text)
    assert found
    assert len(re.findall(r"(?m)^# \$\$", text)) == 2 * len(found)
    number = path.stem[:2]
    assert all(re.fullmatch(rf"eq-{number}-[a-z-]+", x) for x in found)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_chapter_is_in_the_index(path: Path) -> None:
    found = entries(read(path))
    assert found and len(found) == len(set(found))
    assert read(path).count("{index}") == len(ENTRY.findall(read(path)))


def test_the_index_has_the_methods_and_a_page() -> None:
    found = {e for path in NOTEBOOKS for e in entries(read(path))}
    assert found >= EXPECTED
    parts = yaml.safe_load(read(ROOT / "_toc.yml"))["parts"]
    assert {"file": "genindex"} in parts[-1]["chapters"]
    assert read(ROOT / "genindex.md").startswith("# Index\n")
