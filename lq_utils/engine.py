"""The modules that decide what a quantized or compressed network is.

A sweep whose cells quantize keeps their source text in its key, so that
no row outlives a change of a solver.
"""

from importlib import import_module
from types import ModuleType

NAMES = """
activations
adaround
alphabets
blocks
calibration
feedback
gpfq
gptq
grams
graph
grids
lockstep
output_gap
pairs
plan_rows
plans
reconstruction
refine
scale_rules
scales
shifts
solvers
walk
wide
"""


def modules(names: str) -> tuple[ModuleType, ...]:
    """Modules of this package by their names, for ``code=`` of a sweep.

    Raises ModuleNotFoundError for a name that is none.
    Introduced in chapter 3.
    """
    return tuple(import_module(f"lq_utils.{n}") for n in names.split())


ENGINE = modules(NAMES)
