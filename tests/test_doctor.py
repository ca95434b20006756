"""The doctor finds what is wrong, and only that."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lq_utils import doctor
from lq_utils.doctor import Check
from lq_utils.paths import ROOT


def lock_file(folder: Path, *pins: str) -> Path:
    path = folder / "requirements.lock"
    hashed = [f"{pin} \\\n    --hash=sha256:{'0' * 64}\n" for pin in pins]
    path.write_text("".join(hashed), encoding="utf-8")
    return path


def fake_package(folder: Path, name: str, version: str) -> None:
    info = folder / f"{name}-{version}.dist-info"
    info.mkdir()
    about = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    (info / "METADATA").write_text(about, encoding="utf-8")


def test_right_versions_are_one_ok_line(tmp_path: Path) -> None:
    version = importlib.metadata.version("numpy")
    lock = lock_file(tmp_path, f"numpy=={version}")
    assert list(doctor.check_versions(lock)) == [
        Check("OK", "1 packages are as in requirements.lock")
    ]


def test_wrong_and_missing_versions_fail_by_name(tmp_path: Path) -> None:
    lock = lock_file(tmp_path, "numpy==0.0.1", "no-such-package==1.0")
    found = list(doctor.check_versions(lock))
    assert [c.status for c in found] == ["FAIL", "FAIL"]
    version = importlib.metadata.version("numpy")
    assert f"numpy is {version}, ==0.0.1 is wanted" in found[0].text
    assert "no-such-package is missing" in found[1].text
    assert all("make env" in c.text for c in found)


def test_packages_of_other_systems_are_not_asked_for(tmp_path: Path) -> None:
    pin = "no-such-package==1.0 ; sys_platform == 'plan9'"
    checks = list(doctor.check_versions(lock_file(tmp_path, pin)))
    assert [c.status for c in checks] == ["OK"]


def test_cpu_build_of_torch_needs_no_cuda_packages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = lock_file(tmp_path, "torch==9.1", "nvidia-nothing==1.0")
    monkeypatch.syspath_prepend(tmp_path)
    fake_package(tmp_path, "torch", "9.1+cpu")
    assert [c.status for c in doctor.check_versions(lock)] == ["OK"]
    (tmp_path / "torch-9.1+cpu.dist-info").rename(tmp_path / "gone")
    fake_package(tmp_path, "torch", "9.1")
    found = list(doctor.check_versions(lock))
    assert ["nvidia-nothing is missing" in c.text for c in found] == [True]


def test_ranges_are_checked_where_there_is_no_lock(tmp_path: Path) -> None:
    project = tmp_path / "pyproject.toml"
    project.write_text('[project]\ndependencies = ["numpy>=1", "pip<1"]\n')
    checks = list(doctor.check_ranges(project))
    assert [c.status for c in checks] == ["FAIL"]
    assert "pip is" in checks[0].text
    own = list(doctor.check_ranges(ROOT / "pyproject.toml"))
    assert [c.status for c in own] == ["OK"]


def test_torch_and_torchvision_match() -> None:
    assert [c.status for c in doctor.check_torch()] == ["OK"]


def test_notebook_kernel_is_this_python_and_finds_the_package() -> None:
    assert list(doctor.check_kernel()) == [
        Check("OK", "kernel python3 is this Python, with lq_utils")
    ]


def test_absent_data_is_said_and_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LQ_DATA_DIR", str(tmp_path))
    checks = list(doctor.check_data())
    assert {c.status for c in checks} == {"INFO"}
    for name in ("cifar10", "cifar100"):
        line = next(c.text for c in checks if c.text.startswith(f"{name}:"))
        assert "not there" in line and "make data" in line


def test_damaged_data_is_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "cifar-100-python"
    folder.mkdir()
    (folder / "train").write_bytes(b"not a pickle")
    monkeypatch.setenv("LQ_DATA_DIR", str(tmp_path))
    damaged, other, place = doctor.run_checks([doctor.check_data])
    assert damaged.status == "FAIL" and "incomplete" in damaged.text
    assert "lq_utils data --dataset cifar100" in damaged.text
    assert other.text.startswith("cifar10: not there")
    assert place.text == f"data folder: {tmp_path}"


@pytest.mark.real_data
def test_real_data_is_found(real_cifar100: Path) -> None:
    texts = [c.text for c in doctor.check_data()]
    assert any(
        t in ("cifar100: official", "cifar100: unofficial copy") for t in texts
    )


def test_folder_that_cannot_be_written_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("LQ_CACHE_DIR", str(tmp_path / "file" / "cache"))
    monkeypatch.setenv("LQ_RESULTS_DIR", str(tmp_path / "results"))
    cache, results = doctor.check_folders()
    assert cache.status == "FAIL" and "LQ_CACHE_DIR" in cache.text
    assert results.status == "OK" and "writable" in results.text


def test_full_disk_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "NEEDED_GB", 1e9)
    checks = list(doctor.check_folders())
    assert [c.status for c in checks] == ["FAIL", "FAIL"]
    assert "are needed" in checks[0].text


def _broken() -> Iterator[Check]:
    raise OSError("the cable is out")
    yield


def _fine() -> Iterator[Check]:
    yield Check("OK", "fine")


def test_one_broken_check_does_not_hide_the_others(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert doctor.main([], [_broken, _fine]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("FAIL ")
    assert "OSError: the cable is out" in lines[0]
    assert lines[1:] == ["OK    fine", "1 problem(s)"]
    assert doctor.main([], [_fine]) == 0


@pytest.mark.slow
def test_this_environment_is_whole() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "lq_utils", "doctor"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    words = {line.split()[0] for line in done.stdout.splitlines()[:-1]}
    assert words == {"OK", "INFO"}
    for part in ("Python", "torch", "kernel", "cifar100", "GPU", "writable"):
        assert part in done.stdout
