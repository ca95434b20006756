"""Downloading CIFAR, from a server in this process."""

from __future__ import annotations

import errno
import hashlib
import io
import socket
import tarfile
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from cifar_files import call_official, shrink, write_tiny

from lq_utils import data, download
from lq_utils.cifar import find_rung
from lq_utils.data import DataError
from lq_utils.download import download_cifar
from lq_utils.layouts import LAYOUTS

NAME = "cifar10"


class Server(ThreadingHTTPServer):
    """Serves one archive; can break off, or ignore the Range header."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.archive = b""
        self.break_after: list[int] = []
        self.ranges = True
        self.asked: list[str | None] = []


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        asked = self.headers.get("Range")
        self.server.asked.append(asked)
        start = 0
        if asked and self.server.ranges:
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
        body = self.server.archive[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.server.break_after:
            body = body[: self.server.break_after.pop(0)]
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Keep the test output quiet."""


def archive_of(base: Path, extra: bytes | None = None) -> bytes:
    """A .tar.gz like the original's, perhaps with a hostile member."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        if extra is not None:
            member = tarfile.TarInfo("../escaped")
            member.size = len(extra)
            tar.addfile(member, io.BytesIO(extra))
        tar.add(base, base.name)
    return buffer.getvalue()


def publish(
    server: Server, archive: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.archive = archive
    known = replace(
        LAYOUTS[NAME],
        url=f"http://127.0.0.1:{server.server_port}/archive.tar.gz",
        archive_bytes=len(archive),
        archive_md5=hashlib.md5(archive).hexdigest(),
    )
    monkeypatch.setitem(LAYOUTS, NAME, known)


@pytest.fixture
def server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Server]:
    """Serves a tiny data set whose checksums count as the official ones."""
    for proxy in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(proxy, raising=False)
    shrink(monkeypatch)
    base = write_tiny(tmp_path / "origin", NAME)
    call_official(monkeypatch, NAME, base)
    server = Server()
    publish(server, archive_of(base), monkeypatch)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


def left_over(folder: Path) -> list[str]:
    return sorted(f.name for f in folder.iterdir())


def test_download(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    final = download_cifar(NAME, tmp_path / "data")
    assert final.name == "cifar-10-batches-py"
    assert find_rung(NAME, tmp_path / "data") == "official"
    assert left_over(tmp_path / "data") == [final.name]
    said = capsys.readouterr().out
    assert said.startswith("Downloading CIFAR-10 from http://127.0.0.1")
    assert "min at 50 kB/s" in said
    download_cifar(NAME, tmp_path / "data")
    assert len(server.asked) == 1


def test_goes_on_after_an_interruption(server: Server, tmp_path: Path) -> None:
    server.break_after = [1000, 2000]
    download_cifar(NAME, tmp_path)
    assert server.asked == [None, "bytes=1000-", "bytes=3000-"]
    assert find_rung(NAME, tmp_path) == "official"


def test_goes_on_in_a_later_run(server: Server, tmp_path: Path) -> None:
    server.break_after = [1000, 0]
    with pytest.raises(DataError, match="goes on after the 1,000 bytes"):
        download_cifar(NAME, tmp_path / "data")
    assert find_rung(NAME, tmp_path / "data") is None
    download_cifar(NAME, tmp_path / "data")
    assert server.asked[-1] == "bytes=1000-"
    assert find_rung(NAME, tmp_path / "data") == "official"


def test_server_without_ranges_starts_again(
    server: Server, tmp_path: Path
) -> None:
    server.break_after, server.ranges = [1000], False
    download_cifar(NAME, tmp_path / "data")
    assert find_rung(NAME, tmp_path / "data") == "official"


def test_wrong_checksum_is_removed(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = server.archive
    server.archive = good[:500] + bytes([good[500] ^ 1]) + good[501:]
    with pytest.raises(DataError, match="damaged or replaced on the way"):
        download_cifar(NAME, tmp_path / "data")
    assert left_over(tmp_path / "data") == []
    server.archive = good
    download_cifar(NAME, tmp_path / "data")


def test_endless_answer_is_refused(server: Server, tmp_path: Path) -> None:
    server.archive *= 3
    with pytest.raises(DataError, match=r"something\s+else"):
        download_cifar(NAME, tmp_path)


def test_nothing_is_written_outside(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = tmp_path / "origin" / "cifar-10-batches-py"
    publish(server, archive_of(base, b"evil"), monkeypatch)
    download_cifar(NAME, tmp_path / "data")
    assert not list(tmp_path.rglob("escaped"))


@pytest.mark.parametrize("fault", ["missing", "link", "other content"])
def test_bad_archive_leaves_no_folder(
    server: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    fault: str,
) -> None:
    file = tmp_path / "origin" / "cifar-10-batches-py" / "test_batch"
    file.unlink()
    if fault == "link":
        file.symlink_to("/etc/hostname")
    elif fault == "other content":
        file.write_bytes(b"other")
    publish(server, archive_of(file.parent), monkeypatch)
    with pytest.raises(DataError, match="repeat the command"):
        download_cifar(NAME, tmp_path / "data")
    folders = [f for f in (tmp_path / "data").iterdir() if f.is_dir()]
    assert folders == []


def test_no_network_is_a_quick_clear_error(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/x"
        known = replace(LAYOUTS[NAME], url=url)
        monkeypatch.setitem(LAYOUTS, NAME, known)
        started = time.monotonic()
        with pytest.raises(DataError, match="Check the network") as caught:
            download_cifar(NAME, tmp_path / "data")
    assert time.monotonic() - started < 15
    assert "synthetic" in str(caught.value)
    assert find_rung(NAME, tmp_path / "data") is None


def test_hanging_name_lookup_ends(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = threading.Event()

    def hang(*_: object, **__: object) -> None:
        release.wait(30)
        raise OSError("released at the end of the test")

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    monkeypatch.setattr(download, "CONNECT_SECONDS", 0.3)
    started = time.monotonic()
    with pytest.raises(DataError, match="no answer within"):
        download_cifar(NAME, tmp_path / "data")
    assert time.monotonic() - started < 10
    release.set()


def test_time_limits_keep_the_promise() -> None:
    assert download.CONNECT_SECONDS < 15
    assert download.SOCKET_SECONDS <= 10


def test_unwritable_destination(server: Server, tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file is in the way")
    with pytest.raises(DataError, match="cannot write into"):
        download_cifar(NAME, tmp_path / "data")


def test_full_disk_is_not_called_the_network(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(download, "_receive", full)
    with pytest.raises(DataError, match="No space left.*Make room") as caught:
        download_cifar(NAME, tmp_path / "data")
    assert "network" not in str(caught.value)


def test_an_incomplete_folder_is_not_overwritten(
    server: Server, tmp_path: Path
) -> None:
    base = write_tiny(tmp_path / "data", NAME)
    (base / "data_batch_1").unlink()
    with pytest.raises(DataError, match="incomplete"):
        download_cifar(NAME, tmp_path / "data")
    assert server.asked == []


def test_command_line_downloads(
    server: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("LQ_DATA_DIR", str(tmp_path / "data"))
    assert data.main(["--dataset", NAME]) == 0
    assert "CIFAR-10: official in" in capsys.readouterr().out
