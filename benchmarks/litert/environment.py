"""LiteRT's own environment: made on demand, never mixed with the book's.

python benchmarks/litert/environment.py    # make it now
"""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from environments import Environment

LITERT = Environment(HERE, "LiteRT's environment")

if __name__ == "__main__":
    sys.exit(LITERT.main())
