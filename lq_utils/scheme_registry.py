"""The registry of schemes that compress ONNX files; add your own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from lq_utils.registry import Registry

# (float32 file, file to write, calibration inputs float32 [n, 3, H, W])
Maker = Callable[[Path, Path, Tensor], None]


@dataclass(frozen=True)
class Scheme:
    """How a file is compressed; calling it as ``make`` does that.

    ``weights`` and ``activations`` say in words what they are stored as
    and rounded to, ``measured`` whether the arithmetic is real (see
    ``onnx_schemes``).

    Introduced in chapter 4.
    """

    name: str
    weights: str
    activations: str
    measured: bool
    make: Maker

    def __call__(self, source: Path, target: Path, inputs: Tensor) -> None:
        self.make(source, target, inputs)


SCHEMES: Registry[Scheme] = Registry("scheme")


def register_scheme(
    name: str,
    *,
    weights: str,
    activations: str,
    measured: bool,
    replace: bool = False,
) -> Callable[[Maker], Maker]:
    """Decorator that adds a function as the scheme called ``name``.

    The function gets the path of a float32 file, the path to write and
    calibration inputs. Raises RegistryError where the name is taken.

    Introduced in chapter 4.
    """

    def add(make: Maker) -> Maker:
        scheme = Scheme(name, weights, activations, measured, make)
        SCHEMES.register(name, replace=replace)(scheme)
        return make

    return add
