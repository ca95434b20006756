"""The claims page: every verdict flips with its rows, nothing is typed."""

from __future__ import annotations

import math
import re
from pathlib import Path

import claim_rows_samples as samples
import pandas as pd
import pytest
import recorded_rows
from test_prose import result_like_numbers

from lq_utils import claims, claims_core
from lq_utils.claims_core import (
    CLAIMS,
    DIRECTION,
    NOT_REPRODUCED,
    NOT_RUN,
    REPRODUCED,
    UNDECIDABLE,
    Case,
    Claim,
    ClaimError,
    MissingRowsError,
    Number,
    Part,
    combined,
    find,
    judge,
    number,
)
from lq_utils.claims_coverage import PLACES
from lq_utils.claims_readings import ANY, Gap, Query, Ratio, Value, gap
from lq_utils.claims_text import heading_id, section_link
from lq_utils.errata_core import ERRATA
from lq_utils.intervals import Interval, wilson
from lq_utils.paths import ROOT
from lq_utils.published import PublishedError, published

READ = [asked for asked in CLAIMS.values() if asked.parts]
PLACES_PRINTED = {
    "label_aware_report": [f"figure {n}" for n in (1, 2, 3)],
    "bit_efficient_poster": [
        *(f"table {n}" for n in (1, 2, 3)),
        "quartile figure",
        "clustering figure",
        "architecture graph",
    ],
    "quantnet_thesis": [
        *(f"table 4.{n}" for n in range(1, 9)),
        *(f"figure 2.{n}" for n in range(1, 7)),
        *(f"figure 3.{n}" for n in range(1, 5)),
        *(f"figure 4.{n}" for n in range(1, 8)),
    ],
}


def by_id(asked: Claim) -> str:
    return asked.id


# Verdicts: each claim is driven to each verdict that it can have


@pytest.mark.parametrize("asked", READ, ids=by_id)
def test_rows_that_agree_reproduce_a_claim(asked: Claim) -> None:
    rows = samples.held(asked)
    assert find(asked, rows).verdict == REPRODUCED
    assert find(asked, samples.jitter(rows, 1)).verdict == REPRODUCED


@pytest.mark.parametrize("asked", READ, ids=by_id)
def test_rows_that_disagree_refute_it(asked: Claim) -> None:
    assert find(asked, samples.refuted(asked)).verdict == NOT_REPRODUCED


@pytest.mark.parametrize(
    "asked", [asked for asked in READ if not asked.exact], ids=by_id
)
def test_wide_intervals_leave_a_direction(asked: Claim) -> None:
    assert find(asked, samples.unsure(asked)).verdict == DIRECTION


@pytest.mark.parametrize(
    "asked",
    [
        asked
        for asked in READ
        if any(samples.tolerance(asked, part) for part in asked.parts)
    ],
    ids=by_id,
)
def test_another_size_leaves_a_direction(asked: Claim) -> None:
    assert find(asked, samples.too_large(asked)).verdict == DIRECTION


@pytest.mark.parametrize("asked", READ, ids=by_id)
def test_without_its_rows_a_claim_is_not_yet_run(asked: Claim) -> None:
    rows = samples.held(asked)
    for name, frame in rows.items():
        assert frame is not None
        for missing in (None, frame.iloc[:0]):
            found = find(asked, rows | {name: missing})
            assert found.verdict == NOT_RUN
            assert name in found.missing or asked.chapter in found.missing


def test_claims_without_rows_say_why() -> None:
    for asked in CLAIMS.values():
        if not asked.parts:
            wanted = UNDECIDABLE if asked.reason else NOT_RUN
            assert find(asked, {}).verdict == wanted


# The rule, by hand


def made(**more: object) -> Claim:
    query = Query("03_gpfq_sweeps", "metric", {})
    fields = ("id", "quantnet_thesis", "where", "title", "test")
    place = ("03_gpfq_sweeps", "section")
    return Claim(*fields, *place, (Part(Value(query)),), **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("asked", "case", "printed", "verdict"),
    [
        (made(), Case("", 2, 1, 3), None, REPRODUCED),
        (made(), Case("", 2, -1, 5), None, DIRECTION),
        (made(), Case("", 2), None, DIRECTION),
        (made(exact=True), Case("", 2), None, REPRODUCED),
        (made(exact=True), Case("", 0), None, NOT_REPRODUCED),
        (made(), Case("", -2, -5, 1), None, NOT_REPRODUCED),
        (made(sign=-1), Case("", -2, -3, -1), None, REPRODUCED),
        (made(bound=1, sign=-1), Case("", 0.5, 0.2, 0.8), None, REPRODUCED),
        (made(bound=1, sign=-1), Case("", 0.5, 0.0, 1.2), None, DIRECTION),
        # No effect is possible, the printed size is not.
        (made(), Case("", 2, -1, 5), 6, NOT_REPRODUCED),
        (made(), Case("", 2, -1, 5), 4, DIRECTION),
        (made(sign=-1), Case("", -2, -5, 1), -6, NOT_REPRODUCED),
        # The size counts where there is a tolerance.
        (made(), Case("", 2, 1, 3), 9, REPRODUCED),
        (made(tolerance=1), Case("", 2, 1, 3), 9, DIRECTION),
        (made(tolerance=1), Case("", 2, 1.5, 2.5), 3, REPRODUCED),
        (made(tolerance=1), Case("", 2, 1, 9), 8, REPRODUCED),
        (made(tolerance=1, exact=True), Case("", 2), 3.1, DIRECTION),
    ],
)
def test_the_rule_by_hand(
    asked: Claim, case: Case, printed: float | None, verdict: str
) -> None:
    (part,) = asked.parts
    if printed is not None:
        part = Part(part.reading, Number(printed, str(printed)))
    assert judge(asked, part, case) == verdict


def test_a_part_may_have_its_own_tolerance() -> None:
    (part,) = made().parts
    near = Part(part.reading, Number(9, "9"), "", 7.5)
    assert judge(made(), near, Case("", 2, 1, 3)) == REPRODUCED
    assert judge(made(tolerance=9), near, Case("", 1, 1, 1)) == DIRECTION


@pytest.mark.parametrize(
    ("cases", "verdict"),
    [
        ([REPRODUCED, REPRODUCED], REPRODUCED),
        ([REPRODUCED, DIRECTION], DIRECTION),
        ([REPRODUCED, REPRODUCED, NOT_REPRODUCED], DIRECTION),
        ([REPRODUCED, NOT_REPRODUCED], NOT_REPRODUCED),
        ([DIRECTION, NOT_REPRODUCED, NOT_REPRODUCED], NOT_REPRODUCED),
    ],
)
def test_several_cases(cases: list[str], verdict: str) -> None:
    assert combined(cases) == verdict


def test_no_case_is_no_verdict() -> None:
    with pytest.raises(ClaimError, match="no verdict"):
        combined([])


# Readings


def test_a_gap_has_newcombes_interval() -> None:
    # Newcombe 1998, table II, (a): 56/70 less 48/80, his method 10.
    found = gap(wilson(56, 70), wilson(48, 80))
    assert found.value == pytest.approx(0.2)
    assert (found.low, found.high) == pytest.approx((0.0524, 0.3339), abs=1e-4)


def test_a_number_without_interval_counts_as_known() -> None:
    known = Interval(1.0, math.nan, math.nan, 1, 0.95)
    other = Interval(3.0, 2.5, 4.0, 9, 0.95)
    assert gap(other, known).ci == (1.5, 3.0)
    assert gap(known, other).ci == (-3.0, -1.5)
    assert gap(known, known).ci is None


def rows_of(query: Query, *lines: dict[str, object]) -> claims_core.Rows:
    """Rows with these values and keys."""
    store = samples.Made()
    for line in lines:
        keys = {k: v for k, v in line.items() if k not in ("value", "ends")}
        own = Query(query.chapter, query.metric, keys)
        store.put(own, samples.Wish(float(line["value"])))  # type: ignore[arg-type]
    return store.frames()


def test_a_query_wants_exactly_its_keys() -> None:
    query = Query("03_gpfq_sweeps", "m", {"bits": 4, "kind": ("a", "b")})
    rows = rows_of(
        query,
        {"bits": 4, "kind": "a", "value": 1},
        {"bits": 4, "kind": "b", "value": 2},
        {"bits": 4, "kind": "c", "value": 3},
        {"bits": 3, "kind": "a", "value": 4},
        {"bits": 4, "kind": "a", "more": 1, "value": 5},
    )
    found = query.select(rows)
    assert [row.found.value for row in found] == [1, 2]
    assert [row.label for row in found] == ["a", "b"]
    wide = Query("03_gpfq_sweeps", "m", {"bits": ANY, "kind": "a"})
    assert [row.label for row in wide.select(rows)] == ["bits 4", "bits 3"]
    none = Query("03_gpfq_sweeps", "m", {"bits": 5, "kind": ANY})
    with pytest.raises(MissingRowsError, match="'bits': 5"):
        none.select(rows)


def test_the_ends_of_a_number_turned_round_change_places() -> None:
    query = Query("03_gpfq_sweeps", "m", {"kind": "a"})
    store = samples.Made()
    store.put(query, samples.Wish(-20.0, 10.0, 5.0))
    (case,) = Value(query, scale=-1.0).cases(store.frames())
    assert (case.low, case.value, case.high) == (15.0, 20.0, 30.0)


def test_pairs_share_what_both_leave_open() -> None:
    first = Query("03_gpfq_sweeps", "m", {"kind": "a", "bits": ANY})
    second = Query("03_gpfq_sweeps", "m", {"kind": "b", "bits": ANY})
    rows = rows_of(
        first,
        {"kind": "a", "bits": 2, "value": 6},
        {"kind": "a", "bits": 3, "value": 9},
        {"kind": "a", "bits": 4, "value": 7},
        {"kind": "b", "bits": 3, "value": 3},
        {"kind": "b", "bits": 2, "value": 4},
    )
    values = [case.value for case in Gap(first, second).cases(rows)]
    assert values == [2, 6]
    values = [case.value for case in Ratio(first, second).cases(rows)]
    assert values == [1.5, 3]
    (case,) = Ratio(second, 32.0, saving=True).cases(
        rows_of(second, {"kind": "b", "bits": 4, "value": 8})
    )
    assert case.value == 75


# The ledger


def test_there_are_enough_claims_and_few_that_nobody_can_decide() -> None:
    assert 30 <= len(CLAIMS) <= 60
    open_ones = [asked for asked in CLAIMS.values() if asked.reason]
    assert len(open_ones) <= len(CLAIMS) / 10
    assert all(":" not in id and " " not in id for id in CLAIMS)


@pytest.mark.parametrize("asked", CLAIMS.values(), ids=list(CLAIMS))
def test_no_result_is_typed(asked: Claim) -> None:
    for text in (asked.title, asked.test, asked.reason):
        assert result_like_numbers(text) == []
    for part in asked.parts:
        assert result_like_numbers(part.label) == []


@pytest.mark.parametrize("asked", READ, ids=by_id)
def test_chapters_record_what_a_claim_reads(asked: Claim) -> None:
    recorded = {line[1:] for line in recorded_rows.known()}
    for part in asked.parts:
        for query in part.reading.queries:
            names = " ".join(query.names)
            assert (query.chapter, query.metric, names) in recorded


@pytest.mark.parametrize("asked", READ, ids=by_id)
def test_reference_rows_have_the_values_that_a_claim_asks_for(
    asked: Claim,
) -> None:
    rows = claims.reference()
    for part in asked.parts:
        for query in part.reading.queries:
            frame = rows[query.chapter]
            if frame is None or query.metric not in set(frame["metric"]):
                continue  # not run yet, or run before this was recorded
            part.reading.cases(rows)


def headings(chapter: str) -> list[str]:
    text = (ROOT / "notebooks" / f"{chapter}.py").read_text("utf-8")
    return re.findall(r"(?m)^# #+ (.+)$", text)


def test_sections_are_in_their_chapters() -> None:
    places = [(asked.chapter, asked.section) for asked in CLAIMS.values()]
    places += [section for place in PLACES for section in place.sections]
    for chapter, section in places:
        # A heading that is there twice has a number in its second id.
        assert headings(chapter).count(section) == 1, (chapter, section)


@pytest.mark.parametrize("document", PLACES_PRINTED)
def test_every_table_and_figure_has_a_line(document: str) -> None:
    lines = [place.where for place in PLACES if place.document == document]
    assert sorted(lines) == sorted(PLACES_PRINTED[document])
    tables = {
        where
        for where in published(document)["where"]
        if where.startswith(("table", "figure")) or "graph" in where
    }
    assert tables <= set(lines)


def test_lines_point_to_claims_of_their_source() -> None:
    for place in PLACES:
        assert place.claims or place.sections
        for id in place.claims:
            assert CLAIMS[id].document == place.document


def test_ids_differ_from_those_of_the_errata() -> None:
    assert not {f"claim-{id}" for id in CLAIMS} & {
        f"erratum-{id}" for id in ERRATA
    }


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"id": "report-drop"}, "taken"),
        ({"document": "peers"}, "none of the three"),
        ({"sign": 0}, "choose 1 or -1"),
        ({"reason": "because"}, "give parts"),
        ({"parts": ()}, "give parts"),
    ],
)
def test_a_bad_claim_is_refused(more: dict[str, object], message: str) -> None:
    fields = vars(made()) | {"id": "new"} | more
    parts = fields.pop("parts")
    with pytest.raises(ClaimError, match=message):
        claims_core.claim(
            *(
                fields.pop(name)
                for name in (
                    "id",
                    "document",
                    "where",
                    "title",
                    "test",
                    "chapter",
                    "section",
                )
            ),
            *parts,  # type: ignore[misc]
            **fields,
        )
    assert "new" not in CLAIMS


def test_a_number_needs_all_its_keys() -> None:
    found = number(
        "quantnet_thesis", "table 4.7", "memory reduction", bits="fp,1,2,2"
    )
    assert found.shown() == found.text == "15.87"
    less = found - Number(5.87, "5.87")
    assert less.shown() == "15.87 − 5.87 = 10"
    with pytest.raises(PublishedError, match="give every key"):
        number("quantnet_thesis", "table 4.7", "memory reduction")


# The page


def test_page_and_summary_are_what_the_claims_write() -> None:
    assert claims.main(["--check"]) == 0, "run python -m lq_utils.claims"
    text = claims.PAGE.read_text(encoding="utf-8")
    for asked in CLAIMS.values():
        assert f"(claim-{asked.id})=" in text
        assert section_link(asked.chapter, asked.section) in text


def test_an_outdated_page_is_noticed(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, path in (("PAGE", claims.PAGE), ("FRONT", claims.FRONT)):
        old = tmp_path / path.name
        text = path.read_text(encoding="utf-8")
        old.write_text(text.replace("not yet run", "by hand"), "utf-8")
        monkeypatch.setattr(claims, name, old)
    assert claims.main(["--check"]) == 1
    said = capsys.readouterr().err
    assert "claims.md" in said and "intro.md" in said
    assert claims.main([]) == 0
    assert claims.main(["--check"]) == 0
    assert claims.main(["--wrong"]) == 2


def test_the_front_page_needs_its_markers() -> None:
    with pytest.raises(ClaimError, match="lacks the lines"):
        claims.front("# Book\n")


def test_new_rows_reach_page_and_summary() -> None:
    asked = CLAIMS["thesis-qat"]
    before, rows = claims.page({}), samples.held(asked)
    after = claims.page(rows)
    assert f"**Verdict: {REPRODUCED}.**" not in before
    assert after.count(f"**Verdict: {REPRODUCED}.**") == 1
    assert "run 04 --profile full" in before
    assert "| QuantNET thesis | 1 | 0 | 0 |" in claims.summary(rows)
    entry = claims.entry(asked, rows)
    assert "To run" not in entry and "smoke profile, made" in entry


def test_images_that_the_book_draws_decide_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claims, "REFERENCE", tmp_path)
    made_rows = samples.held(CLAIMS["thesis-hybrid-xnor"])
    ((name, frame),) = made_rows.items()
    assert frame is not None
    for rung, verdict in (("synthetic", NOT_RUN), ("official", REPRODUCED)):
        (tmp_path / name).mkdir(exist_ok=True)
        path = tmp_path / name / "rows.csv"
        frame.assign(rung=rung).to_csv(path, index=False)
        found = find(CLAIMS["thesis-hybrid-xnor"], claims.reference())
        assert found.verdict == verdict


def test_one_network_is_called_one() -> None:
    asked = CLAIMS["thesis-hybrid-xnor"]
    rows = samples.held(asked)
    (name,) = rows
    frame = rows[name]
    assert frame is not None
    assert "(n = 1,000 networks)" in claims.entry(asked, rows)
    alone = {name: frame.assign(n=pd.array([1] * len(frame), dtype="Int64"))}
    assert "(one network)" in claims.entry(asked, alone)


def test_headings_become_ids() -> None:
    assert heading_id("Is it a good summary?") == "is-it-a-good-summary"
    assert heading_id("The report's five pairs") == "the-reports-five-pairs"
