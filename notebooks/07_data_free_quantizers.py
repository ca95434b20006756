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
# The bit-efficient poster {cite:p}`nayak2019bit` compares three quantizers:
# asymmetric, symmetric, and powers of two. It reports that four bits cost
# little, that the limit lies in the data rather than in the architecture, that
# few bits make a network prefer some classes, and that its first layers matter
# most. Each of these can be tested here.
#
# **You will learn**
# - the four alphabets that "symmetric", "asymmetric" and "logarithmic" mean;
# - what each of them does to quartiles, ranges and means of weights;
# - why one scale a channel matters more than the choice of a quantizer;
# - how far biases can be corrected without a single image;
# - how to tell a limit of bits from the noise of a test set.
#
# **Inputs.** Three reference networks, which are part of the repository.
# Nothing here is calibrated, but where it says so. What is chosen is chosen
# on validation images; test images report.
#
# **Time on two cores.** smoke: one minute; quick: four minutes; full: several
# hours (estimates).

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
from lq_utils.figures import show, table, use_style
from lq_utils.folder_networks import with_folder
from lq_utils.graph import (
    fold_batch_norm,
    layer_table,
    trace,
    weight_matrix,
)
from lq_utils.parameters import check_parameters
from lq_utils.results import compare_with_reference, start_run
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
workers: int = 2  # 1..64; processes that compute cells at the same time

# %%
parameters = check_parameters(globals())

# %%
use_style()
cases = dn.find_cases([f"{model}@{dataset}", *others], weights_file)
cases = with_folder(cases, folder_model, folder_dir)
labels = list(cases)
first = labels[0]
run = start_run(
    "07_data_free_quantizers", parameters, cases[first].splits.provenance
)

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
# The range of the asymmetric one always includes zero, and
# $z = \operatorname{round}(-w_{\min}/s)$ makes zero a level. The poster calls
# the last one logarithmic. Its levels crowd around zero, and multiplying by
# them is a shift.

# %%
rows = [
    {"quantizer": name, "levels": str(alphabet(name, 3).levels().tolist())}
    for name in ("asymmetric", "narrow", "symmetric", "power-of-two")
]
table(pd.DataFrame(rows), "Levels of three bits before scaling.")

# %% [markdown]
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

# %%
step = np.abs(w).max() / 3
by_hand["narrow"] = step * np.clip(np.floor(w / step + 0.5), -3, 3)

# %%
size = np.abs(w) / np.abs(w).max()
nearest = 2.0 ** np.floor(np.log2(np.maximum(size, 1e-9) / 0.75))
nearest = np.clip(nearest, 0.25, 1) * (size >= 0.125)  # half of the smallest
by_hand["power-of-two"] = np.sign(w) * nearest * np.abs(w).max() + 0.0

# %%
row = torch.from_numpy(w)[None]
for name, rounded in by_hand.items():
    grid = fit_grid(row, alphabet(name, 3))
    assert np.allclose(grid.round(row)[0], rounded), name
shown = pd.DataFrame({"weight": w} | by_hand)
table(shown, "The weights, and where each quantizer puts them.", 2)

# %% [markdown]
# ## What rounding does to the weights
#
# The poster's first figure shows quartiles of tensors before and after. It
# says that uniform levels keep the mean, and powers of two the range of each
# channel. First four channels of a layer in the middle of the first network,
# with one scale for the whole layer: the narrowest, the widest, and two
# between.

# %%
network = cases[first].network
folded = fold_batch_norm(trace(network))
convolutions = [i.name for i in layer_table(folded) if i.kind == "conv"]
layer = convolutions[len(convolutions) // 2]
weight = weight_matrix(folded.get_submodule(layer))
order = (weight.amax(1) - weight.amin(1)).argsort()
picked = order[np.linspace(0, len(order) - 1, 4).astype(int)]

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
# Now all layers, and both kinds of scales. *range kept* and *SQNR* (squared
# weights over squared errors, in decibel) are medians over the channels. *mean
# shift* is measured in standard deviations of a channel. *zeros* is what the
# poster calls local sparsity, the share of weights that are exactly zero, and
# *lost* the share of channels of which nothing else is left.

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

# %%
metrics = ["zeros", "mean_shift", "range_kept", "sqnr_db", "lost"]
keys = ["granularity", "quantizer"]
dft.record_columns(run, weights_table, dict(zip(metrics, metrics)), keys)
table(weights_table, f"{first}, {few} bits, all channels.")

# %% [markdown]
# Does a uniform grid keep the mean better? Errors of rounding to nearest are
# spread evenly around zero where steps are small against the weights. Nothing
# of that holds for a channel that vanishes. A paired comparison over layers
# takes the mean shift of each tensor:

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
# ## The networks
#
# Networks are named by model and data set. `auto` takes CIFAR where it is,
# and made images where it is not.

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

# %%
originals = study(st.float_cells(labels, subsets=drawn))
rows = study(st.scheme_cells(labels, bits, quantizers, both, subsets=drawn))
lost = bl.drops(rows, originals)
whole = lost[lost["subset"] == st.ALL]

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

# %%
columns = ["network", "granularity", "quantizer", "accuracy", "drop"]
here = dft.with_text(whole[whole["bits"] == few])
table(here[columns], f"Accuracy (%) and drop (points), {few} bits.")

# %% [markdown]
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

# %%
choices = choices.reset_index()
metrics = {"channel less tensor": "granularity_gain"}
metrics["best less worst quantizer"] = "quantizer_gap"
dft.record_columns(run, choices, metrics, ["network", "bits"])
table(choices, "What each choice moves (points).", 1, name="choices")

# %% [markdown]
# ### The poster's rows
#
# Table 1 of the poster has a ResNet-18 on CIFAR-10 with the asymmetric
# quantizer. Its size says that it is rather a ResNet-20 ({doc}`errata
# <../errata>`), which is what ours is. Whether it had one scale a layer or one
# a channel is not said.

# %%
ours = dft.poster_table(whole, first)
table(ours, "The poster's table 1 (accuracy, drop in points), and ours.")

# %% [markdown]
# ### Scale rules
#
# The largest weight sets the scale above. A smaller one clips a few large
# weights and rounds all others finer: `mse` takes the scale with the least
# squared error of the weights. `whole` is for the symmetric alphabet with one
# level more, which the rule `max` never uses.

# %%
closer = partial(st.scheme_cells, labels, few_bits)
found = study(
    closer(quantizers, both, ["mse"])
    + closer(["symmetric"], ["channel"], ["max", "mse", "whole"])
)
by_rule = pd.concat([whole, bl.drops(found, originals)])
by_rule = by_rule[by_rule["bits"].isin(few_bits)]

# %%
wide = by_rule.pivot_table(
    index=["network", "bits", "granularity", "quantizer"],
    columns="scale",
    values="accuracy",
).reset_index()
table(wide, "Accuracy (%) by the rule of the scale.", 1, name="rules")
dft.record_drops(run, by_rule[by_rule["scale"] != "max"], scheme)

# %% [markdown]
# A smaller error of the weights does not have to mean a more accurate
# network: large weights count more than their number.
#
# ## Biases, corrected without data
#
# Errors of rounding change a layer's *mean* output by $\Delta W\,E[x]$, and
# this part of the damage can be taken out of the bias. It needs the mean
# input. Calibration images would give it, but then the method is no longer
# data-free. Batch normalisation knows it, too {cite:p}`nagel2019data`: its
# outputs have mean $\beta$ and deviation $\gamma$, and if they are Gaussian,
# the ReLU behind it returns on average
#
# $$
# E[x] = \gamma\,\varphi(\beta/\gamma) + \beta\,\Phi(\beta/\gamma) .
# $$

# %%
beta, gamma = 0.3, 1.2
gauss = np.random.default_rng(0).normal(beta, gamma, 400_000)
sampled = np.maximum(gauss, 0).mean()
given = Moments(torch.tensor([beta]).double(), torch.tensor([gamma**2]))
formula = clipped_normal(given).mean.item()
assert abs(sampled - formula) < 0.01
Markdown(f"Sampled {sampled:.3f}, by the formula {formula:.3f}.")

# %% [markdown]
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

# %%
gain = wide["batch norm"] - wide["none"]
images_gain = wide["images"] - wide["none"]
Markdown(
    f"Over {len(wide)} settings the data-free correction changes accuracy by "
    f"{gain.mean():+.1f} points on average ({gain.min():+.1f} to "
    f"{gain.max():+.1f}), the empirical one by {images_gain.mean():+.1f}."
)

# %% [markdown]
# ### As low as three bits?
#
# The poster's text says that data-free quantization achieves three bits
# "without affecting accuracy", while its table loses points at four. The best
# data-free scheme deserves the trial, with its biases corrected or not. It is
# chosen on validation images, and read once on test images.

# %%
candidates = []
for correction in ("none", "batch norm"):
    some = partial(closer, correction=correction, part="validation")
    candidates += some(quantizers, both)
valid = study(candidates)
valid["share"] = valid["correct"] / valid["n"]
top = valid.loc[valid.groupby(["network", "bits"])["share"].idxmax()]

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

# %%
columns = ["network", "bits", *bl.SCHEME, "accuracy", "drop"]
table(dft.with_text(best)[columns], "The scheme chosen, on test images.")
for line in best.to_dict("records"):
    ci = (line["drop_low"], line["drop_high"])
    keys = {"network": line["network"], "bits": line["bits"]}
    run.record("best_drop", line["drop"], ci=ci, n=line["n"], **keys)

# %% [markdown]
# ## Biased inference
#
# At very few bits, the poster says, networks become biased: they answer some
# classes more often than others. The test images hold each class equally
# often, so that an unbiased network's histogram is nearly flat.

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
# Could that be chance? Chi-square compares two histograms. Its usual law
# takes them for independent, but here the same images are answered by both
# networks {cite:p}`maxwell1970comparing`. So the answers to each image are
# swapped or not by the toss of a coin, many times: $p$ is how often that gives
# as large a chi-square. *effective* is how many classes would, answered
# evenly, have the same entropy.

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
# ## The bit limit
#
# The poster's graph has a limit of bits for networks on ImageNet. Ours is the
# smallest number of bits that costs at most one point, as do all larger ones.
# The test images decide how sure that is. Below *limit_low* a loss of more
# than a point is certain, from *limit_high* on it is excluded; 32 says that no
# number of bits here is enough.

# %%
channel = lost[(lost["quantizer"] == "asymmetric")]
channel = channel[channel["granularity"] == "channel"]
limits = bl.bit_limits(channel)
of_all = limits[limits["subset"] == st.ALL]
table(of_all, "Limits on all classes: asymmetric, one scale a channel.")

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
# On a subset the network answers with the best of the subset's logits, and
# fewer images judge it. *Is it the architecture or the data?* Networks on the
# same data were judged on the same subsets. Two-way sums of squares of the
# drops tell what belongs to the network, what to the subset, and what to
# neither. The poster expects the second.

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
# *rest* holds the noise of the test images, too. With two architectures this
# is a small sample of what architectures there are.
#
# ### Orthogonal classes
#
# Networks are "quantization friendly", the poster says, "if distributions of
# classes in training dataset are orthogonal in nature". Take the features
# before the last layer, centred, their mean for each class, and the mean
# magnitude of the cosine between two of them: zero is orthogonal.

# %%
means = {
    label: co.class_means(
        co.penultimate_features(cases[label].network, parts[label]["train"]),
        parts[label]["train"].labels,
        cases[label].splits.train.num_classes,
    )
    for label in labels
}
original = bl.drops(originals, originals).set_index(["network", "subset"])
at = co.with_cosines(small, means).set_index(["network", "subset"])
cosines = at.assign(original=original["accuracy"]).reset_index()

# %%
show(
    figures_of.cosine_figure(cosines),
    f"Drop with {few} bits on subsets of classes against the mean "
    "cosine between their features' means.",
    "A cloud of marks a network.",
    "cosines",
)

# %%
related = dft.cosine_relations(cosines)
table(
    related,
    "Spearman's correlation of cosine and drop; the second one with the "
    "accuracy before held fixed.",
    2,
    name="cosine-relations",
)
metrics = {"correlation": "cosine_correlation"}
metrics["given accuracy"] = "cosine_correlation_given_accuracy"
dft.record_columns(run, related, metrics, ["network", "bits"])

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

# %%
table(
    dft.steepest(by_layer),
    "The layers that cost most alone (drop in points); weights are shares of "
    "all weights.",
    name="steepest",
)

# %%
ways = [*sens.WAYS, *sens.HALVES]
of_stages = by_layer[~by_layer["way"].isin(ways)]
columns = ["network", "bits", "way", "layers", "weights", "drop"]
table(dft.with_text(of_stages)[columns], "One stage rounded alone.")

# %% [markdown]
# Single layers are noisy. The first half of the layers against the second
# half is one comparison on the same images, and its interval decides. The
# shares of weights matter: early layers are small, so that the same drop
# buys fewer bits there.

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

# %%
table(halves, "Accuracy: first half rounded less second half (points).", 2)
table(trend, "Spearman's correlation of a layer's position and drop.", 2)

# %% [markdown]
# ### Partial quantization
#
# The practice that follows: leave the first or the last layer in full
# precision, or quantize the backbone only, all convolutions.

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

# %%
aware = pot.on_grid(network, "power-of-two", few, "tensor")
some = next(m for m in aware.modules() if hasattr(m, "parametrizations"))
values = some.weight.detach().abs().unique()
exponents = torch.log2(values[values > 0])
assert torch.equal(exponents, exponents.round())
Markdown(f"Weights of a layer: 0 and $\\pm 2^e$, $e$ in {exponents.tolist()}.")

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

# %%
against = dft.grid_differences(trained)
table(against, "Power of two less uniform, image by image (points).", 2)
for line in against.to_dict("records"):
    keys = {k: line[k] for k in ("network", "bits", "stage")}
    ends = (line["low"], line["high"])
    run.record("power_of_two_gain", line["difference"], ci=ends, **keys)

# %% [markdown]
# ## Class clustering

# %% [markdown]
# ## Sizes

# %% [markdown]
# ## Verdicts on quantizers
#
# What the poster says, and what these rows say of it. Where an interval lies
# on both sides, this run cannot tell.

# %%
claims = dfc.mean_claim(shifts) + dfc.range_claim(kept_ranges)
claims += dfc.loss_claim(best) + dfc.bias_claim(bias)
claims += dfc.data_claim(shares) + dfc.orthogonality_claim(related)
claims += dfc.layers_claim(halves)
table(pd.DataFrame(claims), "The poster's claims.", name="verdicts")

# %%
run.save()
comparison = compare_with_reference(run.rows, "07_data_free_quantizers")
comparison = comparison.dropna(subset="reference")
if len(comparison):
    table(comparison, "This run beside the reference.", name="comparison")

# %% [markdown]
# ## Exercises
#
# ```{exercise}
# :label: ex-07-border
#
# (10 minutes) A weight between $2^e$ and $2^{e+1}$ is rounded by its
# logarithm instead of its value. Where does the border move, and how much
# larger does the mean squared error become for weights spread evenly?
# ```

# %% [markdown]
# ```{solution-start} ex-07-border
# :class: dropdown
# ```
#
# From $1.5$ to $\sqrt 2$, in units of $2^e$. The error is an integral on each
# side of the border.


# %%
def mean_error(border):
    """Mean of the squared error on [1, 2], rounded to 1 below."""
    return ((border - 1) ** 3 + (2 - border) ** 3) / 3


ratio = mean_error(np.sqrt(2)) / mean_error(1.5)
u = np.random.default_rng(0).uniform(1, 2, 100_000)
near = np.where(u < np.sqrt(2), 1, 2)
assert np.isclose(((u - near) ** 2).mean(), mean_error(np.sqrt(2)), rtol=0.02)
Markdown(f"The error grows by a factor of {ratio:.3f}.")

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise}
# :label: ex-07-lost
#
# (10 minutes) One scale for a layer can turn whole channels into zeros. For
# which quantizer does this happen last, and why? Count lost channels of the
# first network by bits.
# ```

# %% [markdown]
# ```{solution-start} ex-07-lost
# :class: dropdown
# ```
#
# Powers of two: their smallest level falls off exponentially with the number
# of levels, so that narrow channels still find some.

# %%
lines = []
for b in (2, 3, 4, 5):
    line = {"bits": b}
    for name in ("asymmetric", "narrow", "power-of-two"):
        plan = st.scheme_plan(network, b, name, "tensor", "max")
        done = round_weights(network, plan)
        found = network_statistics(network, done, "channel")
        line[name] = summarised(found)["lost"]
    lines.append(line)
lost_channels = pd.DataFrame(lines)
table(lost_channels, "Share of channels of which only zeros are left.")
assert (lost_channels["power-of-two"] <= lost_channels["narrow"]).all()

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
