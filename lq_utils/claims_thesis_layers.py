"""Claims of the QuantNET thesis on dimensions of layers."""

from __future__ import annotations

from functools import partial

from lq_utils.claims_core import NETWORKS, THESIS, Part, claim
from lq_utils.claims_readings import Query, Value

DIMENSIONS = "05_twonn_vs_pca"
five = partial(Query, DIMENSIONS)


def _says(
    id: str, where: str, title: str, section: str, **statements: str
) -> None:
    """Statements of section 4.2.5, true or false of each network.

    ``statements``: the chapter's words for each, by what they are about.
    """
    claim(
        id,
        THESIS,
        where,
        title,
        "The share of trained networks of which it is true is above one half.",
        DIMENSIONS,
        section,
        *(
            Part(Value(five("agreement", {"statement": text})), label=name)
            for name, text in statements.items()
        ),
        bound=0.5,
        basis=NETWORKS,
        unit="of the networks",
    )


_says(
    "thesis-hunchback",
    "section 4.2.5, figure 3.3, table 4.6",
    "Dimensions rise and then fall, by TwoNN and by PCA",
    "Profiles of QuantNET",
    TwoNN="hunchback by TwoNN: rises, then falls",
    PCA="hunchback by PCA (99 %, channels)",
)
_says(
    "thesis-significance",
    "section 4.2.5, figures 4.6 and 4.7",
    "By TwoNN conv2 is the least significant layer, linear1 the most",
    "Significant layers",
    conv2="conv2 changes the dimension least",
    linear1="linear1 changes it most",
)
_says(
    "thesis-domains",
    "section 4.2.5, table 4.6",
    "Dimensions of source and target differ by less than a tenth",
    "Table 4.6",
    layers="source and target within 10 % in each layer",
)
claim(
    "thesis-starred",
    THESIS,
    "table 4.6",
    "TwoNN* shows the same trend",
    "Nothing: the method is not defined.",
    DIMENSIONS,
    "What TwoNN* may have been",
    reason="The thesis never says what TwoNN* is. The chapter tries several "
    "readings; which of them is near its column decides nothing about a "
    "claim on a method that nobody knows.",
)
claim(
    "thesis-training-cost",
    THESIS,
    "abstract",
    "The method minimizes the computations of training",
    "Nothing: no computation is counted.",
    "04_compression_comparison",
    "What a picture costs",
    reason="The thesis counts no computation and no time of training, for "
    "any method, and says nothing to compare with. Its pipeline trains "
    "further than the base network does.",
)
