"""Comparing runs: on common images only, the same redraws for all, and right about what is luck."""

import json

import numpy as np
import pytest

from sw_anomaly.evaluation.compare import compare
from sw_anomaly.metrics.bootstrap import collect, measure
from sw_anomaly.metrics.ranking import rank_pixels
from sw_models.errors import InputError

from conftest import refusal


@pytest.fixture
def write_run(tmp_path):
    """Write a run whose scores tell defective images by so much, with noise of the given seed."""

    def write(name, skill, seed=0, images=range(80), category="disc"):
        rng = np.random.default_rng(seed)
        folder = tmp_path / name
        folder.mkdir()
        noise = rng.normal(size=(80, 8, 8)).astype(np.float32)
        masks = [np.arange(64).reshape(8, 8) < (12 if number % 2 else 0) for number in images]
        maps = [noise[number] + skill * mask for number, mask in zip(images, masks, strict=True)]
        defective = [number % 2 == 1 for number in images]
        scores = [float(one.max()) for one in maps]
        names = [f"{number:03}.png" for number in images]
        called = [one >= 1 for one in maps]
        statistics = collect(names, defective, scores, maps, masks, rank_pixels(maps, masks), called)
        statistics.save(folder / "images.npz")
        overall = {name: float(values[0]) for name, values in measure(statistics, np.ones((1, len(names)))).items()}
        (folder / "results.json").write_text(json.dumps({"category": category, "overall": overall}))
        return folder

    return write


def test_a_better_run_is_significantly_better_and_an_equal_one_is_not(write_run):
    found = compare([write_run("weak", 1.0), write_run("strong", 3.0, seed=1), write_run("as weak", 1.0, seed=2)])
    weak, strong, as_weak = found.runs
    assert found.images == 80
    assert weak.differences == {}
    for metric in ("image_auroc", "pixel_ap", "aupro"):
        assert strong.differences[metric].p < 0.01
        assert 0 < strong.differences[metric].low < strong.differences[metric].value < strong.differences[metric].high
        assert strong.metrics[metric] - weak.metrics[metric] == pytest.approx(strong.differences[metric].value)
        assert as_weak.differences[metric].p > 0.05


def test_a_run_does_not_differ_from_itself(write_run):
    folder = write_run("one", 1.0)
    for difference in compare([folder, folder]).runs[1].differences.values():
        assert (difference.value, difference.low, difference.high, difference.p) == (0, 0, 0, 1)


def test_only_the_images_that_all_runs_were_tested_on_count(write_run):
    everything, half = write_run("all", 1.0), write_run("half", 1.0, images=range(40))
    found = compare([everything, half])
    assert found.images == 40
    assert found.runs[0].metrics["image_auroc"] == pytest.approx(found.runs[1].metrics["image_auroc"])


def test_runs_without_anything_in_common_are_refused(write_run, tmp_path):
    one = write_run("one", 1.0)
    with pytest.raises(InputError, match="different categories: disc, plate"):
        compare([one, write_run("other", 1.0, category="plate")])
    with pytest.raises(InputError, match="0 test images in common"):
        compare([write_run("first", 1.0, images=range(10)), write_run("last", 1.0, images=range(10, 20))])
    with pytest.raises(InputError, match="does not hold results.json"):
        compare([one, tmp_path])


def test_the_command_prints_a_table_with_stars_or_json(run, write_run):
    folders = [write_run("weak", 1.0), write_run("strong", 3.0, seed=1)]
    shown = run("compare", *folders)
    assert shown.exit_code == 0, shown.output
    assert "**" in next(line for line in shown.stdout.splitlines() if line.strip(" │").startswith("pixel AP"))
    assert f"2: {folders[1]}" in shown.stdout
    assert json.loads(run("compare", *folders, "--json").stdout)["runs"][1]["differences"]["pixel_ap"]["p"] < 0.01
    assert "want two or more" in refusal(run("compare", folders[0]))
