"""From a torch network to one ONNX file."""

from __future__ import annotations

from pathlib import Path

import onnx
import torch
from torch import nn

from lq_utils.onnx_files import OnnxError, quiet, write_onnx
from lq_utils.stacks import strip

INPUT = "x"  # names in the file
OUTPUT = "y"
MAX_BATCH = 4096
# Below it, 4- and 16-bit integers are no tensors of the standard operators.
MIN_OPSET = 21


def export_onnx(
    model: nn.Module,
    path: Path | str,
    image_shape: tuple[int, int, int] = (3, 32, 32),
    opset: int = MIN_OPSET,
) -> int:
    """Write ``model``, in evaluation mode, as one ONNX file.

    The file maps ``x``, float32 ``[N, *image_shape]`` with N from 1 to
    4096, to ``y``, the logits float32 ``[N, outputs]``; all weights are
    inside it. Batch normalization is folded, parametrized weights are
    stored as what they evaluate to, and biases that are zero throughout
    are left out. ``model`` stays as it is.

    QuantNET takes 2.084 MiB so (2.0824 of them are weights; the thesis
    prints 2.0852 for its TensorFlow Lite file).

    Returns:
        The size on disk in bytes.

    Raises:
        OnnxError: the network cannot be exported, or not be written.

    Source: ONNX operators, version 21 and above, written by
    ``torch.onnx.export``. Introduced in chapter 4.
    """
    if opset < MIN_OPSET:
        raise OnnxError(
            f"opset {opset}: the schemes need 4- and 16-bit integers, "
            f"give {MIN_OPSET} or more"
        )
    proto = _exported(strip(model).cpu().eval(), image_shape, opset)
    shape = proto.graph.output[0].type.tensor_type.shape.dim
    if len(proto.graph.output) != 1 or len(shape) != 2:
        raise OnnxError(
            f"the network returns {len(proto.graph.output)} tensors, the "
            f"first of {len(shape)} dimensions: it must return logits "
            "[N, outputs] and nothing else"
        )
    return write_onnx(proto, path)


def _exported(
    model: nn.Module, image_shape: tuple[int, int, int], opset: int
) -> onnx.ModelProto:
    # Two images: a batch of one would be taken for a constant.
    example = torch.zeros(2, *image_shape)
    batch = torch.export.Dim("n", min=1, max=MAX_BATCH)
    try:
        with torch.no_grad(), quiet():
            program = torch.onnx.export(
                model,
                (example,),
                dynamo=True,
                verbose=False,
                input_names=[INPUT],
                output_names=[OUTPUT],
                dynamic_shapes=({0: batch},),
                opset_version=opset,
                external_data=False,
            )
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise OnnxError(
            f"{type(model).__name__} cannot be exported for images of shape "
            f"{list(image_shape)} ({reason}): its forward pass must take one "
            "batch of such images, of any size, through torch operations only"
        ) from error
    assert program is not None  # with dynamo=True
    return program.model_proto
