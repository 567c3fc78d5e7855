"""This package's operators in ONNX files: as nodes that its library for onnxruntime computes, and anything else can.

The nodes are of the domain "sw_ops", and take maps in channels-last memory. The file says what each is in ONNX's own
operators, as functions: where the library is not loaded, onnxruntime puts these in the nodes' places.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from sw_ops.backend import _C

if TYPE_CHECKING:
    import onnx

DOMAIN = "sw_ops"
_LANES = 16  # onnxruntime has fast code for depthwise convolutions of a multiple of so many channels, and no other
_writing = False  # a plain global, as the choice of the backend is


def onnxruntime_library() -> str:
    """Return the path of the library that gives onnxruntime, from 1.18 on, this package's kernels for CPUs.

    It serves the nodes in files of :func:`to_onnx`, and so in those of ``sw-models export`` and ``sw-anomaly export``.

    Raises:
        RuntimeError: this installation has none, or the onnxruntime beside it is older, and would load it without
            taking in what is in it.

    Example:
        >>> options = onnxruntime.SessionOptions()  # doctest: +SKIP
        >>> options.register_custom_ops_library(sw_ops.onnxruntime_library())  # doctest: +SKIP
        >>> session = onnxruntime.InferenceSession("model.onnx", options)  # doctest: +SKIP
    """
    path = None if _C is None else Path(_C.__file__).with_name("sw_ops_onnxruntime.so")
    if path is None or not path.exists():
        raise RuntimeError("onnxruntime_library: this installation has no compiled code; see 'sw-ops doctor'")
    for name in ("onnxruntime", "onnxruntime-gpu"):
        with suppress(PackageNotFoundError):
            if tuple(int(part) for part in version(name).split(".")[:2]) < (1, 18):
                raise RuntimeError(f"onnxruntime_library: got {name} {version(name)}, want 1.18 or later")
    return str(path)


def to_onnx(model: torch.nn.Module, args: tuple[Any, ...], **options: Any) -> onnx.ModelProto:
    """Return what ``torch.onnx.export`` makes of a model, with this package's operators as nodes, in float32.

    With ``dynamo=True`` nodes need torch 2.8; an older one writes ONNX's own operators alone.

    Args:
        model: in the form to be deployed, in evaluation mode.
        args: an example of its inputs.
        options: as ``torch.onnx.export`` takes them, from opset 18 on.

    Returns:
        The model, for ``onnx.save``. Any runtime computes it; onnxruntime is fast with :func:`onnxruntime_library`.

    Example:
        >>> onnx.save(sw_ops.to_onnx(model, (images,)), "model.onnx")  # doctest: +SKIP
    """
    import onnx

    with torch.no_grad(), _nodes():
        if options.get("dynamo", True):
            program: Any = torch.onnx.export(model, args, **{"dynamo": True, "verbose": False, **options})
            proto = program.model_proto
        else:
            buffer: Any = BytesIO()
            torch.onnx.export(model, args, buffer, **options, custom_opsets={DOMAIN: 1})
            proto = onnx.load_from_string(buffer.getvalue())
    _add_functions(proto)
    return proto


@contextmanager
def _nodes() -> Iterator[None]:
    global _writing
    _writing = True
    try:
        yield
    finally:
        _writing = False


def written(x: Tensor) -> bool:
    """Tell whether :func:`to_onnx` is at work, and this map's operators can be nodes."""
    if not _writing:  # first, for every call of an operator asks
        return False
    possible = torch.jit.is_tracing() or hasattr(getattr(torch.onnx, "ops", None), "symbolic")
    return possible and isinstance(x, Tensor) and x.device.type == "cpu" and x.dtype == torch.float32


def stripe_conv(
    x: Tensor,
    horizontal: Tensor,
    vertical: Tensor,
    bias: Tensor,
    anchor: int,
    exact: bool,
    channels: Tensor | None,
    order: Tensor | None,
) -> Tensor:
    """Write a node for :func:`sw_ops.stripe_conv2d_fused`: ``StripeConv``, or ``StripeConvOfChannels``."""
    rep, thickness, length = (int(size) for size in horizontal.shape)
    centre, more = thickness // 2, -rep % _LANES
    attributes: dict[str, Any] = {"anchor": anchor, "exact": int(exact), "rep": [rep], "more": [0, more]}
    attributes["group"] = rep + more
    for name, size in (("columns", x.shape[3]), ("rows", x.shape[2])):  # the taps that reach a pixel from another
        known = type(size) is int and size > 0
        first, last = (max(0, anchor - size + 1), min(length, anchor + size)) if known else (0, length)
        before, after = anchor - first, last - 1 - anchor
        pads = [centre, before, centre, after] if name == "columns" else [before, centre, after, centre]
        attributes |= {f"{name}_from": [first], f"{name}_to": [last], f"{name}_pads": pads}
    pixels = x.permute(0, 2, 3, 1)
    if channels is None:
        shape = (*pixels.shape[:3], rep)
        y = _node("StripeConv", (pixels, horizontal, vertical, bias), attributes, shape)
    else:
        if order is not None:
            pixels = pixels.index_select(3, order)
        y = _node("StripeConvOfChannels", (pixels, horizontal, vertical, bias, channels), attributes, pixels.shape)
    return y.permute(0, 3, 1, 2)


def pointwise_mlp(x: Tensor, processed: Tensor, *weights: Tensor, eps: float) -> Tensor:
    """Write a node for :func:`sw_ops.pointwise_mlp`, ``PointwiseMlp``."""
    pixels, attributes = x.permute(0, 2, 3, 1), {"eps": eps, "processed": [int(processed.shape[1])]}
    inputs = (pixels, processed.permute(0, 2, 3, 1), *weights)
    return _node("PointwiseMlp", inputs, attributes, pixels.shape).permute(0, 3, 1, 2)


def nearest_distances(points: Tensor, memory: Tensor, squares: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Write a node for :func:`sw_ops.nearest_distances`, ``NearestDistances``."""
    return _node("NearestDistances", (points, memory, squares, rows, columns), {}, points.shape[:2])


def _node(name: str, inputs: Sequence[Tensor], attributes: dict[str, Any], shape: Sequence[int]) -> Tensor:
    if torch.jit.is_tracing():
        return _TracedNode.apply(name, attributes, shape, *inputs)
    from torch.onnx.ops import symbolic

    return symbolic(f"{DOMAIN}::{name}", inputs, attributes, dtype=torch.float32, shape=shape, version=1)


class _TracedNode(torch.autograd.Function):
    """A node for the exporter that traces."""

    @staticmethod
    def forward(ctx: Any, name: str, attributes: Mapping[str, Any], shape: Sequence[int], *inputs: Tensor) -> Tensor:
        return inputs[0].new_zeros([int(size) for size in shape])

    @staticmethod
    def symbolic(g: Any, name: str, attributes: Mapping[str, Any], shape: Sequence[int], *inputs: Any) -> Any:
        suffix = {float: "f", int: "i", list: "i"}
        return g.op(f"{DOMAIN}::{name}", *inputs, **{f"{k}_{suffix[type(v)]}": v for k, v in attributes.items()})


# What each node is in ONNX's own operators. The identity hides a constant from checks that fail in onnxruntime 1.23.
_FUNCTIONS = {
    "StripeConv": """
StripeConv <anchor, exact, rep, more, group, columns_from, columns_to, columns_pads, rows_from, rows_to, rows_pads>
(x, horizontal, vertical, bias) => (y) {
    zero = Constant <value_ints = [0]> ()
    one = Constant <value_ints = [1]> ()
    two = Constant <value_ints = [2]> ()
    rep_end = Constant <value_ints: ints = @rep> ()
    more = Constant <value_ints: ints = @more> ()
    padding = Identity (more)
    planes = Transpose <perm = [0, 3, 1, 2]> (x)
    padded = Pad (planes, padding, , one)
    first_column = Constant <value_ints: ints = @columns_from> ()
    last_column = Constant <value_ints: ints = @columns_to> ()
    columns = Slice (horizontal, first_column, last_column, two)
    padded_columns = Pad (columns, padding, , zero)
    kernel_columns = Unsqueeze (padded_columns, one)
    along_rows = Conv <group: int = @group, pads: ints = @columns_pads> (padded, kernel_columns)
    first_row = Constant <value_ints: ints = @rows_from> ()
    last_row = Constant <value_ints: ints = @rows_to> ()
    rows = Slice (vertical, first_row, last_row, one)
    padded_rows = Pad (rows, padding, , zero)
    kernel_rows = Unsqueeze (padded_rows, one)
    padded_bias = Pad (bias, padding, , zero)
    along_columns = Conv <group: int = @group, pads: ints = @rows_pads> (padded, kernel_rows, padded_bias)
    sum = Add (along_rows, along_columns)
    cut = Slice (sum, zero, rep_end, one)
    y = Transpose <perm = [0, 2, 3, 1]> (cut)
}""",
    "StripeConvOfChannels": """
StripeConvOfChannels <anchor, exact, rep, more, group, columns_from, columns_to, columns_pads, rows_from, rows_to,
rows_pads> (x, horizontal, vertical, bias, channels) => (y) {
    given = Gather <axis = 3> (x, channels)
    processed = sw_ops.StripeConv <anchor: int = @anchor, exact: int = @exact, rep: ints = @rep, more: ints = @more,
        group: int = @group, columns_from: ints = @columns_from, columns_to: ints = @columns_to,
        columns_pads: ints = @columns_pads, rows_from: ints = @rows_from, rows_to: ints = @rows_to,
        rows_pads: ints = @rows_pads> (given, horizontal, vertical, bias)
    both = Concat <axis = 3> (x, processed)
    zero = Constant <value_int = 0> ()
    one = Constant <value_int = 1> ()
    last = Constant <value_ints = [3]> ()
    none = Constant <value_ints = [0]> ()
    sizes = Shape (x)
    size = Gather (sizes, last)
    count = Squeeze (size, none)
    joined_sizes = Shape (both)
    joined_size = Gather (joined_sizes, last)
    joined_count = Squeeze (joined_size, none)
    own = Range (zero, count, one)
    new = Range (count, joined_count, one)
    source = ScatterElements <axis = 0> (own, channels, new)
    y = Gather <axis = 3> (both, source)
}""",
    "PointwiseMlp": """
PointwiseMlp <eps, processed>
(x, own, ghost_scale, ghost_shift, squeeze, squeeze_bias, excite, excite_bias, expand, expand_bias, response, project,
project_bias) => (y) {
    first = Constant <value_ints: ints = @processed> ()
    end = Constant <value_ints = [9223372036854775807]> ()
    last = Constant <value_ints = [3]> ()
    pixels = Constant <value_ints = [1, 2]> ()
    copied = Slice (x, first, end, last)
    scaled = Mul (copied, ghost_scale)
    ghost = Add (scaled, ghost_shift)
    z = Concat <axis = 3> (own, ghost)
    mean = ReduceMean <keepdims = 0> (z, pixels)
    narrow = Gemm <transB = 1> (mean, squeeze, squeeze_bias)
    positive = Relu (narrow)
    wide = Gemm <transB = 1> (positive, excite, excite_bias)
    flat_gate = Sigmoid (wide)
    gate = Unsqueeze (flat_gate, pixels)
    gated = Mul (z, gate)
    expand_columns = Transpose <perm = [1, 0]> (expand)
    product = MatMul (gated, expand_columns)
    hidden = Add (product, expand_bias)
    root = Constant <value_float = 1.4142135381698608> ()
    one = Constant <value_float = 1.0> ()
    half = Constant <value_float = 0.5> ()
    divided = Div (hidden, root)
    error = Erf (divided)
    raised = Add (error, one)
    doubled = Mul (hidden, raised)
    active = Mul (doubled, half)
    squares = Mul (active, active)
    total = ReduceSum (squares, pixels)
    norm = Sqrt (total)
    mean_norm = ReduceMean (norm, last)
    epsilon = Constant <value_float: float = @eps> ()
    divisor = Add (mean_norm, epsilon)
    relative = Div (norm, divisor)
    weighted = Mul (relative, response)
    factor = Add (weighted, one)
    normed = Mul (active, factor)
    project_columns = Transpose <perm = [1, 0]> (project)
    projected = MatMul (normed, project_columns)
    branch = Add (projected, project_bias)
    y = Add (x, branch)
}""",
    "NearestDistances": """
NearestDistances (points, memory, squares, rows, columns) => (y) {
    none = Constant <value_ints = [0]> ()
    one = Constant <value_ints = [1]> ()
    two = Constant <value_ints = [2]> ()
    three = Constant <value_ints = [3]> ()
    any = Constant <value_ints = [-1]> ()
    height = Shape <start = 0, end = 1> (points)
    width = Shape <start = 1, end = 2> (points)
    depth = Shape <start = 2, end = 3> (points)
    strips = Shape <start = 0, end = 1> (rows)
    up = Add (height, strips)
    last = Sub (up, one)
    strip_rows = Div (last, strips)
    padded_height = Mul (strip_rows, strips)
    more = Sub (padded_height, height)
    no_pads = Constant <value_ints = [0, 0, 0]> ()
    pads = Concat <axis = 0> (no_pads, more, none, none)
    padded = Pad (points, pads)
    cut = Concat <axis = 0> (strips, strip_rows, width, depth)
    by_strips = Reshape (padded, cut)
    found = Transpose <perm = [2, 0, 1, 3]> (by_strips)
    count = Shape <start = 3, end = 4> (memory)
    of_places = Concat <axis = 0> (any, depth, count)
    at_places = Reshape (memory, of_places)
    of_squares = Concat <axis = 0> (any, count)
    squares_at_places = Reshape (squares, of_squares)
    memory_rows = Shape <start = 1, end = 2> (memory)
    first_places = Mul (columns, memory_rows)
    columns_apart = Transpose <perm = [1, 0]> (first_places)
    rows_apart = Transpose <perm = [1, 0]> (rows)
    outer = Constant <value_ints = [1, 3]> ()
    inner = Constant <value_ints = [0, 2]> ()
    by_columns = Unsqueeze (columns_apart, outer)
    by_rows = Unsqueeze (rows_apart, inner)
    places_apart = Add (by_columns, by_rows)
    of_steps = Concat <axis = 0> (any, width, strips)
    places = Reshape (places_apart, of_steps)
    lowest_shape = Concat <axis = 0> (width, strips, strip_rows)
    start = ConstantOfShape <value = float[1] {inf}> (lowest_shape)
    lowest = Scan <num_scan_inputs = 1, body = compare
        (float[w, s, r] before, int64[w, s] place) => (float[w, s, r] after) {
        near = Gather <axis = 0> (at_places, place)
        wide = Cast <to = 1> (near)
        product = MatMul (found, wide)
        twice = Add (product, product)
        near_squares = Gather <axis = 0> (squares_at_places, place)
        every_row = Unsqueeze (near_squares, two)
        offsets = Sub (every_row, twice)
        least = ReduceMin <keepdims = 0> (offsets, three)
        after = Min (before, least)
    }> (start, places)
    own = Mul (found, found)
    own_squares = ReduceSum <keepdims = 0> (own, three)
    signed = Add (lowest, own_squares)
    zero = Constant <value_float = 0.0> ()
    squared = Max (signed, zero)
    rows_first = Transpose <perm = [1, 2, 0]> (squared)
    of_map = Concat <axis = 0> (any, width)
    joined = Reshape (rows_first, of_map)
    y = Slice (joined, none, height, none)
}""",
}


def _add_functions(model: onnx.ModelProto) -> None:
    """Add what the nodes of this package in a model are made of."""
    from onnx import parser

    named = {node.op_type for node in model.graph.node if node.domain == DOMAIN}
    if not named:
        return
    opset = next(imported.version for imported in model.opset_import if not imported.domain)
    if opset < 18:
        raise ValueError(f"opset_version: got {opset}, want 18 or later")
    if "StripeConvOfChannels" in named:
        named.add("StripeConv")
    for name in sorted(named):
        header = f'<domain: "{DOMAIN}", opset_import: ["" : {opset}, "{DOMAIN}" : 1]>'
        function = parser.parse_function(header + _FUNCTIONS[name])
        for node in function.node:  # onnxruntime 1.18 makes names of these for what it fuses, which must differ
            node.name = node.output[0]
        model.functions.append(function)
