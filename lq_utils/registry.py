"""Registries: built-in methods and yours are added in the same way."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Generic, TypeVar

T = TypeVar("T", bound=Callable[..., Any])


class UnknownName(KeyError):
    """A name that nothing is registered under.

    Introduced in chapter 1.
    """

    def __str__(self) -> str:
        # KeyError would show the message in quotes.
        return str(self.args[0])


class RegistryError(ValueError):
    """A name was registered twice, or is not a usable name.

    Introduced in chapter 1.
    """


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """``"; did you mean 'x'?"`` for the nearest known name, or ``""``.

    Introduced in chapter 1.
    """
    folded = {k.lower(): k for k in known}
    near = difflib.get_close_matches(name.lower(), folded, n=1, cutoff=0.6)
    return f"; did you mean '{folded[near[0]]}'?" if near else ""


class Registry(Generic[T]):
    """Named functions or classes of one kind, such as ``"distance"``.

    Iteration and ``names()`` follow the order of registration.

    Introduced in chapter 1.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._entries: dict[str, T] = {}

    def register(
        self, name: str, *, replace: bool = False
    ) -> Callable[[T], T]:
        """Decorator that adds a function or class under ``name``.

        Raises ``RegistryError`` where the name is taken; re-running a
        cell is what ``replace=True`` is for.

        Introduced in chapter 1.
        """
        if not isinstance(name, str) or not name.strip():
            raise RegistryError(
                f"a {self.kind} needs a name: write "
                f'@register_{self.kind.replace(" ", "_")}("my_name"), '
                f"not {name!r}"
            )

        def add(entry: T) -> T:
            if name in self._entries and not replace:
                raise RegistryError(
                    f"{self.kind} '{name}' is registered already; choose "
                    "another name, or pass replace=True to replace it"
                )
            self._entries[name] = entry
            return entry

        return add

    def get(self, name: str) -> T:
        """The entry called ``name``.

        Raises ``UnknownName`` with the nearest known name.

        Introduced in chapter 1.
        """
        if name not in self._entries:
            hint = did_you_mean(str(name), self._entries) or ";"
            known = ", ".join(self._entries) or "none yet"
            raise UnknownName(
                f"unknown {self.kind} '{name}'{hint} known: {known}"
            )
        return self._entries[name]

    def names(self) -> tuple[str, ...]:
        """All registered names.

        Introduced in chapter 1.
        """
        return tuple(self._entries)

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __len__(self) -> int:
        return len(self._entries)
