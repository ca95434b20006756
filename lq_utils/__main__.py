"""Command line: ``python -m lq_utils <command> ...``."""

from __future__ import annotations

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


def _is_expected(error: Exception) -> bool:
    """Whether the error is one of this package's own.

    These are mistakes of input or environment: their message says what
    to do, and a traceback would hide it. Any other is a fault of ours.
    """
    return type(error).__module__.startswith("lq_utils.")


def _command(name: str) -> Callable[[Sequence[str]], int | None]:
    command: Callable[[Sequence[str]], int | None]
    command = import_module(f"lq_utils.{MODULES[name]}").main
    return command


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; its exit status.

    0 is well, 1 a failed run, 2 a mistake in what was asked for, 130
    stopped by the keyboard.

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
        return _command(words[0])(words[1:]) or 0
    except KeyboardInterrupt:
        print("\nStopped: the same command goes on.", file=sys.stderr)
        return 130
    except Exception as error:
        if not _is_expected(error):
            raise
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    # jsonschema would spend seconds on a grammar of web addresses, which
    # no notebook needs; without this module it goes without.
    sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]
    sys.exit(main())
