"""What PyTorch users expect of any layer: compile, export, ONNX, checkpointing, vmap, data parallel training."""

from __future__ import annotations

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


def test_onnx(layer: ShiftwiseConv2d, x: torch.Tensor, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    fused, file = layer.eval().fuse(), tmp_path / "layer.onnx"
    with sw_ops.use_backend("torch"):
        torch.onnx.export(fused, (x,), file, dynamo=True, external_data=False, verbose=False)
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    (got,) = session.run(None, {session.get_inputs()[0].name: x.cpu().numpy()})
    assert_close_to_maximum(torch.from_numpy(got), fused(x).cpu(), 1e-5)


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
