"""Bad inputs: artifacts, ONNX files, weights, and the compress command."""

from __future__ import annotations

import io
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import torch
from bad_files import Harm
from bad_inputs import Action, Place, bad, bad_command
from bad_settings import fill_disk
from PIL import Image
from safetensors.torch import load_file, save
from task_samples import NAMES, part, small_network

from lq_utils.artifact import load_quantized, save_quantized
from lq_utils.inference import to_input
from lq_utils.lockstep import quantize
from lq_utils.models import MODELS
from lq_utils.onnx_files import read_onnx
from lq_utils.onnx_runtime import predict_onnx
from lq_utils.plans import Plan
from lq_utils.weights import load_weights, save_weights

# -- artifacts ---------------------------------------------------------------


def artifact(place: Place) -> Path:
    network = small_network()
    plan = Plan.uniform(network, 3, solver="rtn", scale="max")
    found = quantize(network, plan, to_input(part("train", 1).images))
    path = place.folder / "task.lq"
    save_quantized(path, found, "small", len(NAMES))
    return path


def damaged_artifact(place: Place, how: str) -> Action:
    path = artifact(place)
    content = path.read_bytes()
    changed = {
        "cut": content[:-9],
        "text": b"layer,bits\n",
        "newer": content.replace(b'\\"version\\":1', b'\\"version\\":7'),
        "edited": content.replace(b'\\"outputs\\":6', b'\\"outputs\\":5'),
        "other": save({"w": torch.ones(2)}),
        "byte": content[:-1] + bytes([content[-1] ^ 1]),
    }[how]
    assert changed != content
    path.write_bytes(changed)
    return partial(load_quantized, path)


for how, wrong, remedy in (
    ("cut", "task.lq is damaged or no", "copy or store it again"),
    ("text", "task.lq is damaged or no", "copy or store it again"),
    ("newer", "has format version 7", "update the package"),
    ("edited", "its checksum is wrong", "copy or store it again"),
    ("byte", "its checksum is wrong", "copy or store it again"),
    ("other", "holds no quantized network", "save_quantized writes one"),
):
    bad("artifacts", how, wrong, remedy)(partial(damaged_artifact, how=how))


@bad("artifacts", "a model nobody registered", "'small'", "Register the model")
def _(place: Place) -> Action:
    path = artifact(place)
    place.patch.delitem(MODELS._entries, "small")
    return partial(load_quantized, path)


# -- ONNX files --------------------------------------------------------------


def onnx_file(place: Place, outside: bool = False) -> Path:
    """The identity of vectors of two numbers, plus a constant."""
    kind = onnx.TensorProto.FLOAT
    shape = ["n", 2]
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Add", ["x", "c"], ["y"])],
        "sum",
        [onnx.helper.make_tensor_value_info("x", kind, shape)],
        [onnx.helper.make_tensor_value_info("y", kind, shape)],
        [onnx.numpy_helper.from_array(np.ones(2, np.float32), "c")],
    )
    if outside:
        tensor = graph.initializer[0]
        tensor.data_location = onnx.TensorProto.EXTERNAL
        entry = tensor.external_data.add()
        entry.key, entry.value = "location", "/etc/hostname"
    opset = [onnx.helper.make_opsetid("", 21)]
    proto = onnx.helper.make_model(graph, opset_imports=opset, ir_version=10)
    return place.write("net.onnx", proto.SerializeToString())


@bad("artifacts", "no file", "no quantized network", "save_quantized writes")
def _(place: Place) -> Action:
    return partial(load_quantized, place.folder / "none.lq")


@bad("ONNX files", "no file", "no ONNX file at", "export_onnx writes one")
def _(place: Place) -> Action:
    return partial(read_onnx, place.folder / "none.onnx")


@bad("ONNX files", "a cut file", "damaged or no ONNX", "write it again")
def _(place: Place) -> Action:
    path = onnx_file(place)
    path.write_bytes(path.read_bytes()[:-20])
    return partial(read_onnx, path)


@bad("ONNX files", "text", "net.onnx is damaged or no ONNX", "write it again")
def _(place: Place) -> Action:
    return partial(read_onnx, place.write("net.onnx", "layer,bits\n"))


@bad("ONNX files", "weights elsewhere", "in other files", "all of them inside")
def _(place: Place) -> Action:
    return partial(read_onnx, onnx_file(place, outside=True))


@bad("ONNX files", "other images", "[3, 8, 8] do not fit", "which takes")
def _(place: Place) -> Action:
    return partial(predict_onnx, onnx_file(place), part("train", 1))


# -- classes, weights and checkpoints, through the command line --------------


def compress(place: Place, **changed: str) -> Action:
    for label, name in enumerate(NAMES):
        own = part("train", 4).images[4 * label : 4 * label + 4]
        for i, image in enumerate(own):
            content = io.BytesIO()
            Image.fromarray(image).save(content, "PNG")
            place.write(f"images/{name}/{i}.png", content.getvalue())
    model = place.folder / "small.pt"
    torch.save(small_network().state_dict(), model)
    given = {
        "model": str(model),
        "dataset": str(place.folder / "images"),
        "architecture": "small",
        "classes": "ant,bee",
        "budget": "3bits",
        "bits": "3,4",
        "images": "2",
        "image-size": "8",
        "polish": "0",
        "out": str(place.folder / "task.lq"),
        **{name.replace("_", "-"): text for name, text in changed.items()},
    }
    words = [word for name in given for word in (f"--{name}", given[name])]
    return ["compress", *words]


C = "classes"
for what, classes, wrong, remedy in (
    ("a misspelt name", "antt,bee", "no class 'antt'", "did you mean ant"),
    ("one class", "ant", "classes [0]", "two or more"),
    ("a class twice", "ant,0", "classes [0, 0]", "each once"),
    ("an index out of range", "ant,17", "class 17 is not", "in 0..5"),
):
    bad(C, what, wrong, remedy)(partial(compress, classes=classes))

for what, changed, wrong, remedy in (
    ("--budget", {"budget": "3parsecs"}, "cannot read the budget",
     "write 2.5bits"),
    ("a budget too small", {"budget": "50"}, "more than the budget",
     "raise the budget"),
    ("--bits", {"bits": "three"}, "cannot read --bits 'three'",
     "write 2,3,4"),
    ("--seed", {"seed": "-1"}, "--seed -1", "give 0 or more"),
    ("--polish", {"polish": "-1"}, "not -1", "must be 0 or more sweeps"),
    ("--solver", {"solver": "gptqq"}, "'gptqq'", "did you mean 'gptq'"),
):  # fmt: skip
    act = partial(compress, **changed)
    bad("parameters", what, wrong, remedy)(act)


def compress_with(place: Place, name: str, content: bytes) -> Action:
    return compress(place, model=str(place.write(name, content)))


def saved(value: object) -> bytes:
    content = io.BytesIO()
    torch.save(value, content)
    return content.getvalue()


G = "weights"
for what, content, wrong, remedy in (
    ("text", b"no archive", "damaged or holds more than weights",
     "store torch.save(model.state_dict(), path)"),
    ("code", saved(Harm()), "damaged or holds more than weights",
     "store torch.save(model.state_dict(), path)"),
    ("no state dict", saved({"epoch": 3}), "holds no state dict",
     "store model.state_dict()"),
    ("another network", saved({"w": torch.ones(1)}), "does not fit small",
     "with 6 outputs"),
):  # fmt: skip
    act = partial(compress_with, name="mine.pt", content=content)
    bad(G, what, wrong, remedy)(act)


bad_command(
    G, "a misspelt network to train", "train~resnet20_cifar10~resnet_cifar100",
    "no network 'resnet_cifar100'", "did you mean 'resnet20_cifar100'?",
)  # fmt: skip


@bad(G, "no file", "no weights at", "give the path of an existing")
def _(place: Place) -> Action:
    return compress(place, model=str(place.folder / "none.safetensors"))


@bad(G, "a folder", "no weights at", "give the path of an existing")
def _(place: Place) -> Action:
    return partial(load_weights, place.folder)


@bad(G, "a weight left out", "is damaged", "restore it with git or train")
def _(place: Place) -> Action:
    path = place.folder / "small.safetensors"
    record = {"num_outputs": 6, "class_names": NAMES}
    save_weights(path, small_network(), "small", record)
    tensors = load_file(path)
    del tensors["fc.bias"]
    header = {"model": "small", "num_outputs": "6", "class_names": "[]"}
    path.write_bytes(save(tensors, header))
    return partial(load_weights, path)


# -- disk, for files that the command writes ---------------------------------

for what, name, wrong in (
    ("a folder for a file", "images", "it is a folder"),
    ("a file for a folder", "small.pt/task.lq", "is no folder"),
    ("one file for two", "task.json", "overwritten by its record"),
):

    def _(place: Place, name: str = name) -> Action:
        return compress(place, out=str(place.folder / name))

    remedy = "a name of its own" if "two" in what else "give another path"
    bad("disk", what, wrong, remedy)(_)


@bad("disk", "no room for the result", "File too large", "Make room")
def _(place: Place) -> Action:
    words = compress(place)
    fill_disk(place)
    return words
