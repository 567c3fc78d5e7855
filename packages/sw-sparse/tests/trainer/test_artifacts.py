"""What a run leaves: a model of timm, and the compact one."""

import json

import pytest
import timm
import torch
from packaging.version import Version
from test_loop import TINY, recipe
from timm.models._hub import save_for_hf
from typer.testing import CliRunner

from sw_models.errors import InputError
from sw_sparse import load_compact
from sw_sparse.trainer import checkpoint
from sw_sparse.trainer.artifacts import compact_checkpoint
from sw_sparse.trainer.cli import app
from sw_sparse.trainer.evaluate import evaluate_checkpoint
from sw_sparse.trainer.loop import train


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    output = tmp_path_factory.mktemp("units") / "run"
    return train(recipe(output, granularity="unit", sparsity=0.5, epochs=2)), output


def build():
    return timm.create_model("shiftwise_pico", num_classes=10, **TINY["model_args"])


def test_a_run_with_units_ends_small(run):
    summary, output = run
    assert json.loads((output / "summary.json").read_text()) == summary
    assert (output / "widths.png").stat().st_size > 1000
    assert summary["compact/parameters"] < summary["dense/parameters"]
    assert summary["compact/MACs"] < summary["dense/MACs"]
    assert summary["compact/images per second"] > 0
    assert set(summary["widths"]) == set(summary["density"])
    before, after = map(sum, zip(*summary["widths"].values(), strict=True))
    assert after == round(0.5 * before)
    size = [(output / f"{name}.safetensors").stat().st_size for name in ("model", "compact")]
    assert size[1] < size[0]


def test_the_compact_file_evaluates_to_the_same_figures(run):
    summary, output = run
    figures = evaluate_checkpoint(output / "compact.safetensors", {}, lambda images: None)
    assert figures["top1"] == summary["test_top1"]
    assert figures["loss"] == pytest.approx(summary["test_loss"], rel=1e-5)


def test_load_compact_reads_a_runs_file(run):
    _, output = run
    model = build()
    model.load_state_dict(checkpoint.load_weights(output / "model.safetensors").tensors)
    smaller = load_compact(output / "compact.safetensors", build())
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(smaller.eval()(images), model.eval()(images), rtol=0, atol=1e-5)


def test_the_command_compacts_afterwards_and_overwrites_nothing(run, tmp_path):
    summary, output = run
    newest = sorted((output / "checkpoints").glob("*.safetensors"))[-1]
    done = CliRunner().invoke(app, ["compact", str(newest), "--output", str(tmp_path / "small.safetensors"), "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["widths"] == summary["widths"]
    expected = checkpoint.load_weights(output / "compact.safetensors").tensors
    actual = checkpoint.load_weights(tmp_path / "small.safetensors").tensors
    assert all(torch.equal(actual[name], value) for name, value in expected.items())
    before = (output / "compact.safetensors").read_bytes()
    with pytest.raises(InputError, match=r"--output: got .*compact\.safetensors, which is already there"):
        compact_checkpoint(output / "model.safetensors", None)
    with pytest.raises(InputError, match="it is compact already"):
        compact_checkpoint(output / "compact.safetensors", tmp_path / "again.safetensors")
    assert (output / "compact.safetensors").read_bytes() == before
    (tmp_path / "mine.png").write_bytes(b"a picture")
    with pytest.raises(InputError, match=r"--output: got .*mine\.png, which is already there"):
        compact_checkpoint(output / "model.safetensors", tmp_path / "mine.safetensors")
    assert (tmp_path / "mine.png").read_bytes() == b"a picture"


def test_a_dense_run_has_nothing_to_take_out_and_is_a_model_of_timm(tmp_path):
    train(recipe(tmp_path / "run", sparsity=0.0, epochs=2, model_args={**TINY["model_args"], "n_rep": 2}))
    with pytest.raises(InputError, match=r"model\.safetensors: nothing is off in it"):
        compact_checkpoint(tmp_path / "run" / "model.safetensors", None)
    assert not (tmp_path / "run" / "compact.safetensors").exists()

    if Version(timm.__version__) < Version("1.0.29"):
        pytest.skip("this timm fails on a folder with several weights, by a name that it does not define")
    model = timm.create_model(f"local-dir:{tmp_path / 'run'}", pretrained=True)
    weights = checkpoint.load_weights(tmp_path / "run" / "model.safetensors").tensors
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    config = timm.data.resolve_model_data_config(model)
    assert (config["input_size"], config["crop_pct"]) == ((3, 32, 32), 1.0)
    content = json.loads((tmp_path / "run" / "config.json").read_text())
    assert content["label_names"] == [str(digit) for digit in range(10)]
    assert content["recipe"]["epochs"] == 2
    assert str(tmp_path) not in json.dumps(content)
    assert content["pretrained_cfg"]["license"] == "apache-2.0"

    save_for_hf(model, str(tmp_path / "hub"), model_config=content, safe_serialization=True)
    again = timm.create_model(f"local-dir:{tmp_path / 'hub'}", pretrained=True)
    assert all(torch.equal(value, weights[name]) for name, value in again.state_dict().items())
    assert json.loads((tmp_path / "hub" / "config.json").read_text())["label_names"] == content["label_names"]
