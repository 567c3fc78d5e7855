import argparse
import io
import pickle
import random
from pathlib import Path

import pytest
import torch

from sw_models.checkpoints.load import class_names, read_state_dict, write_state_dict
from sw_models.checkpoints.tensor_file import write_state, write_tensors
from sw_models.errors import InputError


class Runs:
    """A class that would write a file if anything were unpickled."""

    target = ""

    def __reduce__(self):
        return (Path.write_text, (Path(self.target), "ran"))


class Log:
    """A class that the reader of a checkpoint does not have."""

    def __init__(self):
        self.values = [1.0]

    def __setstate__(self, state):
        raise AssertionError("unpickled")


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "before 1.6"])
def test_foreign_objects_beside_the_weights_are_left_out(zipped, tmp_path):
    extras = {"log": Log(), "args": argparse.Namespace(lr=1, where=Path("x")), "kind": Log}
    content = {"model": {"w": torch.ones(2)}, **extras}
    torch.save(content, tmp_path / "c.pth", _use_new_zipfile_serialization=zipped)
    assert torch.equal(read_state_dict(tmp_path / "c.pth")["w"], torch.ones(2))


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "before 1.6"])
def test_code_in_a_file_is_not_run(zipped, tmp_path):
    bomb = Runs()
    bomb.target = str(tmp_path / "ran")
    content = {"model": {"w": torch.ones(2)}, "log": bomb}
    torch.save(content, tmp_path / "c.pth", _use_new_zipfile_serialization=zipped)
    with pytest.raises(ValueError, match="cannot be read safely"):
        read_state_dict(tmp_path / "c.pth")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda f: f.write_bytes(b"not a checkpoint"), "cannot be read safely"),
        (lambda f: f.write_bytes(pickle.dumps({"w": Path()}, protocol=2)), "cannot be read safely"),
        (lambda f: torch.save([1, 2], f), "got list, want a state dict"),
        (lambda f: torch.save({"w": 3}, f), "entry 'w' is a int"),
    ],
)
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_bad_files_give_one_line(write, message, suffix, tmp_path):
    path = tmp_path / f"bad{suffix}"
    write(path)
    with pytest.raises(ValueError, match="cannot be read safely" if suffix == ".safetensors" else message) as raised:
        read_state_dict(path)
    assert "\n" not in str(raised.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"no file .*absent\.pth"):
        read_state_dict(tmp_path / "absent.pth")


def damaged(content, how, seed):
    """Return bytes that were truncated, or of which some were changed, doubled or removed."""
    draw = random.Random(seed)
    if how == "truncated":
        return content[: draw.randrange(len(content))]
    content = bytearray(content)
    for _ in range(draw.choice((1, 1, 3))):
        # The pickle, where each byte has a meaning, is at the start; numbers follow.
        at = draw.randrange(min(len(content), 900))
        if how == "changed":
            content[at] = draw.randrange(256)
        elif how == "doubled":
            content[at:at] = content[at : at + draw.randrange(1, 9)]
        else:
            del content[at : at + draw.randrange(1, 9)]
    return bytes(content)


@pytest.mark.parametrize("kind", ["before 1.6", "zip", "safetensors", "checkpoint"])
@pytest.mark.parametrize("how", ["truncated", "changed", "doubled", "removed"])
def test_whatever_a_damaged_file_leads_to_is_one_clear_error(kind, how, tmp_path):
    weights = {f"layer{i}.weight": torch.ones(2, 3) for i in range(4)}
    buffer, path = io.BytesIO(), tmp_path / ("a.pth" if kind in ("zip", "before 1.6") else "a.safetensors")
    if kind == "checkpoint":
        write_state(path, {"model": weights, "epoch": 3, "history": [1.0, float("nan")]})
    elif kind == "safetensors":
        write_state_dict(weights, path)
    else:
        content = {"model": weights, "args": argparse.Namespace(lr=1)}
        torch.save(content, buffer, _use_new_zipfile_serialization=kind == "zip")
        path.write_bytes(buffer.getvalue())
    sound = path.read_bytes()
    assert read_state_dict(path).keys() == weights.keys()
    refused = []
    for seed in range(150):
        path.write_bytes(damaged(sound, how, seed))
        try:
            read_state_dict(path)
        except InputError as error:
            refused.append(str(error))
    assert len(refused) > (100 if how == "truncated" else 20)
    assert all(line.startswith("checkpoint: ") and "\n" not in line for line in refused)


def test_no_changed_byte_gives_other_weights(tmp_path):
    weights = {"a": torch.arange(8.0), "b": torch.ones(2, dtype=torch.int64)}
    path = tmp_path / "a.pth"
    torch.save({"state_dict": weights}, path)
    sound = path.read_bytes()
    refused = 0
    for at in range(len(sound)):
        path.write_bytes(sound[:at] + bytes([sound[at] ^ 1]) + sound[at + 1 :])
        try:
            read = read_state_dict(path)
        except InputError:
            refused += 1
        else:
            assert read.keys() == weights.keys()
            assert all(torch.equal(read[name], value) for name, value in weights.items())
    assert refused > sum(value.nbytes for value in weights.values())


def test_a_text_file_is_no_checkpoint(tmp_path):
    for text in ("", "e", "epoch: 3\n", "# notes\n" * 100, "{}", "\x80\x02."):
        (tmp_path / "x.pth").write_text(text, encoding="latin-1")
        with pytest.raises(InputError, match=r"x\.pth cannot be read safely"):
            read_state_dict(tmp_path / "x.pth")


def test_checkpoints_of_sw_sparse_give_their_averaged_weights_and_classes(tmp_path):
    state = {"model": {"w": torch.zeros(1)}, "ema": None, "classes": ["nut", "screw"]}
    write_state(tmp_path / "a.safetensors", state)
    assert read_state_dict(tmp_path / "a.safetensors")["w"] == 0
    write_state(tmp_path / "b.safetensors", {**state, "ema": {"w": torch.ones(1)}})
    assert read_state_dict(tmp_path / "b.safetensors")["w"] == 1
    write_tensors(tmp_path / "c.safetensors", {"w": torch.ones(1)}, {"classes": '["nut", "screw"]'})
    assert class_names(tmp_path / "b.safetensors") == class_names(tmp_path / "c.safetensors") == ["nut", "screw"]
    write_state_dict({"w": torch.ones(1)}, tmp_path / "d.safetensors")
    assert class_names(tmp_path / "d.safetensors") is None
