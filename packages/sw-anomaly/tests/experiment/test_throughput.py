"""Throughput: as many images as asked for, counted with what really took the time."""

import json
import time
from types import SimpleNamespace

import numpy as np
import pytest

from sw_anomaly.data.intensity import Intensity
from sw_anomaly.detector import Inspection
from sw_anomaly.experiment.throughput import WARM_UP, measure
from sw_models.errors import InputError
from sw_models.sources import find_sources


class Slow:
    """Sleeps on every image."""

    level, image_threshold, pixel_threshold = 0.0, 0.5, 0.5
    intensity = Intensity()
    info = SimpleNamespace(method="sleep", model="none")

    def __init__(self):
        self.inspected = 0

    def inspect(self, image):
        self.inspected += 1
        time.sleep(0.05)
        return Inspection(0.0, np.zeros(image.shape[:2], dtype=np.float32))


def test_as_many_images_as_asked_for_are_inspected_and_the_shares_are_true(tiny_root, tmp_path):
    detector = Slow()
    found = measure(detector, find_sources([str(tiny_root / "disc" / "test")], tmp_path / "out"), 6)
    assert detector.inspected == 6 + WARM_UP
    assert found.images_per_second < 1 / 0.05
    assert sum(found.shares.values()) == pytest.approx(1)
    assert list(found.shares) == ["reading", "model", "writing"]
    assert min(found.shares.values()) > 0


def test_an_image_that_cannot_be_read_is_named(tiny_root, tmp_path):
    path = tiny_root / "disc" / "test" / "good" / "000.png"
    path.write_bytes(b"no image")
    with pytest.raises(InputError, match=r"000\.png cannot be read"):
        measure(Slow(), find_sources([str(path)], tmp_path / "out"), 1)


def test_the_command_prints_a_row_per_checkpoint(run, tiny_root, monkeypatch):
    monkeypatch.setattr("sw_anomaly.detector.load_detector", lambda path: Slow())
    arguments = ("throughput", "one", "other", "--images", tiny_root / "disc" / "test", "--count", "2")
    rows = json.loads(run(*arguments, "--json").stdout)["rows"]
    assert [row["checkpoint"] for row in rows] == ["one", "other"]
    shown = run(*arguments)
    assert shown.exit_code == 0, shown.output
    assert shown.stdout.count("sleep") == 2
