"""DADApy's own environment: made on demand, never mixed with the book's.

python benchmarks/dadapy/environment.py    # make it now
"""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from environments import Environment

DADAPY = Environment(
    HERE,
    "DADApy's environment",
    "; or pass --no-peers to measure without DADApy",
)

if __name__ == "__main__":
    sys.exit(DADAPY.main())
