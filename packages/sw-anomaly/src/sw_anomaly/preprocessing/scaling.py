"""Scaling as Pillow does it, as one operator: Pillow in Python, products of matrices or ``Resize`` in an ONNX file."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sw_anomaly.preprocessing.view import scale

PRECISION = 22  # bits of a weight in Pillow
BLOCK = 64  # pixels
UINT8, INT64, DOUBLE = 2, 7, 11  # onnx.TensorProto's


@torch.library.custom_op("sw_anomaly::scale_planes", mutates_args=())
def scale_planes(planes: Tensor, extent: Tensor, wanted: Tensor, height: int, width: int) -> Tensor:
    """Scale the upper left corner of planes.

    Args:
        planes: uint8 or float32 [C, H, W].
        extent: Height and width of the corner, int64 [2].
        wanted: Height and width to which it is scaled, int64 [2].
        height: Of the planes that are returned, ``wanted[0]`` or more.
        width: Likewise.

    Returns:
        [C, height, width] of the same type, 0 beyond what was wanted.
    """
    (rows, columns), (height_wanted, width_wanted) = extent.tolist(), wanted.tolist()
    scaled = np.zeros((len(planes), height, width), dtype=planes.numpy().dtype)
    for source, target in zip(planes.numpy(), scaled, strict=True):
        target[:height_wanted, :width_wanted] = scale(source[:rows, :columns], (height_wanted, width_wanted))
    return torch.from_numpy(scaled)


@scale_planes.register_fake
def _(planes: Tensor, extent: Tensor, wanted: Tensor, height: int, width: int) -> Tensor:
    return planes.new_empty(len(planes), height, width)


def onnx_translations() -> dict[Callable[..., Any], Callable[..., Any]]:
    """Return what ``torch.onnx.export`` takes as its ``custom_translation_table``."""
    return {torch.ops.sw_anomaly.scale_planes.default: _translate}


def _translate(planes: Any, extent: Any, wanted: Any, height: Any, width: Any) -> Any:
    from onnxscript import opset18

    op: Any = opset18  # its types tell constants from what is computed
    none, axes, one = (op.Constant(value_ints=numbers) for numbers in ([0, 0], [1, 2], [1]))
    corner = op.Slice(planes, none, extent, axes)
    if planes.dtype == UINT8:
        for axis, target in ((2, width), (1, height)):
            index = op.Constant(value_ints=[axis - 1])
            corner = _scale_levels(op, corner, axis, op.Gather(extent, index), op.Gather(wanted, index), target)
        return corner
    scaled = op.Resize(
        corner,
        None,
        None,
        wanted,
        antialias=1,
        axes=[1, 2],
        coordinate_transformation_mode="half_pixel",
        exclude_outside=1,
        mode="linear",
    )
    sides = op.Concat(op.Reshape(height, one), op.Reshape(width, one), axis=0)
    return op.Pad(scaled, op.Concat(none, op.Sub(sides, wanted), axis=0), None, axes)


def _scale_levels(op: Any, planes: Any, axis: int, extent: Any, wanted: Any, target: int) -> Any:
    """Scale ``extent`` levels along an axis to the first ``wanted`` of ``target``, to the same bits as Pillow.

    Its weights are whole numbers of ``PRECISION`` bits, so that products of matrices lose nothing in double precision;
    ``Resize`` rounds some levels in a thousand otherwise. A block of pixels is a product with the levels it sees.
    """
    from onnx import numpy_helper

    def double(value: Any) -> Any:
        return op.Constant(value=numpy_helper.from_array(np.asarray(value, dtype=np.float64)))

    one, half, unit = double([1.0]), double(0.5), double(2.0**PRECISION)
    index, along, across = (op.Constant(value_ints=[number]) for number in (axis, 2 - axis, axis - 1))
    side = op.Cast(extent, to=DOUBLE)
    scale = op.Div(side, op.Cast(wanted, to=DOUBLE))
    reach = op.Max(scale, one)
    narrower = op.Div(one, reach)
    blocks = []
    for start in range(0, target, BLOCK):
        stop = min(start + BLOCK, target)
        low, high = (op.Mul(double([end + 0.5]), scale) for end in (start, stop - 1))
        first = op.Clip(op.Floor(op.Sub(low, reach)), double(0), op.Squeeze(op.Sub(side, one)))
        last = op.Max(op.Min(op.Ceil(op.Add(high, reach)), side), op.Add(first, one))
        centres = op.Mul(double(np.expand_dims(np.arange(start, stop) + 0.5, 2 - axis)), scale)
        places = op.Range(op.Squeeze(first), op.Squeeze(last), op.Squeeze(one))
        places = op.Unsqueeze(op.Add(places, half), across)
        distances = op.Mul(op.Abs(op.Sub(places, centres)), narrower)
        weights = op.Max(op.Sub(one, distances), double(0))
        shares = op.Div(weights, op.ReduceSum(weights, along))
        whole = op.Floor(op.Add(op.Mul(shares, unit), half))
        whole = op.Where(op.Less(centres, side), whole, double(0))
        seen = op.Slice(planes, op.Cast(first, to=INT64), op.Cast(last, to=INT64), index)
        seen = op.Cast(seen, to=DOUBLE)
        product = op.MatMul(whole, seen) if axis == 1 else op.MatMul(seen, whole)
        blocks.append(op.Cast(op.Floor(op.Add(op.Div(product, unit), half)), to=UINT8))
    return op.Concat(*blocks, axis=axis)
