"""Numbers printed in the sources, and figures derived from the authors' files.

Every row names its document and its table, figure or section. The tidy
files lie in ``data/published/``; chapters and the errata page only look up.

    python -m lq_utils.published FOLDER

recomputes ``label_aware_derived.csv`` from the files that the authors of the
label-aware report published (they have no licence, so only summaries of them
are kept here).
"""

from __future__ import annotations

import json
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any

import pandas as pd

from lq_utils.authors_files import (
    DERIVED,
    AuthorsFilesError,
    derive_label_aware,
    read_matrix,
)
from lq_utils.paths import PUBLISHED, atomic_write

__all__ = [
    "PublishedError",
    "derive_label_aware",
    "documents",
    "published",
    "published_row",
    "published_value",
    "read_matrix",
]


class PublishedError(LookupError):
    """A look-up of a published number that cannot be answered.

    Introduced in chapter 1.
    """


def documents() -> list[str]:
    """Names of the documents that have a file in ``data/published/``.

    Introduced in chapter 1.
    """
    return sorted(path.stem for path in PUBLISHED.glob("*.csv"))


def _read(document: str) -> pd.DataFrame:
    path = PUBLISHED / f"{document}.csv"
    if not path.is_file():
        raise PublishedError(
            f"no published numbers of {document!r}; "
            f"known documents: {', '.join(documents())}"
        )
    return _parse(path, path.stat().st_mtime_ns)


@lru_cache
def _parse(path: Path, changed: int) -> pd.DataFrame:
    """Read a file once for each time that it was ``changed``."""
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    table["keys"] = [json.loads(text) for text in table["keys"]]
    table["printed"] = table["value"]
    table["value"] = table["value"].astype(float)
    return table


def _matches(found: dict[str, Any], wanted: dict[str, Any]) -> bool:
    return all(
        key in found and found[key] == value for key, value in wanted.items()
    )


def _texts(keys: pd.Series) -> list[str]:
    return sorted({json.dumps(found, sort_keys=True) for found in keys})


def published(
    document: str,
    where: str | None = None,
    *,
    quantity: str | None = None,
    **keys: Any,
) -> pd.DataFrame:
    """Rows of a source as printed, narrowed by table, quantity and keys.

    Parameters
    ----------
    document
        ``label_aware_report``, ``bit_efficient_poster``,
        ``quantnet_thesis``, ``label_aware_derived`` or ``peers``.
    where
        Table, figure or section, for example ``"table 4.7"``.
    quantity
        What was printed, for example ``"test accuracy"``.
    **keys
        Values of the row's keys, for example ``task="cat/dog"``.

    Returns
    -------
    DataFrame
        Columns document, where, quantity, keys (a dict a row), value (float,
        in ``unit``), printed (the text, which keeps its digits), unit, note.

    Raises
    ------
    PublishedError
        The document, table, quantity or keys match no row.

    Introduced in chapter 1.
    """
    table = _read(document)
    for column, wanted in (("where", where), ("quantity", quantity)):
        if wanted is None:
            continue
        known = sorted(set(table[column]))
        table = table[table[column] == wanted]
        if table.empty:
            raise PublishedError(
                f"{document} has no {column} {wanted!r}; "
                f"known there: {', '.join(known)}"
            )
    chosen = table[[_matches(found, keys) for found in table["keys"]]]
    if chosen.empty:
        raise PublishedError(
            f"no row of {document} (where={where!r}, quantity={quantity!r}) "
            f"has the keys {keys}; keys there: {_texts(table['keys'])}"
        )
    chosen = chosen.reset_index(drop=True)
    # The parsed file is shared between calls: give out copies of its dicts.
    return chosen.assign(keys=[dict(found) for found in chosen["keys"]])


def published_row(
    document: str, where: str, quantity: str, **keys: Any
) -> pd.Series:
    """The one row of a source at a place; columns as ``published``.

    The keys must be complete: a row that has further keys does not count.

    Raises
    ------
    PublishedError
        No row, or more than one, fits.

    Introduced in chapter 1.
    """
    rows = published(document, where, quantity=quantity, **keys)
    rows = rows[[found == keys for found in rows["keys"]]]
    if len(rows) != 1:
        raise PublishedError(
            f"{len(rows)} rows of {document}, {where}, {quantity!r} have "
            f"exactly the keys {keys}; give every key of the row you mean"
        )
    return rows.iloc[0]


def published_value(
    document: str, where: str, quantity: str, **keys: Any
) -> float:
    """The one number a source prints at a place, in the row's unit.

    Keys and errors are those of ``published_row``.

    Raises PublishedError.

    Introduced in chapter 1.
    """
    return float(published_row(document, where, quantity, **keys)["value"])


def main(arguments: list[str] | None = None) -> int:
    """Write ``data/published/label_aware_derived.csv``; the exit status.

    Introduced in chapter 1.
    """
    given = sys.argv[1:] if arguments is None else arguments
    if len(given) != 1:
        print("usage: python -m lq_utils.published FOLDER", file=sys.stderr)
        return 2
    try:
        table = derive_label_aware(given[0])
    except AuthorsFilesError as error:
        print(error, file=sys.stderr)
        return 1
    target = PUBLISHED / f"{DERIVED}.csv"
    with atomic_write(target) as temporary:
        table.to_csv(temporary, index=False, lineterminator="\n")
    print(f"{len(table)} rows written to data/published/{target.name}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
