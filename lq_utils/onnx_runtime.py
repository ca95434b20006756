"""Networks in ONNX Runtime, on one thread: logits, times, kernels."""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from torch import Tensor

from lq_utils.data import ImageData
from lq_utils.inference import to_input
from lq_utils.onnx_files import OnnxError, read_onnx

ERRORS_ONLY = 3  # level of the runtime's log


def _options() -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = ERRORS_ONLY
    return options


def open_session(
    path: Path | str, options: onnxruntime.SessionOptions | None = None
) -> onnxruntime.InferenceSession:
    """A network ready to run, on the CPU and one thread.

    Raises:
        OnnxError: no such file, a damaged one, one that takes or returns
            more than one tensor, or one with operators the runtime lacks.

    Introduced in chapter 4.
    """
    read_onnx(path)
    try:
        session = onnxruntime.InferenceSession(
            str(path), options or _options(), ["CPUExecutionProvider"]
        )
    except Exception as error:
        raise OnnxError(
            f"{path} does not run in ONNX Runtime "
            f"{onnxruntime.__version__} ({error})"
        ) from error
    if len(session.get_inputs()) != 1 or len(session.get_outputs()) != 1:
        raise OnnxError(
            f"{path} takes {len(session.get_inputs())} tensors and returns "
            f"{len(session.get_outputs())}: export a network of images to "
            "logits with export_onnx"
        )
    return session


def _run(
    session: onnxruntime.InferenceSession, batch: np.ndarray
) -> np.ndarray:
    name = session.get_inputs()[0].name
    try:
        return session.run(None, {name: batch})[0]
    except Exception as error:
        raise OnnxError(
            f"images of shape {list(batch.shape[1:])} do not fit the "
            f"network, which takes {session.get_inputs()[0].shape} ({error})"
        ) from error


def predict_onnx(
    path: Path | str, data: ImageData, batch_size: int = 500
) -> Tensor:
    """Logits float32 ``[N, classes]`` of every image.

    Dynamic quantization takes its scales from a whole batch: only with
    the same ``batch_size`` are two of its results alike.

    Raises:
        OnnxError: as ``open_session``, or images that do not fit.

    Introduced in chapter 4.
    """
    if batch_size < 1 or not len(data):
        raise OnnxError(
            f"{len(data)} images in batches of {batch_size}: give at least "
            "one of each"
        )
    session = open_session(path)
    parts = [
        _run(
            session,
            np.ascontiguousarray(to_input(data.images[i : i + batch_size])),
        )
        for i in range(0, len(data), batch_size)
    ]
    return torch.from_numpy(np.concatenate(parts)).float()


def latency(
    path: Path | str,
    batch: int = 1,
    runs: int = 100,
    warm_up: int = 10,
    seed: int = 0,
) -> dict[str, float]:
    """Milliseconds that one thread takes for one batch of noise images.

    ``median_ms`` over ``runs``, their quartiles ``low_ms`` and
    ``high_ms``, and ``iqr_ms``, the distance of the two.

    Raises:
        OnnxError: as ``open_session``, or counts below one.

    Introduced in chapter 4.
    """
    if min(batch, runs) < 1 or warm_up < 0:
        raise OnnxError(
            f"batch {batch}, runs {runs}, warm_up {warm_up}: give positive "
            "numbers (warm_up may be 0)"
        )
    session = open_session(path)
    shape = session.get_inputs()[0].shape[1:]
    noise = np.random.default_rng(seed).normal(size=(batch, *shape))
    images = noise.astype(np.float32)
    for _ in range(warm_up):
        _run(session, images)
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        _run(session, images)
        times.append(1e3 * (time.perf_counter() - start))
    low, median, high = np.percentile(times, [25, 50, 75]).tolist()
    return {
        "median_ms": median,
        "low_ms": low,
        "high_ms": high,
        "iqr_ms": high - low,
    }


def executed_operators(path: Path | str) -> Counter[str]:
    """What this machine really computes: operator to number of uses.

    The runtime fuses and replaces the operators of a file before the
    first image. Integer arithmetic shows as ``QLinearConv``, ``QGemm``,
    ``ConvInteger``, ``MatMulInteger`` or ``DynamicQuantizeMatMul``;
    where ``Conv`` or ``Gemm`` stay, numbers are rounded as the file says
    but multiplied in float32.

    Raises:
        OnnxError: as ``open_session``.

    Introduced in chapter 4.
    """
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "optimized.onnx"
        options = _options()
        options.optimized_model_filepath = str(target)
        open_session(path, options)
        # Not read_onnx: the runtime's own operators fail its checks.
        graph = onnx.load(target).graph
    return Counter(node.op_type for node in graph.node)
