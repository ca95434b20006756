# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# (ch-label-aware-precision)=
# # Label-aware mixed precision
#
# **Question.** A network has to tell ten classes apart, and its file may have
# so many bytes. Which layers deserve the bits, and does it help to know the
# ten classes?
#
# The label-aware report {cite:p}`dirisala-label-aware` set out to join two
# ideas in one framework: quantize for the classes that will be used, and give
# important layers more bits than others. Its authors tried one step of it,
# five bits for one half of the weights and three for the other. This chapter
# builds the whole framework, takes each of its parts away again to see what it
# was worth, and compares everything at equal bytes of a real file.
#
# The chapter has two halves. The first one takes a single question, what a bit
# is worth in each layer, and answers it with measured prices, a test of these
# prices, and an exact choice. The second one puts the choice into a framework
# that quantizes for a task, and asks what each of its parts contributes. What
# {ref}`chapter 7 <ch-data-free-quantizers>` did by a rule of thumb, more bits
# for the first layers, is done by measurement here.
#
# **You will learn**
# - what a bit costs in each layer, and how to measure that without labels;
# - how to divide a budget among layers so that nothing better exists;
# - why a comparison at "three bits" must be one at equal bytes;
# - how to find out which part of a method does the work;
# - whether knowing the labels pays, and how to tell when it does not.
#
# **Inputs.** The reference network, which is part of the repository. Training
# images calibrate and measure costs. Validation images choose, test images
# report.
#
# **Time on two cores.** smoke: one minute; quick: three minutes; full: an hour
# (estimates).

# %%
import copy
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import torch
from IPython.display import Markdown

# %%
from lq_utils import layer_sensitivity as lsn
from lq_utils import sensitivity_figures as sf
from lq_utils import sensitivity_report as sr
from lq_utils import sensitivity_study as ss
from lq_utils import sensitivity_tables as stb
from lq_utils import task_compression_figures as tf
from lq_utils import task_compression_report as tr
from lq_utils import task_compression_tables as tt
from lq_utils import task_plans as tp
from lq_utils import task_study as ts
from lq_utils.artifact import load_quantized
from lq_utils.bit_allocation import choose, row_bits
from lq_utils.calibration import calibration_rows, calibration_set
from lq_utils.compress_command import main as compress
from lq_utils.data import load_dataset
from lq_utils.exercises import check_answer
from lq_utils.figures import show, table, use_style
from lq_utils.fingerprints import digest
from lq_utils.graph import layer_table

# %%
from lq_utils.inference import to_input
from lq_utils.interactive import show_interactive
from lq_utils.interactive_plans import budget_steps
from lq_utils.label_aware import settings as method_settings
from lq_utils.label_aware import subset_key
from lq_utils.parameters import check_parameters
from lq_utils.plans import Plan
from lq_utils.results import reference_rows, start_run
from lq_utils.sensitivity_base import cost_table, register_sensitivity
from lq_utils.sweeps import sweep
from lq_utils.task_budget import choose_plan, uniform_bytes
from lq_utils.task_compression import compress_for_task, task_costs
from lq_utils.task_network import task_hits, task_network
from lq_utils.task_settings import TaskSettings, changed
from lq_utils.task_tables import with_intervals
from lq_utils.weights import load_reference, require_same_split

# %% tags=["parameters"]
profile: str = "quick"  # smoke|quick|full|custom; names this set of values
dataset: str = "auto"  # auto|cifar100|synthetic100; the data
seed: int = 0  # 0..1000000; subsets and draws of calibration images
model: str = "resnet20"  # resnet20|mobilenetv2_x0_5; the reference network
subset_size: int = 10  # 2..50; classes of a task
task_subsets: int = 3  # 2..60; tasks, from similar to dissimilar; time alike
budgets: list[int] = [3]  # each 2..8; bits whose uniform file is the budget
main_budget: int = 3  # 2..8; one of budgets, for ablations and labels
layer_choices: list[int] = [2, 3, 4, 6]  # each 1..8; bits a layer may have
ablated: list[str] = ["rounded to nearest"]  # any; see ABLATIONS
scale: str = "output"  # output|mse|max; rule for scales
solver: str = "qronos"  # qronos|gptq|gpfq|rtn; of all layers
polish: int = 2  # 0..20; sweeps of coordinate descent
images: int = 64  # 8..4096; calibration images; time alike
cost_images: int = 16  # 4..1024; images that measure costs; time alike
patch_fraction: float = 1.0  # 0.01..1; share of images in Gram matrices
layer_subsets: int = 2  # 1..60; subsets for which layers are priced
layer_draws: int = 2  # 1..20; draws of calibration images for prices
layer_kinds: list[str] = ["divergence", "weight error", "fisher"]  # any; kind
probes: int = 4  # 2..1000; random probes of a trace; its time alike
random_plans: int = 10  # 3..1000; plans that test whether prices add up
held_out: int = 50  # 1..100; test images of every class; half for validation
workers: str = "2"  # 1..64|tcp://*; processes, or a Dask scheduler

# %%
parameters = check_parameters(globals())

# %%
use_style()
splits = load_dataset(dataset)
run = start_run("09_label_aware_precision", parameters, splits.provenance)

# %% [markdown]
# The network must have been trained with the split that is loaded here; else
# its test images might be among its training images.

# %%
trained_on = splits.provenance.dataset
require_same_split(model, trained_on, splits.provenance)
network = load_reference(model, trained_on)

# %% [markdown]
# ## What a bit costs in each layer
#
# Store one layer in few bits and leave all others as they are. What happens
# to the answers? Let $p$ be the network's probabilities for an image and
# $q$ those after the layer was quantized. The Kullback-Leibler divergence
# {cite:p}`kullback1951information`
#
# $$
# \mathrm{KL}(p \,\|\, q) = \sum_k p_k \log \frac{p_k}{q_k}
# $$ (eq-09-divergence)
#
# is zero where nothing changed, and needs no labels. Its mean over
# calibration images is the price of that layer at those bits. For a subset
# of the classes the sum runs over the subset's classes alone, with a softmax
# among them: errors between classes that never occur cost nothing.
#
# First the subsets. They go from similar classes to dissimilar ones, by the
# angles between the class weights of the network's last layer, as in
# {ref}`chapter 1 <ch-class-distances>`.
#
# ```{index} Kullback-Leibler divergence, sensitivity
# ```

# %%
studied = sr.study_subsets(network, subset_size, layer_subsets, seed)
first_classes = list(studied[0].classes)

# %% [markdown]
# A *template* says how a layer is quantized, whatever its bits: how many
# levels, one scale a channel, the rule for scales, the solver. It is a plan
# like any other, with one row a layer; the bits in it play no part yet.

# %%
method = method_settings(
    {"quantizer": "asymmetric", "scale": scale, "solver": solver},
    granularity="channel",
    polish=polish,
)
template = Plan.uniform(network, main_budget, **dict(method))

# %% [markdown]
# ### By hand
#
# Take the first subset, some images of its classes, and one layer. A *task*
# holds what a price is computed from. It also hands out the layers' weights
# in few bits, as the template's solver chooses them when nothing else is
# quantized.

# %%
chosen = calibration_rows(splits.train, cost_images, seed, first_classes)
x = to_input(splits.train.images[chosen])
labels = splits.train.labels[chosen]
task = lsn.sensitivity_task(
    network, x, labels, first_classes, layer_choices, template
)
tried, fewest = task.layers[len(task.layers) // 2], min(layer_choices)

# %% [markdown]
# The rest is a copy of the network, two passes, and {eq}`eq-09-divergence`.
#
# Restricting the logits to the subset's classes comes *before* the softmax.
# Besides the choice of images, this is the only place where the classes enter
# the price.

# %%
other = copy.deepcopy(task.network)
module = other.get_submodule(tried)
module.weight.data = task.solved[tried, fewest].view_as(module.weight)
with torch.no_grad():
    logits = torch.stack([task.network(x), other(x)])[..., first_classes]
log_p, log_q = logits.double().log_softmax(dim=-1)
by_hand = float((log_p.exp() * (log_p - log_q)).sum(dim=1).mean())

# %% [markdown]
# Both must agree up to rounding.

# %%
prices = lsn.SENSITIVITIES.get("divergence")(task)
price = prices.set_index(["layer", "bits"])["cost"]
assert np.isclose(by_hand, price[tried, fewest], rtol=1e-3, atol=1e-8)

# %% [markdown]
# The library does this for all layers and bits in one go. It stops at every
# layer, tries each of its versions on the rest of the network, and walks on:
# what lies before the layer is never computed twice.
#
# Look along a row first: how fast does the price fall with each further bit?
# In theory a bit halves the steps, so squared errors fall to a quarter, and a
# divergence that is quadratic in small errors does the same. Where errors are
# large this rule fails. Then look down a column: how many orders of size lie
# between the cheapest layer and the dearest?

# %%
infos = {info.name: info for info in layer_table(network)}
wide = price.unstack("bits").loc[list(task.layers)]
wide.insert(0, "weights", [infos[name].weights for name in wide.index])
caption = "Divergence (nats) with one layer in so many bits, first subset."
table(wide, caption, 5, name="prices")

# %% [markdown]
# A very small price may come out out of order, more bits dearer than fewer.
# With few images that is chance. The choice below takes prices as they are,
# and this does little harm as long as such differences are tiny beside others.
#
# A bit more costs memory in proportion to the layer's weights; what it saves
# has little to do with them. Compare the first layers, which are small, with
# those of the last stage, which hold most of the weights. That gap between
# price and size is what mixed precision lives on.
#
# ### Layers and subsets
#
# The study repeats this for every subset, and for all classes together. A
# cell is one subset with one draw of calibration images. First draws also
# answer the questions of the next sections; the further ones only show how
# much of a price is chance. Training images calibrate, validation images
# judge, test images wait for the end of the chapter.

# %%
everything = tuple(range(splits.train.num_classes))
names = sr.subset_names(studied, everything)
cells = sr.study_cells(
    [s.classes for s in studied],
    everything,
    seed=seed,
    draws=layer_draws,
    images=cost_images,
    bits=layer_choices,
    kinds=layer_kinds,
    probes=probes,
    method=method,
    plan_bits=main_budget,
    plans=random_plans,
)

# %%
judges = splits.validation.per_class(max(1, held_out // 2), seed)
shared = {"network": network, "train": splits.train, "held_out": judges}
key = {"network": digest(network), "train": splits.provenance.fingerprint}
key |= {"held_out": digest(judges.images)}
study = {"shared": shared, "key": key, "code": ss.CODE, "n_jobs": workers}
rows = sweep("09_sensitivity", ss.sensitivity_rows, cells, **study)

# %% [markdown]
# In the figure a column is a subset, a row a layer, and the tone is the price
# on images of that subset. Compare the pattern of one column with the pattern
# of another.

# %%
costs = stb.cost_map(rows, "divergence", fewest, seed)
show(
    sf.cost_map_figure(costs, [names[k] for k in costs], "KL (nats)"),
    f"The price of storing one layer in {fewest} bits, by subset. "
    "Similar tones along a row: the layer matters alike for all subsets.",
    "Colour map with one row a layer and one column a subset.",
    "price-map",
)

# %% [markdown]
# Rows differ where sensitivity belongs to the network, columns differ where
# it belongs to the labels. Whole columns that are lighter or darker do not
# matter: similar classes are easier to confuse, whatever layer is touched,
# and only proportions within a column decide where bits go.
#
# So compare ranks of layers. Two draws of the same subset show how much of
# a correlation noise takes away. If prices on all classes, or on another
# subset, agree with a subset as well as its own other images do, then the
# ranks hold nothing that only the labels could tell. (They may even agree
# better: prices on all classes carry less noise.)
#
# The table has a line for each comparison. The first one, with other images,
# is the yardstick: classes and network are the same, so whatever it lacks to
# one is noise. Look at where the other lines are beside it, and at their
# intervals.

# %%
agreement = stb.agreement_table(rows, subset_key(everything))
keys = ["kind", "compared"]
sr.record_lines(run, agreement, "rank_agreement", "correlation", keys)
caption = "Rank correlation of the layers' prices by divergence with those of"
own = agreement[agreement["kind"] == "divergence"].drop(columns="kind")
table(own, f"{caption} other images, subsets, or all classes.", 2)

# %%
Markdown(sr.agreement_text(agreement))

# %% [markdown]
# What to keep: a sensitivity is an estimate like any other. Two maps of layers
# that look different may be two draws of the same map. Before one explains why
# a subset has its own sensitive layers, the subset should agree with itself.
#
# ## Whose sensitivity predicts?
#
# Divergence needs a pass for each layer and number of bits. Many shortcuts
# have been proposed. With $\Delta W$ the change of a layer's weights, $L$
# the loss of the labels among the subset's classes:
#
# | kind | price of a layer at some bits | needs |
# |---|---|---|
# | divergence | mean of {eq}`eq-09-divergence` | one pass for each price |
# | output error | $\sum_k s_k\, \Delta W_k H \Delta W_k^\top$, $s_k$ the mean squared gradient of output $k$ | Gram matrices, one gradient |
# | weight error | $\lVert \Delta W \rVert^2$ | nothing |
# | fisher | $\sum_i \overline{g_i^2}\, \Delta w_i^2$, $g$ the gradients of $L$ of single images | a gradient for each image |
# | trace | $\mathrm{tr}(\nabla^2 L) / n \cdot \lVert \Delta W \rVert^2$ {cite:p}`dong2020hawq` | products with the Hessian |
# | dimension | change of the intrinsic dimension times $\lVert \Delta W \rVert^2$ | outputs of the layers |
# | components | change of the number of principal components times $\lVert \Delta W \rVert^2$ | outputs of the layers |
# | shrinking | size of the next layer's output by that of the layer before, at most one, times $\lVert \Delta W \rVert^2$ | nothing |
#
# Output error, weight error, fisher and trace follow from one idea: write the
# loss as a series in the change of the weights. At a trained network the first
# term is nearly zero, so the second one is left, and these kinds differ in
# what they put in place of its matrix: the full one, its diagonal, its trace,
# or a constant. The more is left out, the cheaper the price, and the more must
# be believed. All of them take errors to be small, which at very few bits they
# need not be.
#
# Divergence and output error take the weights that the template's solver would
# store. The others weigh every weight by itself, and a solver that corrects
# errors moves single weights further on purpose; they take weights rounded to
# nearest.
#
# The last three come from the book's sources. The QuantNET thesis
# {cite:p}`anirudh2022optimal` takes layers for significant that change the
# dimension of the data {cite:p}`facco2017estimating`, as Hybrid-Net does
# with principal components {cite:p}`chakraborty2020constructing`. The
# label-aware report {cite:p}`dirisala-label-aware` proposes to give less to
# layers where the network shrinks. None of the three speaks of bits, so the
# squared change of the weights does.
#
# ```{index} Fisher information, Hessian matrix, Hutchinson estimator
# ```
#
# ### By hand
#
# The trace looks expensive: the Hessian of a layer has as many rows as the
# layer has weights. But for random signs $v$ the mean of $v^\top H v$ is the
# trace, because $v_i v_j$ is one on the diagonal and zero on average beside
# it. And $Hv$ is the gradient of a product of the gradient with $v$, so that
# the matrix is never needed {cite:p}`hutchinson1989stochastic`.
#
# A small matrix shows it. The estimate must be as near to the trace as its own
# error allows.

# %%
rng = np.random.default_rng(0)
root = rng.normal(size=(6, 6))
hessian = root @ root.T
signs = rng.choice([-1.0, 1.0], size=(2000, 6))
estimates = np.einsum("pi,ij,pj->p", signs, hessian, signs)
error = estimates.std(ddof=1) / np.sqrt(len(estimates))
assert abs(estimates.mean() - np.trace(hessian)) < 4 * error

# %% [markdown]
# How many probes are needed? The noise comes from the entries beside the
# diagonal, so it depends on the matrix. An estimate that only has to rank
# layers can be coarse if their traces differ by large factors.
#
# ### The test
#
# Each price predicts what happens when that layer alone is quantized. The
# truth is measured on validation images, which no price has seen: how much
# accuracy goes, and how far the answers move. Layers are ranked within one
# number of bits, so that no kind gets credit for knowing that fewer bits are
# worse.
#
# In the figure each kind has a line of dots, one for each number of bits.
# Farther to the right is better, and zero means that a kind ranks layers no
# better than drawing lots. Compare kinds within a panel, and mind the
# intervals: with few subsets they are wide, and kinds whose intervals overlap
# much cannot be put in order.

# %%
prediction = stb.prediction_table(rows)
keys = ["kind", "bits", "measure"]
sr.record_lines(run, prediction, "prediction", "correlation", keys)
show(
    sf.prediction_figure(prediction, ["drop of accuracy", "KL divergence"]),
    "How well prices rank the layers: mean rank correlation over subsets, "
    "95 per cent intervals. Left: against lost accuracy. Right: against the "
    "divergence, both on validation images.",
    "Dot plot with one line for each kind of sensitivity, two panels.",
    "prediction",
)

# %% [markdown]
# The same at the fewest bits, as numbers. Hold each of the sources' rules
# against *weight error*. These rules multiply the squared change of the
# weights by something that they believe in, so only what they reach beyond it
# speaks for that belief.

# %%
few = prediction[prediction["bits"] == fewest]
ranking = few.pivot(index="kind", columns="measure", values="correlation")
ranking = ranking.sort_values("KL divergence", ascending=False)
table(ranking, f"Mean rank correlation at {fewest} bits, best first.", 2)

# %% [markdown]
# Lost accuracy is a coarse truth: where one layer costs an image or two, its
# ranks are mostly chance, and no kind can do well. The divergence on the
# same images sees every change of an answer. It is also what the first kind
# measures, on other images; that is no circle, but it is the home ground of
# that kind.
#
# A rank correlation weighs all layers alike, cheap ones too. A budget is
# decided by the dear ones. So a kind with a middling correlation may still
# lead to a good plan, and plans are compared further below.

# %%
Markdown(sr.prediction_text(prediction, fewest))

# %% [markdown]
# ## Do prices add up?
#
# Bits are chosen by adding prices of single layers. But errors of one layer
# pass through all later ones, which have errors of their own. So take random
# plans, in which every layer has any of the bits, and compare the sum of the
# single divergences with the divergence of the whole.
#
# Two reasons against adding up: errors of an early layer may be enlarged or
# swallowed by later ones, and errors of two layers may cancel or reinforce
# each other. And one reason for it: if errors are small and unrelated, their
# squares add up, and a divergence is nearly quadratic in them. Marks on the
# diagonal say that the sum is right; marks along a line parallel to it, that
# it is wrong by the same factor everywhere; a shapeless cloud, that prices of
# single layers are of no use.

# %%
show(
    sf.additivity_figure(stb.part(rows, "random"), names),
    "Random plans: divergence of the whole network against the sum over its "
    "layers. Dotted: equal.",
    "Scatter plot on logarithmic axes with a diagonal.",
    "additivity",
)

# %%
additivity = stb.additivity_table(rows)
sr.record_lines(run, additivity, "additivity", "mean", ["quantity"])
table(additivity, "Sum of prices against the whole.", 2, name="additivity")

# %% [markdown]
# *joint by sum* and the rank correlation are to be read together. A factor far
# from one with a high correlation is harmless for choosing. A factor of one
# with a low correlation is not.

# %%
factor = additivity.set_index("quantity")["mean"]
Markdown(
    f"The whole is {factor['joint by sum']:.2f} times the sum, on average; "
    "sums rank the plans with a correlation of "
    f"{factor['rank correlation']:.2f}. To choose bits only the order has to "
    "be right, and a common factor does no harm."
)

# %% [markdown]
# Random plans are spread over the whole range of prices, which makes ranking
# them easy. Plans that compete for the same budget are much closer to each
# other, and there the sum may err. The test for that comes with the search
# below.
#
# ## The exact choice
#
# One choice of bits for each layer, least total price, total size within the
# budget: a knapsack with one item from each shelf,
#
# $$
# \min_{b_1, \dots, b_L} \sum_l c_l(b_l) \quad\text{such that}\quad
# \sum_l s_l(b_l) \le B ,
# $$ (eq-09-knapsack)
#
# with prices $c_l$, sizes $s_l$ and the budget $B$. Three layers show it. The
# size of an item is that of the layer's codes, scales and zero points.
#
# Prices come from the table above, sizes from the format of the file. A layer
# with many channels pays for many scales, whatever its bits.
#
# ```{index} knapsack problem, bit allocation
# ```

# %%
three = [task.layers[i] for i in (1, len(task.layers) // 2, -2)]
levels = sorted(layer_choices)
plans_of = {b: template.override("*", bits=b) for b in levels}
cost = np.array([[price[n, b] for b in levels] for n in three])
size = np.array(
    [[row_bits(plans_of[b][n], infos[n]) for b in levels] for n in three]
)

# %% [markdown]
# All choices can be listed. Of those that fit the cheapest is the answer,
# and the library must find the same one.

# %%
choices = np.array(list(product(range(len(levels)), repeat=3)))
total_cost = cost[range(3), choices].sum(axis=1)
total_size = size[range(3), choices].sum(axis=1)
budget = int(size[:, levels.index(main_budget)].sum())
fits = np.flatnonzero(total_size <= budget)
best = choices[fits[total_cost[fits].argmin()]]
assert np.array_equal(choose(cost, size, budget), best)

# %% [markdown]
# The table lists the cheapest choices that fit. Compare the first line with
# the second: in how many layers do they differ, and by how much in price?

# %%
shown = pd.DataFrame(np.array(levels)[choices[fits]], columns=three)
shown["size in bits"] = total_size[fits]
shown["price"] = total_cost[fits]
shown = shown.sort_values("price").head(8).reset_index(drop=True)
caption = f"The cheapest choices in the budget of {main_budget} bits each."
table(shown, caption, 6, name="three-layers")

# %% [markdown]
# With all layers there are too many choices to list. But a partial choice
# that is both larger and dearer than another can be dropped at once, for
# whatever follows serves both alike. What survives after each layer is a
# short front of sizes and prices, and the last front holds the optimum:
# exactly, for any prices {cite:p}`kellerer2004knapsack`. (Taking the best
# saving for each bit first, the greedy way, may leave part of the budget
# unused.)
#
# How flat the top of the list is matters in practice. If many choices are
# nearly as cheap as the best one, small errors of the prices do little harm,
# and neither does a simpler way to choose. If the best one stands alone, both
# matter.

# %%
front, lengths = [(0, 0.0)], []
for shelf in (list(zip(s, c)) for s, c in zip(size, cost)):
    longer = sorted((s + t, c + d) for s, c in front for t, d in shelf)
    front = []
    for s, c in longer:
        if s <= budget and (not front or c < front[-1][1]):
            front.append((s, c))
    lengths.append(len(front))
assert np.isclose(front[-1][1], total_cost[fits].min())

# %% [markdown]
# Why does a front stay short while choices multiply? Most partial choices are
# beaten by another that is both smaller and cheaper. Prices need not fall
# evenly with the bits for this to be exact; a greedy method needs that at
# least.

# %%
Markdown(
    f"After each of the three layers {', '.join(map(str, lengths))} partial "
    f"choices are left; at the end {len(choices)} were possible."
)

# %% [markdown]
# Now all layers, at every budget. Each column of prices is that of a subset,
# as in the map of prices above; the last one is that of all classes together.

# %%
maps_of = {
    b: stb.cost_map(rows, "divergence", b, seed).loc[list(task.layers)]
    for b in levels
}
of_plan = {
    label: pd.DataFrame({b: own[label_of] for b, own in maps_of.items()})
    for label, label_of in (
        ("prices of the subset", subset_key(studied[0].classes)),
        ("prices of all classes", subset_key(everything)),
    )
}

# %%
every_bits = {b: template.override("*", bits=b) for b in levels}
file_sizes = pd.DataFrame(
    {
        b: {n: row_bits(plan[n], infos[n]) for n in task.layers}
        for b, plan in every_bits.items()
    }
)

# %% [markdown]
# Move the slider from the smallest plan to the largest. Which layers get more
# bits first, and do the two kinds of prices agree on them? On the right both
# plans are priced by the subset: the gap between the curves is all that prices
# of its own can save, and diamonds are plans with the same bits everywhere.

# %%
show_interactive(
    budget_steps(of_plan, file_sizes),
    "Bits of each layer at a budget, and the price for the first subset.",
    "Bars of bits by layer for two plans; price against the budget.",
    "bits-by-budget",
    digits=5,
)

# %% [markdown]
# ## Search against the exact choice
#
# Why add up prices at all? One could try whole plans, and keep the best. The
# thesis names reinforcement learning as a comparison still to be made.
# Random search and evolution are its simplest relatives: propose a plan
# within the budget, quantize, look at the answers, repeat. Fairness asks for
# equal cost. The divergence of single layers looked at one network for each
# layer and number of bits; both searches get as many.
#
# In the figure each line is a search, and falls whenever it finds a better
# plan. The dotted line is the exact plan. A search that crosses it has found
# what adding up cannot see: interactions between layers, or a fit to these
# very images. Look at where: before or after the vertical line, at which both
# have cost the same?

# %%
tries = len(task.layers) * len(layer_choices)
curves = stb.search_curves(rows)
show(
    sf.search_figure(curves, tries),
    "Divergence of the best plan found so far, by that of the exact plan "
    "(1, dotted), both on calibration images. The vertical line: networks "
    "that the exact plan's prices took.",
    "Falling step lines for two searches against a horizontal line.",
    "search",
)

# %% [markdown]
# The difference in kind: prices of single layers can be used again for every
# other budget, while a search starts anew. And a search needs no assumption
# that errors add up.

# %%
final = curves.groupby("search", sort=False).last().reset_index()
sr.record_lines(run, final, "search_ratio", "ratio", ["search"])

# %% [markdown]
# A search sees the calibration images it is scored on, many times. What it
# finds there may not hold elsewhere. So the plans are judged by images held
# out: those of the searches, those of every kind of price, and uniform bits,
# all of one size.

# %%
plans = stb.plan_table(rows, tries)
sr.record_lines(run, plans, "plan_divergence", "held_out", ["name"])
caption = f"Plans no larger than {main_budget} bits everywhere. Divergence in "
caption += "nats; accuracy among the subset's classes, validation, per cent."
digits = dict.fromkeys(["accuracy", "gain", "low", "high"], 2)
table(plans, caption, digits | {"divergence": 4, "held_out": 4, "p": 3})

# %% [markdown]
# *divergence* is on the images that the choice was made with, *held_out* on
# others. A plan that is good in the first column and not in the second was
# fitted to its images. The last columns are gains of accuracy over uniform
# bits with their intervals. *evaluations* says what a choice has cost.

# %%
gains = plans[plans["name"] != "uniform"]
sr.record_lines(run, gains, "gain_over_uniform", "gain", ["name"])
Markdown(
    "On images held out the plan with the least divergence is that of "
    f"{plans.loc[plans['held_out'].idxmin(), 'name']}. The exact plan by "
    f"divergence gains {sr.gain_text(plans, 'divergence')} points over "
    "uniform bits."
)

# %% [markdown]
# Layers were quantized one by one here: none knows of the errors before it.
# The framework below lets each layer correct them, so its accuracies must not
# be held against these. Which layers get the bits? The mean over subsets shows
# what the plans have in common.

# %%
shown = stb.bits_table(rows, ["divergence", "weight error", "evolution"])
shown.insert(1, "weights", [infos[n].weights for n in shown["layer"]])
table(shown, "Mean bits of each layer, by who chose them.", 1, name="bits")

# %% [markdown]
# Look for a common shape in the columns: where do all of them give more than
# the mean, and where less? The column *weights* tells what each bit costs
# there. Fractions come from averaging over subsets; a layer with a mean
# halfway between two numbers of bits is one on which the subsets do not agree.
#
# Up to here the question was how to divide bits. The prices, and the exact
# choice, are what the rest of the chapter takes over.
#
# ## A network for ten classes
#
# Now the framework. A task is a subset of the classes. As before, tasks go
# from similar to dissimilar classes; the distance of two classes is the angle
# between their weights in the network's last layer.

# %%
tasks = sr.study_subsets(network, subset_size, task_subsets, seed)
class_names = splits.train.class_names
medians = {subset_key(s.classes): s.median for s in tasks}
kinds = {subset_key(s.classes): s.kind for s in tasks}

# %%
listing = tr.task_listing(tasks, class_names)
table(listing, "The tasks.", 2, name="tasks")

# %% [markdown]
# The first step costs nothing. A network that never has to name the other
# classes needs no output for them: their rows of the last layer are cut off.
# The logits that remain are the same numbers, so the report's protocol *Sub*,
# which lets only the task's classes compete, is now built in.
#
# The check: the small network must return, for any image, the same numbers
# that the whole one has for these classes.

# %%
first = task_network(network, tasks[0].classes, class_names)
few = calibration_set(splits.train, 8, seed, first.classes)
with torch.no_grad():
    whole_logits, own_logits = network(few), first.network(few)
torch.testing.assert_close(own_logits, whole_logits[:, first.classes])

# %% [markdown]
# What it saves can be counted by hand: a row of the classifier has a code for
# each of its inputs, one scale and one zero point, and a bias. In a small
# network with many classes that is worth a good part of a bit in some layer;
# in a large one it hardly shows. The count is compared with two measured
# files, so that nothing is saved on paper only.
#
# Why bother with so little? Because a study at equal bytes that leaves it out
# gives the task's network an advantage or a handicap that has nothing to do
# with bits.

# %%
plain = TaskSettings()
everybody = task_network(network, first.classes, class_names, cut=False)
saved = uniform_bytes(everybody, model, main_budget, plain)
saved -= uniform_bytes(first, model, main_budget, plain)
classifier = layer_table(network)[-1]
removed = classifier.rows - len(first.classes)
by_hand = removed * (classifier.columns * main_budget / 8 + 3 * 4)
assert abs(saved - by_hand) < 64  # the header's length varies a little

# %% [markdown]
# ## The switches of the framework
#
# Everything that the framework does is a switch in one small record. The
# order of its steps: cut the classifier; measure what each layer costs at
# each number of bits; choose the bits under the budget, exactly; go through
# the network once and quantize layer after layer, each seeing the errors of
# those before it; shift the biases so that mean outputs are right again.
#
# A method with so many parts invites a wrong conclusion: the whole is better,
# so the part with the nicest name must be why. An *ablation* turns one part
# off and leaves all others on. Here are the switches, with what each ablation
# changes.

# %%
settings = TaskSettings(
    scale=scale,
    solver=solver,
    polish=polish,
    bits=tuple(layer_choices),
    images=images,
    cost_images=cost_images,
    patch_fraction=patch_fraction,
    seed=seed,
)

# %% [markdown]
# Read the table as a list of questions. Those that `ablated` names will be
# answered, each by a difference of two networks that differ in this line
# alone.

# %%
switches = tr.switch_table(settings)
table(switches, "Each ablation turns one thing off.", name="switches")

# %% [markdown]
# An ablation has a limit of its own. Parts may stand in for each other: if two
# of them repair the same damage, taking either away costs nothing, although
# taking both would. A part that is worth nothing in this table is not needed
# *beside the others*, and that is all.
#
# Two rows need a word. *Dead columns* are inputs that are zero on all
# calibration images; a subset leaves more of them than all classes do. The
# report's code sets their weights to zero, and an input that is dead for these
# images may live for the next. *Blind to the labels* is the honest opponent: a
# mixed-precision network that was made for all classes, from images of all
# classes, and has its other outputs cut off afterwards.
#
# ## Equal bytes
#
# "Three bits" is no size. Scales, zero points, biases and the header take
# room, too, and a plan with many different numbers of bits has a longer
# header than a uniform one. So the budget is the measured file of the uniform
# network, and no other file may exceed it. A mixed plan that would win only by
# a few bytes more is not allowed to.
#
# The opponents deserve care. Uniform bits get the same solver, the same
# scales, the same correction and the task's own calibration images; only the
# bits differ. Against a weaker uniform network every gain would look larger,
# and say less.

# %%
parts = {
    "validation": splits.validation.per_class(max(1, held_out // 2), seed),
    "test": splits.test.per_class(held_out, seed),
}
framework = tp.Study(network, model, splits.train, parts, settings)
contents = [digest(network), model, splits.provenance.fingerprint]
made_of = {"study": [*contents, held_out, seed, repr(settings)]}
every = {
    "shared": {"study": framework},
    "key": made_of,
    "code": ts.CODE,
    "n_jobs": workers,
}

# %% [markdown]
# First the costs: what each layer's quantization does to the answers, once
# for every task, and once for all classes together, for the blind opponent.
# They are the divergences of the sections above, measured with the solver
# that will be used, and with only that one layer quantized. No label of an
# image enters; what is "aware" of the labels is which images are looked at,
# and which answers compete.
#
# There is one sweep for costs and one for networks. Costs are shared by all
# budgets, so another budget costs no further measurement.

# %%
compared = [tp.UNIFORM, *tp.HALVES, tp.BLIND, tp.WHOLE]
extra = [name for name in ablated if name not in compared]
classes = [s.classes for s in tasks]
cells_of_costs = tp.cost_cells([*compared, *extra], classes, framework)
layer_costs = sweep("09_costs", ts.cost_rows, cells_of_costs, **every)

# %% [markdown]
# Then the bits. Under a budget they follow from the costs exactly, and become
# part of each cell of the study. The halves are the plan of the report's
# authors: one bit more for the first half of the weights, one less for the
# second, or the other way round. They are left out where one bit less would be
# fewer than any layer may have.

# %%
work = list(tp.task_cells(compared, classes, budgets, layer_costs, framework))
work += tp.task_cells(extra, classes, [main_budget], layer_costs, framework)

# %% [markdown]
# The figure shows the plans of one task before anything is quantized by them.
# It answers what the budget buys, and whether the plans differ at all: two
# networks with the same bits can only differ by their calibration.

# %%
first_key = first.classes
choices_of = {
    cell["variant"]: cell["plan"]
    for cell in work
    if cell["subset"] == first_key
    and cell["budget"] == main_budget
    and cell["variant"] in compared
}
names_of_layers = [info.name for info in layer_table(network)]
show(
    tf.bits_figure(choices_of, names_of_layers),
    "Bits of every layer for the first task, all plans within the bytes of "
    f"uniform {main_budget} bits.",
    "Table of numbers of bits, a row a plan, a column a layer.",
    "task-bits",
)

# %% [markdown]
# Read the figure row by row. Uniform bits and the halves need no measurement;
# they are what the measured plans have to beat. In the measured plans look for
# the layers that stand out. Small layers, and those at a narrow place, such as
# the first convolution, the shortcuts and the classifier, are where bits are
# cheap for what they may save. The wide late layers are where they may be
# taken from. Whether the two lowest rows differ is the question of this
# chapter in one glance.
#
# Now every plan is carried out and scored. Cells are stored as they finish: a
# run that was stopped goes on.

# %%
study_rows = sweep("09_tasks", ts.task_rows, work, **every)
whole_cells = [{"subset": c} for c in classes]
original = sweep("09_original", ts.original_rows, whole_cells, **every)
scored = original[original["part"] == "test"]
original_points = float((100 * scored["correct"] / scored["n"]).mean())

# %% [markdown]
# Before any accuracy is looked at: no file may be larger than the budget.

# %%
too_large = study_rows["file_bytes"] > study_rows["budget_bytes"]
assert not too_large.any()
means = tt.accuracies(study_rows)
tr.record_accuracies(run, means)
run.record("original_accuracy", original_points / 100, n=len(tasks))

# %% [markdown]
# In the table *file_bytes* shows how much of the budget a plan uses. A plan of
# whole layers can seldom use all of it, and what it leaves counts against it.
# Mean bits may differ between plans of the same budget, as scales and headers
# take room as well. Where the budget is that of the fewest bits a layer may
# have, nothing is left to choose: the measured plans are the uniform one, and
# *blind to the labels* differs from it by its calibration alone.

# %%
main_rows = means[means["variant"].isin(compared)]
table(
    tr.accuracy_page(main_rows),
    "Accuracy among the task's classes, test images, mean over tasks with "
    f"its interval; original {original_points:.2f} %.",
    {"file_bytes": 0, "mean_bits": 2},
    name="equal-bytes",
)

# %% [markdown]
# The figure has the same rows as curves. Up and to the left is better: more
# accuracy, fewer bytes. A gain can be read in two ways, as points at the same
# size, or as bytes at the same accuracy. Near the dotted line all curves meet,
# for there is nothing left to gain.

# %%
show(
    tf.pareto_figure(main_rows, compared, original_points),
    "Accuracy against the size of the file, mean over tasks. Dotted: the "
    "original network.",
    "Curves of accuracy over kilobytes, one for each way to choose the bits.",
    "pareto",
)

# %% [markdown]
# Means of a few tasks say little: tasks can differ more from each other than
# plans do. But every plan was tried on the same tasks, so differences can be
# taken task by task. Their interval is Student's, over tasks; the p-value
# comes from flipping signs, after Holm. A gain on each single task may be
# chance, for a task has few test images; a gain that returns on task after
# task is not.
#
# A line of the table is the first plan less the second one, at one budget.
# Look at the interval first, and at *p* second; with few tasks the smallest
# *p* that sign flips can give is not small, so a clear interval and a weak *p*
# may stand side by side.

# %%
pairs = tt.comparisons()
told = tt.gains(study_rows, pairs)
tr.record_gains(run, told, "gain")
table(told, "Differences (points), paired by task, test images.", 3)

# %% [markdown]
# ## The authors' halves
#
# The authors of the report measured three plans of equal mean bits on
# ResNet-50, four bits uniform and two of halves. Their numbers beside ours,
# which are of a much smaller network.
#
# What can be compared is the *order* of the three plans, not the accuracies:
# networks, images and bits are others. {ref}`Chapter 3 <ch-gpfq-sweeps>`
# repeats the report's sweeps of uniform bits.

# %%
beside = tr.halves_page(means, max(budgets))
table(
    beside,
    "Sub accuracy (%): the authors' ResNet-50 at a mean of 4 bits, and ours.",
    2,
    name="halves",
)

# %% [markdown]
# The published order says that early layers need the bits more. Early layers
# of a residual network are also small, so that bits are cheap there. Halving
# the weights hides this: it gives the same extra bit to the first layer,
# which has few weights, and to a later one that has many.
#
# ## Which part does the work?
#
# One budget, one switch at a time. The bits stay those of the whole framework
# unless the switch is about bits or about bytes; so a row shows what that
# part is worth when all others are there.
#
# In the figure, dots to the right of the line at zero are parts whose removal
# costs accuracy. An interval that crosses the line leaves it open. Dots on the
# left would be parts that do harm here.

# %%
parted = tt.ablations(study_rows, main_budget)
tr.record_gains(run, parted[~parted["second"].isin(tp.HALVES)], "worth")
if len(parted):
    show(
        tf.gains_figure(parted, "whole framework less ablation (points)"),
        "What each part is worth: accuracy of the whole framework less that "
        "without the part, with intervals over tasks.",
        "Dots with intervals, one line for each part, and a line at zero.",
        "ablation",
    )

# %% [markdown]
# Many comparisons were made at once, and by chance alone some of them would
# look clear. So the p-values are adjusted for their number by Holm's method
# before they are counted.

# %%
clear = parted[parted["p"] < tr.SIGNIFICANT]
Markdown(
    f"Of {len(parted)} comparisons, {len(clear)} are clearer than chance: "
    + (", ".join(clear["second"]) or "none")
    + "."
)

# %% [markdown]
# Keep apart what a part *does* and what it is *worth*. A solver that corrects
# errors changes many weights; whether the accuracy shows it depends on how
# much was lost, and so on the budget. {ref}`Chapter 8 <ch-gpfq-gptq-brecq>`
# compares the solvers at equal bits over a wider range.
#
# ## Does knowing the labels pay?
#
# Two networks within the same bytes: one was made for the task, the other is
# blind to it in costs and calibration. Both had their classifier cut, for
# that needs no quantization at all. The report expects most of tasks whose
# classes are alike, where errors are easily made; so the gain is drawn
# against the distance of the classes.
#
# Each mark is a task. Marks above zero gain from the labels. If the report is
# right, the line falls to the right: the farther the classes are apart, the
# less there is to gain. Single marks are noisy, as a task has few test images,
# so look at the whole cloud and not at the highest mark.

# %%
by_distance = tt.label_gains(study_rows, medians, main_budget)
show(
    tf.label_gain_figure(by_distance, kinds),
    "What knowing the labels brings each task, against the median distance "
    "of its classes.",
    "Scatter plot of gains in points over distances, with a fitted line.",
    "label-gain",
)

# %% [markdown]
# The sentence has two numbers with their intervals: the mean gain over all
# images of all tasks, and the rank correlation of gain and distance. They
# answer two questions, whether labels help, and whether they help where the
# report expects it.

# %%
pooled = tt.image_gain(study_rows, tp.WHOLE, tp.BLIND, main_budget, "test")
run.record("label_gain", pooled.value, n=pooled.n, ci=pooled.ci)
link = tt.gain_correlation(by_distance)
if link is not None:
    run.record("gain_distance", link.value, n=link.n, ci=link.ci)
Markdown(tr.label_text(pooled, link))

# %% [markdown]
# Why so much, or so little? Look at what the labels change. If the costs of
# layers hardly depend on the classes, the plans are the same, and only the
# calibration images differ.

# %%
alike = tr.agreement_page(study_rows, layer_costs, classes, kinds, main_budget)
run.record("same_bits", float((alike["same"] / alike["layers"]).mean()))
table(
    alike,
    "The aware and the blind plan: layers with the same bits, mean "
    "difference in bits, rank correlation of their costs.",
    2,
    name="agreement",
)

# %% [markdown]
# Read *same* against *layers*: how many layers get the same bits from both
# plans. A high rank correlation of costs with many moved layers is possible,
# if the prices of some layers are so close that little decides between them.
#
# If the table shows little difference, here is why one would expect it. A
# layer's cost is to a large part a matter of the network: how many outputs
# later layers read from it, how many weights it has, where the signal is thin.
# All classes share that. The labels decide which errors of the *answers*
# count, and a layer through which everything passes matters for every task.
#
# The same goes for calibration. It cannot add much while the images of all
# classes already show what the layers see. The early layers answer to edges
# and colours, which every class has; their Gram matrices should differ little
# from task to task. {ref}`Chapter 3 <ch-gpfq-sweeps>` puts this to the test by
# calibrating on the wrong classes. And where a network has lost nearly
# nothing, there is nearly nothing to win back: compare the original's accuracy
# with the uniform network's, which is the most that any choice of bits or
# images could repair. Labels should matter more at fewer bits, and for
# networks with room to specialise.
#
# ## What to take
#
# The choice is made on validation images, the number beside it is of test
# images. "Level" lists what cannot be told from the best on the former.
#
# A list of equals is an honest answer. Where several plans are level, take the
# simplest one.

# %%
advice = tr.recommendations(study_rows[study_rows["variant"].isin(compared)])
table(with_intervals(advice), "Recommendations.", 1, name="advice")

# %% [markdown]
# ## One command
#
# All of this is one command. It takes a network, names of classes and a
# budget, and says what it chose for each layer. Here it is called from
# Python; in a shell it is `python -m lq_utils compress` with the same words.
#
# The budget of the command is a size, or a number of bits a weight. It need
# not be a whole number, as bits are divided among layers.

# %%
folder = TemporaryDirectory()
target = Path(folder.name) / "task.lq"
words = ["--model", model, "--dataset", trained_on, "--budget", "2.5bits"]
words += ["--classes", ",".join(first.class_names[:5]), "--bits", "2,4"]
words += ["--images", str(min(30, images)), "--out", str(target)]
words += ["--solver", solver, "--scale", scale, "--polish", str(polish)]
status = compress(words)
assert status == 0

# %% [markdown]
# The file is all that a device needs besides the code: it holds the name of
# the architecture, the bits, the codes and the scales. Beside it lie the
# class names, in a small text file.

# %%
again = load_quantized(target)
with torch.no_grad():
    assert again(few).shape == (len(few), 5)
text = target.with_suffix(".json").read_text()
folder.cleanup()
Markdown(f"It begins `{text[:60].split(',')[0].strip()}`.")

# %% [markdown]
# ## Verdicts on the report's claims
#
# A claim holds where the whole interval of its gain lies above zero and the
# signs of the tasks agree beyond chance. Else this run cannot tell; one with
# more tasks may.
#
# Note what a claim that holds does not say: it is about this network, these
# budgets and tasks of this size. And "cannot tell" is no verdict against a
# claim; the interval says how large an effect could have been missed.

# %%
judged = tr.verdicts(told)
if len(judged):
    table(with_intervals(judged), "Claims, gains (points), verdicts.", 2)
else:
    print("Too few tasks for verdicts.")

# %% [markdown]
# ## Your run and the reference

# %%
run.save()
reference = reference_rows("09_label_aware_precision")
comparison = run.compare()
comparison = comparison.dropna(subset="reference")
if len(comparison):
    table(comparison, "This run beside the reference.", name="comparison")

# %% [markdown]
# ## What to keep
#
# - A bit is priced by what it saves, and paid for by the size of its layer.
#   Mixed precision lives on the gap between the two.
# - Rank sensitivities against what they predict, on images they have not seen,
#   and against the plain squared change of the weights.
# - Once prices are given, the best choice under a budget is exact and cheap to
#   find. What can be wrong are the prices.
# - Compare at equal bytes of real files, and give the opponent everything but
#   the idea under test.
# - A method of many parts is understood by taking them away one at a time.
# - "Aware of the labels" has to beat "blind to the labels" at the same size,
#   task by task. Cutting the classifier does not count.
#
# ## Exercises
#
# The main budget in bytes, for the exercises and for *Make it yours*:

# %%
space = uniform_bytes(first, model, main_budget, settings)

# %% [markdown]
# ```{exercise}
# :label: ex-09-sub-all
#
# (5 minutes) Cutting the classifier raises accuracy on the task's images even
# before quantization. Why is that no merit of label-aware quantization? For
# the first task's images in `parts["validation"]` find which are answered
# right: by the cut network (`own_hits`), by the original when only the task's
# classes compete (`rival_hits`), and by the original when all classes do
# (`all_hits`). All three are bool arrays `[n]`.
# ```
#
# ```{hint}
# :class: dropdown
#
# `task_hits` takes a network and what its outputs stand for; `first` and
# `everybody` differ in that. For all classes there is
# `lq_utils.inference.predict`. Mind that `subset` numbers the classes anew.
# ```

# %% [markdown]
# ```{solution-start} ex-09-sub-all
# :class: dropdown
# ```
#
# The other classes can no longer win. The original network gains as much when
# only the task's logits compete, so the comparison must grant it that, too.

# %% tags=["solution"]
from lq_utils.inference import predict

own_images = parts["validation"].subset(list(first.classes))
own_hits = task_hits(first.network, parts["validation"], first)
rival_hits = task_hits(network, parts["validation"], everybody)
named = predict(network, own_images).argmax(dim=1).numpy()
all_hits = named == np.array(first.classes)[own_images.labels]
more = int(own_hits.sum() - all_hits.sum())
Markdown(f"{more} of {len(own_hits)} images are right by the cut alone.")

# %% tags=["check"]
guess = predict(network, parts["validation"].subset(list(first.classes)))
inside = np.isin(guess.argmax(dim=1).numpy(), first.classes)
check_answer(
    {
        "one answer for each image of the task": lambda: (
            len(own_hits) == len(rival_hits) == len(all_hits) == len(inside)
        ),
        "the logits are the same numbers, so the same images are right": (
            lambda: np.array_equal(own_hits, rival_hits)
        ),
        "with all classes competing, a right answer is one of the task's": (
            lambda: inside[all_hits].all()
        ),
        "what the cut adds are images that the original gives to a class "
        "outside of the task": lambda: not inside[own_hits & ~all_hits].any(),
    }
)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise}
# :label: ex-09-overhead
#
# (10 minutes) How many bytes of the uniform file of the first task are no
# codes? Put them into `overhead` (a number of bytes), and the same in bits a
# weight into `overhead_bits`. Where does that begin to matter? Put the share
# of the file that is overhead (0 to 1) into a dict `shares` for two, four and
# eight bits.
# ```
#
# ```{hint}
# :class: dropdown
#
# `uniform_bytes` measures a file. What do two files differ in that are one
# bit apart?
# ```

# %% [markdown]
# ```{solution-start} ex-09-overhead
# :class: dropdown
# ```
#
# Two files, one bit apart, give the size of one bit for each weight; what is
# left of the smaller file is overhead. It is the same at all bits, so its
# share grows as bits get fewer. That is why budgets are bytes of real files.

# %% tags=["solution"]
small, large = (uniform_bytes(first, model, b, settings) for b in (2, 3))
overhead = small - 2 * (large - small)
weights = sum(info.weights for info in layer_table(first.network))
overhead_bits = 8 * overhead / weights
shares = {
    b: overhead / uniform_bytes(first, model, b, settings) for b in (2, 4, 8)
}
Markdown(
    f"{overhead:,} bytes are {overhead_bits:.2f} bits a weight: "
    + ", ".join(f"{p:.0%} of the file at {b} bits" for b, p in shares.items())
)

# %% tags=["check"]
of_four = uniform_bytes(first, model, 4, settings)
in_all = sum(info.weights for info in layer_table(first.network))
check_answer(
    {
        "at four bits codes take half a byte a weight; what is left?": (
            lambda: abs(of_four - in_all / 2 - overhead) < 64 + overhead / 50
        ),
        "`overhead_bits` for each weight make up the overhead": lambda: (
            np.isclose(overhead_bits * in_all / 8, overhead)
        ),
        "a share for 2, 4 and 8 bits, and it falls": lambda: (
            list(shares) == [2, 4, 8]
            and 1 > shares[2] > shares[4] > shares[8] > 0
        ),
        "a share of the file, not of the codes": lambda: np.isclose(
            shares[4] * of_four, overhead, rtol=0.02
        ),
    }
)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise}
# :label: ex-09-wrong-labels
#
# (10 minutes) Choose the bits of the first task by the costs of the last one,
# within `space`. Put that plan into `other_plan`, the one by the task's own
# costs into `own_plan`, and the number of layers with different bits into
# `moved`. What would you conclude from it?
# ```
#
# ```{hint}
# :class: dropdown
#
# `choose_plan` takes a task, a budget and a table of costs;
# `tp.costs_of(layer_costs, tp.WHOLE, ...)` picks the costs of some classes.
# ```

# %% [markdown]
# ```{solution-start} ex-09-wrong-labels
# :class: dropdown
# ```
#
# If the labels of another task give nearly the same bits, the labels cannot
# have mattered for the bits. Moved layers alone prove little, as other images
# of the same task would move some, too. The question is what the wrong plan
# costs by the right prices.

# %% tags=["solution"]
own_plan, other_plan = (
    choose_plan(
        first,
        model,
        space,
        settings,
        tp.costs_of(layer_costs, tp.WHOLE, of_task, framework),
    )
    for of_task in (classes[0], classes[-1])
)
moved = sum(a.bits != b.bits for a, b in zip(own_plan, other_plan))
Markdown(f"{moved} of {len(names_of_layers)} layers get other bits.")

# %% tags=["check"]
from lq_utils.task_budget import file_bytes

own_costs = tp.costs_of(layer_costs, tp.WHOLE, classes[0], framework)
own_costs = own_costs.set_index(["layer", "bits"])["cost"]
check_answer(
    {
        "both files are of the first task, and within `space`": lambda: all(
            file_bytes(first, model, plan, settings) <= space
            for plan in (own_plan, other_plan)
        ),
        "by its own costs a plan is the cheapest of its size": lambda: (
            sum(own_costs[r.layer, r.bits] for r in own_plan)
            <= sum(own_costs[r.layer, r.bits] for r in other_plan) + 1e-9
            or own_plan.size_bits(first.network)
            < other_plan.size_bits(first.network)
        ),
        "count the layers whose bits differ": lambda: (
            moved
            == sum(
                own_plan[name].bits != other_plan[name].bits
                for name in names_of_layers
            )
        ),
    }
)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise}
# :label: ex-09-probes
#
# (15 minutes) How many random probes does a trace need? Write
# `sign_variance(matrix)`, the variance of $v^\top H v$ for random signs $v$
# and a symmetric $H$ `[N, N]`, as a formula of the entries of $H$. Then find
# the fewest probes whose mean has a standard error of at most a hundredth of
# the trace of the chapter's `hessian`, and put that number into `needed`.
# ```
#
# ```{hint}
# :class: dropdown
#
# Split the sum into $i = j$ and $i < j$. The products $v_i v_j$ of different
# pairs are uncorrelated, and the square of each is one.
# ```

# %% [markdown]
# ```{solution-start} ex-09-probes
# :class: dropdown
# ```
#
# The diagonal enters as it is, without noise: $v_i^2 = 1$. Each pair $i < j$
# adds $2 H_{ij} v_i v_j$ with the variance $4 H_{ij}^2$, and pairs are
# uncorrelated. So the variance is twice the sum of squares beside the
# diagonal. A layer whose Hessian is nearly diagonal needs one probe, and
# normal probes would need more, for their $v_i^2$ varies.


# %% tags=["solution"]
def sign_variance(matrix):
    """Variance of v' H v for random signs v, a float."""
    beside = matrix - np.diag(np.diag(matrix))
    return 2 * np.sum(beside**2)


allowed = np.trace(hessian) / 100
needed = int(np.ceil(sign_variance(hessian) / allowed**2))
Markdown(
    f"{needed:,} probes; one has a standard error of "
    f"{np.sqrt(sign_variance(hessian)) / np.trace(hessian):.0%}."
)

# %% tags=["check"]
all_signs = np.array(list(product([-1.0, 1.0], repeat=6)))
forms = np.einsum("pi,ij,pj->p", all_signs, hessian, all_signs)
goal = (np.trace(hessian) / 100) ** 2
check_answer(
    {
        "without entries beside the diagonal there is no noise": lambda: (
            sign_variance(np.diag([1.0, 2.0, 3.0])) == 0
        ),
        "compare with all the signs that there are": lambda: np.isclose(
            sign_variance(hessian), forms.var()
        ),
        "with so many probes the error is still too large": lambda: (
            forms.var() / needed <= goal * (1 + 1e-9)
        ),
        "fewer probes are enough": lambda: forms.var() / (needed - 1) > goal,
    }
)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise}
# :label: ex-09-greedy
#
# (20 minutes) The greedy way to divide a budget: begin with the smallest
# choice of every layer, and take, again and again, the larger choice of one
# layer that still fits and saves the most for each unit of size, until
# nothing that fits saves anything. Write it as `greedy(cost, size, budget)`
# for arrays `[L, B]`; it returns the columns, int `[L]`. Then set it a trap:
# arrays `trap_cost` and `trap_size` (whole numbers) and a `trap_budget`, for
# which the exact choice is cheaper.
# ```
#
# ```{hint}
# :class: dropdown
#
# Two tables, what each choice would save and what it would take, give a table
# of rates. For the trap two layers are enough: let a small step with a good
# rate stand in the way of a large one that saves more.
# ```

# %% [markdown]
# ```{solution-start} ex-09-greedy
# :class: dropdown
# ```
#
# Greedy search never takes a step back. In the trap a cheap step is bought
# first, and what is left of the budget is one short of the step that counts.
# With steps of equal size that save less and less it cannot go wrong: then
# the best steps are also the next ones. The layers of a network have very
# different sizes, but many small ones, which can fill a gap. So the loss on
# the chapter's own prices need not be large.


# %% tags=["solution"]
def greedy(cost, size, budget):
    """The columns of a greedy choice, int [L]."""
    rows, chosen = np.arange(len(cost)), size.argmin(axis=1)
    while True:
        saves = cost[rows, chosen][:, None] - cost
        takes = size - size[rows, chosen][:, None]
        left = budget - size[rows, chosen].sum()
        fits = (takes > 0) & (takes <= left)
        rate = np.where(fits, saves / np.maximum(takes, 1), 0)
        layer, column = np.unravel_index(rate.argmax(), rate.shape)
        if rate[layer, column] <= 0:
            return chosen
        chosen[layer] = column


trap_cost = np.array([[2.0, 0.0], [10.0, 0.0]])
trap_size = np.array([[0, 1], [0, 10]])
trap_budget = 10

# %% tags=["solution"]
real_cost = of_plan["prices of the subset"][levels].to_numpy()
real_size = file_sizes[levels].to_numpy()
room = int(file_sizes[main_budget].sum())
every_row = np.arange(len(real_cost))
paid = {
    "exact": real_cost[every_row, choose(real_cost, real_size, room)].sum(),
    "greedy": real_cost[every_row, greedy(real_cost, real_size, room)].sum(),
}
more = paid["greedy"] / paid["exact"] - 1
Markdown(f"Greedy choice pays {more:.1%} more for the first subset's plan.")

# %% tags=["check"]
dice = np.random.default_rng(0)
steps = np.cumsum(dice.integers(1, 9, (20, 5, 3)), axis=2)
tables = list(zip(dice.random((20, 5, 3)), steps))
five = np.arange(5)
check_answer(
    {
        "the choice must fit": lambda: all(
            s[five, greedy(c, s, s[:, 0].sum() + 9)].sum() <= s[:, 0].sum() + 9
            for c, s in tables
        ),
        "with room for everything each layer gets its cheapest choice": (
            lambda: all(
                np.array_equal(greedy(c, s, s.sum()), c.argmin(axis=1))
                for c, s in tables
            )
        ),
    }
)

# %% tags=["check"]
falling = dice.random((5, 1)) * 4.0 ** -np.arange(3)
even = np.tile(np.arange(3), (5, 1))
trap = trap_cost, trap_size, trap_budget
check_answer(
    {
        "with equal steps that save less and less greedy is exact": lambda: (
            np.array_equal(greedy(falling, even, 6), choose(falling, even, 6))
        ),
        "in the trap the exact choice must be cheaper": lambda: (
            sum(c[k] for c, k in zip(trap_cost, greedy(*trap)))
            > sum(c[k] for c, k in zip(trap_cost, choose(*trap)))
        ),
    }
)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise}
# :label: ex-09-own
#
# (60 minutes, a small project) Register a sensitivity of your own as `"mine"`,
# a function `own_kind`, and find out whether its plan is any good. Choose bits
# by it for the first subset, exactly, within the size of uniform `main_budget`
# bits: `mine_bits`, a dict from layers to bits. Write
# `whole_divergence(bits_of)`: the mean divergence (a float, nats) among the
# subset's classes, on validation images, of the network with these layers in
# so many bits at once; layers left out stay as they are. Put its values for
# your plan, the plan by divergence and uniform bits into a dict `plan_loss`,
# with the keys `"mine"`, `"divergence"` and `"uniform"`.
# ```
#
# ```{hint}
# :class: dropdown
#
# The chapter's `task` holds the images, the `classes`, the `logits` and, in
# `task.solved`, the weights of each layer at each number of bits.
# `lq_utils.layer_rounding.single_layer_logits` has the answers of all the
# networks with one such layer. *By hand* shows how a layer is put in.
# ```

# %% [markdown]
# ```{solution-start} ex-09-own
# :class: dropdown
# ```
#
# This price counts the images whose answer changes, which is what one cares
# about in the end. But counts are coarse: with few images most layers have a
# price of zero or of one image, and the choice among them is left to their
# sizes. The divergence sees how far all answers moved, also where none
# changed yet. That is why a smooth price can rank layers better by the coarse
# truth than the coarse price does.

# %% tags=["solution"]
from lq_utils.layer_rounding import single_layer_logits


@register_sensitivity("mine", replace=True)
def own_kind(task):
    """Columns layer, bits and cost."""
    one_by_one = single_layer_logits(task.network, task.images, task.solved)
    before = task.logits[:, task.classes].argmax(dim=1)
    after = {
        key: answers[:, task.classes].argmax(dim=1)
        for key, answers in one_by_one.items()
    }
    return cost_table(
        {key: (a != before).float().mean() for key, a in after.items()}
    )


# %% tags=["solution"]
def whole_divergence(bits_of):
    """Divergence in nats with these layers in these bits."""
    changed_network = copy.deepcopy(task.network)
    for name, b in bits_of.items():
        module = changed_network.get_submodule(name)
        module.weight.data = task.solved[name, b].view_as(module.weight)
    unseen = to_input(judges.subset(first_classes).images)
    with torch.no_grad():
        p, q = task.network(unseen), changed_network(unseen)
    return float(lsn.divergence(p, q, first_classes).mean())


# %% tags=["solution"]
order, room = list(task.layers), int(file_sizes[main_budget].sum())
found_bits = {"uniform": dict.fromkeys(order, main_budget)}
for kind in ("divergence", "mine"):
    own_prices = lsn.SENSITIVITIES.get(kind)(task)
    own_prices = own_prices.pivot(index="layer", columns="bits", values="cost")
    columns = choose(
        own_prices.loc[order, levels].to_numpy(),
        file_sizes.loc[order, levels].to_numpy(),
        room,
    )
    found_bits[kind] = {n: levels[k] for n, k in zip(order, columns)}
mine_bits = found_bits["mine"]
plan_loss = {kind: whole_divergence(b) for kind, b in found_bits.items()}
Markdown("; ".join(f"{k}: {value:.3f} nats" for k, value in plan_loss.items()))

# %% tags=["check"]
check_answer(
    {
        "your kind needs a finite cost for every layer and bits": lambda: (
            lsn.SENSITIVITIES.get("mine") is own_kind
            and set(own_kind(task).set_index(["layer", "bits"]).index)
            == set(price.index)
            and np.isfinite(own_kind(task)["cost"]).all()
        ),
    }
)

# %% tags=["check"]
held = to_input(judges.subset(first_classes).images)
with torch.no_grad():
    answers = single_layer_logits(
        task.network, held, {(tried, fewest): task.solved[tried, fewest]}
    )[tried, fewest]
    alone = lsn.divergence(task.network(held), answers, first_classes).mean()
check_answer(
    {
        "nothing in few bits, nothing lost; one layer, its own price": (
            lambda: (
                abs(whole_divergence({})) < 1e-6
                and np.isclose(
                    whole_divergence({tried: fewest}),
                    alone,
                    rtol=1e-3,
                    atol=1e-6,
                )
            )
        ),
    }
)

# %% tags=["check"]
check_answer(
    {
        "a plan for every layer, no larger than uniform bits": lambda: (
            sum(file_sizes.at[n, b] for n, b in mine_bits.items())
            <= file_sizes[main_budget].sum()
            and set(mine_bits) == set(task.layers)
        ),
        "by your own prices your plan is no dearer than uniform bits": (
            lambda: (
                sum(
                    c * ((mine_bits[n] == b) - float(b == main_budget))
                    for n, b, c in own_kind(task)[
                        ["layer", "bits", "cost"]
                    ].itertuples(index=False)
                )
                < 1e-6
            )
        ),
    }
)

# %% tags=["check"]
check_answer(
    {
        "three plans, judged on the same images": lambda: (
            set(plan_loss) == {"mine", "divergence", "uniform"}
            and np.isclose(plan_loss["mine"], whole_divergence(mine_bits))
            and np.isclose(
                plan_loss["uniform"],
                whole_divergence(dict.fromkeys(task.layers, main_budget)),
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
# A sensitivity is a function that gives each layer a cost at each number of
# bits. Register yours, name it in the settings, and the framework divides the
# budget by it. This one takes the share of the weights' energy that rounding
# destroys, without any image.


# %%
@register_sensitivity("lost energy", replace=True)
def lost_energy(task):
    """Squared rounding error of a layer, relative to its weights."""
    found = {}
    for (layer, b), q in task.nearest.items():
        w = task.network.get_submodule(layer).weight.flatten(1)
        found[layer, b] = float((q - w).square().sum() / w.square().sum())
    return cost_table(found)


# %%
mine = changed(settings, sensitivity="lost energy")
prices = task_costs(network, splits.train, first.classes, mine)
compressed = compress_for_task(
    network, model, splits.train, first.classes, space, mine, costs=prices
)
right = task_hits(
    compressed.quantized.model, parts["validation"], compressed.task
)
Markdown(
    f"{compressed.file_bytes:,} of {space:,} bytes, "
    f"{right.mean():.1%} of {len(right):,} validation images right."
)

# %% [markdown]
# Another solver or scale rule is registered as in {ref}`chapter 8
# <ch-gpfq-gptq-brecq>`, and named in the settings likewise.
