"""Image embeddings by an ImageNet-pretrained network, and UMAP to 2-D.

Embedding goes chunk by chunk, each cached by the content of its images,
so a killed run goes on where it stopped.
"""

from __future__ import annotations

import hashlib
import time
import warnings
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import version

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from lq_utils.backbones import (
    BACKBONES,
    OFFLINE_BACKBONE,
    Backbone,
    EmbeddingError,
    register_backbone,
)
from lq_utils.cache import cached

__all__ = [
    "BACKBONES",
    "Backbone",
    "EmbeddingError",
    "embed",
    "nearest_neighbours",
    "register_backbone",
    "umap_2d",
]

MAX_BYTES = 4 * 2**30  # of one embedding matrix


@dataclass(frozen=True)
class _Request:
    """How images become features: all of it is in the cache's key."""

    backbone: str
    size: int
    pooling: str
    mode: str
    device: str


def _features(
    backbone: Backbone, request: _Request, images: np.ndarray
) -> Tensor:
    """Resize, normalise, embed and pool one batch (uint8 in, [B, d] out)."""
    size = request.size
    x = torch.from_numpy(images).to(request.device).permute(0, 3, 1, 2)
    x = x.float() / 255
    if tuple(x.shape[2:]) != (size, size):
        shrinks = x.shape[3] > size
        x = F.interpolate(
            x, (size, size), mode=request.mode, antialias=shrinks
        )
        x = x.clamp(0, 1)
    mean = torch.tensor(backbone.mean, device=request.device)
    std = torch.tensor(backbone.std, device=request.device)
    x = (x - mean[:, None, None]) / std[:, None, None]
    y = backbone.network(x.contiguous(memory_format=torch.channels_last))
    return y.mean(dim=(2, 3)) if request.pooling == "average" else y.flatten(1)


class _Embedder:
    """A backbone that is loaded only when some chunk is not cached."""

    def __init__(self, request: _Request) -> None:
        self.build = BACKBONES.get(request.backbone)
        self.request = request
        self.backbone: Backbone | None = None
        self.computed, self.seconds = 0, 0.0

    def __call__(
        self, images: np.ndarray, batch: int
    ) -> dict[str, np.ndarray]:
        started = time.perf_counter()
        if self.backbone is None:
            self.backbone = self.build(self.request.size)
            network = self.backbone.network.eval().to(self.request.device)
            network.to(memory_format=torch.channels_last)
        with torch.inference_mode():
            parts = [
                _features(self.backbone, self.request, images[i : i + batch])
                for i in range(0, len(images), batch)
            ]
        features = torch.cat(parts).float().cpu().numpy()
        self.seconds += time.perf_counter() - started
        self.computed += len(images)
        return {"features": features}


def _digest(array: np.ndarray) -> str:
    array = np.ascontiguousarray(array)
    head = f"{array.dtype} {array.shape} ".encode()
    return hashlib.sha256(head + array.tobytes()).hexdigest()


def _check_request(images: np.ndarray, size: int, pooling: str) -> None:
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3:
        raise EmbeddingError(
            f"images must be uint8 [N, H, W, 3], not {images.dtype} "
            f"{list(images.shape)}"
        )
    if not len(images):
        raise EmbeddingError("there are no images to embed")
    if pooling not in ("average", "flatten"):
        raise EmbeddingError(
            f"pooling={pooling!r} is not known: average or flatten"
        )
    if not 8 <= size <= 1024:
        raise EmbeddingError(f"size={size} is outside 8..1024 pixels")


def embed(
    images: np.ndarray,
    backbone: str = OFFLINE_BACKBONE,
    size: int = 224,
    pooling: str = "average",
    *,
    mode: str = "bilinear",
    batch: int = 64,
    chunk: int = 512,
    verbose: bool = True,
) -> np.ndarray:
    """Features of ``images`` (uint8 ``[N, H, W, 3]``): float32 ``[N, d]``.

    Images are resized to ``size`` by ``mode`` (bilinear or bicubic) and
    normalised as the backbone wants. ``pooling="average"`` averages the
    last feature map over space (what the label-aware authors' code does);
    ``"flatten"`` keeps every position (what their text says).

    Prints images/s. Raises EmbeddingError for wrong input, weights that
    cannot be had, or a result beyond 4 GiB.

    Introduced in chapter 1.
    """
    images = np.asarray(images)
    _check_request(images, size, pooling)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    request = _Request(backbone, size, pooling, mode, device)
    embedder = _Embedder(request)
    code = (embedder.build, _features)
    starts = range(0, len(images), chunk)
    parts: list[np.ndarray] = []
    for i in tqdm(starts, "embedding", disable=not verbose, leave=False):
        part = images[i : i + chunk]
        key = {
            "images": _digest(part),
            "torch": torch.__version__,
            **asdict(request),
        }
        compute = partial(embedder, part, batch)
        stored = cached("embeddings", key, compute, code=code)
        parts.append(stored["features"])
        if len(images) * parts[0][0].nbytes > MAX_BYTES:
            raise EmbeddingError(
                f"{len(images)} x {parts[0].shape[1]} numbers take more "
                "than 4 GiB: use pooling='average', fewer images or a "
                "smaller size"
            )
    if verbose:
        _report(embedder, len(images))
    return np.concatenate(parts)


def _report(embedder: _Embedder, total: int) -> None:
    rate = embedder.computed / max(embedder.seconds, 1e-9)
    speed = f" at {rate:.0f} images/s" if embedder.computed else ""
    print(
        f"embedded {total:,} images at {embedder.request.size} px on "
        f"{embedder.request.device}: {embedder.computed:,} now{speed}, "
        f"{total - embedder.computed:,} from the cache"
    )


def nearest_neighbours(
    features: np.ndarray, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """Exact Euclidean neighbours of every point, itself first.

    ``features [N, d]``; returns indices int32 ``[N, k]`` and distances
    float32 ``[N, k]``, cached.

    Introduced in chapter 1.
    """
    from sklearn.neighbors import NearestNeighbors

    def compute() -> dict[str, np.ndarray]:
        search = NearestNeighbors(n_neighbors=k, algorithm="brute")
        distances, indices = search.fit(features).kneighbors(features)
        return {
            "indices": indices.astype(np.int32),
            "distances": distances.astype(np.float32),
        }

    key = {"features": _digest(features), "k": k}
    found = cached("neighbours", key, compute, code=(nearest_neighbours,))
    return found["indices"], found["distances"]


def umap_2d(
    features: np.ndarray,
    seed: int,
    n_neighbors: int = 15,
    min_dist: float = 0.1,
) -> np.ndarray:
    """UMAP of ``features [N, d]`` to the plane: float32 ``[N, 2]``, cached.

    The exact neighbours are searched once and shared by all seeds, so a
    seed changes only the layout: its start and its random sampling. With
    a seed UMAP runs on one core and repeats on the same machine.
    McInnes, Healy and Melville 2018.

    Raises EmbeddingError for too few points.

    Introduced in chapter 1.
    """
    if len(features) <= n_neighbors:
        raise EmbeddingError(
            f"UMAP with n_neighbors={n_neighbors} needs more than "
            f"{len(features)} points"
        )

    def compute() -> dict[str, np.ndarray]:
        # Imported here: it compiles for seconds, and a cached run need not.
        import umap

        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "n_jobs value", UserWarning)
            warnings.filterwarnings("ignore", "precomputed_knn", UserWarning)
            model = umap.UMAP(
                n_neighbors=n_neighbors,
                min_dist=min_dist,
                random_state=seed,
                precomputed_knn=nearest_neighbours(features, n_neighbors),
            )
            return {"plane": model.fit_transform(features)}

    key = {
        "features": _digest(features),
        "seed": seed,
        "n_neighbors": n_neighbors,
        "min_dist": min_dist,
        "umap": version("umap-learn"),
    }
    return cached("umap", key, compute, code=(umap_2d,))["plane"]
