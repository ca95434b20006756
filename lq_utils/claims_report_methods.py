"""Claims of the label-aware report on methods and mixed precision."""

from __future__ import annotations

from functools import partial

from lq_utils.claims_core import REPORT, Part, claim
from lq_utils.claims_readings import Gap, Query, Ratio, Value

METHODS, TASKS = "08_gpfq_gptq_brecq", "09_label_aware_precision"
eight, nine = partial(Query, METHODS), partial(Query, TASKS)
TASKS_COUNTED = "tasks; one network"


def _drop(method: str, bits: int) -> Part:
    query = eight("drop", {"method": method, "bits": bits})
    return Part(Value(query), label=f"{method}, {bits} bits")


def _seconds(method: str) -> Query:
    return eight("cpu_seconds", {"method": method})


claim(
    "report-gpfq",
    REPORT,
    "abstract",
    "GPFQ reaches 4 and 3 bits with minimal loss",
    "Drop from the original network, all classes of CIFAR-100 (the report "
    "says ImageNet): at most a point.",
    METHODS,
    "The comparison",
    _drop("GPFQ", 4),
    _drop("GPFQ", 3),
    bound=1.0,
    sign=-1,
)

claim(
    "report-gptq-brecq-cost",
    REPORT,
    "section 5.5",
    "GPTQ costs less than BRECQ",
    "CPU seconds of BRECQ over those of GPTQ, same images: above one.",
    METHODS,
    "Time and memory",
    Part(Ratio(_seconds("BRECQ"), _seconds("GPTQ"))),
    bound=1.0,
    exact=True,
    basis="calibration images; one machine",
    unit="times the seconds",
)


def _gain(second: str) -> Part:
    keys = {"first": "label-aware", "second": second, "budget": 3}
    return Part(Value(nine("gain", keys)), label=f"over {second}")


claim(
    "report-mixed-precision",
    REPORT,
    "sections 5.6 and 5.7",
    "Bits by the importance of layers for the classes beat other bits",
    "Accuracy of the label-aware plan less that of uniform bits, and less "
    "that of a plan blind to the labels, files no larger, paired by task.",
    TASKS,
    "Equal bytes",
    _gain("uniform bits"),
    _gain("blind to the labels"),
    basis=TASKS_COUNTED,
)
claim(
    "report-unified",
    REPORT,
    "section 5.7",
    "Label-aware mixed precision compresses more without losing accuracy",
    "Original less label-aware accuracy at every budget: at most a point.",
    TASKS,
    "Equal bytes",
    Part(
        Gap(
            nine("original_accuracy", {}),
            nine("accuracy", {"variant": "label-aware", "budget": 2}),
            100,
        ),
        label="budget 2",
    ),
    Part(
        Gap(
            nine("original_accuracy", {}),
            nine("accuracy", {"variant": "label-aware", "budget": 3}),
            100,
        ),
        label="budget 3",
    ),
    bound=1.0,
    sign=-1,
    basis=TASKS_COUNTED,
)
claim(
    "report-resnet50",
    REPORT,
    "section 3, figure 3",
    "The three curves of figure 3, for ResNet-50",
    "The readings of the other claims on figure 3, from rows of the report's "
    "own network.",
    "03_gpfq_sweeps",
    "Four stages",
    large=True,
)
