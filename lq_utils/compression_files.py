"""Files of a cell's networks: written, run, measured, for rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from torch import nn

from lq_utils.compression_checks import layer_values
from lq_utils.compression_networks import Budget, plain_copy
from lq_utils.images import Splits
from lq_utils.inference import evaluate
from lq_utils.onnx_export import export_onnx
from lq_utils.onnx_files import packed_sizes
from lq_utils.onnx_schemes import SCHEMES, compress
from lq_utils.onnx_weights import replace_weights
from lq_utils.simulated import compare_with_runtime

Rows = list[dict[str, Any]]


# Exporting takes seconds, and all networks of a kind give one graph.
_EXPORTED: dict[str, bytes] = {}


def _exported(network: nn.Module) -> bytes:
    """The file of a network of this kind, with whatever weights."""
    kind = str(network)
    if kind not in _EXPORTED:
        with TemporaryDirectory(prefix="lq-") as folder:
            path = Path(folder) / "network.onnx"
            export_onnx(network, path)
            _EXPORTED[kind] = path.read_bytes()
    return _EXPORTED[kind]


class Files:
    """Files of networks that are built as ``base``, in a folder of a cell.

    Raises OnnxError for a network that cannot be exported.

    Introduced in chapter 4.
    """

    def __init__(
        self,
        base: nn.Module,
        splits: Splits,
        seed: int,
        plan: Budget,
        folder: str,
    ) -> None:
        self.base, self.splits, self.seed = base, splits, seed
        self.images = dict(plan)["calibration"]
        self.template = Path(folder) / "base.onnx"
        self.source = Path(folder) / "float32.onnx"
        self.target = Path(folder) / "compressed.onnx"
        self.template.write_bytes(_exported(base))

    def measured(self, network: nn.Module, schemes: Mapping[str, str]) -> Rows:
        """One row a set-up: plain ``network`` as a file in ONNX Runtime.

        ``schemes`` maps set-ups to schemes.
        """
        replace_weights(self.template, self.source, network)
        data, values = self.splits, _values(network)
        rows = []
        for set_up, scheme in schemes.items():
            train, images = data.train, self.images
            compress(
                scheme, self.source, self.target, train, images, self.seed
            )
            found = compare_with_runtime(network, self.target, data.test)
            row = {"set_up": set_up, "scheme": scheme, "n": len(data.test)}
            row["measured"] = SCHEMES.get(scheme).measured
            rows.append(row | packed_sizes(self.target) | found | values)
        return rows

    def simulated(self, set_up: str, network: nn.Module) -> dict[str, Any]:
        """The row of a network as it was trained, computed by torch.

        Its file is the float32 one of its weights.
        """
        n = len(self.splits.test)
        hits = round(evaluate(network, self.splits.test) * n)
        row = {"set_up": set_up, "scheme": "", "measured": False, "n": n}
        sizes = self.sizes(plain_copy(self.base, network))
        return row | {"hits": hits} | sizes | _values(network)

    def sizes(self, network: nn.Module) -> dict[str, int]:
        """``bytes`` and ``compressed_bytes`` of the float32 file."""
        replace_weights(self.template, self.source, network)
        return packed_sizes(self.source)


@contextmanager
def files_of(
    base: nn.Module, splits: Splits, seed: int, plan: Budget
) -> Iterator[Files]:
    """Files in a folder that goes afterwards. Introduced in chapter 4."""
    with TemporaryDirectory(prefix="lq-") as folder:
        yield Files(base, splits, seed, plan, folder)


def _values(network: nn.Module) -> dict[str, Any]:
    """How many values the layers take, before they are fake quantized."""
    table = layer_values(network)
    counts, codes = table["distinct_before"], table["codes"].dropna()
    return {
        "distinct": int(counts.max()),
        "distinct_by_layer": ", ".join(map(str, counts)),
        "most_codes": int(codes.max()) if len(codes) else None,
        "zero_share": float(
            (table["zero_share"] * table["parameters"]).sum()
            / table["parameters"].sum()
        ),
    }
