"""The file of kept cells: names of columns once a cell."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lq_utils import kept_cells
from lq_utils.cache import CacheError
from lq_utils.kept_cells import KeptCells


@given(
    st.lists(
        st.dictionaries(
            st.sampled_from(["task", "hits", "scale"]),
            st.none() | st.integers() | st.text(max_size=3),
        )
    )
)
def test_rows_without_names_are_the_same_rows(
    rows: list[dict[str, Any]],
) -> None:
    columns, short = kept_cells.without_names(rows)
    kept = json.loads(json.dumps({"columns": columns, "rows": short}))
    again = kept_cells.with_names(**kept)
    assert json.dumps(again) == json.dumps(rows)  # in the same order, too


@pytest.fixture
def reference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(kept_cells, "REFERENCE", tmp_path)
    return tmp_path


def sweep_of(bits: int) -> KeptCells:
    """As a run opens the file, for the cells of one key."""
    return KeptCells("some", {"bits": bits}, ["the code"])


def test_what_another_run_added_meanwhile_stays(reference: Path) -> None:
    rows = '[{"hits": 1}]'
    first, second = sweep_of(3), sweep_of(3)  # both see an empty file
    first.put({"seed": 0}, rows, 1.0)
    second.put({"seed": 1}, rows, 2.0)
    first.put({"seed": 2}, rows, 3.0)
    first.put({"seed": 2}, '[{"hits": 9}]', 3.0)  # kept once
    lines = (reference / "cells" / "some.jsonl").read_text().splitlines()
    assert [json.loads(line)["seconds"] for line in lines] == [1, 2, 3]
    again = sweep_of(3)
    assert [again.get({"seed": n}) for n in range(4)] == [rows] * 3 + [None]
    assert sweep_of(4).get({"seed": 0}) is None


def test_a_folder_of_cells_that_cannot_be_made(reference: Path) -> None:
    (reference / "cells").touch()
    with pytest.raises(CacheError, match="make room, and the same call"):
        sweep_of(3).put({"seed": 0}, "[]", 1.0)
