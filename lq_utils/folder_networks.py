"""Networks of torchvision on a folder of one's own images, such as ImageNet.

The book's images are normalised in one way for all networks. A network
with a preprocessing of its own gets it as a first layer, so that every
cell takes it as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torchvision import models as tv

from lq_utils.backbones import IMAGENET_MEAN, IMAGENET_STD
from lq_utils.data import FOLDER_PREFIX, load_dataset
from lq_utils.data_free_networks import Case
from lq_utils.inference import PIXEL_MEAN, PIXEL_STD
from lq_utils.weights import WeightsError


class OwnPreprocessing(nn.Module):
    """From the book's normalisation to that of a network, and its crop.

    Takes float32 ``[N, 3, S, S]`` as ``to_input`` makes it, returns the
    central ``crop`` pixels a side of it, ``(pixel / 255 - mean) / std``.

    Introduced in chapter 7.
    """

    factor: Tensor
    shift: Tensor

    def __init__(
        self,
        image_size: int,
        crop: int,
        mean: tuple[float, ...] = IMAGENET_MEAN,
        std: tuple[float, ...] = IMAGENET_STD,
    ) -> None:
        super().__init__()
        if not 0 < crop <= image_size:
            raise WeightsError(
                f"a crop of {crop} pixels does not fit into images of "
                f"{image_size}: give a larger image_size"
            )
        start = (image_size - crop) // 2
        self.window = slice(start, start + crop)
        centre, width = torch.tensor(mean), torch.tensor(std)
        self.register_buffer("factor", (PIXEL_STD / width).view(1, 3, 1, 1))
        shift = (PIXEL_MEAN - centre) / width
        self.register_buffer("shift", shift.view(1, 3, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x[:, :, self.window, self.window] * self.factor + self.shift


def folder_case(
    name: str,
    folder: str,
    image_size: int = 256,
    crop: int = 224,
    weights: str = "",
) -> Case:
    """A torchvision network and the images of a folder of class folders.

    Args:
        name: of torchvision's models, such as ``"resnet18"``.
        folder: its classes, by name, are the network's outputs in order,
            as in the validation images of ImageNet sorted into folders.
        image_size: pixels a side that the images' central squares are
            scaled to; ``crop`` of them, in the middle, are seen.
        weights: ``"imagenet"`` (torchvision's, from torch's cache or
            downloaded), or the path of a state dict (.safetensors or
            .pth).

    Raises:
        WeightsError: an unknown model, no weights, or as many classes as
            the network does not have.
        DataError: as ``load_dataset``.

    Introduced in chapter 7.
    """
    splits = load_dataset(f"{FOLDER_PREFIX}{folder}", image_size=image_size)
    classes = splits.train.num_classes
    model = _load(name, weights, classes)
    outputs = _outputs(model, crop)
    if outputs != classes:
        raise WeightsError(
            f"{name} has {outputs} outputs, {folder} {classes} class folders: "
            "give one folder for each output, in the same order"
        )
    own = OwnPreprocessing(image_size, crop)
    return Case(nn.Sequential(own, model).eval(), splits)


@torch.no_grad()
def _outputs(model: nn.Module, crop: int) -> int:
    return int(model.eval()(torch.zeros(1, 3, crop, crop)).shape[1])


def _load(name: str, weights: str, classes: int) -> nn.Module:
    if name not in tv.list_models():
        raise WeightsError(f"torchvision has no model {name!r}")
    if weights == "imagenet":
        return _pretrained(name)
    path = Path(weights).expanduser()
    if not weights or not path.is_file():
        raise WeightsError(
            f"no weights {weights!r} for {name}: write 'imagenet', or the "
            "path of a state dict"
        )
    state = _state(path)
    model: nn.Module = tv.get_model(name, weights=None, num_classes=classes)
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise WeightsError(
            f"{path} does not hold the weights of {name} with {classes} "
            f"outputs: {error}"
        ) from error
    return model


def _state(path: Path) -> dict[str, Any]:
    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        return dict(torch.load(path, weights_only=True))
    except Exception as error:
        raise WeightsError(f"{path} is no state dict: {error}") from error


def _pretrained(name: str) -> nn.Module:
    try:
        model: nn.Module = tv.get_model(name, weights="DEFAULT")
    except (OSError, ValueError) as error:
        raise WeightsError(
            f"the ImageNet weights of {name} are not on this machine and "
            f"could not be downloaded ({error}): give the path of a file"
        ) from error
    return model


def with_folder(
    cases: Mapping[str, Case], model: str, folder: str
) -> dict[str, Case]:
    """``cases``, and with a ``folder`` one more: ``"model@folder"``.

    ``model`` is a name of torchvision's, with its ImageNet weights, or
    ``"name:file"`` with those of a file. Raises as ``folder_case``.
    Introduced in chapter 7.
    """
    found = dict(cases)
    if folder:
        name, _, weights = model.partition(":")
        label = f"{name}@{Path(folder).expanduser().name}"
        found[label] = folder_case(name, folder, weights=weights or "imagenet")
    return found
