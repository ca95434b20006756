"""Tables of the compression study, by hand and against scipy."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose
from scipy import stats

from lq_utils import compression_tables as ct
from lq_utils.compression_scores import adjusted, mean_scores
from lq_utils.images import Provenance
from lq_utils.published import PublishedError
from lq_utils.results import Run
from lq_utils.tables import html_rows

BASE = [70, 74, 78]  # per cent of 200 images, by seed
INT8 = [68, 73, 77]


def made(set_up: str, shares: list[float], **changes: Any) -> pd.DataFrame:
    """Rows of a set-up, one a seed, which got ``shares`` per cent right."""
    row = {
        "task": "cat/dog",
        "start": "own",
        "set_up": set_up,
        "scheme": "",
        "measured": True,
        "n": 200,
        "bytes": 2 * 2**20,
        "compressed_bytes": 2**20,
    } | changes
    seeds = range(len(shares))
    hits = [round(share * row["n"] / 100) for share in shares]
    return pd.DataFrame({"seed": seeds, "hits": hits}).assign(**row)


def study(*parts: pd.DataFrame) -> pd.DataFrame:
    """The parts in another order than that of seeds."""
    both = pd.concat(parts, ignore_index=True)
    return both.iloc[::-1].reset_index(drop=True)


def table(rows: pd.DataFrame, *set_ups: str) -> pd.DataFrame:
    return ct.score_table(rows, "table 4.2", set_ups)


def test_means_and_differences_by_hand() -> None:
    rows = study(made("base", BASE), made("PTQ int8", INT8))
    base, int8 = table(rows, "base", "PTQ int8").to_dict("records")
    # Deviations -4, 0, 4: standard error 4 / sqrt(3), t of 2 degrees.
    half = 4.302653 * 4 / math.sqrt(3)
    assert base["accuracy"] == pytest.approx(74)
    assert base["accuracy_low"] == pytest.approx(74 - half)
    assert base["accuracy_high"] == pytest.approx(74 + half)
    assert (base["seeds"], base["images"]) == (3, 200)
    assert math.isnan(base["difference"]) and math.isnan(base["p"])
    # Differences -2, -1, -1: all one way, so p is 2 of 8 sign patterns.
    assert int8["difference"] == pytest.approx(-4 / 3)
    half = 4.302653 * math.sqrt(1 / 3) / math.sqrt(3)
    ends = (int8["difference_low"], int8["difference_high"])
    assert ends == pytest.approx((-4 / 3 - half, -4 / 3 + half))
    assert int8["p"] == pytest.approx(0.25) and int8["pairs"] == 3
    assert (base["thesis"], int8["thesis"]) == (66.00, 63.70)
    assert (base["thesis_mb"], int8["thesis_mb"]) == (2.0852, 0.5271)


def test_interval_is_that_of_scipy() -> None:
    shares = np.array([71.5, 73, 70, 78.5, 74])
    (line,) = mean_scores(made("base", shares.tolist()), ["set_up"]).to_dict(
        "records"
    )
    expected = stats.t.interval(0.95, 4, shares.mean(), stats.sem(shares))
    ends = (line["accuracy_low"], line["accuracy_high"])
    assert_allclose(ends, expected)


def test_p_is_that_of_scipy_and_adjusted_by_hand() -> None:
    rng = np.random.default_rng(5)
    base = 75 + rng.integers(-6, 7, 8) / 2
    others = {
        name: base + shift + rng.integers(-4, 5, 8) / 2
        for name, shift in [("QAT", -3), ("PTQ int8", 0), ("PTQ float16", 1)]
    }
    rows = study(
        made("base", base.tolist()),
        *(made(name, values.tolist()) for name, values in others.items()),
    )
    p = {
        name: stats.permutation_test(
            (values - base,),
            np.mean,
            permutation_type="samples",
            n_resamples=2**8,
        ).pvalue
        for name, values in others.items()
    }
    found = table(rows, "base", *others).set_index("set_up")["p"]
    first, second, third = sorted(p, key=lambda name: p[name])
    assert p[first] < p[second] < p[third]
    assert found[first] == pytest.approx(min(1, 3 * p[first]))
    step = max(3 * p[first], 2 * p[second])
    assert found[second] == pytest.approx(min(1, step))
    assert found[third] == pytest.approx(min(1, max(step, p[third])))


def test_adjustment_leaves_out_what_has_no_p() -> None:
    found = adjusted(pd.Series([0.04, math.nan, 0.01]))
    assert_allclose(found, [0.04, math.nan, 0.02])
    assert np.isnan(adjusted(pd.Series([math.nan]))).all()


def test_each_task_is_a_family_of_its_own() -> None:
    cats = study(made("base", BASE), made("PTQ int8", INT8))
    both = pd.concat([cats, cats.assign(task="horse/frog")])
    found = table(both, "base", "PTQ int8")
    assert found["task"].tolist() == ["cat/dog"] * 2 + ["horse/frog"] * 2
    assert found["p"].dropna().tolist() == pytest.approx([0.25, 0.25])
    assert found["thesis"].tolist() == [66.00, 63.70, 92.35, 90.25]


def test_one_seed_has_the_interval_of_wilson_and_no_p() -> None:
    rows = study(made("base", [75]), made("PTQ int8", [70]))
    base, int8 = table(rows, "base", "PTQ int8").to_dict("records")
    z, p, n = stats.norm.ppf(0.975), 0.75, 200
    centre = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2)) / (1 + z**2 / n)
    ends = (base["accuracy_low"] / 100, base["accuracy_high"] / 100)
    assert ends == pytest.approx((centre - half, centre + half))
    assert int8["difference"] == pytest.approx(-5) and int8["pairs"] == 1
    missing = ("p", "difference_low", "difference_high")
    assert all(math.isnan(int8[name]) for name in missing)


def test_differences_take_the_seeds_of_both() -> None:
    fewer = made("PTQ int8", INT8).iloc[1:]
    line = table(study(made("base", BASE), fewer), "PTQ int8").iloc[0]
    assert line["accuracy"] == pytest.approx(75)
    assert line["difference"] == pytest.approx(-1) and line["pairs"] == 2


def test_sizes_and_simulation() -> None:
    sizes = {"bytes": 3 * 2**19, "compressed_bytes": 2**18}
    rows = study(
        made("base", BASE),
        made("PTQ float16", BASE, measured=False, **sizes),
    )
    base, half = table(rows, "base", "PTQ float16").to_dict("records")
    assert (base["mib"], base["compressed_mib"]) == (2, 1)
    assert (half["mib"], half["compressed_mib"]) == (1.5, 0.25)
    assert base["measured"] and not half["measured"]


def test_what_the_thesis_does_not_print_is_missing() -> None:
    rows = study(made("base", BASE), made("PTQ int4 weights", INT8))
    found = table(rows, "PTQ int4 weights").iloc[0]
    assert math.isnan(found["thesis"]) and math.isnan(found["thesis_mb"])
    ten = table(rows.assign(task="ten classes"), "base").iloc[0]
    assert math.isnan(ten["thesis"]) and ten["thesis_mb"] == 2.0852
    with pytest.raises(PublishedError, match="table 9"):
        ct.score_table(rows, "table 9", ["base"])


def bad_tables() -> dict[str, tuple[pd.DataFrame, list[str]]]:
    base, int8 = made("base", BASE), made("PTQ int8", INT8)
    other = int8.assign(seed=int8["seed"] + 10)
    transfer = base.assign(start="cat/dog")
    return {
        "did you mean 'PTQ int8'": (study(base, int8), ["PTQ int 8"]),
        "no row of 'cat/dog' has the set-up 'base'": (int8, ["PTQ int8"]),
        "share no seed": (study(base, other), ["PTQ int8"]),
        "more than one row of seed 0": (study(base, transfer), ["base"]),
        "no column measured": (base.drop(columns="measured"), ["base"]),
        "there are no rows": (base.iloc[:0], ["base"]),
        "set_ups is empty": (base, []),
    }


@pytest.mark.parametrize("message", list(bad_tables()))
def test_errors_say_what_is_missing(message: str) -> None:
    rows, set_ups = bad_tables()[message]
    with pytest.raises(ct.ScoreError, match=message):
        ct.score_table(rows, "table 4.2", set_ups)


def test_page_by_hand() -> None:
    rows = study(made("base", BASE), made("PTQ float16", INT8, measured=False))
    horses = rows[rows["seed"] > 0].assign(task="horse/frog")
    frame = table(pd.concat([rows, horses]), "base", "PTQ float16")
    page = ct.table_for_page(frame)
    base, half = page.to_dict("records")
    assert base["set-up"] == "base"
    assert half["set-up"] == "PTQ float16 (simulated)"
    assert base["cat/dog: ours (%)"] == "74.0 [64.1, 83.9]"
    assert base["cat/dog: against base"] == "–"
    # -4/3 with half a width of 4.302653 / 3.
    text = "−1.33 [−2.77, 0.10], p 0.25"
    assert half["cat/dog: against base"] == text
    assert half["horse/frog: thesis (%)"] == 91.65
    assert (base["MiB"], base["seeds"]) == (2, "2 to 3")
    assert "<td" in html_rows(page, 2)


def test_page_of_one_seed() -> None:
    rows = study(made("base", [75]), made("PTQ int8", [70]))
    page = ct.table_for_page(table(rows, "PTQ int8"))
    assert page["cat/dog: against base"].tolist() == ["−5.00"]
    assert page["seeds"].tolist() == ["1"]


def claims(
    seeds: int, names: list[tuple[str, str]], **options: Any
) -> pd.DataFrame:
    """High above low by 2 points, and both random about their level."""
    rng = np.random.default_rng(1)
    level = 75 + rng.integers(-5, 6, seeds)
    rows = study(
        made("PTQ on QAT", (level + 2 + np.arange(seeds) / 4).tolist()),
        made("PTQ int8", level.tolist()),
        made("QAT", (level + (-1.0) ** np.arange(seeds)).tolist()),
    )
    return ct.orderings(rows, "cat/dog", names, "table 4.2", **options)


def test_orderings_and_their_verdicts() -> None:
    names = [
        ("PTQ on QAT", "PTQ int8"),
        ("PTQ int8", "PTQ on QAT"),
        ("QAT", "PTQ int8"),
    ]
    found = claims(8, names)
    assert found["verdict"].tolist() == ["real", "reversed", "not shown"]
    # Eight seeds, all one way: 2 of 256 sign patterns, three claims.
    assert found["p"].tolist() == pytest.approx([6 / 256, 6 / 256, 1])
    expected = 2 + np.arange(8).mean() / 4
    assert found["difference"].tolist() == pytest.approx(
        [expected, -expected, 0]
    )
    strict = claims(8, names, alpha=0.01)
    assert strict["verdict"].tolist() == ["not shown"] * 3
    wider = strict["difference_high"] - strict["difference_low"]
    assert (wider > found["difference_high"] - found["difference_low"]).all()


def test_few_seeds_show_nothing() -> None:
    found = claims(4, [("PTQ on QAT", "PTQ int8")]).iloc[0]
    assert found["difference_low"] > 0
    assert found["p"] == pytest.approx(2 / 16)
    assert found["verdict"] == "not shown"
    one = claims(1, [("PTQ on QAT", "PTQ int8")]).iloc[0]
    assert math.isnan(one["p"]) and one["verdict"] == "not shown"


def test_the_thesis_beside_the_orderings() -> None:
    found = claims(3, [("PTQ on QAT", "PTQ int8")]).iloc[0]
    assert found["thesis"] == pytest.approx(65.80 - 63.70)
    variance = 0.658 * 0.342 / 2000 + 0.637 * 0.363 / 2000
    assert found["thesis_error"] == pytest.approx(100 * math.sqrt(variance))
    rows = study(made("base", BASE), made("PTQ int4 weights", INT8))
    line = ct.orderings(
        rows, "cat/dog", [("base", "PTQ int4 weights")], "table 4.2"
    ).iloc[0]
    assert math.isnan(line["thesis"]) and math.isnan(line["thesis_error"])


def test_orderings_refuse() -> None:
    rows = study(made("base", BASE), made("QAT", INT8))
    for pairs, message in [
        ([], "pairs is empty"),
        ([("base", "QUAT")], "did you mean 'QAT'"),
    ]:
        with pytest.raises(ct.ScoreError, match=message):
            ct.orderings(rows, "cat/dog", pairs, "table 4.2")
    with pytest.raises(ct.ScoreError, match="no row of 'cats'"):
        ct.orderings(rows, "cats", [("base", "QAT")], "table 4.2")


def made_run() -> Run:
    provenance = Provenance("made", "synthetic", "0", "book")
    return Run("04_x", {"profile": "smoke", "seed": 0}, provenance)


def test_recorded_rows_are_those_of_the_table() -> None:
    rows = study(made("base", BASE), made("PTQ int8", INT8))
    frame = table(rows, "base", "PTQ int8")
    run = made_run()
    for metric in ("accuracy", "difference", "mib"):
        ct.record_scores(run, frame, metric, table="4.2")
    kept = run.rows
    # The base has no difference to itself.
    counts = {"accuracy": 2, "mib": 2, "difference": 1}
    assert kept["metric"].value_counts().to_dict() == counts
    score = kept[kept["metric"] == "accuracy"]
    assert score["value"].tolist() == frame["accuracy"].tolist()
    assert score["ci_low"].tolist() == frame["accuracy_low"].tolist()
    assert score["n"].tolist() == [200, 200]
    assert '"table"' in score["keys"].iloc[0]
    assert kept.loc[kept["metric"] == "mib", "ci_low"].isna().all()
    with pytest.raises(ct.ScoreError, match="no column kib"):
        ct.record_scores(run, frame, "kib")


def test_orderings_are_recorded_by_their_names() -> None:
    run = made_run()
    found = claims(3, [("QAT", "PTQ int8"), ("PTQ on QAT", "PTQ int8")])
    ct.record_scores(run, found, "difference", ["task", "above", "below"])
    assert run.rows["value"].tolist() == found["difference"].tolist()


def test_sizes_compare_like_with_like() -> None:
    base = made("base", BASE, bytes=2000, compressed_bytes=1600)
    ten = base.assign(task="ten classes", bytes=4000, compressed_bytes=1600)
    small = made("clustered", BASE, bytes=1000, compressed_bytes=250)
    found = ct.honest_sizes(
        study(base, small, ten, small.assign(task="ten classes"))
    ).set_index("set_up")
    line = found.loc["clustered"]
    assert line["raw_ratio"] == pytest.approx((2 + 4) / 2)
    assert line["compressed_ratio"] == pytest.approx(1600 / 250)
    assert line["mixed_ratio"] == pytest.approx((8 + 16) / 2)
    assert line["mib"] == pytest.approx(1000 / 2**20)
    # "Up to 9x", says the text of the thesis.
    assert line["thesis_ratio"] == pytest.approx(2.0852 / 0.2562)
    assert found.loc["base", "raw_ratio"] == 1
    ours = made("PTQ int4 weights", BASE)
    alone = ct.honest_sizes(study(base, ours)).set_index("set_up")
    assert math.isnan(alone.loc["PTQ int4 weights", "thesis_ratio"])


def test_sizes_need_the_base_of_every_network() -> None:
    base, small = made("base", BASE), made("clustered", BASE)
    with pytest.raises(ct.ScoreError, match="'cat/dog'.*no row of.*'base'"):
        ct.honest_sizes(study(base.assign(start="cat/dog"), small))
    with pytest.raises(ct.ScoreError, match="more than one row"):
        ct.honest_sizes(study(base, base, small))


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        ([(1, 5), (2, 6), (3, 7)], [True, True, True]),
        ([(1, 5), (2, 5), (3, 7)], [True, False, True]),  # same score
        ([(1, 5), (1, 6), (3, 7)], [False, True, True]),  # same cost
        ([(1, 5), (1, 5), (2, 4)], [True, True, False]),  # equal lines
        ([(1, 9), (2, 8), (3, 7)], [True, False, False]),
        ([(math.nan, 9), (2, 8), (1, math.nan)], [False, True, False]),
        ([(4, 4)], [True]),
    ],
)
def test_pareto_by_hand(
    points: list[tuple[float, float]], expected: list[bool]
) -> None:
    index = [f"line {i}" for i in range(len(points))]
    frame = pd.DataFrame(points, columns=["kib", "accuracy"], index=index)
    found = ct.pareto(frame, "kib", "accuracy")
    assert found.tolist() == expected and found.index.tolist() == index


def test_pareto_is_what_comparing_all_pairs_finds() -> None:
    points = np.random.default_rng(2).integers(0, 12, (60, 2))
    frame = pd.DataFrame(points, columns=["kib", "accuracy"])
    expected = [
        not any(
            c <= cost and s >= score and (c, s) != (cost, score)
            for c, s in points.tolist()
        )
        for cost, score in points.tolist()
    ]
    assert ct.pareto(frame, "kib", "accuracy").tolist() == expected
    with pytest.raises(ct.ScoreError, match="no column bytes"):
        ct.pareto(frame, "bytes", "accuracy")
