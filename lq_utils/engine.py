"""The modules that decide what a quantized network is.

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

ENGINE: tuple[ModuleType, ...] = tuple(
    import_module(f"lq_utils.{name}") for name in NAMES.split()
)
