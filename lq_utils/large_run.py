"""One large network from random weights to result rows, step by step.

Every step leaves something behind: an epoch a checkpoint, a cell its
rows. So the same call goes on where a killed one stopped.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import joblib
import pandas as pd
from torch import nn

from lq_utils.cache import canonical_json
from lq_utils.data import load_dataset
from lq_utils.images import Splits
from lq_utils.inference import pick_device
from lq_utils.label_aware import Classes
from lq_utils.large_estimates import cells_seconds, count_work, epoch_seconds
from lq_utils.large_networks import (
    KINDS,
    LargeNetwork,
    LargeNetworkError,
    large_network,
)
from lq_utils.large_rows import (
    record_data_free,
    record_label_aware,
    record_training,
)
from lq_utils.large_subsets import study_subsets
from lq_utils.large_sweeps import (
    Material,
    Sweep,
    data_free_sweeps,
    label_aware_sweeps,
)
from lq_utils.large_training import (
    PROFILE,
    finished_epochs,
    finished_record,
    load_large,
    network_folder,
    weights_file,
)
from lq_utils.models import build_model
from lq_utils.paths import REFERENCE
from lq_utils.records import KEPT, ResultError, keep_run, load_run
from lq_utils.results import Run
from lq_utils.weights import load_weights


@dataclass(frozen=True)
class Job:
    """A large network, its images, and what computes.

    Introduced in chapter 3.
    """

    settings: LargeNetwork
    splits: Splits
    device: str
    workers: int
    seed: int = 0

    @property
    def gpu(self) -> bool:
        """Whether images pass on something else than the CPU."""
        return self.device != "cpu"


def find_job(
    name: str, device: str = "auto", workers: int = 0, seed: int = 0
) -> Job:
    """The job of a registered large network; loads its images.

    ``workers`` processes compute cells; 0 takes all cores, or three
    quarters of them beside a GPU, whose memory they share.

    Raises UnknownName for another network, DataError without images,
    LargeNetworkError for a negative number of workers. Introduced in
    chapter 3.
    """
    settings = large_network(name)
    if workers < 0:
        raise LargeNetworkError(f"workers={workers}: give 0 (all) or more")
    where = str(pick_device(device))
    cores = joblib.cpu_count()
    most = cores if where == "cpu" else max(1, cores * 3 // 4)
    splits = load_dataset(settings.dataset)
    return Job(settings, splits, where, workers or most, seed)


def _places(job: Job, network: nn.Module) -> pd.DataFrame:
    study = job.settings.subsets
    return study_subsets(network, job.splits.train, study, job.seed)


def _classes(places: pd.DataFrame) -> tuple[Classes, ...]:
    return tuple(tuple(map(int, key.split())) for key in places["subset"])


def _stand_ins(job: Job) -> tuple[Classes, ...]:
    """As many subsets as there will be, where none are known yet."""
    study, total = job.settings.subsets, job.splits.train.num_classes
    return tuple(
        tuple(sorted((i + k) % total for k in range(study.subset_size)))
        for i in range(min(total, len(KINDS) * study.subsets_per_kind))
    )


def _sweeps(of: Material) -> dict[str, Sweep]:
    return label_aware_sweeps(of) | data_free_sweeps(of)


def plan_network(job: Job) -> pd.DataFrame:
    """What a run would do: one row a step.

    Columns: step, done, of, unit (epochs or cells), minutes (an
    estimate of what is left, see ``lq_utils.large_estimates``). Before
    the network is trained its subsets are not known: cells are then
    counted for as many others.

    Introduced in chapter 3.
    """
    record = finished_record(job.settings, job.splits)
    classes = job.splits.train.num_classes
    if record is None:
        network = build_model(job.settings.model, classes)
        subsets = _stand_ins(job)
    else:
        network = load_weights(weights_file(job.settings.name))
        subsets = _classes(_places(job, network))
    work = count_work(network)
    lines = [_training_line(job, work, record)]
    of = Material(
        job.settings, network, job.splits, subsets, job.device, job.seed
    )
    each = job.settings.subsets.test_per_class
    for step, sweep in _sweeps(of).items():
        left = sweep.pending()
        whole = step in ("float", "rounded")
        tested = len(job.splits.test) if whole else 2 * each * len(of.few[0])
        seconds = cells_seconds(work, left, tested, job.gpu, job.workers)
        total = len(sweep.cells)
        lines.append((step, total - len(left), total, "cells", seconds / 60))
    columns = ["step", "done", "of", "unit", "minutes"]
    return pd.DataFrame(lines, columns=columns)


def _training_line(
    job: Job, work: Any, record: dict[str, Any] | None
) -> tuple[str, int, int, str, float]:
    epochs = job.settings.config.epochs
    if record is not None:
        return "train", epochs, epochs, "epochs", 0.0
    history = finished_epochs(job.settings, job.splits)
    seconds = epoch_seconds(
        work,
        job.settings,
        len(job.splits.train),
        job.gpu,
        joblib.cpu_count(),
        history,
    )
    left = epochs - len(history)
    return "train", len(history), epochs, "epochs", left * seconds / 60


def run_network(job: Job) -> Path:
    """Train, sweep, write rows; the folder with ``rows.csv``.

    What was finished before is taken from where it lies; rows that are
    there already and complete are left as they are.

    Raises TrainingError, TraceError for a network that cannot be
    followed, and SweepError where cells failed (the others are stored).
    Introduced in chapter 3.
    """
    network, record = load_large(job.settings, job.splits, job.device)
    places = _places(job, network)
    subsets = _classes(places)
    of = Material(
        job.settings, network, job.splits, subsets, job.device, job.seed
    )
    sweeps = _sweeps(of)
    source = job.splits.provenance
    run = Run(job.settings.name, _parameters(job, record), source)
    if _rows_there(run) and not any(s.pending() for s in sweeps.values()):
        print("All rows are there: nothing to do.")
        return run.folder
    frames = {name: s.rows(job.workers) for name, s in sweeps.items()}
    record_training(run, record)
    record_label_aware(run, frames, places, of)
    record_data_free(run, frames)
    return run.save()


def _parameters(job: Job, record: dict[str, Any]) -> dict[str, Any]:
    """What a run's record says about how its rows came to be."""
    return {
        "profile": PROFILE,
        "seed": job.seed,
        "device": job.device,
        "settings": asdict(job.settings),
        "selected_epoch": record["selected_epoch"],
        "training_seconds": record["seconds"],
    }


def _rows_there(run: Run) -> bool:
    try:
        before = load_run(run.folder)["parameters"]
    except ResultError:
        return False
    wanted = json.loads(canonical_json(run.parameters))
    return before == wanted and (run.folder / "rows.csv").is_file()


def keep_rows(name: str) -> Path:
    """Copy a network's rows to ``data/results/networks``, to be committed.

    Raises UnknownName for another network, ResultError where it has no
    rows yet. Introduced in chapter 3.
    """
    large_network(name)
    source = network_folder(name)
    if not all((source / part).is_file() for part in KEPT):
        raise ResultError(
            f"no rows of {name} in {source}: do "
            f"python -m lq_utils network {name}"
        )
    return keep_run(source, REFERENCE / PROFILE / name)
