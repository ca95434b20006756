"""One run of the dimension benchmark: TwoNN on stored points, by DADApy.

.venv/bin/python dadapy_time.py FOLDER METHOD RESULT
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from dadapy import Data
from metering import metered


def two_nearest_neighbors(points: np.ndarray) -> float:
    """TwoNN from three neighbours: the point itself is one of them."""
    return float(Data(points, maxk=3).compute_id_2NN()[0])


def main() -> None:
    folder, _, path = sys.argv[1:]
    points = np.load(Path(folder) / "points.npy")
    two_nearest_neighbors(points[:200, :64])
    result: dict[str, Any] = {}
    with metered(result):
        result["value"] = two_nearest_neighbors(points)
    Path(path).write_text(json.dumps(result))


if __name__ == "__main__":
    main()
