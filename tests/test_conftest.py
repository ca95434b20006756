"""The shared fixtures skip loudly, fail in CI, and keep caches apart."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lq_utils.paths import ROOT

TESTS = """
import os
import numpy  # first import after conftest
from lq_utils.paths import cache_dir, results_dir

def test_browser(chromium):
    assert chromium.binary and chromium.driver

def test_images(real_cifar100):
    assert (real_cifar100 / "cifar-100-python").is_dir()

def test_folders():
    for folder in (cache_dir(), results_dir()):
        assert "lq-tests-" in str(folder)
    assert os.environ["MPLBACKEND"] == "Agg"
    assert os.environ["OMP_NUM_THREADS"]
"""


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    """A test suite of its own under the project's conftest.py."""
    folder = tmp_path / "suite"
    folder.mkdir()
    shutil.copy(ROOT / "tests" / "conftest.py", folder)
    (folder / "test_it.py").write_text(TESTS, encoding="utf-8")
    return folder


def report(suite: Path, **variables: str) -> str:
    inherited = {
        k: v
        for k, v in os.environ.items()
        if k not in ("CI", "OMP_NUM_THREADS") and not k.startswith("LQ_")
    }
    command = [sys.executable, "-m", "pytest", "-ra", "-c", os.devnull, suite]
    done = subprocess.run(
        command,
        cwd=suite,
        env=inherited
        | {"PYTHONPATH": str(ROOT), "LQ_CACHE_DIR": "/nowhere"}
        | variables,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout + done.stderr


def test_what_is_absent_is_skipped_loudly(suite: Path) -> None:
    text = report(suite, PATH="/nowhere", LQ_DATA_DIR=str(suite))
    assert "1 passed, 2 skipped" in text
    assert "BROWSER NOT TESTED" in text
    assert "REAL DATA NOT TESTED" in text
    assert f"real data in {suite}: NONE" in text


def test_missing_browser_fails_in_ci(suite: Path) -> None:
    text = report(suite, PATH="/nowhere", LQ_DATA_DIR=str(suite), CI="true")
    assert "1 passed, 1 skipped, 1 error" in text
    assert "apt-get install chromium chromium-driver" in text


def test_what_is_there_is_used(suite: Path) -> None:
    (suite / "cifar-100-python").mkdir()
    for name in ("chromium", "chromedriver"):
        path = suite / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("#!/bin/sh\n", encoding="utf-8")
        path.chmod(0o755)
    text = report(suite, PATH=str(suite / "bin"), LQ_DATA_DIR=str(suite))
    assert "3 passed" in text
    assert "cifar100" in text and f"browser: {suite}" in text
