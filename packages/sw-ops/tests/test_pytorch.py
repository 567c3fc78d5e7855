"""What PyTorch users expect of any layer: compile, export, ONNX, checkpointing, vmap, data parallel training."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

import sw_ops
from sw_ops import ShiftwiseConv2d, stripe_conv2d

from conftest import assert_close_to_maximum, seeded


@pytest.fixture
def layer() -> ShiftwiseConv2d:
    torch.manual_seed(0)
    layer = ShiftwiseConv2d(6, 13)
    layer(torch.randn(4, 6, 12, 10))  # statistics away from their start
    return layer


@pytest.fixture
def x() -> torch.Tensor:
    return torch.randn(2, 6, 12, 10, generator=seeded(1))


def gradients(layer: nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
    layer.zero_grad()
    x = x.clone().requires_grad_()
    layer(x).square().sum().backward()
    return [x.grad, *(p.grad for p in layer.parameters())]


def test_compile_training_step(layer: ShiftwiseConv2d, x: torch.Tensor, backend: str) -> None:
    if backend == "torch" and torch.__version__ < "2.7":
        pytest.skip("its compiler fails an assertion of its own")
    want = gradients(layer, x)
    for got, expected in zip(gradients(torch.compile(layer, fullgraph=True), x), want, strict=True):
        assert_close_to_maximum(got, expected, 2e-5)


@pytest.mark.parametrize("fuse", [False, True])
def test_compile_inference(layer: ShiftwiseConv2d, x: torch.Tensor, fuse: bool, backend: str) -> None:
    module = layer.eval().fuse() if fuse else layer.eval()
    with torch.no_grad():
        assert_close_to_maximum(torch.compile(module, fullgraph=True)(x), module(x), 1e-5)


@pytest.mark.parametrize("fuse", [False, True])
def test_export(layer: ShiftwiseConv2d, x: torch.Tensor, fuse: bool, backend: str) -> None:
    module = layer.eval().fuse() if fuse else layer.eval()
    batch = torch.export.Dim("batch", min=1, max=64)
    exported = torch.export.export(module, (x,), dynamic_shapes=({0: batch},))
    more = torch.cat([x, x, x])
    assert_close_to_maximum(exported.module()(more), module(more), 1e-5)


FORMS = ["training", "evaluation", "fused"]


def in_form(layer: ShiftwiseConv2d, form: str) -> nn.Module:
    return layer.eval().fuse() if form == "fused" else layer.train(form == "training")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_script(layer: ShiftwiseConv2d, x: torch.Tensor, form: str, tmp_path: Path) -> None:
    module = in_form(layer, form)
    torch.jit.script(copy.deepcopy(module)).save(tmp_path / "layer.pt")
    scripted = torch.jit.load(tmp_path / "layer.pt")
    assert_close_to_maximum(scripted(x), copy.deepcopy(module)(x), 1e-6)
    for got, want in zip(gradients(scripted, x), gradients(module, x), strict=True):
        assert_close_to_maximum(got, want, 1e-5)
    device = torch.get_default_device().type
    with torch.autocast(device, torch.bfloat16):
        assert_close_to_maximum(scripted(x), module(x), 0.05)
    with pytest.raises(torch.jit.Error, match="x: got shape .*, want 6 channels"):
        scripted(x[:, :5])


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::torch.jit.TracerWarning")
def test_a_trace_needs_nothing_of_this_package(layer: ShiftwiseConv2d, x: torch.Tensor, form: str) -> None:
    module = in_form(layer, form)
    traced = torch.jit.trace(copy.deepcopy(module), x)
    assert not any(node.kind().startswith("sw_ops::") for node in traced.inlined_graph.nodes())
    assert_close_to_maximum(traced(x), module(x), 1e-6)


@pytest.mark.parametrize("form", FORMS)
def test_symbolic_trace_looks_into_a_layer(layer: ShiftwiseConv2d, x: torch.Tensor, form: str) -> None:
    module = in_form(layer, form)
    traced = torch.fx.symbolic_trace(copy.deepcopy(module))
    for got, want in zip(gradients(traced, x), gradients(module, x), strict=True):
        assert_close_to_maximum(got, want, 1e-6)
    if form == "evaluation":
        layer(x.mul_(3))
        traced.load_state_dict(layer.state_dict(), strict=False)  # statistics are the module's, not the trace's
        assert_close_to_maximum(traced(x), layer(x), 1e-6)


@pytest.mark.parametrize("fuse", [False, True])
@pytest.mark.parametrize("dynamo", [False, True])
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::torch.jit.TracerWarning")
def test_onnx(layer: ShiftwiseConv2d, x: torch.Tensor, fuse: bool, dynamo: bool, tmp_path: Path) -> None:
    if dynamo and torch.__version__ < "2.7":
        pytest.skip("its exporter has no onnxscript that goes with present versions of protobuf")
    onnxruntime = pytest.importorskip("onnxruntime")
    module, file = layer.eval().fuse() if fuse else layer.eval(), tmp_path / "layer.onnx"
    options = {"external_data": False, "verbose": False} if dynamo else {}
    torch.onnx.export(module, (x,), file, dynamo=dynamo, **options)
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    (got,) = session.run(None, {session.get_inputs()[0].name: x.cpu().numpy()})
    assert_close_to_maximum(torch.from_numpy(got), module(x).cpu(), 1e-5)


@pytest.mark.parametrize("fuse", [False, True])
def test_decompositions_leave_only_operators_of_pytorch(layer: ShiftwiseConv2d, x: torch.Tensor, fuse: bool) -> None:
    module = layer.eval().fuse() if fuse else layer.eval()
    exported = torch.export.export(module, (x,))
    assert "sw_ops" in exported.graph_module.code
    decomposed = exported.run_decompositions(sw_ops.decompositions())
    assert "sw_ops" not in decomposed.graph_module.code
    assert_close_to_maximum(decomposed.module()(x), module(x), 1e-5)


def test_checkpointing_changes_no_gradient(layer: ShiftwiseConv2d, x: torch.Tensor, backend: str) -> None:
    class Checkpointed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = layer

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return checkpoint(self.layer, x, use_reentrant=False)

    for got, want in zip(gradients(Checkpointed(), x), gradients(layer, x), strict=True):
        assert torch.equal(got, want)


@pytest.mark.filterwarnings("ignore:There is a performance drop")
def test_vmap_over_inputs(backend: str) -> None:
    generator = seeded(0)
    shapes = [(3, 2, 4, 5, 6), (4, 3, 9), (4, 9, 3), (4, 3, 3)]
    xs, *kernels = (torch.randn(shape, generator=generator) for shape in shapes)
    mapped = torch.func.vmap(lambda x: stripe_conv2d(x, *kernels, 4))(xs)
    for index, x in enumerate(xs):
        for got, want in zip(mapped, stripe_conv2d(x, *kernels, 4), strict=True):
            assert_close_to_maximum(got[index], want, 1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_trains(layer: ShiftwiseConv2d, x: torch.Tensor, dtype: torch.dtype, backend: str) -> None:
    want = gradients(layer, x)
    x = x.clone().requires_grad_()
    layer.zero_grad()
    with torch.autocast(torch.get_default_device().type, dtype):
        y = layer(x)
    y.float().square().sum().backward()
    for got, expected in zip([x.grad, *(p.grad for p in layer.parameters())], want, strict=True):
        assert got.dtype == torch.float32
        assert_close_to_maximum(got, expected, 0.1)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_modules(layer: ShiftwiseConv2d, x: torch.Tensor, dtype: torch.dtype, backend: str) -> None:
    want = layer.eval()(x)
    got = layer.to(dtype)(x.to(dtype))
    assert got.dtype == dtype
    assert_close_to_maximum(got, want, 0.05)


def _train_on_one_rank(rank: int, folder: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    torch.manual_seed(0)  # the model's seed; each rank's data has its own
    model = DistributedDataParallel(ShiftwiseConv2d(6, 13), find_unused_parameters=False)
    x = torch.randn(2, 6, 8, 8, generator=seeded(rank))
    for _ in range(2):
        model(x).square().sum().backward()
    torch.save([p.grad for p in model.parameters()], f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def test_distributed_data_parallel(tmp_path: Path) -> None:
    mp.spawn(_train_on_one_rank, (str(tmp_path),), nprocs=2)
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    for a, b in zip(first, second, strict=True):
        assert torch.equal(a, b)
        assert float(a.abs().max()) > 0
