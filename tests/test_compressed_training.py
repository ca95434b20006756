"""Training of parametrized networks: what moves, what is kept, refusals."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from lq_utils.clustering import cluster_weights
from lq_utils.compressed_training import fit, steps_per_epoch
from lq_utils.compression import (
    cluster,
    fake_quantize,
    prune,
    pruning_steps,
    strip,
)
from lq_utils.compression_checks import check_distinct, check_sparse
from lq_utils.images import DataError, ImageData, Provenance
from lq_utils.inference import evaluate, to_input
from lq_utils.parametrizations import Clustered
from lq_utils.pruning import SparsitySchedule
from lq_utils.recipes import TrainingConfig, TrainingError
from lq_utils.stacks import find
from lq_utils.training import loss_of

CONFIG = TrainingConfig(
    epochs=3,
    batch_size=16,
    optimizer="adam",
    learning_rate=0.01,
    weight_decay=0.0,
    schedule="constant",
    image_sizes=(8,),
)


def make_data(part: str, classes: int = 2, count: int = 64) -> ImageData:
    """8x8 images whose class is their brightest colour."""
    rng = np.random.default_rng(len(part))
    labels = np.arange(count) % classes
    images = rng.integers(0, 120, (count, 8, 8, 3), dtype=np.uint8)
    images[np.arange(count), :, :, labels] += 60
    names, groups = tuple("abc"[:classes]), np.zeros(classes, dtype=np.int64)
    source = Provenance("made", "synthetic", "0" * 8, "pair")
    return ImageData(images, labels, names, ("all",), groups, part, source)


TRAIN, VALIDATION = make_data("train"), make_data("validation")


def network(outputs: int = 1) -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Dropout(0.1),
        nn.Linear(24, outputs),
    )


def run(model: nn.Module, config: TrainingConfig = CONFIG, **options):
    return fit(
        model, TRAIN, VALIDATION, config, progress=False, device="cpu",
        **options,
    )  # fmt: skip


def test_a_compressed_network_learns_and_keeps_its_promises():
    schedule = SparsitySchedule(0.5, end=6, every=2)
    pruned = prune(network(), 0.0)
    first = run(
        pruned, callback=pruning_steps(schedule), keep_from_step=schedule.end
    )
    check_sparse(first.model, 0.5)
    model = fake_quantize(cluster(first.model, 8), 8)
    kept = {n: v.clone() for n, v in model.state_dict().items()}
    trained = run(model, replace(CONFIG, epochs=6))
    check_sparse(trained.model, 0.5)
    check_distinct(trained.model, 8)
    assert trained.validation_accuracy > 0.9
    assert evaluate(strip(trained.model), VALIDATION) == pytest.approx(
        trained.validation_accuracy
    )
    # What was given is as it was.
    assert all(torch.equal(v, kept[n]) for n, v in model.state_dict().items())


def test_the_best_validation_epoch_is_kept():
    trained = run(network(), replace(CONFIG, epochs=5, learning_rate=0.05))
    rows = [r["validation_accuracy"] for r in trained.history]
    assert trained.best_epoch == int(np.argmax(rows))
    assert trained.validation_accuracy == max(rows)
    assert evaluate(trained.model, VALIDATION) == max(rows)
    assert len(rows) == 5 and not trained.model.training


def test_epochs_before_the_schedule_ends_do_not_count():
    # Destroy the network at step 8 of 12: the best epochs come before.
    def destroy(step: int, model: nn.Module) -> None:
        if step == 8:
            with torch.no_grad():
                model[5].weight.zero_()
                model[5].bias.fill_(-50.0)

    assert steps_per_epoch(64, CONFIG) == 4
    good = replace(CONFIG, learning_rate=0.05)
    free = run(network(), good, callback=destroy)
    assert free.best_epoch < 2
    late = run(network(), good, callback=destroy, keep_from_step=8)
    assert late.best_epoch == 2 and late.validation_accuracy == 0.5


def test_steps_are_counted_from_zero_over_all_epochs():
    seen: list[int] = []
    run(network(), callback=lambda step, model: seen.append(step))
    assert seen == list(range(12))


def test_same_seed_same_weights_and_the_global_state_is_left_alone():
    model = cluster(network(), 5)
    torch.manual_seed(7)
    state = torch.get_rng_state()
    first = run(model)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(8)
    again, other = run(model), run(model, replace(CONFIG, seed=1))
    weights = [r.model[5].weight for r in (first, again, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_one_step_by_hand():
    """Plain gradient descent, whole data set, no crops, two rates."""
    config = replace(
        CONFIG, epochs=1, batch_size=64, optimizer="sgd", momentum=0.0,
        weight_decay=0.5, learning_rate=0.1, augment=False,
    )  # fmt: skip
    model = cluster(
        nn.Sequential(nn.Flatten(), nn.Linear(192, 1)), 6, gradient="mean"
    )
    trained = run(model, config, centroid_rate=0.01).model
    x, y = to_input(TRAIN.images), torch.from_numpy(TRAIN.labels)
    latent = model[1].parametrizations.weight.original
    loss_of(model(x), y, 0.0).backward()
    wanted = latent - 0.1 * (latent.grad + 0.5 * latent)
    moved = trained[1].parametrizations.weight.original
    torch.testing.assert_close(moved, wanted, atol=1e-6, rtol=1e-5)
    book, new = (find(m[1], Clustered).codebook for m in (model, trained))
    torch.testing.assert_close(
        new, book - 0.1 * 0.01 * book.grad, atol=1e-7, rtol=1e-6
    )


def test_centroids_stay_at_rate_zero():
    model = cluster(network(), 5)
    trained = run(model, centroid_rate=0.0).model
    book = cluster_weights(model[5].weight, 5).centroids
    assert torch.equal(find(trained[5], Clustered).codebook.detach(), book)


def test_patience_stops():
    config = replace(CONFIG, epochs=30, learning_rate=1e-9, patience=2)
    assert len(run(network(), config).history) == 3


def test_test_images_are_refused():
    for parts in (
        (TRAIN, make_data("test")),
        (make_data("test"), VALIDATION),
        (replace(TRAIN, part="all"), VALIDATION),
    ):
        with pytest.raises(DataError, match="choice must not be made"):
            fit(network(), *parts, CONFIG)
    with pytest.raises(DataError, match="validation 3"):
        fit(network(), TRAIN, make_data("validation", 3), CONFIG)


def test_bad_input():
    with pytest.raises(TrainingError, match="3 outputs, the data 2"):
        run(network(3))
    with pytest.raises(TrainingError, match="only 12 steps"):
        run(network(), keep_from_step=12)
    with pytest.raises(TrainingError, match="centroid_rate"):
        run(network(), centroid_rate=-1.0)
    with pytest.raises(TrainingError, match="requires a gradient"):
        run(network().requires_grad_(False))
    run(network(2), replace(CONFIG, epochs=1))
