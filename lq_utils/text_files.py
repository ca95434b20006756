"""Text that a reader wrote: files that must be UTF-8, and YAML."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from lq_utils.specs import ParameterError

MOST_VALUES = 100_000  # of a YAML text, those behind *names counted each time
YAML_FORM = "write 'name: value' lines, and lists as [3, 4]"
# What wrong text ends in, YAML's own errors apart: !!int of a word, a list
# in ten thousand brackets.
_WRONG = (
    ArithmeticError,
    AttributeError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
)


class _NoDates(yaml.SafeLoader):
    """Reads dates as text: no parameter is a date."""


_NoDates.yaml_implicit_resolvers = {
    first: [(tag, form) for tag, form in forms if "timestamp" not in tag]
    for first, forms in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def read_text(path: Path | str, what: str) -> str:
    """Text of a UTF-8 file; ``what`` is what an error calls it.

    Raises ``ParameterError`` where it cannot be read.

    Introduced in chapter 1.
    """
    try:
        return Path(path).read_text("utf-8")
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise ParameterError(
            f"cannot read {what}: {reason}; give the path of a file that "
            "is there"
        ) from error
    except ValueError as error:
        raise ParameterError(
            f"cannot read {what}: it is not UTF-8 text; store it as UTF-8"
        ) from error


def load_yaml(text: str, what: str = "the text") -> Any:
    """YAML text as papermill reads it (dates stay text).

    Raises ``ParameterError`` where it is no YAML, or stands for values
    without end; ``what`` is what the error calls it.

    Introduced in chapter 1.
    """
    try:
        value = yaml.load(text, Loader=_NoDates)
    except (yaml.YAMLError, *_WRONG) as error:
        reason = " ".join(str(error).split())[:300]
        raise ParameterError(
            f"{what} is not valid YAML ({reason}); {YAML_FORM}"
        ) from error
    _check_count(value, what)
    return value


def _check_count(value: Any, what: str) -> None:
    """Refuse few lines that stand for billions of values."""
    stack, count = [value], 0
    while stack:
        item = stack.pop()
        parts = list(item.values()) if isinstance(item, dict) else item
        if isinstance(parts, list):
            count += len(parts)
            stack += parts
        if count > MOST_VALUES:
            raise ParameterError(
                f"{what} stands for more than {MOST_VALUES:,} values; "
                "write them without anchors (&name, *name)"
            )
