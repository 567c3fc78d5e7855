"""New good images: they are known afterwards, what was known before still is, and nothing else is needed."""

import json
import shutil

import numpy as np
import pytest

from sw_anomaly.data.layouts import read_category
from sw_anomaly.detector import load_detector
from sw_anomaly.evaluation.evaluate import evaluate

from conftest import draw_part, refusal, save


@pytest.fixture
def new_root(tmp_path):
    """More of ``disc``, of a batch whose discs have a dark stripe, which is no defect; no former image is there."""
    rng, root = np.random.default_rng(7), tmp_path / "new" / "disc"
    for number in range(8):
        part = draw_part(rng)
        part[40:44, 20:44] = 30
        save(root / ("test" if number > 5 else "train") / "good" / f"{number}.png", part)
    for number in range(2):
        part = draw_part(rng)
        part[40:44, 20:44] = 30
        part[20:32, 28:40] = 255
        mask = np.zeros((64, 64), dtype=np.uint8)
        mask[20:32, 28:40] = 255
        save(root / "test" / "spot" / f"{number}.png", part)
        save(root / "ground_truth" / "spot" / f"{number}_mask.png", mask)
    return root.parent


@pytest.mark.parametrize("method", [("bank",), ("patchcore", "--backbone", "shiftwise_pico"), ("unet",)])
def test_new_images_are_added_to_what_a_run_knows(run, tiny_root, new_root, tmp_path, method):
    assert run("train", "--category", "disc", "--data", tiny_root, "--method", *method).exit_code == 0
    first, second = (tmp_path / "runs" / "disc" / number for number in ("001", "002"))
    content = (first / "checkpoint.safetensors").read_bytes()
    added = run("train", "--category", "disc", "--data", new_root, "--continue-from", first, "--json")
    assert added.exit_code == 0, added.output
    assert json.loads(added.stdout)["checkpoint"].endswith("002/checkpoint.safetensors")
    assert (first / "checkpoint.safetensors").read_bytes() == content
    assert not (second / "training_state.safetensors").exists()
    before, after = (load_detector(folder / "checkpoint.safetensors") for folder in (first, second))
    assert len(after.info.seen) == 12
    assert set(before.info.seen) < set(after.info.seen)
    assert len(after.info.good.scores) == 12
    if method != ("unet",):
        old, new = read_category(tiny_root, "disc").test, read_category(new_root, "disc").test
        striped = [image.load()[0] for image in new if image.is_good]
        for image in striped:
            assert after.inspect(image).score < 0.9 * before.inspect(image).score
        for images in (old, new):
            evaluation = evaluate(after, images)
            assert (evaluation.false_alarms, evaluation.missed) == (0, 0)
    evaluated = run("eval", "--category", "disc", "--data", new_root, "--checkpoint", second / "checkpoint.safetensors")
    assert evaluated.exit_code == 0, evaluated.output


def test_runs_that_cannot_be_added_to_and_images_that_are_not_new_are_refused(run, tiny_root, tmp_path):
    options = ("--category", "disc", "--data", tiny_root)
    assert run("train", *options, "--method", "bank").exit_code == 0
    first = tmp_path / "runs" / "disc" / "001"
    assert "got 6 images that" in refusal(run("train", *options, "--continue-from", first))
    assert "got --method, too" in refusal(run("train", *options, "--continue-from", first, "--method", "bank"))
    shutil.copytree(tiny_root / "disc", tiny_root / "plate")
    other = ("--category", "plate", "--data", tiny_root)
    assert "got a run on 'disc', want one on 'plate'" in refusal(run("train", *other, "--continue-from", first))
    (first / "config.json").unlink()
    assert "want a run of this version" in refusal(run("train", *options, "--continue-from", first))
    assert "is not a file" in refusal(run("train", *options, "--continue-from", tmp_path))
    assert [path.name for path in first.parent.iterdir()] == ["001"]
