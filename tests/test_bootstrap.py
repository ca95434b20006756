"""A real installation from a lock: tiny packages, a real environment."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from lq_utils.bootstrap import pinned_version, read_lock, without_cuda
from lq_utils.paths import ROOT

UV = Path(sys.prefix) / "bin" / "uv"


def wheel(folder: Path, name: str, version: str) -> str:
    """Write a wheel with one module; its lock entry."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-{version}-py3-none-any.whl"
    info = f"{name}-{version}.dist-info"
    about = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{name}.py", f"VERSION = {version!r}\n")
        archive.writestr(f"{info}/METADATA", about)
        archive.writestr(
            f"{info}/WHEEL",
            "Wheel-Version: 1.0\nGenerator: test\n"
            "Root-Is-Purelib: true\nTag: py3-none-any\n",
        )
        archive.writestr(f"{info}/RECORD", "")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return f"{name}=={version} \\\n    --hash=sha256:{digest}\n"


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    return folder


def bootstrap(
    environment: Path, lock: Path, wheels: Path, *more: str, uv: bool = False
) -> subprocess.CompletedProcess[str]:
    """Run the module in ``environment``, offline, with these wheels."""
    folders = [environment / "bin", Path("/usr/bin"), Path("/bin")]
    path = ":".join(map(str, [UV.parent, *folders] if uv else folders))
    inherited = {
        k: v
        for k, v in os.environ.items()
        if not k.startswith(("PIP_", "UV_", "VIRTUAL_ENV"))
    }
    offline = {
        "PATH": path,
        "PIP_FIND_LINKS": str(wheels),
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "UV_NO_INDEX": "1",
        "UV_FIND_LINKS": str(wheels),
    }
    if not more:
        offline["PIP_NO_INDEX"] = "1"
    command = [environment / "bin" / "python", "-m", "lq_utils.bootstrap"]
    return subprocess.run(
        [*command, "--lock", lock, *more],
        cwd=ROOT,
        env=inherited | offline,
        capture_output=True,
        text=True,
        check=False,
    )


def ask(environment: Path, folder: Path, code: str) -> str:
    done = subprocess.run(
        [environment / "bin" / "python", "-c", code],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip() or done.stderr.strip().splitlines()[-1]


@pytest.mark.parametrize("tool", ["pip", "uv"])
def test_lock_is_installed_and_the_package_linked(
    environment: Path, tmp_path: Path, tool: str
) -> None:
    if tool == "uv" and not UV.exists():
        pytest.skip(f"NOT TESTED with uv: no {UV}; 'make env' installs it")
    name = f"tiny_{tool}"
    lock = tmp_path / "requirements.lock"
    lock.write_text("# a comment\n" + wheel(tmp_path / "w", name, "1.2"))
    done = bootstrap(environment, lock, tmp_path / "w", uv=tool == "uv")
    assert done.returncode == 0, done.stderr
    assert "uv did not" not in done.stderr or tool == "pip"
    code = f"import {name}, lq_utils; print({name}.VERSION, lq_utils.__file__)"
    answer = ask(environment, tmp_path, code)
    assert answer == f"1.2 {ROOT / 'lq_utils' / '__init__.py'}"


@pytest.mark.parametrize("tool", ["pip", "uv"])
def test_wrong_hash_is_refused(
    environment: Path, tmp_path: Path, tool: str
) -> None:
    if tool == "uv" and not UV.exists():
        pytest.skip(f"NOT TESTED with uv: no {UV}; 'make env' installs it")
    lock = tmp_path / "requirements.lock"
    entry = wheel(tmp_path / "w", "forged", "1.0")
    digest = entry.rsplit(":", 1)[1].strip()
    lock.write_text(entry.replace(digest, "0" * 64))
    done = bootstrap(environment, lock, tmp_path / "w", uv=tool == "uv")
    assert done.returncode == 1
    assert "environment is not complete" in done.stdout
    assert "No module" in ask(environment, tmp_path, "import forged")


def test_torch_from_another_index_leaves_cuda_out(
    environment: Path, tmp_path: Path
) -> None:
    index = tmp_path / "index"
    entries = [wheel(tmp_path / "w", "tiny_more", "1.0")]
    for name, version in (("torch", "2.1"), ("torchvision", "0.2")):
        wheel(index / name, name, f"{version}+cpu")
        link = f"{name}-{version}+cpu-py3-none-any.whl"
        page = f'<a href="{link}">{link}</a>'
        (index / name / "index.html").write_text(page)
        entries.append(wheel(tmp_path / "cuda", name, version))
    entries.append(wheel(tmp_path / "cuda", "nvidia_tiny", "1.0"))
    lock = tmp_path / "requirements.lock"
    text = "".join(entries).replace("nvidia_tiny==", "nvidia-tiny==")
    lock.write_text(text)
    done = bootstrap(
        environment,
        lock,
        tmp_path / "w",
        "--torch-index",
        index.as_uri(),
    )
    assert done.returncode == 0, done.stderr
    code = "import torch, torchvision, tiny_more; print(torch.VERSION)"
    assert ask(environment, tmp_path, code) == "2.1+cpu"
    assert "No module" in ask(environment, tmp_path, "import nvidia_tiny")


def test_it_needs_no_package_and_refuses_a_shared_python() -> None:
    base = Path(sys.base_prefix) / "bin" / "python3"
    code = (
        "import sys; sys.prefix = sys.base_prefix;"
        "from lq_utils.bootstrap import main; sys.exit(main([]))"
    )
    done = subprocess.run(
        [
            base,
            "-I",
            "-S",
            "-c",
            f"import sys; sys.path[:0] = [{str(ROOT)!r}]; {code}",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert "virtual environment: 'make env'" in done.stdout


def test_lock_without_pins_is_an_error(tmp_path: Path) -> None:
    lock = tmp_path / "requirements.lock"
    lock.write_text("# nothing\nnumpy>=1\n")
    with pytest.raises(ValueError, match="make lock"):
        read_lock(lock)


def test_version_of_an_entry() -> None:
    entry = "a==1.2.post1 ; os_name == 'nt' \\\n    --hash=sha256:0"
    assert pinned_version(entry) == "1.2.post1"
    with pytest.raises(ValueError, match="no exact pin"):
        pinned_version("a>=1.2")


def test_cpu_build_drops_torch_and_only_cuda_packages() -> None:
    entries = read_lock()
    dropped = set(entries) - set(without_cuda(entries))
    assert {"torch", "torchvision", "triton"} < dropped
    others = dropped - {"torch", "torchvision", "triton"}
    assert others and all(n.startswith(("nvidia-", "cuda-")) for n in others)
