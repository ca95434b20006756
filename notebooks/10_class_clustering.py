# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# (ch-class-clustering)=
# # Class clustering, coded files, detectors
#
# **Question.** What is left when rounding alone goes no further? May a
# network in few bits mix up cats and dogs, if pets are all one asks for? How
# small does a file of codes get? And are boxes harder to round than names?
#
# {ref}`Chapter 7 <ch-data-free-quantizers>` rounds networks as the
# bit-efficient poster {cite:p}`nayak2019bit` does, and finds out how far that
# goes. This chapter takes the rest of the poster: its grouping of classes,
# which is to push the limit of bits further down; its table of files
# compressed by gzip and 7-Zip; and its detectors, with the challenge that it
# sees in regression.
#
# The three parts have one thing in common. Each has a number that goes in the
# right direction almost by itself: accuracy on groups rises, files shrink, and
# a detector still draws boxes. What is worth knowing each time is *compared
# with what*: with random groups, with the entropy of the codes, with the other
# head of the same detector.
#
# **You will learn**
# - how to find groups of classes that a network confuses;
# - why accuracy on groups always rises, and what to compare it with instead;
# - what the entropy of codes says about the best file, and which coders come
#   near it;
# - how detections are scored, and how to round a detector part by part.
#
# **Inputs.** Reference networks, which are part of the repository, at the
# weight counts of larger ones where only sizes matter; scenes for detectors
# are drawn here. Validation images choose clusters, test images report.
#
# **Time on two cores.** smoke: one minute; quick: four minutes; full: one
# hour (estimates).

# %%
import gzip
import lzma

import numpy as np
import pandas as pd
import torch
from IPython.display import Markdown

# %%
from lq_utils import average_precision as ap
from lq_utils import class_clustering as cc
from lq_utils import clustering_figures as cf
from lq_utils import clustering_inputs as ci
from lq_utils import clustering_study as cst
from lq_utils import clustering_tables as ct
from lq_utils import coco_detection as coco
from lq_utils import code_sizes as cs
from lq_utils import data_free_networks as dn
from lq_utils import detection_figures as df
from lq_utils import detection_study as det
from lq_utils import detection_tables as dtab
from lq_utils import size_figures as sf
from lq_utils import size_networks as sn
from lq_utils import size_study as ss
from lq_utils import size_tables as sizes_of

# %%
from lq_utils.alphabets import alphabet
from lq_utils.detection_scenes import DetectionSet, generate_scenes
from lq_utils.detector_rounding import (
    BOX_HEAD,
    fold_sequences,
    part_layers,
    round_layers,
)
from lq_utils.detector_training import trained_detector
from lq_utils.distances import confusion_distance, confusion_probabilities
from lq_utils.exercises import check_answer
from lq_utils.figures import show, table, use_style

# %%
from lq_utils.fingerprints import digest
from lq_utils.images import Splits
from lq_utils.interactive import show_interactive
from lq_utils.interactive_classes import cluster_steps
from lq_utils.packing import pack
from lq_utils.parameters import check_parameters
from lq_utils.results import start_run
from lq_utils.scales import fit_grid
from lq_utils.sweeps import sweep
from lq_utils.tiny_detector import Detections

# %% tags=["parameters"]
profile: str = "quick"  # smoke|quick|full|custom; names this set of values
dataset: str = "auto10"  # auto10|auto|cifar*|synthetic*; the first network's
model: str = "resnet20"  # any; the first network
others: list[str] = ["resnet20@auto"]  # any; networks beside, model@dataset
seed: int = 0  # 0..1000000; draws of images, partitions, scenes, training
train_images: int = 1000  # 100..50000; in all, to train on clusters
images: int = 1000  # 100..10000; of validation (clusters), of test (report)
bits: list[int] = [8, 5, 4, 3]  # each 2..8; bits a weight; time alike
cluster_sizes: list[int] = [2, 5]  # each 2..50; classes a cluster, on average
draws: int = 50  # 1..1000; random partitions of the same sizes
retrain_bits: list[int] = [4, 3]  # each 2..8; after training on clusters
retrain_layers: list[str] = ["last"]  # each last|all; what is trained
retrain_steps: int = 20  # 1..100000; of that training; its time alike
retrain_rate: float = 0.001  # 0.00001..0.1; its learning rate
size_networks: list[str] = ["resnet20 cifar10", "vgg16"]  # any; coded
size_bits: list[int] = [6, 4, 3]  # each 2..8; 6 as the poster; time alike
size_weights: list[int] = [300000]  # each 0..1000000000; by bits, 0: all
scenes: int = 800  # 32..100000; scenes to train the detector on; time alike
test_scenes: int = 100  # 10..10000; scenes it is judged on
detector_bits: list[int] = [8, 4, 3]  # each 2..8; bits of its parts
detector_epochs: int = 8  # 1..100; of its training; time alike
bootstrap_draws: int = 20  # 20..2000; of test scenes, for intervals
coco_dir: str = ""  # any; photographs of COCO, for SSDLite
coco_images: int = 100  # 10..5000; photographs of COCO
workers: str = "2"  # 1..64|tcp://*; processes, or a Dask scheduler

# %%
parameters = check_parameters(globals())

# %% [markdown]
# The networks of the first part are chosen as in {ref}`chapter 7
# <ch-data-free-quantizers>`, the first one is looked into.

# %%
use_style()
cases = dn.find_cases([f"{model}@{dataset}", *others])
labels = list(cases)
first = labels[0]
run = start_run(
    "10_class_clustering", parameters, cases[first].splits.provenance
)

# %% [markdown]
# ## Class clustering
#
# Few bits make a network mistake a cat for a dog sooner than for a truck. The
# poster proposes to give in: cats and dogs become pets, and only pets must be
# told from the rest. It says that such groups push the limit of bits further
# down. How it finds them it does not say, so here is one way: group the
# classes that the quantized network confuses.
#
# Let $P_{ij}$ be the share of images of class $i$ that get the answer $j$. Two
# classes are
#
# $$
# 1 - A_{ij} \quad\text{apart, with}\quad A = \tfrac12 (P + P^\top) .
# $$ (eq-10-confusion)
#
# *Average linkage* merges the two groups with the least mean distance between
# their members, again and again, until as many groups are left as were asked
# for.
#
# ```{index} class clustering, confusion matrix
# ```
#
# ### By hand
#
# Four classes, four images of each. The network confuses cats with dogs, and
# once a car with a truck.
#
# The last lines turn answers into shares of each class, and shares into
# distances. Averaging $P$ with its transpose makes no difference between a cat
# taken for a dog and a dog taken for a cat.

# %%
names = ["cat", "dog", "car", "truck"]
truth = np.repeat([0, 1, 2, 3], 4)
answers = np.array([0, 0, 1, 1, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3])
P = np.zeros((4, 4))
np.add.at(P, (truth, answers), 1 / 4)
apart = 1 - (P + P.T) / 2

# %% [markdown]
# In the table, look for the smallest number beside the diagonal. These two
# classes are merged first.

# %%
np.fill_diagonal(apart, 0)
shown = pd.DataFrame(apart, names, names).rename_axis("class")
table(shown, "How far the classes are apart.", 3)

# %% [markdown]
# Cats and dogs are closest and merge first. Then a choice: cars and trucks,
# or one of them to the pets? The distance to a group is the mean distance to
# its members, so cars and trucks it is.

# %%
to_pets = apart[2:, :2].mean(axis=1)
assert apart[0, 1] < apart[2, 3] < to_pets.min()
clusters = cc.by_confusion(np.eye(4)[answers], truth, 2)
assert clusters.tolist() == [0, 0, 1, 1]

# %% [markdown]
# Now score them. The coarse answer is right wherever the fine one was, and
# sometimes where it was not. So accuracy *always* rises, for any clusters
# whatever, down to a single cluster of everything, which is always right and
# of no use. A rise alone says nothing.
#
# The check below needs no data: where the class is right, its cluster is
# right. So it must hold image by image.

# %%
fine = answers == truth
coarse = clusters[answers] == clusters[truth]
assert (coarse >= fine).all()

# %% [markdown]
# Three remedies, and all of them will be used below:
#
# - *accuracy above chance*, $(a - c)/(1 - c)$, where $c$ is the accuracy of
#   always naming the largest cluster;
# - *bits told*, the mutual information between answer and truth, which
#   cannot grow when classes are merged;
# - a *control*: clusters drawn at random, of exactly the same sizes.
#
# Each remedy takes away something else. The first one takes away what the
# largest cluster gives to anybody. The second one counts what an answer is
# worth: naming one of few clusters says less than naming one of many classes.
# The third one takes away whatever *any* merging would bring, and leaves what
# this choice of clusters adds.
#
# The table of the small case has a line for classes and one for clusters.
# Accuracy and accuracy above chance should be read against *bits told*.

# %%
told = cc.mutual_information
chance = cc.chance_level(clusters, truth)
shown = pd.DataFrame({"answer": ["class", "cluster"]})
shown["accuracy"] = fine.mean(), coarse.mean()
shown["above chance"] = [
    cc.above_chance(fine.mean(), 1 / 4),
    cc.above_chance(coarse.mean(), chance),
]

# %%
in_clusters = told(clusters[truth], clusters[answers])
shown["bits told"] = told(truth, answers), in_clusters
assert in_clusters <= told(truth, answers)
table(shown, "Perfect clusters can tell less than imperfect classes.", 2)

# %% [markdown]
# The user decides which of these counts. If only pets matter, telling cats
# from dogs was never needed, and accuracy on clusters is the right number. But
# then the clusters come from the use, and not from a network's mistakes.
# Clusters that are chosen *because* the network confuses their members turn
# the question around: they ask what the network can still do, not what one
# wants from it.
#
# ### Real networks
#
# Clusters are found on validation images and judged on test images; a test
# image never decides which classes belong together. The quantizer is the
# poster's, asymmetric, with one scale a layer. A cell rounds a network to
# some width and scores all clusters of it.
#
# Why two sets of images? Clusters that were found on some images have been
# fitted to the mistakes on these images, chance ones included. On the same
# images they would look better than they are.

# %%
found_on = dn.parts_of(cases, train_images, images, images, seed)
inputs = {
    name: ci.study_inputs(cases[name].network, Splits(**found_on[name]))
    for name in labels
}

# %% [markdown]
# Besides the confusions of the quantized network there are three other
# sources of clusters: the confusions of the original network, which is never
# in few bits; the directions of its class weights ({ref}`chapter 1
# <ch-class-distances>`); and the superclasses of the data set, where their
# number is the one asked for. `cluster_sizes` says how many classes make a
# cluster on average.
#
# What each comparison is for: the confusions of the *original* network ask
# whether few bits make new mistakes, or more of the old ones. The class
# weights ask whether one could know the clusters without any image. The
# superclasses are what a person would have chosen. All of them are scored on
# the same answers of the same quantized network.

# %%
tested = {}
for name, (shared, key) in inputs.items():
    amount = bits, cluster_sizes, draws, seed
    cells = ci.coarse_cells(shared["splits"], *amount)
    given = {"shared": shared, "key": key, "code": cst.CODE}
    given["n_jobs"] = workers
    found = sweep("10_clusters", cst.coarse_rows, cells, **given)
    tested[name] = ct.drop_table(found)

# %%
means = ct.by_network(tested, ct.by_partition)
setting = ["network", "bits", "partition", "clusters", "rule"]
ct.record_lines(run, "cluster_drop", means, setting)

# %% [markdown]
# A drop compares the quantized network with the original one *on the same
# clusters*, image by image. The coarse answer is that of the likeliest
# class. (Summing the probabilities of a cluster's classes is the other rule,
# `sum`; its rows are in the results.)
#
# In the figure the bits of the grid run along the horizontal axis, a panel
# belongs to a number of clusters, and lower is better: fewer points lost. Look
# at the marks by confusion, then at the grey band, then at the dotted line, in
# this order.

# %%
last_one = labels[-1]
show(
    cf.drops_figure(means[means["network"] == last_one]),
    f"What {last_one} loses by rounding, on clusters found by several methods "
    "(marks, with intervals over images) and on classes (dotted). Grey: "
    "random clusters of the same sizes as those by confusion.",
    "Two rows of panels, drops in points and drops above chance; one column "
    "a number of clusters, one line a method.",
    "clusters",
)

# %% [markdown]
# A line below the dotted one loses less than classes do, and that is what
# the poster claims. Whether the *choice* of clusters does it is another
# question. Where the grey band lies below the dotted line too, clusters of
# any kind forgive some mistakes, and only what is below the band is due to
# the choice. The lower row takes away what the largest cluster gives for
# nothing.
#
# The two rows may tell different stories. A method whose line is low in the
# upper row and not in the lower one has made large clusters, and has bought
# its small drop with them. The intervals are over images, for given clusters;
# that other validation images would have given other clusters is not in them.
# The table shows what the method by confusion has built, at each number of
# bits.

# %%
chosen = means[means["partition"] == cst.CONFUSION]
chosen = chosen[chosen["rule"] == "argmax"]
columns = ["network", "bits", "clusters", "chance", "accuracy", "corrected"]
table(
    chosen[columns],
    "Clusters by confusion: chance (0 to 1), accuracy and accuracy above "
    "chance (%).",
    {"chance": 2, "accuracy": 1, "corrected": 1},
    name="confusion-clusters",
)

# %% [markdown]
# Read accuracy and accuracy above chance side by side, and *chance* before
# both. Average linkage is greedy. A class whose name a broken network gives to
# everything can attract one class after another, and a single large cluster
# grows while the rest stay alone. Where that happens, accuracy is high because
# chance is. Which classes are they? Here is the first network in the fewest
# bits.

# %%
few = min(bits)
splits_of = inputs[first][0]["splits"]
rough = cst.rounded(cases[first].network, few, **ci.GRID)
named = cst.answers(rough, splits_of)
logits = named["validation"]
classes = splits_of.validation.num_classes

# %% [markdown]
# Confusions are counted on validation images, as for the clusters that were
# tested. Tones show shares of a row, without the diagonal, so that right
# answers do not outshine the mistakes.

# %%
answered = np.eye(classes)[logits.argmax(axis=1)]
P = confusion_probabilities(answered, splits_of.validation.labels, classes)
count = ci.cluster_counts(splits_of, cluster_sizes)[0]
by_bits = cc.cut(confusion_distance(P), count)

# %%
show(
    cf.confusion_figure(P, by_bits, splits_of.test.class_names),
    f"Confusions of {first} in {few} bits on validation images, classes "
    "sorted by cluster (boxes). A bright column is an answer that is given "
    "too often.",
    "A matrix of true classes by answers, with boxes around clusters.",
    "confusions",
)

# %% [markdown]
# The clusters of the figure are one cut through a tree of merges. The slider
# moves that cut, from every class by itself to a single cluster. Watch which
# cluster takes in the next class, and the distance between the two curves: a
# step at which both rise alike has bought its accuracy with chance. The tree
# is built on validation images, the accuracy is on test images.

# %%
tested_on = splits_of.test
guessed = named["test"].argmax(axis=1)
show_interactive(
    cluster_steps(
        confusion_distance(P), tested_on.class_names, guessed, tested_on.labels
    ),
    f"Merging the classes that {first} confuses in {few} bits.",
    "Tree of classes with a cut; accuracy and chance by clusters.",
    "cluster-cut",
    digits=1,
)

# %% [markdown]
# There are two patterns to tell apart. Bright squares along the diagonal,
# inside of the boxes, are mutual confusions of classes that look alike: here
# clusters mean something. A bright column is a bias, one answer for
# everything, as in the histograms of {ref}`chapter 7
# <ch-data-free-quantizers>`. Clusters cannot repair a bias; they can only hide
# it in a large group. A correction of biases, or a scale for each channel, may
# get at its cause.
#
# ### Against chance
#
# The test of the proposal: do clusters found in confusions lose less than
# random ones? $p$ is the share of random partitions that lose as little; with
# few draws it cannot be small. The last two columns say how much of the
# original network's information about the clusters is left, in per cent.
#
# Compare *drop* with *random_drop*, and *information* with
# *random_information*. The two pairs ask the same question in two currencies.

# %%
against = ct.by_network(tested, ct.against_random)
against = against[against["rule"] == "argmax"].drop(columns=["rule", "draws"])
table(against, "Clusters by confusion and at random.", 2)

# %% [markdown]
# Random clusters have the sizes of those by confusion, so size alone explains
# no difference here.
#
# Even so, a small $p$ would be no surprise: clusters made of a network's
# mistakes forgive those mistakes. The question that counts for use is the
# other one, whether answers still tell as much as before.
#
# ### The limit of bits
#
# The limit is the fewest bits that cost at most one point, counted from wide
# to narrow. A dash means that even the widest grid costs more. *sure* is
# true where the intervals agree, at the limit and one width below. For random
# clusters limits are medians over the draws.
#
# The first table has a line for each partition; classes, each a cluster of its
# own, are the line to compare with. The column above chance uses the same rule
# on accuracy above chance.

# %%
limits = ct.by_network(tested, ct.limit_table)
limits = limits[limits["rule"] == "argmax"].drop(columns="rule")
table(limits, "Limits of bits by partition.", 1, name="limits")

# %% [markdown]
# Limits come in whole bits, and only those that were tried. A limit that is
# one bit lower may rest on a few images at one width; *sure* says whether the
# intervals leave room for that. The second table puts the three readings of
# the claim beside each other.

# %%
judged = ct.by_network(tested, ct.verdicts)
table(judged, "Do clusters push the limit down?", 1, name="cluster-limits")

# %% [markdown]
# *As claimed* compares with classes, as the poster does. *Above chance* does
# so for accuracy above chance. *Against random* asks whether random clusters
# have a higher limit than those by confusion.
#
# If the first holds and the last does not, merging helps and the choice does
# not matter. If the second fails, the limit fell because the task became
# easier for anybody. A lower limit is worth something in use if the clusters
# were wanted anyway, and if the answers still tell enough; otherwise a network
# with fewer classes from the start would be the better opponent ({ref}`chapter
# 9 <ch-label-aware-precision>` cuts the classifier to the classes of a task).
#
# ### Trained on clusters
#
# The proposal may mean more: train the network to name clusters, then
# quantize it. A fair comparison gives as many steps to a network that goes on
# with classes, and trains a third one on random clusters. Either all layers
# are trained, or the last one alone (`retrain_layers`). Every network is
# compared with itself in full precision.
#
# Why might it help? A network that no longer has to tell cats from dogs may
# move both away from all others, and so gain distance from the borders that
# matter. Rounding then needs larger errors to push an image across. Whether
# `retrain_steps` are enough for that is part of the question; the same number
# of steps for all keeps the comparison fair.
#
# The clusters are those that the network confuses in the widest of
# `retrain_bits`. In the fewest it may name one class for nearly everything,
# and such clusters say little about which classes are alike.

# %%
shared, key = inputs[first]
budget = retrain_bits, retrain_steps, retrain_rate, retrain_layers, seed
cells = ci.retrained_cells(count, max(retrain_bits), *budget)
given = {"shared": shared, "key": key, "code": cst.CODE, "n_jobs": workers}
found = sweep("10_retrained", cst.retrained_rows, cells, **given)
trained = ct.drop_table(found)

# %% [markdown]
# The claim is about the *drop* of the network that was trained on clusters,
# against the drop of its sister that went on with classes, both scored on the
# same clusters. *original* is each network's own accuracy in full precision;
# training may raise it, and that is no robustness against rounding.

# %%
columns = ["partition", "target", "layers", "bits_tested"]
ct.record_lines(run, "retrained_drop", trained, columns)
columns += ["original", "accuracy", "drop", "low", "high"]
table(
    trained[columns],
    f"{first}, {count} clusters, {retrain_steps} steps: accuracy on clusters "
    "(%) before and after rounding, and the drop with its interval (points).",
    1,
    name="retrained",
)

# %% [markdown]
# Overlapping intervals settle nothing either way: the two networks answer the
# same images, and these intervals do not use that. What can be read off is the
# size of an effect, and whether random clusters show the same one.
#
# What to keep of this part: a task with fewer answers is easier, before and
# after rounding. A claim that few bits *suffice* for it needs a control with
# equally few answers.
#
# ## Sizes of files
#
# The poster's third table compresses networks in six bits by gzip and 7-Zip.
# How well could the best coder do? Where every code is drawn with
# frequencies $p_q$, whatever its neighbours are, no coder needs fewer than
#
# $$
# H(q) = - \sum_q p_q \log_2 p_q
# $$ (eq-10-entropy)
#
# bits a code on average {cite:p}`shannon1948mathematical`. Weights near zero
# are frequent and outer levels rare, so $H$ is below $b$. Whatever a coder
# saves beyond $H$ it saves by order, by finding repetitions, and weights of
# a trained network have hardly any.
#
# ### By hand
#
# Eight codes of two bits, half of them zero. By {eq}`eq-10-entropy` the four
# levels ask for one, two, three and three bits.
#
# A level that makes up a share $p$ of all codes deserves $-\log_2 p$ bits: the
# rarer, the longer. Huffman's code {cite:p}`huffman1952method` gives these
# lengths exactly where the shares are powers of a half, as here.
#
# ```{index} entropy, Huffman code
# ```

# %%
codes = np.array([0, 0, 0, 0, 1, 1, 2, 3], dtype=np.uint8)
share = np.bincount(codes) / len(codes)
H = -(share * np.log2(share)).sum()
assert H == cs.entropy(codes) == (4 * 1 + 2 * 2 + 1 * 3 + 1 * 3) / 8
Markdown(f"{H:.2f} bits a code instead of two.")

# %% [markdown]
# A coder reads bytes. Codes of six bits, packed one after the other, lie
# across bytes: equal codes no longer look equal, and gzip sees less of the
# frequencies. Gaussian weights in six bits, stored in both ways:
#
# What to look for: which of the two ways of storing comes nearer to the
# entropy, and by how much. The codes are the same.

# %%
drawn_weights = np.random.default_rng(seed).normal(size=20_000)
gaussian = np.clip(np.round(7 * drawn_weights), -31, 31).astype(int) + 31
plain = gaussian.astype(np.uint8).tobytes()
packed = pack(torch.from_numpy(gaussian), 6).numpy().tobytes()

# %%
each = 8 / len(gaussian)
in_bits = {
    "entropy": cs.entropy(gaussian),
    "gzip, one code a byte": each * len(gzip.compress(plain, 9)),
    "gzip, packed codes": each * len(gzip.compress(packed, 9)),
}
assert list(in_bits.values()) == sorted(in_bits.values())

# %%
shown = pd.Series(in_bits, name="bits a code").rename_axis("stored")
table(shown.to_frame(), "The same codes, packed after or before gzip.", 2)

# %% [markdown]
# So the order of two steps matters, and a table that does not name it is hard
# to compare with. Coding after packing throws away what the coder lives on. In
# everything below codes are stored one a byte before a coder sees them;
# *packed* is the size without any coder.
#
# ### Real sizes
#
# Networks of ImageNet have as many weights here as there. Where trained
# weights are on this machine they are taken (those of EfficientNet-Lite0 came
# with a package), else weights are drawn from a Gaussian, and the column
# *weights* says which. ResNetV2-50 and InceptionV4 are not in torchvision;
# ResNet-50 and Inception v3 stand in for them. There is one scale a layer, by
# its largest weight. Of a large network only the first rows of every layer are
# then coded (`size_weights` has one number, or one for each of `size_bits`).
# Scales, biases and names of layers are not counted: they are the same for all
# coders.
#
# Why would entropy be below $b$ at all? The scale is set by the largest weight
# of a layer, which in a large layer is far out. Most weights crowd into the
# few levels in the middle. The farther out the largest weight, the emptier the
# outer levels, and the lower the entropy: what a coder saves is, to a good
# part, what the scale by the largest weight has wasted. This idea, after
# pruning and with shared weights, is a step of Deep Compression
# {cite:p}`han2015deep`.

# %%
cells = ss.size_cells(size_networks, size_bits, size_weights, seed)
key = {"files": sn.file_digests(cells)}
given = {"key": key, "code": ss.CODE, "n_jobs": workers}
size_rows = sweep("10_sizes", ss.size_rows, cells, **given)
sizes_of.record_sizes(run, size_rows)

# %% [markdown]
# In the table, hold each coder against two bounds: *packed*, which anybody can
# reach, and the entropy. The column *over* says how far the best one still is
# above it.

# %%
in_files = sizes_of.bits_table(size_rows)
table(
    in_files,
    "Bits a weight in the file. *best* is the coder of the smallest file, "
    "*over* how far that is above the entropy (%); *millions* of weights are "
    "in the network, and the share *coded* of them was measured.",
    2,
    name="sizes",
)

# %% [markdown]
# A negative *over* would mean that some coder found an order in the weights,
# which the entropy of single codes knows nothing of. The figure shows the same
# for the last network. Where lines of coders lie between dotted and dashed,
# and whether they keep their order from left to right, is the thing to see.

# %%
largest = size_networks[-1]
show(
    sf.coders_figure(
        in_files[in_files["network"] == largest],
        ["gzip", "bz2", "xz", "7-Zip"],
    ),
    f"{largest} ({sn.available_weights(largest)} weights): bits a weight in "
    "the file, by bits of the grid. Dotted: packed; dashed: entropy.",
    "Two panels, uniform and power-of-two grids; one line a coder.",
    "coders",
)

# %% [markdown]
# A line far below the dashed one would say that weights have an order that a
# coder can use; a trained network gives little reason to expect it. Coders
# differ by what they do after looking for repetitions. gzip and bz2 give each
# level a whole number of bits, which wastes most where one level is very
# frequent. xz and 7-Zip end in an arithmetic coder, which can spend fractions
# of a bit and follows frequencies closely. Four bits are a special case: a
# byte holds two whole codes, gzip sees pairs of them, and packing first can
# even help.
#
# The curves of powers of two should flatten: another bit adds levels close to
# zero only, where few weights are left. A low entropy says that levels are
# used unevenly. It does not say that they are good levels, and accuracy has
# the last word. What is worth having is the gap between packing and entropy:
#
# Look down the bits of one network: does the share that coding saves grow or
# fall as bits get fewer?

# %%
saved = sizes_of.gain_by_bits(size_rows)
saved = saved.drop(columns="weights")
table(saved, "What 7-Zip saves over packing (%), and what could be.", 1)

# %% [markdown]
# *possible* is what the entropy would allow; the distance from *saving* is
# what the coder leaves. There is a catch for use on a device. A coded file has
# to be decoded before the network runs, and then takes the room of packed
# codes, or more, in memory. Coding saves storage and transfer; bits of the
# grid save memory as well.
#
# ### The poster's third table
#
# Its megabytes do not compare with ours: its networks have another number of
# weights than those of the same names. Bits a weight do. They are the size
# of a file by that of the network in float32, times 32.
#
# In the figure a line is a network with a grid. Hollow marks are the poster's
# coders, full ones ours. Compare the *distance* between gzip and 7-Zip in
# both, more than the marks themselves.

# %%
beside = sizes_of.beside_poster(size_rows)
if len(beside):
    table(beside, "Bits a weight in six bits: the poster and here.", 2)
    show(
        sf.poster_figure(beside),
        "Bits a weight: the poster's files (hollow), ours (full), and the "
        "entropy of our codes (line).",
        "Dot plot, one line a network and grid, marks for coders.",
        "poster-sizes",
    )

# %% [markdown]
# A file that needs as many bits a weight as its grid has was not compressed by
# its coder. The next lines look for such files ({ref}`the errata
# <erratum-poster-vgg-size>` look at the printed size of VGG-16).

# %%
printed = sizes_of.poster_bits()
by_gzip = printed[printed["coder"] == "gzip"]
nothing = by_gzip[by_gzip["poster"] > 0.98 * by_gzip["bits"]]
files = nothing["printed"] + " (" + nothing["quantizer"] + ")"
poster_width = min(size_bits, key=lambda b: abs(b - by_gzip["bits"].max()))
wide = in_files[in_files["bits"] == poster_width]
least = 100 * (1 - wide["gzip"] / wide["packed"]).min()
Markdown(
    f"Gzip's files of {', '.join(files)} take as much as packing alone: the "
    f"poster's gzip found nothing there. Here, at {poster_width} bits, it "
    f"saves {least:.0f} per cent or more in every file."
)

# %% [markdown]
# Poster and entropy of our codes should not be held against each other digit
# by digit, least of all where our weights are Gaussian. Trained layers often
# have longer tails than a Gaussian: their largest weight is farther out, most
# codes crowd in the middle, and the entropy is lower. But a file that gzip
# cannot make smaller than packing does, and that 7-Zip can, was probably
# stored differently for the two coders. The saving from gzip to 7-Zip, which
# the poster prints in its last column, then says more about the storage than
# about the quantizer.
#
# ## Detection: classes and boxes
#
# A detector has two tasks at once. Its *class head* says what an object is,
# its *box head* where it lies, to a fraction of a pixel. The poster calls
# regression to coordinates a challenge in few bits, but shows no experiment
# that takes the two apart. Here is one.
#
# The scenes are made: shapes of any colour, size and place on a noisy ground.
# The shape alone decides the class. The detector is a small one that names a
# class and a box in every cell of the image {cite:p}`redmon2016you`, without
# anchors {cite:p}`tian2019fcos`. It has a backbone and two heads, and both
# heads have exactly the same number of weights.
#
# Made scenes have two merits here: their true boxes are exact, and there are
# as many as one wants. Their weakness is that they are far from real
# photographs, so that numbers of average precision say nothing about those.
# What may carry over is the comparison of parts.

# %%
practice = generate_scenes(scenes, seed)
exam = generate_scenes(test_scenes, seed + 1)
detector = trained_detector(practice, epochs=detector_epochs, seed=seed)
found = detector.detect(exam.images)

# %% [markdown]
# ### Average precision, by hand
#
# Sort all boxes by score. A box is right if it overlaps a true one by more
# than some threshold. The *precision* so far is the share of right ones, the
# *recall* the share of objects found. COCO {cite:p}`lin2014coco` averages the
# best precision to come over 101 recalls, then over ten thresholds from half
# to almost complete overlap, then over classes: AP. AP50 asks for half an
# overlap only. With $p(r)$ the precision at recall $r$, each average is
#
# $$
# \mathrm{AP} = \frac{1}{101} \sum_{k=0}^{100}
# \max_{r \ge k/100} p(r) .
# $$ (eq-10-average-precision)
#
# Two objects and three boxes, of which the second is wrong. Up to a recall of
# a half the precision is one, beyond it is two thirds.
#
# Why so roundabout a score? A detector may draw as many boxes as it likes, so
# counting right ones is not enough, and a threshold on the score would be one
# more thing to choose. Averaging over recalls looks at all thresholds at once.
#
# ```{index} average precision
# ```

# %%
thing, one = np.array([[10.0, 10, 20, 20]]), np.zeros(1, dtype=np.int64)
canvas = np.zeros((64, 64, 3), np.uint8)
two = DetectionSet(
    [canvas] * 2, [thing] * 2, [one] * 2, [one > 0] * 2, ("thing",)
)
boxes = np.vstack([thing, thing + 30])
first_image = Detections(boxes, np.array([0.9, 0.8]), np.repeat(one, 2))
second_image = Detections(thing, np.array([0.5]), one)

# %% [markdown]
# The recalls up to a half are one more than those beyond it, since zero is one
# of them. Nothing more is in {eq}`eq-10-average-precision`.

# %%
scored = ap.match(two, [first_image, second_image]).precision()
assert np.isclose(scored["AP"], (51 * 1 + 50 * 2 / 3) / 101)

# %% [markdown]
# ### Parts of the detector
#
# Every cell rounds one part, with one scale a channel, and scores the
# detections on scenes that were not trained on. Intervals come from drawing
# these scenes anew many times, in the same way for the rounded and for the
# original detector.
#
# A whole scene is drawn or not, because objects of a scene are judged
# together. Drawing the same scenes for both detectors is what makes the drop
# paired.

# %%
cells = det.detection_cells(detector_bits, bootstrap_draws, seed)
given = {"code": det.CODE, "n_jobs": workers}
given["shared"] = {"detector": detector, "scenes": exam}
given["key"] = {"detector": digest(detector), "scenes": digest(exam.images)}
parts_rows = sweep("10_detection", det.detection_row, cells, **given)

# %% [markdown]
# In the figure each line is a part that is rounded while the rest stays in
# full precision. Compare the lines of the two heads within a panel, and then
# the same two lines between panels.

# %%
show(
    df.parts_figure(parts_rows, ["AP", "AP50"]),
    "Average precision by bits and part, with bootstrap intervals of the "
    "drop. Left: over all thresholds of overlap; right: at half an overlap.",
    "Two panels, AP and AP50; one line a part that is rounded.",
    "detection-parts",
)

# %% [markdown]
# Where a drop has an interval that reaches zero, these scenes do not show a
# loss. The detector was trained once, so the intervals are over scenes alone;
# another training might order the parts differently. In the table the last
# column has the price: what rounding that part saves of the file. A part that
# costs little and saves little is no bargain.

# %%
precision = dtab.precision_table(parts_rows)
ct.record_lines(run, "detection_drop", precision, ["set_up", "bits"])
shown = precision.drop(columns="n")
table(shown, "AP, what is lost (points), and file size saved (%).", 1)

# %% [markdown]
# What does a broken box head look like? One scale for the whole layer should
# make it plain. The class head is untouched, so objects can still be found and
# rightly named, but boxes need not fit any more.

# %%
broken = fold_sequences(detector)
head = part_layers(broken, detector.parts, BOX_HEAD)
round_layers(broken, head, min(detector_bits), granularity="tensor")
kinds = {"full precision": found, "boxes rounded": broken.detect(exam.images)}
show(
    df.scenes_figure(exam, kinds, 5),
    f"True boxes (dotted) and boxes that the detector is sure of; below, its "
    f"box head has {min(detector_bits)} bits and one scale a layer.",
    "Two rows of five small scenes with boxes around shapes.",
    "scenes",
)

# %% [markdown]
# Compare each full-precision scene with the one below it: are boxes missing,
# or displaced, or of the wrong size? Numbers of the box head are sizes on a
# logarithmic scale and offsets, so a common error can make all boxes too large
# or too small in the same way. A few scenes are an illustration; the tables
# decide.
#
# ### Is regression harder?
#
# Same number of weights, same bits, same inputs: what remains is the task,
# and how it is scored. AP over all thresholds asks for exact boxes, AP50
# forgives coarse ones. *worse* names the head that loses more where the
# intervals do not meet.

# %%
for metric in ("AP", "AP50"):
    heads = dtab.heads_table(parts_rows, metric)
    caption = f"{metric}: what rounding one head costs (points)."
    table(heads, caption, 1, name=f"heads-{metric.lower()}")

# %% [markdown]
# Compare the two tables. A difference that is there by AP and gone by AP50
# means that boxes get less exact, not that objects are lost: how hard
# regression is depends on how exact it has to be. A class is one of four, and
# a small error of a logit changes nothing; an error of an offset is seen in
# full.
#
# This is also why detectors can look robust by the milder score and broken by
# the stricter one. A statement on regression in few bits has to say which
# score it is about. The argument on logits has its own limit: with many
# classes, or classes that look alike, a small error of a logit does change
# answers, and a class head of this size on photographs may be the more
# delicate one.
#
# ### The poster's detectors
#
# The poster's own rows come first. Its printed losses mix proportions with
# points ({ref}`erratum <erratum-poster-loss>`), so *lost* is computed from its
# scores.

# %%
table(dtab.poster_rows(), "The poster's detectors; *lost* in points.", 2)

# %% [markdown]
# The poster rounds the backbone in full or in part, and does not say which
# part; our *later half* spares the first layers, as its conclusion
# recommends. With photographs of COCO in `coco_dir`, and torchvision's
# weights, the same cells run on SSDLite with MobileNetV3.
#
# What such a run would add are pretrained weights, many classes and real
# backgrounds. What it cannot have are heads of equal size.

# %%
if coco_dir:
    ssd = coco.coco_detector()
    photographs = coco.read_coco(coco_dir, coco_images)
    given["shared"] = {"detector": ssd, "scenes": photographs}
    seen = [digest(image) for image in photographs.images]
    given["key"] = {"detector": digest(ssd), "scenes": seen}
    coco_rows = sweep("10_coco", det.detection_row, cells, **given)
    table(dtab.precision_table(coco_rows), "SSDLite on COCO.", 1)
else:
    print("No photographs of COCO are given (coco_dir).")

# %% [markdown]
# ## Verdicts
#
# The poster says that clustering pushes the limit of bits down. Each number
# of clusters is judged three times: as the poster compares, above chance, and
# against random clusters. Only the last tells whether it matters which
# classes are put together.

# %%
shown = ct.claim_table(judged)
table(shown, "Clusters lower the limit of bits.", name="cluster-verdicts")

# %%
smaller = int((wide["7-Zip"] < wide["gzip"]).sum())
over = wide["over"].agg(["min", "max"])
Markdown(
    f"At {poster_width} bits, 7-Zip's file is smaller than gzip's in "
    f"{smaller} of {len(wide)} cases (in the poster: in all). The best coder "
    f"is {over['min']:.1f} to {over['max']:.1f} per cent above the entropy."
)

# %% [markdown]
# Last, the claims on detectors. They are judged on the made scenes.

# %%
table(dtab.verdicts(parts_rows), "The poster on detectors.", name="detectors")

# %% [markdown]
# If there is a reference run with these parameters, the next table counts how
# many rows of this one are as near to it as they should be.
# `python -m lq_utils compare 10` prints them one by one.

# %%
run.save()
comparison = run.compare()
comparison = comparison.dropna(subset="reference")
if len(comparison):
    counted = comparison.groupby(["metric", "verdict"]).size()
    counted = counted.rename("rows").reset_index()
    table(counted, "This run beside the reference.", name="comparison")

# %% [markdown]
# ## What to keep
#
# - Accuracy on merged classes rises by itself. Compare with chance, with what
#   answers still tell, and with random merges of the same sizes.
# - Clusters made from mistakes forgive these mistakes. Find them on other
#   images than those that score them, and ask whether anybody wants them.
# - Entropy says how small a file of codes can get before any coder is tried.
#   Codes that are packed across bytes hide their frequencies from a coder.
# - Coding lives on levels that are used unevenly. It saves storage, not
#   memory.
# - How hard regression is in few bits depends on how exact the boxes must be.
#   Score strictly and mildly, and say which.
#
# ## Exercises
#
# ```{exercise}
# :label: ex-10-false-box
#
# (5 minutes) Add a false box to the second image of the small case, once with
# a lower score than all other boxes, once with a higher one. Put the two APs
# (0 to 1) into `late` and `early`. Which one has changed, and why?
# ```
#
# ```{hint}
# :class: dropdown
#
# `first_image` has a false box as well; the second image's scores and labels
# need one entry more.
# ```

# %% [markdown]
# ```{solution-start} ex-10-false-box
# :class: dropdown
# ```
#
# A false box with the lowest score comes after the last object was found, and
# there is no recall left at which it could count. In front of all others it
# lowers every precision. So a detector may draw as many doubtful boxes as it
# likes, as long as it knows that they are doubtful; what AP punishes is false
# confidence.

# %% tags=["solution"]
found_ap = []
for score in (0.1, 0.95):
    more = Detections(boxes, np.array([0.5, score]), np.repeat(one, 2))
    found_ap.append(ap.match(two, [first_image, more]).precision()["AP"])
late, early = found_ap
Markdown(f"Without it {scored['AP']:.3f}, late {late:.3f}, early {early:.3f}.")

# %% tags=["check"]
hits = np.array([0, 1, 0, 1])  # in the order of their scores
precise = np.cumsum(hits) / np.arange(1, 5)
check_answer(
    {
        "when the last object is found, what may still follow?": lambda: (
            np.isclose(late, scored["AP"])
        ),
        "in front of all others: of the boxes so far, which are right?": (
            lambda: np.isclose(
                early, (51 * precise[1:].max() + 50 * precise[3]) / 101
            )
        ),
    }
)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise}
# :label: ex-10-two-clusters
#
# (10 minutes) Find two clusters whose accuracy stays high however few the
# bits are, also for `rough`, and put them into `lonely` (int64 `[classes]`,
# zeros and ones). What is their accuracy above chance on validation images?
# Put it into `corrected` (a float, one for perfect). Are they of any use?
# ```
#
# ```{hint}
# :class: dropdown
#
# Who always names the larger cluster should nearly always be right. Then mind
# the answers that `rough` gives too often: `logits` are its answers on
# validation images.
# ```

# %% [markdown]
# ```{solution-start} ex-10-two-clusters
# :class: dropdown
# ```
#
# One class against all others, namely the class that is named least. Whoever
# always names the large cluster is right for all classes but one, and the
# network hardly ever names the other. Above chance, a network in few bits can
# score below zero: worse than knowing nothing.

# %% tags=["solution"]
held_labels = splits_of.validation.labels
times_named = np.bincount(logits.argmax(axis=1), minlength=classes)
lonely = (np.arange(classes) == times_named.argmin()).astype(np.int64)
right = cc.coarse_answers(logits, lonely) == lonely[held_labels]
level = cc.chance_level(lonely, held_labels)
corrected = cc.above_chance(right.mean(), level)
Markdown(f"Accuracy {right.mean():.1%}, above chance {corrected:.1%}.")

# %% tags=["check"]
validated, replies = splits_of.validation.labels, logits.argmax(axis=1)
check_answer(
    {
        "two clusters, a zero or a one for each class": lambda: (
            lonely.shape == (classes,) and set(lonely) == {0, 1}
        ),
        "always naming the larger cluster should miss one class at most": (
            lambda: min(np.bincount(lonely)) == 1
        ),
        "the accuracy is not high: which class does `rough` name least?": (
            lambda: (
                np.mean(lonely[replies] == lonely[validated])
                >= cc.chance_level(lonely, validated) - 1 / classes
            )
        ),
        "above chance: one, less mistakes by images of the smaller cluster": (
            lambda: np.isclose(
                corrected,
                1
                - np.sum(lonely[replies] != lonely[validated])
                / min(np.bincount(lonely[validated])),
            )
        ),
    }
)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise}
# :label: ex-10-huffman
#
# (15 minutes) Huffman's code {cite:p}`huffman1952method` gives each level a
# whole number of bits: merge the two rarest levels, which costs one bit for
# each of their codes, and go on until one is left. Write it as
# `huffman_bits(codes)`, mean bits a code (a float). How far is it above the
# entropy, for the last layer of the first network in three bits and in two?
# Put that (bits a code) into a dict `excess`, by bits.
# ```
#
# ```{hint}
# :class: dropdown
#
# Only counts matter, and only those that are not zero. For the layer,
# `fit_grid` with one scale a tensor and `cs.grid_codes` give the codes.
# ```

# %% [markdown]
# ```{solution-start} ex-10-huffman
# :class: dropdown
# ```
#
# Less than one bit. At few bits that can be much, as the most frequent level
# cannot take less than a whole bit. An arithmetic coder has no such limit.


# %% tags=["solution"]
def huffman_bits(codes):
    """Mean bits a code by Huffman's code, a float."""
    left, total = [int(c) for c in np.bincount(codes) if c], 0
    while len(left) > 1:
        a, b, *others_left = sorted(left)
        left, total = [a + b, *others_left], total + a + b
    return total / len(codes)


W = [p.detach() for p in cases[first].network.parameters() if p.ndim == 2][-1]
excess = {}
for width in (3, 2):
    uniform = fit_grid(W, alphabet("asymmetric", width), "tensor")
    in_levels = cs.grid_codes(uniform.round(W), uniform)
    excess[width] = huffman_bits(in_levels) - cs.entropy(in_levels)
Markdown("; ".join(f"{b} bits: {e:.2f} above" for b, e in excess.items()))

# %% tags=["check"]
sevens = np.repeat(np.arange(4), [7, 1, 1, 1])
check_answer(
    {
        "powers of a half: Huffman's code is the entropy": lambda: np.isclose(
            huffman_bits(codes), cs.entropy(codes)
        ),
        "levels of seven, one, one and one codes: lengths 1, 2, 3, 3": (
            lambda: np.isclose(huffman_bits(sevens), (7 + 2 + 3 + 3) / 10)
        ),
        "levels that never occur need no code": lambda: np.isclose(
            huffman_bits(2 * sevens), huffman_bits(sevens)
        ),
        "it is never below the entropy, and less than a bit above": lambda: (
            set(excess) == {2, 3}
            and all(-1e-9 <= e < 1 for e in excess.values())
        ),
    }
)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise}
# :label: ex-10-gaussian
#
# (15 minutes) What does one bit more in the grid cost in the coded file? Take
# the Gaussian weights `drawn_weights` (variance one), round them to multiples
# of a step, and put the entropy of the codes (bits a code) into a dict
# `measured`, by step, for the steps a half, a quarter and an eighth. Write
# the formula for small steps as `gaussian_entropy(step)`: the entropy of the
# density, less the logarithm of the step.
# ```
#
# ```{hint}
# :class: dropdown
#
# A Gaussian of variance one has the differential entropy
# $\frac12 \log_2 (2 \pi e)$. `cs.entropy` takes whole numbers from zero on.
# ```

# %% [markdown]
# ```{solution-start} ex-10-gaussian
# :class: dropdown
# ```
#
# For small steps the probability of a level is the density times the step,
# and the logarithm of a product is a sum. Half the step is one bit more in
# the file: a whole one. What coding saves, in bits a weight, is therefore the
# same at all widths of a uniform grid, and its *share* grows as bits get
# fewer. It depends on how far out the largest weight is, and on nothing else.


# %% tags=["solution"]
def gaussian_entropy(step):
    """Entropy in bits of a Gaussian of variance one, rounded to a step."""
    return np.log2(2 * np.pi * np.e) / 2 - np.log2(step)


measured = {}
for step in (0.5, 0.25, 0.125):
    multiples = np.round(drawn_weights / step).astype(int)
    measured[step] = cs.entropy(multiples - multiples.min())
compared = pd.DataFrame({"measured": measured})
compared["formula"] = [gaussian_entropy(step) for step in measured]
table(compared.rename_axis("step"), "Entropy of rounded weights (bits).", 3)

# %% tags=["check"]
check_answer(
    {
        "half the step, one bit more": lambda: np.isclose(
            gaussian_entropy(0.1) - gaussian_entropy(0.2), 1
        ),
        "the chapter's six-bit codes have steps of a seventh": lambda: (
            np.isclose(gaussian_entropy(1 / 7), in_bits["entropy"], atol=0.05)
        ),
        "three steps, each near the formula": lambda: (
            set(measured) == {0.5, 0.25, 0.125}
            and all(
                abs(h - gaussian_entropy(step)) < 0.05
                for step, h in measured.items()
            )
        ),
    }
)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise}
# :label: ex-10-control
#
# (20 minutes) The chapter draws random clusters. Their mean can be had
# without drawing. Write `expected(accuracy, sizes)`: the mean accuracy (0 to
# 1) on clusters with these numbers of classes (a list), when classes are put
# into them at random, for a network with that accuracy on classes. Put the
# value for the sizes of `by_bits` and the validation answers of `rough` into
# `at_random`.
# ```
#
# ```{hint}
# :class: dropdown
#
# A wrong answer is a pair of different classes. What is the chance that both
# are drawn into the same cluster?
# ```

# %% [markdown]
# ```{solution-start} ex-10-control
# :class: dropdown
# ```
#
# Right answers stay right. A wrong one is forgiven if its two classes meet in
# a cluster, and every two classes meet equally often. It does not matter
# which mistakes the network makes, only how many. One large cluster forgives
# far more than many small ones with as many classes on average, for sizes
# enter by their squares.


# %% tags=["solution"]
def expected(accuracy, sizes):
    """Mean accuracy on random clusters of these sizes (0 to 1)."""
    s = np.asarray(sizes)
    meet = np.sum(s * (s - 1)) / (s.sum() * (s.sum() - 1))
    return accuracy + (1 - accuracy) * meet


on_classes = np.mean(logits.argmax(axis=1) == splits_of.validation.labels)
at_random = expected(on_classes, np.bincount(by_bits))
same_size = expected(on_classes, [classes / count] * count)
Markdown(
    f"Accuracy {on_classes:.1%}, on random clusters of the sizes by "
    f"confusion {at_random:.1%}, of equal sizes {same_size:.1%}."
)

# %% tags=["check"]
held, said = splits_of.validation.labels, logits.argmax(axis=1)
mixed = np.array([cc.shuffled(by_bits, s) for s in range(300)])
by_draw = (mixed[:, said] == mixed[:, held]).mean(axis=1)
check_answer(
    {
        "each class by itself: nothing is forgiven": lambda: np.isclose(
            expected(0.3, [1] * 7), 0.3
        ),
        "one cluster of everything is always right": lambda: np.isclose(
            expected(0.3, [7]), 1
        ),
        "of four classes in two pairs each meets one of three others": (
            lambda: np.isclose(expected(0.1, [2, 2]), 0.1 + 0.9 / 3)
        ),
        "the mean over many random clusters is another": lambda: (
            abs(at_random - by_draw.mean())
            <= 5 * by_draw.std() / np.sqrt(len(by_draw)) + 1e-9
        ),
    }
)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise}
# :label: ex-10-unbiased
#
# (60 minutes, a small project) A bright column in the figure of confusions is
# an answer that is given too often, and average linkage gathers classes
# around it. Write `unbiased_distance(P)` `[C, C]`, symmetric, zero on the
# diagonal and positive elsewhere, which compares each share with how often
# that answer is given at all. Make a way to cluster of it,
# `own_partition(evidence, count)`, registered as `"mine"`. How much better is
# it than random clusters of its own sizes, on the mean of a thousand draws or
# by the formula of the exercise before, and does it lead by more than the
# chapter's `by_bits`? Put both leads in accuracy on test images (points) into
# a dict `leads`, with the keys `"confusion"` and `"mine"`, for `count`
# clusters of the answers of `rough`.
# ```
#
# ```{hint}
# :class: dropdown
#
# Where the answer has nothing to do with the class, every share should be
# one, after what you divide by. `cc.register_class_partition`
# registers, `cc.Evidence` holds what a partition may look at, and
# `cc.shuffled` draws the control; `guessed` are the answers on test images.
# ```

# %% [markdown]
# ```{solution-start} ex-10-unbiased
# :class: dropdown
# ```
#
# The quotient says how much more often an answer is given to a class than to
# any. A bias is divided out, and the large cluster around it falls apart, so
# chance falls, and accuracy with it. The price is noise: an answer that is
# given a few times in all has shares that are mostly accident. The lead over
# random clusters of the same sizes is what remains comparable. Decide on the
# distance before you look at it: it is measured on test images.


# %% tags=["solution"]
def unbiased_distance(P):
    """Distances [C, C] by how much more often than usual."""
    usual = P.mean(axis=0)
    times = P / np.where(usual > 0, usual, 1)
    far = 1 / (1 + (times + times.T) / 2)
    np.fill_diagonal(far, 0)
    return far


@cc.register_class_partition("mine", replace=True)
def own_partition(evidence, count):
    """Clusters int64 [C]."""
    own = evidence.quantized
    given_answers = np.eye(own.shape[1])[own.argmax(axis=1)]
    shares = confusion_probabilities(
        given_answers, evidence.labels, own.shape[1]
    )
    return cc.cut(unbiased_distance(shares), count)


# %% tags=["solution"]
def lead(clusters):
    """Accuracy on test images above random clusters (points)."""
    true = tested_on.labels
    control = expected(np.mean(guessed == true), np.bincount(clusters))
    return 100 * (np.mean(clusters[guessed] == clusters[true]) - control)


seen = cc.Evidence(
    logits,
    inputs[first][0]["original"]["validation"],
    splits_of.validation.labels,
    splits_of.test.superclass_of,
    inputs[first][0]["distances"],
)
own_clusters = own_partition(seen, count)
leads = {"confusion": lead(by_bits), "mine": lead(own_clusters)}
pd.DataFrame(
    {
        "lead (points)": leads,
        "largest cluster": {
            "confusion": np.bincount(by_bits).max(),
            "mine": np.bincount(own_clusters).max(),
        },
    }
)

# %% tags=["check"]
biased = np.tile([[0.7, 0.2, 0.1]], (3, 1))
two_kinds = np.array([[0.5, 0.3, 0.2], [0.3, 0.5, 0.2], [0.1, 0.1, 0.8]])
check_answer(
    {
        "distances of `P`: symmetric, zero on the diagonal, else above": (
            lambda: (
                np.allclose(unbiased_distance(P), unbiased_distance(P).T)
                and (unbiased_distance(P) > -np.eye(classes)).all()
                and not np.diag(unbiased_distance(P)).any()
            )
        ),
        "answers that do not depend on the class: all pairs alike": lambda: (
            np.ptp(unbiased_distance(biased)[np.triu_indices(3, 1)]) < 1e-9
        ),
        "classes that are taken for each other are nearest": lambda: (
            unbiased_distance(two_kinds)[0, 1]
            < unbiased_distance(two_kinds)[:2, 2].min()
        ),
    }
)

# %% tags=["check"]
true_now, labels_now = tested_on.labels, splits_of.validation.labels
rest = splits_of.test.superclass_of, inputs[first][0]["distances"]
shown_to = cc.Evidence(logits, logits, labels_now, *rest)
orders = np.array([cc.shuffled(np.arange(classes), s) for s in range(200)])
check_answer(
    {
        "`count` clusters, numbered from zero": lambda: (
            cc.find_partition("mine") is own_partition
            and set(own_partition(shown_to, count)) == set(range(count))
        ),
        "a lead is accuracy above the mean of random clusters, in points": (
            lambda: all(
                abs(leads[k] - 100 * (np.mean(c[guessed] == c[true_now]) - m))
                <= 800 * spread / np.sqrt(len(orders)) + 1e-6
                for k, c in (
                    ("confusion", by_bits),
                    ("mine", own_partition(shown_to, count)),
                )
                for h in [(c[orders][:, guessed] == c[orders][:, true_now])]
                for m, spread in [(h.mean(), h.mean(axis=1).std())]
            )
        ),
    }
)

# %% [markdown]
# ```{solution-end}
# ```
#
# ## Make it yours
#
# A coder is a function from bytes to bytes; it must lose nothing, and here it
# gets one code a byte. This one sorts bits by rank: first the highest bit of
# every code, then the second, and so on. In a byte with few bits in use the
# highest planes are zero throughout. Does that help LZMA, which could see as
# much by itself? Registered, it stands in the table of files as soon as the
# sweep of the sizes runs again with one of `workers` (other processes do not
# know your function); write yours, and decode what it made before you believe
# its size.


# %%
@cs.register_coder("bit planes", replace=True)
def bit_planes(codes):
    """Every plane of bits for itself, highest first, then LZMA."""
    rows = np.frombuffer(codes, dtype=np.uint8)[:, None]
    return lzma.compress(np.packbits(np.unpackbits(rows, axis=1).T))


# %%
small = size_networks[:1], size_bits[:1], size_weights[:1]
sizes_now = ss.size_cells(*small, seed)
given = {name: sizes_now[0][name] for name in ("network", "weights", "bits")}
layers = ss.rounded_codes(
    **given, quantizer="uniform", share=sizes_now[0]["share"], seed=seed
)
sizes = cs.file_sizes(layers, given["bits"], ("xz", "7-Zip", "bit planes"))
weights_coded = sum(codes.size for codes in layers.values())
in_bits = pd.Series(sizes, name="bits a weight") * 8 / weights_coded
table(
    in_bits.rename_axis("file").to_frame(),
    f"{size_networks[0]}, {given['bits']} bits: your coder among the others.",
    2,
)
