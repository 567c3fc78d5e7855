import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

pytest.importorskip("mmengine", reason="mmengine is not installed (extra openmmlab)")

from sw_sparse.openmmlab.app import build_app


@pytest.fixture
def run(task):
    """Run a command; return (exit status, standard output, standard error)."""
    app = build_app(task)

    def run(*arguments):
        result = CliRunner().invoke(app, [str(a) for a in arguments])
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result.exit_code, result.stdout, result.stderr

    return run


@pytest.fixture
def trained(run):
    """The sample configuration, trained for two iterations into runs/toy_sample."""
    status, out, _ = run("train", "--cfg-options", "train_cfg.max_iters=2", "--json")
    assert status == 0
    return json.loads(out)


def test_a_run_is_trained_tested_and_used_by_its_name(run, trained, tmp_path):
    assert trained["folder"] == "runs/toy_sample"
    status, out, _ = run("test", "--json")
    assert (status, json.loads(out)["closeness"]) == (0, pytest.approx(trained["best_score"]))
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    for number in ("001", "002"):
        status, out, _ = run("predict", tmp_path / "a.png", "--json")
        assert (status, json.loads(out)["folder"]) == (0, f"runs/toy_sample/predictions/{number}")
        assert (tmp_path / "runs/toy_sample/predictions" / number / "a.txt").is_file()
    assert run("export", tmp_path / "model.onnx")[0] == 0


def test_a_checkpoint_brings_its_configuration(run, trained):
    status, out, _ = run("test", "--checkpoint", trained["checkpoint"], "--json")
    assert (status, json.loads(out)["closeness"]) == (0, pytest.approx(trained["best_score"]))


def test_a_finished_run_is_left_as_it_is(run, trained, tmp_path):
    before = {path: path.read_bytes() for path in (tmp_path / "runs/toy_sample").glob("*.pth")}
    status, out, _ = run("train", "--cfg-options", "train_cfg.max_iters=2", "--json")
    assert (status, json.loads(out)) == (0, trained)
    assert before == {path: path.read_bytes() for path in (tmp_path / "runs/toy_sample").glob("*.pth")}


def test_a_prediction_goes_on_after_a_bad_file_and_says_so(run, trained, tmp_path):
    (tmp_path / "many").mkdir()
    for name in ("a.png", "c.png"):
        Image.new("RGB", (8, 8)).save(tmp_path / "many" / name)
    (tmp_path / "many/b.png").touch()
    (tmp_path / "many/._a.png").write_text("what a Mac leaves")
    status, out, err = run("predict", tmp_path / "many", "--json")
    assert (status, err) == (3, f"not read: {tmp_path}/many/b.png: empty\n")
    found = json.loads(out, parse_constant=pytest.fail)
    assert [Path(record["image"]).name for record in found["images"]] == ["a.png", "c.png"]
    assert found["images"][0]["share"] is None  # strict JSON has no NaN
    assert [Path(record["image"]).name for record in found["failed"]] == ["b.png"]


def test_options_come_one_by_one_or_all_at_once(run, trained):
    options = ("train_cfg.max_iters=3", "train_cfg.val_interval=3")
    apart = [part for option in options for part in ("--cfg-options", option)]
    for form in (apart, ["--cfg-options", *options]):
        status, out, _ = run("show-config", "toy", *form)
        assert status == 0
        assert "max_iters=3" in out
        assert "val_interval=3" in out


def test_a_folder_with_a_checkpoint_runs_nothing(run, trained, tmp_path):
    """Whether its configuration is a program or YAML with a tag."""
    Path("theirs").mkdir()
    Path("theirs/weights.pth").symlink_to(Path(trained["checkpoint"]).absolute())
    for name, text in (
        ("config.py", "open('was-run', 'w').close()\nmodel = dict()\n"),
        ("config.yaml", "model: !!python/object/apply:os.mkdir [was-run]\n"),
    ):
        Path("theirs", name).write_text(text)
        for way in (("--checkpoint", "theirs/weights.pth"), ("theirs",)):
            status, _, error = run("test", *way)
            assert (status, error.count("\n")) == (2, 1)
            assert not Path("was-run").exists()


def test_complexity_is_summed(run):
    status, out, _ = run("flops", "--json")
    assert (status, json.loads(out)["parts"][-1]["MACs"]) == (0, 32 * 64)
    assert "0.00" in run("flops", "--size", "32", "32")[1]


def test_configurations_are_listed_and_shown(run, task, tmp_path):
    assert run("show-config")[1].split() == ["toy", "toy_sample"]
    status, out, _ = run("show-config", "toy")
    (tmp_path / "mine.py").write_text(out)
    assert (status, run("show-config", "mine.py")[0]) == (0, 0)
    assert run("show-config", "toy", "--path")[1].strip() == str(task.configs / "toy.py")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("train", "toi"), "want one of toy"),
        (("train", "--data", "absent"), "no folder absent"),
        (("train", "--checkpoint", "absent.pth"), "no file absent.pth"),
        (("train", "--sparse", "much"), "want 'keep' or a share"),
        (("flops", "--size", "-1", "64"), "--size: got -1 64, want 32 pixels or more"),
        (("test",), "no checkpoint in runs/toy_sample"),
        (("test", "--checkpoint", "absent.pth"), "no config.yaml beside absent.pth"),
        (("predict", "absent.png"), "absent.png is not there"),
        (("export", "absent/model.onnx"), "want a file in a folder that exists"),
        (("export", "model.pdf", "--format", "pdf"), "--format: got pdf, want one of onnx"),
        (("convert", "absent.pth", "new.pth", "--config", "toy"), "no file absent.pth"),
    ],
)
def test_bad_input_is_answered_in_one_line(run, arguments, message):
    status, out, err = run(*arguments)
    assert (status, out) == (2, "")
    assert message in err
    assert err.startswith("sw-toy: ")
    assert err.count("\n") == 1


def test_nothing_is_written_over(run, trained, tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "file.onnx").write_text("mine")
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    assert run("export", tmp_path / "there" / "file.onnx")[0] == 2
    assert run("predict", tmp_path / "a.png", "--out", tmp_path / "there")[0] == 2
    assert (tmp_path / "there" / "file.onnx").read_text() == "mine"


def test_a_package_that_writing_a_format_needs_is_named(task, run, trained, tmp_path):
    def export(*_):
        raise ModuleNotFoundError("No module named 'onnxruntime'", name="onnxruntime")

    app = build_app(dataclasses.replace(task, export=export))
    result = CliRunner().invoke(app, ["export", "model.onnx"])
    assert result.exit_code == 2
    assert result.stderr == "sw-toy: --format: onnx needs onnxruntime, which pip install 'sw-toy[onnx]' brings\n"


def test_help_waits_for_no_heavy_import():
    heavy = "('torch', 'mmengine', 'timm')"
    program = f"import sys, sw_sparse.openmmlab.app; print([m for m in {heavy} if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"
