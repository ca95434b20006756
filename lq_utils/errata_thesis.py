"""Errata of the QuantNET thesis: sizes and counts."""

from __future__ import annotations

from lq_utils.errata_core import (
    THESIS,
    Comparison,
    Finding,
    Numbers,
    claim,
    erratum,
    number,
    show,
)

LAYERS = ("conv1", "conv2", "linear1", "linear2", "output")
# Inputs and outputs of each layer. Two 2 x 2 poolings and "same" padding,
# which the thesis does not state, are the only way to its layer sizes.
BIASES = dict(zip(LAYERS, (32, 64, 128, 16, 1)))
INPUTS = dict(zip(LAYERS, (3 * 3 * 3, 3 * 3 * 32, 8 * 8 * 64, 128, 16)))
KERNELS = {layer: INPUTS[layer] * BIASES[layer] for layer in LAYERS}
PARAMETERS = {layer: KERNELS[layer] + BIASES[layer] for layer in LAYERS}
TOTAL = sum(PARAMETERS.values())
MIB = 2**20


def _bits(configuration: str) -> dict[str, int]:
    """Bits of each layer from a row of table 4.7; the output stays full."""
    given = [*configuration.split(","), "fp"]
    return {
        layer: 32 if text == "fp" else int(text)
        for layer, text in zip(LAYERS, given)
    }


def _reduction(configuration: str, *, kernels_only: bool) -> float:
    """How much smaller the network gets, against 32 bits a parameter.

    With ``kernels_only`` the biases stay in 32 bits, and each quantized
    layer keeps one 32-bit scale.
    """
    total = 0
    for layer, bits in _bits(configuration).items():
        if kernels_only and bits < 32:
            total += bits * KERNELS[layer] + 32 * (BIASES[layer] + 1)
        else:
            total += bits * PARAMETERS[layer]
    return 32 * TOTAL / total


@erratum(
    "thesis-linear1",
    THESIS,
    "table 4.5",
    "The size of the first dense layer",
)
def linear1(numbers: Numbers) -> Finding:
    printed = numbers(
        THESIS, "table 4.5", "unique weights", layer="linear1", set_up="base"
    )
    size = numbers(THESIS, "table 4.2", "model size", set_up="base")
    others = TOTAL - PARAMETERS["linear1"]
    return Finding(
        "One digit is wrong. The layer joins the flattened second "
        "convolution to its dense units: weights plus biases. With the "
        "right value the whole network fills the printed file; with the "
        "printed one it would be larger than its own file.",
        [
            number(
                "parameters of linear1",
                printed,
                PARAMETERS["linear1"],
                "8 x 8 x 64 x 128 + 128",
                tolerance=0,
            ),
            number(
                "base size in MiB, right value",
                size,
                4 * TOTAL / MIB,
                f"{show(TOTAL)} x 4 bytes / 2^20",
                tolerance=0.005,
                misprint=False,
            ),
            number(
                "base size in MiB, printed value",
                size,
                4 * (others + printed) / MIB,
                f"{show(others + printed)} x 4 bytes / 2^20",
                tolerance=0.005,
            ),
        ],
    )


@erratum(
    "thesis-unique",
    THESIS,
    "table 4.5",
    "Two rows count different things",
)
def unique(numbers: Numbers) -> Finding:
    comparisons = []
    for layer in LAYERS:
        counts = {
            name: numbers(
                THESIS,
                "table 4.5",
                "unique weights",
                layer=layer,
                set_up=name,
            )
            for name in ("base", "clustered, QAT")
        }
        if layer != "linear1":
            comparisons.append(
                number(
                    f"{layer}, base",
                    counts["base"],
                    PARAMETERS[layer],
                    "weights and biases",
                    tolerance=0,
                    misprint=False,
                )
            )
        after = counts["clustered, QAT"]
        comparisons.append(
            claim(
                f"{layer}, after training",
                after.text,
                f"at most {show(KERNELS[layer])}",
                "weights alone",
                agrees=after <= KERNELS[layer],
                misprint=False,
            )
        )
    return Finding(
        "The base row counts all parameters of a layer, biases included. The "
        "row after quantization-aware training counts distinct weights "
        "without biases: two layers reach exactly that count. The rows "
        "cannot be subtracted from each other.",
        comparisons,
    )


MEMORY_ROWS = (
    "fp,1,1,1",
    "1,fp,fp,fp",
    "fp,1,fp,fp",
    "fp,fp,1,fp",
    "fp,1,2,2",
)


@erratum(
    "thesis-memory",
    THESIS,
    "table 4.7",
    "Memory reduction: one entry of five is wrong",
)
def memory(numbers: Numbers) -> Finding:
    comparisons: list[Comparison] = []
    for bits in MEMORY_ROWS:
        printed = numbers(THESIS, "table 4.7", "memory reduction", bits=bits)
        right = _reduction(bits, kernels_only=False)
        decimals = len(printed.text.partition(".")[2])
        comparisons.append(
            number(
                f"bits {bits}",
                printed,
                right,
                f"{show(32 * TOTAL)} / {show(32 * TOTAL / right, 0)} bits",
                tolerance=0.51 * 10.0**-decimals,
                misprint=bits == "1,fp,fp,fp",
            )
        )
    return Finding(
        "The column follows if biases are stored at the precision of their "
        "layer and scales cost nothing. One row is off: the first "
        "convolution is so small that making it binary saves almost nothing.",
        comparisons,
    )


@erratum(
    "thesis-mixed-size",
    THESIS,
    "table 4.8",
    "The mixed-precision size uses another accounting",
)
def mixed_size(numbers: Numbers) -> Finding:
    base = numbers(THESIS, "table 4.8", "model size", set_up="base")
    mixed = numbers(
        THESIS, "table 4.8", "model size", set_up="TwoNN, mixed precision"
    )
    factor = numbers(THESIS, "table 4.7", "memory reduction", bits="fp,1,2,2")
    kernels = _reduction("fp,1,2,2", kernels_only=True)
    return Finding(
        "Dividing the base size by the factor of table 4.7 does not give the "
        "size of table 4.8. It does follow if only weights are quantized, "
        "with biases and one scale a layer in full precision. The two tables "
        "count differently.",
        [
            number(
                "size by the factor of table 4.7",
                mixed,
                base / factor,
                f"{base.text} / {factor.text}",
                tolerance=1e-4,
            ),
            number(
                "size with full-precision biases and scales",
                mixed,
                base / kernels,
                f"{base.text} / {show(kernels, 3)}",
                tolerance=1e-4,
                misprint=False,
            ),
        ],
    )


@erratum(
    "thesis-factors",
    THESIS,
    "section 4.2.4",
    "How many times smaller",
)
def factors(numbers: Numbers) -> Finding:
    def size(name: str, table: str = "table 4.4") -> float:
        return numbers(THESIS, table, "model size", set_up=name)

    cases = (
        ("clustered", size("base"), size("clustered"), True),
        (
            "clustered, PTQ on QAT",
            size("base"),
            size("clustered, PTQ on QAT"),
            True,
        ),
        (
            "cluster-preserving QAT",
            size("clustered, QAT", "table 4.5"),
            size("cluster-preserving QAT", "table 4.5"),
            False,
        ),
    )
    return Finding(
        "Two of the three factors quoted in the text are larger than their "
        "own table allows. The third is right.",
        [
            number(
                name,
                numbers(
                    THESIS, "section 4.2.4", "size reduction", set_up=name
                ),
                before / after,
                f"{show(before)} / {show(after)}",
                tolerance=0.5,
                misprint=misprint,
            )
            for name, before, after, misprint in cases
        ],
    )


@erratum(
    "thesis-compressed",
    THESIS,
    "tables 4.2 and 4.4",
    "Compressed files against uncompressed ones",
)
def compressed(numbers: Numbers) -> Finding:
    def per_weight(table: str, name: str) -> float:
        size = numbers(THESIS, table, "model size", set_up=name)
        return 8 * MIB * size / TOTAL

    clustered = per_weight("table 4.4", "clustered")
    training = per_weight("table 4.2", "QAT")
    return Finding(
        "A network with sixteen values a layer that is still stored in "
        "32-bit floats has its full size. The printed size is that of the "
        "zipped file, but the base it is compared with is not zipped. And the "
        "doubled size after quantization-aware training is the training file "
        "with its bookkeeping, not a property of the method: the converted "
        "network of the next row is small.",
        [
            claim(
                f"bits a weight, {name}",
                "32, as the base",
                show(bits, 2),
                "printed size in bits / parameters",
                agrees=31 < bits < 33,
            )
            for name, bits in (
                ("clustered", clustered),
                ("quantization-aware training", training),
            )
        ],
    )
