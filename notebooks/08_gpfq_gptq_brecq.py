# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# (ch-gpfq-gptq-brecq)=
# # GPFQ, GPTQ and BRECQ
#
# **Question.** Which method keeps the most accuracy for equal bits, and what
# does that cost in time and memory?
#
# The label-aware report {cite:p}`dirisala-label-aware` quantizes with GPFQ
# {cite:p}`lybrand2021greedy,zhang2023post` and plans to compare it with GPTQ
# {cite:p}`frantar2023optq` and BRECQ {cite:p}`li2021brecq`. The comparison
# never appeared. Here it is: one network, the same calibration images, the
# same number of levels for all.
#
# Published numbers cannot stand in for it. They come from different networks,
# from grids with different numbers of levels (GPFQ's "b bits" have one level
# more, see {ref}`the errata <erratum-report-levels>`), and from scales that
# each paper chooses in its own way. Each of these can decide a comparison
# before the methods have done anything. So the chapter takes the methods apart
# into what they share and what they do not, and then lets one thing differ at
# a time.
#
# **You will learn**
# - that rounding, GPFQ, GPTQ and Qronos are one recursion;
# - why the choice of the scale can matter more than the choice of the method;
# - why the nearest level is often the wrong one, and how AdaRound and BRECQ
#   learn a better one;
# - how to compare methods so that the images, not luck, decide.
#
# **Inputs.** The reference network, which is part of the repository.
# Training images calibrate. Test images report, and choose nothing.
#
# **Time on two cores.** smoke: one minute; quick: four minutes; full: about
# two hours (an estimate), resumable. The quick profile gives every method a
# small budget, few images and few steps; the full one is the fair trial.

# %%
from functools import partial
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import torch
from IPython.display import Markdown

# %%
from lq_utils import distances as ld
from lq_utils import method_comparison as mc
from lq_utils import method_figures as mf
from lq_utils import method_report as mr
from lq_utils import method_tables as mt
from lq_utils import subsets as ls
from lq_utils.adaround import rectified_sigmoid, regulariser
from lq_utils.artifact import load_quantized, save_quantized
from lq_utils.calibration import calibration_set
from lq_utils.data import load_dataset
from lq_utils.exercises import check_answer
from lq_utils.figures import show, table, use_style
from lq_utils.fingerprints import digest

# %%
from lq_utils.grams import gram_statistics
from lq_utils.graph import fold_batch_norm, trace
from lq_utils.grids import Grid, alphabet
from lq_utils.inference import predict
from lq_utils.interactive import show_interactive
from lq_utils.interactive_feedback import feedback_steps
from lq_utils.layer_study import one_layer
from lq_utils.parameters import check_parameters
from lq_utils.peak_memory import peak_memory
from lq_utils.published import published
from lq_utils.results import reference_rows, start_run
from lq_utils.scales import fit_grid
from lq_utils.solvers import SOLVERS, polish
from lq_utils.sweeps import cell_grid, sweep
from lq_utils.weights import load_reference, require_same_split

# %% tags=["parameters"]
profile: str = "quick"  # smoke|quick|full|custom; names this set of values
dataset: str = "auto"  # auto|cifar100|synthetic100; the data
seed: int = 0  # 0..1000000; first calibration draw, subset, test images
model: str = "resnet20"  # resnet20|mobilenetv2_x0_5; the reference network
methods: list[str] = ["RTN", "GPFQ", "GPTQ", "BRECQ"]  # any; see mc.METHODS
bits: list[int] = [4, 3, 2]  # each 2..8; bits a weight; time alike
granularities: list[str] = ["channel", "tensor"]  # each channel|tensor; scales
rules: list[str] = ["max", "mse", "output"]  # each max|mse|output; of scales
rule_bits: int = 2  # 2..8; bits where scale rules are compared
middle_bits: int = 3  # 2..8; bits of the single layer, of memory and sizes
images: int = 128  # 32..20000; calibration images; time of all methods
draws: int = 1  # 1..20; calibration sets; time alike, intervals over them
patch_fraction: float = 0.5  # 0.01..1; share of images in Gram matrices
steps: int = 40  # 1..50000; steps a block for what learns; its time alike
learning_rate: float = 0.03  # 0.0001..0.1; of Adam; few steps need more
test_per_class: int = 5  # 1..100; test images of every class
subset_size: int = 10  # 2..50; classes of the subset
subset_kind: str = "random"  # random|similar|dissimilar; which classes
subset_images: int = 30  # 1..100; test images of every class of the subset
workers: str = "2"  # 1..64|tcp://*; processes, or a Dask scheduler

# %%
parameters = check_parameters(globals())

# %% [markdown]
# The data are those of {ref}`chapter 3 <ch-gpfq-sweeps>`: CIFAR-100 in the
# book's split, or a synthetic stand-in. The run stamps every result row with
# them.

# %%
use_style()
splits = load_dataset(dataset)
run = start_run("08_gpfq_gptq_brecq", parameters, splits.provenance)

# %% [markdown]
# ## One recursion
#
# A neuron has weights $w_1, \dots, w_N$ and sees patches, the rows of $X$.
# Replace its weights by levels $q$, and the output is wrong by $X(w - q)$.
# The squared error is
#
# $$
# \lVert X(w - q)\rVert^2 = (w-q)^\top H (w-q), \qquad H = X^\top X ,
# $$ (eq-08-error)
#
# with the Gram matrix $H$. Where inputs are correlated, $H$ is not diagonal,
# and the error of one weight can be undone by another.
#
# Two inputs that are always equal show what is at stake. With weights of 0.4
# each, both nearest levels are 0, and the output loses everything. Round one
# of them up, and what is left to lose is a quarter of that. The nearest level
# was right for each weight, and wrong for the sum. All that a solver has to
# know about the images is $H$, a matrix as large as the number of inputs,
# however many images there were.
#
# Every solver of this section goes through the weights once and does
#
# $$
# q_t = \text{level nearest to}\;
# w_t + \sum_{s<t} M_{ts}\,(w_s - q_s) .
# $$ (eq-08-feedback)
#
# They differ in the feedback $M$ alone.
#
# Read $M_{ts}$ as: by how much must weight $t$ move to make up for an error of
# one in weight $s$? The answer depends on what one expects of the weights that
# are still to come.
#
# | method | feedback $M_{ts}$ for $s < t$ | what it does with past errors |
# |---|---|---|
# | round to nearest (RTN) | $0$ | forgets them |
# | GPFQ | $H_{ts} / H_{tt}$ | corrects what weight $t$ alone can correct |
# | GPTQ | $V_{st} / V_{tt}$ with $H = V V^\top$, $V$ upper triangular | leaves to later weights what they can correct |
#
# The row of GPTQ is its usual loop, which updates all later weights by a
# column of the inverse of $H$, written without the inverse. Seen from here,
# GPFQ is impatient: it repairs at once what a later weight might have
# repaired better.
#
# None of them is optimal. To choose the best levels for all weights together
# is an integer least-squares problem, for which no fast exact method is known;
# what is fast is to decide one weight after the other and never come back.
# Seen so, GPTQ is an old acquaintance from the theory of lattices
# {cite:p}`chen2025geometry`, and an exercise below proves a bound with that.
#
# ```{index} GPFQ, GPTQ, Hessian matrix, Gram matrix
# ```

# %% [markdown]
# ### By hand
#
# One neuron, three inputs, four patches, two bits: the levels are
# $-2, -1, 0, 1$. Nothing is near a level, and the inputs rise and fall
# together.
#
# $V$ comes from a Cholesky factorization with both axes turned round, since
# GPTQ's triangle is an upper one. The assertion says that it is what the table
# above asks for.

# %%
X = np.array([[2.0, 0, 1], [3, 0, 1], [3, 3, 3], [1, 2, 1]])
w = np.array([0.4, 0.4, 0.1])
H = X.T @ X
V = np.linalg.cholesky(H[::-1, ::-1])[::-1, ::-1]
assert np.allclose(V @ V.T, H) and np.allclose(V, np.triu(V))


# %% [markdown]
# The recursion {eq}`eq-08-feedback` is three lines: add up what the errors so
# far ask for, round, go on. $M$ is the only thing that a method brings along.


# %%
def recursion(w, M, target=None):
    """Round column by column; M hands on the errors made so far."""
    q, target = np.zeros_like(w), w if target is None else target
    for t in range(len(w)):
        z = target[t] + M[t, :t] @ (w - q)[:t]
        q[t] = np.clip(np.floor(z + 0.5), -2, 1)
    return q


# %% [markdown]
# The three rows of the table, as matrices.

# %%
feedback = {
    "RTN": np.zeros((3, 3)),
    "GPFQ": np.tril(H, -1) / np.diag(H)[:, None],
    "GPTQ": np.tril((V / np.diag(V)).T, -1),
}
by_hand = {name: recursion(w, M) for name, M in feedback.items()}

# %% [markdown]
# With four levels and three weights, all choices can be tried. That gives
# the true optimum to compare with.

# %%
everything = np.array(list(product(range(-2, 2), repeat=3)))
losses = [(w - q) @ H @ (w - q) for q in everything]
tiny = by_hand | {"best of all": everything[np.argmin(losses)]}
errors = {name: float((w - q) @ H @ (w - q)) for name, q in tiny.items()}
levels_chosen = {n: str(q.astype(int).tolist()) for n, q in tiny.items()}

# %% [markdown]
# Below are the levels that each method has chosen, and the squared error of
# the output. Look where the methods differ: which weight has been moved away
# from its nearest level, and by whom? The last line shows what is left to
# gain. Nothing, for GPTQ on this neuron; that is no rule, as a layer with more
# weights has more ways to regret an early decision.

# %%
shown = pd.DataFrame({"levels": levels_chosen, "error": errors})
table(shown.rename_axis("method"), "The tiny layer; squared output error.", 2)
assert errors["RTN"] > errors["GPFQ"] > errors["GPTQ"]
assert np.isclose(errors["GPTQ"], errors["best of all"])

# %% [markdown]
# The same neuron, one decision a step. A square is a decided weight, a triangle
# what a weight still to come is asked to be. Step through rounding first: the
# triangles never move. Then see how GPFQ and GPTQ move them after the first
# decision, and how much of the error GPTQ's triangles take away at once.

# %%
show_interactive(
    feedback_steps(w, feedback, by_hand, H),
    "What each decision asks of the other weights, and the error so far.",
    "Three weights with their levels; bars of the error, step by step.",
    "feedback-steps",
)

# %% [markdown]
# The library works on matrices for whole layers, in blocks, with one
# Cholesky factor. It must decide the same. (GPTQ adds a little to the
# diagonal of $H$, its *damping*, which is off here.)
#
# Damping is no detail in practice. With fewer patches than inputs $H$ has no
# inverse, and with few more it is a rough estimate, whose small eigenvalues
# are mostly accident. A little of the identity keeps GPTQ from trusting them.
# A lot of it makes GPTQ forget the correlations, as an exercise below shows.

# %%
layer = torch.from_numpy(w)[None]
unit = Grid(alphabet("symmetric", 2), torch.ones(1, 1), torch.zeros(1, 1), 3)
same = gram_statistics(torch.from_numpy(X), torch.from_numpy(X))
exact = {"GPTQ": {"damping": 0.0}}
for name, q in by_hand.items():
    solver = SOLVERS.get(name.lower())
    found = solver(layer, same, unit, **exact.get(name, {}))
    assert np.array_equal(found[0], q), name

# %% [markdown]
# ### When the inputs have drifted
#
# The layers before are quantized too, so the neuron reads $\tilde X$ instead
# of $X$. Now $|Xw - \tilde X q|^2$ counts. GPFQ has always asked for that:
# its target is what the original weights would have given. GPTQ takes
# $\tilde X$ for granted and rounds as if nothing had happened before. Qronos
# {cite:p}`zhang2025qronos` repairs this: first the weight that is best for
# the drifted inputs, then GPTQ. That weight is
#
# $$
# H^{-1} G w \quad\text{with}\quad
# G = \tilde X^\top X, \; H = \tilde X^\top \tilde X .
# $$ (eq-08-qronos)
#
# To see it, change the last patch and keep everything else. Now there are two
# matrices: $H$ for what the neuron reads, $G$ for how that goes together with
# what it should have read.
#
# ```{index} Qronos
# ```

# %%
drifted = X.copy()
drifted[3] = [1, 1, 0]
H, G = drifted.T @ drifted, drifted.T @ X
V = np.linalg.cholesky(H[::-1, ::-1])[::-1, ::-1]
impatient = np.tril(H, -1) / np.diag(H)[:, None]
patient = np.tril((V / np.diag(V)).T, -1)

# %% [markdown]
# Four methods on the drifted neuron. GPFQ gets another target, GPTQ gets none,
# and Qronos runs GPTQ's recursion on repaired weights.

# %%
repaired = np.linalg.solve(H, G @ w)
by_hand = {
    "RTN": recursion(w, np.zeros((3, 3))),
    "GPFQ": recursion(w, impatient, w + np.tril(G - H) @ w / np.diag(H)),
    "GPTQ": recursion(w, patient),
    "Qronos": recursion(repaired, patient),
}
errors = {n: np.sum((X @ w - drifted @ q) ** 2) for n, q in by_hand.items()}

# %% [markdown]
# The library must again decide the same as these few lines, for all four.

# %%
moved = gram_statistics(torch.from_numpy(drifted), torch.from_numpy(X))
exact["Qronos"] = {"damping": 0.0}
for name, q in by_hand.items():
    solver = SOLVERS.get(name.lower())
    found = solver(layer, moved, unit, **exact.get(name, {}))
    assert np.array_equal(found[0], q), name

# %% [markdown]
# The error is now the distance to the *original* output. On this neuron Qronos
# reaches the best of all choices, which the assertion checks; on others it
# need not. Rounding and GPTQ do not know what the neuron should have read;
# GPTQ knows only what it reads. Do they come out ahead of GPFQ, or behind?

# %%
least = min(np.sum((X @ w - drifted @ q) ** 2) for q in everything)
assert np.isclose(errors["Qronos"], least)
shown = pd.Series(errors, name="error").rename_axis("method")
table(shown.to_frame(), "The same layer with a drifted patch.", 2)

# %% [markdown]
# ## The network
#
# Enough of tiny layers. The reference network must have been trained with
# the split that is loaded here; else its test images might be among its
# training images.

# %%
trained_on = splits.provenance.dataset
require_same_split(model, trained_on, splits.provenance)
network = load_reference(model, trained_on)

# %% [markdown]
# Each draw of calibration images serves all methods. Classes take part
# evenly. The subset is chosen by the directions of the network's own class
# weights, as in {ref}`chapter 1 <ch-class-distances>`.

# %%
last = [p for p in network.parameters() if p.ndim == 2][-1]
D = ld.weight_cosine(last.detach().numpy())
subset = ls.generate(subset_kind, D, subset_size, seed)
names = ", ".join(subset.names(splits.test.class_names))
Markdown(f"The subset: {names}.")

# %% [markdown]
# The images are drawn once and handed to every method, so that no method can
# be lucky with its images. Several draws tell how much such luck there is. The
# same number of images is drawn a second time from the classes of the subset
# alone, for a question at the end.

# %%
seeds = range(seed, seed + draws)
of = {"all": None, "subset": subset.classes}
calibration = {
    f"{kind} {s}": calibration_set(splits.train, images, s, classes)
    for kind, classes in of.items()
    for s in seeds
}

# %% [markdown]
# Test images: the same number of every class for *full*, and more of the
# subset's classes, as a subset has few images and its accuracies would be
# rough otherwise.

# %%
enough = splits.test.per_class(subset_images, seed)
own = np.flatnonzero(np.isin(enough.labels, subset.classes))
test = {
    "full": splits.test.per_class(test_per_class, seed),
    "subset": enough.take(own),
}

# %%
original = pd.DataFrame(mc.score(network, test, subset.classes))
base = mr.record_original(run, original)

# %% [markdown]
# Three accuracies will be reported. *full*: all classes. *all* and *sub*:
# images of the subset only, with all logits compared, or only those of the
# subset. The report's tables mix the last two.

# %%
table(base.to_frame(), "The original network.", 2)

# %% [markdown]
# *sub* can only be higher than *all*, or equal: with fewer answers to choose
# from, fewer can be wrong. The distance between the two has nothing to do with
# quantization ({ref}`chapter 3 <ch-gpfq-sweeps>` follows this up), so no table
# may compare one network by the one with another by the other, as {ref}`the
# report does <erratum-report-quantized-better>`.
#
# ## One layer: solver, polish, scale
#
# What do these choices change on a real layer? Take one in the middle of the
# network, behind layers that are already rounded.
#
# Batch normalisation is folded into the weights first: its factors belong to
# the layer, and a scale that is chosen without them is chosen for the wrong
# weights. `rough` is the network after rounding to nearest, so that the layer
# reads drifted inputs, as it would in use.

# %%
folded = fold_batch_norm(trace(network))
few = calibration[f"all {seed}"][:64]
rough = mc.one_pass(
    network, few, mc.Budget(middle_bits, scale="mse"), solver="rtn"
)
layers = [n for n, m in folded.named_modules() if hasattr(m, "kernel_size")]
chosen = layers[len(layers) // 2]
one = one_layer(folded, rough.model, chosen, few)

# %% [markdown]
# *Polish* is coordinate descent: each weight in turn takes the level that is
# best while all others stay {cite:p}`zhang2024comq`. It cannot make the
# layer's error larger. The scale comes from a rule. `max` covers the largest
# weight, `mse` minimises the error of the weights. `output` tries a range of
# scales with the solver itself and keeps the one with the least output error;
# since it needs a solver, it is left to the whole networks below.
#
# Why not simply cover the largest weight? With few levels the step is then
# large, and the many small weights pay for one large one. A narrower grid
# clips a few weights and is finer for the rest. Where the best compromise lies
# depends on the distribution, and for `output` also on which errors the
# layer's inputs make visible. So with two bits the rule can be worth more than
# with eight.

# %%
statistics, levels = one.statistics(), alphabet("symmetric", middle_bits)
found = []
for rule in ("max", "mse"):
    grid = fit_grid(one.weight, levels, "channel", rule)
    for solver in ("rtn", "gpfq", "gptq", "qronos"):
        q = SOLVERS.get(solver)(one.weight, statistics, grid)
        better = polish(one.weight, q, statistics, grid, mc.POLISH)
        found.append((rule, solver, one.error(q), one.error(better)))

# %% [markdown]
# The error is the norm of the change of the layer's output over the norm of
# the output: zero is perfect, one is as bad as an output of zeros. In the
# table, compare solvers within a rule, then the same solver under two rules,
# then the last two columns. If polishing brings all solvers together, then
# what matters is where one ends, not how one began.

# %%
columns = ["scale rule", "solver", "error", "error after polish"]
one_table = pd.DataFrame(found, columns=columns)
for rule, solver, plain, better in found:
    keys = {"layer": chosen, "rule": rule, "solver": solver}
    run.record("layer_error", plain, polish=0, **keys)
    run.record("layer_error", better, polish=mc.POLISH, **keys)

# %%
where = f"Relative output error of layer {chosen}, {middle_bits} bits."
table(one_table, where, name="one-layer")

# %% [markdown]
# This is one layer, and its error on the images that chose its levels. Neither
# fact carries over by itself: other layers have other spectra, and accuracy
# depends on what later layers do with the error. That is why the next sections
# take whole networks and test images.
#
# ## The whole network: rule or solver?
#
# A cell of the sweep below quantizes the network once and scores it. Cells
# are stored as they finish, so that a long sweep can be stopped and resumed.
# Everything that decides the result is part of a cell's name.

# %%
shared = {
    "model": network,
    "model_name": model,
    "images": calibration,
    "test": test,
    "classes": subset.classes,
}
key = {name: shared[name] for name in ("model_name", "classes")} | {
    "model": digest(network),
    "images": {name: digest(x) for name, x in calibration.items()},
    "test": [digest(test[name].images) for name in ("full", "subset")],
}

# %% [markdown]
# `compare_cell` takes the CPU time of the method alone, scores the network by
# each protocol and keeps, image by image, which answers were right. Everything
# below is made from these rows.

# %%
compare = partial(
    sweep, "methods", mc.compare_cell, shared=shared, key=key, code=mc.CODE
)
budget = {
    "patch_fraction": [patch_fraction],
    "steps": [steps],
    "learning_rate": [learning_rate],
}
axes = {"calibration": ["all"], "draw": list(seeds), **budget}

# %% [markdown]
# First, one-pass solvers with every scale rule, one scale a channel.

# %%
solvers = [m for m in ("RTN", "GPFQ", "GPTQ") if m in methods]
grid_of_rules = cell_grid(
    method=solvers or ["GPFQ"],
    bits=[rule_bits],
    granularity=["channel"],
    scale=rules,
    **axes,
)
rule_rows = compare(grid_of_rules, n_jobs=workers)

# %%
by_rule = mt.accuracies(rule_rows[rule_rows["protocol"] == "full"])
show(
    mf.rules_figure(by_rule, base["full"]),
    f"Accuracy at {rule_bits} bits ({2**rule_bits} levels), one scale a "
    "channel, by scale rule and solver. Dotted: the original network.",
    "Dot plot with one line for each scale rule and one mark a solver.",
    "rules",
)

# %% [markdown]
# A mark is a network; the farther to the right, the better, and the dotted
# line is what there was to lose. Marks that spread along a line say that the
# solver matters under this rule, lines that lie apart say that the rule does.
# Bars are intervals over the test images, or over draws of calibration images
# where there are several.
#
# Which choice moves accuracy more? Compare the gap between the best and the
# worst rule, averaged over solvers, with the gap between the best and the
# worst solver, averaged over rules. Rounding to nearest is a solver without
# feedback, so judge with and without it.
#
# A gap between best and worst is a rough measure: it is never negative, chance
# alone makes it larger than zero, and the more so the more options there are.
# So a small difference between the two gaps means nothing; look at the figure
# before you believe the sentence below. Its interval is over test images, which
# all networks share; other solvers and rules would have other gaps.

# %%
full_rules = rule_rows[rule_rows["protocol"] == "full"]
by_choice = mr.record_gaps(run, by_rule)
Markdown(mr.told_gaps(by_choice, mr.gap_difference(run, full_rules)))

# %% [markdown]
# A comparison of solvers says little unless each gets the same care for its
# scales. From here on all of them use `output`, with $2^b$ levels for $b$
# bits.
#
# `output` costs each solver several runs a layer, one for each scale that is
# tried, which the times below include.
#
# ## Up or down?
#
# Every weight lies between two levels. AdaRound {cite:p}`nagel2020up` asks
# which of the two to take, all weights of a layer together. On the tiny
# layer from above, without drift, these are only eight choices.
#
# Why should that be an open question at all? For a small change $\Delta$ of
# the weights the loss of a trained network changes by about $\tfrac12
# \Delta^\top H \Delta$, where $H$ is its second derivative. Rounding to
# nearest makes the diagonal terms small and leaves the signs of all the others
# to chance. AdaRound takes the whole sum. In place of the second derivative it
# has the Gram matrix of the layer's inputs, as GPTQ does; only the search is
# another one.

# %%
H, floor = X.T @ X, np.floor(w)
up = np.array(list(product([0, 1], repeat=3)))
gap = w - (floor + up)
loss = np.einsum("ci,ij,cj->c", gap, H, gap)
nearest = (w - floor >= 0.5).astype(int)

# %% [markdown]
# All eight choices, with their error; *nearest* and *best* mark two of the
# lines.

# %%
choices = pd.DataFrame({"weights rounded up": up.tolist(), "error": loss})
choices["nearest"] = (up == nearest).all(axis=1)
choices["best"] = loss == loss.min()
assert not (choices["nearest"] & choices["best"]).any()
table(choices, "All ways to round the tiny layer up or down.", 2)

# %% [markdown]
# The nearest levels are far from the best. A real layer has too many choices
# to try. AdaRound makes them soft: $h(v)$ between 0 (down) and 1 (up), a
# stretched sigmoid of a variable $v$ for each weight. It starts where the
# soft weight is the original one. A gradient moves the $v$, and a penalty
#
# $$
# \sum \left( 1 - |2h - 1|^\beta \right)
# $$ (eq-08-adaround)
#
# with falling $\beta$ pushes each $h$ to an end.
#
# The stretch matters: a plain sigmoid reaches its ends only at infinity, a
# stretched and cut one gets there, and stays. While $\beta$ is large the
# penalty is flat in the middle and leaves the search free; as it falls, every
# $h$ in between becomes expensive. What comes out is a vertex of the cube of
# choices, found by walking through its inside.
#
# Nothing guarantees the best end. So take fifty neurons with ten correlated
# inputs, where every choice can still be tried, and see how near it comes.
#
# The inputs are correlated, as a random matrix mixes them. `share` is how far
# each weight lies above its lower level, and $v$ starts where $h$ is exactly
# that.
#
# ```{index} AdaRound
# ```

# %%
rng = np.random.default_rng(0)
patches = rng.normal(size=(200, 10)) @ rng.normal(size=(10, 10))
gram = torch.from_numpy(patches.T @ patches / 200)
weight = torch.from_numpy(rng.uniform(-2, 2, (50, 10)))
share = weight - weight.floor()
soft = torch.logit((share + 0.1) / 1.2).requires_grad_()

# %% [markdown]
# The loop below is the whole method for one layer: first the output error
# alone, then with the penalty. In the end each weight takes the end that it is
# nearer to.

# %%
adam, count = torch.optim.Adam([soft], lr=0.03), 400
for k in range(count):
    h = rectified_sigmoid(soft)
    goal = torch.einsum("ki,ij,kj->", h - share, gram, h - share)
    if k > count / 5:  # first find a good place, then push to the ends
        goal = goal + regulariser(h, 20 - 18 * k / count)
    adam.zero_grad()
    goal.backward()
    adam.step()
learnt = (rectified_sigmoid(soft).detach() >= 0.5).double()

# %% [markdown]
# For ten inputs the choices can still be counted out, for each neuron by
# itself.

# %%
ways = torch.tensor(list(product([0.0, 1.0], repeat=10))).double()
tried = {
    "nearest": (share >= 0.5).double()[:, None],
    "learnt by gradient": learnt[:, None],
    "best of all": ways.expand(50, -1, -1),
}
gaps = {name: choice - share[:, None] for name, choice in tried.items()}
costs = {
    name: torch.einsum("kci,ij,kcj->kc", gap, gram, gap).amin(1).mean().item()
    for name, gap in gaps.items()
}

# %% [markdown]
# Three errors, means over the neurons. How much of the way from the nearest
# levels to the best ones has the gradient gone? What is missing is the price
# of a search that ends in a valley near its start. It need not be the same for
# a wide layer, where nobody can count.

# %%
assert costs["best of all"] < costs["learnt by gradient"] < costs["nearest"]
shown = pd.Series(costs, name="error").rename_axis("rounding")
table(shown.to_frame(), "Mean squared output error of fifty neurons.", 2)

# %% [markdown]
# ### Blocks
#
# BRECQ reconstructs the output of a whole block instead of each layer's, so
# that errors of one layer may be undone by the next. Take a block of two
# layers with a ReLU between, six weights in all. Layer by layer means: first
# the best choice for the first layer, then the best for the second. As a
# block: the best of all choices together.
#
# What could the block know that the layers do not? An error of the first layer
# that the ReLU cuts off does no harm, and one that the second layer can take
# back does little. Layer by layer, the first layer is judged by its own output
# and pays for both.
#
# ```{index} BRECQ
# ```

# %%
rng = np.random.default_rng(2)
inputs = rng.normal(size=(50, 2)) @ np.array([[1.0, 0.8], [0.0, 0.6]])
W1, w2 = rng.uniform(-2, 2, (2, 2)), rng.uniform(-2, 2, 2)
hidden = np.maximum(inputs @ W1.T, 0)
goal = hidden @ w2
first = np.floor(W1) + np.array(list(product([0, 1], repeat=4))).reshape(
    -1, 2, 2
)
second = np.floor(w2) + np.array(list(product([0, 1], repeat=2)))

# %% [markdown]
# `both` holds the error of every pair of choices; the best layer-by-layer
# choice is the smallest entry of *one* row, the best block the smallest of
# all. So the block can never do worse, and the only question is by how much it
# does better.

# %%
# One column of `both` a choice for the second layer, one row for the first.
layer_loss = [np.sum((inputs @ (W1 - q).T) ** 2) for q in first]
seen = [np.maximum(inputs @ q.T, 0) for q in first]
both = np.array([[np.sum((goal - s @ q) ** 2) for q in second] for s in seen])
greedy = both[np.argmin(layer_loss)].min()
rounded = np.maximum(inputs @ np.floor(W1 + 0.5).T, 0)
plain = np.sum((goal - rounded @ np.floor(w2 + 0.5)) ** 2)

# %% [markdown]
# The table has the three ways, worst first. With more choices there is more to
# gain, and more to be misled by: a block is fitted to a few images, with many
# choices, and what it makes up for on these it may not make up for on others.

# %%
block_errors = {
    "every weight to nearest": plain,
    "layer by layer (AdaRound)": greedy,
    "as a block (BRECQ)": both.min(),
}
assert both.min() < greedy < plain
shown = pd.Series(block_errors, name="error").rename_axis("rounding")
table(shown.to_frame(), "Squared error of the block's output.", 2)

# %% [markdown]
# The library's `reconstruct` does both by gradient, with the error after the
# activation of the block, inputs from the partly quantized network, and the
# rounding above. It starts at the nearest levels, with scales by `output`. A
# block whose loss did not fall keeps its nearest levels. The authors take
# thousands of steps a block; the quick profile has a small share of that, so
# it takes larger ones.
#
# The paper weighs the error of each output by the gradient of the loss there,
# an estimate of the Fisher information; the code that its authors released
# takes the plain squared error by default for ImageNet, and so does this
# chapter. A method is what its code does, and a comparison should say which of
# the two it means.
#
# ## The comparison
#
# Every method on every grid: this is the long part of the chapter. With one
# scale a channel, networks are also calibrated on images of the subset alone.
#
# The table is sorted by bits within each granularity. Compare methods within
# one such group only: another granularity has more scales to store, another
# number of bits another grid. The fewer the levels, the farther a weight is
# from the nearest one, and the more room there is for methods to differ.

# %%
plain = {"method": methods, "bits": bits, "scale": ["output"]}
cells = cell_grid(granularity=granularities, **plain, **axes)
cells += cell_grid(
    granularity=["channel"], **plain, **axes | {"calibration": ["subset"]}
)
rows = compare(cells, n_jobs=workers)
means = mt.accuracies(rows)
full = means[means["protocol"] == "full"]

# %%
mr.record_accuracies(run, means)
columns = ["granularity", "bits", "method", "accuracy", "low", "high"]
order = full.sort_values(columns[:2], ascending=[True, False], kind="stable")
between = "images" if draws == 1 else f"{draws} calibration draws"
table(
    order[columns],
    f"Accuracy (%) on {len(test['full']):,} test images of all classes; "
    f"original {base['full']:.2f}. Intervals over {between}.",
    2,
    name="accuracy",
)

# %% [markdown]
# Intervals of two methods may overlap although one is better on the same
# images. A *paired* comparison asks, image by image, which of two networks is
# right. All pairs in all settings are tested at once, and Holm's correction
# keeps the risk of a single false finding at the usual level.
#
# Why is a paired test sharper? Images that both networks get right, or both
# get wrong, say nothing about which is better; they only add noise to the two
# accuracies, the same noise to both. What is left are images on which they
# disagree. The test's population is images like these: it speaks of this one
# network, quantized from these calibration sets, not of networks in general.
#
# A difference is *first* minus *second*, in points; an image counts with its
# mean over the draws of calibration images.

# %%
pairs = mt.differences(rows[rows["protocol"] == "full"])
keys = ["first", "second", "bits", "granularity"]
mr.record_points(run, "difference", pairs, len(test["full"]), keys)

# %% [markdown]
# The winner of a setting is not *the* best method where the last column names
# others. These could be ahead with other test images.

# %%
columns = ["granularity", "bits", "best", "accuracy", "level"]
best = mt.winners(full, pairs)[columns]
best.columns = ["granularity", "bits", "best", "accuracy", "not told from it"]
table(best, "Where each method wins, and what it cannot be told from.", 2)

# %%
told = pairs[pairs["p"] < mt.SIGNIFICANT]
columns = ["granularity", "bits", "first", "second", "difference", "p"]
if len(told):
    table(told[columns], "Differences (points) that are not chance.", 3)
else:
    print("No two methods can be told apart with so few images.")

# %% [markdown]
# ## Time and memory
#
# Seconds are CPU seconds of one thread, measured around the method alone:
# forward passes, statistics, solving or learning. Loading and scoring do not
# count. The machine may do other things at the same time; CPU time is hardly
# moved by that, wall time would be.
#
# In the figure up and to the left is better: more accuracy, less time. A
# method is only worth its time if no other mark lies up and to the left of its
# own. Methods that learn can be moved to the right as far as one likes, by
# more steps, and what they gain by that is their curve, of which one run shows
# a point. One-pass methods have no such knob; their time is spent on Gram
# matrices, and on trying scales.

# %%
show(
    mf.accuracy_time_figure(full, base["full"]),
    "Accuracy against CPU time on one thread. The numbers beside the marks "
    "are bits; the dotted line is the original network.",
    "Two panels, one for each granularity; a curve of marks for each method "
    "on a logarithmic axis of seconds.",
    "accuracy-time",
)

# %% [markdown]
# Peak memory needs care: a process never returns what an earlier method has
# used. So each method runs in a process of its own, after a warm-up with two
# images. What counts is how far the peak of resident memory rises above that
# level. Memory does not depend on the number of steps, so few are made.

# %%
work = {
    "model": network,
    "images": calibration[f"all {seed}"],
    "budget": mc.Budget(middle_bits, patch_fraction=patch_fraction, steps=3),
}
functions = {name: mc.find_method(name) for name in methods}
peaks = peak_memory(functions, work, warm_up={"images": few[:2]})

# %% [markdown]
# One-pass methods need the inputs of a layer and their Gram matrix. Learning
# needs gradients, too, and the outputs of whole blocks for all images. The
# table below has both costs side by side, for the number of images of this
# run.

# %%
cost = full.groupby("method", sort=False)["seconds"].median().to_frame()
if peaks is None:
    print("SKIPPED: peak memory (this system cannot fork processes).")
else:
    cost["peak memory (MiB)"] = pd.Series(peaks)
for method, row in cost.iterrows():
    run.record("cpu_seconds", row["seconds"], n=images, method=method)
    if peaks is not None:
        run.record("peak_mib", peaks[method], n=images, method=method)
table(cost, f"Cost with {images} images; seconds are medians.", 1)

# %% [markdown]
# ## File size
#
# Bits are a promise; files are facts. `save_quantized` packs the codes and
# adds scales, biases and a header. The network that comes back must answer
# exactly as the simulated one did.
#
# The factor is less than 32 over the number of bits, for two reasons: some
# parameters are not quantized, and scales take room. The smaller the network
# and the finer the granularity, the more that counts.

# %%
with TemporaryDirectory() as folder:
    path = Path(folder) / "quantized.safetensors"
    size = save_quantized(path, rough, model, splits.test.num_classes)
    assert size == path.stat().st_size
    again = load_quantized(path)
some = test["subset"].take(np.arange(20))
assert torch.equal(predict(again, some), predict(rough.model, some))

# %% [markdown]
# One line a granularity and number of bits is enough: all methods fill the
# same grid, so accuracy was compared at equal bytes.

# %%
keys = ["granularity", "bits"]
sizes = rows.groupby(keys, sort=False)["file_bytes"].max()
whole = sum(4 * t.numel() for t in network.state_dict().values())
files = (sizes / 2**10).rename("KiB").reset_index()
files["times smaller"] = whole / sizes.to_numpy()
for row in files.itertuples():
    run.record(
        "file_bytes",
        row.KiB * 2**10,
        bits=row.bits,
        granularity=row.granularity,
    )

# %%
table(files, f"Size on disk; the original has {whole / 2**10:,.0f} KiB.", 1)

# %% [markdown]
# ## On a subset of the classes
#
# The report calibrates on the classes that will be used. Does that help, and
# does the method matter? The same number of images, once from all classes,
# once from the subset; scored on the subset's test images.
#
# A row of the table is a method at some bits; the columns come in pairs,
# calibrated on all classes or on the subset, scored by *all* or by *sub*. Read
# *sub* against *sub*. Own calibration could help, as it shows the layer the
# inputs that will come; it could hurt, since images of few classes vary less
# and leave $H$ uncertain in more directions.

# %%
protocol_rows = means[
    (means["protocol"] != "full") & (means["granularity"] == "channel")
]
wide = protocol_rows.pivot(
    index=["bits", "method"],
    columns=["calibration", "protocol"],
    values="accuracy",
).reindex(pd.MultiIndex.from_product([bits, methods]))
wide.index.names = ["bits", "method"]
wide.columns = [f"{of}, {protocol}" for of, protocol in wide.columns]

# %%
table(
    wide.reset_index(),
    f"Accuracy (%) on {len(test['subset']):,} images of the subset, by "
    "calibration images and protocol; original "
    f"{base['all']:.2f} (all) and {base['sub']:.2f} (sub).",
    2,
    name="subset",
)

# %%
narrow = rows[(rows["protocol"] == "sub") & (rows["granularity"] == "channel")]
own_or_all = mt.differences(narrow, of="calibration")
keys = ["method", "bits", "first", "second"]
mr.record_points(run, "difference", own_or_all, len(own), keys)

# %% [markdown]
# In words; *beyond chance* means after the correction for the number of
# settings.

# %%
gains = -own_or_all["difference"]
certain = own_or_all["p"] < mt.SIGNIFICANT
helped = int((certain & (gains > 0)).sum())
hurt = int((certain & (gains < 0)).sum())
Markdown(
    f"In {len(gains)} settings, calibrating on the subset changes *sub* by "
    f"{gains.mean():+.1f} points on average. It helps beyond chance in "
    f"{helped} and hurts in {hurt}."
)

# %% [markdown]
# One subset is an example. {ref}`Chapter 3 <ch-gpfq-sweeps>` has many.
#
# ## Verdicts on the report's claims
#
# The report's proposal (its section 5) says what it expects of the three
# methods. First what the authors of BRECQ print: top-1 accuracy on ImageNet.
#
# Look for a line with full-precision activations: its existence alone answers
# one of the two claims ({ref}`erratum <erratum-report-brecq>`).

# %%
peers = published("peers", quantity="top-1 accuracy")
printed = pd.DataFrame(peers["keys"].tolist()).assign(
    accuracy=peers["printed"].astype(float)
)
table(printed, "BRECQ as its authors publish it (README).", 2, name="brecq")

# %%
resnet = printed[printed["model"] == "ResNet-18"]
by_activation = resnet.set_index("activations")["accuracy"]
weights_only = float(by_activation["fp32"])
more = weights_only - float(by_activation["4-bit"])
evidence = f"weights only, {by_activation['fp32']} %; and all runs here"
claims = [
    ("BRECQ quantizes weights and activations (5.5)", evidence, "no"),
    (
        "that depletes accuracy excessively (5.5)",
        f"{more:.2f} points more with 4-bit activations",
        "holds" if more > 10 else "not by its authors' numbers",
    ),
]

# %% [markdown]
# The rest is judged by the runs above. Time: CPU seconds. Accuracy: the drop
# from the original, paired by image, with one scale a channel. A drop counts
# as small up to one point; where its interval lies on both sides of that,
# this run cannot tell.
#
# A claim about a method can fail here for a reason that lies in the budget.
# The verdict on time therefore names the number of steps, and a verdict on
# accuracy can be that this run cannot tell.

# %%
hits = original.set_index("protocol")["hits"]["full"]
here = rows[(rows["protocol"] == "full") & (rows["granularity"] == "channel")]
losses = mt.drops(here, hits)
mr.record_points(run, "drop", losses, len(test["full"]), ["method", "bits"])

# %%
claims += mr.time_claims(cost["seconds"], steps) + mr.drop_claims(losses)
verdicts = pd.DataFrame(claims, columns=["claim", "evidence", "verdict"])
table(verdicts, "What the report says, what was found.", name="verdicts")

# %% [markdown]
# ## Your run and the reference
#
# The reference run uses the full profile: more images, more draws, enough
# steps for the methods that learn. Where its rows are committed, compare.

# %%
run.save()
reference = reference_rows("08_gpfq_gptq_brecq")
comparison = run.compare()
comparison = comparison.dropna(subset="reference")
if len(comparison):
    table(comparison, "This run beside the reference.", name="comparison")

# %% [markdown]
# ## What to keep
#
# - The error of a layer is a quadratic form. What is off its diagonal is what
#   methods live from.
# - One-pass methods differ in one matrix. Ask of a new one: what is its
#   feedback, what is its target, what is its scale rule?
# - Equal bits are not enough for a fair comparison: equal levels, equal
#   granularity, equal care for the scales, the same images.
# - On the same images, compare in pairs; and with many pairs, correct.
#
# ## Exercises
#
# ```{exercise}
# :label: ex-08-damping
#
# (5 minutes) GPTQ adds $\lambda I$ to $H$. Which method does it become when
# $\lambda$ grows without bound? Put that method's name among the `SOLVERS`
# into `becomes` (a string), and into `large` a `damping` (a float) at which
# GPTQ has become it on the layer `one`, with the chapter's `grid`.
# ```
#
# ```{hint}
# :class: dropdown
#
# `SOLVERS.names()` lists the solvers. Quantize
# `one.weight` with its `statistics` at several dampings, each ten times the
# one before, and count the weights that change.
# ```

# %% [markdown]
# ```{solution-start} ex-08-damping
# :class: dropdown
# ```
#
# A multiple of the identity has no correlations left: the feedback vanishes,
# and rounding to nearest remains.
#
# Damping is thus a knob between two methods. The right setting lies where $H$
# stops being accident, which depends on the number of patches.

# %% tags=["solution"]
large, becomes = 1e8, "rtn"
damped = SOLVERS.get("gptq")(one.weight, statistics, grid, damping=large)
away = (damped != grid.round(one.weight)).double().mean().item()
Markdown(f"{away:.0%} of the weights are not at their nearest level.")

# %% tags=["check"]
given = one.weight, statistics, grid
check_answer(
    {
        "`becomes` is a solver's name, and not GPTQ's own": lambda: (
            becomes in set(SOLVERS.names()) - {"gptq"}
        ),
        "that solver and GPTQ with `large` agree on nearly all weights": (
            lambda: (
                torch.isclose(
                    SOLVERS.get(becomes)(*given),
                    SOLVERS.get("gptq")(*given, damping=large),
                )
                .double()
                .mean()
                > 0.99
            )
        ),
    }
)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise}
# :label: ex-08-gain
#
# (10 minutes) Which layers gain most from GPTQ over rounding? Quantize the
# network with GPTQ exactly as `rough` was with rounding, and call the result
# `finer`. Put a data frame with the columns *layer*, *RTN*, *GPTQ* and
# *ratio* into `side`, a row a layer: the two `relative_error`, and the second
# by the first. The name of the layer that gains most goes into `gains_most`.
# ```
#
# ```{hint}
# :class: dropdown
#
# Look up how `rough` was made. Its `layers` are a data frame.
# ```

# %% [markdown]
# ```{solution-start} ex-08-gain
# :class: dropdown
# ```
#
# Errors of earlier layers reach later ones, so both columns grow with depth.
# A ratio below one says that correlated inputs let GPTQ undo a part of what
# rounding loses. Look where the first layer stands: it reads pixels, and
# neighbouring pixels are nearly equal. Part of a late layer's gain is not its
# own, since the layers before it lost less, too.

# %% tags=["solution"]
finer = mc.one_pass(
    network, few, mc.Budget(middle_bits, scale="mse"), solver="gptq"
)
side = rough.layers[["layer", "relative_error"]].rename(
    columns={"relative_error": "RTN"}
)
side["GPTQ"] = finer.layers["relative_error"]
side["ratio"] = side["GPTQ"] / side["RTN"]
gains_most = side.loc[side["ratio"].idxmin(), "layer"]
table(side.nsmallest(5, "ratio"), "The five layers that gain most.")

# %% tags=["check"]
check_answer(
    {
        "one row a layer, and its error in `rough` under *RTN*": lambda: (
            side.set_index("layer")["RTN"].to_dict()
            == rough.layers.set_index("layer")["relative_error"].to_dict()
        ),
        "*GPTQ* is the error in `finer`: measure one layer anew": lambda: (
            np.isclose(
                side.set_index("layer")["GPTQ"][chosen],
                one_layer(folded, finer.model, chosen, few).error(
                    finer.model.get_submodule(chosen).weight.flatten(1)
                ),
                rtol=0.01,
            )
        ),
        "two solvers do not leave the same error everywhere": lambda: (
            not np.allclose(side["ratio"], 1)
        ),
        "a gain is a small ratio of *GPTQ* to *RTN*": lambda: (
            gains_most
            == min(zip(side["GPTQ"] / side["RTN"], side["layer"]))[1]
        ),
    }
)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise}
# :label: ex-08-loop
#
# (20 minutes) GPTQ is usually written with the inverse of $H$. Let $K$ be
# that inverse. For $t = 1, 2, \dots$: round $w_t$ to $q_t$; subtract
# $(w_t - q_t) / K_{tt}$ times row $t$ of $K$ from $w$; then subtract
# $K_{\cdot t} K_{t \cdot} / K_{tt}$ from $K$. Write this as a function
# `usual_loop(w, H)` of arrays `[N]` and `[N, N]` that returns the levels, a
# float array `[N]`. The levels are those of the tiny layer, $-2$ to $1$. Does
# it decide what the recursion with $V$ decides?
# ```
#
# ```{hint}
# :class: dropdown
#
# `recursion` shows how a number becomes a level. Work on copies. Each step
# takes the weight that was just rounded out of the problem, so $K$ becomes
# the inverse of what is left of $H$.
# ```

# %% [markdown]
# ```{solution-start} ex-08-loop
# :class: dropdown
# ```
#
# It does, neuron by neuron. The update of all later weights is the least
# squares answer to an error in one of them, given that all others may still
# move. That is what row $t$ of the inverse holds, and what the columns of $V$
# hold without any inverse. The form with $V$ is the better one for a machine:
# one factorization serves all neurons, and nothing is subtracted from an
# inverse again and again.


# %% tags=["solution"]
def usual_loop(w, H):
    """Levels -2 ... 1, float [N], for weights [N] and a Gram matrix."""
    w, inverse, q = w.copy(), np.linalg.inv(H), np.zeros_like(w)
    for t in range(len(w)):
        q[t] = np.clip(np.floor(w[t] + 0.5), -2, 1)
        w -= (w[t] - q[t]) / inverse[t, t] * inverse[t]
        column = inverse[:, t].copy()
        inverse -= np.outer(column, column) / column[t]
    return q


# %% tags=["check"]
check_answer(
    {
        "the first weight takes its nearest level": lambda: (
            usual_loop(w.copy(), X.T @ X)[0] == recursion(w, np.eye(3) * 0)[0]
        ),
        "the tiny layer must get GPTQ's levels": lambda: np.array_equal(
            usual_loop(w.copy(), X.T @ X), recursion(w, feedback["GPTQ"])
        ),
    }
)

# %% tags=["check"]
dice = np.random.default_rng(1)
mixed = dice.normal(size=(30, 20, 6)) @ dice.normal(size=(30, 6, 6))
drawn = list(zip(dice.uniform(-2, 1, (30, 6)), torch.from_numpy(mixed)))
check_answer(
    {
        "the library decides otherwise on random neurons; has the rounded "
        "weight left the inverse?": lambda: all(
            np.array_equal(
                usual_loop(v.copy(), (p.T @ p).numpy()),
                SOLVERS.get("gptq")(
                    torch.from_numpy(v)[None],
                    gram_statistics(p, p),
                    unit,
                    damping=0.0,
                )[0],
            )
            for v, p in drawn
        ),
    }
)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise}
# :label: ex-08-babai
#
# (15 minutes) With the $V$ of GPTQ, the error is
# $\lVert V^\top (w - q)\rVert^2$. Show that without clipping GPTQ's error is
# at most $\frac{\delta^2}{4} \sum_t V_{tt}^2$ for levels $\delta$ apart.
# Write this as `bound(H, step)`, a float. Then let GPTQ round 500 random
# neurons on the inputs `X` to whole numbers, without clipping or damping, and
# put the largest of their squared errors into `worst` (a float).
# ```
#
# ```{hint}
# :class: dropdown
#
# Write out one row of $V^\top (w - q)$: what has GPTQ just rounded? For a
# grid that never clips take the `unit` grid's scales with an alphabet of many
# levels; `same` are the statistics of `X`.
# ```

# %% [markdown]
# ```{solution-start} ex-08-babai
# :class: dropdown
# ```
#
# Row $t$ of $V^\top (w - q)$ is $V_{tt}(z_t - q_t)$, where $z_t$ is what GPTQ
# rounds. Without clipping $z_t$ and $q_t$ differ by at most half a step. This
# is Babai's nearest plane method for lattices {cite:p}`chen2025geometry`.
#
# The bound knows nothing of the weights, only of $V$. The sum depends on the
# order of the inputs, and that is why the order matters: the last section of
# this chapter tries one.


# %% tags=["solution"]
def bound(H, step):
    """The most that GPTQ's squared error can be without clipping."""
    turned = np.linalg.cholesky(H[::-1, ::-1])
    return step**2 / 4 * np.sum(np.diag(turned) ** 2)


wide_grid = Grid(
    alphabet("symmetric", 8), torch.ones(1, 1), torch.zeros(1, 1), 3
)
many = np.random.default_rng(seed).uniform(-20, 20, (500, 3))
q = SOLVERS.get("gptq")(torch.from_numpy(many), same, wide_grid, damping=0.0)
left = many - q.numpy()
worst = float(np.einsum("ki,ij,kj->k", left, X.T @ X, left).max())
most = bound(X.T @ X, 1.0)
Markdown(f"Largest error of many neurons {worst:.2f}, bound {most:.2f}.")

# %% tags=["check"]
pair = np.array([[2.0, 1.0], [1.0, 1.0]])
check_answer(
    {
        "inputs without correlation: a quarter step squared each": lambda: (
            np.isclose(bound(np.diag([1.0, 2, 5]), 2.0), 8)
        ),
        "for two inputs the sum is $H_{22} + \\det H / H_{22}$; which "
        "triangle is $V$?": lambda: np.isclose(
            4 * bound(pair, 1.0), pair[1, 1] + np.linalg.det(pair) / pair[1, 1]
        ),
        "an error above the bound: did a level clip?": lambda: (
            worst <= bound(X.T @ X, 1.0)
        ),
        "the worst neuron is too good: its mean alone is a third of the "
        "bound": lambda: worst > bound(X.T @ X, 1.0) / 4,
    }
)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise}
# :label: ex-08-own
#
# (60 minutes, a small project) Write a solver that leaves no row of a layer
# with a larger output error than GPFQ or GPTQ does: `own_solver(weight,
# statistics, grid)`, a tensor `[K, N]` on the grid. Register it as
# `"mine"`, and a method `"mine"` that uses it. Compare the method with GPTQ
# on *validation* images, at `rule_bits`, one scale a channel by `mse`: the
# rows of the sweep go into `rivals`, the difference (mine less GPTQ, in
# points, protocol *full*) into `lead`. Is the layer's error what counts?
# ```
#
# ```{hint}
# :class: dropdown
#
# `lq_utils.solvers.output_error` has the error of each row. *Make it yours*,
# below, registers a method; `sweep` takes the chapter's `shared` and `key`
# with another `test`. `mt.differences` compares in pairs.
# ```

# %% [markdown]
# ```{solution-start} ex-08-own
# :class: dropdown
# ```
#
# Rows are neurons, and neurons do not know of each other: the better of two
# solutions can be taken row by row. It costs both solvers' time. What a layer
# gains on its calibration images the network may keep or lose, so the
# comparison is one of answers, image by image, on images that calibrated
# nothing. Test images are not needed to choose between two methods, and so
# they are not asked.

# %% tags=["solution"]
from lq_utils.solvers import output_error, register_solver


@register_solver("mine", replace=True)
def own_solver(weight, statistics, grid):
    """A weight [K, N] on the grid."""
    tried = [
        SOLVERS.get(s)(weight, statistics, grid) for s in ("gpfq", "gptq")
    ]
    losses = [output_error(weight, q, statistics) for q in tried]
    return torch.where((losses[0] < losses[1])[:, None], *tried)


@mc.register_method("mine", replace=True)
def own_method(model, images, budget):
    """The network with `own_solver` for every layer."""
    return mc.one_pass(model, images, budget, solver="mine")


# %% tags=["solution"]
held_out = splits.validation.per_class(min(test_per_class, 50), seed)
of_subset = np.flatnonzero(np.isin(held_out.labels, subset.classes))
judges = {"full": held_out, "subset": held_out.take(of_subset)}
pair_of_cells = cell_grid(
    method=["mine", "GPTQ"],
    bits=[rule_bits],
    granularity=["channel"],
    scale=["mse"],
    **axes,
)
rivals = sweep(
    "methods",
    mc.compare_cell,
    pair_of_cells,
    shared=shared | {"test": judges},
    key=key | {"test": [digest(held_out.images)]},
    code=(*mc.CODE, own_solver, own_method),
    progress=False,
)

# %% tags=["solution"]
told_apart = mt.differences(rivals[rivals["protocol"] == "full"])
lead = float(told_apart["difference"].iloc[0])
columns = ["first", "second", "difference", "low", "high", "p"]
table(told_apart[columns], "Your solver against GPTQ (points).", 3)

# %% tags=["check"]
given = one.weight, statistics, grid
scale_of = output_error(one.weight, 0 * one.weight, statistics).abs().max()
check_answer(
    {
        "every weight must lie on the grid": lambda: (
            SOLVERS.get("mine") is own_solver
            and grid.codes(own_solver(*given)).shape == one.weight.shape
        ),
        "no row may be worse than GPFQ's or GPTQ's": lambda: all(
            (
                output_error(one.weight, own_solver(*given), statistics)
                - output_error(one.weight, SOLVERS.get(s)(*given), statistics)
            ).max()
            < 1e-5 * scale_of
            for s in ("gpfq", "gptq")
        ),
    }
)

# %% tags=["check"]
check_answer(
    {
        "two methods, on the same images": lambda: (
            set(rivals["method"]) == {"mine", "GPTQ"}
            and rivals.groupby("protocol")["n"].nunique().max() == 1
        ),
        "`lead` is mine less GPTQ, in points, protocol *full*": lambda: (
            np.isclose(
                lead,
                rivals.assign(share=100 * rivals["correct"] / rivals["n"])
                .pivot_table("share", "method", "protocol")["full"]
                .loc[["GPTQ", "mine"]]
                .diff()
                .iloc[1],
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
# A method is a function of the network, the images and the budget. This one
# is GPTQ that takes the inputs with the largest norms first, an option of its
# authors' code. Change it, run the cells again, and see where it lands. (It
# runs in this process: others do not know your function.)
#
# Before you run it, say what you expect: an error in an input with a large
# norm is dear, and inputs that come first have the most others to hand their
# errors on to. Look at the intervals before you call the new line better; the
# same images are used, so the paired test above is what would decide.


# %%
@mc.register_method("largest inputs first", replace=True)
def largest_first(model, images, budget):
    """GPTQ in descending order of the inputs' norms."""
    row = {"solver": "gptq", "options": (("descending", True),)}
    return mc.one_pass(model, images, budget, **row)


# %%
cells = cell_grid(
    method=["largest inputs first"],
    bits=[rule_bits],
    granularity=["channel"],
    scale=["output"],
    **axes,
)
mine = compare(cells, code=(*mc.CODE, largest_first))
mine = mt.accuracies(mine[mine["protocol"] == "full"])
line = pd.concat([by_rule[by_rule["scale"] == "output"], mine])
shown = ["method", "accuracy", "low", "high", "seconds"]
table(line[shown], f"Your method beside others, {rule_bits} bits.", 2)

# %% [markdown]
# A solver alone is registered with `lq_utils.solvers.register_solver`, a scale
# rule with `lq_utils.scales.register_scale_rule`. {ref}`Chapter 3
# <ch-gpfq-sweeps>` sweeps GPFQ over bits, images and subsets.
