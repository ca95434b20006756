# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# (ch-data-free-quantizers)=
# # Data-free quantizers
#
# **Question.** How few bits does a network bear if its weights are simply
# rounded, without any image? What decides that: the quantizer, the
# architecture, or the data?
#
# Rounding without data is the simplest thing one can do to a network, and
# often the only one: images may be private, lost, or too many for the machine
# that does the rounding. It is also the base line. What calibration on images
# adds ({ref}`chapter 8 <ch-gpfq-gptq-brecq>`) is worth no more than its
# distance from the best that weights alone allow.
#
# The bit-efficient poster {cite:p}`nayak2019bit` compares three quantizers:
# asymmetric, symmetric, and powers of two. It reports that four bits cost
# little, that the limit lies in the data rather than in the architecture, that
# few bits make a network prefer some classes, and that its first layers matter
# most. Each of these can be tested here. Some are statements of fact, such as
# a drop at a number of bits. Others name a cause, and a cause needs more than
# one network that shows the effect: it needs a comparison in which everything
# else stays the same. The poster also groups classes, codes files, and rounds
# detectors; that is {ref}`chapter 10 <ch-class-clustering>`.
#
# **You will learn**
# - the four alphabets that "symmetric", "asymmetric" and "logarithmic" mean;
# - what each of them does to quartiles, ranges and means of weights;
# - what matters more, one scale a channel or the choice of a quantizer;
# - how far biases can be corrected without a single image;
# - how to tell a limit of bits from the noise of a test set.
#
# **Inputs.** Three reference networks, which are part of the repository.
# Nothing here is calibrated, but where it says so. What is chosen is chosen
# on validation images; test images report.
#
# **Time on two cores.** smoke: one minute; quick: four minutes; full: less
# than two hours, resumable (estimates).

# %%
from functools import partial

import numpy as np
import pandas as pd
import torch
from IPython.display import Markdown

from lq_utils import bit_limits as bl
from lq_utils import class_orthogonality as co
from lq_utils import data_free_claims as dfc
from lq_utils import data_free_figures as figures_of
from lq_utils import data_free_networks as dn
from lq_utils import data_free_study as st
from lq_utils import data_free_tables as dft
from lq_utils import layer_sets as sens

# %%
from lq_utils import power_of_two_study as pot
from lq_utils import prediction_bias as pb
from lq_utils.alphabets import Alphabet, alphabet, register_quantizer
from lq_utils.bias_shift import Moments, clipped_normal, expected_inputs
from lq_utils.data_free import round_weights
from lq_utils.exercises import check_answer
from lq_utils.figures import show, table, use_style
from lq_utils.folder_networks import with_folder
from lq_utils.graph import (
    fold_batch_norm,
    layer_table,
    trace,
    weight_matrix,
)
from lq_utils.interactive import show_interactive
from lq_utils.interactive_rounding import bit_steps
from lq_utils.parameters import check_parameters
from lq_utils.results import start_run
from lq_utils.scales import fit_grid
from lq_utils.sweeps import cell_grid, sweep
from lq_utils.weight_statistics import (
    network_statistics,
    rounding_statistics,
    summarised,
)

# %% tags=["parameters"]
profile: str = "quick"  # smoke|quick|full|custom; names this set of values
dataset: str = "auto10"  # auto10|auto|cifar*|synthetic*; the first network's
model: str = "resnet20"  # any; the first network
others: list[str] = ["resnet20@auto", "mobilenetv2_x0_5@auto"]  # any; beside
weights_file: str = ""  # any; a .safetensors file for the first network
folder_dir: str = ""  # any; images in class folders, such as ImageNet's
folder_model: str = "resnet18"  # any; torchvision's, or name:file
seed: int = 0  # 0..1000000; draws of images, subsets, training
quantizers: list[str] = ["asymmetric", "narrow", "power-of-two"]  # any; tried
bits: list[int] = [8, 4, 3]  # each 2..8; bits a weight; time alike
few_bits: list[int] = [3]  # each 2..8; looked at closely, the first most
train_images: int = 1000  # 200..50000; in all, to train on and calibrate
images: int = 500  # 100..10000; of validation (choose), of test (report)
subsets: int = 12  # 4..500; subsets of the classes
looked_into: int = 1  # 1..10; networks, from the first, layer by layer
positions: int = 5  # 0..200; layers looked at, evenly spread, 0: all
train_bits: list[int] = [4]  # each 2..8; of quantization-aware training
epochs: int = 1  # 1..100; of that training; its time alike
seeds: int = 1  # 1..20; trainings of each kind; time alike
workers: str = "2"  # 1..64|tcp://*; processes, or a Dask scheduler

# %%
parameters = check_parameters(globals())

# %% [markdown]
# The first network is the one that is looked into. The others stand beside it,
# for two kinds of comparison: the same architecture on other data, and another
# architecture on the same data. Without both, architecture and data cannot be
# told apart.

# %%
use_style()
cases = dn.find_cases([f"{model}@{dataset}", *others], weights_file)
cases = with_folder(cases, folder_model, folder_dir)
labels = list(cases)
first = labels[0]
run = start_run(
    "07_data_free_quantizers", parameters, cases[first].splits.provenance
)

# %% [markdown]
# Most sections look at one number of bits, the first of `few_bits`. It should
# be small enough to hurt: where nothing is lost, all quantizers are equally
# good, and a comparison says nothing.

# %%
few = few_bits[0]
if not set(few_bits) <= set(bits) or "asymmetric" not in quantizers:
    raise ValueError(
        f"few_bits={few_bits} must be in bits={bits}, and 'asymmetric', the "
        f"poster's quantizer, in quantizers={quantizers}"
    )

# %% [markdown]
# ## Four alphabets
#
# A quantizer has levels and a scale. Data-free means that both come from the
# weights alone. For $b$ bits and weights from $w_{\min}$ to $w_{\max}$:
#
# | quantizer | levels | scale |
# |---|---|---|
# | asymmetric | $0, \dots, 2^b - 1$, less a zero point $z$ | $s = (w_{\max} - w_{\min}) / (2^b - 1)$ |
# | symmetric | $-(2^{b-1}-1), \dots, 2^{b-1}-1$ | $s = \max\lvert w\rvert / (2^{b-1} - 1)$ |
# | symmetric, one level more | $-2^{b-1}, \dots, 2^{b-1}-1$ | $s = \max\lvert w\rvert / (2^{b-1} - \frac{1}{2})$ |
# | power of two | $0, \pm 1, \pm\frac{1}{2}, \pm\frac{1}{4}, \dots$ | $s = \max\lvert w\rvert$ |
#
# The range of the asymmetric one always includes zero, and its zero point
#
# $$
# z = \operatorname{round}(-w_{\min}/s), \qquad
# w \approx s \cdot (q - z) \quad\text{for a level } q,
# $$ (eq-07-zero-point)
#
# makes zero a level. The poster calls the last one logarithmic. Its levels
# crowd around zero, and multiplying by them is a shift.
#
# Two numbers describe such a set: how far its ends are apart, and how close
# neighbours are. With $b$ bits one can only be traded for the other. The
# asymmetric grid fits both ends of the weights, so its steps are the smallest
# of the uniform ones, and it pays by a zero point that has to be stored and
# taken off again when layers are computed {cite:p}`jacob2018quantization`. The
# symmetric grids fit the larger end only; half of a lopsided channel's levels
# may stay empty. Powers of two give up even steps altogether.
#
# What to look for in the table: the number of levels in each row, and where
# the gaps between neighbours are wide.
#
# ```{index} zero point, alphabet, power-of-two quantizer
# ```

# %%
rows = [
    {"quantizer": name, "levels": str(alphabet(name, 3).levels().tolist())}
    for name in ("asymmetric", "narrow", "symmetric", "power-of-two")
]
table(pd.DataFrame(rows), "Levels of three bits before scaling.")

# %% [markdown]
# A symmetric set with zero in it has an odd number of levels, so one of the
# possible codes stays unused, or one side gets a level more than the other. At
# many bits this is a trifle. At very few it is a good part of all levels, and
# part of what looks like a difference between quantizers is only this count.
#
# ### By hand
#
# Eight weights of one channel, three bits. Rounding takes the nearest level
# in value. For powers of two the border between $2^e$ and $2^{e+1}$ is
# therefore $1.5 \cdot 2^e$, halfway; rounding the logarithm would put it at
# $\sqrt 2 \cdot 2^e$.

# %%
w = np.array([-0.9, -0.3, -0.08, 0.0, 0.05, 0.2, 0.4, 0.47])
low, high = min(w.min(), 0), max(w.max(), 0)
step = (high - low) / 7
zero = np.floor(-low / step + 0.5)
level = np.clip(np.floor(w / step + zero + 0.5), 0, 7)
by_hand = {"asymmetric": (level - zero) * step}

# %% [markdown]
# The symmetric grid is the same without a zero point: one step size, and codes
# cut off at the same distance on both sides.

# %%
step = np.abs(w).max() / 3
by_hand["narrow"] = step * np.clip(np.floor(w / step + 0.5), -3, 3)

# %% [markdown]
# For powers of two the sizes are brought to at most one first. The exponent of
# the nearest level is found by dividing by the border's factor and rounding
# the logarithm down. What is smaller than half of the smallest level is nearer
# to zero, and becomes zero.

# %%
size = np.abs(w) / np.abs(w).max()
nearest = 2.0 ** np.floor(np.log2(np.maximum(size, 1e-9) / 0.75))
nearest = np.clip(nearest, 0.25, 1) * (size >= 0.125)  # half of the smallest
by_hand["power-of-two"] = np.sign(w) * nearest * np.abs(w).max() + 0.0

# %% [markdown]
# All three must be what the library gives, to the last digit that counts. The
# test is the definition of the rest of the chapter: every table below rounds
# like this, only with more weights.

# %%
row = torch.from_numpy(w)[None]
for name, rounded in by_hand.items():
    grid = fit_grid(row, alphabet(name, 3))
    assert np.allclose(grid.round(row)[0], rounded), name
shown = pd.DataFrame({"weight": w} | by_hand)
table(shown, "The weights, and where each quantizer puts them.", 2)

# %% [markdown]
# Compare a large weight with a small one along the columns. A uniform grid
# makes errors of the same size everywhere, at most half a step. Powers of two
# make errors in proportion to the weight, as far down as their levels reach:
# small ones near zero, coarse ones far out. Which is better depends on what
# the errors do later. The damage to a layer's output is a sum of errors times
# inputs, and there the size of an error counts, not its proportion.
#
# ## What rounding does to the weights
#
# The poster's first figure shows quartiles of tensors before and after. It
# says that uniform levels keep the mean, and powers of two the range of each
# channel. First four channels of a layer in the middle of the first network,
# with one scale for the whole layer: the narrowest, the widest, and two
# between.
#
# Batch normalisation is folded into the convolution before it, as a device
# would do. That multiplies each channel by a factor of its own, and so drives
# the ranges of channels apart. It is the reason why a single scale for a layer
# can be a bad fit even if the network was trained with weights of similar
# sizes {cite:p}`nagel2019data`.

# %%
network = cases[first].network
folded = fold_batch_norm(trace(network))
convolutions = [i.name for i in layer_table(folded) if i.kind == "conv"]
layer = convolutions[len(convolutions) // 2]
weight = weight_matrix(folded.get_submodule(layer))
order = (weight.amax(1) - weight.amin(1)).argsort()
picked = order[np.linspace(0, len(order) - 1, 4).astype(int)]

# %% [markdown]
# Each channel is then rounded with the layer's common scale, and its quartiles
# are taken before and after. A box that shrinks to a line holds equal values:
# at least half of the channel's weights fell on one level.

# %%
boxes = {}
for name in quantizers:
    grid = fit_grid(weight, alphabet(name, few), "tensor")
    rounded = grid.round(weight)
    found = rounding_statistics(weight[picked], rounded[picked])
    boxes[figures_of.NAMES.get(name, name)] = found.assign(
        channel=picked.numpy()
    )

# %%
show(
    figures_of.quartile_figure(boxes),
    f"Weights of four channels of layer {layer} in full precision and with "
    f"{few} bits, one scale for the layer. Boxes are quartiles, "
    "whiskers reach to the extremes.",
    "Four panels of boxes, one for full precision and one a quantizer.",
    "quartiles",
)

# %% [markdown]
# Read a panel from left to right: the box in full precision, then one for each
# quantizer. The widest channel is the easy case, for the scale was made for
# it. The narrow channels are the test. A uniform grid has the same step for
# all channels, so a channel whose weights all lie within half a step of zero
# has nothing else left. Powers of two have levels at every order of size down
# to their smallest, and a narrow channel may still find some of them. This is
# what lies behind the poster's remark about ranges. Four channels of one layer
# are an illustration and no more.
#
# Levels and weights of the whole layer in one drawing follow. Move the slider
# from few bits to many. Look at where the weights are and where the levels
# are: powers of two add new ones near zero only, so from some number of bits on
# they gain nothing among the larger weights. Does their error go on falling?

# %%
show_interactive(
    bit_steps(weight, figures_of.NAMES),
    f"Weights of layer {layer}, levels with one scale, and their error.",
    "Histogram of weights, a row of levels a quantizer, errors by bits.",
    "levels-by-bits",
    digits=5,
)

# %% [markdown]
# Now all layers, and both kinds of scales. The question: does the picture hold
# for all channels, and what is left of it when every channel has a scale of
# its own? *range kept* and *SQNR* (squared weights over squared errors, in
# decibel) are medians over the channels. *mean shift* is measured in standard
# deviations of a channel. *zeros* is what the poster calls local sparsity, the
# share of weights that are exactly zero, and *lost* the share of channels of
# which nothing else is left.

# %%
lines, kept_ranges = [], {}
for granularity in ("channel", "tensor"):
    for name in quantizers:
        plan = st.scheme_plan(network, few, name, granularity, "max")
        done = round_weights(network, plan)
        found = network_statistics(network, done, "channel")
        kept_ranges[name] = found["range_kept"]
        line = {"granularity": granularity, "quantizer": name}
        lines.append(line | summarised(found))
weights_table = pd.DataFrame(lines)

# %% [markdown]
# Compare the two blocks of rows first, one scale a channel and one a layer,
# and the quantizers within each block second. The SQNR is on a logarithmic
# scale; in theory a further bit of a uniform grid halves the step and adds the
# same amount every time.

# %%
metrics = ["zeros", "mean_shift", "range_kept", "sqnr_db", "lost"]
keys = ["granularity", "quantizer"]
dft.record_columns(run, weights_table, dict(zip(metrics, metrics)), keys)
table(weights_table, f"{first}, {few} bits, all channels.")

# %% [markdown]
# The columns need not agree on a winner, and that is the lesson. A quantizer
# may keep the range of a channel and have a poor SQNR, or have many zeros and
# still small errors. *zeros* is no sign of damage in itself: weights near zero
# are the most frequent and the cheapest to lose. *lost* is, for a channel of
# zeros passes on nothing but its bias. Medians over channels hide the worst
# ones, which may be what decides accuracy, so none of these columns replaces a
# test of the network.
#
# Does a uniform grid keep the mean better? Errors of rounding to nearest are
# spread evenly around zero where steps are small against the weights. Nothing
# of that holds for a channel that vanishes. A paired comparison over layers
# takes the mean shift of each tensor:
#
# Each line sums up the same layers for all quantizers. Look at the largest
# shift as well as at the middle one.

# %%
by_tensor = {}
for name in quantizers:
    plan = st.scheme_plan(network, few, name, "tensor", "max")
    found = network_statistics(network, round_weights(network, plan))
    by_tensor[name] = found.set_index("layer")["mean_shift"].abs()
shifts = pd.DataFrame(by_tensor)
table(
    shifts.describe().loc[["mean", "50%", "max"]].rename_axis("over layers"),
    "Magnitude of the shift of a tensor's mean, in standard deviations.",
    name="shifts",
)

# %% [markdown]
# Why would a mean be kept at all? In a tensor of $n$ weights the errors of
# rounding to nearest are nearly independent, so their mean falls off as
# $1/\sqrt{n}$ times the step. A large layer keeps its mean by mere averaging.
# Powers of two have wide gaps far out, and errors there are larger; but a
# tensor with as much weight on either side of zero lets them cancel, whatever
# the grid. So a difference should be looked for in lopsided tensors. And the
# rule needs rounding to nearest without clipping, see {ref}`the erratum on the
# mean <erratum-poster-mean>`. It is no law of uniform grids.
#
# What to keep: a shifted mean matters more than its size suggests. Errors of
# single weights average out over the inputs of a layer. A common shift does
# not, as inputs behind a ReLU are never negative.
#
# ## The networks
#
# Networks are named by model and data set. `auto` takes CIFAR where it is,
# and made images where it is not.
#
# Subsets of classes are drawn once, and alike for networks on the same data:
# some of similar classes, some of dissimilar ones, some at random
# ({ref}`chapter 2 <ch-subset-generation>`). They come into play where the
# poster blames the data.

# %%
CALIBRATION = 200  # images, where a correction is not data-free
SIZE = 10  # classes of a subset; half of all at most
parts = dn.parts_of(cases, train_images, images, images, seed)
drawn = dn.subsets_of(cases, subsets, SIZE, seed)
table(dn.overview(cases), "The networks and their data.")

# %% [markdown]
# A cell is one network rounded by one scheme, judged on the same images as all
# others. Stored cells are not computed again.

# %%
shared, key = dn.shared_inputs(cases, parts)
study = partial(
    sweep,
    "07_schemes",
    st.scheme_rows,
    shared=shared,
    key=key,
    code=st.CODE,
    n_jobs=workers,
)
both = ["tensor", "channel"]

# %% [markdown]
# Two sweeps: the networks in full precision, and every combination of
# quantizer, bits and granularity. A drop is the difference between the two,
# *on the same images*. The sets of images have another role each: nothing in
# this sweep is chosen, so it may look at test images; whatever is chosen later
# is chosen on validation images.

# %%
originals = study(st.float_cells(labels, subsets=drawn))
rows = study(st.scheme_cells(labels, bits, quantizers, both, subsets=drawn))
lost = bl.drops(rows, originals)
whole = lost[lost["subset"] == st.ALL]

# %% [markdown]
# What to look for in the figure: at which number of bits a curve leaves the
# dotted line, whether the upper and the lower row of panels differ more than
# the curves within a panel, and whether the order of quantizers is the same in
# all columns. An order that changes from network to network is no property of
# the quantizer alone.

# %%
before = st.all_classes(originals).set_index("network")
accuracy = (100 * before["correct"] / before["n"]).to_dict()
scheme = ["network", "bits", *bl.SCHEME]
dft.record_drops(run, whole, scheme)
show(
    figures_of.scheme_figure(whole, accuracy),
    "Accuracy by bits, with one scale a layer (tensor) or one a channel, the "
    "scale by the largest weight. Dotted: full precision.",
    "Two rows of panels, one column a network; a curve a quantizer.",
    "schemes",
)

# %% [markdown]
# A curve usually has three parts: flat, where rounding is lost in the noise of
# the test set; a knee; and a fall towards what guessing gives. Only near the
# knee do choices matter and can be compared. To the left of it everything is
# broken in its own way, and one broken network being some points better than
# another helps nobody. The intervals at single marks are those of an accuracy.
# They are too wide for a comparison of two curves, as both are judged by the
# same images; the table has the paired drops.

# %%
columns = ["network", "granularity", "quantizer", "accuracy", "drop"]
here = dft.with_text(whole[whole["bits"] == few])
table(here[columns], f"Accuracy (%) and drop (points), {few} bits.")

# %% [markdown]
# Read *drop* with its interval. If it holds zero, this number of images cannot
# tell the rounded network from the original one; that is not the same as no
# loss.
#
# Drops are paired: the same images are judged by both networks, and only those
# whose answer turned count. Powers of two gain nothing beyond some number of
# bits, as a further bit only adds levels close to zero. Their coarse outer
# levels stay as coarse as they were.
#
# ### Quantizer or granularity?
#
# Which of the two choices moves accuracy more? For each network and number of
# bits: the gap between one scale a channel and one a layer, averaged over
# quantizers, and the gap between the best and worst quantizer, averaged over
# granularities.
#
# The two columns of the table have the same unit, so they can be compared
# directly. Both are gaps, but not of the same kind: the first has a sign, and
# may come out negative; the second is a best less a worst, which is never
# negative and grows by noise alone. So a first column that is the larger one
# has won against the odds.

# %%
cube = whole.pivot_table(
    index=["network", "bits"],
    columns=["granularity", "quantizer"],
    values="accuracy",
)
by_scale = cube["channel"] - cube["tensor"]
spread = [np.ptp(cube[g].to_numpy(), axis=1) for g in both]
choices = pd.DataFrame({"channel less tensor": by_scale.mean(axis=1)})
choices["best less worst quantizer"] = np.mean(spread, axis=0)

# %% [markdown]
# One line of the table is a network at one number of bits. Where every
# combination loses next to nothing, both columns are near zero: there is
# nothing to gain.

# %%
choices = choices.reset_index()
metrics = {"channel less tensor": "granularity_gain"}
metrics["best less worst quantizer"] = "quantizer_gap"
dft.record_columns(run, choices, metrics, ["network", "bits"])
table(choices, "What each choice moves (points).", 1, name="choices")

# %% [markdown]
# The reason to expect much of the granularity: a quantizer shapes the levels
# of one grid, and a scale a channel gives each channel a grid of its own.
# Where ranges of channels differ by large factors, no shape of levels makes up
# for a scale that is wrong. The more the ranges differ, the stronger the
# effect; a network with depthwise convolutions, whose channels have few
# weights each, is known as a hard case {cite:p}`nagel2019data`. The price is
# small, a scale for each channel in place of one for each layer, and such a
# scale can be applied to the output of the channel, once. So a comparison of
# quantizers that does not say how many scales there are cannot be repeated.
#
# ### The poster's rows
#
# Table 1 of the poster has a ResNet-18 on CIFAR-10 with the asymmetric
# quantizer. Its size says that it is rather a ResNet-20 ({ref}`erratum
# <erratum-poster-resnet-size>`), which is what ours is. Whether it had one
# scale a layer or one a channel is not said.

# %%
ours = dft.poster_table(whole, first)
table(ours, "The poster's table 1 (accuracy, drop in points), and ours.")

# %% [markdown]
# Ours appear twice for each number of bits, with one scale a channel and one a
# layer. Compare drops, not accuracies: the networks were trained by different
# people for different times. The poster's drop has no interval, and it was
# measured on one network. Where it lies between our two lines, either reading
# of its quantizer is possible. Its column of losses mixes points and
# proportions ({ref}`erratum <erratum-poster-loss>`); the drops here are
# recomputed from its accuracies.
#
# ### Scale rules
#
# The largest weight sets the scale above. A smaller one clips a few large
# weights and rounds all others finer: `mse` takes the scale with the least
# squared error of the weights. `whole` is for the symmetric alphabet with one
# level more, which the rule `max` never uses.
#
# The trade behind it: clipping makes a few errors, of the largest weights,
# much larger, and all others smaller. With many bits the steps are fine
# anyway, and there is little for clipping to win. With few bits steps are
# coarse, most weights sit far below the largest, and clipping can pay. So the
# answer may well turn with the number of bits, and one from eight bits must
# not be carried over to three.

# %%
closer = partial(st.scheme_cells, labels, few_bits)
found = study(
    closer(quantizers, both, ["mse"])
    + closer(["symmetric"], ["channel"], ["max", "mse", "whole"])
)
by_rule = pd.concat([whole, bl.drops(found, originals)])
by_rule = by_rule[by_rule["bits"].isin(few_bits)]

# %% [markdown]
# Each line of the table is a setting, each column a rule; compare along a
# line. Empty places are rules that were not tried there.

# %%
wide = by_rule.pivot_table(
    index=["network", "bits", "granularity", "quantizer"],
    columns="scale",
    values="accuracy",
).reset_index()
table(wide, "Accuracy (%) by the rule of the scale.", 1, name="rules")
dft.record_drops(run, by_rule[by_rule["scale"] != "max"], scheme)

# %% [markdown]
# The rule `mse` searches for the scale with the least error of weights.
# Whether that also gives the highest accuracy is another matter, and the table
# decides it. A smaller error of the weights does not have to mean a more
# accurate network: large weights count more than their number, since a filter
# answers through its largest weights, and clipping shortens exactly these, all
# in the same direction. What is truly wanted is a small error of the layer's
# *output*, and that needs to know the inputs. {ref}`Chapter 8
# <ch-gpfq-gptq-brecq>` has scales and solvers that look at outputs.
#
# ## Biases, corrected without data
#
# Errors of rounding change a layer's *mean* output, and this part of the
# damage can be taken out of the bias:
#
# $$
# \text{bias} \leftarrow \text{bias} - \Delta W\, E[x] , \qquad
# \Delta W = Q - W .
# $$ (eq-07-bias-correction)
#
# It needs the mean input. Calibration images would give it, but then the
# method is no longer data-free. Batch normalisation knows it, too
# {cite:p}`nagel2019data`: its outputs have mean $\beta$ and deviation
# $\gamma$, and if they are Gaussian, the ReLU behind it returns on average
#
# $$
# E[x] = \gamma\,\varphi(\beta/\gamma) + \beta\,\Phi(\beta/\gamma) .
# $$ (eq-07-clipped-mean)
#
# {eq}`eq-07-clipped-mean` is easily checked: draw Gaussian numbers, cut off
# what is negative, take the mean.
#
# ```{index} bias correction
# ```

# %%
beta, gamma = 0.3, 1.2
gauss = np.random.default_rng(0).normal(beta, gamma, 400_000)
sampled = np.maximum(gauss, 0).mean()
given = Moments(torch.tensor([beta]).double(), torch.tensor([gamma**2]))
formula = clipped_normal(given).mean.item()
assert abs(sampled - formula) < 0.01
Markdown(f"Sampled {sampled:.3f}, by the formula {formula:.3f}.")

# %% [markdown]
# Where does the assumption fail? The mean and the deviation of a normalised
# channel are what training left in the batch normalisation; these are close to
# the truth on training images. That the distribution is Gaussian is not: a
# channel that detects something rare has a long tail to one side, and then the
# mean behind the ReLU comes out wrong although both moments are right.
#
# A residual block adds two such outputs; their means add up. The first layer
# sees images, about which no normalisation knows anything. Is the expected
# mean right? Against the mean over training images, for every channel:

# %%
expected = expected_inputs(network)
deep = list(expected)[-1]
features = co.penultimate_features(network, parts[first]["train"])
pairs = pd.DataFrame(
    {"expected": expected[deep].numpy(), "measured": features.mean(axis=0)}
)
agree = pairs.corr("spearman").iloc[0, 1]
Markdown(
    f"Input of `{deep}`, {len(pairs)} channels: mean "
    f"{pairs['expected'].mean():.2f} expected, "
    f"{pairs['measured'].mean():.2f} measured; rank correlation {agree:.2f}."
)

# %% [markdown]
# Two things are to be told apart. The means of the two columns say whether
# expectations are too high or too low as a whole. The rank correlation says
# whether the channels with large inputs are the right ones, which is what a
# correction of biases lives on.
#
# Now the question that counts: does it help? Three versions of each network,
# with the same rounded weights and other biases: as they were, corrected with
# the means from batch normalisation, and with means measured on images. The
# last one is not data-free. It stands for what knowing the means can bring, up
# to the noise of its images.

# %%
cells = closer(quantizers, both, correction="batch norm")
cells += closer(
    quantizers, both, correction="images", images=CALIBRATION, draw=seed
)
corrected = bl.drops(study(cells), originals)
plain = whole[whole["bits"].isin(few_bits)]
corrected = pd.concat([plain, corrected])

# %%
wide = corrected.pivot_table(
    index=["network", "bits", "granularity", "quantizer"],
    columns="correction",
    values="accuracy",
)[list(st.CORRECTIONS)]
dft.record_drops(run, corrected[corrected["correction"] != "none"], scheme)
table(
    wide.reset_index(),
    "Accuracy (%) without bias correction, with that from batch "
    f"normalisation (data-free), and that from {CALIBRATION} images.",
    1,
    name="corrections",
)

# %% [markdown]
# Compare along the lines. If the middle column reaches the last one, the
# assumption of Gaussian inputs was good enough. If the last column is much
# better, the idea is right and the moments are not. If neither helps, mean
# errors were not the trouble, and what is left is noise around the mean, which
# no bias can remove.

# %%
gain = wide["batch norm"] - wide["none"]
images_gain = wide["images"] - wide["none"]
Markdown(
    f"Over {len(wide)} settings the data-free correction changes accuracy by "
    f"{gain.mean():+.1f} points on average ({gain.min():+.1f} to "
    f"{gain.max():+.1f}), the empirical one by {images_gain.mean():+.1f}."
)

# %% [markdown]
# An average over settings mixes hopeless ones with those that lose nothing, so
# look at its extremes as well. Single settings have the noise of a test set
# each; a gain that appears in most lines and for all networks is worth more
# than one large gain. The method costs nothing at run time, as biases are
# added anyway, and it is exactly what it says: a first-order repair of the
# *mean*.
#
# ### As low as three bits?
#
# The poster's text says that data-free quantization achieves three bits
# "without affecting accuracy", while its table loses points at four. The best
# data-free scheme deserves the trial, with its biases corrected or not. It is
# chosen on validation images, and read once on test images.
#
# Why two sets of images? The best of many candidates on some images is partly
# the luckiest on them. Its accuracy there is too good on average, and the more
# so the more candidates there are. Validation images pay for this luck, test
# images have not seen it. The errata have {ref}`what the poster's own tables
# say <erratum-poster-three-bits>`.

# %%
candidates = []
for correction in ("none", "batch norm"):
    some = partial(closer, correction=correction, part="validation")
    candidates += some(quantizers, both)
valid = study(candidates)
valid["share"] = valid["correct"] / valid["n"]
top = valid.loc[valid.groupby(["network", "bits"])["share"].idxmax()]

# %% [markdown]
# One cell a network and number of bits is left, the scheme that won, and it is
# read once.

# %%
cells = [
    cell
    for pick in top.to_dict("records")
    for cell in st.scheme_cells(
        [pick["network"]],
        [pick["bits"]],
        [pick["quantizer"]],
        [pick["granularity"]],
        [pick["scale"]],
        pick["correction"],
    )
]
best = bl.drops(study(cells), originals)

# %% [markdown]
# What to look for: whether the same scheme wins everywhere, and whether the
# interval of the drop stays within one point. "Without affecting accuracy"
# needs the upper end of the interval to be small, not only its middle.

# %%
columns = ["network", "bits", *bl.SCHEME, "accuracy", "drop"]
table(dft.with_text(best)[columns], "The scheme chosen, on test images.")
for line in best.to_dict("records"):
    ci = (line["drop_low"], line["drop_high"])
    keys = {"network": line["network"], "bits": line["bits"]}
    run.record("best_drop", line["drop"], ci=ci, n=line["n"], **keys)

# %% [markdown]
# A drop whose interval reaches beyond a point does not disprove the claim for
# other networks; the number of bits that a network bears depends on how much
# room it has. Small networks may have little. That is one more reason to say
# for which network a limit holds.
#
# ## Biased inference
#
# At very few bits, the poster says, networks become biased: they answer some
# classes more often than others. The test images hold each class equally
# often, so that an unbiased network's histogram is nearly flat.
#
# The figure takes the two lowest numbers of bits, with one scale a layer,
# where such an effect should be easiest to see. Bars of one colour belong to
# one network. Which classes grow at the cost of others, and do the colours
# agree on them?

# %%
asymmetric = rows[rows["quantizer"] == "asymmetric"]
coarse = asymmetric[asymmetric["granularity"] == "tensor"]
coarse = st.all_classes(coarse[coarse["network"] == first])
counts = {"float": pb.unpack_answers(before.loc[first, "answers"])}
for line in coarse.sort_values("bits")[:2].to_dict("records"):
    counts[f"{line['bits']} bits"] = pb.unpack_answers(line["answers"])
classes = parts[first]["test"].class_names

# %%
show(
    figures_of.answers_figure(
        {k: pb.answer_counts(v, len(classes)) for k, v in counts.items()},
        classes,
    ),
    f"How often {first} answers each class, asymmetric, one scale a layer.",
    "Bars for every class, one colour a precision.",
    "answers",
)

# %% [markdown]
# A network that loses its way need not guess evenly. Rounding shifts the
# logits, each by an amount that is partly the same for all images; the class
# with the luckiest shift wins wherever an image is unclear. So bias and loss
# of accuracy can go together. But even a network in full precision has a
# histogram that is not quite flat, and a finite number of images makes any two
# histograms differ.
#
# Could that be chance? Chi-square compares two histograms. Its usual law takes
# them for independent, but here the same images are answered by both networks
# {cite:p}`maxwell1970comparing`. So the answers to each image are swapped or
# not by the toss of a coin, many times: $p$ is how often that gives as large a
# chi-square. *effective* is how many classes would, answered evenly, have the
# same entropy.
#
# Look at *p* together with *effective*. A small $p$ says that a difference
# exists, and with many images even a harmless one is found. *effective* says
# how large it is: compare it with its value before.

# %%
bias = pb.bias_table(
    st.all_classes(asymmetric).sort_values("bits"), st.all_classes(originals)
)
columns = ["network", "granularity", "bits", "largest", "effective before"]
columns += ["effective", "changed", "chi-square", "p"]
table(bias[columns], "Histograms of answers, asymmetric quantizer.")
metrics = {"largest": "largest_share", "effective": "effective_classes"}
metrics |= {"p": "p_same_histogram"}
dft.record_columns(run, bias, metrics, ["network", "granularity", "bits"])

# %% [markdown]
# *changed* is the share of images whose answer changed at all. Where it is
# large and the histogram is still even, answers were shuffled among classes
# without a preference; where both move, the network leans to some. Bias of
# this kind is of interest for two reasons. It may be undone in part by
# correcting biases, as above. And it hurts those users most whose classes are
# the ones that vanish, which a mean accuracy does not show. {ref}`Chapter 10
# <ch-class-clustering>` looks at which classes are confused with which, and at
# what grouping them can repair.
#
# ## The bit limit
#
# The poster's graph has a limit of bits for networks on ImageNet. Ours is the
# smallest number of bits that costs at most one point, as do all larger ones.
# The test images decide how sure that is. Below *limit_low* a loss of more
# than a point is certain, from *limit_high* on it is excluded; 32 says that no
# number of bits here is enough.
#
# The definition asks that all larger numbers of bits pass as well. Otherwise a
# lucky point below the knee would count as a limit. The step from one limit to
# the next is a whole bit, which is coarse, and only the bits that were tried
# can come out.

# %%
channel = lost[(lost["quantizer"] == "asymmetric")]
channel = channel[channel["granularity"] == "channel"]
limits = bl.bit_limits(channel)
of_all = limits[limits["subset"] == st.ALL]
table(of_all, "Limits on all classes: asymmetric, one scale a channel.")

# %% [markdown]
# A limit without its two companions looks more exact than it is. If
# *limit_low* and *limit_high* are far apart, more images are needed before
# anybody speaks of a limit. And it moves with the tolerance: one point is a
# convention.
#
# Then the same for subsets of the classes. The table counts subsets by their
# limit.

# %%
metrics = {name: name for name in ("limit", "limit_low", "limit_high")}
dft.record_columns(run, of_all, metrics, ["network"])
of_subsets = limits[limits["subset"] != st.ALL]
spread = of_subsets.groupby(["network", "limit"]).size().unstack(fill_value=0)
table(
    spread.reset_index(),
    "Number of subsets of classes with each limit.",
    name="limits-subsets",
)

# %% [markdown]
# Limits that spread over a wide range of bits look as if classes decided the
# limit. But subsets are judged by fewer images, and noise alone spreads
# limits, too. So the next step does not compare limits, which are coarse, but
# the drops behind them.
#
# On a subset the network answers with the best of the subset's logits, and
# fewer images judge it. *Is it the architecture or the data?* Networks on the
# same data were judged on the same subsets. Two-way components of variance
# tell what of a drop belongs to the network, what to the subset, and what to
# neither. The poster expects the second. Mean squares are compared, not sums:
# there are more subsets than networks, and noise alone would favour them.
#
# The idea in one picture: write the drops into a table with a row for each
# network and a column for each subset. If rows differ as a whole, architecture
# matters; if columns do, the classes matter; if neither explains a cell, what
# is left is interaction and noise.

# %%
shares = []
small = channel[(channel["subset"] != st.ALL) & (channel["bits"] == few)]
data_of = {k: cases[k].splits.provenance.dataset for k in labels}
for name, own in small.groupby(small["network"].map(data_of)):
    if own["network"].nunique() > 1:
        shares.append(bl.variance_shares(own).assign(data=name))
shares = pd.concat(shares) if shares else pd.DataFrame()

# %%
if len(shares):
    dft.record_columns(run, shares, {"share": "share"}, ["data", "source"])
    wide = shares.pivot(index="data", columns="source", values="share")
    table(wide.reset_index(), f"Shares of variance, {few} bits.", 2)
else:
    print("Give two networks on the same data to tell the two apart.")

# %% [markdown]
# Shares of one data set add up to one. They are estimates from a small table,
# so differences between neighbouring shares mean little; only a large share is
# a finding. And subsets differ here only within one data set. That classes of
# the same data differ in difficulty is a weaker statement than the poster's,
# which speaks of data sets.
#
# *rest* holds the noise of the test images, too. Two architectures are a very
# small sample of what architectures there are, so that this only points.
#
# ### Orthogonal classes
#
# Networks are "quantization friendly", the poster says, "if distributions of
# classes in training dataset are orthogonal in nature". Take the features
# before the last layer, centred, their mean for each class, and the mean
# magnitude of the cosine between two of them: zero is orthogonal.
#
# Why should directions of classes matter? The last layer answers with the
# class whose weights point most in the direction of an image's features.
# Errors of rounding tilt these features a little. If two classes point almost
# the same way, a small tilt is enough to exchange them; if they are at right
# angles, a large one is needed. The argument is plausible, and it holds for
# errors in full precision, too: close classes are confused before anything is
# rounded. A fair test must therefore ask for what rounding *adds*.

# %%
features_of = {first: features}
for label in labels[1:]:
    own = cases[label].network
    features_of[label] = co.penultimate_features(own, parts[label]["train"])
means = {
    label: co.class_means(
        features_of[label],
        parts[label]["train"].labels,
        cases[label].splits.train.num_classes,
    )
    for label in labels
}
original = bl.drops(originals, originals).set_index(["network", "subset"])
at = co.with_cosines(small, means).set_index(["network", "subset"])
cosines = at.assign(original=original["accuracy"]).reset_index()

# %% [markdown]
# In the figure a mark is a subset, its place to the right says how far its
# classes are from orthogonal. If the claim is right, marks rise to the right,
# for every network. A cloud without a slope speaks against it, as far as these
# subsets differ at all: look at how wide the cloud is.

# %%
show(
    figures_of.cosine_figure(cosines),
    f"Drop with {few} bits on subsets of classes against the mean "
    "cosine between their features' means.",
    "A cloud of marks a network.",
    "cosines",
)

# %% [markdown]
# The table has two correlations for each network. The second one asks whether,
# among subsets with the same accuracy before rounding, those with closer
# classes lose more. If only the first one is clearly positive, the cosine says
# nothing that the accuracy before did not say.

# %%
related = dft.cosine_relations(cosines)
table(
    related,
    "Spearman's correlation of cosine and drop; the second one with the "
    "accuracy before held fixed.",
    2,
    name="cosine-relations",
)
dft.record_cosines(run, related)

# %% [markdown]
# Subsets share classes, so they are not independent, and the intervals are
# somewhat too narrow. Accuracy is held fixed because close classes are
# confused even in full precision.
#
# ## Which layers?
#
# "Quantizing initial layers affects model performance the most." Three ways
# to look: one layer alone, all from the front up to a layer, all from a layer
# to the end. As one would choose precisions by this, validation images judge.
#
# The three ways answer different questions. A layer alone shows its own
# sensitivity, with perfect inputs. From the front and from the end show how
# errors pile up. Everything is done in the poster's quantizer with one scale a
# channel, so that layers with uneven channels are not simply punished for the
# wrong granularity.

# %%
poster_scheme = {"quantizer": "asymmetric", "granularity": "channel"}
poster_scheme["scale"] = "max"
cells, sets = [], []
for label in labels[:looked_into]:
    own = cases[label].network
    of_layers = sens.layer_sets(own, positions) + sens.halves(own)
    of_layers += sens.stages(own)
    more = sens.cells_of_sets(
        label, own, of_layers, [few], poster_scheme, "validation"
    )
    cells += more[0]
    sets.append(more[1])
sets = pd.concat(sets, ignore_index=True)

# %% [markdown]
# In the figure layers run from left to right. The line of single layers should
# stay low, with peaks at sensitive layers. The other two meet the same value
# at opposite ends, where everything is rounded. The steeper a cumulative line
# climbs over some layers, the more these add.

# %%
valid_float = study(st.float_cells(labels[:looked_into], "validation"))
judged = study(cells)
by_layer = sens.joined(sets, bl.drops(judged, valid_float))
show(
    figures_of.sensitivity_figure(by_layer),
    "Drop when one layer alone is rounded, all from the front up to it, or "
    "all from it to the end; validation images.",
    "Three lines against the layer's number.",
    "sensitivity",
)

# %% [markdown]
# A drop below zero is no mistake: rounding one layer may turn a few wrong
# answers into right ones by chance. It shows the size of the noise. The table
# names the highest peaks, with their shares of the weights. The highest of
# many noisy values tends to be too high, so do not read its order too closely.

# %%
table(
    dft.steepest(by_layer),
    "The layers that cost most alone (drop in points); weights are shares of "
    "all weights.",
    name="steepest",
)

# %% [markdown]
# Whole stages are less noisy than single layers, as more is rounded at once.
# Compare *drop* with *weights*: a stage that holds few weights and still costs
# much is where bits are well spent.

# %%
ways = [*sens.WAYS, *sens.HALVES]
of_stages = by_layer[~by_layer["way"].isin(ways)]
columns = ["network", "bits", "way", "layers", "weights", "drop"]
table(dft.with_text(of_stages)[columns], "One stage rounded alone.")

# %% [markdown]
# Why might first layers matter more? Their errors pass through everything that
# follows, and are there for every class. They also have few weights, so errors
# have fewer companions to average out with. On the other side, later layers
# hear of the damage only after normalisation and ReLUs have had a chance to
# absorb it, and the last layers act on the answer directly. The argument does
# not decide; the comparison does.
#
# Single layers are noisy. The first half of the layers against the second half
# is one comparison on the same images, and its interval decides. The shares of
# weights matter: early layers are small, so that the same drop buys fewer bits
# there.

# %%
halves = dft.half_differences(judged, sets)
trend = sens.position_correlations(by_layer)
for line in halves.to_dict("records"):
    keys = {"network": line["network"], "bits": line["bits"]}
    ends = (line["low"], line["high"])
    run.record("halves", line["difference"], ci=ends, **keys)
dft.record_columns(
    run, trend, {"correlation": "position_correlation"}, ["network", "bits"]
)

# %% [markdown]
# Read the sign: a negative difference in the first table says that rounding
# the first half costs more, as the poster claims, and so does a negative
# correlation in the second. The two may disagree, as halves are taken by the
# number of layers and one very sensitive layer can decide a half.

# %%
table(halves, "Accuracy: first half rounded less second half (points).", 2)
table(trend, "Spearman's correlation of a layer's position and drop.", 2)

# %% [markdown]
# ### Partial quantization
#
# The practice that follows: leave the first or the last layer in full
# precision, or quantize the backbone only, all convolutions.
#
# This is the cheapest form of mixed precision: a rule of thumb in place of a
# search. {ref}`Chapter 9 <ch-label-aware-precision>` replaces it by an exact
# choice of bits for each layer. Here the question is what the rule of thumb
# buys.

# %%
cells, kept = [], []
for label in labels[:looked_into]:
    own = cases[label].network
    more = sens.cells_of_sets(
        label, own, sens.partial_sets(own), [few], poster_scheme, "test"
    )
    cells += more[0]
    kept.append(more[1])
kept = sens.joined(pd.concat(kept), bl.drops(study(cells), originals))

# %% [markdown]
# Compare each line with the one in which all layers are rounded, and look at
# the weights it rounds: a line that wins back accuracy and still rounds nearly
# all weights is a bargain. The lines are not of equal size. A layer kept in
# full precision takes as much room as several rounded ones, and these may have
# been better served by one bit more each.

# %%
columns = ["network", "way", "layers", "weights", "accuracy", "drop"]
table(dft.with_text(kept)[columns], f"Partial quantization, {few} bits.", 2)
for line in kept.to_dict("records"):
    keys = {"network": line["network"], "way": line["way"]}
    ci = (line["drop_low"], line["drop_high"])
    run.record("partial_drop", line["drop"], ci=ci, n=line["n"], **keys)

# %% [markdown]
# ## Powers of two, trained
#
# The poster's table 2 trains with power-of-two weights. Every pass rounds the
# weights; gradients go straight through to the weights before rounding
# {cite:p}`bengio2013estimating`. With the scale a power of two as well
# {cite:p}`zhou2017incremental`, only shifts are left. The comparison needs two
# controls: a uniform grid trained alike, and the network in full precision
# trained on for as long.
#
# Why train at all? Rounding to nearest takes each weight by itself. Training
# lets the other weights make up for an error that one of them is forced to
# make. The rounding has a slope of zero almost everywhere, so that its true
# gradient says nothing; the gradient is passed on as if there were no
# rounding. This is a trick and not a derivative, but it points the right way
# often enough, since the weights before rounding collect many small steps
# until one of them crosses a border between levels.
#
# A first look at the grid itself: all weights of a layer, without their sign,
# must be powers of two.

# %%
aware = pot.on_grid(network, "power-of-two", few, "tensor")
some = next(m for m in aware.modules() if hasattr(m, "parametrizations"))
values = some.weight.detach().abs().unique()
exponents = torch.log2(values[values > 0])
assert torch.equal(exponents, exponents.round())
Markdown(f"Weights of a layer: 0 and $\\pm 2^e$, $e$ in {exponents.tolist()}.")

# %% [markdown]
# Every cell trains one network. Each grid starts from the same weights, sees
# the same images in the same order, and takes as many steps; the cells added
# last are the control without any grid. It is a comparison under equal means,
# short ones where `epochs` is small, and not the best that training can do.

# %%
train_cells = cell_grid(
    network=labels[:looked_into],
    grid=list(pot.GRIDS),
    bits=train_bits,
    granularity=["channel"],
    epochs=[epochs],
    rate=[0.005],
    seed=list(range(seed, seed + seeds)),
)
train_cells += [
    cell | {"grid": "none", "bits": 32}
    for cell in train_cells
    if cell["grid"] == pot.GRIDS[0] and cell["bits"] == train_bits[0]
]

# %% [markdown]
# The drop is counted from the network as it was before any training. That
# makes a network that only trained on comparable with the others, and its drop
# may be negative.

# %%
trained = sweep(
    "07_training",
    pot.training_rows,
    train_cells,
    shared=shared,
    key=key,
    code=pot.CODE,
    n_jobs=workers,
)
after = bl.drops(trained, originals)

# %% [markdown]
# In the table, *rounded* is the network before training and *trained* after
# it. What training repairs is the distance between the two lines of the same
# grid. What the grid still costs is the distance from the trained control, not
# from the network as it was.

# %%
keys = ["network", "grid", "bits", "stage"]
first_seed = after[after["seed"] == seed]
shown = dft.training_poster_table(first_seed)
table(
    shown,
    "The poster's table 2, and ours: rounded after training, and trained "
    f"with the grid for {epochs} epochs on {len(parts[first]['train']):,} "
    "images. Accuracy in %, drop in points.",
    name="trained",
)
dft.record_drops(run, first_seed, keys)

# %% [markdown]
# The poster's network had between two numbers of bits on average, so its line
# is not at the same size as ours.
#
# The difference between the grids, image by image, is the test of the idea. A
# negative value says that powers of two are behind. Look at both stages:
# training may close a gap that rounding opened. The interval is one over test
# images: what other seeds of the training would change is not in it.

# %%
against = dft.grid_differences(trained)
table(against, "Power of two less uniform, image by image (points).", 2)
for line in against.to_dict("records"):
    keys = {k: line[k] for k in ("network", "bits", "stage")}
    ends = (line["low"], line["high"])
    run.record("power_of_two_gain", line["difference"], ci=ends, **keys)

# %% [markdown]
# What to keep of powers of two: they were made for cheap multiplication, not
# for small errors. Their levels are dense where weights are small, and that
# helps little where the errors of large weights dominate. Whether a shift is
# cheaper than a multiplication in few bits depends on the hardware, which this
# chapter does not measure.
#
# ## Verdicts on quantizers
#
# What the poster says, and what these rows say of it. Where an interval lies
# on both sides, this run cannot tell. A verdict is about these networks at
# these bits. "Holds" means that the statement is true here; it does not say
# that the cause which the poster names is the right one.

# %%
claims = dfc.mean_claim(shifts) + dfc.range_claim(kept_ranges)
claims += dfc.loss_claim(best) + dfc.bias_claim(bias)
claims += dfc.data_claim(shares) + dfc.orthogonality_claim(related)
claims += dfc.layers_claim(halves)
dfc.record_gaps(run, shifts, kept_ranges)
table(pd.DataFrame(claims), "The poster's claims.", name="verdicts")

# %% [markdown]
# Where there is a reference for these rows, a table counts how many are within
# its tolerance. `python -m lq_utils compare 07` lists them one by one.

# %%
run.save()
comparison = run.compare().dropna(subset="reference")
if len(comparison):
    by_verdict = pd.crosstab(comparison["metric"], comparison["verdict"])
    caption = "Rows of this run beside the reference, by verdict."
    table(by_verdict.reset_index(), caption, name="comparison")

# %% [markdown]
# ## What to keep
#
# - Say how many scales there are before comparing the shapes of levels. No
#   shape makes up for a scale that does not fit.
# - A quantizer can keep the range, the mean or the squared error of weights.
#   None of these is the accuracy of a network.
# - The mean input of a layer can be known without images, as far as batch
#   normalisation kept it. It repairs the mean of an error and nothing else.
# - A limit of bits belongs to a network, data, a tolerance and a number of
#   test images. Say all four.
# - "It is the data" and "it is the architecture" are statements about causes.
#   They need a table in which both vary.
# - The best of many schemes must be chosen on other images than those that
#   report it.
#
# ## Exercises
#
# ```{exercise}
# :label: ex-07-levels
#
# (5 minutes) Of the $2^b$ codes that $b$ bits can write, the symmetric
# alphabet `"narrow"` has no level for some. Put their share, between 0 and 1,
# into a dict `unused`, by the numbers of bits from 2 to 8.
# ```
#
# ```{hint}
# :class: dropdown
#
# `alphabet("narrow", b).levels()` lists the levels for `b` bits.
# ```

# %% [markdown]
# ```{solution-start} ex-07-levels
# :class: dropdown
# ```
#
# One code is lost, whatever the number of bits, so the share halves with every
# bit. At eight bits nobody minds; at two it is a quarter of all there is.

# %% tags=["solution"]
unused = {
    b: 1 - len(alphabet("narrow", b).levels()) / 2**b for b in range(2, 9)
}
Markdown("; ".join(f"{b} bits: {s:.1%}" for b, s in unused.items()))

# %% tags=["check"]
check_answer(
    {
        "the keys are the numbers of bits, 2 to 8": lambda: (
            set(unused) == set(range(2, 9))
        ),
        "count codes: the share must be a whole number of them": lambda: all(
            s > 0 and np.isclose(s * 2**b % 1, 0) for b, s in unused.items()
        ),
        "a geometric series: all shares add up to a half, nearly": lambda: (
            np.isclose(sum(unused.values()), 0.5 - 0.5**8)
        ),
    }
)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise}
# :label: ex-07-border
#
# (10 minutes) A weight between $2^e$ and $2^{e+1}$ is rounded by its
# logarithm instead of its value. Where does the border move, in units of
# $2^e$? Put it into `border`. How much larger does the mean squared error
# become for weights spread evenly between the two levels? Put the factor into
# `ratio`.
# ```
#
# ```{hint}
# :class: dropdown
#
# On each side of the border the error is an integral of a square. Rounding to
# the nearest value has its border at $1.5$.
# ```

# %% [markdown]
# ```{solution-start} ex-07-border
# :class: dropdown
# ```
#
# From $1.5$ to $\sqrt 2$, the middle of the logarithms. The error is an
# integral on each side of the border. The factor is small, and it is paid at
# every weight that is not near zero.


# %% tags=["solution"]
def mean_error(turn):
    """Mean of the squared error on [1, 2], rounded to 1 below ``turn``."""
    return ((turn - 1) ** 3 + (2 - turn) ** 3) / 3


border = np.sqrt(2)
ratio = mean_error(border) / mean_error(1.5)
Markdown(f"The error grows by a factor of {ratio:.3f}.")

# %% [markdown]
# The check integrates nothing: it rounds a hundred thousand weights in both
# ways.

# %% tags=["check"]
evenly = 1 + (np.arange(100_000) + 0.5) / 100_000
by_logarithm = 2.0 ** np.round(np.log2(evenly))
by_value = np.where(evenly < 1.5, 1, 2)
larger = ((evenly - by_logarithm) ** 2).mean()
larger /= ((evenly - by_value) ** 2).mean()
check_answer(
    {
        "`border`: below it rounded logarithms give 1, above 2": lambda: (
            abs(border - evenly[by_logarithm == 1].max()) < 1e-4
        ),
        "`ratio`: squared error by logarithm over that by value": lambda: (
            abs(ratio - larger) < 1e-3
        ),
    }
)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise}
# :label: ex-07-lost
#
# (10 minutes) One scale for a layer can turn whole channels into zeros. For
# which quantizer does this happen last, and why? Count lost channels of the
# first network by bits: a data frame `lost_channels` with the columns `bits`
# (2 to 5), `asymmetric`, `narrow` and `power-of-two`, the last three holding
# shares between 0 and 1.
# ```
#
# ```{hint}
# :class: dropdown
#
# `layer_table(folded)` names the layers, `weight_matrix` has a row a channel.
# With `fit_grid(..., "tensor")` a layer has one scale. A channel is lost if it
# had weights other than zero, and has none any more.
# ```

# %% [markdown]
# ```{solution-start} ex-07-lost
# :class: dropdown
# ```
#
# Powers of two: their smallest level falls off exponentially with the number
# of levels, so that narrow channels still find some. A uniform grid has to
# halve its step with every bit, and loses a channel as long as half a step is
# more than the largest of its weights.

# %% tags=["solution"]
layers_of_first = [
    weight_matrix(folded.get_submodule(info.name))
    for info in layer_table(folded)
]
lines = []
for b in (2, 3, 4, 5):
    line = {"bits": b}
    for name in ("asymmetric", "narrow", "power-of-two"):
        gone = []
        for original in layers_of_first:
            grid = fit_grid(original, alphabet(name, b), "tensor")
            zeros = (grid.round(original) == 0).all(dim=1)
            gone += (zeros & (original != 0).any(dim=1)).tolist()
        line[name] = np.mean(gone)
    lines.append(line)
lost_channels = pd.DataFrame(lines)
table(lost_channels, "Share of channels of which only zeros are left.")

# %% [markdown]
# The check rounds nothing. A channel is lost if its largest weight is below
# half of the smallest level, and both are known.

# %% tags=["check"]
matrices = [
    weight_matrix(folded.get_submodule(info.name))
    for info in layer_table(folded)
]
peaks = torch.cat([m.abs().amax(1) / m.abs().max() for m in matrices]).numpy()
smallest = {b: 1 / (2 ** (b - 1) - 1) for b in (2, 3, 4, 5)}
powers = {b: 2.0 ** (2 - 2 ** (b - 1)) for b in (2, 3, 4, 5)}

# %% tags=["check"]
check_answer(
    {
        "bits from 2 to 5, a line each": lambda: (
            list(lost_channels["bits"]) == list(smallest)
        ),
        "narrow, one scale a layer: half a step decides": lambda: np.allclose(
            lost_channels["narrow"],
            [
                np.mean((peaks > 0) & (peaks < s / 2))
                for s in smallest.values()
            ],
            atol=3 / len(peaks),
        ),
        "powers of two: half of the smallest power decides": lambda: (
            np.allclose(
                lost_channels["power-of-two"],
                [
                    np.mean((peaks > 0) & (peaks < s / 2))
                    for s in powers.values()
                ],
                atol=3 / len(peaks),
            )
        ),
    }
)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise}
# :label: ex-07-ceiling
#
# (20 minutes) Every bit makes a uniform grid finer, but powers of two only
# near zero. Let weights be spread evenly between -1 and 1. Write
# `even_db(b)`, the SQNR in decibel that the asymmetric grid of $b$ bits has
# for them (a float), and put into `ceiling_db` the SQNR of powers of two that
# no number of bits exceeds. Use a formula, no simulation.
# ```
#
# ```{hint}
# :class: dropdown
#
# Errors of rounding are spread evenly over a step $s$, so that their mean
# square is $s^2 / 12$. Powers of two have a step of its own between $h$ and
# $2h$; sum up over $h = 1/2, 1/4, \dots$, each with its share of the weights.
# ```

# %% [markdown]
# ```{solution-start} ex-07-ceiling
# :class: dropdown
# ```
#
# The mean square of the weights is $1/3$. With the step $s = 2 / (2^b - 1)$
# the quotient is $4 / s^2 = (2^b - 1)^2$, six decibel a bit. Of the weights'
# sizes the share $h$ lies between $h$ and $2h$, with errors of $h^2 / 12$.
# The sum of $h^3 / 12$ over all $h$ is $1/84$, and the quotient is 28: what
# is lost between the outer levels no bit can mend. Weights of a network crowd
# near zero, so there the ceiling is another, but there is one.


# %% tags=["solution"]
def even_db(b):
    """SQNR of even weights on the asymmetric grid of ``b`` bits."""
    return float(20 * np.log10(2**b - 1))


ceiling_db = 10 * np.log10(28)
Markdown(
    f"Four bits: {even_db(4):.1f} dB; powers of two: at most "
    f"{ceiling_db:.1f} dB."
)

# %% tags=["check"]
ruler = torch.linspace(-1, 1, 100_001, dtype=torch.float64)[None]
decibel = {
    (name, b): rounding_statistics(
        ruler, fit_grid(ruler, alphabet(name, b)).round(ruler)
    )["sqnr_db"].item()
    for name in ("asymmetric", "power-of-two")
    for b in (3, 4, 6, 7)
}
check_answer(
    {
        "`even_db`: the library's grid, to a tenth of a decibel": lambda: all(
            abs(even_db(b) - decibel["asymmetric", b]) < 0.1 for b in (3, 4, 6)
        ),
        "`ceiling_db`: nothing is above it": lambda: all(
            decibel["power-of-two", b] < ceiling_db + 0.01
            for b in (3, 4, 6, 7)
        ),
        "`ceiling_db`: with many bits it is reached": lambda: (
            abs(decibel["power-of-two", 7] - ceiling_db) < 0.05
        ),
    }
)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise}
# :label: ex-07-sigma
#
# (60 minutes, a small project) A scale rule of your own. A rule takes rows of
# weights `[R, n]` and a `fit`, and returns the lowest and highest weight that
# the grid should cover, `[R]` each. Register `"sigma"`, a function
# `sigma(rows, fit, width=3.0)`: mean less and plus `width` standard
# deviations of the row, but never beyond its own weights. Then judge it
# against `"max"`: the first network, `few` bits, asymmetric, one scale a
# channel, validation images. Put the table of `bl.drops` into `compared`, two
# lines with `scale` `"max"` and `"sigma"`; the drop is from `"max"`.
# ```
#
# ```{hint}
# :class: dropdown
#
# Standard deviations divide by $n$: `unbiased=False`. The last cells of this
# chapter judge a network without the store of cells, which does not know your
# function's text. `bl.drops` needs the columns `network` and `part`, too, and
# takes any rows as the originals.
# ```

# %% [markdown]
# ```{solution-start} ex-07-sigma
# :class: dropdown
# ```
#
# The rule clips what is far from the mean. It needs no search, unlike `mse`,
# and it does not know the number of bits: one width has to serve three bits
# and eight. Whether clipping pays here is in the table, and the interval says
# how sure that is. Widths could be tried on these validation images; the test
# images would then be read once, with the width that was chosen.


# %% tags=["solution"]
from lq_utils.scales import register_scale_rule


@register_scale_rule("sigma", replace=True)
def sigma(rows, fit, width=3.0):
    """Some standard deviations around the mean of each row."""
    centre = rows.mean(dim=1)
    reach = width * rows.std(dim=1, unbiased=False)
    low = torch.maximum(centre - reach, rows.amin(dim=1))
    return low, torch.minimum(centre + reach, rows.amax(dim=1))


# %% tags=["solution"]
answers = []
for rule in ("max", "sigma"):
    plan = st.scheme_plan(network, few, "asymmetric", "channel", rule)
    rounded = st.rounded_network(network, plan)
    (answer,) = st.judged(rounded, parts[first]["validation"])
    keys = {"network": first, "part": "validation", "scale": rule}
    answers.append(keys | answer)
answers = pd.DataFrame(answers)
compared = bl.drops(answers, answers[answers["scale"] == "max"])
columns = ["scale", "accuracy", "drop", "drop_low", "drop_high"]
table(compared[columns], f"Drop from max on validation, {few} bits.", 2)

# %% [markdown]
# The check tries the rule on weights of known mean and deviation, and on a
# layer. The line *max* must be the one that the choice of a scheme has seen.

# %% tags=["check"]
coin = torch.tensor([[-1.0, 1.0] * 50, [1.0, 3.0] * 50])
letters = alphabet("asymmetric", 4)
seen = valid[(valid["network"] == first) & (valid["bits"] == few)]
seen = seen[
    (seen["correction"] == "none") & (seen["granularity"] == "channel")
]
seen = seen.set_index("quantizer")["correct"]["asymmetric"]

# %% tags=["check"]
check_answer(
    {
        "means 0 and 2, deviation 1: half a deviation around them": lambda: (
            np.allclose(sigma(coin, None, 0.5)[0], [-0.5, 1.5])
            and np.allclose(sigma(coin, None, 0.5)[1], [0.5, 2.5])
        ),
        "never beyond the weights: very wide, it is the rule max": lambda: (
            torch.equal(
                fit_grid(weight, letters, rule="sigma", width=1e3).scale,
                fit_grid(weight, letters).scale,
            )
        ),
        "the line of max: asymmetric, one scale a channel": lambda: (
            compared.set_index("scale")["correct"]["max"] == seen
        ),
        "a drop is max less sigma, in points": lambda: np.isclose(
            compared.set_index("scale")["drop"]["sigma"],
            -100 * np.diff(compared["correct"])[0] / compared["n"][0],
        ),
    }
)

# %% [markdown]
# ```{solution-end}
# ```
#
# ## Make it yours
#
# An alphabet is a function of the number of bits. Here is one between uniform
# and power of two: two powers added up. Register yours, and it can stand in
# every plan and every cell. (Cells of new functions run in this process.)


# %%
@register_quantizer("two powers", replace=True)
def two_powers(bits):
    """Sums of two powers of two, at most 2^bits - 1 levels."""
    powers = [0.0] + [2.0**-k for k in range(bits - 1)]
    sums = {a + b for a in powers for b in powers if a != b}
    levels = tuple(sorted(sums | {-s for s in sums} | {0.0}))
    return Alphabet("two powers", len(levels), levels[0], codebook=levels)


# %%
lines = []
for name in ("narrow", "two powers", "power-of-two"):
    plan = st.scheme_plan(network, 4, name, "channel", "max")
    (line,) = st.judged(
        st.rounded_network(network, plan), parts[first]["validation"]
    )
    share = 100 * line["correct"] / line["n"]
    lines.append({"quantizer": name, "accuracy (%)": share})
table(pd.DataFrame(lines), f"{first}, 4 bits, validation images.", 1)
