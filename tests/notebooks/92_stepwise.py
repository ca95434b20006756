# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # A chapter of slow steps
# A fixture: each step is cached, so that a killed run goes on.

# %%
import time
from functools import partial

import numpy as np

from lq_utils.cache import cached
from lq_utils.data import Provenance
from lq_utils.parameters import check_parameters
from lq_utils.results import start_run

# %% tags=["parameters"]
profile: str = "quick"  # smoke|quick|full|custom; sizes of everything
dataset: str = "auto"  # any; where data is from
seed: int = 0  # 0..1000; seed of the numbers
steps: int = 4  # 1..10; slow steps
pause: float = 0.6  # 0.0..10.0; seconds a step

# %%
parameters = check_parameters(globals())

# %%
source = Provenance(dataset, "synthetic", "0" * 16, "fixture")
run = start_run("92_stepwise", parameters, source)


# %%
def slow_step(step):
    time.sleep(pause)
    rng = np.random.default_rng([seed, step])
    return {"value": rng.normal(size=3)}


# %%
for step in range(steps):
    key = {"seed": seed, "step": step}
    found = cached("stepwise", key, partial(slow_step, step))
    run.record("total", found["value"].sum(), step=step)

# %%
run.save()
