"""Random search by keras-tuner, of anything that a function can score.

keras-tuner draws the settings and keeps the books; no Keras model is
needed. It is imported on first use: that takes seconds, and the backend
of Keras must be chosen before.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from lq_utils.paths import atomic_write

BACKEND = "torch"

Setting = dict[str, Any]
Outcome = dict[str, Any]
Space = Mapping[str, Sequence[Any]]
Evaluate = Callable[[Setting], Outcome]


class TuningError(ValueError):
    """A search that cannot be made, or that has failed.

    Introduced in chapter 4.
    """


def use_torch_backend() -> None:
    """Make torch the backend of Keras; call it before Keras is imported.

    Raises TuningError where Keras was imported with another backend.

    Introduced in chapter 4.
    """
    keras = sys.modules.get("keras")
    found = keras.config.backend() if keras else BACKEND
    if found != BACKEND:
        raise TuningError(
            f"Keras was imported with the backend '{found}', and cannot "
            "change it: restart Python (the kernel) and set the environment "
            f"variable KERAS_BACKEND={BACKEND} before Keras is imported"
        )
    os.environ["KERAS_BACKEND"] = BACKEND


def check_space(space: Space) -> dict[str, list[Any]]:
    """The choices of every parameter as plain lists, by name.

    Raises TuningError for a parameter without choices, with a choice
    twice, or with choices that are not all numbers or all strings.

    Introduced in chapter 4.
    """
    # Sorted: what is drawn does not depend on the order they are named in.
    return {name: _choices(name, space[name]) for name in sorted(space)}


def _choices(name: str, values: Sequence[Any]) -> list[Any]:
    if not isinstance(values, (Sequence, np.ndarray)) or not len(values):
        raise TuningError(
            f"'{name}' is {values!r}: give a tuple of one choice or more"
        )
    plain = [v.item() if isinstance(v, np.generic) else v for v in values]
    kinds = {type(value) for value in plain}
    if kinds == {int, float}:
        plain = [float(value) for value in plain]
    elif kinds not in ({int}, {float}, {str}) or isinstance(values, str):
        raise TuningError(
            f"'{name}' is {values!r}: give a tuple of numbers or of strings"
        )
    if len(set(plain)) < len(plain):
        raise TuningError(f"'{name}': a choice of {plain} is there twice")
    return plain


def search(
    evaluate: Evaluate,
    space: Space,
    *,
    objective: str,
    trials: int,
    seed: int,
    folder: Path,
    progress: bool = True,
) -> list[tuple[Setting, Outcome]]:
    """Settings drawn at random, each with what ``evaluate`` says of it.

    ``evaluate(setting)`` gets one choice of every parameter and returns
    plain numbers and strings, among them ``objective`` (more is better).
    No setting is drawn twice; keras-tuner gives up after 20 such draws in
    a row, so that a small space may give fewer trials than asked for.

    All is kept in ``folder`` as it comes: the same call goes on after a
    kill, and repeats the trial that was cut short. A folder belongs to
    one function, space, seed and number of trials: name it after them.
    Nothing is printed but the bar of ``progress``, on stderr.

    Raises TuningError as ``check_space`` and ``use_torch_backend`` do, for
    less than 1 trial or more than there are settings, and for an error in
    ``evaluate``. Source: Bergstra and Bengio 2012.

    Introduced in chapter 4.
    """
    choices = check_space(space)
    most = math.prod(len(values) for values in choices.values())
    if not 1 <= trials <= most:
        raise TuningError(
            f"trials={trials}, but the space has {most} settings: give 1 to "
            f"{most}"
        )
    finished = _stored(folder)
    if len(finished) == trials:  # without the seconds of the import
        return finished
    with tqdm(desc="trials", total=trials, disable=not progress) as bar:

        def run(number: str, setting: Setting) -> float:
            file = folder / f"trial_{number}" / "outcome.json"
            # It is there if keras-tuner was killed before it took note.
            if not file.exists():
                _store(file, [setting, evaluate(setting)])
            best = max(found[objective] for _, found in _stored(folder))
            bar.set_postfix(best=f"{best:.4f}")
            bar.update()
            return float(_load(file)[1][objective])

        tuner = _tuner(run, choices, objective, trials, seed, folder)
        bar.update(len(tuner.oracle.end_order))
        tuner.search()
    return _stored(folder)


def _store(file: Path, pair: list[Any]) -> None:
    with atomic_write(file) as temporary:
        temporary.write_text(json.dumps(pair))


def _load(file: Path) -> tuple[Setting, Outcome]:
    setting, outcome = json.loads(file.read_text())
    return setting, outcome


def _stored(folder: Path) -> list[tuple[Setting, Outcome]]:
    # keras-tuner pads the numbers of its trials with zeros.
    return [
        _load(file) for file in sorted(folder.glob("trial_*/outcome.json"))
    ]


def _tuner(
    run: Callable[[str, Setting], float],
    choices: Mapping[str, list[Any]],
    objective: str,
    trials: int,
    seed: int,
    folder: Path,
) -> Any:
    """A RandomSearch, with what ``folder`` holds of it."""
    use_torch_backend()
    import keras_tuner as kt

    class Search(kt.RandomSearch):
        def run_trial(self, trial: Any, *_: Any, **__: Any) -> float:
            setting = dict(trial.hyperparameters.values)
            try:
                return run(trial.trial_id, setting)
            except Exception as error:
                # Of any other error keras-tuner makes a failed trial.
                raise kt.errors.FatalError(setting) from error

        def search(self) -> None:
            try:
                super().search(verbose=0)
            except kt.errors.FatalError as error:
                cause = error.__cause__
                raise TuningError(
                    f"the trial with {error} failed, "
                    f"{type(cause).__name__}: {cause}"
                ) from cause

    # Of 0 it makes a random seed, and it draws with seed, seed + 1, ...:
    # searches with seeds that are near each other would share settings.
    start = int(np.random.default_rng(seed).integers(1, 2**31))

    def opened() -> Any:
        space = kt.HyperParameters()
        for name, values in choices.items():
            space.Choice(name, values)
        with contextlib.redirect_stdout(io.StringIO()):
            return Search(
                objective=kt.Objective(objective, "max"),
                max_trials=trials,
                seed=start,
                hyperparameters=space,
                directory=str(folder.parent),
                project_name=folder.name,
            )

    return _reloaded(opened, folder)


def _reloaded(opened: Callable[[], Any], folder: Path) -> Any:
    """The tuner as it was, or from the start where its books are torn.

    A kill may leave half a file, or a trial that the list does not have
    and that would never run. The same seed draws the same settings again,
    and finished ones are found by their outcome: nothing is lost.
    """
    try:
        tuner = opened()
        if set(tuner.oracle.trials) == set(tuner.oracle.start_order):
            return tuner
    except (ValueError, KeyError, RuntimeError):
        pass
    for file in folder.glob("*.json"):
        file.unlink()
    return opened()
