import json
import subprocess
import sys

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from sw_models.checkpoints.tensor_file import nested_state, read_tensor_file, write_state, write_tensors
from sw_models.errors import InputError

STATE = {
    "model": {"w": torch.arange(6.0).reshape(2, 3).T, "b": torch.ones(2, dtype=torch.bfloat16)},
    "ema": None,
    "recipe": {"lr": 1e-3, "targets": ["a", "b"], "name": 'a "quoted" \\ \n name, ä'},
    "odd": [torch.tensor(True), torch.zeros(0), (1, float("inf")), {}, -float("inf")],
}


def same(a, b):
    if torch.is_tensor(a):
        return torch.equal(a, b) and a.dtype == b.dtype
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return type(a) is type(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return a == b


def test_a_nested_state_comes_back_as_it_was(tmp_path):
    write_state(tmp_path / "a.safetensors", STATE)
    assert same(nested_state(*read_tensor_file(tmp_path / "a.safetensors")), STATE)
    assert [file.name for file in tmp_path.iterdir()] == ["a.safetensors"]


def test_what_cannot_be_stored_is_named(tmp_path):
    with pytest.raises(TypeError, match="a/b: a checkpoint cannot hold a object"):
        write_state(tmp_path / "a.safetensors", {"a": {"b": object()}})
    assert not list(tmp_path.iterdir())


def test_metadata_is_strict_json(tmp_path):
    write_state(tmp_path / "a.safetensors", {"best": -float("inf"), "loss": float("nan")})
    with safe_open(tmp_path / "a.safetensors", "pt") as file:
        json.loads(file.metadata()["structure"], parse_constant=pytest.fail)


def test_equal_content_gives_equal_files_in_every_process(tmp_path):
    program = (
        "import sys, torch; from pathlib import Path; from sw_models.checkpoints.tensor_file import write_tensors;"
        "write_tensors(Path(sys.argv[1]), {'b': torch.ones(3), 'a': torch.zeros(2)},"
        " {name: name * 3 for name in ('recipe', 'classes', 'more', 'x', 'y')})"
    )
    for i in range(2):
        subprocess.run([sys.executable, "-c", program, str(tmp_path / f"{i}.safetensors")], check=True)
    for i in range(2, 8):  # the order of a process's own dictionary does not matter either
        names = ("y", "more", "x", "classes", "recipe") if i % 2 else ("recipe", "classes", "more", "x", "y")
        tensors = {"a": torch.zeros(2), "b": torch.ones(3)}
        write_tensors(tmp_path / f"{i}.safetensors", tensors, {name: name * 3 for name in names})
    assert len({path.read_bytes() for path in tmp_path.iterdir()}) == 1
    assert load_file(tmp_path / "0.safetensors")["b"].tolist() == [1, 1, 1]  # any reader of the format reads it


@pytest.mark.parametrize("change", ["data", "metadata", "seal"])
def test_a_changed_file_is_refused(change, tmp_path):
    path = tmp_path / "a.safetensors"
    write_state(path, STATE)
    content = path.read_bytes()
    with safe_open(path, "pt") as file:
        seal = file.metadata()["sha256"]
    changed = {
        "data": content[:-1] + b"\x07",
        "metadata": content.replace(b"0.001", b"0.002"),
        "seal": content.replace(seal[:8].encode(), b"0" * 8),
    }
    path.write_bytes(changed[change])
    with pytest.raises(InputError, match="does not match its SHA-256"):
        read_tensor_file(path)


def test_files_of_others_have_no_seal(tmp_path):
    save_file({"w": torch.ones(2)}, tmp_path / "a.safetensors", {"format": "pt"})
    tensors, metadata = read_tensor_file(tmp_path / "a.safetensors")
    assert (tensors["w"].tolist(), metadata, nested_state(tensors, metadata)) == ([1, 1], {"format": "pt"}, None)
