"""Hyperparameters of QuantNET: the thesis's random and manual searches.

Settings are compared on validation images only.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from importlib.metadata import version
from typing import Any

import pandas as pd
import torch

from lq_utils import (
    compressed_training,
    keras_search,
    quantnet,
    quantnet_settings,
)
from lq_utils.cache import canonical_json
from lq_utils.cells import cell_grid
from lq_utils.fingerprints import digest
from lq_utils.images import DataError, ImageData
from lq_utils.inference import pick_device
from lq_utils.keras_search import (
    Outcome,
    Setting,
    Space,
    TuningError,
    check_space,
    search,
)
from lq_utils.paths import cache_dir
from lq_utils.quantnet import INITIALIZERS
from lq_utils.quantnet_settings import (
    BASE,
    THESIS_SETTING,
    THESIS_SPACE,
    network_of,
    recipe_of,
    train_and_score,
)
from lq_utils.recipes import TrainingConfig, TrainingError
from lq_utils.sweeps import sweep
from lq_utils.training import STEP, check_parts

SIDE = 32  # pixels of the images that QuantNET takes


def random_search(
    train: ImageData,
    validation: ImageData,
    *,
    trials: int,
    epochs: int | Sequence[int] | None,
    seed: int = 0,
    folder: str = "tuning",
    space: Space = THESIS_SPACE,
    base: TrainingConfig = BASE,
    device: str = "auto",
    progress: bool = True,
) -> pd.DataFrame:
    """Settings of ``space`` drawn at random, each trained and scored.

    Args:
        train: images uint8 ``[N, 32, 32, 3]``, their part not "test".
        validation: what settings are compared on, not "test" either.
        trials: number of settings, none of them twice.
        epochs: the budget of a trial, in place of the space's epochs:
            a number for all trials alike, or choices such as (1, 2, 3);
            None searches the epochs that ``space`` has.
        seed: decides the settings drawn, and weights and order of images,
            which are the same for all trials.
        folder: under ``cache_dir()``. It gets a folder of its own for all
            that decides the table; the same call goes on after a kill.
        space: parameter to choices, the parameters those of
            ``THESIS_SETTING``; one left out stays as it is there.
        base: what is not tuned, such as ``patience``.

    Returns:
        One row a trial: trial (from 0), all parameters of a setting, and
        the columns of ``train_and_score``. Where ``trials`` are nearly
        all settings of a small space, keras-tuner may find fewer.

    Raises:
        DataError: a test part, other classes, or images not 32x32.
        TuningError: a space or number of trials that cannot be searched,
            a trial that failed otherwise than by divergence or memory, or
            Keras with another backend.

    Source: QuantNET thesis, section 4.2.1; Bergstra and Bengio 2012.
    Introduced in chapter 4.
    """
    _check_images(train, validation)
    choices = _checked_space(space, epochs)
    key = {
        **_key(train, validation, device),
        "space": choices,
        "trials": trials,
        "seed": seed,
        "base": asdict(base),
        "keras-tuner": version("keras-tuner"),
        "search": inspect.getsource(keras_search),
    }
    name = hashlib.sha256(canonical_json(key).encode()).hexdigest()[:16]

    def evaluate(setting: Setting) -> Outcome:
        config = recipe_of(setting, base, seed)
        return train_and_score(setting, config, train, validation, device)

    pairs = search(
        evaluate,
        choices,
        objective="validation_accuracy",
        trials=trials,
        seed=seed,
        folder=cache_dir() / folder / name,
        progress=progress,
    )
    return pd.DataFrame(
        [
            {"trial": i, **THESIS_SETTING, **setting, **outcome}
            for i, (setting, outcome) in enumerate(pairs)
        ]
    )


def _check_images(train: ImageData, validation: ImageData) -> None:
    check_parts(train, validation)
    for data in (train, validation):
        shape = data.images.shape
        if shape[1:3] != (SIDE, SIDE) or not len(data):
            raise DataError(
                f"the {data.part} images are {list(shape)}: QuantNET takes "
                f"one or more of {SIDE}x{SIDE} pixels"
            )


def _checked_space(
    space: Space, epochs: int | Sequence[int] | None
) -> dict[str, list[Any]]:
    if epochs is not None:
        budget = (epochs,) if isinstance(epochs, int) else epochs
        space = {**space, "epochs": budget}
    choices = check_space(space)
    for name, values in choices.items():
        if name not in THESIS_SETTING:
            raise TuningError(
                f"'{name}' is no parameter of a setting; there are "
                f"{', '.join(THESIS_SETTING)}"
            )
        for value in values:
            _try({name: value})
    return choices


def _try(setting: Setting) -> None:
    """Refuse what no trial could train, before the first one starts."""
    try:
        with torch.device("meta"):
            network_of(setting, num_outputs=1)
        recipe_of(setting)
    except (ValueError, TypeError, TrainingError) as error:
        raise TuningError(f"{setting} cannot be tried: {error}") from error


def _key(
    train: ImageData, validation: ImageData, device: str
) -> dict[str, Any]:
    """What decides a training, besides setting and configuration."""
    code = (compressed_training, quantnet, quantnet_settings, *STEP)
    return {
        "train": [digest(train.images), digest(train.labels)],
        "validation": [digest(validation.images), digest(validation.labels)],
        "classes": train.num_classes,
        "code": [inspect.getsource(part) for part in code],
        "device": str(pick_device(device)),
        "torch": torch.__version__,
    }


def best_setting(table: pd.DataFrame) -> Setting:
    """The setting of the best trial of a ``random_search``.

    The highest validation accuracy counts, then the lowest validation
    loss, then the earlier trial. Give it to ``network_of`` and
    ``recipe_of``.

    Raises TuningError where no trial is "ok".

    Introduced in chapter 4.
    """
    good = table[table["status"] == "ok"]
    if good.empty:
        raise TuningError(
            "no trial is 'ok': search with more trials, lower learning "
            "rates or smaller networks"
        )
    ranked = good.sort_values(
        ["validation_accuracy", "validation_loss", "trial"],
        ascending=[False, True, True],
    )
    best: Setting = ranked[list(THESIS_SETTING)].head(1).to_dict("records")[0]
    return best


def _initializer_cell(
    initializer: str,
    seed: int,
    setting: Setting,
    config: TrainingConfig,
    train: ImageData,
    validation: ImageData,
    device: str,
) -> Outcome:
    return train_and_score(
        {**setting, "initializer": initializer},
        replace(config, seed=seed),
        train,
        validation,
        device,
    )


def initializer_search(
    train: ImageData,
    validation: ImageData,
    config: TrainingConfig,
    seeds: Sequence[int],
    *,
    initializers: Sequence[str] = tuple(INITIALIZERS),
    setting: Mapping[str, Any] = THESIS_SETTING,
    device: str = "auto",
    n_jobs: int | str = 1,
    progress: bool = True,
) -> pd.DataFrame:
    """QuantNET trained from every initializer with every seed.

    Args:
        train: images uint8 ``[N, 32, 32, 3]``, their part not "test".
        validation: what initializers are compared on, not "test" either.
        config: the training; its seed is replaced by each of ``seeds``,
            which decide the weights and the order of images.
        seeds: one training a seed and initializer.
        initializers: of all layers but the output; names of
            ``lq_utils.quantnet.INITIALIZERS``.
        setting: filters, kernel size and dropout of the network.
        n_jobs: as for ``sweep``.

    Returns:
        One row a training: initializer, seed, and the columns of
        ``train_and_score``. A sweep: finished trainings are kept, and the
        same call goes on after a kill.

    Raises:
        DataError: a test part, other classes, or images not 32x32.
        TuningError: an unknown initializer, or none, or no seed.

    Source: QuantNET thesis, section 4.2.1. Introduced in chapter 4.
    """
    _check_images(train, validation)
    if not len(seeds) or not len(initializers):
        raise TuningError("give one seed and one initializer, or more")
    plain = {name: setting[name] for name in THESIS_SETTING if name in setting}
    for name in initializers:
        _try({**plain, "initializer": name})
    shared = {
        "train": train,
        "validation": validation,
        "config": config,
        "setting": plain,
        "device": device,
    }
    key = _key(train, validation, device)
    return sweep(
        "04_initializers",
        _initializer_cell,
        cell_grid(initializer=list(initializers), seed=list(seeds)),
        shared=shared,
        key={**key, "config": asdict(config), "setting": plain},
        n_jobs=n_jobs,
        progress=progress,
    )
