# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # A chapter that must fail
# A fixture: whatever runs it has to say so, and must not pass it on.

# %%
from lq_utils.parameters import check_parameters

# %% tags=["parameters"]
profile: str = "quick"  # smoke|quick|full|custom; sizes of everything
dataset: str = "auto"  # any; where data is from
seed: int = 0  # 0..1000; numerator

# %%
parameters = check_parameters(globals())

# %%
print(dataset, "before the failure")

# %%
ratio = seed / (seed - seed)

# %%
print("never printed")
