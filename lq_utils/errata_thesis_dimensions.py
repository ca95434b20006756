"""Errata of the QuantNET thesis: dimensions and significant layers."""

from __future__ import annotations

from itertools import pairwise

from lq_utils.errata_core import (
    THESIS,
    Comparison,
    Finding,
    Numbers,
    Printed,
    claim,
    erratum,
    show,
)

LAYERS = ("input", "conv1", "conv2", "linear1", "linear2")
CHANNELS = dict(zip(LAYERS, (3, 32, 64, 128, 16)))


def _dimensions(
    numbers: Numbers, method: str, domain: str = "source"
) -> list[Printed]:
    return [
        numbers(
            THESIS,
            "table 4.6",
            "intrinsic dimension",
            domain=domain,
            layer=layer,
            method=method,
        )
        for layer in LAYERS
    ]


def _steps(values: list[Printed]) -> dict[str, float]:
    """Change of the dimension at each hidden layer, with its sign."""
    return {
        layer: float(after - before)
        for layer, before, after in zip(LAYERS[1:], values, values[1:])
    }


def _above(steps: dict[str, float], threshold: float) -> str:
    chosen = [layer for layer, step in steps.items() if step > threshold]
    return ", ".join(chosen) if chosen else "none"


@erratum(
    "thesis-criteria",
    THESIS,
    "section 4.2.5 and figure 4.6",
    "Two criteria in one comparison",
)
def criteria(numbers: Numbers) -> Finding:
    threshold = numbers(THESIS, "section 4.2.5", "significance threshold")
    signed = _steps(_dimensions(numbers, "PCA"))
    absolute = {layer: abs(step) for layer, step in signed.items()}
    two = _steps(_dimensions(numbers, "TwoNN"))
    chosen = _above({k: abs(v) for k, v in two.items()}, threshold)
    how = f"steps above {show(threshold)} in table 4.6, source domain"
    return Finding(
        "TwoNN is judged by the size of a step, PCA by its signed value. With "
        "the same criterion for both, PCA also marks the last hidden layer, "
        "and each method marks one layer that the other does not.",
        [
            claim(
                "PCA, signed steps",
                "conv2",
                _above(signed, threshold),
                how,
                agrees=_above(signed, threshold) == "conv2",
                misprint=False,
            ),
            claim(
                "PCA, steps without sign",
                "conv2",
                _above(absolute, threshold),
                how,
                agrees=_above(absolute, threshold) == "conv2",
            ),
            claim(
                "TwoNN, steps without sign",
                "linear1, linear2",
                chosen,
                how,
                agrees=chosen == "linear1, linear2",
                misprint=False,
            ),
        ],
    )


@erratum(
    "thesis-starred",
    THESIS,
    "table 4.6",
    "TwoNN with a star, never defined",
)
def starred(numbers: Numbers) -> Finding:
    threshold = numbers(THESIS, "section 4.2.5", "significance threshold")
    comparisons: list[Comparison] = []
    for domain in ("source", "target"):
        steps = _steps(_dimensions(numbers, "TwoNN*", domain))
        largest = max(abs(step) for step in steps.values())
        comparisons.append(
            claim(
                f"largest step, {domain} domain",
                f"above {show(threshold)} in some layer",
                show(largest, 2),
                "largest change between layers in table 4.6",
                agrees=largest > threshold,
            )
        )
    return Finding(
        "The column is not explained. By its values no layer would count as "
        "significant at the thesis's threshold.",
        comparisons,
    )


@erratum(
    "thesis-hunchback",
    THESIS,
    "section 4.2.5",
    "Not all three profiles rise once and fall once",
)
def hunchback(numbers: Numbers) -> Finding:
    comparisons = []
    for method in ("PCA", "TwoNN", "TwoNN*"):
        values = _dimensions(numbers, method)
        signs = [step > 0 for step in _steps(values).values()]
        turns = sum(a != b for a, b in pairwise(signs))
        top = LAYERS[values.index(max(values))]
        comparisons.append(
            claim(
                f"{method}: turns of the profile",
                "1",
                f"{turns}, highest at {top}",
                "table 4.6, source domain",
                agrees=turns == 1,
                misprint=method == "TwoNN*",
            )
        )
    return Finding(
        "The text says that all three methods show the profile of "
        "{cite:t}`ansuini2019intrinsic`, which rises and then falls. The "
        "starred one falls, rises again and peaks at another layer.",
        comparisons,
    )


@erratum(
    "thesis-objects",
    THESIS,
    "table 4.6",
    "PCA and TwoNN look at different objects",
)
def objects(numbers: Numbers) -> Finding:
    comparisons = []
    for method in ("PCA", "TwoNN"):
        values = dict(zip(LAYERS, _dimensions(numbers, method)))
        fits = all(values[name] <= CHANNELS[name] for name in LAYERS)
        comparisons.append(
            claim(
                f"{method}: no value exceeds the number of channels",
                "same object for both",
                "yes" if fits else f"no, {values['input'].text} at the input",
                "table 4.6 against the channels of each layer",
                agrees=not fits,
                misprint=method == "PCA",
            )
        )
    return Finding(
        "The text flattens a layer's output for TwoNN, so that all positions "
        "count. The PCA values never exceed the number of channels, as they "
        "would for pixels as samples and channels as variables. If that is "
        "how they were made, and nothing else explains them well, the two "
        "columns do not measure the same thing.",
        comparisons,
    )


@erratum(
    "thesis-pipeline-size",
    THESIS,
    "section 3.4 and table 4.8",
    "A file smaller than a layer in it",
)
def pipeline_size(numbers: Numbers) -> Finding:
    printed = numbers(
        THESIS,
        "table 4.8",
        "model size",
        set_up="TwoNN, cluster-preserving QAT",
    )
    layer = 4096 * 128 / 2**20  # one byte for each weight, in MiB
    return Finding(
        "By section 3.4 the weights of insignificant layers are clustered, "
        "and by figure 4.7 the first linear layer is significant. Without "
        "clusters, at eight bits, it alone is larger than the whole file. So "
        "significant layers had few values as well, or the file is of another "
        "network.",
        [
            claim(
                "first linear layer at eight bits (MB)",
                f"at most {printed.text}, the whole file",
                show(layer, 2),
                "4096 times 128 weights, a byte each",
                agrees=layer <= printed,
            )
        ],
    )
