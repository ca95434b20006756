# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# (ch-twonn-vs-pca)=
# # TwoNN and PCA
#
# **Question.** Some layers of a network may bear rounding to one bit, others
# may not. Can the dimension of what a layer returns tell which, and does it
# matter how that dimension is estimated?
#
# A layer maps each image to a point. The points of all images lie on some
# surface, whose dimension says how many numbers would be enough to describe
# them. The QuantNET thesis {cite:p}`anirudh2022optimal` calls a layer
# *significant* if it changes this dimension much, and gives such layers more
# bits. It estimates the dimension by the two nearest neighbours of each point
# {cite:p}`facco2017estimating`, where earlier work, Hybrid-Net, counts
# principal components {cite:p}`chakraborty2020constructing`. This chapter
# measures both on the same points, and asks how far they can be trusted.
#
# Behind this stands an argument: a layer that changes the dimension does much
# of the work, so coarse weights would spoil much there. It is plausible, and
# it is not a theorem. How the points lie says nothing direct about how
# sensitive they are to an error in a weight. Hence two separate questions: is
# the dimension well measured (this chapter), and does it point to the right
# layers ({ref}`chapter 6 <ch-quantnet-hybrid>`)?
#
# **You will learn**
# - how two distances a point are enough to estimate a dimension;
# - why estimates of high dimensions are too low, and how one would notice;
# - the profile of dimensions through a network, before and after training;
# - when two methods measure two different things, and look as if they
#   disagreed.
#
# **Inputs.** CIFAR-10, pairs of classes, and the networks of chapter 4, which
# are taken from the cache or trained. All dimensions are measured on training
# images, as the next chapter chooses precisions by them.
#
# **Time on two cores.** smoke: one minute; quick: three minutes and full: an
# hour, once chapter 4's networks are there (both are estimates).

# %%
from functools import partial

import numpy as np
import pandas as pd
from IPython.display import Markdown

from lq_utils import compression_networks as cn
from lq_utils import dimension_claims as dc
from lq_utils import dimension_figures as figures_of
from lq_utils import dimension_study as ds
from lq_utils import dimension_tables as dt
from lq_utils.claim_rows import record_agreement
from lq_utils.components import component_counts, explained_variance
from lq_utils.data import load_dataset
from lq_utils.dimension import register_estimator, two_nearest_neighbors
from lq_utils.exercises import check_answer
from lq_utils.figures import show, table, use_style
from lq_utils.fingerprints import digest

# %%
from lq_utils.gride import gride_curve
from lq_utils.interactive import show_interactive
from lq_utils.interactive_neighbors import two_neighbor_steps
from lq_utils.kept_networks import kept_network
from lq_utils.layer_outputs import layer_outputs
from lq_utils.manifolds import uniform_cube
from lq_utils.nearest import nearest_distances
from lq_utils.parameters import check_parameters
from lq_utils.results import start_run
from lq_utils.significance import selection_stability
from lq_utils.sweeps import cell_grid, sweep
from lq_utils.task_tables import show_by_task
from lq_utils.tasks import (
    all_classes_task,
    fewer_images,
    tasks_key,
    thesis_tasks,
)
from lq_utils.weights import load_reference, require_same_split

# %% tags=["parameters"]
profile: str = "quick"  # smoke|quick|full|custom; names this set of values
dataset: str = "auto10"  # auto10|cifar10|synthetic10; the data
seed: int = 0  # 0..1000000; first network; draws of images
seeds: int = 1  # 1..100; networks; time alike
extra_seeds: int = 1  # 1..100; networks for what TwoNN* may be
train_images: int = 1500  # 0..4200; of each class, 0: all; as chapter 4
test_images: int = 300  # 0..1200; of each class, 0: all; as chapter 4
epochs: int = 6  # 1..200; of base networks; as chapter 4
transfer_epochs: int = 3  # 1..200; of a base network on another task
rate: float = 0.001  # 0.00001..0.1; learning rate of base networks
points: int = 500  # 8..4200; images of each class; time, memory
halvings: int = 2  # 0..6; how often points are halved, for errors
manifold_points: int = 1000  # 160..20000; of the known manifolds
threshold: float = 20.0  # 0..1000; the thesis's, for a significant layer
workers: str = "2"  # 1..64|tcp://*; processes, or a Dask scheduler

# %%
parameters = check_parameters(globals())

# %% [markdown]
# The tasks are those of {ref}`chapter 4 <ch-compression-comparison>`: two
# classes that look alike, two that do not, and the first two with turned
# images. Networks of the first two tasks are profiled here; the second one is
# the thesis's transfer, where training goes on from the first task's network.

# %%
use_style()
pairs = thesis_tasks(dataset=dataset, verbose=False)
close, far, turned = pairs
how_many = train_images, test_images, seed
splits = {k: fewer_images(v, *how_many) for k, v in pairs.items()}
everything = all_classes_task(dataset=dataset, verbose=False)
run = start_run("05_twonn_vs_pca", parameters, everything.provenance)

# %% [markdown]
# Errors will come from disjoint parts of the points, so each part must still
# be large enough for an estimate. Values that cannot work are refused here,
# before anything is trained.

# %%
have = min(np.bincount(s.train.labels).min() for s in splits.values())
if points > have or 2 * points < 20 * 2**halvings:
    raise ValueError(
        f"points={points}, halvings={halvings}: classes have {have} training "
        "images (train_images; 0: all), and parts need 20 points each"
    )

# %% [markdown]
# ## Two neighbours are enough
#
# Take a point, and the distances $r_1 \le r_2$ to its nearest and its second
# nearest neighbour. If points lie evenly on a surface of dimension $d$, at
# least as far as the second neighbour, the ratio $\mu = r_2 / r_1$ has a law
# that knows nothing of the density:
#
# $$
# P(\mu > x) = x^{-d} \quad\text{for } x \ge 1 .
# $$ (eq-05-twonn)
#
# In many dimensions there is much room just outside of a ball, so the second
# neighbour is hardly farther than the first. Ratios near one mean a high
# dimension. (The thesis prints this law with the exponent $d + 1$, which
# belongs to the density; {doc}`the errata <../errata>` have the evidence.)
#
# Why does the density drop out? Measure in volumes, not in distances. The ball
# up to the first neighbour and the shell from there to the second each hold
# about as much volume as one point has to itself. Both volumes follow the same
# exponential law, and its unit, the volume of a point, cancels when one is
# divided by the other. A ball's volume grows as $r^d$, so this quotient is
# $\mu^d - 1$, in which only $d$ is left. {ref}`The errata
# <erratum-thesis-twonn-law>` go through it line by line.
#
# The assumption is modest: an even density within reach of *two* neighbours.
# It fails where noise is larger than these distances, where values are so
# coarse that many distances are equal, near a border, and where points are so
# few that the second neighbour is not near at all. The last two will matter
# here.
#
# Two ways lead from {eq}`eq-05-twonn` to $d$. The *likelihood* is largest at
#
# $$
# \hat d = \frac{N}{\sum_i \log\mu_i} ,
# $$ (eq-05-likelihood)
#
# and $N - 1$ in place of $N$ makes it unbiased. *Regression* takes the sorted
# $\log\mu_{(i)}$ and fits a line through the origin to $-\log(1 - i/N)$; its
# slope is $d$. The largest tenth of the ratios, which is where real data and
# the law part, is left out.
#
# The two weigh the points differently. The likelihood takes every ratio at its
# word, so a few huge ones pull it down. The regression looks at the order of
# the ratios and leaves the tail out. Where the law holds they agree up to
# noise; where they disagree, the law does not hold for these points. The
# thesis's formula for the likelihood has two slips of its own, see {ref}`the
# errata <erratum-thesis-twonn-likelihood>`.
#
# ```{index} TwoNN, intrinsic dimension
# ```
#
# ### By hand
#
# A case with a known answer: points in a square, which is turned at random
# into a space of more dimensions. That changes coordinates, but no distance,
# so the answer must be near two. Sort each row of the matrix of distances; the
# first entry is the point itself.

# %%
flat = uniform_cube(dimension=2, points=300, ambient=5, seed=seed)
apart = np.linalg.norm(flat[:, None] - flat[None], axis=2)
apart.sort(axis=1)
first, second = apart[:, 1], apart[:, 2]  # column 0 is the point itself
logs = np.sort(np.log(second / first))

# %% [markdown]
# Both estimates in a few lines. The share $i/N$ stands for the probability of
# a ratio up to $\mu_{(i)}$, so $-\log(1 - i/N)$ should be $d \log \mu_{(i)}$,
# a line through the origin. Its slope by least squares is one quotient of
# sums.

# %%
likelihood = (len(logs) - 1) / logs.sum()
kept = int(0.9 * len(logs))
share = -np.log(1 - np.arange(1, kept + 1) / len(logs))
slope = (logs[:kept] @ share) / (logs[:kept] @ logs[:kept])

# %% [markdown]
# The library's regression is that of scikit-dimension {cite:p}`bac2021scikit`,
# written by others, so that an equal result checks the formula and the program
# at once.

# %%
for method, by_hand in (("likelihood", likelihood), ("regression", slope)):
    fast = two_nearest_neighbors(flat, method=method)
    assert np.isclose(fast.value, by_hand, rtol=1e-3)
Markdown(f"A square in five dimensions: {likelihood:.2f} and {slope:.2f}.")

# %% [markdown]
# The same square, point by point. Each step of the slider adds one point: its
# place in the square, its two neighbours close up, and the line through all
# ratios so far; the last steps add many points at once. Look at how unsteady
# the slope is while points are few, and that a point in a dense place can have
# the same ratio as one in a thin place.

# %%
show_interactive(
    two_neighbor_steps(flat),
    "TwoNN on the square: neighbours of a point, and the line so far.",
    "Points of a square with two neighbours; ratios with a fitted line.",
    "two-neighbours",
)

# %% [markdown]
# ## Where the truth is known
#
# A cube of dimension $d$, turned at random into more dimensions than it has,
# is a case with a known answer. Principal components count its directions
# exactly. For neighbours, it is a hard case: in high dimensions nearly all
# points lie near the border, where half of the room for neighbours is empty.
#
# A line of the table is a cube. Compare *regression*, *likelihood* and
# *censored* with *true*, and then the distance between them with *error*: is
# the truth within a few errors?

# %%
truths = [2, 5, 10, 20]
shapes = {d: uniform_cube(d, manifold_points, 64, seed) for d in truths}
known = dt.known_table(shapes)
table(known, "Estimated dimension of cubes, and the true one.", 2)

# %% [markdown]
# The higher the dimension, the more TwoNN is a lower bound, whichever of the
# three ways is taken. The error does not show this. It comes from disjoint
# parts of the points, and says how far other points would have moved the
# estimate, not how far all estimates are off. *scale* is the mean distance to
# the second neighbour: how coarse the look is.
#
# Why too low? At a face of the cube the ball around a point sticks out, and
# the part outside is empty. Neighbours are missing in the direction that
# points out, as if there were fewer directions. A cube of dimension $d$ has
# $2d$ faces, so nearly every point is near one of them when $d$ is large.
# Principal components do not mind: they look at the whole cloud at once, and
# this cloud is flat.

# %%
last = known.iloc[-1]
Markdown(
    f"At {last['true']:.0f} dimensions the estimate is too low by "
    f"{1 - last['regression'] / last['true']:.0%}, with an error of "
    f"{last['error'] / last['true']:.0%}."
)

# %% [markdown]
# More points look at a finer scale, and help slowly. A *scaling curve* shows
# the same estimate with half of the points, a quarter, and so on. It may look
# flat while it is still too low: flat is no proof.
#
# The reason for the slowness: to halve the distance between neighbours in $d$
# dimensions takes $2^d$ times as many points. Doubling them hardly changes the
# scale where $d$ is large. In the figure points grow to the right, on a
# logarithmic axis, and each line belongs to one cube. Look at the right ends:
# does a line still rise, and how far is it from its own true dimension?

# %%
deep = min(halvings + 2, int(np.log2(manifold_points / 20)))
curves = dt.scaling_table(shapes, deep, seed)
show(
    figures_of.scaling_figure(curves),
    "Estimated dimension against the number of points, cubes.",
    "Four lines; those of higher dimension lie farther below their true "
    "value.",
    "scaling-known",
)

# %% [markdown]
# What to keep: the same method, on the same number of points, is nearly right
# for a square and far off for a high dimension. So estimates of different
# layers are biased by different amounts, high ones more. Differences of high
# dimensions come out too small.
#
# Neighbours at a greater distance see the surface at a coarser scale. *GRIDE*
# {cite:p}`denti2022generalized` takes the ratio of the distances to neighbour
# $2n$ and neighbour $n$ in place of the second and first. An estimate that
# stays the same does not depend on the scale. One that falls may see noise at
# the smallest scale, or at larger ones curvature or, as here, the border.
#
# Read the table down a column. The first line is TwoNN by likelihood; below it
# the neighbours are farther and farther away. For these cubes the truth is
# known and does not depend on the scale, so whatever changes down a column is
# the method's doing.
#
# ```{index} GRIDE
# ```

# %%
farthest = 2 ** int(np.log2(min(64, manifold_points // 4)))
ranks = {d: gride_curve(x, farthest) for d, x in shapes.items()}
coarse = pd.concat(ranks, names=["true dimension"]).droplevel(1)
wide = coarse.reset_index().pivot(
    index="rank_far", columns="true dimension", values="value"
)
table(wide, "GRIDE: dimension by the rank of the farther neighbour.", 2)

# %% [markdown]
# ### Fast, and the same
#
# Most of the time goes into distances. One matrix product in float32 gives
# all of them at once, too coarsely to trust: where two points are close, the
# product cancels. So the product only proposes a few candidates for each
# point; their distances are computed again from differences in float64, and
# a bound on the rounding tells for which points that was not enough.
#
# A wrong neighbour would not show in any table, it would only shift a
# dimension a little. So the test is strict: distances to both neighbours,
# against those computed one by one, to nine digits.

# %%
cloud = uniform_cube(10, min(manifold_points, 1000), 500, seed)
near = nearest_distances(cloud, ranks=2)
exact = np.linalg.norm(cloud[:10, None] - cloud[None], axis=2)
exact.sort(axis=1)
assert np.allclose(near.distances[:10], exact[:, 1:3], rtol=1e-9)

# %% [markdown]
# ## Profiles of QuantNET
#
# Now layers. A layer's output for an image, as a long vector, is a point;
# there are as many points as images. As in the thesis the second task starts
# from the network of the first one. Outputs are taken behind the ReLU, before
# pooling. For comparison, the same networks untrained.
#
# `study` computes cells, a cell being one network and all estimates on its
# layers, and stores each as soon as it is finished. Its name holds the images,
# the plan of training and the code, so an outdated result is never used.

# %%
plan = ds.training_plan(epochs, transfer_epochs, rate)
study = partial(
    sweep,
    shared={"splits": splits},
    key=tasks_key(splits),
    code=ds.CODE,
    n_jobs=workers,
)

# %% [markdown]
# Every task, trained and untrained, with each seed. A row of the result is one
# estimate: a layer, a method, a view of its output, all images or one part of
# them.

# %%
many = list(range(seed, seed + seeds))
axes = {
    "seed": many,
    "trained": [True, False],
    "per_class": [points],
    "halvings": [halvings],
    "plan": [plan],
}
cells = cell_grid(task=[close], start=[cn.OWN], **axes)
cells += cell_grid(task=[far], start=[close], **axes)
rows = study("05_profiles", ds.profile_rows, cells).drop(columns="plan")
rows["network"] = np.where(rows["trained"], "trained", "untrained")

# %%
whole = dt.chosen_rows(rows, "regression")
shown = dt.profiles(whole, ["task", "network"])
show(
    figures_of.profile_figure(shown),
    "Dimension of what each layer returns, TwoNN by regression. Bars, where "
    "there are several networks, are 95 % intervals of their mean.",
    "For each of two tasks two lines from the input to the last hidden "
    "layer. That of trained networks rises and then falls.",
    "profiles",
)

# %% [markdown]
# Look first at the distance between the two lines of a panel, then at their
# shape. The bars say how far other networks would be, on other draws of
# images. The height itself belongs to the number of images, as the cubes have
# shown, so compare it with no other study.
#
# Ansuini and others found such a *hunchback* in large trained networks
# {cite:p}`ansuini2019intrinsic`: the first layers spread the data out, the
# later ones fold it up. The untrained networks are the control. The last layer
# shown has 16 units and cannot hold more than 16 dimensions, so part of the
# fall is architecture. Only what differs between the two lines was learned.
#
# How can a dimension *rise*? A layer is a function of its input, continuous
# and made of linear pieces. What comes out of a surface of dimension $d$ has
# dimension $d$ at most, whatever the number of units. So a rise is no new
# dimension. Variations too small to be seen at the distance of neighbours, or
# drowned by brightness and contrast, have been made larger. A measured
# dimension belongs to a scale, and layers change the scale.
#
# The table below takes the difference network by network, so that what is
# peculiar to a draw of images cancels. Positive: training has raised the
# dimension of that layer. An interval that contains zero is compatible with no
# effect, and with one network there is no interval.
#
# ```{index} hunchback profile
# ```

# %%
caption = "Dimension of trained less untrained networks"
show_by_task(dt.learned_table(whole), caption, "learned")

# %% [markdown]
# Networks differ, and so do the images drawn for them, and both are in the
# bars above. How well is the dimension of *one* network known? Estimates from
# disjoint parts of its images tell (the parameter `halvings` says how many).
#
# *scale*, the mean distance of the second neighbour, is in units of the
# layer's own outputs. It cannot be compared between layers, but it tells how a
# layer looks with fewer images: farther neighbours, a larger scale.

# %%
one = rows[(rows["seed"] == seed) & (rows["task"] == close) & rows["trained"]]
table(
    dt.part_errors(one, "regression"),
    f"One trained network: dimension, and its error over {2**halvings} parts.",
    2,
)

# %% [markdown]
# Smaller parts have another bias as well. The same question as for cubes:
# what would more images give?
#
# All images, then halves, quarters and so on; each point of a line is the mean
# over such parts and over networks.

# %%
growth = pd.concat(
    dt.chosen_rows(rows[rows["trained"]], "regression", parts=2**k)
    for k in range(halvings + 1)
)
growth = growth[growth["task"] == close]
growth["points"] = growth.groupby("parts")["points"].transform("max")
means = growth.groupby(["layer", "points"], sort=False)["value"]
curve = means.agg(["mean", "std"]).reset_index()
curve = curve.rename(columns={"layer": "name", "mean": "value"})
curve = curve.rename(columns={"std": "error"})

# %%
show(
    figures_of.scaling_figure(curve),
    "Dimension of layers against the number of images. Bars are standard "
    "deviations over parts and networks.",
    "One line a layer.",
    "scaling-layers",
)

# %% [markdown]
# As with the cubes, the right ends matter. A layer whose line is flat there
# may be at its dimension, or be stuck as a cube of high dimension seems to be.
# A line that still rises has not arrived anywhere. If layers rise at different
# speeds, the *step* between two of them changes with the number of images,
# too.
#
# Where lines rise, the dimension depends on how many images there were, and a
# threshold on a *difference* of dimensions, as the thesis has it, has to move
# with their number.
#
# The other look at the scale, by farther neighbours, is for one network.
#
# A fall down a column that is like the cubes' needs no explanation but a
# border. A rise would say that the nearest neighbours are too near: pairs of
# almost equal images, for example. Layers whose output does not vary at all
# are left out.

# %%
network = kept_network(far, close, seed, plan, splits)
images = splits[far].train.per_class(points, seed)
outputs = layer_outputs(network, images, ds.LAYERS)
outputs = {name: x for name, x in outputs.items() if np.ptp(x) > 0}
reach = 2 ** int(np.log2(min(64, points // 2)))
table(
    dt.gride_table(outputs, reach),
    "GRIDE: dimension of layers by the rank of the farther neighbour.",
    1,
    name="gride-layers",
)

# %% [markdown]
# ### A deeper network
#
# QuantNET has four hidden layers. In the reference ResNet of chapter 3 every
# block is a step, and a hunchback would have room. (Untrained, its batch
# normalizations do nothing yet.)
#
# A trained network is compared with one of random weights again. The left
# panel is TwoNN on all that a block returns, the right one counts components
# of channels. Ansuini and others report that linear estimates miss the
# difference between trained and untrained networks
# {cite:p}`ansuini2019intrinsic`; here both panels are from the same images, so
# look for a difference in each.

# %%
larger = {"auto10": "auto", "cifar10": "cifar100"}
photos = load_dataset(larger.get(dataset, "synthetic100"))
trained_on = photos.provenance.dataset
require_same_split("resnet20", trained_on, photos.provenance)
cells = cell_grid(
    trained=[True, False],
    per_class=[max(2, 2 * points // photos.train.num_classes)],
    seed=[seed],
    model=["resnet20"],
    trained_on=[trained_on],
)
of_blocks = sweep(
    "05_reference",
    ds.reference_rows,
    cells,
    shared={"splits": photos},
    key={
        "splits": [digest(photos.train.images), digest(photos.train.labels)],
        "weights": digest(load_reference("resnet20", trained_on)),
    },
    code=ds.CODE,
    n_jobs=workers,
)

# %%
by_block = dt.reference_profiles(of_blocks, ["regression", "PCA 99 %"])
show(
    figures_of.profile_figure(by_block.rename(columns={"method": "task"})),
    "The reference ResNet on training images, block by block (0 is the "
    "input): TwoNN, and principal components of channels. Bars are standard "
    f"errors over parts of {of_blocks['points'].max()} images at most; "
    f"{photos.provenance.stamp()}.",
    "Two panels with a line for the trained and one for the untrained "
    "network, against the number of the block.",
    "reference-profile",
)

# %% [markdown]
# This is a single network, so its bars cover the draw of images and nothing
# else. Whether another training would give the same peak, they do not say.
#
# ## Counting components
#
# Principal components are the axes along which points vary most. The number
# that holds 99 % of the variance is a dimension, too, if the surface is flat.
# But of which points? Published counts of components take the *channels at
# each position* as a point, so that a layer of 32 channels cannot have more
# than 32. TwoNN gets *all that a layer returns* for an image. The thesis seems
# to compare these two numbers ({doc}`errata <../errata>`). Below both are
# counted on the same points.
#
# What would a difference mean? A circle has one dimension, and two components.
# A curved surface needs more components than it has dimensions, so a large gap
# is expected of curved data. But a gap has a second cause: a count by share of
# variance is a count over the *whole* cloud, in which every faint direction of
# a long tail counts as one. At the distance of neighbours the same faint
# direction may be too thin to notice. The table cannot tell the two causes
# apart; the control after it can.
#
# Each line is a layer, each column one way to count; the networks are the
# trained ones of the first task.
#
# ```{index} principal component analysis
# ```

# %%
views = {
    (m, view): dt.chosen_rows(
        rows[rows["trained"] & (rows["task"] == close)], m, view=view
    )
    .groupby("layer", sort=False)["value"]
    .mean()
    for m, view in (
        ("regression", ds.FLATTENED),
        ("PCA 99 %", ds.FLATTENED),
        ("PCA 95 %", ds.FLATTENED),
        ("PCA 99 %", ds.CHANNELS),
        ("PCA 95 %", ds.CHANNELS),
    )
}
same = pd.DataFrame({f"{m}, {view}": v for (m, view), v in views.items()})
table(same, "The same layers, counted in different ways.", 1)

# %% [markdown]
# Flattened outputs need more components than TwoNN finds dimensions. (Their
# number cannot exceed that of the images less one.) This alone does not show a
# curved surface. A flat cloud with the same variances is the control: a
# Gaussian with the principal axes of the images themselves.
#
# Read the two lines against each other. Their components need not be equal:
# the twin is *drawn* with these variances, and a sample with no more points
# than directions spreads its variance less evenly than the cloud it comes
# from. If TwoNN finds as low a dimension for the twin as for the images, then
# unequal variances explain the gap and curvature is not needed. If the twin
# comes out much higher, images have a structure beyond variances: curvature,
# or clusters. The twin's own value is too low, like a cube's.

# %%
table(
    dt.flat_twin_table(outputs["input"], seed),
    "Images, and a flat Gaussian cloud with the same variances.",
    1,
    name="twin",
)

# %% [markdown]
# The channel view is no estimate of the same quantity at all. It asks how many
# filters are not combinations of others, over all positions, and can never
# exceed the number of filters. That is a sensible question for whoever wants
# to remove filters. It is not the dimension of a set of images, see {ref}`the
# erratum on the two objects <erratum-thesis-objects>`.
#
# The thesis looks for a *knee* in the cumulative variance, and takes its
# absence as a sign of curved surfaces.
#
# The horizontal axis counts components, the vertical one adds up the variance
# they hold; marks stand where a curve passes a dotted line. Curves of wide
# layers can go on longer than those of narrow ones, so compare where they
# bend, not where they end.

# %%
show(
    figures_of.variance_figure(
        {name: explained_variance(x) for name, x in outputs.items()}
    ),
    "Figure 4.5 of the thesis: variance held by the first components of "
    f"channels, {far}.",
    "Rising curves, one a layer, with lines at 95 and 99 per cent.",
    "variance",
)

# %% [markdown]
# A smooth curve proves nothing about curvature. A flat cloud whose variance
# falls off gradually from axis to axis has no knee either, as a Gaussian
# with such axes shows.
#
# Its standard deviations fall as $1, 1/2, 1/3, \dots$, and no share is much
# smaller than the one before it. Natural images have spectra of that kind
# without any layer. A missing knee says that variance is spread out, not how
# the surface is bent.

# %%
axes_of = 1.0 / np.arange(1, 65)
smooth = np.random.default_rng(seed).normal(size=(4000, 64)) * axes_of
held = explained_variance(smooth)
steps = np.diff(held, prepend=0)
assert (steps[1:] / steps[:-1]).min() > 0.2  # nowhere a sudden drop
Markdown(
    "Flat, and no knee: shares of the first, second, fifth and tenth axis "
    + ", ".join(f"{steps[i]:.1%}" for i in (0, 1, 4, 9))
    + "."
)

# %% [markdown]
# ## Table 4.6
#
# The thesis prints one number a layer, method and task, without errors. Our
# means over networks stand beside them. Compare the order of layers within a
# column first; it depends less on the number of images than the values do.

# %%
domains = {"source": close, "target": far}
trained_rows = rows[rows["trained"]]
ours = dc.thesis_dimensions(trained_rows, domains)
show_by_task(ours, "Table 4.6, and ours", "dimensions", digits=1)

# %% [markdown]
# The thesis does not say how many images it took, so neither closeness nor
# distance of the higher values says much. Its last hidden layer has a
# dimension of about 1 by both methods, which is what an output of *one* number
# would give; ours has more.
#
# Its PCA column can be compared with ours for channels only: no value exceeds
# the number of filters.
#
# Whether outputs are taken before or behind the ReLU is not said, and
# matters. The table below is of outputs before it.
#
# Before the ReLU an output is linear in the layer's input, so it cannot bend
# anything; behind it half of the values or more may be zero, and a unit that
# is zero for both of two neighbours has dropped out of their distance. That
# the table differs from the one above is therefore no error of either. A study
# has to say which of the two it has measured.

# %%
before = dt.chosen_rows(trained_rows, "regression", output=ds.LINEAR)
linear = dt.profiles(before, ["task"])
pca = dt.chosen_rows(trained_rows, "PCA 99 %", output=ds.LINEAR)
linear["PCA 99 %"] = dt.profiles(pca, ["task"])["value"]
table(
    linear.drop(columns=["error", "low", "high"]),
    "Outputs before the ReLU.",
    1,
)

# %% [markdown]
# ### What TwoNN* may have been
#
# Table 4.6 has a third column, *TwoNN\**, that is {ref}`explained nowhere
# <erratum-thesis-starred>`. Its values are far lower for the input and the
# convolutions, and nearer for the linear layers. So it should be something
# that differs mostly for maps. Section 3.3.1 has a hint: TwoNN is done on
# flattened outputs "instead of following the procedure on channel outputs". We
# try readings, and judge them by the input and the convolutions alone.
#
# A line of the table is a reading, the last line is what the thesis prints.
# The last column sums up the misfit as a mean of $|\log_2|$ of ratios: zero is
# perfect, one is a factor of two in either direction. With several readings to
# choose from, one is the nearest even if none is right.

# %%
less = list(range(seed, seed + extra_seeds))
tried = study(
    "05_readings",
    ds.candidate_rows,
    cell_grid(task=[close], seed=less, per_class=[points], plan=[plan]),
)
readings = dc.reading_table(tried)
table(readings, "Readings of TwoNN*, and the thesis's values.", 2)

# %%
guesses = readings.iloc[:-1].dropna(subset="mean |log2 ratio|")
best = guesses.loc[guesses["mean |log2 ratio|"].idxmin()]
plain = guesses.set_index("reading").loc["as TwoNN", "mean |log2 ratio|"]
star = dc.thesis_columns("source")["thesis, TwoNN*"]["input"]
Markdown(
    f"Nearest is *{best['reading']}*, off by a factor of "
    f"{2 ** best['mean |log2 ratio|']:.2f} in the mean; TwoNN itself is off "
    f"by {2**plain:.2f}. Points of channels cannot be all of it: a pixel has "
    f"three channels, and the thesis prints {star} for the input. This is a "
    "guess about somebody else's program, and no more."
)

# %% [markdown]
# ## Significant layers
#
# The thesis calls a layer significant if the dimension changes by more than
# a threshold $\Delta$ from the layer before, up or down:
#
# $$
# |\mathrm{ID}_l - \mathrm{ID}_{l-1}| > \Delta , \qquad \Delta = 20 .
# $$ (eq-05-significant)
#
# Hybrid-Net
# {cite:p}`chakraborty2020constructing` counts *increases* of the number of
# components only. So the thesis's comparison of TwoNN with PCA changes two
# things at once, the estimator and the rule. Here is each estimator under both
# rules, for the second task, and the thesis's own numbers. The first layer is
# left out: it always keeps full precision.
#
# For each method the table has the step at every layer, with its sign, and
# then the layers that each rule would choose. Two comparisons are clean: the
# same rule for two estimators, and the same estimator under two rules. The
# thesis's contrast goes from one corner to the opposite one ({ref}`erratum
# <erratum-thesis-criteria>`). Watch, too, how near steps are to the threshold:
# a step just above it and one just below are hardly different.
#
# ```{index} significance, Hybrid-Net
# ```

# %%
target = trained_rows[trained_rows["task"] == far]
estimators = {
    "TwoNN, regression": dt.chosen_rows(target, "regression"),
    "TwoNN, likelihood": dt.chosen_rows(target, "likelihood"),
    "PCA 95 %, channels": dt.chosen_rows(target, "PCA 95 %"),
    "PCA 99 %, channels": dt.chosen_rows(target, "PCA 99 %"),
    "PCA 99 %, flattened": dt.chosen_rows(
        target, "PCA 99 %", view=ds.FLATTENED
    ),
}
measured = {k: dt.dimensions_of(own) for k, own in estimators.items()}
theirs = dc.thesis_columns("target")
table(
    dc.significance_table(measured | theirs, threshold),
    f"Steps of the dimension, and layers chosen at {threshold:g}.",
    1,
    name="significant",
)

# %% [markdown]
# ### How stable is the choice?
#
# A choice that depends on which images were taken, how many, or which seed
# the network had, is no property of the architecture. For each threshold:
# the share of networks in which a layer is chosen, and the same for parts of
# the images.
#
# In the figures the threshold grows to the right, and each layer has a falling
# curve: the share of networks that choose it. A curve that drops like a cliff,
# far from the dotted line, is a stable choice. One that comes down gently
# across it means that the seed decides. If the panel of parts has its cliffs
# elsewhere than the panel of all images, the number of images decides.

# %%
limits = np.linspace(0, 60, 31)
pieces = {"all images": 1, f"{2**halvings} parts": 2**halvings}
for method, rule in (("regression", "absolute"), ("PCA 99 %", "signed")):
    shares = [
        selection_stability(
            dt.resamples(target, method, parts), limits, rule, dt.ENDS
        ).assign(method=label)
        for label, parts in pieces.items()
    ]
    show(
        figures_of.stability_figure(pd.concat(shares), threshold),
        f"{method}, {rule} rule, {far}: share of networks, and of networks "
        "and parts of their images, in which a layer is significant. A part "
        f"has {2 * points // 2**halvings} images.",
        "Falling curves, one a layer, against the threshold.",
        f"stability-{rule}",
    )

# %%
at = selection_stability(
    dt.resamples(target, "regression", 2**halvings), [threshold], skip=dt.ENDS
)
table(at, f"TwoNN on parts of the images, at {threshold:g}.", 2)

# %% [markdown]
# A share on parts belongs to their number of images. And a stable choice is
# not yet a right one. Whether layers that are called significant need more
# bits is an experiment, which the next chapter makes.
#
# ### Verdicts
#
# What section 4.2.5 says of dimensions can be tested with these rows, network
# by network: *agree* is the share of networks in which a statement is true. A
# statement holds if nearly all of them agree, and fails if half of them or
# fewer do. With one network, nothing is decided.

# %%
verdicts = dc.thesis_verdicts(trained_rows, domains)
table(verdicts, "What the thesis says of dimensions, and ours.", 2)
record_agreement(run, verdicts)

# %%
for line in shown.to_dict("records"):
    ci = (line["low"], line["high"])
    run.record(
        "dimension",
        line["value"],
        ci=None if np.isnan(ci).any() else ci,
        n=int(line["networks"]),
        **{k: line[k] for k in ("task", "network", "layer")},
    )
for line in known.to_dict("records"):
    run.record("cube_dimension", line["regression"], true=int(line["true"]))
for line in ours.to_dict("records"):
    keys = {"task": line["task"], "layer": line["layer"]}
    run.record("components", line["PCA 99 %"], **keys)

# %%
run.save()
comparison = run.compare()
comparison = comparison.dropna(subset="reference")
if len(comparison):
    table(comparison, "This run beside the reference.", name="comparison")

# %% [markdown]
# ## What to keep
#
# - A dimension is measured at a scale, with a number of points. Without both
#   it cannot be compared.
# - An error bar from resampling covers chance, not bias. A case with a known
#   answer shows the bias.
# - Counting components and looking at neighbours are two questions. Before one
#   says that they disagree, they have to be asked of the same points.
# - A control that lacks the property, such as an untrained network or a flat
#   cloud, says what part of a finding needs it.
#
# ## Exercises
#
# ```{exercise}
# :label: ex-05-scale
#
# (5 minutes) All values that a layer returns are multiplied by ten. What
# happens to its dimension by TwoNN, and what to the number of components?
# What if one channel alone is multiplied? Take the first 200 images of
# `outputs["input"]`, flattened. Put a pair (dimension by `"likelihood"`,
# components that hold 99 % of the variance) into `unscaled`, into
# `all_louder` for all values tenfold, and into `one_louder` for channel 0
# tenfold.
# ```
#
# ```{hint}
# :class: dropdown
#
# `two_nearest_neighbors(..., blocks=None)` estimates no error, and
# `component_counts` returns a dict by shares. Scale a copy: the values are
# shared with `outputs`. Channels are the second axis.
# ```

# %% [markdown]
# ```{solution-start} ex-05-scale
# :class: dropdown
# ```
#
# All values together change nothing, as both numbers come from ratios. One
# channel alone changes both: distances and variances are then mostly that
# channel's. So a dimension depends on the units in which channels are given.


# %% tags=["solution"]
def counted(values):
    """Dimension by likelihood, and components for 99 %."""
    rows = values.reshape(len(values), -1)
    found = two_nearest_neighbors(rows, "likelihood", blocks=None)
    return found.value, component_counts(rows)[0.99]


soft = outputs["input"][:200].astype(float)
loud = soft.copy()
loud[:, 0] *= 10
unscaled, all_louder = counted(soft), counted(10 * soft)
one_louder = counted(loud)
cases = {
    "as it is": unscaled,
    "all tenfold": all_louder,
    "one channel tenfold": one_louder,
}
Markdown(
    "; ".join(
        f"{case}: dimension {value:.2f}, {count} components"
        for case, (value, count) in cases.items()
    )
    + "."
)

# %% [markdown]
# The check has another way to both numbers. Squared distances add up over
# channels, so that the distances of the scaled images follow from those of
# single channels. Centred, the same matrix holds the variances.

# %% tags=["check"]
from scipy.spatial.distance import cdist

channels = np.moveaxis(outputs["input"][:200].astype(float), 1, 0)
channels = channels.reshape(3, channels.shape[1], -1)
squares = [cdist(each, each, "sqeuclidean") for each in channels]
middle = np.eye(len(squares[0])) - 1 / len(squares[0])
expected = []
for loudness in (1, 100):
    squared = loudness * squares[0] + squares[1] + squares[2]
    second, first = np.sort(squared, axis=1)[:, [2, 1]].T
    value = 2 * (len(first) - 1) / np.log(second / first).sum()
    held = np.linalg.eigvalsh(-middle @ squared @ middle)[::-1].cumsum()
    expected.append((value, 1 + np.sum(held < (0.99 - 1e-9) * held[-1])))

# %% tags=["check"]
check_answer(
    {
        "a common factor cancels in a ratio": lambda: np.allclose(
            unscaled, all_louder
        ),
        "a pair: dimension by likelihood, components for 99 %": lambda: (
            np.allclose(unscaled, expected[0])
        ),
        "for the last pair scale channel 0 of every image": lambda: (
            np.allclose(one_louder, expected[1])
        ),
    }
)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise}
# :label: ex-05-twins
#
# (10 minutes) Some images are there twice, to the bit. What does the ratio
# of distances become for them, and what should an estimator do? Put the first
# 30 points of `flat` behind `flat` once more. Into `naive` put the likelihood
# estimate $(N - 1) / \sum \log \mu_i$ of these 330 points, taken to the
# letter. Then write `careful(points)`, which returns the dimension by
# likelihood (a float) and is not misled.
# ```
#
# ```{hint}
# :class: dropdown
#
# NumPy divides by zero with a warning only. Which logarithm does an infinite
# ratio have? `np.unique(points, axis=0)` finds rows that are equal.
# ```

# %% [markdown]
# ```{solution-start} ex-05-twins
# :class: dropdown
# ```
#
# The nearest distance is 0, and the ratio infinite. In a likelihood one such
# point makes the dimension 0. Left in their place, as the largest ratios,
# they shift all others. Equal points are one point: they are removed, and
# how many were is reported, as the library does.


# %% tags=["solution"]
def to_the_letter(points):
    """Dimension by likelihood, whatever the distances are."""
    distances = np.linalg.norm(points[:, None] - points[None], axis=2)
    near = np.sort(distances, axis=1)[:, 1:3]
    with np.errstate(divide="ignore"):
        logs = np.log(near[:, 1] / near[:, 0])
    return (len(points) - 1) / logs.sum()


def careful(points):
    """Dimension by likelihood; equal points count once."""
    return to_the_letter(np.unique(points, axis=0))


twins = np.concatenate([flat, flat[:30]])
naive = to_the_letter(twins)
assert two_nearest_neighbors(twins, blocks=None).removed == 30

# %% tags=["check"]
check_answer(
    {
        "`naive`: a single infinite term decides the sum": lambda: (
            abs(naive) < 1e-9
        ),
        "without equal points it is the chapter's likelihood": lambda: (
            np.isclose(careful(flat), likelihood)
        ),
        "30 points more that are old ones change nothing": lambda: np.isclose(
            careful(np.concatenate([flat, flat[:30]])), likelihood
        ),
        "nor does having every point three times": lambda: np.isclose(
            careful(np.repeat(flat, 3, axis=0)), likelihood
        ),
    }
)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise}
# :label: ex-05-border
#
# (20 minutes) The chapter blames the border for the low dimension of cubes.
# Take it away: glue opposite faces together, so that a point near 1 is next
# to one near 0 in that coordinate. Write `glued(points)`, which takes float64
# `[N, d]` in the unit cube and returns float64 `[N, 2]`, the distances to the
# two nearest neighbours in the glued cube. Then draw
# `np.random.default_rng(seed).random((1000, 8))` and put its dimension by
# likelihood into `with_border` (as it is) and `without_border` (glued).
# ```
#
# ```{hint}
# :class: dropdown
#
# In one coordinate there are two ways from a point to another, around the
# circle. Which is the shorter one, if the direct way has length $a$?
# ```

# %% [markdown]
# ```{solution-start} ex-05-border
# :class: dropdown
# ```
#
# In each coordinate the way is $a$ or $1 - a$, whichever is shorter. The
# points are the same ones, and nothing about them has changed but the border.
# Without it the estimate is at the true dimension, up to its noise: the
# border was the cause. (In still more dimensions the second neighbour is
# farther than half around, and another error begins.)


# %% tags=["solution"]
def glued(points):
    """Distances to two neighbours, opposite faces being one."""
    ways = np.abs(points[:, None] - points[None])
    ways = np.minimum(ways, 1 - ways)
    return np.sort(np.linalg.norm(ways, axis=2), axis=1)[:, 1:3]


box = np.random.default_rng(seed).random((1000, 8))
reach_of = glued(box)
without_border = 999 / np.log(reach_of[:, 1] / reach_of[:, 0]).sum()
with_border = two_nearest_neighbors(box, "likelihood", blocks=None).value
Markdown(f"Of 8: {with_border:.2f}, without border {without_border:.2f}.")

# %% [markdown]
# The check lays copies of a few points around the square, in all directions,
# and looks for the nearest copy. In theory the likelihood estimate spreads by
# $d / \sqrt{N - 2}$, and a distance of six such errors is allowed.

# %% tags=["check"]
line = np.array([[0.05], [0.95], [0.5], [0.4]])
sample = np.random.default_rng(1).random((30, 2))
around = [np.array([i, j]) for i in (-1, 0, 1) for j in (-1, 0, 1)]
copies = [
    np.linalg.norm(sample[:, None] - sample[None] - shift, axis=2)
    for shift in around
]
nearest_copy = np.sort(np.min(copies, axis=0), axis=1)[:, 1:3]
same_points = np.random.default_rng(seed).random((1000, 8))
bordered = nearest_distances(same_points).distances.T

# %% tags=["check"]
check_answer(
    {
        "on a circle 0.05 and 0.95 are near each other": lambda: np.allclose(
            glued(line)[0], [0.1, 0.35]
        ),
        "the nearest of all copies counts, in every coordinate": lambda: (
            np.allclose(glued(sample), nearest_copy)
        ),
        "`with_border`: these points, plain distances, likelihood": lambda: (
            np.isclose(
                with_border, 999 / np.log(bordered[1] / bordered[0]).sum()
            )
        ),
        "`without_border`: 8 should come out, within six errors": lambda: (
            abs(without_border - 8) < 6 * 8 / np.sqrt(998)
        ),
    }
)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise}
# :label: ex-05-rise
#
# (45 minutes, a small project) A layer cannot add a dimension, and yet
# measured dimensions rise. Build a case: `points_in`, float64 `[N, 40]` with
# `N` from 200 to 2000, and a linear layer `matrix`, float64 `[40, 40]`, which
# can be inverted well (its condition number is below $10^5$). By TwoNN
# (regression) `points_in` should have fewer than 3 dimensions, and
# `points_in @ matrix` at least 10 more. Would the thesis's rule call this
# layer significant, and has it done any work?
# ```
#
# ```{hint}
# :class: dropdown
#
# A thin cloud around a flat surface has the dimension of the surface as long
# as neighbours are farther apart than it is thick. What can a matrix do about
# the thickness?
# ```

# %% [markdown]
# ```{solution-start} ex-05-rise
# :class: dropdown
# ```
#
# Two wide directions and 38 very thin ones look like a plane. A diagonal
# matrix makes all equally wide, and its inverse brings every point back: no
# information was gained or lost. With a threshold below the rise the rule
# calls this layer significant, though it has only changed units. What has
# changed is the scale at which neighbours look.

# %% tags=["solution"]
thin = np.where(np.arange(40) < 2, 1.0, 1e-4)
points_in = np.random.default_rng(seed).normal(size=(1000, 40)) * thin
matrix = np.diag(1 / thin)
told = [
    (two_nearest_neighbors(x, blocks=None).value, component_counts(x)[0.99])
    for x in (points_in, points_in @ matrix)
]
Markdown(
    "; then ".join(f"{d:.1f} by TwoNN, {k} components" for d, k in told)
    + f": a rise of {told[1][0] - told[0][0]:.1f}, threshold {threshold:g}."
)

# %% tags=["check"]
measure = partial(two_nearest_neighbors, blocks=None)
check_answer(
    {
        "the shapes: [200 to 2000, 40] and [40, 40]": lambda: (
            200 <= len(points_in) <= 2000
            and np.shape(points_in)[1:] == (40,)
            and np.shape(matrix) == (40, 40)
        ),
        "the matrix can be inverted well": lambda: (
            np.linalg.cond(matrix) < 1e5
        ),
        "before the layer, neighbours must see fewer than 3": lambda: (
            measure(points_in).value < 3
        ),
        "behind it, directions that were thin must count": lambda: (
            measure(points_in @ matrix).value > measure(points_in).value + 10
        ),
    }
)

# %% [markdown]
# ```{solution-end}
# ```
#
# ## Make it yours
#
# An estimator is a function from the two distances of every point to a
# dimension. Register one, and call it by its name.
# The median needs no logarithm of the largest ratios at all: half of them are
# below $2^{1/d}$.


# %%
@register_estimator("median", replace=True)
def by_median(distances, discard):
    """Dimension from the median ratio alone."""
    return np.log(2) / np.median(np.log(distances[:, 1] / distances[:, 0]))


# %%
mine = {
    truth: [
        two_nearest_neighbors(x, m).value for m in ("regression", "median")
    ]
    for truth, x in shapes.items()
}
mine = pd.DataFrame(mine, index=["regression", "median"]).T
table(mine.rename_axis("true dimension"), "Cubes again.", 2)
