# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# (ch-class-distances)=
# # Class distances
#
# **Question.** How far apart are two classes of images, and does the answer
# depend on how one measures?
#
# Label-aware quantization rests on this number. The label-aware report
# {cite:p}`dirisala-label-aware` embeds the images with a network trained on
# ImageNet, lays the result out in the plane, and compares the classes there
# as Gaussians. This chapter rebuilds that measure, tests it, and puts eight
# others beside it.
#
# Three choices are stacked on one another: a network that says what images
# have in common, a map that says who is near whom, and a formula that turns
# clouds into one number. Each can make two classes close or far by itself. A
# sentence such as "similar classes lose more accuracy" is about all three. So
# each of them is changed here while the others stay.
#
# **You will learn**
# - how to get embeddings of small images from a large network;
# - what UMAP keeps of them, and what it makes up;
# - the symmetric Kullback-Leibler divergence of Gaussians in closed form;
# - how to judge a distance when there is no true one to compare with.
#
# **Inputs.** The training images of the data set (`make data`), and its
# validation images for one of the distances. The weights of the backbone,
# which come with the installation. The reference ResNet-20, which is part of
# the repository (`make train` makes it). Test images are never touched.
#
# **Time on two cores.** smoke: about one minute; quick: about two minutes;
# full: about two hours (an estimate), nearly all of it embedding.

# %%
import numpy as np
import pandas as pd
from IPython.display import Markdown
from scipy.special import softmax
from scipy.stats import skew, spearmanr
from sklearn.decomposition import PCA

from lq_utils import distances as ld
from lq_utils import maps
from lq_utils import report_pairs as report
from lq_utils.data import load_dataset
from lq_utils.embeddings import embed, umap_2d
from lq_utils.exercises import check_answer
from lq_utils.figures import show, table, use_style
from lq_utils.inference import predict
from lq_utils.interactive import show_interactive
from lq_utils.interactive_classes import class_points
from lq_utils.parameters import check_parameters
from lq_utils.results import reference_rows, start_run
from lq_utils.weights import load_reference, require_same_split

# %% tags=["parameters"]
profile: str = "quick"  # smoke|quick|full|custom; names this set of values
dataset: str = "auto"  # auto|cifar100|synthetic100|imagefolder:*; the data
seed: int = 0  # 0..1000000; draws the images, first of the UMAP seeds
images_per_class: int = 25  # 10..450; images a class; time grows alike
backbone: str = "efficientnet_lite0"  # efficientnet_lite0|resnet50|pixels; net
image_size: int = 96  # 32..256; pixels a side after enlarging; time squared
pooling: str = "average"  # average|flatten; last feature map to a vector
neighbours: int = 15  # 5..100; UMAP n_neighbors, small is more local
umap_seeds: int = 3  # 2..20; maps to compare; one UMAP run each
dimensions: int = 50  # 2..200; principal components kept beside the map
classifier: str = "resnet20"  # resnet20|mobilenetv2_x0_5|none; for confusions
published_dir: str = ""  # any; folder with the authors' matrix, if at hand

# %%
parameters = check_parameters(globals())

# %% [markdown]
# ## The images
#
# Training images only: what is learnt here decides which classes later
# chapters quantize for, and no such choice may see a test image. Every class
# gives the same number of images, drawn by the seed. `start_run` stamps the
# data, the profile and a run number on everything that follows.

# %%
use_style()
splits = load_dataset(dataset)
run = start_run("01_class_distances", parameters, splits.provenance)

# %%
sample = splits.train.per_class(images_per_class, seed)
labels, classes = sample.labels, sample.num_classes
names, supers = sample.class_names, sample.superclass_of

# %% [markdown]
# ## Distance between two Gaussians
#
# Say class $a$ lives in the plane as a cloud with mean $\mu_a$ and covariance
# $\Sigma_a$. The Kullback-Leibler divergence {cite:p}`kullback1951information`
# between two such Gaussians in $d$ dimensions is
#
# $$
# \KL(a \,\Vert\, b) = \tfrac12 \left[ \tr(\Sigma_b^{-1}\Sigma_a) - d
# + (\mu_b-\mu_a)^\top \Sigma_b^{-1} (\mu_b-\mu_a)
# + \ln\frac{\det\Sigma_b}{\det\Sigma_a} \right].
# $$ (eq-01-kl)
#
# It is not symmetric. Averaging both directions makes it so, and the
# logarithms cancel:
#
# $$
# D_{ab} = \tfrac14 \left[ \tr(\Sigma_b^{-1}\Sigma_a)
# + \tr(\Sigma_a^{-1}\Sigma_b) - 2d
# + (\mu_a-\mu_b)^\top (\Sigma_a^{-1}+\Sigma_b^{-1}) (\mu_a-\mu_b) \right].
# $$ (eq-01-symmetric-kl)
#
# Three consequences:
#
# - $D$ is zero only for equal Gaussians.
# - $D$ does not change when the plane is shifted, turned, sheared or scaled,
#   so the units of a map play no part.
# - $D$ grows without bound as a covariance becomes flat. With few images a
#   class, $\Sigma^{-1}$ is noisy, and so is $D$.
#
# In words: $D$ measures a step between two means in units of the widths of
# both clouds, and adds how different the two shapes are. Two clouds with the
# same mean are not at distance zero if one is round and the other long. And
# because the step is squared and divided by a variance, a tight class is far
# from everything, though its neighbours on the map may be near to the eye.
#
# Hence a little regularisation with a small shrinkage $\rho$,
#
# $$
# \Sigma \leftarrow (1-\rho)\,\Sigma + \rho\,\frac{\tr\Sigma}{d}\, I ,
# $$ (eq-01-shrinkage)
#
# and no eigenvalue below a thousandth of the mean one.
#
# ```{index} Kullback-Leibler divergence, shrinkage
# ```

# %% [markdown]
# ### By hand
#
# Two classes, one round, the other wider and shifted to the right. First the
# divergence in one direction, as {eq}`eq-01-kl` has it.


# %%
def kl(mean_a, cov_a, mean_b, cov_b):
    """Divergence from Gaussian a to Gaussian b, in nats."""
    inverse, step = np.linalg.inv(cov_b), mean_b - mean_a
    dets = np.linalg.det(cov_b) / np.linalg.det(cov_a)
    square = np.trace(inverse @ cov_a) + step @ inverse @ step
    return 0.5 * (square - len(step) + np.log(dets))


# %% [markdown]
# On paper, with diagonal covariances, the traces are sums of ratios. Class
# $b$ has variances 4 and 1 and lies two units to the right of class $a$.

# %%
a = np.array([0.0, 0.0]), np.diag([1.0, 1.0])
b = np.array([2.0, 0.0]), np.diag([4.0, 1.0])
by_hand = (kl(*a, *b) + kl(*b, *a)) / 2
paper = ((1 / 4 + 1) + (4 + 1) - 4 + 4 * (1 / 4 + 1)) / 4
assert np.isclose(by_hand, paper)

# %% [markdown]
# The library computes all pairs of classes at once, with a single matrix
# product for the traces in {eq}`eq-01-symmetric-kl`. It must give the same
# number.

# %%
means, covariances = (np.stack(both) for both in zip(a, b))
two = ld.Gaussians(means, covariances, counts=np.array([99, 99]))
fast = ld.symmetric_kl(two)
assert np.allclose(fast, [[0, by_hand], [by_hand, 0]], rtol=1e-12)
Markdown(f"By hand {by_hand} nats, by the library {fast[0, 1]} nats.")

# %% [markdown]
# ## Embeddings
#
# Pixels are a poor guide to meaning: two photographs of otters share no
# pixel. A network trained on ImageNet has learnt features that carry over.
# Each image is enlarged, sent through the network, and its last feature map
# is averaged over all positions. The report's text says *flattened*; its
# authors' code averages ({ref}`erratum <erratum-report-embedding>`).
# `pooling` offers both. The average forgets where something is and keeps
# whether it is there, so an otter on the left is like an otter on the right.
#
# With ResNet-50 that gives 2,048 numbers an image. The default here is
# EfficientNet-Lite0, from the family of {cite:t}`tan2019efficientnet`, since
# its weights come with the installation and need no download.
#
# ```{index} embedding
# ```

# %% [markdown]
# What may go wrong: the network has seen sharp photographs, and gets small
# ones that were blown up. Its features are then of blur and colour more than
# of fur and feathers. `backbone` can be `pixels`, which has no network at all
# and shows what the features are worth.

# %%
features = embed(sample.images, backbone, image_size, pooling)
Markdown(f"Each image is now a vector of {features.shape[1]:,} numbers.")

# %% [markdown]
# ## The map
#
# UMAP {cite:p}`mcinnes2018umap` links each point with its nearest neighbours
# and looks for a layout in the plane that keeps these links short. It starts
# from a spectral layout and then moves points, drawing at random which ones
# to push apart. So the seed matters; how much, we shall measure. The
# neighbours themselves are searched exactly, once for all seeds.
#
# ```{index} UMAP
# ```

# %%
seeds = range(seed, seed + umap_seeds)
planes = {s: umap_2d(features, s, neighbours) for s in seeds}
points = planes[seed]

# %%
show(
    maps.class_map(points, sample, figsize=(9, 9.6)),
    f"UMAP of {len(sample):,} training images. A dot is an image, a mark "
    "with a name the mean of a class; colour and mark tell the superclass.",
    "Scatter plot of all images with a name at the mean of each class.",
    "class-map",
)

# %% [markdown]
# Read it with care. Who sits beside whom is informative; how wide a gap is,
# much less so, since the layout spends little effort on far pairs. Its loss
# sees the graph of nearest neighbours only {cite:p}`damrich2021umap`, and
# where whole groups end up is largely decided by the layout that it starts
# from {cite:p}`kobak2021initialization`. The axes mean nothing; the map could
# be turned or mirrored. Look for marks of one colour and shape that lie
# together, and for clouds of dots much wider than the gaps between their
# means: their classes overlap in the plane, whatever the names suggest. See
# also {ref}`the erratum on what a map preserves <erratum-report-umap>`.
#
# ## The distance matrix
#
# One Gaussian a class, then all pairs at once. The last call is the one that
# later chapters use: a distance by its name, checked to be symmetric, finite
# and zero on the diagonal.

# %%
g = ld.gaussians(points, labels, classes, shrinkage=0.01)
D = ld.class_distances("symmetric_kl", points, labels, classes)
assert np.array_equal(D, ld.symmetric_kl(g))

# %%
show(
    maps.matrix_figure(D, sample, "symmetric KL (nats)"),
    "Symmetric KL divergence of all pairs of classes, sorted by superclass; "
    "thin lines separate the superclasses.",
    "Heat map of the distance matrix with a dark, that is close, diagonal.",
    "kl-matrix",
)

# %% [markdown]
# Row and column of a pixel are two classes, dark is close, and the scale of
# colours is logarithmic. If people's superclasses were also close on the map,
# dark squares would stand along the diagonal, between the thin lines. Dark
# squares away from it are superclasses that mix. A light row and column is a
# class that is far from all others, often one with a tight cloud.
#
# The matrix and the map together: choose a class in the list, or point at its
# mark. Its five nearest by the matrix are ringed. Try a class in a crowd and
# one by itself. Are the ringed ones those that look nearest in the plane? The
# distance divides by the spread of the classes, so a wide class may be near
# although its mean is not.

# %%
show_interactive(
    class_points(points, sample, D),
    "Means of the classes on the map; ringed: the five nearest by the matrix.",
    "Scatter plot of classes, one chosen, with rings around its nearest.",
    "nearest-classes",
)

# %% [markdown]
# Which pairs are closest? CIFAR-100 {cite:p}`krizhevsky2009learning` groups
# its classes in twenty superclasses, chosen by people. No step above has seen
# them, so they are a fair first test.

# %%
closest = ld.closest_pairs(D, names, 10)
group = dict(zip(names, supers))
pairs = zip(closest["first"], closest["second"])
closest["same superclass"] = [bool(group[p] == group[q]) for p, q in pairs]
table(closest, "The ten closest pairs, distance in nats.", name="closest")

# %%
farthest = ld.closest_pairs(D, names, 5, farthest=True)
table(farthest, "The five farthest pairs, distance in nats.", name="far")

# %% [markdown]
# In each of the two tables count the classes that occur more than once. A
# class with a tight cloud is far from everything, so the far end of the list
# may say less about pairs than about one or two outliers. {ref}`Chapter 2
# <ch-subset-generation>` meets them again when it looks for dissimilar
# subsets. At the close end look at the pairs that are not of one superclass:
# do they look alike, share a background, or make no sense?
#
# ## A skewed distribution
#
# The report sums up a set of pairs by the *median*, because the distances
# have a long tail. A distance that divides by a variance must have one: halve
# the width of a class, and its squared distances grow fourfold. On a
# logarithmic axis most of the skewness goes, which is why later chapters work
# with the logarithm.
#
# Both panels show the same pairs. In the left one far pairs pull the mean
# (dashed) away from the median; in the right one the two should be closer to
# the top of one hump. What stays lopsided there is not a matter of scale.

# %%
values = ld.pair_values(D)
show(
    maps.skewness_figure(values, "symmetric KL (nats)"),
    "All pair distances, on a linear axis (left) and a logarithmic one.",
    "Two histograms; the linear one has a long tail to the right that draws "
    "the mean away from the median.",
    "skewness",
)

# %%
skewness = {"plain": skew(values), "logarithm": skew(np.log(values))}
for scale, value in skewness.items():
    run.record("skewness", value, n=len(values), scale=scale)
ratio = values.mean() / np.median(values)
Markdown(
    f"Skewness {skewness['plain']:.2f}, of the logarithms "
    f"{skewness['logarithm']:.2f}; the mean is {ratio:.2f} times the median."
)

# %% [markdown]
# ## How much of this is the seed?
#
# The same features, the same neighbours, another seed: how much of $D$
# survives? Rank correlation (Spearman) compares the order of all pairs, the
# only thing that choosing subsets needs. {cite:t}`chari2023specious` argue
# that a two-dimensional map must distort distances;
# {cite:t}`lause2024art` answer that it still keeps who is whose neighbour.
#
# This is the cheapest test of any result that rests on a map: a property of
# the images must survive another seed, a property of the drawing need not. The
# authors fixed no seed, so their matrix is one draw of many.
#
# ```{index} rank correlation
# ```

# %%
by_seed = {
    s: ld.class_distances("symmetric_kl", plane, labels, classes)
    for s, plane in planes.items()
}
between = ld.pair_values(ld.rank_correlations(by_seed).to_numpy())

# %%
run.record("umap_seed_spearman", between.mean(), n=len(between))
run.record("umap_seed_spearman_lowest", between.min(), n=len(between))
Markdown(
    f"Between {umap_seeds} seeds the rank correlation of the distances is "
    f"{between.mean():.3f} on average and {between.min():.3f} at worst."
)

# %% [markdown]
# The ten closest pairs are a stricter test, as they sit in the noisiest
# corner of the ranking. A close pair counts as plausible if it shares a
# superclass, or if it is one of the authors' thirty closest. A line is a seed.
# High values in all lines say that the closest pairs make sense each time;
# they may still be *other* pairs each time, which the correlation has counted.

# %%
metric = "closest_pairs_in_superclass_or_published"
for s, matrix in by_seed.items():
    share = report.plausible_share(matrix, names, supers)
    run.record(metric, share, n=report.CLOSEST, seed=s)
shares = run.rows[run.rows["metric"] == metric]
table(shares[["seed", "value"]], "Plausible among the ten closest, by seed.")

# %% [markdown]
# ## Other distances on the same features
#
# If seeds agree, the map is at least reproducible. Is it needed?
#
# The map is one choice. Others skip it and take the leading principal
# components of the features. With more dimensions a covariance needs more
# shrinkage, chosen for each class from its own images
# {cite:p}`ledoit2004well`.
#
# | distance | idea |
# |---|---|
# | `symmetric_kl` | {eq}`eq-01-symmetric-kl`, but no map in between |
# | `bhattacharyya` {cite:p}`bhattacharyya1943measure` | bounds the error of telling two Gaussians apart |
# | `bures_wasserstein` {cite:p}`bhatia2019bures` | cost of moving one Gaussian onto the other |
# | `mahalanobis` | distance of the means, with one covariance for all |
# | `energy` {cite:p}`szekely2013energy` | mean distances between samples, no Gaussian |
# | `mmd` {cite:p}`gretton2012kernel` | mean difference under a kernel, no Gaussian |
#
# They differ in three respects. Is the step between means divided by a width?
# Then a tight class is far. Do shapes count, or means alone? *mahalanobis* has
# one shape for all classes, estimated from all images together, so it should
# mind few images a class the least of those with a covariance. And is a class
# a Gaussian at all? The last two do not ask.
#
# ```{index} Bhattacharyya distance, energy distance
# ```

# %%
reduced = PCA(dimensions, random_state=seed).fit_transform(features)
matrices = {"KL on the map": D} | {
    name: ld.class_distances(name, reduced, labels, classes)
    for name in ld.DISTANCES
}

# %% [markdown]
# A classifier has its own opinion: two classes are close if it confuses them.
# We ask the reference network about *validation* images, which it was not
# trained on, and take
#
# $$
# D_{ab} = 1 - \tfrac12 (P_{ab} + P_{ba}) ,
# $$ (eq-01-confusion)
#
# where $P_{ab}$ is the mean probability that images of $a$ give to $b$. The
# network must have been trained with the same split; `require_same_split`
# refuses any other.
#
# ```{index} confusion matrix
# ```

# %%
if classifier == "none":
    print("SKIPPED: what a classifier confuses (classifier is 'none').")
else:
    trained_on = splits.provenance.dataset
    require_same_split(classifier, trained_on, splits.provenance)
    network = load_reference(classifier, trained_on)
    logits = predict(network, splits.validation).double().numpy()
    chances = softmax(logits, axis=1)
    held_out = splits.validation.labels
    P = ld.confusion_probabilities(chances, held_out, classes)
    matrices["confusion"] = ld.confusion_distance(P)

# %% [markdown]
# Its last layer has an opinion without looking at any image: the angle
# between the weight vectors of two classes.

# %%
if classifier != "none":
    last = [p for p in network.parameters() if p.ndim == 2][-1]
    matrices["class weights"] = ld.weight_cosine(last.detach().numpy())

# %% [markdown]
# These two come from the network that will be compressed, the others from one
# that was never trained on these images. A good network confuses few pairs, so
# most of its distances are nearly one and their order is largely noise. Its
# close pairs are what it is good for.
#
# None of these is the true distance, but two tests are fair to all. First, do
# they put the pairs in the same order?
#
# In the figure each number is a pair of methods: one is the same order, zero
# none in common. Look at the first row for what the map has changed, above all
# at *symmetric_kl*, the same formula without a map. Then look for blocks:
# methods that agree with one another and not with the rest share an idea, not
# necessarily the truth.

# %%
correlations = ld.rank_correlations(matrices)
show(
    maps.correlation_figure(correlations),
    "Rank correlation of the pair distances between all methods.",
    "Heat map with one number for each pair of methods.",
    "rank-correlations",
)

# %% [markdown]
# Second, do they put pairs within a superclass before pairs across? The area
# under the curve (AUC) is the chance that a random pair within is closer
# than a random pair across: one half is blind, one is perfect.

# %%
auc = {m: ld.separation_auc(d, supers) for m, d in matrices.items()}
with_map = correlations["KL on the map"]
for method, value in auc.items():
    n = len(values)
    run.record("auc_within_between", value, n=n, method=method)
    run.record("spearman_with_map", with_map[method], n=n, method=method)

# %% [markdown]
# Mind what this test favours. People grouped the classes by what they *are*:
# the dolphin is with the mammals and the shark with the fish. Whoever goes by
# looks may put the two together, and is not wrong. And pairs are not
# independent: a class is in as many pairs as there are other classes, so small
# differences between methods mean little. The figure near the end of this
# chapter has them side by side.

# %%
best = max(auc, key=auc.get)
Markdown(
    f"KL on the map reaches {auc['KL on the map']:.3f}; the best here is "
    f"**{best}** with {auc[best]:.3f}."
)

# %% [markdown]
# ## The report's five pairs
#
# The report's Figure 1 shows five close pairs. Here they are with the printed
# value, their rank in the authors' own matrix, and what this run finds.
#
# Compare ranks, not nats: another network, fewer images and another seed of
# the map change the unit of everything, and the order much less. A gap in the
# column *rank* is a pair that is as close and was not shown ({ref}`erratum
# <erratum-report-figure-1>`).

# %%
comparable = report.knows_report_classes(names)
if comparable:
    ours = report.pair_ranks(D, names).add_suffix(" here")
    five = report.printed_pairs().join(ours, on="pair")
    table(five, "The report's five pairs, theirs and here.", name="five")
else:
    print(f"SKIPPED: {splits.provenance.dataset} has other classes.")

# %%
if comparable:
    for _, row in five.iterrows():
        pair, n = row["pair"], len(values)
        run.record("report_pair_distance", row["distance here"], pair=pair)
        run.record("report_pair_rank", row["rank here"], n=n, pair=pair)

# %% [markdown]
# ## The authors' whole matrix
#
# The authors published their matrix, without a licence, so it is not part of
# this book. Set `published_dir` to a folder that holds it, and all pairs are
# correlated with it, once for each seed. Without it the rows of the reference
# run are shown. How large can such a correlation be? Not larger than seeds of
# one's own agree with one another, about: that is the yardstick, not one.

# %%
reference = reference_rows("01_class_distances")
if published_dir and comparable:
    authors = ld.pair_values(report.authors_matrix(published_dir, names))
    for s, matrix in by_seed.items():
        rho = spearmanr(authors, ld.pair_values(matrix)).statistic
        run.record("spearman_with_published", rho, n=len(authors), seed=s)
else:
    print("SKIPPED: the authors' matrix (published_dir is not set, or the")
    print("classes are others). Below: the reference run's rows, if any.")

# %%
known = run.rows if published_dir or reference is None else reference
shown = known[known["metric"] == "spearman_with_published"]
shown = shown[["profile", "dataset", "seed", "value"]]
if len(shown):
    table(shown, "Rank correlation with the authors' matrix, by UMAP seed.")

# %% [markdown]
# ## Verdicts on the report's claims
#
# Each line is computed from the numbers above; the thresholds stand in the
# code. Does the map keep the global structure? It does if seeds agree, and if
# distances on it agree with distances without it.

# %%
off = with_map["symmetric_kl"]
seed_low = between.min()
evidence = f"{seed_low:.2f} between seeds, {off:.2f} with KL off the map"
kept = "holds" if min(seed_low, off) >= 0.9 else "only in part"
skewed = "holds" if skewness["plain"] > 1 else "does not hold here"
tail = f"skewness {skewness['plain']:.2f}"
claims = [
    ("distances are highly skewed (3.2)", tail, skewed),
    ("UMAP keeps global structure too (2.2)", evidence, kept),
]

# %% [markdown]
# Are the pairs of Figure 1 the closest ones? In the authors' matrix some pairs
# that are just as close were left out; and here they should be close too.

# %%
if comparable:
    missing = report.left_out()
    near = int((five["rank here"] <= len(values) / 50).sum())
    made = f"closer, but not shown: {', '.join(missing)}"
    found = f"{near} of {len(five)} in the closest two per cent here"
    scale = {0: "does not hold here", len(five): "holds"}
    claims += [
        ("Figure 1 shows the closest", made, "no" if missing else "holds"),
        ("they are close", found, scale.get(near, "only in part")),
    ]

# %%
verdicts = pd.DataFrame(claims, columns=["claim", "evidence", "verdict"])
table(verdicts, "What the report says, what was found here.", name="verdicts")

# %% [markdown]
# ## Your run and the reference
#
# The reference run uses the full profile. Where its rows are committed, the
# plot shows both runs; else this one alone. A row is a distance, farther to
# the right is better, and one half would be blind. Where the two runs differ,
# look at methods that estimate a covariance for each class: they have the most
# to gain from more images.

# %%
runs = {"reference": reference, "this run": run.rows}
show(
    maps.rows_figure(runs, "auc_within_between", "method", "AUC"),
    "Separation of superclasses by method; one half is chance.",
    "Dot plot with one line for each distance, dots for this run and, where "
    "it is committed, for the reference run.",
    "auc",
)

# %%
for line in closest.itertuples(index=False):
    pair = report.pair_name(line.first, line.second)
    run.record("close_pair_distance", line.distance, pair=pair)
run.save()
comparison = run.compare()
comparison = comparison.dropna(subset="reference")
if len(comparison):
    table(comparison, "This run beside the reference.", name="comparison")

# %% [markdown]
# ## What to keep
#
# - A distance between classes is a network, a map and a formula. Change one at
#   a time before believing a result that rests on it.
# - The divergence of Gaussians knows no units, but it divides by variances:
#   few images make it noisy, and tight classes are far from all.
# - Who is near survives a map better than how far is far. Work with ranks or
#   logarithms.
# - Without a true distance there is still much to test: agreement of seeds,
#   of halves of the images, of methods, and a grouping that was not used.
#
# ## Exercises
#
# ```{exercise}
# :label: ex-01-affine
#
# (5 minutes) Shear and stretch the map: every point $x$ becomes $T x$ with
# $T = \begin{pmatrix} 3 & 1 \\ 0 & 0.5 \end{pmatrix}$. Put the matrix $D$
# without shrinkage and floor into `plain` for the map and into `sheared` for
# the sheared map, and the sheared map's $D$ with the chapter's shrinkage into
# `shrunk`, all three float64 `[C, C]`. What changes, and when?
# ```
#
# ```{hint}
# :class: dropdown
#
# `ld.gaussians` takes `shrinkage` and `floor` as its last two arguments. A
# point is a *row* of `points`, so look twice on which side $T$ stands.
# ```

# %% [markdown]
# ```{solution-start} ex-01-affine
# :class: dropdown
# ```
#
# Without shrinkage nothing changes. Each term is a product in which $T$ and
# its inverse meet: $\Sigma^{-1}$ undoes what $T$ did to the step and to the
# other covariance. Rows are transposed points, so they are multiplied by
# $T^\top$ from the right.

# %% tags=["solution"]
sheared_points = points.astype(float) @ np.array([[3.0, 0.0], [1.0, 0.5]])
plain, sheared = (
    ld.symmetric_kl(ld.gaussians(x, labels, classes, 0.0, floor=0.0))
    for x in (points, sheared_points)
)

# %% [markdown]
# Shrinkage compares a covariance with a circle, and a sheared circle is none.

# %% tags=["solution"]
shrunk = ld.symmetric_kl(ld.gaussians(sheared_points, labels, classes, 0.01))
change = np.abs(shrunk / np.where(D > 0, D, np.inf) - (D > 0))
Markdown(f"With shrinkage the largest relative change is {change.max():.1%}.")

# %% tags=["check"]
T = np.array([[3.0, 1.0], [0.0, 0.5]])
clouds = [T @ points[labels == k].T.astype(float) for k in (0, 1)]
raw = [(cloud.mean(axis=1), np.cov(cloud)) for cloud in clouds]
rounder = [(m, 0.99 * s + 0.01 * np.trace(s) / 2 * np.eye(2)) for m, s in raw]
exact = (kl(*raw[0], *raw[1]) + kl(*raw[1], *raw[0])) / 2
kept_round = (kl(*rounder[0], *rounder[1]) + kl(*rounder[1], *rounder[0])) / 2
check_answer(
    {
        "`plain` has neither shrinkage nor floor; compare with `kl` for the "
        "first two classes": lambda: np.isclose(plain[0, 1], exact, rtol=1e-4),
        "the formula does not mind a shear, so nothing may change": lambda: (
            np.allclose(sheared, plain, rtol=1e-4)
        ),
        "`shrunk` takes T x of each point, and a shrinkage of a hundredth": (
            lambda: np.isclose(shrunk[0, 1], kept_round, rtol=1e-4)
        ),
    }
)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise}
# :label: ex-01-units
#
# (10 minutes) Multiply the reduced features by ten. By what factor does each
# registered distance grow? Collect the factors in a dict `growth`, by name,
# and in a dict `order` the rank correlation of the pairs before and after.
# Can the units of the features change which classes are chosen?
# ```
#
# ```{hint}
# :class: dropdown
#
# The matrices of `reduced` are in `matrices` already, under the names in
# `ld.DISTANCES`. If all entries of a matrix grow alike, so does its norm.
# ```

# %% [markdown]
# ```{solution-start} ex-01-units
# :class: dropdown
# ```
#
# What divides by a width has no units. Bures-Wasserstein is a squared length,
# and grows with the square of the factor; the energy distance is the root of
# a length. The kernel width of MMD follows the median distance, so its values
# stay. The order of the pairs is the same for all, and choosing subsets needs
# no more. Units of *single* features are another matter: only distances that
# divide by a full covariance ignore those.

# %% tags=["solution"]
growth, order = {}, {}
for name in [n for n in ld.DISTANCES if n in matrices]:
    scaled = ld.class_distances(name, 10 * reduced, labels, classes)
    both = [ld.pair_values(m) for m in (matrices[name], scaled)]
    growth[name] = np.linalg.norm(both[1]) / np.linalg.norm(both[0])
    order[name] = spearmanr(*both).statistic
answers = pd.DataFrame({"factor": growth, "rank correlation": order})
table(answers, "Features times ten.")

# %% tags=["check"]
registered = set(ld.DISTANCES) & set(matrices)
part = labels < 4
few_pairs = {
    (name, factor): ld.pair_values(
        ld.class_distances(name, factor * reduced[part], labels[part], 4)
    )
    for name in registered
    for factor in (1, 100)
}

# %% tags=["check"]
check_answer(
    {
        "one factor for each registered distance": lambda: (
            set(growth) == set(order) == registered
        ),
        "ten times ten is a hundred: the factor squared must give what "
        "features times a hundred give": lambda: all(
            np.allclose(
                growth[n] ** 2 * few_pairs[n, 1], few_pairs[n, 100], rtol=1e-3
            )
            for n in registered
        ),
        "one factor for all pairs keeps their order": lambda: (
            min(order.values()) > 0.999
        ),
    }
)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise}
# :label: ex-01-sample
#
# (10 minutes) Compute $D$ twice, each time from half of the images of each
# class. Put the positions of the images of the two halves into the integer
# arrays `one_half` and `other_half`, and the rank correlation of the two
# matrices into `rho`. Do the images or the seed add more noise?
# ```
#
# ```{hint}
# :class: dropdown
#
# The images stand class by class. `points` and `labels` take the same
# positions, and `ld.pair_values` gives the numbers to correlate.
# ```

# %% [markdown]
# ```{solution-start} ex-01-sample
# :class: dropdown
# ```
#
# Every second image is in one half. The halves share one map, so even this
# understates the noise of the images; and a half has more noise than the
# whole, so it overstates the noise of $D$ itself.

# %% tags=["solution"]
one_half, other_half = (np.arange(i, len(labels), 2) for i in (0, 1))
halves = [
    ld.class_distances("symmetric_kl", points[h], labels[h], classes)
    for h in (one_half, other_half)
]
rho = spearmanr(*map(ld.pair_values, halves)).statistic
Markdown(f"Two halves: {rho:.3f}. Two seeds: {between.mean():.3f}.")

# %% tags=["check"]
check_answer(
    {
        "no image may be in both halves": lambda: (
            len({*one_half, *other_half}) == len(one_half) + len(other_half)
        ),
        "each half has about half of the images of each class": lambda: all(
            np.abs(2 * np.bincount(labels[h]) - images_per_class).max() <= 1
            for h in (one_half, other_half)
        ),
    }
)

# %% tags=["check"]
check_answer(
    {
        "`rho` is the correlation of the ranks of all pairs": lambda: (
            np.isclose(
                rho,
                ld.rank_correlations(
                    {
                        i: ld.class_distances(
                            "symmetric_kl", points[h], labels[h], classes
                        )
                        for i, h in enumerate((one_half, other_half))
                    }
                ).loc[0, 1],
            )
        ),
    }
)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise}
# :label: ex-01-noise
#
# (20 minutes) How far apart are two classes that are *the same*? Draw
# `images_per_class` points of one Gaussian in the plane, as many again from
# the same one, and compute the symmetric divergence of the two samples, with
# no shrinkage and no floor. Put at least 500 such values, of independent pairs
# of samples, into a float array `same`, and into `hidden` the share (0 to 1)
# of the chapter's pairs `values` that are below the 95th percentile of `same`.
# ```
#
# ```{hint}
# :class: dropdown
#
# To the library a sample is a class. Make an even number of classes from one
# cloud and take disjoint pairs of them: in a full matrix every sample occurs
# many times, and its entries are not independent.
# ```

# %% [markdown]
# ```{solution-start} ex-01-noise
# :class: dropdown
# ```
#
# The expected value has a closed form. The inverse of a covariance that was
# estimated from $n$ points is too large by the factor
# $f = (n-1)/(n-2-d)$ on average, and the two means differ by a step whose
# expected square is $2/n$ a direction. Together they give
# $\tfrac d2\,[(1 + \tfrac2n) f - 1]$, which is not zero. So with few images
# even equal classes have a distance, and all others are too large as well.
# Shrinkage takes a little of it away.

# %% tags=["solution"]
cloud = np.random.default_rng(seed).normal(size=(1200 * images_per_class, 2))
sample_of = np.repeat(np.arange(1200), images_per_class)
equal = ld.gaussians(cloud, sample_of, 1200, 0.0, floor=0.0)
same = ld.symmetric_kl(equal)[np.arange(0, 1200, 2), np.arange(1, 1200, 2)]
hidden = float((values < np.quantile(same, 0.95)).mean())
Markdown(
    f"Equal classes are {same.mean():.3f} nats apart on average; {hidden:.1%} "
    "of the pairs of this chapter could not be told from them."
)

# %% tags=["check"]
inflated = (images_per_class - 1) / (images_per_class - 4)
expected = (1 + 2 / images_per_class) * inflated - 1  # d / 2 is one here
check_answer(
    {
        "500 positive values or more": lambda: (
            len(same) >= 500 and min(same) > 0
        ),
        "the mean of `same` is off what theory expects: look at the number "
        "of points, at both directions of the divergence, at shrinkage": (
            lambda: (
                abs(np.mean(same) - expected)
                < 6 * np.std(same) / len(same) ** 0.5 + 0.01 * expected
            )
        ),
        "`hidden` is a share of all pairs of this chapter": lambda: np.isclose(
            hidden * len(values),
            (values < np.percentile(same, 95)).sum(),
        ),
    }
)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise}
# :label: ex-01-votes
#
# (60 minutes, a small project) Write a distance that knows nothing of means
# and widths. Let each image ask its ten nearest neighbours, itself not among
# them, for their classes, and let $P_{ab}$ be the share of $b$ among all
# answers that images of $a$ get. Register
# $1 - (P_{ab} + P_{ba})/2$, with a zero diagonal, as `"neighbour_votes"`.
# Judge it beside `"symmetric_kl"` and `"mahalanobis"`, all on `reduced`: a
# data frame `judged` with a line for each of the three names has in `auc` how
# well it separates superclasses, and in `halves` how well two halves of the
# images agree (rank correlation). What is it good at, and what not?
# ```
#
# ```{hint}
# :class: dropdown
#
# `sklearn.neighbors.kneighbors_graph` gives a sparse matrix of who is whose
# neighbour. This chapter has a function that turns opinions of images about
# classes into $P$, and one that turns $P$ into a distance.
# ```

# %% [markdown]
# ```{solution-start} ex-01-votes
# :class: dropdown
# ```
#
# A vote is a classifier's answer, so the two functions for confusions do the
# rest. The measure needs no covariance and no units of distance. But it sees
# close pairs only: two classes that never meet are at distance one, whether
# they are neighbours or worlds apart. Where most pairs are tied at one, it has
# no order to offer among far pairs. Does that show in either test?

# %% tags=["solution"]
from sklearn.neighbors import kneighbors_graph


@ld.register_distance("neighbour_votes", replace=True)
def neighbour_votes(features, labels, num_classes):
    """One less the share of neighbours that two classes give each other."""
    graph = kneighbors_graph(features, 10, include_self=False)
    votes = graph @ np.eye(num_classes)[labels] / 10
    P = ld.confusion_probabilities(votes, labels, num_classes)
    return ld.confusion_distance(P)


# %% tags=["solution"]
parts = slice(None), slice(0, None, 2), slice(1, None, 2)
lines = {}
for name in ("neighbour_votes", "symmetric_kl", "mahalanobis"):
    whole, *two_halves = (
        ld.class_distances(name, reduced[p], labels[p], classes) for p in parts
    )
    agreement = spearmanr(*map(ld.pair_values, two_halves)).statistic
    separates = ld.separation_auc(whole, supers)
    lines[name] = {"auc": separates, "halves": agreement}
judged = pd.DataFrame(lines).T
table(judged, "A distance by votes beside two others.", 3)

# %% tags=["check"]
# Eleven points lie together, six of one class, five of another; eleven of a
# third lie far away. Then the ten nearest of a point are its ten companions.
spots = np.random.default_rng(0).normal(size=(22, 3))
spots[11:] += 1000
owners = np.repeat([0, 1, 2], [6, 5, 11])

# %% tags=["check"]
check_answer(
    {
        "classes whose images never meet are at distance one": lambda: (
            ld.class_distances("neighbour_votes", spots, owners, 3)[2, 0] == 1
        ),
        "six images among eleven have five others in ten neighbours": lambda: (
            np.isclose(
                ld.class_distances("neighbour_votes", spots, owners, 3)[0, 1],
                1 - (5 / 10 + 6 / 10) / 2,
            )
        ),
        "`judged` has a line for each of the three distances; that of "
        "'mahalanobis' was in this chapter": lambda: (
            "symmetric_kl" in judged.index
            and np.isclose(judged["auc"]["mahalanobis"], auc["mahalanobis"])
        ),
        "an AUC lies in 0 to 1, a rank correlation in -1 to 1": lambda: (
            0 <= judged["auc"]["neighbour_votes"] <= 1
            and abs(judged["halves"]["neighbour_votes"]) <= 1
        ),
    }
)

# %% [markdown]
# ```{solution-end}
# ```
#
# ## Make it yours
#
# A distance is a function of features, labels and the number of classes. Once
# registered, it lands in the same tables as the others. This one looks at the
# class means only; change it, run the cells again, and compare.


# %%
@ld.register_distance("means_only", replace=True)
def means_only(features, labels, num_classes):
    """Euclidean distance of the class means."""
    means = [features[labels == k].mean(axis=0) for k in range(num_classes)]
    steps = np.stack(means)[:, None] - np.stack(means)[None]
    return np.linalg.norm(steps, axis=2)


# %%
mine = ld.class_distances("means_only", reduced, labels, classes)
mine_auc = ld.separation_auc(mine, supers)
Markdown(f"`means_only` separates superclasses with AUC {mine_auc:.3f}.")

# %% [markdown]
# To see it in every table and figure above, move its cell up, before *Other
# distances*. {ref}`Chapter 2 <ch-subset-generation>` takes a matrix like these
# and chooses subsets of classes by it.
