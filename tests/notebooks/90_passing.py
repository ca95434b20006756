# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # A chapter that passes
# A fixture of the runner's tests: parameters of every type, a few rows.

# %%
import numpy as np

from lq_utils.data import Provenance
from lq_utils.parameters import check_parameters
from lq_utils.results import start_run

# %% tags=["parameters"]
profile: str = "quick"  # smoke|quick|full|custom; sizes of everything
dataset: str = "auto"  # auto|synthetic10|imagefolder:*; where data is from
seed: int = 0  # 0..1000; seed of the noise
size: int = 20  # 10..500; points a draw; cost linear
rate: float = 0.5  # 0.0..1.0; share of noise
noisy: bool = True  # any; whether noise is added
bits: list[int] = [3, 4]  # each 2..8; bit widths

# %%
parameters = check_parameters(globals())

# %%
source = Provenance(dataset, "synthetic", "0" * 16, "fixture")
run = start_run("90_passing", parameters, source)

# %%
rng = np.random.default_rng(seed)
for width in bits:
    noise = rate * rng.normal(size=size) if noisy else np.zeros(size)
    run.record("mean", float(np.mean(noise)) + width, n=size, bits=width)

# %%
run.save()
