"""Verdicts on what the bit-efficient poster says of quantizers."""

from __future__ import annotations

import numpy as np
import pandas as pd

from lq_utils.bit_limits import TOLERANCE
from lq_utils.data_free_tables import interval, verdict
from lq_utils.published import published_value
from lq_utils.results import Run
from lq_utils.stats import Interval, holm, mean_interval

Claim = dict[str, str]  # claim, evidence, verdict
ALPHA = 0.05
LOGARITHMIC, UNIFORM = "power-of-two", "asymmetric"
POSTER = "bit_efficient_poster"


def _claim(claim: str, evidence: str, found: str) -> Claim:
    return {"claim": claim, "evidence": evidence, "verdict": found}


def mean_gap(shifts: pd.DataFrame) -> Interval | None:
    """Shift of a layer's mean by powers of two less that by uniform levels.

    ``shifts`` as in ``mean_claim``; None without both quantizers.
    Introduced in chapter 7.
    """
    if not {LOGARITHMIC, UNIFORM} <= set(shifts):
        return None
    return mean_interval(shifts[LOGARITHMIC] - shifts[UNIFORM])


def range_gap(channels: dict[str, pd.Series]) -> Interval | None:
    """How much farther from a channel's range uniform levels are.

    ``channels`` as in ``range_claim``; None without both quantizers.
    Introduced in chapter 7.
    """
    if not {LOGARITHMIC, UNIFORM} <= set(channels):
        return None
    off = {name: (values - 1).abs() for name, values in channels.items()}
    return mean_interval((off[UNIFORM] - off[LOGARITHMIC]).dropna())


def record_gaps(
    run: Run, shifts: pd.DataFrame, channels: dict[str, pd.Series]
) -> None:
    """Record ``mean_gap`` and ``range_gap``, where they exist.

    Introduced in chapter 7.
    """
    gaps = {"mean_gap": mean_gap(shifts), "range_gap": range_gap(channels)}
    for metric, found in gaps.items():
        if found is not None:
            run.record(metric, found.value, n=found.n, ci=found.ci)


def mean_claim(shifts: pd.DataFrame) -> list[Claim]:
    """Uniform levels keep the mean better than powers of two do.

    ``shifts``: magnitude of the shift of each layer's mean, a column a
    quantizer. Without both quantizers no claim. Introduced in chapter 7.
    """
    found = mean_gap(shifts)
    if found is None:
        return []
    evidence = "shift of powers of two less uniform " + interval(
        found.value, found.low, found.high, 3
    )
    text = "uniform levels preserve the mean, powers of two less"
    return [_claim(text, evidence, verdict(found.low, found.high))]


def range_claim(channels: dict[str, pd.Series]) -> list[Claim]:
    """Powers of two keep each channel's range better than uniform levels.

    ``channels``: ``range_kept`` of every channel by quantizer, the same
    channels in each. Introduced in chapter 7.
    """
    found = range_gap(channels)
    if found is None:
        return []
    evidence = "uniform is farther from the range by " + interval(
        found.value, found.low, found.high, 3
    )
    text = "powers of two maintain the range for each channel"
    return [_claim(text, evidence, verdict(found.low, found.high))]


def loss_claim(best: pd.DataFrame) -> list[Claim]:
    """Data-free rounding to three bits does not affect accuracy.

    ``best``: drops of the scheme chosen for each network; a drop counts
    as none up to one point. Introduced in chapter 7.
    """
    bits = int(
        published_value(
            POSTER, "key outcomes", "lowest weight bits without loss"
        )
    )
    claims = []
    for row in best[best["bits"] == bits].itertuples():
        low, high = TOLERANCE - row.drop_high, TOLERANCE - row.drop_low
        evidence = f"{row.network}, best scheme: drop " + interval(
            row.drop, row.drop_low, row.drop_high
        )
        text = f"as low as {bits} bits without affecting accuracy"
        claims.append(_claim(text, evidence, verdict(low, high)))
    return claims


def bias_claim(bias: pd.DataFrame) -> list[Claim]:
    """Very low precision creates biased inference.

    ``bias`` comes from ``bias_table``; all tests are adjusted together.
    Introduced in chapter 7.
    """
    bits = int(
        published_value(
            POSTER,
            "clustering figure",
            "weight bits of the biased network",
        )
    )
    adjusted = bias.assign(p=holm(bias["p"].to_numpy()))
    own = adjusted[adjusted["bits"] == bits]
    if own.empty:
        return []
    told = int((own["p"] < ALPHA).sum())
    evidence = (
        f"histogram of answers differs in {told} of {len(own)} cases; "
        f"largest share of one answer {own['largest'].max():.2f}"
    )
    found = "holds" if told == len(own) else "holds in some cases"
    text = f"{bits} bits create biased inference"
    return [_claim(text, evidence, found if told else "not seen here")]


def data_claim(shares: pd.DataFrame) -> list[Claim]:
    """What quantization costs lies in the data, not in the architecture.

    ``shares`` come from ``variance_shares``, with a column ``data``; may
    be empty. Introduced in chapter 7.
    """
    claims = []
    groups = shares.groupby("data") if len(shares) else ()
    for data, own in groups:
        share = own.set_index("source")["share"]
        networks = own.set_index("source")["cases"]["network"]
        if not np.isfinite(share).all():
            continue
        evidence = (
            f"{data}, {networks} networks: {share['subset']:.0%} of the "
            f"variance of drops is the subset's, {share['network']:.0%} the "
            "network's"
        )
        found = share["subset"] > share["network"]
        text = "the effect is architecture agnostic, and tied to the data"
        claims.append(
            _claim(text, evidence, "points to it" if found else "points away")
        )
    return claims


def orthogonality_claim(related: pd.DataFrame) -> list[Claim]:
    """Networks whose classes are orthogonal are quantization friendly.

    ``related`` comes from ``cosine_relations``. Introduced in chapter 7.
    """
    return [
        _claim(
            "orthogonal classes are quantization friendly",
            f"{row['network']}: correlation of cosine and drop, accuracy "
            "held fixed "
            + interval(
                row["given accuracy"], row["given low"], row["given high"], 2
            ),
            verdict(row["given low"], row["given high"]),
        )
        for row in related.to_dict("records")
        if np.isfinite(row["given accuracy"])
    ]


def layers_claim(halves: pd.DataFrame) -> list[Claim]:
    """Quantizing initial layers affects performance the most.

    ``halves`` come from ``half_differences``. Introduced in chapter 7.
    """
    claims = []
    for row in halves.to_dict("records"):
        evidence = (
            f"{row['network']}: first half rounded less second half "
            + interval(row["difference"], row["low"], row["high"])
            + f" points, with {row['first weights']:.0%} of the weights "
            f"against {row['second weights']:.0%}"
        )
        found = verdict(-row["high"], -row["low"])
        text = "initial layers affect performance the most"
        claims.append(_claim(text, evidence, found))
    return claims
