"""Tables of chapter 10's sizes: bits a weight, beside the poster's."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from lq_utils.code_sizes import CodeSizeError
from lq_utils.published import published, published_value
from lq_utils.results import Run

POSTER = "bit_efficient_poster"
FLOAT_BITS = 32
SETTING = ["network", "weights", "quantizer", "bits"]
# The poster's networks, and the nearest ones that torchvision has.
STAND_INS = {
    "VGG-16": "vgg16",
    "ResNetV2-50": "resnet50",
    "InceptionV4": "inception_v3",
}


def _require(rows: pd.DataFrame, *columns: str) -> None:
    missing = [name for name in columns if name not in rows]
    if missing or rows.empty:
        raise CodeSizeError(
            f"rows of a sweep over size_rows are needed; missing: {missing}"
        )


def bits_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Bits a weight, one line a network and grid, one column a coder.

    ``rows`` are those of a sweep over ``size_rows``. Besides the coders:
    ``best`` (the smallest file's coder), ``over`` (how far it is above
    the entropy, in per cent; negative: order was of use), ``millions``
    (weights of the network) and ``coded`` (the share of them, 0 to 1,
    that was measured).

    Raises CodeSizeError for a missing column. Introduced in chapter 10.
    """
    _require(rows, *SETTING, "coder", "bits_a_weight", "measured", "total")
    wide = rows.pivot_table(
        index=SETTING, columns="coder", values="bits_a_weight", sort=False
    )
    coders = [c for c in wide if c not in ("entropy", "packed")]
    wide["best"] = wide[coders].idxmin(axis=1)
    least = wide[coders].min(axis=1)
    wide["over"] = 100 * (least / wide["entropy"] - 1)
    counts = rows.groupby(SETTING, sort=False)[["measured", "total"]].first()
    wide["millions"] = counts["total"] / 1e6
    wide["coded"] = counts["measured"] / counts["total"]
    return wide.rename_axis(columns=None).reset_index()


def poster_bits() -> pd.DataFrame:
    """The poster's table 3 in bits a weight, whatever its megabytes are.

    A file's size by that of the network in float32, times 32. Columns:
    printed (network), network (ours), quantizer, coder, bits, poster.
    Introduced in chapter 10.
    """
    table = published(POSTER, "table 3", quantity="model size")
    found = []
    for keys, size in zip(table["keys"], table["value"], strict=True):
        if "coder" not in keys:
            continue
        name = keys["model"]
        whole = published_value(
            POSTER, "table 3", "model size", model=name, precision="fp32"
        )
        found.append(
            {
                "printed": name,
                "network": STAND_INS[name],
                "quantizer": keys["quantizer"],
                "coder": {"7-zip": "7-Zip"}.get(keys["coder"], keys["coder"]),
                "bits": int(keys["precision"].removesuffix("-bit")),
                "poster": FLOAT_BITS * size / whole,
            }
        )
    return pd.DataFrame(found)


def beside_poster(rows: pd.DataFrame) -> pd.DataFrame:
    """The poster's files beside ours, in bits a weight.

    Lines of :func:`poster_bits` whose network is in ``rows``, with ours
    (the same coder), entropy and packed, gzip, and from
    :func:`bits_table` weights, millions and coded; the table may be
    empty. Raises CodeSizeError for a missing column. Introduced in chapter 10.
    """
    wide = bits_table(rows)
    poster = poster_bits()
    joined = poster.merge(wide, on=["network", "quantizer", "bits"])
    joined["ours"] = [row[row["coder"]] for _, row in joined.iterrows()]
    columns = [*poster.columns, "ours", "entropy", "packed, gzip"]
    return joined[[*columns, "weights", "millions", "coded"]]


def record_sizes(run: Run, rows: pd.DataFrame) -> None:
    """Record bits a weight of every file. Introduced in chapter 10."""
    for row in rows.to_dict("records"):
        keys = {name: row[name] for name in [*SETTING, "coder"]}
        run.record(
            "bits_a_weight", row["bits_a_weight"], n=row["measured"], **keys
        )


def gain_by_bits(rows: pd.DataFrame, coder: str = "7-Zip") -> pd.DataFrame:
    """What a coder saves over packing, in per cent of the packed size.

    Columns: network, weights, quantizer, bits, saving, possible (what the
    entropy would). Raises CodeSizeError. Introduced in chapter 10.
    """
    wide = bits_table(rows)
    _require(wide, coder)
    lines: Mapping[str, pd.Series] = {
        "saving": 100 * (1 - wide[coder] / wide["packed"]),
        "possible": 100 * (1 - wide["entropy"] / wide["packed"]),
    }
    return wide[SETTING].assign(**lines)
