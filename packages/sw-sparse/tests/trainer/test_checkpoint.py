import pickle

import pytest
import torch

from sw_models.checkpoints.tensor_file import write_state
from sw_models.errors import InputError
from sw_sparse.trainer import checkpoint


def state():
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.randn(1, 3)).sum().backward()
    optimizer.step()
    return {
        "model": model.state_dict(),
        "ema": None,
        "optimizer": optimizer.state_dict(),
        "recipe": {"lr": 1e-3, "targets": ["a", "b"]},
    }


def same(a, b):
    if torch.is_tensor(a):
        return torch.equal(a, b) and a.dtype == b.dtype
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return type(a) is type(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return a == b


@pytest.mark.parametrize("damage", ["truncated", "emptied", "one bit", "header", "pickle"])
def test_the_newest_sound_checkpoint_is_used_and_damaged_ones_are_named(tmp_path, damage):
    for epoch in range(2):
        write_state(tmp_path / f"epoch-000{epoch}.safetensors", {**state(), "epoch": epoch})
    newest = tmp_path / "epoch-0001.safetensors"
    content = bytearray(newest.read_bytes())
    if damage == "truncated":
        content = content[: len(content) // 2]
    elif damage == "emptied":
        content = bytearray()
    elif damage == "one bit":
        content[-5] ^= 1
    elif damage == "header":
        content = content.replace(b"0.001", b"0.002")
    else:
        content = bytearray(pickle.dumps({"model": 1}))
    newest.write_bytes(content)
    warnings = []
    assert checkpoint.newest(tmp_path, warnings.append)["epoch"] == 0
    assert len(warnings) == 1
    assert str(newest) in warnings[0]
    assert "\n" not in warnings[0]


def test_no_checkpoint_is_none(tmp_path):
    assert checkpoint.newest(tmp_path / "nowhere", print) is None


def test_only_the_newest_are_kept(tmp_path):
    for epoch in range(5):
        (tmp_path / f"epoch-{epoch:04}.safetensors").touch()
    (tmp_path / ".epoch-0009.safetensors.writing").touch()
    checkpoint.prune(tmp_path, keep=2)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["epoch-0003.safetensors", "epoch-0004.safetensors"]


def test_epoch_numbers_of_any_length_are_in_order(tmp_path):
    for epoch, step in ((9999, None), (10_000, None), (10_001, 7), (10_001, 1_000_000), (9998, None)):
        write_state(checkpoint.file_of(tmp_path, epoch, step), {"epoch": epoch, "step": step})
    assert checkpoint.newest(tmp_path, print) == {"epoch": 10_001, "step": 1_000_000}
    checkpoint.prune(tmp_path, keep=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "epoch-10000.safetensors", "epoch-10001-step-1000000.safetensors", "epoch-9999.safetensors",
    ]  # fmt: skip
    write_state(checkpoint.file_of(tmp_path, 10_001), {"epoch": 10_001})
    checkpoint.prune(tmp_path, keep=1)
    assert [path.name for path in tmp_path.iterdir()] == ["epoch-10001.safetensors"]


@pytest.mark.parametrize("part", ["model", "ema", "optimizer"])
def test_a_state_that_diverged_is_refused_by_name(part):
    sound = {"model": {"w": torch.ones(2)}, "ema": None, "optimizer": {"state": {0: {"m": torch.ones(2)}}}}
    checkpoint.refuse_unsound(sound, 0)
    with pytest.raises(InputError, match=f"lr: {part}\\.w is no longer finite in epoch 4"):
        checkpoint.refuse_unsound({**sound, part: {"w": torch.tensor([1.0, float("nan")])}}, 3)


def test_weights_keep_their_names_and_bring_their_recipe(tmp_path):
    weights = {"b.weight": torch.ones(2), "a.tied": torch.ones(1)}
    first = checkpoint.save_weights(tmp_path / "a.safetensors", weights, {"lr": 1})
    loaded = checkpoint.load_weights(tmp_path / "a.safetensors")
    assert same({name: loaded.tensors[name] for name in weights}, weights)
    assert (loaded.recipe, loaded.classes) == ({"lr": 1}, None)
    assert checkpoint.save_weights(tmp_path / "b.safetensors", weights, {"lr": 2}) == first
    changed = {**weights, "b.weight": torch.zeros(2)}
    assert checkpoint.save_weights(tmp_path / "c.safetensors", changed, {"lr": 1}) != first


def test_a_checkpoint_gives_its_averaged_weights(tmp_path):
    before = state()
    write_state(tmp_path / "a.safetensors", before)
    assert same(checkpoint.load_weights(tmp_path / "a.safetensors")[0], before["model"])
    averaged = {"weight": torch.zeros(1)}
    write_state(tmp_path / "b.safetensors", {**before, "ema": averaged})
    assert same(checkpoint.load_weights(tmp_path / "b.safetensors")[0], averaged)
