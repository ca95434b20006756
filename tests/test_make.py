"""What the Makefile, .ci/run and .gitignore do, in a scratch checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from lq_utils.paths import ROOT

# Stands where the environment's interpreter will be: it tells what it was
# asked to do, and fails when asked to.
RECORDER = '#!/bin/sh\necho "asked: $*"\nexit ${ASKED_RC:-0}\n'


def script(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    path.chmod(0o755)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder with the Makefile and an environment that is complete."""
    folder = tmp_path / "book"
    script(folder / ".venv" / "bin" / "python", RECORDER)
    for name in ("Makefile", "requirements.lock", ".gitignore"):
        shutil.copy(ROOT / name, folder / name)
    (folder / ".venv" / ".complete").touch()
    return folder


def run(
    folder: Path, *command: str, **variables: str
) -> subprocess.CompletedProcess[str]:
    # Without what the make that runs these tests hands down.
    inherited = {k: v for k, v in os.environ.items() if "MAKE" not in k}
    return subprocess.run(
        command,
        cwd=folder,
        env=inherited | variables,
        capture_output=True,
        text=True,
        check=False,
    )


def test_book_takes_the_profile_and_quick_by_default(checkout: Path) -> None:
    done = run(checkout, "make", "book")
    assert done.stdout == "asked: -m lq_utils book --profile quick\n"
    done = run(checkout, "make", "book", "PROFILE=smoke")
    assert done.stdout == "asked: -m lq_utils book --profile smoke\n"


@pytest.mark.parametrize(
    "target", ["book", "test", "data", "notebooks", "test-peers"]
)
def test_failure_of_the_program_fails_make(
    checkout: Path, target: str
) -> None:
    assert run(checkout, "make", target).returncode == 0
    assert run(checkout, "make", target, ASKED_RC="1").returncode != 0


def test_changed_lock_installs_again(checkout: Path) -> None:
    stamp = checkout / ".venv" / ".complete"
    os.utime(stamp, (1, 1))
    script(checkout / "python3.11", "#!/bin/sh\nexit 0\n")
    done = run(checkout, "make", "env", f"PYTHON={checkout}/python3.11")
    assert done.returncode == 0, done.stderr
    assert "asked: -m lq_utils.bootstrap --torch-index" in done.stdout
    assert stamp.stat().st_mtime > 1
    assert "asked" not in run(checkout, "make", "env").stdout


def test_failed_installation_leaves_no_stamp(checkout: Path) -> None:
    (checkout / ".venv" / ".complete").unlink()
    script(checkout / "python3.11", "#!/bin/sh\nexit 0\n")
    done = run(
        checkout,
        "make",
        "env",
        f"PYTHON={checkout}/python3.11",
        ASKED_RC="1",
    )
    assert done.returncode != 0
    assert not (checkout / ".venv" / ".complete").exists()


def test_missing_python_is_a_clear_error(checkout: Path) -> None:
    (checkout / ".venv" / ".complete").unlink()
    done = run(checkout, "make", "book", "PYTHON=")
    assert done.returncode != 0
    assert "Python 3.11 was not found" in done.stdout
    assert "make env PYTHON=" in done.stdout


def test_serve_without_a_book_says_what_to_do(checkout: Path) -> None:
    done = run(checkout, "make", "serve")
    assert done.returncode != 0
    assert "run 'make book' first" in done.stdout


def test_clean_keeps_environment_data_and_cache(checkout: Path) -> None:
    kept = ["_build/cache/a.npz", "data/cifar/x", ".venv/.complete"]
    gone = ["_build/html/index.html", "book/chapters/01.ipynb"]
    gone.append("book/status.md")
    for name in kept + gone:
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        (checkout / name).touch()
    assert run(checkout, "make", "clean").returncode == 0
    assert [n for n in kept if not (checkout / n).exists()] == []
    assert [n for n in gone if (checkout / n).exists()] == []
    assert run(checkout, "make", "distclean").returncode == 0
    assert (checkout / "data/cifar/x").exists()
    assert not (checkout / ".venv").exists()
    assert not (checkout / "_build").exists()


def test_clean_works_where_nothing_was_built(checkout: Path) -> None:
    assert run(checkout, "make", "clean").returncode == 0


def test_ci_makes_unpacks_and_tests_in_this_order(checkout: Path) -> None:
    script(checkout / ".ci" / "run", (ROOT / ".ci" / "run").read_text())
    shared = checkout.parent / "shared" / "data"
    script(shared / "unpack.py", "")
    script(shared / "README.md", "what differs")
    folders = ["data/cifar-10-batches-py", "data/cifar-100-python"]
    unpacks = RECORDER.replace("exit", f"mkdir -p {' '.join(folders)}\nexit")
    script(checkout / ".venv" / "bin" / "python", unpacks)
    (checkout / ".venv" / ".complete").touch()
    tools = checkout.parent / "tools"
    for name in ("chromium", "chromedriver"):
        script(tools / name, "#!/bin/sh\n")
    path = f"{tools}:{os.environ['PATH']}"
    done = run(checkout, ".ci/run", PATH=path)
    assert done.returncode == 0, done.stderr
    asked = [x for x in done.stdout.splitlines() if x.startswith("asked")]
    unpack = "asked: ../shared/data/unpack.py data"
    assert asked == [
        unpack,
        "asked: -m pytest --numprocesses 2 --dist loadscope",
    ]
    for folder in folders:
        text = (checkout / folder / "README.md").read_text()
        assert text == "what differs"
    # Data that is there is left alone; a failing suite fails the run.
    done = run(checkout, ".ci/run", PATH=path, ASKED_RC="1")
    assert done.returncode != 0
    assert unpack not in done.stdout


def test_git_keeps_what_it_should(checkout: Path) -> None:
    ignored = [
        ".venv/bin/python",
        "_build/html/index.html",
        "book/chapters/01.ipynb",
        "book/status.md",
        "data/cifar-100-python/train",
        "data/cifar-100-python.tar.gz",
        "data/weights/.resnet20-abc.safetensors",
        "lq_utils/__pycache__/a.pyc",
    ]
    kept = [
        "book/intro.md",
        "data/README.md",
        "data/published/poster.csv",
        "data/results/01_class_distances/rows.csv",
        "data/weights/resnet20_cifar100.safetensors",
        "notebooks/01_class_distances.ipynb",
        "requirements.lock",
    ]
    run(checkout, "git", "init", "--quiet")
    done = run(checkout, "git", "check-ignore", *ignored, *kept)
    assert done.stdout.split() == ignored
