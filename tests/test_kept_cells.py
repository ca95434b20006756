"""The file of kept cells: names of columns once a cell."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from lq_utils import kept_cells


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
