"""One run of the dimension benchmark: TwoNN on stored points, by us.

.venv/bin/python dimension_run.py FOLDER METHOD RESULT
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from metering import metered
from skdim.id import TwoNN

from lq_utils.dimension import two_nearest_neighbors


def ours(points: np.ndarray) -> float:
    return two_nearest_neighbors(points, blocks=None).value


def ours_with_error(points: np.ndarray) -> float:
    return two_nearest_neighbors(points).value


def scikit_dimension(points: np.ndarray) -> float:
    return float(TwoNN().fit(points).dimension_)


def scikit_dimension_float64(points: np.ndarray) -> float:
    return scikit_dimension(points.astype(np.float64))


METHODS: dict[str, Callable[[np.ndarray], float]] = {
    "ours": ours,
    "ours with error": ours_with_error,
    "scikit-dimension": scikit_dimension,
    "the same, float64": scikit_dimension_float64,
}


def main() -> None:
    folder, name, path = sys.argv[1:]
    method = METHODS[name]
    points = np.load(Path(folder) / "points.npy")
    method(points[:200, :64])  # libraries wake up before the clock starts
    result: dict[str, Any] = {}
    with metered(result):
        result["value"] = method(points)
    Path(path).write_text(json.dumps(result))


if __name__ == "__main__":
    main()
