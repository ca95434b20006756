"""Bad inputs: parameters, profiles, plans, grids, disk and permissions."""

from __future__ import annotations

import resource
import shutil
from functools import partial

import numpy as np
import torch
from bad_inputs import NOTEBOOKS, Action, Place, bad, bad_command
from task_samples import small_network

from lq_utils.cache import cached
from lq_utils.grids import alphabet
from lq_utils.plans import Plan
from lq_utils.scales import fit_grid
from lq_utils.subsets import generate

# -- parameters --------------------------------------------------------------

P = "parameters"
RUN = "run~90~"
bad_command(
    P, "a misspelt name", RUN + "-p~sead~1",
    "unknown parameter 'sead'", "did you mean 'seed'?",
)  # fmt: skip
bad_command(
    P, "a number out of range", RUN + "-p~size~5",
    "size=5 is below 10", "(10..500)",
)  # fmt: skip
bad_command(
    P, "text for a number", RUN + "-p~size~ten",
    "size='ten' is of type str", "size takes int (10..500)",
)  # fmt: skip
bad_command(
    P, "a list that is empty", RUN + "-p~bits~[]",
    "bits=[] is empty", "give one value or more",
)  # fmt: skip
bad_command(
    P, "a list as text", RUN + "-y~bits: '[3, 4]'",
    "bits='[3, 4]' is a string", 'use -y "bits: [3, 4]"',
)  # fmt: skip
bad_command(
    P, "a list without its end", RUN + "-p~bits~[3",
    "-p bits is not valid YAML", "write 'name: value' lines",
)  # fmt: skip
bad_command(
    P, "a chapter that is not there", "run~90_pasing",
    "unknown chapter '90_pasing'", "did you mean '90_passing'?",
)  # fmt: skip
bad_command(
    P, "a command that is not there", "rnu~90",
    "unknown command 'rnu'", "did you mean 'run'?",
)  # fmt: skip


@bad(P, "no file of that name", "No such file", "give the path of a file")
def _(place: Place) -> Action:
    return ["run", "90", "-f", str(place.folder / "none.yml")]


@bad(P, "a file that is no text", "is not UTF-8 text", "store it as UTF-8")
def _(place: Place) -> Action:
    return ["run", "90", "-f", str(place.write("mine.yml", b"size: \xff"))]


# -- profiles ----------------------------------------------------------------


def with_profile(place: Place, content: str | bytes) -> Action:
    folder = place.point("LQ_NOTEBOOKS_DIR", "chapters")
    folder.mkdir()
    shutil.copy(NOTEBOOKS / "90_passing.py", folder)
    place.write("chapters/profiles/mine.yml", content)
    return ["run", "90", "--profile", "mine"]


F = "profiles"
bad_command(
    F, "a misspelt name", RUN + "--profile~quik",
    "unknown profile 'quik'", "did you mean 'quick'?",
)  # fmt: skip
for what, content, wrong, remedy in (
    ("broken YAML", "90_passing: {size: 10", "mine.yml is not valid YAML",
     "write 'name: value' lines"),
    ("bytes that are no text", b"\xff\xfe\x00", "mine.yml: it is not UTF-8",
     "store it as UTF-8"),
    ("a list", "- 90_passing", "mine.yml must map chapters",
     "such as '01_class_distances: {images_per_class: 50}'"),
    ("a parameter the chapter lacks", "90_passing: {sise: 3}",
     "profile mine, chapter 90_passing: unknown parameter 'sise'",
     "did you mean 'size'?"),
    ("a value out of range", "90_passing: {size: 3}", "size=3 is below 10",
     "(10..500)"),
    ("a misspelt chapter", "90_pasing: {size: 30}",
     "mine.yml: no such chapter '90_pasing'", "did you mean '90_passing'?"),
    ("the number of a chapter", "90: {size: 30}", "no such chapter '90'",
     "use its whole name; known: 90_passing"),
):  # fmt: skip
    bad(F, what, wrong, remedy)(partial(with_profile, content=content))


# -- plans -------------------------------------------------------------------


def read_plan(place: Place, text: str) -> Action:
    path = place.write("plan.csv", text)
    return lambda: Plan.from_csv(path).validate(small_network())


ALL = "\nconv1,3\nconv2,3\nfc,3\n"
for what, text, wrong, remedy in (
    ("a misspelt column", "layer,bitz" + ALL, "unknown column 'bitz'",
     "did you mean 'bits'?"),
    ("no header", "conv1,3\n", "line 1: unknown column 'conv1'",
     "columns: layer, bits"),
    ("an empty file", "", "the column 'layer' is missing",
     "begin the file with"),
    ("bits in words", "layer,bits\nconv1,three\n", "line 2: bits must be",
     "an integer, or blank for full precision"),
    ("a layer twice", "layer,bits" + ALL + "fc,2\n", "duplicate rows for fc",
     "keep one row a layer"),
    ("a misspelt layer", "layer,bits\ncnv1,3\n", "no layer matches 'cnv1'",
     "did you mean 'conv1'?"),
    ("a layer left out", "layer,bits\nconv1,3\n", "no row for conv2, fc",
     "add one each, with blank bits"),
    ("too many cells", "layer,bits\nconv1,3,4\n", "more cells than columns",
     "name the columns"),
    ("options that are code", 'layer,bits,options\nfc,3,"a=open(0)"\n',
     "line 2", "write options as name=value"),
    ("bits that no quantizer has", "layer,bits" + ALL.replace("fc,3", "fc,99"),
     "layer 'fc': 99 bits", "takes 2 to 32"),
):  # fmt: skip
    bad("plans", what, wrong, remedy)(partial(read_plan, text=text))


@bad("plans", "no file of that name", "No such file", "cannot read a plan")
def _(place: Place) -> Action:
    return lambda: Plan.from_csv(place.folder / "none.csv")


# -- grids -------------------------------------------------------------------

W = torch.tensor([[1.0, float("nan")]])
SYMMETRIC = alphabet("symmetric", 3)
for what, call, wrong, remedy in (
    ("a misspelt quantizer", partial(alphabet, "symetric", 3),
     "unknown quantizer 'symetric'", "did you mean 'symmetric'?"),
    ("too few bits", partial(alphabet, "symmetric", 1), "1 bits",
     "this quantizer takes 2 to 32"),
    ("weights that are no numbers", partial(fit_grid, W, SYMMETRIC),
     "NaN or infinite", "train or load the network again"),
    ("an unknown granularity",
     partial(fit_grid, torch.ones(1, 2), SYMMETRIC, "row"),
     "unknown granularity 'row'", "write 'tensor', 'channel', or 'group:64'"),
    ("a filter that is no matrix",
     partial(fit_grid, torch.ones(1, 1, 3, 3), SYMMETRIC),
     "must be [K, N], not [1, 1, 3, 3]", "weight.flatten(1)"),
    ("an option of another rule",
     partial(fit_grid, torch.ones(1, 2), SYMMETRIC, percentile=3.0),
     "no option 'percentile'", "its options"),
):  # fmt: skip
    bad("grids", what, wrong, remedy)(lambda place, call=call: call)

for what, call, wrong, remedy in (
    ("more classes than there are",
     partial(generate, "random", 1 - np.eye(3), 4, 0),
     "a subset of 4 out of 3 classes", "size must lie in 2..3"),
    ("a misspelt kind", partial(generate, "simlar", 1 - np.eye(3), 2, 0),
     "unknown subset kind 'simlar'", "did you mean 'similar'?"),
    ("distances that are not", partial(generate, "random", np.ones((2, 3)),
     2, 0), "of shape (2, 3)", "must be square and finite"),
):  # fmt: skip
    bad("classes", what, wrong, remedy)(lambda place, call=call: call)


# -- disk and permissions ----------------------------------------------------


@bad("disk", "a file for the results folder", "cannot use", "LQ_RESULTS_DIR")
def _(place: Place) -> Action:
    place.write("results")
    place.point("LQ_RESULTS_DIR", "results/of/mine")
    return ["run", "90"]


@bad("disk", "a file for the cache", "cannot write the cache", "LQ_CACHE_DIR")
def _(place: Place) -> Action:
    place.write("cache")
    place.point("LQ_CACHE_DIR", "cache")
    return lambda: cached("x", {"a": 1}, lambda: {"a": np.ones(1)})


@bad("disk", "a file for the data", "cannot write into", "LQ_DATA_DIR")
def _(place: Place) -> Action:
    place.write("data")
    place.point("LQ_DATA_DIR", "data")
    return ["data", "--dataset", "cifar10"]


@bad("disk", "a folder to copy to", "is a folder", "name a file")
def _(place: Place) -> Action:
    return ["run", "90", "--output", str(place.folder)]


def fill_disk(place: Place) -> None:
    """No file may have more than 64 bytes from here on."""
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (64, hard))


@bad("disk", "a full disk", "File too large", "Make room")
def _(place: Place) -> Action:
    place.point("LQ_CACHE_DIR", "cache")
    fill_disk(place)
    return lambda: cached("x", {"a": 1}, lambda: {"a": np.ones(1000)})
