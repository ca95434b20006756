"""Errata of the QuantNET thesis: formulas."""

from __future__ import annotations

import numpy as np
from scipy.integrate import quad
from scipy.stats import norm

from lq_utils.errata_core import (
    THESIS,
    Finding,
    Numbers,
    claim,
    erratum,
    number,
    show,
)

DIMENSION = 3.0
RATIO = 1.5


@erratum(
    "thesis-twonn-law",
    THESIS,
    "section 2.6.2",
    "The law behind TwoNN",
)
def twonn_law(numbers: Numbers) -> Finding:
    where = "section 2.6.2"
    shift = numbers(THESIS, where, "CDF exponent minus d")
    shape = numbers(THESIS, where, "Pareto parameter minus d")
    edge = numbers(THESIS, where, "upper edge of the zero branch of the CDF")
    d, x = DIMENSION, RATIO
    # Shell volumes between neighbours are independent and exponential:
    # P(mu <= x) = P(outer shell <= (x^d - 1) times the inner ball).
    truth, _ = quad(
        lambda v: np.exp(-v) * -np.expm1(-(x**d - 1) * v), 0, np.inf
    )
    density, _ = quad(lambda m: d * m ** (-d - 1), 1, x)
    exponent = -np.log1p(-truth) / np.log(x)
    return Finding(
        "Let the points be spread evenly near one of them. The ball up to the "
        "first neighbour and the shell up to the second have volumes that are "
        "independent and follow the same exponential law. Their ratio is "
        "$\\mu^d - 1$, and a ratio of two such volumes is at most $t$ with "
        "probability $t/(1+t)$. With $t = x^d - 1$ this gives\n\n"
        "$$F(x) = 1 - x^{-d}, \\qquad f(x) = d\\,x^{-d-1}, \\qquad x \\ge 1,"
        "$$\n\n"
        "a Pareto law of shape $d$, as in {cite:t}`facco2017estimating`. The "
        "thesis prints $d+1$ as parameter and as exponent of the "
        "distribution function; $d+1$ belongs in the density only. Its "
        "function is zero for negative $x$, which leaves the values between "
        "zero and one undefined. The check integrates both laws for "
        f"d = {show(d)} at x = {show(x)}.",
        [
            number(
                "exponent of the distribution function, minus d",
                shift,
                exponent - d,
                f"integral over the volumes: F = {show(truth)}",
                tolerance=1e-6,
            ),
            number(
                "Pareto parameter, minus d",
                shape,
                -np.log1p(-density) / np.log(x) - d,
                f"integral of the density: F = {show(density)}",
                tolerance=1e-6,
            ),
            number(
                "largest x with F = 0",
                edge,
                1.0,
                "the ratio of the distances is at least one",
                tolerance=0,
            ),
        ],
    )


@erratum(
    "thesis-twonn-likelihood",
    THESIS,
    "section 2.6.2",
    "A likelihood without a maximum",
)
def twonn_likelihood(numbers: Numbers) -> Finding:
    where = "section 2.6.2"
    slope = numbers(THESIS, where, "slope of the likelihood exponent in d")
    constant = numbers(THESIS, where, "constant of the likelihood exponent")
    count = 1000
    uniform = (np.arange(count) + 0.5) / count
    logs = -np.log1p(-uniform) / DIMENSION
    grid = np.linspace(0.5, 30, 2951)

    def best(slope: float, constant: float) -> float:
        values = count * np.log(grid)
        values = values + (slope * grid + constant) * logs.sum()
        return float(grid[values.argmax()])

    printed, right = best(slope, constant), best(-1, -1)
    return Finding(
        "The likelihood is the product of the densities, "
        "$d^N \\prod_i \\mu_i^{-(d+1)}$. The thesis prints the exponent "
        "$d+1$ without its minus sign. Every $\\mu_i$ is at least one, so "
        "that the printed product grows with $d$ for ever: maximising it "
        "gives no estimate. With the sign, the maximum is at "
        "$N / \\sum_i \\log \\mu_i$. The check maximises both over a grid for "
        f"exact quantiles of a law with d = {show(DIMENSION)}; the grid ends "
        f"at {show(grid[-1])}.",
        [
            number(
                "slope of the exponent in d",
                slope,
                -1.0,
                "product of the densities",
                tolerance=0,
            ),
            claim(
                "position of the maximum",
                show(printed, 2),
                show(right, 2),
                "grid search: printed sign, right sign",
                agrees=abs(printed - right) < 0.1,
            ),
        ],
    )


@erratum(
    "thesis-scale",
    THESIS,
    "section 3.3",
    "A scale that is right for one bit only",
)
def scale(numbers: Numbers) -> Finding:
    rule = numbers(THESIS, "section 3.3", "scale over mean absolute weight")
    count = 20000
    # Exact quantiles of trained-looking weights, most of them near zero.
    weights = 0.05 * norm.ppf((np.arange(count) + 0.5) / count)
    size = np.abs(weights).mean()
    comparisons, errors = [], []
    for bits in (1, 2):
        top = 2**bits - 1
        code = np.clip(np.floor((weights + 1) * top / 2 + 0.5), 0, top)
        levels = (2 * code - top) / top
        best = float(weights @ levels / (levels @ levels))
        kept = rule * size * levels
        errors.append(((weights - kept) ** 2).sum() / (weights**2).sum())
        comparisons.append(
            number(
                f"best scale over mean absolute weight, {bits} bit",
                rule,
                best / size,
                "least squares over the levels",
                tolerance=1e-3,
                misprint=bits > 1,
            )
        )
    one, two = errors
    comparisons.append(
        claim(
            "relative squared error at 2 bits",
            f"below the {show(one, 3)} of 1 bit",
            show(two, 3),
            "error of the rule on the same weights",
            agrees=two < one,
        )
    )
    return Finding(
        "The scale of XNOR-Net {cite:p}`rastegari2016xnor` minimises the "
        "error when every level is plus or minus one. The thesis keeps it "
        "for more bits, where levels lie between. Weights as small as those "
        "of a trained layer then use the two inner levels alone, and the "
        "scale is too small for them: two bits come out worse than one. "
        "During training the weights can grow and hide this; on a finished "
        "network they cannot.",
        comparisons,
    )
