"""The book lies anywhere: odd paths, other folders, nothing to write in."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from book_build import copy_sources, run_in

from lq_utils.paths import ROOT
from lq_utils.rows import load_rows


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the sources in a path with spaces and accents."""
    root = tmp_path_factory.mktemp("places") / "my book, été" / "a copy"
    root.mkdir(parents=True)
    copy_sources(root)
    fixtures = ROOT / "tests" / "notebooks"
    shutil.copytree(fixtures, root / "fixtures")
    return root


def listing(root: Path) -> dict[str, tuple[int, int]]:
    """All files below a folder, with size and time of last change."""
    return {
        str(path.relative_to(root)): (
            path.stat().st_size,
            path.stat().st_mtime_ns,
        )
        for path in root.rglob("*")
        if path.is_file()
    }


def writable(root: Path, may_write: bool) -> None:
    """Give or take the right to write; it does not bind the super-user."""
    mode = 0o200
    for path in [root, *root.rglob("*")]:
        now = path.stat().st_mode
        path.chmod(now | mode if may_write else now & ~mode)


def test_a_checkout_that_is_only_read(checkout: Path, tmp_path: Path) -> None:
    """With other folders for caches and results it stays as it is."""
    before = listing(checkout)
    writable(checkout, False)
    try:
        done = run_in(
            checkout,
            *("-m", "lq_utils", "run", "90", "--profile", "smoke"),
            *("-p", "size", "30"),
            LQ_NOTEBOOKS_DIR=str(checkout / "fixtures"),
            LQ_CACHE_DIR=str(tmp_path / "the cache"),
            LQ_RESULTS_DIR=str(tmp_path / "my results"),
            PYTHONDONTWRITEBYTECODE="1",
        )
    finally:
        writable(checkout, True)
    assert done.code == 0, done.output
    rows = load_rows(tmp_path / "my results" / "custom" / "90_passing")
    assert set(rows["n"]) == {30}
    assert listing(checkout) == before


def test_from_another_folder(checkout: Path, tmp_path: Path) -> None:
    """Chapters, results and caches are found from anywhere."""
    script = (
        f"import os, runpy, sys; os.chdir({str(tmp_path)!r}); "
        "sys.argv = ['lq_utils', 'run', '90', '--profile', 'smoke']; "
        "runpy.run_module('lq_utils', run_name='__main__')"
    )
    done = run_in(
        checkout,
        *("-c", script),
        LQ_NOTEBOOKS_DIR=str(checkout / "fixtures"),
        LQ_CACHE_DIR=str(tmp_path / "cache"),
    )
    assert done.code == 0, done.output
    rows = load_rows(checkout / "_build" / "results" / "smoke" / "90_passing")
    assert set(rows["profile"]) == {"smoke"}
    assert sorted(os.listdir(tmp_path)) == ["cache"]
