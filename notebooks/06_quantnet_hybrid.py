# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# (ch-quantnet-hybrid)=
# # QuantNET hybrid
#
# **Question.** How far can a layer's weights be cut, to one bit or two, if
# the network may learn to live with it? And does the dimension of what
# layers return tell which ones to spare?
#
# The QuantNET thesis {cite:p}`anirudh2022optimal` proposes two pipelines. One
# gives significant layers two bits and the others one. The other clusters
# layers and rounds them to eight bits. Its last table puts the second ahead of
# every other compressed network, and the first beside them at the smallest
# size. This chapter trains both, with controls that the thesis lacks, and asks
# what the lead is worth.
#
# The chapter puts two earlier ones together. {ref}`Chapter 4
# <ch-compression-comparison>` rounds the same network to eight bits.
# {ref}`Chapter 5 <ch-twonn-vs-pca>` measures dimensions, and leaves open
# whether they say anything about bits. With two levels in place of 256,
# rounding is no small disturbance, so here a wrong choice of layers should
# show.
#
# **You will learn**
# - what a network of signs is, and why its training works at all;
# - why the same two bits are two levels or four, depending on the scale;
# - how to count memory, in a formula and in a file;
# - to tell a good choice of layers from a lucky one: by controls.
#
# **Inputs.** The networks of chapter 4 and the dimensions of
# {ref}`chapter 5 <ch-twonn-vs-pca>`, from the cache, or computed here.
# Validation images choose the epoch; dimensions are of training images; test
# images report.
#
# **Time on two cores.** smoke: two minutes; quick: five minutes and full: five
# hours (both are estimates).

# %%
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import torch
from IPython.display import Markdown
from torch import nn

from lq_utils import compression_networks as cn
from lq_utils import compression_tables as ct
from lq_utils import dimension_study as ds
from lq_utils import dimension_tables as dt
from lq_utils import hybrid_pipelines as hp
from lq_utils import hybrid_study as hs
from lq_utils import hybrid_tables as ht
from lq_utils.artifact import load_quantized, save_quantized, size_report
from lq_utils.binary_kernel import binary_linear
from lq_utils.binary_packing import pack_signs
from lq_utils.binary_timing import layer_shapes, time_binary
from lq_utils.claim_rows import record_orderings
from lq_utils.compression_scores import ALPHA, THESIS_IMAGES, thesis_value
from lq_utils.exercises import check_answer
from lq_utils.figures import show, table, use_style

# %%
from lq_utils.flow_figures import flow_figure
from lq_utils.hybrid import hybrid_network
from lq_utils.hybrid_plans import (
    QUANTNET_LAYERS,
    TABLE_4_7,
    precision_plan,
)
from lq_utils.interactive import show_interactive
from lq_utils.interactive_plans import plan_steps
from lq_utils.kept_networks import kept_network
from lq_utils.layer_outputs import layer_outputs
from lq_utils.low_bit import LowBit
from lq_utils.low_bit_activations import SignedActivation
from lq_utils.low_bit_storage import low_bit_quantized
from lq_utils.models import build_model
from lq_utils.parameters import check_parameters
from lq_utils.results import start_run
from lq_utils.sweeps import cell_grid, sweep
from lq_utils.task_tables import show_by_task
from lq_utils.tasks import (
    all_classes_task,
    fewer_images,
    tasks_key,
    thesis_tasks,
)

# %% tags=["parameters"]
profile: str = "quick"  # smoke|quick|full|custom; names this set of values
dataset: str = "auto10"  # auto10|cifar10|synthetic10; the data
seed: int = 0  # 0..1000000; first network; draws of images
seeds: int = 1  # 1..100; networks of tables 4.7 and 4.8; time alike
extra_seeds: int = 1  # 1..100; the first so many, for controls
train_images: int = 1500  # 0..4200; of each class, 0: all; as chapter 4
test_images: int = 300  # 0..1200; of each class, 0: all; as chapter 4
epochs: int = 6  # 1..200; of base networks; as chapter 4
transfer_epochs: int = 3  # 1..200; of a base network on another task
rate: float = 0.001  # 0.00001..0.1; learning rate of base networks
hybrid_epochs: int = 2  # 1..200; of networks in few bits; time alike
long_epochs: int = 4  # 1..200; of the proposed hybrid; its time alike
hybrid_rate: float = 0.002  # 0.00001..0.1; their learning rate
fine_epochs: int = 2  # 1..100; of each training in a pipeline
fine_rate: float = 0.0003  # 0.00001..0.1; learning rate of that
calibration: int = 100  # 2..5000; training images that show ranges
clusters: int = 16  # 2..256; values a layer may take
fewer_clusters: int = 4  # 2..256; where layers are not significant
points: int = 500  # 8..4200; of each class, for dimensions; as chapter 5
halvings: int = 2  # 0..6; how often they are halved; as chapter 5
threshold: float = 20.0  # 0..1000; the thesis's, for a significant layer
runs: int = 50  # 1..10000; repeated runs of the binary kernel
workers: str = "2"  # 1..64|tcp://*; processes, or a Dask scheduler

# %%
parameters = check_parameters(globals())

# %% [markdown]
# Three tasks, as before: two classes that look alike, two that do not, and the
# first two turned at random. The last one comes in where the proposed hybrid
# and the pipelines are judged; table 4.7 and the controls are made on the
# first two.

# %%
use_style()
pairs = thesis_tasks(dataset=dataset, verbose=False)
close, far, turned = pairs
how_many = train_images, test_images, seed
splits = {k: fewer_images(v, *how_many) for k, v in pairs.items()}
everything = all_classes_task(dataset=dataset, verbose=False)
run = start_run("06_quantnet_hybrid", parameters, everything.provenance)

# %% [markdown]
# ## One bit
#
# Replace a layer's weights $W$ by $\alpha B$, where $B$ holds only $-1$ and
# $1$. Of all such choices the nearest to $W$ is
#
# $$
# B = \operatorname{sign}(W), \qquad \alpha = \frac1m \sum_i |W_i|
# $$ (eq-06-xnor)
#
# for $m$ weights, since
# $\|W - \alpha B\|^2 = \alpha^2 m - 2 \alpha \langle W, B \rangle + \|W\|^2$:
# the sign makes the product largest, and then $\alpha$ is where the parabola
# is lowest. This is the rule of XNOR-Net
# {cite:p}`rastegari2016xnor`, which has an $\alpha$ for each filter. The
# thesis has one for each layer, and subtracts the mean of the weights first.
#
# How bad is that? The error left is $1 - \langle W, B\rangle^2 / (m \|W\|^2)$
# of $\|W\|^2$. If there are many weights and they are Gaussian, this is $1 -
# 2/\pi$, whatever their spread. So a binary layer keeps the direction of the
# weights better than one may think, and loses every difference between large
# and small. Weights of unequal size, such as filters with different norms
# under one common scale, lose more: the reason for a scale a filter.
#
# ```{index} XNOR-Net
# ```
#
# ### By hand
#
# Four weights, their mean subtracted, then signs and their scale by
# {eq}`eq-06-xnor`.

# %%
weights = torch.tensor([0.5, -0.2, 0.1, -0.8])
centred = weights - weights.mean()
signs = torch.where(centred >= 0, 1.0, -1.0)
alpha = centred.abs().mean()
assert torch.allclose(alpha * signs, torch.tensor([0.4, -0.4, 0.4, -0.4]))

# %% [markdown]
# The library must return the same. And no other scale may do better: try a
# hundred of them and see where the squared error is least.

# %%
fast = LowBit(1)(weights.view(1, 4))
assert torch.allclose(fast, (alpha * signs).view(1, 4))
others = torch.linspace(0, 1, 101)
errors = [float(((centred - a * signs) ** 2).sum()) for a in others]
assert abs(others[int(np.argmin(errors))] - alpha) < 0.01

# %% [markdown]
# A sign has no useful derivative. Training uses the *straight-through
# estimator* {cite:p}`bengio2013estimating`: forward, the network computes with
# $\alpha B$; backward, the gradient is handed to the weights behind as if
# nothing had been done to them, as long as they lie in $[-1, 1]$. These
# *latent* weights are what the optimizer changes, in small steps; now and then
# one crosses zero, and a sign flips.
#
# Why does that work at all? The gradient at $\alpha B$ tells in which
# direction the loss would fall if weights could move a little. A latent weight
# sums up such hints over many batches, until they are enough for a flip. The
# hints are not the gradient of anything the network computes, and this is
# where the method fails: near the end signs may flip to and fro, since a flip
# is a large step and has no small version. Hence a validation set that picks
# the best epoch, and latent weights that are clipped to $[-1, 1]$ between
# steps {cite:p}`courbariaux2015binaryconnect`: outside they would get no
# gradient, and stay there.
#
# ```{index} straight-through gradient, latent weight, DoReFa
# ```
#
# ## A few bits, and what the scale does
#
# With $b$ bits the thesis rounds "uniformly in a full range symmetric
# fashion". We read this as $2^b$ levels from $-1$ to $1$ without a zero, for
# two bits $\pm 1$ and $\pm 1/3$, which is also the grid of DoReFa
# {cite:p}`zhou2016dorefa`. Other grids of that name have a zero and are not
# symmetric. The result is multiplied by the same $\alpha$ as before, the mean
# size of the weights.
#
# A grid is levels *times* a scale, and neither is good or bad alone. That is
# the trap in carrying a formula for the scale over from one set of levels to
# another, see {ref}`the erratum <erratum-thesis-scale>`; {ref}`chapter 8
# <ch-gpfq-gptq-brecq>` meets the same question for rounding after training.
#
# For one bit this $\alpha$ is the best there is. For two bits it is not: the
# weights of a trained layer are as a rule far smaller than 1, so that nearly
# all of them are next to $\pm 1/3$, and the outer levels stay empty. They
# become $\pm \alpha / 3$, a third of the best binary ones. Two bits start
# *worse* than one.
#
# Each line of the table below is a rule for the scale, applied to the first
# linear layer of a trained network. The first columns say which share of the
# weights lands on each level; the last one is the squared error as a share of
# $\|W\|^2$, so that 1 is as bad as setting all weights to zero. The last line
# is one bit. Compare its error with that of two bits under the thesis's rule,
# and with $1 - 2/\pi$.

# %%
base = kept_network(
    close,
    cn.OWN,
    seed,
    ds.training_plan(epochs, transfer_epochs, rate),
    splits,
)
layer = base.linear1.weight.detach()


def used(scale_mode, bits=2):
    """Share of weights on each level, and the squared error left."""
    rule = LowBit(bits, scale_mode)
    share = torch.bincount(rule.codes(layer).flatten(), minlength=2**bits)
    error = (rule(layer) - layer).square().sum() / layer.square().sum()
    return [*(share / layer.numel()).tolist(), float(error)]


# %%
names = ["-1", "-1/3", "1/3", "1", "relative squared error"]
modes = {
    "l1 (thesis)": "l1",
    "ls (least squares)": "ls",
    "absmax (range)": "absmax",
}
frame = pd.DataFrame({k: used(v) for k, v in modes.items()}, index=names).T
low, high, error = used("l1", bits=1)
frame.loc["one bit, l1"] = [low, np.nan, np.nan, high, error]
table(
    frame.rename_axis("scale"),
    "Before any training in few bits: share of weights on each level.",
    3,
    name="levels",
)

# %% [markdown]
# So the thesis's two bits begin as one. In training, latent weights may grow
# until they use the outer levels as well; further below the share of trained
# weights on outer levels says whether they did. The mode *absmax* fits the
# levels to the range of the weights, so that outer ones are used as well,
# though seldom.
#
# Least squares (*ls*) fits the scale to the levels that were taken, which
# mends the error and leaves the levels where they are. *absmax* moves the
# levels instead. With one outlier among many weights it stretches the grid
# far, and most weights share the inner levels again. Which of the two a
# training profits from is not decided by this table: the error before training
# is a start, not a result.
#
# ## Signs between layers
#
# The input of a layer in $b$ bits is rounded to $b$ bits, too: clipped to
# $[-1, 1]$, without a scale. To the letter this cannot work for one bit. What
# comes out of a ReLU is never negative, so its sign is always 1.
#
# A hook shows what enters the second convolution, once with the ReLU kept,
# once without it. The network is untrained, as the point is one of arithmetic:
# if only one value can arrive, no training will change that.

# %%
few = splits[close].train.per_class(8, seed)
untrained = build_model("quantnet", 1, seed)
literal = hybrid_network(untrained, {"conv2": 1}, keep_relu=True)
ours = hybrid_network(untrained, {"conv2": 1})


def distinct_inputs(network):
    """Distinct values that go into the second convolution."""
    seen = []
    hook = network.conv2.register_forward_pre_hook(
        lambda module, x: seen.append(x[0].detach())
    )
    layer_outputs(network, few, ["conv2"], rectified=False)
    hook.remove()
    return seen[0].unique().tolist()


# %%
assert distinct_inputs(literal) == [1.0]
assert distinct_inputs(ours) == [-1.0, 1.0]

# %% [markdown]
# So the ReLU before such a layer gives way to the clipping, which is a
# non-linearity itself. The image is left as it is. (In training, dropout acts
# behind the rounding: some inputs are then 0, and the others a little larger
# than 1. In use, they are signs.)
#
# A literal reading of a method is a hypothesis, too, and it is cheap to test.
# Had the ReLU been kept in silence, the layer would have multiplied its
# weights by ones, and everything after it would have seen the same numbers for
# every image. The variants below contain this reading, to see what the
# accuracy then is.
#
# ### What a product of signs costs
#
# If inputs and weights are signs, a product of two vectors needs no
# multiplication. Sixty-four signs fit into one word; equal signs add 1,
# different ones $-1$; so the product of $n$ signs is $n$ minus twice the
# number of different bits, one XOR and one population count a word:
#
# $$
# \langle a, b\rangle = n - 2 \operatorname{popcount}(a \oplus b) .
# $$ (eq-06-signs)
#
# The check of {eq}`eq-06-signs` takes vectors of a hundred signs, which is no
# multiple of 64, so that the unused bits of the last word must not count.
#
# ```{index} population count, binary network
# ```

# %%
generator = torch.Generator().manual_seed(seed)
x, w = (
    torch.randint(0, 2, (k, 100), generator=generator).float() * 2 - 1
    for k in (5, 3)
)
fast = binary_linear(pack_signs(x), pack_signs(w), columns=100)
assert torch.equal(fast.float(), x @ w.T)

# %% [markdown]
# Does that make a layer faster, on this machine? A convolution and a linear
# layer are timed, with one image and with many. A single image is what a
# device sees, a batch is what a float library was made for.

# %%
shapes = layer_shapes(base)
timed = pd.concat(
    time_binary([shapes["conv2"], shapes["linear1"]], batch, runs, seed=seed)
    for batch in (1, 64)
)
columns = ["layer", "batch", "float_ms", "float_iqr_ms"]
columns += ["binary_ms", "binary_iqr_ms", "packing_ms"]
table(
    timed[[*columns, "ratio", "ratio_packed"]],
    "One thread: float32 product, product of signs, packing of the inputs.",
    3,
    name="kernel",
)

# %% [markdown]
# *ratio* is what signs gain if the inputs are packed already, *ratio_packed*
# if they must be packed first; *iqr* is the distance of the quartiles. A word
# holds 64 signs, but a float product uses wide registers, too.
#
# Times are medians over runs. A difference between two lines that is smaller
# than their *iqr* is noise of the machine. Packing costs a pass over the
# inputs, whatever the number of outputs, so it weighs most where a layer has
# few of them. And the figure is of this kernel on this processor: it is no
# property of binary networks.

# %%
low, high = timed["ratio_packed"].min(), timed["ratio_packed"].max()
Markdown(
    f"Packing included, products of signs are {low:.1f} to {high:.1f} times "
    "as fast here (below 1: slower)."
)

# %% [markdown]
# ## Plans, and how they are counted
#
# The first and the last layer stay in full precision. The thesis counts
# memory by a formula: each parameter of a layer, biases included, at the
# layer's bits (*thesis_count*). Kernels alone are what is rounded; with biases
# and one scale a layer in 32 bits (*kernels*) the factors are a little
# smaller. The thesis itself counts this way in its table 4.8, if its size is
# converted back. In a plan such as *fp,1,2,2*, the numbers are bits of the two
# convolutions and the first two linear layers, and *fp* is full precision.
# *fp,1,1,1* is the network that the thesis calls XNOR-Net.
#
# Both counts have a ceiling. What stays at 32 bits bounds the factor, however
# few bits the rest has, so plans with ever fewer bits gain less and less. Read
# the table with that in mind: which layer holds the bytes? A plan that spares
# it saves next to nothing, and one that takes it alone saves nearly all there
# is.

# %%
memory = ht.memory_table(base)
table(memory, "Memory factors of table 4.7.", 4, name="memory")
printed = memory.set_index("plan")
assert round(printed.loc["fp,1,2,2", "thesis_count"], 4) == 15.8707

# %% [markdown]
# One of the printed factors is wrong in its last digit, see {ref}`the errata
# <erratum-thesis-memory>`. And a formula is not a file: it knows no names of
# layers, no shapes, no header. So the hybrid is written to a file, in which
# codes of one and two bits are packed without gaps. First the count of these
# bits must be what the plan says.

# %%
work = TemporaryDirectory()
path = Path(work.name) / "hybrid.safetensors"
plan = precision_plan(base, hs.by_layer(TABLE_4_7["fp,1,2,2"]))
network = hybrid_network(base, plan).eval()
stored = low_bit_quantized(network)
save_quantized(path, stored, "quantnet", 1)
report = size_report(stored, "quantnet", 1)
kernels = {
    n: m.weight.numel()
    for n, m in base.named_children()
    if hasattr(m, "weight")
}
bits = kernels["conv2"] + 2 * (kernels["linear1"] + kernels["linear2"])
assert report["code_bits"] == bits

# %% [markdown]
# Then the file must be worth something: a network loaded from it has to give
# the same outputs, to the last bit, on a few images. Without that test a small
# file proves nothing.

# %%
again = load_quantized(path)
images = torch.from_numpy(layer_outputs(base, few, ["conv1"])["input"])
with torch.inference_mode():
    assert torch.equal(again(images), network(images))
total = 32 * sum(p.numel() for p in base.parameters())
Markdown(
    f"The file has {report['file_bytes']:,} bytes, of which "
    f"{report['header_bytes']:,} are its header: smaller than the parameters "
    f"in float32 by a factor of {total / 8 / report['file_bytes']:.2f}. What "
    "is loaded from it computes the same outputs, bit for bit."
)

# %% [markdown]
# ## Which layers are chosen
#
# For every network of its own: dimensions of what its layers return, on
# training images, and the layers that change them by more than the threshold.
# These get two bits, the others one.
#
# The choice is made by each network's own profile, the way {ref}`chapter 5
# <ch-twonn-vs-pca>` measures it, and with the same cells, so that nothing is
# computed twice. Test images have no part in it.
#
# ```{index} mixed precision
# ```

# %%
study_plan = ds.training_plan(epochs, transfer_epochs, rate)
study = partial(
    sweep,
    shared={"splits": splits},
    key=tasks_key(splits),
    n_jobs=workers,
)
many = list(range(seed, seed + seeds))
networks = cell_grid(task=[close], start=[cn.OWN], seed=many)
networks += cell_grid(task=[far, turned], start=[close], seed=many)
fixed = {"trained": True, "per_class": points, "halvings": halvings}
cells = [n | fixed | {"plan": study_plan} for n in networks]
profiles = study("05_profiles", ds.profile_rows, cells, code=ds.CODE)

# %% [markdown]
# A line of the table is a task, a way to choose, and the layers that it takes;
# *networks* counts how many agreed. A way to choose that spreads over many
# lines depends on the seed. Then it is a property of a network, and not of the
# architecture.

# %%
dimensions = {
    method: dt.chosen_rows(profiles, method)
    for method in ("regression", "PCA 99 %")
}
chosen = ht.selections(dimensions, threshold)
how_often = ht.choice_counts(chosen)
table(how_often, "Layers chosen, and the plan they give.", name="chosen")

# %% [markdown]
# The PCA hybrid is Hybrid-Net's way {cite:p}`chakraborty2020constructing`:
# principal components, and only a rise counts. The thesis finds both hidden
# linear layers significant, and so calls the plan *fp,1,2,2* its hybrid. If
# our networks choose otherwise, its plan is in the tables below all the same.
#
# The figure shows one such plan as a path from training to a file, with the
# change of the dimension at each layer. Check it by hand: an inner layer has
# two bits if its change, up or down, is more than the threshold.

# %%
first = chosen[chosen["choice"] == "TwoNN hybrid"].iloc[0]
shown_plan = precision_plan(base, hs.by_layer(first["bits"]))
seen = dimensions["regression"]
seen = seen[(seen["task"] == close) & (seen["seed"] == seed)]
show(
    flow_figure(base, shown_plan, dt.dimensions_of(seen), threshold),
    "From a trained network to a file: the plan of the first network. After "
    "figure 3.4 of the thesis.",
    "On top the steps from training to the stored file; below, a chain of "
    "boxes for layers, coloured by bits.",
    "flow",
)

# %% [markdown]
# Keep in mind what the plan rests on. A step near the threshold could fall on
# the other side with other images, and two layers on different sides of it get
# different bits, whether their steps differ by a little or by much.
#
# ## Table 4.7
#
# Signs are taken behind the max-pooling here, not before it. The outputs are
# the same (an exercise below asks why), but there are four times fewer values
# to round, and gradients reach the value that was the largest.
#
# Every plan starts from the same network in full precision, which goes on
# training under the plan. That is also done with *no* bits taken away, as a
# control: whoever trains longer may gain by that alone.
#
# This control is worth more than it seems. A table that compares a retrained
# compressed network with the original credits compression with what the
# additional epochs did. Whoever finds that compression "regularizes" should
# first train the original for as long.
#
# As in {ref}`chapter 4 <ch-compression-comparison>`, intervals are Student's
# over networks, differences are taken network by network, and $p$ comes from
# flipping their signs at random, corrected after Holm. *factor* is the memory
# factor by the thesis's formula, *mib* the size of our file.
#
# Read a line from the left: what the plan keeps, how sure that is, what it
# loses against full precision, and what it saves. The column *thesis* is for
# the order of plans only: its networks, images and budget are others. With one
# network the interval is over test images, and no $p$ exists.

# %%
budget = cn.budget(
    epochs=epochs,
    transfer_epochs=transfer_epochs,
    fine_epochs=fine_epochs,
    rate=rate,
    fine_rate=fine_rate,
    calibration=calibration,
)
train = partial(study, code=hs.CODE)
setting = {
    "options": (("after_pooling", True),),
    "epochs": hybrid_epochs,
    "hybrid_rate": hybrid_rate,
    "plan": study_plan,
}

# %% [markdown]
# The plans of the thesis's table, each for every network of the first two
# tasks.

# %%
both = [n for n in networks if n["task"] != turned]
cells = ht.unique_cells(both, TABLE_4_7.values())
rows = train("06_hybrid", hs.hybrid_rows, [c | setting for c in cells])

# %%
plans = ht.plan_table(rows, list(TABLE_4_7))
caption = "Table 4.7 of the thesis, and ours"
show_by_task(plans, caption, "plans", drop=["images", "pairs"])

# %% [markdown]
# The same lines, plan by plan, smallest file first. Move the slider and watch
# which layer gets its bits back and how far the marks jump to the right: one
# layer holds most of the weights, and the others hardly matter for the size.
# Does accuracy rise with every jump?

# %%
show_interactive(
    plan_steps(plans, TABLE_4_7, QUANTNET_LAYERS),
    "Bits of every layer, and what the plan gives: accuracy and size.",
    "Bars of bits by layer; accuracy against size with one plan marked.",
    "plans-by-size",
    digits=2,
)

# %% [markdown]
# The thesis concludes from this table that TwoNN is right and PCA wrong: with
# the second convolution in one bit, accuracy is higher than with the first
# linear layer in one bit, on both tasks.
#
# That is an argument of two steps: the plan with fewer bits in the less
# *significant* layer is better, therefore the method that calls it so is
# right. The second step fails if the layers differ in something else, such as
# their size. The first one depends on how large the differences are beside
# chance. The thesis prints one accuracy each, counted on one set of test
# images; a share of correct answers has a standard error from the number of
# images alone. Here it is beside the differences that the thesis prints.

# %%
printed_at = partial(thesis_value, "table 4.7", "test accuracy")
share = printed_at(task="cat/dog", bits=ht.FULL) / 100
image_error = 100 * np.sqrt(share * (1 - share) / THESIS_IMAGES)
gaps = {
    task: printed_at(task=task, bits="fp,1,fp,fp")
    - printed_at(task=task, bits="fp,fp,1,fp")
    for task in ("cat/dog", "horse/frog")
}
Markdown(
    " and ".join(f"{gap:.2f} points on {task}" for task, gap in gaps.items())
    + ", where the standard error of one accuracy on cat/dog is "
    f"{image_error:.2f}."
)

# %% [markdown]
# Ours, over networks. A claim is *real* or *reversed* if $p$ is below 0.05,
# else *not shown*: then these networks cannot tell.
#
# The claims are put as "first above second". The first is the thesis's own,
# the second is what its hybrid is for, and the others ask whether few bits
# cost anything at all. With $k$ networks no $p$ from flipped signs can be
# below $2^{1-k}$, so a handful of networks shows nothing, however large the
# difference looks.

# %%
claims = [
    ("fp,1,fp,fp", "fp,fp,1,fp"),
    ("fp,1,2,2", "fp,1,1,1"),
    ("fp,fp,fp,fp", "fp,1,2,2"),
    ("fp,fp,fp,fp", "fp,fp,1,fp"),
    ("fp,fp,fp,fp", "fp,1,fp,fp"),
]
told = pd.concat(ht.versus(rows, task, claims) for task in (close, far))
caption = "Claims about plans, first above second, in points"
show_by_task(told, caption, "claims")

# %% [markdown]
# An interval and a $p$ answer different questions. The interval says how large
# the effect may be, for this line alone. The $p$ is corrected for all claims
# of the task, so a line may have an interval without zero and still be *not
# shown*.
#
# ### Controls
#
# The two layers of the thesis's argument differ in size. To take bits from few
# weights should cost less than to take them from many. A fair control takes
# as many weights of the large layer as the small one has, at random. (Weights
# only: the input of a part of a layer cannot be rounded.)
#
# If the part of *linear1* costs as little as *conv2* of the same size, then
# size is what mattered. If it costs more, or less, for equally many weights,
# the layer matters. The lines below have full precision of inputs throughout,
# so they are not comparable with the table above; they are with each other.

# %%
less = list(range(seed, seed + extra_seeds))
some = [n for n in both if n["seed"] in less]
weights_only = setting | {"options": (("activations", False),)}
alone = [TABLE_4_7[k] for k in ("fp,1,fp,fp", "fp,fp,1,fp", ht.FULL)]
cells = [c | weights_only for c in ht.unique_cells(some, alone)]
matched = train("06_hybrid", hs.hybrid_rows, cells)
part = {"like": "conv2", "layer": "linear1"}
part |= {k: setting[k] for k in ("epochs", "hybrid_rate", "plan")}
parts = train("06_parts", hs.part_rows, [n | part for n in some])

# %%
controls = pd.concat([matched, parts], ignore_index=True)
names = {"fp,1,fp,fp": "conv2", "fp,fp,1,fp": "linear1", ht.FULL: "none"}
controls["set_up"] = controls["set_up"].replace(names)
wanted = ["none", "conv2", "part of linear1", "linear1"]
sized = ht.control_table(controls, wanted, "conv2")
caption = "One bit for the weights of one layer, or of a part as large as "
caption += "conv2; differences to conv2 in points"
show_by_task(sized, caption, "matched", drop=["images"])

# %% [markdown]
# The same in words: how unequal the two layers are, and what the part of equal
# size has cost.

# %%
ratio = kernels["linear1"] / kernels["conv2"]
line = sized[sized["set_up"] == "part of linear1"].set_index("task")
Markdown(
    f"linear1 has {ratio:.0f} times the weights of conv2. One bit for as many "
    "of them as conv2 has, in place of conv2: "
    + ", ".join(
        f"{line['difference'][t]:+.2f} points on {t}" for t in line.index
    )
    + "."
)

# %% [markdown]
# One more difference remains that no control of size removes: a weight of a
# convolution is used at every position, one of a linear layer once for an
# image. So even equal numbers of weights are not equal numbers of products.
#
# In such tables there is no $p$: with few networks, and many lines to correct
# for, none could be small. The intervals are for one line each.
#
# ### By the dimensions of each network
#
# So far the plans were fixed. The proposed method chooses for each network
# by its own dimensions. Four ways to choose, as in the last chapter: two
# estimators, two rules. And a fifth, which is the control: the bits that TwoNN
# chose, dealt to the same three layers in all other orders. A choice that
# does not beat its own bits in another order has chosen nothing.
#
# Why is the shuffled order the right control? It has the same numbers of bits
# for the same number of layers, the same training, the same start. Only the
# assignment differs, and the assignment is all that a dimension has
# contributed. Its line is the mean over all other orders of a network, as if
# someone had dealt the bits blindly.
#
# In the table, compare lines two by two. *TwoNN hybrid* and *TwoNN, signed*
# share the estimator, *TwoNN hybrid* and *PCA, absolute* share the rule;
# *TwoNN hybrid* and *other orders* share the bits. Where two ways have chosen
# the same plan for every network their lines are equal, as each plan is
# trained once.

# %%
few_chosen = chosen[chosen["seed"].isin(less) & (chosen["task"] != turned)]
others = ht.other_orders(few_chosen[few_chosen["choice"] == "TwoNN hybrid"])
cells = ht.chosen_cells(pd.concat([few_chosen, others]))
ways = train("06_hybrid", hs.hybrid_rows, [c | setting for c in cells])
picked = ht.chosen_scores(ways, few_chosen)
dealt = ht.dealt_scores(ways, others)
full = rows[(rows["set_up"] == ht.FULL) & rows["seed"].isin(less)]
compared = pd.concat([full, picked, dealt], ignore_index=True)

# %%
names = [ht.FULL, *ht.CHOICES, *dealt["set_up"].unique()]
scored = ht.plan_table(compared, names)
caption = "Plans chosen network by network, against full precision"
hidden = ["thesis", "images", "p", "pairs"]
show_by_task(scored, caption, "choices", drop=hidden)

# %%
alone = len(few_chosen[["task", "seed"]].drop_duplicates())
alone -= len(others[["task", "seed"]].drop_duplicates())
Markdown(
    f"In {alone} networks TwoNN gave all three layers the same bits, which "
    "have no other order."
    if alone
    else "Every network had other orders to compare with."
)

# %% [markdown]
# A network that gives every layer the same bits drops out of this comparison,
# and networks that drop out are not drawn at random. So with many of them the
# remaining ones speak for themselves only.
#
# Orders differ in memory, too: one bit less for the large first linear layer
# saves more than anything else could. So read accuracy and *factor* together.
#
# ### With patience
#
# Signs learn slowly: a latent weight has to cross zero before anything
# changes. Here the proposed hybrid trains for `long_epochs`, in the tables
# above for `hybrid_epochs`. Beside it the network that it started from, and
# the same trained on for as long.
#
# What to look for: *start* and *trained on* say what patience gives without
# compression. If *trained on* is above *start*, the base was not trained to
# its end, and a hybrid that comes near *start* has profited from the same. The
# fair comparison is with *trained on*.

# %%
patient = setting | {"epochs": long_epochs}
proposed = chosen[chosen["choice"] == "TwoNN hybrid"]
cells = [c | patient for c in ht.chosen_cells(proposed)]
cells += [n | {"bits": (None,) * 4} | patient for n in some]
longer = train("06_hybrid", hs.hybrid_rows, cells)
hybrids = ht.chosen_scores(longer, proposed)

# %% [markdown]
# Each difference is taken over the networks that both lines have; the line
# *trained on* is computed for the first `extra_seeds` networks only. The
# validation column shows how well the images that picked the epoch agree with
# the test images.

# %%
cells = [n | {"plan": study_plan} for n in networks]
starts = train("06_starts", hs.start_rows, cells)
trained_on = longer[longer["set_up"] == ht.FULL]
patience = pd.concat([starts, trained_on, hybrids], ignore_index=True)
patience = patience.replace({"set_up": {ht.FULL: "trained on"}})
short = patience[patience["task"] != turned]
after = ht.control_table(
    short, ["start", "trained on", "TwoNN hybrid"], "start"
)
caption = (
    f"After {long_epochs} epochs instead of {hybrid_epochs}; differences "
)
caption += "to the network at the start"
show_by_task(after, caption, "patience", drop=["images"])

# %% [markdown]
# What the whole exercise comes to, task by task: points lost, and memory
# saved.

# %%
lost = ht.control_table(patience, ["start", "TwoNN hybrid"], "start")
lost = lost[lost["set_up"] == "TwoNN hybrid"]
factors = hybrids.groupby("task")["thesis_factor"].mean()
Markdown(
    " ".join(
        f"On {line.task} the hybrid is {line.difference:+.2f} points from its "
        f"start, with {factors[line.task]:.1f} times less memory."
        for line in lost.itertuples()
    )
)

# %% [markdown]
# And the two bits: are they used? The share of weights on outer levels, in
# layers of two bits or more, after training, answers that.
#
# The first table of this chapter shows where weights are at the start, in the
# line of the thesis's rule. Outer levels are reached when latent weights have
# grown to two thirds of the clipping range; the gradient decides whether they
# do.

# %%
trained_share = longer["outer_share"].mean()
Markdown(
    f"{trained_share:.1%} of these weights are on outer levels. A layer whose "
    "outer levels are empty stores a bit for nothing."
    if np.isfinite(trained_share)
    else "No layer has two bits here."
)

# %% [markdown]
# ## What the thesis only asserts
#
# Any other range than $[-1, 1]$, it says, "doesn't perform as good", and
# scales of activations are overhead. Both can be tried, as can other scales of
# the weights: by least squares, by their range, learned as the distance of
# levels {cite:p}`esser2020learned`, or one for each filter. All are the plan
# *fp,1,2,2* on the first task. Validation accuracy stands beside test
# accuracy: where one had to choose a variant, it would be by that.
#
# Each variant changes one thing, so a line has to be read against *as in the
# tables* alone. With a dozen lines some will look better by chance. What would
# convince is an effect in validation and test images alike, in a direction
# that has a reason: a scale a channel, for instance, lifts the burden of
# unequal filters, and activations left alone take a whole source of error
# away. *outer share* tells which scales make use of the second bit.

# %%
pooled = {"after_pooling": True}
variants = {
    "as in the tables": pooled,
    "weights only": {"activations": False},
    "range 0.5": pooled | {"activation_clip": 0.5},
    "range 2": pooled | {"activation_clip": 2.0},
    "range 4": pooled | {"activation_clip": 4.0},
    "activations scaled": pooled | {"activation_scale": True},
    "before pooling": {},
    "behind the ReLU, literally": {"keep_relu": True},
    "least-squares scale": pooled | {"scale_mode": "ls"},
    "scale by the range": pooled | {"scale_mode": "absmax"},
    "learned scale": pooled | {"scale_mode": "lsq"},
    "a scale a channel": pooled | {"granularity": "channel"},
}
variants = {k: tuple(sorted(v.items())) for k, v in variants.items()}

# %% [markdown]
# The network, its start, its epochs and its rate are those of the tables; only
# the options differ.

# %%
thesis_plan = {"bits": TABLE_4_7["fp,1,2,2"]}
first_task = [n for n in some if n["task"] == close]
cells = [
    n | thesis_plan | setting | {"options": options}
    for n in first_task
    for options in variants.values()
]
tried = train("06_hybrid", hs.hybrid_rows, cells)

# %% [markdown]
# The relatives come from the literature. They are trained for the same epochs.

# %%
by_options = {options: name for name, options in variants.items()}
tried["set_up"] = [by_options[tuple(map(tuple, o))] for o in tried["options"]]
kinds = [
    n
    | {"kind": kind, **{k: setting[k] for k in ("epochs", "plan")}}
    | {"hybrid_rate": hybrid_rate}
    for n in first_task
    for kind in hs.KINDS
]
relatives = train("06_kinds", hs.kind_rows, kinds)
ablations = pd.concat([tried, relatives], ignore_index=True)
varied = ht.control_table(
    ablations, [*variants, *hs.KINDS], "as in the tables"
)
varied["outer share"] = [
    ablations[ablations["set_up"] == name]["outer_share"].mean()
    for name in varied["set_up"]
]
caption = "Variants; differences to that of the tables in points"
show_by_task(varied, caption, "variants", drop=["images", "seeds"])

# %%
by_validation = varied.loc[varied["validation"].idxmax()]
Markdown(
    f"By validation one would choose *{by_validation['set_up']}*, which has "
    f"{by_validation['accuracy']:.1f} % on test images."
)

# %% [markdown]
# The last lines are relatives, with weights of few bits in all layers but the
# first and the last, and activations as they are: BinaryConnect
# {cite:p}`courbariaux2015binaryconnect`, which has no scale, with certain or
# random signs in training, and ternary weights {cite:p}`li2016ternary`. They
# were made for networks with batch normalization, which QuantNET has not.
# (With random signs in training, that paper tests with real weights; here all
# are tested with signs.)
#
# So a relative that does badly here is not refuted. Batch normalization gives
# each channel back a scale and a shift after its signs; without it a network
# of bare signs has to make do with whatever size its sums have, which grows
# with the number of inputs.
#
# ## Table 4.8
#
# The thesis's main pipeline clusters and then trains quantization-aware. The
# weights of *insignificant* layers "are clustered"; *significant* ones are
# "then trained using Cluster preserving Quantization-aware training". To the
# letter, significant layers have no clusters. But the first linear layer is
# significant, and holds nearly all weights: at eight bits without clusters it
# alone takes three times as many bytes as the thesis prints for the file.
#
# A sum over weights and bits is the first thing to do with a printed size. It
# needs no data and no training, and it shows here that text and table cannot
# both be meant literally ({ref}`erratum <erratum-thesis-pipeline-size>`).

# %%
weights_of_linear1 = kernels["linear1"] / 2**20  # MiB at eight bits
printed_mb = thesis_value(
    "table 4.8", "model size", set_up="TwoNN, cluster-preserving QAT"
)
assert weights_of_linear1 > 3 * printed_mb
Markdown(
    f"{weights_of_linear1:.2f} MiB for one layer, {printed_mb} MB printed for "
    "the network."
)

# %% [markdown]
# So we compute both readings: the literal one, and one where all layers are
# clustered, those that are not significant with `fewer_clusters` values.
#
# The ingredients are those of {ref}`chapter 4 <ch-compression-comparison>`:
# values shared by a layer's weights, rounding to eight bits in training, and
# the condition that rounding must not create more values than there were
# clusters. Which layers are significant comes from each network's dimensions.
# *PTQ on QAT* is rounding after a training that knew of it.

# %%
significant = {
    (row["task"], row["start"], row["seed"]): row["significant"]
    for row in chosen[chosen["choice"] == "TwoNN hybrid"].to_dict("records")
}
cells = [
    n
    | {"significant": significant[n["task"], n["start"], n["seed"]]}
    | {"count": clusters, "fewer": fewer_clusters, "plan": budget}
    for n in networks
]
piped = train("06_pipelines", hp.pipeline_rows, cells)

# %% [markdown]
# In the table *compressed MiB* is the fair column for clustered networks:
# their weights still take a byte each, and only packing turns few values into
# few bytes. A size after packing must not be set against one without, as
# {ref}`the thesis's own factors <erratum-thesis-compressed>` do.

# %%
mixed = hybrids.assign(set_up="TwoNN, mixed precision")
last = pd.concat([piped, mixed], ignore_index=True)
schemes = [*dict.fromkeys(piped["set_up"]), "TwoNN, mixed precision"]
final = ct.score_table(last, "table 4.8", schemes)
for i, (task, part) in enumerate(final.groupby("task", sort=False)):
    page = ct.table_for_page(part)
    page.columns = [c.removeprefix(f"{task}: ") for c in page.columns]
    spent = last[last["task"] == task].groupby("set_up")["seconds"].mean()
    page["seconds"] = [spent[name] for name in part["set_up"]]
    table(page, f"Table 4.8: {task}.", 2, name=f"final-{i}")

# %% [markdown]
# Networks without a significant layer blur the comparison: for them two
# pipelines are one, and their difference is zero by construction.

# %%
none = sum(not layers for layers in significant.values())
Markdown(
    f"In {none} of {len(significant)} networks no layer is significant; there "
    "the literal pipeline *is* cluster-preserving QAT."
)

# %% [markdown]
# Sizes are those of ONNX files, packed by gzip in the column *compressed
# MiB*; the mixed precisions are in our own format, and run in floats that hold
# the stored values (*simulated*). *seconds* are of processor time, for
# training alone. The budgets are not equal: the base gets no further
# epochs, PTQ on QAT one training of `fine_epochs`, clustered networks two, the
# mixed precisions `long_epochs` at a higher rate. What training alone gives
# stands above, as *trained on*.
#
# Two of these inequalities matter for the verdict. More epochs at a higher
# rate can favour the mixed precisions; the lines *start* and *trained on* of
# the table on patience say by how much. And two formats have two headers,
# which counts for a network as small as this one.
#
# ### Does the proposed model outperform the others?
#
# The thesis says so by its last table, where schemes lie closer together than
# {ref}`the standard error of one accuracy <erratum-thesis-ranking>`. Here
# every claim of it is a paired difference over networks. *real* and
# *reversed* need a $p$ that survives the correction for all claims of the
# task; *not shown* is no proof of equality, and the width of the interval
# says how large a difference may still hide in it.

# %%
mine = ("TwoNN, cluster-preserving QAT", "TwoNN, all clustered")
rivals = ["PTQ on QAT", "clustered, PTQ on QAT"]
rivals += ["cluster-preserving QAT", "TwoNN, mixed precision"]
claims = [(name, rival) for name in mine for rival in rivals]
verdicts = pd.concat(
    ht.versus(last, task, claims) for task in (close, far, turned)
)
caption = "Claims of table 4.8, first above second, in points"
show_by_task(verdicts, caption, "verdict")

# %%
found = verdicts["verdict"].value_counts()
least = min(1.0, len(claims) * 2.0 ** (1 - seeds))
Markdown(
    f"Of {found.sum()} claims {found.get('real', 0)} are shown, "
    f"{found.get('reversed', 0)} are reversed, and "
    f"{found.get('not shown', 0)} are open. "
    + (
        f"So few networks cannot show any: no $p$ is below {least:.2g}."
        if least >= ALPHA
        else "What is open may be true, but is too small or too uneven for "
        f"these {seeds} networks."
    )
)

# %% [markdown]
# What goes into the result rows: every accuracy and difference with its
# interval, by table, task and set-up, for the comparison with the reference
# run.

# %%
for name, frame in (("4.7", plans), ("choices", scored)):
    for metric in ("accuracy", "difference", "factor"):
        ct.record_scores(run, frame, metric, table=name)
for name, frame in (
    ("matched", sized),
    ("variants", varied),
    ("patience", lost),
):
    for metric in ("accuracy", "difference", "validation"):
        ct.record_scores(run, frame, metric, table=name)
for metric in ("accuracy", "difference", "mib", "compressed_mib"):
    ct.record_scores(run, final, metric, table="4.8")
record_orderings(run, told, "4.7")
record_orderings(run, verdicts, "4.8")

# %%
run.save()
comparison = run.compare()
comparison = comparison.dropna(subset="reference")
if len(comparison):
    table(comparison, "This run beside the reference.", name="comparison")

# %% [markdown]
# ## What to keep
#
# - One bit keeps a direction. The scale gives back the length, and which scale
#   is right depends on the levels.
# - A literal reading of a paper may be impossible. A test of a few lines finds
#   out before a night of training does.
# - A method that *chooses* is to be compared with the same bits, chosen
#   blindly; a method that *trains* with the original, trained for as long.
# - Sizes add up. A printed one can be checked by whoever knows the shapes.
#
# ## Exercises
#
# ```{exercise}
# :label: ex-06-two
#
# (5 minutes) How much smaller does QuantNET get if its first and its last
# layer stay in 32 bits, and all other parameters take one? Put the factor
# into `factor` (a float). Which share of its parameters, between 0 and 1, may
# a network keep in 32 bits at most, if it is to become 16 times smaller? Put
# this into `kept_share`. And what would a network need for a factor of 32?
# ```
#
# ```{hint}
# :class: dropdown
#
# Count bits as the thesis does: each parameter of a layer, biases included,
# at the layer's bits. `base.conv1` and `base.output` are the layers that stay.
# ```

# %% [markdown]
# ```{solution-start} ex-06-two
# :class: dropdown
# ```
#
# What stays in full precision is the bound. QuantNET's first and last layers
# are small, so it comes near 32. In the formula, every quantized parameter
# counts one bit, every other one 32 bits. With a share $s$ that stays the
# factor is $32 / (1 + 31 s)$: it is 16 at $s = 1/31$, and 32 only if nothing
# at all stays.

# %% tags=["solution"]
sizes = [
    sum(p.numel() for p in m.parameters()) for m in (base.conv1, base.output)
]
whole = sum(p.numel() for p in base.parameters())
factor = 32 * whole / (31 * sum(sizes) + whole)
kept_share = 1 / 31
Markdown(f"{factor:.2f} times smaller, with {sum(sizes) / whole:.3%} kept.")

# %% tags=["check"]
check_answer(
    {
        "`factor`: a plan of the table of memory factors": lambda: np.isclose(
            factor, printed.loc["fp,1,1,1", "thesis_count"]
        ),
        "`kept_share`: count bits, they must be a 16th of all": lambda: (
            np.isclose(16 * (32 * kept_share + (1 - kept_share)), 32)
        ),
    }
)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise}
# :label: ex-06-pool
#
# (10 minutes) A convolution's outputs are made signs, then the largest of
# each window of four is taken. Does it matter for the result if the largest
# is taken first? Does it matter for the gradient? Draw `maps`, float32
# `[1, 8, 32, 32]`, evenly between -1 and 1. Put into `pooled_signs` a list of
# two results (signs first, largest first), and into `gradients` those of the
# sums of the results by `maps`, in the same order.
# ```
#
# ```{hint}
# :class: dropdown
#
# The modules are `SignedActivation(1)` and `nn.MaxPool2d(2)`. A gradient
# needs a leaf: `maps.clone().requires_grad_()`, a new one for each order.
# ```

# %% [markdown]
# ```{solution-start} ex-06-pool
# :class: dropdown
# ```
#
# Not for the result: the sign keeps the order. For the gradient it does. Of
# equal signs the first in the window is the "largest", so the gradient goes
# to it, whatever it was before it became a sign. A rule that leaves every
# output as it is may still change what a network learns.

# %% tags=["solution"]
maps = torch.rand(1, 8, 32, 32, generator=generator) * 2 - 1
sign, pool = SignedActivation(1), nn.MaxPool2d(2)
pooled_signs, gradients = [], []
for order in ((sign, pool), (pool, sign)):
    leaf = maps.clone().requires_grad_()
    result = order[1](order[0](leaf))
    result.sum().backward()
    pooled_signs.append(result.detach())
    gradients.append(leaf.grad)

# %% tags=["check"]
mean_of_window = nn.AvgPool2d(2)
check_answer(
    {
        "1 where a value of the window is not negative, else -1": lambda: all(
            torch.equal(r > 0, mean_of_window((maps >= 0).float()) > 0)
            for r in pooled_signs
        ),
        "both orders have the same result": lambda: torch.equal(*pooled_signs),
        "every window hands its gradient to one value": lambda: all(
            mean_of_window(g).eq(0.25).all() for g in gradients
        ),
        "with signs last it is the largest one, else not always": lambda: (
            (gradients[1] * maps).sum() > (gradients[0] * maps).sum()
        ),
    }
)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise}
# :label: ex-06-refit
#
# (20 minutes) The mode *ls* finds the best scale for given levels, and given
# a scale one knows the nearest levels. Write `refit(weights, scale)`, which
# does both in turn until levels no longer change. It takes weights, float64
# `[n]`, and a scale to start from (a positive float), and returns the last
# scale (a float) of the levels $\pm 1$ and $\pm 1/3$. Apply it to the weights
# of `base.conv2` less their mean, from the best scale of one bit on. Put the
# errors left, as shares of the squared weights, into `one_bit` and
# `two_bits`.
# ```
#
# ```{hint}
# :class: dropdown
#
# With levels $d$ the squared error $\|w - s d\|^2$ is a parabola in $s$. Where
# is it lowest? Neither of the two steps can make the error larger.
# ```

# %% [markdown]
# ```{solution-start} ex-06-refit
# :class: dropdown
# ```
#
# The parabola is lowest at $\langle d, w\rangle / \langle d, d\rangle$. As no
# step makes the error larger and there are finitely many levels, the loop
# ends. Started from one bit, two bits are never worse: at the same scale they
# have its levels and others. The thesis's rule lacks this, since it keeps one
# bit's scale *and* a place for borders that does not depend on the weights.


# %% tags=["solution"]
four = np.array([-1, -1 / 3, 1 / 3, 1])


def refit(weights, scale):
    """The scale where nearest levels and least squares agree."""
    before = None
    while True:
        near = np.abs(weights[:, None] / scale - four).argmin(axis=1)
        if before is not None and np.array_equal(near, before):
            return scale
        before, level = near, four[near]
        scale = level @ weights / (level @ level)


# %% tags=["solution"]
flat_weights = base.conv2.weight.detach().double().flatten().numpy()
flat_weights = flat_weights - flat_weights.mean()
mean_size = np.abs(flat_weights).mean()
best_scale = refit(flat_weights, mean_size)
nearest = np.abs(flat_weights[:, None] / best_scale - four).argmin(axis=1)
left = flat_weights - best_scale * four[nearest]
two_bits = (left**2).sum() / (flat_weights**2).sum()
left = flat_weights - mean_size * np.sign(flat_weights)
one_bit = (left**2).sum() / (flat_weights**2).sum()
Markdown(f"One bit leaves {one_bit:.3f}, two bits {two_bits:.3f}.")

# %% [markdown]
# The check takes weights that lie on levels, where the scale is known, and
# others from several starts, where levels and scale must fit each other.

# %% tags=["check"]
on_levels = 0.7 * np.repeat([-1, -1 / 3, 1 / 3, 1], [4, 9, 2, 5])
drawn = np.random.default_rng(seed).normal(size=200)
of_conv2 = base.conv2.weight.detach().double().flatten()
of_conv2 = of_conv2 - of_conv2.mean()

# %% tags=["check"]
check_answer(
    {
        "weights on levels: their own scale comes out": lambda: np.isclose(
            refit(on_levels, 0.6), 0.7
        ),
        "the last scale must be that of least squares": lambda: all(
            abs(level @ (drawn - s * level)) < 1e-8
            for s in (refit(drawn, start) for start in (0.1, 1.0, 5.0))
            for level in [
                np.sign(drawn) * np.where(np.abs(drawn) > s / 1.5, 1, 1 / 3)
            ]
        ),
        "`one_bit`: one less the squared mean size, as a share": lambda: (
            np.isclose(
                1 - one_bit,
                of_conv2.abs().mean() ** 2 / of_conv2.square().mean(),
                rtol=1e-4,
            )
        ),
        "more levels at the same start cannot be worse": lambda: (
            0 < two_bits < one_bit
        ),
    }
)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise}
# :label: ex-06-ternary
#
# (20 minutes) Signs have no zero, but padding, dropout and ternary weights
# do. Keep a vector of -1, 0 and 1 in a pair of Python integers `(negative,
# used)`: bit $i$ of `used` is 1 where entry $i$ is not zero, bit $i$ of
# `negative` where it is -1. Write `ternary_product(a, b)`, which takes two
# such pairs and returns the product of the vectors (an int), by operations on
# whole words and without a loop over entries.
# ```
#
# ```{hint}
# :class: dropdown
#
# Which entries count at all? Of these, how many have different signs? An
# integer has `.bit_count()`, and `&`, `|`, `^` work on all bits at once.
# ```

# %% [markdown]
# ```{solution-start} ex-06-ternary
# :class: dropdown
# ```
#
# Only entries that are used on both sides count. Each adds 1, and those with
# different signs take 2 off again. That is an AND for the zeros more than the
# product of signs needs, and two counts in place of one: a zero costs a
# second bit a weight, and about twice the work.


# %% tags=["solution"]
def ternary_product(a, b):
    """Product of two vectors of -1, 0 and 1, given as words."""
    both = a[1] & b[1]
    differ = (a[0] ^ b[0]) & both
    return both.bit_count() - 2 * differ.bit_count()


# %% tags=["check"]
vectors = np.random.default_rng(seed).integers(-1, 2, (8, 200))
words = [
    [sum(1 << int(i) for i in np.flatnonzero(w)) for w in (v < 0, v != 0)]
    for v in vectors
]
check_answer(
    {
        "zeros on one side add nothing": lambda: (
            ternary_product((0, 0), (5, 7)) == 0
        ),
        "without zeros it is the product of signs": lambda: (
            ternary_product((0b001, 0b111), (0b011, 0b111)) == 1
        ),
        "random vectors: the product of the numbers themselves": lambda: all(
            ternary_product(tuple(words[i]), tuple(words[j]))
            == vectors[i] @ vectors[j]
            for i in range(8)
            for j in range(8)
        ),
    }
)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise}
# :label: ex-06-budget
#
# (60 minutes, a small project) Choose bits without dimensions. Give *conv2*,
# *linear1* and *linear2* 1 to 4 bits each, so that they take no more room by
# the thesis's formula than under *fp,1,2,2*, and the squared errors
# `(LowBit(b, mode)(w) - w).square().sum()` of their weights in `base` add up
# to the least. Put into `best_plans`, a dict by the modes `"l1"`, `"ls"` and
# `"absmax"`, the plans as tuples `(None, conv2, linear1, linear2)`. Train one
# that you believe in, and compare it with *as in the tables*.
# ```
#
# ```{hint}
# :class: dropdown
#
# There are few enough plans to try all, if each error is computed once.
# Before you look: which modes can hardly profit from a second bit, and why?
# For the comparison, `variants` has options, `ht.control_table` differences.
# ```

# %% [markdown]
# ```{solution-start} ex-06-budget
# :class: dropdown
# ```
#
# Under *l1* more bits have larger errors, as long as weights are far smaller
# than 1. Under *ls* a second bit is then hardly used, and only more bits have
# levels near enough to zero. Under *absmax* every bit helps, and the large
# layer gets what room there is. Three modes, three opinions on the same
# weights: a criterion is no better than the quantizer it is measured with.

# %% tags=["solution"]
from itertools import product

inner_layers = [base.conv2, base.linear1, base.linear2]
room_of = [sum(p.numel() for p in m.parameters()) for m in inner_layers]
allowed = np.dot(room_of, TABLE_4_7["fp,1,2,2"][1:])
possible = [
    plan
    for plan in product(range(1, 5), repeat=3)
    if np.dot(room_of, plan) <= allowed
]

# %% tags=["solution"]
best_plans = {}
for mode in ("l1", "ls", "absmax"):
    error_of = {
        (i, b): float((LowBit(b, mode)(w) - w).square().sum())
        for i, w in enumerate(m.weight.detach() for m in inner_layers)
        for b in range(1, 5)
    }
    totals = [sum(error_of[i] for i in enumerate(p)) for p in possible]
    best_plans[mode] = (None, *possible[int(np.argmin(totals))])
Markdown("; ".join(f"{k}: *{hs.label(v)}*" for k, v in best_plans.items()))

# %% [markdown]
# The plan by *absmax* is trained with its own scale, from the networks of the
# variants. Nothing was chosen on test images, so they may judge. Where it is
# the plan of the tables, its networks are those of the line *scale by the
# range* above.

# %% tags=["solution"]
own_plan = {"bits": best_plans["absmax"]}
own_plan |= {"options": variants["scale by the range"]}
by_error = train(
    "06_hybrid", hs.hybrid_rows, [n | setting | own_plan for n in first_task]
).assign(set_up="least error")
as_usual = tried[tried["set_up"] == "as in the tables"]
judged = ht.control_table(
    pd.concat([as_usual, by_error], ignore_index=True),
    ["as in the tables", "least error"],
    "as in the tables",
)
hidden = ["images", "seeds"]
table(judged.drop(columns=hidden), "The plan with the least error.", 2)

# %% [markdown]
# The check solves the same problem by another way, the exact choice of bits
# of {ref}`chapter 9 <ch-label-aware-precision>`. Plans of equal errors pass.

# %% tags=["check"]
from lq_utils.bit_allocation import choose

three = [base.conv2, base.linear1, base.linear2]
tensors = [layer.weight.detach() for layer in three]
each = np.array([layer.weight.numel() + len(layer.bias) for layer in three])
costs, least = {}, {}
for rule in ("l1", "ls", "absmax"):
    costs[rule] = np.array(
        [
            [
                float((LowBit(b, rule)(w) - w).square().sum())
                for b in (1, 2, 3, 4)
            ]
            for w in tensors
        ]
    )
    place = choose(costs[rule], np.outer(each, [1, 2, 3, 4]), each @ [1, 2, 2])
    least[rule] = costs[rule][[0, 1, 2], place].sum()

# %% tags=["check"]
check_answer(
    {
        "three modes, each with (None, conv2, linear1, linear2)": lambda: (
            set(best_plans) == set(costs)
            and all(p[0] is None and len(p) == 4 for p in best_plans.values())
        ),
        "no more room than fp,1,2,2, biases included": lambda: all(
            each @ p[1:] <= each @ [1, 2, 2] for p in best_plans.values()
        ),
        "under some mode another plan leaves a smaller error": lambda: all(
            costs[m][[0, 1, 2], np.array(p[1:]) - 1].sum() < 1.0001 * least[m]
            for m, p in best_plans.items()
        ),
    }
)

# %% [markdown]
# ```{solution-end}
# ```
#
# ## Make it yours
#
# A plan is a table. Write one, count it, train it; validation images judge.
# Here the largest layer gets one bit, and the two small ones four.
#
# Before you run it, guess: does the plan have a larger or a smaller factor
# than *fp,1,2,2*, and which layer decides that? Change one number at a time,
# and take the test images only when you have chosen.

# %%
my_bits = (None, 4, 1, 4)  # conv1, conv2, linear1, linear2
mine = precision_plan(base, hs.by_layer(my_bits))
table(mine.frame()[["layer", "bits", "levels"]], "A plan of your own.")

# %%
(own,) = hs.hybrid_rows(close, cn.OWN, seed, my_bits, splits=splits, **setting)
Markdown(
    f"Validation accuracy {own['validation']:.3f}, memory factor "
    f"{own['thesis_factor']:.1f}."
)
