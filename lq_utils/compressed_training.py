"""Training of a network whose weights are parametrized."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from lq_utils.augmentation import pad_for_crops
from lq_utils.images import ImageData
from lq_utils.inference import pick_device, to_input
from lq_utils.parametrizations import Clustered
from lq_utils.recipes import TrainingConfig, TrainingError, make_optimizer
from lq_utils.stacks import clone
from lq_utils.training import (
    Trained,
    TrainingState,
    check_parts,
)

BeforeStep = Callable[[int, nn.Module], None]


def fit(
    model: nn.Module,
    train: ImageData,
    validation: ImageData,
    config: TrainingConfig,
    callback: BeforeStep | None = None,
    *,
    centroid_rate: float = 1.0,
    keep_from_step: int = 0,
    device: str = "auto",
    progress: bool = True,
) -> Trained:
    """Train a copy of a given network; the best validation epoch counts.

    Args:
        model: trained from its weights as they are, parametrized or not,
            with one output (two classes) or one a class.
        config: as for ``train``; its seed decides the order of images,
            crops and dropout.
        callback: called as ``callback(step, network)`` before every step,
            counted from 0: ``pruning_steps(schedule)`` prunes so.
        centroid_rate: learning rate of centroids over that of weights.
            Centroids have no weight decay.
        keep_from_step: epochs that end before this step are not kept;
            give the schedule's ``end``, so that no network counts that
            is not pruned to the end.

    Returns:
        Trained: the network in evaluation mode, parametrized as before;
        ``history`` is a row an epoch, as that of ``train``. On a CPU the
        same call returns the same weights.

    Raises:
        DataError: a part is the test part, or the class counts differ.
        TrainingError: outputs that do not fit to the classes, nothing to
            train, a negative rate, no epoch left to keep, or a loss that
            is not finite.

    Introduced in chapter 4.
    """
    check_parts(train, validation)
    if not centroid_rate >= 0:
        raise TrainingError(
            f"centroid_rate={centroid_rate}: give 0 (centroids stay) or more"
        )
    state = _Fitting(model, train, config, device, centroid_rate)
    state.before_step, state.keep_from_step = callback, keep_from_step
    last = config.epochs * steps_per_epoch(len(train), config)
    if keep_from_step >= last:
        raise TrainingError(
            f"keep_from_step={keep_from_step}, but the training has only "
            f"{last} steps: end the schedule earlier or train longer"
        )
    epochs = tqdm(range(config.epochs), desc="epochs", disable=not progress)
    with torch.random.fork_rng():
        for epoch in epochs:
            if state.best_weights and state.out_of_patience():
                break
            row = state.run_epoch(epoch, validation)
            epochs.set_postfix(validation=f"{row['validation_accuracy']:.4f}")
    state.model.load_state_dict(state.best_weights)
    best = state.history[state.best_epoch]["validation_accuracy"]
    return Trained(state.model.eval(), state.history, state.best_epoch, best)


def steps_per_epoch(images: int, config: TrainingConfig) -> int:
    """Number of optimizer steps of an epoch of so many images.

    Introduced in chapter 4.
    """
    return max(1, images // config.batch_size)


def centroids_of(model: nn.Module) -> list[nn.Parameter]:
    """The codebooks of all clustered layers.

    Introduced in chapter 4.
    """
    return [m.codebook for m in model.modules() if isinstance(m, Clustered)]


class _Fitting(TrainingState):
    """As the training of a registered network, from given weights."""

    before_step: BeforeStep | None
    keep_from_step: int

    def __init__(
        self,
        model: nn.Module,
        data: ImageData,
        config: TrainingConfig,
        device: str,
        centroid_rate: float,
    ) -> None:
        # Not that of the parent, which builds a network and a checkpoint.
        self.config, self.data = config, data
        self.device = pick_device(device)
        self.model = clone(model).to(self.device)
        self.model.to(memory_format=torch.channels_last)
        self.centroid_rate = centroid_rate
        self.optimizer = self._groups()
        self.steps_done = self.epoch = self.best_epoch = 0
        self.best_weights: dict[str, Tensor] = {}
        self.history: list[dict[str, float]] = []
        self.padded = pad_for_crops(data.images) if config.augment else None
        self._check_outputs()

    def _groups(self) -> torch.optim.Optimizer:
        centroids = centroids_of(self.model)
        own = {id(c) for c in centroids}
        weights = [
            p
            for p in self.model.parameters()
            if p.requires_grad and id(p) not in own
        ]
        if not weights:
            raise TrainingError(
                "no weight of the network requires a gradient: call "
                "model.requires_grad_(True)"
            )
        groups: list[dict[str, Any]] = [{"params": weights}]
        if centroids:
            groups.append({"params": centroids, "weight_decay": 0.0})
        return make_optimizer(groups, self.config)

    @torch.no_grad()
    def _check_outputs(self) -> None:
        x = to_input(self.data.images[:2], self.device)
        was_training = self.model.training
        outputs = self.model.eval()(x).shape[1]
        self.model.train(was_training)
        classes = self.data.num_classes
        if outputs != classes and (outputs, classes) != (1, 2):
            raise TrainingError(
                f"the network has {outputs} outputs, the data {classes} "
                "classes: give one output a class, or one for two classes"
            )

    def _set_learning_rate(self, epochs_done: float) -> None:
        super()._set_learning_rate(epochs_done)
        for group in self.optimizer.param_groups[1:]:
            group["lr"] *= self.centroid_rate

    def _step(self, x: Tensor, labels: Tensor) -> tuple[float, Tensor]:
        if self.before_step is not None:
            self.before_step(self.steps_done, self.model)
        self.steps_done += 1
        return super()._step(x, labels)

    def _keep(self, epoch: int, row: dict[str, float]) -> None:
        super()._keep(epoch, row)
        if self.steps_done <= self.keep_from_step:
            self.best_weights = {}  # so that the next epoch is taken
