# %%
import gzip

from lq_utils import average_precision as ap
from lq_utils import class_clustering as cc
from lq_utils import clustering_figures as cf
from lq_utils import clustering_inputs as ci
from lq_utils import clustering_study as cst
from lq_utils import clustering_tables as ct
from lq_utils import coco_detection as coco
from lq_utils import code_sizes as cs
from lq_utils import detection_figures as df
from lq_utils import detection_study as det
from lq_utils import detection_tables as dtab
from lq_utils import size_figures as sf
from lq_utils import size_networks as sn
from lq_utils import size_study as ss
from lq_utils import size_tables as sizes_of

# %%
from lq_utils.detection_scenes import DetectionSet, generate_scenes
from lq_utils.detector_rounding import (
    BOX_HEAD,
    fold_sequences,
    part_layers,
    round_layers,
)
from lq_utils.detector_training import trained_detector
from lq_utils.distances import confusion_distance, confusion_probabilities
from lq_utils.fingerprints import digest
from lq_utils.images import Splits
from lq_utils.packing import pack
from lq_utils.tiny_detector import Detections

# %% [markdown]
# ## Class clustering
#
# Few bits make a network mistake a cat for a dog sooner than for a truck. The
# poster proposes to give in: cats and dogs become pets, and only pets must be
# told from the rest. It says that such groups push the limit of bits further
# down. How it finds them it does not say, so here is one way: group the
# classes that the quantized network confuses.
#
# Let $P_{ij}$ be the share of images of class $i$ that get the answer $j$,
# and $A = (P + P^\top)/2$. Two classes are $1 - A_{ij}$ apart. *Average
# linkage* merges the two groups with the least mean distance between their
# members, again and again, until as many groups are left as were asked for.
#
# ### By hand
#
# Four classes, four images of each. The network confuses cats with dogs, and
# once a car with a truck.

# %%
names = ["cat", "dog", "car", "truck"]
truth = np.repeat([0, 1, 2, 3], 4)
answers = np.array([0, 0, 1, 1, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3])
P = np.zeros((4, 4))
np.add.at(P, (truth, answers), 1 / 4)
apart = 1 - (P + P.T) / 2

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
# ### Real networks
#
# Clusters are found on validation images and judged on test images; a test
# image never decides which classes belong together. The quantizer is the
# poster's, asymmetric, with one scale a layer. A cell rounds a network to
# some width and scores all clusters of it.

# %%
grouped = labels[:cluster_networks]
found_on = dn.parts_of(cases, train_images, cluster_images, test_images, seed)
inputs = {
    name: ci.study_inputs(cases[name].network, Splits(**found_on[name]))
    for name in grouped
}

# %% [markdown]
# Besides the confusions of the quantized network there are three other
# sources of clusters: the confusions of the original network, which is never
# in few bits; the directions of its class weights ({ref}`chapter 1
# <ch-class-distances>`); and the superclasses of the data set, where their
# number is the one asked for. `cluster_sizes` says how many classes make a
# cluster on average.

# %%
tested = {}
for name, (shared, key) in inputs.items():
    amount = cluster_bits, cluster_sizes, cluster_draws, seed
    cells = ci.coarse_cells(shared["splits"], *amount)
    given = {"shared": shared, "key": key, "code": cst.CODE}
    found = sweep("07_clusters", cst.coarse_rows, cells, **given)
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

# %%
last_one = grouped[-1]
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
# Read accuracy and accuracy above chance side by side. Average linkage is
# greedy: a class whose name a broken network gives to everything attracts
# one class after another, and a single large cluster grows while the rest
# stay alone. Accuracy is then high because chance is. Which classes are
# they? Here is the first network in the fewest bits.

# %%
few = min(cluster_bits)
splits_of = inputs[first][0]["splits"]
rough = cst.rounded(cases[first].network, few, **ci.GRID)
logits = cst.answers(rough, splits_of)["validation"]
classes = splits_of.validation.num_classes

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
# ### Against chance
#
# The test of the proposal: do clusters found in confusions lose less than
# random ones? $p$ is the share of random partitions that lose as little; with
# few draws it cannot be small. The last two columns say how much of the
# original network's information about the clusters is left, in per cent.

# %%
against = ct.by_network(tested, ct.against_random)
against = against[against["rule"] == "argmax"].drop(columns=["rule", "draws"])
table(against, "Clusters by confusion and at random.", 2)

# %% [markdown]
# The drop favours large clusters, and a small $p$ is no surprise: clusters
# made of a network's mistakes forgive those mistakes. The question that
# counts for use is the other one, whether answers still tell as much as
# before.
#
# ### The limit of bits
#
# The limit is the fewest bits that cost at most one point, counted from wide
# to narrow. A dash means that even the widest grid costs more. *sure* is
# true where the intervals agree, at the limit and one width below. For random
# clusters limits are medians over the draws.

# %%
limits = ct.by_network(tested, ct.limit_table)
limits = limits[limits["rule"] == "argmax"].drop(columns="rule")
table(limits, "Limits of bits by partition.", 1, name="limits")

# %%
judged = ct.by_network(tested, ct.verdicts)
table(judged, "Do clusters push the limit down?", 1, name="cluster-limits")

# %% [markdown]
# *As claimed* compares with classes, as the poster does. *Above chance* does
# so for accuracy above chance. *Against random* asks whether random clusters
# have a higher limit than those by confusion.
#
# ### Trained on clusters
#
# The proposal may mean more: train the network to name clusters, then
# quantize it. A fair comparison gives as many steps to a network that goes on
# with classes, and trains a third one on random clusters. Either all layers
# are trained, or the last one alone. Every network is compared with itself
# in full precision.

# %%
shared, key = inputs[first]
budget = retrain_bits, retrain_steps, retrain_rate, seed
cells = ci.retrained_cells(count, few, *budget)
given = {"shared": shared, "key": key, "code": cst.CODE}
found = sweep("07_retrained", cst.retrained_rows, cells, **given)
trained = ct.drop_table(found)

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
# ## Sizes of files
#
# The poster's third table compresses networks in six bits by gzip and 7-Zip.
# How well could the best coder do? Where every code is drawn with
# frequencies $p_q$, whatever its neighbours are, no coder needs fewer than
#
# $$
# H(q) = - \sum_q p_q \log_2 p_q
# $$
#
# bits a code on average {cite:p}`shannon1948mathematical`. Weights near zero
# are frequent and outer levels rare, so $H$ is below $b$. Whatever a coder
# saves beyond $H$ it saves by order, by finding repetitions, and weights of
# a trained network have hardly any.
#
# ### By hand
#
# Eight codes of two bits, half of them zero. The four levels ask for one,
# two, three and three bits.

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
# ### Real sizes
#
# Networks of ImageNet have as many weights here as there. Where trained
# weights are on this machine they are taken (those of EfficientNet-Lite0 came
# with a package), else weights are drawn from a Gaussian, and the column
# *weights* says which. ResNetV2-50 and InceptionV4 are not in torchvision;
# ResNet-50 and Inception v3 stand in for them. Of a large network only the
# first rows of every layer are measured. There is one scale a layer, by the
# largest weight. Scales, biases and names of layers are not counted: they
# are the same for all coders.

# %%
cells = ss.size_cells(size_networks, size_bits, size_weights, seed)
key = {"files": sn.file_digests(cells)}
given = {"key": key, "code": ss.CODE, "n_jobs": workers}
size_rows = sweep("07_sizes", ss.size_rows, cells, **given)
sizes_of.record_sizes(run, size_rows)

# %%
in_files = sizes_of.bits_table(size_rows)
table(
    in_files,
    "Bits a weight in the file. *best* is the coder of the smallest file, "
    "*over* how far that is above the entropy (%).",
    2,
    name="sizes",
)

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
# Nothing gets far below the dashed line: weights have no order that a coder
# could use. gzip and bz2 give each level a whole number of bits or search
# for repetitions that are not there; xz and 7-Zip end in an arithmetic
# coder, which follows frequencies closely, and come near the line.
#
# The curves of powers of two flatten: another bit adds levels close to zero
# only, where few weights are left. A low entropy says that levels are used
# unevenly. It does not say that they are good levels, and accuracy has the
# last word. What is worth having is the gap between packing and entropy:

# %%
saved = sizes_of.gain_by_bits(size_rows)
saved = saved.drop(columns="weights")
table(saved, "What 7-Zip saves over packing (%), and what could be.", 1)

# %% [markdown]
# ### The poster's third table
#
# Its megabytes do not compare with ours: its networks have another number of
# weights than those of the same names. Bits a weight do. They are the size
# of a file by that of the network in float32, times 32.

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

# %%
printed = sizes_of.poster_bits()
by_gzip = printed[printed["coder"] == "gzip"]
nothing = by_gzip[by_gzip["poster"] > 0.98 * by_gzip["bits"]]
files = nothing["printed"] + " (" + nothing["quantizer"] + ")"
least = (1 - in_files["gzip"] / in_files["packed"]).min()
Markdown(
    f"Gzip's files of {', '.join(files)} take as much as packing alone: the "
    f"poster's gzip found nothing there. Here it saves {100 * least:.0f} per "
    "cent or more in every file."
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

# %%
practice = generate_scenes(scene_count, seed)
exam = generate_scenes(scene_tests, seed + 1)
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
# overlap only.
#
# Two objects and three boxes, of which the second is wrong. Up to a recall of
# a half the precision is one, beyond it is two thirds.

# %%
thing, one = np.array([[10.0, 10, 20, 20]]), np.zeros(1, dtype=np.int64)
canvas = np.zeros((64, 64, 3), np.uint8)
two = DetectionSet(
    [canvas] * 2, [thing] * 2, [one] * 2, [one > 0] * 2, ("thing",)
)
boxes = np.vstack([thing, thing + 30])
first_image = Detections(boxes, np.array([0.9, 0.8]), np.repeat(one, 2))
second_image = Detections(thing, np.array([0.5]), one)

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

# %%
cells = det.detection_cells(detector_bits, bootstrap_draws, seed)
given = {"code": det.CODE, "n_jobs": workers}
given["shared"] = {"detector": detector, "scenes": exam}
given["key"] = {"detector": digest(detector), "scenes": digest(exam.images)}
parts_rows = sweep("07_detection", det.detection_row, cells, **given)

# %%
show(
    df.parts_figure(parts_rows, ["AP", "AP50"]),
    "Average precision by bits and part, with bootstrap intervals of the "
    "drop. Left: over all thresholds of overlap; right: at half an overlap.",
    "Two panels, AP and AP50; one line a part that is rounded.",
    "detection-parts",
)

# %%
precision = dtab.precision_table(parts_rows)
ct.record_lines(run, "detection_drop", precision, ["set_up", "bits"])
shown = precision.drop(columns="n")
table(shown, "AP, what is lost (points), and file size saved (%).", 1)

# %% [markdown]
# What does a broken box head look like? One scale for the whole layer makes
# it plain: objects are found and rightly named, by boxes that do not fit.

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
# ### The poster's detectors

# %%
table(dtab.poster_rows(), "The poster's detectors; *lost* in points.", 2)

# %% [markdown]
# The poster rounds the backbone in full or in part, and does not say which
# part; our *later half* spares the first layers, as its conclusion
# recommends. With photographs of COCO in `coco_dir`, and torchvision's
# weights, the same cells run on SSDLite with MobileNetV3.

# %%
if coco_dir:
    ssd = coco.coco_detector()
    photographs = coco.read_coco(coco_dir, coco_images)
    given["shared"] = {"detector": ssd, "scenes": photographs}
    images = [digest(image) for image in photographs.images]
    given["key"] = {"detector": digest(ssd), "scenes": images}
    coco_rows = sweep("07_coco", det.detection_row, cells, **given)
    table(dtab.precision_table(coco_rows), "SSDLite on COCO.", 1)
else:
    print("No photographs of COCO are given (coco_dir).")

# %% [markdown]
# ## Verdicts: clusters, sizes, detectors
#
# The poster says that clustering pushes the limit of bits down. Each number
# of clusters is judged three times: as the poster compares, above chance, and
# against random clusters. Only the last tells whether it matters which
# classes are put together.

# %%
shown = ct.claim_table(judged)
table(shown, "Clusters lower the limit of bits.", name="cluster-verdicts")

# %%
wide = in_files[in_files["bits"] == max(size_bits)]
smaller = int((wide["7-Zip"] < wide["gzip"]).sum())
over = wide["over"].agg(["min", "max"])
Markdown(
    f"At {max(size_bits)} bits, 7-Zip's file is smaller than gzip's in "
    f"{smaller} of {len(wide)} cases, as in the poster. The best coder is "
    f"{over['min']:.1f} to {over['max']:.1f} per cent above the entropy: what "
    "is saved is saved by frequencies, and nearly all of it."
)

# %%
table(dtab.verdicts(parts_rows), "The poster on detectors.", name="detectors")

# %% [markdown]
# ## Exercises on codes and clusters
#
# ```{exercise}
# :label: ex-07-huffman
#
# (15 minutes) Huffman's code {cite:p}`huffman1952method` gives each level a
# whole number of bits: merge the two rarest levels, which costs one bit for
# each of their codes, and go on until one is left. How far above the entropy
# is it, for the last layer of the first network in three bits and in two?
# ```

# %% [markdown]
# ```{solution-start} ex-07-huffman
# :class: dropdown
# ```
#
# Less than one bit. At few bits that can be much, as the most frequent level
# cannot take less than a whole bit.

# %%
W = [p.detach() for p in cases[first].network.parameters() if p.ndim == 2][-1]
for width in (3, 2):
    uniform = fit_grid(W, alphabet("asymmetric", width), "tensor")
    codes = cs.grid_codes(uniform.round(W), uniform)
    left, total = [int(c) for c in np.bincount(codes) if c], 0
    while len(left) > 1:
        a, b, *others = sorted(left)
        left, total = [a + b, *others], total + a + b
    length, least = total / codes.size, cs.entropy(codes)
    assert least <= length < least + 1
    print(f"{width} bits: Huffman {length:.2f}, entropy {least:.2f}")

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise}
# :label: ex-07-two-clusters
#
# (10 minutes) Find two clusters whose accuracy stays high however few the
# bits are. Are they of any use?
# ```

# %% [markdown]
# ```{solution-start} ex-07-two-clusters
# :class: dropdown
# ```
#
# One class against all others. Whoever always names the large cluster is
# right for all classes but one. Above chance, a network in few bits can score
# below zero: worse than knowing nothing.

# %%
lonely = (np.arange(classes) == 0).astype(np.int64)
guesses = cst.answers(rough, splits_of)["test"]
true_labels = splits_of.test.labels
right = cc.coarse_answers(guesses, lonely) == lonely[true_labels]
level = cc.chance_level(lonely, true_labels)
assert right.mean() >= np.mean(guesses.argmax(axis=1) == true_labels)

# %%
Markdown(
    f"Accuracy {100 * right.mean():.1f} %, and above chance "
    f"{100 * cc.above_chance(right.mean(), level):.1f} %."
)

# %% [markdown]
# ```{solution-end}
# ```
