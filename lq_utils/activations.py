"""Activations of the original and of the quantized network, in batches."""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor


@dataclass
class Stream:
    """What one node of the graph returned, batch by batch.

    ``quantized`` is the same list as ``original`` as long as nothing
    before was quantized.

    Introduced in chapter 3.
    """

    original: list[Any]
    quantized: list[Any]

    @classmethod
    def shared(cls, values: list[Any]) -> Stream:
        """Both networks return the same."""
        return cls(values, values)

    @property
    def is_shared(self) -> bool:
        return self.original is self.quantized

    def release(self, k: int) -> None:
        """Forget batch ``k``."""
        self.original[k] = self.quantized[k] = None


class Batches:
    """Keeps tensors in memory up to a limit, then in temporary files.

    The files are mapped, so that the operating system decides what stays
    in memory.

    Introduced in chapter 3.
    """

    def __init__(self, folder: str | Path, limit: int) -> None:
        self.folder = Path(folder)
        self.limit = limit
        self.used = 0
        self.files = 0

    def keep(self, value: Any) -> Any:
        """The value, or a copy of it in a file; not a tensor: as it is."""
        if not isinstance(value, Tensor):
            return value
        size = value.numel() * value.element_size()
        if self.used + size <= self.limit:
            self.used += size
            weakref.finalize(value, self._free, size)
            return value
        return self._in_file(value)

    def _free(self, size: int) -> None:
        self.used -= size

    def _in_file(self, value: Tensor) -> Tensor:
        self.files += 1
        path = self.folder / f"{self.files}.bin"
        mapped = torch.from_file(
            str(path), shared=True, size=value.numel(), dtype=value.dtype
        ).view(value.shape)
        mapped.copy_(value)
        # The mapping lives on until the tensor goes; the name is not needed.
        path.unlink()
        return mapped
