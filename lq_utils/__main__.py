"""Command line: ``python -m lq_utils <command> ...``."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module

USAGE = """python -m lq_utils <command> [options]

commands:
  run        run chapters: run 01 --profile quick -p seed 1; run all
  compare    rows of a run against the reference: compare 01; or A B
  reference  make a full run the committed reference: reference 01
  notebooks  make the .ipynb from the .py; --check only reports
  doctor     check environment, data and GPU
  data       download the real data sets
  train      train the committed networks
  book       run all chapters and render the book
  release    the rendered book as book.zip and book.pdf
  compress   a network for some classes, in a budget: compress --help
  network    train and study a large network: network resnet50_cifar100

python -m lq_utils <command> --help tells more."""

MODULES = {
    "run": "runner",
    "compare": "compare",
    "reference": "reference",
    "notebooks": "notebooks",
    "doctor": "doctor",
    "data": "data",
    "train": "train_reference",
    "book": "pages",
    "release": "release",
    "compress": "compress_command",
    "network": "network_command",
}


# What a disk or a folder refuses; other errors of the system are faults.
PLACES = {
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.EDQUOT, errno.ENOSPC),
    *(errno.EFBIG, errno.EEXIST, errno.ENOTDIR, errno.EISDIR),
    *(errno.ENAMETOOLONG, errno.ELOOP),
}


def _advice(error: Exception) -> str | None:
    """What to tell of a mistake of input or environment, else None.

    The package's own errors say what to do, and a traceback would hide
    it. What a disk or a folder refuses gets its advice here. Any other
    error is a fault of ours.
    """
    if type(error).__module__.startswith("lq_utils."):
        return str(error)
    if not isinstance(error, OSError) or error.errno not in PLACES:
        return None
    return (
        f"cannot use {error.filename or 'a file'}: {error.strerror}. Make "
        "room, check the permissions, or choose another place: "
        "LQ_RESULTS_DIR, LQ_CACHE_DIR and LQ_DATA_DIR move results, caches "
        "and data"
    )


def _command(name: str) -> Callable[[Sequence[str]], int | None]:
    command: Callable[[Sequence[str]], int | None]
    command = import_module(f"lq_utils.{MODULES[name]}").main
    return command


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; its exit status.

    0 is well, 1 a failed run, 2 a mistake in what was asked for, 130
    stopped by the keyboard, 141 by a reader that wants no more (``head``).

    Introduced in chapter 1.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help"):
        print(f"usage: {USAGE}")
        return 0 if words else 2
    if words[0] not in MODULES:
        from lq_utils.registry import did_you_mean

        hint = did_you_mean(words[0], MODULES)
        text = f"unknown command '{words[0]}'{hint}\n\n{USAGE}"
        print(text, file=sys.stderr)
        return 2
    try:
        status = _command(words[0])(words[1:]) or 0
        sys.stdout.flush()  # not at exit, where nobody catches its error
        return status
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except KeyboardInterrupt:
        print("\nStopped: the same command goes on.", file=sys.stderr)
        return 130
    except Exception as error:
        advice = _advice(error)
        if advice is None:
            raise
        print(f"error: {advice}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    # jsonschema would spend seconds on a grammar of web addresses, which
    # no notebook needs; without this module it goes without.
    sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]
    sys.exit(main())
