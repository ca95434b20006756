"""Tables by task."""

from __future__ import annotations

import math
import re

import pandas as pd
import pytest

from lq_utils import figures, task_tables


def test_a_table_a_task_with_rows_counted_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bundles: list[dict[str, str]] = []
    monkeypatch.setattr(
        figures, "display", lambda bundle, raw: bundles.append(bundle)
    )
    frame = pd.DataFrame(
        {"task": ["cat/dog", "b", "cat/dog"], "x": [1, 2, 3], "y": 0}
    )
    task_tables.show_by_task(frame, "Scores", "scores", drop=["y"])
    first, second = (bundle["text/html"] for bundle in bundles)
    assert 'id="table-scores-cat-dog"' in first and "Scores: cat/dog." in first
    assert 'id="table-scores-b"' in second
    heads = re.findall(r"<th[^>]*>([^<]*)</th>", first)
    cells = re.findall(r"<td[^>]*>([^<]*)</td>", first)
    assert heads == ["x"] and cells == ["1", "3"]  # no index, no y


def test_no_rows_and_unknown_columns_are_refused() -> None:
    frame = pd.DataFrame({"task": ["a"], "x": [1]})
    with pytest.raises(ValueError, match="no rows"):
        task_tables.show_by_task(frame[:0], "Scores", "scores")
    with pytest.raises(KeyError):
        task_tables.show_by_task(frame, "Scores", "scores", drop=["z"])


def test_intervals_stand_beside_their_values() -> None:
    frame = pd.DataFrame(
        {
            "accuracy": [50.0, 61.234, math.nan],
            "accuracy_low": [math.nan, -1.0, math.nan],
            "accuracy_high": [math.nan, 70.0, math.nan],
            "low": [1, 2, 3],
        }
    )
    page = task_tables.with_intervals(frame, 1)
    assert page["accuracy"].tolist() == ["50.0", "61.2 [−1.0, 70.0]", "–"]
    assert list(page.columns) == ["accuracy", "low"]
