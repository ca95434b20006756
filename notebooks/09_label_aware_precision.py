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
# builds the whole framework, takes each of its parts away again to see what
# it was worth, and compares everything at equal bytes of a real file.
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
# **Time on two cores.** smoke: one minute; quick: three minutes; full: three
# hours (estimates).

# %%
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from IPython.display import Markdown

# %%
from lq_utils import sensitivity_report as sr
from lq_utils import task_compression_figures as tf
from lq_utils import task_compression_report as tr
from lq_utils import task_compression_tables as tt
from lq_utils import task_plans as tp
from lq_utils import task_study as ts
from lq_utils.artifact import load_quantized
from lq_utils.calibration import calibration_set
from lq_utils.compress_command import main as compress
from lq_utils.data import load_dataset
from lq_utils.figures import show, table, use_style
from lq_utils.fingerprints import digest
from lq_utils.graph import layer_table

# %%
from lq_utils.label_aware import subset_key
from lq_utils.parameters import check_parameters
from lq_utils.results import compare_with_reference, reference_rows, start_run
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
held_out: int = 50  # 1..100; test images of every class; half for validation
workers: int = 2  # 1..64; processes that compute cells at the same time

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
# ## (part 1 goes here)

# %% [markdown]
# ## A network for ten classes
#
# Now the framework. A task is a subset of the classes. As before, tasks go
# from similar to dissimilar classes; the distance of two classes is the angle
# between their weights in the network's last layer.

# %%
drawn = sr.study_subsets(network, subset_size, task_subsets, seed)
tasks = list({s.classes: s for s in drawn}.values())
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

# %%
switches = tr.switch_table(settings)
table(switches, "Each ablation turns one thing off.", name="switches")

# %% [markdown]
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
# second, or the other way round.

# %%
work = list(tp.task_cells(compared, classes, budgets, layer_costs, framework))
work += tp.task_cells(extra, classes, [main_budget], layer_costs, framework)

# %%
first_key = first.classes
choices_of = {
    cell["variant"]: cell["plan"]
    for cell in work
    if cell["subset"] == first_key and cell["budget"] == main_budget
}
names_of_layers = [info.name for info in layer_table(network)]
show(
    tf.bits_figure({v: choices_of[v] for v in compared}, names_of_layers),
    "Bits of every layer for the first task, all plans within the bytes of "
    f"uniform {main_budget} bits.",
    "Table of numbers of bits, a row a plan, a column a layer.",
    "task-bits",
)

# %% [markdown]
# Read the figure row by row. Bits are spent where layers are small or sit at
# a narrow place: the first convolution, the shortcuts, the classifier. The
# wide late layers pay for it. Whether the two lowest rows differ is the
# question of this chapter in one glance.
#
# Now every plan is carried out and scored. Cells are stored as they finish: a
# run that was stopped goes on.

# %%
study_rows = sweep("09_tasks", ts.task_rows, work, **every)
whole_cells = [{"subset": c} for c in classes]
original = sweep("09_original", ts.original_rows, whole_cells, **every)
scored = original[original["part"] == "test"]
original_points = float((100 * scored["correct"] / scored["n"]).mean())

# %%
too_large = study_rows["file_bytes"] > study_rows["budget_bytes"]
assert not too_large.any()
means = tt.accuracies(study_rows)
tr.record_accuracies(run, means)
run.record("original_accuracy", original_points / 100, n=len(tasks))

# %%
main_rows = means[means["variant"].isin(compared)]
table(
    tr.accuracy_page(main_rows),
    "Accuracy among the task's classes, test images, mean over tasks with "
    f"its interval; original {original_points:.2f} %.",
    {"file_bytes": 0, "mean_bits": 2},
    name="equal-bytes",
)

# %%
show(
    tf.pareto_figure(main_rows, compared, original_points),
    "Accuracy against the size of the file, mean over tasks. Dotted: the "
    "original network.",
    "Curves of accuracy over kilobytes, one for each way to choose the bits.",
    "pareto",
)

# %% [markdown]
# Means of a few tasks say little: tasks differ more from each other than
# plans do. But every plan was tried on the same tasks, so differences can be
# taken task by task. Their interval is Student's, over tasks; the p-value
# comes from flipping signs, after Holm. A gain on each single task may be
# chance, for a task has few test images; a gain that returns on task after
# task is not.

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

# %%
clear = parted[parted["p"] < tr.SIGNIFICANT]
Markdown(
    f"Of {len(parted)} comparisons, {len(clear)} are clearer than chance: "
    + (", ".join(clear["second"]) or "none")
    + "."
)

# %% [markdown]
# ## Does knowing the labels pay?
#
# Two networks within the same bytes: one was made for the task, the other is
# blind to it in costs and calibration. Both had their classifier cut, for
# that needs no quantization at all. The report expects most of tasks whose
# classes are alike, where errors are easily made; so the gain is drawn
# against the distance of the classes.

# %%
by_distance = tt.label_gains(study_rows, medians, main_budget)
show(
    tf.label_gain_figure(by_distance, kinds),
    "What knowing the labels brings each task, against the median distance "
    "of its classes.",
    "Scatter plot of gains in points over distances, with a fitted line.",
    "label-gain",
)

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
# A layer's cost is mostly a matter of the network: how many outputs later
# layers read from it, how many weights it has, where the signal is thin. All
# classes share that. The labels decide which errors of the *answers* count,
# and that is nearly the same for all layers: a layer that matters for one
# task matters for the next.
#
# Nor can calibration add much while the images of all classes already show
# what the layers see. The early layers answer to edges and colours, which
# every class has; their Gram matrices differ little from task to task. And
# where a network has lost nearly nothing, there is nearly nothing to win
# back: compare the original's accuracy with the uniform network's, which is
# the most that any choice of bits or images could repair. Labels should
# matter more at fewer bits, and for networks with room to specialise.
#
# ## What to take
#
# The choice is made on validation images, the number beside it is of test
# images. "Level" lists what cannot be told from the best on the former.

# %%
advice = tr.recommendations(study_rows[study_rows["variant"].isin(compared)])
table(with_intervals(advice), "Recommendations.", 1, name="advice")

# %% [markdown]
# ## One command
#
# All of this is one command. It takes a network, names of classes and a
# budget, and says what it chose for each layer. Here it is called from
# Python; in a shell it is `python -m lq_utils compress` with the same words.

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
comparison = compare_with_reference(run.rows, "09_label_aware_precision")
comparison = comparison.dropna(subset="reference")
if len(comparison):
    table(comparison, "This run beside the reference.", name="comparison")

# %% [markdown]
# ## Exercises
#
# ```{exercise}
# :label: ex-09-wrong-labels
#
# (10 minutes) Choose the bits of the first task by the costs of the last one.
# How different is the plan, and what would you conclude from that?
# ```

# %% [markdown]
# ```{solution-start} ex-09-wrong-labels
# :class: dropdown
# ```
#
# If the labels of another task give nearly the same bits, the labels cannot
# have mattered for the bits.

# %%
space = uniform_bytes(first, model, main_budget, settings)
of_others = {
    name: choose_plan(
        first,
        model,
        space,
        settings,
        tp.costs_of(layer_costs, tp.WHOLE, subset, framework),
    )
    for name, subset in (("own", classes[0]), ("another", classes[-1]))
}
moved = sum(
    a.bits != b.bits for a, b in zip(of_others["own"], of_others["another"])
)
Markdown(f"{moved} of {len(names_of_layers)} layers get other bits.")

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise}
# :label: ex-09-overhead
#
# (10 minutes) How many bytes of the uniform file are no codes? Express them
# in bits a weight. At which number of bits does that begin to matter?
# ```

# %% [markdown]
# ```{solution-start} ex-09-overhead
# :class: dropdown
# ```
#
# Two files, one bit apart, give the size of one bit for each weight; what is
# left of the smaller file is overhead.

# %%
small, large = (uniform_bytes(first, model, b, settings) for b in (2, 3))
overhead = small - 2 * (large - small)
weights = sum(info.weights for info in layer_table(first.network))
Markdown(
    f"{overhead:,} bytes are {8 * overhead / weights:.2f} bits a weight: "
    f"{overhead / small:.0%} of the file at 2 bits."
)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise}
# :label: ex-09-sub-all
#
# (5 minutes) Cutting the classifier raises accuracy on the task's images even
# before quantization. Why is that no merit of label-aware quantization?
# ```

# %% [markdown]
# ```{solution-start} ex-09-sub-all
# :class: dropdown
# ```
#
# The other classes can no longer win. The original network gains as much when
# only the task's logits compete, so the comparison must grant it that, too.

# %%
own_images = parts["test"].subset(list(first.classes))
own_hits = task_hits(first.network, parts["test"], first)
rival_hits = task_hits(network, parts["test"], everybody)
assert np.array_equal(own_hits, rival_hits)
assert len(own_hits) == len(own_images)

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
