"""One parameter of a chapter: its type, its range, its checks."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from lq_utils.registry import did_you_mean

TYPES: dict[str, type] = {
    "int": int,
    "float": float,
    "str": str,
    "bool": bool,
    "list": list,
}


class ParameterError(ValueError):
    """A parameter is unknown, or its value is of no use.

    Introduced in chapter 1.
    """


@dataclass(frozen=True)
class Parameter:
    """One line of the parameters cell.

    ``element`` is the type of a list's members, else ``""``; ``spec`` is
    the allowed range as written: ``lo..hi`` (both ends allowed),
    ``a|b|c`` (a trailing ``*`` stands for anything) or ``any``; lists
    say ``each lo..hi`` or ``each a|b``. A text may be a whole number,
    too: ``lo..hi|a``.

    Introduced in chapter 1.
    """

    name: str
    type: str
    default: Any
    spec: str
    effect: str
    cost: str = ""
    element: str = ""

    @property
    def type_name(self) -> str:
        """``int``, ``list of int`` and the like, for tables."""
        return f"list of {self.element}" if self.element else self.type

    def convert(self, value: Any) -> Any:
        """``value`` in the declared type.

        An int may stand for a float, and for a text that may be a number.

        Raises ``ParameterError`` for a wrong type, or outside the range.
        """
        if not self.element:
            return self._scalar(self.name, self.type, value)
        if not isinstance(value, (list, tuple)):
            raise ParameterError(_not_a_list(self.name, value))
        if not value and self.spec != "any":
            raise ParameterError(
                f"{self.name}=[] is empty: give one value or more "
                f"({self.spec})"
            )
        return [
            self._scalar(f"{self.name}[{i}]", self.element, v)
            for i, v in enumerate(value)
        ]

    def _scalar(self, label: str, kind: str, value: Any) -> Any:
        if kind == "float" and type(value) is int:
            value = float(value)
        if kind == "str" and type(value) is int and ".." in self.spec:
            value = str(value)
        # type() and not isinstance(): True is an int to isinstance().
        if type(value) is not TYPES[kind]:
            raise ParameterError(self._wrong_type(label, kind, value))
        problem = _outside(self.spec.removeprefix("each "), kind, value)
        if problem:
            raise ParameterError(f"{label}={value!r} {problem}")
        return value

    def _wrong_type(self, label: str, kind: str, value: Any) -> str:
        text = (
            f"{label}={value!r} is of type {type(value).__name__}; "
            f"{self.name} takes {self.type_name} ({self.spec})"
        )
        if kind == "float" and isinstance(value, str):
            # YAML 1.1 reads 1e-3 as text.
            text += "; in YAML write 0.001 or 1.0e-3, not 1e-3"
        return text


def _not_a_list(name: str, value: Any) -> str:
    if isinstance(value, str):
        return f'{name}={value!r} is a string: use -y "{name}: {value}"'
    return (
        f"{name}={value!r} is of type {type(value).__name__}, not a list: "
        f'use -y "{name}: [{value}]"'
    )


def _outside(spec: str, kind: str, value: Any) -> str:
    if spec == "any":
        return ""
    if "|" in spec or ".." not in spec:
        return _outside_choices(spec, str(value))
    low, high = (float(bound) for bound in spec.split(".."))
    if low <= value <= high:
        return ""
    side = "below" if value < low else "above"
    limit = low if value < low else high
    if math.isnan(value):
        return f"is not a number ({spec})"
    return f"is {side} {limit:g} ({spec})"


def _outside_choices(spec: str, value: str) -> str:
    numbers = [choice for choice in spec.split("|") if ".." in choice]
    if value.isdecimal() and numbers:
        return _outside(numbers[0], "int", int(value))
    choices = [choice for choice in spec.split("|") if choice not in numbers]
    if any(fnmatchcase(value, choice) for choice in choices):
        return ""
    return f"is not one of {spec}" + did_you_mean(value, choices)


def check_spec(name: str, spec: str, kind: str, element: str) -> None:
    """Check that a range as written can be read and fits the type.

    Raises ``ParameterError``.

    Introduced in chapter 1.
    """
    core = spec.removeprefix("each ")
    if spec == "any":
        return
    if (kind == "list") != spec.startswith("each "):
        raise ParameterError(
            f"{name}: '{spec}' does not fit the type {kind}; a list needs "
            "'each lo..hi' or 'each a|b', others go without 'each'"
        )
    if _readable(core.split("|"), element or kind):
        return
    raise ParameterError(
        f"{name}: cannot use the range '{spec}' for type {kind}; write "
        "lo..hi (numbers, lo first), a|b|c or any, then '; effect'"
    )


def _readable(choices: list[str], kind: str) -> bool:
    ranges = [choice for choice in choices if ".." in choice]
    if not all(map(_ordered, ranges)):
        return False
    if len(choices) == 1:
        return bool(ranges) and kind in ("int", "float")
    return not ranges or (kind == "str" and len(ranges) == 1)


def _ordered(core: str) -> bool:
    try:
        low, high = (float(bound) for bound in core.split(".."))
    except ValueError:
        return False
    return low <= high


def element_type(default: list[Any], declared: str) -> str:
    """Type of a list's members: as declared, else as in the default.

    Introduced in chapter 1.
    """
    if declared:
        return declared
    names = {type(value).__name__ for value in default}
    if names == {"int", "float"}:
        return "float"
    return names.pop() if len(names) == 1 else "str"
