"""Claims of the label-aware report on classes and subsets."""

from __future__ import annotations

from functools import partial

from lq_utils.claims_core import (
    PAIRS,
    REPORT,
    Part,
    claim,
    number,
)
from lq_utils.claims_readings import Gap, Query, Value
from lq_utils.errata_core import DERIVED

DISTANCES, SUBSET_RULES = "01_class_distances", "02_subset_generation"
one, two = (partial(Query, name) for name in (DISTANCES, SUBSET_RULES))
FIVE = (
    "boy/girl",
    "bee/butterfly",
    "girl/woman",
    "otter/seal",
    "crab/lobster",
)

claim(
    "report-close-pairs",
    REPORT,
    "section 3.2, figure 1",
    "The five pairs of figure 1 are among the closest",
    "Each pair's rank, as a share of all pairs, is below two per cent.",
    DISTANCES,
    "The report's five pairs",
    Part(Value(one("report_pair_rank", {"pair": FIVE}), 100, part_of_n=True)),
    bound=2.0,
    sign=-1,
    exact=True,
    basis=PAIRS,
    unit="% of all pairs",
)
claim(
    "report-pair-distances",
    REPORT,
    "figure 1",
    "Their divergences are as printed",
    "Each is below the median of the authors' whole matrix, and within a "
    "hundredth of a nat of the printed one.",
    DISTANCES,
    "The report's five pairs",
    *(
        Part(
            Value(one("report_pair_distance", {"pair": pair})),
            number(
                REPORT,
                "figure 1",
                "symmetric KL divergence",
                pair=pair,
                row=row,
            ),
            pair,
        )
        for row, pair in enumerate(FIVE)
    ),
    bound=number(
        DERIVED, "KL matrix", "symmetric KL divergence", statistic="median"
    ).value,
    sign=-1,
    tolerance=0.01,
    exact=True,
    basis=PAIRS,
    unit="nat",
    digits=3,
)
claim(
    "report-umap-global",
    REPORT,
    "section 2.2",
    "UMAP keeps local and global structure",
    "Rank correlation of distances between the two most different seeds, "
    "and with the same divergence off the map: both above nine tenths.",
    DISTANCES,
    "How much of this is the seed?",
    Part(Value(one("umap_seed_spearman_lowest", {})), label="between seeds"),
    Part(
        Value(one("spearman_with_map", {"method": "symmetric_kl"})),
        label="with distances off the map",
    ),
    bound=0.9,
    exact=True,
    basis="values",
    unit="rank correlation",
)
claim(
    "report-skewed",
    REPORT,
    "section 3.2, figure 2",
    "Distances within each subset are highly skewed",
    "The share of subsets with a skewness above one is more than half "
    "(the report says *each*, which is more).",
    SUBSET_RULES,
    "Is the median a good summary?",
    Part(Value(two("share_of_skewed_subsets", {}), share=True)),
    bound=0.5,
    basis="subsets; one map",
    unit="of the subsets",
)
claim(
    "report-median",
    REPORT,
    "section 3.2",
    "The median is the better summary of a subset",
    "Leaving out one class moves the mean by more than the median.",
    SUBSET_RULES,
    "Is the median a good summary?",
    Part(
        Gap(
            two("leave_one_out_change", {"summary": "mean"}),
            two("leave_one_out_change", {"summary": "median"}),
            100,
        )
    ),
    exact=True,
    basis="classes left out; one map",
)
