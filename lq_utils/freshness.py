"""What a chapter's run depends on, and how long it took."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lq_utils.cache import canonical_json
from lq_utils.paths import (
    PUBLISHED,
    REFERENCE,
    ROOT,
    WEIGHTS,
    atomic_write,
    cache_dir,
    data_dir,
)
from lq_utils.profiles import source_path
from lq_utils.records import ResultError, load_run

DATA_FOLDERS = ("cifar-10-batches-py", "cifar-100-python")
FINGERPRINT = "fingerprint.txt"


def _contents(paths: Iterable[Path]) -> list[list[str]]:
    return [
        [path.name, hashlib.sha256(path.read_bytes()).hexdigest()]
        for path in sorted(paths)
        if path.is_file()
    ]


def _marks(folder: Path) -> list[list[Any]]:
    """Names, sizes and times: enough for files too large to be read."""
    if not folder.is_dir():
        return []
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    stats = [(path, path.stat()) for path in files]
    return [
        [str(path.relative_to(folder)), stat.st_size, stat.st_mtime_ns]
        for path, stat in stats
    ]


def fingerprint(chapter: str, values: Mapping[str, Any]) -> str:
    """A digest of all that decides what a run of ``chapter`` gives.

    The notebook, the package, the lock file, the parameters, committed
    tables by content; data and weights by names, sizes and times.

    Introduced in chapter 1.
    """
    own = REFERENCE / chapter
    parts = {
        "values": dict(values),
        "source": _contents([source_path(chapter)]),
        "package": _contents(Path(__file__).parent.glob("*.py")),
        "lock": _contents([ROOT / "requirements.lock"]),
        "tables": _contents([*PUBLISHED.rglob("*"), *own.rglob("*")]),
        "weights": _marks(WEIGHTS),
        "data": [_marks(data_dir() / name) for name in DATA_FOLDERS],
    }
    return hashlib.sha256(canonical_json(parts).encode()).hexdigest()


def is_fresh(folder: Path, mark: str, values: Mapping[str, Any]) -> bool:
    """Whether ``folder`` holds a finished run with this fingerprint.

    Images of one's own (``imagefolder:...``) are not part of it, so that
    such a run is never called fresh.

    Introduced in chapter 1.
    """
    if any(str(v).startswith("imagefolder:") for v in values.values()):
        return False
    path = folder / FINGERPRINT
    done = (folder / "executed.ipynb").is_file() and path.is_file()
    return done and path.read_text("utf-8").strip() == mark


@dataclass(frozen=True)
class Timing:
    """Seconds of the last run of a chapter, and of the longest one.

    Introduced in chapter 1.
    """

    last: float
    longest: float
    where: str


def _timings() -> dict[str, dict[str, float]]:
    try:
        text = (cache_dir() / "timings.json").read_text("utf-8")
        return dict(json.loads(text))
    except (OSError, ValueError):
        return {}  # nothing recorded yet, or cut off: only an estimate


def read_timing(chapter: str, profile: str) -> Timing | None:
    """How long this took before, here or in the reference run.

    Introduced in chapter 1.
    """
    entry = _timings().get(f"{chapter} {profile}")
    if entry is not None:
        return Timing(entry["last"], entry["longest"], "on this machine")
    try:
        record = load_run(REFERENCE / chapter)
    except ResultError:
        return None
    if record.get("profile") != profile:
        return None
    where = f"in the reference run ({record['machine']['processor']})"
    return Timing(record["seconds"], record["seconds"], where)


def write_timing(chapter: str, profile: str, seconds: float) -> None:
    """Remember how long a finished run took.

    Introduced in chapter 1.
    """
    timings = _timings()
    name = f"{chapter} {profile}"
    longest = max(seconds, timings.get(name, {}).get("longest", 0.0))
    timings[name] = {
        "last": round(seconds, 1),
        "longest": round(longest, 1),
    }
    with atomic_write(cache_dir() / "timings.json") as path:
        text = json.dumps(timings, indent=1, sort_keys=True)
        path.write_text(text, "utf-8")


def duration(seconds: float) -> str:
    """``"45 s"``, ``"3 min"`` or ``"2.5 h"``.

    Introduced in chapter 1.
    """
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    if seconds < 90 * 60:
        return f"{round(seconds / 60)} min"
    return f"{seconds / 3600:.1f} h"


def estimate(chapter: str, profile: str) -> str:
    """A line on how long the run will take, from the last one.

    Introduced in chapter 1.
    """
    timing = read_timing(chapter, profile)
    name = f"{chapter}, {profile} profile"
    if timing is None:
        return f"{name}: no earlier run to estimate the time from"
    text = f"{name}: about {duration(timing.last)}"
    if timing.longest > 1.5 * timing.last + 5:
        text += f", with an empty cache up to {duration(timing.longest)}"
    cores = os.cpu_count() or 1
    return f"{text} {timing.where}, {cores} cores here"
