"""The environment files agree, and what they name is there."""

from __future__ import annotations

import ast
import re
import subprocess
import tomllib
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import torch
import torchvision
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from lq_utils.__main__ import MODULES, main
from lq_utils.parameters import read_parameters
from lq_utils.paths import ROOT
from lq_utils.source_code import trees

CONDA_NAMES = {"pytorch": "torch", "pytorch-cpu": "torch"}
CONDA_ONLY = {"python", "pip"}
DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "book").glob("*.md")),
]


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


@cache
def project() -> dict:
    return tomllib.loads(read("pyproject.toml"))


@cache
def direct() -> dict[str, SpecifierSet]:
    """Direct packages with their ranges, those of the tests included."""
    table = project()["project"]
    lines = [*table["dependencies"], *table["optional-dependencies"]["test"]]
    parsed = [Requirement(line) for line in lines]
    return {canonicalize_name(p.name): p.specifier for p in parsed}


@cache
def locked() -> dict[str, str]:
    """Pins of the lock, read line by line (not by the project's reader)."""
    lines = re.findall(
        r"^([\w.-]+)==(\S+)", read("requirements.lock"), re.MULTILINE
    )
    return {canonicalize_name(name): pin for name, pin in lines}


def conda(name: str) -> dict[str, SpecifierSet]:
    """Packages of a conda environment file, under their pip names."""
    entries = yaml.safe_load(read(name))["dependencies"]
    pip = next((e["pip"] for e in entries if isinstance(e, dict)), [])
    plain = [e for e in entries if isinstance(e, str)]
    lines = plain + [e for e in pip if not e.startswith("-")]
    lines = [re.sub(r"^(\w+)=(?==*\d)", r"\1==", e) for e in lines]
    parsed = [Requirement(line) for line in lines]
    return {
        CONDA_NAMES.get(p.name, canonicalize_name(p.name)): p.specifier
        for p in parsed
        if p.name not in CONDA_ONLY
    }


def test_conda_has_the_direct_packages_with_the_same_ranges() -> None:
    assert conda("environment.yml") == direct()


def test_light_conda_environment_is_a_part_of_it() -> None:
    light = conda("binder/environment.yml")
    assert {"torch", "papermill", "umap-learn"} <= set(light)
    assert light == {name: direct()[name] for name in light}


def imports(tree: ast.Module) -> set[str]:
    """Dotted names of what a file imports, within functions too."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(f"{node.module}")
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def test_light_conda_environment_has_what_chapters_import() -> None:
    files = (ROOT / "notebooks").glob("*.py")
    names = set().union(*(imports(ast.parse(f.read_text())) for f in files))
    modules, seen = trees(), set[str]()
    while new := {m for m in modules if f"lq_utils.{m}" in names} - seen:
        seen |= new
        names |= set().union(*(imports(modules[name]) for name in new))
    owners = packages_distributions()
    tops = {name.split(".")[0] for name in names}
    owned = {canonicalize_name(p) for n in tops for p in owners.get(n, [])}
    # Dask is for clusters.
    needed = owned & set(direct()) - {"distributed", "lq-utils"}
    assert {"cloudpickle", "scikit-dimension"} <= needed
    assert needed <= set(conda("binder/environment.yml"))


@pytest.mark.parametrize("name", sorted(direct()))
def test_range_admits_the_pin(name: str) -> None:
    assert name in locked(), f"{name} is not in the lock: run 'make lock'"
    assert direct()[name].contains(locked()[name])


def test_constraints_are_what_the_lock_pins() -> None:
    lines = project()["tool"]["uv"]["constraint-dependencies"]
    pins = dict(line.split("==") for line in lines)
    assert set(pins) == {"jupyter-book", "torch", "torchvision"}
    assert {name: locked()[name] for name in pins} == pins


def test_every_lock_entry_has_hashes_and_no_address() -> None:
    text = read("requirements.lock")
    body = [x for x in text.splitlines() if not x.lstrip().startswith("#")]
    entries = re.split(r"\n(?=\S)", "\n".join(body).strip())
    assert len(entries) == len(locked()) > 200
    for entry in entries:
        assert re.fullmatch(
            r"[\w.-]+==\S+( ; [^\\]+)?( \\\n    --hash=sha256:[0-9a-f]{64})+",
            entry,
        ), entry[:200]
    assert "://" not in text
    assert not re.search(r"^-", text, re.MULTILINE), (
        "an index or find-links line"
    )
    assert "/tmp" not in text and "make lock" in text.splitlines()[1]


def test_torchvision_runs_a_compiled_operator() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10], [1, 1, 10, 10], [20, 20, 30, 30]])
    scores = torch.tensor([0.6, 0.9, 0.3])
    kept = torchvision.ops.nms(boxes, scores, iou_threshold=0.5)
    assert kept.tolist() == [1, 2]


def test_citation_has_what_a_citation_needs() -> None:
    citation = yaml.safe_load(read("CITATION.cff"))
    needed = {"cff-version", "message", "title", "authors", "license"}
    assert needed <= set(citation)
    assert citation["version"] == project()["project"]["version"]
    assert all(
        a.get("name") or a.get("family-names") for a in citation["authors"]
    )


def test_licence_files_are_there() -> None:
    for name in project()["project"]["license-files"]:
        assert len(read(name)) > 500
    assert "MIT License" in read("LICENSE")
    assert "CC-BY-4.0" in read("LICENSE-PROSE")


@cache
def targets() -> dict[str, str]:
    """Targets of the Makefile with the text that `make help` shows."""
    return dict(
        re.findall(
            r"^([a-z-]+):.*?(?:## *(.*))?$", read("Makefile"), re.MULTILINE
        )
    )


WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def test_there_are_three_workflows() -> None:
    names = [path.stem for path in WORKFLOWS]
    assert names == ["publish", "tests", "weekly"]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflow_is_valid_and_calls_make(path: Path) -> None:
    workflow = yaml.safe_load(path.read_text(encoding="utf-8"))
    # YAML 1.1 reads the key `on` as true.
    assert workflow.get("on", workflow.get(True)), "no trigger"
    assert "permissions" in workflow and workflow["jobs"]
    for job in workflow["jobs"].values():
        assert job["runs-on"] and job["steps"]
        assert (
            job.get("needs", next(iter(workflow["jobs"])))
            in (workflow["jobs"])
        )
        for step in job["steps"]:
            assert ("run" in step) != ("uses" in step), step
            if "uses" in step:
                assert re.fullmatch(r"[\w-]+/[\w-]+@v\d+", step["uses"])
            else:
                words = step["run"].split()
                assert words[0] == "make" and len(words) == 2, step
                assert words[1] in targets()


@pytest.mark.parametrize("target", sorted(targets()))
def test_target_is_listed_and_has_a_recipe(target: str) -> None:
    assert targets()[target], f"'make help' says nothing about {target}"
    run = subprocess.run(
        ["make", "--dry-run", target],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert re.search(
        rf"^\.PHONY:.*\b{target}\b", read("Makefile"), re.MULTILINE
    )


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_documents_name_make_targets_that_exist(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    named = re.findall(r"(?:^|`)make ([a-z-]+)", text, re.MULTILINE)
    assert set(named) <= set(targets())


def test_readme_shows_every_target() -> None:
    named = set(re.findall(r"`make ([a-z-]+)", read("README.md")))
    assert named == set(targets()) - {"help"}


def test_readme_opens_with_the_two_commands_and_is_filled_in() -> None:
    text = read("README.md")
    blocks = re.findall(r"```bash\n(.*?)```", text, re.DOTALL)
    first = [line.split("#")[0].strip() for line in blocks[0].splitlines()]
    assert first == ["make book", "make test"]
    assert re.findall(r"@@\w+@@", text) == [], "a measured number is missing"


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_papermill_commands_set_parameters_that_exist(path: Path) -> None:
    text = path.read_text(encoding="utf-8").replace("\\\n", " ")
    for notebook, rest in re.findall(
        r"^papermill (\S+) (.*)$", text, re.MULTILINE
    ):
        known = read_parameters(ROOT / notebook)
        named = re.findall(r"-p (\w+) ", rest)
        for block in re.findall(r'-y "(.*?)"', rest):
            named.extend(yaml.safe_load(block))
        assert named and set(named) <= set(known), (notebook, named)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_documents_name_commands_that_exist(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    named = set(re.findall(r"-m lq_utils ([a-z]+)", text))
    assert named <= set(MODULES)


@pytest.mark.parametrize("name", sorted(MODULES))
def test_every_command_explains_itself(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main([name, "--help"])
    assert stop.value.code == 0
    assert f"python -m lq_utils {name}" in capsys.readouterr().out
