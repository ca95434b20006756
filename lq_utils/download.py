"""Downloading CIFAR: announced, resumed, checked, then moved into place."""

from __future__ import annotations

import errno
import hashlib
import http.client
import os
import shutil
import tarfile
import tempfile
import threading
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from tqdm import tqdm

from lq_utils.cifar import find_rung, present
from lq_utils.images import DataError
from lq_utils.layouts import Layout, layout_of

SOCKET_SECONDS = 10.0
CONNECT_SECONDS = 12.0  # looking up a name does not obey the socket limit
CHUNK = 1 << 18
MEMBER_LIMIT = 256 * 2**20
NETWORK_ERRORS = (OSError, http.client.HTTPException)
DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}


def _connect(url: str, offset: int) -> Any:
    """Open ``url`` from byte ``offset`` on, within a time limit."""
    request = urllib.request.Request(url)
    if offset:
        request.add_header("Range", f"bytes={offset}-")
    outcome: list[Any] = []

    def attempt() -> None:
        try:
            outcome.append(
                urllib.request.urlopen(request, timeout=SOCKET_SECONDS)
            )
        except NETWORK_ERRORS as error:
            outcome.append(error)

    thread = threading.Thread(target=attempt, daemon=True)
    thread.start()
    thread.join(CONNECT_SECONDS)
    if not outcome:
        raise TimeoutError(f"no answer within {CONNECT_SECONDS:.0f} s")
    if isinstance(outcome[0], Exception):
        raise outcome[0]
    return outcome[0]


def _receive(layout: Layout, part: Path, offset: int) -> None:
    """Append to ``part`` what the server has from ``offset`` on."""
    with _connect(layout.url, offset) as answer:
        if answer.status != 206:  # the server cannot resume: from the start
            offset = 0
        with (
            part.open("ab" if offset else "wb") as file,
            tqdm(
                total=layout.archive_bytes,
                initial=offset,
                unit="B",
                unit_scale=True,
                desc=layout.title,
            ) as bar,
        ):
            while block := answer.read(CHUNK):
                file.write(block)
                bar.update(len(block))
                if file.tell() > 2 * layout.archive_bytes:
                    raise DataError(
                        f"{layout.url} sends more than the archive's "
                        f"{layout.archive_bytes:,} bytes: it is something "
                        "else; check proxy and network, then try again"
                    )


def _fetch(layout: Layout, part: Path) -> None:
    """Bring ``part`` to its full length, going on after interruptions."""
    while True:
        size = part.stat().st_size if part.exists() else 0
        if size >= layout.archive_bytes:
            return
        try:
            _receive(layout, part, size)
            reason: object = "the server ended early"
        except NETWORK_ERRORS as error:
            if getattr(error, "errno", None) in DISK_ERRORS:
                raise  # no fault of the network
            reason = getattr(error, "reason", None) or error
        now = part.stat().st_size if part.exists() else 0
        if now <= size:  # an attempt that brought nothing is the last one
            raise DataError(
                f"cannot download {layout.url}: {reason}. Check the "
                f"network and repeat the command: it goes on after the "
                f"{now:,} bytes that are here. Or copy the folder "
                f"{layout.folder} from another machine into the data "
                "folder. Without real data, dataset 'auto' takes the "
                "synthetic set"
            )


def _check_archive(layout: Layout, part: Path) -> None:
    with part.open("rb") as file:
        digest = hashlib.file_digest(
            file, lambda: hashlib.md5(usedforsecurity=False)
        ).hexdigest()
    if digest != layout.archive_md5:
        part.unlink()
        raise DataError(
            f"the file from {layout.url} has the checksum {digest}, not "
            f"{layout.archive_md5}: it was damaged or replaced on the way, "
            "and has been removed. Repeat the command"
        )


def _unpack(layout: Layout, archive: Path, folder: Path) -> None:
    """Write the known files of the archive, and nothing else of it."""
    target = folder / layout.folder
    target.mkdir()
    try:
        with tarfile.open(archive, "r:gz") as tar:
            for file in layout.files:
                member = tar.getmember(f"{layout.folder}/{file}")
                content = tar.extractfile(member)
                if content is None or member.size > MEMBER_LIMIT:
                    raise tarfile.TarError(f"{file} is no plain file")
                with content, (target / file).open("wb") as out:
                    shutil.copyfileobj(content, out)
    except (tarfile.TarError, KeyError, EOFError, OSError) as error:
        raise DataError(
            f"cannot unpack the archive of {layout.title} ({error}): make "
            "sure there is room on the disk, and repeat the command"
        ) from None
    if find_rung(layout.name, folder) != "official":
        raise DataError(
            f"the files in the archive of {layout.title} are not the "
            "official ones: repeat the command"
        )


def _announce(layout: Layout, part: Path) -> None:
    have = part.stat().st_size if part.exists() else 0
    rest = max(0, layout.archive_bytes - have)
    resumed = f", {have / 1e6:.0f} MB are here already" if have else ""
    print(
        f"Downloading {layout.title} from {layout.url}: "
        f"{layout.archive_bytes / 1e6:.0f} MB{resumed}. About "
        f"{rest / 5e6:.0f} s at 5 MB/s; this host can be slow, "
        f"{rest / 50e3 / 60:.0f} min at 50 kB/s. It needs twice as much "
        "room on the disk, and can be stopped and repeated.",
        flush=True,
    )


def download_cifar(name: str, destination: Path) -> Path:
    """Download CIFAR-10 or CIFAR-100 into the folder ``destination``.

    Says size and time first, shows progress, goes on where an earlier
    download stopped, compares the checksum, and moves the complete folder
    into place in one step. Returns that folder. An existing one is kept.

    Raises:
        DataError: no network (within 15 s), a damaged archive, a folder
            that is there but incomplete, or no room.

    Introduced in chapter 1.
    """
    layout = layout_of(name)
    final = Path(destination) / layout.folder
    if present(name, destination):
        print(f"{layout.title} is in {final} ({find_rung(name, destination)})")
        return final
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        part = final.parent / f".{layout.folder}.tar.gz.part"
        _announce(layout, part)
        _fetch(layout, part)
        _check_archive(layout, part)
        with tempfile.TemporaryDirectory(
            prefix=f".{layout.folder}-", dir=final.parent
        ) as scratch:
            _unpack(layout, part, Path(scratch))
            os.replace(Path(scratch) / layout.folder, final)
        part.unlink()
    except OSError as error:
        raise DataError(
            f"cannot write into {destination}: {error}. Make room, or point "
            "LQ_DATA_DIR at another folder"
        ) from None
    print(f"{layout.title} is in {final}")
    return final
