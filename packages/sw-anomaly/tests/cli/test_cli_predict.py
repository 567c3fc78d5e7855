"""``sw-anomaly predict`` from a user's side."""

import json

import numpy as np
import pytest

from sw_anomaly.data.intensity import Intensity
from sw_anomaly.detector import Inspection

from conftest import refusal


class Bright:
    level, image_threshold, pixel_threshold = 0.0, 0.9, 0.9
    intensity = Intensity()

    def inspect(self, image):
        heat = (image.mean(axis=2) / 255).astype(np.float32)
        return Inspection(float(heat[8:-8, 8:-8].max()), heat)

    def promise(self, rate):
        return f"{rate} is promised"


@pytest.fixture(autouse=True)
def detector(monkeypatch):
    monkeypatch.setattr("sw_anomaly.detector.load_detector", lambda path: Bright())


def test_each_run_has_a_folder_of_its_own(run, tiny_root, tmp_path):
    arguments = ("predict", tiny_root / "disc" / "test", "--checkpoint", "any")
    first, second = run(*arguments), run(*arguments, "--json")
    assert first.exit_code == second.exit_code == 0, first.output
    assert "2 of 4 images are called defective" in first.stdout
    summary = json.loads(second.stdout)
    assert summary["folder"] == "predictions/002"
    assert (summary["images"], summary["defective"], summary["unreadable"]) == (4, 2, [])
    masks = tmp_path / "predictions" / "002" / "masks"
    assert sorted(str(path.relative_to(masks)) for path in masks.rglob("*.png")) == [
        "good/000.png",
        "good/001.png",
        "spot/000.png",
        "spot/001.png",
    ]


def test_it_goes_on_past_an_unreadable_file_lists_it_and_exits_with_3(run, tiny_root):
    (tiny_root / "disc" / "test" / "good" / "000.png").write_bytes(b"no image")
    result = run("predict", tiny_root / "disc" / "test", "--checkpoint", "any")
    assert result.exit_code == 3
    assert "2 of 3 images are called defective" in result.stdout
    assert "not read: " in result.stderr
    assert "000.png cannot be read" in result.stderr
    assert "Traceback" not in result.output


def test_what_is_not_there_is_refused_before_a_folder_is_made(run, tmp_path):
    assert "parts.png is not there" in refusal(run("predict", "parts.png", "--checkpoint", "any"))
    assert not (tmp_path / "predictions").exists()
