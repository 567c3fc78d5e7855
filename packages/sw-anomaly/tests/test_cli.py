"""The commands from a user's side: what they write, what they print, and how they refuse."""

import inspect
import json
import subprocess
import sys
from dataclasses import fields

import pytest
from PIL import Image
from typer.testing import CliRunner

from sw_anomaly.cli import app, train
from sw_anomaly.training import TrainingConfig

QUICK = {"epochs": 1, "steps_per_epoch": 2, "batch_size": 4}


@pytest.fixture(autouse=True)
def quick_training(monkeypatch, tmp_path):
    """Default trainings that take a second, in a working directory of their own."""
    monkeypatch.chdir(tmp_path)
    from sw_anomaly import training

    class Quick(training.TrainingConfig):
        def __init__(self, category, training_images, image_size, **given):
            super().__init__(category, training_images, 64, **{**given, **QUICK})

    monkeypatch.setattr(training, "TrainingConfig", Quick)


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def refusal(result):
    """The one line with which a command refused."""
    assert result.exit_code == 2, result.output
    lines = [line for line in result.stderr.splitlines() if line.startswith("sw-anomaly: ")]
    assert len(lines) == 1
    assert "Traceback" not in result.output
    return lines[0]


def test_eval_fits_first_says_so_and_writes_results_and_report(tiny_root, tmp_path):
    result = run("eval", "--category", "disc", "--data", tiny_root)
    assert result.exit_code == 0, result.output
    assert "fitting a detector first" in result.stderr
    assert "pixel AUROC" in result.stdout
    assert "SYNTHETIC" not in result.output
    folder = tmp_path / "runs" / "disc" / "001"
    assert sorted(path.name for path in folder.iterdir()) == [
        "checkpoint.safetensors",
        "config.json",
        "report.html",
        "results.json",
    ]
    results = json.loads((folder / "results.json").read_text())
    assert set(results["overall"]) == {"image_auroc", "image_f1_max", "pixel_auroc", "pixel_ap", "aupro"}
    assert list(results["per_defect"]) == ["spot"]
    assert len(results["images"]) == 4


def test_a_second_eval_uses_the_checkpoint_and_leaves_the_first_results_alone(tiny_root, tmp_path):
    run("eval", "--category", "disc", "--data", tiny_root)
    first = tmp_path / "runs" / "disc" / "001"
    before = {path.name: path.read_bytes() for path in first.iterdir()}
    result = run("eval", "--category", "disc", "--data", tiny_root, "--json")
    assert result.exit_code == 0, result.output
    assert "fitting" not in result.stderr
    assert {path.name: path.read_bytes() for path in first.iterdir()} == before
    second = json.loads((tmp_path / "runs" / "disc" / "002" / "results.json").read_text())
    assert json.loads(result.stdout) == second
    assert second["overall"] == json.loads(before["results.json"])["overall"]


def test_train_then_eval_with_its_checkpoint(tiny_root, tmp_path):
    trained = run("train", "--category", "disc", "--data", tiny_root, "--out", tmp_path / "mine", "--json")
    assert trained.exit_code == 0, trained.output
    checkpoint = json.loads(trained.stdout)["checkpoint"]
    result = run("eval", "--category", "disc", "--data", tiny_root, "--checkpoint", checkpoint)
    assert result.exit_code == 0, result.output
    assert (tmp_path / "runs" / "disc" / "001" / "report.html").is_file()


def test_an_interrupted_training_is_continued(tiny_root, tmp_path, monkeypatch):
    from sw_anomaly import training

    fit = training._train_epoch
    monkeypatch.setattr(training, "_train_epoch", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    assert run("train", "--category", "disc", "--data", tiny_root).exit_code != 0
    monkeypatch.setattr(training, "_train_epoch", fit)
    result = run("train", "--category", "disc", "--data", tiny_root)
    assert result.exit_code == 0, result.output
    assert "Continuing the interrupted training" in result.stderr
    assert [path.name for path in (tmp_path / "runs" / "disc").iterdir()] == ["001"]


def test_without_data_the_embedded_sample_is_used_and_stamped_everywhere(tmp_path, monkeypatch):
    for name, count in (("TRAIN_GOOD", 4), ("TEST_GOOD", 1), ("TEST_PER_DEFECT", 1)):
        monkeypatch.setattr(f"sw_anomaly.sample.{name}", count)
    result = run("eval", "--category", "bottle")
    assert result.exit_code == 0, result.output
    assert "SYNTHETIC" in result.stdout
    folder = tmp_path / "runs" / "bottle" / "001"
    assert json.loads((folder / "results.json").read_text())["synthetic"] is True
    assert "SYNTHETIC" in (folder / "report.html").read_text()
    assert list(json.loads((folder / "results.json").read_text())["per_defect"]) == [
        "broken_large",
        "broken_small",
        "contamination",
    ]


def test_sample_writes_a_folder_that_eval_takes_as_synthetic(tmp_path, monkeypatch):
    for name, count in (("TRAIN_GOOD", 3), ("TEST_GOOD", 1), ("TEST_PER_DEFECT", 1)):
        monkeypatch.setattr(f"sw_anomaly.sample.{name}", count)
    assert run("sample", "mine").exit_code == 0
    assert "already exists" in refusal(run("sample", "mine"))
    assert json.loads(run("eval", "--category", "bottle", "--data", "mine", "--json").stdout)["synthetic"] is True


def test_a_category_that_is_not_there(tiny_root):
    assert "categories there: disc" in refusal(run("eval", "--category", "bottle", "--data", tiny_root))
    assert "give your images with --data" in refusal(run("train", "--category", "screw"))


def test_a_category_without_test_images_can_be_trained_but_not_evaluated(tiny_root):
    (tiny_root / "disc" / "test").rename(tiny_root / "disc" / "elsewhere")
    assert run("train", "--category", "disc", "--data", tiny_root).exit_code == 0
    assert "disc/test holds no images" in refusal(run("eval", "--category", "disc", "--data", tiny_root))


def test_an_image_that_does_not_decode(tiny_root):
    (tiny_root / "disc" / "test" / "good" / "001.png").write_bytes(b"not a picture")
    assert "001.png does not decode" in refusal(run("eval", "--category", "disc", "--data", tiny_root))


def test_a_mask_of_another_size(tiny_root):
    Image.new("L", (9, 9)).save(tiny_root / "disc" / "ground_truth" / "spot" / "000_mask.png")
    assert "000_mask.png is 9x9" in refusal(run("eval", "--category", "disc", "--data", tiny_root))


def test_a_checkpoint_of_something_else(tiny_root, tmp_path):
    (tmp_path / "weights.pth").write_bytes(b"\x80\x02")
    arguments = ("--data", tiny_root, "--checkpoint", tmp_path / "weights.pth")
    assert "weights.pth is not a safetensors file" in refusal(run("eval", "--category", "disc", *arguments))


def test_a_checkpoint_of_another_category_or_model(tiny_root, tmp_path):
    run("train", "--category", "disc", "--data", tiny_root)
    checkpoint = tmp_path / "runs" / "disc" / "001" / "checkpoint.safetensors"
    (tiny_root / "disc").rename(tiny_root / "plate")
    arguments = ("--data", tiny_root, "--checkpoint", checkpoint)
    assert "is for 'disc'; one for 'plate' is wanted" in refusal(run("eval", "--category", "plate", *arguments))
    (tiny_root / "plate").rename(tiny_root / "disc")
    assert "of the model 'swnano'" in refusal(run("eval", "--category", "disc", *arguments, "--model", "vanilla"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(("--model", "resnet"), "one of swnano,"), (("--image-size", 100), "a multiple of 32 from 64 is wanted")],
)
def test_options_out_of_range(tiny_root, arguments, message):
    assert message in refusal(run("train", "--category", "disc", "--data", tiny_root, *arguments))


def test_the_defaults_that_help_shows_are_those_that_eval_fits_with():
    options = inspect.signature(train).parameters
    defaults = {field.name: field.default for field in fields(TrainingConfig)}
    for name in ("model", "epochs", "seed"):
        assert options[name].default == defaults[name]


def test_help_answers_without_loading_torch():
    code = (
        "import sys\nfrom sw_anomaly.cli import app\n"
        "try: app(['eval', '--help'])\nexcept SystemExit: pass\n"
        "print(sorted({'torch', 'timm', 'scipy'} & set(sys.modules)))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "--category" in shown
    assert shown.endswith("[]\n")
