"""Mean average precision, by the reference program of COCO (pycocotools).

Also its uncertainty: images drawn anew, for two detectors in the same way.
"""

from __future__ import annotations

import contextlib
import copy
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import from_numpy
from torchvision.ops import box_iou

from lq_utils.detection_scenes import DetectionError, DetectionSet
from lq_utils.intervals import LEVEL, Interval
from lq_utils.tiny_detector import Detections

METRICS = ("AP", "AP50", "AP75")
MATCHED = 0.5  # least overlap of a box that counts as found


@dataclass(frozen=True)
class Matches:
    """Detections held against the truth, image by image.

    Introduced in chapter 7.
    """

    evaluation: COCOeval
    images: int

    def precision(self, drawn: np.ndarray | None = None) -> dict[str, float]:
        """Mean average precision, 0 to 1, of all or of ``drawn`` images.

        "AP": mean over overlaps 0.5, 0.55 ... 0.95; "AP50" and "AP75":
        at one overlap. Classes without object are left out. ``drawn``
        are indices int64, as many as there are images.
        """
        found = self.evaluation
        if drawn is not None:
            found = copy.copy(found)
            per_class = np.array(found.evalImgs, dtype=object).reshape(
                -1, self.images
            )
            found.evalImgs = per_class[:, drawn].reshape(-1).tolist()
        with contextlib.redirect_stdout(io.StringIO()):
            found.accumulate()
        table = found.eval["precision"][
            :, :, :, 0, 0
        ]  # overlap, recall, class
        known = table[0, 0] > -1
        if not known.any():
            raise DetectionError("no object in the images: draw more of them")
        by_overlap = table[:, :, known].mean(axis=(1, 2))
        thresholds = found.params.iouThrs
        at = {
            name: float(by_overlap[np.isclose(thresholds, overlap)][0])
            for name, overlap in (("AP50", 0.5), ("AP75", 0.75))
        }
        return {"AP": float(by_overlap.mean())} | at


def match(truth: DetectionSet, found: Sequence[Detections]) -> Matches:
    """Hold what was found on each image against what is there.

    Raises DetectionError for another number of images, or no object at
    all. Source: Lin et al. 2014 (COCO). Introduced in chapter 7.
    """
    if len(truth) != len(found) or not sum(map(len, truth.labels)):
        raise DetectionError(
            f"detections on {len(found)} images, truth on {len(truth)} with "
            f"{sum(map(len, truth.labels))} objects: give one entry an image"
        )
    with contextlib.redirect_stdout(io.StringIO()):
        reference = _index(truth)
        boxes = _found_boxes(found)
        results = reference.loadRes(boxes) if boxes else COCO()
        if not boxes:
            results.dataset = {**reference.dataset, "annotations": []}
            results.createIndex()
        evaluation = COCOeval(reference, results, "bbox")
        evaluation.params.areaRng = [[0, 1e10]]
        evaluation.params.areaRngLbl = ["all"]
        evaluation.params.maxDets = [100]
        evaluation.evaluate()
    return Matches(evaluation, len(truth))


def _index(truth: DetectionSet) -> COCO:
    annotations: list[dict[str, object]] = []
    for i, (boxes, labels) in enumerate(zip(truth.boxes, truth.labels)):
        for box, label, crowd in zip(boxes, labels, truth.crowd[i]):
            width, height = box[2:] - box[:2]
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": i,
                    "category_id": int(label),
                    "bbox": [*box[:2].tolist(), float(width), float(height)],
                    "area": float(width * height),
                    "iscrowd": int(crowd),
                }
            )
    index = COCO()
    index.dataset = {
        "info": {},
        "images": [{"id": i} for i in range(len(truth))],
        "categories": [
            {"id": k, "name": n} for k, n in enumerate(truth.class_names)
        ],
        "annotations": annotations,
    }
    index.createIndex()
    return index


def _found_boxes(found: Sequence[Detections]) -> list[dict[str, object]]:
    return [
        {
            "image_id": i,
            "category_id": int(label),
            "bbox": [*box[:2].tolist(), *(box[2:] - box[:2]).tolist()],
            "score": float(score),
        }
        for i, own in enumerate(found)
        for box, score, label in zip(*own)
    ]


def precision_drop(
    before: Matches,
    after: Matches,
    draws: int,
    seed: int = 0,
    level: float = LEVEL,
) -> dict[str, Interval]:
    """What each metric loses, with a percentile bootstrap over images.

    Both detectors are scored on the same ``draws`` of images. Raises
    DetectionError for different images, or fewer than 20 draws.
    Source: Efron 1979. Introduced in chapter 7.
    """
    if before.images != after.images or draws < 20:
        raise DetectionError(
            f"{before.images} and {after.images} images, {draws} draws: "
            "compare on the same images, with 20 draws or more"
        )
    rng = np.random.default_rng(seed)
    sampled: dict[str, list[float]] = {name: [] for name in METRICS}
    for _ in range(draws):
        drawn = rng.integers(before.images, size=before.images)
        a, b = before.precision(drawn), after.precision(drawn)
        for name in METRICS:
            sampled[name].append(a[name] - b[name])
    whole = before.precision(), after.precision()
    tail = 50 * (1 - level)
    found = {}
    for name in METRICS:
        low, high = np.percentile(sampled[name], [tail, 100 - tail])
        drop = whole[0][name] - whole[1][name]
        found[name] = Interval(
            drop, float(low), float(high), before.images, level
        )
    return found


def localisation(
    truth: DetectionSet, found: Sequence[Detections]
) -> dict[str, float]:
    """Where and what, apart: of the best-scored box that meets an object.

    ``found``: share of objects that some box overlaps by half or more;
    ``overlap``: mean intersection over union of the best-scored of them,
    whatever class it names; ``right_class``: share of them that name the
    object's class. The latter two are NaN where nothing is found.
    Introduced in chapter 7.
    """
    overlaps, right, total = [], [], 0
    for boxes, labels, own in zip(truth.boxes, truth.labels, found):
        total += len(labels)
        if not len(own.boxes) or not len(labels):
            continue
        overlap = box_iou(from_numpy(boxes), from_numpy(own.boxes)).numpy()
        for row, label in zip(overlap, labels):
            near = np.flatnonzero(row >= MATCHED)
            if len(near):
                best = near[own.scores[near].argmax()]
                overlaps.append(row[best])
                right.append(own.labels[best] == label)
    nothing = not overlaps
    return {
        "found": len(overlaps) / total,
        "overlap": float("nan") if nothing else float(np.mean(overlaps)),
        "right_class": float("nan") if nothing else float(np.mean(right)),
    }
