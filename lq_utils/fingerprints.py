"""Fingerprints of what a result depends on: weights, arrays, functions."""

from __future__ import annotations

import ast
import dis
import hashlib
import inspect
import textwrap
from collections.abc import Callable
from types import CodeType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lq_utils.cache import canonical_json

_DOCUMENTED = (
    ast.Module,
    ast.ClassDef,
    ast.FunctionDef,
    ast.AsyncFunctionDef,
)


class FingerprintError(ValueError):
    """Something whose state no fingerprint can tell.

    Introduced in chapter 3.
    """


def digest(value: np.ndarray | Tensor | nn.Module) -> str:
    """Fingerprint of an array, a tensor or a model's weights: 16 digits.

    A model counts with its class, the names of its parameters and
    buffers, and their values. Made for the ``key`` of a sweep.

    Raises FingerprintError for anything else.

    Introduced in chapter 3.
    """
    if isinstance(value, nn.Module):
        named: dict[str, Any] = dict(value.state_dict())
        named[type(value).__qualname__] = torch.zeros(0)
    elif isinstance(value, (np.ndarray, Tensor)):
        named = {"": value}
    else:
        raise FingerprintError(
            f"a fingerprint is taken of an array, a tensor or a model, not "
            f"of {type(value).__name__}"
        )
    total = hashlib.sha256()
    for name, part in named.items():
        tensor = torch.as_tensor(part).detach().cpu().contiguous()
        total.update(f"{name} {tensor.dtype} {tuple(tensor.shape)};".encode())
        total.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return total.hexdigest()[:16]


def source_state(text: str) -> str:
    """Python source as far as it decides anything, for keys.

    Comments, docstrings and layout are left out, so that correcting a
    sentence does not throw away hours of work.

    Raises SyntaxError for what is no Python on its own.
    Introduced in chapter 3.
    """
    tree = ast.parse(textwrap.dedent(text))
    for node in ast.walk(tree):
        if isinstance(node, _DOCUMENTED):
            documented = ast.get_docstring(node, clean=False) is not None
            node.body = node.body[documented:] or [ast.Pass()]
    return ast.unparse(tree)


def _source(part: Any) -> str:
    text = inspect.getsource(part)
    try:
        return source_state(text)
    except SyntaxError:  # a lambda amid an expression: as it stands
        return text


def _names(code: CodeType) -> set[str]:
    """Global names that a function reads, inner functions included."""
    found = {
        step.argval
        for step in dis.get_instructions(code)
        if step.opname in ("LOAD_GLOBAL", "LOAD_NAME")
    }
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            found |= _names(constant)
    return found


def _surroundings(function: Callable[..., Any]) -> dict[str, Any]:
    """Values a function takes from around it: globals and defaults."""
    outside = function.__globals__
    code = function.__code__
    found = {n: outside[n] for n in _names(code) if n in outside}
    found |= {
        f"default of {name}": parameter.default
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.default is not parameter.empty
    }
    return found


def _is_code(value: Any) -> bool:
    if isinstance(value, nn.Module):
        return False
    return callable(value) or isinstance(value, ModuleType)


def _constants(function: Callable[..., Any], strict: bool) -> dict[str, Any]:
    constants = {}
    for name, value in _surroundings(function).items():
        if _is_code(value):
            continue
        try:
            constants[name] = canonical_json(value)
        except (TypeError, ValueError) as error:
            if strict:
                raise FingerprintError(
                    f"{function.__name__}() uses '{name}' "
                    f"({type(value).__name__}) from outside, and no key can "
                    "tell when it changes; hand it over as an argument, or "
                    "make it inside the function"
                ) from error
    return constants


def code_state(
    function: Callable[..., Any], strict: bool = False
) -> dict[str, Any]:
    """What decides about a function: source and constants.

    The source counts without its comments and docstrings. The constants
    are the plain values it reads from its module or notebook, and its
    defaults. Functions it calls are not followed.
    ``strict`` refuses what it reads from outside and cannot be written
    down: models, arrays, variables of an enclosing function.

    Raises FingerprintError for the latter, for lambdas, and where there
    is no source text.

    Introduced in chapter 3.
    """
    plain = inspect.unwrap(function)
    try:
        source = _source(plain)
    except (OSError, TypeError) as error:
        raise FingerprintError(
            f"no source code found for {function!r}; use a function "
            "written in a file or a notebook cell"
        ) from error
    if not inspect.isfunction(plain):  # a class, a method
        if strict:
            raise FingerprintError(f"{function!r} is no plain function")
        return {"source": source}
    if strict and (plain.__closure__ or plain.__name__ == "<lambda>"):
        raise FingerprintError(
            f"{plain.__qualname__} is a lambda or uses variables of the "
            "function around it, which no key can see; write it with def "
            "on its own, and hand everything over as arguments"
        )
    return {"source": source, "constants": _constants(plain, strict)}
