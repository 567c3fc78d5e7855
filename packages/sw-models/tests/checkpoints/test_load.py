import argparse
import pickle
from pathlib import Path

import pytest
import torch

from sw_models.checkpoints.load import read_state_dict
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


def test_foreign_objects_beside_the_weights_are_left_out(tmp_path):
    extras = {"log": Log(), "args": argparse.Namespace(lr=1, where=Path("x")), "kind": Log}
    torch.save({"model": {"w": torch.ones(2)}, **extras}, tmp_path / "c.pth")
    assert torch.equal(read_state_dict(tmp_path / "c.pth")["w"], torch.ones(2))


def test_code_in_a_file_is_not_run(tmp_path):
    bomb = Runs()
    bomb.target = str(tmp_path / "ran")
    torch.save({"model": {"w": torch.ones(2)}, "log": bomb}, tmp_path / "c.pth")
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
