"""The sweeps of a large network: which cells, on what, what is pending."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd
from torch import nn

from lq_utils import label_aware as la
from lq_utils import large_cells as lc
from lq_utils.data_free_study import float_cells, scheme_cells
from lq_utils.fingerprints import digest
from lq_utils.images import Splits
from lq_utils.label_aware import Classes
from lq_utils.large_networks import LargeNetwork
from lq_utils.study import own_cells, shared_cells
from lq_utils.sweeps import pending_cells, sweep

GRANULARITIES = ("tensor", "channel")


@dataclass(frozen=True)
class Sweep:
    """Cells of one function, with what they share.

    Introduced in chapter 3.
    """

    name: str
    function: Callable[..., Any]
    cells: list[dict[str, Any]]
    shared: Mapping[str, Any]
    key: Mapping[str, Any]

    def pending(self) -> list[dict[str, Any]]:
        """The cells whose rows are not stored."""
        return pending_cells(
            self.name, self.function, self.cells, key=self.key, code=lc.CODE
        )

    def rows(self, workers: int) -> pd.DataFrame:
        """The rows of all cells; stored ones are not computed again.

        Raises SweepError where cells failed; the others are stored.
        """
        return sweep(
            self.name,
            self.function,
            self.cells,
            shared=self.shared,
            key=self.key,
            code=lc.CODE,
            n_jobs=workers,
        )


@dataclass(frozen=True)
class Material:
    """What the sweeps of a large network work on.

    ``network`` is trained, on the CPU; ``device`` where images pass;
    ``subsets`` the classes of each subset.

    Introduced in chapter 3.
    """

    settings: LargeNetwork
    network: nn.Module
    splits: Splits
    subsets: tuple[Classes, ...]
    device: str
    seed: int = 0

    @property
    def few(self) -> tuple[Classes, ...]:
        """The subsets of the costly cells: all kinds by turns."""
        return self.subsets[: self.settings.subsets.few_subsets]


def label_aware_sweeps(of: Material) -> dict[str, Sweep]:
    """Chapter 3's: "original", "quantized" and "fine-tuned".

    Test images judge. Raises DataError for more test images a class than
    there are. Introduced in chapter 3.
    """
    study = of.settings.subsets
    held_out = of.splits.test.per_class(study.test_per_class, of.seed)
    data = of.splits.provenance.fingerprint
    shared = {
        "network": of.network,
        "train": of.splits.train,
        "held_out": held_out,
        "device": of.device,
    }
    key = {
        "network": digest(of.network),
        "train": data,
        "held_out": [data, digest(held_out.images)],
        "device": of.device.partition(":")[0],
    }
    names = ("network", "held_out", "device")
    return {
        "original": Sweep(
            "network_original",
            lc.original_rows,
            [{"tested": of.subsets}],
            {name: shared[name] for name in names},
            {name: key[name] for name in names},
        ),
        "quantized": Sweep(
            "network_quantized",
            lc.quantized_rows,
            _quantized_cells(of),
            shared,
            key,
        ),
        "fine-tuned": Sweep(
            "network_fine_tuned",
            lc.fine_tuned_rows,
            _tuned_cells(of),
            shared,
            key,
        ),
    }


def _quantized_cells(of: Material) -> list[dict[str, Any]]:
    study, draws = of.settings.subsets, [of.seed]
    published, book = la.settings("published"), la.settings("book")
    plan = study.bits, of.subsets, study.images, draws
    cells = own_cells("published", published, *plan, others=True)
    cells += shared_cells(
        "published",
        published,
        study.bits,
        of.subsets,
        {"all": study.images},
        draws,
    )
    few = study.book_bits, of.few, study.images, draws
    return cells + own_cells("book", book, *few)


def _tuned_cells(of: Material) -> list[dict[str, Any]]:
    study = of.settings.subsets
    common = {
        "settings": la.settings("published"),
        "bits": study.bits,
        "images": study.images,
        "draw": of.seed,
        "steps": study.tune_steps,
        "learning_rate": study.tune_rate,
    }
    return [common | {"classes": classes} for classes in of.few]


def data_free_sweeps(of: Material) -> dict[str, Sweep]:
    """Chapter 7's: "float" and "rounded", judged by all test images.

    Introduced in chapter 7.
    """
    label, plan = of.settings.name, of.settings.rounding
    parts = {"train": of.splits.train, "test": of.splits.test}
    shared = {
        "networks": {label: of.network},
        "parts": {label: parts},
        "device": of.device,
    }
    key = {
        "networks": digest(of.network),
        "parts": of.splits.provenance.fingerprint,
        "device": of.device.partition(":")[0],
    }
    subsets = {label: of.subsets}
    cells = scheme_cells(
        [label], plan.bits, plan.quantizers, GRANULARITIES, subsets=subsets
    )
    for correction, images in (("batch norm", 0), ("images", plan.images)):
        cells += scheme_cells(
            [label],
            plan.few_bits,
            plan.quantizers,
            GRANULARITIES,
            correction=correction,
            images=images,
            draw=of.seed,
        )
    floats = float_cells([label], subsets=subsets)
    return {
        "float": Sweep("network_schemes", lc.scheme_rows, floats, shared, key),
        "rounded": Sweep(
            "network_schemes", lc.scheme_rows, cells, shared, key
        ),
    }
