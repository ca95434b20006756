"""Chapters and profiles: which there are, what values they stand for.

The defaults in a notebook are the quick profile; a file
``notebooks/profiles/<profile>.yml`` maps chapters to what it changes.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from lq_utils.parameters import (
    ParameterError,
    check_values,
    read_parameters,
)
from lq_utils.paths import ROOT
from lq_utils.registry import UnknownName, did_you_mean
from lq_utils.text_files import load_yaml, read_text

CUSTOM = "custom"


def notebooks_dir() -> Path:
    """Folder of the chapters: ``$LQ_NOTEBOOKS_DIR`` or ``notebooks/``.

    Introduced in chapter 1.
    """
    folder = os.environ.get("LQ_NOTEBOOKS_DIR")
    return Path(folder).expanduser() if folder else ROOT / "notebooks"


def chapters() -> list[str]:
    """Names of the chapters, in order: files named ``NN_name.py``.

    Introduced in chapter 1.
    """
    pattern = re.compile(r"\d\d_\w+")
    names = (path.stem for path in notebooks_dir().glob("*.py"))
    return sorted(name for name in names if pattern.fullmatch(name))


def find_chapter(text: str) -> str:
    """The chapter meant by ``"01"``, ``"1"``, its name or its file.

    Raises ``UnknownName`` with the nearest name.

    Introduced in chapter 1.
    """
    wanted = Path(text).stem if text.endswith((".py", ".ipynb")) else text
    for name in chapters():
        number = name.partition("_")[0]
        if wanted in (name, number) or wanted.zfill(2) == number:
            return name
    known = ", ".join(chapters()) or f"none in {notebooks_dir()}"
    raise UnknownName(
        f"unknown chapter '{text}'"
        f"{did_you_mean(wanted, chapters()) or ';'} known: {known}"
    )


def source_path(chapter: str) -> Path:
    """The ``.py`` source of a chapter.

    Introduced in chapter 1.
    """
    return notebooks_dir() / f"{chapter}.py"


def profile_names() -> list[str]:
    """Names of the profiles that have a file.

    Introduced in chapter 1.
    """
    folder = notebooks_dir() / "profiles"
    return sorted(path.stem for path in folder.glob("*.yml"))


def read_profile(profile: str) -> dict[str, dict[str, Any]]:
    """What a profile changes: chapter -> parameter -> value.

    Raises ``UnknownName`` for a profile without a file, and
    ``ParameterError`` for a file that is no such mapping, or that names
    a chapter which is not there.

    Introduced in chapter 1.
    """
    path = notebooks_dir() / "profiles" / f"{profile}.yml"
    if profile not in profile_names():
        known = ", ".join(profile_names()) or f"none in {path.parent}"
        raise UnknownName(
            f"unknown profile '{profile}'"
            f"{did_you_mean(profile, profile_names()) or ';'} known: {known}"
        )
    content = load_yaml(read_text(path, str(path)), str(path)) or {}
    chapters_ = content.values() if isinstance(content, dict) else [content]
    if not all(c is None or isinstance(c, dict) for c in chapters_):
        raise ParameterError(
            f"{path} must map chapters to parameters, such as "
            "'01_class_distances: {images_per_class: 50}'"
        )
    _check_chapters(path, map(str, content))
    return {str(name): dict(c or {}) for name, c in content.items()}


def _check_chapters(path: Path, names: Iterable[str]) -> None:
    """Refuse a misspelt chapter, whose values would change nothing."""
    known = chapters()
    for name in names:
        if name not in known:
            hint = did_you_mean(name, known) or "; use its whole name;"
            raise ParameterError(
                f"{path}: no such chapter '{name}'{hint} "
                f"known: {', '.join(known)}"
            )


def profile_values(chapter: str, profile: str) -> dict[str, Any]:
    """All parameters of a chapter as a profile sets them.

    Raises ``ParameterError`` for an override that the chapter lacks.

    Introduced in chapter 1.
    """
    parameters = read_parameters(source_path(chapter))
    changes = read_profile(profile).get(chapter, {})
    try:
        changes = check_values(parameters, changes)
    except ParameterError as error:
        raise ParameterError(
            f"profile {profile}, chapter {chapter}: {error}"
        ) from error
    defaults = {p.name: p.convert(p.default) for p in parameters.values()}
    return {**defaults, **changes, "profile": profile}


def is_place(name: str) -> bool:
    """Whether a parameter only says where files lie on this machine.

    Introduced in chapter 1.
    """
    return name.endswith("_dir")


def decides_rows(name: str) -> bool:
    """Whether rows depend on a parameter: not on where files lie, nor on
    who computes.

    Introduced in chapter 1.
    """
    return not is_place(name) and name != "workers"


def honest_profile(chapter: str, parameters: Mapping[str, Any]) -> str:
    """The profile that these values are, or ``"custom"``.

    Values that differ from what the declared profile says make it
    custom, and a line is printed; where files lie and how many workers
    there are does not count. A notebook that is no chapter here (a copy
    under another name) is custom too.

    Introduced in chapter 1.
    """
    declared = str(parameters.get("profile", CUSTOM))
    if declared not in profile_names() or chapter not in chapters():
        return CUSTOM
    expected = profile_values(chapter, declared)
    others = [
        name
        for name, value in expected.items()
        if parameters.get(name) != value and decides_rows(name)
    ]
    if not others:
        return declared
    changes = ", ".join(f"{k}={parameters.get(k)!r}" for k in others)
    print(f"Not the {declared} profile ({changes}): recorded as custom.")
    return CUSTOM
