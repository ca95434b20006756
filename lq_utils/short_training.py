"""Short training of a given network, taken up again where it stopped."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lq_utils import (
    alphabets,
    grids,
    parametrizations,
    power_of_two,
    scale_rules,
    scales,
)
from lq_utils.augmentation import pad_for_crops
from lq_utils.checkpoints import checkpoint_path
from lq_utils.fingerprints import digest
from lq_utils.images import ImageData
from lq_utils.inference import pick_device, to_input
from lq_utils.recipes import TrainingConfig, TrainingError, make_optimizer
from lq_utils.stacks import clone
from lq_utils.training import STEP, Trained, TrainingState, check_parts

# What decides a step besides the training's own code: how weights round.
ROUNDING = (
    alphabets,
    grids,
    parametrizations,
    power_of_two,
    scale_rules,
    scales,
)


class _Resumed(TrainingState):
    """As the training of a registered network, from given weights."""

    def __init__(
        self,
        model: nn.Module,
        data: ImageData,
        config: TrainingConfig,
        device: str,
    ) -> None:
        # Not that of the parent, which builds a network.
        self.config, self.data = config, data
        self.device = pick_device(device)
        name = f"tuned-{digest(model)}"
        code = (*STEP, *ROUNDING)
        self.file = checkpoint_path(name, model, data, config, code)  # type: ignore[arg-type]
        self.model = clone(model).to(self.device)
        self.model.to(memory_format=torch.channels_last)
        self.optimizer = make_optimizer(self.model.parameters(), config)
        self.epoch = self.best_epoch = 0
        self.best_weights: dict[str, Tensor] = {}
        self.history: list[dict[str, float]] = []
        self.padded = pad_for_crops(data.images) if config.augment else None


def train_on(
    model: nn.Module,
    train: ImageData,
    validation: ImageData,
    config: TrainingConfig,
    device: str = "auto",
) -> Trained:
    """Train a copy of ``model`` from its weights; parametrized or not.

    The epoch with the best validation accuracy is kept. After every epoch
    a checkpoint is written under ``cache_dir()``, and the same call goes
    on from it, to the same weights.

    Raises:
        DataError: a part is the test part, or the class counts differ.
        TrainingError: outputs that do not fit to the classes, or a loss
            that is not finite.

    Introduced in chapter 7.
    """
    check_parts(train, validation)
    state = _Resumed(model, train, config, device)
    state.model.eval()
    with torch.no_grad():
        few = to_input(train.images[:1], state.device)
        outputs = state.model(few).shape[1]
    if outputs != train.num_classes:
        raise TrainingError(
            f"the network has {outputs} outputs, the data "
            f"{train.num_classes} classes: give one output a class"
        )
    state.resume()
    with torch.random.fork_rng(devices=[]):
        for epoch in range(state.epoch, config.epochs):
            state.run_epoch(epoch, validation)
            state.save()
    state.model.load_state_dict(state.best_weights)
    best = state.history[state.best_epoch]["validation_accuracy"]
    return Trained(state.model.eval(), state.history, state.best_epoch, best)
