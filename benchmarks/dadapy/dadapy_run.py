"""DADApy's dimensions of clouds of points; runs with DADApy's own Python.

    .venv/bin/python dadapy_run.py FOLDER

reads every ``NAME.npy`` (float64 ``[N, D]``) of the folder and writes
``result.json``: NAME to rows (method, rank_near, rank_far, value, error).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from dadapy import Data

LARGEST_RANK = 64


def rows(points: np.ndarray) -> list[dict[str, Any]]:
    """TwoNN by both algorithms, which give no error, and GRIDE."""
    found = []
    for method in ("base", "ml"):
        value, _, _ = Data(points).compute_id_2NN(algorithm=method)
        found.append((f"TwoNN {method}", 1, 2, value, None))
    values, errors, _ = Data(points).return_id_scaling_gride(LARGEST_RANK)
    for k, (value, error) in enumerate(zip(values, errors, strict=True)):
        found.append(("GRIDE", 2**k, 2 ** (k + 1), value, float(error)))
    names = ("method", "rank_near", "rank_far", "value", "error")
    return [
        dict(zip(names, (*row[:3], float(row[3]), row[4]), strict=True))
        for row in found
    ]


def main() -> None:
    folder = Path(sys.argv[1])
    result = {
        path.stem: rows(np.load(path)) for path in sorted(folder.glob("*.npy"))
    }
    (folder / "result.json").write_text(json.dumps(result))


if __name__ == "__main__":
    main()
