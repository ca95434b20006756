# %%
import copy
from itertools import product

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
from lq_utils.bit_allocation import choose, row_bits
from lq_utils.calibration import calibration_rows
from lq_utils.figures import show, table
from lq_utils.fingerprints import digest
from lq_utils.graph import layer_table
from lq_utils.inference import to_input
from lq_utils.label_aware import settings, subset_key
from lq_utils.plans import Plan
from lq_utils.sweeps import sweep

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
# $$
#
# is zero where nothing changed, and needs no labels. Its mean over
# calibration images is the price of that layer at those bits. For a subset
# of the classes the sum runs over the subset's classes alone, with a softmax
# among them: errors between classes that never occur cost nothing.
#
# First the subsets. They go from similar classes to dissimilar ones, by the
# angles between the class weights of the network's last layer, as in
# {ref}`chapter 1 <ch-class-distances>`.

# %%
studied = sr.study_subsets(network, subset_size, layer_subsets, seed)
first_classes = list(studied[0].classes)

# %% [markdown]
# A *template* says how a layer is quantized, whatever its bits: how many
# levels, one scale a channel, the rule for scales, the solver. It is a plan
# like any other, with one row a layer; the bits in it play no part yet.

# %%
method = settings(
    {"quantizer": "asymmetric", "scale": layer_scale, "solver": layer_solver},
    granularity="channel",
    polish=layer_polish,
)
template = Plan.uniform(network, plan_bits, **dict(method))

# %% [markdown]
# ### By hand
#
# Take the first subset, some images of its classes, and one layer. A *task*
# holds what a price is computed from. It also hands out the layers' weights
# in few bits, as the template's solver chooses them when nothing else is
# quantized.

# %%
chosen = calibration_rows(splits.train, layer_images, seed, first_classes)
x = to_input(splits.train.images[chosen])
labels = splits.train.labels[chosen]
task = lsn.sensitivity_task(
    network, x, labels, first_classes, layer_bits, template
)
tried, fewest = task.layers[len(task.layers) // 2], min(layer_bits)

# %% [markdown]
# The rest is a copy of the network, two passes, and the formula above.

# %%
other = copy.deepcopy(task.network)
module = other.get_submodule(tried)
module.weight.data = task.solved[tried, fewest].view_as(module.weight)
with torch.no_grad():
    logits = torch.stack([task.network(x), other(x)])[..., first_classes]
log_p, log_q = logits.double().log_softmax(dim=-1)
by_hand = float((log_p.exp() * (log_p - log_q)).sum(dim=1).mean())

# %%
prices = lsn.SENSITIVITIES.get("divergence")(task)
price = prices.set_index(["layer", "bits"])["cost"]
assert np.isclose(by_hand, price[tried, fewest], rtol=1e-3, atol=1e-8)

# %% [markdown]
# The library does this for all layers and bits in one go. It stops at every
# layer, tries each of its versions on the rest of the network, and walks on:
# what lies before the layer is never computed twice.

# %%
infos = {info.name: info for info in layer_table(network)}
wide = price.unstack("bits").loc[list(task.layers)]
wide.insert(0, "weights", [infos[name].weights for name in wide.index])
caption = "Divergence (nats) with one layer in so many bits, first subset."
table(wide, caption, 5, name="prices")

# %% [markdown]
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
    images=layer_images,
    bits=layer_bits,
    kinds=layer_kinds,
    probes=probes,
    method=method,
    plan_bits=plan_bits,
    plans=random_plans,
)

# %%
judges = splits.validation.per_class(held_out_per_class, seed)
shared = {"network": network, "train": splits.train, "held_out": judges}
key = {"network": digest(network), "train": splits.provenance.fingerprint}
key |= {"held_out": digest(judges.images)}
study = {"shared": shared, "key": key, "code": ss.CODE, "n_jobs": workers}
rows = sweep("09_sensitivity", ss.sensitivity_rows, cells, **study)

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
# ## Whose sensitivity predicts?
#
# Divergence needs a pass for each layer and number of bits. Many shortcuts
# have been proposed. With $\Delta W$ the change of a layer's weights, $L$
# the loss of the labels among the subset's classes:
#
# | kind | price of a layer at some bits | needs |
# |---|---|---|
# | divergence | mean $\mathrm{KL}(p\,\Vert\,q)$ | one pass for each price |
# | output error | $\sum_k s_k\, \Delta W_k H \Delta W_k^\top$, $s_k$ the mean squared gradient of output $k$ | Gram matrices, one gradient |
# | weight error | $\lVert \Delta W \rVert^2$ | nothing |
# | fisher | $\sum_i \overline{g_i^2}\, \Delta w_i^2$, $g$ the gradients of $L$ of single images | a gradient for each image |
# | trace | $\mathrm{tr}(\nabla^2 L) / n \cdot \lVert \Delta W \rVert^2$ (HAWQ-V2) | products with the Hessian |
# | dimension | change of the intrinsic dimension times $\lVert \Delta W \rVert^2$ | outputs of the layers |
# | components | change of the number of principal components times $\lVert \Delta W \rVert^2$ | outputs of the layers |
# | shrinking | size of the next layer's output by that of the layer before, at most one, times $\lVert \Delta W \rVert^2$ | nothing |
#
# Divergence and output error take the weights that the template's solver
# would store. The others weigh every weight by itself, and a solver that
# corrects errors moves single weights further on purpose; they take weights
# rounded to nearest.
#
# The last three come from the book's sources. The QuantNET thesis
# {cite:p}`chari2023specious` takes layers for significant that change the
# dimension of the data {cite:p}`facco2017estimating`, as Hybrid-Net does
# with principal components {cite:p}`chakraborty2020constructing`. The
# label-aware report {cite:p}`dirisala-label-aware` proposes to give less to
# layers where the network shrinks. None of the three speaks of bits, so the
# squared change of the weights does.
#
# ### By hand
#
# The trace looks expensive: the Hessian of a layer has as many rows as the
# layer has weights. But for random signs $v$ the mean of $v^\top H v$ is the
# trace, because $v_i v_j$ is one on the diagonal and zero on average beside
# it. And $Hv$ is the gradient of a product of the gradient with $v$, so that
# the matrix is never needed.

# %%
rng = np.random.default_rng(0)
root = rng.normal(size=(6, 6))
hessian = root @ root.T
signs = rng.choice([-1.0, 1.0], size=(2000, 6))
estimates = np.einsum("pi,ij,pj->p", signs, hessian, signs)
error = estimates.std(ddof=1) / np.sqrt(len(estimates))
assert abs(estimates.mean() - np.trace(hessian)) < 4 * error

# %% [markdown]
# ### The test
#
# Each price predicts what happens when that layer alone is quantized. The
# truth is measured on validation images, which no price has seen: how much
# accuracy goes, and how far the answers move. Layers are ranked within one
# number of bits, so that no kind gets credit for knowing that fewer bits are
# worse.

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

# %%
Markdown(sr.prediction_text(prediction, fewest))

# %% [markdown]
# ## Do prices add up?
#
# Bits are chosen by adding prices of single layers. But errors of one layer
# pass through all later ones, which have errors of their own. So take random
# plans, in which every layer has any of the bits, and compare the sum of the
# single divergences with the divergence of the whole.

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

# %%
factor = additivity.set_index("quantity")["mean"]
Markdown(
    f"The whole is {factor['joint by sum']:.2f} times the sum, on average; "
    "sums rank the plans with a correlation of "
    f"{factor['rank correlation']:.2f}. To choose bits only the order has to "
    "be right, and a common factor does no harm."
)

# %% [markdown]
# ## The exact choice
#
# One choice of bits for each layer, least total price, total size within the
# budget: a knapsack with one item from each shelf. Three layers show it. The
# size of an item is that of the layer's codes, scales and zero points.

# %%
three = [task.layers[i] for i in (1, len(task.layers) // 2, -2)]
levels = sorted(layer_bits)
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
budget = int(size[:, levels.index(plan_bits)].sum())
fits = np.flatnonzero(total_size <= budget)
best = choices[fits[total_cost[fits].argmin()]]
assert np.array_equal(choose(cost, size, budget), best)

# %%
shown = pd.DataFrame(np.array(levels)[choices[fits]], columns=three)
shown["size in bits"] = total_size[fits]
shown["price"] = total_cost[fits]
shown = shown.sort_values("price").head(8).reset_index(drop=True)
caption = f"The cheapest choices in the budget of {plan_bits} bits each."
table(shown, caption, 6, name="three-layers")

# %% [markdown]
# With all layers there are too many choices to list. But a partial choice
# that is both larger and dearer than another can be dropped at once, for
# whatever follows serves both alike. What survives after each layer is a
# short front of sizes and prices, and the last front holds the optimum:
# exactly, for any prices. (Taking the best saving for each bit first, the
# greedy way, may leave part of the budget unused.)

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

# %%
Markdown(
    f"After each of the three layers {', '.join(map(str, lengths))} partial "
    f"choices are left; at the end {len(choices)} were possible."
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

# %%
tries = len(task.layers) * len(layer_bits)
curves = stb.search_curves(rows)
show(
    sf.search_figure(curves, tries),
    "Divergence of the best plan found so far, by that of the exact plan "
    "(1, dotted), both on calibration images. The vertical line: networks "
    "that the exact plan's prices took.",
    "Falling step lines for two searches against a horizontal line.",
    "search",
)

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
caption = f"Plans no larger than {plan_bits} bits everywhere. Divergence in "
caption += "nats; accuracy among the subset's classes, validation, per cent."
digits = dict.fromkeys(["accuracy", "gain", "low", "high"], 2)
table(plans, caption, digits | {"divergence": 4, "held_out": 4, "p": 3})

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
# The framework below lets each layer correct them, so its accuracies are
# higher. Which layers get the bits? The mean over subsets shows what the
# plans have in common.

# %%
shown = stb.bits_table(rows, ["divergence", "weight error", "evolution"])
shown.insert(1, "weights", [infos[n].weights for n in shown["layer"]])
table(shown, "Mean bits of each layer, by who chose them.", 1, name="bits")
