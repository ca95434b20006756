"""Networks of chapter 4: QuantNET trained, fine-tuned, made plain again.

A budget says how long. Base networks are kept in the cache, so that every
cell that needs one gets the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import nn

from lq_utils.activation_quantization import quantize_activations
from lq_utils.calibration import calibration_set
from lq_utils.compressed_training import fit
from lq_utils.compression_checks import layer_values
from lq_utils.images import Splits
from lq_utils.recipes import TrainingConfig
from lq_utils.stacks import clone, strip
from lq_utils.training import train

Budget = tuple[tuple[str, Any], ...]
Tasks = Mapping[str, Splits]

OWN = "own"  # a network that starts from random weights, not from a task's
BITS = 8  # of quantization-aware training


def budget(**fields: Any) -> Budget:
    """What networks are trained with, as a tuple that a cell can hold.

    ``epochs`` from random weights and ``transfer_epochs`` from those of
    another task at the rate ``rate``, ``fine_epochs`` of whatever follows
    at ``fine_rate``, images of ``calibration``.

    Introduced in chapter 4.
    """
    wanted = {"epochs", "transfer_epochs", "rate"}
    wanted |= {"fine_epochs", "fine_rate", "calibration"}
    if set(fields) != wanted:
        raise ValueError(
            f"a budget has the fields {sorted(wanted)}, not {sorted(fields)}"
        )
    return tuple(sorted(fields.items()))


def recipe(plan: Budget, seed: int, fine: bool = False) -> TrainingConfig:
    """The configuration of a training, from random weights or ``fine``.

    Adam and batches of 64, as in the thesis; the rate falls like a cosine.

    Introduced in chapter 4.
    """
    fields = dict(plan)
    return TrainingConfig(
        epochs=fields["fine_epochs" if fine else "epochs"],
        learning_rate=fields["fine_rate" if fine else "rate"],
        batch_size=64,
        optimizer="adam",
        weight_decay=0.0,
        schedule="cosine",
        seed=seed,
    )


def base_network(splits: Splits, seed: int, plan: Budget) -> nn.Module:
    """QuantNET trained on a task; kept, so that all cells share it.

    One output for two classes, else one a class. Introduced in chapter 4.
    """
    classes = splits.train.num_classes
    trained = train(
        "quantnet",
        splits.train,
        splits.validation,
        recipe(plan, seed),
        num_outputs=1 if classes == 2 else classes,
        progress=False,
    )
    return trained.model


def fine_tuned(
    network: nn.Module, splits: Splits, seed: int, plan: Budget, **more: Any
) -> nn.Module:
    """The network after ``fine_epochs`` more, parametrized as before.

    ``more`` goes to ``compressed_training.fit``. Introduced in chapter 4.
    """
    configuration = recipe(plan, seed, fine=True)
    parts = (splits.train, splits.validation)
    done = fit(network, *parts, configuration, progress=False, **more)
    return done.model


def start_network(
    task: str, start: str, seed: int, plan: Budget, splits: Tasks
) -> nn.Module:
    """A base network for ``task``: its own, or another task's, fine-tuned.

    Introduced in chapter 4.
    """
    own = splits[task]
    if start == OWN:
        return base_network(own, seed, plan)
    source = base_network(splits[start], seed, plan)
    count = dict(plan)["transfer_epochs"]
    configuration = replace(recipe(plan, seed), epochs=count)
    parts = (own.train, own.validation)
    return fit(source, *parts, configuration, progress=False).model


def with_quantized_activations(
    network: nn.Module, splits: Splits, seed: int, plan: Budget
) -> nn.Module:
    """A copy whose activations are fake quantized to 8 bits.

    Introduced in chapter 4.
    """
    count = dict(plan)["calibration"]
    inputs = calibration_set(splits.train, count, seed)
    return quantize_activations(network, inputs, BITS)


def plain_copy(base: nn.Module, trained: nn.Module) -> nn.Module:
    """``base`` with the weights that ``trained`` evaluates to.

    What was added behind the ReLUs is left out. Introduced in chapter 4.
    """
    plain, weights = clone(base), strip(trained).state_dict()
    plain.load_state_dict({k: weights[k] for k in plain.state_dict()})
    return plain.eval()


def small_layers(network: nn.Module, count: int) -> list[str]:
    """Layers of ``count`` weights or fewer, which are not clustered.

    Introduced in chapter 4.
    """
    table = layer_values(network)
    return table.loc[table["parameters"] <= count, "layer"].tolist()
