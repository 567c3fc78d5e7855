"""Files with nodes of this package: onnxruntime computes them with its library or without, to the same numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import sw_ops
from sw_ops import ChannelSplit, FusedShiftwiseConv2d, stripe_conv2d_fused

from conftest import assert_close_to_maximum, seeded

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

pytestmark = [
    pytest.mark.filterwarnings(
        "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::torch.jit.TracerWarning"
    ),
    pytest.mark.skipif(not hasattr(getattr(torch.onnx, "ops", None), "symbolic"), reason="nodes need torch 2.8"),
]


class Stripes(nn.Module):
    """The operator, of all channels, or of some of them in another order."""

    def __init__(self, channels: int, length: int, some: bool = False, exact: bool = False) -> None:
        super().__init__()
        generator = seeded(1)
        rep = (channels + 1) // 2 if some else channels
        numbers = torch.randperm(channels, generator=generator)
        self.register_buffer("channels", numbers[:rep] if some else None)
        self.register_buffer("order", torch.randperm(channels, generator=generator) if some else None)
        self.horizontal = nn.Parameter(torch.randn(rep, 3, length, generator=generator))
        self.vertical = nn.Parameter(torch.randn(rep, length, 3, generator=generator))
        self.bias = nn.Parameter(torch.randn(rep, generator=generator))
        self.anchor, self.exact = length // 2 - 1, exact

    def forward(self, x: Tensor) -> Tensor:
        kernels = (self.horizontal, self.vertical, self.bias)
        return stripe_conv2d_fused(x, *kernels, self.anchor, self.exact, self.channels, self.order)


class Block(nn.Module):
    """Both operators, as a block has them."""

    def __init__(self, channels: int, processed: int) -> None:
        super().__init__()
        generator, squeezed, hidden = seeded(2), max(1, channels // 4), 4 * channels
        self.stripes, ghosts = Stripes(processed, 15), channels - processed
        shapes = [(ghosts,), (ghosts,), (squeezed, channels), (squeezed,), (channels, squeezed), (channels,)]
        shapes += [(hidden, channels), (hidden,), (hidden,), (channels, hidden), (channels,)]
        values = (
            torch.randn(shape, generator=generator) / shape[-1] ** 0.5 if shape[-1] else torch.ones(0)
            for shape in shapes
        )
        self.weights = nn.ParameterList(values)

    def forward(self, x: Tensor) -> Tensor:
        processed = self.stripes(x[:, : self.stripes.bias.shape[0]])
        return sw_ops.pointwise_mlp(x, processed, *self.weights, eps=1e-3)


class Memory(nn.Module):
    """Maps compared with what is remembered nearby."""

    def __init__(self) -> None:
        super().__init__()
        self.memory = nn.Buffer(torch.randn(4, 6, 5, 32, generator=seeded(7)).half())
        squares = self.memory.float().square().sum(2)
        squares[..., 20:] = torch.inf
        self.squares = nn.Buffer(squares)
        self.rows = nn.Buffer(torch.tensor([[0, 0, 1], [0, 1, 2], [4, 5, 5]]))
        self.columns = nn.Buffer(torch.tensor([[0, 0], [1, 2], [2, 3], [3, 3]]))

    def forward(self, x: Tensor) -> Tensor:
        found = sw_ops.nearest_distances(x.sum(0).permute(1, 2, 0), self.memory, self.squares, self.rows, self.columns)
        return found * x[:, 0]


def session(model: Any, library: bool, folder: Path, threads: int = 1) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 3
    options.optimized_model_filepath = str(folder / "optimized.onnx")
    if library:
        options.register_custom_ops_library(sw_ops.onnxruntime_library())
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def computed(model: Any, x: Tensor, library: bool, folder: Path, threads: int = 1) -> tuple[Tensor, set[str]]:
    """Return what a file gives, and which nodes of this package computed it."""
    running = session(model, library, folder, threads)
    (y,) = running.run(None, {running.get_inputs()[0].name: x.numpy()})
    nodes = onnx.load(folder / "optimized.onnx").graph.node
    return torch.from_numpy(y), {node.op_type for node in nodes if node.domain == "sw_ops"}


MODULES = {
    "wide map": (Stripes(5, 9), (2, 5, 12, 20), {"StripeConv"}),
    "small map": (Stripes(20, 27), (1, 20, 5, 3), {"StripeConv"}),
    "exact": (Stripes(16, 15, exact=True), (2, 16, 14, 14), {"StripeConv"}),
    "some channels": (Stripes(7, 9, some=True), (2, 7, 9, 8), {"StripeConvOfChannels"}),
    "block": (Block(18, 13), (2, 18, 8, 6), {"StripeConv", "PointwiseMlp"}),
    "block without ghosts": (Block(8, 8), (3, 8, 5, 5), {"StripeConv", "PointwiseMlp"}),
    "memory": (Memory(), (2, 5, 8, 4), {"NearestDistances"}),
    "layer": (FusedShiftwiseConv2d(8, 13, split=ChannelSplit.published(8, 0.23)), (2, 8, 10, 10), {"StripeConv"}),
}


@pytest.mark.parametrize("dynamo", [False, True], ids=["traced", "dynamo"])
@pytest.mark.parametrize("name", MODULES)
@torch.no_grad()
def test_with_the_library_and_without_a_file_gives_what_the_module_gives(
    name: str, dynamo: bool, tmp_path: Path
) -> None:
    module, shape, nodes = MODULES[name]
    for parameter in module.parameters():
        if not parameter.any():
            parameter.copy_(torch.randn(parameter.shape, generator=seeded(3)))
    x = torch.randn(shape, generator=seeded(4))
    more = torch.cat([x, x + 1])
    varying = (
        {"dynamic_shapes": ({0: torch.export.Dim("batch", min=1, max=64)},)}
        if dynamo
        else {"dynamic_axes": {"x": [0]}, "input_names": ["x"], "opset_version": 18}
    )
    given = (
        torch.cat([x, x]) if dynamo and shape[0] == 1 else x
    )  # of one image, the exporter takes the 1 for a constant
    model = sw_ops.to_onnx(module, (given,), dynamo=dynamo, **varying)
    onnx.checker.check_model(model)
    for images in (x, more):
        want = module(images)
        for library in (False, True):
            got, used = computed(model, images, library, tmp_path)
            assert used == (nodes if library else set())
            assert_close_to_maximum(got, want, 1e-5)


@torch.no_grad()
def test_functions_can_be_put_in_the_place_of_nodes_for_other_runtimes(tmp_path: Path) -> None:
    from onnx.inliner import inline_local_functions

    x = torch.randn(2, 18, 8, 6, generator=seeded(5))
    model = sw_ops.to_onnx(Block(18, 13), (x,))
    plain = inline_local_functions(model)
    assert {node.domain for node in model.graph.node} == {"", "sw_ops"}
    assert {node.domain for node in plain.graph.node} == {""}
    assert_close_to_maximum(computed(plain, x, False, tmp_path)[0], Block(18, 13)(x), 1e-5)


@torch.no_grad()
def test_the_number_of_threads_changes_no_bit(tmp_path: Path) -> None:
    x = torch.randn(3, 18, 16, 16, generator=seeded(6))
    model = sw_ops.to_onnx(Block(18, 13), (x,))
    one, two = (computed(model, x, True, tmp_path, threads)[0] for threads in (1, 2))
    assert torch.equal(one, two)


@torch.no_grad()
def test_an_empty_batch_stays_empty(tmp_path: Path) -> None:
    batch = torch.export.Dim("batch", min=0, max=64)
    model = sw_ops.to_onnx(Block(18, 13), (torch.ones(2, 18, 8, 6),), dynamic_shapes=({0: batch},))
    assert computed(model, torch.ones(0, 18, 8, 6), True, tmp_path)[0].shape == (0, 18, 8, 6)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
@torch.no_grad()
def test_other_dtypes_are_made_of_plain_operators(dtype: torch.dtype) -> None:
    model = sw_ops.to_onnx(Stripes(5, 9).to(dtype), (torch.ones(2, 5, 8, 8, dtype=dtype),))
    assert {node.domain for node in model.graph.node} == {""}
    assert not model.functions


def test_the_exporter_of_torch_writes_no_nodes_by_itself() -> None:
    program = torch.onnx.export(Stripes(5, 9), (torch.ones(2, 5, 8, 8),), dynamo=True, verbose=False)
    assert {node.domain for node in program.model_proto.graph.node} == {""}


def test_an_old_opset_is_refused() -> None:
    with pytest.raises(ValueError, match="opset_version: got 17, want 18 or later"):
        sw_ops.to_onnx(Stripes(5, 9), (torch.ones(2, 5, 8, 8),), dynamo=False, opset_version=17)


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ("vertical", r"vertical: got \[5, 8, 3\], want \[5, 9, 3\]"),
        ("bias", r"bias: got \[4\], want \[5\]"),
    ],
)
def test_a_node_that_does_not_fit_is_refused(broken: str, message: str, tmp_path: Path) -> None:
    model = sw_ops.to_onnx(Stripes(5, 9), (torch.ones(2, 5, 8, 8),))
    (initializer,) = (one for one in model.graph.initializer if one.name == broken)
    values = onnx.numpy_helper.to_array(initializer)
    smaller = values[:, :-1] if broken == "vertical" else values[:-1]
    initializer.CopyFrom(onnx.numpy_helper.from_array(np.ascontiguousarray(smaller), broken))
    running = session(model, True, tmp_path)
    with pytest.raises(Exception, match=message):
        running.run(None, {running.get_inputs()[0].name: np.ones((2, 5, 8, 8), np.float32)})


def test_without_compiled_code_there_is_no_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sw_ops.onnx_nodes._C", None)
    with pytest.raises(RuntimeError, match="onnxruntime_library: this installation has no compiled code"):
        sw_ops.onnxruntime_library()


def test_an_onnxruntime_that_would_ignore_the_library_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sw_ops.onnx_nodes.version", {"onnxruntime": "1.17.3"}.__getitem__)
    with pytest.raises(RuntimeError, match=r"onnxruntime_library: got onnxruntime 1\.17\.3, want 1\.18 or later"):
        sw_ops.onnxruntime_library()
