"""Tables of chapter 10's detection: drops by part, and the poster's rows."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from lq_utils.detection_scenes import DetectionError
from lq_utils.detector_rounding import BACKBONE, BOX_HEAD, CLASS_HEAD
from lq_utils.published import published, published_value

POSTER = "bit_efficient_poster"
KEYS = ["set_up", "bits"]
ABLE = 10.0  # points of AP that a detector must have, to have some to lose
SIZES = ["bytes", "original_bytes"]
DETECTORS = ("Tiny-YOLOv2, VOC 2007", "MobileNet-SSD, COCO")


def _require(rows: pd.DataFrame, columns: Sequence[str]) -> None:
    missing = [name for name in columns if name not in rows]
    if missing or rows.empty:
        raise DetectionError(
            f"rows of a sweep over detection_row are needed; missing: "
            f"{missing}"
        )


def precision_table(rows: pd.DataFrame, metric: str = "AP") -> pd.DataFrame:
    """One line a set-up and width, in points (0 to 100).

    Columns: set_up, bits, n (scenes), the metric, drop, low, high, smaller
    (how much smaller the file is, in per cent). Raises DetectionError for
    missing columns. Introduced in chapter 10.
    """
    own = [f"{end}_{metric}" for end in ("drop", "low", "high")]
    _require(rows, [*KEYS, metric, *own, "images", *SIZES])
    table = rows[KEYS].copy()
    table["n"] = rows["images"]
    table[metric] = 100 * rows[metric]
    for name, column in zip(("drop", "low", "high"), own, strict=True):
        table[name] = 100 * rows[column]
    table["smaller"] = 100 * (1 - rows["bytes"] / rows["original_bytes"])
    return table.reset_index(drop=True)


def heads_table(rows: pd.DataFrame, metric: str = "AP") -> pd.DataFrame:
    """The class head against the box head at equal bits.

    A line a width: what each loses (points) with its interval, and which
    loses more where the intervals do not meet. Raises DetectionError
    where a head is missing. Introduced in chapter 10.
    """
    table = precision_table(rows, metric)
    heads = {h: table[table["set_up"] == h] for h in (CLASS_HEAD, BOX_HEAD)}
    if any(own.empty for own in heads.values()):
        raise DetectionError(f"rows of {CLASS_HEAD!r} and {BOX_HEAD!r} wanted")
    both = heads[CLASS_HEAD].merge(
        heads[BOX_HEAD], on="bits", suffixes=("_class", "_box")
    )
    both = both.sort_values("bits", ascending=False)
    worse = []
    for row in both.itertuples():
        if row.low_box > row.high_class:
            worse.append(BOX_HEAD)
        elif row.low_class > row.high_box:
            worse.append(CLASS_HEAD)
        else:
            worse.append("cannot be told")
    ends = ("drop", "low", "high")
    columns = [f"{end}_{head}" for head in ("class", "box") for end in ends]
    return both[["bits", *columns]].assign(worse=worse).reset_index(drop=True)


def poster_rows() -> pd.DataFrame:
    """The poster's detectors: mAP, size and what each loses.

    Columns: model, precision, mAP, MB, lost (points, from the printed
    values), smaller (per cent). Introduced in chapter 10.
    """
    lines = []
    for model in DETECTORS:
        table = published(POSTER, "table 1", quantity="accuracy", model=model)
        own = {"metric": "mAP", "model": model}
        whole = published_value(
            POSTER, "table 1", "accuracy", precision="fp32", **own
        )
        size = published_value(
            POSTER, "table 1", "model size", model=model, precision="fp32"
        )
        for keys, value in zip(table["keys"], table["value"], strict=True):
            mb = published_value(
                POSTER,
                "table 1",
                "model size",
                model=model,
                precision=keys["precision"],
            )
            line = {"model": model, "precision": keys["precision"]}
            line |= {"mAP": value, "MB": mb, "lost": whole - value}
            lines.append(line | {"smaller": 100 * (1 - mb / size)})
    return pd.DataFrame(lines)


def verdicts(rows: pd.DataFrame, most: float = 2.0) -> pd.DataFrame:
    """The poster's claims on detectors, judged by our rows.

    ``most``: points of AP that count as little, for a detector that has
    ten at least. Columns: claim, evidence, verdict. Raises DetectionError.
    Introduced in chapter 10.
    """
    table = precision_table(rows)
    widest = table["bits"].max()
    own = table[(table["set_up"] == BACKBONE) & (table["bits"] == widest)]
    if own.empty:
        raise DetectionError(f"no row of {BACKBONE!r} in {widest} bits")
    drop = own.iloc[0]
    able = drop["AP"] + drop["drop"] >= ABLE
    lost = (
        f"{drop['drop']:.2f} points ({drop['low']:.2f} to "
        f"{drop['high']:.2f}), {drop['smaller']:.0f} % smaller"
    )
    lines = [
        (
            f"the backbone in {widest} bits loses little",
            lost,
            _judge(able and drop["high"] <= most, drop["low"] > most),
        ),
        _heads_claim(rows, "AP"),
        _heads_claim(rows, "AP50"),
    ]
    return pd.DataFrame(lines, columns=["claim", "evidence", "verdict"])


def _heads_claim(rows: pd.DataFrame, metric: str) -> tuple[str, str, str]:
    heads = heads_table(rows, metric)
    told = heads[heads["worse"] != "cannot be told"]
    boxes = int((told["worse"] == BOX_HEAD).sum())
    counted = (
        f"the box head loses more at {boxes} of {len(heads)} widths, the "
        f"class head at {len(told) - boxes}"
    )
    return (
        f"boxes are harder to quantize than classes, by {metric}",
        counted,
        _judge(0 < boxes == len(told), boxes < len(told)),
    )


def _judge(holds: bool, fails: bool) -> str:
    if holds:
        return "holds here"
    return "does not hold here" if fails else "cannot be told here"
