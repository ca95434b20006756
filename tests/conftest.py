"""What every test shares: threads, caches of their own, data, a browser."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

# Before numpy or torch is imported: one thread each. A second one gains
# little on small inputs and loses much when the machine is busy.
for _name in ("OMP", "OPENBLAS", "MKL", "NUMEXPR"):
    os.environ.setdefault(f"{_name}_NUM_THREADS", "1")
os.environ["MPLBACKEND"] = "Agg"
os.environ.setdefault("KERAS_BACKEND", "torch")

# Before lq_utils is imported, here and in every process a test starts:
# tests never read or write the caches and results of the user.
_SCRATCH = Path(tempfile.mkdtemp(prefix="lq-tests-"))
os.environ["LQ_CACHE_DIR"] = str(_SCRATCH / "cache")
os.environ["LQ_RESULTS_DIR"] = str(_SCRATCH / "results")

import pytest
from hypothesis import HealthCheck, settings

from lq_utils.book_print import Browser, find_browser
from lq_utils.paths import data_dir

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

# Examples and their making take longer on a busy machine: no fault.
settings.register_profile(
    "any speed", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("any speed")

OF_THE_BOOK = ("test_accessibility.py", "test_book.py", "test_browser.py")
CIFAR_FOLDERS = {
    "cifar10": "cifar-10-batches-py",
    "cifar100": "cifar-100-python",
}


def _real_data(name: str) -> Path:
    folder = data_dir()
    if not (folder / CIFAR_FOLDERS[name]).is_dir():
        pytest.skip(
            f"REAL DATA NOT TESTED: no {CIFAR_FOLDERS[name]} in {folder}; "
            f"'make data' downloads it"
        )
    return folder


@pytest.fixture(scope="session")
def real_cifar10() -> Path:
    """The data folder, where it holds CIFAR-10; else a loud skip."""
    return _real_data("cifar10")


@pytest.fixture(scope="session")
def real_cifar100() -> Path:
    """The data folder, where it holds CIFAR-100; else a loud skip."""
    return _real_data("cifar100")


@pytest.fixture(scope="session")
def chromium() -> Browser:
    """A browser and its driver; else a loud skip, in CI a failure."""
    browser = find_browser()
    if browser is None:
        message = (
            "BROWSER NOT TESTED: no Chromium with chromedriver on PATH; "
            "on Debian: apt-get install chromium chromium-driver"
        )
        if os.environ.get("CI", "").lower() == "true":
            pytest.fail(message)
        pytest.skip(message)
    return browser


@pytest.fixture(scope="module")
def base() -> Iterator[str]:
    """Address at which the built book is served."""
    # Imported late: few tests need a browser or the book.
    from book_build import built_book
    from browser_pages import served

    built = built_book()
    assert built.code == 0, built.output
    with served(built.html) as address:
        yield address


@pytest.fixture(scope="module")
def driver(chromium: Browser) -> Iterator[Chrome]:
    """A browser that reaches this machine only."""
    from browser_pages import opened

    with opened(chromium) as browser:
        yield browser


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Several processes: one builds the book and runs all its tests."""
    from xdist.scheduler import LoadScopeScheduling

    class BookApart(LoadScopeScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            file = Path(nodeid.partition("::")[0]).name
            return "book" if file in OF_THE_BOOK else nodeid

    return BookApart(config, log)


def pytest_report_header() -> list[str]:
    """Say at the top which real things this run can test."""
    folder = data_dir()
    found = [n for n, f in CIFAR_FOLDERS.items() if (folder / f).is_dir()]
    browser = find_browser()
    return [
        f"real data in {folder}: {', '.join(found) or 'NONE'}",
        f"browser: {browser.binary if browser else 'NONE'}",
    ]


def pytest_unconfigure() -> None:
    """Remove the scratch folder of this test run."""
    shutil.rmtree(_SCRATCH, ignore_errors=True)
