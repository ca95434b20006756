"""What the tests of edge cases share."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

NAN, INF = float("nan"), float("inf")
# What methods must be told that have no default for it.
OPTIONS = {"threshold": 0.0, "low": 0.0, "high": 9.0, "target": 1.0}


def needed(function: Callable[..., Any]) -> dict[str, Any]:
    """Values of the options that have no default."""
    return {
        name: OPTIONS[name]
        for name, p in inspect.signature(function).parameters.items()
        if p.default is p.empty and name in OPTIONS
    }
