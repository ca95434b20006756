"""Bad inputs: data files, image folders, downloads."""

from __future__ import annotations

import io
import os
import pickle
import socket
import threading
from dataclasses import replace
from functools import cache, partial

import numpy as np
from bad_inputs import Action, Place, bad
from cifar_files import call_official, shrink, write_tiny
from PIL import Image
from test_download import NAME, Server, archive_of, publish

from lq_utils.data import load_dataset
from lq_utils.layouts import LAYOUTS


class Harm:
    """What a pickle could do when it is read."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("exit 1",)


# -- data files --------------------------------------------------------------

REMEDY = "python -m lq_utils data --dataset cifar10"


def damaged_cifar(place: Place, file: str, content: bytes | None) -> Action:
    shrink(place.patch)
    base = write_tiny(place.point("LQ_DATA_DIR", "data"), "cifar10")
    if content is None:
        (base / file).unlink()
    else:
        (base / file).write_bytes(content)
    return ["data", "--check", "--dataset", "cifar10"]


for what, file, content, wrong in (
    ("a missing file", "data_batch_3", None, "incomplete: no data_batch_3"),
    ("an empty file", "test_batch", b"", "test_batch has 0 bytes"),
    ("a file of something else", "batches.meta", b"<html>", "batches.meta"),
    ("a file with code in it", "data_batch_1", pickle.dumps(Harm()),
     "data_batch_1 was refused: it asks for posix.system"),
    ("a file without its images", "test_batch", pickle.dumps({"labels": [1]}),
     "test_batch: no entry 'data'"),
):  # fmt: skip
    act = partial(damaged_cifar, file=file, content=content)
    bad("data files", what, wrong, REMEDY)(act)


@bad("data files", "data that is not there", "is not in", "download it first")
def _(place: Place) -> Action:
    place.point("LQ_DATA_DIR", "nothing")
    return ["run", "92", "-p", "dataset", "cifar10"]


# -- image folders -----------------------------------------------------------


@cache
def png() -> bytes:
    content = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    Image.fromarray(noise).save(content, "PNG")
    return content.getvalue()


def image_folder(place: Place, files: str, content: bytes) -> Action:
    for name in ("ant/1", "ant/2", "ant/3", "bee/1", "bee/2", "bee/3"):
        place.write(f"images/{name}.png", png())
    for name in files.split():
        path = place.write(f"images/{name}", content)
        if not content:
            path.unlink()
    name = f"imagefolder:{place.folder / 'images'}"
    return partial(load_dataset, name, image_size=8, verbose=False)


for what, files, content, wrong, remedy in (
    ("an image that is none", "ant/x.png", b"no image",
     "x.png cannot be read as an image", "repair or remove it"),
    ("an image cut off", "ant/x.png", png()[:400], "cannot be read",
     "repair or remove it"),
    ("a class without images", "cat/x.png", b"", "no images in cat",
     "known file types"),
    ("a class of one image", "bee/1.png bee/2.png", b"", "class bee has 1",
     "add images or leave the class out"),
):  # fmt: skip
    act = partial(image_folder, files=files, content=content)
    bad("image folders", what, wrong, remedy)(act)


@bad("image folders", "no folder", "no folder", "takes a folder with one")
def _(place: Place) -> Action:
    return ["run", "90", "-p", "dataset", "imagefolder:/no/such"]


@bad(
    "image folders",
    "no name of a folder",
    "no folder (no name)",
    "imagefolder:PATH",
)
def _(place: Place) -> Action:
    return ["run", "90", "-p", "dataset", "imagefolder:"]


@bad("image folders", "one class only", "1 class folders", "two or more")
def _(place: Place) -> Action:
    place.write("images/ant/1.png", png())
    return partial(load_dataset, f"imagefolder:{place.folder / 'images'}")


# -- downloads ---------------------------------------------------------------


def download(place: Place, server: Server | None = None) -> Action:
    """The command, with an archive served here, or nobody to serve it."""
    for proxy in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        place.patch.delenv(proxy, raising=False)
    place.point("LQ_DATA_DIR", "data")
    shrink(place.patch)
    base = write_tiny(place.folder / "origin", NAME)
    call_official(place.patch, NAME, base)
    if server is not None:
        publish(server, archive_of(base), place.patch)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        place.later.extend([server.shutdown, server.server_close])
    return ["data", "--dataset", NAME]


@bad("downloads", "refused", "Connection refused", "Check the network")
def _(place: Place) -> Action:
    words = download(place)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/x"
    place.patch.setitem(LAYOUTS, NAME, replace(LAYOUTS[NAME], url=url))
    return words


@bad("downloads", "broken off", "cannot download",
     "goes on after the 1,000 bytes", kept=".tar.gz.part")  # fmt: skip
def _(place: Place) -> Action:
    server = Server()
    server.break_after = [1000, 0]
    return download(place, server)


@bad("downloads", "another file", "has the checksum", "Repeat the command")
def _(place: Place) -> Action:
    server = Server()
    words = download(place, server)
    server.archive = server.archive[:-1] + b"x"
    return words


@bad("downloads", "an endless file", "sends more than the archive's",
     "check proxy and network", kept=".tar.gz.part")  # fmt: skip
def _(place: Place) -> Action:
    server = Server()
    words = download(place, server)
    server.archive *= 3
    return words
