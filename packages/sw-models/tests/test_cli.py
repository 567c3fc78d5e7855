import json

import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from sw_models.cli import app
from sw_ops import mlp_is_compiled


def run(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.fixture
def published(golden, tmp_path):
    torch.save({"model": golden("D_model_v2")[0]}, tmp_path / "published.pth")
    return tmp_path / "published.pth"


def test_list_names_every_model():
    rows = json.loads(run("list", "--json", "--size", "32").stdout)
    assert {"shiftwise_tiny", "slak_small"} <= {row["model"] for row in rows}
    assert next(r for r in rows if r["model"] == "unireplknet_tiny")["kernels"] == "3 13 13/3 13"


def test_info_describes_a_model():
    described = json.loads(run("info", "shiftwise_pico", "--json").stdout)
    assert described["dims"] == [16, 32, 64, 128]
    with torch.no_grad():
        compiled = mlp_is_compiled(torch.ones(1, 1, 1, 1))
    assert ("compiled" in described["deployed_mlp"]) == compiled


def test_convert_writes_weights_that_load(published, tmp_path):
    result = run("convert", published, tmp_path / "ours.safetensors", "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)[0]
    assert found["parameters"] == 374_614
    assert len(found["sha256"]) == 64
    assert "stages.0.blocks.0.conv.weights.0" in load_file(tmp_path / "ours.safetensors")
    again = run("convert", published, tmp_path / "ours.safetensors")
    assert again.exit_code == 2
    assert "already there" in again.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("flops", "shiftwise_pico", "slak_tiny", "--size", "32"),
        ("erf", "shiftwise_pico", "--size", "64", "--count", "1"),
        ("throughput", "shiftwise_pico", "--size", "32", "--batch", "1", "--turns", "1"),
        ("coverage", "--shuffles", "2"),
    ],
    ids=lambda a: a[0],
)
def test_measurements_print_and_draw(arguments, tmp_path):
    result = run(*arguments, "--json", "--picture", tmp_path / "picture.png")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")


def test_sparsity_of_a_published_checkpoint(published, tmp_path):
    result = run("sparsity", published, "--json", "--picture", tmp_path / "picture.png")
    assert result.exit_code == 0, result.output
    assert len(json.loads(result.stdout)) == 5
    assert (tmp_path / "picture.png").stat().st_size > 1000


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("info", "nothing"), "MODEL: got nothing"),
        (
            ("flops", "shiftwise_pico", "--picture", "no/such/folder/x.png"),
            "--picture: got no/such/folder/x.png, want",
        ),
        (("convert", "absent.pth", "out.safetensors"), "no file absent.pth"),
        (("convert", "absent.pth", "out.pth"), "OUT: got out.pth, want a name that ends in"),
        (("export", "shiftwise_pico", "out.bin", "--format", "tf"), "--format: got tf"),
        (("throughput", "shiftwise_pico", "--precision", "int8"), "--precision: got int8"),
        (("throughput", "shiftwise_pico", "--onnx", "--device", "cuda"), "--onnx: got --device cuda, want cpu"),
        (
            ("throughput", "shiftwise_pico", "--layout", "tiled"),
            "--layout: got tiled, want contiguous or channels_last",
        ),
        (
            ("throughput", "shiftwise_pico", "--size", "32", "--batch", "1", "--train"),
            "ValueError: Expected more than 1 value per channel",
        ),
        (("sparsity", "absent.pth", "--kernel-sizes", "a,b"), "--kernel-sizes: got a,b"),
        (("flops", "shiftwise_pico", "--sise", "32"), "sw-models: No such option"),
        (("flops", "shiftwise_pico", "--size", "many"), "sw-models: Invalid value for '--size'"),
    ],
)
def test_bad_input_gives_one_line_and_exit_code_2(arguments, message):
    result = run(*arguments)
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith("sw-models: ")
    assert message in result.stderr
