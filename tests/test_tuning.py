"""Tuning: the thesis's space, killed searches, trials that fail."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import textwrap
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from pandas.testing import assert_frame_equal
from torch.nn import functional as F

from lq_utils import paths
from lq_utils.compressed_training import fit
from lq_utils.images import DataError, ImageData
from lq_utils.inference import evaluate, to_input
from lq_utils.keras_search import (
    TuningError,
    check_space,
    search,
    use_torch_backend,
)
from lq_utils.published import published
from lq_utils.quantnet import QuantNet
from lq_utils.quantnet_settings import (
    BASE,
    THESIS_SETTING,
    THESIS_SPACE,
    network_of,
    recipe_of,
    train_and_score,
)
from lq_utils.recipes import TrainingConfig
from lq_utils.synthetic import make_synthetic
from lq_utils.tuning import best_setting, initializer_search, random_search

pytestmark = pytest.mark.filterwarnings(
    # Of keras-tuner, which still asks for threading.currentThread.
    "ignore:.*(currentThread|getName):DeprecationWarning"
)

SMALL = {
    "conv1_filters": (2, 3, 4),
    "conv2_filters": (2, 4),
    "kernel_size": (1, 3),
    "dropout": (0.1, 0.5),
    "optimizer": ("adam", "sgd", "rmsprop"),
    "learning_rate": (1e-3, 1e-2),
    "batch_size": (8, 16),
}
SEARCH: dict[str, Any] = {
    "trials": 3,
    "epochs": (1, 2),
    "seed": 4,
    "space": SMALL,
    "progress": False,
}
COLUMNS = [
    "trial",
    *THESIS_SETTING,
    "parameters",
    "validation_accuracy",
    "validation_loss",
    "seconds",
    "status",
]


@lru_cache
def parts() -> tuple[ImageData, ImageData]:
    """32 training and 16 validation images of two synthetic classes."""
    data = make_synthetic(10, per_class=24).pair(0, 5)
    order = np.random.default_rng(0).permutation(len(data))
    return data.take(order[:32], "train"), data.take(order[32:], "validation")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LQ_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


def untimed(table: pd.DataFrame) -> pd.DataFrame:
    return table.drop(columns="seconds")


# The thesis's space

PRINTED = {
    "conv1_filters": "filters of conv1",
    "conv2_filters": "filters of conv2",
    "kernel_size": "kernel size",
    "learning_rate": "learning rate",
    "batch_size": "batch size",
}


@pytest.mark.parametrize("name", sorted(set(THESIS_SPACE) - {"optimizer"}))
def test_the_space_is_that_of_the_thesis(name: str) -> None:
    rows = published(
        "quantnet_thesis", "table 4.1", parameter=PRINTED.get(name, name)
    )
    found = rows.groupby("quantity")["value"].apply(list)
    if "choice" in found:
        expected = found["choice"]
    else:
        (low,), (high,), (step,) = (
            found[f"range {what}"] for what in ("low", "high", "step")
        )
        expected = np.arange(low, high + step, step).tolist()
    assert list(THESIS_SPACE[name]) == pytest.approx(expected, rel=1e-12)
    assert [THESIS_SETTING[name]] == found["optimal value"]


def test_what_the_table_of_numbers_does_not_hold() -> None:
    assert THESIS_SPACE["optimizer"] == ("adam", "sgd", "rmsprop")
    assert THESIS_SETTING["optimizer"] == "adam"
    assert THESIS_SETTING["initializer"] == "he normal"
    assert set(THESIS_SPACE) == set(THESIS_SETTING) - {"initializer"}
    network = network_of({}, num_outputs=1, seed=7)
    torch.manual_seed(7)
    expected = QuantNet(1).state_dict()
    for name, weight in network.state_dict().items():
        assert torch.equal(weight, expected[name])
    assert sum(p.numel() for p in network.parameters()) == 545_889


# A search


def test_a_search_and_its_table(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    torch.manual_seed(1)
    state = torch.get_rng_state()
    table = random_search(*parts(), **SEARCH)
    assert torch.equal(torch.get_rng_state(), state)
    assert list(table.columns) == COLUMNS
    assert table["trial"].tolist() == [0, 1, 2]
    assert set(table["status"]) == {"ok"}
    for name, choices in {**SMALL, "epochs": (1, 2)}.items():
        assert set(table[name]) <= set(choices)
    assert set(table["initializer"]) == {"he normal"}
    assert not table[list(THESIS_SETTING)].duplicated().any()
    # Every row is the training that it says.
    for row in table.itertuples():
        check_row(row)
    # The same call reads; seconds would tell if it trained again.
    assert_frame_equal(random_search(*parts(), **SEARCH), table)
    # Nothing of it depends on where it was made, or on the space's order.
    monkeypatch.setenv("LQ_CACHE_DIR", str(tmp_path / "other"))
    turned = SEARCH | {"space": dict(reversed(SMALL.items()))}
    again = random_search(*parts(), **turned)
    assert_frame_equal(untimed(again), untimed(table))
    assert again["seconds"].tolist() != table["seconds"].tolist()
    assert capsys.readouterr() == ("", "")
    other = random_search(*parts(), **{**SEARCH, "seed": 5, "progress": True})
    assert not untimed(other).equals(untimed(table))
    shown = capsys.readouterr()
    assert shown.out == "" and "3/3" in shown.err
    assert len(list((tmp_path / "other" / "tuning").iterdir())) == 2


def check_row(row: Any) -> None:
    torch.manual_seed(SEARCH["seed"])
    network = QuantNet(
        1,
        filters=(row.conv1_filters, row.conv2_filters),
        kernel_size=row.kernel_size,
        dropout=row.dropout,
    )
    config = TrainingConfig(
        epochs=row.epochs,
        batch_size=row.batch_size,
        optimizer=row.optimizer,
        learning_rate=row.learning_rate,
        momentum=0.0,
        weight_decay=0.0,
        schedule="constant",
        augment=False,
        seed=SEARCH["seed"],
    )
    train, validation = parts()
    model = fit(network, train, validation, config, progress=False).model
    assert row.validation_accuracy == evaluate(model, validation)
    with torch.no_grad():
        logits = model(to_input(validation.images))[:, 0]
    labels = torch.from_numpy(validation.labels).float()
    loss = F.binary_cross_entropy(torch.sigmoid(logits), labels).item()
    assert row.validation_loss == pytest.approx(loss, rel=1e-5)
    assert row.parameters == sum(p.numel() for p in model.parameters())


SCRIPT = """
    import os, sys
    from pathlib import Path
    sys.path.insert(0, {tests!r})
    import torch
    from test_tuning import SEARCH, QuantNet, parts
    from lq_utils.paths import cache_dir
    from lq_utils.tuning import random_search

    def die(module, inputs, output):
        second = list(cache_dir().glob("tuning/*/trial_1"))
        if second and isinstance(module, QuantNet) and module.training:
            import keras
            good = keras.config.backend() == "torch"
            os._exit(9 if good and "tensorflow" not in sys.modules else 1)

    torch.nn.modules.module.register_module_forward_hook(die)
    assert "keras" not in sys.modules
    random_search(*parts(), **SEARCH)
"""


def test_a_killed_search_goes_on(
    cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    script = textwrap.dedent(SCRIPT.format(tests=str(Path(__file__).parent)))
    environment = {k: v for k, v in os.environ.items() if "KERAS" not in k}
    killed = subprocess.run(
        [sys.executable, "-c", script],
        env=environment | {"PYTHONPATH": str(paths.ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=400,
    )
    assert (killed.returncode, killed.stdout) == (9, ""), killed.stderr
    (folder,) = (cache / "tuning").iterdir()
    (first,) = folder.glob("trial_*/outcome.json")
    assert first.parent.name == "trial_0"
    assert (folder / "trial_1" / "trial.json").exists()
    before = first.stat().st_mtime_ns
    resumed = random_search(*parts(), **SEARCH)
    assert first.stat().st_mtime_ns == before
    assert list(cache.glob("tuning/*")) == [folder]
    monkeypatch.setenv("LQ_CACHE_DIR", str(tmp_path / "whole"))
    whole = random_search(*parts(), **SEARCH)
    assert_frame_equal(untimed(resumed), untimed(whole))
    assert capfd.readouterr() == ("", "")


class Stop(BaseException):
    """As a kill: nothing in between may catch it."""


def simple_search(folder: Path, calls: list[int], stop_at: int) -> Any:
    def worth(setting: dict[str, Any]) -> dict[str, Any]:
        if len(calls) == stop_at:
            raise Stop
        calls.append(setting["a"])
        return {"worth": setting["a"] / 10, "word": "x" * setting["a"]}

    return search(
        worth,
        {"a": range(50)},
        objective="worth",
        trials=5,
        seed=0,
        folder=folder,
        progress=False,
    )


def tear(folder: Path) -> None:
    file = folder / "oracle.json"
    file.write_text(file.read_text()[:40])


def lose(folder: Path) -> None:
    """A trial begun, and not on the list yet."""
    state = json.loads((folder / "trial_3" / "trial.json").read_text())
    (folder / "trial_4").mkdir()
    state["trial_id"] = "4"
    (folder / "trial_4" / "trial.json").write_text(json.dumps(state))


@pytest.mark.parametrize("damage", [tear, lose, lambda folder: None])
def test_torn_books_cost_no_trial(tmp_path: Path, damage: Any) -> None:
    calls: list[int] = []
    whole = simple_search(tmp_path / "whole", calls, stop_at=5)
    assert [setting["a"] for setting, _ in whole] == calls
    assert len(set(calls)) == 5
    assert whole[2][1] == {"worth": calls[2] / 10, "word": "x" * calls[2]}
    again: list[int] = []
    with pytest.raises(Stop):
        simple_search(tmp_path / "torn", again, stop_at=3)
    damage(tmp_path / "torn")
    assert simple_search(tmp_path / "torn", again, stop_at=5) == whole
    assert again == calls


def drawn(seed: int, folder: Path) -> list[tuple[int, int]]:
    pairs = search(
        lambda setting: {"worth": 0.0},
        {"a": range(1000), "b": range(1000)},
        objective="worth",
        trials=8,
        seed=seed,
        folder=folder,
        progress=False,
    )
    return [(setting["a"], setting["b"]) for setting, _ in pairs]


def test_every_seed_draws_its_own_settings(tmp_path: Path) -> None:
    # keras-tuner by itself takes 0 for no seed, and draws with seed,
    # seed + 1, ...: searches with near seeds would share settings.
    by_seed = [drawn(seed, tmp_path / f"{seed}") for seed in range(4)]
    assert drawn(0, tmp_path / "again") == by_seed[0]
    assert len({pair for pairs in by_seed for pair in pairs}) == 4 * 8


def test_an_error_is_no_trial(tmp_path: Path) -> None:
    def wrong(setting: dict[str, Any]) -> dict[str, Any]:
        raise ZeroDivisionError("of no use")

    with pytest.raises(TuningError, match="'a': .*ZeroDivisionError: of no"):
        search(
            wrong,
            {"a": (1, 2)},
            objective="worth",
            trials=2,
            seed=0,
            folder=tmp_path / "wrong",
            progress=False,
        )


# Trials that fail


def test_divergence_is_a_row() -> None:
    # Batches of 32 are one step: it is the last loss that is not finite.
    space = {
        "conv1_filters": (2,),
        "conv2_filters": (2,),
        "optimizer": ("sgd",),
        "learning_rate": (1e30,),
        "batch_size": (8, 32),
    }
    table = random_search(
        *parts(),
        **{**SEARCH, "space": space, "trials": 2},
    )
    assert set(table["batch_size"]) == {8, 32}
    assert set(table["status"]) == {"diverged"}
    assert table["validation_accuracy"].tolist() == [0, 0]
    assert table["validation_loss"].tolist() == [math.inf, math.inf]
    with pytest.raises(TuningError, match="no trial is 'ok'"):
        best_setting(table)


def test_a_network_too_large_is_a_row() -> None:
    # 6e14 bytes are more than any process can address.
    space = {"conv1_filters": (16,), "conv2_filters": (2, 10**12)}
    table = random_search(
        *parts(), **{**SEARCH, "space": space, "epochs": 1, "trials": 2}
    )
    table = table.set_index("conv2_filters")
    assert table["status"].to_dict() == {2: "ok", 10**12: "out of memory"}
    assert table["validation_accuracy"][10**12] == 0
    assert table["parameters"][10**12] > 1.4e14


def test_other_errors_are_not_hidden() -> None:
    train, validation = parts()
    small = replace(train, images=train.images[:, ::4, ::4])
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        train_and_score({}, BASE, small, validation)


# The best setting


def test_the_best_setting_by_hand() -> None:
    table = pd.DataFrame(
        {
            "trial": [0, 1, 2, 3, 4],
            **{name: [v] * 5 for name, v in THESIS_SETTING.items()},
            "validation_accuracy": [0.8, 0.9, 0.9, 0.9, 0.95],
            "validation_loss": [0.1, 0.4, 0.3, 0.3, math.inf],
            "status": ["ok", "ok", "ok", "ok", "diverged"],
        }
    ).assign(conv1_filters=[16, 32, 48, 64, 80])
    best = best_setting(table.iloc[::-1])
    assert best == {**THESIS_SETTING, "conv1_filters": 48}
    kinds = {name: type(value) for name, value in best.items()}
    assert kinds == {name: type(v) for name, v in THESIS_SETTING.items()}
    assert network_of(best, 2).conv1.out_channels == 48
    recipe = recipe_of(best | {"epochs": 3}, replace(BASE, patience=2), seed=9)
    assert (recipe.epochs, recipe.patience, recipe.seed) == (3, 2, 9)
    assert (recipe.optimizer, recipe.learning_rate) == ("adam", 1e-3)


# Initializers


def test_initializers_are_swept() -> None:
    config = replace(BASE, epochs=1, batch_size=16, learning_rate=1e-3)
    setting = {"conv1_filters": 2, "conv2_filters": 2, "dropout": 0.2}
    options: dict[str, Any] = {"setting": setting, "progress": False}
    table = initializer_search(*parts(), config, [0, 5], **options)
    names = ["he normal", "he uniform", "glorot normal", "glorot uniform"]
    assert table["initializer"].tolist() == np.repeat(names, 2).tolist()
    assert table["seed"].tolist() == [0, 5] * 4
    assert table["validation_loss"].nunique() == 8
    again = initializer_search(*parts(), config, [0, 5], **options)
    assert_frame_equal(again, table)
    torch.manual_seed(5)
    network = QuantNet(
        1, filters=(2, 2), dropout=0.2, initializer="glorot uniform"
    )
    trained = fit(network, *parts(), replace(config, seed=5), progress=False)
    row = table.iloc[-1]
    assert row["validation_accuracy"] == trained.validation_accuracy
    assert row["parameters"] == sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"seeds": []}, "one seed"),
        ({"initializers": ()}, "one initializer"),
        ({"initializers": ("zeros",)}, "choose of"),
        ({"setting": {"kernel_size": 2}}, "give 1, 3"),
    ],
)
def test_initializers_that_do_not_exist(
    wrong: dict[str, Any], message: str
) -> None:
    with pytest.raises(TuningError, match=message):
        initializer_search(*parts(), BASE, **{"seeds": [0], **wrong})


# What cannot be searched


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"trials": 0}, "trials=0.*give 1 to 288"),
        ({"trials": 289}, "trials=289, but the space has 288"),
        ({"epochs": 0}, "epochs must be >= 1"),
        ({"epochs": ()}, "'epochs' is .*one choice or more"),
        ({"space": {"filters": (1, 2)}}, "'filters' is no parameter.*conv1"),
        ({"space": {"dropout": 0.5}}, "'dropout' is 0.5: give a tuple"),
        ({"space": {"optimizer": "adam"}}, "'adam': give a tuple"),
        ({"space": {"optimizer": ("adam", "lion")}}, "'lion'; choose of"),
        ({"space": {"kernel_size": (3, 4)}}, "kernel_size=4"),
        ({"space": {"dropout": (0.1, "much")}}, "of numbers or of strings"),
        ({"space": {"batch_size": (8, 8)}}, "twice"),
    ],
)
def test_spaces_that_cannot_be_searched(
    wrong: dict[str, Any], message: str
) -> None:
    with pytest.raises(TuningError, match=message):
        random_search(*parts(), **{**SEARCH, "epochs": 1, **wrong})


def test_numbers_of_a_kind() -> None:
    space = {"b": np.array([2, 4]), "a": (0, 0.5), "c": range(2)}
    found = check_space(space)
    assert found == {"a": [0.0, 0.5], "b": [2, 4], "c": [0, 1]}
    assert {type(v) for v in found["a"]} == {float}
    assert {type(v) for v in found["b"]} == {int}


@pytest.mark.parametrize("position", [0, 1])
def test_images_that_do_not_fit(position: int) -> None:
    for change, message in (
        ({"part": "test"}, "test part"),
        ({"images": parts()[position].images[:, ::4, ::4]}, "32x32 pixels"),
    ):
        both = list(parts())
        both[position] = replace(both[position], **change)
        with pytest.raises(DataError, match=message):
            random_search(*both, **SEARCH)
        with pytest.raises(DataError, match=message):
            initializer_search(*both, BASE, [0])


def test_another_backend_of_keras(monkeypatch: pytest.MonkeyPatch) -> None:
    # What Keras looks like that was imported with JAX.
    config = SimpleNamespace(backend=lambda: "jax")
    monkeypatch.setitem(sys.modules, "keras", SimpleNamespace(config=config))
    with pytest.raises(TuningError, match="'jax'.*KERAS_BACKEND=torch"):
        use_torch_backend()
