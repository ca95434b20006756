# %%
import copy
from itertools import product

import numpy as np
import pandas as pd
import torch
from IPython.display import Markdown

# %%
from lq_utils import distances as ld
from lq_utils import layer_sensitivity as lsn
from lq_utils import sensitivity_figures as sf
from lq_utils import sensitivity_study as ss
from lq_utils import sensitivity_tables as stb
from lq_utils import subsets as ls
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
# angles between the class weights of the network's last layer.

# %%
last = [p for p in network.parameters() if p.ndim == 2][-1]
angles = ld.weight_cosine(last.detach().numpy())
ways = ("similar", "random", "dissimilar")
studied = [
    ls.generate(ways[i % len(ways)], angles, subset_size, seed + i)
    for i in range(layer_subsets)
]
few_classes = studied[0].classes

# %% [markdown]
# A *template* says how a layer is quantized, whatever its bits: levels, one
# scale a channel, the rule for scales, the solver. The bits in it play no
# part yet.

# %%
method = settings(
    {
        "quantizer": "asymmetric",
        "granularity": "channel",
        "scale": layer_scale,
        "solver": layer_solver,
        "polish": layer_polish,
    }
)
template = Plan.uniform(network, plan_bits, **dict(method))

# %% [markdown]
# ### By hand
#
# Take the first subset, some images of its classes, and one layer. The
# library hands out the layer's weights in few bits; the rest is a copy of
# the network, two passes and the formula above.

# %%
chosen = calibration_rows(splits.train, layer_images, seed, few_classes)
x = to_input(splits.train.images[chosen])
labels = splits.train.labels[chosen]
task = lsn.sensitivity_task(
    network, x, labels, few_classes, layer_bits, template
)
tried, b = task.layers[len(task.layers) // 2], min(layer_bits)

# %%
other = copy.deepcopy(task.network)
module = other.get_submodule(tried)
module.weight.data = task.solved[tried, b].view_as(module.weight)
with torch.no_grad():
    own = list(few_classes)
    log_p = task.network(x)[:, own].double().log_softmax(dim=1)
    log_q = other(x)[:, own].double().log_softmax(dim=1)
by_hand = float((log_p.exp() * (log_p - log_q)).sum(dim=1).mean())

# %%
prices = lsn.SENSITIVITIES.get("divergence")(task)
price = prices.set_index(["layer", "bits"])["cost"]
assert np.isclose(by_hand, price[tried, b], rtol=1e-3, atol=1e-8)

# %% [markdown]
# The library does this for all layers and bits in one go. It stops at every
# layer, tries each of its versions on the rest of the network, and walks on:
# what lies before the layer is never computed twice.

# %%
wide = prices.pivot(index="layer", columns="bits", values="cost")
wide = wide.loc[list(task.layers)]
infos = {info.name: info for info in layer_table(network)}
wide.insert(0, "weights", [infos[name].weights for name in wide.index])
table(
    wide,
    "Divergence (nats) with one layer in so many bits, first subset.",
    {b: 5 for b in layer_bits},
    name="prices",
)

# %% [markdown]
# A bit more costs memory in proportion to the layer's weights; what it saves
# has little to do with them. That gap between price and size is what mixed
# precision lives on.
#
# ### Layers and subsets
#
# The study repeats this for every subset, and for all classes together. A
# cell is one subset with one draw of calibration images. First draws also
# answer the questions of the next sections; the further ones only show how
# much of a price is chance.

# %%
everything = tuple(range(splits.train.num_classes))
common = {
    "images": layer_images,
    "bits": tuple(sorted(layer_bits)),
    "probes": probes,
    "method": method,
    "plans": random_plans,
}
whole = common | {"draw": seed, "kinds": tuple(layer_kinds)}
prices_only = common | {"kinds": ("divergence",), "plan_bits": None}

# %%
cells = [
    whole | {"classes": s.classes, "plan_bits": plan_bits} for s in studied
]
cells += [
    prices_only | {"classes": s.classes, "draw": seed + k}
    for s in studied
    for k in range(1, layer_draws)
]
cells += [whole | {"classes": everything, "plan_bits": None}]

# %%
judges = splits.validation.per_class(held_out_per_class, seed)
rows = sweep(
    "09_sensitivity",
    ss.sensitivity_rows,
    cells,
    shared={"network": network, "train": splits.train, "held_out": judges},
    key={
        "network": digest(network),
        "train": splits.provenance.fingerprint,
        "held_out": digest(judges.images),
    },
    code=ss.CODE,
    n_jobs=workers,
)

# %%
names = {
    subset_key(s.classes): f"{s.kind} {i + 1}" for i, s in enumerate(studied)
}
all_key = subset_key(everything)
names[all_key] = "all classes"
costs = stb.cost_map(rows, "divergence", min(layer_bits), seed)
show(
    sf.cost_map_figure(costs, [names[k] for k in costs], "KL (nats)"),
    f"The price of storing one layer in {min(layer_bits)} bits, by subset. "
    "Similar tones along a row: the layer matters alike for all subsets.",
    "Colour map with one row a layer and one column a subset.",
    "price-map",
)

# %% [markdown]
# Rows differ more than columns where sensitivity belongs to the network, and
# columns differ where it belongs to the labels. The ranks of the layers say
# which. Two draws of the same subset show what noise leaves of a correlation
# of one; no comparison can come out above that.

# %%
agreement = stb.agreement_table(rows, all_key)
agreement = agreement[agreement["subsets"] > 0]
stb.record_lines(
    run, agreement, "rank_agreement", "correlation", ["kind", "compared"]
)
by_answers = agreement[agreement["kind"] == "divergence"]
table(
    by_answers.drop(columns="kind"),
    "Rank correlation of the layers' prices with those of the same subset "
    "from other images, of another subset, and of all classes.",
    2,
    name="agreement",
)

# %%
ranks = by_answers.set_index("compared")["correlation"]
blind = ranks["all classes"]
noise = ranks.get("same subset, other images", np.nan)
Markdown(
    f"Prices on all classes rank the layers like those on a subset with a "
    f"correlation of {blind:.2f}; the subset's own, from other images, with "
    f"{noise:.2f}. The difference is all that knowing the labels can add "
    "to the choice of bits."
)

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
# it. And $Hv$ is the gradient of a product of the gradient with $v$.

# %%
rng = np.random.default_rng(seed)
root = rng.normal(size=(6, 6))
hessian = root @ root.T
signs = rng.choice([-1.0, 1.0], size=(2000, 6))
estimates = np.einsum("pi,ij,pj->p", signs, hessian, signs)
error = estimates.std(ddof=1) / np.sqrt(len(estimates))
assert abs(estimates.mean() - np.trace(hessian)) < 5 * error

# %% [markdown]
# ### The test
#
# Each price predicts what happens when that layer alone is quantized. The
# truth is measured on validation images, which no price has seen: how much
# accuracy goes, and how much the loss grows. Layers are ranked within one
# number of bits, so that no kind gets credit for knowing that fewer bits are
# worse.

# %%
prediction = stb.prediction_table(rows)
stb.record_lines(
    run,
    prediction,
    "prediction",
    "correlation",
    ["kind", "bits", "measure"],
)
show(
    sf.prediction_figure(prediction, ["drop of accuracy", "KL divergence"]),
    "How well prices rank the layers: mean rank correlation over subsets, "
    "95 per cent intervals. Left: against lost accuracy. Right: against the "
    "divergence, both on validation images.",
    "Dot plot with one line for each kind of sensitivity, two panels.",
    "prediction",
)

# %%
at_few = prediction[prediction["bits"] == min(layer_bits)]
ranking = at_few.pivot(index="kind", columns="measure", values="correlation")
ranking = ranking.sort_values("KL divergence", ascending=False)
table(
    ranking,
    f"Mean rank correlation at {min(layer_bits)} bits, best kind first.",
    2,
    name="prediction-table",
)

# %% [markdown]
# Lost accuracy is a coarse truth: where one layer costs an image or two, its
# ranks are mostly chance, and no kind can do well. The divergence on the
# same images sees every change of an answer.

# %%
sources = [
    k for k in ("dimension", "components", "shrinking") if k in ranking.index
]
plain = ranking.loc["weight error", "KL divergence"]
better = [k for k in sources if ranking.loc[k, "KL divergence"] > plain]
Markdown(
    f"At {min(layer_bits)} bits the best kind here is {ranking.index[0]}. "
    f"The squared change of the weights alone reaches {plain:.2f}. Of the "
    f"sources' rules ({', '.join(sources)}) "
    f"{', '.join(better) if better else 'none'} ranks the layers better "
    "than that."
)

# %% [markdown]
# ## Do prices add up?
#
# Bits are chosen by adding prices of single layers. But errors of one layer
# pass through all later ones, which have errors of their own. So take random
# plans, in which every layer has any of the bits, and compare the sum of the
# single divergences with the divergence of the whole.

# %%
random_rows = stb.part(rows, "random")
show(
    sf.additivity_figure(random_rows, names),
    "Random plans: divergence of the whole network against the sum over its "
    "layers. Dotted: equal.",
    "Scatter plot on logarithmic axes with a diagonal.",
    "additivity",
)

# %%
additivity = stb.additivity_table(rows)
stb.record_lines(run, additivity, "additivity", "mean", ["quantity"])
table(additivity, "Sum of prices against the whole.", 2, name="additivity")

# %%
factor = additivity.set_index("quantity").loc["joint by sum", "mean"]
order = additivity.set_index("quantity").loc["rank correlation", "mean"]
Markdown(
    f"The whole is {factor:.2f} times the sum, on average; sums rank the "
    f"plans with a correlation of {order:.2f}. To choose bits only the order "
    "has to be right, and a common factor does no harm."
)

# %% [markdown]
# ## The exact choice
#
# One choice of bits for each layer, least total price, total size within the
# budget: a knapsack with one item from each shelf. Three layers show it. All
# choices can be listed.

# %%
three = [task.layers[i] for i in (1, len(task.layers) // 2, -2)]
options = sorted(layer_bits)
cost = np.array([[price[n, k] for k in options] for n in three])
rows_of = {k: template.override("*", bits=k) for k in options}
size = np.array(
    [[row_bits(rows_of[k][n], infos[n]) for k in options] for n in three]
)
budget = int(size[:, 1].sum())

# %%
choices = list(product(range(len(options)), repeat=3))
fits = [c for c in choices if size[range(3), list(c)].sum() <= budget]
best = min(fits, key=lambda c: cost[range(3), list(c)].sum())
assert np.array_equal(choose(cost, size, budget), best)

# %%
shown = pd.DataFrame([[options[k] for k in c] for c in fits], columns=three)
shown["bits in all"] = [int(size[range(3), list(c)].sum()) for c in fits]
shown["price"] = [cost[range(3), list(c)].sum() for c in fits]
shown = shown.sort_values("price").head(8)
table(
    shown.reset_index(drop=True),
    "Three layers, with the budget of "
    f"{options[1]} bits each: the cheapest choices that fit.",
    {"price": 6},
    name="three-layers",
)

# %% [markdown]
# With all layers there are too many choices to list. But a partial choice
# that is both larger and dearer than another can be dropped at once, for
# whatever follows serves both alike. What survives after each layer is a
# short front of sizes and prices, and the last front holds the optimum:
# exactly, for any prices. (Taking the best saving for each bit first, the
# greedy way, may leave part of the budget unused.)

# %%
front, lengths = [(0, 0.0)], []
for prices_of, sizes_of in zip(cost, size):
    longer = sorted(
        (s + int(t), c + float(d))
        for s, c in front
        for t, d in zip(sizes_of, prices_of)
    )
    front = []
    for s, c in longer:
        if s <= budget and (not front or c < front[-1][1]):
            front.append((s, c))
    lengths.append(len(front))
assert np.isclose(front[-1][1], cost[range(3), list(best)].sum())

# %%
Markdown(
    f"After each of the three layers {', '.join(map(str, lengths))} partial "
    f"choices are left, of {', '.join(str(len(options) ** k) for k in (1, 2, 3))}."
)

# %% [markdown]
# ## Search against the exact choice
#
# Why add up prices at all? One could try whole plans, and keep the best. The
# thesis names reinforcement learning for such tasks as a comparison to be
# made. Random search and evolution are its simplest relatives: propose a
# plan within the budget, quantize, look at the answers, repeat. Fairness
# asks for equal cost. The divergence of single layers looked at one network
# for each layer and number of bits; both searches get as many.

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
stb.record_lines(run, final, "search_ratio", "ratio", ["search"])
plans = stb.plan_table(rows, tries)
table(
    plans,
    f"Plans no larger than {plan_bits} bits everywhere, by who chose the "
    "bits: divergence in nats, accuracy among the subset's classes on "
    "validation images in per cent, gain over uniform in points.",
    {"divergence": 4, "held_out": 4, "p": 3, "accuracy": 1, "gain": 2}
    | {"low": 2, "high": 2},
    name="plans",
)

# %%
gains = plans[plans["name"] != "uniform"]
stb.record_lines(run, gains, "gain_over_uniform", "gain", ["name"])
stb.record_lines(run, plans, "plan_divergence", "held_out", ["name"])
winner = plans.loc[plans["held_out"].idxmin(), "name"]
exact = plans.set_index("name").loc["divergence"]
Markdown(
    f"On images held out the plan with the least divergence is that of "
    f"{winner}. The exact plan by divergence gains {exact['gain']:.2f} "
    f"points [{exact['low']:.2f}, {exact['high']:.2f}] over uniform bits. "
    "Layers were quantized one by one here; the framework below lets each "
    "one correct the errors of those before it."
)

# %% [markdown]
# Which layers get the bits? The mean over subsets shows what the plans have
# in common.

# %%
shown = stb.bits_table(rows, ["divergence", "weight error", "evolution"])
shown.insert(1, "weights", [infos[n].weights for n in shown["layer"]])
table(shown, "Mean bits of each layer, by who chose them.", 1, name="bits")
