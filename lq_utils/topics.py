"""Topics: which module of the package is about what.

A module is listed under one topic, by its name or by a pattern such as
``errata*``. Topics are in the order in which they build on each other.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase


class TopicError(ValueError):
    """A module that has no topic, or more than one.

    Introduced on the API pages.
    """


@dataclass(frozen=True)
class Topic:
    """Modules that belong together: a page of the API, a box of the diagram.

    ``key`` names the page's file, ``modules`` holds names and patterns.

    Introduced on the API pages.
    """

    key: str
    title: str
    about: str
    modules: str

    def has(self, module: str) -> bool:
        """Whether a module is listed here, by name or by pattern."""
        words = self.modules.split()
        return any(fnmatchcase(module, word) for word in words)


TOPICS = (
    Topic(
        "files",
        "Files and caches",
        "Where things lie, results kept on disk, registries, the machine.",
        "paths cache registry sharing fingerprints machine packing "
        "peak_memory",
    ),
    Topic(
        "statistics",
        "Statistics",
        "Intervals, paired comparisons, correlations.",
        "intervals stats relations",
    ),
    Topic(
        "data",
        "Image data",
        "Real, own and drawn images, with their origin; splits; tasks.",
        "images data cifar layouts download folders splits rendering "
        "synthetic tasks safe_pickle",
    ),
    Topic(
        "models",
        "Networks and training",
        "Networks, their graph, training, answers, what an image costs.",
        "models quantnet backbones graph inference inference_cost weights "
        "recipes augmentation checkpoints training fine_tuning "
        "train_reference blocks layer_outputs bounded_models",
    ),
    Topic(
        "results",
        "Results",
        "Result rows, the sources' numbers, comparisons with a reference.",
        "results rows records published compare comparison tolerances "
        "two_runs parameters specs text_files profiles freshness "
        "authors_files",
    ),
    Topic(
        "figures",
        "Figures",
        "One look for all figures and tables; labels; diagrams.",
        "figures ink tables label_places maps interactive interactive_data "
        "interactive_pieces",
    ),
    Topic(
        "distances",
        "Distances and subsets",
        "How far classes are apart, and subsets chosen by it.",
        "distances gaussian twosample products nearest embeddings subsets "
        "coverage authors_study report_pairs class_clustering "
        "class_orthogonality",
    ),
    Topic(
        "dimension",
        "Intrinsic dimension",
        "Estimators of dimension, and what they say of layers.",
        "dimension gride components manifolds significance",
    ),
    Topic(
        "sweeps",
        "Sweeps",
        "Grids of cells, each computed once, on many workers.",
        "sweeps cells pools kept_cells engine",
    ),
    Topic(
        "grids",
        "Grids and scales",
        "The values that a quantized weight may take, and how wide they lie.",
        "alphabets grids scales scale_rules whole_range partitions",
    ),
    Topic(
        "solvers",
        "Solvers",
        "Which point of the grid each weight takes: rounding to GPTQ.",
        "solvers feedback gpfq gptq refine zero_dead grams shifts "
        "output_gap adaround",
    ),
    Topic(
        "plans",
        "Plans and calibration",
        "A row a layer, and one pass over both networks that follows it.",
        "plans plan_rows pairs activations walk lockstep calibration "
        "reconstruction layer_bounds layer_study wide",
    ),
    Topic(
        "compression",
        "Compression during training",
        "Parametrized weights: pruning, clusters, few bits, ONNX files.",
        "parametrizations stacks activation_quantization learned_step "
        "low_bit low_bit_activations low_bit_base low_bit_part "
        "compressed_training pruning unit_pruning clustering compression "
        "compression_checks scheme_registry simulated onnx_* short_training "
        "power_of_two hybrid_inputs",
    ),
    Topic(
        "artifact",
        "Artifacts",
        "Quantized networks in files, as small as they claim.",
        "artifact artifact_* codebooks code_sizes low_bit_storage",
    ),
    Topic(
        "binary",
        "Binary products",
        "Products of signs by XOR and population count.",
        "binary_*",
    ),
    Topic(
        "data_free",
        "Quantization without data",
        "Weights rounded without images, and what bias correction mends.",
        "data_free bias_shift weight_statistics",
    ),
    Topic(
        "precision",
        "Bits by layer",
        "Sensitivities, the exact allocation of bits, searches.",
        "bit_allocation plan_search curvature layer_rounding "
        "layer_sensitivity layer_significance sensitivity_base",
    ),
    Topic(
        "tasks",
        "Compression for a task",
        "A network for some classes only, in a budget of bytes.",
        "label_aware task_budget task_calibration task_compression "
        "task_models task_network task_plans task_settings",
    ),
    Topic(
        "studies",
        "Studies of the chapters",
        "The cells of each chapter's experiment.",
        "study study_networks data_free_study power_of_two_study "
        "method_comparison "
        "kept_networks compression_networks compression_study "
        "compression_curves compression_files dimension_study hybrid "
        "hybrid_pipelines hybrid_plans hybrid_study keras_search tuning "
        "quantnet_settings sensitivity_study task_study clustering_study "
        "clustering_inputs coarse_training size_study size_networks "
        "data_free_networks folder_networks "
        "prediction_bias bit_limits layer_sets",
    ),
    Topic(
        "reports",
        "Tables and verdicts",
        "What the rows of the studies say: tables, figures, verdicts.",
        "litert_rows subset_tables sweep_figures compression_figures "
        "compression_scores compression_sizes compression_tables "
        "dimension_claims dimension_figures dimension_tables hybrid_tables "
        "data_free_claims data_free_figures data_free_tables method_figures "
        "method_report method_tables sensitivity_figures sensitivity_report "
        "sensitivity_tables task_tables task_compression_figures "
        "task_compression_report task_compression_tables clustering_figures "
        "clustering_tables size_figures size_tables architecture_figures "
        "flow_figures claim_rows interactive_classes interactive_feedback "
        "interactive_neighbors interactive_plans interactive_rounding",
    ),
    Topic(
        "detection",
        "Detection",
        "Detectors rounded part by part, scenes, average precision.",
        "detection_* detector_* tiny_detector coco_detection "
        "average_precision",
    ),
    Topic(
        "large",
        "Large networks",
        "One resumable command a network, made for a GPU.",
        "large_* device_* network_command",
    ),
    Topic(
        "book",
        "The book",
        "Notebooks, pages that are made, errata, releases.",
        "notebooks exercises gates execution options runner page_record "
        "chapter_pages pages reference errata errata_* claims claims_* "
        "cluster_costs topics source_code docstrings "
        "api_page generated_pages layers architecture licences bootstrap "
        "release book_zip book_print",
    ),
    Topic(
        "commands",
        "Command line",
        "What python -m lq_utils does, and the environment.",
        "__main__ doctor compress_command compress_report",
    ),
)


def topic_of(module: str) -> Topic:
    """The topic of a module, such as ``"scales"``.

    Raises TopicError where the table has none or more than one.

    Introduced on the API pages.
    """
    found = [topic for topic in TOPICS if topic.has(module)]
    if len(found) != 1:
        which = ", ".join(topic.key for topic in found) or "no topic"
        raise TopicError(
            f"lq_utils/{module}.py has {which}: list it under one topic, in "
            "lq_utils/topics.py"
        )
    return found[0]


def by_topic(modules: Iterable[str]) -> dict[str, list[str]]:
    """Sorted modules of each topic that has any, by the topic's key.

    Raises TopicError as ``topic_of``.

    Introduced on the API pages.
    """
    found: dict[str, list[str]] = {topic.key: [] for topic in TOPICS}
    for module in sorted(modules):
        found[topic_of(module).key].append(module)
    return {key: names for key, names in found.items() if names}
