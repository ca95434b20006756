"""Errata that need reasoning rather than arithmetic."""

from __future__ import annotations

from lq_utils.errata_core import (
    REPORT,
    THESIS,
    Finding,
    Numbers,
    erratum,
    show,
)


@erratum(
    "report-embedding",
    REPORT,
    "section 2.2",
    "The embedding is pooled, not flattened",
)
def embedding(numbers: Numbers) -> Finding:
    images = 500 * numbers(
        REPORT, "section 2.2", "classes in the distance matrix"
    )
    flat, pooled = 7 * 7 * 2048, 2048
    return Finding(
        "The text speaks of the flattened last convolution of ResNet-50. At "
        f"an input of 224 pixels that is a vector of {show(flat)} numbers an "
        f"image, or {show(4 * flat * images / 2**30, 1)} GiB for the training "
        "images. The published code averages over positions first and gets "
        f"{show(pooled)} numbers. Chapter 1 offers both and says which."
    )


@erratum(
    "report-sampling",
    REPORT,
    "sections 2 and 2.1",
    "Random subsets, and training on them",
)
def sampling(numbers: Numbers) -> Finding:
    return Finding(
        "One section says that the subsets are drawn at random, the next that "
        "similar, dissimilar and random subsets are built greedily. The "
        "second is what the code does. The same section has the subsets train "
        "the quantized network; GPFQ only calibrates with them."
    )


@erratum(
    "report-umap",
    REPORT,
    "section 2.2",
    "What a two-dimensional map preserves",
)
def umap(numbers: Numbers) -> Finding:
    return Finding(
        "UMAP is credited with keeping local and global structure. Its loss "
        "sees the graph of nearest neighbours only "
        "{cite:p}`damrich2021umap`, and the global layout comes largely from "
        "the initialisation {cite:p}`kobak2021initialization`. In two "
        "dimensions distances must be distorted {cite:p}`chari2023specious`, "
        "while neighbourhoods and classes can be kept {cite:p}`lause2024art`. "
        "No UMAP seed was fixed either. Chapter 1 measures how far the "
        "distances change with the seed."
    )


@erratum(
    "report-ptq",
    REPORT,
    "sections 1 and 5.4",
    "A missing verb, and what is put into bins",
)
def binning(numbers: Numbers) -> Finding:
    return Finding(
        "The sentence that should contrast post-training quantization with "
        "quantization-aware training has no verb. The next one describes "
        "post-training quantization as binning the inputs that a parameter "
        "receives. It is the weights that are mapped to levels; data only "
        "help to choose them."
    )


@erratum(
    "report-promised",
    REPORT,
    "sections 2.3 and 5.7",
    "Results that are announced and not shown",
)
def promised(numbers: Numbers) -> Finding:
    bits = [
        numbers(REPORT, "section 2.3", "planned weight bits", choice=choice)
        for choice in (1, 2, 3)
    ]
    listed = ", ".join(show(value) for value in bits)
    return Finding(
        f"Runs at {listed} bits, with GPTQ and BRECQ, and on other networks "
        "are announced or listed as done. None of their results is in the "
        "report. The authors' published logs have the other bit widths for "
        "ResNet-50; chapters 3 and 8 supply the rest."
    )


@erratum(
    "thesis-separate-minima",
    THESIS,
    "section 4.2.2",
    "Layers do not quantize independently",
)
def separate_minima(numbers: Numbers) -> Finding:
    weight = 1.4
    near, far = round(weight), round(weight) + 1
    target = weight * weight
    return Finding(
        "Minimising a sum of weight errors layer by layer is exact, because "
        "no term shares a variable with another. It does not follow that the "
        "layers are independent for the network's output or its loss. Take "
        f"two layers of one weight {show(weight)} each, with whole numbers "
        f"as levels. Rounded alone they give {near} x {near}, which misses "
        f"the product {show(target)} by {show(target - near * near)}; "
        f"{near} x {far} misses it by {show(abs(target - near * far))}. "
        "Methods that correct later layers for earlier errors live from "
        "this difference."
    )


@erratum(
    "thesis-random-pruning",
    THESIS,
    "section 2.3",
    "Weights are not pruned at random",
)
def random_pruning(numbers: Numbers) -> Finding:
    return Finding(
        "Weight pruning is described as setting individual weights to zero at "
        "random. The same section names the criterion that is really meant, "
        "the smallest magnitudes {cite:p}`zhu2017prune`."
    )


@erratum(
    "thesis-gradients",
    THESIS,
    "sections 2.2 and 4.2.2",
    "Which weights receive the gradient",
)
def gradients(numbers: Numbers) -> Finding:
    return Finding(
        "One passage computes gradients for the quantized weights, another "
        "updates full-precision weights through them. Rounding has no useful "
        "derivative, so that the second is what is done: the gradient is "
        "passed straight through to latent weights in full precision "
        "{cite:p}`courbariaux2015binaryconnect`."
    )


@erratum(
    "thesis-first-last",
    THESIS,
    "sections 2.5 and 4.2.2",
    "A source that does not say so",
)
def first_last(numbers: Numbers) -> Finding:
    return Finding(
        "Keeping the first and the last layer in full precision is credited "
        "to {cite:t}`lee2015difference`, which is about another way to "
        "train. {cite:t}`rastegari2016xnor` is a source for the habit."
    )


@erratum(
    "thesis-cost-claim",
    THESIS,
    "abstract",
    "Training computations were not measured",
)
def cost_claim(numbers: Numbers) -> Finding:
    return Finding(
        "The abstract says that the number of computations for training can "
        "be minimised. No table measures computations or time, and "
        "quantization-aware training adds some."
    )


@erratum(
    "thesis-names",
    THESIS,
    "section 4.2.2 and table 4.4",
    "Slips of names",
)
def names(numbers: Numbers) -> Finding:
    return Finding(
        "The transfer task is once called horses against dogs; its tables "
        "have horses against frogs. The caption of table 4.4 repeats a word."
    )
