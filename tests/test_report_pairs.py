"""Look-ups of the report's pairs, and our ranks beside them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from lq_utils import report_pairs as report
from lq_utils.authors_files import AuthorsFilesError


def test_pair_ranks_cover_every_pair_once() -> None:
    matrix = np.array([[0, 3.0, 1], [3, 0, 2], [1, 2, 0]])
    ranks = report.pair_ranks(matrix, ["b", "a", "c"])
    assert ranks["rank"].to_dict() == {"b/c": 1, "a/c": 2, "a/b": 3}
    assert ranks.loc["a/b", "distance"] == 3.0


def test_printed_pairs_have_a_value_and_a_rank() -> None:
    printed = report.printed_pairs()
    assert len(printed) == 5
    # The printed values rise, and so do the ranks in the authors' matrix.
    assert printed["report"].is_monotonic_increasing
    assert printed["rank"].is_monotonic_increasing
    assert printed["rank"].iloc[0] == 1


def test_left_out_pairs_fill_the_gaps_between_the_ranks() -> None:
    ranks, printed = report.authors_ranks(), report.printed_pairs()
    both = [ranks[p] for p in report.left_out()] + list(printed["rank"])
    assert sorted(both) == list(range(1, printed["rank"].max() + 1))


def test_knows_report_classes() -> None:
    names = {n for p in report.printed_pairs()["pair"] for n in p.split("/")}
    assert report.knows_report_classes(sorted(names) + ["other"])
    assert not report.knows_report_classes(sorted(names)[1:])


def test_plausible_share_counts_superclass_and_authors_pairs() -> None:
    names = ["boy", "girl", "x", "y", "z"]
    groups = np.array([0, 1, 2, 2, 3])
    matrix = np.arange(1.0, 26).reshape(5, 5)
    matrix = matrix + matrix.T
    np.fill_diagonal(matrix, 0)
    # All ten pairs: x/y by superclass, boy/girl by the authors' list.
    assert report.plausible_share(matrix, names, groups) == pytest.approx(0.2)


def test_authors_matrix_is_put_in_our_order(tmp_path) -> None:
    order = ["a", "b", "c"]
    matrix = np.array([[0, 1.0, 2], [1, 0, 3], [2, 3, 0]])
    frame = pd.DataFrame(matrix, order, order)
    frame.to_csv(tmp_path / "label_aware_kl_matrix.csv")
    ours = report.authors_matrix(str(tmp_path), ["c", "a"])
    assert ours.tolist() == [[0, 2], [2, 0]]
    with pytest.raises(AuthorsFilesError, match="folder"):
        report.authors_matrix(str(tmp_path / "none"), order)
