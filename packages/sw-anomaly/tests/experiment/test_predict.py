"""Predicting: what is written for each image, that nothing stops it, and that it keeps nothing."""

import csv
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
from PIL import Image

from sw_anomaly.data.images import load_image
from sw_anomaly.data.intensity import Intensity
from sw_anomaly.data.splits import Protocol
from sw_anomaly.detector import Detector, DetectorInfo, Inspection
from sw_anomaly.experiment.predict import predict
from sw_anomaly.methods.patchcore import PatchCore, create_backbone
from sw_anomaly.preprocessing.view import View
from sw_models.sources import find_sources

from conftest import draw_textures, save


class White:
    """Finds what is white."""

    image_threshold, pixel_threshold = 0.5, 0.5
    level = 0.0
    intensity = Intensity()

    def inspect(self, image):
        heat = (image.mean(axis=2) > 250).astype(np.float32)
        return Inspection(float(heat.max()), heat)


@pytest.fixture
def parts(tmp_path):
    for number in range(4):
        part = np.full((40, 60, 3), 90, dtype=np.uint8)
        part[10:20, 30:50] = 255 if number % 2 else 90
        save(tmp_path / "parts" / f"{number}.png", part)
    (tmp_path / "parts" / "1b.png").write_bytes(b"no image")
    (tmp_path / "out").mkdir()
    return tmp_path / "parts"


def run(parts, tmp_path):
    sources = find_sources([str(parts)], tmp_path / "out")
    return predict(White(), sources, tmp_path / "out", len(sources))


def test_every_image_has_a_row_a_heat_map_and_a_mask(parts, tmp_path):
    found = run(parts, tmp_path)
    assert (found.images, found.defective) == (4, 2)
    assert set(found.seconds) == {"reading", "model", "writing"}
    assert min(found.seconds.values()) > 0
    rows = {row["path"].rsplit("/", 1)[1]: row for row in csv.DictReader((tmp_path / "out" / "scores.csv").open())}
    assert [rows[f"{number}.png"]["verdict"] for number in range(4)] == ["good", "defective"] * 2
    mask = np.array(Image.open(tmp_path / "out" / rows["1.png"]["mask"]))
    assert set(np.unique(mask)) == {0, 255}
    assert (mask[10:20, 30:50] == 255).all()
    assert (mask == 255).sum() == 10 * 20
    heat_map = load_image(tmp_path / "out" / rows["1.png"]["heat_map"])
    assert heat_map.shape == (40, 60, 3)
    assert heat_map[15, 40].sum() > heat_map[35, 5].sum()


def test_what_cannot_be_read_is_passed_over_and_named(parts, tmp_path):
    found = run(parts, tmp_path)
    assert len(found.unreadable) == 1
    assert "1b.png cannot be read" in found.unreadable[0]
    (row,) = [row for row in csv.DictReader((tmp_path / "out" / "scores.csv").open()) if row["error"]]
    assert row["path"].endswith("1b.png")
    assert row["score"] == ""


def test_a_score_that_is_not_finite_is_never_a_verdict(parts, tmp_path):
    class Damaged(White):
        def inspect(self, image):
            return Inspection(float("nan"), np.zeros(image.shape[:2], dtype=np.float32))

    sources = find_sources([str(parts)], tmp_path / "out")
    found = predict(Damaged(), sources, tmp_path / "out", len(sources))
    assert found.images == 0
    assert len(found.unreadable) == 5
    rows = list(csv.DictReader((tmp_path / "out" / "scores.csv").open()))
    assert {row["verdict"] for row in rows} == {""}
    assert sum("score of the detector: got nan, want a number" in row["error"] for row in rows) == 4


def test_names_that_begin_like_a_formula_are_not_one_in_the_table(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    evil = ["=HYPERLINK(1).png", "+1.png", "-1.png", "@a.png", "good.png"]
    for name in evil:
        save(tmp_path / name, np.zeros((40, 60, 3), dtype=np.uint8))
    (tmp_path / "out").mkdir()
    sources = find_sources(evil, tmp_path / "out")
    predict(White(), sources, tmp_path / "out", len(sources))
    rows = list(csv.DictReader((tmp_path / "out" / "scores.csv").open()))
    assert [row["path"] for row in rows] == ["'=HYPERLINK(1).png", "'+1.png", "'-1.png", "'@a.png", "good.png"]
    assert not any(str(cell).startswith(("=", "+", "-", "@")) for row in rows for cell in row.values())


def test_memory_does_not_grow_with_the_number_of_images(tmp_path):
    path = save(tmp_path / "part.png", np.zeros((256, 256, 3), dtype=np.uint8))

    def peak(count):
        folder = tmp_path / f"out{count}"
        folder.mkdir()
        sources = find_sources([str(path)] * count, folder)
        tracemalloc.start()
        predict(White(), sources, folder, count)
        highest = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return highest

    peak(1)  # what is loaded once
    assert peak(40) < peak(2) + 200_000  # less than one more image


PREDICT = """
import resource, sys
from sw_anomaly.cli import app
app(["predict", sys.argv[1], "--checkpoint", sys.argv[2], "--out", sys.argv[3]], standalone_mode=False)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
def test_an_image_of_8192_pixels_along_each_side_takes_less_than_2_gb(tmp_path):
    texture = draw_textures(1, 1024, np.random.default_rng(0))[0]
    views = np.stack([texture[top : top + 320, :320] for top in range(0, 640, 160)])
    method = PatchCore.fit(create_backbone("shiftwise_nano", None, 0), views, 320, 0)
    info = DetectorInfo(
        category="huge",
        method="patchcore",
        model="shiftwise_nano",
        protocol=Protocol(),
        seed=0,
        training_images="digest",
        seen=(),
        view=View(320, None, tiles=True),
        intensity=Intensity(),
        alignment="off",
        image_threshold=0.0,  # calls it defective: what is found is drawn, too
        pixel_threshold=float(method.inspect(texture[-320:, -320:]).map.max()),
    )
    Detector(method, info).save(tmp_path / "checkpoint.safetensors")
    image = save(tmp_path / "huge.png", np.tile(texture, (8, 8, 1)))
    arguments = [image, tmp_path / "checkpoint.safetensors", tmp_path / "out"]
    ended = subprocess.run([sys.executable, "-c", PREDICT, *arguments], check=True, capture_output=True, text=True)
    (row,) = csv.DictReader((tmp_path / "out" / "001" / "scores.csv").open())
    assert row["verdict"] == "defective"
    assert load_image(tmp_path / "out" / "001" / row["mask"]).shape == (8192, 8192, 3)
    kilobytes = int(ended.stdout.split()[-1])
    assert kilobytes * 1024 < 2e9
