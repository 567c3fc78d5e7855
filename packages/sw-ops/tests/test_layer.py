from __future__ import annotations

import copy
import itertools
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import sw_ops
from sw_ops import ChannelSplit, FusedShiftwiseConv2d, ShiftwiseConv2d, reparameterize

from conftest import Golden, assert_close_to_maximum, seeded

GOLDEN = Golden("C_layer")
NORMS = {"bn_lora1": "norm_horizontal", "bn_lora2": "norm_vertical", "bn_small": "norm_identity"}


def our_key(published: str) -> str:
    if published.startswith("LoRAs."):
        return f"weights.{published.split('.')[1]}"
    norm, field = published.split(".")
    return f"{NORMS[norm]}.{field}"


def published_layer(case: dict, state: dict[str, torch.Tensor]) -> ShiftwiseConv2d:
    layer = ShiftwiseConv2d(
        case["in_channels"],
        case["big_kernel"],
        case["small_kernel"],
        n_path=case["N_path"],
        n_rep=case["N_rep"],
        split=ChannelSplit.published(case["in_channels"], case["ghost_ratio"], even=case["version"] == "v2"),
    )
    missing, unexpected = layer.load_state_dict({our_key(k): t for k, t in state.items()}, strict=False)
    assert not unexpected
    assert all(key.startswith(("slots_", "rep_", "ghost_")) for key in missing)
    return layer


@pytest.mark.parametrize("key", GOLDEN.about["cases"])
def test_published_layer_is_reproduced(key: str, backend: str) -> None:
    state, run = GOLDEN.under(f"{key}/state/"), GOLDEN.under(f"{key}/a/")
    layer = published_layer(GOLDEN.about["cases"][key], state)
    with torch.no_grad():
        assert_close_to_maximum(layer.eval()(run["input"]), run["eval_output"], 1e-5)
        assert_close_to_maximum(layer.fuse()(run["input"]), run["eval_output_merged"], 1e-5)

    x = run["input"].clone().requires_grad_()
    output = layer.train()(x)
    assert_close_to_maximum(output, run["train_output"], 1e-5)
    output.backward(run["grad_output"])
    assert_close_to_maximum(x.grad, run["grad_input"], 2e-5)
    parameters, buffers = dict(layer.named_parameters()), dict(layer.named_buffers())
    for name, tensor in run.items():
        if name.startswith("grad/"):
            assert_close_to_maximum(parameters[our_key(name.removeprefix("grad/"))].grad, tensor, 2e-5)
        if name.startswith("stats_after/"):
            assert_close_to_maximum(buffers[our_key(name.removeprefix("stats_after/"))], tensor, 1e-5)


def trained_layer(
    channels: int = 8, kernel_size: int = 51, small_kernel: int = 3, **options: object
) -> ShiftwiseConv2d:
    """Return a float64 layer whose weights and statistics are all away from their initial values."""
    layer = ShiftwiseConv2d(channels, kernel_size, small_kernel, dtype=torch.float64, **options)
    generator = seeded(1)
    for name, tensor in itertools.chain(layer.named_parameters(), layer.named_buffers()):
        if tensor.is_floating_point():
            low = 0.5 if name.endswith("running_var") else -1.0
            tensor.data.uniform_(low, 1.5, generator=generator)
    return layer


@pytest.mark.parametrize("n_path", [1, 2, 3])
@pytest.mark.parametrize("n_rep", [1, 2, 3, 4])
@pytest.mark.parametrize("ghost_ratio", [0, 0.23])
@pytest.mark.parametrize("kernel_sizes", [(51, 3), (49, 3), (47, 3), (13, 3), (51, 5)])
def test_fusing_changes_nothing(
    n_path: int, n_rep: int, ghost_ratio: float, kernel_sizes: tuple[int, int], backend: str
) -> None:
    layer = trained_layer(8, *kernel_sizes, n_path=n_path, n_rep=n_rep, ghost_ratio=ghost_ratio)
    layer.eval()
    fused = reparameterize(layer)
    generator = seeded(2)
    for shape in ([2, 8, 14, 14], [1, 8, 1, 1], [1, 8, 3, 17], [0, 8, 4, 4]):
        x = torch.randn(shape, generator=generator, dtype=torch.float64)
        want = branch_by_branch(layer, x)
        for memory_format in (torch.contiguous_format, torch.channels_last):
            got = fused(x.contiguous(memory_format=memory_format))
            assert got.shape == want.shape
            if got.numel():
                assert_close_to_maximum(got, want, 1e-10)
                assert_close_to_maximum(layer(x), want, 1e-10)


def branch_by_branch(layer: ShiftwiseConv2d, x: torch.Tensor) -> torch.Tensor:
    """Compute the layer as it is defined: three maps, three norms, residual, copied channels."""
    rep, ghost = x[:, layer.rep_channels], x[:, layer.ghost_channels]
    h, v, s = sw_ops.shiftwise_conv2d(rep, sum(layer.weights), layer.table)
    rep = layer.norm_horizontal(h) + layer.norm_vertical(v) + layer.norm_identity(s) + rep
    return torch.cat([rep, ghost], dim=1)


def trained_dense_layer(stride: int, **options: object) -> ShiftwiseConv2d:
    return trained_layer(8, 13, out_channels=5, stride=stride, **options)


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("training", [False, True])
def test_a_layer_of_other_channels_mixes_what_it_reads_at_every_stride(
    stride: int, training: bool, backend: str
) -> None:
    layer = trained_dense_layer(stride).train(training)
    for norm in (layer.norm_horizontal, layer.norm_vertical, layer.norm_identity):
        norm.momentum = 0.0  # both computations see the same statistics
    weight = layer.pointwise.weight
    for size in ([9, 12], [1, 1], [2, 5]):
        x = torch.randn(2, 8, *size, dtype=torch.float64, generator=seeded(2), requires_grad=True)
        h, v, s = sw_ops.shiftwise_conv2d(x[:, layer.rep_channels], sum(layer.weights), layer.table)
        read = [map_[:, :, ::stride, ::stride] for map_ in (h, v, s, x)]
        normed = layer.norm_horizontal(read[0]) + layer.norm_vertical(read[1]) + layer.norm_identity(read[2])
        rows = torch.cat([normed + read[3][:, layer.rep_channels], read[3][:, layer.ghost_channels]], dim=1)
        want = torch.einsum("bchw,oc->bohw", rows, weight[:, :, 0, 0])
        got = layer(x)
        assert got.shape == (2, 5, -(-size[0] // stride), -(-size[1] // stride))
        assert_close_to_maximum(got, want, 1e-10)
        leaves = [x, *layer.parameters()]
        for g, w in zip(
            torch.autograd.grad(got.square().sum(), leaves),
            torch.autograd.grad(want.square().sum(), leaves),
            strict=True,
        ):
            assert_close_to_maximum(g, w, 1e-8)
        if not training:
            assert_close_to_maximum(layer.fuse()(x), want, 1e-10)


def test_a_layer_of_other_channels_is_saved_copied_and_scripted_like_any() -> None:
    layer = trained_dense_layer(2).eval()
    x = torch.randn(1, 8, 7, 7, dtype=torch.float64, generator=seeded(0))
    for form in (layer, layer.fuse()):
        other = type(form)(8, 13, out_channels=5, stride=2, dtype=torch.float64).eval()
        other.load_state_dict(form.state_dict())
        assert torch.equal(other(x), form(x))
        assert torch.equal(copy.deepcopy(form)(x), form(x))
        assert torch.equal(pickle.loads(pickle.dumps(form))(x), form(x))
        assert torch.equal(torch.jit.script(form)(x), form(x))
        assert "stride=2" in repr(form)
    assert (layer.out_channels, ShiftwiseConv2d(8, 13).out_channels) == (5, 8)


@pytest.mark.parametrize("track_running_stats", [True, False])
def test_frozen_norms_fold_and_batch_statistics_do_not(track_running_stats: bool) -> None:
    layer = trained_layer()
    for norm in (layer.norm_horizontal, layer.norm_vertical, layer.norm_identity):
        norm.eval()
        if not track_running_stats:
            norm.running_mean = norm.running_var = None
    x = torch.randn(2, 8, 9, 9, dtype=torch.float64, generator=seeded(0))
    assert_close_to_maximum(layer(x), branch_by_branch(layer, x), 1e-10)


def test_evaluation_mode_is_differentiable(backend: str) -> None:
    layer = trained_layer(4, 13).eval()
    x = torch.randn(2, 4, 5, 6, dtype=torch.float64, generator=seeded(0), requires_grad=True)
    parameters = [x, *layer.parameters()]
    got = torch.autograd.grad(layer(x).square().sum(), parameters)
    want = torch.autograd.grad(branch_by_branch(layer, x).square().sum(), parameters)
    for g, w in zip(got, want, strict=True):
        assert_close_to_maximum(g, w, 1e-9)


def test_the_constructor_follows_the_users_seed_and_reseeds_nothing() -> None:
    torch.manual_seed(7)
    first, second = ShiftwiseConv2d(6, 13), ShiftwiseConv2d(6, 13)
    after = torch.get_rng_state()
    torch.manual_seed(7)
    again = ShiftwiseConv2d(6, 13)
    assert not torch.equal(first.weights[0], second.weights[0])
    assert torch.equal(first.weights[0], again.weights[0])
    assert not torch.equal(torch.get_rng_state(), after)


def test_tables_travel_in_the_state_dict() -> None:
    source = ShiftwiseConv2d(6, 13, table=sw_ops.ShiftTable.shuffled(4, 13, 3, 4, seed=99)).eval()
    target = ShiftwiseConv2d(6, 13).eval()
    x = torch.randn(1, 6, 8, 8, generator=seeded(0))
    assert not torch.equal(target(x), source(x))
    target.load_state_dict(source.state_dict())
    assert torch.equal(target(x), source(x))


def test_layers_of_one_table_can_be_saved(tmp_path: Path) -> None:
    table, split = sw_ops.ShiftTable.shuffled(6, 13, 3, 4), ChannelSplit.published(8, 0.23)
    model = nn.Sequential(*(ShiftwiseConv2d(8, 13, table=table, split=split) for _ in range(2)))
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    model.load_state_dict(load_file(tmp_path / "model.safetensors"))


def test_reparameterize_replaces_every_layer_of_a_copy() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Sequential(ShiftwiseConv2d(8, 13), nn.ReLU()), ShiftwiseConv2d(8, 13))
    model.eval()
    fused = reparameterize(model)
    kinds = [type(m) for m in fused.modules()]
    assert kinds.count(FusedShiftwiseConv2d) == 2
    assert ShiftwiseConv2d not in kinds
    assert isinstance(model[2], ShiftwiseConv2d)
    x = torch.randn(1, 3, 9, 9, generator=seeded(0))
    assert_close_to_maximum(fused(x), model(x), 1e-5)


def with_silent_channels(**options: object) -> tuple[ShiftwiseConv2d, torch.Tensor]:
    """Return a layer whose second half of processed channels is 0 in all that is trained, and these channels."""
    layer = trained_layer(n_path=2, **options)
    silent = torch.arange(len(layer.rep_channels)) % 2 == 1
    with torch.no_grad():
        for weight in layer.weights:
            weight.unflatten(0, (len(silent), -1))[silent] = 0
        for norm in (layer.norm_horizontal, layer.norm_vertical, layer.norm_identity):
            norm.weight[silent], norm.bias[silent] = 0, 0
    return layer, layer.rep_channels[silent]


@pytest.mark.parametrize("options", [{}, {"channels": 11, "kernel_size": 13}, {"out_channels": 5, "stride": 2}])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_channels_whose_slots_are_all_off_are_ghost_channels(
    options: dict, memory_format: torch.memory_format, backend: str
) -> None:
    layer, silent = with_silent_channels(**options)
    x = torch.randn(2, layer.channels, 9, 7, dtype=torch.float64, generator=seeded(2)).to(memory_format=memory_format)
    merged = layer.merged()
    fused = layer.eval().fuse()
    for other in (merged, fused):
        assert not torch.isin(silent, other.rep_channels).any()
        assert len(other.rep_channels) + len(silent) == len(layer.rep_channels)
        torch.testing.assert_close(other.eval()(x), layer(x))
    if isinstance(fused.pointwise, nn.Identity):
        places = torch.isin(layer.outputs, silent)
        assert torch.equal(fused(x)[:, places], x[:, layer.outputs[places]])
    twice = merged.fuse()
    assert torch.equal(twice.rep_channels, fused.rep_channels)
    torch.testing.assert_close(twice(x), layer(x))
    torch.testing.assert_close(torch.jit.script(fused)(x), fused(x))

    layer.train()
    torch.testing.assert_close(merged.train()(x), layer(x))
    assert sum(p.numel() for p in merged.parameters()) < sum(p.numel() for p in layer.parameters()) / 2


def test_a_channel_that_is_shifted_or_scaled_is_none() -> None:
    layer, silent = with_silent_channels()
    with torch.no_grad():
        layer.norm_vertical.bias[1] = 0.5
    assert torch.isin(layer.eval().fuse().rep_channels, silent).sum() == 1
    assert torch.isin(layer.merged().rep_channels, silent).sum() == 1


def test_a_fused_layer_loads_what_another_saved() -> None:
    fused = trained_layer().eval().fuse()
    other = FusedShiftwiseConv2d(8, 51, dtype=torch.float64)
    other.load_state_dict(fused.state_dict())
    x = torch.randn(1, 8, 7, 7, dtype=torch.float64, generator=seeded(0))
    assert torch.equal(other(x), fused(x))


@pytest.mark.parametrize("fuse", [False, True])
def test_copies_compute_the_same(fuse: bool) -> None:
    layer = trained_layer().eval()
    layer = layer.fuse() if fuse else layer
    x = torch.randn(1, 8, 7, 7, dtype=torch.float64, generator=seeded(0))
    assert torch.equal(copy.deepcopy(layer)(x), layer(x))
    assert torch.equal(pickle.loads(pickle.dumps(layer))(x), layer(x))


def test_training_keeps_four_times_the_input_at_most() -> None:
    layer = ShiftwiseConv2d(16, 51).train()
    x = torch.randn(4, 16, 56, 56, generator=seeded(0), requires_grad=True)
    kept: dict[int, int] = {}

    def keep(t: torch.Tensor) -> torch.Tensor:
        kept[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
        return t

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        layer(x)
    assert x.nbytes < sum(kept.values()) <= 4 * x.nbytes


def test_layers_run_on_the_meta_device() -> None:
    layer = ShiftwiseConv2d(8, 13, device="meta")
    x = torch.empty(2, 8, 7, 5, device="meta")
    assert layer.train()(x).shape == layer.eval()(x).shape == layer.fuse()(x).shape == x.shape


@pytest.mark.parametrize("fuse", [False, True])
def test_channels_last_stays_channels_last(fuse: bool, backend: str) -> None:
    layer = trained_layer().eval()
    layer = layer.fuse() if fuse else layer.train()
    x = torch.randn(2, 8, 6, 5, dtype=torch.float64).contiguous(memory_format=torch.channels_last)
    assert layer(x).is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kernel_size": 2}, "kernel_size: got 2, want at least small_kernel = 3"),
        ({"small_kernel": 4}, "small_kernel: got 4, want a positive odd number"),
        ({"n_path": 0}, "n_path: got 0, want at least 1"),
        ({"n_rep": 0}, "n_rep: got 0, want at least 1"),
        ({"ghost_ratio": 1.5}, "ghost_ratio: got 1.5"),
        ({"stride": 0}, "stride: got 0, want at least 1"),
        ({"out_channels": 0}, "out_channels: got 0, want at least 1, or None"),
        ({"table": sw_ops.ShiftTable.shuffled(5, 13, 3, 1)}, "table: got one for 5 channels and kernels"),
    ],
)
def test_bad_arguments_are_named(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ShiftwiseConv2d(**({"channels": 8, "kernel_size": 51} | arguments))


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (torch.zeros(1, 8, 4, 4, dtype=torch.int64), TypeError, "x: got torch.int64, want a floating-point tensor"),
        (torch.zeros(8, 4, 4), ValueError, r"x: got shape \(8, 4, 4\), want 8 channels"),
        (torch.zeros(1, 9, 4, 4), ValueError, r"x: got shape \(1, 9, 4, 4\), want 8 channels"),
    ],
)
def test_bad_inputs_are_named(x: torch.Tensor, error: type[Exception], message: str) -> None:
    layer = ShiftwiseConv2d(8, 13)
    for module in (layer.train(), layer.eval(), layer.fuse()):
        with pytest.raises(error, match=message):
            module(x)
