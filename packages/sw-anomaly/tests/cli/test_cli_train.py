"""``sw-anomaly train`` from a user's side."""

import json
from dataclasses import fields
from importlib.metadata import version

import pytest

from sw_anomaly.config import TrainingConfig
from sw_anomaly.detector import read_info
from sw_anomaly.metrics.thresholds import threshold_at

from conftest import refusal


def test_train_then_eval_with_its_checkpoint(run, tiny_root, tmp_path):
    trained = run("train", "--category", "disc", "--data", tiny_root, "--out", tmp_path / "mine", "--json")
    assert trained.exit_code == 0, trained.output
    checkpoint = json.loads(trained.stdout)["checkpoint"]
    result = run("eval", "--category", "disc", "--data", tiny_root, "--checkpoint", checkpoint)
    assert result.exit_code == 0, result.output
    assert (tmp_path / "runs" / "disc" / "001" / "report.html").is_file()


def test_an_interrupted_training_is_continued(run, tiny_root, tmp_path, monkeypatch):
    from sw_anomaly.methods.unet import training

    fit = training._train_epoch
    monkeypatch.setattr(training, "_train_epoch", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    assert run("train", "--category", "disc", "--data", tiny_root).exit_code != 0
    monkeypatch.setattr(training, "_train_epoch", fit)
    result = run("train", "--category", "disc", "--data", tiny_root)
    assert result.exit_code == 0, result.output
    assert "Continuing the interrupted training" in result.stderr
    assert [path.name for path in (tmp_path / "runs" / "disc").glob("0*")] == ["001"]


@pytest.mark.skipif(
    tuple(map(int, version("rich").split(".")[:2])) < (14, 1), reason="it draws the bars of one program per process"
)
def test_two_trainings_at_once_do_not_share_a_folder(run, tiny_root, tmp_path, monkeypatch):
    from sw_anomaly.methods.unet import training

    fit, others = training._train_epoch, []

    def train_and_be_joined(*given):
        if not others:
            others.append(run("train", "--category", "disc", "--data", tiny_root))
        fit(*given)

    monkeypatch.setattr(training, "_train_epoch", train_and_be_joined)
    assert run("train", "--category", "disc", "--data", tiny_root).exit_code == 0
    assert "001: process" in refusal(others[0])
    assert "is writing there" in refusal(others[0])
    assert "Continuing" not in others[0].stderr
    assert [path.name for path in (tmp_path / "runs" / "disc").glob("0*")] == ["001"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--model", "resnet"), "--model: got 'resnet', want one of swnano,"),
        (("--method", "magic"), "--method: got 'magic', want one of auto, unet, unet+bank, unet+patchcore, bank,"),
        (("--align", "on"), "--align: got 'on', want one of auto, off"),
        (("--protocol", "cheating"), "want one of unsupervised, supervised, published"),
        (("--image-size", 100), "--image-size: got 100, want a multiple of 32 from 64"),
        (("--defects", 3), "--protocol: got unsupervised, want supervised with --defects or --known-type"),
        (("--backbone", "resnet18"), "--backbone: got resnet18 for the method auto, want --method patchcore"),
        (("--method", "bank", "--model", "swnano"), "--model: got swnano for the method bank, want --method auto"),
        (
            ("--method", "patchcore", "--protocol", "supervised"),
            "--protocol: got supervised for the method patchcore, want --method auto",
        ),
        (("--method", "patchcore", "--backbone", "resnetty"), "a model of timm is wanted"),
    ],
)
def test_options_out_of_range(run, tiny_root, arguments, message):
    assert message in refusal(run("train", "--category", "disc", "--data", tiny_root, *arguments))


def test_the_defaults_that_help_tells_of_are_those_of_the_configuration(run):
    defaults = {field.name: field.default for field in fields(TrainingConfig)}
    told = " ".join(run("train", "--help").output.replace("│", " ").split())
    assert f"of {defaults['steps_per_epoch']} batches of {defaults['batch_size']} images each" in told
    assert f"Default: {defaults['epochs']}." in told
    for name in ("method", "model", "align", "protocol"):
        assert f"{defaults[name]} (the default)" in told


def test_a_rate_of_false_alarms_is_trained_for_and_evaluated_with(run, tiny_root, tmp_path):
    options = ("--category", "disc", "--data", tiny_root, "--method", "bank")
    trained = run("train", *options, "--false-alarms", 0.4)
    assert trained.exit_code == 0, trained.output
    assert "held-out good images reach the threshold" in " ".join(trained.stderr.split())
    info = read_info(tmp_path / "runs" / "disc" / "001" / "checkpoint.safetensors")
    assert info.image_threshold == threshold_at(info.good.scores, 0.4)
    assert info.pixel_threshold == threshold_at(info.good.peaks, 0.4)
    evaluated = json.loads(run("eval", *options, "--json").stdout)
    assert evaluated["image_threshold"] == info.image_threshold
    assert "--false-alarms: got 1, want a rate" in refusal(run("train", *options, "--false-alarms", 1))
