import json
import os
import resource
import subprocess
import sys

import pytest
import torch
from typer.testing import CliRunner

from sw_sparse.trainer.cli import app
from sw_sparse.trainer.recipe import Recipe

TINY = [
    "--model-args", "{dims: [8, 8, 8, 8], depths: [1, 1, 1, 1], kernel_sizes: [13, 13, 7, 7]}",
    "--batch-size", "128", "--epochs", "2", "--update-every", "3",
]  # fmt: skip


def call(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments], env={"COLUMNS": "200"})


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    output = tmp_path_factory.mktemp("cli") / "run"
    return call("train", *TINY, "--output", output, "--json"), output


def test_without_data_train_learns_the_digits_and_eval_gives_the_same_figure(run):
    result, output = run
    assert result.exit_code == 0, result.output
    summary = json.loads(result.stdout)
    assert summary["test_images"] == 360
    assert "validation loss" in result.stderr
    evaluated = call("eval", "--checkpoint", output / "model.safetensors", "--json")
    assert json.loads(evaluated.stdout)["top1"] == summary["test_top1"]


def test_tables_for_people(run):
    _, output = run
    result = call("eval", "--checkpoint", output / "model.safetensors", "--val-split", "validation", "--batch-size", 50)
    assert result.exit_code == 0
    assert "359" in result.stdout


def test_help_names_every_option():
    text = call("train", "--help").stdout
    for option in Recipe.__dataclass_fields__:
        assert f"--{option.replace('_', '-')}"[:20] in text


def test_a_disk_that_is_full_is_one_line_and_leaves_no_half_written_file(tmp_path):
    """A limit on the size of files stands for it: writing fails in the same call, with another number."""

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))

    # -B: Python would rename half-written bytecode into the environment.
    command = [sys.executable, "-B", "-m", "sw_sparse.trainer.cli", "train", *TINY, "--output", str(tmp_path / "run")]
    result = subprocess.run(command, preexec_fn=limit, capture_output=True, text=True, check=False)
    assert result.returncode == 2, result.stderr
    assert result.stderr.splitlines()[-1].startswith("sw-sparse: ")
    assert "File too large" in result.stderr.splitlines()[-1]
    assert not list(tmp_path.rglob("*.safetensors"))
    assert not list(tmp_path.rglob("*.writing"))


class Evil:
    def __reduce__(self):
        return os.system, ("touch evil-was-here",)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "--dataset", "digits", "--epochs", "0"], "epochs: got 0, want more than 0"),
        (["train", "--config", "nowhere"], "config: got 'nowhere'"),
        (["train", "--data-dir", "/nowhere"], "data_dir: cannot open 'train'"),
        (["train", "--sparsity", "1.5"], "sparsity: got 1.5"),
        (["train", "--auto-augment", "rand-zzz"], "auto_augment: got 'rand-zzz', want a policy of timm"),
        (["train", "--auto-augment", "rand-q5"], "auto_augment: timm knows no policy 'rand-q5'"),
        (["train", "--opt", "magic", "--data-dir", "/nowhere"], "opt: 'magic'"),
        (["train", "--num-classes", "3"], "num_classes: got 3, but the data have 10 classes"),
        (["train", "--output", "cut.safetensors"], "output: got cut.safetensors, want a folder (File exists)"),
        (["train", "--targets", "nothing.*"], "targets: nothing to make sparse"),
        (["train", "--model-args", "{"], "model_args: got '{', want YAML"),
        (["train", "--val-split", "moon"], "split: digits has no 'moon'"),
        (["eval", "--checkpoint", "nowhere.safetensors"], "nowhere.safetensors: no such file"),
        (["eval", "--checkpoint", "cut.safetensors"], "cut.safetensors: truncated"),
        (
            ["eval", "--checkpoint", "evil.pth", "--dataset", "digits", "--model", "shiftwise_nano"],
            "evil.pth cannot be read",
        ),
        (["eval", "--checkpoint", "evil.safetensors"], "evil.safetensors: truncated, or no safetensors file"),
        (["train", "--initial-checkpoint", "evil.pth", "--output", "x"], "evil.pth cannot be read"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_two(arguments, message, tmp_path, monkeypatch, run):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cut.safetensors").write_bytes((run[1] / "model.safetensors").read_bytes()[:5000])
    for name in ("evil.pth", "evil.safetensors"):
        torch.save({"model": {"w": torch.ones(1)}, "more": Evil()}, name)
    result = call(*arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "evil-was-here").exists()
