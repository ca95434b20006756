"""Photographs of COCO from a folder, and torchvision's SSDLite detector."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from PIL import Image
from pycocotools.coco import COCO
from torchvision.models import detection as tv

from lq_utils.detection_scenes import DetectionError, DetectionSet
from lq_utils.paths import data_dir
from lq_utils.tiny_detector import Detections, Detector

ANNOTATIONS = Path("annotations") / "instances_val2017.json"
PHOTOGRAPHS = "val2017"
WEIGHTS = tv.SSDLite320_MobileNet_V3_Large_Weights.COCO_V1


class SSDLite(Detector):
    """SSDLite320 with MobileNetV3-Large, as torchvision has it.

    Its labels count from 1, and are mapped to 0, 1, ... by ``detect``.
    Sources: Liu et al. 2016; Howard et al. 2019. Introduced in chapter 7.
    """

    parts: ClassVar = {
        "backbone": "network.backbone.",
        "class head": "network.head.classification_head.",
        "box head": "network.head.regression_head.",
    }

    def __init__(self, num_classes: int, seed: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.network = tv.ssdlite320_mobilenet_v3_large(
                weights=None,
                weights_backbone=None,
                num_classes=num_classes + 1,
            )
        self.eval()

    @torch.inference_mode()
    def detect(
        self, images: Sequence[np.ndarray] | np.ndarray
    ) -> list[Detections]:
        """What is on each image (uint8 ``[H, W, 3]``, of any size)."""
        found = []
        for image in images:
            x = torch.from_numpy(image.transpose(2, 0, 1).copy()).float() / 255
            (out,) = self.network([x])
            kept = out["boxes"][:, 2:] > out["boxes"][:, :2]
            own = kept.all(dim=1)
            found.append(
                Detections(
                    out["boxes"][own].double().numpy(),
                    out["scores"][own].double().numpy(),
                    out["labels"][own].numpy() - 1,
                )
            )
        return found


def coco_detector() -> SSDLite:
    """SSDLite as torchvision trained it on COCO.

    The weights are looked for in torch's cache and in ``data_dir()``;
    they are not downloaded. Raises DetectionError that says where to get
    them. Introduced in chapter 7.
    """
    name = Path(WEIGHTS.url).name
    places = (Path(torch.hub.get_dir()) / "checkpoints", data_dir())
    path = next((p / name for p in places if (p / name).is_file()), None)
    if path is None:
        raise DetectionError(
            f"no {name} in {places[0]} or {places[1]}: download "
            f"{WEIGHTS.url} into one of them, or leave coco_folder empty"
        )
    detector = SSDLite(len(WEIGHTS.meta["categories"]) - 1)
    state = torch.load(path, map_location="cpu", weights_only=True)
    detector.network.load_state_dict(state)
    return detector


def read_coco(folder: Path | str, count: int) -> DetectionSet:
    """The first ``count`` photographs of COCO's validation part.

    ``folder`` holds ``annotations/instances_val2017.json`` and
    ``val2017/``. Labels are COCO's category numbers less one, as
    torchvision has them. Raises DetectionError where a file is missing or
    cannot be read. Introduced in chapter 7.
    """
    folder = Path(folder)
    if not (folder / ANNOTATIONS).is_file() or count < 1:
        raise DetectionError(
            f"{count} photographs of {folder}: it must hold {ANNOTATIONS} "
            f"and {PHOTOGRAPHS}/, from https://cocodataset.org"
        )
    with contextlib.redirect_stdout(io.StringIO()):
        index = COCO(str(folder / ANNOTATIONS))
    names = [""] * max(index.cats)
    for key, category in index.cats.items():
        names[key - 1] = category["name"]
    keys = sorted(index.imgs)[:count]
    files = [index.imgs[key]["file_name"] for key in keys]
    objects = [_objects(index.imgToAnns[key]) for key in keys]
    return DetectionSet(
        [_photograph(folder / PHOTOGRAPHS / name) for name in files],
        [boxes for boxes, _, _ in objects],
        [labels for _, labels, _ in objects],
        [crowd for _, _, crowd in objects],
        tuple(names),
    )


def _photograph(path: Path) -> np.ndarray:
    try:
        with Image.open(path) as opened:
            return np.asarray(opened.convert("RGB"))
    except OSError as error:
        raise DetectionError(f"cannot read {path}: {error}") from error


def _objects(
    annotations: list[dict[str, object]],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Boxes, labels, crowd; a few of COCO's boxes are empty and left out."""
    boxes = np.array([a["bbox"] for a in annotations], dtype=np.float64)
    boxes = boxes.reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    labels = np.array([a["category_id"] for a in annotations], dtype=np.int64)
    crowd = np.array([a["iscrowd"] for a in annotations], dtype=bool)
    full = (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
    return boxes[full], labels[full] - 1, crowd[full]
