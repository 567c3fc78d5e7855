"""Wrong verdicts are learned from: images that nobody corrected are judged better, in a run of its own."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from sw_anomaly.data.images import load_image
from sw_anomaly.detector import load_detector

from conftest import draw_part, refusal, save

METHODS = {"bank": (), "patchcore": ("--backbone", "shiftwise_pico"), "unet": ()}


def draw(rng, kind):
    """A disc in much noise: plain, with a dark stain, which is no defect, or with a bright scratch, which is one."""
    y, x = np.mgrid[:64, :64] - rng.uniform(24, 38, (2, 1, 1))
    stain, scratch = 45 * np.exp(-(x**2 + y**2) / 60), 60 * (np.abs(x + y / 3) < 1.5) * (np.abs(y) < 8)
    change = {"plain": 0 * stain, "stain": -stain, "scratch": scratch}[kind][..., None]
    return (draw_part(rng) + change + rng.normal(0, 12, (64, 64, 3))).clip(0, 255).astype(np.uint8)


@pytest.fixture
def root(tmp_path):
    """Plain discs to train on."""
    rng = np.random.default_rng(0)
    for number in range(6):
        save(tmp_path / "data" / "disc" / "train" / "good" / f"{number}.png", draw(rng, "plain"))
    return tmp_path / "data"


@pytest.fixture
def line(tmp_path):
    """Images of a line, and what they are."""
    rng, folder = np.random.default_rng(1), tmp_path / "line"
    kinds = {f"{kind}{number}.png": kind for number in range(12) for kind in ("plain", "stain", "scratch")}
    images = {save(folder / name, draw(rng, kind)): kind for name, kind in kinds.items()}
    return {path: "defective" if kind == "scratch" else "good" for path, kind in images.items()}


def decide(path: Path, rows) -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("path", "verdict"), *rows])
    return path


def misjudged(detector, images):
    """Those of the images, and what they are, that a detector judges wrongly."""
    scores = {path: detector.inspect(load_image(path)).score for path in images}
    return [path for path, truth in images.items() if (scores[path] >= detector.image_threshold) == (truth == "good")]


@pytest.fixture
def trained(run, root, tmp_path):
    """Trains a method on plain discs."""

    def train(method, *options):
        arguments = ("train", "--category", "disc", "--data", root, "--method", method, *METHODS[method], *options)
        assert run(*arguments).exit_code == 0
        return tmp_path / "runs" / "disc" / "001"

    return train


def test_images_that_were_not_corrected_are_judged_better(run, trained, line, tmp_path):
    first = trained("bank")
    content = {path.name: path.read_bytes() for path in first.iterdir() if path.is_file()}
    before = load_detector(first / "checkpoint.safetensors")
    wrong = misjudged(before, line)
    assert len(wrong) >= 8
    corrected = [wrong[place] for place in np.random.default_rng(0).permutation(len(wrong))[:5]]
    table = decide(tmp_path / "decisions.csv", [(path, line[path]) for path in corrected])
    result = run("correct", first, table, "--json")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    second = tmp_path / "runs" / "disc" / "002"
    assert Path(told["checkpoint"]) == Path("runs/disc/002/checkpoint.safetensors")
    assert (told["decisions"], told["false_alarms"] + told["missed"]) == (5, 5)
    after = load_detector(second / "checkpoint.safetensors")
    rest = {path: truth for path, truth in line.items() if path not in corrected}
    assert len(misjudged(after, rest)) <= 0.7 * len(misjudged(before, rest))
    assert {path.name: path.read_bytes() for path in first.iterdir() if path.is_file()} == content
    assert (second / "decisions.csv").read_bytes() == table.read_bytes()
    assert after.info.corrected == 5
    assert len(after.info.seen) == len(before.info.seen) + 5
    assert after.image_threshold == told["image_threshold"]["after"]


def test_it_can_be_corrected_again_and_right_verdicts_change_no_map(run, trained, line, tmp_path):
    first = trained("bank")
    wrong = misjudged(load_detector(first / "checkpoint.safetensors"), line)
    right = [path for path in line if path not in wrong]
    shown = load_image(wrong[-1])
    maps = []
    for number, more in enumerate(([], right)):
        rows = [(path, line[path]) for path in [*wrong[:3], *more]]
        assert run("correct", first, decide(tmp_path / "decisions.csv", rows)).exit_code == 0
        detector = load_detector(tmp_path / "runs" / "disc" / f"{number + 2:03}" / "checkpoint.safetensors")
        maps.append(detector.inspect(shown).map)
    np.testing.assert_array_equal(*maps)
    second = tmp_path / "runs" / "disc" / "002"
    still = misjudged(load_detector(second / "checkpoint.safetensors"), line)
    made_up = [(path, {"good": "defective", "defective": "good"}[line[path]]) for path in line if path not in still]
    assert run("correct", second, decide(tmp_path / "more.csv", made_up[:2])).exit_code == 0
    again = load_detector(tmp_path / "runs" / "disc" / "004" / "checkpoint.safetensors")
    assert again.info.corrected == 5
    assert len(again.method.correction.places) > len(
        load_detector(second / "checkpoint.safetensors").method.correction.places
    )


@pytest.mark.parametrize(("method", "options"), [("unet", ()), ("patchcore", ()), ("unet", ("--tile", "on"))])
def test_every_method_is_corrected_and_read_again(run, trained, line, tmp_path, method, options):
    first = trained(method, *options)
    before = load_detector(first / "checkpoint.safetensors")
    wrong = misjudged(before, line)
    opposite = [
        (path, line[path] if path in wrong else "defective" if line[path] == "good" else "good") for path in line
    ]
    result = run("correct", first, decide(tmp_path / "decisions.csv", opposite[:3]))
    assert result.exit_code == 0, result.output
    assert "wrong verdicts: 3 before" in result.stdout
    after = load_detector(tmp_path / "runs" / "disc" / "002" / "checkpoint.safetensors")
    assert after.info.corrected == 3
    maps = [detector.inspect(load_image(opposite[0][0])).map for detector in (before, after)]
    assert not np.array_equal(*maps)


def test_what_cannot_be_learned_from_is_refused_and_no_run_made(run, trained, line, root, tmp_path):
    first = trained("bank")
    wrong = misjudged(load_detector(first / "checkpoint.safetensors"), line)
    right = next(path for path in line if path not in wrong)
    agreed = decide(tmp_path / "agreed.csv", [(right, line[right])])
    assert "got 1 verdict that" in refusal(run("correct", first, agreed))
    assert "is not a file" in refusal(run("correct", tmp_path, agreed))
    assert "want good or defective" in refusal(
        run("correct", first, decide(tmp_path / "odd.csv", [(right, "perhaps")]))
    )
    for path in (root / "disc" / "train" / "good").iterdir():
        path.unlink()
    disputed = decide(tmp_path / "disputed.csv", [(wrong[0], line[wrong[0]])])
    assert "got 0 of its training images where they were" in refusal(run("correct", first, disputed))
    assert [path.name for path in (tmp_path / "runs" / "disc").iterdir()] == ["001"]
