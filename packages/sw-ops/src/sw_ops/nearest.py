"""``nearest_distances``: how far each description in a map is from the nearest of those remembered near it.

What a memory of good parts by place comes down to, as in anomaly detection (PatchCore, arXiv 2106.08265, with the place
in addition). Compiled, everything that one place remembers is compared with a strip of points while it is in the cache;
PyTorch's operators would gather it first.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from sw_ops import onnx_nodes
from sw_ops.arguments import check_nearest, check_numbers
from sw_ops.backend import _C, serving_backend, under_transform
from sw_ops.operators import decomposition, define


def nearest_distances(points: Tensor, memory: Tensor, squares: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Return the squared distance from each point to the nearest of what is remembered in the rows and columns near it.

    The map is cut into strips of ``ceil(H / S)`` rows. With ``n`` over all that is remembered::

        y[h, w] = min over r in rows[strip of h], c in columns[w], n of |points[h, w] - memory[c, r, :, n]|^2

    Args:
        points: ``[H, W, K]``, float32: descriptions of the places of a map.
        memory: ``[C, R, K, N]``, float16: ``N`` descriptions at each place, a multiple of 16.
        squares: ``[C, R, N]``, float32: the sum of the squares of each, or infinity for what does not count.
        rows: ``[S, J]``, int64, of the memory; with those beyond its border written as those at it.
        columns: ``[W, I]``, int64, likewise.

    Returns:
        ``[H, W]``, float32, not below 0; infinite where nothing counts. The kernel serves CPUs where no gradient is
        wanted; all else is computed by PyTorch's operators.

    Raises:
        ValueError: a shape does not fit; the message names the argument.
        TypeError: a dtype or device is another.
        IndexError: the memory has no such row or column.

    Example:
        >>> memory = torch.zeros(1, 1, 2, 16, dtype=torch.float16)
        >>> nowhere = torch.zeros(1, 1, dtype=torch.int64)
        >>> nearest_distances(torch.tensor([[[3.0, 4.0]]]), memory, torch.zeros(1, 1, 16), nowhere, nowhere)
        tensor([[25.]])
    """
    tensors = (points, memory, squares, rows, columns)
    is_traced = torch.compiler.is_compiling() or torch.jit.is_tracing()
    wants_grad = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in (points, memory, squares))
    is_written = onnx_nodes.written(points)
    takes_pytorch = is_traced or is_written or wants_grad or under_transform() or points.device.type != "cpu"
    if not takes_pytorch and serving_backend(points.device, points.dtype) == "native":
        return _operator(*tensors)
    check_nearest(*tensors)
    if is_written:
        return onnx_nodes.nearest_distances(*tensors)
    if not is_traced:
        check_numbers(memory.shape[1], rows=rows)
        check_numbers(memory.shape[0], columns=columns)
    return _by_pytorch(*tensors)


def _by_pytorch(points: Tensor, memory: Tensor, squares: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    height, strips = points.shape[0], rows.shape[0]
    strip_rows = -(-height // strips)
    padded = F.pad(points, (0, 0, 0, 0, 0, strips * strip_rows - height))
    found = padded.unflatten(0, (strips, strip_rows)).permute(2, 0, 1, 3)  # [W, S, rows of a strip, K]
    lowest = found.new_full(found.shape[:3], torch.inf)
    rows = rows + (points.sum() > torch.inf).long()  # never; but else graphs' tools would gather all in advance
    for near_columns in columns.T:
        for near_rows in rows.T:
            place = (near_columns[:, None], near_rows)
            offsets = squares[place].unsqueeze(2) - 2 * (found @ memory[place].to(found.dtype))
            lowest = torch.minimum(lowest, offsets.amin(3))
    squared = (lowest + found.square().sum(3)).clamp(min=0)
    return squared.permute(1, 2, 0).flatten(0, 1)[:height]


def _compiled(points: Tensor, memory: Tensor, squares: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    check_nearest(points, memory, squares, rows, columns)
    tensors = [tensor.contiguous() for tensor in (points, memory, squares, rows, columns)]
    squared = points.new_empty(points.shape[:2])
    sizes = (*points.shape, memory.shape[0], memory.shape[1], memory.shape[3], *rows.shape, columns.shape[1])
    _C.cpu.nearest(sizes, [tensor.data_ptr() for tensor in (*tensors, squared)], torch.get_num_threads())
    return squared


def _fake(points: Tensor, memory: Tensor, squares: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    check_nearest(points, memory, squares, rows, columns)
    return points.new_empty(points.shape[:2])


_operator = define("nearest_distances", {"CPU": _compiled} if hasattr(_C, "cpu") else {}, _fake)
decomposition(_operator)(_by_pytorch)
