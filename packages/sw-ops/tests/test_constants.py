"""Tables are constants: never averaged, never lost."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
import torch.distributed as dist
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributed.fsdp import FullyShardedDataParallel
from torch.optim.swa_utils import AveragedModel, get_ema_avg_fn

from sw_ops import ShiftwiseConv2d, reparameterize

NAMES = ("slots_horizontal", "slots_vertical", "slots_identity", "rep_channels", "ghost_channels")


@pytest.fixture
def layer():
    torch.manual_seed(0)
    return ShiftwiseConv2d(16, 51).eval()


@pytest.mark.parametrize("decay", [0.5, 0.9999, 0.9998635])
def test_an_average_with_the_very_same_model_changes_nothing(layer, decay):
    average = AveragedModel(layer, avg_fn=get_ema_avg_fn(decay), use_buffers=True)
    for _ in range(3):
        average.update_parameters(layer)
    for name in NAMES:
        assert torch.equal(getattr(average.module, name), getattr(layer, name))
    x = torch.randn(1, 16, 9, 9)
    torch.testing.assert_close(average(x), layer(x))


@pytest.mark.parametrize("fused", [False, True])
def test_memory_that_is_made_without_content_is_filled_by_reset_parameters(layer, fused):
    like = reparameterize(layer) if fused else layer
    with torch.device("meta"):
        made = type(like)(16, 51)
    made = made.to_empty(device="cpu")
    made.reset_parameters()
    for name in made.constants:
        assert torch.equal(getattr(made, name), getattr(like, name))


def test_fsdp_fills_a_layer_that_was_made_without_memory(tmp_path):
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/rendezvous", rank=0, world_size=1)
    try:
        with torch.device("meta"):
            model = torch.nn.Sequential(ShiftwiseConv2d(16, 51))
        wrapped = FullyShardedDataParallel(model, device_id=torch.device("cpu"))
        output = wrapped(torch.randn(2, 16, 9, 9))
        for name in NAMES:
            assert torch.equal(getattr(model[0], name), getattr(ShiftwiseConv2d(16, 51), name))
        assert output.isfinite().all()
    finally:
        dist.destroy_process_group()


def test_a_layer_made_on_a_default_device_has_all_its_tensors_there():
    with torch.device("meta"):
        made = ShiftwiseConv2d(16, 51)
    assert {tensor.device.type for tensor in made.state_dict().values()} == {"meta"}


@pytest.mark.skipif(torch.__version__ < "2.8", reason="its fake tensors of a GPU end a process that has none")
@pytest.mark.parametrize("fused", [False, True])
def test_tables_that_stay_behind_on_another_device_are_fetched(layer, fused):
    """As ``DataParallel`` and accelerate's hooks do, which move parameters and buffers."""
    like = reparameterize(layer) if fused else layer
    with FakeTensorMode() as mode:
        moved = type(like)(16, 51).eval()
        for part in moved.modules():
            for name, tensor in [*part.named_parameters(recurse=False), *part.named_buffers(recurse=False)]:
                delattr(part, name)
                setattr(part, name, torch.nn.Parameter(torch.empty(tensor.shape, device="cuda")))
        for name in like.constants:
            setattr(moved, name, mode.from_tensor(getattr(like, name)))
        assert moved(torch.empty(1, 16, 9, 9, device="cuda")).device.type == "cuda"


def test_fake_tensors_leave_nothing_behind():
    with FakeTensorMode():
        ShiftwiseConv2d(18, 45)
    assert ShiftwiseConv2d(18, 45)(torch.randn(2, 18, 5, 5)).isfinite().all()


def test_tables_are_in_the_state_and_come_back_from_it(layer):
    state = layer.state_dict()
    assert set(NAMES) <= state.keys()
    other = ShiftwiseConv2d(16, 51)
    other.slots_horizontal = other.slots_horizontal.flip(2)
    assert not other.load_state_dict(state).missing_keys
    assert torch.equal(other.slots_horizontal, layer.slots_horizontal)
    assert other.slots_horizontal.data_ptr() != layer.slots_horizontal.data_ptr()


def test_a_state_without_a_table_or_with_one_of_another_size_is_refused(layer):
    state = layer.state_dict()
    table = state.pop("slots_identity")
    with pytest.raises(RuntimeError, match="Missing key.*slots_identity"):
        layer.load_state_dict(state)
    with pytest.raises(RuntimeError, match="size mismatch for slots_identity"):
        layer.load_state_dict(state | {"slots_identity": table[:-1]})
    with pytest.raises(RuntimeError, match="Unexpected key.*slots_of_something"):
        layer.load_state_dict(state | {"slots_identity": table, "slots_of_something": table})


def test_tables_stay_whole_numbers_in_any_precision_and_follow_a_copy(layer):
    for other in (copy.deepcopy(layer).half(), pickle.loads(pickle.dumps(layer)), copy.deepcopy(layer).double()):
        for name in NAMES:
            assert getattr(other, name).dtype == getattr(layer, name).dtype
            assert torch.equal(getattr(other, name), getattr(layer, name))
            assert getattr(other, name).data_ptr() != getattr(layer, name).data_ptr()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_kernels_start_with_the_standard_deviation_that_is_documented(dtype):
    (weight, _) = ShiftwiseConv2d(64, 51, dtype=dtype).weights
    assert weight.float().std().item() == pytest.approx(0.02, rel=0.05)


def test_kernels_in_16_bits_are_those_in_32_bits_rounded():
    def drawn(dtype):
        torch.manual_seed(0)
        return ShiftwiseConv2d(64, 51, n_path=1, dtype=dtype).weights[0]

    assert torch.equal(drawn(torch.bfloat16), drawn(torch.float32).bfloat16())
