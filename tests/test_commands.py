"""Every command that a reader is told to type works.

Commands that take long are parsed by their own parser and not run; what
they name (chapters, parameters, targets) must exist. A command that no
rule knows fails: it needs a rule here.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import re
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import test_prose

from lq_utils import options, runner
from lq_utils.__main__ import MODULES
from lq_utils.__main__ import main as command
from lq_utils.large_networks import LARGE_NETWORKS
from lq_utils.models import MODELS
from lq_utils.parameters import check_values, read_parameters
from lq_utils.paths import ROOT
from lq_utils.profiles import find_chapter, source_path
from lq_utils.text_files import load_yaml

PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *test_prose.PAGES,
]
Words = list[str]
VARIABLE = re.compile(r"([A-Z_]+)=\S*")
OWN_IMAGES = "my_images"
OWN_FILE = "my_parameters.yml"  # stands for one of the reader's
# Of these only the options are read: they run for minutes, or download.
LONG = {"book", "compress", "data", "release", "train"}
CHEAP = {"doctor", "network --list", "reference"}


class Parsed(Exception):
    """The command understood its words, and stopped there."""


def shell_lines(text: str) -> list[str]:
    """Commands of a page's shell blocks, one a line, no comments."""
    blocks = [c for lang, c in test_prose.code_blocks(text) if lang == "bash"]
    joined = "\n".join(blocks).replace("\\\n", " ")
    lines = (re.sub(r"(^|\s)#.*", "", x).strip() for x in joined.split("\n"))
    return [line for line in lines if line]


def all_commands() -> list[str]:
    """Commands of all pages, and of the tables of README and CONTRIBUTING."""
    found = [line for page in PAGES for line in shell_lines(page.read_text())]
    for page in PAGES[:2]:
        inline = re.findall(r"`((?:make|python) [^`\n]+)`", page.read_text())
        found += inline
    return sorted(set(found))


def without_variables(words: Words) -> Words:
    """The words after NAME=value; the package must know each name."""
    paths = (ROOT / "lq_utils" / "paths.py").read_text("utf-8")
    while words and (found := VARIABLE.fullmatch(words[0])):
        assert f'"{found[1]}"' in paths, f"nothing reads {found[1]}"
        words = words[1:]
    return words


def check_make(words: Words) -> None:
    inherited = {k: v for k, v in os.environ.items() if "MAKE" not in k}
    done = subprocess.run(
        ["make", "--dry-run", *words],
        cwd=ROOT,
        env=inherited,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    makefile = (ROOT / "Makefile").read_text("utf-8")
    for variable in filter(None, map(VARIABLE.fullmatch, words)):
        assert f"$({variable[1]})" in makefile, f"unused: {variable[0]}"


def check_parameters(chapter: str, given: dict[str, Any]) -> None:
    check_values(read_parameters(source_path(chapter)), given)


def check_papermill(words: Words) -> None:
    from papermill.cli import papermill

    given = papermill.make_context("papermill", words).params
    notebook = ROOT / given["notebook_path"]
    assert notebook.is_file()
    parameters = read_parameters(source_path(notebook.stem))
    values = {
        name: options.read_option(parameters.get(name), text)
        for name, text in given["parameters"]
    }
    for text in given["parameters_yaml"]:
        values |= load_yaml(text)
    assert values
    check_parameters(notebook.stem, values)


def check_run(words: Words) -> None:
    arguments = options.parse(words, "")
    if arguments.list_params or arguments.chapter == "all":
        assert command(["run", arguments.chapter, "--list-params"]) == 0
        return
    chapter = find_chapter(arguments.chapter)
    values = options.given(chapter, arguments)
    runner.make_plan(chapter, arguments.profile, values)


def check_package(words: Words, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command of ``python -m lq_utils``: run it if that is cheap."""
    if words[0] == "run":
        check_run(words[1:])
    elif " ".join(words) in CHEAP:
        assert command(words) in (0, 1)  # the doctor may find something
    else:
        parse_only(words, monkeypatch)
        name = next((w for w in words[1:] if not w.startswith("-")), "")
        if words[0] in ("compare", "reference"):
            find_chapter(name)
        elif words[0] == "network":
            assert name in LARGE_NETWORKS
        else:
            assert words[0] in LONG


def parse_only(words: Words, monkeypatch: pytest.MonkeyPatch) -> None:
    read = argparse.ArgumentParser.parse_args

    def parse(self: Any, *given: Any, **also: Any) -> None:
        found = read(self, *given, **also)
        if getattr(found, "model", None) is not None:
            assert found.model in MODELS
        raise Parsed

    with monkeypatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, "parse_args", parse)
        with pytest.raises(Parsed):
            command(words)


def check_module(words: Words) -> None:
    """``python -m name``, of a module that can be run."""
    spec = importlib.util.find_spec(words[0])
    assert spec is not None and spec.origin is not None
    text = Path(spec.origin).read_text("utf-8")
    assert "__main__" in text or Path(spec.origin).stem == "__init__"


def check_python(words: Words, monkeypatch: pytest.MonkeyPatch) -> None:
    if words[:2] == ["-m", "lq_utils"]:
        check_package(words[2:], monkeypatch)
    elif words[0] == "-m":
        check_module(words[1:])
    else:
        assert (ROOT / words[0]).is_file()


def check_dask(words: Words) -> None:
    from distributed.cli import dask_scheduler, dask_worker

    known = {"scheduler": dask_scheduler, "worker": dask_worker}
    words = [word for word in words if word != "&"]
    known[words[0]].main.make_context(words[0], words[1:])


def check_source(words: Words) -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    folder = words[0].removesuffix("/bin/activate")
    assert f"VENV ?= {folder}\n" in makefile


def check_export(words: Words) -> None:
    assert without_variables(words) == []


RULES: dict[str, Callable[..., None]] = {
    "make": check_make,
    "papermill": check_papermill,
    "python": check_python,
    "dask": check_dask,
    "source": check_source,
    "export": check_export,
}


def check(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Apply the rule of a command; one without a rule is an error."""
    line = re.sub(r"<[^>]*>", "STANDS_FOR_SOMETHING", line)
    program, *words = without_variables(shlex.split(line))
    assert program in RULES, f"no rule in {__name__} for: {line}"
    if program == "python":
        check_python(words, monkeypatch)
    else:
        RULES[program](words)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with nothing but what the reader has."""
    (tmp_path / OWN_FILE).write_text("seed: 1\n", "utf-8")
    (tmp_path / OWN_IMAGES / "cats").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_pages_have_commands() -> None:
    found = all_commands()
    programs = {
        without_variables(shlex.split(x))[:1][0]
        for x in found
        if not x.startswith("export")
    }
    assert programs == set(RULES) - {"export"}
    assert len(found) > 40


@pytest.mark.parametrize("line", all_commands())
def test_command_works(
    folder: Path, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    check(line, monkeypatch)


@pytest.mark.parametrize(
    "line",
    [
        "make boook",
        "make env TORCH_INDX=x",
        "papermill notebooks/01_class_distance.ipynb out.ipynb -p seed 1",
        "papermill notebooks/01_class_distances.ipynb out.ipynb -p sed 1",
        "papermill notebooks/01_class_distances.ipynb o.ipynb -y 'seed: x'",
        "python -m lq_utils run 99",
        "python -m lq_utils run 01 --profile quik",
        "python -m lq_utils run 01 -p seed -1",
        "python -m lq_utils compare 99",
        "python -m lq_utils compress --modl resnet20",
        "python -m lq_utils network resnet5 --plan",
        "python -m lq_utils.no_such_module",
        "python benchmarks/none.py",
        "dask worker tcp://127.0.0.1:1 --nworker-count 3",
        "LQ_DATA=x make book",
        "rm -rf book",
    ],
)
def test_a_wrong_command_is_seen(
    folder: Path, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises((Exception, SystemExit)) as caught:
        check(line, monkeypatch)
    assert caught.type is not Parsed


@pytest.mark.parametrize("name", MODULES)
def test_every_command_has_help(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        command([name, "--help"])
    assert left.value.code == 0
    assert f"lq_utils {name}" in capsys.readouterr().out


def test_compare_without_a_run_says_what_to_do(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("LQ_RESULTS_DIR", str(folder))
    assert command(["compare", "01"]) == 2
    assert "error:" in capsys.readouterr().err
