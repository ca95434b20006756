"""Every table and figure of the sources, and what answers it."""

from __future__ import annotations

from dataclasses import dataclass

from lq_utils.claims_core import POSTER, REPORT, THESIS


@dataclass(frozen=True)
class Place:
    """A table or figure: its number, what it shows, and what answers it.

    ``claims`` are ids of the ledger, ``sections`` pairs of a chapter and a
    heading in it.

    Introduced on the page of claims.
    """

    document: str
    where: str
    shows: str
    claims: tuple[str, ...] = ()
    sections: tuple[tuple[str, str], ...] = ()


_FOUR = "04_compression_comparison"
_FIVE, _SIX = "05_twonn_vs_pca", "06_quantnet_hybrid"
_SEVEN, _TEN = "07_data_free_quantizers", "10_class_clustering"

PLACES = (
    Place(
        REPORT,
        "figure 1",
        "five of the closest pairs of classes",
        ("report-close-pairs", "report-pair-distances"),
    ),
    Place(
        REPORT,
        "figure 2",
        "skewness of distances within subsets",
        ("report-skewed", "report-median"),
    ),
    Place(
        REPORT,
        "figure 3",
        "accuracy of original, quantized and fine-tuned ResNet-50 by subset",
        (
            "report-drop",
            "report-original-higher",
            "report-fine-tuned",
            "report-distance-accuracy",
            "report-distance-drop",
            "report-resnet50",
        ),
    ),
    Place(
        POSTER,
        "quartile figure",
        "quartiles of tensors under each quantizer",
        ("poster-mean-range",),
        ((_SEVEN, "What rounding does to the weights"),),
    ),
    Place(
        POSTER,
        "clustering figure",
        "answers of ResNet-18 at four bits",
        ("poster-bias", "poster-clusters"),
        ((_SEVEN, "Biased inference"),),
    ),
    Place(
        POSTER,
        "table 1",
        "accuracy and size after rounding, three networks",
        (
            "poster-8-bits",
            "poster-4-bits",
            "poster-size-saving",
            "poster-backbone",
            "poster-detectors",
        ),
    ),
    Place(
        POSTER,
        "table 2",
        "accuracy and size after training with powers of two",
        ("poster-trained-loss", "poster-detectors"),
    ),
    Place(
        POSTER,
        "table 3",
        "sizes by gzip and 7-Zip at six bits",
        ("poster-7zip",),
        ((_TEN, "The poster's third table"),),
    ),
    Place(
        POSTER,
        "architecture graph",
        "accuracy by bits for networks of ImageNet",
        ("poster-architecture", "poster-imagenet-limit"),
        ((_SEVEN, "The bit limit"),),
    ),
    Place(
        THESIS,
        "table 4.1",
        "ranges of settings, and the best ones",
        sections=((_FOUR, "Tuning"),),
    ),
    Place(
        THESIS,
        "table 4.2",
        "quantization schemes: accuracy and size",
        (
            "thesis-base",
            "thesis-int8",
            "thesis-qat",
            "thesis-sizes",
            "thesis-qat-size",
        ),
    ),
    Place(
        THESIS,
        "table 4.3",
        "the same after transfer",
        ("thesis-transfer",),
        ((_FOUR, "Transfer"),),
    ),
    Place(
        THESIS,
        "table 4.4",
        "clustered networks: accuracy and size",
        ("thesis-clusters", "thesis-preserving", "thesis-factors"),
    ),
    Place(
        THESIS,
        "table 4.5",
        "distinct weights, with clusters lost and kept",
        ("thesis-preserving", "thesis-factors"),
        ((_FOUR, "Clusters"),),
    ),
    Place(
        THESIS,
        "table 4.6",
        "dimensions of layers by three methods",
        ("thesis-hunchback", "thesis-domains", "thesis-starred"),
        ((_FIVE, "Table 4.6"),),
    ),
    Place(
        THESIS,
        "table 4.7",
        "plans of mixed precision: accuracy and memory",
        (
            "thesis-twonn-right",
            "thesis-hybrid-xnor",
            "thesis-hybrid-marginal",
            "thesis-memory",
        ),
    ),
    Place(
        THESIS,
        "table 4.8",
        "the proposed pipelines beside the best of all others",
        ("thesis-proposed", "thesis-proposed-size"),
    ),
    Place(
        THESIS,
        "figure 2.1",
        "quantization-aware training, a drawing",
        sections=((_FOUR, "Round while training"),),
    ),
    Place(
        THESIS,
        "figure 2.2",
        "integer products with float activations, a drawing",
        sections=((_FOUR, "Networks and files"),),
    ),
    Place(
        THESIS,
        "figure 2.3",
        "pruning of weights and of neurons, a drawing",
        sections=((_FOUR, "Leave out"),),
    ),
    Place(
        THESIS,
        "figure 2.4",
        "clustering of weights, a drawing",
        sections=((_FOUR, "Share values"),),
    ),
    Place(
        THESIS,
        "figure 2.5",
        "Hybrid-Net by principal components, a drawing",
        sections=((_SIX, "Which layers are chosen"),),
    ),
    Place(
        THESIS,
        "figure 2.6",
        "how TwoNN estimates, a drawing",
        sections=((_FIVE, "Two neighbours are enough"),),
    ),
    Place(
        THESIS,
        "figure 3.1",
        "the architecture of QuantNET",
        sections=((_FOUR, "Tasks and network"),),
    ),
    Place(
        THESIS,
        "figure 3.2",
        "a hunchback profile, from a paper",
        sections=((_FIVE, "A deeper network"),),
    ),
    Place(
        THESIS,
        "figure 3.3",
        "QuantNET's dimensions, and the threshold",
        ("thesis-hunchback",),
        ((_FIVE, "Significant layers"),),
    ),
    Place(
        THESIS,
        "figure 3.4",
        "the flow of the proposed technique",
        sections=((_SIX, "Which layers are chosen"),),
    ),
    Place(
        THESIS,
        "figure 4.1",
        "a cat and a dog",
        sections=((_FOUR, "Tasks and network"),),
    ),
    Place(
        THESIS,
        "figure 4.2",
        "accuracy with one layer quantized",
        ("thesis-layers",),
    ),
    Place(
        THESIS,
        "figure 4.3",
        "accuracy after pruning",
        ("thesis-weights-units", "thesis-half"),
    ),
    Place(
        THESIS,
        "figure 4.4",
        "accuracy by the number of clusters",
        ("thesis-sixteen",),
    ),
    Place(
        THESIS,
        "figure 4.5",
        "cumulative variance of principal components",
        sections=((_FIVE, "Counting components"),),
    ),
    Place(
        THESIS,
        "figure 4.6",
        "significant layers after transfer",
        ("thesis-significance",),
        ((_FIVE, "Significant layers"),),
    ),
    Place(
        THESIS,
        "figure 4.7",
        "significant layers by both methods",
        ("thesis-significance", "thesis-twonn-pca"),
        ((_FIVE, "Significant layers"),),
    ),
)
